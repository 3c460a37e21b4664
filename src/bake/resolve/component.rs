//! From a component of a recipe to its checked document: where it lies, and what the engine must know of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::action::Action;
use ovenbird_component::document::{Document, Step};
use ovenbird_component::reference::Stored;
use ovenbird_component::source::Source;
use ovenbird_component::value::Input;
use ovenbird_component::{Options, Validated, validate_source};
use sha2::{Digest as _, Sha256};

use super::super::managed;
use super::super::plan::{CachePolicy, PlannedComponent};
use super::Overrides;
use crate::aws::stored_values::StoredName;
use crate::documents::recipe_component::ComponentConfiguration;
use crate::documents::{Body, Component, Kind, ResourceReference, Version};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::store::ResourceRecord;

/// A document must not be larger in the service.
const LARGEST_DOCUMENT: u64 = 64 * 1024;

/// Finds the component that a recipe means.
///
/// # Errors
/// [`FailureKind::Config`] if there is none, it is not valid, or it doesn't take its parameters;
/// [`FailureKind::Environment`] if the store can't be read.
pub(super) fn resolve(
    component: &ComponentConfiguration,
    folder: &Utf8Path,
    overrides: &Overrides,
) -> Result<PlannedComponent> {
    let parameters = component.parameters();
    if let Some(path) = &component.path {
        return component_of_file(folder.join(path), None, parameters);
    }
    let arn = component.component_arn.as_deref().unwrap_or_default();
    let reference = ResourceReference::parse(Kind::Component, arn)
        .map_err(|complaint| Failure::config(complaint.message))?;
    // A folder that was named on the command line is meant; then comes the store, then what lies about, then what this
    // program carries.
    let named = &overrides.component_folders;
    if let Some((path, version)) = find_in(named, &reference) {
        return component_of_file(path, Some(version), parameters);
    }
    if !reference.managed
        && let Some(store) = &overrides.store
        && let Some(record) = store.find_resource(&reference)?
    {
        return component_of_store(&record, parameters);
    }
    let near = [folder.join("components"), folder.to_owned()];
    if let Some((path, version)) = find_in(&near, &reference) {
        return component_of_file(path, Some(version), parameters);
    }
    if let Some((version, text)) = managed::find(&reference.name, reference.version) {
        let label = format!("{}/{version} (managed)", reference.name);
        let version = Some(version.to_string());
        return component_of_text(label.into(), text.to_owned(), version, None, parameters);
    }
    let folders: Vec<&str> = named
        .iter()
        .chain(&near)
        .map(|folder| folder.as_str())
        .collect();
    Err(Failure::config(format!(
        "no component {}/{}",
        reference.name, reference.version
    ))
    .with_details(format!("looked in:\n  {}", folders.join("\n  ")))
    .with_hint("components lie in NAME/VERSION.yml; `--components DIR` adds a folder"))
}

/// Reads and checks a component document.
///
/// # Errors
/// [`FailureKind::Config`] if it can't be read, is not valid, or doesn't take these parameters.
pub fn component_of_file(
    path: Utf8PathBuf,
    version: Option<String>,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let text = read_document(&path)?;
    component_of_text(path, text, version, None, parameters)
}

fn component_of_store(
    record: &ResourceRecord,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let document = record.read()?;
    let Body::Component(Component {
        data: Some(text), ..
    }) = document.body
    else {
        return Err(Failure::config(format!(
            "the document of {} is not in the store but elsewhere (`uri`)",
            record.label()
        )));
    };
    let mut component = component_of_text(
        record.label().into(),
        text,
        record.version_text(),
        Some(record.arn.clone()),
        parameters,
    )?;
    // The resource's name is the one that people know; the document inside may have another, or none.
    component.name.clone_from(&record.name);
    Ok(component)
}

/// Checks the text of a component document.
///
/// # Errors
/// [`FailureKind::Config`] if it is not valid, or doesn't take these parameters.
pub(super) fn component_of_text(
    path: Utf8PathBuf,
    text: String,
    version: Option<String>,
    arn: Option<String>,
    parameters: BTreeMap<String, Vec<String>>,
) -> Result<PlannedComponent> {
    let document = valid_text(&path, &text)?;
    let (digest, build_digest) = digests(&path, &text);
    check_parameters(&path, &document, &parameters)?;
    Ok(PlannedComponent {
        name: document
            .name
            .clone()
            .unwrap_or_else(|| path.file_stem().unwrap_or("component").to_owned()),
        version,
        arn,
        sha256: hex::encode(Sha256::digest(text.as_bytes())),
        phases: document
            .phases
            .iter()
            .map(|phase| phase.name.value.clone())
            .collect(),
        digest,
        build_digest,
        cache: cache_policy(&document),
        stored: stored_names(&document, &parameters),
        object_storage: uses_object_storage(&document),
        files: Vec::new(),
        parameters,
        path,
        text,
    })
}

/// What is fetched without a checksum, and what `apt-get upgrade` finds, is another thing tomorrow.
const FETCHED_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// A component that takes something from outside whose content it does not pin is run again after a day.
fn cache_policy(document: &Document) -> CachePolicy {
    let fetches = document
        .phase("build")
        .is_some_and(|phase| phase.steps.iter().any(fetches_unpinned));
    if fetches {
        CachePolicy::MaxAge(FETCHED_MAX_AGE)
    } else {
        CachePolicy::Keep
    }
}

fn fetches_unpinned(step: &Step) -> bool {
    match step.action {
        Action::UpdateOS | Action::S3Download => true,
        Action::WebDownload => match &step.inputs {
            Input::List(items) => !items.iter().all(has_checksum),
            other => !has_checksum(other),
        },
        _ => false,
    }
}

fn has_checksum(input: &Input) -> bool {
    matches!(input, Input::Map(entries) if entries.iter().any(|(key, _)| key == "checksum"))
}

/// The digests of the document as data: whole, and without the phases that come after the build.
fn digests(path: &Utf8Path, text: &str) -> (String, String) {
    let source = Source::new(path.as_str(), text.to_owned());
    let (node, _) = ovenbird_component::source::parse_one(&source);
    let mut value = node.map(|node| node.to_json()).unwrap_or_default();
    let digest = |value: &serde_json::Value| hex::encode(Sha256::digest(value.to_string()));
    let whole = digest(&value);
    if let Some(phases) = value["phases"].as_array_mut() {
        for phase in phases {
            // The others stay by their names: steps are told apart by the position of their phase.
            if phase["name"] != "build" {
                *phase = phase["name"].take();
            }
        }
    }
    if let Some(map) = value.as_object_mut() {
        map.remove("description");
    }
    (whole, digest(&value))
}

/// The names of stored values, as far as the host can know them: those that stand in the document, and those that a
/// parameter or constant gives.
fn stored_names(
    document: &Document,
    parameters: &BTreeMap<String, Vec<String>>,
) -> BTreeSet<StoredName> {
    document
        .stored_values()
        .into_iter()
        .filter_map(|stored| match stored {
            Stored::Named(name) => Some(StoredName::Direct(name)),
            Stored::ByStored(name) => Some(StoredName::Through(name)),
            Stored::ByParameter(parameter) => {
                let given = parameters.get(&parameter).map(|values| values.join(","));
                let default = || {
                    let found = document
                        .parameters
                        .iter()
                        .find(|known| known.name.value == parameter)?;
                    found.default.clone()
                };
                let constant = || {
                    let found = document
                        .constants
                        .iter()
                        .find(|known| known.name.value == parameter)?;
                    Some(found.value.clone())
                };
                given
                    .or_else(default)
                    .or_else(constant)
                    .map(StoredName::Direct)
            }
        })
        .collect()
}

fn uses_object_storage(document: &Document) -> bool {
    document
        .phases
        .iter()
        .flat_map(|phase| &phase.steps)
        .any(|step| matches!(step.action, Action::S3Download | Action::S3Upload))
}

/// The names of a document's parameters.
///
/// # Errors
/// [`FailureKind::Config`] if it can't be read or is not valid.
pub fn declared_parameters(path: &Utf8Path) -> Result<Vec<String>> {
    let (_, document) = valid_document(path)?;
    Ok(document
        .parameters
        .into_iter()
        .map(|parameter| parameter.name.value)
        .collect())
}

fn valid_document(path: &Utf8Path) -> Result<(String, Document)> {
    let text = read_document(path)?;
    let document = valid_text(path, &text)?;
    Ok((text, document))
}

fn valid_text(path: &Utf8Path, text: &str) -> Result<Document> {
    let source = Source::new(path.as_str(), text.to_owned());
    let Validated {
        document,
        diagnostics,
    } = validate_source(&source, &Options::default());
    let document = document
        .filter(|_| !diagnostics.has_errors())
        .ok_or_else(|| {
            Failure::config(format!(
                "{path} is not a valid component document ({})",
                diagnostics.counts()
            ))
            .with_details(diagnostics.render())
        })?;
    Ok(document)
}

fn read_document(path: &Utf8Path) -> Result<String> {
    let length = std::fs::metadata(path)
        .or_failure(FailureKind::Config, || {
            format!("cannot read the component {path}")
        })?
        .len();
    if length > LARGEST_DOCUMENT {
        return Err(Failure::config(format!(
            "the component {path} has {length} bytes, at most {LARGEST_DOCUMENT} are allowed"
        )));
    }
    std::fs::read_to_string(path).or_failure(FailureKind::Config, || {
        format!("cannot read the component {path}")
    })
}

/// The service rejects a recipe that gives an unknown parameter, or leaves one without a value.
fn check_parameters(
    path: &Utf8Path,
    document: &Document,
    given: &BTreeMap<String, Vec<String>>,
) -> Result<()> {
    let known: Vec<&str> = document
        .parameters
        .iter()
        .map(|parameter| parameter.name.value.as_str())
        .collect();
    for name in given.keys() {
        if !known.contains(&name.as_str()) {
            let failure = Failure::config(format!("{path} has no parameter `{name}`"));
            return Err(
                match ovenbird_component::source::nearest(name, known.iter().copied()) {
                    Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
                    None => failure,
                },
            );
        }
    }
    for parameter in &document.parameters {
        let name = &parameter.name.value;
        match given.get(name) {
            None if parameter.default.is_none() => {
                return Err(Failure::config(format!(
                    "{path}: the parameter `{name}` has no default and no value"
                ))
                .with_hint("give it under `parameters:` of the component in the recipe"));
            }
            None => {}
            Some(values) => {
                for value in values {
                    parameter
                        .check(value)
                        .map_err(|problem| Failure::config(format!("{path}: {problem}")))?;
                }
            }
        }
    }
    Ok(())
}

/// Looks a component up in folders, as `NAME/VERSION.yml` or `NAME/VERSION/component.yml`: its file and version.
fn find_in(
    folders: &[Utf8PathBuf],
    reference: &ResourceReference,
) -> Option<(Utf8PathBuf, String)> {
    let (name, pattern) = (&reference.name, reference.version);
    let mut best: Option<(Version, Utf8PathBuf)> = None;
    for folder in folders {
        let Ok(entries) = folder.join(name).read_dir_utf8() else {
            continue;
        };
        for entry in entries.flatten() {
            let stem = entry.path().file_name().unwrap_or_default();
            let stem = stem
                .strip_suffix(".yml")
                .or_else(|| stem.strip_suffix(".yaml"))
                .unwrap_or(stem);
            let Ok(version) = stem.parse::<Version>() else {
                continue;
            };
            let file = if entry.path().is_dir() {
                entry.path().join("component.yml")
            } else {
                entry.path().to_owned()
            };
            if file.is_file()
                && pattern.matches(version)
                && best.as_ref().is_none_or(|(known, _)| version > *known)
            {
                best = Some((version, file));
            }
        }
        // The first folder that has a fitting version wins: nearer folders hide farther ones.
        if best.is_some() {
            break;
        }
    }
    best.map(|(version, path)| (path, version.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(version: &str) -> ResourceReference {
        ResourceReference::parse(Kind::Component, &format!("hello/{version}")).unwrap()
    }

    #[test]
    fn newest_fitting_version_wins() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        for version in ["1.0.0", "1.2.0", "1.10.0", "2.0.0"] {
            let folder = root.join("hello").join(version);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("component.yml"), "x").unwrap();
        }
        let folders = [root.to_owned()];
        for (pattern, wanted) in [
            ("x.x.x", "2.0.0"),
            ("1.x.x", "1.10.0"),
            ("1.2.x", "1.2.0"),
            ("1.0.0", "1.0.0"),
        ] {
            assert_eq!(find_in(&folders, &hello(pattern)).unwrap().1, wanted);
        }
        assert_eq!(find_in(&folders, &hello("3.x.x")), None);
    }

    #[test]
    fn what_is_nowhere_is_told_with_all_places() {
        let component = serde_json::from_str(r#"{"componentArn": "hello/3.x.x"}"#).unwrap();
        let overrides = Overrides {
            component_folders: vec!["named".into()],
            ..Overrides::default()
        };
        let failure = resolve(&component, Utf8Path::new("recipe"), &overrides).unwrap_err();
        assert_eq!(failure.to_string(), "no component hello/3.x.x");
        assert_eq!(
            failure.details(),
            Some("looked in:\n  named\n  recipe/components\n  recipe")
        );
    }
}
