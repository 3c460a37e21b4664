//! Holding what is applied to the quotas of the home.

use ovenbird_component::source::Diagnostics;
use rusqlite::Connection;

use super::Store;
use super::resources::types_of;
use crate::documents::quota::key_of;
use crate::documents::{Body, Document, Kind};

impl Store {
    /// Complains about documents that would go beyond a quota; they are in the store already, in a transaction that will
    /// not be committed then.
    pub(super) fn check_quotas(
        &self,
        connection: &Connection,
        documents: &[&Document],
        problems: &mut Diagnostics,
    ) -> rusqlite::Result<()> {
        for kind in Kind::ALL {
            // The last one of a kind is as good as any to complain about.
            let Some(document) = documents.iter().rfind(|document| document.kind() == kind) else {
                continue;
            };
            let names: u32 = connection.query_row(
                &format!(
                    "SELECT count(DISTINCT kind || '/' || slug) FROM resource WHERE kind IN {}",
                    types_of(kind).sql()
                ),
                [],
                |row| row.get(0),
            )?;
            let quota = self.settings().quota(key_of(kind));
            if u64::from(names) > quota {
                problems.push(
                    document
                        .error(
                            "quota",
                            "/name",
                            format!("there would be {names} {}s", kind.words()),
                        )
                        .expected(format!("at most {quota}"))
                        .hint(format!(
                            "`{}` under `[quotas]` in the home's config.toml changes the limit",
                            key_of(kind)
                        )),
                );
            }
        }
        for document in documents {
            for (key, pointer, count, what) in counted(document) {
                let quota = self.settings().quota(key);
                if u64::try_from(count).unwrap_or(u64::MAX) > quota {
                    problems.push(
                        document
                            .error("quota", &pointer, format!("it has {count} {what}"))
                            .expected(format!("at most {quota}"))
                            .hint(format!(
                                "`{key}` under `[quotas]` in the home's config.toml changes the limit"
                            )),
                    );
                }
            }
        }
        Ok(())
    }
}

/// What quotas count inside a document: the quota's key, where, how many, and of what.
fn counted(document: &Document) -> Vec<(&'static str, String, usize, &'static str)> {
    let mut counts = vec![(
        "tagsPerResource",
        "/tags".into(),
        document.tags().len(),
        "tags",
    )];
    let mut add = |key, pointer: &str, count, what| counts.push((key, pointer.into(), count, what));
    match &document.body {
        Body::ImageRecipe(recipe) => {
            let count = recipe.components.len();
            add("componentsPerRecipe", "/components", count, "components");
        }
        Body::ContainerRecipe(recipe) => {
            let count = recipe.components.len();
            add("componentsPerRecipe", "/components", count, "components");
        }
        Body::InfrastructureConfiguration(configuration) => {
            let count = configuration.resource_tags.len();
            add("tagsPerBuildHost", "/resourceTags", count, "resource tags");
        }
        Body::DistributionConfiguration(configuration) => {
            let mut copies = 0;
            for (index, region) in configuration.distributions.iter().enumerate() {
                let at = |field| format!("/distributions/{index}/{field}");
                let count = region.launch_template_configurations.len();
                let pointer = at("launchTemplateConfigurations");
                add(
                    "launchTemplatesPerRegion",
                    &pointer,
                    count,
                    "launch templates for the region",
                );
                let count = region.ssm_parameter_configurations.len();
                let pointer = at("ssmParameterConfigurations");
                add(
                    "ssmParametersPerRegion",
                    &pointer,
                    count,
                    "SSM parameters for the region",
                );
                if let Some(ami) = &region.ami_distribution_configuration {
                    copies += 1 + ami.target_account_ids.len();
                }
            }
            add(
                "amiCopiesPerDistribution",
                "/distributions",
                copies,
                "copies of the AMI",
            );
        }
        _ => {}
    }
    counts
}
