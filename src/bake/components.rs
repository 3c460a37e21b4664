//! Running component documents in the guest, across reboots, with the story of a failure kept.

use std::collections::VecDeque;

use camino::Utf8Path;
use ovenbird_component::errand::{Document, Preparation};
use ovenbird_component::event::{Event as AgentEvent, Status};
use serde_json::{Value, json};

use super::plan::PlannedComponent;
use super::provisions::Provisions;
use super::recorder::Recorder;
use crate::error::{Failure, FailureKind, Result};
use crate::events::{Event, MachineStart, StepKind};
use crate::guest::Guest;
use crate::guest::agent::{self, AgentExit, EVIDENCE_FOLDER, GUEST_FOLDER};
use crate::guest::ssh::SshError;
use crate::words::human_bytes;

/// The service's limit is a setting of its SSM agent; fifteen reboots are more than any sane component needs.
const REBOOT_LIMIT: u32 = 15;
/// Output lines kept for the report of a failure.
const KEPT_LINES: usize = 20;
/// Reports for people are small; so many bytes of them go with an image.
const EVIDENCE_LIMIT: usize = 64 * 1024 * 1024;
/// Logs of a run larger than this are not copied out of the guest.
const LOG_LIMIT: usize = 256 * 1024 * 1024;

/// Where the guest's apt is told of the package cache; sanitising removes it.
const PACKAGE_SETTINGS: &str = "/etc/apt/apt.conf.d/zz-ovenbird-bake";

/// Puts the documents into the guest, and tells its package manager on which port of its own it reaches the host's cache;
/// what a layer of an earlier bake says of one is over. All in one go: each command costs a round trip and a process.
///
/// # Errors
/// A guest failure if it can't be written.
pub async fn prepare(
    guest: &Guest,
    components: &[PlannedComponent],
    package_port: Option<u16>,
) -> Result<()> {
    let documents = components
        .iter()
        .enumerate()
        .map(|(index, component)| Document {
            file: format!("{}.yml", file_stem(index, component)),
            text: component.text.clone(),
        });
    let preparation = Preparation {
        folder: format!("{GUEST_FOLDER}/documents"),
        documents: documents.collect(),
        package_settings: PACKAGE_SETTINGS.into(),
        package_port,
    };
    let what = ("putting the documents into the guest", "prepare");
    agent::send_on_errand(guest.session(), what, &preparation).await
}

fn document_path(index: usize, component: &PlannedComponent) -> String {
    format!(
        "{GUEST_FOLDER}/documents/{}.yml",
        file_stem(index, component)
    )
}

/// `03-Web-Server`: unique among the components of a run.
fn file_stem(index: usize, component: &PlannedComponent) -> String {
    let name: String = component
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' || c == '_' {
                c
            } else {
                '-'
            }
        })
        .collect();
    format!("{index:02}-{name}")
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// All components; their position is part of their name in the guest.
    pub components: &'a [PlannedComponent],
    /// The one to run; all if none is given. Each document runs all its phases before the next one starts. A component
    /// that is run alone leaves its steps for later phases to refer to.
    pub only: Option<usize>,
    /// The phases; all if empty.
    pub phases: &'a [String],
    /// Where components work in the guest.
    pub working_directory: &'a str,
    /// What they get from the host.
    pub provisions: &'a Provisions,
}

impl<'a> Order<'a> {
    /// Those that have something to run, with their positions.
    fn chosen(&self) -> Vec<(usize, &'a PlannedComponent)> {
        self.components
            .iter()
            .enumerate()
            .filter(|(index, _)| self.only.is_none_or(|only| only == *index))
            .filter(|(_, component)| {
                self.phases.is_empty() || self.phases.iter().any(|name| component.has_phase(name))
            })
            .collect()
    }

    fn describe(&self) -> String {
        match self.phases {
            [] => "all phases".into(),
            [one] => format!("the phase {one}"),
            many => format!("the phases {}", many.join(", ")),
        }
    }

    /// Where a component that is run alone leaves its steps. Told apart by the name, not by the position: a layer is
    /// shared by recipes in which other components stand around it.
    fn state_folder(&self, index: usize) -> String {
        let name = &self.components[index].name;
        let before = self.components[..index]
            .iter()
            .filter(|other| other.name == *name)
            .count();
        format!(
            "{GUEST_FOLDER}/state/{}",
            file_stem(before, &self.components[index])
        )
    }

    /// The agent's configuration.
    fn config(&self, chosen: &[(usize, &PlannedComponent)]) -> Value {
        let documents: Vec<_> = chosen
            .iter()
            .map(|(index, component)| {
                let parameters: Vec<_> = component
                    .parameters
                    .iter()
                    .map(|(name, values)| json!({ "name": name, "value": values.join(",") }))
                    .collect();
                json!({
                    "path": document_path(*index, component),
                    "parameters": parameters,
                    "carriedFrom": self.state_folder(*index),
                })
            })
            .collect();
        let label = if self.phases.is_empty() {
            "all".into()
        } else {
            self.phases.join("-")
        };
        let mut config = json!({
            "documents": documents,
            "logDirectory": format!("{GUEST_FOLDER}/logs"),
            "stateDirectory": match self.only {
                Some(index) => self.state_folder(index),
                None => format!("{GUEST_FOLDER}/state/{label}"),
            },
            "executionId": format!("{label}-{}", uuid::Uuid::new_v4()),
            "workingDirectory": self.working_directory,
            "evidenceDirectory": EVIDENCE_FOLDER,
            "carry": self.only.is_some(),
        });
        if !self.phases.is_empty() {
            config["phases"] = self.phases.join(",").into();
        }
        config
    }
}

/// Runs what is ordered, across reboots of the guest.
///
/// # Errors
/// A component failure (a test failure for the phase `test`) that says what failed and shows its last output; a guest
/// failure if the guest is lost.
pub async fn run(
    guest: &mut Guest,
    order: Order<'_>,
    (step, recorder): (StepKind, &Recorder),
) -> Result<()> {
    let chosen = order.chosen();
    if chosen.is_empty() {
        return Ok(());
    }
    let mut config = order.config(&chosen);
    merge(&mut config, order.provisions.settings(guest).await?);
    // Through the pipe, not through a file: it may hold secrets.
    let config = config.to_string();
    let arguments = ["run", "--config", "-", "--events"];
    let mut story = Story::default();
    let mut reboots = 0;
    loop {
        let exit = agent::run(guest.session(), &arguments, config.as_bytes(), |event| {
            story.note(&event);
            if let Some(line) = story.activity(&event) {
                recorder.progress(step, line);
            }
            recorder.send(Event::Agent { event });
        })
        .await
        .map_err(|failure| match guest.machine().exited() {
            Some(_) => guest.lost(&order.describe()),
            None => failure.with_details(crate::guest::ladder::console_excerpt(guest.console())),
        })?;
        for line in guest.console_lines() {
            recorder.send(Event::Console { line });
        }
        match exit {
            AgentExit::Success => return Ok(()),
            AgentExit::Reboot => {
                reboots += 1;
                if reboots > REBOOT_LIMIT {
                    return Err(story.failure(
                        &chosen,
                        format!("the guest was rebooted {REBOOT_LIMIT} times and wants to be rebooted again"),
                    ));
                }
                recorder.progress(step, format!("rebooting ({reboots})"));
                recorder.send(Event::MachineStarted {
                    how: MachineStart::Reboot,
                });
                guest
                    .reboot(|climb| super::instance::tell(recorder, climb))
                    .await
                    .map_err(|failure| failure.context(story.place(&chosen)))?;
            }
            AgentExit::Failed => return Err(story.failure(&chosen, String::new())),
            AgentExit::Broken(status) => {
                let status = status.map_or_else(
                    || "without a status".into(),
                    |status| format!("with status {status}"),
                );
                return Err(story.failure(&chosen, format!("the agent ended {status}")));
            }
        }
    }
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// Copies the agent's log folders out of the guest into `folder`.
///
/// The archive comes from a guest that nobody has to trust: only plain files and folders below `folder` are written.
///
/// # Errors
/// A guest failure if they can't be read, an environment failure if they can't be written.
pub async fn fetch_logs(guest: &Guest, folder: &Utf8Path) -> Result<()> {
    let command = format!("cd {GUEST_FOLDER}/logs 2>/dev/null && tar -cf - . || true");
    let output = guest
        .session()
        .run(&command, &[], LOG_LIMIT)
        .await
        .map_err(|error| guest.lost("copying the logs").caused_by(error))?;
    unpack(&output.stdout, folder).map_err(|error| {
        Failure::environment(format!("cannot write the logs to {folder}")).caused_by(error)
    })
}

/// Copies what components have left for people into `folder`; nothing is made if there is none.
///
/// # Errors
/// A guest failure if it can't be read or is more than goes with an image, an environment failure if it can't be written.
pub async fn fetch_evidence(guest: &Guest, folder: &Utf8Path) -> Result<()> {
    let command =
        format!("cd {EVIDENCE_FOLDER} 2>/dev/null && [ -n \"$(ls -A)\" ] && tar -cf - . || true");
    let output = guest
        .session()
        .run(&command, &[], EVIDENCE_LIMIT)
        .await
        .map_err(|error| match error {
            SshError::TooMuch { .. } => Failure::guest(format!(
                "components left more than {} in {EVIDENCE_FOLDER}",
                human_bytes(EVIDENCE_LIMIT as u64)
            ))
            .with_hint("evidence is for people: reports and results, not data"),
            error => guest.lost("copying the evidence").caused_by(error),
        })?;
    if output.stdout.is_empty() {
        return Ok(());
    }
    unpack(&output.stdout, folder).map_err(|error| {
        Failure::environment(format!("cannot write the evidence to {folder}")).caused_by(error)
    })
}

fn unpack(archive: &[u8], folder: &Utf8Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_dir() {
            entry.set_preserve_permissions(false);
            // Refuses what would land outside of the folder.
            entry.unpack_in(folder)?;
        }
    }
    Ok(())
}

/// What the agent told, as far as a failure's report needs it.
#[derive(Debug, Default)]
struct Story {
    document: Option<usize>,
    phase: Option<String>,
    step: Option<String>,
    failed: Option<FailedStep>,
    lines: VecDeque<String>,
    document_message: Option<String>,
}

#[derive(Debug)]
struct FailedStep {
    document: usize,
    phase: String,
    step: String,
    message: Option<String>,
    lines: Vec<String>,
}

impl Story {
    fn note(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::DocumentStarted { document, .. } => self.document = Some(*document),
            AgentEvent::PhaseStarted { phase, .. } => self.phase = Some(phase.clone()),
            AgentEvent::StepStarted { step, .. } => {
                self.step = Some(step.clone());
                self.lines.clear();
            }
            AgentEvent::Output { text, .. } => {
                if self.lines.len() == KEPT_LINES {
                    self.lines.pop_front();
                }
                self.lines
                    .push_back(crate::machine::console::clean(text.as_bytes()));
            }
            AgentEvent::StepFinished {
                document,
                phase,
                step,
                status: Status::Failed,
                message,
                ..
            } if self.failed.is_none() => {
                self.failed = Some(FailedStep {
                    document: *document,
                    phase: phase.clone(),
                    step: step.clone(),
                    message: message.clone(),
                    lines: self.lines.iter().cloned().collect(),
                });
            }
            AgentEvent::DocumentFinished {
                status: Status::Failed,
                message: Some(message),
                ..
            } => self.document_message = Some(message.clone()),
            _ => {}
        }
    }

    /// The line that the step's row shows, if the event changes it.
    fn activity(&self, event: &AgentEvent) -> Option<String> {
        match event {
            AgentEvent::StepStarted { step, phase, .. } => Some(format!("{phase} {step}")),
            AgentEvent::Output { text, step, .. } => Some(format!(
                "{step}: {}",
                crate::machine::console::clean(text.as_bytes())
            )),
            _ => None,
        }
    }

    fn component<'a>(
        &self,
        chosen: &[(usize, &'a PlannedComponent)],
        document: Option<usize>,
    ) -> Option<&'a PlannedComponent> {
        chosen.get(document?).map(|(_, component)| *component)
    }

    /// `component X, step Y`.
    fn place(&self, chosen: &[(usize, &PlannedComponent)]) -> String {
        let component = self
            .component(chosen, self.document)
            .map_or("?", |component| component.name.as_str());
        match &self.step {
            Some(step) => format!("component {component}, step {step}"),
            None => format!("component {component}"),
        }
    }

    fn failure(&self, chosen: &[(usize, &PlannedComponent)], reason: String) -> Failure {
        let phase = match &self.failed {
            Some(failed) => failed.phase.as_str(),
            None => self.phase.as_deref().unwrap_or("?"),
        };
        let kind = if phase == "test" {
            FailureKind::Test
        } else {
            FailureKind::Component
        };
        let (place, message, lines) = match &self.failed {
            Some(failed) => {
                let component = self
                    .component(chosen, Some(failed.document))
                    .map_or("?", |component| component.name.as_str());
                (
                    format!("component {component}, phase {phase}, step {}", failed.step),
                    failed.message.clone(),
                    failed.lines.clone(),
                )
            }
            None => (
                format!("{}, phase {phase}", self.place(chosen)),
                self.document_message.clone(),
                self.lines.iter().cloned().collect(),
            ),
        };
        let reason = if reason.is_empty() {
            message.unwrap_or_else(|| "failed".into())
        } else {
            reason
        };
        let failure = Failure::new(kind, format!("{place}: {}", reason.trim()));
        if lines.is_empty() {
            failure
        } else {
            failure.with_details(format!(
                "last output of the step:\n  {}",
                lines.join("\n  ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::planned as component;
    use super::*;

    #[test]
    fn a_failure_tells_component_step_and_output() {
        let (a, b) = (component("a"), component("Web Server"));
        let chosen = [(0, &a), (3, &b)];
        let mut story = Story::default();
        for event in [
            AgentEvent::DocumentStarted {
                document: 1,
                name: "b".into(),
                path: "p".into(),
            },
            AgentEvent::StepStarted {
                document: 1,
                phase: "build".into(),
                step: "Install".into(),
                action: "ExecuteBash".into(),
                attempt: 1,
                max_attempts: 1,
                iteration: None,
            },
            AgentEvent::Output {
                document: 1,
                phase: "build".into(),
                step: "Install".into(),
                stream: ovenbird_component::event::OutputStream::Stderr,
                text: "E: no such \u{1b}[31mpackage".into(),
            },
            AgentEvent::StepFinished {
                document: 1,
                phase: "build".into(),
                step: "Install".into(),
                status: Status::Failed,
                exit_code: Some(100),
                message: Some("exit code 100".into()),
                seconds: 1.0,
            },
        ] {
            story.note(&event);
        }
        let failure = story.failure(&chosen, String::new());
        assert_eq!(failure.kind(), FailureKind::Component);
        assert_eq!(
            failure.to_string(),
            "component Web Server, phase build, step Install: exit code 100"
        );
        assert!(failure.details().unwrap().contains("E: no such package"));
        assert_eq!(
            document_path(3, &b),
            "/var/lib/ovenbird/documents/03-Web-Server.yml"
        );
    }

    #[test]
    fn logs_stay_in_their_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(root.path()).unwrap().join("logs");
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType| {
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(kind);
            header.set_size(if kind.is_file() { 2 } else { 0 });
            header.set_mode(0o644);
            if kind.is_symlink() {
                header.set_link_name("/etc").unwrap();
            }
            header.set_cksum();
            let data: &[u8] = if kind.is_file() { b"hi" } else { b"" };
            builder.append(&header, data).unwrap();
        };
        add("TOE_1/console.log", tar::EntryType::Regular);
        add("../escaped", tar::EntryType::Regular);
        add("link", tar::EntryType::Symlink);
        let archive = builder.into_inner().unwrap();
        unpack(&archive, &folder).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.join("TOE_1/console.log")).unwrap(),
            "hi"
        );
        assert!(!root.path().join("escaped").exists());
        assert!(!folder.join("link").exists());
    }
}
