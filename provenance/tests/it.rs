//! Keys, envelopes and folders, against OpenSSL and against the specification's own example.
#![allow(missing_docs)]

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_provenance::dsse::{Envelope, EnvelopeError, Signature, Signer as _, pae};
use ovenbird_provenance::external::{CommandSigner, SignError};
use ovenbird_provenance::folder::{self, FILE, Problem, VerifyError, digest_of};
use ovenbird_provenance::key::{Algorithm, KeyError, PrivateKey, PublicKey};
use ovenbird_provenance::statement::{
    BuildDefinition, Builder, Metadata, PAYLOAD_TYPE, Provenance, Resource, RunDetails, SHA256,
    Statement,
};

const BOTH: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::EcdsaP256];
const FILES: [&str; 4] = [
    "manifest.json",
    "demo-1.0.0-1.raw",
    "oci/index.json",
    "oci/blobs/sha256/ab",
];

fn statement(subject: Vec<Resource>) -> Statement {
    Statement::new(
        subject,
        Provenance {
            build_definition: BuildDefinition {
                build_type: "https://example.com/bake/v1".into(),
                external_parameters: serde_json::json!({ "recipe": "demo" }),
                internal_parameters: serde_json::Value::Null,
                resolved_dependencies: Vec::new(),
            },
            run_details: RunDetails {
                builder: Builder {
                    id: "https://example.com/builder".into(),
                    version: [("ovenbird".to_owned(), "0.1.0".to_owned())].into(),
                },
                metadata: Metadata::default(),
                byproducts: Vec::new(),
            },
        },
    )
}

fn subject(folder: &Utf8Path, name: &str) -> Resource {
    Resource {
        name: name.into(),
        digest: [(SHA256.to_owned(), digest_of(&folder.join(name)).unwrap())].into(),
        ..Resource::default()
    }
}

fn put(folder: &Utf8Path, statement: &Statement, key: &PrivateKey) {
    let mut envelope = Envelope::new(PAYLOAD_TYPE, &serde_json::to_vec(statement).unwrap());
    envelope.sign(key).unwrap();
    std::fs::write(folder.join(FILE), serde_json::to_vec(&envelope).unwrap()).unwrap();
}

/// A folder with some files, signed.
fn image(key: &PrivateKey) -> (tempfile::TempDir, Utf8PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = Utf8PathBuf::from_path_buf(root.path().to_owned()).unwrap();
    for name in FILES {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("content of {name}")).unwrap();
    }
    let subjects = FILES.iter().map(|name| subject(&folder, name)).collect();
    put(&folder, &statement(subjects), key);
    (root, folder)
}

fn problems(folder: &Utf8Path, key: &PrivateKey) -> Vec<Problem> {
    folder::verify(folder, &[key.public()]).unwrap().problems
}

fn openssl(arguments: &[&str]) -> std::process::Output {
    Command::new("openssl").args(arguments).output().unwrap()
}

#[test]
fn the_encoding_is_that_of_the_specification() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
}

#[test]
fn keys_come_back_from_their_files() {
    for algorithm in BOTH {
        let key = PrivateKey::generate(algorithm);
        let public = key.public();
        assert_eq!(
            PublicKey::from_pem(&public.to_pem().unwrap()).unwrap(),
            public
        );
        let plain = key.to_pem(None).unwrap();
        assert_eq!(PrivateKey::from_pem(&plain, None).unwrap().public(), public);
        let locked = key.to_pem(Some(b"open sesame")).unwrap();
        assert!(PrivateKey::is_encrypted(&locked) && !PrivateKey::is_encrypted(&plain));
        let read = PrivateKey::from_pem(&locked, Some(b"open sesame")).unwrap();
        assert_eq!(read.public(), public);
        assert!(matches!(
            PrivateKey::from_pem(&locked, None),
            Err(KeyError::PassphraseNeeded)
        ));
        assert!(matches!(
            PrivateKey::from_pem(&locked, Some(b"open barley")),
            Err(KeyError::WrongPassphrase)
        ));
    }
    assert!(matches!(
        PrivateKey::from_pem("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", None),
        Err(KeyError::CosignPrivate)
    ));
    assert!(matches!(PublicKey::from_pem("x"), Err(KeyError::NotPublic)));
    assert!(matches!(
        PrivateKey::from_pem("x", None),
        Err(KeyError::NotPrivate)
    ));
}

#[test]
fn openssl_reads_our_keys_and_verifies_our_signatures() {
    let root = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(root.path()).unwrap();
    let [locked, public, message, signature] =
        ["key.pem", "key.pub", "message", "signature"].map(|name| folder.join(name));
    std::fs::write(&message, pae(PAYLOAD_TYPE, b"{}")).unwrap();
    for algorithm in BOTH {
        let key = PrivateKey::generate(algorithm);
        std::fs::write(&locked, key.to_pem(Some(b"secret")).unwrap().as_bytes()).unwrap();
        std::fs::write(&public, key.public().to_pem().unwrap()).unwrap();
        let read = openssl(&[
            "pkey",
            "-in",
            locked.as_str(),
            "-passin",
            "pass:secret",
            "-pubout",
        ]);
        assert!(read.status.success(), "{read:?}");
        assert_eq!(
            String::from_utf8(read.stdout).unwrap(),
            key.public().to_pem().unwrap()
        );
        let mut envelope = Envelope::new(PAYLOAD_TYPE, b"{}");
        envelope.sign(&key).unwrap();
        let decoded = Command::new("sh")
            .args(["-c", "printf %s \"$0\" | openssl base64 -d -A"])
            .arg(&envelope.signatures[0].sig)
            .output()
            .unwrap();
        std::fs::write(&signature, decoded.stdout).unwrap();
        let mut arguments = vec![
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            public.as_str(),
            "-rawin",
            "-in",
            message.as_str(),
            "-sigfile",
            signature.as_str(),
        ];
        if algorithm == Algorithm::EcdsaP256 {
            arguments.extend(["-digest", "sha256"]);
        }
        let verified = openssl(&arguments);
        assert!(verified.status.success(), "{verified:?}");
        std::fs::write(&message, "another").unwrap();
        assert!(!openssl(&arguments).status.success(), "another message");
        std::fs::write(&message, pae(PAYLOAD_TYPE, b"{}")).unwrap();
    }
}

#[test]
fn several_sign_and_each_is_told_apart() {
    let [one, two, stranger] = [BOTH[0], BOTH[1], BOTH[0]].map(PrivateKey::generate);
    let mut envelope = Envelope::new(PAYLOAD_TYPE, b"{}");
    let trusted = [one.public(), two.public()];
    assert!(matches!(
        envelope.verify(PAYLOAD_TYPE, &trusted),
        Err(EnvelopeError::Unsigned)
    ));
    envelope.sign(&stranger).unwrap();
    assert!(matches!(
        envelope.verify(PAYLOAD_TYPE, &trusted),
        Err(EnvelopeError::Untrusted(_))
    ));
    for key in [&one, &two, &one] {
        envelope.sign(key).unwrap();
    }
    assert_eq!(
        envelope.signatures.len(),
        3,
        "a second one of a key replaces the first"
    );
    let (payload, signers) = envelope.verify(PAYLOAD_TYPE, &trusted).unwrap();
    assert_eq!(payload, b"{}");
    let expected = [one.public().id().unwrap(), two.public().id().unwrap()];
    assert_eq!(signers, expected.into());
    // The key's name in the envelope is only a hint.
    envelope.signatures.remove(0);
    envelope.signatures.truncate(1);
    envelope.signatures[0].keyid = stranger.public().id().unwrap().as_str().into();
    assert!(envelope.verify(PAYLOAD_TYPE, &[stranger.public()]).is_err());
    // The type is signed with the payload.
    envelope.payload_type = "text/plain".into();
    assert!(envelope.verify("text/plain", &trusted).is_err());
}

#[test]
fn a_command_signs_with_a_key_that_we_never_see() {
    let root = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(root.path()).unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256);
    let file = folder.join("key.pem");
    std::fs::write(&file, key.to_pem(None).unwrap().as_bytes()).unwrap();
    let command = format!("openssl dgst -sha256 -sign '{file}' | openssl base64");
    let mut envelope = Envelope::new(PAYLOAD_TYPE, &vec![b' '; 200_000]);
    envelope
        .sign(&CommandSigner::new(&command, key.public()))
        .unwrap();
    envelope.verify(PAYLOAD_TYPE, &[key.public()]).unwrap();

    let other = PrivateKey::generate(Algorithm::EcdsaP256).public();
    let mut refused = |command: &str, public| {
        let error = envelope
            .sign(&CommandSigner::new(command, public))
            .unwrap_err();
        assert_eq!(envelope.signatures.len(), 1, "nothing was added");
        error
    };
    assert!(matches!(
        refused(&command, other),
        SignError::Key(KeyError::BadSignature)
    ));
    assert!(matches!(
        refused("echo '?'", key.public()),
        SignError::NotBase64 { .. }
    ));
    let failed = refused("echo no token >&2; exit 3", key.public());
    assert_eq!(
        failed.to_string(),
        "the signing command `echo` failed (exit status: 3): no token"
    );
}

#[test]
fn what_a_command_holds_is_told_to_nobody() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).public();
    for (command, name) in [
        ("exit 3; sign --pin 1234", "`exit`"),
        ("PIN='12 1234' sh -c 'exit 3'", "`PIN=…`"),
        ("printf ? --pin 1234", "`printf`"),
    ] {
        let signer = CommandSigner::new(command, key.clone());
        let error = signer.sign(b"x").unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(!format!("{error} {error:?} {signer:?}").contains("1234"));
    }
}

#[test]
fn a_command_gets_no_variable_that_is_withheld() {
    let key = PrivateKey::generate(Algorithm::EcdsaP256).public();
    // Cargo sets it for every test.
    let command = "test -z \"$CARGO_MANIFEST_DIR\" && echo AAAA";
    let signer = CommandSigner::new(command, key);
    assert!(signer.sign(b"x").is_err());
    let bytes = signer.without("CARGO_MANIFEST_DIR").sign(b"x").unwrap();
    assert_eq!(bytes, [0; 3]);
}

/// Whoever may write the envelope may add what is no signature, but not make a good one void by it.
#[test]
fn what_is_no_signature_is_passed_over() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let mut envelope = Envelope::new(PAYLOAD_TYPE, b"{}");
    envelope.sign(&key).unwrap();
    let bad = Signature {
        keyid: String::new(),
        sig: "?".into(),
    };
    envelope.signatures.insert(0, bad.clone());
    let trusted = [key.public()];
    assert!(envelope.verify(PAYLOAD_TYPE, &trusted).is_ok());
    envelope.signatures = vec![bad];
    assert!(matches!(
        envelope.verify(PAYLOAD_TYPE, &trusted),
        Err(EnvelopeError::Untrusted(_))
    ));
}

#[test]
fn an_envelope_has_at_most_a_hundred_signatures() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let mut envelope = Envelope::new(PAYLOAD_TYPE, b"{}");
    envelope.sign(&key).unwrap();
    let mut other = envelope.signatures[0].clone();
    other.keyid = "another".into();
    envelope.signatures.resize(100, other.clone());
    let parse = |envelope: &Envelope| Envelope::parse(&serde_json::to_vec(envelope).unwrap());
    assert_eq!(parse(&envelope).unwrap(), envelope);
    envelope.sign(&key).unwrap();
    assert!(
        envelope
            .sign(&PrivateKey::generate(Algorithm::Ed25519))
            .is_err()
    );
    assert_eq!(envelope.signatures.len(), 100, "nothing was added");
    envelope.signatures.push(other);
    assert!(matches!(parse(&envelope), Err(EnvelopeError::TooMany(101))));
    assert!(matches!(
        envelope.verify(PAYLOAD_TYPE, &[key.public()]),
        Err(EnvelopeError::TooMany(101))
    ));
}

/// A pipe in the envelope's place has nobody at its other end.
#[test]
fn a_pipe_is_not_waited_for() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let (_root, folder) = image(&key);
    std::fs::remove_file(folder.join(FILE)).unwrap();
    let made = Command::new("mkfifo").arg(folder.join(FILE)).status();
    assert!(made.unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let answer = folder::verify(&folder, &[key.public()]);
        sender.send(matches!(answer, Err(VerifyError::NotAFile { .. })))
    });
    let answer = receiver.recv_timeout(std::time::Duration::from_secs(20));
    assert!(answer.expect("an answer"), "a pipe is no envelope");
}

#[test]
fn an_untouched_image_verifies_and_each_flipped_byte_is_found() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let (_root, folder) = image(&key);
    let verified = folder::verify(&folder, &[key.public()]).unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!(verified.files.len(), FILES.len());
    assert_eq!(verified.signers, [key.public().id().unwrap()].into());
    for name in FILES {
        let path = folder.join(name);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(&problems(&folder, &key)[..], [Problem::Changed { path, .. }] if path == name)
            );
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(problems(&folder, &key), []);
}

#[test]
fn a_cut_or_changed_envelope_never_verifies_as_something_else() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let (_root, folder) = image(&key);
    let path = folder.join(FILE);
    let good = std::fs::read(&path).unwrap();
    let signed = folder::verify(&folder, &[key.public()]).unwrap().statement;
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(
            folder::verify(&folder, &[key.public()]).is_err(),
            "{length}"
        );
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&path, bad).unwrap();
        // Of all bytes only those of the hint may change.
        if let Ok(verified) = folder::verify(&folder, &[key.public()]) {
            assert_eq!(verified.statement, signed, "byte {at}");
        }
    }
}

#[test]
fn missing_added_renamed_and_linked_files_are_named() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let (_root, folder) = image(&key);
    let [disk, renamed] = ["demo-1.0.0-1.raw", "demo-1.0.0-2.raw"].map(|name| folder.join(name));
    std::fs::rename(&disk, &renamed).unwrap();
    let [missing, unnamed] = [disk.file_name(), renamed.file_name()].map(|n| n.unwrap().to_owned());
    let both = [
        Problem::Missing {
            path: missing.clone(),
        },
        Problem::Unnamed { path: unnamed },
    ];
    assert_eq!(problems(&folder, &key), both);
    std::os::unix::fs::symlink(&renamed, &disk).unwrap();
    let linked = problems(&folder, &key);
    assert!(
        linked.contains(&Problem::NotAFile {
            path: missing.clone()
        }),
        "{linked:?}"
    );
    assert!(
        linked.contains(&Problem::Missing { path: missing }),
        "{linked:?}"
    );
}

#[test]
fn another_key_is_refused_and_a_copy_elsewhere_verifies() {
    let [key, other] = [BOTH[0], BOTH[0]].map(PrivateKey::generate);
    let (_root, folder) = image(&key);
    assert!(matches!(
        folder::verify(&folder, &[other.public()]),
        Err(VerifyError::Envelope {
            source: EnvelopeError::Untrusted(_),
            ..
        })
    ));
    assert!(folder::verify(&folder, &[]).is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = Utf8Path::from_path(elsewhere.path()).unwrap().join("copy");
    let status = Command::new("cp").arg("-r").args([&folder, &copy]).status();
    assert!(status.unwrap().success());
    drop(_root);
    assert_eq!(problems(&copy, &key), []);
}

#[test]
fn a_signed_statement_can_lead_nowhere_outside() {
    let key = PrivateKey::generate(Algorithm::Ed25519);
    let (_root, folder) = image(&key);
    let mut subjects: Vec<_> = FILES.iter().map(|name| subject(&folder, name)).collect();
    let mut outside = subjects[0].clone();
    outside.name = format!("../{}/manifest.json", folder.file_name().unwrap());
    let mut bare = subjects.pop().unwrap();
    bare.digest.clear();
    let path = outside.name.clone();
    subjects.extend([outside, subjects[0].clone(), bare.clone()]);
    put(&folder, &statement(subjects), &key);
    let found = problems(&folder, &key);
    for problem in [
        Problem::Missing { path },
        Problem::NoDigest {
            path: bare.name.clone(),
        },
        Problem::Unnamed { path: bare.name },
        Problem::Twice {
            path: FILES[0].into(),
        },
    ] {
        assert!(found.contains(&problem), "{problem}: {found:?}");
    }
}

#[test]
fn another_predicate_is_refused_by_its_type() {
    let mut other = statement(Vec::new());
    other.predicate_type = "https://slsa.dev/provenance/v0.2".into();
    let error = Statement::parse(&serde_json::to_vec(&other).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the type of the predicate is \"https://slsa.dev/provenance/v0.2\", not \"https://slsa.dev/provenance/v1\""
    );
}
