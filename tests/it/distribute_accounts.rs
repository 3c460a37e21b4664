//! Copies of AMIs in other accounts, and what belongs to accounts. Moto finds no AMI of another account, so a stand-in with
//! owners, permissions and roles has this part.

use crate::distribute::{command, image, json, usual};
use crate::ebs_server::{EbsServer, account};
use crate::moto::Moto;
use crate::setup::{self, Setup};

const OTHER: &str = "111122223333";

fn to(setup: &Setup, text: &str) {
    let text = format!("kind: DistributionConfiguration\nname: here\ndistributions:\n{text}");
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
}

fn run(setup: &Setup, server: &EbsServer) -> std::process::Output {
    let arguments = ["distribute", "image", "--to", "to.yaml"];
    command(setup, &server.endpoint(), &arguments)
        .env("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
        .output()
        .unwrap()
}

#[test]
fn another_account_gets_a_copy_and_sees_the_ami_no_longer_than_that() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(
        &setup,
        &format!(
            "- region: eu-central-1\n  amiDistributionConfiguration:\n    amiTags: {{a: b}}\n    targetAccountIds: ['{OTHER}', '444455556666']\n  \
             launchTemplateConfigurations: [{{launchTemplateId: lt-0123456789abcdef0, accountId: '{OTHER}'}}]\n- region: us-east-1\n"
        ),
    );
    let server = EbsServer::start(|_, _| None);
    server.state.lock().unwrap().trusting.push(OTHER.into());
    let output = run(&setup, &server);
    assert_eq!(
        output.status.code(),
        Some(4),
        "one account has no such role"
    );
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = &rows["outcomes"];
    let places: Vec<&str> = [0, 1, 2]
        .map(|row: usize| rows[row]["places"][0].as_str().unwrap())
        .to_vec();
    assert_eq!(rows[2]["destination"], format!("{OTHER}@eu-central-1"));
    insta::assert_snapshot!(
        "missing_cross_account_role",
        format!(
            "{}: {}\nhint: {}",
            rows[3]["destination"].as_str().unwrap(),
            rows[3]["reason"].as_str().unwrap(),
            rows[3]["hint"].as_str().unwrap_or("none")
        )
    );
    let copy = places[2].split_once(':').unwrap().1;
    {
        let state = server.state.lock().unwrap();
        assert_eq!(state.images[copy].account, OTHER);
        let own: Vec<_> = state
            .images
            .values()
            .filter(|image| image.account == account::OWN)
            .collect();
        assert_eq!(own.len(), 2);
        for image in own.iter().filter(|image| image.region == "eu-central-1") {
            // It stays shared with the account whose copy is still to come.
            assert_eq!(image.permitted, ["444455556666"]);
            assert_eq!(state.snapshots[&image.snapshot].permitted, ["444455556666"]);
        }
        let template = (
            "CreateLaunchTemplateVersion".into(),
            format!("{OTHER} {copy}"),
        );
        assert!(state.told.contains(&template), "{:?}", state.told);
    }
    // The rest, once the other account agrees; then everything goes, everywhere.
    server
        .state
        .lock()
        .unwrap()
        .trusting
        .push("444455556666".into());
    let done = json(&run(&setup, &server));
    assert_eq!(done[2]["places"][0], places[2], "what is there stays");
    for image in server.state.lock().unwrap().images.values() {
        assert_eq!(image.permitted, [""; 0]);
    }
    let assumed = server.count("AssumeRole");
    assert!(assumed <= 4, "credentials are kept: {assumed}");
    let arguments = ["distribute", "image", "--remove"];
    json(
        &command(&setup, &server.endpoint(), &arguments)
            .output()
            .unwrap(),
    );
    assert!(server.state.lock().unwrap().images.is_empty());
}

#[test]
fn settings_of_the_own_account_are_for_nobody_else() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let template = |account: &str| {
        format!(
            "- region: eu-central-1\n  launchTemplateConfigurations: [{{launchTemplateId: lt-0123456789abcdef0, accountId: '{account}'}}]\n"
        )
    };
    let server = EbsServer::start(|_, _| None);
    to(&setup, &template(OTHER));
    let output = run(&setup, &server);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = &rows["outcomes"][0];
    insta::assert_snapshot!(
        "settings_of_another_account",
        format!(
            "{}\nhint: {}",
            failed["reason"].as_str().unwrap(),
            failed["hint"].as_str().unwrap()
        )
    );
    assert_eq!(server.count("StartSnapshot"), 0);
    to(&setup, &template(account::OWN));
    json(&run(&setup, &server));
}

#[test]
fn licenses_and_fast_launch_are_asked_for() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let license = "arn:aws:license-manager:eu-central-1:123456789012:license-configuration:lic-0123456789abcdef0123456789abcdef";
    to(
        &setup,
        &format!(
            "- region: eu-central-1\n  licenseConfigurationArns: ['{license}']\n  fastLaunchConfigurations:\n  \
             - {{enabled: true, maxParallelLaunches: 6, snapshotConfiguration: {{targetResourceCount: 3}}}}\n"
        ),
    );
    let server = EbsServer::start(|_, _| None);
    let done = json(&run(&setup, &server));
    let ami = done[0]["places"][0]
        .as_str()
        .unwrap()
        .split_once(':')
        .unwrap()
        .1;
    let told = server.state.lock().unwrap().told.clone();
    let resource = format!("arn:aws:ec2:eu-central-1::image/{ami}");
    assert_eq!(
        told,
        [
            ("EnableFastLaunch".to_owned(), format!("{ami} 3")),
            (
                "UpdateLicenseSpecificationsForResource".to_owned(),
                format!("{resource} {license}")
            ),
        ]
    );
}

/// A key by its alias, looked up in moto's KMS; the snapshot is encrypted with the key's ARN.
#[test]
fn a_key_is_looked_up_by_its_alias() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let moto = Moto::start();
    let arn = moto.aws(&[
        "kms",
        "create-key",
        "--query",
        "KeyMetadata.Arn",
        "--output",
        "text",
    ]);
    moto.aws(&[
        "kms",
        "create-alias",
        "--alias-name",
        "alias/images",
        "--target-key-id",
        arn.trim(),
    ]);
    to(
        &setup,
        "- region: eu-central-1\n  amiDistributionConfiguration: {kmsKeyId: alias/images}\n",
    );
    let server = EbsServer::start(|_, _| None);
    let arguments = ["distribute", "image", "--to", "to.yaml"];
    let output = command(&setup, &server.endpoint(), &arguments)
        .env("AWS_ENDPOINT_URL_KMS", moto.endpoint())
        .output()
        .unwrap();
    json(&output);
    let state = server.state.lock().unwrap();
    let (_, snapshot) = state.snapshots.first_key_value().unwrap();
    assert_eq!(snapshot.encrypted.as_deref(), Some(arn.trim()));
}

/// A server and credentials that the configuration names go before those of the environment.
#[test]
fn profile_and_endpoint_belong_to_the_configuration() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let server = EbsServer::start(|_, _| None);
    let credentials = setup.file(
        "credentials",
        "[images]\naws_access_key_id = ASIAOF777788889999\naws_secret_access_key = s\n",
    );
    let text = format!(
        "kind: DistributionConfiguration\nname: here\ndistributions: [{{region: eu-central-1}}]\nlocal:\n  amis: {{profile: images, endpoint: '{}'}}\n",
        server.endpoint()
    );
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
    let arguments = ["distribute", "image", "--to", "to.yaml"];
    let output = command(&setup, "http://127.0.0.1:9", &arguments)
        .env("AWS_SHARED_CREDENTIALS_FILE", credentials.as_str())
        .output()
        .unwrap();
    json(&output);
    let state = server.state.lock().unwrap();
    let (_, image) = state.images.first_key_value().unwrap();
    assert_eq!(image.account, "777788889999");
}
