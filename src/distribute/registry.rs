//! A repository of a registry: ECR by its name alone, any other by its host.

use aws_config::SdkConfig;
use camino::Utf8Path;
use sha2::{Digest as _, Sha256};

use super::calls::Shown;
use super::plan::RegistryPlan;
use super::{Delivered, Journal, Source, Watcher};
use crate::catalog::Shelf;
use crate::catalog::progress::Progress;
use crate::error::Result;
use crate::registry::{self, ImageFolder, Item, Options, Registry, Target, ecr};
use crate::store::{Home, Settings};

/// The call, for a dry run: the registry's own calls depend on what it has already.
pub(super) fn call(plan: &RegistryPlan) -> Shown {
    let mut parameters = vec![("repository".to_owned(), plan.repository.clone())];
    parameters.extend(
        plan.ecr
            .iter()
            .map(|region| ("region".into(), region.clone())),
    );
    let tags = match plan.tags.as_slice() {
        [] => "{{ imagebuilder:buildVersion }}".into(),
        tags => tags.join(" "),
    };
    parameters.push(("tags".into(), tags));
    parameters.push(("as".into(), plan.shape.to_string()));
    Shown {
        destination: plan.name.clone(),
        service: if plan.ecr.is_some() {
            "ecr"
        } else {
            "registry"
        },
        action: "push".into(),
        parameters,
    }
}

async fn target(plan: &RegistryPlan, aws: &SdkConfig) -> Result<Target> {
    let aws = plan.access.to(aws).await;
    let options = Options {
        plain_http: plan.plain_http,
        aws: Some(aws.clone()),
        ..Options::default()
    };
    Ok(match &plan.ecr {
        Some(region) => Target::on_ecr(&aws, region, &plan.repository, options).await?,
        None => Target::new(plan.repository.parse()?, options),
    })
}

/// Pushes what the plan names. What the registry has already is not sent again, so another attempt does the rest.
pub(super) async fn deliver(
    plan: &RegistryPlan,
    source: &Source,
    home: &Home,
    aws: &SdkConfig,
    watcher: &dyn Watcher,
) -> Result<Delivered> {
    let target = Target {
        tags: plan.tags.clone(),
        shape: Some(plan.shape),
        create_repository: plan.create_repository,
        signer: Settings::read(home)?.signing.seal(home.path(), None)?,
        ..target(plan, aws).await?
    };
    let folder = ImageFolder::new(source.folder.clone(), source.manifest.clone());
    let item = Item::image(folder)?;
    let mut journal = Journal::open(
        &home.distributions(),
        &source.manifest.run,
        &journal_name(plan),
    )?;
    // A staging folder is locked, and cleared by the next one if this process is killed.
    let staging = Shelf::new(home.path()).stage()?;
    let told = Told {
        name: &plan.name,
        watcher,
    };
    let delivered = registry::deliver(&item, &target, staging.folder(), &told).await?;
    let digest = &delivered.pushed.digest;
    if !journal.stored.contains(digest) {
        journal.stored(digest)?;
    }
    for name in &delivered.attached {
        watcher.note(&plan.name, &format!("with {name}"));
    }
    if let Some(key) = &delivered.signed_by {
        watcher.note(&plan.name, &format!("signed by {key}"));
    }
    Ok(Delivered {
        destination: plan.name.clone(),
        places: delivered.places(),
        bytes: delivered.pushed.blobs.bytes,
    })
}

/// Removes the manifests that were put there; the registry collects their blobs.
pub(super) async fn remove(
    plan: &RegistryPlan,
    run: &str,
    journals: &Utf8Path,
    aws: &SdkConfig,
) -> Result<Vec<String>> {
    let mut journal = Journal::open(journals, run, &journal_name(plan))?;
    let mut removed = Vec::new();
    if journal.stored.is_empty() {
        return Ok(removed);
    }
    let target = target(plan, aws).await?;
    let reference = &target.reference;
    let place = format!("{}/{}", reference.registry, reference.repository);
    for digest in journal.stored.clone() {
        match (&plan.ecr, &target.options.aws) {
            (Some(_), Some(aws)) => ecr::delete(aws, &plan.repository, &digest).await?,
            _ => {
                let registry = Registry::new(reference, target.options.clone())?;
                registry.delete_manifest(&digest).await?;
            }
        }
        removed.push(format!("{place}@{digest}"));
        journal.gone(&digest)?;
    }
    Ok(removed)
}

/// The name of a repository's journal. The repository is part of it: a destination that is turned elsewhere starts anew.
fn journal_name(plan: &RegistryPlan) -> String {
    let region = plan.ecr.as_deref().unwrap_or_default();
    let place = format!("{region}\n{}", plan.repository);
    let digest = hex::encode(Sha256::digest(place));
    format!("registry-{}-{}", plan.name, &digest[..12])
}

/// What the push tells goes to whoever watches the distribution.
struct Told<'t> {
    name: &'t str,
    watcher: &'t dyn Watcher,
}

impl Progress for Told<'_> {
    fn stage(&self, name: &str) {
        self.watcher.note(self.name, name);
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        self.watcher.sent(self.name, done, total.unwrap_or(done));
    }

    fn line(&self, text: &str) {
        self.watcher.note(self.name, text);
    }
}
