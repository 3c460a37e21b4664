//! What the service publishes about a finished image, in the service's own JSON.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::documents::pipeline::ImageTestsConfiguration;
use crate::documents::{BuildVersion, Version};

/// What is told of an image.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The image's name.
    pub name: String,
    /// The image's id.
    pub arn: String,
    /// Version and build number.
    pub version: BuildVersion,
    /// `AVAILABLE` or `FAILED`.
    pub state: String,
    /// Why, if it failed.
    pub reason: Option<String>,
    /// The recipe's document.
    pub recipe: Value,
    /// The pipeline's id, if one made the image.
    pub pipeline: Option<String>,
    /// The infrastructure configuration's document.
    pub infrastructure: Option<Value>,
    /// The distribution configuration's document.
    pub distribution: Option<Value>,
    /// How it was tested.
    pub tests: ImageTestsConfiguration,
    /// When its build began.
    pub created: Timestamp,
    /// The guest's operating system, as far as it is known.
    pub os_version: Option<String>,
    /// Whether packages are recorded.
    pub enhanced_metadata: bool,
    /// Whether a schedule started the build.
    pub scheduled: bool,
    /// The run that made it.
    pub run: String,
    /// The image's tags.
    pub tags: BTreeMap<String, String>,
    /// Where the finished image is.
    pub folder: Option<Utf8PathBuf>,
}

/// The message. Ids of executions that only EC2 has are absent; where the image lies stands under `local`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'f> {
    versionless_arn: &'f str,
    semver: u128,
    arn: &'f str,
    name: &'f str,
    version: String,
    r#type: &'static str,
    build_version: u32,
    state: Value,
    platform: &'static str,
    image_recipe: &'f Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_pipeline_arn: Option<&'f str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    infrastructure_configuration: Option<&'f Value>,
    image_tests_configuration_document: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    distribution_configuration: Option<&'f Value>,
    date_created: String,
    output_resources: Value,
    build_execution_id: &'f str,
    account_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_version: Option<&'f str>,
    enhanced_image_metadata_enabled: bool,
    build_type: &'static str,
    tags: &'f BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<Value>,
}

/// Ids here have no account; scripts expect twelve digits.
const ACCOUNT: &str = "000000000000";

impl Facts {
    /// The message as JSON.
    ///
    /// # Errors
    /// Only if a document holds what JSON can't.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let version = self.version.version;
        let suffix = format!("/{}", self.version);
        serde_json::to_string(&Message {
            versionless_arn: self.arn.strip_suffix(&suffix).unwrap_or(&self.arn),
            semver: packed(self.version),
            arn: &self.arn,
            name: &self.name,
            version: version.to_string(),
            r#type: "AMI",
            build_version: self.version.build,
            state: match &self.reason {
                Some(reason) => json!({ "status": self.state, "reason": reason }),
                None => json!({ "status": self.state }),
            },
            platform: "Linux",
            image_recipe: &self.recipe,
            source_pipeline_arn: self.pipeline.as_deref(),
            infrastructure_configuration: self.infrastructure.as_ref(),
            image_tests_configuration_document: json!({
                "imageTestsEnabled": self.tests.image_tests_enabled,
                "timeoutMinutes": self.tests.timeout_minutes,
            }),
            distribution_configuration: self.distribution.as_ref(),
            date_created: self.created.strftime("%b %-d, %Y %-I:%M:%S %p").to_string(),
            output_resources: json!({ "amis": [] }),
            build_execution_id: &self.run,
            account_id: ACCOUNT,
            os_version: self.os_version.as_deref(),
            enhanced_image_metadata_enabled: self.enhanced_metadata,
            build_type: if self.scheduled {
                "SCHEDULED"
            } else {
                "USER_INITIATED"
            },
            tags: &self.tags,
            local: self
                .folder
                .as_ref()
                .map(|folder| json!({ "folder": folder })),
        })
    }
}

/// The service packs versions into one number, 30 bits for each node: 1.0.0/3 is 2^90 + 3.
fn packed(version: BuildVersion) -> u128 {
    let Version {
        major,
        minor,
        patch,
    } = version.version;
    [major, minor, patch, version.build]
        .into_iter()
        .fold(0, |packed, node| (packed << 30) | u128::from(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_has_the_services_keys() {
        let facts = Facts {
            name: "Web Server".into(),
            arn: "local:image/web-server/1.0.0/3".into(),
            version: Version::new(1, 0, 0).build(3),
            state: "FAILED".into(),
            reason: Some("the component x failed".into()),
            recipe: json!({ "name": "Web Server", "semanticVersion": "1.0.0" }),
            pipeline: Some("local:image-pipeline/nightly".into()),
            infrastructure: Some(json!({ "name": "small" })),
            distribution: None,
            tests: ImageTestsConfiguration::default(),
            created: "2026-03-03T01:06:22Z".parse().unwrap(),
            os_version: None,
            enhanced_metadata: true,
            scheduled: true,
            run: "5f1c".into(),
            tags: [("team".to_owned(), "web".to_owned())].into(),
            folder: None,
        };
        insta::assert_snapshot!(facts.to_json().unwrap(), @r#"{"versionlessArn":"local:image/web-server","semver":1237940039285380274899124227,"arn":"local:image/web-server/1.0.0/3","name":"Web Server","version":"1.0.0","type":"AMI","buildVersion":3,"state":{"reason":"the component x failed","status":"FAILED"},"platform":"Linux","imageRecipe":{"name":"Web Server","semanticVersion":"1.0.0"},"sourcePipelineArn":"local:image-pipeline/nightly","infrastructureConfiguration":{"name":"small"},"imageTestsConfigurationDocument":{"imageTestsEnabled":true,"timeoutMinutes":720},"dateCreated":"Mar 3, 2026 1:06:22 AM","outputResources":{"amis":[]},"buildExecutionId":"5f1c","accountId":"000000000000","enhancedImageMetadataEnabled":true,"buildType":"SCHEDULED","tags":{"team":"web"}}"#);
    }

    #[test]
    fn versions_are_packed_in_order() {
        let at =
            |major, minor, patch, build| packed(Version::new(major, minor, patch).build(build));
        assert_eq!(at(0, 0, 0, 1), 1);
        assert!(at(1, 2, 3, 9) < at(1, 2, 4, 1));
        assert!(at(1, 1_073_741_823, 0, 1) < at(2, 0, 0, 1));
    }
}
