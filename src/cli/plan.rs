//! `ovenbird plan RECIPE`

use std::process::ExitCode;

use serde::Serialize;

use super::Session;
use super::prepare::{Prepared, RecipeArgs};
use crate::bake::cache::{Cache, Walk};
use crate::error::Result;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
}

/// What a build would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Forecast {
    recipe: String,
    parent: String,
    steps: Vec<Step>,
    /// Guests that would be booted or resumed.
    boots: usize,
    /// Seconds, as far as earlier builds tell.
    expected_seconds: Option<f64>,
    outputs: Vec<&'static str>,
    /// The finished image, if nothing would be done.
    unchanged: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    name: String,
    hit: bool,
    reason: Option<String>,
    /// Seconds that it took when it was made.
    seconds: Option<f64>,
}

/// Runs the verb.
///
/// # Errors
/// What resolving the recipe says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let prepared = Prepared::new(&args.recipe, session).await?;
    let plan = &prepared.plan;
    let cache = Cache::new(&session.home.cache());
    let walk = cache.walk(plan, &prepared.provisions)?;
    let unchanged = cache.finished(plan, &walk)?;
    let steps = steps(&walk);
    let boots = if unchanged.is_some() {
        0
    } else {
        1 + plan.tests.len()
    };
    let expected_seconds = match unchanged {
        Some(_) => Some(0.0),
        None => cache.expected_seconds(plan, &walk),
    };
    let forecast = Forecast {
        recipe: format!("{}/{}", plan.name, plan.version),
        parent: format!("{}/{}", plan.parent.name, plan.parent.version),
        steps,
        boots,
        expected_seconds,
        outputs: plan.outputs.iter().map(|format| format.as_str()).collect(),
        unchanged: unchanged.map(|(image, _)| image),
    };
    show(&forecast, session);
    Ok(ExitCode::SUCCESS)
}

fn steps(walk: &Walk) -> Vec<Step> {
    walk.wanted
        .iter()
        .enumerate()
        .map(|(index, wanted)| {
            let layer = walk.found.get(index);
            let reason = match index.checked_sub(walk.found.len()) {
                None => None,
                Some(0) => walk.reason.clone(),
                Some(_) => Some("what lies beneath it changed".into()),
            };
            Step {
                name: wanted.name.clone(),
                hit: layer.is_some(),
                reason,
                seconds: layer.map(|layer| layer.record().seconds),
            }
        })
        .collect()
}

fn show(forecast: &Forecast, session: &Session) {
    let printer = session.printer;
    printer.value(forecast);
    printer.line(format!("{} on {}", forecast.recipe, forecast.parent));
    if let Some(image) = &forecast.unchanged {
        printer.line(format!("nothing to do: {image} was made from exactly this"));
        return;
    }
    let mut rows = vec![vec!["STEP".to_owned(), "".to_owned(), "WHY".to_owned()]];
    rows.extend(forecast.steps.iter().map(|step| {
        let why = match (&step.reason, step.seconds) {
            (Some(reason), _) => reason.clone(),
            (None, Some(seconds)) => format!("saves {seconds:.1} s"),
            (None, None) => String::new(),
        };
        let word = if step.hit { "keep" } else { "run" };
        vec![step.name.clone(), word.to_owned(), why]
    }));
    printer.table(&rows);
    let time = forecast.expected_seconds.map_or_else(
        || "time not known yet".into(),
        |seconds| format!("about {seconds:.0} s"),
    );
    printer.line(format!(
        "{} guest{} to start, {time}; makes {}",
        forecast.boots,
        if forecast.boots == 1 { "" } else { "s" },
        forecast.outputs.join(", ")
    ));
}
