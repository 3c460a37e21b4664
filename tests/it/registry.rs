//! Registries: a real one on loopback, and a proxy before it that counts, and breaks what it is told to break.

mod proxy;
mod server;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::catalog::progress::Silent;
use ovenbird::registry::{
    Content, Credentials, ImageReference, Options, Patience, Registry, RegistryError, Sent, Source,
    disk, ecr, media,
};

use crate::moto::Moto;
use crate::setup::{Setup, empty, tool, wait_for};
use proxy::{Fault, Proxy};
use server::{Server, USER};

const MIB: usize = 1 << 20;

/// Bytes that do not compress, different for each seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A bootable-looking raw disk of 8 MiB: data in pieces 0, 1, 3 and 6 of 1 MiB, zeros elsewhere.
fn raw_disk(setup: &Setup) -> Utf8PathBuf {
    let mut bytes = vec![0; 8 * MIB];
    for piece in [0usize, 1, 3, 6] {
        bytes[piece * MIB..][..MIB - 512].copy_from_slice(&noise(MIB - 512, piece as u64 + 1));
    }
    bytes[..4].copy_from_slice(&[0xeb, 0x63, 0x90, 0x10]);
    bytes[446..510].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    let path = setup.path().join("disk.raw");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Quick to try again, and never with this machine's logins.
fn options() -> Options {
    Options {
        patience: Patience {
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(2),
            attempts: 4,
            deadline: Duration::from_secs(60),
            stall: Duration::from_secs(2),
        },
        credentials: Credentials::None,
        ..Options::default()
    }
}

fn registry(host: &str, name: &str, options: Options) -> Registry {
    let reference: ImageReference = format!("{host}/{name}").parse().unwrap();
    Registry::new(&reference, options).unwrap()
}

/// A blob in a file with its descriptor.
fn blob(setup: &Setup, length: usize, seed: u64) -> (ovenbird::registry::Descriptor, Source) {
    let bytes = noise(length, seed);
    let path = setup.path().join(format!("blob-{seed}"));
    std::fs::write(&path, &bytes).unwrap();
    let descriptor = ovenbird::registry::Descriptor::of("application/octet-stream", &bytes);
    (descriptor, Source::File(path))
}

fn same_content(one: &Utf8Path, other: &Utf8Path) {
    tool("qemu-img", &["compare", one.as_str(), other.as_str()]);
}

#[test]
fn a_second_push_of_a_container_disk_sends_no_blob() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1.0.0", proxy.host());
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--as",
        "containerDisk",
        "--json",
    ];
    let first = setup.run(&push).expect(0);
    let value: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(
        value["pushed"]["blobs"]["sent"], 2,
        "layer and configuration"
    );
    assert!(proxy.blob_bytes() > 4 * MIB as u64 - 4096);
    proxy.forget();

    let second = setup.run(&push).expect(0);
    let again: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(again["pushed"]["digest"], value["pushed"]["digest"]);
    assert_eq!(again["pushed"]["blobs"]["existed"], 2);
    assert_eq!(
        proxy.uploads(),
        Vec::<String>::new(),
        "nothing was uploaded"
    );

    // Another repository of the same registry: mounted, not sent.
    proxy.forget();
    let other = format!("{}/disks/copy:1", proxy.host());
    let mounted = setup
        .run(&[
            "push",
            disk.as_str(),
            &other,
            "--as",
            "containerDisk",
            "--json",
            "--mount-from",
            "disks/web",
        ])
        .expect(0);
    let mounted: serde_json::Value = serde_json::from_str(&mounted.stdout).unwrap();
    assert_eq!(mounted["pushed"]["blobs"]["mounted"], 2);
    assert_eq!(proxy.blob_bytes(), 0);

    // What others see.
    let layout = setup.path().join("pulled");
    tool(
        "skopeo",
        &[
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{}", reference),
            &format!("oci:{layout}:x"),
        ],
    );
    let content = Content::of_layout(&layout).unwrap();
    assert_eq!(
        content.manifests[0].0.digest,
        value["pushed"]["digest"].as_str().unwrap()
    );

    setup
        .run(&["base", "import", &format!("oci://{reference}"), "web"])
        .expect(0);
    same_content(&disk, &setup.home().join("bases/web/1.0.0/disk.qcow2"));
}

#[test]
fn a_disk_in_pieces_comes_back_as_a_base() {
    let (setup, server) = (empty(), Server::start());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1", server.host());
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--piece",
        "1",
        "--tag",
        "stable",
        "--json",
    ];
    let pushed = setup.run(&push).expect(0);
    let pushed: serde_json::Value = serde_json::from_str(&pushed.stdout).unwrap();
    // Four pieces have data; the fifth blob is the empty configuration.
    assert_eq!(pushed["pushed"]["blobs"]["sent"], 5);
    assert_eq!(pushed["pushed"]["tags"], serde_json::json!(["1", "stable"]));
    let raw = tool(
        "skopeo",
        &[
            "inspect",
            "--raw",
            "--tls-verify=false",
            &format!("docker://{reference}"),
        ],
    );
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!(manifest["artifactType"], media::DISK);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 4);
    assert_eq!(
        manifest["layers"][3]["annotations"][disk::OFFSET],
        (6 * MIB).to_string()
    );
    let digest = setup.run(&["disk", "digest", disk.as_str()]).expect(0);
    assert!(
        digest
            .stdout
            .contains(manifest["annotations"][disk::DISK_DIGEST].as_str().unwrap())
    );

    let by_digest = format!(
        "oci://{}/disks/web@{}",
        server.host(),
        pushed["pushed"]["digest"].as_str().unwrap()
    );
    setup.run(&["base", "import", &by_digest]).expect(0);
    same_content(&disk, &setup.home().join("bases/web/1.0.0/disk.qcow2"));
    let partial = setup.home().join("bases/.partial");
    assert_eq!(
        partial.read_dir_utf8().unwrap().count(),
        0,
        "pieces are left"
    );
}

#[test]
fn a_registry_with_a_login() {
    let (setup, server) = (empty(), Server::with_login());
    let disk = raw_disk(&setup);
    let reference = format!("{}/a:1", server.host());
    let auth = setup.path().join("auth.json");
    let push = |config: &str| {
        std::fs::write(&auth, config).unwrap();
        let mut command = setup.ovenbird(&["push", disk.as_str(), &reference]);
        let output = command
            .env("REGISTRY_AUTH_FILE", &auth)
            .env(
                "PATH",
                format!("{}:{}", setup.path(), std::env::var("PATH").unwrap()),
            )
            .output()
            .unwrap();
        crate::setup::Ran::of(output)
    };
    let none = push("{}").expect(4);
    none.says("refuses the login");
    none.says("no login for");
    // baker:wrong
    let wrong = push(&format!(
        r#"{{"auths": {{"{}": {{"auth": "YmFrZXI6d3Jvbmc="}}}}}}"#,
        server.host()
    ));
    wrong
        .expect(4)
        .says(&format!("the login of {USER} was tried"));
    // baker:right-password
    push(&format!(
        r#"{{"auths": {{"{}": {{"auth": "YmFrZXI6cmlnaHQtcGFzc3dvcmQ="}}}}}}"#,
        server.host()
    ))
    .expect(0);
    let helper = setup.file(
        "docker-credential-test",
        "#!/bin/sh\n[ \"$1\" = get ] && cat > \"$0.asked\" && echo '{\"Username\":\"baker\",\"Secret\":\"right-password\"}'\n",
    );
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    push(&format!(
        r#"{{"credHelpers": {{"{}": "test"}}}}"#,
        server.host()
    ))
    .expect(0);
    assert_eq!(
        std::fs::read_to_string(format!("{helper}.asked")).unwrap(),
        server.host()
    );
}

#[tokio::test]
async fn an_upload_survives_what_breaks_on_the_way() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let to = registry(&proxy.host(), "a", options());
    let length = 3 * MIB;
    for (seed, fault) in [
        Fault::Reset { after: MIB },
        Fault::Stall,
        Fault::Status(500, ""),
        Fault::Status(503, ""),
        Fault::Status(429, "retry-after: 1\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let (descriptor, source) = blob(&setup, length, seed as u64 + 10);
        proxy.forget();
        proxy.next("PUT", "/blobs/uploads/", fault.clone());
        let sent = to.push_blob(&descriptor, &source, &[]).await;
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
    proxy.next("PATCH", "/blobs/uploads/", Fault::Status(502, ""));
    chunked.push_blob(&descriptor, &source, &[]).await.unwrap();
    assert!(proxy.all_faults_happened());
    assert_eq!(to.small_blob(&descriptor).await.unwrap(), noise(length, 77));
    let accepted: u64 = proxy.blob_bytes();
    assert_eq!(accepted, 4 * MIB as u64, "one chunk was sent twice");
}

#[tokio::test]
async fn what_does_not_get_better_is_told() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let to = registry(&proxy.host(), "a", options());
    let (descriptor, source) = blob(&setup, 4096, 5);
    for _ in 0..4 {
        proxy.next("PUT", "/blobs/uploads/", Fault::Status(500, ""));
    }
    let error = to.push_blob(&descriptor, &source, &[]).await.unwrap_err();
    let text = ovenbird::error::Failure::from(error).chain();
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
    assert!(matches!(error, RegistryError::GaveUp { .. }), "{error:?}");
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
    let arrived = std::sync::atomic::AtomicU64::new(0);
    let count = |bytes: u64| {
        arrived.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    };
    from.fetch_blob(&descriptor, &target, &count).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), noise(length, 3));
    assert_eq!(arrived.into_inner(), length as u64, "no byte came twice");

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

#[test]
fn after_a_kill_only_the_rest_is_sent() {
    let (setup, server) = (empty(), Server::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{}/disks/web:1", proxy.host());
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--piece",
        "1",
        "--parallel",
        "1",
        "--json",
    ];
    // Two of four pieces arrive, the third never does.
    proxy.next("PUT", "/blobs/uploads/", Fault::Pass);
    proxy.next("PUT", "/blobs/uploads/", Fault::Pass);
    proxy.next("PUT", "/blobs/uploads/", Fault::Stall);
    let mut child = setup.ovenbird(&push).spawn().unwrap();
    wait_for("the third piece", Duration::from_secs(60), || {
        proxy.all_faults_happened().then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();

    proxy.forget();
    let again = setup.run(&push).expect(0);
    let value: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
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
    let left = crate::setup::find(&setup.home().join("bases"), &|path| {
        path.file_name()
            .is_some_and(|name| name.starts_with(".staging-"))
    });
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn artifacts_refer_to_their_subject() {
    let server = Server::start();
    let to = registry(&server.host(), "a", options());
    let image =
        Content::artifact("application/x-test", None, vec![], None, Default::default()).unwrap();
    let pushed = image.push(&to, &["1".into()], &[], &Silent).await.unwrap();
    let bytes = b"{\"sbom\":true}".as_slice();
    let sbom = ovenbird::registry::Descriptor::of("application/spdx+json", bytes);
    let about = Content::artifact(
        "application/spdx+json",
        None,
        vec![(sbom, Source::Bytes(bytes.into()))],
        Some(image.manifests[0].0.clone()),
        Default::default(),
    )
    .unwrap();
    for _ in 0..2 {
        about.push(&to, &[], &[], &Silent).await.unwrap();
    }
    let all = to.referrers(&pushed.digest, None).await.unwrap();
    assert_eq!(all.len(), 1, "noted once");
    assert_eq!(all[0].digest, about.manifests[0].0.digest);
    let kinds = |kind| to.referrers(&pushed.digest, Some(kind));
    assert_eq!(kinds("application/spdx+json").await.unwrap().len(), 1);
    assert_eq!(kinds("application/other").await.unwrap().len(), 0);
}

#[tokio::test]
async fn ecr_gives_a_login_and_a_repository() {
    let moto = Moto::start();
    let config = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("eu-central-1"))
        .endpoint_url(moto.endpoint())
        .credentials_provider(
            aws_credential_types::provider::SharedCredentialsProvider::new(
                aws_credential_types::Credentials::from_keys(
                    "AKIAIOSFODNN7EXAMPLE",
                    "not-a-real-key",
                    None,
                ),
            ),
        )
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    assert_eq!(ecr::login(&config).await.unwrap().user(), "AWS");
    assert!(ecr::ensure_repository(&config, "images/web").await.unwrap());
    assert!(!ecr::ensure_repository(&config, "images/web").await.unwrap());
    let seen = moto.aws(&[
        "ecr",
        "describe-repositories",
        "--query",
        "repositories[].repositoryName",
        "--output",
        "text",
    ]);
    assert_eq!(seen.trim(), "images/web");
}

#[test]
fn references_that_are_none() {
    let setup = empty();
    let disk = raw_disk(&setup);
    setup
        .run(&["push", disk.as_str(), "web:1"])
        .expect(2)
        .says("is no registry reference: it has no repository");
    setup
        .run(&["base", "import", "oci://localhost:1/Upper:1"])
        .expect(2)
        .says("a repository has lower-case letters");
}
