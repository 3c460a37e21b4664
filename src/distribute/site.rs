//! Where an AMI is made: a region, with the rights of the account that it belongs to.

use aws_config::SdkConfig;
use camino::Utf8Path;

use super::calls::Ec2Call;
use super::plan::{ImportPlan, RegionPlan};
use super::{Journal, Source, Watcher};
use crate::aws::ec2::Ec2;
use crate::error::Result;

/// A region, what is wanted there, and everything that is needed for it.
pub(super) struct Site<'s> {
    pub plan: &'s RegionPlan,
    /// The file that waits for an import, where the disk takes that road.
    pub import: Option<&'s ImportPlan>,
    pub source: &'s Source,
    pub journals: &'s Utf8Path,
    pub aws: SdkConfig,
    pub ec2: Ec2,
    pub watcher: &'s dyn Watcher,
}

impl Site<'_> {
    /// The journal of this destination.
    pub fn journal(&self) -> Result<Journal> {
        let run = &self.source.manifest.run;
        Journal::open(self.journals, run, &self.plan.destination())
    }

    /// Tells whoever watches.
    pub fn note(&self, text: &str) {
        self.watcher.note(&self.plan.destination(), text);
    }

    /// Registers or copies. A name that is taken may be our own doing: the answer to an earlier attempt got lost.
    pub async fn made(&self, call: &Ec2Call) -> Result<String> {
        let name = &self.plan.register.name;
        match self
            .ec2
            .one(call.doing, call.action, &call.parameters, "imageId")
            .await
        {
            Err(failure) if failure.chain().contains("InvalidAMIName.Duplicate") => {
                let snapshot = call
                    .parameters
                    .iter()
                    .find(|(key, _)| key == "BlockDeviceMapping.1.Ebs.SnapshotId");
                let Some((_, snapshot)) = snapshot else {
                    return Err(failure);
                };
                let filters = vec![
                    ("Owner.1".to_owned(), "self".to_owned()),
                    ("Filter.1.Name".into(), "name".into()),
                    ("Filter.1.Value.1".into(), name.clone()),
                    (
                        "Filter.2.Name".into(),
                        "block-device-mapping.snapshot-id".into(),
                    ),
                    ("Filter.2.Value.1".into(), snapshot.clone()),
                ];
                let found = self
                    .ec2
                    .one(
                        "look for the AMI of this name",
                        "DescribeImages",
                        &filters,
                        "imageId",
                    )
                    .await;
                found.map_err(|_| failure)
            }
            made => made,
        }
    }
}
