//! What people are told about fields that do not go together, and about documents inside documents.

use super::problems;

fn policy(detail: &str) -> String {
    problems(&format!(
        "kind: LifecyclePolicy\nname: tidy\nresourceType: AMI_IMAGE\nresourceSelection: {{tagMap: {{a: b}}}}\npolicyDetails:\n{detail}"
    ))
}

fn workflow(steps: &str) -> String {
    let steps: String = steps.lines().map(|line| format!("    {line}\n")).collect();
    problems(&format!(
        "kind: Workflow\nname: mine\nsemanticVersion: 1.0.0\ntype: BUILD\ndata: |\n  schemaVersion: 1.0\n  parameters: [{{name: wait, type: boolean}}]\n  steps:\n{steps}"
    ))
}

#[test]
fn what_fields_mean_together() {
    insta::assert_snapshot!(policy("  - {action: {type: DELETE}, filter: {type: AGE, value: 3}}\n"), @r#"
    error[missing-key]: an AGE filter has no `unit`
     --> d.yml:6:45
      |
    6 |   - {action: {type: DELETE}, filter: {type: AGE, value: 3}}
      |                                             ^^^
      = expected: DAYS, WEEKS, MONTHS or YEARS

    1 error
    "#);
    insta::assert_snapshot!(policy("  - {action: {type: DELETE}, filter: {type: COUNT, value: 3, unit: DAYS, retainAtLeast: 1}}\n"), @r#"
    error[conflict]: a COUNT filter has a `unit`
     --> d.yml:6:68
      |
    6 |   - {action: {type: DELETE}, filter: {type: COUNT, value: 3, unit: DAYS, retainAtLeast: 1}}
      |                                                                    ^^^^
      = expected: `unit` only with the type AGE

    error[conflict]: a COUNT filter has `retainAtLeast`
     --> d.yml:6:89
      |
    6 | ion: {type: DELETE}, filter: {type: COUNT, value: 3, unit: DAYS, retainAtLeast: 1}}
      |                                                                                 ^
      = expected: `retainAtLeast` only with the type AGE
      = hint: `value` of a COUNT filter says already how many are kept

    2 errors
    "#);
    insta::assert_snapshot!(policy("  - {action: {type: DELETE}, filter: {type: COUNT, value: 3}}\n  - {action: {type: DELETE}, filter: {type: COUNT, value: 5}}\n"), @r#"
    error[duplicate-action]: a second policy detail has the action DELETE
     --> d.yml:7:21
      |
    7 |   - {action: {type: DELETE}, filter: {type: COUNT, value: 5}}
      |                     ^^^^^^
      = expected: one policy detail for each action

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: InfrastructureConfiguration\nname: small\nsubnetId: subnet-1\n"), @r#"
    error[missing-key]: the infrastructure configuration has `subnetId` without `securityGroupIds`
     --> d.yml:3:1
      |
    3 | subnetId: subnet-1
      | ^^^^^^^^
      = expected: `securityGroupIds` beside `subnetId`

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: DistributionConfiguration\nname: all\ndistributions: [{region: a, amiDistributionConfiguration: {name: web}}, {region: a}]\n"), @r#"
    error[missing-variable]: the AMI's name has no `{{ imagebuilder:buildDate }}`
     --> d.yml:3:66
      |
    3 | distributions: [{region: a, amiDistributionConfiguration: {name: web}}, {region: a}]
      |                                                                  ^^^
      = expected: the variable, such as web-{{ imagebuilder:buildDate }}
      = hint: an AMI's name is unique in its region: the next build could not be registered

    error[duplicate-region]: a second distribution for the region a
     --> d.yml:3:82
      |
    3 | istributions: [{region: a, amiDistributionConfiguration: {name: web}}, {region: a}]
      |                                                                                 ^
      = expected: one distribution for each region

    2 errors
    "#);
    insta::assert_snapshot!(problems("kind: DistributionConfiguration\nname: all\n"), @r#"
    error[missing-key]: the distribution configuration has neither `distributions` nor `local`
     --> d.yml:1:1
      |
    1 | kind: DistributionConfiguration
      | ^^^^
      = expected: one of them

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: DistributionConfiguration\nname: all\nlocal: {destinations: [{folder: {path: out, latest: true}}]}\n"), @r#"
    error[conflict]: `latest` of `folder` needs folders to point to
     --> d.yml:3:53
      |
    3 | local: {destinations: [{folder: {path: out, latest: true}}]}
      |                                                     ^^^^
      = expected: `layout: versioned` beside it

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: DistributionConfiguration\nname: all\ndistributions: [{region: a, amiDistributionConfiguration: {name: 'web:{{ imagebuilder:buildDate }}'}}]\n"), @r#"
    error[bad-name]: the AMI's name has `:`, which EC2 does not allow
     --> d.yml:3:66
      |
    3 | distributions: [{region: a, amiDistributionConfiguration: {name: 'web:{{ imagebuilder:buildDate }}'}}]
      |                                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: an AMI's name has 3 to 128 of letters, digits, spaces and ( ) [ ] . / - ' @ _

    1 error
    "#);
    insta::assert_snapshot!(problems("kind: ContainerRecipe\nname: web\ncontainerType: DOCKER\nsemanticVersion: 1.0.0\nparentImage: debian:12\ntargetRepository: {service: ECR, repositoryName: web}\ncomponents: [{componentArn: web}]\ndockerfileTemplateData: 'FROM {{{ imagebuilder:parentImage }}}'\n"), @r#"
    error[missing-variable]: the Dockerfile template has no `{{{ imagebuilder:environments }}}`
     --> d.yml:8:25
      |
    8 | dockerfileTemplateData: 'FROM {{{ imagebuilder:parentImage }}}'
      |                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: the variable, because the recipe has components

    error[missing-variable]: the Dockerfile template has no `{{{ imagebuilder:components }}}`
     --> d.yml:8:25
      |
    8 | dockerfileTemplateData: 'FROM {{{ imagebuilder:parentImage }}}'
      |                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: the variable, because the recipe has components

    2 errors
    "#);
}

#[test]
fn documents_in_documents() {
    let component = "\
kind: Component
name: web
semanticVersion: 1.0.0
platform: Linux
data: |
  schemaVersion: 1.0
  phases:
    - name: build
      steps:
        - name: Install
          action: ExecuteBsh
";
    insta::assert_snapshot!(problems(component), @r#"
    error[unknown-action]: unknown action `ExecuteBsh`
      --> d.yml:11:19
       |
    11 |           action: ExecuteBsh
       |                   ^^^^^^^^^^
       = expected: the name of an action module, such as `ExecuteBash`
       = hint: did you mean `ExecuteBash`?

    1 error
    "#);
    insta::assert_snapshot!(problems(r#"{"kind": "Component", "name": "web", "semanticVersion": "1.0.0", "platform": "Linux", "data": "schemaVersion: 1.0\nphases: []\n"}"#), @r#"
    error[empty-value]: web: the component document, line 2: `phases` is empty
     --> d.yml:1:95
      |
    1 | onent", "name": "web", "semanticVersion": "1.0.0", "platform": "Linux", "data": "schemaVersion: 1.0\nphases: []\n"}
      |                                                                                 ^
      = expected: at least one of `build`, `validate` or `test`

    1 error
    "#);
    insta::assert_snapshot!(workflow("- {name: Launch, action: LaunchInstanc, inputs: {waitFor: ssmAgent}}"), @r#"
    error[unknown-action]: unknown action `LaunchInstanc`
     --> d.yml:9:30
      |
    9 |     - {name: Launch, action: LaunchInstanc, inputs: {waitFor: ssmAgent}}
      |                              ^^^^^^^^^^^^^
      = expected: the name of an action, such as `LaunchInstance`
      = hint: did you mean `LaunchInstance`?

    1 error
    "#);
    insta::assert_snapshot!(workflow("- {name: Launch, action: LaunchInstance, inputs: {waitfor: ssmAgent}}"), @r#"
    error[missing-key]: `inputs` of the step `Launch` have no `waitFor`
     --> d.yml:9:55
      |
    9 |     - {name: Launch, action: LaunchInstance, inputs: {waitfor: ssmAgent}}
      |                                                       ^^^^^^^
      = expected: `waitFor`, or `waitFor.$` with a JSON path

    error[unknown-key]: unknown key `waitfor` in `inputs` of the step `Launch`
     --> d.yml:9:55
      |
    9 |     - {name: Launch, action: LaunchInstance, inputs: {waitfor: ssmAgent}}
      |                                                       ^^^^^^^
      = expected: `imageIdOverride`, `instanceTypesOverride` or `waitFor`
      = hint: did you mean `waitFor`?

    2 errors
    "#);
    insta::assert_snapshot!(workflow("- {name: Stop, action: TerminateInstance, inputs: {instanceId.$: $.stepOutputs.Launch.instanceId}}\n- {name: Launch, action: LaunchInstance, inputs: {waitFor: ssmAgent}}"), @r#"
    error[missing-reference]: `$.stepOutputs.Launch.instanceId` refers to the step before it `Launch`, which is not there
     --> d.yml:9:70
      |
    9 |     - {name: Stop, action: TerminateInstance, inputs: {instanceId.$: $.stepOutputs.Launch.instanceId}}
      |                                                                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = expected: the name of a step before it

    1 error
    "#);
    insta::assert_snapshot!(workflow("- {name: Wait, action: WaitForAction, if: {stringEquals: x, value: $.parameters.weit}}"), @r#"
    error[missing-reference]: `$.parameters.weit` refers to the parameter `weit`, which is not there
     --> d.yml:9:72
      |
    9 |     - {name: Wait, action: WaitForAction, if: {stringEquals: x, value: $.parameters.weit}}
      |                                                                        ^^^^^^^^^^^^^^^^^
      = expected: `wait`
      = hint: did you mean `wait`?

    1 error
    "#);
    insta::assert_snapshot!(workflow("- {name: Wait, action: WaitForAction, if: {stringEqual: x, value: y}, timeoutSeconds: 604801}"), @r#"
    error[unknown-key]: unknown key `stringEqual` in the condition
     --> d.yml:9:48
      |
    9 |     - {name: Wait, action: WaitForAction, if: {stringEqual: x, value: y}, timeoutSeconds: 604801}
      |                                                ^^^^^^^^^^^
      = expected: `and`, `or`, `not`, or a comparison such as `stringEquals` beside `value`
      = hint: did you mean `stringEquals`?

    error[out-of-range]: `timeoutSeconds` of the step is 604801
     --> d.yml:9:91
      |
    9 | e: Wait, action: WaitForAction, if: {stringEqual: x, value: y}, timeoutSeconds: 604801}
      |                                                                                 ^^^^^^
      = expected: a whole number from 1 to 604800

    2 errors
    "#);
    insta::assert_snapshot!(workflow("- {name: Send, action: DistributeImage, inputs: {distributions: []}}\n- {name: Send, action: DistributeImage, inputs: {distributions: []}}"), @r#"
    error[wrong-stage]: the action `DistributeImage` has no place in a build workflow
     --> d.yml:9:28
      |
    9 |     - {name: Send, action: DistributeImage, inputs: {distributions: []}}
      |                            ^^^^^^^^^^^^^^^
      = expected: a workflow of type `distribution`

    error[duplicate-step]: a second step is called `Send`
      --> d.yml:10:14
       |
    10 |     - {name: Send, action: DistributeImage, inputs: {distributions: []}}
       |              ^^^^
       = expected: a name of its own

    error[wrong-stage]: the action `DistributeImage` has no place in a build workflow
      --> d.yml:10:28
       |
    10 |     - {name: Send, action: DistributeImage, inputs: {distributions: []}}
       |                            ^^^^^^^^^^^^^^^
       = expected: a workflow of type `distribution`

    3 errors
    "#);
}
