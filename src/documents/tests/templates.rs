//! Three CloudFormation templates of different style, and what their functions may not be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{good, problems};
use crate::documents::{Document, Kind};

fn by_kind(documents: &[Document], kind: Kind) -> &Value {
    let mut found = documents.iter().filter(|document| document.kind() == kind);
    let document = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "two of {kind}");
    &document.value
}

/// Each reference of each resource names a resource of the template, or a managed one.
fn assert_complete(documents: &[Document], elsewhere: &[&str]) {
    let known: BTreeMap<(Kind, String), &Document> = documents
        .iter()
        .map(|document| ((document.kind(), document.slug()), document))
        .collect();
    let mut checked = 0;
    for document in documents {
        for (resource, reference) in document.resource_references() {
            if resource.managed || elsewhere.contains(&resource.name.as_str()) {
                continue;
            }
            let target = known
                .get(&(resource.kind, resource.name.clone()))
                .unwrap_or_else(|| panic!("{} of {}", reference.text, document.arn()));
            if let Some(version) = target.version() {
                let fits = version
                    .exact()
                    .map_or(version.pattern() == resource.version, |version| {
                        resource.version.matches(version)
                    });
                assert!(fits, "{} does not fit {version}", reference.text);
            }
            checked += 1;
        }
    }
    assert!(checked >= 2, "{checked} references");
}

#[test]
fn short_tags() {
    let given = [
        ("BaseImage", "debian-12/12.x.x"),
        ("AWS::StackName", "Shop"),
        ("AWS::Region", "eu-west-1"),
        ("AWS::AccountId", "123456789012"),
    ];
    let documents = good("templates/short-tags.yml", &given);
    assert_complete(&documents, &[]);
    let component = by_kind(&documents, Kind::Component);
    assert_eq!(component["name"], "Shop-page");
    let data = component["data"].as_str().unwrap();
    assert!(data.contains("- echo \"eu-west-1 ${HOME}\" >"), "{data}");
    let recipe = by_kind(&documents, Kind::ImageRecipe);
    assert_eq!(
        *recipe,
        json!({
            "name": "Shop-web",
            "semanticVersion": "1.0.0",
            "parentImage": "debian-12/12.x.x",
            "components": [
                {"componentArn": "arn:aws:imagebuilder:eu-west-1:aws:component/update-linux/x.x.x"},
                {"componentArn": "arn:aws:imagebuilder:eu-west-1:123456789012:component/shop-page/1.0.0"},
            ],
            "additionalInstanceConfiguration": {"userDataOverride": "IyEvYmluL3NoCmVjaG8gaGVsbG8K"},
        })
    );
    let infrastructure = by_kind(&documents, Kind::InfrastructureConfiguration);
    assert_eq!(infrastructure["instanceProfileName"], "Shop-builders");
    assert_eq!(infrastructure["subnetId"], "subnet-0a");
    assert_eq!(
        infrastructure["snsTopicArn"],
        "arn:aws:sns:eu-west-1:123456789012:Topic"
    );
    let pipeline = by_kind(&documents, Kind::ImagePipeline);
    assert_eq!(
        pipeline["imageRecipeArn"],
        "arn:aws:imagebuilder:eu-west-1:123456789012:image-recipe/shop-web/1.0.0"
    );
    assert_eq!(documents[0].origin.logical_id.as_deref(), Some("Page"));
}

#[test]
fn long_form_json() {
    let documents = good("templates/long-form.json", &[("DiskSize", "20")]);
    assert_complete(&documents, &[]);
    let component = by_kind(&documents, Kind::Component);
    assert!(
        component["data"]
            .as_str()
            .unwrap()
            .ends_with("- echo by acme")
    );
    let recipe = by_kind(&documents, Kind::ImageRecipe);
    assert_eq!(recipe["parentImage"], "debian-12/12.x.x");
    assert_eq!(
        recipe["blockDeviceMappings"],
        json!([{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 20, "deleteOnTermination": true}}])
    );
    assert_eq!(
        recipe["components"][1]["componentArn"],
        "arn:aws:imagebuilder:us-east-1:000000000000:component/acme-hardening/2.x.x"
    );
    let distribution = by_kind(&documents, Kind::DistributionConfiguration);
    assert_eq!(
        distribution["distributions"][0]["amiDistributionConfiguration"],
        json!({
            "name": "acme-{{ imagebuilder:buildDate }}",
            "launchPermission": {"userIds": ["000000000000"]},
        })
    );
    let pipeline = by_kind(&documents, Kind::ImagePipeline);
    assert_eq!(
        pipeline["imageTestsConfiguration"],
        json!({"imageTestsEnabled": true, "timeoutMinutes": 90})
    );
    assert_eq!(
        pipeline["imageRecipeArn"],
        "arn:aws:imagebuilder:us-east-1:000000000000:image-recipe/acme-golden/1.x.x"
    );
}

#[test]
fn conditions_and_mappings() {
    let managed = ["hello-world", "update-linux"];
    let dev = good("templates/conditions.yml", &[]);
    assert_complete(&dev, &managed);
    assert!(
        !dev.iter()
            .any(|document| document.kind() == Kind::LifecyclePolicy)
    );
    let recipe = by_kind(&dev, Kind::ImageRecipe);
    assert_eq!(
        *recipe,
        json!({
            "name": "Golden",
            "semanticVersion": "1.0.x",
            "parentImage": "debian-12",
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 8}}],
            "components": [{"componentArn": "hello-world/x.x.x"}],
        })
    );
    let pipeline = by_kind(&dev, Kind::ImagePipeline);
    assert_eq!(
        (&pipeline["name"], &pipeline["status"]),
        (&json!("golden-dev"), &json!("DISABLED"))
    );
    assert_eq!(pipeline["imageTags"], json!({"stage": "dev"}));

    let prod = good("templates/conditions.yml", &[("Stage", "prod")]);
    assert_complete(&prod, &managed);
    let recipe = by_kind(&prod, Kind::ImageRecipe);
    assert_eq!(
        recipe["components"][1]["componentArn"],
        "update-linux/x.x.x"
    );
    assert_eq!(
        recipe["blockDeviceMappings"][0]["ebs"],
        json!({"volumeSize": 20, "encrypted": true})
    );
    assert_eq!(
        by_kind(&prod, Kind::InfrastructureConfiguration)["instanceTypes"],
        json!(["m5.large", "m5.xlarge"])
    );
    assert_eq!(
        by_kind(&prod, Kind::LifecyclePolicy)["resourceSelection"]["recipes"][0]["name"],
        "Golden"
    );

    let untidy = good(
        "templates/conditions.yml",
        &[("Stage", "prod"), ("Cleanup", "no")],
    );
    assert!(
        !untidy
            .iter()
            .any(|document| document.kind() == Kind::LifecyclePolicy)
    );
    let pipeline = by_kind(&untidy, Kind::ImagePipeline);
    assert_eq!(pipeline.get("imageTags"), None);
}

/// A template with one recipe, whose name is what is tested.
fn named(name: &str) -> String {
    problems(&format!(
        "Resources:\n  Recipe:\n    Type: AWS::ImageBuilder::ImageRecipe\n    Properties:\n      Name: {name}\n      \
         Version: 1.0.0\n      ParentImage: debian-12\n"
    ))
}

#[test]
fn functions_that_only_the_service_can_evaluate() {
    insta::assert_snapshot!(named("!ImportValue shared-name"), @r#"
    error[not-supported]: `Fn::ImportValue` can be evaluated only in the service
     --> d.yml:5:13
      |
    5 |       Name: !ImportValue shared-name
      |             ^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: a value
      = hint: make it a parameter of the template, and give it with --parameter

    1 error
    "#);
    insta::assert_snapshot!(named("'{{resolve:ssm:/images/name}}'"), @r#"
    error[not-supported]: `{{resolve:ssm:/images/name}}` can be looked up only in the service
     --> d.yml:5:13
      |
    5 |       Name: '{{resolve:ssm:/images/name}}'
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: a value
      = hint: make it a parameter of the template, and give it with --parameter

    1 error
    "#);
    insta::assert_snapshot!(named("{Fn::Transform: {Name: AWS::Include}}"), @r#"
    error[not-supported]: `Fn::Transform` can be evaluated only in the service
     --> d.yml:5:13
      |
    5 |       Name: {Fn::Transform: {Name: AWS::Include}}
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: a value
      = hint: `aws cloudformation get-template --template-stage Processed` prints what it has made

    1 error
    "#);
    insta::assert_snapshot!(problems("Transform: AWS::Serverless-2016-10-31\nResources: {}\n"), @r#"
    error[not-supported]: the macro `AWS::Serverless-2016-10-31` cannot be run here
     --> d.yml:1:12
      |
    1 | Transform: AWS::Serverless-2016-10-31
      |            ^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: a template without `Transform`, or with AWS::LanguageExtensions
      = hint: `aws cloudformation get-template --template-stage Processed` prints what a macro has made

    1 error
    "#);
    insta::assert_snapshot!(problems("Resources:\n  Fn::ForEach::Each: [x, [a], {}]\n  R: {Type: AWS::S3::Bucket}\n"), @r#"
    error[not-supported]: `Fn::ForEach::Each` cannot be unrolled here
     --> d.yml:2:3
      |
    2 |   Fn::ForEach::Each: [x, [a], {}]
      |   ^^^^^^^^^^^^^^^^^
      = expected: the resources written out
      = hint: `aws cloudformation get-template --template-stage Processed` prints them

    1 error
    "#);
}

#[test]
fn functions_that_are_wrong() {
    insta::assert_snapshot!(named("!Reff Stage"), @r#"
    error[unknown-function]: there is no function `Reff`
     --> d.yml:5:13
      |
    5 |       Name: !Reff Stage
      |             ^^^^^^^^^^^
      = expected: `Ref`, `GetAtt`, `Sub`, `Join`, `Select`, `Split`, `FindInMap`, `If`, `Base64`, `GetAZs`, `Length`, `ToJsonString` or `Equals`
      = hint: did you mean `Ref`?

    1 error
    "#);
    insta::assert_snapshot!(named("!Ref Stage"), @r#"
    error[missing-reference]: there is no parameter or resource `Stage`
     --> d.yml:5:13
      |
    5 |       Name: !Ref Stage
      |             ^^^^^^^^^^
      = expected: the name of a parameter or resource of this template

    1 error
    "#);
    insta::assert_snapshot!(problems("Resources:\n  Small: {Type: AWS::ImageBuilder::InfrastructureConfiguration}\n  Recipe: {Type: AWS::ImageBuilder::ImageRecipe, Properties: {Name: !GetAtt Small.Size}}\n"), @r#"
    error[unknown-attribute]: `Small` has no attribute `Size` that is known before it is made
     --> d.yml:3:69
      |
    3 |   Recipe: {Type: AWS::ImageBuilder::ImageRecipe, Properties: {Name: !GetAtt Small.Size}}
      |                                                                     ^^^^^^^^^^^^^^^^^^
      = expected: Arn, Name, or LatestVersion.Arn, .Major, .Minor or .Patch of a resource with an exact version

    1 error
    "#);
    insta::assert_snapshot!(named("!Sub 'web-${STAGE}'"), @r#"
    error[missing-reference]: `${STAGE}` names no parameter, resource or variable
     --> d.yml:5:23
      |
    5 |       Name: !Sub 'web-${STAGE}'
      |                       ^^^^^^^^
      = expected: ${NAME} of a parameter, resource or variable
      = hint: for text that a shell shall see, write ${!STAGE}

    1 error
    "#);
    insta::assert_snapshot!(named("!Join [a, b, c]"), @r#"
    error[bad-function]: Fn::Join has 3 arguments
     --> d.yml:5:13
      |
    5 |       Name: !Join [a, b, c]
      |             ^^^^^^^^^^^^^^^
      = expected: a list of a delimiter and a list

    1 error
    "#);
    insta::assert_snapshot!(named("!Select [3, [a, b]]"), @r#"
    error[out-of-range]: the index of Fn::Select is `3`, the list has 2 items
     --> d.yml:5:22
      |
    5 |       Name: !Select [3, [a, b]]
      |                      ^
      = expected: a number from 0 to one less than the items

    1 error
    "#);
    insta::assert_snapshot!(named("!Split ['', 'a,b']"), @r#"
    error[empty-value]: the delimiter of Fn::Split is empty
     --> d.yml:5:21
      |
    5 |       Name: !Split ['', 'a,b']
      |                     ^^
      = expected: at least one character

    1 error
    "#);
    insta::assert_snapshot!(named("!FindInMap [Sizes, dev, Disk]"), @r#"
    error[missing-reference]: `Mappings` have no map `Sizes` for Fn::FindInMap
     --> d.yml:5:25
      |
    5 |       Name: !FindInMap [Sizes, dev, Disk]
      |                         ^^^^^
      = expected: a map and two keys that are there

    1 error
    "#);
    insta::assert_snapshot!(named("!If [IsProd, a, b]"), @r#"
    error[missing-reference]: there is no condition `IsProd`
     --> d.yml:5:18
      |
    5 |       Name: !If [IsProd, a, b]
      |                  ^^^^^^
      = expected: the name of a condition of this template

    1 error
    "#);
    insta::assert_snapshot!(named("{Fn::Sub: x, Other: y}"), @r#"
    error[bad-function]: `Fn::Sub` stands beside other keys
     --> d.yml:5:14
      |
    5 |       Name: {Fn::Sub: x, Other: y}
      |              ^^^^^^^
      = expected: a function alone in its map

    1 error
    "#);
}

#[test]
fn circles() {
    insta::assert_snapshot!(named("!Sub 'x-${Recipe}'"), @r#"
    error[cycle]: a name depends on itself: Recipe.Name → Recipe.Name
     --> d.yml:5:13
      |
    5 |       Name: !Sub 'x-${Recipe}'
      |             ^^^^^^^^^^^^^^^^^^
      = expected: a name that can be known

    1 error
    "#);
    insta::assert_snapshot!(problems("Conditions: {A: !Not [!Condition B], B: !Not [!Condition A]}\nResources:\n  R: {Type: AWS::ImageBuilder::ImageRecipe, Condition: A}\n"), @r#"
    error[cycle]: a condition depends on itself: condition A → condition B → condition A
     --> d.yml:1:47
      |
    1 | Conditions: {A: !Not [!Condition B], B: !Not [!Condition A]}
      |                                               ^^^^^^^^^^^^
      = expected: a condition that can be decided

    1 error
    "#);
    let circle = "\
Resources:
  Recipe:
    Type: AWS::ImageBuilder::ImageRecipe
    DependsOn: Pipeline
    Properties: {Name: web, Version: 1.0.0, ParentImage: debian-12}
  Pipeline:
    Type: AWS::ImageBuilder::ImagePipeline
    Properties: {Name: web, ImageRecipeArn: !Ref Recipe, InfrastructureConfigurationArn: small}
";
    insta::assert_snapshot!(problems(circle), @r#"
    error[cycle]: resources need each other: Recipe → Pipeline → Recipe
     --> d.yml:8:45
      |
    8 |     Properties: {Name: web, ImageRecipeArn: !Ref Recipe, InfrastructureConfigurationArn: small}
      |                                             ^^^^^^^^^^^
      = expected: resources of which one can be made first

    1 error
    "#);
}

#[test]
fn parameters_that_are_wrong() {
    let with = |parameter: &str| {
        problems(&format!(
            "Parameters:\n  Stage: {parameter}\nResources: {{}}\nAWSTemplateFormatVersion: '2010-09-09'\n"
        ))
    };
    insta::assert_snapshot!(with("{Type: String}"), @r#"
    error[missing-parameter]: the parameter `Stage` has no default and no value
     --> d.yml:2:3
      |
    2 |   Stage: {Type: String}
      |   ^^^^^
      = expected: a value from the command line
      = hint: --parameter Stage=VALUE

    1 error
    "#);
    insta::assert_snapshot!(with("{Type: String, Default: stage, AllowedValues: [dev, prod]}"), @r#"
    error[bad-parameter]: the parameter `Stage` is `stage`
     --> d.yml:2:34
      |
    2 |   Stage: {Type: String, Default: stage, AllowedValues: [dev, prod]}
      |                                  ^^^^^
      = expected: `dev` or `prod`

    1 error
    "#);
    insta::assert_snapshot!(with("{Type: Number, Default: 200, MaxValue: 100}"), @r#"
    error[bad-parameter]: the parameter `Stage` is `200`
     --> d.yml:2:34
      |
    2 |   Stage: {Type: Number, Default: 200, MaxValue: 100}
      |                                  ^^^
      = expected: a number, at most 100

    1 error
    "#);
    insta::assert_snapshot!(with("{Type: String, Default: a b, AllowedPattern: '[a-z]+', ConstraintDescription: small letters only}"), @r#"
    error[bad-parameter]: the parameter `Stage` is `a b`
     --> d.yml:2:34
      |
    2 |   Stage: {Type: String, Default: a b, AllowedPattern: '[a-z]+', ConstraintDescription: small letters only}
      |                                  ^^^
      = expected: text that fits [a-z]+
      = hint: small letters only

    1 error
    "#);
    insta::assert_snapshot!(with("{Type: Strin, Default: a}"), @r#"
    error[unknown-word]: `Type` of the parameter `Stage` is `Strin`
     --> d.yml:2:17
      |
    2 |   Stage: {Type: Strin, Default: a}
      |                 ^^^^^
      = expected: String, Number, CommaDelimitedList, List<Number>, or a type that begins with AWS::

    1 error
    "#);
    insta::assert_snapshot!(with("{Type: String, Defualt: a}"), @r#"
    error[missing-parameter]: the parameter `Stage` has no default and no value
     --> d.yml:2:3
      |
    2 |   Stage: {Type: String, Defualt: a}
      |   ^^^^^
      = expected: a value from the command line
      = hint: --parameter Stage=VALUE

    error[unknown-key]: unknown key `Defualt` in the parameter `Stage`
     --> d.yml:2:25
      |
    2 |   Stage: {Type: String, Defualt: a}
      |                         ^^^^^^^
      = expected: `Type`, `Default`, `AllowedValues`, `AllowedPattern`, `MinLength`, `MaxLength`, `MinValue`, `MaxValue`, `ConstraintDescription`, `Description` or `NoEcho`
      = hint: did you mean `Default`?

    2 errors
    "#);
    insta::assert_snapshot!(with("{Type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>', Default: /images/base}"), @r#"
    error[missing-parameter]: the parameter `Stage` names a value that only the service knows
     --> d.yml:2:3
      |
    2 |   Stage: {Type: 'AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>', Default: /images/base}
      |   ^^^^^
      = expected: a value from the command line
      = hint: --parameter Stage=VALUE

    1 error
    "#);
}

#[test]
fn properties_are_checked_like_documents() {
    let text = "\
Resources:
  Recipe:
    Type: AWS::ImageBuilder::ImageRecipe
    Propertys: {}
    Properties:
      Name: web
      SemanticVersion: 1.0.0
      ParentImage: debian-12
      BlockDeviceMappings: [{Ebs: {VolumeSize: 20000}}]
  Image:
    Type: AWS::ImageBuilder::Image
  Pipe:
    Type: AWS::ImageBuilder::Pipeline
";
    insta::assert_snapshot!(problems(text), @r#"
    error[unknown-key]: unknown key `Propertys` in the resource `Recipe`
     --> d.yml:4:5
      |
    4 |     Propertys: {}
      |     ^^^^^^^^^
      = expected: `Type`, `Properties`, `Condition`, `DependsOn`, `Metadata`, `DeletionPolicy`, `UpdateReplacePolicy`, `UpdatePolicy` or `CreationPolicy`
      = hint: did you mean `Properties`?

    warning[not-read]: the resource `Image` is a build, not a description, and is left out
      --> d.yml:11:11
       |
    11 |     Type: AWS::ImageBuilder::Image
       |           ^^^^^^^^^^^^^^^^^^^^^^^^
       = hint: `ovenbird build` or `ovenbird pipeline run` makes the image

    error[unknown-kind]: there is no resource type `AWS::ImageBuilder::Pipeline`
      --> d.yml:13:11
       |
    13 |     Type: AWS::ImageBuilder::Pipeline
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = expected: AWS::ImageBuilder::Component, AWS::ImageBuilder::Workflow, AWS::ImageBuilder::ImageRecipe, AWS::ImageBuilder::ContainerRecipe, AWS::ImageBuilder::InfrastructureConfiguration, AWS::ImageBuilder::DistributionConfiguration, AWS::ImageBuilder::ImagePipeline, AWS::ImageBuilder::LifecyclePolicy

    2 errors, 1 warning
    "#);
    let misspelt = "\
Resources:
  Page:
    Type: AWS::ImageBuilder::Component
    Properties:
      Name: page
      Version: 1.0.0
      Platform: Linux
      Data: !Sub |
        schemaVersion: 1.0
        phases:
          - name: build
            steps:
              - name: Write
                action: ExecuteBsh
                inputs: {commands: ['echo ${AWS::Region}']}
";
    insta::assert_snapshot!(problems(misspelt), @r#"
    error[unknown-action]: unknown action `ExecuteBsh`
      --> d.yml:14:25
       |
    14 |                 action: ExecuteBsh
       |                         ^^^^^^^^^^
       = expected: the name of an action module, such as `ExecuteBash`
       = hint: did you mean `ExecuteBash`?

    1 error
    "#);
}
