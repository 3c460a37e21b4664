//! The managed components that this program carries: what the service offers under the owner `aws`, written anew.

use include_dir::{Dir, include_dir};

use crate::documents::{Version, VersionPattern};

static COMPONENTS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/recipes/components");

/// The newest version of a component that fits, with its document.
pub fn find(name: &str, pattern: VersionPattern) -> Option<(Version, &'static str)> {
    COMPONENTS
        .get_dir(name)?
        .files()
        .filter_map(|file| {
            let version: Version = file.path().file_stem()?.to_str()?.parse().ok()?;
            Some((version, file.contents_utf8()?))
        })
        .filter(|(version, _)| pattern.matches(*version))
        .max_by_key(|(version, _)| *version)
}

/// The names of all.
#[cfg(test)]
fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = COMPONENTS
        .dirs()
        .filter_map(|dir| dir.path().to_str())
        .collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_what_lies_in_the_source_tree() {
        assert!(names().contains(&"update-linux") && names().len() >= 8);
        let any: VersionPattern = "x.x.x".parse().unwrap();
        for name in names() {
            let (version, text) = find(name, any).unwrap();
            let path = format!(
                "{}/recipes/components/{name}/{version}.yml",
                env!("CARGO_MANIFEST_DIR")
            );
            assert_eq!(std::fs::read_to_string(path).unwrap(), text);
        }
        assert!(find("update-linux", "99.x.x".parse().unwrap()).is_none());
        assert!(find("no-such-component", any).is_none());
    }
}
