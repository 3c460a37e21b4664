//! Component documents in a throw-away guest.

use std::process::Command;

use camino::Utf8PathBuf;

use crate::moto::Moto;
use crate::setup::{self, Ran, Setup};

const SECRET: &str = "hush-hush-4711";

fn document(name: &str) -> Utf8PathBuf {
    setup::source("tests/it/documents").join(name)
}

fn trial(setup: &Setup, documents: &[&str], options: &[&str]) -> Command {
    let mut arguments = vec![
        "component",
        "run",
        "--in",
        "debian-12",
        "--log-directory",
        "logs",
    ];
    arguments.extend(options);
    let paths: Vec<Utf8PathBuf> = documents.iter().map(|name| document(name)).collect();
    arguments.extend(paths.iter().map(|path| path.as_str()));
    setup.ovenbird(&arguments)
}

/// Agent events of a kind in the stream of a run.
fn events(stdout: &str, kind: &str) -> Vec<serde_json::Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["type"] == "agent" && event["event"]["type"] == kind)
        .map(|event| event["event"].clone())
        .collect()
}

/// One guest for several documents: those that reboot, one of the managed ones, and one with the real package manager and
/// its mirror.
#[test]
fn guest_documents_that_reboot_and_update_come_to_their_end() {
    let setup = setup::with_base();
    let documents = [
        "exit-194.yml",
        "reboot-between.yml",
        "loop-reboot.yml",
        "../../../recipes/components/hello-world/1.0.0.yml",
        "updates.yml",
    ];
    let options = ["--json", "--parameter", "Greeting=Hi"];
    let ran = Ran::of(trial(&setup, &documents, &options).output().unwrap()).expect(0);
    // Each of the first three rebooted once: four starts of the agent, the last three of them resume.
    let starts = events(&ran.stdout, "runStarted");
    let resumed: Vec<bool> = starts
        .iter()
        .map(|event| event["resumed"].as_bool().unwrap())
        .collect();
    assert_eq!(resumed, [false, true, true, true]);
    let finished = events(&ran.stdout, "runFinished");
    let summary = &finished.last().unwrap()["summary"];
    assert_eq!(summary["status"], "success", "{summary}");
    assert_eq!(summary["failedStepCount"], 0, "{summary}");
    // The logs were brought out: one folder for the run, with the outputs of both halves.
    let outputs = setup::find(&setup.path().join("logs"), &|path| {
        path.file_name() == Some("detailedoutput.json")
    });
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    let detailed = std::fs::read_to_string(&outputs[0]).unwrap();
    assert!(
        detailed.contains("second half in another boot"),
        "{detailed}"
    );
    assert!(detailed.contains("the image says: Hi"), "{detailed}");
    assert!(
        detailed.contains("Hello, world!"),
        "the new package says it"
    );
    setup.assert_nothing_left();
}

#[test]
fn guest_document_gets_values_and_objects_from_the_host() {
    let moto = Moto::start();
    let setup = setup::with_base();
    for (name, kind, value) in [
        ("/it/plain", "String", "in the open"),
        ("/it/secret", "SecureString", SECRET),
        ("/it/list", "StringList", "a,b,c"),
    ] {
        moto.aws(&[
            "ssm",
            "put-parameter",
            "--name",
            name,
            "--type",
            kind,
            "--value",
            value,
        ]);
    }
    let greeting = setup.file("greeting.txt", "hello from the host");
    moto.aws(&[
        "s3api",
        "create-bucket",
        "--bucket",
        "it-bucket",
        "--create-bucket-configuration",
        "LocationConstraint=eu-central-1",
    ]);
    moto.aws(&[
        "s3",
        "cp",
        greeting.as_str(),
        "s3://it-bucket/in/greeting.txt",
    ]);
    let mut command = trial(&setup, &["from-the-host.yml"], &["--no-network", "-v"]);
    let ran = Ran::of(moto.env(&mut command).output().unwrap()).expect(0);
    let answer = moto.aws(&["s3", "cp", "s3://it-bucket/out/answer.txt", "-"]);
    assert_eq!(answer, "from /root/greeting");
    // The secret is nowhere: not on the terminal, not in the logs, the stream, or what the guest's folder left behind.
    assert!(!ran.stdout.contains(SECRET) && !ran.stderr.contains(SECRET));
    let told = setup::find(setup.path(), &|path| {
        path.is_file()
            && !path.starts_with(setup.home().join("bases"))
            && std::fs::read(path).is_ok_and(|bytes| {
                bytes
                    .windows(SECRET.len())
                    .any(|window| window == SECRET.as_bytes())
            })
    });
    assert_eq!(told, Vec::<Utf8PathBuf>::new());
    let logs = setup::find(&setup.path().join("logs"), &|path| {
        path.file_name() == Some("detailedoutput.json")
    });
    assert_eq!(logs.len(), 1, "the logs were brought out");
    setup.assert_nothing_left();
}

#[test]
fn a_stored_value_that_does_not_exist_costs_no_boot() {
    let moto = Moto::start();
    let setup = setup::with_base();
    let mut command = trial(&setup, &["from-the-host.yml"], &[]);
    let ran = Ran::of(moto.env(&mut command).output().unwrap()).expect(3);
    ran.says("there is no Systems Manager parameter /it/list, /it/plain, /it/secret");
    assert!(
        !ran.stderr.contains("LaunchBuildInstance"),
        "{}",
        ran.stderr
    );
}

#[test]
fn parameters_that_no_document_has_are_refused() {
    let setup = setup::with_base();
    let ran = Ran::of(
        trial(&setup, &["exit-194.yml"], &["--parameter", "Colour=red"])
            .output()
            .unwrap(),
    )
    .expect(3);
    ran.says("no document has a parameter `Colour`");
}

/// On the host, since no guest is needed for it.
#[test]
fn an_upload_to_a_bucket_that_does_not_exist_is_refused() {
    let moto = Moto::start();
    let setup = setup::empty();
    let document = setup.file(
        "upload.yml",
        "schemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: Up\n    action: S3Upload\n    inputs: [{source: /etc/hostname, destination: 's3://no-such-bucket/x'}]\n",
    );
    let mut command = setup.ovenbird(&[
        "component",
        "run",
        document.as_str(),
        "--log-directory",
        "logs",
    ]);
    let ran = Ran::of(moto.env(&mut command).output().unwrap()).expect(1);
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let message = summary["failureMessage"].as_str().unwrap();
    assert!(
        message.contains("cannot write s3://no-such-bucket/x: NoSuchBucket"),
        "{message}"
    );
}
