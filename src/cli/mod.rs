//! The command line: one file for each verb.

pub mod apply;
pub mod base;
pub mod build;
pub mod completions;
pub mod component;
pub mod convert;
pub mod delete;
pub mod dev;
pub mod disk;
pub mod distribute;
pub mod doctor;
pub mod ebs;
pub mod gc;
pub mod get;
pub mod image;
pub mod keys;
pub mod lifecycle;
pub mod list;
pub mod logs;
pub mod pipeline;
pub mod plan;
pub mod prepare;
pub mod printer;
pub mod push;
pub mod scheduler;
pub mod schema;
pub mod show;
pub mod sign;
pub mod ssh;
pub mod tag;
pub mod target;
pub mod transfers;
pub mod validate;
pub mod verify;
pub mod vuln;
pub mod yaml;

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::error::{FailureContext as _, FailureKind, Result};
use crate::store::Home;
use printer::Printer;

/// What is told after every help text.
const EXIT_CODES: &str = "Exit codes:\n  \
    0 success   1 internal error   2 wrong usage   3 wrong document, reference or digest\n  \
    4 something on this machine is missing or broken   5 the guest did not come up or went away\n  \
    6 a component failed   7 the finished image failed its tests   8 an output could not be written or verified\n  \
    9 known vulnerabilities at or above the threshold   130 cancelled";

/// EC2 Image Builder on your own machine: bake a machine image from a recipe, test it on a fresh boot, deliver it.
#[derive(Debug, Parser)]
#[command(name = "ovenbird", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Print JSON on standard output: the event stream for a build, one value otherwise
    #[arg(long, global = true)]
    json: bool,
    /// Show more: the guest's console and what components print; twice for our own debug log
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Where base images, finished images and state are kept
    #[arg(long, global = true, env = "OVENBIRD_HOME", value_name = "DIR")]
    home: Option<Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bake an image from a recipe
    Build(build::Args),
    /// Say what a build would do: what is kept from before, what is made anew, and why
    Plan(plan::Args),
    /// Keep a guest as the recipe says while its documents are edited: a save runs what it changes
    Dev(dev::DevArgs),
    /// Open a shell in the guest as it is after a component
    Shell(dev::ShellArgs),
    /// Put documents into the store: components, recipes, configurations, pipelines, policies
    Apply(apply::Args),
    /// Print a resource's document as it can be applied again
    Get(get::Args),
    /// List resources of a kind
    List(list::Args),
    /// Show what is known about a resource, what it refers to and what refers to it
    Show(show::Args),
    /// Delete resources
    Delete(delete::Args),
    /// Tags of resources and images
    Tag(tag::Args),
    /// Remove what nothing needs any more: leftovers of failed builds, old logs, caches
    Gc(gc::Args),
    /// List, pull, build, import and remove base images
    Base(base::Args),
    /// Check documents of any kind without baking
    Validate(validate::Args),
    /// Print the JSON Schema of a kind of document, for editors
    Schema(schema::Args),
    /// Run, check and write component documents without a recipe
    Component(component::Args),
    /// Convert a disk from any format to any other
    Convert(convert::Args),
    /// Push an image or a disk to an OCI registry
    Push(push::Args),
    /// Look into disks without mounting them, resize and check them
    Disk(disk::Args),
    /// Bring a finished image to where it runs: folders and AMIs
    Distribute(distribute::Args),
    /// Make keys that sign images
    Keys(keys::Args),
    /// Sign a finished image: its provenance, with every file and disk
    Sign(sign::Args),
    /// Check that an image is what was signed, without network or store
    Verify(verify::Args),
    /// Compare snapshots with the disks that they were made of
    Ebs(ebs::Args),
    /// Keep the local database of known vulnerabilities
    Vuln(vuln::Args),
    /// Look at finished images and past builds
    Image(image::Args),
    /// Run pipelines, look at them, and switch their schedules on and off
    Pipeline(pipeline::Args),
    /// Run pipelines when their time comes, until stopped
    Scheduler(scheduler::Args),
    /// Deprecate, disable and delete old images as policies say
    Lifecycle(lifecycle::Args),
    /// Log in to the guest of a build that runs or was kept
    Ssh(ssh::Args),
    /// Show the events, the console and the components' logs of a build
    Logs(logs::Args),
    /// Say what this machine has and what to install
    Doctor(doctor::Args),
    /// Print a completion script for a shell
    Completions(completions::CompletionArgs),
    /// Write man pages to a folder
    Man(completions::ManArgs),
}

/// What a verb works with.
#[derive(Debug)]
pub struct Session {
    /// Where everything is kept.
    pub home: Home,
    /// How to print.
    pub printer: Printer,
}

/// Parses the process's arguments and runs the verb.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let printer = Printer {
        json: cli.global.json,
        verbose: cli.global.verbose,
    };
    log_to_stderr(cli.global.verbose);
    match run(cli, printer) {
        Ok(code) => code,
        Err(failure) => {
            printer.failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

fn run(cli: Cli, printer: Printer) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_failure(FailureKind::Environment, || {
            "cannot start the runtime".into()
        })?;
    let result = runtime.block_on(dispatch(cli, printer));
    // A blocking conversion that was cancelled must not hold the process back.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}

async fn dispatch(cli: Cli, printer: Printer) -> Result<ExitCode> {
    // Opened only by the verbs that need a home: the others leave no trace.
    let open = move |home: Option<Utf8PathBuf>| -> Result<Session> {
        let home = home.map_or_else(Home::of_user, Home::at)?;
        Ok(Session { home, printer })
    };
    let home = cli.global.home;
    match cli.verb {
        Verb::Build(args) => build::run(args, &open(home)?).await,
        Verb::Plan(args) => plan::run(args, &open(home)?).await,
        Verb::Dev(args) => dev::dev(args, &open(home)?).await,
        Verb::Shell(args) => dev::shell(args, &open(home)?).await,
        Verb::Base(args) => base::run(args, &open(home)?).await,
        Verb::Push(args) => push::run(args, &open(home)?).await,
        Verb::Doctor(args) => doctor::run(&args, &open(home)?).await,
        Verb::Pipeline(args) => pipeline::run(args, &open(home)?).await,
        Verb::Scheduler(args) => scheduler::run(&args, &open(home)?).await,
        Verb::Lifecycle(args) => lifecycle::run(args, &open(home)?),
        Verb::Apply(args) => apply::run(&args, &open(home)?),
        Verb::Get(args) => get::run(&args, &open(home)?),
        Verb::List(args) => list::run(args, &open(home)?),
        Verb::Show(args) => show::run(&args, &open(home)?),
        Verb::Delete(args) => delete::run(&args, &open(home)?),
        Verb::Tag(args) => tag::run(&args, &open(home)?),
        Verb::Gc(args) => gc::run(&args, &open(home)?),
        Verb::Image(args) => image::run(args, &open(home)?).await,
        Verb::Distribute(args) => distribute::run(args, &open(home)?).await,
        Verb::Ebs(args) => ebs::run(args, &open(home)?).await,
        Verb::Ssh(args) => ssh::run(&args, &open(home)?),
        Verb::Logs(args) => logs::run(args, &open(home)?).await,
        Verb::Validate(args) => validate::run(&args, printer),
        Verb::Schema(args) => schema::run(&args, printer),
        Verb::Component(args) => component::run(args, printer, || open(home)).await,
        Verb::Keys(args) => keys::run(args, printer),
        Verb::Sign(args) => sign::run(args, printer, || open(home)).await,
        Verb::Verify(args) => verify::run(args, printer, || open(home)).await,
        Verb::Convert(args) => convert::run(args, printer).await,
        Verb::Disk(args) => disk::run(args, printer, move || open(home)).await,
        Verb::Vuln(args) => vuln::run(args, &open(home)?).await,
        Verb::Completions(args) => completions::print(&args, &mut Cli::command()),
        Verb::Man(args) => completions::man(&args, Cli::command()),
    }
}

/// `-vv` prints our own log; `OVENBIRD_LOG` chooses what, in the syntax of `tracing`.
fn log_to_stderr(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let default = if verbose > 1 {
        "ovenbird=debug,warn"
    } else {
        "off"
    };
    let filter =
        EnvFilter::try_from_env("OVENBIRD_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
