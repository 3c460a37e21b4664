//! What changes the machine itself, in namespaces of its own: package managers that only write down how they were
//! called, and a reboot that does not happen.

mod namespace;

use std::path::{Path, PathBuf};
use std::process::Output;

use namespace::Instead;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().expect("folder"),
        };
        for name in ["local", "sbin", "run", "etc/systemd/system"] {
            std::fs::create_dir_all(machine.at(name)).expect("folder");
        }
        for name in ["passwd", "group"] {
            std::fs::copy(Path::new("/etc").join(name), machine.at("etc").join(name))
                .expect("accounts");
        }
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_default()
    }

    /// Makes a program that writes down its name and arguments and then does `more`.
    fn program(&self, folder: &str, name: &str, more: &str) {
        let calls = self.at("calls").display().to_string();
        namespace::program(
            &self.at(folder).join(name),
            &format!("echo \"{name} $*\" >> {calls}\n{more}"),
        );
    }

    fn write_steps(&self, steps: &str) {
        let body: String = steps
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        std::fs::write(
            self.at("case.yml"),
            format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}"),
        )
        .expect("document");
    }

    fn arguments(&self) -> Vec<String> {
        let at = |name: &str| self.at(name).display().to_string();
        [
            "run",
            "-d",
            &at("case.yml"),
            "-s",
            &at("state"),
            "-l",
            &at("logs"),
        ]
        .into_iter()
        .chain(["--working-directory", &at("")])
        .map(str::to_owned)
        .collect()
    }

    /// The real package manager of the machine is out of sight; the search path starts at our programs.
    fn update(&self, inputs: &str) -> Output {
        self.write_steps(&format!(
            "- {{name: U, action: UpdateOS, inputs: {inputs}}}"
        ));
        let local = self.at("local");
        let mut places = vec![("/usr/local/sbin", Instead::Path(&local))];
        places.extend(
            [
                "/usr/bin/apt-get",
                "/usr/bin/dnf",
                "/usr/bin/yum",
                "/usr/bin/zypper",
            ]
            .map(|place| (place, Instead::NoProgram)),
        );
        namespace::agent(&places)
            .args(self.arguments())
            .output()
            .expect("ran")
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

const APT: &str = "apt-get -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300";

#[test]
fn every_package_manager_is_called_as_it_wants_to_be() {
    let apt_all = format!("apt-get update\n{APT} dist-upgrade\n");
    let apt_some = format!("apt-get update\n{APT} install --only-upgrade bash vim\n");
    // The hold on `grub` was there before and stays.
    let apt_without = format!(
        "apt-mark showhold\napt-get update\napt-mark hold linux-image\n{APT} dist-upgrade\napt-mark unhold linux-image\n"
    );
    let cases: [(&str, &str, &str); 14] = [
        ("apt-get apt-mark", "{}", &apt_all),
        ("apt-get apt-mark", "{include: [bash, vim]}", &apt_some),
        (
            "apt-get apt-mark",
            "{exclude: [linux-image, grub]}",
            &apt_without,
        ),
        // Where several are installed, the first one owns the system.
        ("apt-get apt-mark dnf", "{}", &apt_all),
        ("dnf yum", "{}", "dnf -y upgrade\n"),
        ("dnf", "{include: [bash]}", "dnf -y upgrade bash\n"),
        (
            "dnf",
            "{include: [bash, vim], exclude: [vim]}",
            "dnf -y upgrade --exclude=vim bash\n",
        ),
        (
            "yum",
            "{exclude: ['kernel*']}",
            "yum -y update --exclude=kernel*\n",
        ),
        ("yum", "{include: [bash]}", "yum -y update bash\n"),
        (
            "zypper",
            "{}",
            "zypper --non-interactive refresh\nzypper --non-interactive update --auto-agree-with-licenses\n",
        ),
        (
            "zypper",
            "{exclude: [vim]}",
            "zypper --non-interactive refresh\nzypper --non-interactive addlock vim\nzypper --non-interactive update --auto-agree-with-licenses\nzypper --non-interactive removelock vim\n",
        ),
        ("apk", "{}", "apk upgrade --update-cache --available\n"),
        (
            "apk",
            "{include: [bash]}",
            "apk add --update-cache --upgrade bash\n",
        ),
        ("dnf", "{include: [bash], exclude: [bash]}", ""),
    ];
    for (programs, inputs, wanted) in cases {
        let machine = Machine::new();
        for name in programs.split(' ') {
            // Only apt-mark is asked for something.
            machine.program("local", name, "[ \"$1\" != showhold ] || echo grub");
        }
        let output = machine.update(inputs);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{programs} {inputs}: {}",
            text(&output)
        );
        assert_eq!(machine.read("calls"), wanted, "{programs} {inputs}");
    }
}

#[test]
fn locks_are_taken_back_after_a_failed_update() {
    let machine = Machine::new();
    machine.program(
        "local",
        "zypper",
        "[ \"$2\" != update ] || { echo no space >&2; exit 8; }",
    );
    let output = machine.update("{exclude: [vim]}");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no space"), "{}", text(&output));
    assert!(machine.read("calls").ends_with("removelock vim\n"));
}

#[test]
fn a_reboot_that_zypper_wants_is_no_failure() {
    for (code, wanted) in [(102, 0), (103, 0), (104, 1)] {
        let machine = Machine::new();
        machine.program(
            "local",
            "zypper",
            &format!("[ \"$2\" != update ] || exit {code}"),
        );
        let output = machine.update("{}");
        assert_eq!(
            output.status.code(),
            Some(wanted),
            "{code}: {}",
            text(&output)
        );
    }
}

#[test]
fn what_cannot_be_updated_is_refused_with_the_reason() {
    let cases = [
        ("", "{}", "no package manager is installed"),
        ("apk", "{exclude: [musl]}", "apk cannot leave packages out"),
        (
            "dnf",
            "{include: ['--nogpgcheck']}",
            "is not the name of a package",
        ),
    ];
    for (program, inputs, wanted) in cases {
        let machine = Machine::new();
        if !program.is_empty() {
            machine.program("local", program, "");
        }
        let output = machine.update(inputs);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(wanted), "{}", text(&output));
        assert_eq!(machine.read("calls"), "");
    }
}

#[test]
fn only_root_updates_the_system() {
    let machine = Machine::new();
    machine.program("local", "apt-get", "");
    machine.write_steps("- {name: U, action: UpdateOS}");
    let output = std::process::Command::new("unshare")
        .args([
            "--user",
            "--map-user=1000",
            env!("CARGO_BIN_EXE_ovenbird-agent"),
        ])
        .args(machine.arguments())
        .output()
        .expect("ran");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("UpdateOS has to run as root"), "{text}");
}

#[test]
fn scripts_need_bash() {
    let machine = Machine::new();
    machine.write_steps("- {name: U, action: ExecuteBash, inputs: {commands: [date]}}");
    let output = namespace::agent(&[
        ("/bin/bash", Instead::NoProgram),
        ("/usr/bin/bash", Instead::NoProgram),
    ])
    .args(machine.arguments())
    .output()
    .expect("ran");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("bash is not installed in this guest"),
        "{text}"
    );
}

/// Should the guard be broken, only a folder of the test is emptied.
#[test]
fn folders_of_the_operating_system_are_neither_emptied_nor_deleted() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.at("home/somebody")).expect("folder");
    let home = machine.at("home");
    for step in [
        "- {name: D, action: DeleteFolder, inputs: [{path: /home, force: true}]}",
        "- {name: D, action: CreateFolder, inputs: [{path: /home}]}",
    ] {
        machine.write_steps(step);
        let output = namespace::agent(&[("/home", Instead::Path(&home))])
            .args(machine.arguments())
            .output()
            .expect("ran");
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("belongs to the operating system and is not emptied or deleted"),
            "{text}"
        );
        assert!(machine.at("home/somebody").is_dir());
    }
}

/// Runs with `--reboot self`, follows what was registered for the next start, and gives the exit codes on the way.
fn reboot_and_come_back(machine: &Machine, registered: impl Fn() -> Option<String>) -> Vec<i32> {
    let (sbin, run, etc) = (machine.at("sbin"), machine.at("run"), machine.at("etc"));
    let command = || {
        let mut command = namespace::command(&[
            ("/usr/sbin", Instead::Path(&sbin)),
            ("/run", Instead::Path(&run)),
            ("/etc", Instead::Path(&etc)),
        ]);
        command.env("PATH", "/usr/sbin:/usr/bin:/bin");
        command
    };
    let mut line: Option<String> = None;
    let mut codes = Vec::new();
    loop {
        let output = match &line {
            None => command()
                .arg(env!("CARGO_BIN_EXE_ovenbird-agent"))
                .args(machine.arguments())
                .args(["--reboot", "self"])
                .output(),
            Some(line) => command().args(["sh", "-c", line]).output(),
        }
        .expect("ran");
        codes.push(output.status.code().unwrap_or(-1));
        assert!(codes.len() < 9, "{codes:?} {}", text(&output));
        line = registered();
        if line.is_none() {
            return codes;
        }
        assert_eq!(codes.last(), Some(&194), "{}", text(&output));
    }
}

const REBOOTS: &str = "- {name: A, action: ExecuteBash, inputs: {commands: ['echo a >> order']}}\n- {name: B, action: Reboot}\n- {name: C, action: ExecuteBash, loop: {forEach: [x, y]}, inputs: {commands: ['echo c{{ loop.value }} >> order; test -e c{{ loop.value }} || { touch c{{ loop.value }}; exit 194; }']}}\n- {name: D, action: ExecuteBash, inputs: {commands: ['echo d >> order']}}";

#[test]
fn the_agent_reboots_the_machine_itself_and_comes_back_by_systemd() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.at("run/systemd/system")).expect("folder");
    machine.program("sbin", "reboot", "");
    machine.write_steps(REBOOTS);
    let unit = machine.at("etc/systemd/system/ovenbird-agent-resume.service");
    let link =
        machine.at("etc/systemd/system/multi-user.target.wants/ovenbird-agent-resume.service");
    let codes = reboot_and_come_back(&machine, || {
        let text = std::fs::read_to_string(&unit).ok()?;
        assert!(std::fs::symlink_metadata(&link).is_ok(), "enabled");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))?;
        Some(line.replace("%%", "%"))
    });
    assert_eq!(codes, [194, 194, 194, 0]);
    assert_eq!(machine.read("calls"), "reboot \n".repeat(3));
    assert_eq!(machine.read("order"), "a\ncx\ncx\ncy\ncy\nd\n");
    assert!(!unit.exists() && std::fs::symlink_metadata(&link).is_err());
}

#[test]
fn without_systemd_it_comes_back_by_cron_and_keeps_what_is_there() {
    let machine = Machine::new();
    let table = machine.at("table");
    std::fs::write(&table, "0 5 * * * true\n").expect("table");
    machine.program("sbin", "reboot", "");
    namespace::program(
        &machine.at("sbin/crontab"),
        &format!(
            "if [ \"$1\" = -l ]; then cat {0}; else cat \"$1\" > {0}; fi",
            table.display()
        ),
    );
    machine.write_steps(REBOOTS);
    let codes = reboot_and_come_back(&machine, || {
        let text = machine.read("table");
        assert!(text.starts_with("0 5 * * * true\n"), "{text}");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("@reboot "))?;
        Some(line.to_owned())
    });
    assert_eq!(codes, [194, 194, 194, 0]);
    assert_eq!(machine.read("order"), "a\ncx\ncx\ncy\ncy\nd\n");
    assert_eq!(machine.read("table"), "0 5 * * * true\n");
}

#[test]
fn a_reboot_that_is_refused_fails_the_run() {
    let machine = Machine::new();
    std::fs::create_dir_all(machine.at("run/systemd/system")).expect("folder");
    machine.program("sbin", "reboot", "exit 1");
    machine.write_steps("- {name: B, action: Reboot}");
    let (sbin, run, etc) = (machine.at("sbin"), machine.at("run"), machine.at("etc"));
    // In a user namespace the kernel refuses as well.
    let output = namespace::agent(&[
        ("/usr/sbin", Instead::Path(&sbin)),
        ("/run", Instead::Path(&run)),
        ("/etc", Instead::Path(&etc)),
    ])
    .args(machine.arguments())
    .args(["--reboot", "self"])
    .output()
    .expect("ran");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("cannot reboot"), "{}", text(&output));
}
