//! The calls that a plan comes to, with every parameter: made by the executor, and shown by a dry run.

use serde::Serialize;

use super::Source;
use super::plan::{AmiPlan, Delivery, ExportPlan, Plan, RegionPlan, Road};
use super::task::{IMPORT_IMAGE, IMPORT_SNAPSHOT};
use crate::aws::ebs::StartSnapshot;
use crate::aws::ec2::Parameters;

/// A call of EC2's query protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Ec2Call {
    /// For messages: what it does.
    pub doing: &'static str,
    /// Its name.
    pub action: &'static str,
    /// Its parameters.
    pub parameters: Parameters,
}

fn text(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

impl RegionPlan {
    /// StartSnapshot; `token` makes a second start the same snapshot.
    pub fn start(&self, source: &Source, token: &str) -> StartSnapshot {
        // The digest is what a later build looks for, and what tells a person which disk this is.
        let description = format!("{} ({})", source.image(), source.manifest.disk_digest);
        StartSnapshot {
            description: description.chars().take(255).collect(),
            kms_key: self.kms_key_id.clone(),
            tags: self.tags.clone(),
            token: token.to_owned(),
            parent: None,
        }
    }

    /// RegisterImage.
    pub fn register_call(&self, snapshot: &str) -> Ec2Call {
        Ec2Call {
            doing: "register the AMI",
            action: "RegisterImage",
            parameters: self.register.parameters(snapshot),
        }
    }

    /// CopyImage from the first region.
    pub fn copy_call(&self, from: &str, image: &str, token: &str) -> Ec2Call {
        let mut parameters = vec![
            text("SourceRegion", from),
            text("SourceImageId", image),
            text("Name", &self.register.name),
            text("ClientToken", token),
        ];
        if !self.register.description.is_empty() {
            parameters.push(text("Description", &self.register.description));
        }
        if let Some(key) = &self.kms_key_id {
            parameters.push(text("Encrypted", "true"));
            parameters.push(text("KmsKeyId", key));
        }
        Ec2Call {
            doing: "copy the AMI",
            action: "CopyImage",
            parameters,
        }
    }

    /// Tags, permissions and fast launch: calls that may be made twice without harm.
    pub fn attribute_calls(&self, image: &str, snapshot: &str) -> Vec<Ec2Call> {
        let mut calls = Vec::new();
        if !self.tags.is_empty() {
            let mut parameters = vec![text("ResourceId.1", image)];
            // The service's role in other accounts may tag AMIs alone.
            if self.account.is_none() {
                parameters.push(text("ResourceId.2", snapshot));
            }
            for (number, (key, value)) in (1..).zip(&self.tags) {
                parameters.push((format!("Tag.{number}.Key"), key.clone()));
                parameters.push((format!("Tag.{number}.Value"), value.clone()));
            }
            calls.push(Ec2Call {
                doing: "tag the AMI",
                action: "CreateTags",
                parameters,
            });
        }
        if !self.launch_permission.is_empty() {
            let mut parameters = vec![text("ImageId", image)];
            parameters.extend(self.launch_permission.iter().cloned());
            calls.push(Ec2Call {
                doing: "permit launching the AMI",
                action: "ModifyImageAttribute",
                parameters,
            });
        }
        if !self.volume_permission.is_empty() {
            let mut parameters = vec![
                text("SnapshotId", snapshot),
                text("Attribute", "createVolumePermission"),
            ];
            parameters.extend(self.volume_permission.iter().cloned());
            calls.push(Ec2Call {
                doing: "permit volumes of the snapshot",
                action: "ModifySnapshotAttribute",
                parameters,
            });
        }
        if let Some(launch) = &self.fast_launch {
            let mut parameters = vec![text("ImageId", image)];
            parameters.extend(launch.iter().cloned());
            calls.push(Ec2Call {
                doing: "enable fast launch",
                action: "EnableFastLaunch",
                parameters,
            });
        }
        calls
    }

    /// ExportImage.
    pub fn export_call(export: &ExportPlan, image: &str, token: &str) -> Ec2Call {
        let mut parameters = vec![
            text("ImageId", image),
            text("ClientToken", token),
            text("DiskImageFormat", &export.format),
            text("RoleName", &export.role),
            text("S3ExportLocation.S3Bucket", &export.bucket),
        ];
        if !export.prefix.is_empty() {
            parameters.push(text("S3ExportLocation.S3Prefix", &export.prefix));
        }
        Ec2Call {
            doing: "export the AMI to a bucket",
            action: "ExportImage",
            parameters,
        }
    }

    /// CreateLaunchTemplateVersion. The token names template and AMI: two templates are two requests.
    pub fn template_call(template: &str, image: &str) -> Ec2Call {
        Ec2Call {
            doing: "add a version to the launch template",
            action: "CreateLaunchTemplateVersion",
            parameters: vec![
                text("LaunchTemplateId", template),
                text("SourceVersion", "$Latest"),
                text("LaunchTemplateData.ImageId", image),
                text("ClientToken", &format!("{image}-{template}")),
            ],
        }
    }

    /// ModifyLaunchTemplate.
    pub fn default_call(template: &str, version: &str) -> Ec2Call {
        Ec2Call {
            doing: "set the launch template's default",
            action: "ModifyLaunchTemplate",
            parameters: vec![
                text("LaunchTemplateId", template),
                text("SetDefaultVersion", version),
            ],
        }
    }
}

/// A call as a dry run shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The destination that it belongs to.
    pub destination: String,
    /// `ec2`, `ebs`, `s3`, `ssm`, …; `file` for folders.
    pub service: &'static str,
    /// The call.
    pub action: String,
    /// Its parameters. What only an earlier call tells stands in angle brackets.
    pub parameters: Parameters,
}

/// Every call of a plan, in the order in which they are made.
pub fn of_plan(plan: &Plan, source: &Source) -> Vec<Shown> {
    let mut shown = Vec::new();
    for delivery in &plan.deliveries {
        match delivery {
            Delivery::Folder(folder) => shown.extend(folder.files.iter().map(|file| Shown {
                destination: folder.name.clone(),
                service: "file",
                action: "copy".into(),
                parameters: vec![
                    text("from", source.folder.join(file).as_str()),
                    text("to", folder.folder.join(file).as_str()),
                ],
            })),
            Delivery::S3(bucket) => shown.extend(super::s3::calls(bucket, source)),
            Delivery::Registry(registry) => shown.push(super::registry::call(registry)),
            Delivery::Ami(ami) => {
                let origin = ami.regions.first().map(|region| region.region.as_str());
                for (index, region) in ami.regions.iter().enumerate() {
                    let from = origin.filter(|_| index > 0);
                    of_region(region, from, ami, source, &mut shown);
                }
                for region in &ami.regions {
                    for account in &region.accounts {
                        let from = Some(region.region.as_str());
                        of_region(account, from, ami, source, &mut shown);
                    }
                }
            }
        }
    }
    shown
}

fn of_region(
    region: &RegionPlan,
    from: Option<&str>,
    ami: &AmiPlan,
    source: &Source,
    shown: &mut Vec<Shown>,
) {
    let destination = region.destination();
    if from.is_none()
        && let Some(import) = ami.road.import()
    {
        shown.extend(
            super::s3::calls(&import.upload, source)
                .into_iter()
                .map(|call| Shown {
                    destination: destination.clone(),
                    ..call
                }),
        );
    }
    let mut push = |service, action: &str, parameters| {
        shown.push(Shown {
            destination: destination.clone(),
            service,
            action: action.to_owned(),
            parameters,
        });
    };
    let (image, snapshot) = ("<image>", "<snapshot>");
    if let Some(account) = &region.account {
        push(
            "sts",
            "AssumeRole",
            vec![text("RoleArn", &super::ami::role(&region.region, account))],
        );
    }
    match (from, &ami.road) {
        (Some(from), _) => {
            let origin = match region.account {
                Some(_) => "<image of the region>",
                None => "<image of the first region>",
            };
            let call = region.copy_call(from, origin, "<token>");
            push("ec2", call.action, call.parameters);
        }
        (None, Road::EbsDirect) => {
            let start = region.start(source, "<token>");
            let gib = ami.virtual_size.div_ceil(1 << 30).max(1);
            push("ebs", "StartSnapshot", start.parameters(gib));
            push(
                "ebs",
                "PutSnapshotBlock",
                vec![
                    text("SnapshotId", snapshot),
                    text("BlockIndex", "<each block that is not zero>"),
                    text("DataLength", &crate::aws::ebs::BLOCK.to_string()),
                    text("ChecksumAlgorithm", "SHA256"),
                ],
            );
            push(
                "ebs",
                "CompleteSnapshot",
                vec![
                    text("SnapshotId", snapshot),
                    text("ChangedBlocksCount", "<blocks>"),
                    text("ChecksumAggregationMethod", "LINEAR"),
                ],
            );
            push(
                "ec2",
                "DescribeSnapshots",
                vec![text("SnapshotId.1", snapshot)],
            );
            let call = region.register_call(snapshot);
            push("ec2", call.action, call.parameters);
        }
        (None, Road::ImportSnapshot(import)) => {
            let call = region.import_call(import, IMPORT_SNAPSHOT.describe, source);
            push("ec2", call.action, call.parameters);
            push(
                "ec2",
                IMPORT_SNAPSHOT.describe,
                vec![text(IMPORT_SNAPSHOT.parameter, "<task>")],
            );
            let call = region.register_call(snapshot);
            push("ec2", call.action, call.parameters);
        }
        (None, Road::ImportImage(import)) => {
            let call = region.import_call(import, IMPORT_IMAGE.describe, source);
            push("ec2", call.action, call.parameters);
            push(
                "ec2",
                IMPORT_IMAGE.describe,
                vec![text(IMPORT_IMAGE.parameter, "<task>")],
            );
            let call = region.copy_call(&region.region, "<imported image>", "<token>");
            push("ec2", call.action, call.parameters);
        }
    }
    push("ec2", "DescribeImages", vec![text("ImageId.1", image)]);
    for call in region.attribute_calls(image, snapshot) {
        push("ec2", call.action, call.parameters);
    }
    for (template, default) in &region.launch_templates {
        let call = RegionPlan::template_call(template, image);
        push("ec2", call.action, call.parameters);
        if *default {
            let call = RegionPlan::default_call(template, "<version>");
            push("ec2", call.action, call.parameters);
        }
    }
    for license in &region.licenses {
        push(
            "license-manager",
            "UpdateLicenseSpecificationsForResource",
            vec![
                text("LicenseConfigurationArn", license),
                text("ImageId", image),
            ],
        );
    }
    if let Some(export) = &region.export {
        let call = RegionPlan::export_call(export, image, "<token>");
        push("ec2", call.action, call.parameters);
    }
    for (name, data_type) in &region.parameters {
        push(
            "ssm",
            "PutParameter",
            vec![
                text("Name", name),
                text("Value", image),
                text("Type", "String"),
                text("DataType", data_type),
                text("Overwrite", "true"),
            ],
        );
    }
}
