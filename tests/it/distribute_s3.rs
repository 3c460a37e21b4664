//! Buckets: `s3s` over a folder, in this process, and moto.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::distribute::{command, image_of, json};
use crate::moto::Moto;
use crate::setup::{self, Setup, tool, wait_for};

/// Blocks of 512 KiB of a disk that has three parts, the last a short one.
const LENGTH: u64 = 80;
const BYTES: u64 = LENGTH * 512 * 1024;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The connection ends before the server did anything.
    Reset,
    /// The server did it, and its answer is lost.
    Lost,
    /// The server has a problem.
    Internal,
    /// Too many requests.
    SlowDown,
    /// A bit of the body is another one when it arrives.
    Harmed,
}

/// What goes wrong with the n-th request (from 1) of a call.
type Faults = fn(&str, usize) -> Option<Fault>;

/// A real S3 server with a bucket `images`; counts calls by their names.
struct Bucket {
    root: tempfile::TempDir,
    port: u16,
    seen: Seen,
}

/// What the server's threads share with the test.
#[derive(Clone, Default)]
struct Seen {
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Milliseconds that all parts but the first take.
    delay: Arc<AtomicUsize>,
}

impl Seen {
    fn count(&self, call: &str) -> usize {
        *self.calls.lock().unwrap().get(call).unwrap_or(&0)
    }
}

impl Bucket {
    fn start(secret: &'static str) -> Self {
        Self::with_faults(secret, |_, _| None)
    }

    fn with_faults(secret: &'static str, faults: Faults) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("images")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let bucket = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Seen::default(),
            root,
        };
        let (folder, seen) = (bucket.root.path().to_owned(), bucket.seen.clone());
        std::thread::spawn(move || serve(listener, &folder, secret, &seen, faults));
        bucket
    }

    fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("images").join(name)
    }
}

/// The name of a call.
fn name_of<B>(request: &hyper::Request<B>) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let has = |key: &str| query.split('&').any(|pair| pair.starts_with(key));
    match request.method().as_str() {
        "HEAD" => "HeadObject",
        "POST" if has("uploads") => "CreateMultipartUpload",
        "POST" => "CompleteMultipartUpload",
        "PUT" if has("partNumber=") => "UploadPart",
        "PUT" => "PutObject",
        "DELETE" if has("uploadId=") => "AbortMultipartUpload",
        "DELETE" => "DeleteObject",
        _ if has("uploadId=") => "ListParts",
        _ => "GetObject",
    }
}

type Answer = std::io::Result<s3s::HttpResponse>;

fn broken(error: impl std::fmt::Debug) -> std::io::Error {
    std::io::Error::other(format!("{error:?}"))
}

async fn answer(
    service: S3Service,
    request: hyper::Request<hyper::body::Incoming>,
    fault: Option<Fault>,
) -> Answer {
    let told = |status: u16, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        Ok(hyper::Response::builder()
            .status(status)
            .body(s3s::Body::from(body))
            .unwrap())
    };
    match fault {
        Some(Fault::Reset) => Err(broken("reset")),
        Some(Fault::Internal) => told(500, "InternalError"),
        Some(Fault::SlowDown) => told(503, "SlowDown"),
        Some(Fault::Lost) => {
            service
                .call(request.map(s3s::Body::from))
                .await
                .map_err(broken)?;
            Err(broken("lost"))
        }
        Some(Fault::Harmed) => {
            let (head, body) = request.into_parts();
            let mut bytes = body.collect().await.map_err(broken)?.to_bytes().to_vec();
            bytes[0] ^= 1;
            let request = hyper::Request::from_parts(head, s3s::Body::from(bytes));
            service.call(request).await.map_err(broken)
        }
        None => service
            .call(request.map(s3s::Body::from))
            .await
            .map_err(broken),
    }
}

fn serve(
    listener: std::net::TcpListener,
    folder: &std::path::Path,
    secret: &str,
    seen: &Seen,
    faults: Faults,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async move {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single("AKIAIOSFODNN7EXAMPLE", secret));
        let service = builder.build();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let (service, seen) = (service.clone(), seen.clone());
            let watched = hyper::service::service_fn(
                move |request: hyper::Request<hyper::body::Incoming>| {
                    let call = name_of(&request);
                    let nth = {
                        let mut calls = seen.calls.lock().unwrap();
                        let count = calls.entry(call.to_owned()).or_default();
                        *count += 1;
                        *count
                    };
                    // The first part is quick: there is always one that needs not be sent again.
                    let query = request.uri().query().unwrap_or_default();
                    let pause = match call == "UploadPart" && !query.contains("partNumber=1&") {
                        true => seen.delay.load(Ordering::SeqCst),
                        false => 0,
                    };
                    let service = service.clone();
                    async move {
                        let pause = Duration::from_millis(u64::try_from(pause).unwrap());
                        tokio::time::sleep(pause).await;
                        answer(service, request, faults(call, nth)).await
                    }
                },
            );
            tokio::spawn(async move {
                // A client that hangs up is not the server's trouble.
                let _ = Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), watched)
                    .await;
            });
        }
    });
}

fn prepare(setup: &Setup, checksums: &str) {
    image_of(
        &setup.path().join("image"),
        1,
        LENGTH,
        &[
            (0, "begin".into()),
            (40, "middle".into()),
            (79, "end".into()),
        ],
    );
    configure(setup, checksums);
}

fn configure(setup: &Setup, checksums: &str) {
    let text = format!(
        "kind: DistributionConfiguration\nname: here\nlocal:\n  destinations:\n  - name: store\n    s3: {{bucket: images, prefix: builds, checksums: {checksums}}}\n"
    );
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
}

const GO: [&str; 4] = ["distribute", "image", "--to", "to.yaml"];

#[test]
fn files_go_to_a_real_server_with_each_kind_of_checksum() {
    let setup = setup::empty();
    prepare(&setup, "sha256");
    let wanted = std::fs::read(setup.path().join("image/web.raw")).unwrap();
    for checksums in ["sha256", "crc32c", "md5", "none"] {
        let bucket = Bucket::start("not-a-real-key");
        configure(&setup, checksums);
        let done = json(&command(&setup, &bucket.endpoint(), &GO).output().unwrap());
        assert_eq!(done[0]["bytes"], BYTES, "{checksums}");
        assert_eq!(done[0]["places"][0], "s3://images/builds/web/1.2.3/1/");
        assert!(std::fs::read(bucket.file("builds/web/1.2.3/1/web.raw")).unwrap() == wanted);
        assert!(bucket.file("builds/web/1.2.3/1/manifest.json").is_file());
        let sums = std::fs::read_to_string(bucket.file("builds/web/1.2.3/1/SHA256SUMS")).unwrap();
        assert!(sums.ends_with("  web.raw\n"));
        assert_eq!(bucket.seen.count("UploadPart"), 3);
        // What is there is not sent again.
        let again = json(&command(&setup, &bucket.endpoint(), &GO).output().unwrap());
        assert_eq!(again[0]["bytes"], 0, "{checksums}");
    }
}

#[test]
fn a_killed_upload_goes_on_and_a_cancelled_one_is_aborted() {
    let setup = setup::empty();
    prepare(&setup, "sha256");
    let bucket = Bucket::start("not-a-real-key");
    let journal = || {
        let folder = setup.home().join("distributions/run-1");
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("s3-"))
            .map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default())
            .collect::<String>()
    };
    bucket.seen.delay.store(60_000, Ordering::SeqCst);
    let start = || {
        command(&setup, &bucket.endpoint(), &GO)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let arrived = |count: usize| {
        wait_for("parts", Duration::from_secs(60), || {
            (bucket.seen.count("UploadPart") >= count).then_some(())
        });
    };
    let mut child = start();
    arrived(3);
    wait_for("the first part", Duration::from_secs(60), || {
        journal().contains("\"part\"").then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start();
    arrived(5);
    assert_eq!(
        journal().matches("\"upload\"").count(),
        1,
        "the upload is taken up, and its first part is not sent again"
    );
    // Ctrl-C gives the parts back.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(bucket.seen.count("AbortMultipartUpload"), 1);
    bucket.seen.delay.store(0, Ordering::SeqCst);
    let done = json(&command(&setup, &bucket.endpoint(), &GO).output().unwrap());
    assert_eq!(
        done[0]["bytes"], BYTES,
        "after an abortion all of it is sent"
    );
}

/// Each kind of trouble at each kind of call costs one more request, and what arrives is what was tested.
#[test]
fn files_arrive_through_every_fault() {
    const FAULTS: [(&str, usize, Fault); 15] = [
        ("HeadObject", 1, Fault::Reset),
        ("HeadObject", 2, Fault::Internal),
        ("CreateMultipartUpload", 1, Fault::SlowDown),
        ("CreateMultipartUpload", 2, Fault::Reset),
        ("UploadPart", 1, Fault::Reset),
        ("UploadPart", 2, Fault::Internal),
        ("UploadPart", 3, Fault::SlowDown),
        ("UploadPart", 4, Fault::Harmed),
        ("UploadPart", 5, Fault::Lost),
        ("CompleteMultipartUpload", 1, Fault::Internal),
        ("CompleteMultipartUpload", 2, Fault::Lost),
        ("PutObject", 1, Fault::Harmed),
        ("PutObject", 2, Fault::Reset),
        ("PutObject", 3, Fault::SlowDown),
        ("PutObject", 5, Fault::Lost),
    ];
    let setup = setup::empty();
    for checksums in ["sha256", "none"] {
        prepare(&setup, checksums);
        let bucket = Bucket::with_faults("not-a-real-key", |call, nth| {
            let here = FAULTS.iter().find(|(of, at, _)| *of == call && *at == nth);
            here.map(|(.., fault)| *fault)
        });
        let done = json(&command(&setup, &bucket.endpoint(), &GO).output().unwrap());
        assert_eq!(done[0]["state"], "delivered", "{checksums}");
        let wanted = std::fs::read(setup.path().join("image/web.raw")).unwrap();
        let folder = bucket.file("builds/web/1.2.3/1");
        assert!(std::fs::read(folder.join("web.raw")).unwrap() == wanted);
        let whole = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&whole).unwrap();
        assert_eq!(bucket.seen.count("UploadPart"), 3 + 5, "{checksums}");
        assert_eq!(bucket.seen.count("CreateMultipartUpload"), 3);
        assert_eq!(bucket.seen.count("AbortMultipartUpload"), 0);
        std::fs::remove_dir_all(setup.path().join("image")).unwrap();
        std::fs::remove_dir_all(setup.home()).unwrap();
    }
}

/// A connection that takes no more is left for another one long before the time for a whole part is over.
#[test]
fn a_part_that_is_stuck_is_sent_again() {
    let setup = setup::empty();
    prepare(&setup, "sha256");
    let bucket = Bucket::start("not-a-real-key");
    bucket.seen.delay.store(600_000, Ordering::SeqCst);
    let seen = bucket.seen.clone();
    let released = std::thread::spawn(move || {
        wait_for("parts", Duration::from_secs(60), || {
            (seen.count("UploadPart") >= 3).then_some(())
        });
        seen.delay.store(0, Ordering::SeqCst);
    });
    json(&command(&setup, &bucket.endpoint(), &GO).output().unwrap());
    released.join().unwrap();
    let wanted = std::fs::read(setup.path().join("image/web.raw")).unwrap();
    assert!(std::fs::read(bucket.file("builds/web/1.2.3/1/web.raw")).unwrap() == wanted);
    let parts = bucket.seen.count("UploadPart");
    assert!(
        (4..=5).contains(&parts),
        "each that was stuck once more: {parts}"
    );
}

/// Folders on filesystems that are full, and that can't be written.
#[test]
fn folders_that_take_nothing_say_why() {
    let setup = setup::empty();
    prepare(&setup, "sha256");
    std::fs::write(
        setup.path().join("to.yaml"),
        "kind: DistributionConfiguration\nname: here\nlocal:\n  destinations: [{name: stick, folder: {path: stick}}]\n",
    )
    .unwrap();
    let stick = setup.path().join("stick");
    std::fs::create_dir(&stick).unwrap();
    // Something in every block: holes need no room.
    let raw = setup.path().join("image/web.raw");
    tool("sh", &["-c", &format!("yes | head -c {BYTES} > {raw}")]);
    let told = |mount: &str| {
        let script = format!("mount -t tmpfs -o {mount} none {stick} && exec \"$0\" \"$@\"");
        let program = command(&setup, "http://127.0.0.1:9", &GO);
        let output = std::process::Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(setup.path())
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["outcomes"][0]["state"], "failed", "{output:?}");
        let failed = &value["outcomes"][0];
        let text = format!(
            "{}\nhint: {}",
            failed["reason"].as_str().unwrap(),
            failed["hint"].as_str().unwrap_or("none")
        );
        assert_eq!(std::fs::read_dir(&stick).unwrap().count(), 0);
        text.replace(setup.path().as_str(), "HERE")
    };
    insta::assert_snapshot!("full_folder", told("size=8m"));
    insta::assert_snapshot!("read_only_folder", told("ro"));
}

/// The bucket is somewhere else: the server says where, as AWS does.
#[test]
fn a_bucket_in_another_region_is_named() {
    let setup = setup::empty();
    prepare(&setup, "sha256");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", server.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in server.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let body = match request[..length].starts_with(b"HEAD") {
                true => "",
                false => {
                    "<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'eu-central-1' is wrong; expecting 'us-west-2'</Message><Region>us-west-2</Region></Error>"
                }
            };
            let _ = write!(
                stream,
                "HTTP/1.1 400 Bad Request\r\nx-amz-bucket-region: us-west-2\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let output = command(&setup, &endpoint, &GO).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = &value["outcomes"][0];
    insta::assert_snapshot!(
        "bucket_elsewhere",
        format!(
            "{}\nhint: {}",
            failed["reason"].as_str().unwrap(),
            failed["hint"].as_str().unwrap_or("none")
        )
    );
}

#[test]
fn objects_are_there_for_the_aws_cli_and_can_be_removed() {
    let setup = setup::empty();
    let moto = Moto::start();
    moto.aws(&["s3", "mb", "s3://images"]);
    prepare(&setup, "sha256");
    let run = |arguments: &[&str]| {
        command(&setup, &moto.endpoint(), arguments)
            .output()
            .unwrap()
    };
    json(&run(&GO));
    let copy = setup.path().join("copy.raw");
    moto.aws(&[
        "s3",
        "cp",
        "s3://images/builds/web/1.2.3/1/web.raw",
        copy.as_str(),
    ]);
    assert!(
        std::fs::read(copy).unwrap() == std::fs::read(setup.path().join("image/web.raw")).unwrap()
    );
    let removed = json(&run(&["distribute", "image", "--remove"]));
    assert_eq!(removed.as_array().unwrap().len(), 3);
    assert_eq!(moto.aws(&["s3", "ls", "--recursive", "s3://images"]), "");
}

/// A destination that fails does not hold the others back, and each is told of.
#[test]
fn what_fails_is_told_and_the_rest_is_done() {
    let setup = setup::empty();
    let moto = Moto::start();
    prepare(&setup, "sha256");
    let text = "kind: DistributionConfiguration\nname: here\nlocal:\n  destinations:\n  - name: missing\n    s3: {bucket: images}\n  - name: system\n    folder: {path: /sys/kernel/out}\n  - name: near\n    folder: {path: out, layout: versioned}\n";
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
    let output = command(&setup, &moto.endpoint(), &GO).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(setup.path().join("out/web/1.2.3/1/web.raw").is_file());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = &value["outcomes"];
    let told = |index: usize| {
        format!(
            "{}\nhint: {}",
            rows[index]["reason"].as_str().unwrap(),
            rows[index]["hint"].as_str().unwrap()
        )
    };
    insta::assert_snapshot!("missing_bucket", told(0));
    // As root it is an operation that is not permitted, else the permission is denied.
    assert!(
        told(1).contains("can't be written by this user"),
        "{}",
        told(1)
    );
    assert_eq!(rows[2]["state"], "delivered");

    let bucket = Bucket::start("another-key");
    configure(&setup, "sha256");
    let output = command(&setup, &bucket.endpoint(), &GO).output().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = &value["outcomes"];
    insta::assert_snapshot!(
        "wrong_credentials",
        format!(
            "{}\nhint: {}",
            rows[0]["reason"].as_str().unwrap(),
            rows[0]["hint"].as_str().unwrap()
        )
    );
}
