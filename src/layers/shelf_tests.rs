//! Layers come and go whole.

use std::time::Duration;

use super::super::Inputs;
use super::super::layer::{SYNCED, backing_name, host_start};
use super::super::record::{MemoryFit, Record};
use super::*;
use crate::machine::{Accelerator, Arch, Firmware};

fn shelf(root: &tempfile::TempDir) -> Shelf {
    Shelf::new(Utf8Path::from_path(root.path()).unwrap())
}

fn inputs(name: &str) -> Inputs {
    let mut inputs = Inputs::default();
    inputs.set("name", name);
    inputs
}

fn make(shelf: &Shelf, name: &str, beneath: Option<&Layer>) -> Layer {
    let inputs = inputs(name);
    let draft = shelf.begin(&inputs.key()).unwrap().unwrap();
    fs::write(draft.disk(), vec![1; 100_000]).unwrap();
    let record = Record {
        id: draft.id().clone(),
        name: name.into(),
        inputs,
        beneath: beneath.map(|layer| layer.record().id.clone()),
        created: jiff::Timestamp::now(),
        host_start: host_start(),
        seconds: 1.0,
        memory: None,
    };
    draft.publish(record).unwrap()
}

fn hit(shelf: &Shelf, name: &str) -> Option<Layer> {
    match shelf.find(&inputs(name).key(), None).unwrap() {
        Lookup::Hit(layer) => Some(*layer),
        _ => None,
    }
}

#[test]
fn a_draft_is_no_layer_until_it_is_published() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(&root);
    let key = inputs("a").key();
    assert!(hit(&shelf, "a").is_none());
    let draft = shelf.begin(&key).unwrap().unwrap();
    fs::write(draft.disk(), "half").unwrap();
    assert!(shelf.is_being_made(&key));
    assert!(shelf.begin(&key).unwrap().is_none(), "made once, not twice");
    assert!(hit(&shelf, "a").is_none());
    let folder = draft.disk().parent().unwrap().to_owned();
    drop(draft);
    assert!(!folder.exists() && !shelf.is_being_made(&key));
    make(&shelf, "a", None);
    assert_eq!(hit(&shelf, "a").unwrap().record().name, "a");
}

#[test]
fn what_a_killed_process_left_is_cleared() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(&root);
    let draft = shelf.begin(&inputs("a").key()).unwrap().unwrap();
    fs::write(draft.disk(), "half").unwrap();
    // A folder without a record, and nobody holds its lock.
    let left = shelf.folder(&LayerId {
        key: inputs("b").key(),
        generation: 1,
    });
    fs::create_dir(&left).unwrap();
    shelf.collect(u64::MAX, false).unwrap();
    assert!(draft.disk().exists(), "this one is being made");
    assert!(!left.exists());
}

#[test]
fn an_old_layer_is_made_anew_beside_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(&root);
    let first = make(&shelf, "a", None);
    let key = inputs("a").key();
    std::thread::sleep(Duration::from_millis(2100));
    assert!(matches!(
        shelf.find(&key, Some(Duration::from_secs(1))).unwrap(),
        Lookup::Expired { .. }
    ));
    let second = make(&shelf, "a", None);
    assert_ne!(first.record().id, second.record().id);
    assert_eq!(hit(&shelf, "a").unwrap().record().id.generation, 2);
}

#[test]
fn the_longest_unused_goes_first_and_nothing_that_is_stood_on() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(&root);
    let base = make(&shelf, "base", None);
    let held = make(&shelf, "held", Some(&base));
    drop(make(&shelf, "free", Some(&base)));
    let planned = shelf.collect(0, true).unwrap();
    assert_eq!(planned.removed.len(), 1);
    assert!(hit(&shelf, "free").is_some(), "a dry run removes nothing");
    let done = shelf.collect(0, false).unwrap();
    assert_eq!(done.removed, planned.removed);
    assert!(done.removed[0].0.starts_with("free"));
    assert!(hit(&shelf, "free").is_none());
    assert!(hit(&shelf, "base").is_some() && hit(&shelf, "held").is_some());
    drop((held, base));
    assert_eq!(shelf.clear().unwrap().removed.len(), 2);
    assert!(shelf.records().unwrap().is_empty());
}

#[test]
fn layers_name_each_other_relatively() {
    let name = |overlay: &str, below: &str| {
        backing_name(Utf8Path::new(overlay), Utf8Path::new(below)).into_string()
    };
    let below = "/h/cache/layers/a.1/disk.qcow2";
    assert_eq!(
        name("/h/cache/layers/b.1/disk.qcow2", below),
        "../a.1/disk.qcow2"
    );
    assert_eq!(name("/h/runs/r/root.qcow2", below), below);
}

#[test]
fn a_memory_tells_why_it_does_not_fit() {
    let fit = MemoryFit {
        qemu: "7.2.0".into(),
        accelerator: Accelerator::Tcg,
        processor: String::new(),
        arch: Arch::X86_64,
        firmware: Firmware::Bios,
        cpus: 2,
        memory_mib: 1024,
        layout: 1,
    };
    assert_eq!(fit.mismatch(&fit), None);
    let mut other = fit.clone();
    other.qemu = "8.0.0".into();
    assert_eq!(
        fit.mismatch(&other).unwrap(),
        "QEMU was 7.2.0, now is 8.0.0"
    );
}

#[test]
fn what_a_power_cut_may_have_torn_is_not_trusted() {
    let root = tempfile::tempdir().unwrap();
    let shelf = shelf(&root);
    let layer = make(&shelf, "a", None);
    let folder = layer.disk().parent().unwrap().to_owned();
    drop(layer);
    // It is on the platter a moment later.
    let marker = folder.join(SYNCED);
    while !marker.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    // As after the next start of the host.
    let path = folder.join("layer.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(&host_start(), "another start")).unwrap();
    assert!(hit(&shelf, "a").is_some(), "it survives the host's start");
    fs::remove_file(&marker).unwrap();
    assert!(hit(&shelf, "a").is_none());
    shelf.collect(u64::MAX, false).unwrap();
    assert!(!folder.exists(), "and its room is given back");
}
