//! Base images made on this machine, from the package mirror that it is set up with.
//!
//! mmdebstrap installs the packages into an archive; a script of `base-images/bootstrap/` makes a cloud image's tree of them;
//! `mke2fs -d` makes a filesystem of the tree; the boot loaders are placed as bytes. No loop device, no mount on the host, no boot
//! of a guest, and no root: an unprivileged user's namespaces suffice.

mod esp;
mod grub;
mod layout;
pub mod mirror;

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::geteuid;
use tokio::process::Command;

use self::layout::Layout;
use self::mirror::Mirror;
use super::digest::FileDigests;
use super::entry::{self, Bootstrap, Entry};
use super::progress::Progress;
use super::record::{self, DirectKernel, Origin, Record};
use super::shelf::{Shelf, Stored};
use super::{CatalogError, Result, Version, VersionPattern, tool};
use crate::machine::{Arch, Firmware};

const CUSTOMIZE_DEBIAN: &str = include_str!("../../../base-images/bootstrap/debian/customize.sh");
const POPULATE: &str = include_str!("../../../base-images/bootstrap/populate.sh");
/// What a filesystem may use: known to GRUB 2.06 and to kernels and tools since 2019, whatever this machine's mke2fs would choose.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                        huge_file,dir_nlink,extra_isize,metadata_csum";

/// The programs that a build runs, for `doctor` and for an early error.
pub const PROGRAMS: &[&str] = &[
    "mmdebstrap",
    "unshare",
    "tar",
    "mke2fs",
    "sfdisk",
    "qemu-img",
];

/// What to build.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// A name of the catalogue.
    pub name: &'a str,
    /// The version; otherwise release, date of today, and the next free number.
    pub version: Option<Version>,
    /// A package mirror in place of this machine's.
    pub mirror: Option<&'a str>,
}

/// Builds a base image and puts it on the shelf.
///
/// # Errors
/// [`CatalogError::Unsupported`] if the entry has no bootstrap definition, [`CatalogError::NoMirror`],
/// [`CatalogError::ToolMissing`], or the program's own words in [`CatalogError::ToolFailed`].
pub async fn build(
    home: &Utf8Path,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Stored> {
    let entry = entry::by_name(request.name)?;
    let bootstrap = entry
        .bootstrap
        .as_ref()
        .ok_or_else(|| CatalogError::Unsupported {
            name: entry.name.clone(),
            what: format!(
                "can't be built here; `ovenbird base pull {}` fetches the distribution's own",
                entry.name
            ),
        })?;
    for program in PROGRAMS {
        if tool::find(program).is_none() {
            return Err(CatalogError::ToolMissing {
                program: (*program).to_owned(),
            });
        }
    }
    let mirror = match request.mirror {
        Some(uri) => Mirror::at(uri),
        None => Mirror::of_this_machine()?,
    };
    let shelf = Shelf::new(home);
    let version = match request.version {
        Some(version) => version,
        None => next_version(&shelf, &entry.name, bootstrap.major)?,
    };
    if shelf
        .find(&entry.name, &VersionPattern::exactly(version))?
        .is_some()
    {
        return Err(CatalogError::Exists {
            name: entry.name.clone(),
            version: version.to_string(),
        });
    }

    let staging = shelf.stage()?;
    let work = staging.folder().join("work");
    std::fs::create_dir(&work).map_err(CatalogError::io("create", work.clone()))?;
    let build = Build {
        bootstrap,
        mirror,
        layout: Layout::new(&entry.name, &version, bootstrap.disk_mib),
        work,
        progress,
    };

    progress.stage("install packages");
    build.install().await?;
    progress.stage("write the disk");
    let raw = build.assemble().await?;
    let disk = staging.folder().join("disk.qcow2");
    let mut convert = tool::command("qemu-img");
    convert.args([
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        raw.as_str(),
        disk.as_str(),
    ]);
    tool::run(convert, progress).await?;
    for file in ["kernel", "initrd"] {
        let target = staging.folder().join(file);
        std::fs::rename(build.export().join(file), &target)
            .map_err(CatalogError::io("create", target))?;
    }
    std::fs::remove_dir_all(&build.work).map_err(CatalogError::io("remove", build.work.clone()))?;

    progress.stage("put it on the shelf");
    let digests = FileDigests::of(&disk, None, |_| ())?;
    let record = record_of(entry, &build, version, &digests);
    shelf.insert(staging, record, &digests)
}

fn record_of(entry: &Entry, build: &Build<'_>, version: Version, digests: &FileDigests) -> Record {
    Record {
        schema: record::SCHEMA,
        name: entry.name.clone(),
        version,
        architecture: Arch::X86_64,
        default_user: Some(entry.default_user.clone()),
        firmware: vec![Firmware::Bios, Firmware::Uefi],
        root_device: entry.root_device.clone(),
        root_partition: Some(layout::ROOT_PARTITION),
        disk: "disk.qcow2".into(),
        format: "qcow2".into(),
        virtual_size: build.layout.size(),
        sha256: digests.sha256.hex().to_owned(),
        published_digest: None,
        origin: Origin::Built,
        created: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        kernel: Some(DirectKernel {
            kernel: "kernel".into(),
            initrd: "initrd".into(),
            cmdline: format!(
                "root=UUID={} ro {}",
                build.layout.root_uuid, build.bootstrap.kernel_cmdline
            ),
        }),
    }
}

fn next_version(shelf: &Shelf, name: &str, major: u64) -> Result<Version> {
    let today = jiff::Timestamp::now().strftime("%Y%m%d").to_string();
    let today = today.parse().map_err(|_| CatalogError::BadVersion {
        text: today,
        wildcards: false,
    })?;
    let pattern = format!("{major}.{today}.x").parse()?;
    let last = shelf
        .find(name, &pattern)?
        .map(|image| image.record.version.patch);
    Ok(Version::new(
        major,
        today,
        last.map_or(0, |patch| patch.saturating_add(1)),
    ))
}

/// One build's facts.
struct Build<'a> {
    bootstrap: &'a Bootstrap,
    mirror: Mirror,
    layout: Layout,
    work: Utf8PathBuf,
    progress: &'a dyn Progress,
}

impl Build<'_> {
    fn archive(&self) -> Utf8PathBuf {
        self.work.join("root.tar")
    }

    /// The files that the customize script left for places outside the root filesystem.
    fn export(&self) -> Utf8PathBuf {
        self.work.join("export")
    }

    fn customize_hook(&self) -> String {
        let Layout {
            root_uuid,
            esp_serial,
            ..
        } = &self.layout;
        let cmdline = &self.bootstrap.kernel_cmdline;
        // The script itself and not its path: in a user namespace the user's home may be out of reach.
        format!(
            "ROOT_UUID={root_uuid}\nESP_SERIAL={}\nROOT_PARTITION={}\nKERNEL_CMDLINE='{cmdline}'\n{CUSTOMIZE_DEBIAN}",
            layout::serial_text(*esp_serial),
            layout::ROOT_PARTITION,
        )
    }

    async fn install(&self) -> Result<()> {
        let mut command = if geteuid().is_root() {
            // For root mmdebstrap mounts /proc and the like in its tree. In a mount namespace of its own these go with the last
            // process, however that ends; on the host they would stay after a kill, in the way of the next build.
            let mut unshare = tool::command("unshare");
            unshare.args(["--mount", "--", "mmdebstrap"]);
            unshare
        } else {
            tool::command("mmdebstrap")
        };
        command
            .arg(if geteuid().is_root() {
                "--mode=root"
            } else {
                "--mode=unshare"
            })
            .args(["--variant=minbase", "--architectures=amd64", "--format=tar"])
            .arg(format!("--keyring={}", self.mirror.keyring))
            .arg(format!("--include={}", self.bootstrap.packages.join(",")))
            .arg(format!("--customize-hook={}", self.customize_hook()))
            .arg(&self.bootstrap.suite)
            .arg(self.archive().as_str())
            .args(
                self.mirror
                    .lines(&self.bootstrap.suite, &self.bootstrap.components),
            )
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8");
        if geteuid().is_root() {
            // Then what a killed build leaves lies in the staging folder, which the next one clears. A namespace's root may not
            // be able to get there.
            command.env("TMPDIR", self.work.as_str());
        }
        tool::run(command, self.progress).await
    }

    async fn assemble(&self) -> Result<Utf8PathBuf> {
        let raw = self.work.join("disk.raw");
        let file = File::create(&raw).map_err(CatalogError::io("create", raw.clone()))?;
        file.set_len(self.layout.size())
            .map_err(CatalogError::io("grow", raw.clone()))?;
        self.partition(&raw).await?;
        self.populate(&raw).await?;
        self.place_boot_loaders(&raw)?;
        Ok(raw)
    }

    async fn partition(&self, raw: &Utf8Path) -> Result<()> {
        let script = self.work.join("partitions");
        std::fs::write(&script, self.layout.sfdisk_script())
            .map_err(CatalogError::io("write", script.clone()))?;
        let mut shell = tool::command("sh");
        // The only way to hand sfdisk a script is its standard input.
        shell.args([
            "-c",
            r#"exec "$1" --quiet --no-reread --no-tell-kernel "$2" < "$3""#,
            "sh",
        ]);
        shell
            .arg(tool::find("sfdisk").unwrap_or_else(|| "sfdisk".into()))
            .args([raw.as_str(), script.as_str()]);
        tool::run(shell, self.progress).await
    }

    async fn populate(&self, raw: &Utf8Path) -> Result<()> {
        let script = self.work.join("populate.sh");
        std::fs::write(&script, POPULATE).map_err(CatalogError::io("write", script.clone()))?;
        let tree = self.work.join("tree");
        let mut command = if geteuid().is_root() {
            tool::command("sh")
        } else {
            // Our own user becomes root, so the work folder stays ours; the other ids come from /etc/subuid.
            let mut unshare = tool::command("unshare");
            unshare.args(["--map-root-user", "--map-auto", "--", "sh"]);
            unshare
        };
        command.args([
            script.as_str(),
            self.archive().as_str(),
            tree.as_str(),
            self.export().as_str(),
        ]);
        self.mke2fs(&mut command, &tree, raw);
        tool::run(command, self.progress).await
    }

    fn mke2fs(&self, command: &mut Command, tree: &Utf8Path, raw: &Utf8Path) {
        let Layout { root_uuid, .. } = self.layout;
        let offset = self.layout.root_offset();
        command
            .arg(tool::find("mke2fs").unwrap_or_else(|| "mke2fs".into()))
            .args([
                "-q", "-F", "-t", "ext4", "-L", "root", "-b", "4096", "-I", "256", "-m", "1",
            ])
            .args(["-O", FEATURES, "-U", &root_uuid.to_string()])
            .args([
                "-E",
                &format!("offset={offset},hash_seed={root_uuid},root_owner=0:0"),
            ])
            .args([
                "-d",
                tree.as_str(),
                raw.as_str(),
                &format!("{}k", self.layout.root_kib()),
            ]);
    }

    fn place_boot_loaders(&self, raw: &Utf8Path) -> Result<()> {
        let read = |name: &str| {
            let path = self.export().join(name);
            std::fs::read(&path).map_err(CatalogError::io("read", path))
        };
        let esp = esp::image(
            &self.export().join("esp"),
            layout::ESP_BYTES,
            self.layout.esp_serial,
        )?;
        let stages = grub::place(
            &read("boot.img")?,
            &read("core.img")?,
            layout::BIOS_START,
            layout::BIOS_SECTORS,
        )?;
        let write = || -> std::io::Result<()> {
            let mut disk = OpenOptions::new().write(true).open(raw)?;
            disk.write_all(&stages.boot_code)?;
            disk.seek(SeekFrom::Start(layout::BIOS_START * layout::SECTOR))?;
            disk.write_all(&stages.core)?;
            write_sparsely(&mut disk, layout::ESP_START * layout::SECTOR, &esp)
        };
        write().map_err(CatalogError::io("write", raw))
    }
}

/// Writes only what is not zero: the disk is fresh.
fn write_sparsely(disk: &mut File, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    const BLOCK: usize = 4096;
    let mut position = offset;
    for block in bytes.chunks(BLOCK) {
        if block.iter().any(|&byte| byte != 0) {
            disk.seek(SeekFrom::Start(position))?;
            disk.write_all(block)?;
        }
        position += block.len() as u64;
    }
    Ok(())
}
