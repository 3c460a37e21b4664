//! What comes when an AMI is there: tags, permissions, launch templates, licenses, parameters, an exported disk.

use aws_config::Region;
use aws_sdk_ssm::error::DisplayErrorContext;
use aws_sdk_ssm::types::ParameterType;

use super::Journal;
use super::plan::RegionPlan;
use super::site::Site;
use super::task::{EXPORT, wait};
use crate::aws::json::Json;
use crate::error::{Failure, Result};

impl Site<'_> {
    /// Tags, permissions, launch templates, licenses and parameters; all of them may be done twice without harm.
    pub(super) async fn finish(&self, image: &str, journal: &mut Journal) -> Result<()> {
        let (region, ec2) = (self.plan, &self.ec2);
        let described = vec![("ImageId.1".to_owned(), image.to_owned())];
        let snapshot = ec2
            .one(
                "ask for the AMI",
                "DescribeImages",
                &described,
                "snapshotId",
            )
            .await?;
        for call in region.attribute_calls(image, &snapshot) {
            ec2.must(call.doing, call.action, &call.parameters).await?;
        }
        for (template, set_default) in &region.launch_templates {
            let key = (template.clone(), image.to_owned());
            let version = match journal.templates.get(&key) {
                Some(version) => version.clone(),
                None => {
                    let call = RegionPlan::template_call(template, image);
                    let version = ec2
                        .one(call.doing, call.action, &call.parameters, "versionNumber")
                        .await?;
                    journal.templated(template, image, &version)?;
                    version
                }
            };
            if *set_default {
                let call = RegionPlan::default_call(template, &version);
                ec2.must(call.doing, call.action, &call.parameters).await?;
            }
        }
        if !region.licenses.is_empty() {
            self.license(image).await?;
        }
        let config = aws_sdk_ssm::config::Builder::from(&self.aws)
            .region(Region::new(region.region.clone()))
            .build();
        let ssm = aws_sdk_ssm::Client::from_conf(config);
        for (name, data_type) in &region.parameters {
            ssm.put_parameter()
                .name(name)
                .value(image)
                .r#type(ParameterType::String)
                .data_type(data_type)
                .overwrite(true)
                .send()
                .await
                .map_err(|error| {
                    Failure::environment(format!(
                        "cannot set the SSM parameter {name} in {}: {}",
                        region.region,
                        DisplayErrorContext(&error)
                    ))
                })?;
        }
        Ok(())
    }

    /// Attaches license configurations to an AMI.
    async fn license(&self, image: &str) -> Result<()> {
        let region = self.plan;
        let partition = crate::aws::partition(&region.region);
        let add: Vec<_> = region
            .licenses
            .iter()
            .map(|license| serde_json::json!({"LicenseConfigurationArn": license}))
            .collect();
        let body = serde_json::json!({
            "ResourceArn": format!("arn:{partition}:ec2:{}::image/{image}", region.region),
            "AddLicenseSpecifications": add,
        });
        Json::new(
            &self.aws,
            "license-manager",
            "AWSLicenseManager",
            &region.region,
        )?
        .call("UpdateLicenseSpecificationsForResource", &body)
        .await
        .map(drop)
        .map_err(|error| {
            error.into_failure(&format!("attach licenses to the AMI in {}", region.region))
        })
    }

    /// Lets the service write the AMI as a file into a bucket; gives where it is. The task goes on without us, so another
    /// attempt waits for the same one.
    pub(super) async fn export(
        &self,
        image: &str,
        journal: &mut Journal,
    ) -> Result<Option<String>> {
        let Some(export) = &self.plan.export else {
            return Ok(None);
        };
        let task = match journal.exports.get(image) {
            Some(task) => task.clone(),
            None => {
                let token = journal.starting()?;
                let call = RegionPlan::export_call(export, image, &token);
                let task = self
                    .ec2
                    .one(call.doing, call.action, &call.parameters, EXPORT.id)
                    .await?;
                journal.exporting(image, &task)?;
                task
            }
        };
        let told = |text: &str| self.note(text);
        match wait(&self.ec2, &EXPORT, &task, &told).await {
            Ok(_) => {}
            Err(ended) => {
                if ended.is_final {
                    journal.gone(&task)?;
                }
                return Err(ended.failure);
            }
        }
        let extension = export.format.to_lowercase();
        Ok(Some(format!(
            "s3://{}/{}{task}.{extension}",
            export.bucket, export.prefix
        )))
    }
}
