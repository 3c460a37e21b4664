//! Distribution: a folder, and AMIs in three regions of a server that speaks as AWS does.

use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use sha2::{Digest as _, Sha256};

use crate::moto::Moto;
use crate::setup::{self, Setup};

const BLOCK: u64 = 512 * 1024;
/// Blocks of the disk that hold something.
pub const STORED: [u64; 5] = [0, 3, 7, 50, 127];

/// What stands in a block of a disk.
pub fn text(index: u64) -> String {
    format!("block {index}")
}

/// A finished image `web/1.2.3/BUILD` with a sparse disk of 64 MiB that has something in some blocks.
pub fn image(folder: &Utf8Path, build: u32, blocks: &[(u64, String)]) {
    image_of(folder, build, 128, blocks);
}

/// The same with a disk of another length.
pub fn image_of(folder: &Utf8Path, build: u32, length: u64, blocks: &[(u64, String)]) {
    std::fs::create_dir(folder).unwrap();
    let path = folder.join("web.raw");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(length * BLOCK).unwrap();
    for (index, text) in blocks {
        file.write_all_at(text.as_bytes(), index * BLOCK + index % 1000)
            .unwrap();
    }
    let sha256 = hex::encode(Sha256::digest(std::fs::read(&path).unwrap()));
    let manifest = serde_json::json!({
        "manifestVersion": 1, "name": "Web", "version": "1.2.3", "build": build,
        "arn": format!("arn:local:imagebuilder:local:self:image/web/1.2.3/{build}"), "run": format!("run-{build}"),
        "created": format!("2026-07-28T01:14:17.41{}Z", build % 10), "generator": "test", "architecture": "x86_64",
        "firmware": ["bios", "uefi"], "parent": {"name": "p", "version": "1", "sha256": ""},
        "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [], "sanitised": [], "virtualSize": length * BLOCK, "diskDigest": "d", "boots": [],
        "files": [{"path": "web.raw", "format": "raw", "size": length * BLOCK, "sha256": sha256}],
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

/// What the usual disk holds.
pub fn usual() -> Vec<(u64, String)> {
    STORED.map(|index| (index, text(index))).to_vec()
}

/// The program, pointed to a server.
pub fn command(setup: &Setup, endpoint: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ovenbird"));
    crate::moto::point(&mut command, endpoint)
        .args(["--home", setup.home().as_str(), "--json"])
        .args(arguments)
        .current_dir(setup.path());
    command
}

fn distribute(setup: &Setup, moto: &Moto, arguments: &[&str]) -> std::process::Output {
    command(setup, &moto.endpoint(), arguments)
        .output()
        .unwrap()
}

/// The value that a run which succeeded printed.
#[track_caller]
pub fn json(output: &std::process::Output) -> serde_json::Value {
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
    image(&setup.path().join("image"), 6, &usual());
    let template = |name: &str| {
        moto.aws(&[
            "ec2",
            "create-launch-template",
            "--launch-template-name",
            name,
            "--launch-template-data",
            r#"{"InstanceType":"t3.micro"}"#,
            "--query",
            "LaunchTemplate.LaunchTemplateId",
            "--output",
            "text",
        ])
    };
    // Two templates of one region are two requests.
    let (template, second) = (template("web-template"), template("web-second"));
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
  launchTemplateConfigurations: [{{launchTemplateId: {}}}, {{launchTemplateId: {}, setDefaultVersion: false}}]
  ssmParameterConfigurations: [{{parameterName: /web/ami, dataType: text}}]
- region: us-east-1
- region: ap-southeast-2
",
        template.trim(),
        second.trim()
    );
    std::fs::write(setup.path().join("to.yaml"), configuration).unwrap();

    let done = json(&distribute(
        &setup,
        &moto,
        &["distribute", "image", "--to", "to.yaml"],
    ));
    let places: Vec<&str> = done
        .as_array()
        .unwrap()
        .iter()
        .map(|done| done["places"][0].as_str().unwrap())
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
    for (again, done) in again
        .as_array()
        .unwrap()
        .iter()
        .zip(done.as_array().unwrap())
    {
        assert_eq!(again["places"], done["places"]);
    }
    let versions = moto.aws(&[
        "ec2",
        "describe-launch-template-versions",
        "--launch-template-id",
        template.trim(),
        "--query",
        "length(LaunchTemplateVersions)",
    ]);
    assert_eq!(versions.trim(), "2", "the second run adds no version");

    let listed = json(&distribute(&setup, &moto, &["distribute", "--list"]));
    assert_eq!(listed[0]["image"], "web/1.2.3/6");
    assert_eq!(listed[0]["destinations"][1]["state"], "delivered");
    let second = moto.aws(&[
        "ec2",
        "describe-launch-template-versions",
        "--launch-template-id",
        second.trim(),
        "--query",
        "LaunchTemplateVersions[].[VersionNumber,DefaultVersion,LaunchTemplateData.ImageId]",
        "--output",
        "text",
    ]);
    assert!(second.contains(&format!("2\tFalse\t{first}")), "{second}");

    // An AMI that somebody deregistered is made again, of the snapshot that is there.
    moto.aws(&["ec2", "deregister-image", "--image-id", first]);
    let again = json(&distribute(&setup, &moto, &["distribute", "image"]));
    assert_eq!(again[0]["bytes"], 0);
    assert_ne!(again[0]["places"], done[0]["places"]);

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

/// Logs and news of a pipeline, read back with the AWS CLI.
#[test]
fn logs_and_news_arrive() {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use ovenbird::distribute::notices::{LogGroup, Notices};

    let setup = setup::empty();
    let moto = Moto::start();
    let logs = setup.path().join("logs");
    std::fs::create_dir_all(logs.join("build/TOE_1")).unwrap();
    // The service takes nothing that is older than a fortnight.
    let now = jiff::Timestamp::now();
    let events = format!(
        "{}\n{}\n",
        serde_json::json!({"time": now.to_string(), "type": "a"}),
        serde_json::json!({"time": now.to_string(), "type": "b"}),
    );
    std::fs::write(logs.join("events.ndjson"), events).unwrap();
    std::fs::write(logs.join("build/TOE_1/console.log"), "it boots").unwrap();
    moto.aws(&["s3", "mb", "s3://logs"]);
    let text = |arguments: &[&str]| {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "text"]);
        moto.aws(&arguments).trim().to_owned()
    };
    let topic = text(&["sns", "create-topic", "--name", "images"]);
    // The client takes the endpoint of this service from nowhere else.
    let endpoint = moto.endpoint();
    let sqs = |arguments: &[&str]| {
        let mut whole = vec!["sqs", "--endpoint-url", &endpoint];
        whole.extend(arguments);
        text(&whole)
    };
    let queue = sqs(&["create-queue", "--queue-name", "news"]);
    let arn = topic.replace(":sns:", ":sqs:").replace("images", "news");
    text(&[
        "sns",
        "subscribe",
        "--topic-arn",
        &topic,
        "--protocol",
        "sqs",
        "--notification-endpoint",
        &arn,
    ]);
    let credentials =
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "not-a-real-key", None, None, "test");
    let aws = aws_config::SdkConfig::builder()
        .endpoint_url(moto.endpoint())
        .region(aws_config::Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let notices = Notices {
        logs: Some(("logs".into(), "/images/".into())),
        group: LogGroup::OfImage,
        topic: Some(topic),
    };
    let news = r#"{"name":"web","state":{"status":"AVAILABLE"}}"#;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let send = || runtime.block_on(notices.send_by(&aws, "web/1.2.3/4", &logs, Some(news)));
    assert_eq!(send(), Vec::<String>::new());
    let copy = setup.path().join("copy");
    moto.aws(&["s3", "sync", "s3://logs/images/web/1.2.3/4/", copy.as_str()]);
    assert!(copy.join("events.ndjson").is_file());
    let workflow = copy
        .read_dir_utf8()
        .unwrap()
        .map(|entry| entry.unwrap().path().to_owned())
        .find(|path| path.file_name().unwrap().starts_with("wf-"))
        .unwrap();
    let log = workflow.join("ApplyBuildComponents/TOE_1/console.log");
    assert_eq!(std::fs::read_to_string(log).unwrap(), "it boots");
    let messages = text(&[
        "logs",
        "get-log-events",
        "--log-group-name",
        "/aws/imagebuilder/web",
        "--log-stream-name",
        "1.2.3/4",
        "--query",
        "events[].[timestamp,message]",
    ]);
    let lines: Vec<&str> = messages.lines().collect();
    assert_eq!(lines.len(), 2);
    let first = format!("{}\t", now.as_millisecond());
    assert!(lines[0].starts_with(&first), "{messages}");
    let received = sqs(&[
        "receive-message",
        "--queue-url",
        &queue,
        "--query",
        "Messages[0].Body",
    ]);
    let envelope: serde_json::Value = serde_json::from_str(&received).unwrap();
    assert_eq!(envelope["Message"], news);
    // A bucket that is gone is told, and the rest is done all the same; the stream that is there is gone on with.
    moto.aws(&["s3", "rb", "--force", "s3://logs"]);
    let problems = send();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("NoSuchBucket"), "{problems:?}");
}
