//! `ovenbird-agent run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{complain, print_line};
use crate::config::{
    ConfigError, ConfigFile, DocumentEntry, LogUpload, RebootMode, RunConfig, parse_parameters,
    split_list,
};
use crate::restart::{forget_restart, reboot_machine};
use crate::run::{EventStream, Outcome, RunError, run as run_documents};

#[derive(Args)]
pub struct RunArguments {
    /// JSON configuration, by path or address; `-` reads it from standard input.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Documents, separated by commas: paths, file://, s3://, http:// or https:// addresses.
    #[arg(short, long)]
    documents: Option<String>,
    /// Account that must own the bucket of s3:// documents.
    #[arg(long)]
    document_s3_bucket_owner: Option<String>,
    /// Phases, separated by commas; all when left out.
    #[arg(short, long)]
    phases: Option<String>,
    /// Parameters: name1=value1,name2=value2.
    #[arg(long)]
    parameters: Option<String>,
    /// Identity of the run.
    #[arg(short = 'i', long)]
    execution_id: Option<String>,
    /// Where the log folder is made.
    #[arg(short, long)]
    log_directory: Option<PathBuf>,
    /// Bucket to upload the logs to.
    #[arg(short = 'b', long)]
    log_s3_bucket_name: Option<String>,
    /// Account that must own that bucket.
    #[arg(long)]
    log_s3_bucket_owner: Option<String>,
    /// Prefix of the logs in the bucket.
    #[arg(short = 'k', long)]
    log_s3_key_prefix: Option<String>,
    /// Where the state for a resume is kept.
    #[arg(short, long)]
    state_directory: Option<PathBuf>,
    /// Group of a log stream. Streams are not sent from here; the run warns of that.
    #[arg(long)]
    cw_log_group: Option<String>,
    /// Region of the log group.
    #[arg(long)]
    cw_log_region: Option<String>,
    /// Name of the log stream.
    #[arg(long)]
    cw_log_stream: Option<String>,
    /// Accepted for compatibility: a stream that is not sent is never a failure.
    #[arg(long)]
    cw_ignore_failures: bool,
    /// Modules that may not be used, separated by commas.
    #[arg(long)]
    blocked_action_modules: Option<String>,
    /// Treat parameters without a value as empty.
    #[arg(long)]
    allow_missing_parameters: bool,
    /// Folder in which commands run.
    #[arg(long)]
    working_directory: Option<PathBuf>,
    /// Most restarts of one run.
    #[arg(long)]
    restart_limit: Option<u32>,
    /// Who reboots the machine.
    #[arg(long, value_enum, default_value_t = Reboot::Exit)]
    reboot: Reboot,
    /// Write events to standard output, one JSON object per line.
    #[arg(long)]
    events: bool,
    /// Repeat the console log on standard error.
    #[arg(short, long)]
    trace: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Reboot {
    /// End with exit code 194; the caller reboots and starts the run again.
    Exit,
    /// Reboot and start again without help.
    #[value(name = "self")]
    Own,
}

/// Runs documents and prints the summary.
pub fn run(arguments: RunArguments) -> i32 {
    let resume_by_itself = matches!(arguments.reboot, Reboot::Own);
    let config = match order(arguments) {
        Ok(config) => config,
        Err(error) => {
            complain(&error.to_string());
            return crate::EXIT_USAGE;
        }
    };
    crate::process::set_up_signals();
    if resume_by_itself {
        forget_restart();
    }
    let events = config.events.then(|| EventStream::start(std::io::stdout()));
    match run_documents(&config, events) {
        Ok(Outcome::Finished(summary)) => {
            if !config.events {
                print_line(&serde_json::to_string_pretty(&summary).unwrap_or_default());
            }
            if summary.status.is_good() {
                crate::EXIT_SUCCESS
            } else {
                crate::EXIT_FAILED
            }
        }
        Ok(Outcome::Reboot { delay_seconds, .. }) if resume_by_itself => {
            let words: Vec<String> = std::env::args().collect();
            match reboot_machine(&resume_command(words), Duration::from_secs(delay_seconds)) {
                Ok(()) => crate::EXIT_REBOOT,
                Err(error) => {
                    complain(&format!("cannot reboot: {error}"));
                    crate::EXIT_FAILED
                }
            }
        }
        Ok(Outcome::Reboot { .. }) => crate::EXIT_REBOOT,
        Err(error) => {
            complain(&error.to_string());
            if let RunError::Ended(signal) = error {
                crate::process::end_by(signal);
            }
            crate::EXIT_USAGE
        }
    }
}

/// The command that goes on with this run: the same words, with the full path of this program.
fn resume_command(mut words: Vec<String>) -> Vec<String> {
    if let (Some(first), Ok(own)) = (words.first_mut(), std::env::current_exe()) {
        *first = own.display().to_string();
    }
    words
}

/// Puts the configuration file and the flags together; a flag wins.
fn order(arguments: RunArguments) -> Result<RunConfig, ConfigError> {
    let file = arguments
        .config
        .as_deref()
        .map(ConfigFile::read)
        .transpose()?;
    if file.is_some() && arguments.documents.is_some() {
        return Err(ConfigError::Twice("documents"));
    }
    if file.is_some() && arguments.parameters.is_some() {
        return Err(ConfigError::Twice("parameters"));
    }
    let mut config = file.unwrap_or_default().into_run();
    if let Some(documents) = &arguments.documents {
        config.documents = split_list(documents)
            .into_iter()
            .map(|path| DocumentEntry {
                path,
                parameters: Vec::new(),
                carried_from: None,
            })
            .collect();
    }
    if let Some(parameters) = &arguments.parameters {
        config.parameters = parse_parameters(parameters)?;
    }
    if let Some(phases) = &arguments.phases {
        config.phases = split_list(phases);
    }
    let (owner, prefix) = (arguments.log_s3_bucket_owner, arguments.log_s3_key_prefix);
    config.log_upload = match (arguments.log_s3_bucket_name, config.log_upload) {
        (Some(bucket), _) => Some(LogUpload {
            bucket,
            owner,
            prefix: prefix.unwrap_or_default(),
        }),
        (None, Some(upload)) => Some(LogUpload {
            owner: owner.or(upload.owner),
            prefix: prefix.unwrap_or(upload.prefix),
            bucket: upload.bucket,
        }),
        (None, None) => None,
    };
    let stream = &mut config.log_stream;
    stream.group = arguments.cw_log_group.or(stream.group.take());
    stream.region = arguments.cw_log_region.or(stream.region.take());
    stream.name = arguments.cw_log_stream.or(stream.name.take());
    if let Some(names) = &arguments.blocked_action_modules {
        config.blocked_actions = split_list(names);
    }
    config.document_bucket_owner = arguments
        .document_s3_bucket_owner
        .or(config.document_bucket_owner);
    config.execution_id = arguments.execution_id.or(config.execution_id);
    config.log_directory = arguments.log_directory.or(config.log_directory);
    config.state_directory = arguments.state_directory.or(config.state_directory);
    config.working_directory = arguments.working_directory.or(config.working_directory);
    config.restart_limit = arguments.restart_limit.unwrap_or(config.restart_limit);
    config.allow_missing_parameters |= arguments.allow_missing_parameters;
    config.trace |= arguments.trace;
    config.events = arguments.events;
    config.reboot = match arguments.reboot {
        Reboot::Exit => RebootMode::Exit,
        Reboot::Own => RebootMode::Own,
    };
    // Credentials of the environment stand in where the configuration has none.
    config.object_store = std::mem::take(&mut config.object_store).or_environment();
    Ok(config)
}
