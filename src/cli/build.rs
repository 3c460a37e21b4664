//! `ovenbird build RECIPE`

use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use tokio_util::sync::CancellationToken;

use super::Session;
use super::distribute;
use super::plan::Forecast;
use super::prepare::{Prepared, RecipeArgs};
use crate::bake::attend::{TRACE, attend};
use crate::bake::cache::Cache;
use crate::bake::provisions::Provisions;
use crate::bake::{self, BakePlan, OnError, Options, Stage, record, run_folder};
use crate::error::{FailureKind, Result};
use crate::machine::{Accelerator, Host};
use crate::packages::PackageCache;
use crate::signing::Seal;
use crate::store::{ImageRecord, Settings, Store};

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
    /// Do not test again what passed before: only if the disk, the tests and the machine are the very same
    #[arg(long, conflicts_with = "no_cache")]
    reuse_tests: bool,
    /// Let the guest download packages from the mirrors themselves, not through the cache of this home
    #[arg(long)]
    no_package_cache: bool,
    /// Distribute the finished image: a distribution configuration, as a file or the name of one that was applied
    #[arg(long, value_name = "CONFIG")]
    to: Option<String>,
    /// Sign the finished image with this key (a file, or command:COMMAND) instead of the one that config.toml names
    #[arg(long, value_name = "KEY")]
    sign_key: Option<String>,
    /// Show at the end where the time went
    #[arg(long)]
    timings: bool,
}

impl How {
    /// What signs the image.
    fn signer(&self, session: &Session) -> Result<Option<Seal>> {
        let settings = Settings::read(&session.home)?.signing;
        settings.seal(session.home.path(), self.sign_key.as_deref())
    }
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
pub async fn run(mut args: Args, session: &Session) -> Result<ExitCode> {
    if let Some(to) = &args.how.to {
        args.recipe.makes_amis = distribute::order(to, session)?.makes_amis();
    }
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
            unchanged(session, &image, &folder);
            return match &args.to {
                Some(to) => distribute::at(to, &folder, session).await,
                None => Ok(ExitCode::SUCCESS),
            };
        }
        let forecast = Forecast::new(&plan, cache, &walk);
        session.printer.line(forecast.brief());
    }
    // A key that can't be used shows before anything is made.
    args.signer(session)?;
    let host = host(&plan, args, session).await?;
    let store = Arc::new(Store::open(home)?);
    store.fail_dead_builds()?;
    let image = store.begin_image(&record::new_image(&plan, &origin, Vec::new()))?;
    bake_image(
        &store,
        &image,
        Stage::Build,
        (plan, provisions),
        (host, cache),
        args,
        session,
    )
    .await
}

/// The host of the guests; software emulation that nobody asked for is worth a word.
///
/// # Errors
/// [`FailureKind::Environment`] if QEMU or an accelerator is missing.
pub async fn host(plan: &BakePlan, args: &How, session: &Session) -> Result<Host> {
    let settings = Settings::read(&session.home)?.qemu;
    let cache = session.home.cache();
    let host = Host::find(plan.machine.arch, args.accel, &cache, &settings).await?;
    if host.accelerator() == Accelerator::Tcg && args.accel.is_none() {
        session.printer.warn(format!(
            "software emulation, the guest will be slow: {}",
            host.verdict.reason
        ));
    }
    Ok(host)
}

/// Bakes an image that is on record, from the start or from its tests.
///
/// # Errors
/// What the bake says.
pub async fn bake_image(
    store: &Arc<Store>,
    image: &ImageRecord,
    from: Stage,
    (plan, provisions): (BakePlan, Provisions),
    (host, cache): (Host, Option<Cache>),
    args: &How,
    session: &Session,
) -> Result<ExitCode> {
    let attended = attend(store, &session.home, image, session.printer.reader())?;
    let settings = Settings::read(&session.home)?.packages;
    let packages =
        if args.no_package_cache || !plan.machine.network.has_packages() || from != Stage::Build {
            None
        } else {
            Some(Arc::new(
                PackageCache::start(&session.home.packages(), &settings).await?,
            ))
        };
    let options = Options {
        packages,
        on_error: args.on_error.into(),
        cancel: cancel_on_signal(),
        cache,
        warm: args.warm == Warm::Auto && !args.release,
        reuse_tests: args.reuse_tests,
        from,
        distribution: args
            .to
            .as_ref()
            .map(|to| distribute::order(to, session))
            .transpose()?,
        signer: args.signer(session)?,
        ..Options::default()
    };
    let baked = bake::bake(
        &plan,
        &provisions,
        &host,
        &attended.identity,
        &options,
        attended.events,
        attended.ledger,
    )
    .await;
    let trace = image.logs.join(TRACE);
    // A trace that can't be written costs nobody an image.
    let _ = attended.timings.write_trace(&trace);
    if args.timings && !session.printer.json {
        session.printer.table(&attended.timings.table());
        session.printer.line(format!(
            "as a trace for chrome://tracing or Perfetto: {trace}"
        ));
    }
    store.set_os(image, &baked?.manifest.os.pretty_name)?;
    Ok(ExitCode::SUCCESS)
}

/// Nothing that goes into the image has changed since it was made: it is the result.
fn unchanged(session: &Session, image: &str, folder: &camino::Utf8Path) {
    let printer = session.printer;
    printer.line(format!(
        "unchanged: {image} was made from exactly this\n  {folder}\n(--no-cache builds it again)"
    ));
    printer.value(&serde_json::json!({
        "type": "unchanged",
        "image": image,
        "folder": folder,
    }));
}

/// The first Ctrl-C (or SIGTERM) cancels in order, the second ends the process at once; the kernel then ends QEMU.
pub fn cancel_on_signal() -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    // Registered here and not in the task: a signal that comes before the task first runs must not end the process.
    let registered = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    let (Ok(mut interrupt), Ok(mut terminate)) = registered else {
        return token;
    };
    let cancel = token.clone();
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
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
