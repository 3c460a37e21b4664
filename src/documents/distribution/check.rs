//! What the tables of a distribution configuration cannot say.

use ovenbird_component::source::Span;

use super::{AmiRoad, Destination, DistributionConfiguration, FolderLayout};
use crate::ami_name;
use crate::documents::shape::Reader;

/// Most launch templates and SSM parameters of one region, and most copies of an AMI, by the service's quotas.
const MOST_TEMPLATES: usize = 5;
const MOST_PARAMETERS: usize = 10;
const MOST_COPIES: usize = 50;

/// Checks what the tables cannot say.
pub fn check(reader: &Reader<'_>, configuration: &DistributionConfiguration) {
    let mut regions: Vec<&str> = Vec::new();
    let mut copies = 0;
    for (index, distribution) in configuration.distributions.iter().enumerate() {
        let at = |field: &str| reader.place(&format!("/distributions/{index}/{field}"));
        if regions.contains(&distribution.region.as_str()) {
            reader.report(
                reader
                    .error(
                        "duplicate-region",
                        at("region"),
                        format!(
                            "a second distribution for the region {}",
                            distribution.region
                        ),
                    )
                    .expected("one distribution for each region"),
            );
        }
        regions.push(&distribution.region);
        for (field, count, most) in [
            (
                "launchTemplateConfigurations",
                distribution.launch_template_configurations.len(),
                MOST_TEMPLATES,
            ),
            (
                "ssmParameterConfigurations",
                distribution.ssm_parameter_configurations.len(),
                MOST_PARAMETERS,
            ),
        ] {
            if count > most {
                reader.report(
                    reader
                        .warning(
                            "over-quota",
                            at(field),
                            format!("the distribution has {count} {field}"),
                        )
                        .expected(format!(
                            "at most {most} for one region by the service's default quota"
                        )),
                );
            }
        }
        let Some(ami) = &distribution.ami_distribution_configuration else {
            continue;
        };
        copies += 1 + ami.target_account_ids.len();
        if let Some(name) = &ami.name {
            check_ami_name(reader, name, at("amiDistributionConfiguration/name"));
        }
    }
    if copies > MOST_COPIES {
        reader.report(
            reader
                .warning(
                    "over-quota",
                    reader.place("/distributions"),
                    format!("the distribution configuration makes {copies} copies of the AMI"),
                )
                .expected(format!(
                    "at most {MOST_COPIES} by the service's default quota"
                )),
        );
    }
    check_destinations(reader, &configuration.local.destinations);
    let amis = &configuration.local.amis;
    if amis.road != AmiRoad::EbsDirect && amis.bucket.is_none() {
        reader.report(
            reader
                .error(
                    "missing-key",
                    reader.place("/local/amis/road"),
                    "`amis` has no `bucket`, which this road needs",
                )
                .expected("`bucket: NAME` beside it, in the first region of the configuration"),
        );
    }
}

fn check_ami_name(reader: &Reader<'_>, name: &str, place: Span) {
    if !name.contains("imagebuilder:buildDate") {
        reader.report(
            reader
                .error(
                    "missing-variable",
                    place,
                    "the AMI's name has no `{{ imagebuilder:buildDate }}`",
                )
                .expected("the variable, such as web-{{ imagebuilder:buildDate }}")
                .hint(
                    "an AMI's name is unique in its region: the next build could not be registered",
                ),
        );
    }
    let outside = name
        .split("{{")
        .map(|part| part.split_once("}}").map_or(part, |(_, behind)| behind));
    if let Some(wrong) = outside.flat_map(str::chars).find(|c| !ami_name::fits(*c)) {
        reader.report(
            reader
                .error(
                    "bad-name",
                    place,
                    format!("the AMI's name has `{wrong}`, which EC2 does not allow"),
                )
                .expected(ami_name::RULE),
        );
    }
}

fn check_destinations(reader: &Reader<'_>, destinations: &[Destination]) {
    let mut names: Vec<&str> = Vec::new();
    for (index, destination) in destinations.iter().enumerate() {
        let at = |field: &str| reader.place(&format!("/local/destinations/{index}/{field}"));
        if let Some(name) = &destination.name {
            if names.contains(&name.as_str()) {
                reader.report(
                    reader
                        .error(
                            "duplicate-name",
                            at("name"),
                            format!("a second destination is called `{name}`"),
                        )
                        .expected("a name of its own"),
                );
            }
            names.push(name);
        }
        if let Some(folder) = &destination.folder
            && folder.latest
            && folder.layout == FolderLayout::Plain
        {
            reader.report(
                reader
                    .error(
                        "conflict",
                        at("folder/latest"),
                        "`latest` of `folder` needs folders to point to",
                    )
                    .expected("`layout: versioned` beside it"),
            );
        }
    }
}
