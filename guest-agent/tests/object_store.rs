//! S3Download and S3Upload against a real S3 server: `s3s-fs` in the search path, or where `S3S_FS` points.
//!
//! Without the program the test says so and passes; `cargo install s3s-fs --features binary` provides it.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ovenbird_agent::config::{DocumentEntry, LogUpload, ObjectStore, RunConfig};
use ovenbird_agent::{Outcome, run};

const KEY: &str = "AKIDOVENBIRD";
const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

struct RealServer {
    child: Child,
    port: u16,
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("S3S_FS") {
        return Some(path.into());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join("s3s-fs"))
        .find(|path| path.is_file())
}

fn start(program: PathBuf, root: &std::path::Path) -> RealServer {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("address")
        .port();
    let child = Command::new(program)
        .args([
            "--access-key",
            KEY,
            "--secret-key",
            SECRET,
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
        .arg(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "the server does not come up"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    RealServer { child, port }
}

#[test]
fn objects_go_to_a_real_server_and_come_back() {
    let Some(program) = program() else {
        eprintln!("skipped: s3s-fs is not installed");
        return;
    };
    let folder = tempfile::tempdir().expect("folder");
    let at = |name: &str| folder.path().join(name);
    for made in ["root/bucket", "root/logs", "up/in"] {
        std::fs::create_dir_all(at(made)).expect("folders");
    }
    std::fs::write(at("up/a b.txt"), "one").expect("file");
    std::fs::write(at("up/in/ü.bin"), vec![7; 3 << 20]).expect("file");
    let server = start(program, &at("root"));
    let run_steps = |steps: &str, secret: &str| {
        let body: String = steps
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        std::fs::write(
            at("case.yml"),
            format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}"),
        )
        .expect("document");
        let config = RunConfig {
            documents: vec![DocumentEntry {
                path: at("case.yml").display().to_string(),
                parameters: Vec::new(),
                carried_from: None,
            }],
            log_directory: Some(at("local-logs")),
            working_directory: Some(folder.path().to_owned()),
            object_store: ObjectStore {
                endpoint: Some(format!("http://127.0.0.1:{}", server.port)),
                access_key_id: Some(KEY.to_owned()),
                secret_access_key: Some(secret.to_owned()),
                ..ObjectStore::default()
            },
            log_upload: Some(LogUpload {
                bucket: "logs".to_owned(),
                owner: None,
                prefix: "runs".to_owned(),
            }),
            ..RunConfig::default()
        };
        match run(&config, None).expect("a run") {
            Outcome::Finished(summary) => summary,
            Outcome::Reboot { .. } => panic!("no reboot was asked for"),
        }
    };
    let good = run_steps(
        "- {name: Up, action: S3Upload, inputs: [{source: up, destination: 's3://bucket/p/', recurse: true}, {source: 'up/a b.txt', destination: 's3://bucket/q/one'}]}\n- {name: Down, action: S3Download, inputs: [{source: 's3://bucket/p/*', destination: down}, {source: 's3://bucket/q/one', destination: down/}]}",
        SECRET,
    );
    assert_eq!(good.failed_step_count, 0, "{}", good.failure_message);
    assert_eq!(std::fs::read(at("down/a b.txt")).expect("file"), b"one");
    assert_eq!(
        std::fs::read(at("down/in/ü.bin")).expect("file").len(),
        3 << 20
    );
    assert_eq!(std::fs::read(at("down/one")).expect("file"), b"one");
    let name = std::path::Path::new(&good.log_url)
        .file_name()
        .expect("name")
        .to_owned();
    assert!(
        at("root/logs/runs").join(name).join("console.log").exists(),
        "the logs were uploaded"
    );

    let missing = run_steps(
        "- {name: X, action: S3Download, inputs: [{source: 's3://bucket/no', destination: d}]}",
        SECRET,
    );
    assert!(
        missing.failure_message.contains("NoSuchKey"),
        "{}",
        missing.failure_message
    );
    let refused = run_steps(
        "- {name: X, action: S3Download, inputs: [{source: 's3://bucket/q/one', destination: d}]}",
        "wrong",
    );
    assert!(
        refused.failure_message.contains("SignatureDoesNotMatch"),
        "{}",
        refused.failure_message
    );
}
