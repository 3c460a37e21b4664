//! Linux and its kind.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::accounts::Accounts;

/// Exit code by which a command asks for a reboot and another run of the step, and the agent for a reboot.
pub const EXIT_REBOOT: i32 = 194;

/// Whether files have modes and owners.
pub const HAS_MODES: bool = true;

/// The search path of every command, whatever the agent itself was started with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that commands inherit from the agent; everything else would make a build depend on who started it.
const INHERITED: [&str; 16] = [
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ftp_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
];

/// Gives a command its environment.
pub fn prepare_environment(command: &mut Command) {
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let uid = nix::unistd::geteuid().as_raw();
    let home = Accounts::read(Path::new("/etc"))
        .user_by_number(uid)
        .map_or_else(|| "/root".to_owned(), |user| user.home);
    command
        .env("PATH", PATH)
        .env("HOME", home)
        .env("TERM", "dumb");
}

/// Finds a program in the search path of commands, or at its path when it has a separator.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| is_executable(path));
    }
    PATH.split(':')
        .map(|folder| Path::new(folder).join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The folder in which commands run when none is asked for, as in the service.
pub fn preset_working_directory() -> PathBuf {
    let preset = Path::new("/tmp");
    if preset.is_dir() {
        preset.to_owned()
    } else {
        PathBuf::from("/")
    }
}

/// Whether the agent may do everything.
pub fn is_administrator() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Sets the mode with which a file is created; the umask limits it.
pub fn create_with_mode(options: &mut OpenOptions, mode: u32) -> &mut OpenOptions {
    options.mode(mode)
}

/// Creates a folder with a mode that the umask limits.
pub fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// Creates a folder and those above it, for nobody else's eyes.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Sets the mode of a file or folder; a link is followed.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Gives a path the mode of another.
pub fn copy_mode(from: &Metadata, to: &Path) -> io::Result<()> {
    set_mode(to, from.permissions().mode() & 0o7777)
}

/// Gives a path, not what it links to, the owner and group of another.
pub fn copy_owner(from: &Metadata, to: &Path) -> io::Result<()> {
    change_owner_of_link(to, Some(from.uid()), Some(from.gid()))
}

/// Changes owner and group; a link is followed.
pub fn change_owner(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::chown(path, uid, gid)
}

/// Changes owner and group of a path itself, be it a link or not.
pub fn change_owner_of_link(path: &Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    std::os::unix::fs::lchown(path, uid, gid)
}

/// Makes a symbolic link.
pub fn symlink(target: impl AsRef<OsStr>, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target.as_ref(), link)
}

/// Makes sure that the names in a folder outlive a crash of the machine.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
