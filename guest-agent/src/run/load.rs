//! Gets documents, keeps a copy in the log folder and reads their parameters.

use std::collections::BTreeMap;
use std::path::Path;

use ovenbird_component::document::{Document, LARGEST_DOCUMENT};
use ovenbird_component::source::Diagnostics;
use ovenbird_component::{Options, validate_bytes};
use serde_json::Value;

use super::state::{DocumentState, Kept, State};
use crate::address;
use crate::config::RunConfig;
use crate::digest;

/// A document that is ready to run.
#[derive(Debug)]
pub struct Loaded {
    /// The document.
    pub document: Document,
    /// Its place in the state.
    pub info: DocumentState,
    /// What validation had to say.
    pub warnings: Diagnostics,
}

/// Why a document cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the document {path}: {reason}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// It is not valid.
    #[error("the document {path} is not valid: {first}")]
    Invalid {
        /// Its path.
        path: String,
        /// The first error on one line.
        first: String,
        /// All of them.
        diagnostics: Diagnostics,
    },
    /// A parameter has no value or a wrong one.
    #[error("document {path}: {reason}")]
    Parameters {
        /// Its path.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads the bytes of a document from its path or address.
pub fn read(
    config: &RunConfig,
    path: &str,
    owner: Option<&str>,
    base: Option<&Path>,
) -> Result<Vec<u8>, LoadError> {
    let fail = |reason: String| LoadError::Read {
        path: path.to_owned(),
        reason,
    };
    let owner = owner.or(config.document_bucket_owner.as_deref());
    let store = &config.object_store;
    address::read(store, path, owner, base, LARGEST_DOCUMENT * 2).map_err(fail)
}

/// Loads a document for the first time: reads, copies, validates, and settles its parameters.
pub fn first(
    config: &RunConfig,
    state: &mut State,
    path: &str,
    bytes: &[u8],
    given: &BTreeMap<String, Kept>,
) -> Result<Loaded, LoadError> {
    let fail = |reason: String| LoadError::Read {
        path: path.to_owned(),
        reason,
    };
    let file_name = path.rsplit(std::path::is_separator).next().unwrap_or(path);
    let copy = format!("D{}__{file_name}", state.copies);
    state.copies += 1;
    std::fs::write(state.log_folder.join(&copy), bytes)
        .map_err(|error| fail(format!("cannot copy it: {error}")))?;
    let (document, warnings) = validate(config, path, bytes)?;
    let parameters = settle(config, &document, given).map_err(|reason| LoadError::Parameters {
        path: path.to_owned(),
        reason,
    })?;
    let info = DocumentState {
        path: path.to_owned(),
        copy,
        sha256: digest::sha256(bytes),
        parameters,
    };
    Ok(Loaded {
        document,
        info,
        warnings,
    })
}

/// Loads a document again after a restart, from its copy: the original may be gone or changed by then.
pub fn again(config: &RunConfig, state: &State, info: &DocumentState) -> Result<Loaded, LoadError> {
    let fail = |reason: String| LoadError::Read {
        path: info.path.clone(),
        reason,
    };
    let copy = state.log_folder.join(&info.copy);
    let bytes = std::fs::read(&copy)
        .map_err(|error| fail(format!("its copy {} is gone: {error}", copy.display())))?;
    if digest::sha256(&bytes) != info.sha256 {
        return Err(fail(format!(
            "its copy {} was changed during the run",
            copy.display()
        )));
    }
    let (document, _) = validate(config, &info.path, &bytes)?;
    Ok(Loaded {
        document,
        info: info.clone(),
        warnings: Diagnostics::new(),
    })
}

fn validate(
    config: &RunConfig,
    path: &str,
    bytes: &[u8],
) -> Result<(Document, Diagnostics), LoadError> {
    let options = Options {
        blocked_actions: config.blocked_actions.clone(),
        ..Options::default()
    };
    let validated = validate_bytes(path, bytes, &options);
    match validated.document {
        Some(document) => Ok((document, validated.diagnostics)),
        None => {
            let first = validated
                .diagnostics
                .iter()
                .find(|item| item.severity == ovenbird_component::source::Severity::Error)
                .map(ToString::to_string)
                .unwrap_or_default();
            Err(LoadError::Invalid {
                path: path.to_owned(),
                first,
                diagnostics: validated.diagnostics,
            })
        }
    }
}

/// Values of all declared parameters; what is given but not declared is ignored, as in the service's own runner.
fn settle(
    config: &RunConfig,
    document: &Document,
    given: &BTreeMap<String, Kept>,
) -> Result<BTreeMap<String, Kept>, String> {
    let mut settled = BTreeMap::new();
    for parameter in &document.parameters {
        let name = &parameter.name.value;
        let value = match (given.get(name), &parameter.default) {
            (Some(value), _) => {
                let text = value.real().and_then(Value::as_str).unwrap_or_default();
                parameter.check(text).map_err(|reason| {
                    // A message about a secret must not hold it.
                    if value.secret {
                        format!("the value of parameter `{name}` is not allowed")
                    } else {
                        reason
                    }
                })?;
                value.clone()
            }
            (None, Some(default)) => plain(default),
            (None, None) if config.allow_missing_parameters => plain(""),
            (None, None) => {
                return Err(format!(
                    "the parameter `{name}` has no value and no default"
                ));
            }
        };
        settled.insert(name.clone(), value);
    }
    Ok(settled)
}

/// A value that may be shown.
pub fn plain(text: &str) -> Kept {
    Kept {
        shown: Value::String(text.to_owned()),
        secret: false,
        used: None,
    }
}
