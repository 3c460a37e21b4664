//! S3Download, S3Upload, uploaded logs and documents at `s3://` against a real S3 server: `s3s` over a folder, started in
//! this process and reached over the loopback.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use ovenbird_agent::config::{DocumentEntry, LogUpload, ObjectStore, RunConfig};
use ovenbird_agent::{Outcome, run};
use ovenbird_component::event::Summary;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

const KEY: &str = "AKIDOVENBIRD";
const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";

/// A server and the folder it serves; buckets are the folders below `root`.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    /// Starts a server with the buckets `bucket` and `logs`; its thread ends with the test process.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("root");
        for bucket in ["bucket", "logs"] {
            std::fs::create_dir_all(root.join(bucket)).expect("bucket");
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || serve(listener, &root));
        Self { folder, port }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, content).expect("file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.at(name)).unwrap_or_else(|error| format!("{name}: {error}"))
    }

    /// All files below a folder, as paths inside it.
    fn list(&self, name: &str) -> Vec<String> {
        fn collect(folder: &Path, base: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    collect(&path, base, found);
                } else {
                    let inner = path.strip_prefix(base).expect("below");
                    found.push(inner.display().to_string());
                }
            }
        }
        let mut found = Vec::new();
        collect(&self.at(name), &self.at(name), &mut found);
        found.sort();
        found
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn document(steps: &str) -> String {
        let body: String = steps
            .lines()
            .map(|line| format!("      {line}\n"))
            .collect();
        format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}")
    }

    fn run_as(&self, steps: &str, secret: &str, upload: bool) -> Summary {
        self.run_at(steps, self.store(secret), upload)
    }

    fn store(&self, secret: &str) -> ObjectStore {
        ObjectStore {
            endpoint: Some(self.endpoint()),
            access_key_id: Some(KEY.to_owned()),
            secret_access_key: Some(secret.to_owned()),
            ..ObjectStore::default()
        }
    }

    fn run_at(&self, steps: &str, object_store: ObjectStore, upload: bool) -> Summary {
        self.write("case.yml", Self::document(steps).as_bytes());
        let config = RunConfig {
            documents: vec![DocumentEntry {
                path: self.at("case.yml").display().to_string(),
                parameters: Vec::new(),
                carried_from: None,
            }],
            log_directory: Some(self.at("local-logs")),
            working_directory: Some(self.folder.path().to_owned()),
            object_store,
            log_upload: upload.then(|| LogUpload {
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
    }

    fn run(&self, steps: &str) -> Summary {
        self.run_as(steps, SECRET, false)
    }

    /// The program itself, with the credentials in its environment as on the service's machines.
    fn agent(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ovenbird-agent"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_ENDPOINT_URL_S3", self.endpoint())
            .output()
            .expect("ran")
    }
}

fn serve(listener: std::net::TcpListener, root: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a store"));
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = builder.build();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                // A client that hangs up is not the server's trouble.
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
}

#[test]
fn folders_go_to_a_real_server_and_come_back() {
    let place = Place::start();
    place.write("up/a b.txt", b"one");
    place.write("up/in/\u{fc}.bin", &vec![7; 3 << 20]);
    let good = place.run_as(
        "- {name: Up, action: S3Upload, inputs: [{source: up, destination: 's3://bucket/p/', recurse: true}, {source: 'up/a b.txt', destination: 's3://bucket/q/one'}]}\n- {name: Down, action: S3Download, inputs: [{source: 's3://bucket/p/*', destination: down}, {source: 's3://bucket/q/one', destination: down/}]}",
        SECRET,
        true,
    );
    assert_eq!(good.failed_step_count, 0, "{}", good.failure_message);
    assert_eq!(place.read("down/a b.txt"), "one");
    assert_eq!(
        std::fs::read(place.at("down/in/\u{fc}.bin"))
            .expect("file")
            .len(),
        3 << 20
    );
    assert_eq!(place.read("down/one"), "one");
    let name = Path::new(&good.log_url)
        .file_name()
        .expect("name")
        .display()
        .to_string();
    assert!(
        place
            .list("root/logs")
            .contains(&format!("runs/{name}/console.log")),
        "the logs were uploaded: {:?}",
        place.list("root/logs")
    );
}

#[test]
fn what_a_source_selects() {
    let place = Place::start();
    for name in ["a.log", "b.log", "c.txt", "in/d.log", "in/deep/e.log"] {
        place.write(&format!("up/{name}"), name.as_bytes());
    }
    // Source, recurse, and what is in the bucket afterwards.
    let uploads: [(&str, bool, &[&str]); 6] = [
        ("up", false, &["a.log", "b.log", "c.txt"]),
        (
            "up/",
            true,
            &["a.log", "b.log", "c.txt", "in/d.log", "in/deep/e.log"],
        ),
        ("up/*.log", false, &["a.log", "b.log"]),
        ("up/*", false, &["a.log", "b.log", "c.txt"]),
        (
            "up/*",
            true,
            &["a.log", "b.log", "c.txt", "in/d.log", "in/deep/e.log"],
        ),
        ("up/c.txt", false, &["c.txt"]),
    ];
    for (number, (source, recurse, wanted)) in uploads.into_iter().enumerate() {
        let ran = place.run(&format!(
            "- {{name: U, action: S3Upload, inputs: [{{source: '{source}', destination: 's3://bucket/{number}/', recurse: {recurse}}}]}}"
        ));
        assert_eq!(ran.failed_step_count, 0, "{}", ran.failure_message);
        assert_eq!(
            place.list(&format!("root/bucket/{number}")),
            wanted,
            "{source} {recurse}"
        );
    }
    // Source below the complete tree, and what is in the folder afterwards.
    let downloads: [(&str, &[&str]); 4] = [
        (
            "*",
            &["a.log", "b.log", "c.txt", "in/d.log", "in/deep/e.log"],
        ),
        ("in/*", &["d.log", "deep/e.log"]),
        ("b*", &["b.log"]),
        ("in/d*", &["d.log", "deep/e.log"]),
    ];
    for (number, (source, wanted)) in downloads.into_iter().enumerate() {
        let ran = place.run(&format!(
            "- {{name: D, action: S3Download, inputs: [{{source: 's3://bucket/1/{source}', destination: 'down{number}'}}]}}"
        ));
        assert_eq!(ran.failed_step_count, 0, "{}", ran.failure_message);
        assert_eq!(place.list(&format!("down{number}")), wanted, "{source}");
    }
}

#[test]
fn a_thousand_objects_are_the_most() {
    let place = Place::start();
    for number in 0..1_001 {
        place.write(&format!("root/bucket/many/{number:04}"), b"x");
    }
    let step = "- {name: D, action: S3Download, inputs: [{source: 's3://bucket/many/*', destination: down}]}";
    let refused = place.run(step);
    assert!(
        refused.failure_message.contains("more than 1000"),
        "{}",
        refused.failure_message
    );
    assert!(place.list("down").is_empty(), "nothing was fetched before");
    std::fs::remove_file(place.at("root/bucket/many/0500")).expect("removed");
    let good = place.run(step);
    assert_eq!(good.failed_step_count, 0, "{}", good.failure_message);
    assert_eq!(place.list("down").len(), 1_000);
}

#[test]
fn what_goes_wrong_says_why_and_leaves_what_is_there_already() {
    let place = Place::start();
    place.write("root/bucket/q/one", b"one");
    place.write("here", b"old");
    place.write("one.txt", b"1");
    // Sparse: it takes no room.
    std::fs::File::create(place.at("large"))
        .and_then(|file| file.set_len((5 << 30) + 1))
        .expect("a file");
    let cases = [
        (
            "S3Download",
            "source: 's3://bucket/no', destination: d",
            "NoSuchKey",
        ),
        // For an object this server says only that there is none.
        (
            "S3Download",
            "source: 's3://nobucket/q', destination: d",
            "NoSuch",
        ),
        (
            "S3Download",
            "source: 's3://nobucket/*', destination: d",
            "NoSuchBucket",
        ),
        (
            "S3Download",
            "source: 's3://bucket/none/*', destination: d",
            "there are no objects",
        ),
        (
            "S3Download",
            "source: 's3://bucket/q/', destination: d",
            "names no object",
        ),
        (
            "S3Download",
            "source: 's3://bucket/q/one', destination: here, overwrite: false",
            "exists and overwrite is false",
        ),
        (
            "S3Upload",
            "source: large, destination: 's3://bucket/x'",
            "bytes, the most that one upload takes",
        ),
        (
            "S3Upload",
            "source: gone, destination: 's3://bucket/x'",
            "gone",
        ),
        (
            "S3Upload",
            "source: '*.gone', destination: 's3://bucket/x/'",
            "nothing to upload",
        ),
    ];
    for (module, inputs, wanted) in cases {
        let ran = place.run(&format!(
            "- {{name: X, action: {module}, inputs: [{{{inputs}}}]}}"
        ));
        assert!(
            ran.failure_message.contains(wanted),
            "{inputs}: {}",
            ran.failure_message
        );
    }
    assert_eq!(place.read("here"), "old");
    assert!(!place.at("d").exists());
    // The second of two fails; the first is kept.
    let half = place.run(
        "- {name: X, action: S3Upload, inputs: [{source: one.txt, destination: 's3://bucket/kept'}, {source: gone, destination: 's3://bucket/x'}]}",
    );
    assert_eq!(half.failed_step_count, 1);
    assert_eq!(place.list("root/bucket"), ["kept", "q/one"]);
}

#[test]
fn wrong_credentials_are_refused_and_not_shown() {
    let place = Place::start();
    place.write("root/bucket/q/one", b"one");
    let refused = place.run_as(
        "- {name: X, action: S3Download, inputs: [{source: 's3://bucket/q/one', destination: d}]}",
        "a-wrong-secret",
        false,
    );
    assert!(
        refused.failure_message.contains("SignatureDoesNotMatch"),
        "{}",
        refused.failure_message
    );
    let log =
        std::fs::read_to_string(Path::new(&refused.log_url).join("application.log")).expect("log");
    assert!(!log.contains("a-wrong-secret"));
    assert!(!place.at("d").exists());
}

#[test]
fn a_store_that_cannot_be_used_is_named() {
    let place = Place::start();
    place.write("one.txt", b"1");
    place.write("root/bucket/q/one", b"one");
    let down =
        "- {name: X, action: S3Download, inputs: [{source: 's3://bucket/q/one', destination: d}]}";
    let up =
        "- {name: X, action: S3Upload, inputs: [{source: one.txt, destination: 's3://bucket/x'}]}";
    let good = || place.store(SECRET);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let cases = [
        (
            "half of the credentials",
            down,
            ObjectStore {
                secret_access_key: None,
                ..good()
            },
            "the object store has only one half of its credentials",
        ),
        (
            "a key that nobody has",
            down,
            ObjectStore {
                access_key_id: Some("AKIDSOMEBODYELSE".to_owned()),
                ..good()
            },
            "NotSignedUp",
        ),
        (
            "a wrong secret",
            up,
            place.store("a-wrong-secret"),
            "cannot write s3://bucket/x: SignatureDoesNotMatch",
        ),
        (
            "no signature where one is wanted",
            up,
            ObjectStore {
                access_key_id: None,
                secret_access_key: None,
                ..good()
            },
            "cannot write s3://bucket/x: AccessDenied",
        ),
        (
            "nobody listens, down",
            down,
            ObjectStore {
                endpoint: Some(nobody.clone()),
                ..good()
            },
            "Connection refused",
        ),
        (
            "nobody listens, up",
            up,
            ObjectStore {
                endpoint: Some(nobody),
                ..good()
            },
            "cannot write s3://bucket/x: ",
        ),
    ];
    for (what, steps, store, wanted) in cases {
        let ran = place.run_at(steps, store, false);
        assert_eq!(ran.failed_step_count, 1, "{what}");
        assert!(
            ran.failure_message.contains(wanted),
            "{what}: {}",
            ran.failure_message
        );
    }
    assert!(!place.at("d").exists());
    assert_eq!(place.list("root/bucket"), ["q/one"]);
}

#[test]
fn a_document_in_the_store_that_is_too_large_is_refused() {
    let place = Place::start();
    place.write("root/bucket/large.yml", &vec![b'#'; 200_000]);
    let output = place.agent(&["validate", "-d", "s3://bucket/large.yml"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("it is larger than "), "{text}");
}

#[test]
fn folders_behind_file_addresses_act_like_buckets() {
    let place = Place::start();
    place.write("src/a.log", b"a");
    place.write("src/in/b.log", b"b");
    let dir = place.folder.path().display();
    let ran = place.run(&format!(
        "- {{name: U, action: S3Upload, inputs: [{{source: src, destination: 'file://{dir}/store/', recurse: true}}]}}\n- {{name: D, action: S3Download, inputs: [{{source: 'file://{dir}/store/*', destination: down}}, {{source: 'file://{dir}/store/a.log', destination: down/one}}]}}"
    ));
    assert_eq!(ran.failed_step_count, 0, "{}", ran.failure_message);
    assert_eq!(place.list("down"), ["a.log", "in/b.log", "one"]);
    let missing = place.run(&format!(
        "- {{name: D, action: S3Download, inputs: [{{source: 'file://{dir}/nope', destination: down/x}}]}}"
    ));
    assert_eq!(missing.failed_step_count, 1);
}

#[test]
fn documents_and_configurations_come_from_the_store() {
    let place = Place::start();
    place.write(
        "root/bucket/docs/inner.yml",
        Place::document(
            "- {name: In, action: ExecuteBash, inputs: {commands: ['echo inner >> order']}}",
        )
        .as_bytes(),
    );
    let outer = Place::document(
        "- {name: Out, action: ExecuteBash, inputs: {commands: ['echo outer >> order']}}\n- {name: Call, action: ExecuteDocument, inputs: {document: 's3://bucket/docs/inner.yml'}}",
    );
    place.write("root/bucket/docs/outer.yml", outer.as_bytes());
    place.write(
        "root/bucket/config.json",
        format!(
            r#"{{"documents": [{{"path": "s3://bucket/docs/outer.yml"}}], "workingDirectory": "{}"}}"#,
            place.folder.path().display()
        )
        .as_bytes(),
    );
    let work = place.folder.path().display().to_string();
    let runs: [&[&str]; 2] = [
        &[
            "run",
            "-d",
            "s3://bucket/docs/outer.yml",
            "--working-directory",
            &work,
        ],
        &["run", "--config", "s3://bucket/config.json"],
    ];
    for arguments in runs {
        let output = place.agent(arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(place.read("order"), "outer\ninner\n");
        std::fs::remove_file(place.at("order")).expect("removed");
    }
    let good = place.agent(&["validate", "-d", "s3://bucket/docs/outer.yml"]);
    assert_eq!(good.status.code(), Some(0));
    let missing = place.agent(&["validate", "-d", "s3://bucket/docs/none.yml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stdout).contains("NoSuchKey"));
}
