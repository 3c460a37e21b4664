//! ExecuteDocument: a document inside a document.

use std::collections::BTreeMap;

use ovenbird_component::document::DEEPEST_NESTING;
use ovenbird_component::event::Status;
use serde_json::{Map, Value, json};

use super::attempt::Once;
use super::engine::{Engine, Frame, PartResult, Stop, trail_name};
use super::load;
use super::state::Kept;
use crate::config::split_list;
use crate::modules::Done;

impl Engine<'_> {
    /// Runs another document to its end. `key` is the place of its state.
    pub(super) fn execute_document(
        &mut self,
        caller: &Frame,
        key: &str,
        inputs: &Value,
        shown: &Value,
    ) -> Result<Once, Stop> {
        let failed = |message: String| {
            Ok(Once::Failed {
                message,
                exit_code: None,
            })
        };
        let path = inputs
            .get("document")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let base = self.working_directory.clone();
        let name = trail_name(path, Some(&base));
        if caller.trail.contains(&name) {
            return failed(format!(
                "the document {path} leads back to itself: {} -> {name}",
                caller.trail.join(" -> ")
            ));
        }
        if caller.trail.len() > DEEPEST_NESTING {
            return failed(format!(
                "the document {path} would be nested deeper than {DEEPEST_NESTING} levels"
            ));
        }
        let loaded = match self.state.nested.get(key) {
            Some(info) => load::again(self.config, &self.state, info),
            None => {
                let owner = inputs
                    .get("document-s3-bucket-owner")
                    .and_then(Value::as_str);
                let given = passed_parameters(inputs, shown);
                load::read(self.config, path, owner, Some(&base)).and_then(|bytes| {
                    load::first(self.config, &mut self.state, path, &bytes, &given)
                })
            }
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return failed(error.to_string()),
        };
        self.state
            .nested
            .insert(key.to_owned(), loaded.info.clone());
        self.save()?;
        self.frames.insert(key.to_owned(), loaded.document.clone());
        let phases = inputs
            .get("phases")
            .and_then(Value::as_str)
            .map(split_list)
            .unwrap_or_default();
        let mut trail = caller.trail.clone();
        trail.push(name);
        let frame = Frame {
            key: key.to_owned(),
            index: caller.index,
            document: loaded.document,
            info: loaded.info,
            trail,
        };
        let result = self.run_document(&frame, &phases)?;
        let output = self.nested_output(&frame, &result);
        if result.status == Status::Failed {
            // Counts and message of a failed run are there for the steps that run after it all the same.
            let kept = self.keep_output(output);
            if let Some((step, _)) = key.rsplit_once('/') {
                let state = self.state.steps.entry(step.to_owned()).or_default();
                state.outputs = vec![kept];
            }
            return failed(format!(
                "Document {path} failed! {}",
                result.message.unwrap_or_default()
            ));
        }
        Ok(Once::Done(Done {
            outputs: vec![output],
            exit_code: None,
        }))
    }

    /// The summary of a nested run, in the fields that references can read.
    fn nested_output(&self, frame: &Frame, result: &PartResult) -> Map<String, Value> {
        let prefix = format!("{}/", frame.key);
        let depth = frame.key.matches('/').count() + 2;
        let steps: Vec<_> = self
            .state
            .steps
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && key.matches('/').count() == depth)
            .map(|(_, step)| step.status)
            .collect();
        let count = |wanted: Status| {
            steps
                .iter()
                .filter(|status| **status == Some(wanted))
                .count()
        };
        let value = json!({
            "executionId": self.state.execution_id,
            "status": if result.status == Status::Failed { "failed" } else { "success" },
            "executedStepCount": steps.iter().flatten().count(),
            "failedStepCount": count(Status::Failed),
            "ignoredFailedStepCount": count(Status::IgnoredFailure),
            "failureMessage": result.message.clone().unwrap_or_default(),
            "logUrl": self.state.log_folder.display().to_string(),
        });
        match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// The parameters of the call; a secret among them stays one.
fn passed_parameters(inputs: &Value, shown: &Value) -> BTreeMap<String, Kept> {
    let list = |value: &Value| {
        value
            .get("parameters")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    list(inputs)
        .iter()
        .zip(list(shown))
        .filter_map(|(used, shown)| {
            let name = used.get("name")?.as_str()?.to_owned();
            Some((
                name,
                Kept::new(used.get("value")?.clone(), shown.get("value")?.clone()),
            ))
        })
        .collect()
}
