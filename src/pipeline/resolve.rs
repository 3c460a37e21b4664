//! From a pipeline on record to a bake: recipe, parent, components, machine, whom to tell.

use std::sync::Arc;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bake::record::{self, RecipeOrigin};
use crate::bake::resolve::{self, Overrides};
use crate::bake::{BakePlan, OnError};
use crate::catalog::{self, BaseImage};
use crate::distribute::notices::{LogGroup, Notices};
use crate::documents::infrastructure::Notification;
use crate::documents::pipeline::StartCondition;
use crate::documents::{Body, ImagePipeline, InfrastructureConfiguration, Kind};
use crate::error::{Failure, FailureKind, Result};
use crate::infrastructure::{self, Chosen, HostSize};
use crate::machine::Accelerator;
use crate::schedule::Schedule;
use crate::store::{Home, InputRole, NewImage, ResourceFilter, ResourceRecord, Store};

/// A pipeline on record.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its name as in ARNs.
    pub slug: String,
    /// Its id.
    pub arn: String,
    /// SHA-256 of its content.
    pub digest: String,
    /// Since when it says what it says.
    pub since: Timestamp,
    /// What it says.
    pub document: ImagePipeline,
    record: ResourceRecord,
}

impl Pipeline {
    fn of(record: &ResourceRecord) -> Result<Self> {
        let document = record.read()?;
        let Body::ImagePipeline(body) = document.body else {
            return Err(Failure::new(
                FailureKind::Internal,
                format!("{} is not a pipeline", record.label()),
            ));
        };
        Ok(Self {
            slug: record.slug.clone(),
            arn: record.arn.clone(),
            digest: record.digest.clone(),
            since: record.updated.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            document: body,
            record: record.clone(),
        })
    }

    /// Its schedule; none if it runs only by hand.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if the schedule can't be read.
    pub fn schedule(&self) -> Result<Option<Schedule>> {
        let Some(schedule) = &self.document.schedule else {
            return Ok(None);
        };
        let Some(expression) = &schedule.schedule_expression else {
            return Ok(None);
        };
        Schedule::parse(expression, schedule.timezone.as_deref())
            .map(Some)
            .map_err(|error| Failure::from(error).context(format!("pipeline {}", self.slug)))
    }

    /// When a fitting time starts a run.
    pub fn start_condition(&self) -> StartCondition {
        self.document
            .schedule
            .as_ref()
            .map(|schedule| schedule.pipeline_execution_start_condition)
            .unwrap_or_default()
    }

    /// After how many failed scheduled runs in a row it is disabled.
    pub fn failure_limit(&self) -> Option<u32> {
        self.document
            .schedule
            .as_ref()?
            .auto_disable_policy
            .map(|policy| policy.failure_count)
    }
}

/// All pipelines on record, by name.
///
/// # Errors
/// [`FailureKind::Environment`] if the store can't be read.
pub fn all(store: &Store) -> Result<Vec<Pipeline>> {
    store
        .resources(Kind::ImagePipeline, &ResourceFilter::default())?
        .iter()
        .map(Pipeline::of)
        .collect()
}

/// The pipeline of a name or an ARN.
///
/// # Errors
/// [`FailureKind::Config`] if there is none.
pub fn find(store: &Store, name: &str) -> Result<Pipeline> {
    Pipeline::of(&store.resource_named(Kind::ImagePipeline, name)?)
}

/// What a run of a pipeline is going to do.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// What to bake.
    pub plan: BakePlan,
    /// The parent image; it can't be removed while this lives.
    pub base: BaseImage,
    /// The recipe on record.
    pub recipe: ResourceRecord,
    /// The infrastructure configuration on record.
    pub infrastructure: ResourceRecord,
    /// The distribution configuration on record.
    pub distribution: Option<ResourceRecord>,
    /// The machine that the infrastructure configuration means here.
    pub machine: Chosen,
    /// The accelerator that was asked for.
    pub accelerator: Option<Accelerator>,
    /// What to do with the guest on failure.
    pub on_error: OnError,
    /// A folder that gets a copy of the logs.
    pub log_folder: Option<Utf8PathBuf>,
    /// Whom to tell.
    pub notifications: Vec<Notification>,
    /// Where logs and news go in AWS.
    pub notices: Notices,
    /// What the person should know.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// What is kept beside the logs: which machine it was, with the tags that a build host has in the service.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if a record is damaged.
    pub fn machine_notes(&self) -> Result<Value> {
        Ok(json!({
            "instanceType": self.machine.instance_type,
            "machine": self.plan.machine,
            "infrastructureConfiguration": self.infrastructure.value()?,
        }))
    }
}

/// Resolves a pipeline to what a run at this moment would do; nothing is started or written.
///
/// # Errors
/// [`FailureKind::Config`] if something that it refers to is missing or does not fit.
pub fn resolve(store: &Arc<Store>, home: &Home, pipeline: &Pipeline) -> Result<Resolved> {
    let document = &pipeline.document;
    let Some(recipe_name) = &document.image_recipe_arn else {
        return Err(
            Failure::config(format!("the pipeline {} makes containers", pipeline.slug))
                .with_hint("pipelines with an `imageRecipeArn` can be run"),
        );
    };
    let mut warnings = Vec::new();
    if !document.workflows.is_empty() {
        warnings.push("workflows of one's own are not executed; the usual steps are".to_owned());
    }
    let recipe_record = store.resource_named(Kind::ImageRecipe, recipe_name)?;
    let recipe_document = recipe_record.read()?;
    let Body::ImageRecipe(recipe) = &recipe_document.body else {
        return Err(Failure::new(
            FailureKind::Internal,
            format!("{} is not a recipe", recipe_record.label()),
        ));
    };
    let infrastructure_record = store.resource_named(
        Kind::InfrastructureConfiguration,
        &document.infrastructure_configuration_arn,
    )?;
    let infrastructure_document = infrastructure_record.read()?;
    let Body::InfrastructureConfiguration(configuration) = &infrastructure_document.body else {
        return Err(Failure::new(
            FailureKind::Internal,
            format!(
                "{} is no infrastructure configuration",
                infrastructure_record.label()
            ),
        ));
    };
    let distribution = document
        .distribution_configuration_arn
        .as_ref()
        .map(|name| store.resource_named(Kind::DistributionConfiguration, name))
        .transpose()?;
    let parent = recipe
        .parent()
        .map_err(|complaint| Failure::config(complaint.message))?;
    let reference = catalog::remote::reference_blocking(home.path(), &parent)?;
    let base = catalog::resolve(home.path(), &reference)?;
    let machine = infrastructure::choose(configuration, base.architecture, HostSize::measure())?;
    warnings.extend(machine.warnings.iter().cloned());
    let makes_amis = match &distribution {
        Some(record) => match record.read()?.body {
            Body::DistributionConfiguration(configuration) => configuration.makes_amis(),
            _ => false,
        },
        None => false,
    };
    let overrides = Overrides {
        cpus: machine.cpus,
        memory_mib: machine.memory_mib,
        makes_amis,
        no_tests: !document.image_tests_configuration.image_tests_enabled,
        store: Some(Arc::clone(store)),
        vulnerabilities: Some(home.vulnerabilities()),
        scan: document
            .image_scanning_configuration
            .as_ref()
            .is_some_and(|scanning| scanning.image_scanning_enabled),
        ..Overrides::default()
    };
    let mut plan = resolve::plan(&recipe_document, recipe, &base, &overrides)?;
    if let Some(network) = configuration.local.network {
        plan.machine.network = network;
    }
    plan.tags.extend(document.image_tags.clone());
    Ok(Resolved {
        plan,
        base,
        recipe: recipe_record,
        accelerator: configuration.local.accelerator,
        on_error: on_error(configuration),
        log_folder: log_folder(configuration, infrastructure_record.file.as_ref()),
        infrastructure: infrastructure_record,
        distribution,
        notifications: configuration.local.notifications.clone(),
        notices: notices(pipeline, configuration),
        machine,
        warnings,
    })
}

/// What pipeline and infrastructure name of AWS. CloudWatch gets the logs of all pipelines in the service; here only of those that
/// have to do with AWS anyway, for this machine may have nothing to do with it.
fn notices(pipeline: &Pipeline, configuration: &InfrastructureConfiguration) -> Notices {
    let logs = configuration.logging.as_ref();
    let logs = logs.and_then(|logging| logging.s3_logs.as_ref());
    let logging = pipeline.document.logging_configuration.as_ref();
    Notices {
        logs: logs.and_then(|logs| {
            let prefix = logs.s3_key_prefix.clone().unwrap_or_default();
            Some((logs.s3_bucket_name.clone()?, prefix))
        }),
        group: match logging.and_then(|logging| logging.image_log_group_name.clone()) {
            _ if configuration.local.cloud_watch_logs == Some(false) => LogGroup::None,
            Some(named) => LogGroup::Named(named),
            None => {
                let has_aws = logs.is_some() || configuration.sns_topic_arn.is_some();
                match configuration.local.cloud_watch_logs.unwrap_or(has_aws) {
                    true => LogGroup::OfImage,
                    false => LogGroup::None,
                }
            }
        },
        topic: configuration.sns_topic_arn.clone(),
    }
}

/// `terminateInstanceOnFailure: false` leaves the guest to the person.
fn on_error(configuration: &InfrastructureConfiguration) -> OnError {
    if configuration.terminate_instance_on_failure {
        OnError::Cleanup
    } else {
        OnError::Keep
    }
}

/// Relative to the document, as all paths in documents.
fn log_folder(
    configuration: &InfrastructureConfiguration,
    file: Option<&Utf8PathBuf>,
) -> Option<Utf8PathBuf> {
    let folder = configuration.local.log_folder.as_ref()?;
    Some(match file.and_then(|file| file.parent()) {
        Some(parent) => parent.join(folder),
        None => folder.clone(),
    })
}

/// The image that a run begins, with everything that it is made from.
///
/// # Errors
/// [`FailureKind::Environment`] if a record is damaged.
pub fn new_image(pipeline: &Pipeline, resolved: &Resolved) -> Result<NewImage> {
    let recipe = &resolved.recipe;
    let origin = RecipeOrigin {
        arn: Some(recipe.arn.clone()),
        file: recipe.file.as_ref().map(ToString::to_string),
        digest: recipe.digest.clone(),
    };
    let infrastructure = (InputRole::Infrastructure, &resolved.infrastructure);
    let distribution = resolved
        .distribution
        .as_ref()
        .map(|record| (InputRole::Distribution, record));
    let configurations = [infrastructure]
        .into_iter()
        .chain(distribution)
        .chain([(InputRole::Pipeline, &pipeline.record)])
        .map(|(role, record)| record::configuration(role, record))
        .collect::<Result<_>>()?;
    Ok(record::new_image(&resolved.plan, &origin, configurations))
}
