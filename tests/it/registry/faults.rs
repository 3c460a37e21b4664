//! What goes wrong on the way, and what a second attempt still has to do.

use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ovenbird::catalog::progress::Silent;
use ovenbird::error::Failure;
use ovenbird::registry::{Content, Descriptor, Options, Patience, RegistryError, Sent, Source};

use super::proxy::{Fault, Proxy};
use super::server::Server;
use super::{MIB, blob, noise, options, pushed, raw_disk, registry};
use crate::setup::{Ran, Setup, empty, find, wait_for};

#[tokio::test]
async fn an_upload_survives_what_breaks_on_the_way() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let to = registry(&proxy.host(), "a", options());
    let length = 3 * MIB;
    for (seed, fault) in [
        Fault::Reset { after: MIB },
        Fault::Damage,
        Fault::Status(500, String::new()),
        Fault::Status(503, String::new()),
        Fault::Status(429, "retry-after: 1\r\n".into()),
    ]
    .into_iter()
    .enumerate()
    {
        let (descriptor, source) = blob(&setup, length, seed as u64 + 10);
        proxy.forget();
        proxy.next("PUT", "/blobs/uploads/", fault.clone());
        let start = Instant::now();
        let sent = to.push_blob(&descriptor, &source, &[]).await;
        if matches!(fault, Fault::Status(429, _)) {
            assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After");
        }
        assert!(matches!(sent, Ok(Sent::Sent { .. })), "{fault:?}: {sent:?}");
        assert!(proxy.all_faults_happened(), "{fault:?}");
        assert!(to.has_blob(&descriptor).await.unwrap());
        assert_eq!(
            to.small_blob(&descriptor).await.unwrap(),
            noise(length, seed as u64 + 10)
        );
    }
    // In chunks: a lost chunk is repeated, not the whole.
    let chunked = registry(
        &proxy.host(),
        "a",
        Options {
            chunk: Some(MIB as u64),
            ..options()
        },
    );
    let (descriptor, source) = blob(&setup, length, 77);
    proxy.forget();
    proxy.next("PATCH", "/blobs/uploads/", Fault::Pass);
    proxy.next(
        "PATCH",
        "/blobs/uploads/",
        Fault::Status(502, String::new()),
    );
    chunked.push_blob(&descriptor, &source, &[]).await.unwrap();
    assert!(proxy.all_faults_happened());
    assert_eq!(to.small_blob(&descriptor).await.unwrap(), noise(length, 77));
    let accepted: u64 = proxy.blob_bytes();
    assert_eq!(accepted, 4 * MIB as u64, "one chunk was sent twice");
    // Cut inside of a chunk, the upload may be lost; the blob is not.
    let (descriptor, source) = blob(&setup, length, 78);
    proxy.next("PATCH", "/blobs/uploads/", Fault::Pass);
    let cut = Fault::Reset { after: MIB / 2 };
    proxy.next("PATCH", "/blobs/uploads/", cut);
    chunked.push_blob(&descriptor, &source, &[]).await.unwrap();
    assert!(proxy.all_faults_happened());
    assert_eq!(to.small_blob(&descriptor).await.unwrap(), noise(length, 78));
}

/// The same faults in every phase of a push and of what comes back.
#[tokio::test]
async fn every_phase_is_tried_again() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let patience = Patience {
        stall: Duration::from_millis(600),
        ..options().patience
    };
    let phases = [
        ("HEAD", "/blobs/sha256:"),
        ("POST", "/blobs/uploads/"),
        ("PUT", "/blobs/uploads/"),
        ("PUT", "/manifests/"),
        ("GET", "/manifests/"),
        ("GET", "/blobs/sha256:"),
    ];
    for (number, (method, path)) in phases.into_iter().enumerate() {
        for fault in [
            Fault::Reset { after: 0 },
            Fault::Status(503, String::new()),
            Fault::Stall,
        ] {
            let name = format!("{method} {path} {fault:?}");
            let options = Options {
                patience,
                ..options()
            };
            let to = registry(&proxy.host(), &format!("phase-{number}"), options);
            proxy.forget();
            let (descriptor, source) = blob(&setup, 1 << 16, number as u64);
            let blobs = vec![(descriptor.clone(), source)];
            let content =
                Content::artifact("application/x", None, blobs, None, Default::default()).unwrap();
            // A first request that reaches nobody would be final.
            assert!(!to.has_blob(&Descriptor::of("x", b"other")).await.unwrap());
            proxy.next(method, path, fault.clone());
            let tag = ["1".to_owned()];
            let pushed = content.push(&to, &tag, &[], &Silent).await;
            let pushed = pushed.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let fetched = to.manifest(&tag[0]).await.unwrap();
            assert_eq!(fetched.digest, pushed.digest, "{name}");
            let back = to.small_blob(&descriptor).await.unwrap();
            assert!(back == noise(1 << 16, number as u64), "{name}");
            assert!(proxy.all_faults_happened(), "{name}");
            server.clear(&format!("phase-{number}"));
        }
    }
}

#[tokio::test]
async fn what_does_not_get_better_is_told() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let to = registry(&proxy.host(), "a", options());
    let (descriptor, source) = blob(&setup, 4096, 5);
    for _ in 0..4 {
        proxy.next("PUT", "/blobs/uploads/", Fault::Status(500, String::new()));
    }
    let error = to.push_blob(&descriptor, &source, &[]).await.unwrap_err();
    let text = Failure::from(error).chain();
    assert!(text.contains("after 4 attempts"), "{text}");
    assert!(text.contains("answered 500"), "{text}");

    // A file that changed since its digest was taken.
    let Source::File(path) = &source else {
        unreachable!()
    };
    std::fs::write(path, noise(4096, 6)).unwrap();
    let error = to.push_blob(&descriptor, &source, &[]).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error:?}"
    );

    let error = to.manifest("nothing").await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    let nobody = registry("127.0.0.1:9", "a", options());
    let error = nobody.manifest("x").await.unwrap_err();
    // A registry that was never there is not waited for.
    assert!(
        matches!(error, RegistryError::Unreachable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_download_goes_on_and_is_verified() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let from = registry(&proxy.host(), "a", options());
    let length = 3 * MIB;
    let (descriptor, source) = blob(&setup, length, 3);
    from.push_blob(&descriptor, &source, &[]).await.unwrap();
    let target = setup.path().join("fetched");

    proxy.next("GET", "/blobs/sha256:", Fault::CutAnswer { after: MIB });
    let arrived = AtomicU64::new(0);
    let count = |bytes: u64| {
        arrived.fetch_add(bytes, Ordering::Relaxed);
    };
    from.fetch_blob(&descriptor, &target, &count).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), noise(length, 3));
    assert_eq!(arrived.into_inner(), length as u64, "no byte came twice");

    let manifest = Content::artifact("application/x", None, vec![], None, Default::default());
    let pushed = manifest.unwrap().push(&from, &[], &[], &Silent).await;
    let digest = pushed.unwrap().digest;
    proxy.next("GET", "/manifests/", Fault::Corrupt);
    let error = from.manifest(&digest).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error:?}"
    );

    std::fs::remove_file(&target).unwrap();
    proxy.next("GET", "/blobs/sha256:", Fault::Corrupt);
    let error = from
        .fetch_blob(&descriptor, &target, &|_| ())
        .await
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error:?}"
    );
    assert!(!target.exists(), "wrong bytes are kept");
}

/// A push of four pieces, of which two arrive and the third never does.
fn cut_push(setup: &Setup, proxy: &Proxy, push: &[&str]) -> std::process::Child {
    proxy.next("PUT", "/blobs/uploads/", Fault::Pass);
    proxy.next("PUT", "/blobs/uploads/", Fault::Pass);
    proxy.next("PUT", "/blobs/uploads/", Fault::Stall);
    let child = setup
        .ovenbird(push)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the third piece", Duration::from_secs(60), || {
        proxy.all_faults_happened().then_some(())
    });
    child
}

fn staged(setup: &Setup) -> Vec<camino::Utf8PathBuf> {
    find(&setup.home().join("bases"), &|path| {
        path.file_name()
            .is_some_and(|name| name.starts_with(".staging-"))
    })
}

#[test]
fn after_a_kill_only_the_rest_is_sent() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1", proxy.host());
    let push = "--piece 1 --parallel 1 --json".split(' ');
    let push: Vec<&str> = ["push", disk.as_str(), &reference]
        .into_iter()
        .chain(push)
        .collect();
    let mut child = cut_push(&setup, &proxy, &push);
    child.kill().unwrap();
    child.wait().unwrap();

    proxy.forget();
    let value = pushed(setup.run(&push));
    assert_eq!(value["pushed"]["blobs"]["existed"], 2);
    assert_eq!(
        value["pushed"]["blobs"]["sent"], 3,
        "two pieces and the configuration"
    );
    let sent = proxy.blob_bytes();
    assert!(
        (2 * MIB as u64 - 2048..2 * MIB as u64 + 2048).contains(&sent),
        "{sent}"
    );
    assert_eq!(value["pushed"]["blobs"]["bytes"], sent);
    assert!(staged(&setup).is_empty(), "{:?}", staged(&setup));
}

#[test]
fn an_interrupted_push_leaves_nothing_here() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1", proxy.host());
    let push = ["push", disk.as_str(), &reference, "--piece", "1"];
    let child = cut_push(&setup, &proxy, &push);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    Ran::of(child.wait_with_output().unwrap()).expect(130);
    assert!(staged(&setup).is_empty(), "{:?}", staged(&setup));
}

/// An import that was cut goes on inside the blob.
#[test]
fn after_a_kill_only_the_rest_is_fetched() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let direct = format!("{}/disks/web:1", server.host());
    setup
        .run(&["push", disk.as_str(), &direct, "--piece", "8"])
        .expect(0);
    let reference = format!("oci://{}/disks/web:1", proxy.host());
    let import = ["base", "import", &reference, "--parallel", "1"];
    proxy.next("GET", "/blobs/sha256:", Fault::Hang { after: 2 * MIB });
    let mut child = setup.ovenbird(&import).spawn().unwrap();
    let half = wait_for("the first half", Duration::from_secs(60), || {
        find(&setup.home().join("bases/.partial"), &|path| {
            path.file_name() != Some("disk")
                && path
                    .metadata()
                    .is_ok_and(|data| data.is_file() && data.len() > MIB as u64)
        })
        .pop()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let there = half.metadata().unwrap().len();
    proxy.forget();
    setup.run(&import).expect(0);
    assert_eq!(proxy.count("GET", "/blobs/sha256:"), 1);
    // The rest, and the answer's head.
    let fetched = proxy.answered_bytes();
    let rest = 4 * MIB as u64 - there;
    assert!(
        (rest - 4096..rest + 4096).contains(&fetched),
        "{there} were there, {fetched} came"
    );
}
