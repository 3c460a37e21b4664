//! Values that documents ask for by name: from Parameter Store, Secrets Manager, keyrings and whatever a recipe names.

use std::collections::BTreeSet;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use camino::Utf8PathBuf;
use ovenbird::aws::secrets_manager::Secret;
use ovenbird::aws::stored_values::{StoredName, look_up};
use ovenbird::error::FailureKind;

use crate::moto::Moto;
use crate::setup::{self, Ran, Setup, tool};

/// The account of this server, as a program would have it.
async fn config(moto: &Moto) -> SdkConfig {
    let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "not-a-real-key", None, None, "it");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static("eu-central-1"))
        .endpoint_url(moto.endpoint())
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await
}

fn secret(moto: &Moto, name: &str, value: &str, region: &str) -> String {
    let made = moto.aws(&[
        "secretsmanager",
        "create-secret",
        "--region",
        region,
        "--name",
        name,
        "--secret-string",
        value,
    ]);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    made["ARN"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_secrets_manager_by_both_ways() {
    let moto = Moto::start();
    secret(&moto, "app/plain", "hush-1", "eu-central-1");
    secret(
        &moto,
        "app/prod",
        r#"{"user": "app", "port": 5432}"#,
        "eu-central-1",
    );
    let elsewhere = secret(&moto, "app/plain", "hush-2", "us-west-2");
    let config = config(&moto).await;
    let fetch = async |id: &str, key: Option<&str>| {
        let secret = Secret {
            id: id.into(),
            key: key.map(Into::into),
        };
        secret.fetch(&config).await
    };
    for (id, key, wanted) in [
        ("app/plain", None, "hush-1"),
        ("app/prod", Some("user"), "app"),
        ("app/prod", Some("port"), "5432"),
        // Its region is another than the environment's.
        (elsewhere.as_str(), None, "hush-2"),
    ] {
        let value = fetch(id, key).await.unwrap();
        assert_eq!((value.value.as_str(), value.secret), (wanted, true));
        assert_eq!(format!("{value:?}"), "(secret)");
    }
    for (id, key, wanted) in [
        (
            "app/none",
            None,
            "there is no secret app/none in Secrets Manager in eu-central-1",
        ),
        (
            "app/prod",
            Some("password"),
            "the secret app/prod has no key password",
        ),
        (
            "app/plain",
            Some("user"),
            "the secret app/plain is no JSON, so that it has no keys",
        ),
    ] {
        let failure = fetch(id, key).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Config);
        assert_eq!(failure.chain(), wanted);
    }
    // As Parameter Store shows it.
    let name = StoredName::Direct("/aws/reference/secretsmanager/app/plain".into());
    let values = look_up(&config, &BTreeSet::from([name.clone()]))
        .await
        .unwrap();
    assert_eq!(values.value(&name), Some("hush-1"));
    assert!(values.has_secrets() && values.of_kind(false).is_empty());
}

const DOCUMENT: &str = "name: asks\nschemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: Ask\n    action: ExecuteBash\n    inputs:\n      commands:\n\
    \x20     - set -eu\n";

/// Puts a recipe whose component asks for each value, and checks its digest; nothing is left in the image.
fn recipe(setup: &Setup, values: &[(&str, &str, &str)]) {
    let mut document = DOCUMENT.to_owned();
    let mut places = String::new();
    for (name, value, place) in values {
        let file = setup.file("digested", value);
        let sum = tool("sha256sum", &[file.as_str()]);
        std::fs::remove_file(&file).unwrap();
        let sum = sum.split_whitespace().next().unwrap();
        document.push_str(&format!(
            "      - 'printf %s \"{{{{ aws:ssm:{name} }}}}\" | sha256sum | grep -q ^{sum}'\n      - 'echo \"{{{{ aws:ssm:{name} }}}}\"'\n"
        ));
        places.push_str(&format!("  - {{name: {name}, {place}}}\n"));
    }
    setup.file("asks.yml", &document);
    setup.file(
        "recipe.yml",
        &format!(
            "kind: ImageRecipe\nname: asking\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents: [{{path: asks.yml}}]\n\
             local:\n  tests: false\n  memory: 1GiB\n  storedValues:\n{places}"
        ),
    );
}

/// Each place once in one bake; then no file of the home and no line of output may have any of them.
#[test]
fn guest_gets_values_from_every_place_and_nothing_else_does() {
    let moto = Moto::start();
    let setup = setup::with_base();
    secret(
        &moto,
        "app/prod",
        r#"{"password": "hush-manager-4711"}"#,
        "eu-central-1",
    );
    secret(&moto, "app/whole", "hush-reference-4711", "eu-central-1");
    let account = format!("it-{}", std::process::id());
    tool(
        "keyctl",
        &[
            "add",
            "user",
            &format!("keyring:{account}@ovenbird"),
            "hush-keyring-4711",
            "@u",
        ],
    );
    let keyring = format!("keyring: {{service: ovenbird, account: {account}}}");
    let file = setup.file("secrets/key", "hush-file-4711\n");
    recipe(
        &setup,
        &[
            ("/it/env", "hush-environment-4711", "env: IT_VALUE"),
            ("/it/file", "hush-file-4711", "file: secrets/key"),
            ("/it/command", "hush-command-4711", "command: [sh, say.sh]"),
            ("/it/keyring", "hush-keyring-4711", &keyring),
            (
                "/it/manager",
                "hush-manager-4711",
                "secretsManager: {secret: app/prod, key: password}",
            ),
        ],
    );
    let script = setup.file("say.sh", "echo hush-command-4711\n");
    // One more without a place: Parameter Store's own way to Secrets Manager.
    let document = setup.path().join("asks.yml");
    let text = std::fs::read_to_string(&document).unwrap();
    let reference = "      - 'echo \"{{ aws:ssm:/aws/reference/secretsmanager/app/whole }}\" | grep -q ^hush-ref'\n";
    std::fs::write(&document, text + reference).unwrap();
    let mut command = setup.ovenbird(&["build", "recipe.yml", "--json", "-v"]);
    let ran = Ran::of(
        moto.env(&mut command)
            .env("IT_VALUE", "hush-environment-4711")
            .output()
            .unwrap(),
    );
    tool(
        "keyctl",
        &["purge", "user", &format!("keyring:{account}@ovenbird")],
    );
    let ran = ran.expect(0);
    for file in [file, script] {
        std::fs::remove_file(file).unwrap();
    }
    let endings: Vec<String> = [
        "environment",
        "file",
        "command",
        "keyring",
        "manager",
        "reference",
    ]
    .iter()
    .map(|place| format!("hush-{place}-4711"))
    .collect();
    let is_told = |bytes: &[u8]| {
        endings.iter().any(|value| {
            bytes
                .windows(value.len())
                .any(|window| window == value.as_bytes())
        })
    };
    assert!(!is_told(ran.stdout.as_bytes()), "{}", ran.stdout);
    assert!(!is_told(ran.stderr.as_bytes()), "{}", ran.stderr);
    let files = setup::find(setup.path(), &|path| {
        path.is_file() && !path.starts_with(setup.home().join("bases"))
    });
    assert!(
        files.iter().any(|path| path.ends_with("manifest.json")),
        "{files:?}"
    );
    let told: Vec<&Utf8PathBuf> = files
        .iter()
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| is_told(&bytes)))
        .collect();
    assert_eq!(told, Vec::<&Utf8PathBuf>::new());
    setup.assert_nothing_left();
}

#[test]
fn a_value_that_its_place_does_not_have_costs_no_boot() {
    let moto = Moto::start();
    let setup = setup::with_base();
    for (place, wanted) in [
        (
            "keyring: {service: ovenbird-none, account: nobody}",
            "none gives the password of nobody for ovenbird-none",
        ),
        (
            "secretsManager: {secret: app/none}",
            "there is no secret app/none in Secrets Manager in eu-central-1",
        ),
    ] {
        recipe(&setup, &[("/it/value", "x", place)]);
        let mut command = setup.ovenbird(&["build", "recipe.yml"]);
        let ran = Ran::of(moto.env(&mut command).output().unwrap()).expect(3);
        ran.says("/it/value").says(wanted);
        assert!(
            !ran.stderr.contains("LaunchBuildInstance"),
            "{}",
            ran.stderr
        );
    }
}
