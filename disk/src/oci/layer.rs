//! One layer from a tree: sorted, clamped, and the same bytes every time.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use super::ExportOptions;
use super::documents::Blob;
use super::layout::Layout;
use crate::bytes::{index, len64};
use crate::fs::{FileSystem, Node, NodeId, NodeKind};
use crate::tar::{self, Header, Kind};
use crate::{Error, Progress, Result, Sha256Digest, pipeline};

/// What to do with modification times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mtime {
    /// Keep them, in whole seconds.
    #[default]
    Keep,
    /// Set those after this second (since 1970) to it; what a build wrote then does not show when it ran.
    Clamp(i64),
}

/// What of a tree goes into a layer. Contents of `/proc`, `/sys`, `/run` and `/tmp`, `lost+found` and swap files
/// never do.
#[derive(Debug, Clone)]
pub struct TreeOptions {
    /// Contents of `/boot`: kernels, initramfs, boot loader.
    pub boot: bool,
    /// Device nodes anywhere in the tree.
    pub device_nodes: bool,
    /// `/etc/fstab`, which names disks that a container does not have.
    pub fstab: bool,
    /// `security.selinux` attributes.
    pub selinux_labels: bool,
    /// Further paths to leave out, with everything below; without a slash in front.
    pub exclude: BTreeSet<Vec<u8>>,
    /// Modification times.
    pub mtime: Mtime,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            boot: true,
            device_nodes: false,
            fstab: false,
            selinux_labels: false,
            exclude: BTreeSet::new(),
            mtime: Mtime::Keep,
        }
    }
}

impl TreeOptions {
    fn leaves_out(&self, path: &[u8]) -> bool {
        match path {
            b"lost+found" | b"swapfile" | b"swap.img" => true,
            b"etc/fstab" => !self.fstab,
            _ => self.exclude.contains(path),
        }
    }

    /// Folders that stay, empty.
    fn empties(&self, path: &[u8]) -> bool {
        matches!(path, b"proc" | b"sys" | b"run" | b"tmp") || (path == b"boot" && !self.boot)
    }
}

/// A written layer.
pub(super) struct Layer {
    pub(super) blob: Blob,
    pub(super) diff_id: Sha256Digest,
    pub(super) uncompressed: u64,
    pub(super) counts: Counts,
}

/// What went into a layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) skipped_sockets: u64,
}

/// Deeper trees than the kernel lets a path name (4096 bytes of path) are no trees.
const MAX_DEPTH: usize = 2048;

/// Walks a tree, and packs, compresses and stores it.
pub(super) fn write(
    fs: &dyn FileSystem,
    options: &ExportOptions,
    layout: &Layout,
    progress: &dyn Progress,
) -> Result<Layer> {
    let (free, total) = fs.space();
    progress.begin(total.saturating_sub(free));
    pack(options, layout, progress, |out| {
        let mut walk = Walk {
            fs,
            options: &options.tree,
            links: HashMap::new(),
            open: Vec::new(),
            counts: Counts::default(),
            out,
        };
        walk.run()?;
        Ok(walk.counts)
    })
}

/// Compresses and stores the tar stream that `produce` writes, on a thread of its own.
pub(super) fn pack(
    options: &ExportOptions,
    layout: &Layout,
    progress: &dyn Progress,
    produce: impl FnOnce(&mut Stream<'_>) -> Result<Counts> + Send,
) -> Result<Layer> {
    options.compression.check()?;
    let threads = if options.threads == 0 {
        pipeline::default_threads()
    } else {
        options.threads
    };
    let mut blob = layout.blob()?;
    let (sender, pieces) = sync_channel(threads + 1);
    let size = options.compression.piece();
    let (diff_id, uncompressed, counts) = thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let mut out = Stream {
                piece: Vec::new(),
                size,
                hash: Sha256::new(),
                written: 0,
                sender,
                progress,
            };
            let counts = produce(&mut out)?;
            let (diff_id, uncompressed) = out.end()?;
            Ok((diff_id, uncompressed, counts))
        });
        let packed = pipeline::ordered(
            threads,
            pieces.into_iter().map(Ok),
            || {
                let mut worker = options.compression.worker();
                move |piece: Vec<u8>| worker.compress(&piece)
            },
            |piece| {
                blob.write_all(&piece)
                    .map_err(|e| Error::io("write the layer", e))
            },
        );
        let produced = match producer.join() {
            Ok(produced) => produced,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // A failed write makes the producer fail too, for want of a receiver: the write has the reason.
        packed?;
        produced
    })?;
    Ok(Layer {
        blob: blob.finish()?,
        diff_id,
        uncompressed,
        counts,
    })
}

/// The tar stream in pieces.
pub(super) struct Stream<'a> {
    piece: Vec<u8>,
    size: usize,
    hash: Sha256,
    written: u64,
    sender: SyncSender<Vec<u8>>,
    progress: &'a dyn Progress,
}

impl Stream<'_> {
    /// Room in the current piece; sends it when it is full.
    fn room(&mut self) -> Result<usize> {
        if self.piece.len() == self.size {
            self.flush()?;
        }
        Ok(self.size - self.piece.len())
    }

    fn flush(&mut self) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::cancelled());
        }
        self.hash.update(&self.piece);
        self.written += len64(self.piece.len());
        self.progress.advance(len64(self.piece.len()));
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(self.size));
        self.sender.send(piece).map_err(|_| Error::cancelled())
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let take = self.room()?.min(bytes.len());
            self.piece.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
        }
        Ok(())
    }

    /// Lets `fill` write so many bytes straight into the pieces; it gets their offset.
    pub(super) fn fill(
        &mut self,
        length: u64,
        mut fill: impl FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < length {
            let take = self.room()?.min(index(length - done));
            let start = self.piece.len();
            self.piece.resize(start + take, 0);
            fill(&mut self.piece[start..], done)?;
            done += len64(take);
        }
        Ok(())
    }

    fn end(mut self) -> Result<(Sha256Digest, u64)> {
        self.put(&tar::END)?;
        self.flush()?;
        Ok((Sha256Digest::finish(self.hash), self.written))
    }
}

struct Walk<'a, 'b> {
    fs: &'a dyn FileSystem,
    options: &'a TreeOptions,
    /// First path of files that have several names.
    links: HashMap<NodeId, Vec<u8>>,
    /// Folders between the root and here: a folder in itself is a loop.
    open: Vec<NodeId>,
    counts: Counts,
    out: &'a mut Stream<'b>,
}

impl Walk<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let root = self.fs.node(self.fs.root())?;
        self.header(b"./", &root, Kind::Directory, 0)?;
        self.folder(&root, &mut Vec::new())
    }

    fn folder(&mut self, folder: &Node, path: &mut Vec<u8>) -> Result<()> {
        if self.open.contains(&folder.id) || self.open.len() >= MAX_DEPTH {
            return Err(Error::invalid(format!(
                "{}: the folder contains itself",
                show(path)
            )));
        }
        self.open.push(folder.id);
        let mut entries = self
            .fs
            .read_dir(folder)
            .map_err(|e| e.context(show(path)))?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for pair in entries.windows(2) {
            if let [a, b] = pair
                && a.name == b.name
            {
                return Err(Error::invalid(format!(
                    "{}: the name {} is there twice",
                    show(path),
                    show(&a.name)
                )));
            }
        }
        let base = path.len();
        for entry in entries {
            path.truncate(base);
            path.extend_from_slice(&entry.name);
            if self.options.leaves_out(path) {
                continue;
            }
            if entry.name.starts_with(b".wh.") {
                return Err(Error::refused(format!(
                    "{}: names that begin with .wh. mean deletions in a layer; remove or exclude the file",
                    show(path)
                )));
            }
            let node = self.fs.node(entry.id).map_err(|e| e.context(show(path)))?;
            match node.kind {
                // What goes wrong below a folder names its own path.
                NodeKind::Directory => self.entry(&node, path)?,
                _ => self.entry(&node, path).map_err(|e| e.context(show(path)))?,
            }
        }
        path.truncate(base);
        self.open.pop();
        Ok(())
    }

    fn entry(&mut self, node: &Node, path: &mut Vec<u8>) -> Result<()> {
        let kind = match node.kind {
            NodeKind::Directory => {
                let is_empty = self.options.empties(path);
                path.push(b'/');
                self.header(path, node, Kind::Directory, 0)?;
                return if is_empty {
                    Ok(())
                } else {
                    self.folder(node, path)
                };
            }
            NodeKind::Socket => {
                self.counts.skipped_sockets += 1;
                return Ok(());
            }
            NodeKind::CharDevice(..) | NodeKind::BlockDevice(..) if !self.options.device_nodes => {
                return Ok(());
            }
            NodeKind::CharDevice(major, minor) => Kind::CharDevice(major, minor),
            NodeKind::BlockDevice(major, minor) => Kind::BlockDevice(major, minor),
            NodeKind::Fifo => Kind::Fifo,
            NodeKind::Symlink => Kind::Symlink(self.fs.read_link(node)?),
            NodeKind::File => Kind::File,
        };
        if node.links > 1 {
            if let Some(first) = self.links.get(&node.id) {
                let target = first.clone();
                return self.header(path, node, Kind::HardLink(target), 0);
            }
            self.links.insert(node.id, path.clone());
        }
        if kind != Kind::File {
            return self.header(path, node, kind, 0);
        }
        self.header(path, node, Kind::File, node.size)?;
        let content = self.fs.open(node)?;
        self.out
            .fill(node.size, |part, offset| content.read_at(part, offset))?;
        let padding = tar::padding(node.size);
        self.out.put(&tar::END[..padding])
    }

    fn header(&mut self, path: &[u8], node: &Node, kind: Kind, size: u64) -> Result<()> {
        // A hard link shares the attributes of its first name.
        let xattrs = if matches!(kind, Kind::HardLink(_)) {
            Vec::new()
        } else {
            self.fs.xattrs(node)?
        };
        let records = xattrs
            .into_iter()
            .filter(|x| self.options.selinux_labels || x.name != b"security.selinux")
            .map(|x| ([b"SCHILY.xattr.", x.name.as_slice()].concat(), x.value))
            .collect();
        let mtime = match self.options.mtime {
            Mtime::Keep => node.mtime,
            Mtime::Clamp(limit) => node.mtime.min(limit),
        };
        let header = Header {
            path,
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            size,
            mtime,
            records,
        };
        self.counts.entries += 1;
        self.out.put(&header.encode()?)
    }
}

fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
