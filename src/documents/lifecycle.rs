//! `kind: LifecyclePolicy`: the service's CreateLifecyclePolicy request.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::shape::{ANY, Field, Reader, Rule, SHORT_TEXT, Shape, Type};
use super::version::VersionPattern;
use super::vocabulary;

const UNITS: &[&str] = &["DAYS", "WEEKS", "MONTHS", "YEARS"];

/// The fields of a lifecycle policy.
pub static SHAPE: Shape = Shape {
    name: "LifecyclePolicy",
    what: "the lifecycle policy",
    fields: &[
        vocabulary::kind(&["LifecyclePolicy"]),
        vocabulary::name(),
        vocabulary::description(),
        Field::new(
            "status",
            Type::Word(&["ENABLED", "DISABLED"]),
            "Whether the policy runs; ENABLED if nothing is said.",
        ),
        Field::new(
            "executionRole",
            vocabulary::ROLE_TEXT,
            "The role it runs under; the service requires it, nothing here needs it.",
        ),
        Field::new(
            "resourceType",
            Type::Word(&["AMI_IMAGE", "CONTAINER_IMAGE"]),
            "What it is about.",
        )
        .required(),
        Field::new(
            "policyDetails",
            Type::List(&Type::Object(&DETAIL), 1, 3),
            "What happens when: one entry for each action.",
        )
        .required(),
        Field::new(
            "resourceSelection",
            Type::Object(&SELECTION),
            "Which images it is about.",
        )
        .required(),
        vocabulary::tags(),
        vocabulary::client_token(),
        vocabulary::dry_run(),
    ],
    rules: &[],
};

static DETAIL: Shape = Shape {
    name: "lifecyclePolicyDetail",
    what: "the policy detail",
    fields: &[
        Field::new("action", Type::Object(&ACTION), "What happens.").required(),
        Field::new("filter", Type::Object(&FILTER), "To which images.").required(),
        Field::new(
            "exclusionRules",
            Type::Object(&EXCLUSION),
            "What is left alone.",
        ),
    ],
    rules: &[],
};

static ACTION: Shape = Shape {
    name: "lifecyclePolicyDetailAction",
    what: "`action`",
    fields: &[
        Field::new(
            "type",
            Type::Word(&["DELETE", "DEPRECATE", "DISABLE"]),
            "What happens.",
        )
        .required(),
        Field::new(
            "includeResources",
            Type::Object(&INCLUDE),
            "What of an image it is about.",
        ),
    ],
    rules: &[],
};

static INCLUDE: Shape = Shape {
    name: "includeResources",
    what: "`includeResources`",
    fields: &[
        Field::new(
            "amis",
            Type::Boolean,
            "The AMIs; here also the files of the image.",
        ),
        Field::new("snapshots", Type::Boolean, "The snapshots."),
        Field::new("containers", Type::Boolean, "The container images."),
    ],
    rules: &[],
};

static FILTER: Shape = Shape {
    name: "lifecyclePolicyDetailFilter",
    what: "`filter`",
    fields: &[
        Field::new(
            "type",
            Type::Word(&["AGE", "COUNT"]),
            "By age, or by number.",
        )
        .required(),
        Field::new(
            "value",
            Type::Integer(1, 1000),
            "Older than so many units, or all but so many.",
        )
        .required(),
        Field::new("unit", Type::Word(UNITS), "The unit of an age."),
        Field::new(
            "retainAtLeast",
            Type::Integer(1, 10),
            "So many are kept whatever their age.",
        ),
    ],
    rules: &[],
};

static EXCLUSION: Shape = Shape {
    name: "exclusionRules",
    what: "`exclusionRules`",
    fields: &[
        Field::new(
            "tagMap",
            Type::Map(&vocabulary::TAGS),
            "Images with these tags.",
        ),
        Field::new("amis", Type::Object(&EXCLUDED_AMIS), "AMIs of this kind."),
    ],
    rules: &[],
};

static EXCLUDED_AMIS: Shape = Shape {
    name: "exclusionRulesAmis",
    what: "`amis`",
    fields: &[
        Field::new("isPublic", Type::Boolean, "Public ones."),
        Field::new(
            "regions",
            Type::List(&SHORT_TEXT, 0, ANY),
            "In these regions.",
        ),
        Field::new(
            "sharedAccounts",
            Type::List(&vocabulary::ACCOUNT_TEXT, 1, 1536),
            "Shared with these accounts.",
        ),
        Field::new(
            "lastLaunched",
            Type::Object(&LAST_LAUNCHED),
            "Launched within this time.",
        ),
        Field::new("tagMap", Type::Map(&vocabulary::TAGS), "With these tags."),
    ],
    rules: &[],
};

static LAST_LAUNCHED: Shape = Shape {
    name: "lastLaunched",
    what: "`lastLaunched`",
    fields: &[
        Field::new("value", Type::Integer(1, 365), "So many units.").required(),
        Field::new("unit", Type::Word(UNITS), "The unit.").required(),
    ],
    rules: &[],
};

static SELECTION: Shape = Shape {
    name: "resourceSelection",
    what: "`resourceSelection`",
    fields: &[
        Field::new(
            "recipes",
            Type::List(&Type::Object(&RECIPE), 1, 50),
            "Images made by these recipes.",
        ),
        Field::new(
            "tagMap",
            Type::Map(&vocabulary::TAGS),
            "Images with these tags.",
        ),
    ],
    rules: &[Rule::ExactlyOne(&["recipes", "tagMap"])],
};

static RECIPE: Shape = Shape {
    name: "resourceSelectionRecipe",
    what: "the recipe",
    fields: &[
        Field::new("name", vocabulary::NAME_TYPE, "The recipe's name.").required(),
        Field::new(
            "semanticVersion",
            vocabulary::OPEN_VERSION,
            "The recipe's version, which may end in x.",
        )
        .required(),
    ],
    rules: &[],
};

/// A lifecycle policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LifecyclePolicy {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Whether it runs.
    #[serde(default)]
    pub status: super::pipeline::PipelineStatus,
    /// The role it runs under in the service.
    pub execution_role: Option<String>,
    /// What it is about.
    pub resource_type: ResourceType,
    /// What happens when.
    pub policy_details: Vec<PolicyDetail>,
    /// Which images it is about.
    pub resource_selection: ResourceSelection,
    /// Tags of the policy.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// What a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResourceType {
    /// Machine images.
    AmiImage,
    /// Container images.
    ContainerImage,
}

/// One action with its filter.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDetail {
    /// What happens.
    pub action: Action,
    /// To which images.
    pub filter: Filter,
    /// What is left alone.
    #[serde(default)]
    pub exclusion_rules: ExclusionRules,
}

/// What happens.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Action {
    /// What happens.
    pub r#type: ActionType,
    /// What of an image it is about.
    #[serde(default)]
    pub include_resources: IncludeResources,
}

/// What happens to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActionType {
    /// It stays usable, but is marked as old.
    Deprecate,
    /// It cannot be used any more.
    Disable,
    /// It goes.
    Delete,
}

impl ActionType {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deprecate => "DEPRECATE",
            Self::Disable => "DISABLE",
            Self::Delete => "DELETE",
        }
    }
}

/// What of an image an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IncludeResources {
    /// The AMIs; here also the files of the image.
    pub amis: bool,
    /// The snapshots.
    pub snapshots: bool,
    /// The container images.
    pub containers: bool,
}

/// To which images something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// By age, or by number.
    pub r#type: FilterType,
    /// Older than so many units, or all but so many.
    pub value: u32,
    /// The unit of an age.
    pub unit: Option<TimeUnit>,
    /// So many are kept whatever their age.
    pub retain_at_least: Option<u32>,
}

/// How images are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FilterType {
    /// By age.
    Age,
    /// By number.
    Count,
}

/// The unit of an age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TimeUnit {
    /// 24 hours.
    Days,
    /// Seven days.
    Weeks,
    /// Calendar months.
    Months,
    /// Calendar years.
    Years,
}

/// What is left alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExclusionRules {
    /// Images with these tags.
    pub tag_map: BTreeMap<String, String>,
    /// AMIs of this kind.
    pub amis: Option<ExcludedAmis>,
}

/// AMIs that are left alone.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExcludedAmis {
    /// Public ones.
    pub is_public: bool,
    /// In these regions.
    pub regions: Vec<String>,
    /// Shared with these accounts.
    pub shared_accounts: Vec<String>,
    /// Launched within this time.
    pub last_launched: Option<LastLaunched>,
    /// With these tags.
    pub tag_map: BTreeMap<String, String>,
}

/// A time before now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LastLaunched {
    /// So many units.
    pub value: u32,
    /// The unit.
    pub unit: TimeUnit,
}

/// Which images a policy is about: one of the two is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ResourceSelection {
    /// Images made by these recipes.
    pub recipes: Vec<SelectedRecipe>,
    /// Images with these tags.
    pub tag_map: BTreeMap<String, String>,
}

/// A recipe whose images are chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelectedRecipe {
    /// The recipe's name.
    pub name: String,
    /// Which versions.
    pub semantic_version: VersionPattern,
}

/// Checks what the tables cannot say.
pub fn check(reader: &Reader<'_>, policy: &LifecyclePolicy) {
    let mut seen: Vec<ActionType> = Vec::new();
    for (index, detail) in policy.policy_details.iter().enumerate() {
        let at = |field: &str| format!("/policyDetails/{index}/{field}");
        let action = detail.action.r#type;
        if seen.contains(&action) {
            reader.report(
                reader
                    .error(
                        "duplicate-action",
                        reader.place(&at("action/type")),
                        format!("a second policy detail has the action {}", action.as_str()),
                    )
                    .expected("one policy detail for each action"),
            );
        }
        seen.push(action);
        if policy.resource_type == ResourceType::ContainerImage && action != ActionType::Delete {
            reader.report(
                reader
                    .error(
                        "conflict",
                        reader.place(&at("action/type")),
                        format!("container images have no action {}", action.as_str()),
                    )
                    .expected("DELETE"),
            );
        }
        check_filter(reader, detail, &at);
    }
}

fn check_filter(reader: &Reader<'_>, detail: &PolicyDetail, at: &dyn Fn(&str) -> String) {
    let filter = detail.filter;
    match (filter.r#type, filter.unit) {
        (FilterType::Age, None) => reader.report(
            reader
                .error(
                    "missing-key",
                    reader.place(&at("filter/type")),
                    "an AGE filter has no `unit`",
                )
                .expected("DAYS, WEEKS, MONTHS or YEARS"),
        ),
        (FilterType::Count, Some(_)) => reader.report(
            reader
                .error(
                    "conflict",
                    reader.place(&at("filter/unit")),
                    "a COUNT filter has a `unit`",
                )
                .expected("`unit` only with the type AGE"),
        ),
        _ => {}
    }
    if filter.r#type == FilterType::Count && filter.retain_at_least.is_some() {
        reader.report(
            reader
                .error(
                    "conflict",
                    reader.place(&at("filter/retainAtLeast")),
                    "a COUNT filter has `retainAtLeast`",
                )
                .expected("`retainAtLeast` only with the type AGE")
                .hint("`value` of a COUNT filter says already how many are kept"),
        );
    }
}
