//! A distribution that belongs to a bake: what is known of it before there is an image.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Plan, Source, Watcher, run, verdict};
use crate::documents::distribution::DistributionConfiguration;
use crate::documents::{Body, Document};
use crate::error::{Failure, Result};
use crate::events::Events;
use crate::store::Home;

/// Where an image shall go.
#[derive(Debug, Clone)]
pub struct Order {
    configuration: DistributionConfiguration,
    /// The folder that paths of the configuration are relative to.
    base: Utf8PathBuf,
    home: Home,
}

impl Order {
    /// The order that a document gives.
    ///
    /// # Errors
    /// [`FailureKind::Config`](crate::error::FailureKind::Config) if it is no distribution configuration.
    pub fn of_document(document: &Document, home: &Home) -> Result<Self> {
        let Body::DistributionConfiguration(configuration) = &document.body else {
            return Err(Failure::config(format!(
                "{} is no distribution configuration",
                document.origin.file
            )));
        };
        Ok(Self {
            configuration: configuration.clone(),
            base: document.folder().to_owned(),
            home: home.clone(),
        })
    }

    /// Whether the image becomes an AMI somewhere.
    pub fn makes_amis(&self) -> bool {
        self.configuration.makes_amis()
    }

    /// What it comes to for an image.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, source: &Source) -> Result<Plan> {
        Plan::new(&self.configuration, &self.base, source)
    }

    /// Distributes a bake's image; tells where it is now.
    ///
    /// # Errors
    /// What the plan or the destinations say, after all of them were tried.
    pub async fn of_bake(
        &self,
        folder: &Utf8Path,
        arn: &str,
        events: &Events,
    ) -> Result<((), String)> {
        let source = Source::read(folder)?;
        let plan = self.plan(&source)?;
        let aws = crate::aws::load().await;
        let outcomes = run(&plan, &source, &self.home, &aws, &Told(events)).await?;
        let hint =
            format!("`ovenbird image retry {arn}` does what is left; the image is in {folder}");
        let done = verdict(outcomes).map_err(|failure| match failure.hint() {
            Some(_) => failure.and_details(&hint),
            None => failure.with_hint(hint),
        })?;
        let places: Vec<String> = done.into_iter().flat_map(|done| done.places).collect();
        Ok(((), places.join(", ")))
    }
}

/// Notes go to the bake's events.
struct Told<'e>(&'e Events);

impl Watcher for Told<'_> {
    fn sent(&self, _destination: &str, _bytes: u64, _total: u64) {}

    fn note(&self, destination: &str, text: &str) {
        self.0.note(format!("{destination}: {text}"));
    }
}
