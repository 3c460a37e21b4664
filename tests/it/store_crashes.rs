//! The store under kills and under several writers: real processes, real SIGKILL.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ovenbird::documents::{Document, Kind};
use ovenbird::store::{Home, ImageInput, ImageState, InputRole, NewImage, ResourceFilter, Store};
use serde_json::json;

use crate::setup::{self, Setup};

/// Tells a copy of this test program where to write.
const CHILD_HOME: &str = "OVENBIRD_TEST_CHILD_HOME";
/// Tells it who it is.
const CHILD_NUMBER: &str = "OVENBIRD_TEST_CHILD_NUMBER";
/// How many processes are killed in each test. At a few milliseconds a write, and kills spread over many writes, every
/// place in a write is hit sooner or later; each run adds its own moments.
const KILLS: u64 = 25;

/// Starts this test program again as a process that runs one of the ignored tests below.
fn child(name: &str, setup: &Setup, number: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("store_crashes::{name}"), "--ignored"])
        .env(CHILD_HOME, setup.home())
        .env(CHILD_NUMBER, number.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The store that the parent named; `None` if somebody runs the ignored tests by hand.
fn childs_store() -> Option<(Arc<Store>, u32)> {
    let home = std::env::var(CHILD_HOME).ok()?;
    let number = std::env::var(CHILD_NUMBER).ok()?.parse().ok()?;
    let store = Store::open(&Home::at(home).unwrap()).unwrap();
    Some((Arc::new(store), number))
}

fn store(setup: &Setup) -> Arc<Store> {
    Arc::new(Store::open(&Home::at(setup.home()).unwrap()).unwrap())
}

fn component(version: &str, text: &str) -> Document {
    let data = format!(
        "name: hello\nschemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      - name: say\n        action: \
         ExecuteBash\n        inputs:\n          commands:\n            - echo {text}\n"
    );
    let value = json!({
        "name": "hello", "semanticVersion": version, "platform": "Linux", "data": data,
    });
    Document::from_value(Kind::Component, &value, "test").unwrap()
}

fn recipe(version: &str) -> Document {
    let value = json!({
        "name": "web", "semanticVersion": version, "parentImage": "debian-12/x.x.x",
        "components": [{ "componentArn": format!("hello/{version}") }],
    });
    Document::from_value(Kind::ImageRecipe, &value, "test").unwrap()
}

/// Moments that are spread over the first 150 ms of a process's life, other ones in each run.
fn moment(round: u64) -> Duration {
    let seed =
        u64::from(std::process::id()).wrapping_mul(2_654_435_761) ^ round.wrapping_mul(40_503);
    Duration::from_micros(20_000 + seed % 130_000)
}

fn kill_many(name: &str, setup: &Setup, mut after_each: impl FnMut()) {
    for round in 0..KILLS {
        let mut process = child(name, setup, u32::try_from(round).unwrap());
        std::thread::sleep(moment(round));
        process.kill().unwrap();
        process.wait().unwrap();
        after_each();
    }
}

#[test]
#[ignore = "runs as a process of its own, which is killed"]
fn child_applies() {
    let Some((store, _)) = childs_store() else {
        return;
    };
    loop {
        let known = store
            .resources(Kind::Component, &ResourceFilter::default())
            .unwrap()
            .len();
        let version = format!("1.0.{known}");
        store
            .apply(&[recipe(&version), component(&version, "one")])
            .unwrap();
    }
}

#[test]
fn a_killed_apply_leaves_all_or_nothing() {
    let setup = setup::empty();
    drop(store(&setup));
    let mut seen = Vec::new();
    kill_many("child_applies", &setup, || {
        let store = store(&setup);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        let ids = |kind| -> Vec<String> {
            store
                .resources(kind, &ResourceFilter::default())
                .unwrap()
                .iter()
                .map(|record| record.version.unwrap().to_string())
                .collect()
        };
        let components = ids(Kind::Component);
        assert_eq!(components, ids(Kind::ImageRecipe), "sets are whole");
        seen.push(components.len());
    });
    assert!(seen.is_sorted(), "what was committed stays: {seen:?}");
    assert!(seen.last() > Some(&0), "the processes got to write");
}

#[test]
#[ignore = "runs as a process of its own, which is killed"]
fn child_builds() {
    let Some((store, _)) = childs_store() else {
        return;
    };
    loop {
        let image = store.begin_image(&new_image()).unwrap();
        store.set_state(&image, ImageState::Building, None).unwrap();
        store.set_state(&image, ImageState::Testing, None).unwrap();
        store
            .set_state(&image, ImageState::Available, None)
            .unwrap();
        store
            .set_state(&image, ImageState::Deprecated, Some("old"))
            .unwrap();
    }
}

fn new_image() -> NewImage {
    let input = |role, name: &str, text: Option<&str>| ImageInput {
        role,
        name: name.into(),
        version: Some("1.0.0".into()),
        arn: None,
        source: None,
        digest: Some(format!("{name}-digest")),
        detail: json!({}),
        text: text.map(str::to_owned),
    };
    NewImage {
        name: "web".into(),
        version: "1.0.0".into(),
        parent: "debian-12/1.0.0".into(),
        recipe: "{}".into(),
        inputs: vec![
            input(InputRole::Recipe, "web", None),
            input(InputRole::Component, "hello", Some("name: hello")),
        ],
        tags: [("team".to_owned(), "web".to_owned())].into(),
        ..NewImage::default()
    }
}

#[test]
fn a_killed_build_leaves_a_whole_record() {
    let setup = setup::empty();
    drop(store(&setup));
    let mut ended = 0;
    kill_many("child_builds", &setup, || {
        let store = store(&setup);
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        // At most the one that was being written is marked.
        assert!(store.fail_dead_builds().unwrap().len() <= 1);
        let images = store.list_images().unwrap();
        let builds: Vec<u32> = images.iter().rev().map(|image| image.build).collect();
        let wanted: Vec<u32> = (1..).take(images.len()).collect();
        assert_eq!(builds, wanted, "no number is lost or given twice");
        for image in images.iter().take(20) {
            let history = store.history_of(image).unwrap();
            assert_eq!(
                history.last().map(|change| change.state),
                Some(image.state),
                "state and history are one"
            );
            assert!(!image.state.is_running());
            assert_eq!(store.inputs_of(image).unwrap().len(), 2);
            assert_eq!(image.tags.len(), 1);
        }
        ended = images.len();
    });
    assert!(ended > 0, "the processes got to write");
}

/// How often each of two writers applies a change.
const APPLIES: u32 = 500;

#[test]
#[ignore = "runs as a process of its own, beside another"]
fn child_applies_often() {
    let Some((store, number)) = childs_store() else {
        return;
    };
    for round in 0..APPLIES {
        store
            .put_resource(&component("1.0.0", &format!("{number}-{round}")))
            .unwrap();
    }
}

#[test]
fn two_processes_apply_at_once() {
    let setup = setup::empty();
    drop(store(&setup));
    let children = [1, 2].map(|number| child("child_applies_often", &setup, number));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let store = store(&setup);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let mut builds: Vec<u32> = store
        .resources(Kind::Component, &ResourceFilter::default())
        .unwrap()
        .iter()
        .filter_map(|record| record.build)
        .collect();
    builds.sort_unstable();
    // Every change of both is a build of its own.
    assert_eq!(builds, (1..=2 * APPLIES).collect::<Vec<_>>());
}

#[test]
#[ignore = "runs as a process of its own, which is cancelled"]
fn child_builds_until_it_is_stopped() {
    let Some((store, _)) = childs_store() else {
        return;
    };
    let image = store.begin_image(&new_image()).unwrap();
    store.set_state(&image, ImageState::Building, None).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn cancel_stops_the_process_that_builds() {
    let setup = setup::empty();
    let mut builder = child("child_builds_until_it_is_stopped", &setup, 0);
    setup::wait_for("the build", Duration::from_secs(30), || {
        let image = store(&setup).find_image("web").ok()?;
        (image.state == ImageState::Building).then_some(())
    });
    // The child must be collected, or it would stay a zombie of this process; the record tells those apart as well.
    let ran = setup.run(&["image", "cancel", "web/1.0.0/1"]).expect(0);
    assert!(
        ran.stdout.contains("web/1.0.0/1  CANCELLED"),
        "{}",
        ran.stdout
    );
    assert!(!builder.wait().unwrap().success());
    let image = store(&setup).find_image("web").unwrap();
    assert_eq!(image.state, ImageState::Cancelled);
    setup
        .run(&["image", "cancel", "web/1.0.0/1"])
        .expect(3)
        .says("web/1.0.0/1 is CANCELLED: there is nothing to cancel");
}

#[test]
fn a_store_of_the_first_schema_opens_and_keeps_its_rows() {
    let setup = setup::empty();
    std::fs::create_dir_all(setup.home()).unwrap();
    let connection = rusqlite::Connection::open(setup.home().join("store.db")).unwrap();
    connection
        .execute_batch(include_str!("fixtures/store-0001.sql"))
        .unwrap();
    drop(connection);
    let store = store(&setup);
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
    let images = store.list_images().unwrap();
    let ids: Vec<String> = images.iter().map(|image| image.id()).collect();
    assert_eq!(ids, ["web-server/1.0.0/2", "web-server/1.0.0/1"]);
    let first = store.find_image("Web Server/1.0.0/1").unwrap();
    assert_eq!(first.state, ImageState::Available);
    assert_eq!(first.platform, "Linux");
    assert_eq!(store.steps_of(&first).unwrap().len(), 2);
    assert_eq!(store.history_of(&first).unwrap().len(), 2);
    assert_eq!(store.recipe_of(&first).unwrap()["name"], "Web Server");
    assert!(store.inputs_of(&first).unwrap().is_empty());
    // It can be written to, and numbers go on where they were.
    let next = NewImage {
        name: "Web Server".into(),
        ..new_image()
    };
    assert_eq!(store.begin_image(&next).unwrap().build, 3);
    assert_eq!(
        store
            .put_resource(&component("1.0.0", "one"))
            .unwrap()
            .resource
            .id(),
        "hello/1.0.0/1"
    );
    let copied: &str = include_str!("fixtures/store-0001.sql");
    let migration = include_str!("../../src/store/migrations/0001-images.sql");
    assert!(
        copied.contains(migration),
        "the first migration was changed after its release"
    );
}
