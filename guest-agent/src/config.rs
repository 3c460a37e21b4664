//! What a run is asked to do: the configuration file and what the command line changes about it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// A name and its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    /// Name of the parameter.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A document to run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DocumentEntry {
    /// Local path, `file://`, `s3://`, `http://` or `https://` address.
    pub path: String,
    /// Values for this document's parameters; they win over the global ones.
    #[serde(default)]
    pub parameters: Vec<NamedValue>,
    /// State directory of an earlier run of this document alone, whose steps it may refer to; see `carry` of the run.
    #[serde(default)]
    pub carried_from: Option<PathBuf>,
}

/// Where object storage is and how to sign for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectStore {
    /// Base address instead of the service's own; buckets are then part of the path.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` when left out.
    pub region: Option<String>,
    /// Key to sign with; requests are not signed without one.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<String>,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
}

impl ObjectStore {
    /// The same, with what it does not say taken from the variables that every S3 client reads.
    #[must_use]
    pub fn or_environment(mut self) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        // A key of one place with the secret of another would be no pair.
        if self.access_key_id.is_none() && self.secret_access_key.is_none() {
            self.access_key_id = variable("AWS_ACCESS_KEY_ID");
            self.secret_access_key = variable("AWS_SECRET_ACCESS_KEY");
            self.session_token = variable("AWS_SESSION_TOKEN");
        }
        self.region = self
            .region
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"));
        self.endpoint = self
            .endpoint
            .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| variable("AWS_ENDPOINT_URL"));
        self
    }
}

/// The configuration file. The names up to `workingDirectory` are those of the service's own runner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Accepted for compatibility: a log stream that is not sent is never a failure here.
    pub cw_ignore_failures: Option<bool>,
    /// Log group of the stream; see [`LogStream`].
    pub cw_log_group: Option<String>,
    /// Region of the log group.
    pub cw_log_region: Option<String>,
    /// Name of the stream in the log group.
    pub cw_log_stream: Option<String>,
    /// Account that must own the bucket of documents given as `s3://`.
    pub document_s3_bucket_owner: Option<String>,
    /// The documents, in order.
    pub documents: Vec<DocumentEntry>,
    /// Identity of the run.
    pub execution_id: Option<String>,
    /// Where the log folder is made.
    pub log_directory: Option<PathBuf>,
    /// Bucket to upload the log folder to.
    pub log_s3_bucket_name: Option<String>,
    /// Account that must own that bucket.
    pub log_s3_bucket_owner: Option<String>,
    /// Prefix of the log folder in the bucket.
    pub log_s3_key_prefix: Option<String>,
    /// Values for the parameters of all documents.
    pub parameters: Vec<NamedValue>,
    /// Phases to run, separated by commas.
    pub phases: Option<String>,
    /// Where the state for a resume is kept.
    pub state_directory: Option<PathBuf>,
    /// Whether the console log is repeated on standard error.
    pub trace: Option<bool>,
    /// Working folder of commands, also in `WORKING_DIRECTORY`.
    pub working_directory: Option<PathBuf>,
    /// Where components leave what people shall see; also in `OVENBIRD_EVIDENCE`.
    pub evidence_directory: Option<PathBuf>,
    /// Values of `{{ aws:ssm:… }}` references by name, all treated as secret.
    pub secrets: BTreeMap<String, String>,
    /// Values of `{{ aws:ssm:… }}` references that may be shown.
    pub stored_values: BTreeMap<String, String>,
    /// Object storage for S3Download and S3Upload.
    pub object_store: Option<ObjectStore>,
    /// Modules that may not be used.
    pub blocked_action_modules: Vec<String>,
    /// Most restarts of one run.
    pub restart_limit: Option<u32>,
    /// Whether the steps of this run are left in its state directory, so that other phases of the same document can
    /// refer to them in a later run (`carriedFrom` of its document).
    pub carry: Option<bool>,
}

/// How a reboot is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RebootMode {
    /// The run ends with [`crate::EXIT_REBOOT`]; whoever started it reboots the machine and starts it again.
    #[default]
    Exit,
    /// The agent reboots the machine itself and registers to be started again.
    Own,
}

/// A complete order for a run.
#[derive(Debug, Clone, Default)]
pub struct RunConfig {
    /// The documents, in order.
    pub documents: Vec<DocumentEntry>,
    /// Values for the parameters of all documents.
    pub parameters: BTreeMap<String, String>,
    /// Phases to run; all when empty.
    pub phases: Vec<String>,
    /// Identity of the run; made up when not given.
    pub execution_id: Option<String>,
    /// Where the log folder is made; the current folder when not given.
    pub log_directory: Option<PathBuf>,
    /// Where the state for a resume is kept; a run without one cannot be resumed.
    pub state_directory: Option<PathBuf>,
    /// Working folder of commands.
    pub working_directory: Option<PathBuf>,
    /// Where components leave what people shall see.
    pub evidence_directory: Option<PathBuf>,
    /// Values of stored references that must not be shown.
    pub secrets: BTreeMap<String, String>,
    /// Values of stored references that may be shown.
    pub stored_values: BTreeMap<String, String>,
    /// Object storage.
    pub object_store: ObjectStore,
    /// Account that must own the bucket of documents given as `s3://`.
    pub document_bucket_owner: Option<String>,
    /// Where the log folder is uploaded to.
    pub log_upload: Option<LogUpload>,
    /// The log stream that was asked for.
    pub log_stream: LogStream,
    /// Modules that may not be used.
    pub blocked_actions: Vec<String>,
    /// Whether parameters without a value are empty instead of an error.
    pub allow_missing_parameters: bool,
    /// Most restarts of one run.
    pub restart_limit: u32,
    /// Whether the steps of this run are left for later ones.
    pub carry: bool,
    /// How a reboot is carried out.
    pub reboot: RebootMode,
    /// Whether the console log is repeated on standard error.
    pub trace: bool,
    /// Whether events are written to standard output.
    pub events: bool,
}

/// Where the log folder is uploaded to after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogUpload {
    /// The bucket.
    pub bucket: String,
    /// Account that must own it.
    pub owner: Option<String>,
    /// Prefix in the bucket.
    pub prefix: String,
}

/// A stream of the service's log store. The agent has no client for it: the run says so, and goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogStream {
    /// Its group.
    pub group: Option<String>,
    /// Region of the group.
    pub region: Option<String>,
    /// Its name.
    pub name: Option<String>,
}

impl LogStream {
    /// Whether anything about a stream was asked for.
    pub fn is_wanted(&self) -> bool {
        *self != Self::default()
    }
}

/// The service's own runner gives up after as many restarts.
pub const RESTART_LIMIT: u32 = 15;

/// A configuration from another machine that is larger than this is something else.
const LARGEST_CONFIGURATION: usize = 4 * 1024 * 1024;

/// Why an order cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Its path or address.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The configuration file is not what it should be.
    #[error("{path} is not a configuration: {source}")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
    /// The same thing was given in two places.
    #[error(
        "{0} are given both on the command line and in the configuration file; use one of the two"
    )]
    Twice(&'static str),
    /// `--parameters` has something other than `name=value`.
    #[error("`{0}` is not a parameter; expected name=value")]
    Parameter(String),
    /// There is nothing to run.
    #[error("no documents are given; use --documents or --config")]
    NoDocuments,
}

impl ConfigFile {
    /// Reads a configuration from a path or address; `-` is standard input, so that secrets need not touch the disk.
    ///
    /// # Errors
    ///
    /// When it cannot be read or has unknown or wrong fields.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let bytes = if path == std::path::Path::new("-") {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes)
                .map(|_| bytes)
                .map_err(|error| error.to_string())
        } else {
            let store = ObjectStore::default().or_environment();
            let text = path.to_string_lossy();
            crate::address::read(&store, &text, None, None, LARGEST_CONFIGURATION)
        };
        let bytes = bytes.map_err(|reason| ConfigError::Read {
            path: path.to_owned(),
            reason,
        })?;
        serde_json::from_slice(&bytes).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })
    }

    /// Turns the file into an order.
    pub fn into_run(self) -> RunConfig {
        RunConfig {
            documents: self.documents,
            parameters: self
                .parameters
                .into_iter()
                .map(|item| (item.name, item.value))
                .collect(),
            phases: self.phases.as_deref().map(split_list).unwrap_or_default(),
            execution_id: self.execution_id,
            log_directory: self.log_directory,
            state_directory: self.state_directory,
            working_directory: self.working_directory,
            evidence_directory: self.evidence_directory,
            secrets: self.secrets,
            stored_values: self.stored_values,
            object_store: self.object_store.unwrap_or_default(),
            document_bucket_owner: self.document_s3_bucket_owner,
            log_upload: self.log_s3_bucket_name.map(|bucket| LogUpload {
                bucket,
                owner: self.log_s3_bucket_owner,
                prefix: self.log_s3_key_prefix.unwrap_or_default(),
            }),
            log_stream: LogStream {
                group: self.cw_log_group,
                region: self.cw_log_region,
                name: self.cw_log_stream,
            },
            blocked_actions: self.blocked_action_modules,
            allow_missing_parameters: false,
            restart_limit: self.restart_limit.unwrap_or(RESTART_LIMIT),
            carry: self.carry.unwrap_or(false),
            reboot: RebootMode::default(),
            trace: self.trace.unwrap_or(false),
            events: false,
        }
    }
}

/// Splits a comma list and drops empty items.
pub fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Parses `name1=value1,name2=value2`. A comma inside a value is kept when what follows it has no `=`.
///
/// # Errors
///
/// The item that is not `name=value`.
pub fn parse_parameters(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for item in text.split(',') {
        match item.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                found.push((name.trim().to_owned(), value.to_owned()))
            }
            _ => match found.last_mut() {
                Some((_, value)) if !item.is_empty() => {
                    value.push(',');
                    value.push_str(item);
                }
                _ => return Err(ConfigError::Parameter(item.to_owned())),
            },
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_command_line() {
        let parsed = parse_parameters("a=1, b=x=y,c=p,q").expect("good");
        let wanted = [("a", "1"), ("b", "x=y"), ("c", "p,q")];
        assert_eq!(
            parsed,
            wanted
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        );
        assert!(parse_parameters("novalue").is_err());
        assert!(parse_parameters("=x").is_err());
    }

    #[test]
    fn the_file_refuses_unknown_keys() {
        let good = r#"{"documents":[{"path":"a.yml","parameters":[{"name":"x","value":"y"}]}],"phases":"build, test","trace":true}"#;
        let config: ConfigFile = serde_json::from_str(good).expect("good");
        let run = config.into_run();
        assert_eq!(run.phases, ["build", "test"]);
        assert!(run.trace);
        assert!(serde_json::from_str::<ConfigFile>(r#"{"document":[]}"#).is_err());
    }
}
