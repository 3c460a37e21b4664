//! The road of blocks against a server that enforces the service's rules, and that fails.

use camino::Utf8Path;

use crate::distribute::{STORED, command, image, image_of, json, text, usual};
use crate::ebs_server::{BLOCK, EbsServer, Fault};
use crate::moto::Moto;
use crate::setup::{self, Setup, tool, tool_in, wait_for};

const REGION: &str = "eu-central-1";

fn to(setup: &Setup) {
    let text = format!(
        "kind: DistributionConfiguration\nname: here\ndistributions: [{{region: {REGION}}}]\n"
    );
    std::fs::write(setup.path().join("to.yaml"), text).unwrap();
}

fn run(setup: &Setup, server: &EbsServer, image: &str) -> std::process::Output {
    command(
        setup,
        &server.endpoint(),
        &["distribute", image, "--to", "to.yaml"],
    )
    .output()
    .unwrap()
}

/// Compares a snapshot with a disk, byte for byte.
#[track_caller]
fn assert_holds(server: &EbsServer, snapshot: &str, disk: &Utf8Path) {
    let mut bytes = std::fs::read(disk).unwrap();
    let content = server.state.lock().unwrap().content(snapshot);
    for (index, block) in content {
        let offset = usize::try_from(index).unwrap() * BLOCK;
        let ours = &mut bytes[offset..offset + BLOCK];
        assert!(ours == block.as_slice(), "block {index}");
        ours.fill(0);
    }
    assert!(bytes.iter().all(|byte| *byte == 0), "a block is missing");
}

fn first(server: &EbsServer) -> String {
    let state = server.state.lock().unwrap();
    let id = state.snapshots.keys().next().unwrap().clone();
    assert_eq!(state.snapshots[&id].state, "completed");
    id
}

#[test]
fn blocks_arrive_through_every_fault() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let server = EbsServer::start(|call, nth| match (call, nth) {
        ("StartSnapshot" | "CompleteSnapshot", 1) => Some(Fault::Internal),
        ("StartSnapshot" | "RegisterImage", 2) => Some(Fault::Reset),
        ("CompleteSnapshot" | "DescribeSnapshots", 2) => Some(Fault::Throttle),
        ("PutSnapshotBlock", 1 | 2) => Some(Fault::Unknown),
        ("PutSnapshotBlock", 3) => Some(Fault::Reset),
        ("PutSnapshotBlock", 4) => Some(Fault::Internal),
        ("PutSnapshotBlock", 5 | 6) => Some(Fault::Throttle),
        ("PutSnapshotBlock", 7 | 8) => Some(Fault::WrongChecksum),
        _ => None,
    });
    let done = json(&run(&setup, &server, "image"));
    assert_eq!(done[0]["bytes"], STORED.len() * BLOCK);
    assert_holds(
        &server,
        &first(&server),
        &setup.path().join("image/web.raw"),
    );
    let state = server.state.lock().unwrap();
    assert_eq!(state.snapshots.len(), 1);
    assert_eq!(state.images.len(), 1);
    assert_eq!(
        state.counts["PutSnapshotBlock"],
        STORED.len() + 8,
        "each fault costs one more request and no more"
    );
}

/// What comes after the snapshot meets each kind of trouble too, and nothing is made twice.
#[test]
fn amis_are_made_once_through_every_fault() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let configuration = format!(
        "kind: DistributionConfiguration\nname: here\ndistributions:\n- region: {REGION}\n  \
         amiDistributionConfiguration: {{amiTags: {{a: b}}, launchPermission: {{userIds: ['111122223333']}}}}\n  \
         launchTemplateConfigurations: [{{launchTemplateId: lt-0123456789abcdef0}}]\n- region: us-east-1\n"
    );
    std::fs::write(setup.path().join("to.yaml"), configuration).unwrap();
    let server = EbsServer::start(|call, nth| match (call, nth) {
        (
            "DescribeImages"
            | "CopyImage"
            | "CreateTags"
            | "ModifyImageAttribute"
            | "ModifySnapshotAttribute"
            | "CreateLaunchTemplateVersion"
            | "ModifyLaunchTemplate"
            | "RegisterImage",
            1..=3,
        ) => Some([Fault::Reset, Fault::Internal, Fault::Throttle][nth - 1]),
        _ => None,
    });
    json(&run(&setup, &server, "image"));
    let state = server.state.lock().unwrap();
    assert_eq!(state.images.len(), 2);
    assert_eq!(state.snapshots.len(), 2, "one of the disk, one of the copy");
    for call in ["CopyImage", "RegisterImage", "CreateLaunchTemplateVersion"] {
        assert_eq!(state.counts[call], 4, "{call}");
    }
    let permitted = state
        .images
        .values()
        .filter(|image| image.permitted == ["111122223333"])
        .count();
    assert_eq!(permitted, 1, "that of the first region");
}

/// A service that takes a block and says nothing is asked again, once the time for an attempt is over.
#[test]
fn a_block_without_an_answer_is_put_again() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let server = EbsServer::start(|call, nth| {
        (call == "PutSnapshotBlock" && nth == 2).then_some(Fault::Stall)
    });
    json(&run(&setup, &server, "image"));
    assert_holds(
        &server,
        &first(&server),
        &setup.path().join("image/web.raw"),
    );
    assert_eq!(server.count("PutSnapshotBlock"), STORED.len() + 1);
}

/// Somebody else's program reads what we wrote, from our stand-in and from moto.
#[test]
fn coldsnap_reads_the_disk_back() {
    let setup = setup::empty();
    let raw = setup.path().join("image/web.raw");
    // Whole GiB, as snapshots are: what coldsnap writes is as long as the volume.
    image_of(
        &setup.path().join("image"),
        1,
        2048,
        &[
            (0, "first".into()),
            (700, "middle".into()),
            (2047, "last".into()),
        ],
    );
    to(&setup);
    let server = EbsServer::start(|_, _| None);
    let moto = Moto::start();
    for (endpoint, reading) in [
        (server.endpoint(), server.endpoint()),
        (moto.endpoint(), moto.corrected()),
    ] {
        let done = json(
            &command(
                &setup,
                &endpoint,
                &["distribute", "image", "--to", "to.yaml"],
            )
            .output()
            .unwrap(),
        );
        assert_eq!(done[0]["bytes"], 3 * BLOCK);
        let journal = setup
            .home()
            .join(format!("distributions/run-1/{REGION}.jsonl"));
        let text = std::fs::read_to_string(&journal).unwrap();
        let started = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find_map(|line| Some(line["snapshot"][0].as_str()?.to_owned()))
            .unwrap();
        let copy = setup.path().join("copy.raw");
        let mut coldsnap = std::process::Command::new(tool_in("coldsnap"));
        let output = crate::moto::point(&mut coldsnap, &reading)
            .args(["--region", REGION, "--endpoint", &reading])
            .args(["download", "--force", "--no-progress", &started])
            .arg(&copy)
            .output()
            .expect("coldsnap starts (`make setup` installs it)");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        tool("cmp", &[raw.as_str(), copy.as_str()]);
        std::fs::remove_dir_all(setup.home().join("distributions")).unwrap();
    }
}

#[test]
fn a_killed_upload_goes_on_with_the_rest() {
    let setup = setup::empty();
    let blocks: Vec<_> = (0..96).map(|index| (index, text(index))).collect();
    image(&setup.path().join("image"), 1, &blocks);
    to(&setup);
    let server =
        EbsServer::start(|call, _| (call == "PutSnapshotBlock").then_some(Fault::Slow(150)));
    let mut child = command(
        &setup,
        &server.endpoint(),
        &["distribute", "image", "--to", "to.yaml"],
    )
    .stdout(std::process::Stdio::null())
    .stderr(std::process::Stdio::null())
    .spawn()
    .unwrap();
    let journal = setup
        .home()
        .join(format!("distributions/run-1/{REGION}.jsonl"));
    let noted = || {
        std::fs::read_to_string(&journal)
            .unwrap_or_default()
            .matches("\"block\"")
            .count()
    };
    wait_for("blocks", std::time::Duration::from_secs(60), || {
        (noted() >= 20).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let (noted, before) = (noted(), server.count("PutSnapshotBlock"));
    assert!((20..90).contains(&noted), "killed in the middle: {noted}");
    let done = json(&run(&setup, &server, "image"));
    assert_eq!(
        server.count("PutSnapshotBlock") - before,
        96 - noted,
        "only what is not noted is sent"
    );
    assert_eq!(done[0]["bytes"], (96 - noted) * BLOCK);
    assert_eq!(server.count("StartSnapshot"), 1);
    assert_holds(
        &server,
        &first(&server),
        &setup.path().join("image/web.raw"),
    );
}

#[test]
fn a_later_build_sends_only_what_changed() {
    let setup = setup::empty();
    image(&setup.path().join("one"), 1, &usual());
    // Another text in block 3, nothing in 50, something new in 51.
    let mut blocks = usual();
    blocks.retain(|(index, _)| *index != 50);
    blocks[1].1 = "changed".into();
    blocks.push((51, "new".into()));
    image(&setup.path().join("two"), 2, &blocks);
    image(&setup.path().join("three"), 3, &blocks);
    to(&setup);
    let server = EbsServer::start(|_, _| None);
    json(&run(&setup, &server, "one"));
    assert_eq!(server.count("PutSnapshotBlock"), 5);
    let done = json(&run(&setup, &server, "two"));
    assert_eq!(done[0]["bytes"], 3 * BLOCK, "changed, emptied and new");
    let snapshots: Vec<String> = server
        .state
        .lock()
        .unwrap()
        .snapshots
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        server.state.lock().unwrap().snapshots[&snapshots[1]]
            .parent
            .as_ref(),
        Some(&snapshots[0])
    );
    assert_holds(&server, &snapshots[1], &setup.path().join("two/web.raw"));
    let arguments = ["ebs", "verify", "two", "--region", REGION];
    json(
        &command(&setup, &server.endpoint(), &arguments)
            .output()
            .unwrap(),
    );
    // The parent of a parent counts as well, and a build that changes nothing sends nothing.
    let done = json(&run(&setup, &server, "three"));
    assert_eq!(done[0]["bytes"], 0);
    let third = server
        .state
        .lock()
        .unwrap()
        .snapshots
        .keys()
        .next_back()
        .unwrap()
        .clone();
    assert_holds(&server, &third, &setup.path().join("three/web.raw"));
}

#[test]
fn a_snapshot_that_went_away_is_begun_anew() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let server = EbsServer::start(|call, nth| {
        (call == "RegisterImage" && nth == 1).then_some(Fault::Denied)
    });
    assert_eq!(run(&setup, &server, "image").status.code(), Some(4));
    let id = first(&server);
    server.state.lock().unwrap().snapshots.remove(&id);
    let done = json(&run(&setup, &server, "image"));
    assert_eq!(done[0]["bytes"], STORED.len() * BLOCK);
    // One that the service gave up for lack of blocks.
    image_of(&setup.path().join("other"), 2, 8, &[(1, "x".into())]);
    let refused = EbsServer::start(|call, nth| {
        (call == "CompleteSnapshot" && nth == 1).then_some(Fault::Denied)
    });
    assert_eq!(run(&setup, &refused, "other").status.code(), Some(4));
    for snapshot in refused.state.lock().unwrap().snapshots.values_mut() {
        snapshot.state = "error".into();
    }
    json(&run(&setup, &refused, "other"));
    assert_eq!(refused.count("StartSnapshot"), 2);
}

#[test]
fn everything_remote_can_be_removed() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let server = EbsServer::start(|_, _| None);
    json(&run(&setup, &server, "image"));
    let arguments = ["distribute", "image", "--remove"];
    let removed = json(
        &command(&setup, &server.endpoint(), &arguments)
            .output()
            .unwrap(),
    );
    assert_eq!(removed.as_array().unwrap().len(), 2, "{removed}");
    let state = server.state.lock().unwrap();
    assert!(state.images.is_empty() && state.snapshots.is_empty());
    drop(state);
    assert!(!setup.home().join("distributions/run-1").exists());
}

/// The answer to RegisterImage got lost: the AMI of that name is ours if it is of our snapshot, and somebody else's if not.
#[test]
fn a_name_that_is_taken_is_ours_or_not() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let server = EbsServer::start(|call, nth| {
        (call == "DescribeImages" && nth == 1).then_some(Fault::Denied)
    });
    // The AMI is registered, and the journal does not know it.
    assert_eq!(run(&setup, &server, "image").status.code(), Some(4));
    let journal = setup
        .home()
        .join(format!("distributions/run-1/{REGION}.jsonl"));
    let text = std::fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("\"image\""))
        .collect();
    assert!(kept.len() < text.lines().count(), "{text}");
    std::fs::write(&journal, kept.join("\n") + "\n").unwrap();
    json(&run(&setup, &server, "image"));
    assert_eq!(server.state.lock().unwrap().images.len(), 1);
    // Without the journal it is another snapshot, and the name is somebody else's.
    std::fs::remove_dir_all(setup.home().join("distributions")).unwrap();
    let output = run(&setup, &server, "image");
    assert_eq!(output.status.code(), Some(4));
    insta::assert_snapshot!("name_taken", told(&output));
}

/// Reason and hint of the first destination.
fn told(output: &std::process::Output) -> String {
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = &told["outcomes"];
    let index = regex::Regex::new("block [0-9]+").unwrap();
    format!(
        "{}\nhint: {}",
        index.replace_all(rows[0]["reason"].as_str().unwrap(), "block N"),
        rows[0]["hint"].as_str().unwrap_or("none")
    )
}

/// What a person is told, for each thing that commonly goes wrong.
#[test]
fn refusals_say_what_to_do() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    to(&setup);
    let refused = |call: &'static str, fault: Fault| {
        let server = EbsServer::start(move |name, _| (name == call).then_some(fault));
        let output = command(
            &setup,
            &server.endpoint(),
            &["distribute", "image", "--to", "to.yaml"],
        )
        .output()
        .unwrap();
        assert_eq!(output.status.code(), Some(4));
        std::fs::remove_dir_all(setup.home().join("distributions")).unwrap();
        assert!(
            server.count(call) <= 16,
            "what is denied is not tried again: {}",
            server.count(call)
        );
        self::told(&output)
    };
    insta::assert_snapshot!("refused_start", refused("StartSnapshot", Fault::Denied));
    insta::assert_snapshot!("refused_put", refused("PutSnapshotBlock", Fault::Denied));
    insta::assert_snapshot!("expired_token", refused("PutSnapshotBlock", Fault::Expired));
    insta::assert_snapshot!("refused_register", refused("RegisterImage", Fault::Denied));
}

#[test]
fn a_name_that_no_ami_can_have_is_refused_before_anything_is_asked() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let server = EbsServer::start(|_, _| None);
    let told = |name: &str| {
        let text = format!(
            "kind: DistributionConfiguration\nname: here\ndistributions:\n- region: {REGION}\n  \
             amiDistributionConfiguration: {{name: '{name}'}}\n"
        );
        std::fs::write(setup.path().join("to.yaml"), text).unwrap();
        let output = run(&setup, &server, "image");
        assert_eq!(output.status.code(), Some(3));
        assert!(server.state.lock().unwrap().counts.is_empty());
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        ["message", "details", "hint"]
            .map(|field| told[field].as_str().unwrap_or_default())
            .join("\n")
    };
    insta::assert_snapshot!("wrong_name", told("web:{{ imagebuilder:buildDate }}"));
    insta::assert_snapshot!(
        "long_name",
        told(&format!(
            "{} {{{{ imagebuilder:buildDate }}}}",
            "w".repeat(104)
        ))
    );
    insta::assert_snapshot!(
        "unknown_variable",
        told("web {{ imagebuilder:buildDate }} {{ imagebuilder:branch }}")
    );
}
