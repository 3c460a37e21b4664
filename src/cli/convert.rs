//! `ovenbird convert IN OUT`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use indicatif::{ProgressBar, ProgressStyle};
use ovenbird_disk::ova::Hardware;
use ovenbird_disk::{
    ConvertOptions, DEFAULT_DEFLATE_LEVEL, DiskReader, ErrorKind, Format, OpenOptions, Profile,
    QcowCompression, Target, oci, resize, shrink,
};
use serde_json::json;

use super::printer::Printer;
use crate::error::{Failure, FailureKind, Result};

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The disk to read: raw, qcow2 with its backing files, VMDK, VHD or VHDX
    input: Utf8PathBuf,
    /// The file to write, or `-` for standard output (any disk format)
    output: Utf8PathBuf,
    /// What to write; found from the output's ending when not given
    #[arg(long, short, value_enum)]
    format: Option<OutputFormat>,
    /// What the input is, instead of finding out; needed for raw disks that begin like another format
    #[arg(long, value_name = "FORMAT")]
    from: Option<Format>,
    /// Folder that may hold backing files of the input, besides its own
    #[arg(long, value_name = "DIR")]
    backing_dir: Vec<Utf8PathBuf>,
    /// Compression of a qcow2 image
    #[arg(long, value_enum, default_value = "none")]
    compress: Compress,
    /// Compression level: deflate 1 to 12, zlib 1 to 9, zstd 1 to 19
    #[arg(long)]
    level: Option<u8>,
    /// For whom a VMDK or OVA is meant
    #[arg(long, value_enum, default_value = "aws")]
    profile: ProfileArg,
    /// Another size for the disk (such as 20G); moves the backup GPT and grows the last partition
    #[arg(long, value_name = "SIZE", conflicts_with = "fit")]
    resize: Option<Size>,
    /// Shrink the last filesystem (ext2, ext3, ext4) to its content and a little room, and cut the disk behind it; needs
    /// e2fsprogs
    #[arg(long)]
    fit: bool,
    /// Do not read the result back
    #[arg(long)]
    no_verify: bool,
    /// Do not compute the SHA-256 of the file
    #[arg(long)]
    no_sha256: bool,
    /// Name of the image in an OCI layout
    #[arg(long, default_value = "latest", value_name = "TAG")]
    tag: String,
}

/// What can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// Sparse raw disk
    Raw,
    /// qcow2 version 3
    Qcow2,
    /// Stream-optimised VMDK
    Vmdk,
    /// Dynamic VHD
    Vhd,
    /// Fixed VHD
    VhdFixed,
    /// Dynamic VHDX
    Vhdx,
    /// Virtual appliance
    Ova,
    /// OCI image layout of the root filesystem
    Oci,
    /// The same as one tar archive
    OciArchive,
    /// OCI image layout that holds the disk itself, as KubeVirt takes it
    ContainerDisk,
}

impl OutputFormat {
    fn is_container(self) -> bool {
        matches!(self, Self::Oci | Self::OciArchive | Self::ContainerDisk)
    }
}

impl OutputFormat {
    fn of_path(path: &Utf8Path) -> Option<Self> {
        Some(match path.extension()? {
            "raw" | "img" => Self::Raw,
            "qcow2" => Self::Qcow2,
            "vmdk" => Self::Vmdk,
            "vhd" => Self::Vhd,
            "vhdx" => Self::Vhdx,
            "ova" => Self::Ova,
            "oci" => Self::Oci,
            "ociarchive" => Self::OciArchive,
            _ => return None,
        })
    }
}

/// Compression of a qcow2 image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compress {
    /// Quick to boot from
    None,
    /// Every reader takes it
    Zlib,
    /// Smaller and faster; QEMU 5.1 and later
    Zstd,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProfileArg {
    /// EC2 import
    Aws,
    /// ESXi and vCenter
    Vsphere,
}

/// A size in bytes, written as a number with K, M, G or T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no size; write it as 512M, 20G or 1T");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[digits.len()..]
            .to_ascii_uppercase()
            .trim_end_matches("IB")
            .trim_end_matches('B')
        {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = digits.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// Shows progress on a terminal and carries the wish to stop.
pub(super) struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Bar {
    /// A bar on standard error when that is a terminal and the person did not ask for JSON.
    pub(super) fn new(printer: Printer, stop: Arc<AtomicBool>) -> Self {
        let bar = if std::io::stderr().is_terminal() && !printer.json {
            ProgressBar::new(0)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) =
            ProgressStyle::with_template("{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}")
        {
            bar.set_style(style);
        }
        Self { bar, stop }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl ovenbird_disk::Progress for Bar {
    fn begin(&self, total: u64) {
        self.bar.set_length(total);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Runs blocking work on a thread; Ctrl-C asks it to stop and waits until it has cleaned up.
pub(super) async fn until_interrupted<T: Send + 'static>(
    work: impl FnOnce(Arc<AtomicBool>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let mut task = tokio::task::spawn_blocking(move || work(seen));
    let done = tokio::select! {
        done = &mut task => done,
        _ = tokio::signal::ctrl_c() => {
            stop.store(true, Ordering::Relaxed);
            task.await
        }
    };
    done.unwrap_or_else(|panic| {
        Err(Failure::new(
            FailureKind::Internal,
            format!("the worker failed: {panic}"),
        ))
    })
}

/// An error of the disk room as a failure.
pub(super) fn failed(
    error: ovenbird_disk::Error,
    kind: FailureKind,
    what: impl Into<String>,
) -> Failure {
    match error.kind() {
        ErrorKind::Cancelled => Failure::cancelled(),
        ErrorKind::Refused => Failure::new(FailureKind::Config, what).caused_by(error),
        _ => Failure::new(kind, what).caused_by(error),
    }
}

/// How a disk is opened: as the format that was named, with backing files in these folders.
pub(super) fn open_options(from: Option<Format>, backing_dirs: &[Utf8PathBuf]) -> OpenOptions {
    let mut options = OpenOptions::new();
    if let Some(format) = from {
        options = options.format(format);
    }
    for folder in backing_dirs {
        options = options.backing_root(folder.as_std_path());
    }
    options
}

/// Opens a disk for reading.
pub(super) fn open_disk(
    path: &Utf8Path,
    from: Option<Format>,
    backing_dirs: &[Utf8PathBuf],
) -> Result<ovenbird_disk::Image> {
    let options = open_options(from, backing_dirs);
    ovenbird_disk::open_image(path.as_std_path(), &options).map_err(|error| {
        let refused = error.kind() == ErrorKind::Refused && error.chain().contains("backing");
        let failure = failed(error, FailureKind::Config, "cannot read the disk");
        if refused {
            failure.with_hint("allow the folder with --backing-dir")
        } else {
            failure
        }
    })
}

/// Runs the verb.
///
/// # Errors
/// [`FailureKind::Config`] if the input can't be read, [`FailureKind::Output`] if the output can't be written or does
/// not verify, [`FailureKind::Cancelled`] after Ctrl-C; then no file is left.
pub async fn run(args: Args, printer: Printer) -> Result<ExitCode> {
    until_interrupted(move |stop| convert(&args, printer, stop)).await
}

fn convert(args: &Args, printer: Printer, stop: Arc<AtomicBool>) -> Result<ExitCode> {
    let begin = Instant::now();
    let to_stdout = args.output == "-";
    let format = match args.format.or_else(|| OutputFormat::of_path(&args.output)) {
        Some(format) => format,
        None => {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("cannot tell a format from the name {}", args.output),
            )
            .with_hint("name one with --format"));
        }
    };
    let image = open_disk(&args.input, args.from, &args.backing_dir)?;
    let progress = Bar::new(printer, stop);
    let disk = resized(args, image.reader, printer, &progress)?;
    if format.is_container() {
        return container(args, format, disk, printer, progress, begin);
    }
    let target = target(args, format);
    let options = ConvertOptions {
        verify: !args.no_verify,
        sha256: !args.no_sha256,
        ..ConvertOptions::default()
    };
    if to_stdout {
        let mut sink = std::io::stdout();
        if sink.is_terminal() {
            return Err(Failure::new(
                FailureKind::Usage,
                "a disk does not go to a terminal",
            ));
        }
        ovenbird_disk::stream(&*disk, &target, &options, &mut sink, &progress)
            .map_err(|e| failed(e, FailureKind::Output, "cannot write the stream"))?;
        let _ = sink.flush();
        return Ok(ExitCode::SUCCESS);
    }
    let written = ovenbird_disk::convert(
        &*disk,
        &target,
        &options,
        args.output.as_std_path(),
        &progress,
    )
    .map_err(|e| {
        failed(
            e,
            FailureKind::Output,
            format!("cannot write {}", args.output),
        )
    })?;
    drop(progress);
    printer.value(&json!({
        "path": args.output, "bytes": written.bytes, "sha256": written.sha256.map(|d| d.to_string()),
        "diskDigest": written.disk_digest.to_string(), "virtualSize": disk.virtual_size(),
        "verified": options.verify, "seconds": begin.elapsed().as_secs_f64(),
    }));
    printer.line(format!(
        "{}: {} bytes, {:.1} s{}",
        args.output,
        written.bytes,
        begin.elapsed().as_secs_f64(),
        if options.verify {
            ", read back and equal"
        } else {
            ""
        }
    ));
    if let Some(sha256) = written.sha256 {
        printer.line(format!("sha256 {sha256}"));
    }
    printer.line(format!("disk   {}", written.disk_digest));
    Ok(ExitCode::SUCCESS)
}

/// Writes a container image: of the root filesystem, or of the disk.
fn container(
    args: &Args,
    format: OutputFormat,
    disk: Arc<dyn DiskReader>,
    printer: Printer,
    progress: Bar,
    begin: Instant,
) -> Result<ExitCode> {
    let is_archive = format == OutputFormat::OciArchive
        || OutputFormat::of_path(&args.output) == Some(OutputFormat::OciArchive);
    let options = oci::ExportOptions {
        reference: Some(args.tag.clone()),
        form: if is_archive {
            oci::Form::Archive
        } else {
            oci::Form::Folder
        },
        ..oci::ExportOptions::default()
    };
    let out = args.output.as_std_path();
    let summary = if format == OutputFormat::ContainerDisk {
        let file = oci::DiskFile::default();
        oci::export_container_disk(&*disk, file, &options, out, &progress)
    } else {
        oci::export(disk, &options, out, &progress)
    }
    .map_err(|e| {
        failed(
            e,
            FailureKind::Output,
            format!("cannot write {}", args.output),
        )
    })?;
    drop(progress);
    printer.value(&json!({
        "path": args.output, "manifest": summary.manifest.digest.oci(), "layer": summary.layer.digest.oci(),
        "diffId": summary.diff_id.oci(), "bytes": summary.layer.size, "entries": summary.entries,
    }));
    printer.line(format!(
        "{}: {} files, layer of {} bytes, {:.1} s\nmanifest {}",
        args.output,
        summary.entries,
        summary.layer.size,
        begin.elapsed().as_secs_f64(),
        summary.manifest.digest.oci()
    ));
    Ok(ExitCode::SUCCESS)
}

fn resized(
    args: &Args,
    disk: Arc<dyn DiskReader>,
    printer: Printer,
    progress: &Bar,
) -> Result<Arc<dyn DiskReader>> {
    if let Some(Size(size)) = args.resize {
        let patched = resize::resize(disk, size, true)
            .map_err(|e| failed(e, FailureKind::Config, "cannot resize the disk"))?;
        return Ok(Arc::new(patched));
    }
    if !args.fit {
        return Ok(disk);
    }
    // The scratch copy lies where the output goes, which has to have room for it.
    let beside = if args.output == "-" {
        std::env::temp_dir().join("ovenbird-fit")
    } else {
        args.output.as_std_path().to_owned()
    };
    let fitted = shrink::fit(disk, &beside, progress)
        .map_err(|e| failed(e, FailureKind::Config, "cannot fit the disk to its content"))?;
    if let Some(why) = fitted.kept {
        printer.warn(format!("the filesystem keeps its size: {why}"));
    }
    Ok(fitted.disk)
}

fn target(args: &Args, format: OutputFormat) -> Target {
    let profile = match args.profile {
        ProfileArg::Aws => Profile::Aws,
        ProfileArg::Vsphere => Profile::Vsphere,
    };
    let level = args.level.unwrap_or(DEFAULT_DEFLATE_LEVEL);
    match format {
        OutputFormat::Raw
        | OutputFormat::Oci
        | OutputFormat::OciArchive
        | OutputFormat::ContainerDisk => Target::Raw,
        OutputFormat::Qcow2 => Target::Qcow2 {
            compression: match args.compress {
                Compress::None => None,
                Compress::Zlib => Some(QcowCompression::Zlib(args.level.unwrap_or(6))),
                Compress::Zstd => Some(QcowCompression::Zstd(args.level.unwrap_or(3))),
            },
        },
        OutputFormat::Vmdk => Target::Vmdk { profile, level },
        OutputFormat::Vhd => Target::VhdDynamic,
        OutputFormat::VhdFixed => Target::VhdFixed,
        OutputFormat::Vhdx => Target::Vhdx,
        OutputFormat::Ova => Target::Ova {
            profile,
            level,
            hardware: Hardware::default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("512", 512),
            ("10K", 10 << 10),
            ("3MiB", 3 << 20),
            ("20G", 20 << 30),
            ("1TB", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "G", "1.5G", "-1G", "99999999999T", "1X"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
