//! Values of references at run time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ovenbird_component::document::Document;
use ovenbird_component::reference::{Chain, Found, LoopField, Reference, Side, Stored, Values};
use serde_json::Value;

use super::state::{Kept, State};
use crate::config::RunConfig;

/// The iteration that a step is in.
#[derive(Debug, Clone)]
pub struct Iteration<'a> {
    /// Number, from 0.
    pub index: usize,
    /// The item or the counter.
    pub value: &'a Kept,
    /// The loop's own name.
    pub name: Option<&'a str>,
}

/// Everything that references of one step can see.
pub struct StepValues<'a> {
    /// The order, for stored values.
    pub config: &'a RunConfig,
    /// The run, for chained values.
    pub state: &'a State,
    /// The document.
    pub document: &'a Document,
    /// Values of its parameters.
    pub parameters: &'a BTreeMap<String, Kept>,
    /// Key of the document in the state.
    pub frame: &'a str,
    /// The loop's iteration, in a step with a loop.
    pub iteration: Option<Iteration<'a>>,
}

impl Values for StepValues<'_> {
    fn value(&self, reference: &Reference) -> Result<Found<'_>, String> {
        match reference {
            Reference::Name(name) => self.named(name),
            Reference::Loop { name, field } => self.looped(name, *field),
            Reference::Chain(chain) => self.chained(chain),
            Reference::Stored(Stored::Named(name)) => self.stored(name),
            Reference::Stored(Stored::ByParameter(name)) => {
                let Found::Value { text, .. } = self.named(name)? else {
                    return Err(format!("`{name}` has no value"));
                };
                self.stored(&text).map(own)
            }
            Reference::Stored(Stored::ByStored(name)) => {
                let Found::Value { text, .. } = self.stored(name)? else {
                    return Err(format!("`{name}` has no value"));
                };
                self.stored(&text).map(own)
            }
        }
    }
}

fn own(found: Found<'_>) -> Found<'static> {
    match found {
        Found::Value { text, secret } => Found::Value {
            text: Cow::Owned(text.into_owned()),
            secret,
        },
        Found::Literal => Found::Literal,
    }
}

/// A kept value as text.
fn kept<'a>(value: &'a Kept, what: &str) -> Result<Found<'a>, String> {
    let real = value.real().ok_or_else(|| {
        format!("{what} holds a secret, which is not kept across a restart of the agent; read it again after the reboot")
    })?;
    Ok(Found::Value {
        text: text_of(real),
        secret: value.secret,
    })
}

/// Text as it is; numbers, booleans and lists as JSON.
fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        Value::Array(items) if items.iter().all(Value::is_string) => Cow::Owned(
            items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("\n"),
        ),
        other => Cow::Owned(other.to_string()),
    }
}

impl StepValues<'_> {
    fn named(&self, name: &str) -> Result<Found<'_>, String> {
        if let Some(value) = self.parameters.get(name) {
            return kept(value, name);
        }
        self.document
            .constants
            .iter()
            .find(|constant| constant.name.value == name)
            .map(|constant| Found::Value {
                text: Cow::Borrowed(&constant.value),
                secret: false,
            })
            .ok_or_else(|| "it is neither a parameter nor a constant".to_owned())
    }

    fn looped(&self, name: &str, field: LoopField) -> Result<Found<'_>, String> {
        let Some(iteration) = &self.iteration else {
            // The language leaves this text alone in a step without a loop.
            return if name == "loop" {
                Ok(Found::Literal)
            } else {
                Err("this step has no loop of that name".to_owned())
            };
        };
        if name != "loop" && iteration.name != Some(name) {
            return Err("this step has no loop of that name".to_owned());
        }
        match field {
            LoopField::Index => Ok(Found::open(iteration.index.to_string())),
            LoopField::Value => kept(iteration.value, "the loop's value"),
        }
    }

    fn stored(&self, name: &str) -> Result<Found<'_>, String> {
        let (value, secret) = match (
            self.config.secrets.get(name),
            self.config.stored_values.get(name),
        ) {
            (Some(value), _) => (value, true),
            (None, Some(value)) => (value, false),
            (None, None) => {
                return Err(format!(
                    "no value for `{name}` was handed over for this run"
                ));
            }
        };
        if secret && value.trim_end_matches('\n').contains('\n') {
            return Err(format!(
                "the value of `{name}` has several lines; store it as base64"
            ));
        }
        Ok(Found::Value {
            text: Cow::Borrowed(value),
            secret,
        })
    }

    fn chained(&self, chain: &Chain) -> Result<Found<'_>, String> {
        let key = step_key(self.frame, self.document, &chain.phase, &chain.step)
            .ok_or_else(|| "there is no such step".to_owned())?;
        let Some(step) = self
            .state
            .steps
            .get(&key)
            .or_else(|| self.state.carried.get(&key))
            .filter(|step| step.status.is_some())
        else {
            return Err(format!(
                "the step `{}` of phase `{}` has not run in this run",
                chain.step, chain.phase
            ));
        };
        let objects = match chain.side {
            Side::Inputs => &step.inputs,
            Side::Outputs => &step.outputs,
        };
        let field_of = |object: &Kept| -> Option<Kept> {
            let shown = object.shown.get(&chain.field)?.clone();
            let used = object
                .used
                .as_ref()
                .and_then(|used| used.get(&chain.field))
                .cloned();
            let secret = object.secret && used.as_ref() != Some(&shown);
            Some(Kept {
                shown,
                secret,
                used,
            })
        };
        let missing = || format!("the step `{}` has no such value", chain.step);
        match chain.index {
            Some(index) => {
                let object = objects.get(index).ok_or_else(|| {
                    format!(
                        "the step `{}` has {} objects, so there is no index {index}",
                        chain.step,
                        objects.len()
                    )
                })?;
                kept(&field_of(object).ok_or_else(missing)?, "the value").map(own)
            }
            // Without an index, several objects read as one text with a line each.
            None => {
                let mut texts = Vec::new();
                let mut any_secret = false;
                for object in objects {
                    let Some(value) = field_of(object) else {
                        continue;
                    };
                    if let Found::Value { text, secret } = kept(&value, "the value")? {
                        any_secret |= secret;
                        texts.push(text.into_owned());
                    }
                }
                if texts.is_empty() {
                    return Err(missing());
                }
                Ok(Found::Value {
                    text: Cow::Owned(texts.join("\n")),
                    secret: any_secret,
                })
            }
        }
    }
}

/// Key of a step in the state. Positions instead of names: a name can hold any character.
pub fn step_key(frame: &str, document: &Document, phase: &str, step: &str) -> Option<String> {
    let phase_index = document
        .phases
        .iter()
        .position(|candidate| candidate.name.value == phase)?;
    let step_index = document.phases[phase_index]
        .steps
        .iter()
        .position(|candidate| candidate.name.value == step)?;
    Some(format!("{frame}/p{phase_index}/s{step_index}"))
}
