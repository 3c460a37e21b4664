//! ECR: Amazon's interface by a server that stands in for it, its registry by a real one behind a proxy.

use ovenbird::registry::{Credentials, Target, ecr};

use super::proxy::Proxy;
use super::server::Server;
use super::{options, pushed, raw_disk};
use crate::moto::Moto;
use crate::setup::{Ran, Setup, empty};

const HOST: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

fn account(moto: &Moto) -> aws_config::SdkConfig {
    let credentials = aws_credential_types::Credentials::new(
        "AKIAIOSFODNN7EXAMPLE",
        "not-a-real-key",
        None,
        None,
        "test",
    );
    aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .endpoint_url(moto.endpoint())
        .credentials_provider(
            aws_credential_types::provider::SharedCredentialsProvider::new(credentials),
        )
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

fn repositories(moto: &Moto) -> String {
    let query = "repositories[].repositoryName";
    moto.aws(&[
        "ecr",
        "describe-repositories",
        "--query",
        query,
        "--output",
        "text",
    ])
    .trim()
    .to_owned()
}

#[tokio::test]
async fn ecr_says_where_an_account_has_its_registry() {
    let moto = Moto::start();
    let target = Target::on_ecr(&account(&moto), "eu-central-1", "images/web", options())
        .await
        .unwrap();
    assert_eq!(target.reference.to_string(), format!("{HOST}/images/web"));
    assert!(
        matches!(&target.options.credentials, Credentials::Given(login) if login.user() == "AWS")
    );
    let here = ecr::in_region(&account(&moto), "eu-central-1");
    assert!(ecr::ensure_repository(&here, "images/web").await.unwrap());
    assert!(!ecr::ensure_repository(&here, "images/web").await.unwrap());
    assert_eq!(repositories(&moto), "images/web");
}

/// Everything but Amazon's own registry: the program gets host, login and repository from AWS, and pushes to the host's name
/// through a proxy behind which a registry stands that takes no other login.
#[test]
fn a_push_to_ecr() {
    let (setup, server, moto) = (empty(), Server::with_login(), Moto::start());
    let proxy = Proxy::start(server.port());
    let disk = raw_disk(&setup);
    let reference = format!("{HOST}/images/web:1");
    let auth = setup.file("auth.json", "{}");
    let ecr = |setup: &Setup, arguments: &[&str]| {
        let mut command = setup.ovenbird(arguments);
        moto.env(&mut command)
            .env("REGISTRY_AUTH_FILE", &auth)
            .env("http_proxy", format!("http://{}", proxy.host()))
            .env("no_proxy", "127.0.0.1");
        Ran::of(command.output().unwrap())
    };
    let push = [
        "push",
        disk.as_str(),
        &reference,
        "--plain-http",
        "--create-repository",
        "--json",
    ];
    assert_eq!(pushed(ecr(&setup, &push))["pushed"]["blobs"]["sent"], 2);
    assert_eq!(repositories(&moto), "images/web");
    assert!(proxy.count("PUT", "/v2/images/web/blobs/uploads/") > 0);
    assert_eq!(pushed(ecr(&setup, &push))["pushed"]["blobs"]["existed"], 2);
    let from = format!("oci://{reference}");
    ecr(&setup, &["base", "import", &from, "--plain-http"]).expect(0);

    // Without the right to log in.
    let mut command = setup.ovenbird(&push[..5]);
    moto.env(&mut command)
        .env("REGISTRY_AUTH_FILE", &auth)
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_MAX_ATTEMPTS", "1");
    let ran = Ran::of(command.output().unwrap()).expect(4);
    ran.says("ECR refuses the repository images/web")
        .says("ecr:CreateRepository");
}
