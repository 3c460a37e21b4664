//! Images are signed and verified: whatever is changed afterwards is found, with nothing but the folder and a key.

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird::store::{Home, NewImage, Store};
use ovenbird_disk::{ConvertOptions, NoProgress, Target, convert, open};
use ovenbird_provenance::dsse::Envelope;
use ovenbird_provenance::statement::{PAYLOAD_TYPE, Statement};
use serde_json::{Value, json};

use crate::setup::{self, Ran, Setup};

/// An image's folder as a bake leaves it: a raw disk and its qcow2, and a manifest that tells the truth.
pub fn image(setup: &Setup, place: &str, build: u32) -> Utf8PathBuf {
    let mut disk = vec![0; 3 << 20];
    disk[1 << 20..(1 << 20) + 1000].fill(u8::try_from(build).unwrap() + 1);
    image_of(setup, place, build, &disk)
}

/// The same of a disk.
pub fn image_of(setup: &Setup, place: &str, build: u32, disk: &[u8]) -> Utf8PathBuf {
    let folder = setup.path().join(place);
    std::fs::create_dir_all(&folder).unwrap();
    let raw = folder.join("web.raw");
    std::fs::write(&raw, disk).unwrap();
    let written = convert(
        &*open(raw.as_std_path()).unwrap(),
        &Target::Qcow2 { compression: None },
        &ConvertOptions::default(),
        folder.join("web.qcow2").as_std_path(),
        &NoProgress,
    )
    .unwrap();
    let file = |name: &str, format: &str| {
        let sum = setup::tool("sha256sum", &[folder.join(name).as_str()]);
        json!({
            "path": name, "format": format, "size": std::fs::metadata(folder.join(name)).unwrap().len(),
            "sha256": sum.split_whitespace().next().unwrap(),
        })
    };
    let manifest = json!({
        "manifestVersion": 1, "name": "web", "version": "1.2.3", "build": build, "run": format!("run-{build}"),
        "arn": format!("arn:aws:imagebuilder:local:000000000000:image/web/1.2.3/{build}"),
        "created": "2026-01-02T03:04:05Z", "generator": "ovenbird 0.1.0", "architecture": "x86_64",
        "firmware": ["bios"], "parent": {"name": "debian-12", "version": "12.1.0", "sha256": "ab".repeat(32)},
        "components": [{"name": "nginx", "version": "1.0.0", "sha256": "cd".repeat(32), "parameters": {"Port": ["80"]}}],
        "os": {"id": "debian", "version": "12", "prettyName": "Debian"}, "packages": [], "sanitised": [],
        "virtualSize": disk.len(), "diskDigest": written.disk_digest.to_string(), "boots": [],
        "files": [file("web.qcow2", "qcow2"), file("web.raw", "raw")],
    });
    std::fs::write(
        folder.join("manifest.json"),
        serde_json::to_vec_pretty(&manifest).unwrap(),
    )
    .unwrap();
    folder
}

/// Makes a key; returns its private and its public file.
fn key(setup: &Setup, name: &str) -> (String, String) {
    key_of(setup, name, "ed25519")
}

/// The same by another algorithm.
pub fn key_of(setup: &Setup, name: &str, algorithm: &str) -> (String, String) {
    let file = setup.path().join(name).to_string();
    setup
        .run(&["keys", "generate", &file, "--algorithm", algorithm])
        .expect(0);
    (file.clone(), format!("{file}.pub"))
}

#[track_caller]
fn sign(setup: &Setup, folder: &Utf8Path, private: &str) -> Ran {
    setup
        .run(&["sign", folder.as_str(), "--key", private])
        .expect(0)
}

fn verify(setup: &Setup, folder: &Utf8Path, public: &str) -> Ran {
    setup.run(&["verify", folder.as_str(), "--key", public])
}

fn copy(from: &Utf8Path, to: &Utf8Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir_utf8().unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn whatever_is_changed_is_found() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let (_, stranger) = key(&setup, "stranger");
    let folder = image(&setup, "out", 1);
    verify(&setup, &folder, &public)
        .expect(8)
        .says("is not proven");
    sign(&setup, &folder, &private);
    let ran = setup
        .run(&[
            "verify",
            folder.as_str(),
            "--key",
            &stranger,
            "--key",
            &public,
            "--json",
        ])
        .expect(0);
    let checked: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(checked["image"], "web/1.2.3/1");
    assert_eq!(
        checked["files"],
        json!(["manifest.json", "web.qcow2", "web.raw"])
    );
    assert_eq!(checked["disks"], json!(["web.qcow2", "web.raw"]));
    // A single file, from anywhere.
    let disk = folder.join("web.qcow2");
    let ran = setup
        .run(&["verify", disk.as_str(), "--key", &public])
        .expect(0);
    assert!(
        ran.stdout.contains("1 files, 1 disks read"),
        "{}",
        ran.stdout
    );

    verify(&setup, &folder, &stranger)
        .expect(8)
        .says("none of its signatures is by a trusted key");
    let broken = setup.path().join("broken");
    for name in [
        "manifest.json",
        "web.qcow2",
        "web.raw",
        "provenance.dsse.json",
    ] {
        copy(&folder, &broken);
        let mut bytes = std::fs::read(broken.join(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(broken.join(name), bytes).unwrap();
        let ran = verify(&setup, &broken, &public).expect(8);
        if name != "provenance.dsse.json" {
            ran.says(&format!("\"{name}\" was changed"));
        }
    }
    copy(&folder, &broken);
    std::fs::remove_file(broken.join("web.raw")).unwrap();
    verify(&setup, &broken, &public)
        .expect(8)
        .says("\"web.raw\" is missing");
    copy(&folder, &broken);
    std::fs::write(broken.join("extra"), "x").unwrap();
    verify(&setup, &broken, &public)
        .expect(8)
        .says("\"extra\" is not named");
}

#[test]
fn an_older_image_under_a_newer_name_is_found() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let old = image(&setup, "web/1.2.3/1", 1);
    sign(&setup, &old, &private);
    verify(&setup, &old, &public).expect(0);
    let new = setup.path().join("web/1.2.3/2");
    std::fs::rename(&old, &new).unwrap();
    verify(&setup, &new, &public)
        .expect(8)
        .says("it is web/1.2.3/1, but lies where web/1.2.3/2 belongs");
    setup
        .run(&[
            "verify",
            new.as_str(),
            "--key",
            &public,
            "--is",
            "web/1.2.3/2",
        ])
        .expect(8)
        .says("it is web/1.2.3/1, not web/1.2.3/2");
}

/// Names of files that a destination makes are no pass for anybody's file of that name.
#[test]
fn a_file_that_nobody_signed_is_not_verified() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    for name in ["register-image.sh", "register-image.json", "SHA256SUMS"] {
        let file = setup.file(&format!("out/{name}"), "");
        verify(&setup, &file, &public)
            .expect(8)
            .says(&format!("\"{name}\" is not named by the provenance"));
    }
    // Deeper than the comparison goes.
    let deep = setup.file(&format!("out/{}web.raw", "d/".repeat(20)), "evil");
    verify(&setup, &deep, &public)
        .expect(8)
        .says("is not among the files that were signed");
    for name in ["web.raw", "manifest.json", "provenance.dsse.json"] {
        verify(&setup, &folder.join(name), &public).expect(0);
    }
}

/// Whoever goes by the checksums must come to the files that were signed.
#[test]
fn checksums_are_held_against_what_was_signed() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    let digest = setup::tool("sha256sum", &[folder.join("web.raw").as_str()]);
    let digest = digest.split_whitespace().next().unwrap();
    let with = |sums: &str| {
        setup.file("out/SHA256SUMS", sums);
        verify(&setup, &folder, &public)
    };
    with(&format!(
        "{digest}  web.raw\n{} *./web.raw\n",
        digest.to_uppercase()
    ))
    .expect(0);
    let other = "ab".repeat(32);
    for line in ["  web.raw", " *./web.raw"] {
        with(&format!("{digest}  web.raw\n{other}{line}\n"))
            .expect(8)
            .says(&format!(
                "has the sha256 \"{other}\" for \"web.raw\", signed is {digest}"
            ));
    }
    with(&format!("{other}  x/../web.raw\n"))
        .expect(8)
        .says("which was not signed");
}

/// Folders have the name as ARNs do, the statement as the recipe.
#[test]
fn a_name_with_spaces_lies_where_it_belongs() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "web-server/1.2.3/1", 1);
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let text = text.replace("\"name\": \"web\"", "\"name\": \"Web Server\"");
    std::fs::write(&manifest, text).unwrap();
    sign(&setup, &folder, &private);
    let ran = verify(&setup, &folder, &public).expect(0);
    assert!(ran.stdout.contains("Web Server/1.2.3/1 is as"));
    let demand =
        |image: &str| setup.run(&["verify", folder.as_str(), "--key", &public, "--is", image]);
    demand("Web Server/1.2.3/1").expect(0);
    demand("web-server/1.2.3/1").expect(0);
    demand("web-server/1.2.3/2").expect(8);
}

#[test]
fn a_link_from_a_newer_name_to_an_older_image_is_found() {
    use std::os::unix::fs::symlink;
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let old = image(&setup, "web/1.2.3/1", 1);
    sign(&setup, &old, &private);
    let new = setup.path().join("web/1.2.3/2");
    symlink("1", &new).unwrap();
    symlink("1.2.3/1", setup.path().join("web/latest")).unwrap();
    symlink("1/web.raw", setup.path().join("web/1.2.3/newest.raw")).unwrap();
    let verify = |place: &str, more: &[&str]| {
        let mut arguments = vec!["verify", place, "--key", &public];
        arguments.extend(more);
        setup.run(&arguments)
    };
    for place in [
        new.as_str(),
        "web/1.2.3/2",
        "web/1.2.3/1/../2",
        "web/1.2.3/2/web.raw",
    ] {
        verify(place, &[])
            .expect(8)
            .says("it is web/1.2.3/1, but lies where web/1.2.3/2 belongs");
    }
    verify("web/1.2.3/2", &["--is", "web/1.2.3/1"]).expect(0);
    for place in [
        "web/latest",
        "web/latest/web.raw",
        "web/1.2.3/1/web.raw",
        "web/1.2.3/newest.raw",
    ] {
        verify(place, &[]).expect(0);
    }
}

/// The store says where an image is; what lies there says which it is.
#[test]
fn an_image_of_the_store_must_be_the_one_that_was_asked_for() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "elsewhere", 7);
    sign(&setup, &folder, &private);
    let store = Store::open(&Home::at(setup.home()).unwrap()).unwrap();
    std::sync::Arc::new(store)
        .begin_image(&NewImage {
            name: "web".into(),
            version: "1.2.3".into(),
            parent: "debian-12/1.0.0".into(),
            recipe: "{}".into(),
            folder: Some(folder),
            ..NewImage::default()
        })
        .unwrap();
    for image in ["web/1.2.3/1", "web"] {
        setup
            .run(&["verify", image, "--key", &public])
            .expect(8)
            .says("it is web/1.2.3/7, not web/1.2.3/1");
    }
    setup
        .run(&["verify", "web", "--key", &public, "--is", "web/1.2.3/7"])
        .expect(0);
}

/// Who can write into the folder must not choose what is signed, nor lose signatures in silence.
#[test]
fn an_envelope_that_is_of_no_use_is_replaced_with_a_warning() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    let sign = || sign(&setup, &folder, &private);
    assert_eq!(sign().stderr, "");
    assert_eq!(sign().stderr, "", "the same again replaces nothing");
    let path = folder.join("provenance.dsse.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (other, reason) in [
        (
            text.replace(PAYLOAD_TYPE, "text/plain"),
            "its payload is \"text/plain\"",
        ),
        (
            text.replacen("\"payload\": \"", "\"payload\": \"AAAA", 1),
            "what it states is not",
        ),
        (text[..40].to_owned(), "not a DSSE envelope"),
    ] {
        std::fs::write(&path, other).unwrap();
        sign().says("is replaced").says(reason);
        verify(&setup, &folder, &public).expect(0);
    }
}

/// in-toto's resource descriptor wants one of `uri`, `digest` and `content`.
#[test]
fn every_resource_of_a_statement_is_one() {
    let setup = setup::empty();
    let (private, _) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    let text = std::fs::read(folder.join("provenance.dsse.json")).unwrap();
    let payload = Envelope::parse(&text)
        .unwrap()
        .unverified_payload()
        .unwrap();
    let Statement {
        subject, predicate, ..
    } = Statement::parse(&payload).unwrap();
    let used = predicate.build_definition.resolved_dependencies;
    let made = predicate.run_details.byproducts;
    assert_eq!(made[0].uri.as_deref(), Some("urn:ovenbird:evidence:boots"));
    for one in [subject, used, made].into_iter().flatten() {
        assert!(one.uri.is_some() || !one.digest.is_empty(), "{one:?}");
    }
}

#[test]
fn a_passphrase_is_neither_empty_nor_told_to_commands() {
    let setup = setup::empty();
    let (private, public) = key_of(&setup, "token", "p256");
    let empty = setup.file("empty", "\n");
    setup
        .run(&[
            "keys",
            "generate",
            "new",
            "--passphrase-file",
            empty.as_str(),
        ])
        .expect(3)
        .says("is empty");
    assert!(!setup.path().join("new").exists());
    let folder = image(&setup, "out", 1);
    let sign = |command: &str| {
        let mut sign = setup.ovenbird(&[
            "sign",
            folder.as_str(),
            "--key",
            &format!("command:{command}"),
            "--public-key",
            &public,
        ]);
        Ran::of(
            sign.env("OVENBIRD_KEY_PASSPHRASE", "secret")
                .output()
                .unwrap(),
        )
    };
    sign(&format!(
        "test -z \"$OVENBIRD_KEY_PASSPHRASE\" && openssl dgst -sha256 -sign '{private}' | base64 -w0"
    ))
    .expect(0);
    let ran = sign("false --pin 1234").expect(8);
    ran.says("the signing command `false` failed");
    assert!(!ran.stderr.contains("1234"), "{}", ran.stderr);
}

#[test]
fn a_changed_image_is_not_signed() {
    let setup = setup::empty();
    let (private, _) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    std::fs::write(folder.join("web.raw"), vec![1; 3 << 20]).unwrap();
    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(8)
        .says("web.raw is not what was made");
    assert!(!folder.join("provenance.dsse.json").exists());
}

/// Two keys, one of them encrypted, the other in somebody else's hands: OpenSSL signs.
#[test]
fn several_sign_by_files_and_by_commands() {
    let setup = setup::empty();
    let folder = image(&setup, "out", 1);
    let secret = setup.file("passphrase", "correct horse\n");
    let file = setup.path().join("encrypted").to_string();
    setup
        .run(&[
            "keys",
            "generate",
            &file,
            "--passphrase-file",
            secret.as_str(),
        ])
        .expect(0);
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("ENCRYPTED")
    );
    setup
        .run(&["sign", folder.as_str(), "--key", &file])
        .expect(3)
        .says("OVENBIRD_KEY_PASSPHRASE");
    setup
        .run(&[
            "sign",
            folder.as_str(),
            "--key",
            &file,
            "--passphrase-file",
            secret.as_str(),
        ])
        .expect(0);
    let (other, other_public) = {
        let file = setup.path().join("token").to_string();
        setup
            .run(&["keys", "generate", &file, "--algorithm", "p256"])
            .expect(0);
        (file.clone(), format!("{file}.pub"))
    };
    let command = format!("command:openssl dgst -sha256 -sign '{other}' | base64 -w0");
    setup
        .run(&[
            "sign",
            folder.as_str(),
            "--key",
            &command,
            "--public-key",
            &other_public,
        ])
        .expect(0);
    let envelope = std::fs::read_to_string(folder.join("provenance.dsse.json")).unwrap();
    let envelope: Value = serde_json::from_str(&envelope).unwrap();
    assert_eq!(envelope["signatures"].as_array().unwrap().len(), 2);
    for public in [format!("{file}.pub"), other_public] {
        verify(&setup, &folder, &public).expect(0);
    }
    setup
        .run(&["keys", "generate", &file])
        .expect(8)
        .says("exists already");
}

#[test]
fn a_policy_says_what_the_image_must_be() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let (second, second_public) = key(&setup, "second");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    let policy = |text: &str| {
        setup.file("policy.toml", text);
        setup.run(&["verify", folder.as_str(), "--policy", "policy.toml"])
    };
    let good = "keys = [\"release.pub\", \"second.pub\"]\nimage = [\"web\"]\nminimumVersion = \"1.2.3\"\nparents = [\"debian-12/*\"]\n\
                [components]\nrequired = [\"nginx/1.*\"]\n";
    policy(good).expect(0);
    policy(&format!("signatures = 2\n{good}"))
        .expect(8)
        .says("signed by 1 trusted keys, wanted are 2");
    sign(&setup, &folder, &second);
    policy(&format!("signatures = 2\n{good}")).expect(0);
    policy(&good.replace("1.2.3", "1.3.0"))
        .expect(8)
        .says("its version is 1.2.3, at least 1.3.0 is wanted");
    policy(&format!("{good}forbiden = [\"x\"]\n"))
        .expect(3)
        .says("policy.toml is not a policy")
        .says("unknown field `forbiden`");
    policy("image = [\"web\"]\n")
        .expect(3)
        .says("no key is trusted");
    // A manifest that is not as signed is not asked.
    let manifest = folder.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("debian-12", "debian-13")).unwrap();
    policy(good)
        .expect(8)
        .says("was changed")
        .says("the policy can't be checked");
    let both = [public, second_public];
    assert!(both.iter().all(|file| Utf8Path::new(file).exists()));
}

#[test]
fn a_home_signs_only_with_a_key_that_can_be_used() {
    let setup = setup::with_base();
    setup.file("recipe.yml", "kind: ImageRecipe\nname: web\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents: []\n");
    std::fs::write(
        setup.home().join("config.toml"),
        "[signing]\nkey = \"keys/release\"\n",
    )
    .unwrap();
    setup
        .run(&["build", "recipe.yml"])
        .expect(3)
        .says("cannot read the key")
        .says("keys/release");
    let list = setup.run(&["image", "list", "--json"]).expect(0);
    assert_eq!(list.stdout.trim(), "[]", "nothing was begun");
}

/// What is carried away in a folder is proven there, without the home that made it.
#[test]
fn a_distributed_folder_is_proven_where_it_is() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let folder = image(&setup, "out", 1);
    sign(&setup, &folder, &private);
    let distribute = |formats: &str, path: &str| {
        setup.file(
            "to.yml",
            &format!(
                "kind: DistributionConfiguration\nname: away\nlocal:\n  destinations:\n  - folder: {{path: {path}, layout: versioned{formats}}}\n"
            ),
        );
        setup
            .run(&["distribute", folder.as_str(), "--to", "to.yml"])
            .expect(0);
        setup.path().join(path).join("web/1.2.3/1")
    };
    let away = distribute("", "stick");
    let ran = verify(&setup, &away, &public).expect(0);
    assert!(
        ran.stdout
            .contains("NOT signed, for a destination has made them: SHA256SUMS, register-image"),
        "{}",
        ran.stdout
    );
    std::fs::write(away.join("extra.sh"), "x").unwrap();
    verify(&setup, &away, &public)
        .expect(8)
        .says("\"extra.sh\" is not named");
    // Of a choice of formats nobody has signed the manifest.
    let some = distribute(", formats: [raw]", "some");
    verify(&setup, &some, &public)
        .expect(8)
        .says("is not proven");
}

/// The program as somebody else of this machine runs it: another user where root runs the tests, no home, no environment.
struct Stranger {
    program: Utf8PathBuf,
}

impl Stranger {
    /// Who may reach the test's folder.
    fn of(setup: &Setup) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(setup.path(), open).unwrap();
        // The build's folder may be closed to others.
        let program = setup.path().join("ovenbird");
        std::fs::copy(setup::program(), &program).unwrap();
        Self { program }
    }

    fn verify(&self, folder: &Utf8Path, public: &str, more: &[&str]) -> Ran {
        use std::process::Command;
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.arg(&self.program);
            command
        } else {
            Command::new(&self.program)
        };
        command
            .args(["verify", folder.as_str(), "--key", public])
            .args(more)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/nonexistent")
            .current_dir("/");
        Ran::of(command.output().unwrap())
    }
}

#[test]
fn another_user_proves_a_folder_with_nothing_but_a_key() {
    let setup = setup::empty();
    let (private, public) = key(&setup, "release");
    let (other, _) = key(&setup, "other");
    let folder = image(&setup, "web/1.2.3/1", 1);
    sign(&setup, &folder, &private);
    let stranger = Stranger::of(&setup);
    let ran = stranger.verify(&folder, &public, &["--json"]).expect(0);
    let checked: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(checked["disks"], json!(["web.qcow2", "web.raw"]));
    // The private key and the home are not the stranger's to read, and nothing was written anywhere.
    assert_eq!(
        setup::find(&folder, &|_| true).len(),
        4,
        "something was put into the folder"
    );

    let names: Vec<String> = folder
        .read_dir_utf8()
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .collect();
    let broken = setup.path().join("broken/web/1.2.3/1");
    let refused = |what: &str| {
        let ran = stranger.verify(&broken, &public, &[]);
        assert_eq!(ran.code, Some(8), "{what}: {}{}", ran.stdout, ran.stderr);
        ran
    };
    for name in &names {
        let whole = std::fs::read(folder.join(name)).unwrap();
        for place in [0, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            copy(&folder, &broken);
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(broken.join(name), bytes).unwrap();
            let ran = refused(&format!("byte {place} of {name}"));
            if name != "provenance.dsse.json" {
                ran.says(&format!("\"{name}\" was changed"));
            }
        }
        copy(&folder, &broken);
        std::fs::remove_file(broken.join(name)).unwrap();
        let ran = refused(&format!("{name} missing"));
        match name.as_str() {
            "provenance.dsse.json" => ran.says("is not proven"),
            _ => ran.says(&format!("\"{name}\" is missing")),
        };
    }

    // A manifest that is as good as any, but for what it says.
    copy(&folder, &broken);
    let manifest = broken.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replace("debian-12", "debian-11")).unwrap();
    refused("an edited manifest").says("\"manifest.json\" was changed");

    // Signed again after it, by a key that nobody here trusts.
    std::fs::remove_file(broken.join("provenance.dsse.json")).unwrap();
    sign(&setup, &broken, &other);
    refused("another's signature").says("none of its signatures is by a trusted key");

    // An older one where a newer one belongs.
    copy(&folder, &broken);
    stranger.verify(&broken, &public, &[]).expect(0);
    let newer = setup.path().join("broken/web/1.2.3/2");
    std::fs::rename(&broken, &newer).unwrap();
    stranger
        .verify(&newer, &public, &[])
        .expect(8)
        .says("it is web/1.2.3/1, but lies where web/1.2.3/2 belongs");
    stranger
        .verify(&newer, &public, &["--is", "web/1.2.3/2"])
        .expect(8)
        .says("it is web/1.2.3/1, not web/1.2.3/2");
}
