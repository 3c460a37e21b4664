//! Documents of every kind on the command line.

use crate::setup;

const TEMPLATE: &str = "tests/documents/templates/conditions.yml";

#[test]
fn documents_of_every_kind_are_validated() {
    let setup = setup::empty();
    for folder in ["tests/documents/whole", "tests/documents/cli-input"] {
        setup
            .run(&["validate", setup::source(folder).as_str()])
            .expect(0);
    }
    let missing = setup.run(&["validate", "nowhere.yml"]).expect(3);
    assert!(
        missing.stderr.contains("there is no such file"),
        "{}",
        missing.stderr
    );
    setup.file("p.yml", "kind: ImagePipeline\nname: web\n");
    let ran = setup.run(&["--json", "validate", "p.yml"]).expect(3);
    // The problems, and after them the error that the command ends with.
    let mut values =
        serde_json::Deserializer::from_str(&ran.stdout).into_iter::<serde_json::Value>();
    let found = values.next().unwrap().unwrap();
    assert_eq!(values.next().unwrap().unwrap()["type"], "error");
    let codes: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["missing-key", "missing-key"]);
    assert_eq!(found[0]["line"], 1);
}

#[test]
fn parameters_of_templates_come_from_the_command_line() {
    let setup = setup::empty();
    let template = setup::source(TEMPLATE);
    let validate =
        |parameter: &str| setup.run(&["validate", template.as_str(), "--parameter", parameter]);
    validate("Stage=prod").expect(0);
    let bad = validate("Stage=test").expect(3);
    assert!(
        bad.stderr.contains("expected: `dev` or `prod`"),
        "{}",
        bad.stderr
    );
    let unknown = validate("Stagge=prod").expect(3);
    assert!(
        unknown.stderr.contains("did you mean `Stage`?"),
        "{}",
        unknown.stderr
    );
    validate("Stage").expect(2);
}

#[test]
fn schemas_are_printed_for_editors() {
    let setup = setup::empty();
    let all = setup.run(&["schema"]).expect(0);
    let all: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!(all["oneOf"].as_array().unwrap().len(), 8);
    let one = setup.run(&["schema", "image-recipe"]).expect(0);
    let one: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    let sizes = &one["$defs"]["ebs"]["properties"]["volumeSize"];
    assert_eq!(
        (&sizes["minimum"], &sizes["maximum"]),
        (&1.into(), &16_000.into())
    );
    setup.run(&["schema", "component-document"]).expect(0);
    setup.run(&["schema", "image"]).expect(2);
}
