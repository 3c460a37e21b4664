//! Which change of a recipe misses which layers.

use std::fs;

use camino::Utf8PathBuf;

use super::super::plan::{PlannedFile, plain, planned};
use super::*;
use crate::layers::{Record, host_start};
use crate::machine::{Firmware, Network};

fn plan() -> BakePlan {
    plain(["one", "two", "three"].map(planned).into())
}

/// Makes all layers that a plan wants, as a bake would.
fn bake(cache: &Cache, plan: &BakePlan) {
    let none = Provisions::default();
    let walk = cache.walk(plan, &none).unwrap();
    let mut layers = walk.found;
    for wanted in &walk.wanted[layers.len()..] {
        let (inputs, key) = wanted.on(layers.last().map(|layer| &layer.record().id));
        let draft = cache.shelf().begin(&key).unwrap().unwrap();
        fs::write(draft.disk(), "disk").unwrap();
        let record = Record {
            id: draft.id().clone(),
            name: wanted.name.clone(),
            inputs,
            beneath: layers.last().map(|layer| layer.record().id.clone()),
            created: jiff::Timestamp::now(),
            host_start: host_start(),
            seconds: 1.0,
            memory: None,
        };
        layers.push(draft.publish(record).unwrap());
    }
    cache.remember(plan, &layers, Some(1.0));
}

/// How many layers are found, and why the next one is not.
fn walk(cache: &Cache, plan: &BakePlan) -> (usize, Option<String>) {
    let walk = cache.walk(plan, &Provisions::default()).unwrap();
    (walk.found.len(), walk.reason)
}

fn home() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(Utf8Path::from_path(folder.path()).unwrap());
    (folder, cache)
}

#[test]
fn each_change_misses_exactly_what_it_concerns() {
    let (_folder, cache) = home();
    let base = plan();
    assert_eq!(walk(&cache, &base), (0, Some("never made".into())));
    bake(&cache, &base);
    assert_eq!(walk(&cache, &base), (4, None));
    type Change = fn(&mut BakePlan);
    let changes: [(Change, usize, &str); 9] = [
        (
            |plan| plan.parent.sha256 = "b".repeat(64),
            0,
            "the parent image changed",
        ),
        (
            |plan| plan.machine.firmware = Firmware::Uefi,
            0,
            "the firmware changed from bios to uefi",
        ),
        (
            |plan| plan.machine.network = Network::None,
            1,
            "the network changed from user to none",
        ),
        (
            |plan| {
                let value = vec!["1.3".to_owned()];
                plan.components[1]
                    .parameters
                    .insert("Version".into(), value);
            },
            2,
            "parameter Version is new",
        ),
        (
            |plan| plan.components[2].build_digest = "c".repeat(4),
            3,
            "the component's build phase changed from build phase of three to cccc",
        ),
        (
            |plan| {
                plan.components[1].files.push(PlannedFile {
                    from: Utf8PathBuf::from("app.conf"),
                    to: "/etc/app.conf".into(),
                    digest: "d".repeat(64),
                });
            },
            2,
            "file /etc/app.conf is new",
        ),
        (
            |plan| plan.components[2].cache = CachePolicy::Never,
            3,
            "the recipe says not to keep it",
        ),
        (
            |plan| plan.components[0].cache = CachePolicy::Again,
            1,
            "it was asked to be made again",
        ),
        (
            |plan| drop(plan.components.remove(0)),
            1,
            "what lies beneath it changed",
        ),
    ];
    for (change, found, reason) in changes {
        let mut changed = plan();
        change(&mut changed);
        assert_eq!(walk(&cache, &changed), (found, Some(reason.into())));
    }
    // What decides over nothing that a build phase does.
    let mut same = plan();
    same.components[1].digest = "e".repeat(64);
    same.outputs = vec![crate::output::OutputFormat::Raw];
    same.name = "another recipe with the same components".into();
    assert_eq!(walk(&cache, &same), (4, None));
}

#[test]
fn the_agent_is_part_of_the_first_layer() {
    let (_folder, cache) = home();
    let walk = cache.walk(&plan(), &Provisions::default()).unwrap();
    let (inputs, _) = walk.wanted[0].on(None);
    let value = serde_json::to_value(&inputs).unwrap();
    assert_eq!(value["the agent"], agent::digest());
    let mut other = inputs.clone();
    other.set("the agent", "0".repeat(64));
    assert_ne!(other.key(), inputs.key());
    assert_eq!(other.changes_since(&inputs), ["the agent changed"]);
}

#[test]
fn what_is_made_again_moves_all_above_it() {
    let (_folder, cache) = home();
    bake(&cache, &plan());
    let mut again = plan();
    again.components[1].cache = CachePolicy::Again;
    bake(&cache, &again);
    // Another generation of the second component: what stood on the first one's is not found on it.
    assert_eq!(walk(&cache, &plan()), (4, None));
    assert_eq!(cache.shelf().records().unwrap().len(), 6);
}

#[test]
fn tests_are_the_same_only_for_the_same_disk_and_documents() {
    let (_folder, cache) = home();
    cache.tests(&plan(), "disk").write(&[]);
    assert!(cache.tests(&plan(), "disk").read().is_some());
    assert!(cache.tests(&plan(), "other disk").read().is_none());
    let mut other = plan();
    other.components[0].digest = "f".repeat(64);
    assert!(cache.tests(&other, "disk").read().is_none());
}
