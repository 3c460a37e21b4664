//! Names of AMIs: the service's variables, and EC2's rule.

use super::Source;
use crate::ami_name;
use crate::documents::arn::normalise_name;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// The service's own name where none is given.
pub(super) const DEFAULT_NAME: &str = "{{ imagebuilder:name }} {{ imagebuilder:buildDate }}";

/// Puts the values of the service's variables into a text.
pub(super) fn rendered(template: &str, source: &Source) -> Result<String> {
    let manifest = &source.manifest;
    let created: jiff::Timestamp = manifest
        .created
        .parse()
        .or_failure(FailureKind::Config, || {
            format!("`{}` in the manifest is no time", manifest.created)
        })?;
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (variable, behind) = after.split_once("}}").ok_or_else(|| {
            Failure::config(format!(
                "`{template}` opens a variable that it does not close"
            ))
        })?;
        text.push_str(before);
        match variable.trim() {
            // The time of the image and not of today: a second attempt gets the same name.
            "imagebuilder:buildDate" => {
                text.push_str(&created.strftime("%Y-%m-%dT%H-%M-%S%.3fZ").to_string());
            }
            "imagebuilder:buildVersion" => {
                text.push_str(&format!("{}/{}", manifest.version, manifest.build));
            }
            "imagebuilder:name" => text.push_str(&normalise_name(&manifest.name)),
            other => {
                return Err(Failure::config(format!(
                    "`{template}` has the unknown variable `{other}`"
                ))
                .with_hint("there are imagebuilder:buildDate and imagebuilder:buildVersion"));
            }
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

/// EC2's rule for names of AMIs, checked before anything is sent.
pub(super) fn check_name(name: &str) -> Result<()> {
    match ami_name::problem(name) {
        None => Ok(()),
        Some(reason) => Err(Failure::config(format!(
            "`{name}` can't be the name of an AMI: {reason}"
        ))
        .with_hint(ami_name::RULE)),
    }
}
