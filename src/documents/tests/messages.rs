//! What people are told: every sort of mistake, with file, line, column, what was expected, and a hint.

use super::problems;

fn recipe(line: &str) -> String {
    problems(&format!(
        "kind: ImageRecipe\nname: web\nsemanticVersion: 1.0.0\nparentImage: debian-12\n{line}\n"
    ))
}

fn pipeline(lines: &str) -> String {
    problems(&format!(
        "kind: ImagePipeline\nname: web\nimageRecipeArn: web\ninfrastructureConfigurationArn: small\n{lines}\n"
    ))
}

#[test]
fn kinds() {
    insta::assert_snapshot!(problems("kind: ImageRecipy\nname: web\n"), @r#"
    error[unknown-kind]: there is no kind of document `ImageRecipy`
     --> d.yml:1:7
      |
    1 | kind: ImageRecipy
      |       ^^^^^^^^^^^
      = expected: Component, Workflow, ImageRecipe, ContainerRecipe, InfrastructureConfiguration, DistributionConfiguration, ImagePipeline, LifecyclePolicy
      = hint: did you mean `ImageRecipe`?

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: image-recipe\nname: web\n"), @r#"
    error[unknown-kind]: there is no kind of document `image-recipe`
     --> d.yml:1:7
      |
    1 | kind: image-recipe
      |       ^^^^^^^^^^^^
      = expected: Component, Workflow, ImageRecipe, ContainerRecipe, InfrastructureConfiguration, DistributionConfiguration, ImagePipeline, LifecyclePolicy
      = hint: did you mean `ImageRecipe`?

    1 error
    "#);
    insta::assert_snapshot!(problems("name: web\n"), @r#"
    error[not-a-document]: this is no resource document
     --> d.yml:1:1
      |
    1 | name: web
      | ^^^^
      = expected: a map with `kind`, a component document with `phases`, or a CloudFormation template

    1 error
    "#);
    insta::assert_snapshot!(problems("- kind: ImageRecipe\n"), @r#"
    error[not-a-document]: this is no resource document
     --> d.yml:1:1
      |
    1 | - kind: ImageRecipe
      | ^^^^^^^^^^^^^^^^^^^
      = expected: a map with `kind`, a component document with `phases`, or a CloudFormation template

    1 error
    "#);
    insta::assert_snapshot!(problems(""), @r#"
    error[empty-document]: the document is empty
     --> d.yml:1:1
      = expected: a map with `kind`

    1 error
    "#);
}

#[test]
fn misspelt_keys() {
    insta::assert_snapshot!(recipe("workingDirektory: /tmp"), @r#"
    error[unknown-key]: unknown key `workingDirektory` in the recipe
     --> d.yml:5:1
      |
    5 | workingDirektory: /tmp
      | ^^^^^^^^^^^^^^^^
      = expected: `kind`, `name`, `description`, `semanticVersion`, `parentImage`, `components`, `blockDeviceMappings`, `workingDirectory`, `additionalInstanceConfiguration`, `amiTags`, `amiWatermarks`, `tags` or `local`
      = hint: did you mean `workingDirectory`?

    1 error
    "#);
    insta::assert_snapshot!(recipe("blockDeviceMappings: [{ebs: {volumSize: 8}}]"), @r#"
    error[unknown-key]: unknown key `volumSize` in `ebs`
     --> d.yml:5:30
      |
    5 | blockDeviceMappings: [{ebs: {volumSize: 8}}]
      |                              ^^^^^^^^^
      = expected: `volumeSize`, `volumeType`, `encrypted`, `deleteOnTermination`, `iops`, `throughput`, `kmsKeyId` or `snapshotId`
      = hint: did you mean `volumeSize`?

    1 error
    "#);
    insta::assert_snapshot!(recipe("local: {outputz: [raw]}"), @r#"
    error[unknown-key]: unknown key `outputz` in `local`
     --> d.yml:5:9
      |
    5 | local: {outputz: [raw]}
      |         ^^^^^^^
      = expected: `firmware`, `architecture`, `cpus`, `memory`, `outputs`, `destination`, `tests`, `testFirmware`, `testNvme`, `testCopies`, `network`, `storedValues`, `sanitise` or `vulnerabilities`
      = hint: did you mean `outputs`?

    1 error
    "#);
    insta::assert_snapshot!(pipeline("schedule: {expression: rate(1 day)}"), @r#"
    error[unknown-key]: unknown key `expression` in `schedule`
     --> d.yml:5:12
      |
    5 | schedule: {expression: rate(1 day)}
      |            ^^^^^^^^^^
      = expected: `scheduleExpression`, `timezone`, `pipelineExecutionStartCondition` or `autoDisablePolicy`

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ImageRecipe\nname: web\nsematicVersion: 1.0.0\nparentImage: debian-12\n"), @r#"
    error[missing-key]: the recipe has no `semanticVersion`
     --> d.yml:1:1
      |
    1 | kind: ImageRecipe
      | ^^^^
      = expected: `semanticVersion`: three numbers, such as 1.0.0, which may end in `x`, such as 1.0.x
      = hint: `sematicVersion` looks like it

    error[unknown-key]: unknown key `sematicVersion` in the recipe
     --> d.yml:3:1
      |
    3 | sematicVersion: 1.0.0
      | ^^^^^^^^^^^^^^
      = expected: `kind`, `name`, `description`, `semanticVersion`, `parentImage`, `components`, `blockDeviceMappings`, `workingDirectory`, `additionalInstanceConfiguration`, `amiTags`, `amiWatermarks`, `tags` or `local`
      = hint: did you mean `semanticVersion`?

    2 errors
    "#);
}

#[test]
fn wrong_types() {
    insta::assert_snapshot!(recipe("components: hello-world"), @r#"
    error[wrong-type]: `components` of the recipe is text
     --> d.yml:5:13
      |
    5 | components: hello-world
      |             ^^^^^^^^^^^
      = expected: a list

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: {componentArn: hello-world}"), @r#"
    error[wrong-type]: `components` of the recipe is a map
     --> d.yml:5:13
      |
    5 | components: {componentArn: hello-world}
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: a list
      = hint: start each item with `- `

    1 error
    "#);
    insta::assert_snapshot!(recipe("local: {tests: yes}"), @r#"
    error[wrong-type]: `tests` of `local` is not a boolean
     --> d.yml:5:16
      |
    5 | local: {tests: yes}
      |                ^^^
      = expected: true or false
      = hint: write `true`

    1 error
    "#);
    insta::assert_snapshot!(recipe("description: [a]"), @r#"
    error[wrong-type]: `description` of the recipe is a list
     --> d.yml:5:14
      |
    5 | description: [a]
      |              ^^^
      = expected: text

    1 error
    "#);
    insta::assert_snapshot!(recipe("tags: [a]"), @r#"
    error[wrong-type]: `tags` of the recipe is a list
     --> d.yml:5:7
      |
    5 | tags: [a]
      |       ^^^
      = expected: a map

    1 error
    "#);
    insta::assert_snapshot!(recipe("blockDeviceMappings: [{ebs: {volumeSize: large}}]"), @r#"
    error[wrong-type]: `volumeSize` of `ebs` is text
     --> d.yml:5:42
      |
    5 | blockDeviceMappings: [{ebs: {volumeSize: large}}]
      |                                          ^^^^^
      = expected: a whole number

    1 error
    "#);
}

#[test]
fn out_of_range() {
    insta::assert_snapshot!(recipe("blockDeviceMappings: [{ebs: {volumeSize: 16001}}]"), @r#"
    error[out-of-range]: `volumeSize` of `ebs` is 16001
     --> d.yml:5:42
      |
    5 | blockDeviceMappings: [{ebs: {volumeSize: 16001}}]
      |                                          ^^^^^
      = expected: a whole number from 1 to 16000

    1 error
    "#);
    insta::assert_snapshot!(recipe("local: {memory: 64MiB}"), @r#"
    error[bad-size]: `memory` of `local`: `64MiB` is no size that a guest can have
     --> d.yml:5:17
      |
    5 | local: {memory: 64MiB}
      |                 ^^^^^
      = expected: MiB as a number, or a size such as 2GiB, from 128 MiB to 1 TiB

    1 error
    "#);
    insta::assert_snapshot!(pipeline("imageTestsConfiguration: {timeoutMinutes: 5}"), @r#"
    error[out-of-range]: `timeoutMinutes` of `imageTestsConfiguration` is 5
     --> d.yml:5:43
      |
    5 | imageTestsConfiguration: {timeoutMinutes: 5}
      |                                           ^
      = expected: a whole number from 60 to 1440

    1 error
    "#);
    insta::assert_snapshot!(pipeline("schedule: {autoDisablePolicy: {failureCount: 11}}"), @r#"
    error[out-of-range]: `failureCount` of `autoDisablePolicy` is 11
     --> d.yml:5:46
      |
    5 | schedule: {autoDisablePolicy: {failureCount: 11}}
      |                                              ^^
      = expected: a whole number from 1 to 10

    1 error
    "#);
    insta::assert_snapshot!(recipe(&format!("description: {}", "x".repeat(1025))), @r#"
    error[wrong-length]: `description` of the recipe has 1025 characters
     --> d.yml:5:14
      |
    5 | description: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: 1 to 1024 characters

    1 error
    "#);
    insta::assert_snapshot!(recipe("tags: {}"), @r#"
    error[too-few]: `tags` of the recipe has 0 items
     --> d.yml:5:7
      |
    5 | tags: {}
      |       ^^
      = expected: 1 to 50 items

    1 error
    "#);
    // Good here, if the home's quota allows it.
    let many = recipe(&format!(
        "components: [{}]",
        vec!["{componentArn: hello/1.0.0}"; 21].join(", ")
    ));
    assert!(
        many.starts_with("warning[over-quota]: the recipe has 21 components\n")
            && many.contains("= expected: at most 20 by the service's default quota"),
        "{many}"
    );
}

#[test]
fn bad_names_and_words() {
    insta::assert_snapshot!(problems("kind: ImageRecipe\nname: ' web'\nsemanticVersion: 1.0.0\nparentImage: debian-12\n"), @r#"
    error[bad-name]: `name` of the recipe is ` web`
     --> d.yml:2:7
      |
    2 | name: ' web'
      |       ^^^^^^
      = expected: 3 to 128 letters, digits, `-`, `_` or inner spaces

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ImageRecipe\nname: we\nsemanticVersion: 1.0.0\nparentImage: debian-12\n"), @r#"
    error[bad-name]: `name` of the recipe is `we`
     --> d.yml:2:7
      |
    2 | name: we
      |       ^^
      = expected: 3 to 128 letters, digits, `-`, `_` or inner spaces

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ImageRecipe\nname: web/1\nsemanticVersion: 1.0.0\nparentImage: debian-12\n"), @r#"
    error[bad-name]: `name` of the recipe is `web/1`
     --> d.yml:2:7
      |
    2 | name: web/1
      |       ^^^^^
      = expected: 3 to 128 letters, digits, `-`, `_` or inner spaces

    1 error
    "#);
    insta::assert_snapshot!(recipe("tags: {'aws:owner': x}"), @r#"
    error[bad-tag]: a key of `tags` of the recipe is `aws:owner`
     --> d.yml:5:8
      |
    5 | tags: {'aws:owner': x}
      |        ^^^^^^^^^^^
      = expected: letters, digits, spaces and _ . : / = + - @, not beginning with `aws:`

    1 error
    "#);
    insta::assert_snapshot!(pipeline("status: Enabled"), @r#"
    error[unknown-word]: `status` of the pipeline is `Enabled`
     --> d.yml:5:9
      |
    5 | status: Enabled
      |         ^^^^^^^
      = expected: `ENABLED` or `DISABLED`
      = hint: did you mean `ENABLED`?

    1 error
    "#);
    insta::assert_snapshot!(pipeline("schedule: {timezone: 'Europe Berlin'}"), @r#"
    error[bad-schedule]: `timezone` of `schedule`: the time zone is `Europe Berlin`
     --> d.yml:5:22
      |
    5 | schedule: {timezone: 'Europe Berlin'}
      |                      ^^^^^^^^^^^^^^^
      = expected: an IANA name, such as Europe/Berlin or UTC
      = hint: did you mean `Europe/Berlin`?

    1 error
    "#);
    insta::assert_snapshot!(pipeline("schedule: {scheduleExpression: every day}"), @r#"
    error[bad-schedule]: `scheduleExpression` of `schedule`: the expression is `every day`
     --> d.yml:5:32
      |
    5 | schedule: {scheduleExpression: every day}
      |                                ^^^^^^^^^
      = expected: cron(minutes hours day-of-month month day-of-week year) or rate(number unit)

    1 error
    "#);
    insta::assert_snapshot!(recipe("workingDirectory: tmp"), @r#"
    error[bad-path]: `workingDirectory` of the recipe is `tmp`
     --> d.yml:5:19
      |
    5 | workingDirectory: tmp
      |                   ^^^
      = expected: an absolute path in the guest

    1 error
    "#);
    insta::assert_snapshot!(recipe("local: {outputs: [rawr]}"), @r#"
    error[unknown-word]: an item of `outputs` of `local` is `rawr`
     --> d.yml:5:19
      |
    5 | local: {outputs: [rawr]}
      |                   ^^^^
      = expected: `raw`, `qcow2`, `vmdk`, `vhd`, `vhdx`, `ova` or `oci`
      = hint: did you mean `raw`?

    1 error
    "#);
}

#[test]
fn versions_and_wildcards() {
    let version = |version: &str| {
        problems(&format!(
            "kind: ImageRecipe\nname: web\nsemanticVersion: {version}\nparentImage: debian-12\n"
        ))
    };
    insta::assert_snapshot!(version("1.0"), @r#"
    error[bad-version]: `semanticVersion` of the recipe: `1.0` has not three numbers between dots
     --> d.yml:3:18
      |
    3 | semanticVersion: 1.0
      |                  ^^^
      = expected: three numbers, such as 1.0.0

    1 error
    "#);
    insta::assert_snapshot!(version("1.x.0"), @r#"
    error[bad-version]: `semanticVersion` of the recipe: `1.x.0` has a number after an `x`
     --> d.yml:3:18
      |
    3 | semanticVersion: 1.x.0
      |                  ^^^^^
      = expected: `x` only at the end: x.x.x, 1.x.x or 1.2.x

    1 error
    "#);
    insta::assert_snapshot!(version("1073741824.0.0"), @r#"
    error[bad-version]: `semanticVersion` of the recipe: `1073741824` in `1073741824.0.0` is larger than 1073741823
     --> d.yml:3:18
      |
    3 | semanticVersion: 1073741824.0.0
      |                  ^^^^^^^^^^^^^^
      = expected: numbers from 0 to 1073741823 (2^30 - 1)

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: Component\nname: web\nsemanticVersion: 1.0.x\nplatform: Linux\nuri: s3://a/b\n"), @r#"
    error[bad-version]: `semanticVersion` of the component: `1.0.x` has a wildcard
     --> d.yml:3:18
      |
    3 | semanticVersion: 1.0.x
      |                  ^^^^^
      = expected: three numbers without `x`

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{componentArn: web/1.x.8}]"), @r#"
    error[bad-version]: `componentArn` of the component: `1.x.8` has a number after an `x`
     --> d.yml:5:29
      |
    5 | components: [{componentArn: web/1.x.8}]
      |                             ^^^^^^^^^
      = expected: `x` only at the end: x.x.x, 1.x.x or 1.2.x

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{componentArn: web/latest}]"), @r#"
    error[bad-version]: `componentArn` of the component: `latest` has not three numbers between dots
     --> d.yml:5:29
      |
    5 | components: [{componentArn: web/latest}]
      |                             ^^^^^^^^^^
      = expected: three numbers, such as 1.0.0

    1 error
    "#);
    insta::assert_snapshot!(pipeline("distributionConfigurationArn: everywhere/1.0.0"), @r#"
    error[bad-reference]: `distributionConfigurationArn` of the pipeline: `everywhere/1.0.0` has a version, distribution configurations have none
     --> d.yml:5:31
      |
    5 | distributionConfigurationArn: everywhere/1.0.0
      |                               ^^^^^^^^^^^^^^^^
      = expected: a name, or a distribution configuration's ARN

    1 error
    "#);
}

#[test]
fn references() {
    insta::assert_snapshot!(recipe("components: [{componentArn: 'arn:aws:imagebuilder:eu-west-1:aws:image/debian/x.x.x'}]"), @r#"
    error[bad-reference]: `componentArn` of the component: `arn:aws:imagebuilder:eu-west-1:aws:image/debian/x.x.x` is the ARN of a resource of type image
     --> d.yml:5:29
      |
    5 | components: [{componentArn: 'arn:aws:imagebuilder:eu-west-1:aws:image/debian/x.x.x'}]
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: NAME/VERSION, such as my-name/1.0.x, or a component's ARN

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{componentArn: 'arn:aws:imagebuilder:eu-west-1:12:component/web/x.x.x'}]"), @r#"
    error[bad-arn]: `componentArn` of the component: `12` in `arn:aws:imagebuilder:eu-west-1:12:component/web/x.x.x` is not an account
     --> d.yml:5:29
      |
    5 | components: [{componentArn: 'arn:aws:imagebuilder:eu-west-1:12:component/web/x.x.x'}]
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: NAME/VERSION, such as my-name/1.0.x, or a component's ARN

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{componentArn: web, path: web.yml}]"), @r#"
    error[conflict]: the component has both `componentArn` and `path`
     --> d.yml:5:34
      |
    5 | components: [{componentArn: web, path: web.yml}]
      |                                  ^^^^
      = expected: one of them

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{path: parts/no-such-file.yml}]"), @r#"
    error[missing-reference]: there is no file parts/no-such-file.yml
     --> d.yml:5:21
      |
    5 | components: [{path: parts/no-such-file.yml}]
      |                     ^^^^^^^^^^^^^^^^^^^^^^
      = expected: the path of a component document, relative to this file

    1 error
    "#);
    insta::assert_snapshot!(recipe("components: [{parameters: [{name: a, value: b}]}]"), @r#"
    error[missing-key]: the component has neither `componentArn` nor `path`
     --> d.yml:5:15
      |
    5 | components: [{parameters: [{name: a, value: b}]}]
      |               ^^^^^^^^^^
      = expected: one of them

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ImageRecipe\nname: web\nsemanticVersion: 1.0.0\nparentImage: https://example.org/disk.raw\n"), @r#"
    error[bad-reference]: `parentImage` of the recipe: `https://example.org/disk.raw` has no digest
     --> d.yml:4:14
      |
    4 | parentImage: https://example.org/disk.raw
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: an address that ends in #sha256: and 64 hexadecimal digits
      = hint: `sha256sum` prints it; without it another disk could come tomorrow

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ImagePipeline\nname: web\ninfrastructureConfigurationArn: small\n"), @r#"
    error[missing-key]: the pipeline has neither `imageRecipeArn` nor `containerRecipeArn`
     --> d.yml:1:1
      |
    1 | kind: ImagePipeline
      | ^^^^
      = expected: one of them

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: Component\nname: web\nsemanticVersion: 1.0.0\nplatform: Linux\npath: no-such-file.yml\n"), @r#"
    error[unreadable-file]: cannot read no-such-file.yml: No such file or directory (os error 2)
     --> d.yml:5:7
      |
    5 | path: no-such-file.yml
      |       ^^^^^^^^^^^^^^^^
      = expected: a file with the document, as UTF-8 text of at most 65536 bytes

    1 error
    "#);
}
