//! `ovenbird base list|show|pull|build|import|rm`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Session;
use super::build::cancel_on_signal;
use super::printer::Printer;
use super::push::RegistryArgs;
use crate::catalog::digest::Digest;
use crate::catalog::entry::{self, Entry};
use crate::catalog::progress::Progress;
use crate::catalog::shelf::Stored;
use crate::catalog::{
    CatalogError, Reference, Shelf, Version, VersionPattern, bootstrap, import, pull, registry,
};
use crate::error::{Failure, FailureKind, Result};
use crate::machine::{Arch, Firmware};
use crate::registry::ImageReference;
use crate::words::human_bytes;

/// Arguments of `base`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the base images on the shelf
    List(ListArgs),
    /// Show what is known about a base image
    Show(ShowArgs),
    /// Fetch a distribution's public cloud image
    Pull(PullArgs),
    /// Make a base image from the package mirror of this machine
    #[command(disable_version_flag = true)]
    Build(BuildArgs),
    /// Put a disk of yours on the shelf
    #[command(disable_version_flag = true)]
    Import(ImportArgs),
    /// Remove base images from the shelf
    Rm(RmArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Also list what could be pulled or built
    #[arg(short, long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// A name, with or without version: debian-12, debian-12/12.x.x
    #[arg(value_name = "IMAGE")]
    reference: String,
}

#[derive(Debug, clap::Args)]
struct PullArgs {
    /// A name, with or without version: debian-12, debian-12/12.20260101.x
    #[arg(value_name = "IMAGE")]
    reference: String,
    /// Architecture of the guest
    #[arg(long, value_enum, default_value_t = ArchArg::X86_64, value_name = "NAME")]
    arch: ArchArg,
    /// Fetch from a mirror: takes the place of scheme and host of every address
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Use only what is on the shelf already
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// A name of the catalogue: debian-12, debian-13
    #[arg(value_name = "NAME")]
    name: String,
    /// Version of the image; default: release, date and a number
    #[arg(long, value_name = "X.Y.Z")]
    version: Option<Version>,
    /// Use this package mirror instead of this machine's
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Do nothing if an image of this name is on the shelf already
    #[arg(long)]
    if_missing: bool,
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The disk: raw, qcow2, VMDK, VHD, VHDX, or oci://REGISTRY/REPOSITORY:TAG
    disk: String,
    /// Name on the shelf; from a registry the image's own if left out
    #[arg(value_name = "NAME", conflicts_with = "name")]
    shelf_name: Option<String>,
    /// The same as an option
    #[arg(long)]
    name: Option<String>,
    /// Version of the image; default: 1.0.0, then 1.0.1 and so on
    #[arg(long, value_name = "X.Y.Z")]
    version: Option<Version>,
    /// What the file must be: sha256:... or sha512:...
    #[arg(long)]
    digest: Option<Digest>,
    /// Architecture of the guest; default: x86_64, from a registry what the image says
    #[arg(long, value_enum, value_name = "NAME")]
    arch: Option<ArchArg>,
    /// The user that the image's cloud-init makes
    #[arg(long, value_name = "USER")]
    default_user: Option<String>,
    /// How the disk boots; default: read from its partition table
    #[arg(long, value_enum, value_delimiter = ',', value_name = "bios,uefi")]
    firmware: Option<Vec<FirmwareArg>>,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Images with their versions; the version may be left out where there is only one
    #[arg(required = true, value_name = "IMAGE")]
    references: Vec<String>,
    /// Remove every version that fits
    #[arg(long)]
    all_versions: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ArchArg {
    #[value(name = "x86_64", alias = "amd64")]
    X86_64,
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

impl From<ArchArg> for Arch {
    fn from(arch: ArchArg) -> Self {
        match arch {
            ArchArg::X86_64 => Self::X86_64,
            ArchArg::Aarch64 => Self::Aarch64,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FirmwareArg {
    Bios,
    Uefi,
}

impl From<FirmwareArg> for Firmware {
    fn from(firmware: FirmwareArg) -> Self {
        match firmware {
            FirmwareArg::Bios => Self::Bios,
            FirmwareArg::Uefi => Self::Uefi,
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// What the catalogue says.
pub async fn run(args: Args, session: &Session) -> Result<ExitCode> {
    let shelf = Shelf::new(session.home.path());
    match args.verb {
        Verb::List(args) => list(&args, &shelf, session.printer)?,
        Verb::Show(args) => show(&args, &shelf, session.printer)?,
        Verb::Rm(args) => remove(&args, &shelf, session.printer)?,
        Verb::Pull(args) => cancellable(pull_one(&args, session)).await?,
        Verb::Build(args) => cancellable(build(&args, session)).await?,
        Verb::Import(args) => cancellable(import_one(&args, session)).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Work that Ctrl-C ends: dropping it stops its programs and removes what they made.
pub(super) async fn cancellable(work: impl Future<Output = Result<()>>) -> Result<()> {
    let cancel = cancel_on_signal();
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Err(Failure::cancelled()),
    }
}

fn list(args: &ListArgs, shelf: &Shelf, printer: Printer) -> Result<()> {
    let images = shelf.list()?;
    let missing: Vec<&Entry> = entry::all()
        .iter()
        .filter(|entry| args.all && !images.iter().any(|image| image.record.name == entry.name))
        .collect();
    printer.value(&json!({
        "images": images.iter().map(as_json).collect::<Vec<_>>(),
        "available": missing.iter().map(|entry| json!({
            "name": entry.name, "title": entry.title, "ways": ways(entry),
        })).collect::<Vec<_>>(),
    }));
    if images.is_empty() && !args.all {
        printer.line("the shelf is empty; `ovenbird base list --all` shows what can be had");
        return Ok(());
    }
    let mut rows = vec![
        ["NAME", "VERSION", "ARCH", "FIRMWARE", "SIZE", "ORIGIN"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(images.iter().map(|image| {
        let record = &image.record;
        vec![
            record.name.clone(),
            record.version.to_string(),
            record.architecture.to_string(),
            firmware_text(&record.firmware),
            human_bytes(record.virtual_size),
            record.origin.to_string(),
        ]
    }));
    rows.extend(missing.iter().map(|entry| {
        let dash = || "-".to_owned();
        let how = format!("{} ({})", entry.title, ways(entry).join(", "));
        vec![entry.name.clone(), dash(), dash(), dash(), dash(), how]
    }));
    printer.table(&rows);
    Ok(())
}

/// By which verbs an entry's image can be had.
fn ways(entry: &Entry) -> Vec<&'static str> {
    let build = entry.bootstrap.is_some().then_some("build");
    let pull = entry.download.is_some().then_some("pull");
    build.into_iter().chain(pull).collect()
}

fn show(args: &ShowArgs, shelf: &Shelf, printer: Printer) -> Result<()> {
    let (name, pattern) = on_shelf(&args.reference)?;
    let Some(image) = shelf.find(&name, &pattern)? else {
        // An entry of the catalogue is something to show too.
        let entry = entry::by_name(&name)?;
        printer.value(&json!({ "name": entry.name, "title": entry.title, "ways": ways(entry) }));
        printer.line(format!("{}: {}, not on the shelf", entry.name, entry.title));
        for way in ways(entry) {
            printer.line(format!("  ovenbird base {way} {}", entry.name));
        }
        return Ok(());
    };
    printer.value(&as_json(&image));
    let record = &image.record;
    let mut rows = vec![
        ("image", format!("{}/{}", record.name, record.version)),
        ("origin", record.origin.to_string()),
        ("created", record.created.clone()),
        ("architecture", record.architecture.to_string()),
        ("firmware", firmware_text(&record.firmware)),
        ("disk", image.folder.join(&record.disk).to_string()),
        (
            "size",
            format!("{} ({})", human_bytes(record.virtual_size), record.format),
        ),
        ("sha256", record.sha256.clone()),
    ];
    rows.extend(
        record
            .published_digest
            .iter()
            .map(|digest| ("published", digest.to_string())),
    );
    rows.extend(
        record
            .default_user
            .iter()
            .map(|user| ("default user", user.clone())),
    );
    rows.extend(
        record
            .kernel
            .iter()
            .map(|kernel| ("kernel", format!("{} {}", kernel.kernel, kernel.cmdline))),
    );
    for (key, value) in rows {
        printer.line(format!("{key:<13} {value}"));
    }
    Ok(())
}

async fn pull_one(args: &PullArgs, session: &Session) -> Result<()> {
    let (name, pattern) = on_shelf(&args.reference)?;
    let meter = Meter::new(session.printer);
    let request = pull::Request {
        name: &name,
        pattern,
        architecture: args.arch.into(),
        from: args.from.as_deref(),
        offline: args.offline,
    };
    let pulled = pull::pull(session.home.path(), &request, &meter).await?;
    meter.finish();
    report(
        &pulled.image,
        if pulled.fetched {
            "fetched"
        } else {
            "on the shelf already"
        },
        session.printer,
    );
    Ok(())
}

async fn build(args: &BuildArgs, session: &Session) -> Result<()> {
    if args.if_missing
        && let Some(image) =
            Shelf::new(session.home.path()).find(&args.name, &VersionPattern::ANY)?
    {
        report(&image, "on the shelf already", session.printer);
        return Ok(());
    }
    let meter = Meter::new(session.printer);
    let request = bootstrap::Request {
        name: &args.name,
        version: args.version,
        mirror: args.mirror.as_deref(),
    };
    let image = bootstrap::build(session.home.path(), &request, &meter).await?;
    meter.finish();
    report(&image, "built", session.printer);
    Ok(())
}

async fn import_one(args: &ImportArgs, session: &Session) -> Result<()> {
    let meter = Meter::new(session.printer);
    let name = args.shelf_name.as_deref().or(args.name.as_deref());
    let firmware: Option<Vec<Firmware>> = args
        .firmware
        .as_ref()
        .map(|modes| modes.iter().map(|&mode| mode.into()).collect());
    let usage = |text: &str| Failure::new(FailureKind::Usage, text);
    let image = if args.disk.starts_with("oci://") {
        if args.digest.is_some() {
            return Err(usage("--digest is for files").with_hint(
                "the digest belongs into the reference: oci://REGISTRY/REPOSITORY@sha256:...",
            ));
        }
        let request = registry::Request {
            reference: args.disk.parse::<ImageReference>()?,
            options: args.registry.options(),
            name,
            version: args.version,
            architecture: args.arch.map(Into::into),
            default_user: args.default_user.as_deref(),
            firmware,
        };
        registry::import(session.home.path(), &request, &meter).await?
    } else {
        let request = import::Request {
            disk: args.disk.as_str().into(),
            name: name.ok_or_else(|| usage("a disk of yours needs a name on the shelf: --name"))?,
            version: args.version,
            digest: args.digest.clone(),
            format: None,
            architecture: args.arch.map(Into::into).unwrap_or_default(),
            default_user: args.default_user.as_deref(),
            firmware,
            origin: None,
        };
        import::import(session.home.path(), &request, &meter).await?
    };
    meter.finish();
    report(&image, "imported", session.printer);
    Ok(())
}

fn remove(args: &RmArgs, shelf: &Shelf, printer: Printer) -> Result<()> {
    // All are found before the first is removed, so a slip of the pen removes nothing.
    let mut doomed: Vec<Stored> = Vec::new();
    for reference in &args.references {
        let (name, pattern) = on_shelf(reference)?;
        let images = shelf.list()?;
        let fitting: Vec<Stored> = images
            .into_iter()
            .filter(|image| image.record.name == name && pattern.matches(&image.record.version))
            .collect();
        match fitting.len() {
            0 => {
                return Err(CatalogError::NotOnShelf {
                    reference: reference.clone(),
                    hint: "`ovenbird base list` shows what is there".into(),
                }
                .into());
            }
            1 => {}
            _ if args.all_versions => {}
            count => {
                let versions: Vec<String> = fitting
                    .iter()
                    .map(|image| image.record.version.to_string())
                    .collect();
                return Err(Failure::new(
                    FailureKind::Usage,
                    format!("{reference} means {count} images: {}", versions.join(", ")),
                )
                .with_hint("name the version, or remove all with --all-versions"));
            }
        }
        doomed.extend(fitting);
    }
    for image in &doomed {
        shelf.remove(image)?;
        printer.line(format!(
            "removed {}/{}",
            image.record.name, image.record.version
        ));
    }
    printer.value(&json!({ "removed": doomed.iter().map(as_json).collect::<Vec<_>>() }));
    Ok(())
}

/// Name and versions of a reference to the shelf.
fn on_shelf(reference: &str) -> Result<(String, VersionPattern)> {
    match reference.parse::<Reference>()? {
        Reference::Shelf { name, pattern } => Ok((name, pattern)),
        Reference::File { path, .. } => Err(Failure::new(
            FailureKind::Usage,
            format!("{path} is a file; here the name of a base image is meant"),
        )),
    }
}

fn report(image: &Stored, what: &str, printer: Printer) {
    printer.value(&as_json(image));
    printer.line(format!(
        "{}/{} {what}: {}",
        image.record.name, image.record.version, image.folder
    ));
}

fn as_json(image: &Stored) -> Value {
    let mut value = serde_json::to_value(&image.record).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("folder".into(), image.folder.as_str().into());
    }
    value
}

fn firmware_text(modes: &[Firmware]) -> String {
    modes
        .iter()
        .map(|mode| mode.as_str())
        .collect::<Vec<_>>()
        .join(",")
}

/// Shows progress: a bar or a spinner on a terminal, a line for each stage elsewhere, nothing with `--json`.
pub(super) struct Meter {
    bar: Option<ProgressBar>,
    printer: Printer,
    started: Instant,
}

impl Meter {
    pub(super) fn new(printer: Printer) -> Self {
        let live = !printer.json && std::io::stderr().is_terminal();
        Self {
            bar: live.then(ProgressBar::new_spinner),
            printer,
            started: Instant::now(),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.printer.json => {}
            None => {
                let seconds = self.started.elapsed().as_secs_f64();
                let _ = writeln!(anstream::stderr(), "[{seconds:>7.1}s] {text}");
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Progress for Meter {
    fn stage(&self, name: &str) {
        let Some(bar) = &self.bar else {
            self.say(name);
            return;
        };
        if let Ok(style) =
            ProgressStyle::with_template("  {spinner} {prefix}  {elapsed}  {wide_msg}")
        {
            bar.set_style(style);
        }
        bar.set_prefix(name.to_owned());
        bar.set_message("");
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        if bar.length() != total
            && let Some(total) = total
            && let Ok(style) = ProgressStyle::with_template(
                "  {prefix}  {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
            )
        {
            bar.set_length(total);
            bar.set_style(style);
            // What an earlier attempt fetched says nothing about the speed of this one.
            bar.set_position(done);
            bar.reset_eta();
        }
        bar.set_position(done);
    }

    fn line(&self, text: &str) {
        if self.printer.verbose > 0 {
            self.say(&format!("  {text}"));
        } else if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Shell {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Shell::try_parse_from(std::iter::once("base").chain(line.split(' ')))
            .map(|shell| shell.args)
    }

    #[test]
    fn what_is_typed() {
        Shell::command().debug_assert();
        for line in [
            "list --all",
            "show debian-12/12.x.x",
            "pull ubuntu-24.04 --arch arm64 --from http://127.0.0.1:8080/mirror",
            "build debian-12 --version 12.1.0",
            "import disk.vmdk --name mine --firmware bios,uefi --digest aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "import oci://localhost:5000/web:1",
            "import oci://localhost:5000/web:1 mine --arch arm64 --plain-http",
            "rm a/1.0.0 b",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "rm",
            "build debian-12 --version 12.x.x",
            "import disk.vmdk mine --name mine",
            "import d --name n --digest md5:aa",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_is_no_name() {
        assert_eq!(
            on_shelf("./disk.qcow2").unwrap_err().kind(),
            FailureKind::Usage
        );
        assert_eq!(on_shelf("debian-12").unwrap().1, VersionPattern::ANY);
    }
}
