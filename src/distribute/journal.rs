//! What was done for an image at a destination, so that another attempt does only the rest, and so that all of it can be
//! removed again.
//!
//! A file of one JSON value a line in the home, and not a table of the store: a disk has thousands of blocks, each is
//! noted when it arrived, and a line that a crash tore off costs no more than that block sent once more.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::aws::ebs::{BlockDigest, BlockMap};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// A snapshot will be started with this token.
    Starting(String),
    /// It was, at this time in seconds of Unix; above this parent, if there is one.
    Snapshot(String, i64, Option<String>),
    Block(u64, String),
    Completed,
    /// A snapshot or an AMI is no longer there.
    Gone(String),
    /// An AMI's name and id.
    Image(String, String),
    /// A launch template's version for an AMI: template, AMI, version.
    Template(String, String, String),
    /// What was asked for is done; the digest is that of the plan.
    Finished(String),
    /// An upload of a file was begun.
    Upload(Upload),
    /// A part of an upload arrived: upload's id, number, tag and checksum.
    Part(String, u32, Part),
    /// A file is in the bucket: its key.
    Stored(String),
    /// An upload was given up or is complete.
    UploadEnded(String),
    /// An import was begun: the task's id.
    Importing(String),
    /// It made this snapshot, at this time in seconds of Unix.
    ImportedSnapshot(String, i64),
    /// It made this AMI, whose name the service chose.
    Imported(String),
    /// An export of an AMI was begun: the AMI's id and the task's.
    Exporting(String, String),
}

/// An upload of several parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// The service's id.
    pub id: String,
    /// The key.
    pub key: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Bytes of each part but the last.
    pub part_size: u64,
}

/// A part that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// The service's tag.
    pub etag: String,
    /// The checksum that was sent with it.
    pub checksum: Option<String>,
}

/// The journal of one image at one destination.
#[derive(Debug)]
pub struct Journal {
    path: Utf8PathBuf,
    /// None of a journal that is only read.
    file: Option<File>,
    /// The token of a start whose answer is not known.
    pub token: Option<String>,
    /// The snapshot that was started.
    pub snapshot: Option<String>,
    /// When, in seconds of Unix.
    pub started: i64,
    /// The snapshot that it stands on.
    pub parent: Option<String>,
    /// Blocks that arrived in it.
    pub blocks: BlockMap,
    /// Whether it was completed.
    pub completed: bool,
    /// Whether the snapshot holds those blocks and no others: of one that was imported they are not known.
    pub mapped: bool,
    /// AMIs by name.
    pub images: BTreeMap<String, String>,
    /// Versions of launch templates, by template and AMI.
    pub templates: BTreeMap<(String, String), String>,
    /// The digest of the last plan that was carried out.
    pub finished: Option<String>,
    /// Uploads that are neither complete nor given up, by key.
    pub uploads: BTreeMap<String, Upload>,
    /// Their parts, by the upload's id.
    pub parts: BTreeMap<String, BTreeMap<u32, Part>>,
    /// Keys of files in the bucket, or digests of manifests in the repository.
    pub stored: Vec<String>,
    /// The task that imports the disk.
    pub import: Option<String>,
    /// An AMI that an import made, under a name of the service.
    pub imported: Option<String>,
    /// Tasks that export AMIs, by AMI.
    pub exports: BTreeMap<String, String>,
}

fn path_of(journals: &Utf8Path, run: &str, destination: &str) -> Utf8PathBuf {
    journals.join(run).join(format!("{destination}.jsonl"))
}

fn whole_lines(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    &bytes[..end.map_or(0, |end| end + 1)]
}

impl Journal {
    /// Opens the journal of a run's image at a destination, or begins one. It is this process's alone until it is dropped.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be read or written, or another process has it.
    pub fn open(journals: &Utf8Path, run: &str, destination: &str) -> Result<Self> {
        let path = path_of(journals, run, destination);
        let cannot = || format!("cannot open the journal {path}");
        std::fs::create_dir_all(journals.join(run)).or_failure(FailureKind::Environment, cannot)?;
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .create(true)
            .append(true)
            .open(&path)
            .or_failure(FailureKind::Environment, cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::environment(format!(
                    "another process distributes this image to {destination}"
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::environment(cannot()).caused_by(error));
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .or_failure(FailureKind::Environment, cannot)?;
        // A line that was torn off is dropped, else the next one would be joined to it.
        let kept = whole_lines(&bytes).len();
        file.set_len(u64::try_from(kept).unwrap_or(u64::MAX))
            .or_failure(FailureKind::Environment, cannot)?;
        Self::of_lines(path, Some(file), &bytes[..kept])
    }

    /// Reads a journal that may be another's; one that is not there is empty.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] if it can't be read.
    pub fn read(journals: &Utf8Path, run: &str, destination: &str) -> Result<Self> {
        let path = path_of(journals, run, destination);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read,
        }
        .or_failure(FailureKind::Environment, || {
            format!("cannot read the journal {path}")
        })?;
        Self::of_lines(path, None, whole_lines(&bytes))
    }

    fn of_lines(path: Utf8PathBuf, file: Option<File>, bytes: &[u8]) -> Result<Self> {
        let mut journal = Self {
            file,
            token: None,
            snapshot: None,
            started: 0,
            parent: None,
            blocks: BlockMap::new(),
            completed: false,
            mapped: true,
            images: BTreeMap::new(),
            templates: BTreeMap::new(),
            finished: None,
            uploads: BTreeMap::new(),
            parts: BTreeMap::new(),
            stored: Vec::new(),
            import: None,
            imported: None,
            exports: BTreeMap::new(),
            path,
        };
        for line in bytes.split(|byte| *byte == b'\n') {
            if line.is_empty() {
                continue;
            }
            let line = serde_json::from_slice(line).or_failure(FailureKind::Environment, || {
                format!("the journal {} is damaged", journal.path)
            })?;
            journal.take(line);
        }
        Ok(journal)
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Starting(token) => self.token = Some(token),
            Line::Snapshot(id, started, parent) => {
                self.snapshot = Some(id);
                self.started = started;
                self.parent = parent;
                self.token = None;
                self.blocks.clear();
                self.completed = false;
                self.mapped = true;
            }
            Line::ImportedSnapshot(id, started) => {
                self.snapshot = Some(id);
                self.started = started;
                self.parent = None;
                self.import = None;
                self.blocks.clear();
                self.completed = true;
                self.mapped = false;
            }
            Line::Block(index, digest) => {
                let mut bytes: BlockDigest = [0; 32];
                if hex::decode_to_slice(&digest, &mut bytes).is_ok() {
                    self.blocks.insert(index, bytes);
                }
            }
            Line::Completed => self.completed = true,
            Line::Gone(id) => {
                self.finished = None;
                self.images.retain(|_, image| *image != id);
                self.stored.retain(|key| *key != id);
                self.exports
                    .retain(|image, task| *image != id && *task != id);
                for one in [&mut self.import, &mut self.imported] {
                    if one.as_ref() == Some(&id) {
                        *one = None;
                    }
                }
                if self.snapshot.as_ref() == Some(&id) {
                    self.snapshot = None;
                    self.blocks.clear();
                    self.completed = false;
                }
            }
            Line::Image(name, id) => {
                self.images.insert(name, id);
                // Another copy of this name is another request.
                self.token = None;
            }
            Line::Template(template, image, version) => {
                self.templates.insert((template, image), version);
            }
            Line::Finished(digest) => self.finished = Some(digest),
            Line::Upload(upload) => {
                self.uploads.insert(upload.key.clone(), upload);
            }
            Line::Part(upload, number, part) => {
                self.parts.entry(upload).or_default().insert(number, part);
            }
            Line::Stored(key) => {
                if !self.stored.contains(&key) {
                    self.stored.push(key);
                }
            }
            Line::UploadEnded(id) => {
                self.uploads.retain(|_, upload| upload.id != id);
                self.parts.remove(&id);
            }
            Line::Importing(task) => {
                self.import = Some(task);
                self.token = None;
            }
            Line::Imported(image) => {
                self.imported = Some(image);
                self.import = None;
            }
            Line::Exporting(image, task) => {
                self.exports.insert(image, task);
                self.token = None;
            }
        }
    }

    fn write(&mut self, line: Line) -> Result<()> {
        let cannot = || format!("cannot write the journal {}", self.path);
        let mut text = serde_json::to_string(&line).or_failure(FailureKind::Internal, cannot)?;
        text.push('\n');
        self.file
            .as_mut()
            .ok_or_else(|| Failure::new(FailureKind::Internal, cannot()))?
            .write_all(text.as_bytes())
            .or_failure(FailureKind::Environment, cannot)?;
        self.take(line);
        Ok(())
    }

    /// Notes that a snapshot is about to be started, and gives the token for it: the same one if the answer to an earlier
    /// start never came, so that no second snapshot is made.
    ///
    /// # Errors
    /// As all that follow: [`FailureKind::Environment`] if it can't be written.
    pub fn starting(&mut self) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let token = uuid::Uuid::new_v4().to_string();
        self.write(Line::Starting(token.clone()))?;
        Ok(token)
    }

    /// Notes a snapshot that was started; what was put into another is forgotten.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn started(&mut self, snapshot: &str, parent: Option<&str>) -> Result<()> {
        let now = jiff::Timestamp::now().as_second();
        let parent = parent.map(str::to_owned);
        self.write(Line::Snapshot(snapshot.to_owned(), now, parent))
    }

    /// Notes a block that arrived.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn put(&mut self, index: u64, digest: &BlockDigest) -> Result<()> {
        self.write(Line::Block(index, hex::encode(digest)))
    }

    /// Notes that the snapshot has all blocks.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn completed(&mut self) -> Result<()> {
        self.write(Line::Completed)
    }

    /// Notes a task that imports the disk.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn importing(&mut self, task: &str) -> Result<()> {
        self.write(Line::Importing(task.to_owned()))
    }

    /// Notes the snapshot or the AMI that an import made.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn imported(&mut self, id: &str) -> Result<()> {
        let now = jiff::Timestamp::now().as_second();
        self.write(match id.starts_with("snap-") {
            true => Line::ImportedSnapshot(id.to_owned(), now),
            false => Line::Imported(id.to_owned()),
        })
    }

    /// Notes a task that exports an AMI.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn exporting(&mut self, image: &str, task: &str) -> Result<()> {
        self.write(Line::Exporting(image.to_owned(), task.to_owned()))
    }

    /// Notes that a snapshot, an AMI, a task or an object is no longer there.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn gone(&mut self, id: &str) -> Result<()> {
        self.write(Line::Gone(id.to_owned()))
    }

    /// Notes an AMI.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn registered(&mut self, name: &str, image: &str) -> Result<()> {
        self.write(Line::Image(name.to_owned(), image.to_owned()))
    }

    /// Notes a launch template's version.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn templated(&mut self, template: &str, image: &str, version: &str) -> Result<()> {
        self.write(Line::Template(
            template.to_owned(),
            image.to_owned(),
            version.to_owned(),
        ))
    }

    /// Notes that a plan of this digest was carried out.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn finished(&mut self, digest: &str) -> Result<()> {
        self.write(Line::Finished(digest.to_owned()))
    }

    /// Notes an upload that was begun.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn uploading(&mut self, upload: Upload) -> Result<()> {
        self.write(Line::Upload(upload))
    }

    /// Notes a part that arrived.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn part(&mut self, upload: &str, number: u32, part: Part) -> Result<()> {
        self.write(Line::Part(upload.to_owned(), number, part))
    }

    /// Notes that an upload is complete or was given up.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn upload_ended(&mut self, upload: &str) -> Result<()> {
        self.write(Line::UploadEnded(upload.to_owned()))
    }

    /// Notes a file in a bucket.
    ///
    /// # Errors
    /// As [`starting`](Self::starting).
    pub fn stored(&mut self, key: &str) -> Result<()> {
        self.write(Line::Stored(key.to_owned()))
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
        journal.started("snap-1", None).unwrap();
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
        // It has one writer; whoever only looks is not held up.
        let second = Journal::open(folder, "r", "eu-west-1").unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        let journal = Journal::read(folder, "r", "eu-west-1").unwrap();
        assert_eq!(journal.blocks.len(), 2);
        assert!(journal.completed && journal.finished.is_none());
    }

    #[test]
    fn a_start_without_an_answer_is_repeated_with_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let first = Journal::open(folder, "r", "a").unwrap().starting().unwrap();
        let mut journal = Journal::open(folder, "r", "a").unwrap();
        assert_eq!(journal.starting().unwrap(), first);
        journal.started("snap-1", None).unwrap();
        // A snapshot that is gone must not be had again by its token.
        journal.gone("snap-1").unwrap();
        assert_eq!(journal.snapshot, None);
        assert_ne!(journal.starting().unwrap(), first);
    }
}
