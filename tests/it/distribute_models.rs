//! Every call against the models of the AWS CLI itself: names of calls and parameters, and the types of their values. A server
//! that stands in for AWS may take what AWS does not.

use crate::distribute::{command, image, json, usual};
use crate::setup::{self, tool, tool_in};

/// Checks calls as a dry run shows them: flat parameters as EC2's query protocol has them, those of the others by their members.
const CHECK: &str = r#"
import json, sys
import botocore.session
session = botocore.session.get_session()
models = {}
def model(service):
    if service not in models:
        models[service] = session.get_service_model({"ebs": "ebs", "ec2": "ec2", "ssm": "ssm", "s3": "s3", "sts": "sts"}.get(service, service))
    return models[service]
def wire(name, shape):
    by_query = shape.serialization.get("queryName")
    if by_query:
        return by_query
    location = shape.serialization.get("name")
    return location[0].upper() + location[1:] if location else name
def find(shape, path):
    head, rest = path[0], path[1:]
    for name, member in shape.members.items():
        if wire(name, member) == head:
            break
    else:
        return None
    if member.type_name == "list":
        if not rest or not rest[0].isdigit():
            return None
        member, rest = member.member, rest[1:]
    if not rest:
        return member
    return find(member, rest) if member.type_name == "structure" else None
problems, checked = [], 0
for call in json.load(sys.stdin):
    service, action = call["service"], call["action"]
    if service not in ("ec2", "ebs", "ssm", "s3", "sts", "license-manager"):
        continue
    operations = model(service).operation_names
    if action not in operations:
        problems.append(f"{service} has no {action}")
        continue
    shape = model(service).operation_model(action).input_shape
    given = set()
    for key, value in call["parameters"]:
        checked += 1
        if service == "ec2":
            member = find(shape, key.split("."))
        elif service == "s3" and key in ("ContentLength", "Checksum", "Parts", "PartSize"):
            continue
        elif service == "license-manager":
            continue
        else:
            member = shape.members.get(key.split(".")[0])
        if member is None:
            problems.append(f"{action} has no {key}")
            continue
        given.add(key.split(".")[0])
        if value.startswith("<"):
            continue
        if member.type_name == "boolean" and value not in ("true", "false"):
            problems.append(f"{action} {key} is no boolean: {value}")
        if member.type_name in ("integer", "long") and not value.isdigit():
            problems.append(f"{action} {key} is no number: {value}")
        words = getattr(member, "enum", [])
        if words and value not in words:
            problems.append(f"{action} {key} is {value}, not one of {words}")
    if service in ("ec2", "ssm"):
        for name in shape.required_members:
            if wire(name, shape.members[name]) not in given and name not in given:
                problems.append(f"{action} lacks {name}")
print(json.dumps({"checked": checked, "problems": problems}))
"#;

#[test]
fn calls_fit_the_models_of_the_aws_cli() {
    let setup = setup::empty();
    image(&setup.path().join("image"), 1, &usual());
    let regions = "distributions:\n- region: eu-central-1\n  amiDistributionConfiguration:\n    description: web\n    amiTags: {a: b}\n    \
        kmsKeyId: alias/images\n    targetAccountIds: ['111122223333']\n    \
        launchPermission: {userIds: ['444455556666'], userGroups: [all], organizationArns: ['arn:aws:organizations::123456789012:organization/o-0123456789'], \
        organizationalUnitArns: ['arn:aws:organizations::123456789012:ou/o-0123456789/ou-0123-01234567']}\n  \
        launchTemplateConfigurations: [{launchTemplateId: lt-0123456789abcdef0}]\n  \
        fastLaunchConfigurations: [{enabled: true, maxParallelLaunches: 6, snapshotConfiguration: {targetResourceCount: 3}, \
        launchTemplate: {launchTemplateName: web, launchTemplateVersion: '1'}}]\n  \
        ssmParameterConfigurations: [{parameterName: /web, dataType: text}]\n  \
        s3ExportConfiguration: {roleName: vmimport, diskImageFormat: VMDK, s3Bucket: exports, s3Prefix: p/}\n- region: us-east-1\n";
    let mut seen = std::collections::BTreeSet::new();
    for road in ["ebsDirect", "importSnapshot", "importImage"] {
        let text = format!(
            "kind: DistributionConfiguration\nname: here\n{regions}local:\n  amis: {{road: {road}, bucket: imports}}\n"
        );
        std::fs::write(setup.path().join("to.yaml"), text).unwrap();
        let arguments = ["distribute", "image", "--to", "to.yaml", "--dry-run"];
        let plan = json(
            &command(&setup, "http://127.0.0.1:9", &arguments)
                .output()
                .unwrap(),
        );
        let calls = setup.file("calls.json", &plan["calls"].to_string());
        for call in plan["calls"].as_array().unwrap() {
            seen.insert(call["action"].as_str().unwrap().to_owned());
        }
        let script = setup.file("check.py", CHECK);
        let python = tool_in("python3");
        let python = python.to_str().unwrap();
        let run = format!("{python} {script} < {calls}");
        let told: serde_json::Value = serde_json::from_str(&tool("sh", &["-c", &run])).unwrap();
        assert_eq!(told["problems"], serde_json::json!([]), "{road}");
        assert!(told["checked"].as_u64().unwrap() > 60, "{told}");
    }
    for action in [
        "CopyImage",
        "EnableFastLaunch",
        "ExportImage",
        "ImportImage",
        "ImportSnapshot",
        "ModifyImageAttribute",
        "ModifySnapshotAttribute",
        "RegisterImage",
        "StartSnapshot",
    ] {
        assert!(seen.contains(action), "{action} was not among {seen:?}");
    }
}
