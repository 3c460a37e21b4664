//! The files that a run leaves for programs: detailedoutput.json, chaining.json and a JUnit report.

use std::io;

use ovenbird_component::document::{Document, LoopKind, Step};
use ovenbird_component::event::Status;
use serde_json::{Value, json};

use super::engine::{Engine, now};
use super::junit;
use super::state::{Kept, StepState};

/// Writes all records into the log folder.
pub(super) fn write(engine: &Engine<'_>) -> io::Result<()> {
    let folder = engine.log_folder();
    let detailed = detailed_output(engine);
    replace(
        &folder.join("detailedoutput.json"),
        &serde_json::to_vec_pretty(&detailed)?,
    )?;
    replace(
        &folder.join("chaining.json"),
        &indented_by_four(&chaining(engine))?,
    )?;
    replace(
        &folder.join("junit.xml"),
        junit::report(&detailed).as_bytes(),
    )
}

fn replace(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, path)
}

fn indented_by_four(value: &Value) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    Ok(bytes)
}

/// The documents at the top with their keys.
fn documents<'e>(engine: &'e Engine<'_>) -> impl Iterator<Item = (String, &'e str)> {
    engine
        .state
        .documents
        .iter()
        .enumerate()
        .map(|(index, info)| (format!("d{index}"), info.path.as_str()))
}

fn word(status: Option<Status>) -> &'static str {
    status.map_or("", Status::word)
}

fn detailed_output(engine: &Engine<'_>) -> Value {
    let summary = engine.summary();
    let documents: Vec<Value> = documents(engine)
        .filter_map(|(key, path)| document_record(engine, &key, path))
        .collect();
    json!({
        "executionId": summary.execution_id,
        "status": summary.status.word(),
        "startTime": engine.state.started,
        "endTime": now(),
        "failureMessage": summary.failure_message,
        "documents": documents,
    })
}

fn document_record(engine: &Engine<'_>, key: &str, path: &str) -> Option<Value> {
    let document = engine.frames.get(key)?;
    let span = engine.state.spans.get(key)?;
    let phases: Vec<Value> = document
        .phases
        .iter()
        .enumerate()
        .filter_map(|(index, phase)| {
            let phase_key = format!("{key}/p{index}");
            let span = engine.state.spans.get(&phase_key)?;
            let steps: Vec<Value> = phase
                .steps
                .iter()
                .enumerate()
                .filter_map(|(index, step)| {
                    step_record(engine, &format!("{phase_key}/s{index}"), step)
                })
                .collect();
            Some(json!({
                "name": phase.name.value,
                "status": word(span.status),
                "startTime": span.started,
                "endTime": span.ended,
                "failureMessage": span.message.clone().unwrap_or_default(),
                "steps": steps,
            }))
        })
        .collect();
    Some(json!({
        "name": document.name.clone().unwrap_or_default(),
        "filePath": path,
        "status": word(span.status),
        "description": document.description.clone().unwrap_or_default(),
        "startTime": span.started,
        "endTime": span.ended,
        "failureMessage": span.message.clone().unwrap_or_default(),
        "phases": phases,
    }))
}

fn step_record(engine: &Engine<'_>, key: &str, step: &Step) -> Option<Value> {
    let state = engine.state.steps.get(key)?;
    Some(json!({
        "name": step.name.value,
        "status": word(state.status),
        "failureMessage": if state.status == Some(Status::Skipped) { String::new() } else { state.message.clone().unwrap_or_default() },
        "timeoutSeconds": step.timeout.map_or(-1, |timeout| i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX)),
        "onFailure": step.on_failure.word(),
        "maxAttempts": step.max_attempts,
        "action": step.action.name(),
        "startTime": state.started,
        "endTime": state.ended,
        "inputs": as_text(&state.inputs),
        "outputs": as_text(&state.outputs),
        "loop": loop_record(step, state),
        "detailedOutput": nested_records(engine, key),
    }))
}

/// The documents that an ExecuteDocument step ran, one per iteration.
fn nested_records(engine: &Engine<'_>, key: &str) -> Value {
    let prefix = format!("{key}/i");
    let records: Vec<Value> = engine
        .state
        .nested
        .iter()
        .filter(|(nested, _)| {
            nested
                .strip_prefix(&prefix)
                .is_some_and(|rest| !rest.contains('/'))
        })
        .filter_map(|(nested, info)| document_record(engine, nested, &info.path))
        .collect();
    if records.is_empty() {
        Value::Null
    } else {
        Value::Array(records)
    }
}

/// A list as the text of its JSON, the way the reference has it.
fn as_text(values: &[Kept]) -> String {
    let shown: Vec<&Value> = values.iter().map(|value| &value.shown).collect();
    serde_json::to_string(&shown).unwrap_or_default()
}

fn loop_record(step: &Step, state: &StepState) -> Value {
    let Some(looping) = &step.looping else {
        return Value::Null;
    };
    let name = looping.name.as_ref().map(|name| name.value.clone());
    let items: Vec<&Value> = state
        .items
        .iter()
        .flatten()
        .map(|item| &item.shown)
        .collect();
    match &looping.kind {
        LoopKind::For {
            start,
            end,
            update_by,
        } => {
            json!({"name": name, "for": {"start": start, "end": end, "updateBy": update_by}})
        }
        LoopKind::Each(_) => json!({"name": name, "forEach": items}),
        LoopKind::Split { delimiter, .. } => {
            json!({"name": name, "forEach": {"list": items, "delimiter": delimiter.to_string()}})
        }
    }
}

fn chaining(engine: &Engine<'_>) -> Value {
    let documents: Vec<Value> = documents(engine)
        .filter_map(|(key, _)| {
            engine
                .frames
                .get(&key)
                .map(|document| chaining_document(engine, &key, document))
        })
        .collect();
    Value::Array(documents)
}

fn chaining_document(engine: &Engine<'_>, key: &str, document: &Document) -> Value {
    let selected = &engine.state.phases;
    let top = !key.contains('/');
    let phases: Vec<Value> = document
        .phases
        .iter()
        .enumerate()
        .map(|(index, phase)| {
            let phase_key = format!("{key}/p{index}");
            let is_selected = if top {
                selected.is_empty() || selected.contains(&phase.name.value)
            } else {
                engine.state.spans.contains_key(&phase_key)
            };
            let steps: Vec<Value> = phase
                .steps
                .iter()
                .enumerate()
                .map(|(index, step)| chaining_step(engine, &format!("{phase_key}/s{index}"), step))
                .collect();
            json!({"name": phase.name.value, "isSelected": is_selected, "steps": steps})
        })
        .collect();
    json!({"phases": phases})
}

fn chaining_step(engine: &Engine<'_>, key: &str, step: &Step) -> Value {
    let empty = StepState::default();
    let state = engine.state.steps.get(key).unwrap_or(&empty);
    let prefix = format!("{key}/i");
    let nested: Vec<Value> = engine
        .frames
        .iter()
        .filter(|(nested, _)| {
            nested
                .strip_prefix(&prefix)
                .is_some_and(|rest| !rest.contains('/'))
        })
        .map(|(nested, document)| chaining_document(engine, nested, document))
        .collect();
    json!({
        "name": step.name.value,
        "inputs": as_text(&state.inputs),
        "outputs": as_text(&state.outputs),
        "loop": loop_record(step, state),
        "documents": if nested.is_empty() { Value::Null } else { Value::Array(nested) },
    })
}
