//! Distribution: a folder, and AMIs in three regions of a server that speaks as AWS does.

use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use sha2::{Digest as _, Sha256};

use crate::moto::Moto;
use crate::setup::{self, Setup};

const BLOCK: u64 = 512 * 1024;
/// Blocks of the disk that hold something.
const STORED: [u64; 5] = [0, 3, 7, 50, 127];

/// A finished image with a sparse disk of 64 MiB.
fn image(folder: &Utf8Path) {
    std::fs::create_dir(folder).unwrap();
    let path = folder.join("web.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(128 * BLOCK).unwrap();
    for index in STORED {
        file.write_all_at(format!("block {index}").as_bytes(), index * BLOCK + index)
            .unwrap();
    }
    let sha256 = hex::encode(Sha256::digest(std::fs::read(&path).unwrap()));
    let manifest = serde_json::json!({
        "manifestVersion": 1, "name": "Web", "version": "1.2.3", "build": 4,
        "arn": "arn:local:imagebuilder:local:self:image/web/1.2.3/4", "run": "run-1",
        "created": "2026-07-28T01:14:17.416Z", "generator": "test", "architecture": "x86_64",
        "firmware": ["bios", "uefi"], "parent": {"name": "p", "version": "1", "sha256": ""},
        "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [], "sanitised": [], "virtualSize": 128 * BLOCK, "diskDigest": "d", "boots": [],
        "files": [{"path": "web.raw", "format": "raw", "size": 128 * BLOCK, "sha256": sha256}],
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn distribute(setup: &Setup, moto: &Moto, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ovenbird"));
    moto.env(&mut command)
        .args(["--home", setup.home().as_str(), "--json"])
        .args(arguments)
        .current_dir(setup.path())
        .output()
        .unwrap()
}

#[track_caller]
fn json(output: &std::process::Output) -> serde_json::Value {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn amis_in_three_regions() {
    let setup = setup::empty();
    let moto = Moto::start();
    image(&setup.path().join("image"));
    let template = moto.aws(&[
        "ec2",
        "create-launch-template",
        "--launch-template-name",
        "web-template",
        "--launch-template-data",
        r#"{"InstanceType":"t3.micro"}"#,
        "--query",
        "LaunchTemplate.LaunchTemplateId",
        "--output",
        "text",
    ]);
    let configuration = format!(
        r"
kind: DistributionConfiguration
name: everywhere
distributions:
- region: eu-central-1
  amiDistributionConfiguration:
    name: 'web {{{{ imagebuilder:buildDate }}}}'
    amiTags: {{build: '{{{{ imagebuilder:buildVersion }}}}'}}
    launchPermission: {{userIds: ['111122223333']}}
  launchTemplateConfigurations: [{{launchTemplateId: {}}}]
  ssmParameterConfigurations: [{{parameterName: /web/ami, dataType: text}}]
- region: us-east-1
- region: ap-southeast-2
",
        template.trim()
    );
    std::fs::write(setup.path().join("to.yaml"), configuration).unwrap();

    let done = json(&distribute(
        &setup,
        &moto,
        &["distribute", "image", "--to", "to.yaml"],
    ));
    let places: Vec<&str> = done[0]["places"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place.as_str().unwrap())
        .collect();
    assert_eq!(places.len(), 3);
    assert_eq!(done[0]["bytes"], 5 * BLOCK, "blocks of zeros are not sent");
    for place in &places {
        let (region, ami) = place.split_once(':').unwrap();
        let id = moto.aws(&[
            "ec2",
            "describe-images",
            "--region",
            region,
            "--image-ids",
            ami,
            "--query",
            "Images[0].[Name,State]",
            "--output",
            "text",
        ]);
        assert!(id.contains("2026-07-28T01-14-17.416Z\tavailable"), "{id}");
    }
    let (_, first) = places[0].split_once(':').unwrap();
    let parameter = moto.aws(&[
        "ssm",
        "get-parameter",
        "--name",
        "/web/ami",
        "--query",
        "Parameter.Value",
        "--output",
        "text",
    ]);
    assert_eq!(parameter.trim(), first);
    let versions = moto.aws(&[
        "ec2",
        "describe-launch-template-versions",
        "--launch-template-id",
        template.trim(),
        "--versions",
        "$Default",
        "--query",
        "LaunchTemplateVersions[0].LaunchTemplateData.ImageId",
        "--output",
        "text",
    ]);
    assert_eq!(versions.trim(), first);
    let permission = moto.aws(&[
        "ec2",
        "describe-image-attribute",
        "--image-id",
        first,
        "--attribute",
        "launchPermission",
        "--output",
        "text",
    ]);
    assert!(permission.contains("111122223333"), "{permission}");

    // What was sent is what lies on the disk, and a second run sends nothing and makes nothing.
    let verify = ["ebs", "verify", "image", "--region", "eu-central-1"];
    let verified = json(&distribute(&setup, &moto, &verify));
    assert_eq!(verified["blocks"], STORED.len());
    let again = json(&distribute(
        &setup,
        &moto,
        &["distribute", "image", "--to", "to.yaml"],
    ));
    assert_eq!(again[0]["bytes"], 0);
    assert_eq!(again[0]["places"], done[0]["places"]);

    // Another disk is not mistaken for it.
    std::fs::OpenOptions::new()
        .write(true)
        .open(setup.path().join("image/web.raw"))
        .unwrap()
        .write_all_at(b"other", 3 * BLOCK)
        .unwrap();
    let output = distribute(&setup, &moto, &verify);
    assert_eq!(output.status.code(), Some(8));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("block 3 of"), "{told}");
}
