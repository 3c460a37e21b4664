//! The roads by a file in a bucket: buckets of moto, imports of a stand-in that reads the file from there as the service does.
//! Moto has no imports and exports of its own.

use std::os::unix::fs::FileExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use camino::Utf8Path;

use crate::distribute::{command, image, json};
use crate::ebs_server::account::Role;
use crate::ebs_server::{BLOCK, EbsServer};
use crate::moto::Moto;
use crate::setup::{self, Setup, tool, wait_for};

const REGION: &str = "eu-central-1";
const GO: [&str; 4] = ["distribute", "image", "--to", "to.yaml"];

/// An archive of empty files in the form of an initramfs.
fn cpio(names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for name in names.iter().chain(&["TRAILER!!!"]) {
        let mut header = String::from("070701");
        for value in [1, 0o100_644, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0] {
            header.push_str(&format!("{value:08x}"));
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// A finished image as raw disk and as VMDK, of which an importer has nothing to say.
fn bootable(setup: &Setup) {
    let tree = setup.path().join("tree");
    let put = |path: &str, content: &[u8]| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let modules = "lib/modules/6.1.0-9-cloud-amd64";
    put("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n");
    put("etc/fstab", b"LABEL=root / ext4 defaults 0 1\n");
    put("etc/machine-id", b"");
    put("etc/shadow", b"root:*:1:0:99999:7:::\n");
    put(
        "etc/cloud/cloud.cfg",
        b"datasource_list: [ NoCloud, Ec2, None ]\n",
    );
    put("boot/vmlinuz-6.1.0-9-cloud-amd64", b"kernel");
    put(
        "boot/initrd.img-6.1.0-9-cloud-amd64",
        &cpio(&["lib/modules/nvme.ko", "lib/modules/xen-blkfront.ko"]),
    );
    put(
        "boot/grub/grub.cfg",
        b"linux /boot/vmlinuz root=LABEL=root net.ifnames=0 biosdevname=0 console=ttyS0,115200n8\n",
    );
    put(
        &format!("{modules}/modules.builtin"),
        b"kernel/fs/ext4/ext4.ko\n",
    );
    put(
        &format!("{modules}/modules.dep"),
        b"kernel/drivers/net/ethernet/amazon/ena/ena.ko:\n",
    );
    let folder = setup.path().join("image");
    std::fs::create_dir(&folder).unwrap();
    let raw = folder.join("web.raw");
    let disk = std::fs::File::create(&raw).unwrap();
    disk.set_len(402 << 20).unwrap();
    setup::ext4_at(1 << 20, &tree, &raw, "400M");
    // One active partition of Linux behind the first MiB, and boot code, of which there only has to be some.
    let mut table = [0; 66];
    table[..8].copy_from_slice(&[0x80, 0, 2, 0, 0x83, 0, 0, 0]);
    table[8..12].copy_from_slice(&2048_u32.to_le_bytes());
    table[12..16].copy_from_slice(&(401 * 2048_u32).to_le_bytes());
    table[64..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all_at(&[0xeb, 0x63, 0x90], 0).unwrap();
    disk.write_all_at(&table, 446).unwrap();
    let vmdk = folder.join("web.vmdk");
    let program = env!("CARGO_BIN_EXE_ovenbird");
    tool(program, &["convert", raw.as_str(), vmdk.as_str()]);
    let files = ["raw", "vmdk"].map(|format| {
        let path = folder.join(format!("web.{format}"));
        let sum = tool("sha256sum", &[path.as_str()]);
        serde_json::json!({
            "path": format!("web.{format}"), "format": format, "size": path.metadata().unwrap().len(),
            "sha256": sum.split(' ').next().unwrap(),
        })
    });
    let manifest = serde_json::json!({
        "manifestVersion": 1, "name": "Web", "version": "1.2.3", "build": 1,
        "arn": "arn:local:imagebuilder:local:self:image/web/1.2.3/1", "run": "run-1",
        "created": "2026-07-28T01:14:17.416Z", "generator": "test", "architecture": "x86_64",
        "firmware": ["bios"], "parent": {"name": "p", "version": "1", "sha256": ""},
        "components": [], "os": {"id": "debian", "version": "12", "prettyName": "Debian"},
        "packages": [], "sanitised": [], "virtualSize": 402 << 20, "diskDigest": "d", "boots": [],
        "files": files,
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn to(setup: &Setup, amis: &str, region: &str) {
    let text = format!(
        "kind: DistributionConfiguration\nname: here\ndistributions:\n- region: {REGION}\n{region}local:\n  amis: {{{amis}}}\n"
    );
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
}

/// A bucket in the region, and an account whose role may import.
fn account() -> (Moto, EbsServer) {
    let (moto, server) = (Moto::start(), EbsServer::start(|_, _| None));
    moto.aws(&["s3", "mb", "s3://imports"]);
    let mut state = server.state.lock().unwrap();
    state.importing.buckets = moto.endpoint().replace("http://", "");
    state.roles.insert("vmimport".into(), Role::for_imports());
    drop(state);
    (moto, server)
}

fn program(setup: &Setup, moto: &Moto, server: &EbsServer, arguments: &[&str]) -> Command {
    let mut command = command(setup, &server.endpoint(), arguments);
    command.env("AWS_ENDPOINT_URL_S3", moto.endpoint());
    command
}

fn run(setup: &Setup, moto: &Moto, server: &EbsServer) -> Output {
    program(setup, moto, server, &GO).output().unwrap()
}

/// Reason and hint of the only destination.
#[track_caller]
fn told(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = &rows["outcomes"][0];
    let mut told = failed["reason"].as_str().unwrap().to_owned();
    if let Some(details) = failed["details"].as_str() {
        told.push_str(&format!("\n{details}"));
    }
    format!(
        "{told}\nhint: {}",
        failed["hint"].as_str().unwrap_or("none")
    )
}

/// Compares a snapshot with a disk, byte for byte.
#[track_caller]
fn assert_holds(server: &EbsServer, snapshot: &str, disk: &Utf8Path) {
    let mut bytes = std::fs::read(disk).unwrap();
    for (index, block) in server.state.lock().unwrap().content(snapshot) {
        let offset = usize::try_from(index).unwrap() * BLOCK;
        let ours = &mut bytes[offset..offset + BLOCK];
        assert!(ours == block.as_slice(), "block {index}");
        ours.fill(0);
    }
    assert!(bytes.iter().all(|byte| *byte == 0), "a block is missing");
}

fn objects(moto: &Moto) -> String {
    moto.aws(&["s3", "ls", "--recursive", "s3://imports"])
}

#[test]
fn a_snapshot_is_imported_and_registered() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(
        &setup,
        "road: importSnapshot, bucket: imports, prefix: disks",
        "",
    );
    let done = json(&run(&setup, &moto, &server));
    let size = std::fs::metadata(setup.path().join("image/web.vmdk"))
        .unwrap()
        .len();
    assert_eq!(
        done[0]["bytes"], size,
        "the smallest file that can be imported is sent"
    );
    let snapshot = {
        let state = server.state.lock().unwrap();
        let (ami, image) = state.images.first_key_value().unwrap();
        assert_eq!(done[0]["places"][0], format!("{REGION}:{ami}"));
        image.snapshot.clone()
    };
    assert_holds(&server, &snapshot, &setup.path().join("image/web.raw"));
    assert_eq!(objects(&moto), "", "what waited for the import is gone");
    // Again: nothing is sent, nothing is made.
    let again = json(&run(&setup, &moto, &server));
    assert_eq!(again[0]["bytes"], 0);
    assert_eq!(server.count("ImportSnapshot"), 1);
    let removed = json(
        &program(&setup, &moto, &server, &["distribute", "image", "--remove"])
            .output()
            .unwrap(),
    );
    assert_eq!(removed.as_array().unwrap().len(), 2, "{removed}");
    let state = server.state.lock().unwrap();
    assert!(state.images.is_empty() && state.snapshots.is_empty());
}

/// Of an imported snapshot nobody noted which blocks it holds: what comes later by blocks must not stand on it.
#[test]
fn nothing_stands_on_an_imported_snapshot() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(&setup, "road: importSnapshot, bucket: imports", "");
    json(&run(&setup, &moto, &server));
    image(&setup.path().join("later"), 2, &[(3, "other".into())]);
    to(&setup, "road: ebsDirect", "");
    let arguments = ["distribute", "later", "--to", "to.yaml"];
    let done = json(
        &program(&setup, &moto, &server, &arguments)
            .output()
            .unwrap(),
    );
    assert_eq!(done[0]["bytes"], BLOCK);
    let state = server.state.lock().unwrap();
    let (id, snapshot) = state.snapshots.last_key_value().unwrap();
    assert_eq!(snapshot.parent, None);
    let id = id.clone();
    drop(state);
    assert_holds(&server, &id, &setup.path().join("later/web.raw"));
}

#[test]
fn an_ami_is_imported_and_gets_its_own_name() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(
        &setup,
        "road: importImage, bucket: imports, keepUpload: true",
        "",
    );
    let done = json(&run(&setup, &moto, &server));
    let place = done[0]["places"][0].as_str().unwrap();
    let ami = place.split_once(':').unwrap().1;
    let snapshot = {
        let state = server.state.lock().unwrap();
        let all: Vec<_> = state.images.iter().collect();
        let [(id, image)] = all.as_slice() else {
            panic!("the AMI under the service's name is left: {all:?}")
        };
        assert_eq!(*id, ami);
        assert_eq!(image.name, "web 2026-07-28T01-14-17.416Z");
        assert_eq!(state.snapshots.len(), 1);
        image.snapshot.clone()
    };
    assert_holds(&server, &snapshot, &setup.path().join("image/web.raw"));
    assert!(
        objects(&moto).contains("web/1.2.3/1/web.vmdk"),
        "it was to stay"
    );
    json(&run(&setup, &moto, &server));
    assert_eq!(
        (server.count("ImportImage"), server.count("CopyImage")),
        (1, 1)
    );
}

/// Nobody looks into a disk that takes another road; this one would find nothing there.
#[test]
fn a_disk_without_a_system_is_not_imported() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &[(0, "text".into())]);
    let (moto, server) = account();
    to(&setup, "road: importImage, bucket: imports", "");
    insta::assert_snapshot!("no_system", told(&run(&setup, &moto, &server)));
    assert_eq!(server.count("ImportImage") + objects(&moto).len(), 0);
}

#[test]
fn a_task_that_runs_is_found_again() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    server.state.lock().unwrap().importing.patience = usize::MAX;
    to(&setup, "road: importSnapshot, bucket: imports", "");
    let journal = setup
        .home()
        .join(format!("distributions/run-1/{REGION}.jsonl"));
    let text = || std::fs::read_to_string(&journal).unwrap_or_default();
    let kill = || {
        let mut child = program(&setup, &moto, &server, &GO)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let asked = server.count("DescribeImportSnapshotTasks");
        wait_for("the task", Duration::from_secs(60), || {
            (text().contains("\"importing\"")
                && server.count("DescribeImportSnapshotTasks") > asked + 1)
                .then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
    };
    kill();
    // The line that names the task may be lost as well: the service has its description.
    let kept: Vec<String> = text()
        .lines()
        .filter(|line| !line.contains("\"importing\""))
        .map(str::to_owned)
        .collect();
    std::fs::write(&journal, kept.join("\n") + "\n").unwrap();
    kill();
    server.state.lock().unwrap().importing.patience = 0;
    let done = json(&run(&setup, &moto, &server));
    assert_eq!(done[0]["bytes"], 0);
    assert_eq!(
        server.count("ImportSnapshot"),
        1,
        "one task, and three that waited for it"
    );
    assert_eq!(objects(&moto), "");
}

#[test]
fn a_task_that_fails_is_explained_and_the_next_is_another() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(&setup, "road: importSnapshot, bucket: imports", "");
    let words = "ClientError: Disk validation failed [We do not have access to the given resource. Reason 403 Forbidden]";
    server.state.lock().unwrap().importing.failure = Some(words.into());
    insta::assert_snapshot!("import_task_failed", told(&run(&setup, &moto, &server)));
    server.state.lock().unwrap().importing.failure = None;
    let done = json(&run(&setup, &moto, &server));
    assert_eq!(done[0]["bytes"], 0, "the file waits in the bucket");
    assert_eq!(server.count("ImportSnapshot"), 2);
}

/// Each thing that the service would tell of hours later, by its own name.
#[test]
fn the_preflight_tells_apart_what_is_wrong() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(&setup, "road: importSnapshot, bucket: imports", "");
    let role = |change: &dyn Fn(&mut Role)| {
        let mut role = Role::for_imports();
        change(&mut role);
        server
            .state
            .lock()
            .unwrap()
            .roles
            .insert("vmimport".into(), role);
        told(&run(&setup, &moto, &server))
    };
    let external = role(&|role| {
        role.trust["Statement"][0]["Condition"]["StringEquals"]["sts:Externalid"] = "other".into();
    });
    insta::assert_snapshot!("role_with_another_external_id", external);
    let foreign = role(&|role| {
        role.trust["Statement"][0]["Principal"]["Service"] = "ec2.amazonaws.com".into();
    });
    insta::assert_snapshot!("role_of_another_service", foreign);
    let denied = role(&|role| role.denied = vec!["s3:GetObject".into(), "ec2:CopySnapshot".into()]);
    insta::assert_snapshot!("role_without_rights", denied);
    server.state.lock().unwrap().roles.clear();
    let missing = told(&run(&setup, &moto, &server));
    insta::assert_snapshot!("missing_role", missing);
    // Two at once are both told.
    moto.aws(&[
        "s3api",
        "create-bucket",
        "--bucket",
        "elsewhere",
        "--region",
        "us-west-2",
        "--create-bucket-configuration",
        "LocationConstraint=us-west-2",
    ]);
    to(&setup, "road: importSnapshot, bucket: elsewhere", "");
    insta::assert_snapshot!(
        "bucket_in_another_region",
        told(&run(&setup, &moto, &server))
    );
    server
        .state
        .lock()
        .unwrap()
        .roles
        .insert("vmimport".into(), Role::for_imports());
    to(&setup, "road: importSnapshot, bucket: nowhere", "");
    insta::assert_snapshot!("missing_import_bucket", told(&run(&setup, &moto, &server)));
    assert_eq!(
        server.count("ImportSnapshot") + objects(&moto).len(),
        0,
        "nothing was sent"
    );

    // Moto's own IAM has roles too, and cannot simulate: what can't be asked does not stop an import.
    moto.aws(&[
        "iam",
        "create-role",
        "--role-name",
        "vmimport",
        "--assume-role-policy-document",
        &Role::for_imports().trust.to_string(),
    ]);
    to(&setup, "road: importSnapshot, bucket: imports", "");
    let output = program(&setup, &moto, &server, &GO)
        .env("AWS_ENDPOINT_URL_IAM", moto.endpoint())
        .output()
        .unwrap();
    json(&output);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(
        notes.contains("rights of the role vmimport can't be asked for"),
        "{notes}"
    );
}

#[test]
fn an_ami_is_exported_by_the_service() {
    let setup = setup::empty();
    bootable(&setup);
    let (moto, server) = account();
    to(
        &setup,
        "road: ebsDirect",
        "  s3ExportConfiguration: {roleName: vmimport, diskImageFormat: VHD, s3Bucket: exports, s3Prefix: 'web/{{ imagebuilder:buildVersion }}/'}\n",
    );
    server.state.lock().unwrap().importing.failure = Some(
        "Insufficient permissions - please verify bucket ownership and write permissions on the bucket. Bucket: exports".into(),
    );
    insta::assert_snapshot!("export_failed", told(&run(&setup, &moto, &server)));
    server.state.lock().unwrap().importing.failure = None;
    let done = json(&run(&setup, &moto, &server));
    let task = server
        .state
        .lock()
        .unwrap()
        .tasks
        .keys()
        .next_back()
        .unwrap()
        .clone();
    assert_eq!(
        done[0]["places"][1],
        format!("s3://exports/web/1.2.3/1/{task}.vhd")
    );
    assert_eq!(
        server.count("ExportImage"),
        2,
        "the task that failed, and another"
    );
    assert_eq!(server.count("RegisterImage"), 1);
    json(&run(&setup, &moto, &server));
    assert_eq!(
        server.count("ExportImage"),
        2,
        "what was exported is not exported again"
    );
}
