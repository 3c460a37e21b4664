//! The action modules.

mod bucket;
mod encoding;
mod execute;
mod files;
mod folders;
mod ownership;
mod paths;
mod probe;
mod reboot;
mod storage;
mod update_os;
mod web;
mod windows;

use std::io;
use std::path::Path;
use std::time::Instant;

use ovenbird_component::action::Action;
use serde_json::{Map, Value};

pub use probe::MachineProbe;
pub use storage::{fetch_object, upload_folder};

use crate::config::ObjectStore;
use crate::run::{Report, StepPlace};

/// What a module may use.
pub struct Context<'a> {
    /// Where it reports to.
    pub report: &'a Report,
    /// The step it runs for.
    pub place: &'a StepPlace,
    /// When it has to be done.
    pub deadline: Option<Instant>,
    /// Where commands run and relative paths start.
    pub working_directory: &'a Path,
    /// Where components leave what people shall see, if anybody collects it.
    pub evidence: Option<&'a Path>,
    /// A folder for temporary files, removed after the step.
    pub scratch: &'a Path,
    /// Object storage.
    pub object_store: &'a ObjectStore,
    /// Whether an earlier process was killed in the middle of this very execution: what it has done already is no
    /// reason to fail.
    pub repeated: bool,
    /// Where the number of finished inputs is noted, for a step with several.
    pub progress: Option<&'a Path>,
}

/// The outputs of one execution.
type Output = Map<String, Value>;

/// A module that did its work.
#[derive(Debug, Default)]
pub struct Done {
    /// Its outputs, one object per execution.
    pub outputs: Vec<Map<String, Value>>,
    /// Exit code of the program it ran.
    pub exit_code: Option<i32>,
}

/// A module that did not finish its work.
#[derive(Debug)]
pub enum Failure {
    /// It failed.
    Failed {
        /// Why.
        message: String,
        /// Exit code of the program it ran.
        exit_code: Option<i32>,
    },
    /// Its time ran out.
    TimedOut,
    /// The machine has to be rebooted, then the step runs again from its start.
    RebootAndRepeat,
    /// The machine has to be rebooted, then the run goes on behind this step.
    RebootAndGoOn {
        /// Seconds to wait before the reboot.
        delay_seconds: u64,
        /// What the module has put out already.
        outputs: Vec<Map<String, Value>>,
    },
}

impl Failure {
    /// A failure with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            exit_code: None,
        }
    }

    /// A failed operation on a path.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::new(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl Context<'_> {
    /// Fails when the step's time has run out, or the agent was told to end.
    ///
    /// # Errors
    ///
    /// [`Failure::TimedOut`], or a failure that nobody sees: the run stops.
    pub fn check_time(&self) -> Result<(), Failure> {
        if crate::process::told_to_end().is_some() {
            return Err(Failure::new("the agent was told to end"));
        }
        if self
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            return Err(Failure::TimedOut);
        }
        Ok(())
    }

    /// Inputs that a killed process had finished.
    fn finished(&self) -> usize {
        self.progress
            .filter(|_| self.repeated)
            .and_then(|path| std::fs::read_to_string(path).ok())
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Not synced: after a crash of the machine an earlier number only means that more is repeated.
    fn note_finished(&self, count: usize) -> Result<(), Failure> {
        let Some(path) = self.progress else {
            return Ok(());
        };
        let new = path.with_extension("new");
        std::fs::write(&new, count.to_string())
            .and_then(|()| std::fs::rename(&new, path))
            .map_err(|error| Failure::io("note the progress in", path, &error))
    }
}

/// Runs a module with inputs in canonical form. Assert and ExecuteDocument are the engine's own.
///
/// # Errors
///
/// Whatever keeps the module from finishing.
pub fn execute(context: &Context<'_>, action: Action, inputs: Value) -> Result<Done, Failure> {
    match action {
        Action::ExecuteBash => execute::bash(context, parse(inputs)?),
        Action::ExecuteBinary => execute::binary(context, parse(inputs)?),
        Action::S3Download => each(context, inputs, storage::download),
        Action::S3Upload => each(context, inputs, storage::upload),
        Action::WebDownload => web::download(context, inputs),
        Action::AppendFile => each(context, inputs, files::append),
        Action::CopyFile => each(context, inputs, files::copy),
        Action::CopyFolder => each(context, inputs, folders::copy),
        Action::CreateFile => each(context, inputs, files::create),
        Action::CreateFolder => each(context, inputs, folders::create),
        Action::CreateSymlink => each(context, inputs, files::symlink),
        Action::DeleteFile => each(context, inputs, files::delete),
        Action::DeleteFolder => each(context, inputs, folders::delete),
        Action::ListFiles => each_with_output(context, inputs, files::list),
        Action::MoveFile => each(context, inputs, files::rename),
        Action::MoveFolder => each(context, inputs, folders::rename),
        Action::ReadFile => each_with_output(context, inputs, encoding::read),
        Action::SetFileEncoding => each(context, inputs, encoding::set),
        Action::SetFileOwner => each(context, inputs, ownership::file_owner),
        Action::SetFolderOwner => each(context, inputs, ownership::folder_owner),
        Action::SetFilePermissions => each(context, inputs, ownership::file_permissions),
        Action::SetFolderPermissions => each(context, inputs, ownership::folder_permissions),
        Action::Reboot => reboot::request(parse(inputs)?),
        Action::UpdateOS => update_os::update(context, parse(inputs)?),
        Action::ExecutePowerShell
        | Action::InstallMSI
        | Action::UninstallMSI
        | Action::SetRegistry => windows::execute(context, action, inputs),
        Action::Assert | Action::ExecuteDocument => {
            Err(Failure::new(format!("{action} cannot be run as a module")))
        }
    }
}

/// Reads canonical inputs into a module's own type.
fn parse<T: serde::de::DeserializeOwned>(inputs: Value) -> Result<T, Failure> {
    serde_json::from_value(inputs).map_err(|error| Failure::new(format!("wrong inputs: {error}")))
}

fn items(inputs: Value) -> Vec<Value> {
    match inputs {
        Value::Array(items) => items,
        single => vec![single],
    }
}

/// Works off a list of inputs in order; the first failure ends it.
fn each<T: serde::de::DeserializeOwned>(
    context: &Context<'_>,
    inputs: Value,
    run: fn(&Context<'_>, T) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    let items = items(inputs);
    let several = items.len() > 1;
    let finished = if several { context.finished() } else { 0 };
    for (index, item) in items.into_iter().enumerate().skip(finished) {
        context.check_time()?;
        run(context, parse(item)?)?;
        if several {
            context.note_finished(index + 1)?;
        }
    }
    Ok(Done::default())
}

/// As [`each`], for modules with one output object per input.
fn each_with_output<T: serde::de::DeserializeOwned>(
    context: &Context<'_>,
    inputs: Value,
    run: fn(&Context<'_>, T) -> Result<Output, Failure>,
) -> Result<Done, Failure> {
    let mut done = Done::default();
    for item in items(inputs) {
        context.check_time()?;
        done.outputs.push(run(context, parse(item)?)?);
    }
    Ok(done)
}

/// An output object with one field.
fn output(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    std::iter::once((name.to_owned(), value.into())).collect()
}
