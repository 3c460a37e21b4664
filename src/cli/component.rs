//! `ovenbird component run|validate|new|schema`

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Subcommand, ValueEnum};

use super::Session;
use super::build::cancel_on_signal;
use super::printer::Printer;
use crate::bake::resolve::{self, Overrides};
use crate::bake::trial::{self, Trial};
use crate::bake::{OnError, Options, PlannedComponent, run_folder};
use crate::catalog;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::events::{Events, LogFile};
use crate::guest::agent;
use crate::machine::{Accelerator, Host, Network};
use crate::store::Settings;

/// Where components work in the guest if nobody says anything else; the service's default.
const WORKING_DIRECTORY: &str = "/tmp";

/// Arguments of `component`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run documents on this machine, or with --in in a throw-away guest
    Run(RunArgs),
    /// Check component documents
    Validate {
        /// The documents
        #[arg(required = true)]
        files: Vec<Utf8PathBuf>,
    },
    /// Write a commented skeleton of a document
    New {
        /// The file to write; it must not exist
        file: Utf8PathBuf,
    },
    /// Print the JSON Schema of component documents, for editors
    Schema,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The documents, in order
    #[arg(required = true)]
    documents: Vec<Utf8PathBuf>,
    /// Boot this base image, run the documents in it, and throw it away
    #[arg(long = "in", value_name = "BASE")]
    base: Option<String>,
    /// Phases to run, separated by commas; all if none is given
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    phases: Vec<String>,
    /// Value of a parameter (may be given several times)
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = parameter)]
    parameters: Vec<(String, String)>,
    /// Where the logs go; default: the working directory, with --in a folder below the home
    #[arg(long, value_name = "DIR")]
    log_directory: Option<Utf8PathBuf>,
    #[command(flatten)]
    guest: GuestArgs,
    /// Further options for the agent, without --in (see `-- --help`)
    #[arg(last = true, conflicts_with = "base", value_name = "OPTIONS")]
    agent: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "With --in")]
struct GuestArgs {
    /// What to do with the guest if a document fails
    #[arg(long, value_enum, default_value_t = OnErrorArg::Cleanup, requires = "base", value_name = "WHAT")]
    on_error: OnErrorArg,
    /// Use this accelerator instead of the one that the probe finds: kvm, hvf or tcg
    #[arg(long, requires = "base", value_name = "NAME")]
    accel: Option<Accelerator>,
    /// Virtual CPUs of the guest
    #[arg(long, requires = "base", value_name = "N")]
    cpus: Option<u32>,
    /// Memory of the guest in MiB
    #[arg(long, requires = "base", value_name = "MIB")]
    memory: Option<u32>,
    /// No way out of the guest into the network
    #[arg(long, requires = "base")]
    no_network: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnErrorArg {
    /// Stop the guest
    Cleanup,
    /// Open a shell in the guest, then stop it
    Shell,
}

/// Reads `NAME=VALUE`.
pub(super) fn parameter(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// Runs the verb; `session` opens the home, which only a guest needs.
///
/// # Errors
/// [`FailureKind::Config`] for a document with errors, [`FailureKind::Environment`] if a file can't be written, and what
/// a guest can do wrong.
pub async fn run(
    args: Args,
    printer: Printer,
    session: impl FnOnce() -> Result<Session>,
) -> Result<ExitCode> {
    match args.verb {
        Verb::Run(mut args) => match args.base.take() {
            Some(base) => run_in_guest(&base, args, &session()?).await,
            None => run_here(&args),
        },
        Verb::Validate { files } => super::validate::check_all(&files, printer),
        Verb::New { file } => new(&file, printer),
        Verb::Schema => {
            let text = serde_json::to_string_pretty(&ovenbird_component::schema::document())
                .or_failure(FailureKind::Internal, || "cannot encode the schema".into())?;
            printer.line(&text);
            printer.value(&ovenbird_component::schema::document());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Replaces this process by the agent that it carries: from memory, so that nothing has to be installed or cleaned up.
fn run_here(args: &RunArgs) -> Result<ExitCode> {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let flags = nix::sys::memfd::MFdFlags::empty();
    let memory = nix::sys::memfd::memfd_create("ovenbird-agent", flags)
        .or_failure(FailureKind::Environment, || {
            "cannot create a file in memory".into()
        })?;
    let mut file = std::fs::File::from(memory);
    file.write_all(agent::bytes())
        .or_failure(FailureKind::Environment, || "cannot write the agent".into())?;
    let program = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut command = std::process::Command::new(program);
    command
        .arg0("ovenbird component")
        .args(["run", "--documents"])
        .arg(
            args.documents
                .iter()
                .map(|path| path.as_str())
                .collect::<Vec<_>>()
                .join(","),
        );
    if !args.phases.is_empty() {
        command.arg("--phases").arg(args.phases.join(","));
    }
    if !args.parameters.is_empty() {
        let pairs: Vec<String> = args
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        command.arg("--parameters").arg(pairs.join(","));
    }
    if let Some(folder) = &args.log_directory {
        command.arg("--log-directory").arg(folder);
    }
    let error = command.args(&args.agent).exec();
    Err(Failure::environment("cannot start the agent").caused_by(error))
}

async fn run_in_guest(base: &str, args: RunArgs, session: &Session) -> Result<ExitCode> {
    let home = &session.home;
    run_folder::sweep(&home.runs());
    let components = plan_documents(&args)?;
    let base = catalog::resolve(home.path(), base)?;
    let overrides = Overrides {
        cpus: args.guest.cpus,
        memory_mib: args.guest.memory,
        ..Overrides::default()
    };
    let mut machine = resolve::machine_for(&base, &overrides);
    if args.guest.no_network {
        machine.network = Network::None;
    }
    let settings = Settings::read(home)?.qemu;
    let host = Host::find(machine.arch, args.guest.accel, &home.cache(), &settings).await?;
    if host.accelerator() == Accelerator::Tcg && args.guest.accel.is_none() {
        session.printer.warn(format!(
            "software emulation, the guest will be slow: {}",
            host.verdict.reason
        ));
    }
    let logs = args.log_directory.unwrap_or_else(|| {
        let time = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
        home.logs().join("components").join(time.to_string())
    });
    std::fs::create_dir_all(&logs)
        .or_failure(FailureKind::Environment, || format!("cannot create {logs}"))?;
    let log = LogFile::append(&logs.join("events.ndjson"))
        .or_failure(FailureKind::Environment, || {
            format!("cannot write the log in {logs}")
        })?;
    let trial = Trial {
        parent: resolve::parent_of(&base),
        machine,
        components,
        phases: args.phases,
        working_directory: WORKING_DIRECTORY.into(),
        logs,
        runs: home.runs(),
    };
    let options = Options {
        on_error: match args.guest.on_error {
            OnErrorArg::Cleanup => OnError::Cleanup,
            OnErrorArg::Shell => OnError::Shell,
        },
        cancel: cancel_on_signal(),
        ..Options::default()
    };
    let events = Events::new(vec![session.printer.reader(), std::sync::Arc::new(log)]);
    trial::run(&trial, &host, &options, events).await?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the documents; each gets those of the parameters that it declares.
fn plan_documents(args: &RunArgs) -> Result<Vec<PlannedComponent>> {
    let given: BTreeMap<&str, &str> = args
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut taken = std::collections::BTreeSet::new();
    let mut components = Vec::new();
    for path in &args.documents {
        let declared = resolve::declared_parameters(path)?;
        let parameters: BTreeMap<String, Vec<String>> = declared
            .into_iter()
            .filter_map(|name| {
                let value = given.get(name.as_str())?;
                Some((name, vec![(*value).to_owned()]))
            })
            .collect();
        taken.extend(parameters.keys().cloned());
        components.push(resolve::component_of_file(path.clone(), None, parameters)?);
    }
    if let Some(unknown) = given.keys().find(|name| !taken.contains(**name)) {
        return Err(Failure::config(format!(
            "no document has a parameter `{unknown}`"
        )));
    }
    Ok(components)
}

fn new(file: &camino::Utf8Path, printer: Printer) -> Result<ExitCode> {
    use std::io::Write as _;
    let text = ovenbird_component::skeleton(file.file_stem().unwrap_or("my-component"));
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .or_failure(FailureKind::Environment, || format!("cannot write {file}"))?;
    printer.line(format!(
        "{file}: edit it, then `ovenbird component validate {file}`"
    ));
    Ok(ExitCode::SUCCESS)
}
