//! All that is printed: one Printer for results and failures, one event reader for each kind of terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use ovenbird_component::event::{Event as AgentEvent, Status};
use serde::Serialize;

use crate::error::Failure;
use crate::events::{Event, LayerOutcome, Reader, Stamped, StepKind, StepOutcome};

/// What the person asked for in the way of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Printer {
    /// JSON on standard output, nothing else there.
    pub json: bool,
    /// How much: 0 steps, 1 also the console and the components' output.
    pub verbose: u8,
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const WARN: Style = AnsiColor::Yellow.on_default();
const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

impl Printer {
    /// Prints a line of result to standard output; not with `--json`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json {
            // A closed pipe (`| head`) is the reader's choice, not an error of ours.
            let _ = writeln!(anstream::stdout(), "{}", text.as_ref());
        }
    }

    /// Prints a value as JSON to standard output; only with `--json`.
    pub fn value(&self, value: &impl Serialize) {
        if self.json
            && let Ok(text) = serde_json::to_string_pretty(value)
        {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }

    /// Prints a table with aligned columns; the first row is the heading.
    pub fn table(&self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                rows.iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        if self.json {
            return;
        }
        // In one piece: a list of thousands would else cost a system call for each line.
        let mut out = String::new();
        for (index, row) in rows.iter().enumerate() {
            let start = out.len();
            if index == 0 {
                let _ = write!(out, "{BOLD}");
            }
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(out, "{cell:<width$}  ");
            }
            out.truncate(start + out[start..].trim_end().len());
            if index == 0 {
                let _ = write!(out, "{BOLD:#}");
            }
            out.push('\n');
        }
        let _ = anstream::stdout().write_all(out.as_bytes());
    }

    /// Prints a warning to standard error.
    pub fn warn(&self, text: impl AsRef<str>) {
        let _ = writeln!(
            anstream::stderr(),
            "{WARN}warning:{WARN:#} {}",
            text.as_ref()
        );
    }

    /// Prints a failure: message and causes, evidence, hint.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            let mut value = serde_json::json!({
                "type": "error",
                "kind": failure.kind(),
                "message": failure.chain(),
                "details": failure.details(),
                "hint": failure.hint(),
                "exitCode": failure.kind().exit_code(),
            });
            if let Some(fields) = value.as_object_mut() {
                fields.extend(failure.data().clone());
            }
            let _ = writeln!(std::io::stdout(), "{value}");
            return;
        }
        let mut err = anstream::stderr();
        let _ = writeln!(err, "{BAD}error:{BAD:#} {}", failure.chain());
        if let Some(details) = failure.details() {
            for line in details.lines() {
                let _ = writeln!(err, "  {line}");
            }
        }
        if let Some(hint) = failure.hint() {
            let _ = writeln!(err, "{GOOD}hint:{GOOD:#} {hint}");
        }
    }

    /// The reader that shows a build.
    pub fn reader(&self) -> Arc<dyn Reader> {
        if self.json {
            Arc::new(JsonLines)
        } else if std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        {
            Arc::new(Live::new(self.verbose))
        } else {
            Arc::new(Plain {
                verbose: self.verbose,
                started: Instant::now(),
            })
        }
    }
}

/// `--json`: the stream as it is.
struct JsonLines;

impl Reader for JsonLines {
    fn event(&self, event: &Event) {
        if let Ok(line) = serde_json::to_string(&Stamped::now(event)) {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}

/// Pipes and CI logs: a line for each thing, with the seconds since the start.
struct Plain {
    verbose: u8,
    started: Instant,
}

impl Reader for Plain {
    fn event(&self, event: &Event) {
        for text in lines_of(event, self.verbose) {
            let _ = writeln!(
                anstream::stderr(),
                "[{:>7.1}s] {text}",
                self.started.elapsed().as_secs_f64()
            );
        }
    }
}

/// A terminal: finished steps stand above, the running one shows its time and last line.
struct Live {
    verbose: u8,
    multi: MultiProgress,
    running: Mutex<Option<(StepKind, ProgressBar)>>,
}

impl Live {
    fn new(verbose: u8) -> Self {
        Self {
            verbose,
            multi: MultiProgress::new(),
            running: Mutex::new(None),
        }
    }

    fn print(&self, text: &str) {
        let _ = self.multi.println(text);
    }
}

impl Reader for Live {
    fn event(&self, event: &Event) {
        match event {
            Event::StepStarted { step, detail } => {
                let bar = self.multi.add(ProgressBar::new_spinner());
                if let Ok(style) =
                    ProgressStyle::with_template("  {spinner} {prefix:<24} {wide_msg} {elapsed:>4}")
                {
                    bar.set_style(style);
                }
                bar.set_prefix(step.as_str());
                bar.set_message(detail.clone());
                // Ten frames a second are enough for the eye and cost nothing.
                bar.enable_steady_tick(Duration::from_millis(100));
                if let Ok(mut running) = self.running.lock() {
                    *running = Some((*step, bar));
                }
            }
            Event::StepProgress { line, .. } => {
                if let Ok(running) = self.running.lock()
                    && let Some((_, bar)) = running.as_ref()
                {
                    bar.set_message(line.clone());
                }
            }
            Event::Rung { rung, .. } => {
                if let Ok(running) = self.running.lock()
                    && let Some((_, bar)) = running.as_ref()
                {
                    bar.set_message(rung.describe());
                }
            }
            Event::StepFinished { .. } => {
                if let Ok(mut running) = self.running.lock()
                    && let Some((_, bar)) = running.take()
                {
                    bar.finish_and_clear();
                }
            }
            _ => {}
        }
        // What the spinner shows need not be printed as well.
        if matches!(event, Event::StepStarted { .. } | Event::Rung { .. }) && self.verbose == 0 {
            return;
        }
        for text in lines_of(event, self.verbose) {
            self.print(&text);
        }
    }
}

/// The lines for an event, styled (the stream strips the style where it isn't wanted).
fn lines_of(event: &Event, verbose: u8) -> Vec<String> {
    match event {
        Event::BuildStarted { image, logs, .. } => {
            vec![format!("{BOLD}{image}{BOLD:#}  {DIM}logs: {logs}{DIM:#}")]
        }
        Event::StateChanged { .. } | Event::StepProgress { .. } | Event::Bytes { .. } => Vec::new(),
        Event::StepStarted { step, detail } => vec![format!("  start {step:<24} {detail}")],
        Event::StepFinished {
            step,
            outcome,
            seconds,
            detail,
        } => {
            let (style, word) = match outcome {
                StepOutcome::Completed => (GOOD, "done "),
                StepOutcome::Skipped => (DIM, "skip "),
                StepOutcome::Failed => (BAD, "fail "),
                StepOutcome::Cancelled => (WARN, "stop "),
            };
            vec![format!(
                "  {style}{word}{style:#} {:<24} {detail}  {DIM}{seconds:.1} s{DIM:#}",
                step.as_str()
            )]
        }
        Event::Rung { rung, seconds } => vec![format!(
            "        {DIM}{seconds:>6.1} s  {}{DIM:#}",
            rung.describe()
        )],
        Event::MachineStarted { .. } => Vec::new(),
        Event::Layer {
            name,
            outcome,
            reason,
            ..
        } => layer_lines(name, *outcome, reason.as_deref(), verbose),
        Event::Console { line } if verbose > 0 => vec![format!("        {DIM}|{DIM:#} {line}")],
        Event::Console { .. } => Vec::new(),
        Event::Agent { event } => agent_lines(event, verbose),
        Event::Note { message } => message
            .lines()
            .map(|line| format!("        {line}"))
            .collect(),
        Event::Warning { message } => vec![format!("  {WARN}warn {WARN:#} {message}")],
        Event::BuildFinished {
            state,
            folder,
            seconds,
            ..
        } => {
            let style = if state == "AVAILABLE" { GOOD } else { BAD };
            let place = folder
                .as_ref()
                .map(|folder| format!("  {folder}"))
                .unwrap_or_default();
            vec![format!(
                "{style}{state}{style:#} after {seconds:.1} s{place}"
            )]
        }
    }
}

fn layer_lines(
    name: &str,
    outcome: LayerOutcome,
    reason: Option<&str>,
    verbose: u8,
) -> Vec<String> {
    match outcome {
        LayerOutcome::Found => vec![format!("  {GOOD}keep {GOOD:#} {name}")],
        LayerOutcome::Missing => {
            let reason = reason
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            vec![format!("  make  {name} and what follows{reason}")]
        }
        LayerOutcome::Made if verbose > 0 => vec![format!("        layer of {name} kept")],
        LayerOutcome::Made => Vec::new(),
    }
}

fn agent_lines(event: &AgentEvent, verbose: u8) -> Vec<String> {
    match event {
        AgentEvent::StepFinished {
            phase,
            step,
            status,
            message,
            seconds,
            ..
        } => {
            let style = if *status == Status::Failed { BAD } else { DIM };
            let message = match message {
                Some(message) if *status != Status::Success => format!(": {message}"),
                _ => String::new(),
            };
            vec![format!(
                "        {style}{}{style:#} {phase} {step}{message}  {DIM}{seconds:.1} s{DIM:#}",
                status.word()
            )]
        }
        AgentEvent::DocumentStarted { name, .. } => vec![format!("        {name}")],
        AgentEvent::Output { text, .. } if verbose > 0 => {
            vec![format!(
                "        {DIM}>{DIM:#} {}",
                crate::machine::console::clean(text.as_bytes())
            )]
        }
        AgentEvent::Log { level, message }
            if verbose > 0 || *level == ovenbird_component::event::LogLevel::Error =>
        {
            vec![format!(
                "        {DIM}agent: {}{DIM:#}",
                crate::machine::console::clean(message.as_bytes())
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(event: &Event, verbose: u8) -> String {
        let styled = lines_of(event, verbose).join("\n");
        anstream::adapter::strip_str(&styled).to_string()
    }

    #[test]
    fn a_finished_step_is_one_line() {
        let event = Event::StepFinished {
            step: StepKind::CreateOutputImage,
            outcome: StepOutcome::Completed,
            seconds: 12.34,
            detail: "raw, oci".into(),
        };
        insta::assert_snapshot!(plain(&event, 0), @"  done  CreateOutputImage        raw, oci  12.3 s");
    }

    #[test]
    fn the_console_is_shown_only_when_asked_for() {
        let event = Event::Console {
            line: "hello".into(),
        };
        assert_eq!(plain(&event, 0), "");
        assert_eq!(plain(&event, 1), "        | hello");
    }
}
