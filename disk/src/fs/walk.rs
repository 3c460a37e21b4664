//! Walking trees, copying out of them and comparing them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{FileSystem, Node, NodeId, NodeKind};
use crate::bytes::{MIB, index, len64};
use crate::{Error, Progress, Result, Sha256Digest};

/// Longer paths cannot be opened by anybody; a tree that has them loops.
const MAX_DEPTH: usize = 2048;

/// Visits everything below a node in the order of names, folders before what is in them. Paths are relative to the
/// node, without a slash in front. The visitor says whether to go into a folder.
pub fn walk(
    fs: &dyn FileSystem,
    from: &Node,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<bool>,
) -> Result<()> {
    let mut open = Vec::new();
    descend(fs, from, &mut Vec::new(), &mut open, visit)
}

fn descend(
    fs: &dyn FileSystem,
    folder: &Node,
    path: &mut Vec<u8>,
    open: &mut Vec<NodeId>,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<bool>,
) -> Result<()> {
    if open.contains(&folder.id) || open.len() >= MAX_DEPTH {
        return Err(Error::invalid(format!(
            "/{}: the folder contains itself",
            String::from_utf8_lossy(path)
        )));
    }
    open.push(folder.id);
    let mut entries = fs.read_dir(folder)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let base = path.len();
    for entry in entries {
        path.truncate(base);
        if base > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        let node = fs.node(entry.id)?;
        if visit(path, &node)? && node.kind == NodeKind::Directory {
            descend(fs, &node, path, open, visit)?;
        }
    }
    path.truncate(base);
    open.pop();
    Ok(())
}

/// Writes a file's content to a sink.
pub fn copy_to(
    fs: &dyn FileSystem,
    node: &Node,
    sink: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<()> {
    let content = fs.open(node)?;
    let mut buffer = vec![0; index(MIB.min(content.size().max(1)))];
    let mut done = 0;
    while done < content.size() {
        if progress.is_cancelled() {
            return Err(Error::cancelled());
        }
        let take = index((content.size() - done).min(len64(buffer.len())));
        content.read_at(&mut buffer[..take], done)?;
        sink.write_all(&buffer[..take])
            .map_err(|e| Error::io("write the content", e))?;
        done += len64(take);
        progress.advance(len64(take));
    }
    Ok(())
}

/// Copies a file, link or folder with everything below to a host path that is not there yet. Devices, pipes and
/// sockets are left out, owners and attributes too. Returns the files written.
pub fn copy_out(
    fs: &dyn FileSystem,
    node: &Node,
    to: &Path,
    progress: &dyn Progress,
) -> Result<u64> {
    let mut files = u64::from(place(fs, node, to, progress)?);
    if node.kind == NodeKind::Directory {
        walk(fs, node, &mut |path, node| {
            use std::os::unix::ffi::OsStrExt;
            // Names hold no slash and are not `..`, and every entry is made new: nothing leaves the folder, not even
            // through a link that the guest made.
            let target = to.join(std::ffi::OsStr::from_bytes(path));
            files += u64::from(place(fs, node, &target, progress)?);
            Ok(true)
        })?;
    }
    Ok(files)
}

fn place(fs: &dyn FileSystem, node: &Node, to: &Path, progress: &dyn Progress) -> Result<bool> {
    match node.kind {
        NodeKind::Directory => {
            fs::create_dir(to).map_err(|e| Error::path("create", to, e))?;
            Ok(false)
        }
        NodeKind::Symlink => {
            use std::os::unix::ffi::OsStrExt;
            let target = fs.read_link(node)?;
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&target), to)
                .map_err(|e| Error::path("create the link", to, e))?;
            Ok(true)
        }
        NodeKind::File => {
            let mut file = File::create_new(to).map_err(|e| Error::path("create", to, e))?;
            copy_to(fs, node, &mut file, progress)?;
            // Set-id bits would give rights on the host that only the guest knows of.
            let mode = fs::Permissions::from_mode(node.mode & 0o777);
            file.set_permissions(mode)
                .map_err(|e| Error::path("set the mode of", to, e))?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// How a path differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// In both, with these parts different: `type`, `content`, `target`, `mode`, `owner`, `mtime`, `device`,
    /// `attributes`.
    Changed(Vec<&'static str>),
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffOptions {
    /// Modification times as well.
    pub times: bool,
}

/// Compares two trees. The result is in the order of paths.
pub fn diff(
    a: &dyn FileSystem,
    b: &dyn FileSystem,
    options: DiffOptions,
    progress: &dyn Progress,
) -> Result<Vec<(Vec<u8>, Change)>> {
    let list = |fs: &dyn FileSystem| -> Result<BTreeMap<Vec<u8>, Node>> {
        let mut nodes = BTreeMap::new();
        walk(fs, &fs.node(fs.root())?, &mut |path, node| {
            if progress.is_cancelled() {
                return Err(Error::cancelled());
            }
            nodes.insert(path.to_vec(), node.clone());
            Ok(true)
        })?;
        Ok(nodes)
    };
    let (old, mut new) = (list(a)?, list(b)?);
    let mut changes = Vec::new();
    for (path, node) in old {
        match new.remove(&path) {
            None => changes.push((path, Change::Removed)),
            Some(other) => {
                let parts = compare(a, &node, b, &other, options, progress)?;
                if !parts.is_empty() {
                    changes.push((path, Change::Changed(parts)));
                }
            }
        }
    }
    changes.extend(new.into_keys().map(|path| (path, Change::Added)));
    changes.sort_by(|x, y| x.0.cmp(&y.0));
    Ok(changes)
}

fn compare(
    fs_a: &dyn FileSystem,
    a: &Node,
    fs_b: &dyn FileSystem,
    b: &Node,
    options: DiffOptions,
    progress: &dyn Progress,
) -> Result<Vec<&'static str>> {
    let mut parts = Vec::new();
    match (a.kind, b.kind) {
        (NodeKind::File, NodeKind::File) => {
            if a.size != b.size || hash(fs_a, a, progress)? != hash(fs_b, b, progress)? {
                parts.push("content");
            }
        }
        (NodeKind::Symlink, NodeKind::Symlink) => {
            if fs_a.read_link(a)? != fs_b.read_link(b)? {
                parts.push("target");
            }
        }
        (x, y) if x == y => {}
        (NodeKind::CharDevice(..), NodeKind::CharDevice(..))
        | (NodeKind::BlockDevice(..), NodeKind::BlockDevice(..)) => parts.push("device"),
        _ => return Ok(vec!["type"]),
    }
    if a.mode != b.mode {
        parts.push("mode");
    }
    if (a.uid, a.gid) != (b.uid, b.gid) {
        parts.push("owner");
    }
    if options.times && a.mtime != b.mtime {
        parts.push("mtime");
    }
    if fs_a.xattrs(a)? != fs_b.xattrs(b)? {
        parts.push("attributes");
    }
    Ok(parts)
}

fn hash(fs: &dyn FileSystem, node: &Node, progress: &dyn Progress) -> Result<Sha256Digest> {
    use sha2::Digest as _;
    struct Hashing(sha2::Sha256);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(sha2::Sha256::new());
    copy_to(fs, node, &mut hashing, progress)?;
    Ok(Sha256Digest::finish(hashing.0))
}
