//! Does what a policy says.

use jiff::Timestamp;
use serde::Serialize;

use super::select::{Candidate, Condition, Decision, select};
use crate::documents::lifecycle::ActionType;
use crate::documents::{Body, Kind, LifecyclePolicy, Version};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};
use crate::output::Manifest;
use crate::store::{ImageFilter, ImageRecord, ImageState, ResourceRecord, Store};

/// What came of an execution.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Execution {
    /// `lce-UUID`.
    pub lifecycle_execution_id: String,
    /// SUCCESS or FAILED.
    pub status: &'static str,
    /// What was done, image by image.
    pub results: Vec<Outcome>,
}

/// What was done to an image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The image's ARN.
    pub image: String,
    /// DEPRECATE, DISABLE or DELETE.
    pub action: &'static str,
    /// SUCCESS or FAILED.
    pub status: &'static str,
    /// Why it was done, or why it could not be.
    pub reason: String,
}

/// The policy of a record.
///
/// # Errors
/// [`FailureKind::Environment`] if the record is damaged.
pub fn policy_of(record: &ResourceRecord) -> Result<LifecyclePolicy> {
    match record.read()?.body {
        Body::LifecyclePolicy(policy) => Ok(policy),
        _ => Err(Failure::new(
            FailureKind::Internal,
            format!("{} is not a lifecycle policy", record.label()),
        )),
    }
}

/// The policy of a name or an ARN.
///
/// # Errors
/// [`FailureKind::Config`] if there is none.
pub fn find(store: &Store, name: &str) -> Result<(ResourceRecord, LifecyclePolicy)> {
    let record = store.resource_named(Kind::LifecyclePolicy, name)?;
    let policy = policy_of(&record)?;
    Ok((record, policy))
}

/// What a policy says of the images that there are now.
///
/// # Errors
/// [`FailureKind::Environment`] if the store can't be read.
pub fn decide(store: &Store, policy: &LifecyclePolicy, now: Timestamp) -> Result<Vec<Decision>> {
    let finished = ImageFilter {
        states: ImageState::ALL
            .into_iter()
            .filter(|state| state.is_finished())
            .collect(),
        ..ImageFilter::default()
    };
    let images = store
        .images(&finished)?
        .into_iter()
        .map(candidate)
        .collect::<Result<Vec<_>>>()?;
    Ok(select(policy, &images, now))
}

/// What of a policy can't be looked at here, in words.
pub fn remarks(policy: &LifecyclePolicy) -> Option<String> {
    let rules = super::select::unknown_rules(policy);
    (!rules.is_empty()).then(|| {
        format!(
            "{} of `exclusionRules` speak of what only EC2 knows; they exclude nothing here",
            rules.join(", ")
        )
    })
}

fn candidate(image: ImageRecord) -> Result<Candidate> {
    let damaged = || format!("the record of {} is damaged", image.arn);
    let created = image
        .created
        .parse()
        .or_failure(FailureKind::Environment, damaged)?;
    let version: Version = image
        .version
        .parse()
        .or_failure(FailureKind::Environment, damaged)?;
    Ok(Candidate {
        condition: match image.state {
            ImageState::Deprecated => Condition::Deprecated,
            ImageState::Disabled => Condition::Disabled,
            _ => Condition::Available,
        },
        created,
        slug: image.slug().to_owned(),
        version: version.build(image.build),
        arn: image.arn,
        tags: image.tags,
    })
}

/// Executes a policy: decides, acts, and keeps a record of each image. What can't be done to one image doesn't keep the others
/// from it.
///
/// # Errors
/// [`FailureKind::Environment`] if the store fails.
pub fn execute(
    store: &Store,
    slug: &str,
    policy: &LifecyclePolicy,
    now: Timestamp,
) -> Result<Execution> {
    let id = format!("lce-{}", uuid::Uuid::new_v4());
    let decisions = decide(store, policy, now)?;
    store.begin_lifecycle(&id, slug, now)?;
    let mut results = Vec::new();
    for decision in decisions {
        let (Some(action), Some(detail)) = (decision.action, decision.detail) else {
            continue;
        };
        // The files of an image are what its AMI is in the service: they stay unless the policy includes them.
        let with_files = policy
            .policy_details
            .get(detail)
            .is_some_and(|detail| detail.action.include_resources.amis);
        let done = act(store, &decision, action, with_files, slug);
        let (status, reason) = match done {
            Ok(()) => ("SUCCESS", decision.reason),
            Err(failure) => ("FAILED", failure.chain()),
        };
        store.note_lifecycle(&id, &decision.arn, action, status, &reason)?;
        results.push(Outcome {
            image: decision.arn,
            action: action.as_str(),
            status,
            reason,
        });
    }
    let failed = results.iter().any(|result| result.status == "FAILED");
    let status = if failed { "FAILED" } else { "SUCCESS" };
    store.finish_lifecycle(&id, status, Timestamp::now())?;
    Ok(Execution {
        lifecycle_execution_id: id,
        status,
        results,
    })
}

fn act(
    store: &Store,
    decision: &Decision,
    action: ActionType,
    with_files: bool,
    policy: &str,
) -> Result<()> {
    let state = match action {
        ActionType::Deprecate => ImageState::Deprecated,
        ActionType::Disable => ImageState::Disabled,
        ActionType::Delete => ImageState::Deleted,
    };
    let image = store.find_image(&decision.arn)?;
    if action == ActionType::Delete && with_files {
        remove_files(&image)?;
    }
    let reason = format!("lifecycle policy {policy}: {}", decision.reason);
    store.set_state(&image, state, Some(&reason))
}

/// Removes the image's folder, if it is still this image's: somebody may have put another one there.
fn remove_files(image: &ImageRecord) -> Result<()> {
    let ours = Manifest::read(&image.folder).is_ok_and(|manifest| manifest.run == image.run);
    if !ours {
        return Ok(());
    }
    std::fs::remove_dir_all(&image.folder).or_failure(FailureKind::Environment, || {
        format!("cannot remove {}", image.folder)
    })
}
