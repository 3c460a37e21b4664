//! The actions of workflow documents: where they may stand, how long they may take, what goes in and out.

use super::arn::WorkflowType::{self, Build, Distribution, Test};

/// An action.
#[derive(Debug)]
pub struct ActionSpec {
    /// Its name in a document.
    pub name: &'static str,
    /// The types of workflows it may stand in.
    pub stages: &'static [WorkflowType],
    /// Minutes it may take if the step says nothing.
    pub default_minutes: u32,
    /// Minutes it may take at most.
    pub most_minutes: u32,
    /// Its inputs; `*` at the end of a name: must be given.
    pub inputs: &'static [&'static str],
    /// Its outputs.
    pub outputs: &'static [&'static str],
}

const RUN: &[&str] = &["runCommandId", "status", "output"];
const ALL: &[WorkflowType] = &[Build, Test, Distribution];

/// All actions.
pub const ACTIONS: &[ActionSpec] = &[
    action(
        "ApplyImageConfigurations",
        &[Distribution],
        (360, 720),
        &["distributedImages*", "configurations"],
        &["configuredImages"],
    ),
    action(
        "BootstrapInstanceForContainer",
        &[Build, Test],
        (60, 720),
        &["instanceId*"],
        RUN,
    ),
    action(
        "CollectImageMetadata",
        &[Build],
        (30, 720),
        &["instanceId*"],
        &["osVersion", "associationId"],
    ),
    action(
        "CollectImageScanFindings",
        &[Test],
        (120, 720),
        &["instanceId*"],
        RUN,
    ),
    action(
        "CreateImage",
        &[Build],
        (720, 4320),
        &["instanceId*"],
        &["imageId"],
    ),
    action(
        "DistributeImage",
        &[Distribution],
        (360, 720),
        &["distributions*"],
        &["distributedImages"],
    ),
    action(
        "ExecuteComponents",
        &[Build, Test],
        (720, 1440),
        &["instanceId*"],
        RUN,
    ),
    action(
        "ExecuteStateMachine",
        ALL,
        (360, 1440),
        &["stateMachineArn*", "input"],
        &["executionArn", "output"],
    ),
    action(
        "LaunchInstance",
        &[Build, Test],
        (75, 720),
        &["imageIdOverride", "instanceTypesOverride", "waitFor*"],
        &["instanceId"],
    ),
    action(
        "ModifyImageAttributes",
        &[Distribution],
        (120, 180),
        &["distributedImages*", "attributes"],
        &["modifiedImages"],
    ),
    action(
        "RegisterImage",
        &[Build],
        (540, 720),
        &[
            "architecture",
            "blockDeviceMapping",
            "bootMode",
            "cpuOptions",
            "description",
            "enaSupport",
            "imdsSupport",
            "kernelId",
            "ramdiskId",
            "rootDeviceName",
            "snapshotId",
            "sriovNetSupport",
            "tpmSupport",
            "uefiData",
            "virtualizationType",
        ],
        &["imageId"],
    ),
    action(
        "RunCommand",
        &[Build, Test],
        (720, 720),
        &[
            "instanceId*",
            "documentName*",
            "parameters",
            "documentVersion",
        ],
        RUN,
    ),
    action("RunSysPrep", &[Build], (60, 720), &["instanceId*"], RUN),
    action(
        "SanitizeInstance",
        &[Build],
        (60, 720),
        &["instanceId*"],
        RUN,
    ),
    action(
        "TerminateInstance",
        &[Build, Test],
        (30, 720),
        &["instanceId*"],
        &[],
    ),
    action(
        "WaitForAction",
        ALL,
        (4320, 10_080),
        &["snsTopicArn", "lambdaFunctionName", "payload"],
        &["action", "reason"],
    ),
    action(
        "WaitForSSMAgent",
        &[Build, Test],
        (60, 180),
        &["instanceId*"],
        &[],
    ),
];

const fn action(
    name: &'static str,
    stages: &'static [WorkflowType],
    (default_minutes, most_minutes): (u32, u32),
    inputs: &'static [&'static str],
    outputs: &'static [&'static str],
) -> ActionSpec {
    ActionSpec {
        name,
        stages,
        default_minutes,
        most_minutes,
        inputs,
        outputs,
    }
}

/// The action of a name.
pub fn find(name: &str) -> Option<&'static ActionSpec> {
    ACTIONS.iter().find(|action| action.name == name)
}

/// What `$.imagebuilder` knows.
pub const VARIABLES: &[&str] = &[
    "cloudWatchLogGroup",
    "cloudWatchLogStream",
    "collectImageMetadata",
    "collectImageScanFindings",
    "dateTime",
    "imageBuildNumber",
    "imageId",
    "imageName",
    "imageType",
    "imageVersionNumber",
    "instanceProfileName",
    "platform",
    "s3Logs",
    "securityGroups",
    "sourceImageARN",
    "subnetId",
    "terminateInstanceOnFailure",
    "workflowPhase",
    "workingDirectory",
];
