//! Images are signed and verified: whatever is changed afterwards is found, with nothing but the folder and a key.

use camino::{Utf8Path, Utf8PathBuf};
use ovenbird_disk::{ConvertOptions, NoProgress, Target, convert, open};
use serde_json::{Value, json};

use crate::setup::{self, Ran, Setup};

/// An image's folder as a bake leaves it: a raw disk and its qcow2, and a manifest that tells the truth.
pub fn image(setup: &Setup, place: &str, build: u32) -> Utf8PathBuf {
    let folder = setup.path().join(place);
    std::fs::create_dir_all(&folder).unwrap();
    let raw = folder.join("web.raw");
    let mut disk = vec![0; 3 << 20];
    disk[1 << 20..(1 << 20) + 1000].fill(u8::try_from(build).unwrap() + 1);
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
        "virtualSize": 3 << 20, "diskDigest": written.disk_digest.to_string(), "boots": [],
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
    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(0);
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
    setup
        .run(&["sign", old.as_str(), "--key", &private])
        .expect(0);
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
    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(0);
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
    setup
        .run(&["sign", folder.as_str(), "--key", &second])
        .expect(0);
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
    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(0);
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
        ran.stdout.contains("signed by nobody: SHA256SUMS"),
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
    setup
        .run(&["sign", folder.as_str(), "--key", &private])
        .expect(0);
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
    setup
        .run(&["sign", broken.as_str(), "--key", &other])
        .expect(0);
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
