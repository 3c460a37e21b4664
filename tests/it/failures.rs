//! Whatever goes wrong: a clear message, the documented exit code, and nothing left behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::recipe;
use crate::setup::{self, Ran, Setup, qemu_processes, wait_for};

const LONG: Duration = Duration::from_secs(300);

fn component(phase: &str, step: &str) -> String {
    format!("name: trouble\nschemaVersion: 1.0\nphases:\n- name: {phase}\n  steps:\n{step}")
}

fn failing(phase: &str) -> String {
    component(
        phase,
        "  - name: Breaks\n    action: ExecuteBash\n    inputs: {commands: [\"echo about to break\", \"echo very sorry >&2\", \"exit 17\"]}\n",
    )
}

/// A base like the shared one whose kernel is told to run `cmdline` in addition.
fn base_with_cmdline(setup: &Setup, extra: &str) {
    let shared = setup.home().join("bases");
    let source = std::fs::canonicalize(&shared).unwrap();
    std::fs::remove_file(&shared).unwrap();
    let source = camino::Utf8PathBuf::try_from(source)
        .unwrap()
        .join("debian-12");
    let version = source
        .read_dir_utf8()
        .unwrap()
        .flatten()
        .find(|entry| entry.path().join("base.json").is_file())
        .unwrap();
    let target = shared.join("debian-12").join(version.file_name());
    std::fs::create_dir_all(&target).unwrap();
    for entry in version.path().read_dir_utf8().unwrap().flatten() {
        if entry.file_name() == "base.json" {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
            let cmdline = format!("{} {extra}", record["kernel"]["cmdline"].as_str().unwrap());
            record["kernel"]["cmdline"] = cmdline.into();
            std::fs::write(target.join("base.json"), record.to_string()).unwrap();
        } else {
            std::fs::hard_link(entry.path(), target.join(entry.file_name()))
                .or_else(|_| std::fs::copy(entry.path(), target.join(entry.file_name())).map(drop))
                .unwrap();
        }
    }
}

#[test]
fn guest_component_that_fails_in_build_can_be_kept_and_looked_at() {
    let setup = setup::with_base();
    setup.file("c.yml", &failing("build"));
    setup.file("r.yml", &recipe(""));
    let ran = setup
        .run(&["build", "r.yml", "--on-error", "keep"])
        .expect(6);
    ran.says("component trouble, phase build, step Breaks")
        .says("very sorry")
        .says("last lines of the console")
        .says("the guest is kept; log in with:");
    its_qemu_has_no_rights(&setup);
    // The guest outlives the build, and the printed line lets us in.
    let inside = setup.run(&["ssh", "--", "cat", "/etc/hostname"]).expect(0);
    assert_eq!(inside.stdout.trim(), "ovenbird-build");
    let line = ran
        .stderr
        .lines()
        .find(|line| line.trim_start().contains("ssh -F"))
        .unwrap();
    let line = line[line.find("ssh -F").unwrap()..].to_owned();
    let shell = Command::new("sh")
        .arg("-c")
        .arg(format!("{line} true"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        shell.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&shell.stderr)
    );
    // The logs were copied out although it failed.
    let logs = setup
        .run(&["logs", "web-server", "--files"])
        .expect(0)
        .stdout;
    assert!(
        logs.contains("detailedoutput.json") && logs.contains("console.log"),
        "{logs}"
    );
    let shown = setup
        .run(&["image", "show", "web server", "--json"])
        .expect(0)
        .stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["image"]["state"], "FAILED");
    setup.run(&["image", "rm", "web-server/1.0.0/1"]).expect(0);
    wait_for("the kept guest's end", Duration::from_secs(10), || {
        qemu_processes(setup.home().as_str())
            .is_empty()
            .then_some(())
    });
    setup.assert_nothing_left();
    assert_eq!(
        setup.run(&["image", "list"]).expect(0).stdout,
        "no images\n"
    );
}

/// What the kernel says of the QEMU that runs the guest of this home.
fn its_qemu_has_no_rights(setup: &setup::Setup) {
    let pids = qemu_processes(setup.home().as_str());
    assert_eq!(pids.len(), 1, "{pids:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("{name} in {status}")).trim()
    };
    assert_eq!(field("NoNewPrivs"), "1");
    // A filter of system calls.
    assert_eq!(field("Seccomp"), "2");
    let own = nix::unistd::geteuid();
    if !own.is_root() {
        assert_eq!(field("CapEff"), "0000000000000000");
        return;
    }
    let user = ["ovenbird", "nobody"]
        .into_iter()
        .find_map(|name| nix::unistd::User::from_name(name).unwrap())
        .unwrap();
    assert_eq!(field("Uid"), vec![user.uid.to_string(); 4].join("\t"));
    assert_eq!(field("Gid"), vec![user.gid.to_string(); 4].join("\t"));
    assert_eq!(field("Groups"), "");
    // CAP_DAC_OVERRIDE alone: the home is root's.
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd"] {
        assert_eq!(field(set), "0000000000000002", "{set}");
    }
}

#[test]
fn guest_component_that_runs_too_long_is_ended() {
    let setup = setup::with_base();
    setup.file(
        "c.yml",
        &component(
            "build",
            "  - name: Sleeps\n    action: ExecuteBash\n    timeoutSeconds: 5\n    inputs: {commands: [\"echo going to sleep\", \"sleep 3600\"]}\n",
        ),
    );
    setup.file("r.yml", &recipe(""));
    let ran = setup.run(&["build", "r.yml"]).expect(6);
    ran.says("component trouble, phase build, step Sleeps")
        .says("5");
    setup.assert_nothing_left();
}

/// The outputs of an image whose test failed are not delivered, and not lost: `image retry` tests them again, without
/// another bake, and the image keeps its number.
#[test]
fn guest_component_that_fails_in_test_fails_the_image_until_it_passes() {
    let setup = setup::with_base();
    // Something outside that the image needs, as the guest sees it: the host's loopback interface.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let test = format!(
        "  - name: Asks\n    action: ExecuteBash\n    inputs: {{commands: [\"echo about to ask\", \
         \"exec 3<>/dev/tcp/10.0.2.2/{port}\", \"head -c 5 <&3\"]}}\n"
    );
    setup.file("c.yml", &component("test", &test));
    setup.file("r.yml", &recipe("local: {outputs: [raw]}\n"));
    let ran = setup.run(&["build", "r.yml"]).expect(7);
    ran.says("component trouble, phase test, step Asks")
        .says("about to ask")
        .says("`ovenbird image retry web server/1.0.0/1` tests them again");
    setup.assert_nothing_left();
    let delivered = setup.home().join("images/web-server/1.0.0/1");
    assert!(!delivered.exists(), "a failed image is not delivered");

    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        use std::io::Write as _;
        while let Ok((mut guest, _)) = listener.accept() {
            let _ = guest.write_all(b"hello");
        }
    });
    let ran = setup
        .run(&["image", "retry", "web server/1.0.0/1", "--json"])
        .expect(0);
    let started: Vec<&str> = ran
        .stdout
        .lines()
        .filter(|line| line.contains("\"type\":\"stepStarted\""))
        .collect();
    assert!(
        started.iter().all(|line| !line.contains("BuildInstance")),
        "the image is not built again: {started:#?}"
    );
    setup.assert_nothing_left();
    assert!(delivered.join("manifest.json").is_file());
    let shown = setup
        .run(&["image", "show", "web-server/1.0.0/1", "--json"])
        .expect(0)
        .stdout;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["image"]["state"], "AVAILABLE");
    let refused = setup
        .run(&["image", "retry", "web-server/1.0.0/1"])
        .expect(3);
    refused.says("only builds that failed or were cancelled are retried");
}

#[test]
fn guest_that_panics_at_boot_is_told_by_its_console() {
    let setup = setup::with_base();
    base_with_cmdline(&setup, "rdinit=/bin/false");
    setup.file("c.yml", &failing("build"));
    setup.file("r.yml", &recipe(""));
    let ran = setup.run(&["build", "r.yml"]).expect(5);
    ran.says("the guest's kernel panicked")
        .says("last lines of the console")
        .says("Kernel panic");
    setup.assert_nothing_left();
}

/// Starts a build and waits until its QEMU runs.
fn started(setup: &Setup) -> (std::process::Child, u32) {
    setup.file("c.yml", &failing("build"));
    setup.file("r.yml", &recipe(""));
    let child = setup
        .ovenbird(&["build", "r.yml"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let qemu = wait_for("QEMU", LONG, || {
        qemu_processes(setup.home().as_str()).first().copied()
    });
    // The control socket is connected a moment later.
    std::thread::sleep(Duration::from_secs(2));
    (child, qemu)
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

#[test]
fn guest_whose_qemu_is_killed_is_reported() {
    // A home so deep that no socket's path fits below it.
    let setup = setup::with_base().deep();
    let (child, qemu) = started(&setup);
    signal(qemu, Signal::SIGKILL);
    let ran = Ran::of(child.wait_with_output().unwrap()).expect(5);
    ran.says("QEMU ended while the guest was starting (killed by signal 9)");
    setup.assert_nothing_left();
}

#[test]
fn guest_is_stopped_by_ctrl_c() {
    let setup = setup::with_base();
    let (child, _) = started(&setup);
    signal(child.id(), Signal::SIGINT);
    let ran = Ran::of(child.wait_with_output().unwrap()).expect(130);
    ran.says("cancelling").says("CANCELLED");
    setup.assert_nothing_left();
    let list = setup.run(&["image", "list", "--json"]).expect(0).stdout;
    assert!(list.contains("\"CANCELLED\""), "{list}");
}

#[test]
fn guest_dies_with_a_killed_ovenbird_and_the_next_run_clears_up() {
    let setup = setup::with_base();
    let (mut child, _) = started(&setup);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the orphan's end", Duration::from_secs(10), || {
        qemu_processes(setup.home().as_str())
            .is_empty()
            .then_some(())
    });
    // The next build notices; it fails early here, since its recipe has become unreadable.
    setup.file("r.yml", "kind: ImageRecipe\n");
    let ran = setup.run(&["build", "r.yml"]).expect(3);
    ran.says("cleared what the dead build of web server/1.0.0/1 had left");
    setup.assert_nothing_left();
    let list = setup.run(&["image", "list", "--json"]).expect(0).stdout;
    assert!(
        list.contains("\"FAILED\"") && list.contains("the build's process ended"),
        "{list}"
    );
}
