//! `ovenbird dev RECIPE` and `ovenbird shell RECIPE`

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;

use super::Session;
use super::build::cancel_on_signal;
use super::prepare::{Prepared, RecipeArgs};
use crate::bake::cache::Cache;
use crate::bake::run_folder;
use crate::bake::workbench::Workbench;
use crate::error::{Failure, FailureKind, Result};
use crate::events::Events;
use crate::machine::{Accelerator, Host};
use crate::packages::PackageCache;
use crate::store::Settings;

/// Files are looked at so often. Every editor saves in its own way (rename, truncate, two writes), so times and sizes of
/// a handful of files are compared instead of following events.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Use this accelerator instead of the one that the probe finds: kvm, hvf or tcg
    #[arg(long, value_name = "NAME")]
    accel: Option<Accelerator>,
}

/// Arguments of `shell`.
#[derive(Debug, clap::Args)]
pub struct ShellArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Stop after this component; default: after the last one. `boot` is before the first
    #[arg(long, value_name = "COMPONENT")]
    after: Option<String>,
    /// Use this accelerator instead of the one that the probe finds: kvm, hvf or tcg
    #[arg(long, value_name = "NAME")]
    accel: Option<Accelerator>,
    /// Run this command instead of an interactive shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Opens a shell in the guest as it is after a component.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such component; what the guest does wrong.
pub async fn shell(args: ShellArgs, session: &Session) -> Result<ExitCode> {
    let mut prepared = Prepared::new(&args.recipe, session).await?;
    let components = &mut prepared.plan.components;
    match args.after.as_deref() {
        None => {}
        Some("boot") => components.clear(),
        Some(name) => {
            let position = components
                .iter()
                .position(|component| component.name == name);
            let position = position.ok_or_else(|| {
                let names: Vec<&str> = components
                    .iter()
                    .map(|component| component.name.as_str())
                    .collect();
                Failure::config(format!("the recipe has no component `{name}`"))
                    .with_hint(format!("it has {}", names.join(", ")))
            })?;
            components.truncate(position + 1);
        }
    }
    let host = find_host(&prepared, args.accel, session).await?;
    let cache = Cache::new(&session.home.cache());
    let workbench = Workbench {
        plan: &prepared.plan,
        provisions: &prepared.provisions,
        host: &host,
        cache: &cache,
        runs: session.home.runs(),
        logs: logs(session, &prepared)?,
        validate: false,
        packages: packages(&prepared, session).await?,
        cancel: cancel_on_signal(),
    };
    let mut code = ExitCode::SUCCESS;
    workbench
        .run(events(session), async |instances| {
            let status = instances.ssh(&args.command).await?;
            let status = status.code().and_then(|code| u8::try_from(code).ok());
            code = ExitCode::from(status.unwrap_or(1));
            Ok(())
        })
        .await?;
    Ok(code)
}

/// Keeps the guest as the recipe says, while its documents are edited.
///
/// # Errors
/// What makes going on senseless; a component that fails is told, and waits for its next version.
pub async fn dev(args: DevArgs, session: &Session) -> Result<ExitCode> {
    let cancel = cancel_on_signal();
    let printer = session.printer;
    loop {
        let mut watched: Vec<Utf8PathBuf> = Vec::new();
        // A recipe of the store does not change under our hands.
        if camino::Utf8Path::new(&args.recipe.recipe).exists() {
            watched.push(args.recipe.recipe.clone().into());
        }
        let prepared = Prepared::new(&args.recipe, session).await;
        let result = match &prepared {
            Err(failure) => {
                printer.failure(failure);
                Ok(())
            }
            Ok(prepared) => {
                watched.extend(
                    prepared
                        .plan
                        .components
                        .iter()
                        .map(|component| component.path.clone()),
                );
                watched.extend(
                    prepared
                        .plan
                        .components
                        .iter()
                        .flat_map(|component| &component.files)
                        .map(|file| file.from.clone()),
                );
                let host = find_host(prepared, args.accel, session).await?;
                let cache = Cache::new(&session.home.cache());
                let workbench = Workbench {
                    plan: &prepared.plan,
                    provisions: &prepared.provisions,
                    host: &host,
                    cache: &cache,
                    runs: session.home.runs(),
                    logs: logs(session, prepared)?,
                    validate: true,
                    packages: packages(prepared, session).await?,
                    cancel: cancel.clone(),
                };
                let before = state(&watched);
                let files = &watched;
                workbench
                    .run(events(session), async |instances| {
                        printer.line(format!(
                            "ready; log in with:\n  {}\nwaiting for changes (Ctrl-C ends it)",
                            instances.ssh_command().join(" ")
                        ));
                        changed(files, &before).await;
                        Ok(())
                    })
                    .await
            }
        };
        match result {
            // The guest showed what came of the documents, and they have changed since: at it again.
            Ok(()) if prepared.is_ok() => continue,
            Ok(()) => {}
            Err(failure) if failure.kind() == FailureKind::Cancelled => {
                return Ok(ExitCode::SUCCESS);
            }
            Err(failure) if failure.kind() == FailureKind::Component => printer.failure(&failure),
            Err(failure) => return Err(failure),
        }
        printer.line("waiting for changes (Ctrl-C ends it)");
        let before = state(&watched);
        tokio::select! {
            () = changed(&watched, &before) => {}
            () = cancel.cancelled() => return Ok(ExitCode::SUCCESS),
        }
    }
}

type State = Vec<Option<(SystemTime, u64)>>;

fn state(files: &[Utf8PathBuf]) -> State {
    files.iter().map(|file| newest(file).ok()).collect()
}

/// The newest time of a file, or of all that is in a folder, and the sum of the lengths.
fn newest(path: &camino::Utf8Path) -> std::io::Result<(SystemTime, u64)> {
    let meta = std::fs::metadata(path)?;
    let mut found = (meta.modified()?, meta.len());
    if meta.is_dir() {
        for entry in path.read_dir_utf8()? {
            let (time, length) = newest(entry?.path())?;
            found = (found.0.max(time), found.1 + length);
        }
    }
    Ok(found)
}

async fn changed(files: &[Utf8PathBuf], before: &State) {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let now = state(files);
        if now != *before && now.iter().all(Option::is_some) {
            return;
        }
    }
}

fn events(session: &Session) -> Events {
    Events::new(vec![session.printer.reader()])
}

fn logs(session: &Session, prepared: &Prepared) -> Result<Utf8PathBuf> {
    let time = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S");
    let name = crate::bake::plan::normalise(&prepared.plan.name);
    Ok(session
        .home
        .logs()
        .join("work")
        .join(format!("{name}-{time}")))
}

async fn packages(prepared: &Prepared, session: &Session) -> Result<Option<PackageCache>> {
    if !prepared.plan.machine.network.has_packages() {
        return Ok(None);
    }
    let settings = Settings::read(&session.home)?.packages;
    PackageCache::start(&session.home.packages(), &settings)
        .await
        .map(Some)
}

async fn find_host(
    prepared: &Prepared,
    accel: Option<Accelerator>,
    session: &Session,
) -> Result<Host> {
    run_folder::sweep(&session.home.runs());
    let settings = Settings::read(&session.home)?.qemu;
    let cache = session.home.cache();
    Host::find(prepared.plan.machine.arch, accel, &cache, &settings).await
}
