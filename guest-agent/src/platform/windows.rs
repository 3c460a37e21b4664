//! Windows.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code by which a command asks for a reboot and another run of the step, and the agent for a reboot.
pub const EXIT_REBOOT: i32 = 3010;

/// Whether files have modes and owners.
pub const HAS_MODES: bool = false;

/// Gives a command its environment: that of the agent. Windows programs do not start without much of it.
pub fn prepare_environment(_command: &mut Command) {}

/// Finds a program in the search path, or at its path when it has a separator.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let found = |path: PathBuf| {
        let mut longer = path.clone().into_os_string();
        longer.push(".exe");
        [path, longer.into()]
            .into_iter()
            .find(|path| path.is_file())
    };
    if name.contains(['/', '\\', ':']) {
        return found(PathBuf::from(name));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| found(folder.join(name)))
}

/// The folder in which commands run when none is asked for.
pub fn preset_working_directory() -> PathBuf {
    std::env::temp_dir()
}

/// Whether the agent may do everything: only administrators may read the configuration of the machine's services.
pub fn is_administrator() -> bool {
    let root = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    std::fs::read_dir(Path::new(&root).join(r"System32\config")).is_ok()
}

/// Modes do not exist here.
pub fn create_with_mode(options: &mut OpenOptions, _mode: u32) -> &mut OpenOptions {
    options
}

/// Creates a folder.
pub fn create_folder(path: &Path, _mode: u32) -> io::Result<()> {
    DirBuilder::new().create(path)
}

/// Creates a folder and those above it; who may see it follows from the folder above.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(path)
}

/// Modes do not exist here; inputs that ask for one have been refused.
pub fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Modes do not exist here.
pub fn copy_mode(_from: &Metadata, _to: &Path) -> io::Result<()> {
    Ok(())
}

/// A copy belongs to whoever copies.
pub fn copy_owner(_from: &Metadata, _to: &Path) -> io::Result<()> {
    Ok(())
}

/// Owners by number do not exist here; inputs that ask for one have been refused.
pub fn change_owner(_path: &Path, _uid: Option<u32>, _gid: Option<u32>) -> io::Result<()> {
    Ok(())
}

/// Owners by number do not exist here; inputs that ask for one have been refused.
pub fn change_owner_of_link(_path: &Path, _uid: Option<u32>, _gid: Option<u32>) -> io::Result<()> {
    Ok(())
}

/// Makes a symbolic link. Its kind depends on what it leads to.
pub fn symlink(target: impl AsRef<OsStr>, link: &Path) -> io::Result<()> {
    let target = Path::new(target.as_ref());
    let seen = link.parent().unwrap_or(Path::new("")).join(target);
    if seen.is_dir() {
        std::os::windows::fs::symlink_dir(target, link)
    } else {
        std::os::windows::fs::symlink_file(target, link)
    }
}

/// Folders cannot be synced here; renaming a file is journalled.
pub fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}
