//! What is signed in a registry: verified by us, and by others.

use camino::Utf8Path;
use ovenbird::registry::Descriptor;
use ovenbird::registry::deliver::PROVENANCE;
use ovenbird::registry::signatures::{About, attach};
use ovenbird_provenance::dsse::Envelope;
use ovenbird_provenance::key::PrivateKey;
use ovenbird_provenance::statement::{PAYLOAD_TYPE, Statement};
use serde_json::{Value, json};

use super::server::Server;
use super::{options, pushed, raw_disk, registry};
use crate::setup::{self, Ran, Setup, empty, tool, tool_in};
use crate::signing::{image, image_of, key_of};

fn push(setup: &Setup, folder: &Utf8Path, reference: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["push", folder.as_str(), reference, "--json"];
    arguments.extend(more);
    pushed(setup.run(&arguments))
}

#[test]
fn a_signed_disk_is_proven_from_the_registry_alone() {
    let (setup, server) = (empty(), Server::start());
    let host = format!("127.0.0.1:{}", server.port());
    let (private, public) = key_of(&setup, "release", "ed25519");
    let (_, stranger) = key_of(&setup, "stranger", "ed25519");
    let folder = image(&setup, "out", 1);
    let reference = format!("{host}/images/web:1");
    let verify = |reference: &str, more: &[&str]| {
        let image = format!("oci://{reference}");
        let mut arguments = vec!["verify", image.as_str()];
        arguments.extend(more);
        setup.run(&arguments)
    };

    push(&setup, &folder, &reference, &[]);
    verify(&reference, &["--key", &public])
        .expect(8)
        .says("it is not signed");

    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(0);
    let value = push(&setup, &folder, &reference, &["--sign-key", &private]);
    assert_eq!(value["attached"], json!(["provenance.dsse.json"]));
    let key = value["signedBy"].as_str().unwrap().to_owned();
    let checked = verify(&reference, &["--key", &public, "--json"]).expect(0);
    let checked: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(checked["image"], "web/1.2.3/1");
    assert_eq!(checked["signers"], json!([key]));
    verify(&reference, &["--key", &stranger])
        .expect(8)
        .says("none of its 1 signatures is by a trusted key");

    // What a policy demands is decided by the signed manifest that the artifact carries.
    let policy = |version: &str| {
        setup.file(
            "policy.toml",
            &format!("keys = [\"release.pub\"]\nminimumVersion = \"{version}\"\n"),
        );
        verify(&reference, &["--policy", "policy.toml"])
    };
    policy("1.2.3").expect(0);
    policy("2.0.0").expect(8).says("at least 2.0.0 is wanted");

    // Signed again: nothing is added. By another key: both count.
    push(&setup, &folder, &reference, &["--sign-key", &private]);
    let (second, second_public) = key_of(&setup, "second", "p256");
    push(&setup, &folder, &reference, &["--sign-key", &second]);
    verify(&reference, &["--key", &second_public]).expect(0);
    let both = verify(
        &reference,
        &["--key", &public, "--key", &second_public, "--json"],
    )
    .expect(0);
    let both: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!(both["signers"].as_array().unwrap().len(), 2);

    // Another image under a name that was signed, and a mirror.
    let other = image(&setup, "other", 2);
    push(&setup, &other, &reference, &[]);
    verify(&reference, &["--key", &public])
        .expect(8)
        .says("it is not signed");
    push(&setup, &folder, &reference, &[]);
    let mirror = format!("{host}/mirror/web:1");
    let digest = value["pushed"]["digest"].as_str().unwrap();
    push(&setup, &folder, &mirror, &[]);
    let signatures = format!("{}.sig", digest.replace(':', "-"));
    tool(
        "skopeo",
        &[
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            &format!("docker://{host}/images/web:{signatures}"),
            &format!("docker://{host}/mirror/web:{signatures}"),
        ],
    );
    let home = format!("{host}/images/web");
    verify(&mirror, &["--key", &public])
        .expect(8)
        .says(&format!("it is signed for {home}"));
    verify(&mirror, &["--key", &public, "--is", &home]).expect(0);
}

fn sign(setup: &Setup, folder: &Utf8Path, private: &str) {
    setup
        .run(&["sign", folder.as_str(), "--key", private])
        .expect(0);
}

fn verify(setup: &Setup, reference: &str, public: &str, more: &[&str]) -> Ran {
    let image = format!("oci://{reference}");
    let mut arguments = vec!["verify", image.as_str(), "--key", public];
    arguments.extend(more);
    setup.run(&arguments)
}

/// Somebody who may push, but has no key, lets the tag of a newer image point to an older one.
#[tokio::test]
async fn a_tag_that_was_moved_to_an_older_image_is_found() {
    let (setup, server) = (empty(), Server::start());
    let host = server.host();
    let (private, public) = key_of(&setup, "release", "ed25519");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    let place = format!("{host}/images/web");
    let right = format!("{place}:1.2.3-1");
    push(&setup, &folder, &right, &["--sign-key", &private]);
    let there = registry(&host, "images/web", options());
    let known = there.manifest("1.2.3-1").await.unwrap();
    for tag in ["1.2.3-2", "1.2.4-1", "1.2.3-debian", "latest"] {
        there
            .put_manifest(tag, &known.media_type, &known.bytes)
            .await
            .unwrap();
    }
    let verify = |reference: &str, more: &[&str]| verify(&setup, reference, &public, more);
    for tag in ["1.2.3-1", "1.2.3-debian", "latest"] {
        verify(&format!("{place}:{tag}"), &[]).expect(0);
    }
    for tag in ["1.2.3-2", "1.2.4-1"] {
        verify(&format!("{place}:{tag}"), &[])
            .expect(8)
            .says(&format!("it is web/1.2.3/1, but its tag is {tag}"));
    }
    let latest = format!("{place}:latest");
    verify(&latest, &["--is", "Web/1.2.3/1"]).expect(0);
    verify(&latest, &["--is", "web/1.2.3/2"])
        .expect(8)
        .says("it is web/1.2.3/1, not web/1.2.3/2");
    verify(&latest, &["--is", &place]).expect(0);
    verify(&latest, &["--is", "registry.test/web"])
        .expect(8)
        .says(&format!("it is signed for {place}, not registry.test/web"));

    // Nothing says which image a bare disk is.
    let disk = raw_disk(&setup);
    let bare = format!("{host}/disks/web:1.2.3-9");
    push(&setup, &disk, &bare, &["--sign-key", &private]);
    verify(&bare, &[]).expect(0);
    verify(&bare, &["--is", "web/1.2.3/9"])
        .expect(8)
        .says("whether it is web/1.2.3/9 can't be told");
}

/// As a container, too, it is known to be made of the disk that was signed.
#[test]
fn a_signed_image_is_proven_in_every_shape() {
    let (setup, server) = (empty(), Server::start());
    let (private, public) = key_of(&setup, "release", "ed25519");
    for path in ["tree/etc/os-release", "tree/bin/sh"] {
        setup.file(path, "ID=debian\n");
    }
    let disk = setup.path().join("ext4");
    setup::ext4(&setup.path().join("tree"), &disk, "8M");
    let folder = image_of(&setup, "out", 1, &std::fs::read(&disk).unwrap());
    sign(&setup, &folder, &private);
    for shape in ["disk", "containerDisk", "image"] {
        let reference = format!("{}/{}/web:1", server.host(), shape.to_lowercase());
        push(
            &setup,
            &folder,
            &reference,
            &["--as", shape, "--sign-key", &private],
        );
        let ran = verify(&setup, &reference, &public, &["--is", "web/1.2.3/1"]).expect(0);
        assert!(ran.stdout.contains("web/1.2.3/1 is as"), "{}", ran.stdout);
    }
}

/// What else lies beside an image, by whomever, does not hide its provenance.
#[tokio::test]
async fn provenance_of_something_else_is_passed_over() {
    let (setup, server) = (empty(), Server::with_deletion());
    let host = server.host();
    let (private, public) = key_of(&setup, "release", "ed25519");
    let (folder, other) = (image(&setup, "out", 1), image(&setup, "other", 2));
    sign(&setup, &other, &private);
    let of_other = std::fs::read(other.join("provenance.dsse.json")).unwrap();
    let key = PrivateKey::from_pem(&std::fs::read_to_string(&private).unwrap(), None).unwrap();
    let changed = |change: &dyn Fn(&mut Statement)| {
        let payload = Envelope::parse(&of_other)
            .unwrap()
            .unverified_payload()
            .unwrap();
        let mut statement = Statement::parse(&payload).unwrap();
        change(&mut statement);
        let payload = serde_json::to_vec(&statement).unwrap();
        let mut envelope = Envelope::new(PAYLOAD_TYPE, &payload);
        envelope.sign(&key).unwrap();
        serde_json::to_vec(&envelope).unwrap()
    };

    let reference = format!("{host}/images/web:1");
    let value = push(&setup, &folder, &reference, &["--sign-key", &private]);
    let digest = value["pushed"]["digest"].as_str().unwrap();
    let there = registry(&host, "images/web", options());
    let fetched = there.manifest(digest).await.unwrap();
    let subject = Descriptor::of(&fetched.media_type, &fetched.bytes);
    let beside = async |bytes: Vec<u8>| {
        let about = About {
            media_type: PROVENANCE,
            name: "x".into(),
            bytes,
        };
        attach(&there, &subject, about).await.unwrap();
    };
    beside(b"no envelope".to_vec()).await;
    beside(changed(&|statement| {
        statement.predicate_type = "https://spdx.dev/Document".into();
    }))
    .await;
    beside(changed(&|statement| {
        statement.predicate.build_definition.build_type = "urn:another".into();
    }))
    .await;
    verify(&setup, &reference, &public, &[]).expect(0);
    beside(of_other.clone()).await;
    verify(&setup, &reference, &public, &[])
        .expect(8)
        .says("the provenance beside it is of web/1.2.3/2, which this is not");

    // Once its own is there as well, behind all the others.
    sign(&setup, &folder, &private);
    push(&setup, &folder, &reference, &[]);
    let proven = || {
        let ran = verify(&setup, &reference, &public, &[]).expect(0);
        assert!(ran.stdout.contains("web/1.2.3/1 is as"), "{}", ran.stdout);
    };
    proven();

    // The list still names what was removed since.
    let list = there.manifest(&digest.replace(':', "-")).await.unwrap();
    let first = &list.index().unwrap().manifests[0].digest;
    there.delete_manifest(first).await.unwrap();
    assert!(there.manifest(first).await.is_err());
    proven();
}

/// By hand, as cosign's specification has it: the payload and its signature fetched by skopeo, verified by OpenSSL.
#[test]
fn others_can_verify_without_us() {
    let (setup, server) = (empty(), Server::start());
    let host = format!("127.0.0.1:{}", server.port());
    let (private, public) = key_of(&setup, "release", "p256");
    let (_, stranger) = key_of(&setup, "stranger", "p256");
    let disk = raw_disk(&setup);
    let reference = format!("{host}/disks/web:1");
    push(
        &setup,
        &disk,
        &reference,
        &["--as", "containerDisk", "--sign-key", &private],
    );
    let remote = format!("docker://{reference}");
    let inspected = tool(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &remote,
        ],
    );
    let digest = inspected.trim();
    let fetched = setup.path().join("signatures");
    tool(
        "skopeo",
        &[
            "copy",
            "--src-tls-verify=false",
            &format!("docker://{host}/disks/web:{}.sig", digest.replace(':', "-")),
            &format!("dir:{fetched}"),
        ],
    );
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(fetched.join("manifest.json")).unwrap())
            .unwrap();
    let layer = &manifest["layers"][0];
    assert_eq!(
        layer["mediaType"],
        "application/vnd.dev.cosign.simplesigning.v1+json"
    );
    let payload = fetched.join(
        layer["digest"]
            .as_str()
            .unwrap()
            .trim_start_matches("sha256:"),
    );
    let said: Value = serde_json::from_str(&std::fs::read_to_string(&payload).unwrap()).unwrap();
    assert_eq!(said["critical"]["image"]["docker-manifest-digest"], digest);
    assert_eq!(
        said["critical"]["identity"]["docker-reference"],
        format!("{host}/disks/web")
    );
    let text = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str();
    let encoded = setup.file("signature.b64", text.unwrap());
    let signature = setup.path().join("signature");
    let (encoded, signature) = (encoded.as_str(), signature.as_str());
    tool(
        "openssl",
        &["base64", "-d", "-A", "-in", encoded, "-out", signature],
    );
    let verify = |key: &str| {
        std::process::Command::new("openssl")
            .args([
                "dgst",
                "-sha256",
                "-verify",
                key,
                "-signature",
                signature,
                payload.as_str(),
            ])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify(&public));
    assert!(!verify(&stranger));
}

/// By the Sigstore project's library for Rust, which finds, reads and checks signatures by itself.
#[test]
fn sigstore_believes_our_signatures() {
    let (setup, server) = (empty(), Server::start());
    let disk = raw_disk(&setup);
    for kind in ["p256", "ed25519"] {
        let (private, public) = key_of(&setup, &format!("release-{kind}"), kind);
        let (_, stranger) = key_of(&setup, &format!("stranger-{kind}"), kind);
        let reference = format!("127.0.0.1:{}/disks/{kind}:1", server.port());
        let signed = ["--as", "containerDisk", "--sign-key", &private];
        push(&setup, &disk, &reference, &signed);
        let verify = |key: &str| {
            std::process::Command::new(tool_in("sigstore-verify"))
                .args([key, &reference])
                .output()
                .expect("sigstore-verify starts (`make setup` builds it)")
        };
        let ours = verify(&public);
        assert!(ours.status.success(), "{kind}: {ours:?}");
        assert_eq!(verify(&stranger).status.code(), Some(1), "{kind}");
    }
}
