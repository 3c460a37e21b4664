//! From what was typed to a plan: the part that `build` and `plan` share.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_component::source::nearest;

use super::Session;
use crate::bake::BakePlan;
use crate::bake::plan::CachePolicy;
use crate::bake::provisions::Provisions;
use crate::bake::record::RecipeOrigin;
use crate::bake::resolve::{self, Overrides};
use crate::catalog::progress::Silent;
use crate::catalog::{self, remote};
use crate::documents::{Body, Document, Kind, load};
use crate::error::{Failure, Result};
use crate::store::{Store, reference_of};

/// Which recipe, and what is overruled.
#[derive(Debug, clap::Args)]
pub struct RecipeArgs {
    /// The recipe's file, or NAME[/VERSION] of a recipe in the store
    pub recipe: String,
    /// Folder for the finished image (it must not exist yet); default: below the home
    #[arg(short, long, value_name = "DIR")]
    pub destination: Option<Utf8PathBuf>,
    /// Virtual CPUs of the guest
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// Memory of the guest in MiB
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u32>,
    /// Do not boot and test the finished image
    #[arg(long)]
    pub no_tests: bool,
    /// Run this component and those after it anew, even if a layer of an earlier build is there
    #[arg(long, value_name = "COMPONENT")]
    pub from: Option<String>,
    /// Whether the image is to become an AMI.
    #[arg(skip)]
    pub makes_amis: bool,
    /// Also look for components in this folder (may be given several times)
    #[arg(long = "components", value_name = "DIR")]
    pub component_folders: Vec<Utf8PathBuf>,
}

/// A recipe, resolved.
#[derive(Debug)]
pub struct Prepared {
    /// What would be done.
    pub plan: BakePlan,
    /// What the components get from the host.
    pub provisions: Provisions,
    /// Where the recipe came from.
    pub origin: RecipeOrigin,
}

impl Prepared {
    /// Reads and resolves the recipe.
    ///
    /// # Errors
    /// What is wrong with the recipe, its components, its parent, or the values that it refers to.
    pub async fn new(args: &RecipeArgs, session: &Session) -> Result<Self> {
        let store = Arc::new(Store::open(&session.home)?);
        let (document, origin) = find_recipe(&args.recipe, &store, session)?;
        let Body::ImageRecipe(recipe) = &document.body else {
            return Err(Failure::config(format!(
                "{} is no image recipe",
                args.recipe
            )));
        };
        let parent = recipe
            .parent()
            .map_err(|complaint| Failure::config(complaint.message))?;
        let home = session.home.path();
        let base = catalog::resolve(home, &remote::reference(home, &parent, &Silent).await?)?;
        let overrides = Overrides {
            destination: args.destination.clone(),
            cpus: args.cpus,
            memory_mib: args.memory,
            makes_amis: args.makes_amis,
            vulnerabilities: Some(session.home.vulnerabilities()),
            scan: false,
            no_tests: args.no_tests,
            component_folders: args.component_folders.clone(),
            store: Some(store),
            pinned: None,
        };
        let mut plan = resolve::plan(&document, recipe, &base, &overrides)?;
        if let Some(name) = &args.from {
            run_anew(&mut plan, name)?;
        }
        let provisions = Provisions::gather(&plan.components, &plan.local_values).await?;
        Ok(Self {
            plan,
            provisions,
            origin,
        })
    }
}

/// What lies on a layer that is made anew is made anew by itself.
fn run_anew(plan: &mut BakePlan, name: &str) -> Result<()> {
    let component = plan
        .components
        .iter_mut()
        .find(|component| component.name == name && component.has_phase("build"));
    if let Some(component) = component {
        if component.cache != CachePolicy::Never {
            component.cache = CachePolicy::Again;
        }
        return Ok(());
    }
    let names: Vec<&str> = plan
        .components
        .iter()
        .filter(|component| component.has_phase("build"))
        .map(|component| component.name.as_str())
        .collect();
    let failure = Failure::config(format!(
        "the recipe has no component `{name}` with a build phase"
    ));
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => failure.with_hint(format!("did you mean `{near}`?")),
        None => failure.with_hint(format!("it has {}", names.join(", "))),
    })
}

/// A file is meant if there is one, or if the text looks like one; else a recipe of the store.
fn find_recipe(wanted: &str, store: &Store, session: &Session) -> Result<(Document, RecipeOrigin)> {
    let path = Utf8Path::new(wanted);
    let looks_like_file = matches!(path.extension(), Some("yml" | "yaml" | "json"))
        || wanted.starts_with(['.', '/', '~']);
    if path.exists() || looks_like_file {
        let document = recipe_of_file(path, session)?;
        let file = camino::absolute_utf8(path)
            .map(Into::into)
            .unwrap_or_else(|_| wanted.to_owned());
        let origin = RecipeOrigin {
            arn: None,
            file: Some(file),
            digest: document.digest().to_string(),
        };
        return Ok((document, origin));
    }
    let record = store
        .resource(&reference_of(Kind::ImageRecipe, wanted)?)
        .map_err(|failure| failure.context(format!("there is no file {wanted}")))?;
    let origin = RecipeOrigin {
        arn: Some(record.arn.clone()),
        file: record.file.as_ref().map(ToString::to_string),
        digest: record.digest.clone(),
    };
    Ok((record.read()?, origin))
}

fn recipe_of_file(path: &Utf8Path, session: &Session) -> Result<Document> {
    let (mut documents, diagnostics) = load(path, &BTreeMap::new());
    if diagnostics.has_errors() {
        return Err(Failure::config(format!(
            "{path} is not a valid recipe ({})",
            diagnostics.counts()
        ))
        .with_details(diagnostics.render()));
    }
    if !diagnostics.is_empty() {
        session.printer.warn(diagnostics.render());
    }
    documents.retain(|document| matches!(document.body, Body::ImageRecipe(_)));
    match <[Document; 1]>::try_from(documents) {
        Ok([document]) => Ok(document),
        Err(documents) => Err(Failure::config(format!(
            "{path} holds {} image recipes",
            documents.len()
        ))
        .with_hint("name a file with one document of `kind: ImageRecipe`")),
    }
}
