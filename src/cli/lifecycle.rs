//! `ovenbird lifecycle preview|run|history`

use std::process::ExitCode;

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::json;

use super::Session;
use crate::documents::pipeline::PipelineStatus;
use crate::documents::{Kind, LifecyclePolicy};
use crate::error::{Failure, FailureKind, Result};
use crate::lifecycle::execute::{decide, find, policy_of, remarks};
use crate::lifecycle::{Execution, execute};
use crate::store::{ResourceFilter, Store};

/// Arguments of `lifecycle`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell what a policy would do to which images, and why; nothing is changed
    Preview {
        /// The policy's name or ARN
        policy: String,
    },
    /// Do what policies say
    Run {
        /// Names or ARNs of policies; all that are enabled if none is given
        policies: Vec<String>,
    },
    /// Show what a policy did
    History {
        /// The policy's name or ARN
        policy: String,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if there is no such policy, [`FailureKind::Environment`] if something could not be done.
pub fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let store = Store::open(&session.home)?;
    let now = Timestamp::now();
    match args.verb {
        Verb::Preview { policy } => preview(&store, session, &policy, now),
        Verb::Run { policies } => run_all(&store, session, &policies, now),
        Verb::History { policy } => history(&store, session, &policy),
    }
}

fn preview(store: &Store, session: &Session, name: &str, now: Timestamp) -> Result<ExitCode> {
    let (record, policy) = find(store, name)?;
    let decisions = decide(store, &policy, now)?;
    let printer = &session.printer;
    if let Some(remark) = remarks(&policy) {
        printer.warn(remark);
    }
    if policy.status == PipelineStatus::Disabled {
        printer.warn(format!("the policy {} is disabled", record.slug));
    }
    printer.value(&json!({ "policy": record.slug, "decisions": decisions }));
    if decisions.is_empty() {
        printer.line("the policy is about none of the images");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["ACTION", "IMAGE", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(decisions.into_iter().map(|decision| {
        vec![
            decision
                .action
                .map_or("keep", |action| action.as_str())
                .to_owned(),
            decision.arn,
            decision.reason,
        ]
    }));
    printer.table(&rows);
    Ok(ExitCode::SUCCESS)
}

fn run_all(store: &Store, session: &Session, names: &[String], now: Timestamp) -> Result<ExitCode> {
    let policies: Vec<(String, LifecyclePolicy)> = if names.is_empty() {
        store
            .resources(Kind::LifecyclePolicy, &ResourceFilter::default())?
            .iter()
            .map(|record| Ok((record.slug.clone(), policy_of(record)?)))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .filter(|(_, policy)| policy.status == PipelineStatus::Enabled)
            .collect()
    } else {
        names
            .iter()
            .map(|name| find(store, name).map(|(record, policy)| (record.slug, policy)))
            .collect::<Result<_>>()?
    };
    let printer = &session.printer;
    if let Some((slug, _)) = policies
        .iter()
        .find(|(_, policy)| policy.status == PipelineStatus::Disabled)
    {
        return Err(Failure::config(format!("the policy {slug} is disabled"))
            .with_hint("`status: ENABLED` in its document lets it run"));
    }
    if policies.is_empty() {
        printer.line("no policy is enabled");
    }
    let mut executions: Vec<Execution> = Vec::new();
    for (slug, policy) in &policies {
        if let Some(remark) = remarks(policy) {
            printer.warn(remark);
        }
        let execution = execute(store, slug, policy, now)?;
        printer.line(format!(
            "{slug}: {} {}",
            execution.lifecycle_execution_id, execution.status
        ));
        for result in &execution.results {
            printer.line(format!(
                "  {} {} {}: {}",
                result.status, result.action, result.image, result.reason
            ));
        }
        executions.push(execution);
    }
    printer.value(&executions);
    if executions
        .iter()
        .any(|execution| execution.status == "FAILED")
    {
        return Err(Failure::new(
            FailureKind::Environment,
            "not everything could be done",
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn history(store: &Store, session: &Session, name: &str) -> Result<ExitCode> {
    let (record, _) = find(store, name)?;
    let executions = store.lifecycle_executions(&record.slug)?;
    let printer = &session.printer;
    printer.value(&executions);
    if executions.is_empty() {
        printer.line(format!("{} has not run yet", record.slug));
    }
    for execution in executions {
        printer.line(format!(
            "{} {} {}",
            execution.started, execution.lifecycle_execution_id, execution.status
        ));
        for result in execution.results {
            printer.line(format!(
                "  {} {} {}: {}",
                result.status, result.action, result.image, result.reason
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
