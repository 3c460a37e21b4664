//! Names and ARNs of resources, with the service's normal form of names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::version::{VersionError, VersionPattern};

/// The region of resources that exist only here.
pub const LOCAL: &str = "local";

/// A name as it stands in ARNs: lower case, spaces as dashes. Names with the same normal form are one name.
pub fn normalise_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == ' ' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Whether two names mean one resource.
pub fn collide(one: &str, other: &str) -> bool {
    normalise_name(one) == normalise_name(other)
}

/// Types of resources that an ARN can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `component`
    Component,
    /// `image`
    Image,
    /// `image-recipe`
    ImageRecipe,
    /// `container-recipe`
    ContainerRecipe,
    /// `infrastructure-configuration`
    InfrastructureConfiguration,
    /// `distribution-configuration`
    DistributionConfiguration,
    /// `image-pipeline`
    ImagePipeline,
    /// `lifecycle-policy`
    LifecyclePolicy,
    /// `workflow/build`, `workflow/test`, `workflow/distribution`
    Workflow(WorkflowType),
}

/// What a workflow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum WorkflowType {
    /// Makes the image.
    Build,
    /// Tests it.
    Test,
    /// Delivers it.
    Distribution,
}

impl WorkflowType {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Build, Self::Test, Self::Distribution];

    /// The word in ARNs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Test => "test",
            Self::Distribution => "distribution",
        }
    }
}

/// What a type's ARN has after the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Nothing,
    Version,
    VersionAndBuild,
}

impl ResourceType {
    /// All types.
    pub const ALL: [Self; 11] = [
        Self::Component,
        Self::Image,
        Self::ImageRecipe,
        Self::ContainerRecipe,
        Self::InfrastructureConfiguration,
        Self::DistributionConfiguration,
        Self::ImagePipeline,
        Self::LifecyclePolicy,
        Self::Workflow(WorkflowType::Build),
        Self::Workflow(WorkflowType::Test),
        Self::Workflow(WorkflowType::Distribution),
    ];

    /// The word in ARNs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Image => "image",
            Self::ImageRecipe => "image-recipe",
            Self::ContainerRecipe => "container-recipe",
            Self::InfrastructureConfiguration => "infrastructure-configuration",
            Self::DistributionConfiguration => "distribution-configuration",
            Self::ImagePipeline => "image-pipeline",
            Self::LifecyclePolicy => "lifecycle-policy",
            Self::Workflow(WorkflowType::Build) => "workflow/build",
            Self::Workflow(WorkflowType::Test) => "workflow/test",
            Self::Workflow(WorkflowType::Distribution) => "workflow/distribution",
        }
    }

    fn tail(self) -> Tail {
        match self {
            Self::Component | Self::Image | Self::Workflow(_) => Tail::VersionAndBuild,
            Self::ImageRecipe | Self::ContainerRecipe => Tail::Version,
            _ => Tail::Nothing,
        }
    }

    /// Whether its resources have versions.
    pub fn is_versioned(self) -> bool {
        self.tail() != Tail::Nothing
    }

    /// Whether the store gives its versions build numbers.
    pub fn has_builds(self) -> bool {
        self.tail() == Tail::VersionAndBuild
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not an ARN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArnError {
    /// Not six parts between colons, or another service's.
    #[error("`{0}` is not an ARN of Image Builder")]
    Form(String),
    /// An account that is neither twelve digits nor `aws`.
    #[error("`{account}` in `{arn}` is not an account")]
    Account {
        /// The whole text.
        arn: String,
        /// The part.
        account: String,
    },
    /// A type of resource that does not exist.
    #[error("`{resource}` in `{arn}` is not a type of resource")]
    ResourceType {
        /// The whole text.
        arn: String,
        /// The part.
        resource: String,
    },
    /// A name that is not in its normal form.
    #[error("`{name}` in `{arn}` is not a name as ARNs have them")]
    Name {
        /// The whole text.
        arn: String,
        /// The part.
        name: String,
    },
    /// A version that is none.
    #[error("{0}")]
    Version(#[from] VersionError),
    /// A version or build number where the type has none.
    #[error("`{arn}` has more parts than a {resource} has")]
    TooLong {
        /// The whole text.
        arn: String,
        /// The type.
        resource: ResourceType,
    },
}

/// `arn:<partition>:imagebuilder:<region>:<account>:<type>/<name>[/<version>[/<build>]]`, or the short local form
/// `local:<type>/<name>[/<version>[/<build>]]` of resources that exist only here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    /// Where it is; `None` for the local form.
    pub place: Option<Place>,
    /// The type.
    pub resource: ResourceType,
    /// The name in its normal form.
    pub name: String,
    /// The version, if one is said.
    pub version: Option<VersionPattern>,
}

/// The first half of an ARN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// `eu-west-1`, …
    pub region: String,
    /// Twelve digits, or `aws` for managed resources.
    pub account: String,
}

impl Arn {
    /// The local form for a resource.
    pub fn local(resource: ResourceType, name: &str, version: Option<VersionPattern>) -> Self {
        Self {
            place: None,
            resource,
            name: normalise_name(name),
            version,
        }
    }

    /// Whether the service's maker owns the resource.
    pub fn is_managed(&self) -> bool {
        self.place
            .as_ref()
            .is_some_and(|place| place.account.starts_with("aws"))
    }

    /// Whether a text was meant to be an ARN, good or not.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("arn:") || text.starts_with("local:")
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => f.write_str(LOCAL)?,
            Some(place) => write!(
                f,
                "arn:{}:imagebuilder:{}:{}",
                place.partition, place.region, place.account
            )?,
        }
        write!(f, ":{}/{}", self.resource, self.name)?;
        match self.version {
            Some(version) => write!(f, "/{version}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Arn {
    type Err = ArnError;

    fn from_str(text: &str) -> Result<Self, ArnError> {
        let form = || ArnError::Form(text.to_owned());
        let (place, rest) = match text.strip_prefix("local:") {
            Some(rest) => (None, rest),
            None => {
                let (place, rest) = parse_place(text)?;
                (Some(place), rest)
            }
        };
        let resource = ResourceType::ALL
            .into_iter()
            .find(|resource| {
                rest.strip_prefix(resource.as_str())
                    .is_some_and(|tail| tail.starts_with('/'))
            })
            .ok_or_else(|| ArnError::ResourceType {
                arn: text.to_owned(),
                resource: rest.split('/').next().unwrap_or_default().to_owned(),
            })?;
        let tail = rest.get(resource.as_str().len() + 1..).ok_or_else(form)?;
        let (name, version) = match tail.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (tail, None),
        };
        if !is_normal_name(name) {
            return Err(ArnError::Name {
                arn: text.to_owned(),
                name: name.to_owned(),
            });
        }
        let version = version.map(str::parse::<VersionPattern>).transpose()?;
        let too_long = match resource.tail() {
            Tail::Nothing => version.is_some(),
            Tail::Version => version.is_some_and(|version| version.build().is_some()),
            Tail::VersionAndBuild => false,
        };
        if too_long {
            return Err(ArnError::TooLong {
                arn: text.to_owned(),
                resource,
            });
        }
        Ok(Self {
            place,
            resource,
            name: name.to_owned(),
            version,
        })
    }
}

fn parse_place(text: &str) -> Result<(Place, &str), ArnError> {
    let form = || ArnError::Form(text.to_owned());
    let mut parts = text.splitn(6, ':');
    let mut part = || parts.next().ok_or_else(form);
    let (arn, partition, service, region, account, rest) =
        (part()?, part()?, part()?, part()?, part()?, part()?);
    let partition_is_good = partition
        .strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()));
    if arn != "arn" || service != "imagebuilder" || !partition_is_good || region.is_empty() {
        return Err(form());
    }
    let digits = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let managed = account == "aws"
        || account.strip_prefix("aws-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b == b'-' || b.is_ascii_lowercase())
        });
    if !digits && !managed {
        return Err(ArnError::Account {
            arn: text.to_owned(),
            account: account.to_owned(),
        });
    }
    let place = Place {
        partition: partition.to_owned(),
        region: region.to_owned(),
        account: account.to_owned(),
    };
    Ok((place, rest))
}

fn is_normal_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

impl Serialize for Arn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Arn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
