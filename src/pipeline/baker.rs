//! The edge between pipelines and guests: who bakes what a run has resolved.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use tokio_util::sync::CancellationToken;

use crate::bake::cache::Cache;
use crate::bake::provisions::Provisions;
use crate::bake::recorder::Ledger;
use crate::bake::{self, BakePlan, Identity, OnError, Options};
use crate::distribute;
use crate::error::Result;
use crate::events::Events;
use crate::machine::{Accelerator, Host, QemuSettings};
use crate::packages::{PackageCache, PackageSettings};
use crate::signing::Seal;
use crate::store::{Home, PACKAGES, Settings};

/// A bake with everything it needs.
pub struct Order {
    /// What to bake.
    pub plan: BakePlan,
    /// Who the image is.
    pub identity: Identity,
    /// The accelerator that was asked for.
    pub accelerator: Option<Accelerator>,
    /// What to do with the guest on failure.
    pub on_error: OnError,
    /// How long the tests may take.
    pub test_timeout: Duration,
    /// Whether the manifest has the packages.
    pub with_packages: bool,
    /// Where the finished image goes besides its folder.
    pub distribution: Option<distribute::Order>,
    /// When to stop.
    pub cancel: CancellationToken,
    /// Who is told of what happens.
    pub events: Events,
    /// Where states and steps are kept.
    pub ledger: Box<dyn Ledger>,
}

/// Somebody who bakes.
pub trait Baker {
    /// Bakes; the states of the image, its end too, go to the ledger. Tells which operating system the image has.
    ///
    /// # Errors
    /// Why there is no image.
    fn bake(&self, order: Order) -> impl Future<Output = Result<String>>;
}

/// Bakes in guests on this machine.
#[derive(Debug, Clone)]
pub struct LocalBaker {
    /// Where probes and layers are remembered.
    pub cache: Utf8PathBuf,
    /// What signs the images.
    pub signer: Option<Seal>,
    /// How QEMU runs.
    pub qemu: QemuSettings,
    /// Where packages come from.
    pub packages: PackageSettings,
}

impl LocalBaker {
    /// The baker of a home.
    ///
    /// # Errors
    /// [`FailureKind::Config`](crate::error::FailureKind::Config) if the home's settings can't be read, or the key that
    /// they name can't be used.
    pub fn of(home: &Home) -> Result<Self> {
        let settings = Settings::read(home)?;
        Ok(Self {
            cache: home.cache(),
            signer: settings.signing.seal(home.path(), None)?,
            qemu: settings.qemu,
            packages: settings.packages,
        })
    }
}

impl Baker for LocalBaker {
    async fn bake(&self, order: Order) -> Result<String> {
        let before = async {
            let provisions =
                Provisions::gather(&order.plan.components, &order.plan.local_values).await?;
            let arch = order.plan.machine.arch;
            let host = Host::find(arch, order.accelerator, &self.cache, &self.qemu).await?;
            let packages = if order.plan.machine.network.has_packages() {
                let folder = self.cache.join(PACKAGES);
                Some(Arc::new(
                    PackageCache::start(&folder, &self.packages).await?,
                ))
            } else {
                None
            };
            Ok((provisions, host, packages))
        };
        let (provisions, host, packages) = match before.await {
            Ok(found) => found,
            Err(failure) => {
                let failure: crate::error::Failure = failure;
                order.ledger.state("FAILED", Some(&failure.chain()))?;
                return Err(failure);
            }
        };
        let options = Options {
            packages,
            on_error: order.on_error,
            cancel: order.cancel,
            // Layers are reused, a finished image is not: each run of a pipeline has a build number of its own.
            cache: Some(Cache::new(&self.cache)),
            warm: true,
            test_timeout: Some(order.test_timeout),
            without_packages: !order.with_packages,
            distribution: order.distribution,
            signer: self.signer.clone(),
            ..Options::default()
        };
        let baked = bake::bake(
            &order.plan,
            &provisions,
            &host,
            &order.identity,
            &options,
            order.events,
            order.ledger,
        )
        .await;
        baked.map(|finished| finished.manifest.os.pretty_name)
    }
}
