//! What was done for an image in a region, so that another attempt does only the rest.
//!
//! A file of one JSON value a line in the home, and not a table of the store: a disk has thousands of blocks, each is
//! noted when it arrived, and a line that a crash tore off costs no more than that block sent once more.

use std::io::Write as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::aws::ebs::{BlockDigest, BlockMap};
use crate::error::{FailureContext as _, FailureKind, Result};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Snapshot(String),
    Block(u64, String),
    Completed,
    Image(String),
    Finished,
}

/// The journal of one image in one region.
#[derive(Debug)]
pub struct Journal {
    path: Utf8PathBuf,
    file: std::fs::File,
    /// The snapshot that was started.
    pub snapshot: Option<String>,
    /// Blocks that arrived in it.
    pub blocks: BlockMap,
    /// Whether it was completed.
    pub completed: bool,
    /// The AMI.
    pub image: Option<String>,
    /// Whether there is nothing more to do in the region.
    pub finished: bool,
}

impl Journal {
    /// Opens the journal of a run's image in a region, or begins one.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be read or written.
    pub fn open(journals: &Utf8Path, run: &str, region: &str) -> Result<Self> {
        let folder = journals.join(run);
        let path = folder.join(format!("{region}.jsonl"));
        let cannot = || format!("cannot open the journal {path}");
        std::fs::create_dir_all(&folder).or_failure(FailureKind::Environment, cannot)?;
        let mut text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        }
        .or_failure(FailureKind::Environment, cannot)?;
        // A line that was torn off is dropped, else the next one would be joined to it.
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .or_failure(FailureKind::Environment, cannot)?;
        let kept = u64::try_from(text.len()).unwrap_or(u64::MAX);
        file.set_len(kept)
            .or_failure(FailureKind::Environment, cannot)?;
        let mut journal = Self {
            file,
            snapshot: None,
            blocks: BlockMap::new(),
            completed: false,
            image: None,
            finished: false,
            path: path.clone(),
        };
        for line in text.lines() {
            let line = serde_json::from_str(line).or_failure(FailureKind::Environment, || {
                format!("the journal {path} is damaged")
            })?;
            journal.take(line);
        }
        Ok(journal)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Snapshot(id) => {
                self.snapshot = Some(id);
                self.blocks.clear();
                self.completed = false;
            }
            Line::Block(index, digest) => {
                let mut bytes: BlockDigest = [0; 32];
                if hex::decode_to_slice(&digest, &mut bytes).is_ok() {
                    self.blocks.insert(index, bytes);
                }
            }
            Line::Completed => self.completed = true,
            Line::Image(id) => self.image = Some(id),
            Line::Finished => self.finished = true,
        }
    }

    fn write(&mut self, line: Line) -> Result<()> {
        let cannot = || format!("cannot write the journal {}", self.path);
        let mut text = serde_json::to_string(&line).or_failure(FailureKind::Internal, cannot)?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .or_failure(FailureKind::Environment, cannot)?;
        self.take(line);
        Ok(())
    }

    /// Notes a snapshot that was started; what was put into another is forgotten.
    ///
    /// # Errors
    /// As all that follow: [`FailureKind::Environment`] if it can't be written.
    pub fn started(&mut self, snapshot: &str) -> Result<()> {
        self.write(Line::Snapshot(snapshot.to_owned()))
    }

    /// Notes a block that arrived.
    ///
    /// # Errors
    /// As [`started`](Self::started).
    pub fn put(&mut self, index: u64, digest: &BlockDigest) -> Result<()> {
        self.write(Line::Block(index, hex::encode(digest)))
    }

    /// Notes that the snapshot has all blocks.
    ///
    /// # Errors
    /// As [`started`](Self::started).
    pub fn completed(&mut self) -> Result<()> {
        self.write(Line::Completed)
    }

    /// Notes an AMI.
    ///
    /// # Errors
    /// As [`started`](Self::started).
    pub fn registered(&mut self, image: &str) -> Result<()> {
        self.write(Line::Image(image.to_owned()))
    }

    /// Notes that nothing is left to do.
    ///
    /// # Errors
    /// As [`started`](Self::started).
    pub fn finished(&mut self) -> Result<()> {
        self.write(Line::Finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_costs_one_block() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let mut journal = Journal::open(folder, "r", "eu-west-1").unwrap();
        journal.started("snap-1").unwrap();
        journal.put(3, &[3; 32]).unwrap();
        let path = journal.path.clone();
        drop(journal);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"block\":[4,\"04");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(folder, "r", "eu-west-1").unwrap();
        assert_eq!(journal.snapshot.as_deref(), Some("snap-1"));
        assert_eq!(journal.blocks, BlockMap::from([(3, [3; 32])]));
        journal.put(4, &[4; 32]).unwrap();
        journal.completed().unwrap();
        let journal = Journal::open(folder, "r", "eu-west-1").unwrap();
        assert_eq!(journal.blocks.len(), 2);
        assert!(journal.completed && !journal.finished);
    }
}
