//! The command line without any guest.

use crate::setup;

/// A recipe with the shared base and one component.
pub fn recipe(extra: &str) -> String {
    format!(
        "kind: ImageRecipe\nname: web server\nsemanticVersion: 1.0.0\nparentImage: debian-12\ncomponents:\n- path: c.yml\n{extra}"
    )
}

/// Paths of this run are replaced, so that the rest can be a snapshot.
fn normalised(text: &str, setup: &setup::Setup) -> String {
    text.replace(setup.path().as_str(), "[WORK]")
}

#[test]
fn a_misspelt_key_is_named_with_place_and_suggestion() {
    let setup = setup::empty();
    setup.file(
        "c.yml",
        "schemaVersion: 1.0\nphases: [{name: build, steps: []}]\n",
    );
    setup.file(
        "r.yml",
        &recipe("workingDirektory: /tmp\nlocal: {memory: lots, outputs: [rawr]}\n"),
    );
    let ran = setup.run(&["build", "r.yml"]).expect(3);
    insta::assert_snapshot!(normalised(&ran.stderr, &setup));
    setup.assert_nothing_left();
}

#[test]
fn validate_shows_every_problem_of_a_component() {
    let setup = setup::empty();
    setup.file(
        "c.yml",
        "name: x\nschemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - name: a\n    action: ExecuteBsh\n    inputs: {commands: [ls]}\n  - name: a\n    action: ExecuteBash\n    timeoutSeconds: 0\n    inputs: {commands: [ls]}\n",
    );
    let ran = setup.run(&["validate", "c.yml"]).expect(3);
    insta::assert_snapshot!(normalised(&ran.stderr, &setup));
}

#[test]
fn everything_that_we_ship_is_valid() {
    let setup = setup::empty();
    let files = setup::find(&setup::source("recipes"), &|path| {
        path.extension() == Some("yml")
    });
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        setup.run(&["validate", file.as_str()]).expect(0);
    }
}

#[test]
fn a_base_that_is_not_there_says_how_to_get_it() {
    let setup = setup::empty();
    setup.file("c.yml", "schemaVersion: 1.0\nphases: [{name: build, steps: [{name: a, action: ExecuteBash, inputs: {commands: [ls]}}]}]\n");
    setup.file("r.yml", &recipe(""));
    let ran = setup.run(&["build", "r.yml"]).expect(3);
    ran.says("debian-12").says("ovenbird base build debian-12");
}

#[test]
fn a_base_with_a_wrong_digest_is_refused() {
    let setup = setup::empty();
    setup.file("c.yml", "schemaVersion: 1.0\nphases: [{name: build, steps: [{name: a, action: ExecuteBash, inputs: {commands: [ls]}}]}]\n");
    setup.file("disk.raw", &"x".repeat(1 << 20));
    let zeros = "0".repeat(64);
    let parent = format!("file://{}/disk.raw#sha256:{zeros}", setup.path());
    setup.file("r.yml", &recipe("").replace("debian-12", &parent));
    let ran = setup.run(&["build", "r.yml"]).expect(3);
    ran.says("disk.raw").says(&zeros);
    setup.assert_nothing_left();
}

#[test]
fn unknown_parameters_are_named() {
    let setup = setup::with_base();
    setup.file(
        "c.yml",
        "schemaVersion: 1.0\nparameters: [{Greeting: {type: string, default: hi}}]\nphases: [{name: build, steps: [{name: a, action: ExecuteBash, inputs: {commands: ['echo {{ Greeting }}']}}]}]\n",
    );
    setup.file(
        "r.yml",
        &recipe("").replace(
            "- path: c.yml",
            "- path: c.yml\n  parameters: [{name: Greting, value: [x]}]",
        ),
    );
    let ran = setup.run(&["build", "r.yml"]).expect(3);
    ran.says("no parameter `Greting`")
        .says("did you mean `Greeting`?");
}

#[test]
fn completions_and_man_pages_cover_every_verb() {
    let setup = setup::empty();
    for shell in ["bash", "zsh", "fish"] {
        let ran = setup.run(&["completions", shell]).expect(0);
        assert!(ran.stdout.contains("ovenbird") && ran.stdout.contains("validate"));
    }
    setup.run(&["man", "man"]).expect(0);
    for page in [
        "ovenbird.1",
        "ovenbird-build.1",
        "ovenbird-image.1",
        "ovenbird-base.1",
    ] {
        assert!(setup.path().join("man").join(page).is_file(), "{page}");
    }
}

#[test]
fn an_empty_home_has_no_images() {
    let setup = setup::empty();
    assert_eq!(
        setup.run(&["image", "list"]).expect(0).stdout,
        "no images\n"
    );
    assert_eq!(
        setup
            .run(&["image", "list", "--json"])
            .expect(0)
            .stdout
            .trim(),
        "[]"
    );
    setup
        .run(&["image", "show", "nothing"])
        .expect(3)
        .says("no image `nothing`");
}

#[test]
fn the_probe_decides_within_seconds_and_remembers() {
    let setup = setup::empty();
    let first = setup.run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    let verdict = &report["accelerator"];
    assert!(
        ["kvm", "hvf", "tcg"].contains(&verdict["accelerator"].as_str().unwrap()),
        "{report}"
    );
    assert!(!verdict["reason"].as_str().unwrap().is_empty());
    // Remembered: the file is there, and changing it changes what the next run says.
    let file = setup::find(&setup.home(), &|path| {
        path.file_name()
            .is_some_and(|name| name.starts_with("accelerator-"))
    })
    .pop()
    .expect("the verdict is remembered");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut remembered: serde_json::Value = serde_json::from_str(&text).unwrap();
    remembered["reason"] = "remembered".into();
    std::fs::write(&file, remembered.to_string()).unwrap();
    let second = setup.run(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&second.stdout).unwrap();
    assert_eq!(report["accelerator"]["reason"], "remembered");
}

#[test]
fn the_programs_are_small() {
    let agent = std::fs::metadata(env!("OVENBIRD_AGENT_BIN")).unwrap().len();
    assert!(agent < 5_000_000, "the agent has {agent} bytes");
}
