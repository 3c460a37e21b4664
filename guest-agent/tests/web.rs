//! WebDownload and the S3 modules against loopback servers that misbehave.

mod server;

use std::path::Path;
use std::sync::atomic::Ordering;

use ovenbird_agent::config::{DocumentEntry, ObjectStore, RunConfig};
use ovenbird_agent::{Outcome, run};
use server::{Answer, Server};

/// SHA-256 of `hello`.
const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

struct Ran {
    message: String,
    good: bool,
    console: String,
}

/// Runs the steps of a build phase.
fn run_steps(folder: &Path, store: ObjectStore, steps: &str) -> Ran {
    let body: String = steps
        .lines()
        .map(|line| format!("      {line}\n"))
        .collect();
    let path = folder.join("case.yml");
    let document = format!("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n{body}");
    std::fs::write(&path, document).expect("document");
    let config = RunConfig {
        documents: vec![DocumentEntry {
            path: path.display().to_string(),
            parameters: Vec::new(),
            carried_from: None,
        }],
        log_directory: Some(folder.join("logs")),
        working_directory: Some(folder.to_owned()),
        object_store: store,
        ..RunConfig::default()
    };
    let Outcome::Finished(summary) = run(&config, None).expect("a run") else {
        panic!("no reboot was asked for")
    };
    let console =
        std::fs::read_to_string(Path::new(&summary.log_url).join("console.log")).expect("log");
    Ran {
        message: summary.failure_message,
        good: summary.failed_step_count == 0,
        console,
    }
}

fn download(folder: &Path, address: &str, more: &str) -> Ran {
    let steps = format!(
        "- {{name: D, action: WebDownload, inputs: [{{source: '{address}', destination: '{}/'{more}}}]}}",
        folder.join("d").display()
    );
    run_steps(folder, ObjectStore::default(), &steps)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("folder")
}

/// What lies in the destination, temporary files included.
fn left(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder.join("d"))
        .map(|entries| {
            entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

#[test]
fn a_download_with_the_right_checksum_is_kept_and_not_repeated() {
    let server = Server::start(|_, _| Answer::ok("hello"));
    let folder = folder();
    let more = format!(", checksum: {HELLO}, algorithm: SHA256");
    for _ in 0..2 {
        let ran = download(folder.path(), &server.url("/x/file%20name?a=b"), &more);
        assert!(ran.good, "{}", ran.message);
    }
    assert_eq!(left(folder.path()), ["file name"]);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn a_wrong_checksum_is_tried_five_times_and_leaves_nothing() {
    let server = Server::start(|_, _| Answer::ok("other"));
    let folder = folder();
    let ran = download(
        folder.path(),
        &server.url("/f"),
        &format!(", checksum: {HELLO}, algorithm: SHA256"),
    );
    assert!(!ran.good);
    assert!(
        ran.message.contains("in 5 tries: the checksum is"),
        "{}",
        ran.message
    );
    assert_eq!(server.requests.load(Ordering::SeqCst), 5);
    assert!(left(folder.path()).is_empty());
    assert!(ran.console.contains("try 4 of 5"));
}

#[test]
fn a_cut_connection_is_recovered_from() {
    let server = Server::start(|_, number| {
        if number < 2 {
            Answer::cut("hel", 5)
        } else {
            Answer::ok("hello")
        }
    });
    let folder = folder();
    let ran = download(folder.path(), &server.url("/f"), "");
    assert!(ran.good, "{}", ran.message);
    assert_eq!(
        std::fs::read(folder.path().join("d/f")).expect("file"),
        b"hello"
    );
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);
}

#[test]
fn a_server_that_lies_about_the_length_does_not_win() {
    let server = Server::start(|_, _| Answer::cut("hello", 500));
    let folder = folder();
    let ran = download(folder.path(), &server.url("/f"), "");
    assert!(!ran.good);
    assert!(left(folder.path()).is_empty());
}

#[test]
fn redirects_are_followed_but_not_in_a_circle() {
    let server = Server::start(|path, _| match path {
        "/start" => Answer::redirect("/end"),
        "/circle" => Answer::redirect("/circle"),
        _ => Answer::ok("hello"),
    });
    let folder = folder();
    assert!(download(folder.path(), &server.url("/start"), "").good);
    // The name comes from the address that was asked for.
    assert_eq!(left(folder.path()), ["start"]);
    let ran = download(folder.path(), &server.url("/circle"), "");
    assert!(
        ran.message.contains("more than 10 redirects"),
        "{}",
        ran.message
    );
}

#[test]
fn a_missing_file_fails_at_once_and_a_busy_server_does_not() {
    let server = Server::start(|path, number| match (path, number) {
        ("/missing", _) => Answer::status(404, "no"),
        (_, 1) => Answer::status(503, "busy"),
        _ => Answer::ok("hello"),
    });
    let folder = folder();
    let ran = download(folder.path(), &server.url("/missing"), "");
    assert!(ran.message.contains("status 404"), "{}", ran.message);
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    assert!(download(folder.path(), &server.url("/busy"), "").good);
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);
    let ran = download(folder.path(), &server.url("/busy"), ", overwrite: false");
    assert!(
        ran.message.contains("overwrite is false"),
        "{}",
        ran.message
    );
}

#[test]
fn nobody_listening_is_reported_with_the_reason() {
    let folder = folder();
    let ran = download(folder.path(), "http://127.0.0.1:9/f", "");
    assert!(ran.message.contains("in 5 tries"), "{}", ran.message);
}

#[test]
fn a_step_time_limit_ends_a_download_that_stalls() {
    let server = Server::start(|_, _| Answer::stall());
    let folder = folder();
    let steps = format!(
        "- {{name: D, action: WebDownload, timeoutSeconds: 1, inputs: [{{source: '{}', destination: '{}/'}}]}}",
        server.url("/f"),
        folder.path().join("d").display()
    );
    let started = std::time::Instant::now();
    let ran = run_steps(folder.path(), ObjectStore::default(), &steps);
    assert!(
        ran.message.contains("did not finish within 1 seconds"),
        "{}",
        ran.message
    );
    assert!(started.elapsed().as_secs() < 5);
}

fn store(server: &Server, key: bool) -> ObjectStore {
    ObjectStore {
        endpoint: Some(server.url("")),
        access_key_id: key.then(|| "AKIDEXAMPLE".to_owned()),
        secret_access_key: key.then(|| "wJalrXUtnFEMI".to_owned()),
        ..ObjectStore::default()
    }
}

#[test]
fn objects_are_listed_page_by_page_downloaded_and_uploaded() {
    let page = |key: &str, token: &str| {
        let more = !token.is_empty();
        format!(
            "<R><IsTruncated>{more}</IsTruncated><NextContinuationToken>{token}</NextContinuationToken><Contents><Key>{key}</Key></Contents></R>"
        )
    };
    let server = Server::start(move |path, _| match path {
        "/bucket/?list-type=2&prefix=p%2F" => Answer::ok(&page("p/a&amp;b.txt", "next")),
        "/bucket/?continuation-token=next&list-type=2&prefix=p%2F" => {
            Answer::ok(&page("p/in/c.txt", ""))
        }
        "/bucket/p/a%26b.txt" => Answer::ok("one"),
        "/bucket/p/in/c.txt" => Answer::ok("two"),
        "/bucket/up/x.txt" => Answer::ok(""),
        _ => Answer::status(
            404,
            "<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>",
        ),
    });
    let folder = folder();
    std::fs::write(folder.path().join("x.txt"), "upload").expect("file");
    let steps = "- {name: D, action: S3Download, inputs: [{source: 's3://bucket/p/*', destination: d}]}\n- {name: U, action: S3Upload, inputs: [{source: '*.txt', destination: 's3://bucket/up/', expectedBucketOwner: '123456789012'}]}";
    let ran = run_steps(folder.path(), store(&server, true), steps);
    assert!(ran.good, "{}", ran.message);
    assert_eq!(
        std::fs::read(folder.path().join("d/a&b.txt")).expect("file"),
        b"one"
    );
    assert_eq!(
        std::fs::read(folder.path().join("d/in/c.txt")).expect("file"),
        b"two"
    );
    let seen = server.seen();
    let put = seen
        .iter()
        .find(|request| request.starts_with("PUT /bucket/up/x.txt"))
        .expect("an upload");
    assert!(
        put.contains("authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
        "{put}"
    );
    assert!(
        put.contains("x-amz-expected-bucket-owner: 123456789012"),
        "{put}"
    );
    assert!(put.ends_with("upload"), "{put}");
    assert!(!ran.console.contains("wJalrXUtnFEMI"));

    let steps =
        "- {name: D, action: S3Download, inputs: [{source: 's3://bucket/gone', destination: d/}]}";
    let ran = run_steps(folder.path(), store(&server, false), steps);
    assert!(
        ran.message
            .contains("cannot GET s3://bucket/gone: NoSuchKey: gone")
            || ran.message.contains("NoSuchKey"),
        "{}",
        ran.message
    );
    assert!(
        !server
            .seen()
            .last()
            .expect("a request")
            .contains("authorization")
    );
}

/// Serves `hello` over TLS with a certificate that nobody has signed; gives the address.
#[test]
fn an_object_that_is_cut_off_is_no_object() {
    let server = Server::start(|_, _| Answer::cut("hello", 500));
    let folder = folder();
    let steps =
        "- {name: D, action: S3Download, inputs: [{source: 's3://bucket/key', destination: d}]}";
    let ran = run_steps(folder.path(), store(&server, true), steps);
    assert!(
        !ran.good && ran.message.contains("s3://bucket/key: "),
        "the object was cut off, and yet: {}",
        ran.message
    );
    assert!(left(folder.path()).is_empty());
}

fn start_tls() -> String {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(std::sync::Arc::clone(&config))
                .expect("a connection");
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            let mut request = Vec::new();
            let mut byte = [0];
            // A client that refuses the certificate hangs up here.
            while !request.ends_with(b"\r\n\r\n")
                && std::io::Read::read(&mut stream, &mut byte).is_ok_and(|count| count == 1)
            {
                request.push(byte[0]);
            }
            let _ = std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
            );
            stream.conn.send_close_notify();
            let _ = std::io::Write::flush(&mut stream);
        }
    });
    format!("https://localhost:{port}/file")
}

#[test]
fn a_certificate_that_nobody_signed_is_refused_unless_it_may_be_ignored() {
    let url = start_tls();
    let folder = folder();
    let refused = download(folder.path(), &url, "");
    assert!(!refused.good);
    assert!(
        refused.message.to_lowercase().contains("certificate"),
        "{}",
        refused.message
    );
    assert!(left(folder.path()).is_empty());
    let taken = download(folder.path(), &url, ", ignoreCertificateErrors: true");
    assert!(taken.good, "{}", taken.message);
    assert_eq!(
        std::fs::read(folder.path().join("d/file")).expect("file"),
        b"hello"
    );
}

#[test]
fn every_pause_between_tries_is_longer_than_the_one_before() {
    let times = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = std::sync::Arc::clone(&times);
    let server = Server::start(move |_, _| {
        log.lock().expect("log").push(std::time::Instant::now());
        Answer::status(503, "busy")
    });
    let folder = folder();
    assert!(!download(folder.path(), &server.url("/f"), "").good);
    let times = times.lock().expect("log");
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 4);
    // Twice as long each; on a busy machine a short one may come out late.
    assert!(pauses[3] > pauses[1] && pauses[2] > pauses[0], "{pauses:?}");
}

#[test]
fn all_final_paths_are_put_out_and_chained_values_are_used() {
    let server = Server::start(|_, _| Answer::ok("hello"));
    let folder = folder();
    let steps = format!(
        "- {{name: Sum, action: ExecuteBash, inputs: {{commands: ['echo {HELLO}']}}}}\n- {{name: D, action: WebDownload, inputs: [{{source: '{url}', destination: one/}}, {{source: '{url}', destination: two, checksum: '{{{{ build.Sum.outputs.stdout }}}}', algorithm: SHA256}}]}}\n- {{name: P, action: CreateFile, inputs: [{{path: paths, content: '{{{{ build.D.outputs.destination }}}}'}}]}}",
        url = server.url("/x/f")
    );
    let ran = run_steps(folder.path(), ObjectStore::default(), &steps);
    assert!(ran.good, "{}", ran.message);
    let dir = folder.path().display();
    assert_eq!(
        std::fs::read_to_string(folder.path().join("paths")).expect("paths"),
        format!("{dir}/one/f\n{dir}/two")
    );
}
