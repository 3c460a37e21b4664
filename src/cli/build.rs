//! `ovenbird build RECIPE`

use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::Session;
use super::prepare::{Prepared, RecipeArgs};
use crate::bake::cache::{Cache, LAYER_LIMIT};
use crate::bake::{self, Identity, OnError, Options, record, run_folder};
use crate::error::{FailureContext as _, FailureKind, Result};
use crate::events::{Events, LogFile};
use crate::machine::{Accelerator, Host};
use crate::store::{ImageLedger, Store};

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    how: How,
}

/// How to go about a build.
#[derive(Debug, clap::Args)]
pub struct How {
    /// What to do with the guest if the bake fails
    #[arg(long, value_enum, default_value_t = OnErrorArg::Cleanup, value_name = "WHAT")]
    on_error: OnErrorArg,
    /// Use this accelerator instead of the one that the probe finds: kvm, hvf or tcg
    #[arg(long, value_name = "NAME")]
    accel: Option<Accelerator>,
    /// Do everything anew: use no layer of an earlier build, and keep none
    #[arg(long)]
    no_cache: bool,
    /// Whether the build guest may go on from the saved memory of an earlier one
    #[arg(long, value_enum, default_value_t = Warm::Auto, value_name = "WHEN")]
    warm: Warm,
    /// For what will be shipped: the build guest is always booted, never resumed
    #[arg(long, conflicts_with = "warm")]
    release: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Warm {
    /// Where a memory is there that fits
    Auto,
    /// Never
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnErrorArg {
    /// Stop the guest and remove everything
    Cleanup,
    /// Leave the guest running and print how to log in
    Keep,
    /// Open a shell in the guest, then clean up
    Shell,
}

impl From<OnErrorArg> for OnError {
    fn from(arg: OnErrorArg) -> Self {
        match arg {
            OnErrorArg::Cleanup => Self::Cleanup,
            OnErrorArg::Keep => Self::Keep,
            OnErrorArg::Shell => Self::Shell,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// What the bake says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let home = &session.home;
    for image in run_folder::sweep(&home.runs()) {
        session
            .printer
            .warn(format!("cleared what the dead build of {image} had left"));
    }
    let prepared = Prepared::new(&args.recipe, session).await?;
    execute(prepared, &args.how, session).await
}

/// Builds what was prepared.
///
/// # Errors
/// What the bake says.
pub async fn execute(prepared: Prepared, args: &How, session: &Session) -> Result<ExitCode> {
    let home = &session.home;
    let Prepared {
        plan,
        provisions,
        origin,
    } = prepared;
    let cache = (!args.no_cache).then(|| Cache::new(&home.cache()));
    if let Some(cache) = &cache {
        let walk = cache.walk(&plan, &provisions)?;
        if let Some((image, folder)) = cache.finished(&plan, &walk)? {
            return unchanged(session, &image, &folder);
        }
    }
    let host = Host::find(plan.machine.arch, args.accel, &home.cache()).await?;
    if host.accelerator() == Accelerator::Tcg && args.accel.is_none() {
        session.printer.warn(format!(
            "software emulation, the guest will be slow: {}",
            host.verdict.reason
        ));
    }
    let store = Arc::new(Store::open(home)?);
    store.fail_dead_builds()?;
    let image = store.begin_image(&record::new_image(&plan, &origin, Vec::new()))?;
    std::fs::create_dir_all(&image.logs).or_failure(FailureKind::Environment, || {
        format!("cannot create {}", image.logs)
    })?;
    let identity = Identity {
        run: image.run.clone(),
        build: image.build,
        arn: image.arn.clone(),
        target: image.folder.clone(),
        runs: home.runs(),
        logs: image.logs.clone(),
    };
    let ledger = Box::new(ImageLedger::new(Arc::clone(&store), image.clone()));
    let log = LogFile::create(&identity.logs.join("events.ndjson"))
        .or_failure(FailureKind::Environment, || {
            format!("cannot write the log in {}", identity.logs)
        })?;
    let events = Events::new(vec![session.printer.reader(), Arc::new(log)]);
    let options = Options {
        on_error: args.on_error.into(),
        cancel: cancel_on_signal(),
        cache,
        warm: args.warm == Warm::Auto && !args.release,
        ..Options::default()
    };
    let baked = bake::bake(
        &plan,
        &provisions,
        &host,
        &identity,
        &options,
        events,
        ledger,
    )
    .await;
    if let Some(cache) = &options.cache {
        cache.shelf().collect(LAYER_LIMIT, false)?;
    }
    store.set_os(&image, &baked?.manifest.os.pretty_name)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing that goes into the image has changed since it was made: it is the result.
fn unchanged(session: &Session, image: &str, folder: &camino::Utf8Path) -> Result<ExitCode> {
    let printer = session.printer;
    printer.line(format!(
        "unchanged: {image} was made from exactly this\n  {folder}\n(--no-cache builds it again)"
    ));
    printer.value(&serde_json::json!({
        "type": "unchanged",
        "image": image,
        "folder": folder,
    }));
    Ok(ExitCode::SUCCESS)
}

/// The first Ctrl-C (or SIGTERM) cancels in order, the second ends the process at once; the kernel then ends QEMU.
pub fn cancel_on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        let mut count = 0;
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            count += 1;
            if count > 1 {
                std::process::exit(i32::from(FailureKind::Cancelled.exit_code()));
            }
            eprintln!("\ncancelling; press Ctrl-C again to end at once");
            cancel.cancel();
        }
    });
    token
}
