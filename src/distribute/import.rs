//! The roads by a file in a bucket: ImportSnapshot, for accounts in which the EBS direct APIs are closed, and ImportImage,
//! which changes what is in the disk.

use super::calls::Ec2Call;
use super::plan::{ImportPlan, RegionPlan};
use super::site::Site;
use super::task::{IMPORT_IMAGE, IMPORT_SNAPSHOT, TaskKind, wait};
use super::{Journal, Source, s3};
use crate::aws::xml;
use crate::error::Result;

impl Site<'_> {
    /// Imports the disk as a snapshot and waits for it; gives its id and the bytes that were sent.
    pub(super) async fn import_snapshot(
        &self,
        plan: &ImportPlan,
        journal: &mut Journal,
    ) -> Result<(String, u64)> {
        self.forget_if_gone(journal).await?;
        if let (Some(id), true) = (&journal.snapshot, journal.completed) {
            self.ec2.wait(id).await?;
            return Ok((id.clone(), 0));
        }
        let (snapshot, bytes) = self.imported(plan, &IMPORT_SNAPSHOT, journal).await?;
        journal.imported(&snapshot)?;
        self.ec2.wait(&snapshot).await?;
        Ok((snapshot, bytes))
    }

    /// Imports the disk as an AMI and copies it to its own name: the service names imported ones by the task.
    pub(super) async fn import_image(
        &self,
        plan: &ImportPlan,
        journal: &mut Journal,
    ) -> Result<(String, u64)> {
        let there = match &journal.imported {
            Some(image) => self.ec2.state(image).await?.map(|_| image.clone()),
            None => None,
        };
        let (image, bytes) = match there {
            Some(image) => (image, 0),
            None => {
                let (image, bytes) = self.imported(plan, &IMPORT_IMAGE, journal).await?;
                journal.imported(&image)?;
                (image, bytes)
            }
        };
        self.ec2.wait(&image).await?;
        let token = journal.starting()?;
        let call = self.plan.copy_call(&self.plan.region, &image, &token);
        Ok((self.made(&call).await?, bytes))
    }

    /// Removes what an import needed: the file in the bucket, unless it is to stay, and the AMI under the service's name.
    pub(super) async fn clear_import(&self, journal: &mut Journal) -> Result<()> {
        if let Some(image) = journal.imported.clone() {
            let one = |key: &str, id: &str| vec![(key.to_owned(), id.to_owned())];
            if self.ec2.state(&image).await?.is_some() {
                let answer = self
                    .ec2
                    .must(
                        "ask for the imported AMI",
                        "DescribeImages",
                        &one("ImageId.1", &image),
                    )
                    .await?;
                self.ec2
                    .must(
                        "deregister the imported AMI",
                        "DeregisterImage",
                        &one("ImageId", &image),
                    )
                    .await?;
                for snapshot in xml::texts(&answer, "snapshotId") {
                    self.ec2
                        .must(
                            "delete its snapshot",
                            "DeleteSnapshot",
                            &one("SnapshotId", &snapshot),
                        )
                        .await?;
                }
            }
            journal.gone(&image)?;
        }
        let Some(plan) = self.import else {
            return Ok(());
        };
        if !plan.keep {
            let run = &self.source.manifest.run;
            s3::remove(&plan.upload, run, self.journals, &self.aws).await?;
        }
        Ok(())
    }

    /// Brings a task to its end: one that runs already, or a new one after the file was put into the bucket.
    async fn imported(
        &self,
        plan: &ImportPlan,
        kind: &TaskKind,
        journal: &mut Journal,
    ) -> Result<(String, u64)> {
        let description = description(self.source);
        let mut bytes = 0;
        let task = match journal.import.clone() {
            Some(task) => task,
            // The answer that named it may have got lost.
            None => match self.running(kind, &description).await? {
                Some(task) => task,
                None => {
                    self.preflight(plan, kind).await?;
                    let (upload, file) = (&plan.upload, &plan.file);
                    (_, bytes) = s3::put(
                        upload,
                        file,
                        self.source,
                        self.journals,
                        &self.aws,
                        self.watcher,
                    )
                    .await?;
                    let mut call = self.plan.import_call(plan, kind.describe, self.source);
                    call.parameters
                        .push(("ClientToken".into(), journal.starting()?));
                    self.ec2
                        .one(call.doing, call.action, &call.parameters, kind.id)
                        .await?
                }
            },
        };
        if journal.import.as_ref() == Some(&task) || bytes == 0 {
            self.note(&format!("waits for {task}"));
        }
        if journal.import.as_ref() != Some(&task) {
            journal.importing(&task)?;
        }
        let told = |text: &str| self.note(text);
        match wait(&self.ec2, kind, &task, &told).await {
            Ok(result) => Ok((result, bytes)),
            Err(ended) => {
                if ended.is_final {
                    journal.gone(&task)?;
                }
                Err(ended.failure)
            }
        }
    }

    /// A task of this description that is not at its end.
    async fn running(&self, kind: &TaskKind, description: &str) -> Result<Option<String>> {
        let mut next: Option<String> = None;
        loop {
            let parameters = next
                .iter()
                .map(|token| ("NextToken".to_owned(), token.clone()))
                .collect();
            let answer = self
                .ec2
                .must("look for a task that runs", kind.describe, &parameters)
                .await?;
            for item in xml::elements(&answer, "item") {
                let first = |name| xml::texts(item, name).into_iter().next();
                let live = matches!(
                    first("status").as_deref(),
                    Some(
                        "active"
                            | "pending"
                            | "updating"
                            | "validating"
                            | "validated"
                            | "converting"
                    )
                );
                if live && first("description").as_deref() == Some(description) {
                    return Ok(first(kind.id));
                }
            }
            next = xml::texts(&answer, "nextToken")
                .into_iter()
                .find(|token| !token.is_empty());
            if next.is_none() {
                return Ok(None);
            }
        }
    }
}

impl RegionPlan {
    /// ImportSnapshot, or ImportImage if that is what `describe` is about. The token comes when it is made.
    pub fn import_call(&self, plan: &ImportPlan, describe: &str, source: &Source) -> Ec2Call {
        let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let of_image = describe == IMPORT_IMAGE.describe;
        let container = if of_image {
            "DiskContainer.1"
        } else {
            "DiskContainer"
        };
        let within = |field: &str, value: &str| (format!("{container}.{field}"), value.to_owned());
        let key = format!("{}{}", plan.upload.prefix, plan.file);
        let mut parameters = vec![
            text("Description", &description(source)),
            text("RoleName", &plan.role),
            within("Format", &plan.format),
            within("UserBucket.S3Bucket", &plan.upload.bucket),
            within("UserBucket.S3Key", &key),
        ];
        if let Some(key) = &self.kms_key_id {
            parameters.push(text("Encrypted", "true"));
            parameters.push(text("KmsKeyId", key));
        }
        if of_image {
            parameters.push(text("Architecture", &self.register.architecture));
            // Without it a task of a UEFI disk may never end.
            parameters.push(text("Platform", "Linux"));
            parameters.push(text("BootMode", &plan.boot_mode));
        }
        let (doing, action) = match of_image {
            true => ("import the disk as an AMI", "ImportImage"),
            false => ("import the disk as a snapshot", "ImportSnapshot"),
        };
        Ec2Call {
            doing,
            action,
            parameters,
        }
    }
}

/// What a task is found again by: its description is the only thing of ours that the service keeps.
fn description(source: &Source) -> String {
    format!("{} ({})", source.image(), source.manifest.run)
}
