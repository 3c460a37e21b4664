//! `ovenbird disk …`: looking into disk images without mounting them.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_disk::fs::{
    self, Change, DiffOptions, FileSystem, FsKind, Identity, Node, NodeKind, Volume,
};
use ovenbird_disk::preflight::{self, Road};
use ovenbird_disk::table::{PartitionTable, Scheme};
use ovenbird_disk::{DiskReader, Extents, Format, Image, Window, resize};
use serde_json::json;

use super::convert::{Bar, Size, failed, open_disk, open_options, until_interrupted};
use super::printer::Printer;
use super::{Session, vuln};
use crate::error::{Failure, FailureKind, Result};
use crate::sbom::{self, Form};
use crate::words::human_bytes;

/// Arguments of `disk`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    /// What the disk is, instead of finding out
    #[arg(long, global = true, value_name = "FORMAT")]
    from: Option<Format>,
    /// Folder that may hold backing files, besides the disk's own
    #[arg(long, global = true, value_name = "DIR")]
    backing_dir: Vec<Utf8PathBuf>,
    /// Number of the partition, 0 for a disk without any; without it the root filesystem, with what its fstab mounts from this disk
    #[arg(long, global = true, value_name = "N")]
    partition: Option<u32>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show format, sizes, partitions and filesystems
    Info {
        /// The disk
        disk: Utf8PathBuf,
    },
    /// Show which stretches hold data
    Map {
        /// The disk
        disk: Utf8PathBuf,
    },
    /// Read everything once and report damage
    Check {
        /// The disk
        disk: Utf8PathBuf,
    },
    /// Print the disk digest, the same in every format
    Digest {
        /// The disk
        disk: Utf8PathBuf,
    },
    /// List a folder in the disk
    Ls {
        /// The disk
        disk: Utf8PathBuf,
        /// The folder or file
        #[arg(default_value = "/")]
        path: String,
        /// Everything below as well
        #[arg(long, short)]
        recursive: bool,
    },
    /// Print a file in the disk
    Cat {
        /// The disk
        disk: Utf8PathBuf,
        /// The file
        path: String,
    },
    /// Copy a file or folder out of the disk
    Cp {
        /// The disk
        disk: Utf8PathBuf,
        /// The file or folder in it
        path: String,
        /// Where it goes; must not be there yet
        to: Utf8PathBuf,
    },
    /// Compare the files of two disks; exit code 1 when they differ
    Diff {
        /// The first disk
        old: Utf8PathBuf,
        /// The second disk
        new: Utf8PathBuf,
        /// Compare modification times as well
        #[arg(long)]
        times: bool,
    },
    /// Resize a raw disk in place, or any disk through a new qcow2 overlay
    Resize {
        /// The disk
        disk: Utf8PathBuf,
        /// The new size, such as 20G
        size: Size,
        /// Write a qcow2 overlay instead of changing the disk
        #[arg(long, value_name = "FILE")]
        overlay: Option<Utf8PathBuf>,
        /// Leave the last partition as it is
        #[arg(long)]
        keep_partition: bool,
    },
    /// Print the bill of materials of what is installed on the disk
    Sbom {
        /// The disk
        disk: Utf8PathBuf,
        /// Its form
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Look up known vulnerabilities of what is installed on the disk
    Vulnerabilities {
        /// The disk
        disk: Utf8PathBuf,
        #[command(flatten)]
        how: vuln::How,
    },
    /// Look at the disk as an importer will
    Preflight {
        /// The disk
        disk: Utf8PathBuf,
        /// Where it shall go: aws-ebs, aws-import or vsphere
        #[arg(long = "for", value_name = "ROAD", default_value = "aws-ebs")]
        road: Road,
    },
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if the disk can't be read or something is not in it, [`FailureKind::Output`] if a copy can't
/// be written, [`FailureKind::Test`] if the preflight finds an error, [`FailureKind::Vulnerable`] if a threshold is crossed.
pub async fn run(
    args: Args,
    printer: Printer,
    home: impl FnOnce() -> Result<Session> + Send + 'static,
) -> Result<ExitCode> {
    until_interrupted(move |stop| dispatch(&args, printer, stop, home)).await
}

fn dispatch(
    args: &Args,
    printer: Printer,
    stop: Arc<AtomicBool>,
    home: impl FnOnce() -> Result<Session>,
) -> Result<ExitCode> {
    let open = |path: &Utf8Path| open_disk(path, args.from, &args.backing_dir);
    match &args.verb {
        Verb::Info { disk } => info(disk, &open(disk)?, printer),
        Verb::Map { disk } => map(&*open(disk)?.reader, printer),
        Verb::Check { disk } => check(disk, &open(disk)?, printer, stop),
        Verb::Digest { disk } => {
            let progress = Bar::new(printer, stop);
            let digest =
                ovenbird_disk::disk_digest(&*open(disk)?.reader, &progress).map_err(read_error)?;
            drop(progress);
            printer.value(&json!({ "path": disk, "diskDigest": digest.to_string() }));
            printer.line(digest.to_string());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Ls {
            disk,
            path,
            recursive,
        } => {
            let image = open(disk)?;
            ls(
                &*looked_into(&image, args.partition, printer)?,
                path,
                *recursive,
                printer,
            )
        }
        Verb::Cat { disk, path } => {
            let image = open(disk)?;
            let fs = looked_into(&image, args.partition, printer)?;
            let node = find(&*fs, path)?;
            let mut out = std::io::stdout().lock();
            fs::copy_to(
                &*fs,
                &node,
                &mut out,
                &Bar::new(
                    Printer {
                        json: true,
                        ..printer
                    },
                    stop,
                ),
            )
            .map_err(read_error)?;
            let _ = out.flush();
            Ok(ExitCode::SUCCESS)
        }
        Verb::Cp { disk, path, to } => {
            let image = open(disk)?;
            let fs = looked_into(&image, args.partition, printer)?;
            let node = find(&*fs, path)?;
            let progress = Bar::new(printer, stop);
            let files = fs::copy_out(&*fs, &node, to.as_std_path(), &progress)
                .map_err(|e| failed(e, FailureKind::Output, format!("cannot copy to {to}")))?;
            drop(progress);
            printer.value(&json!({ "path": to, "files": files }));
            printer.line(format!("{to}: {files} files"));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Diff { old, new, times } => {
            let (a, b) = (open(old)?, open(new)?);
            diff(
                &*looked_into(&a, args.partition, printer)?,
                &*looked_into(&b, args.partition, printer)?,
                DiffOptions { times: *times },
                printer,
                stop,
            )
        }
        Verb::Resize {
            disk,
            size,
            overlay,
            keep_partition,
        } => resize_disk(
            disk,
            &open(disk)?,
            *size,
            overlay.as_deref(),
            !keep_partition,
            printer,
        ),
        Verb::Sbom { disk, format } => {
            let image = open(disk)?;
            let inventory = ovenbird_inventory::read(&*filesystem(&image, args.partition)?)
                .map_err(read_error)?;
            for note in &inventory.notes {
                printer.warn(note);
            }
            let digest = ovenbird_disk::disk_digest(&*image.reader, &Bar::new(printer, stop))
                .map_err(read_error)?
                .to_string();
            let name = disk.file_stem().unwrap_or("disk");
            let now = jiff::Timestamp::now().to_string();
            let bill = sbom::bill(*format, &inventory, (name, &digest[..12]), &digest, &now);
            printer.value(&bill);
            printer.line(format!("{bill:#}"));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Vulnerabilities { disk, how } => {
            let image = open(disk)?;
            let inventory = ovenbird_inventory::read(&*filesystem(&image, args.partition)?)
                .map_err(read_error)?;
            let seen = vuln::Seen {
                name: disk.file_stem().unwrap_or("disk"),
                version: "0",
                identity: disk.as_str(),
            };
            vuln::check(&inventory, seen, how, home, printer)
        }
        Verb::Preflight { disk, road } => preflight_disk(disk, *road, args, printer, stop),
    }
}

fn read_error(error: ovenbird_disk::Error) -> Failure {
    failed(error, FailureKind::Config, "cannot read the disk")
}

/// The filesystem that the person means; what of it can't be looked into is told.
fn looked_into(
    image: &Image,
    partition: Option<u32>,
    printer: Printer,
) -> Result<Box<dyn FileSystem>> {
    let fs = filesystem(image, partition)?;
    for unread in fs.unread() {
        printer.warn(format!(
            "{} can't be looked into: {}",
            unread.at, unread.why
        ));
    }
    Ok(fs)
}

/// The filesystem that the person means.
pub(super) fn filesystem(image: &Image, partition: Option<u32>) -> Result<Box<dyn FileSystem>> {
    let Some(number) = partition else {
        let tree = fs::Tree::open(&image.reader).map_err(|e| {
            failed(e, FailureKind::Config, "cannot find the root filesystem")
                .with_hint("name a partition with --partition; `ovenbird disk info` lists them")
        })?;
        return Ok(Box::new(tree));
    };
    let volumes = Volume::list(&*image.reader).map_err(read_error)?;
    volumes
        .iter()
        .find(|v| v.partition.as_ref().map_or(0, |p| p.number) == number)
        .ok_or_else(|| Failure::config(format!("there is no partition {number}")))?
        .open(Arc::clone(&image.reader))
        .map_err(read_error)
}

fn find(fs: &dyn FileSystem, path: &str) -> Result<Node> {
    fs::resolve(fs, path.as_bytes(), true).map_err(read_error)
}

fn info(path: &Utf8Path, image: &Image, printer: Printer) -> Result<ExitCode> {
    let disk = &*image.reader;
    let table = PartitionTable::read(disk).map_err(read_error)?;
    let volumes = Volume::list(disk).map_err(read_error)?;
    let allocated = allocated(disk)?;
    let on_host: u64 = image
        .files
        .iter()
        .filter_map(|file| std::fs::metadata(file).ok())
        .map(|m| stored(&m))
        .sum();
    let identity = |volume: &Volume| {
        Window::new(disk, volume.start, volume.length)
            .and_then(|window| Identity::read(&window, volume.kind))
            .unwrap_or_default()
    };
    let scheme = match table.scheme {
        Scheme::Gpt => "gpt",
        Scheme::Mbr => "mbr",
        Scheme::None => "none",
    };
    printer.value(&json!({
        "path": path, "format": image.format.name(), "virtualSize": disk.virtual_size(), "dataSize": allocated,
        "hostSize": on_host,
        "files": image.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>(),
        "details": image.details.iter().map(|(k, v)| json!({"name": k, "value": v})).collect::<Vec<_>>(),
        "partitionTable": scheme, "diskId": table.disk_id, "problems": table.problems,
        "partitions": volumes.iter().map(|v| {
            let names = identity(v);
            json!({
                "number": v.partition.as_ref().map(|p| p.number), "start": v.start, "length": v.length,
                "type": v.partition.as_ref().map(|p| p.kind.label()), "filesystem": v.kind.name(),
                "uuid": names.uuid, "label": names.label,
            })
        }).collect::<Vec<_>>(),
    }));
    printer.line(format!("{path}: {}", image.format));
    printer.line(format!(
        "disk {}, {} with data, {} on this machine",
        human_bytes(disk.virtual_size()),
        human_bytes(allocated),
        human_bytes(on_host)
    ));
    for (name, value) in &image.details {
        printer.line(format!("{name}: {value}"));
    }
    for file in image.files.iter().skip(1) {
        printer.line(format!("backing file: {}", file.display()));
    }
    let mut rows = vec![
        ["NO", "START", "SIZE", "TYPE", "HOLDS", "LABEL", "UUID"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for volume in &volumes {
        let names = identity(volume);
        let partition = volume.partition.as_ref();
        rows.push(vec![
            partition.map_or_else(|| "-".to_owned(), |p| p.number.to_string()),
            human_bytes(volume.start),
            human_bytes(volume.length),
            partition.map_or_else(|| "no partitions".to_owned(), |p| p.kind.label()),
            volume.kind.to_string(),
            names.label,
            names.uuid,
        ]);
    }
    printer.line(format!("\npartition table: {scheme} {}", table.disk_id));
    printer.table(&rows);
    for problem in &table.problems {
        printer.warn(problem);
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes that a file takes on its filesystem.
fn stored(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

fn allocated(disk: &dyn DiskReader) -> Result<u64> {
    Extents::new(disk).try_fold(0, |sum, extent| {
        let extent = extent.map_err(read_error)?;
        Ok(if extent.kind.is_empty() {
            sum
        } else {
            sum + extent.length
        })
    })
}

fn map(disk: &dyn DiskReader, printer: Printer) -> Result<ExitCode> {
    let mut all = Vec::new();
    for extent in Extents::new(disk) {
        let extent = extent.map_err(read_error)?;
        let kind = format!("{:?}", extent.kind).to_lowercase();
        printer.line(format!(
            "{:>16} {:>16} {kind}",
            extent.offset, extent.length
        ));
        if printer.json {
            all.push(json!({ "offset": extent.offset, "length": extent.length, "kind": kind }));
        }
    }
    printer.value(&all);
    Ok(ExitCode::SUCCESS)
}

fn check(
    path: &Utf8Path,
    image: &Image,
    printer: Printer,
    stop: Arc<AtomicBool>,
) -> Result<ExitCode> {
    let progress = Bar::new(printer, stop);
    let digest = ovenbird_disk::disk_digest(&*image.reader, &progress).map_err(read_error)?;
    drop(progress);
    let mut problems = PartitionTable::read(&*image.reader)
        .map_err(read_error)?
        .problems;
    for volume in Volume::list(&*image.reader).map_err(read_error)? {
        if matches!(volume.kind, FsKind::Ext | FsKind::Fat)
            && let Err(e) = volume.open(Arc::clone(&image.reader))
        {
            let number = volume.partition.map_or(0, |p| p.number);
            problems.push(format!("partition {number}: {}", e.chain()));
        }
    }
    printer.value(&json!({ "path": path, "diskDigest": digest.to_string(), "problems": problems }));
    if problems.is_empty() {
        printer.line(format!("{path}: every byte was read, no problem found"));
        return Ok(ExitCode::SUCCESS);
    }
    Err(
        Failure::config(format!("{path}: {} problems", problems.len()))
            .with_details(problems.join("\n")),
    )
}

fn ls(fs: &dyn FileSystem, path: &str, recursive: bool, printer: Printer) -> Result<ExitCode> {
    let node = find(fs, path)?;
    let mut all = Vec::new();
    let mut show = |name: &[u8], node: &Node| -> ovenbird_disk::Result<()> {
        let name = String::from_utf8_lossy(name).into_owned();
        let target = if node.kind == NodeKind::Symlink {
            Some(String::from_utf8_lossy(&fs.read_link(node)?).into_owned())
        } else {
            None
        };
        if printer.json {
            all.push(json!({
                "name": name, "type": kind_name(node.kind), "mode": format!("{:04o}", node.mode), "uid": node.uid,
                "gid": node.gid, "size": node.size, "mtime": node.mtime, "links": node.links, "target": target,
            }));
        }
        let arrow = target.map(|t| format!(" -> {t}")).unwrap_or_default();
        let size = match node.kind {
            NodeKind::CharDevice(a, b) | NodeKind::BlockDevice(a, b) => format!("{a},{b}"),
            _ => node.size.to_string(),
        };
        printer.line(format!(
            "{}{:04o} {:>5} {:>5} {size:>12} {} {name}{arrow}",
            letter(node.kind),
            node.mode,
            node.uid,
            node.gid,
            jiff::Timestamp::from_second(node.mtime)
                .map_or_else(|_| node.mtime.to_string(), |t| t.to_string()),
        ));
        Ok(())
    };
    if node.kind == NodeKind::Directory {
        fs::walk(fs, &node, &mut |name, node| {
            show(name, node)?;
            Ok(recursive)
        })
        .map_err(read_error)?;
    } else {
        show(path.as_bytes(), &node).map_err(read_error)?;
    }
    printer.value(&all);
    Ok(ExitCode::SUCCESS)
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::CharDevice(..) => "charDevice",
        NodeKind::BlockDevice(..) => "blockDevice",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

fn letter(kind: NodeKind) -> char {
    match kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::CharDevice(..) => 'c',
        NodeKind::BlockDevice(..) => 'b',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    }
}

fn diff(
    a: &dyn FileSystem,
    b: &dyn FileSystem,
    options: DiffOptions,
    printer: Printer,
    stop: Arc<AtomicBool>,
) -> Result<ExitCode> {
    let progress = Bar::new(printer, stop);
    let changes = fs::diff(a, b, options, &progress).map_err(read_error)?;
    drop(progress);
    let mut all = Vec::new();
    for (path, change) in &changes {
        let path = format!("/{}", String::from_utf8_lossy(path));
        let (mark, what, parts) = match change {
            Change::Added => ('+', "added", Vec::new()),
            Change::Removed => ('-', "removed", Vec::new()),
            Change::Changed(parts) => ('~', "changed", parts.clone()),
        };
        let note = if parts.is_empty() {
            String::new()
        } else {
            format!(" ({})", parts.join(", "))
        };
        printer.line(format!("{mark} {path}{note}"));
        all.push(json!({ "path": path, "change": what, "parts": parts }));
    }
    printer.value(&all);
    Ok(if changes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn resize_disk(
    path: &Utf8Path,
    image: &Image,
    Size(size): Size,
    overlay: Option<&Utf8Path>,
    grow: bool,
    printer: Printer,
) -> Result<ExitCode> {
    let resized = resize::resize(Arc::clone(&image.reader), size, grow)
        .map_err(|e| failed(e, FailureKind::Config, format!("cannot resize {path}")))?;
    let target = match (overlay, image.format) {
        (Some(overlay), format) => {
            let backing = path
                .canonicalize_utf8()
                .map_err(|e| Failure::config(format!("cannot open {path}")).caused_by(e))?;
            resized
                .write_overlay(overlay.as_std_path(), backing.as_str(), format)
                .map_err(|e| failed(e, FailureKind::Output, format!("cannot write {overlay}")))?;
            overlay
        }
        (None, Format::Raw) => {
            resized
                .apply_to_raw(path.as_std_path())
                .map_err(|e| failed(e, FailureKind::Output, format!("cannot change {path}")))?;
            path
        }
        (None, format) => {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("a {format} disk is not resized in place"),
            )
            .with_hint(
                "write an overlay with --overlay, or a new disk with `ovenbird convert --resize`",
            ));
        }
    };
    printer.value(&json!({ "path": target, "virtualSize": size }));
    printer.line(format!("{target}: {}", human_bytes(size)));
    Ok(ExitCode::SUCCESS)
}

fn preflight_disk(
    path: &Utf8Path,
    road: Road,
    args: &Args,
    printer: Printer,
    stop: Arc<AtomicBool>,
) -> Result<ExitCode> {
    let progress = Bar::new(printer, stop);
    // Also what is too damaged to be opened is a finding, not a failure of ours.
    let options = open_options(args.from, &args.backing_dir);
    let report =
        preflight::check_file(path.as_std_path(), &options, road, &progress).map_err(read_error)?;
    drop(progress);
    printer.value(&json!({
        "path": path, "road": road.name(), "passes": report.passes(), "skipped": report.skipped,
        "findings": report.findings.iter().map(|f| json!({
            "id": f.lint.id, "severity": f.lint.severity.to_string(), "place": f.place, "message": f.message,
            "fix": f.lint.fix, "answer": f.lint.answer,
            "blocks": f.lint.roads.iter().map(|r| r.name()).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    }));
    for finding in &report.findings {
        printer.line(format!(
            "{} [{}] {}: {}",
            finding.lint.severity, finding.lint.id, finding.place, finding.message
        ));
        printer.line(format!("    fix: {}", finding.lint.fix));
        if let Some(answer) = finding.lint.answer {
            printer.line(format!("    AWS would say: {answer}"));
        }
    }
    for skipped in &report.skipped {
        printer.warn(format!("not looked at: {skipped}"));
    }
    let errors = report
        .findings
        .iter()
        .filter(|f| f.lint.severity == preflight::Severity::Error)
        .count();
    if errors > 0 {
        return Err(Failure::new(
            FailureKind::Test,
            format!("{path}: {errors} errors on the way to {road}"),
        ));
    }
    printer.line(format!("{path}: nothing stands in the way to {road}"));
    Ok(ExitCode::SUCCESS)
}
