//! What conditions ask of the machine.

use std::path::{Path, PathBuf};

use ovenbird_component::condition::Probe;

use crate::digest::{self, Algorithm};
use crate::platform::find_program;

/// Answers from the machine that the agent runs on.
#[derive(Debug, Clone)]
pub struct MachineProbe {
    working_directory: PathBuf,
}

impl MachineProbe {
    /// A probe that resolves relative paths from a folder.
    pub fn new(working_directory: &Path) -> Self {
        Self {
            working_directory: working_directory.to_owned(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.working_directory.join(path)
    }
}

impl Probe for MachineProbe {
    fn binary_exists(&self, name: &str) -> bool {
        find_program(name).is_some()
    }

    fn file_exists(&self, path: &str) -> bool {
        self.path(path).is_file()
    }

    fn folder_exists(&self, path: &str) -> bool {
        self.path(path).is_dir()
    }

    fn digest(&self, path: &str, algorithm: &str) -> Option<String> {
        digest::file(&self.path(path), Algorithm::from_word(algorithm)?).ok()
    }
}
