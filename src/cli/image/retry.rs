//! `ovenbird image retry`

use std::process::ExitCode;
use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::bake::cache::Cache;
use crate::bake::provisions::Provisions;
use crate::bake::record::RecipeOrigin;
use crate::bake::resolve::{self, Overrides, Pinned};
use crate::bake::{Stage, run_folder};
use crate::catalog;
use crate::cli::Session;
use crate::cli::build::{self, How};
use crate::cli::distribute;
use crate::cli::prepare::Prepared;
use crate::distribute::{Source, record};
use crate::documents::{Body, Document, Kind};
use crate::error::{Failure, Result};
use crate::output::Manifest;
use crate::output::deliver::aside;
use crate::store::{ImageInput, ImageRecord, ImageState, InputRole, Store};

/// Goes on where a build ended. If only its distribution failed, that is finished. If its outputs were made and a test failed, they are tested again, and the image keeps its
/// number. Else it is built again from the inputs on record, as the next build of its version: layers that the failed build
/// left are used, so that the work goes on after the last component that succeeded.
///
/// # Errors
/// [`crate::error::FailureKind::Config`] if the image did not fail, or an input is no longer there; else what the bake says.
pub async fn run(
    store: Store,
    session: &Session,
    image: &ImageRecord,
    how: &How,
) -> Result<ExitCode> {
    if !matches!(image.state, ImageState::Failed | ImageState::Cancelled) {
        return Err(Failure::config(format!(
            "{} is {}: only builds that failed or were cancelled are retried",
            image.id(),
            image.state
        )));
    }
    if Manifest::read(&image.folder).is_ok_and(|manifest| manifest.run == image.run) {
        return distribute_again(&store, session, image).await;
    }
    let store = Arc::new(store);
    let inputs = store.inputs_of(image)?;
    let input = |role: InputRole| {
        inputs
            .iter()
            .find(|input| input.role == role)
            .ok_or_else(|| {
                Failure::config(format!(
                    "the record of {} does not hold its inputs",
                    image.id()
                ))
                .with_hint("it was made by an older version: build it anew")
            })
    };
    let (recipe, parent) = (input(InputRole::Recipe)?, input(InputRole::Parent)?);
    let mut value = store.recipe_of(image)?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
    }
    let label = format!("the recipe of {}", image.id());
    let mut document =
        Document::from_value(Kind::ImageRecipe, &value, &label).map_err(|diagnostics| {
            Failure::environment(format!("the record of {} is damaged", image.id()))
                .with_details(diagnostics.render())
        })?;
    if let Some(file) = &recipe.source {
        document.origin.file = file.into();
    }
    let Body::ImageRecipe(body) = &document.body else {
        return Err(Failure::config(format!("{label} is no image recipe")));
    };
    let base = base_of(session, parent, &body.parent_image)?;
    // Where it should have gone to is part of the request, not of the recipe.
    let own_place = image.folder.starts_with(session.home.images());
    let overrides = Overrides {
        destination: (!own_place).then(|| image.folder.clone()),
        pinned: Some(inputs.iter().filter_map(pinned).collect()),
        store: Some(Arc::clone(&store)),
        vulnerabilities: Some(session.home.vulnerabilities()),
        ..Overrides::default()
    };
    let plan = resolve::plan(&document, body, &base, &overrides)?;
    let provisions = Provisions::gather(&plan.components, &plan.local_values).await?;
    let prepared = Prepared {
        plan,
        provisions,
        origin: RecipeOrigin {
            arn: recipe.arn.clone(),
            file: recipe.source.clone(),
            digest: recipe.digest.clone().unwrap_or_default(),
        },
    };
    if aside(&image.folder).is_dir() {
        return test_again(store, session, image, prepared, how).await;
    }
    session.printer.line(format!(
        "a new build from the inputs of {}; what its build left in the cache is used",
        image.id()
    ));
    build::execute(prepared, how, session).await
}

/// Goes on with the distribution of an image that is finished but for it.
async fn distribute_again(
    store: &Store,
    session: &Session,
    image: &ImageRecord,
) -> Result<ExitCode> {
    let source = Source::read(&image.folder)?;
    let record = record::read(&session.home.distributions(), &image.run).map_err(|_| {
        Failure::config(format!("{} has no record of its distribution", image.id()))
            .with_hint(format!("`ovenbird distribute {} --to CONFIG`", image.id()))
    })?;
    let image = store.take_up_image(image, ImageState::Distributing)?;
    let aws = crate::aws::load().await;
    let ended = distribute::carry_out(&record.plan, &source, &aws, session).await;
    match &ended {
        Ok(_) => store.set_state(&image, ImageState::Available, None)?,
        Err(failure) => store.set_state(&image, ImageState::Failed, Some(&failure.chain()))?,
    }
    ended
}

/// Tests the outputs of an image again that its build set aside, and delivers them.
async fn test_again(
    store: Arc<Store>,
    session: &Session,
    image: &ImageRecord,
    prepared: Prepared,
    how: &How,
) -> Result<ExitCode> {
    let home = &session.home;
    // A guest that was kept for a look writes to a disk above these outputs.
    for (folder, record) in run_folder::list(&home.runs()) {
        if record.run == image.run {
            run_folder::release(&folder, &record)?;
        }
    }
    let Prepared {
        plan, provisions, ..
    } = prepared;
    let host = build::host(&plan, how, session).await?;
    let image = store.take_up_image(image, ImageState::Testing)?;
    session
        .printer
        .line(format!("testing the outputs of {} again", image.id()));
    let cache = Some(Cache::new(&home.cache()));
    let what = (plan, provisions);
    build::bake_image(
        &store,
        &image,
        Stage::Test,
        what,
        (host, cache),
        how,
        session,
    )
    .await
}

fn pinned(input: &ImageInput) -> Option<Pinned> {
    if input.role != InputRole::Component {
        return None;
    }
    Some(Pinned {
        version: input.version.clone(),
        arn: input.arn.clone(),
        path: Utf8PathBuf::from(input.source.clone().unwrap_or_default()),
        text: input.text.clone()?,
    })
}

/// The parent that the failed build stood on: the same version with the same digest.
fn base_of(session: &Session, parent: &ImageInput, written: &str) -> Result<catalog::BaseImage> {
    let home = session.home.path();
    // A parent that was given by path or address has no name in the catalogue.
    let base =
        catalog::resolve(home, &parent.label()).or_else(|_| catalog::resolve(home, written))?;
    if parent.digest.as_deref() != Some(&base.sha256) {
        return Err(Failure::config(format!(
            "the parent {} has changed since: it has another digest",
            parent.label()
        ))
        .with_details(format!(
            "then: {}\nnow:  {}",
            parent.digest.as_deref().unwrap_or("not on record"),
            base.sha256
        ))
        .with_hint("`ovenbird build` builds the recipe on what is there now"));
    }
    Ok(base)
}
