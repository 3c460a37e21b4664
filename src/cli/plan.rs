//! `ovenbird plan RECIPE`

use std::process::ExitCode;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::Session;
use super::prepare::{Prepared, RecipeArgs};
use crate::bake::BakePlan;
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
pub struct Forecast {
    recipe: String,
    parent: String,
    steps: Vec<Step>,
    /// Guests that would be booted or resumed.
    boots: usize,
    /// Seconds, as far as earlier builds tell.
    expected_seconds: Option<f64>,
    outputs: Vec<&'static str>,
    /// The final folder, if one was asked for.
    destination: Option<Utf8PathBuf>,
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
    let mut forecast = Forecast::new(plan, &cache, &walk);
    if let Some((image, _)) = unchanged {
        forecast.boots = 0;
        forecast.expected_seconds = Some(0.0);
        forecast.unchanged = Some(image);
    }
    show(&forecast, session);
    Ok(ExitCode::SUCCESS)
}

impl Forecast {
    /// What a build that has something to do would do.
    pub fn new(plan: &BakePlan, cache: &Cache, walk: &Walk) -> Self {
        Self {
            recipe: format!("{}/{}", plan.name, plan.version),
            parent: format!("{}/{}", plan.parent.name, plan.parent.version),
            steps: steps(walk),
            boots: 1 + plan.tests.len(),
            expected_seconds: cache.expected_seconds(plan, walk),
            outputs: plan.outputs.iter().map(|format| format.as_str()).collect(),
            destination: plan.destination.clone(),
            unchanged: None,
        }
    }

    /// One line of it.
    pub fn brief(&self) -> String {
        let kept = self.steps.iter().filter(|step| step.hit).count();
        let first = self.steps.iter().find(|step| !step.hit);
        let mut parts = vec![format!("{} on {}", self.recipe, self.parent)];
        if kept > 0 {
            let saved: f64 = self.steps.iter().filter_map(|step| step.seconds).sum();
            let of = self.steps.len();
            parts.push(format!("{kept} of {of} layers kept, saves {saved:.0} s"));
        }
        if let Some(step) = first.filter(|_| kept > 0) {
            let reason = step.reason.as_deref().unwrap_or("not there");
            parts.push(format!("{} is run: {reason}", step.name));
        }
        parts.push(self.time());
        parts.join("; ")
    }

    fn time(&self) -> String {
        self.expected_seconds.map_or_else(
            || "time not known yet".into(),
            |seconds| format!("about {seconds:.0} s"),
        )
    }
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
    let count = match forecast.boots {
        1 => "1 guest".to_owned(),
        boots => format!("{boots} guests"),
    };
    let place = match &forecast.destination {
        Some(folder) => format!(" in {folder}"),
        None => String::new(),
    };
    printer.line(format!(
        "{count} to start, {}; makes {}{place}",
        forecast.time(),
        forecast.outputs.join(", ")
    ));
}
