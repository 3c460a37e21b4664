//! Registries as destinations: `docker-registry` with what the plan names, ECR by a stand-in for its logins.

use crate::distribute::{command, json};
use crate::ebs_server::EbsServer;
use crate::registry::server::{PASSWORD, Server, USER};
use crate::setup::{self, Setup, tool};

/// A finished image of 8 MiB as raw disk, with an ext4 filesystem that has a file.
fn image(setup: &Setup) {
    let folder = setup.path().join("image");
    std::fs::create_dir(&folder).unwrap();
    let tree = setup.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/hostname"), "web\n").unwrap();
    std::fs::write(tree.join("etc/fstab"), "").unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=debian\n").unwrap();
    let raw = folder.join("web.raw");
    setup::ext4(&tree, &raw, "8M");
    let bytes = std::fs::read(&raw).unwrap();
    let digest = tool(
        env!("CARGO_BIN_EXE_ovenbird"),
        &["disk", "digest", raw.as_str()],
    );
    let manifest = serde_json::json!({
        "manifestVersion": 1, "name": "Web", "version": "1.2.3", "build": 1,
        "arn": "arn:local:imagebuilder:local:self:image/web/1.2.3/1", "run": "run-1",
        "created": "2026-07-28T01:14:17.416Z", "generator": "test", "architecture": "x86_64",
        "firmware": ["bios"], "parent": {"name": "p", "version": "1", "sha256": ""},
        "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [], "sanitised": [], "virtualSize": bytes.len(), "diskDigest": digest.trim(), "boots": [],
        "files": [{"path": "web.raw", "format": "raw", "size": bytes.len(),
            "sha256": hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&bytes))}],
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn to(setup: &Setup, text: &str) {
    let text = format!("kind: DistributionConfiguration\nname: here\n{text}");
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
}

const GO: [&str; 4] = ["distribute", "image", "--to", "to.yaml"];

#[test]
fn all_three_forms_go_to_a_registry_and_come_away_again() {
    let setup = setup::empty();
    image(&setup);
    let server = Server::start();
    let host = server.host();
    to(
        &setup,
        &format!(
            "local:\n  destinations:\n  - name: containers\n    registry: {{repository: {host}/images/web, tags: ['{{{{ imagebuilder:buildVersion }}}}', latest]}}\n  \
             - name: machines\n    registry: {{repository: {host}/machines/web, as: containerDisk}}\n  \
             - name: disks\n    registry: {{repository: {host}/disks/web, as: artifact}}\n"
        ),
    );
    let run = |arguments: &[&str]| {
        command(&setup, "http://127.0.0.1:9", arguments)
            .env("REGISTRY_AUTH_FILE", setup.file("auth.json", "{}").as_str())
            .output()
            .unwrap()
    };
    let done = json(&run(&GO));
    let places = |row: usize| done[row]["places"].as_array().unwrap().clone();
    assert_eq!(places(0).len(), 2, "two tags: {done}");
    assert!(done[0]["bytes"].as_u64().unwrap() > 0);
    // Somebody else reads them.
    let inspect = |what: &str| -> serde_json::Value {
        let from = format!("docker://{host}/{what}");
        let text = tool("skopeo", &["inspect", "--tls-verify=false", "--raw", &from]);
        serde_json::from_str(&text).unwrap()
    };
    assert!(inspect("images/web:1.2.3-1")["layers"][0]["digest"].is_string());
    assert_eq!(inspect("images/web:latest"), inspect("images/web:1.2.3-1"));
    assert!(inspect("machines/web:1.2.3-1")["layers"][0]["digest"].is_string());
    let artifact = inspect("disks/web:1.2.3-1");
    assert!(artifact["artifactType"].is_string(), "{artifact}");
    let folder = setup.path().join("unpacked");
    let layout = format!("oci:{folder}:web");
    let from = format!("docker://{host}/images/web:latest");
    tool(
        "skopeo",
        &["copy", "--src-tls-verify=false", &from, &layout],
    );
    let rootfs = setup.path().join("rootfs");
    let source = format!("{folder}:web");
    tool(
        "umoci",
        &["unpack", "--rootless", "--image", &source, rootfs.as_str()],
    );
    let name = std::fs::read_to_string(rootfs.join("rootfs/etc/hostname")).unwrap();
    assert_eq!(name, "web\n");

    // Again: nothing is sent.
    let again = json(&run(&GO));
    for row in 0..3 {
        assert_eq!(again[row]["bytes"], 0, "{again}");
        assert_eq!(again[row]["places"], done[row]["places"]);
    }
    let listed = json(&run(&["distribute", "--list"]));
    assert_eq!(listed[0]["destinations"][2]["state"], "delivered");
    // This registry lets nobody delete, and says so.
    let output = run(&["distribute", "image", "--remove"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("removing the manifest sha256:"), "{told}");
}

#[test]
fn what_was_pushed_can_be_removed_where_that_is_allowed() {
    let setup = setup::empty();
    image(&setup);
    let server = Server::with_deletion();
    let host = server.host();
    to(
        &setup,
        &format!(
            "local:\n  destinations:\n  - name: disks\n    registry: {{repository: {host}/disks/web, as: artifact}}\n"
        ),
    );
    let run = |arguments: &[&str]| {
        command(&setup, "http://127.0.0.1:9", arguments)
            .env("REGISTRY_AUTH_FILE", setup.file("auth.json", "{}").as_str())
            .output()
            .unwrap()
    };
    json(&run(&GO));
    let removed = json(&run(&["distribute", "image", "--remove"]));
    assert_eq!(removed.as_array().unwrap().len(), 1);
    let from = format!("docker://{host}/disks/web:1.2.3-1");
    let gone = std::process::Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", "--raw", &from])
        .output()
        .unwrap();
    assert!(!gone.status.success());
}

/// The service's own configuration: AWS tells the host and the login, the image goes to the registry there.
#[test]
fn a_container_distribution_goes_to_ecr() {
    let setup = setup::empty();
    image(&setup);
    let (registry, server) = (Server::with_login(), EbsServer::start(|_, _| None));
    server.state.lock().unwrap().importing.registry = format!("http://{}", registry.host());
    to(
        &setup,
        "distributions:\n- region: eu-central-1\n  containerDistributionConfiguration:\n    containerTags: [stable]\n    \
         targetRepository: {service: ECR, repositoryName: images/web}\n",
    );
    let output = command(&setup, &server.endpoint(), &GO).output().unwrap();
    let done = json(&output);
    assert_eq!(
        done.as_array().unwrap().len(),
        1,
        "no AMI was asked for: {done}"
    );
    assert_eq!(done[0]["destination"], "ecr-eu-central-1");
    let from = format!("docker://{}/images/web:stable", registry.host());
    let login = format!("{USER}:{PASSWORD}");
    let text = tool(
        "skopeo",
        &["inspect", "--tls-verify=false", "--creds", &login, &from],
    );
    let image: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(image["Architecture"], "amd64");
    assert_eq!(
        image["Labels"]["org.opencontainers.image.version"],
        "1.2.3-1"
    );
    // Its own words when the account may not.
    let refused = EbsServer::start(|call, _| {
        (call == "GetAuthorizationToken").then_some(crate::ebs_server::Fault::Denied)
    });
    let output = command(&setup, &refused.endpoint(), &GO).output().unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = &rows["outcomes"][0];
    insta::assert_snapshot!(
        "refused_ecr",
        format!(
            "{}\nhint: {}",
            failed["reason"].as_str().unwrap(),
            failed["hint"].as_str().unwrap_or("none")
        )
    );
}
