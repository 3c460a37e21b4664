//! `ovenbird build RECIPE`

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use camino::Utf8PathBuf;
use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::Session;
use crate::bake::cache::Cache;
use crate::bake::provisions::Provisions;
use crate::bake::resolve::{self, Overrides};
use crate::bake::{self, Identity, OnError, Options, run_folder};
use crate::catalog;
use crate::documents::{Body, load};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::events::{Events, LogFile};
use crate::machine::{Accelerator, Host};
use crate::store::{ImageLedger, NewImage, Store};

/// Room for layers; beyond it the longest unused go.
const LAYER_LIMIT: u64 = 20 << 30;

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recipe's file
    recipe: Utf8PathBuf,
    /// Folder for the finished image (it must not exist yet); default: below the home
    #[arg(short, long, value_name = "DIR")]
    destination: Option<Utf8PathBuf>,
    /// What to do with the guest if the bake fails
    #[arg(long, value_enum, default_value_t = OnErrorArg::Cleanup, value_name = "WHAT")]
    on_error: OnErrorArg,
    /// Use this accelerator instead of the one that the probe finds: kvm, hvf or tcg
    #[arg(long, value_name = "NAME")]
    accel: Option<Accelerator>,
    /// Virtual CPUs of the guest
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Do not boot and test the finished image
    #[arg(long)]
    no_tests: bool,
    /// Do everything anew: use no layer of an earlier build, and keep none
    #[arg(long)]
    no_cache: bool,
    /// Whether the build guest may go on from the saved memory of an earlier one
    #[arg(long, value_enum, default_value_t = Warm::Auto, value_name = "WHEN")]
    warm: Warm,
    /// For what will be shipped: the build guest is always booted, never resumed
    #[arg(long, conflicts_with = "warm")]
    release: bool,
    /// Also look for components in this folder (may be given several times)
    #[arg(long = "components", value_name = "DIR")]
    component_folders: Vec<Utf8PathBuf>,
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
    let (mut documents, diagnostics) = load(&args.recipe, &BTreeMap::new());
    let invalid = || {
        Failure::config(format!(
            "{} is not a valid recipe ({})",
            args.recipe,
            diagnostics.counts()
        ))
        .with_details(diagnostics.render())
    };
    if diagnostics.has_errors() {
        return Err(invalid());
    }
    documents.retain(|document| matches!(document.body, Body::ImageRecipe(_)));
    let [document] = &documents[..] else {
        return Err(Failure::config(format!(
            "{} holds {} image recipes",
            args.recipe,
            documents.len()
        ))
        .with_hint("name a file with one document of `kind: ImageRecipe`"));
    };
    let Body::ImageRecipe(recipe) = &document.body else {
        return Err(invalid());
    };
    if !diagnostics.is_empty() {
        session.printer.warn(diagnostics.render());
    }
    let parent = recipe
        .parent()
        .map_err(|complaint| Failure::config(complaint.message))?;
    let base = catalog::resolve(home.path(), &parent.to_string())?;
    let overrides = Overrides {
        destination: args.destination,
        cpus: args.cpus,
        memory_mib: args.memory,
        no_tests: args.no_tests,
        component_folders: args.component_folders,
    };
    let plan = resolve::plan(document, recipe, &base, &overrides)?;
    let provisions = Provisions::gather(&plan.components).await?;
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
    let image = store.begin_image(&NewImage {
        name: plan.name.clone(),
        version: plan.version.clone(),
        parent: format!("{}/{}", plan.parent.name, plan.parent.version),
        recipe: plan.recipe.to_string(),
        folder: plan.destination.clone(),
        ..NewImage::default()
    })?;
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
    let ledger = Box::new(ImageLedger::new(store, image));
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
    baked?;
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
