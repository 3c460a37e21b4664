//! Long trials that are not part of every run: `make torture`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rand::RngExt as _;

use crate::setup::{self, Ran, Setup, qemu_processes, wait_for};

const STEPS: [&str; 3] = ["one", "two", "three"];

const KILLED_IN: [&str; 6] = [
    "LaunchBuildInstance",
    "ApplyBuildComponents",
    "ApplyBuildComponents",
    "RunSanitizeScript",
    "CreateOutputImage",
    "Distribute",
];

fn component(setup: &Setup, name: &str, mark: &str) {
    setup.file(
        &format!("{name}.yml"),
        &format!(
            "name: {name}\nschemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: Work\n    action: ExecuteBash\n\
             \x20   inputs:\n      commands:\n      - 'seq 200000 | sed s/^/{mark}/ > /root/{name}; echo {name} >> /root/done'\n"
        ),
    );
}

fn recipe(setup: &Setup, file: &str, name: &str, components: &[&str]) {
    let list: Vec<String> = components
        .iter()
        .map(|component| format!("{{path: {component}.yml}}"))
        .collect();
    setup.file(
        file,
        &format!(
            "kind: ImageRecipe\nname: {name}\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents: [{}]\n\
             local: {{tests: false, memory: 1024, cpus: 1}}\n",
            list.join(", ")
        ),
    );
}

fn disk_of(setup: &Setup, image: &str) -> camino::Utf8PathBuf {
    let folder = setup.home().join("images").join(image);
    setup::find(&folder, &|path| path.extension() == Some("qcow2"))
        .pop()
        .unwrap_or_else(|| panic!("{folder} has no disk"))
}

/// Every layer that counts as one has a disk that is in order.
fn check_layers(shelf: &Utf8Path) -> usize {
    let records = setup::find(shelf, &|path| path.file_name() == Some("layer.json"));
    for record in &records {
        let disk = record.with_file_name("disk.qcow2");
        setup::tool("qemu-img", &["check", "-q", disk.as_str()]);
    }
    records.len()
}

#[test]
#[ignore = "takes a quarter of an hour: `make torture`"]
fn guest_thirty_bakes_are_killed_at_random_moments() {
    let setup = setup::with_base();
    recipe(&setup, "r.yml", "killed", &STEPS);
    let shelf = setup.home().join("cache/layers");
    let mut random = rand::rng();
    let mut moments = std::collections::BTreeMap::<String, u32>::new();
    for number in 0..30 {
        // Now and then the whole; else what was left by the one before stays.
        if number % 10 == 0 {
            let _ = std::fs::remove_dir_all(&shelf);
        }
        for name in STEPS {
            let mark = if name == STEPS[number % 3] { number } else { 0 };
            component(&setup, name, &mark.to_string());
        }
        let events = setup.path().join("events");
        let mut child = setup
            .ovenbird(&["build", "r.yml", "--json"])
            .stdout(Stdio::from(std::fs::File::create(&events).unwrap()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // A moment within one of the steps, so that a busy machine does not put all of them into the first.
        let step = KILLED_IN[random.random_range(0..KILLED_IN.len())];
        let started = format!("\"type\":\"stepStarted\",\"step\":\"{step}\"");
        let start = Instant::now();
        let has_started = || std::fs::read_to_string(&events).unwrap().contains(&started);
        while child.try_wait().unwrap().is_none() && !has_started() {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_secs(6).mul_f64(random.random::<f64>()));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("the orphan's end", Duration::from_secs(10), || {
            qemu_processes(setup.home().as_str())
                .is_empty()
                .then_some(())
        });
        let events = std::fs::read_to_string(&events).unwrap();
        let last = events
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|event| event["type"] == "stepStarted" || event["type"] == "buildFinished")
            .map_or_else(
                || "before the first step".to_owned(),
                |event| event["step"].as_str().unwrap_or("after the end").to_owned(),
            );
        let layers = check_layers(&shelf);
        eprintln!(
            "bake {number}: killed after {:.1} s in {last}; {layers} layers",
            start.elapsed().as_secs_f64()
        );
        *moments.entry(last).or_default() += 1;
    }
    eprintln!("{moments:#?}");
    // What is left on the shelf is right: an image that stands on it has the files of one that does not.
    setup.run(&["build", "r.yml"]).expect(0);
    let newest = |setup: &Setup| {
        let list = setup
            .run(&["image", "list", "--state", "AVAILABLE", "--json"])
            .expect(0);
        let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap();
        let image = &list.as_array().unwrap()[0];
        format!("killed/1.0.0/{}", image["build"])
    };
    let cached = newest(&setup);
    setup
        .run(&["build", "r.yml", "--no-cache", "--warm", "off"])
        .expect(0);
    let fresh = newest(&setup);
    assert_ne!(cached, fresh);
    let diff = setup
        .run(&[
            "disk",
            "diff",
            disk_of(&setup, &cached).as_str(),
            disk_of(&setup, &fresh).as_str(),
        ])
        .expect(0);
    assert_eq!(diff.stdout, "");
    setup.assert_nothing_left();
}

#[test]
#[ignore = "takes a quarter of an hour: `make torture`"]
fn guest_twenty_builds_at_once_take_turns() {
    let setup = setup::with_base();
    for name in ["one", "two", "three", "four"] {
        component(&setup, name, "0");
    }
    // They begin alike and go apart.
    recipe(&setup, "a.yml", "many-a", &["one"]);
    recipe(&setup, "b.yml", "many-b", &["one", "two"]);
    recipe(&setup, "c.yml", "many-c", &["one", "two", "three"]);
    recipe(&setup, "d.yml", "many-d", &["one", "four"]);
    let children: Vec<_> = (0..20)
        .map(|number| {
            let file = ["a.yml", "b.yml", "c.yml", "d.yml"][number % 4];
            setup
                .ovenbird(&["build", file, "--json"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let cores = std::thread::available_parallelism().unwrap().get();
    let home = setup.home();
    let watching = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let watch = {
        let watching = watching.clone();
        std::thread::spawn(move || {
            let mut most = 0;
            while watching.load(std::sync::atomic::Ordering::Relaxed) {
                most = most.max(qemu_processes(home.as_str()).len());
                std::thread::sleep(Duration::from_millis(100));
            }
            most
        })
    };
    // Read side by side: a full pipe would stop a build.
    let readers: Vec<_> = children
        .into_iter()
        .map(|child| std::thread::spawn(move || Ran::of(child.wait_with_output().unwrap())))
        .collect();
    let ended: Vec<Ran> = readers
        .into_iter()
        .map(|reader| reader.join().unwrap().expect(0))
        .collect();
    watching.store(false, std::sync::atomic::Ordering::Relaxed);
    let most = watch.join().unwrap();
    let count = |text: &str| -> usize {
        ended
            .iter()
            .map(|ran| ran.stdout.matches(text).count())
            .sum()
    };
    let made = count("\"outcome\":\"made\"");
    let waited = count("waiting for room for a guest");
    let boots = count("\"how\":\"boot\"");
    eprintln!(
        "{most} guests at once, {made} layers made, {boots} boots, {waited} notes of waiting"
    );
    // Each guest has one processor; emulated, there are no more of them than real ones.
    assert!((1..=cores).contains(&most), "{most} guests at once");
    assert_eq!(made, 5, "boot, one, two, three, four: each once");
    assert!(waited > 0);
    check_layers(&setup.home().join("cache/layers"));
    let images = setup::find(&setup.home().join("images"), &|path| {
        path.file_name() == Some("manifest.json")
    });
    let unchanged = count("\"unchanged\"");
    assert_eq!(images.len() + unchanged, 20);
    setup.assert_nothing_left();
}
