//! Rules that all file modules share: relative paths, folders by their trailing separator, wildcards in the last element.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf, is_separator};

use super::{Context, Failure};

/// A path as the module's user wrote it, made absolute.
pub fn resolve(context: &Context<'_>, path: &str) -> PathBuf {
    context.working_directory.join(path)
}

/// Whether the text names a folder.
pub fn names_folder(path: &str) -> bool {
    path.ends_with(is_separator)
}

/// Where something called `name` goes: into the folder that `destination` names, or to `destination` itself.
pub fn target(
    context: &Context<'_>,
    destination: &str,
    name: Option<&OsStr>,
) -> Result<PathBuf, Failure> {
    let path = resolve(context, destination);
    if !names_folder(destination) {
        return Ok(path);
    }
    let name = name.ok_or_else(|| Failure::new("the source has no name to keep"))?;
    Ok(path.join(name))
}

/// The wildcard in the last element of a path, if there is one.
pub fn wildcard(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = match path.rfind(is_separator) {
        Some(at) => (&path[..=at], &path[at + 1..]),
        None => ("", path),
    };
    name.contains('*').then_some((folder, name))
}

/// Everything in a folder that a wildcard matches, in the order of names.
pub fn expand(
    context: &Context<'_>,
    folder: &str,
    pattern: &str,
    wanted: fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, Failure> {
    let folder = resolve(context, folder);
    let entries = fs::read_dir(&folder).map_err(|error| Failure::io("list", &folder, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io("list", &folder, &error))?;
        if matches(pattern, &entry.file_name().to_string_lossy()) && wanted(&entry.path()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches a pattern in which `*` stands for any characters.
pub fn matches(pattern: &str, name: &str) -> bool {
    let parts: Vec<&str> = pattern.split('*').collect();
    let [first, middle @ .., last] = &parts[..] else {
        return pattern == name;
    };
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Makes the folder that a path stands in.
pub fn make_parents(path: &Path) -> Result<(), Failure> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::create_dir_all(parent)
            .map_err(|error| Failure::io("create the folder", parent, &error)),
        _ => Ok(()),
    }
}

/// An octal mode that has been checked already.
pub fn mode(text: &str) -> Result<u32, Failure> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| Failure::new(format!("`{text}` is not an octal mode")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        let cases = [
            ("*", "", true),
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("aa*aa", "aaa", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("**", "x", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        assert_eq!(wildcard("/tmp/*.log"), Some(("/tmp/", "*.log")));
        assert_eq!(wildcard("/tmp/x"), None);
        assert_eq!(wildcard("/tmp/*/"), None);
    }
}
