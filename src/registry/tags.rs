//! Tags by template, as distribution configurations take them.

use super::{RegistryError, Result, is_tag};
use crate::documents::arn::normalise_name;

/// What a template can name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagValues {
    /// The image's name.
    pub name: String,
    /// `major.minor.patch`.
    pub version: String,
    /// The build number.
    pub build: u32,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// Puts values into `{{ imagebuilder:buildVersion }}` (`1.0.0-3`: a tag can't hold the slash), `{{ imagebuilder:buildDate }}`
/// (`2026-01-31T12-00-00Z`: nor a colon), `{{ local:name }}`, `{{ local:version }}` and `{{ local:build }}`.
///
/// # Errors
/// [`RegistryError::BadReference`] for an unknown variable, or when what comes out is no tag.
pub fn expand_tag(template: &str, values: &TagValues) -> Result<String> {
    let bad = |reason: String| RegistryError::BadReference {
        text: template.to_owned(),
        reason,
    };
    let mut tag = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        tag.push_str(before);
        let (variable, after) = after
            .split_once("}}")
            .ok_or_else(|| bad("a `{{` has no `}}`".into()))?;
        match variable.trim() {
            "imagebuilder:buildVersion" => {
                tag.push_str(&format!("{}-{}", values.version, values.build));
            }
            "imagebuilder:buildDate" => {
                tag.push_str(&values.created.replace([':', '+'], "-"));
            }
            // As in ARNs: names may have spaces, tags may not.
            "local:name" => tag.push_str(&normalise_name(&values.name)),
            "local:version" => tag.push_str(&values.version),
            "local:build" => tag.push_str(&values.build.to_string()),
            unknown => {
                return Err(bad(format!(
                    "there is no variable `{unknown}`; there are imagebuilder:buildVersion, imagebuilder:buildDate, local:name, local:version and local:build"
                )));
            }
        }
        rest = after;
    }
    tag.push_str(rest);
    if is_tag(&tag) {
        Ok(tag)
    } else {
        Err(bad(format!("{tag:?} is no tag")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_tags() {
        let values = TagValues {
            name: "Web Server".into(),
            version: "1.2.3".into(),
            build: 4,
            created: "2026-01-31T12:30:00.416Z".into(),
        };
        for (template, tag) in [
            ("latest", "latest"),
            ("{{ imagebuilder:buildVersion }}", "1.2.3-4"),
            ("v{{imagebuilder:buildDate}}", "v2026-01-31T12-30-00.416Z"),
            ("{{ local:name }}_{{ local:build }}", "web-server_4"),
        ] {
            assert_eq!(expand_tag(template, &values).unwrap(), tag);
        }
        for template in [
            "{{ nothing }}",
            "{{ local:name",
            "a b",
            "",
            "-{{ local:name }}",
        ] {
            assert!(expand_tag(template, &values).is_err(), "{template}");
        }
    }
}
