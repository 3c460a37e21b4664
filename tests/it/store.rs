//! The verbs of the store: apply, get, list, show, delete, tag, image and gc.

use ovenbird::store::{Home, ImageState, NewImage, Store};
use serde_json::Value;

use crate::setup::{self, Setup};

const COMPONENT: &str = "kind: Component
name: Hello World
semanticVersion: 1.0.0
platform: Linux
data: |
  name: hello
  schemaVersion: 1.0
  phases:
    - name: build
      steps:
        - name: say
          action: ExecuteBash
          inputs:
            commands:
              - echo one
";
const RECIPE: &str = "kind: ImageRecipe
name: web
semanticVersion: 1.0.x
parentImage: debian-12/x.x.x
components:
  - componentArn: hello-world/1.x.x
tags: {team: web}
";
const REST: &str = "kind: InfrastructureConfiguration
name: small
instanceProfileName: none
---
kind: ImagePipeline
name: nightly
imageRecipeArn: local:image-recipe/web/x.x.x
infrastructureConfigurationArn: small
";

fn folder(setup: &Setup) -> String {
    // Named so that what refers comes before what is referred to.
    setup.file("all/a-rest.yml", REST);
    setup.file("all/b-recipe.yml", RECIPE);
    setup.file("all/c-component.yml", COMPONENT);
    setup.path().join("all").to_string()
}

fn json(setup: &Setup, arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&setup.run(&arguments).expect(0).stdout).unwrap()
}

#[test]
fn a_folder_is_applied_changed_and_applied_again() {
    let setup = setup::empty();
    let folder = folder(&setup);
    let ran = setup.run(&["apply", &folder, "--dry-run"]).expect(0);
    assert!(ran.stdout.contains("nothing was written"), "{}", ran.stdout);
    assert_eq!(
        json(&setup, &["list", "components"]),
        Value::Array(Vec::new())
    );
    let ran = setup.run(&["apply", &folder]).expect(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    created  component/hello-world/1.0.0/1
    created  image-recipe/web/1.0.0
    created  infrastructure-configuration/small
    created  image-pipeline/nightly
    4 of 4 changed
    "#);
    let ran = setup.run(&["apply", &folder]).expect(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    unchanged  component/hello-world/1.0.0/1
    unchanged  image-recipe/web/1.0.0
    unchanged  infrastructure-configuration/small
    unchanged  image-pipeline/nightly
    0 of 4 changed
    "#);
    setup.file(
        "all/c-component.yml",
        &COMPONENT.replace("echo one", "echo two"),
    );
    let ran = setup.run(&["apply", &folder]).expect(0);
    insta::assert_snapshot!(ran.stdout, @r#"
    new build  component/hello-world/1.0.0/2
    unchanged  image-recipe/web/1.0.0
    unchanged  infrastructure-configuration/small
    unchanged  image-pipeline/nightly
    1 of 4 changed
    "#);

    let shown = json(&setup, &["show", "recipe/web"]);
    assert_eq!(
        shown["references"][0]["resource"],
        "component/hello-world/1.0.0/2"
    );
    assert_eq!(shown["referrers"][0]["resource"], "image-pipeline/nightly");
    assert_eq!(
        shown["latestVersionReferences"]["latestMinorVersionArn"],
        "local:image-recipe/web/1.0.x"
    );

    // What `get` prints is what `apply` takes.
    for resource in ["component/hello-world", "recipe/web", "pipeline/nightly"] {
        for form in ["yaml", "json"] {
            let text = setup.run(&["get", resource, "-o", form]).expect(0).stdout;
            let file = setup.file(&format!("again.{form}"), &text);
            let put = json(&setup, &["apply", file.as_str()]);
            assert_eq!(
                put[0]["outcome"], "unchanged",
                "{resource} as {form}:\n{text}"
            );
        }
    }
}

#[test]
fn problems_are_shown_with_file_line_and_hint() {
    let setup = setup::empty();
    let shown = |ran: setup::Ran| {
        let text = ran.stderr.replace(&format!("{}/", setup.path()), "");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    };
    let file = setup.file("recipe.yml", RECIPE);
    insta::assert_snapshot!(shown(setup.run(&["apply", file.as_str()]).expect(3)), @r#"
    error: nothing was applied: there is a problem
      error[missing-reference]: there is no component hello-world/1.x.x
       --> recipe.yml:6:19
        |
      6 |   - componentArn: hello-world/1.x.x
        |                   ^^^^^^^^^^^^^^^^^
        = expected: a component of the store, or one that is applied along with it
        = hint: `ovenbird apply` of its file or folder puts a component into the store

      1 error
    "#);
    let file = setup.file("wrong.yml", &RECIPE.replace("parentImage", "parentImge"));
    insta::assert_snapshot!(shown(setup.run(&["apply", file.as_str()]).expect(3)), @r#"
    error: nothing was applied: 2 errors
      error[missing-key]: the recipe has no `parentImage`
       --> wrong.yml:1:1
        |
      1 | kind: ImageRecipe
        | ^^^^
        = expected: `parentImage`: a name such as debian-12 or debian-12/12.x.x, an image's ARN, a path that begins with / or ./, or an address with #sha256:
        = hint: `parentImge` looks like it

      error[unknown-key]: unknown key `parentImge` in the recipe
       --> wrong.yml:4:1
        |
      4 | parentImge: debian-12/x.x.x
        | ^^^^^^^^^^
        = expected: `kind`, `name`, `description`, `semanticVersion`, `parentImage`, `components`, `blockDeviceMappings`, `workingDirectory`, `additionalInstanceConfiguration`, `amiTags`, `amiWatermarks`, `tags` or `local`
        = hint: did you mean `parentImage`?

      2 errors
    "#);
    insta::assert_snapshot!(shown(setup.run(&["get", "component/nothing"]).expect(3)), @r#"
    error: there is no component nothing/x.x.x
    hint: `ovenbird apply` of its file or folder puts a component into the store
    "#);
    insta::assert_snapshot!(shown(setup.run(&["get", "hello"]).expect(2)), @r#"
    error: `hello` has no kind before it
    hint: expected KIND/NAME[/VERSION[/BUILD]], such as component/hello
    "#);
    insta::assert_snapshot!(shown(setup.run(&["show", "recipe/web/1.x.2"]).expect(2)), @r#"
    error: `1.x.2` has a number after an `x`
    hint: expected `x` only at the end: x.x.x, 1.x.x or 1.2.x
    "#);
    insta::assert_snapshot!(shown(setup.run(&["build", "no-such-recipe"]).expect(3)), @r#"
    error: there is no file no-such-recipe: there is no image recipe no-such-recipe/x.x.x
    hint: `ovenbird apply` of its file or folder puts an image recipe into the store
    "#);
    setup.file("home/config.toml", "[quotas]\ncomponent = 3\n");
    insta::assert_snapshot!(shown(setup.run(&["list", "components"]).expect(3)), @r#"
    error: home/config.toml is not valid: there is no quota `component`
    hint: did you mean `components`?
    "#);
}

#[test]
fn what_is_referred_to_is_not_deleted() {
    let setup = setup::empty();
    setup.run(&["apply", &folder(&setup)]).expect(0);
    let ran = setup.run(&["delete", "recipe/web/1.0.0"]).expect(3);
    insta::assert_snapshot!(ran.stderr, @r#"
    error: image-recipe/web/1.0.0 is referred to
      image-recipe/web/1.0.0 is what image-pipeline/nightly means by `imageRecipeArn: local:image-recipe/web/x.x.x`
    hint: delete what refers to it first, or name all of them at once
    "#);
    setup
        .run(&["delete", "recipe/web/1.0.0", "pipeline/nightly"])
        .expect(0);
    setup.run(&["delete", "component/hello-world"]).expect(0);
    assert_eq!(json(&setup, &["list", "recipes"]), Value::Array(Vec::new()));
}

#[test]
fn tags_are_listed_and_filtered_by() {
    let setup = setup::empty();
    setup.run(&["apply", &folder(&setup)]).expect(0);
    setup
        .run(&["tag", "add", "recipe/web", "stage=test"])
        .expect(0);
    assert_eq!(
        json(&setup, &["tag", "list", "recipe/web"]),
        serde_json::json!({ "stage": "test", "team": "web" })
    );
    let count = |tag: &str| {
        json(&setup, &["list", "recipes", "--tag", tag])
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(
        [count("stage"), count("stage=test"), count("stage=live")],
        [Some(1), Some(1), Some(0)]
    );
    setup
        .run(&["tag", "remove", "recipe/web", "stage"])
        .expect(0);
    assert_eq!(count("stage"), Some(0));
    setup
        .run(&["tag", "remove", "recipe/web", "stage"])
        .expect(3)
        .says("there is no tag `stage`");
}

#[test]
fn garbage_is_told_from_what_is_needed() {
    let setup = setup::empty();
    let home = Home::at(setup.home()).unwrap();
    let store = std::sync::Arc::new(Store::open(&home).unwrap());
    let begin = |name: &str| {
        let image = NewImage {
            name: name.into(),
            version: "1.0.0".into(),
            parent: "debian-12/1.0.0".into(),
            recipe: "{}".into(),
            ..NewImage::default()
        };
        let image = store.begin_image(&image).unwrap();
        std::fs::create_dir_all(&image.logs).unwrap();
        std::fs::write(image.logs.join("events.ndjson"), [0; 10_000]).unwrap();
        image
    };
    let failed = begin("failed");
    store
        .set_state(&failed, ImageState::Failed, Some("why"))
        .unwrap();
    let running = begin("running");
    for image in [&failed, &running] {
        let part = format!("images/{}/1.0.0/.1.{}.part/disk", image.name, image.run);
        setup.file(&format!("home/{part}"), &"x".repeat(100_000));
    }
    // A run of a process that is gone.
    setup.file(
        "home/runs/dead/run.json",
        r#"{"run":"dead","image":"dead/1.0.0/1","owner":{"pid":1,"start":1},"qemu":null,"sshPort":null,"user":"u","kept":false}"#,
    );
    setup.file("home/cache/accelerators.json", "{}");
    setup.file("home/logs/forgotten/1.0.0/1/events.ndjson", "x");
    setup.file("home/config.toml", "[gc]\nlogDays = 0\n");

    let dry = json(&setup, &["gc", "--dry-run"]);
    let paths = |list: &Value| -> Vec<String> {
        let home = format!("{}/", home.path());
        let mut paths: Vec<String> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let path = item["path"].as_str().unwrap();
                path.replace(&home, "")
                    .replace(&failed.run, "FAILED")
                    .replace(&running.run, "RUNNING")
            })
            .collect();
        paths.sort();
        paths
    };
    let garbage = [
        "images/failed/1.0.0/.1.FAILED.part",
        "logs/failed/1.0.0/1",
        "logs/forgotten/1.0.0/1",
        "runs/dead",
    ];
    assert_eq!(paths(&dry["garbage"]), garbage);
    assert_eq!(
        paths(&dry["held"]),
        [
            "cache/accelerators.json",
            "images/running/1.0.0/.1.RUNNING.part",
            "logs/running/1.0.0/1",
        ]
    );
    assert!(failed.logs.exists(), "a dry run removes nothing");
    let bytes = dry["garbage"][1]["bytes"].as_u64().unwrap();
    assert!(bytes >= 100_000, "{bytes}");

    assert_eq!(paths(&json(&setup, &["gc", "--cache"])["garbage"]).len(), 5);
    assert!(!failed.logs.exists());
    assert!(running.logs.exists());
    assert!(!setup.home().join("cache/accelerators.json").exists());
    let again = json(&setup, &["gc", "--cache"]);
    assert_eq!(paths(&again["garbage"]), Vec::<String>::new());
}

#[test]
fn images_are_filtered() {
    let setup = setup::empty();
    let home = Home::at(setup.home()).unwrap();
    let store = std::sync::Arc::new(Store::open(&home).unwrap());
    for (name, architecture, state) in [
        ("web", "x86_64", ImageState::Available),
        ("web", "x86_64", ImageState::Failed),
        ("shop", "aarch64", ImageState::Failed),
    ] {
        let image = store
            .begin_image(&NewImage {
                name: name.into(),
                version: "1.0.0".into(),
                parent: "debian-12/1.0.0".into(),
                recipe: "{}".into(),
                architecture: Some(architecture.into()),
                tags: [("team".to_owned(), name.to_owned())].into(),
                ..NewImage::default()
            })
            .unwrap();
        store.set_state(&image, state, None).unwrap();
    }
    let count = |arguments: &[&str]| {
        let mut all = vec!["image", "list"];
        all.extend(arguments);
        json(&setup, &all).as_array().map(Vec::len).unwrap()
    };
    for (arguments, wanted) in [
        (&[][..], 3),
        (&["--name", "WEB"], 2),
        (&["--state", "failed"], 2),
        (&["--state", "failed", "--state", "available"], 3),
        (&["--state", "failed", "--name", "web"], 1),
        (&["--platform", "linux"], 3),
        (&["--platform", "aarch64"], 1),
        (&["--platform", "windows"], 0),
        (&["--tag", "team=shop"], 1),
        (&["--tag", "team"], 3),
        (&["--newer-than", "1h"], 3),
        (&["--older-than", "1h"], 0),
        (&["--limit", "2"], 2),
    ] {
        assert_eq!(count(arguments), wanted, "{arguments:?}");
    }
    setup
        .run(&["image", "packages", "shop"])
        .expect(3)
        .says("shop/1.0.0/1 is FAILED: it has no outputs");
    setup
        .run(&["image", "retry", "web/1.0.0/1"])
        .expect(3)
        .says("only builds that failed or were cancelled are retried");
    setup
        .run(&["image", "retry", "shop/1.0.0/1"])
        .expect(3)
        .says("does not hold its inputs");
}
