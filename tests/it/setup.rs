//! What the tests share: a home of their own with the base image that `make test` has built.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

/// A test's own home and work folder; both go away with it.
pub struct Setup {
    folder: tempfile::TempDir,
    home: &'static str,
}

/// Below this folder no Unix socket's path fits.
const DEEP: &str = "a-home-with-a-long-name/and-a-folder-with-an-even-longer-name-in-it/so-that-sockets-do-not-fit/home";

/// A home without anything in it.
pub fn empty() -> Setup {
    Setup {
        folder: tempfile::Builder::new()
            .prefix("ovenbird-test-")
            .tempdir()
            .unwrap(),
        home: "home",
    }
}

/// A home with the shared base image `debian-12`.
pub fn with_base() -> Setup {
    let setup = empty();
    let shared =
        Utf8PathBuf::from(std::env::var("OVENBIRD_TEST_HOME").unwrap_or_else(|_| {
            format!("{}/target/ovenbird-test/home", env!("CARGO_MANIFEST_DIR"))
        }));
    assert!(
        shared.join("bases/debian-12").is_dir(),
        "no base image in {shared}: run the tests with `make test`, which builds it"
    );
    std::fs::create_dir_all(setup.home()).unwrap();
    std::os::unix::fs::symlink(shared.join("bases"), setup.home().join("bases")).unwrap();
    // The probe's verdict comes along, else every test would run the probe anew; layers are each test's own.
    std::fs::create_dir_all(setup.home().join("cache")).unwrap();
    for entry in shared
        .join("cache")
        .read_dir_utf8()
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_name().starts_with("accelerator") {
            std::fs::copy(
                entry.path(),
                setup.home().join("cache").join(entry.file_name()),
            )
            .unwrap();
        }
    }
    setup
}

/// Files of the source tree.
pub fn source(path: &str) -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Setup {
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    pub fn home(&self) -> Utf8PathBuf {
        self.path().join(self.home)
    }

    /// The same with a home of a very long path.
    pub fn deep(mut self) -> Self {
        std::fs::create_dir_all(self.path().join(DEEP).parent().unwrap()).unwrap();
        std::fs::rename(self.home(), self.path().join(DEEP)).unwrap();
        self.home = DEEP;
        self
    }

    /// Writes a file below the work folder and returns its path.
    pub fn file(&self, name: &str, text: &str) -> Utf8PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, with this home and without colours.
    pub fn ovenbird(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.path())
            .env("OVENBIRD_HOME", self.home())
            .env("NO_COLOR", "1")
            .env_remove("OVENBIRD_LOG")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.ovenbird(arguments).output().unwrap())
    }

    /// Nothing of a build may be left: no run, no guest, no staging folder.
    pub fn assert_nothing_left(&self) {
        let runs = self.home().join("runs");
        let left: Vec<_> = runs
            .read_dir_utf8()
            .map(|entries| entries.flatten().collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "runs are left: {left:?}");
        assert_eq!(
            qemu_processes(self.home().as_str()),
            Vec::<u32>::new(),
            "guests are left"
        );
        let staged = find(&self.home(), &|path| {
            path.file_name().is_some_and(|name| name.ends_with(".part"))
        });
        assert!(
            staged.is_empty(),
            "half-written outputs are left: {staged:?}"
        );
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    assert_cmd::cargo::cargo_bin("ovenbird")
}

/// A finished run of the program.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.stderr.contains(text),
            "{text:?} is not in:\n{}",
            self.stderr
        );
        self
    }
}

/// Process ids of QEMUs that have `text` in their arguments.
pub fn qemu_processes(text: &str) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            // A zombie has an empty command line.
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            arguments.contains("qemu-system-") && arguments.contains(text)
        })
        .collect()
}

/// Waits for a condition; the bound is for a busy machine under software emulation.
#[track_caller]
pub fn wait_for<T>(what: &str, bound: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// All paths below a folder that fit; links are not followed.
pub fn find(folder: &Utf8Path, fits: &dyn Fn(&Utf8Path) -> bool) -> Vec<Utf8PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir_utf8().into_iter().flatten().flatten() {
        if fits(entry.path()) {
            found.push(entry.path().to_owned());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(find(entry.path(), fits));
        }
    }
    found
}

/// A program that `make setup` has installed beside the build if the system has none.
pub fn tool_in(name: &str) -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("target/ovenbird-test/tools/bin")
        .join(name);
    if own.is_file() { own } else { name.into() }
}

/// An ext4 filesystem of a size (`8M`) with what a folder holds, in a file that is made if it is not there.
pub fn ext4(tree: &Utf8Path, disk: &Utf8Path, size: &str) {
    ext4_at(0, tree, disk, size);
}

/// The same at an offset of a disk that is there.
pub fn ext4_at(offset: u64, tree: &Utf8Path, disk: &Utf8Path, size: &str) {
    let offset = format!("offset={offset}");
    let how = ["-q", "-F", "-t", "ext4", "-L", "root", "-E", &offset, "-d"];
    tool(
        "mke2fs",
        &[&how[..], &[tree.as_str(), disk.as_str(), size]].concat(),
    );
}

/// Runs a tool and returns its standard output; it must succeed.
#[track_caller]
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (`make setup` installs it)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
