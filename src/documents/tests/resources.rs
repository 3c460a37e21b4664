//! What documents become.

use std::collections::BTreeMap;

use serde_json::json;

use super::{fixture, good, good_text, parameters};
use crate::documents::arn::WorkflowType;
use crate::documents::component::{ComponentType, Platform};
use crate::documents::pipeline::StartCondition;
use crate::documents::{Body, Document, Kind, Target, VersionSpec, load, load_text};

fn only(text: &str) -> Document {
    let mut documents = good_text(text);
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

const RECIPE: &str =
    "kind: ImageRecipe\nname: Web Server\nsemanticVersion: 1.0.0\nparentImage: debian-12\n";

#[test]
fn a_recipe() {
    let document = good("whole/image-recipe.yml", &[]).remove(0);
    let Body::ImageRecipe(recipe) = &document.body else {
        panic!("{:?}", document.body);
    };
    assert_eq!(recipe.root_volume_gib(), Some(8));
    assert_eq!(recipe.working_directory(), "/var/tmp");
    assert_eq!(recipe.local.memory_mib, Some(2048));
    assert_eq!(recipe.components[1].parameters()["Port"], ["80"]);
    assert_eq!(document.arn().to_string(), "local:image-recipe/web/1.0.x");
    assert!(matches!(document.version(), Some(VersionSpec::Next(_))));
    let references: Vec<(String, &str)> = document
        .references()
        .into_iter()
        .map(|reference| (reference.pointer, reference.field))
        .collect();
    assert_eq!(
        references,
        [
            ("/parentImage".to_owned(), "parentImage"),
            ("/components/0/componentArn".to_owned(), "componentArn"),
            ("/components/1/componentArn".to_owned(), "componentArn"),
            ("/components/2/path".to_owned(), "path"),
        ]
    );
    let managed: Vec<bool> = document
        .resource_references()
        .iter()
        .map(|(resource, _)| resource.managed)
        .collect();
    assert_eq!(managed, [true, false]);
    let last = document.references().pop().unwrap();
    assert_eq!(last.to, Target::Path(fixture("whole/parts/page.yml")));
    assert_eq!(last.span.start.line, 14);
}

#[test]
fn the_service_s_defaults() {
    let pipelines = good("whole/pipeline.yml", &[]);
    let Body::ImagePipeline(pipeline) = &pipelines[1].body else {
        panic!("{:?}", pipelines[1].body);
    };
    assert!(pipeline.enhanced_image_metadata_enabled);
    assert!(pipeline.image_tests_configuration.image_tests_enabled);
    assert_eq!(pipeline.image_tests_configuration.timeout_minutes, 720);
    assert!(pipeline.schedule.is_none());
    let recipe = only(RECIPE);
    let Body::ImageRecipe(recipe) = recipe.body else {
        panic!("{:?}", recipe.body);
    };
    assert_eq!(recipe.working_directory(), "/tmp");
    let scheduled = only(
        "kind: ImagePipeline\nname: web\nimageRecipeArn: web\ninfrastructureConfigurationArn: small\n\
         schedule: {scheduleExpression: rate(1 day)}\n",
    );
    let Body::ImagePipeline(pipeline) = scheduled.body else {
        panic!("{:?}", scheduled.body);
    };
    assert_eq!(
        pipeline
            .schedule
            .unwrap()
            .pipeline_execution_start_condition,
        StartCondition::ExpressionMatchAndDependencyUpdatesAvailable
    );
}

#[test]
fn the_canonical_value_is_the_request() {
    let document = only(
        "kind: ImageRecipe\nclientToken: x\nsemanticVersion: '1.0.0'\nname: 123\nparentImage: debian-12\n\
         description:\nblockDeviceMappings: [{ebs: {volumeSize: '8', encrypted: 'true'}}]\ntags: {a: 1, b: }\n",
    );
    assert_eq!(
        document.value,
        json!({
            "name": "123",
            "semanticVersion": "1.0.0",
            "parentImage": "debian-12",
            "blockDeviceMappings": [{"ebs": {"volumeSize": 8, "encrypted": true}}],
            "tags": {"a": "1", "b": ""},
        })
    );
}

#[test]
fn the_digest_is_that_of_the_content() {
    let first = only(RECIPE);
    let same = [
        // Another order, another way of writing, other tags, another version.
        "parentImage: 'debian-12'\nsemanticVersion: 1.0.0\nname: Web Server\nkind: ImageRecipe\n"
            .to_owned(),
        format!("{RECIPE}tags: {{a: b}}\n"),
        RECIPE.replace("1.0.0", "1.0.x"),
        r#"{"name": "Web Server", "semanticVersion": "2.0.0", "parentImage": "debian-12"}"#
            .to_owned(),
    ];
    for text in same {
        assert_eq!(only(&text).digest(), first.digest(), "{text}");
    }
    let other = [
        RECIPE.replace("debian-12", "debian-13"),
        RECIPE.replace("Web Server", "web server"),
        format!("{RECIPE}local: {{cpus: 2}}\n"),
        format!("{RECIPE}components: []\n"),
    ];
    for text in other {
        assert_ne!(only(&text).digest(), first.digest(), "{text}");
    }
    let digest = first.digest();
    assert_eq!(digest.to_string().parse(), Ok(digest));
}

#[test]
fn names_are_compared_by_their_normal_form() {
    let document = only(RECIPE);
    assert_eq!(
        (document.name(), document.slug().as_str()),
        ("Web Server", "web-server")
    );
    assert_eq!(
        document.arn().to_string(),
        "local:image-recipe/web-server/1.0.0"
    );
}

#[test]
fn records_are_read_again() {
    for document in good("whole", &[]) {
        let again = Document::from_value(document.kind(), &document.value, "record").unwrap();
        assert_eq!(again.value, document.value);
        assert_eq!(again.digest(), document.digest());
        assert_eq!(again.references().len(), document.references().len());
    }
    let long = format!("schemaVersion: 1.0\nphases: [] # {}", "x".repeat(20_000));
    let value =
        json!({"name": "long", "semanticVersion": "1.0.0", "platform": "Linux", "data": long});
    assert!(Document::from_value(Kind::Component, &value, "record").is_ok());
    assert!(Document::from_value(Kind::ImageRecipe, &value, "record").is_err());
}

#[test]
fn components() {
    let documents = good("whole/component.yml", &[]);
    let bodies: Vec<_> = documents
        .iter()
        .map(|document| match &document.body {
            Body::Component(component) => component,
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(bodies[0].component_type(), Some(ComponentType::Build));
    assert_eq!(bodies[0].tags["costs"], "42");
    // The file's text has taken the place of its path.
    assert_eq!(bodies[1].component_type(), Some(ComponentType::Test));
    let text = std::fs::read_to_string(fixture("whole/parts/page.yml")).unwrap();
    assert_eq!(bodies[1].data.as_deref(), Some(text.as_str()));
    assert_eq!(documents[1].value.get("path"), None);
    assert_eq!(documents[1].version().unwrap().to_string(), "2021.1.1");
    assert_eq!(
        (bodies[2].data.as_deref(), bodies[2].component_type()),
        (None, None)
    );
    assert_eq!(
        bodies[2].uri.as_deref(),
        Some("s3://components/elsewhere/1.0.0.yml")
    );
}

#[test]
fn plain_component_documents_get_name_version_and_platform() {
    let folder = tempfile::tempdir().unwrap();
    let root = camino::Utf8Path::from_path(folder.path()).unwrap();
    let bash = "schemaVersion: 1.0\nphases: [{name: build, steps: [{name: A, action: ExecuteBash, inputs: {commands: [ls]}}]}]\n";
    let windows = bash.replace("ExecuteBash", "SetRegistry").replace(
        "{commands: [ls]}",
        "[{path: 'HKLM:\\SOFTWARE\\x', name: a, value: b, type: SZ}]",
    );
    for (path, text) in [
        ("hello-world/1.2.0.yml", bash.to_owned()),
        ("hello-world/1.10.0/component.yml", bash.to_owned()),
        ("web.yml", format!("name: Web Server\n{bash}")),
        ("x.yml", bash.to_owned()),
        ("registry.yml", windows),
        (".hidden/no.yml", bash.to_owned()),
        ("notes.txt", "not read".to_owned()),
    ] {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    }
    let (documents, diagnostics) = load(root, &BTreeMap::new());
    assert!(!diagnostics.has_errors(), "{diagnostics}");
    let found: Vec<(String, Platform)> = documents
        .iter()
        .map(|document| match &document.body {
            Body::Component(component) => (document.arn().to_string(), component.platform),
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(
        found,
        [
            (
                "local:component/hello-world/1.10.0".to_owned(),
                Platform::Linux
            ),
            (
                "local:component/hello-world/1.2.0".to_owned(),
                Platform::Linux
            ),
            (
                "local:component/registry/1.0.0".to_owned(),
                Platform::Windows
            ),
            (
                "local:component/web-server/1.0.0".to_owned(),
                Platform::Linux
            ),
            (
                "local:component/component-x/1.0.0".to_owned(),
                Platform::Linux
            ),
        ]
    );
}

#[test]
fn workflows() {
    let documents = good("whole/workflow.yml", &[]);
    let Body::Workflow(workflow) = &documents[0].body else {
        panic!("{:?}", documents[0].body);
    };
    let (document, diagnostics) = workflow.validate("launch").unwrap();
    assert!(diagnostics.is_empty(), "{diagnostics}");
    let document = document.unwrap();
    let steps: Vec<&str> = document
        .steps
        .iter()
        .map(|step| step.action.as_str())
        .collect();
    assert_eq!(
        steps,
        ["LaunchInstance", "WaitForAction", "TerminateInstance"]
    );
    assert_eq!(workflow.r#type, WorkflowType::Test);
    assert_eq!(
        documents[0].arn().to_string(),
        "local:workflow/test/launch-only/1.0.0"
    );
}

/// JSON made for `aws imagebuilder create-* --cli-input-json` has no `kind`.
#[test]
fn requests_are_read_as_they_are() {
    let mut kinds = Vec::new();
    for entry in fixture("cli-input").read_dir_utf8().unwrap() {
        let path = entry.unwrap().path().to_owned();
        let word = path
            .file_stem()
            .unwrap()
            .trim_start_matches("create-")
            .to_owned();
        let documents = good(&format!("cli-input/{}", path.file_name().unwrap()), &[]);
        assert_eq!(documents.len(), 1, "{path}");
        assert_eq!(Some(documents[0].kind()), Kind::from_word(&word), "{path}");
        for key in ["clientToken", "dryRun"] {
            assert_eq!(documents[0].value.get(key), None, "{path}");
        }
        kinds.push(documents[0].kind());
    }
    kinds.sort_unstable();
    let mut all = Kind::ALL;
    all.sort_unstable();
    assert_eq!(kinds, all);
}

#[test]
fn strangers_in_a_folder_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let root = camino::Utf8Path::from_path(folder.path()).unwrap();
    std::fs::write(
        root.join("package.json"),
        r#"{"name": "x", "version": "1.0.0"}"#,
    )
    .unwrap();
    std::fs::write(
        root.join("deployment.yml"),
        "apiVersion: apps/v1\nkind: Deployment\n",
    )
    .unwrap();
    std::fs::write(root.join("recipe.yml"), RECIPE).unwrap();
    std::fs::write(root.join("steps.yml"), "schemaVersion: 1.0\nsteps: []\n").unwrap();
    let (documents, diagnostics) = load(root, &BTreeMap::new());
    assert_eq!(documents.len(), 1);
    let codes: Vec<&str> = diagnostics.iter().map(|item| item.code.as_ref()).collect();
    assert_eq!(
        (diagnostics.errors(), codes),
        (0, vec!["not-a-document", "not-a-document"])
    );
    // The same file, when it is named itself, has to be one.
    let (_, diagnostics) = load(&root.join("package.json"), &BTreeMap::new());
    assert_eq!(diagnostics.errors(), 1);
    let (_, diagnostics) = load(&root.join("missing.yml"), &BTreeMap::new());
    assert_eq!(diagnostics.errors(), 1);
}

#[test]
fn a_parameter_that_nobody_takes_is_an_error() {
    let (_, diagnostics) = load_text("d.yml".into(), RECIPE, &parameters(&[("Stage", "prod")]));
    insta::assert_snapshot!(diagnostics.render(), @r#"
    error[unknown-parameter]: `Stage` is given as a parameter, but there is no template
     --> d.yml:1:1
      = expected: no parameters

    1 error
    "#);
    let template = std::fs::read_to_string(fixture("templates/conditions.yml")).unwrap();
    let (_, diagnostics) = load_text(
        "t.yml".into(),
        &template,
        &parameters(&[("Stagge", "prod")]),
    );
    insta::assert_snapshot!(diagnostics.render(), @r#"
    error[unknown-parameter]: no template has a parameter `Stagge`
     --> t.yml:1:1
      = expected: `Cleanup` or `Stage`
      = hint: did you mean `Stage`?

    1 error
    "#);
}
