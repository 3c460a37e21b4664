//! Which images a policy acts on, and why.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{Span, Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::documents::arn::normalise_name;
use crate::documents::lifecycle::{
    ActionType, ExclusionRules, Filter, FilterType, PolicyDetail, ResourceSelection, ResourceType,
    TimeUnit,
};
use crate::documents::{BuildVersion, LifecyclePolicy};

/// An image that has been finished and is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub arn: String,
    /// Its name in the normal form; images have the name and version of their recipe.
    pub slug: String,
    /// Its version and build.
    pub version: BuildVersion,
    /// What was done to it before.
    pub condition: Condition,
    /// When its build began.
    pub created: Timestamp,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// What was done to an image before, from nothing to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It is AVAILABLE.
    Available,
    /// It is DEPRECATED.
    Deprecated,
    /// It is DISABLED.
    Disabled,
}

impl Condition {
    /// Whether an action would change anything.
    fn is_before(self, action: ActionType) -> bool {
        match action {
            ActionType::Deprecate => self < Self::Deprecated,
            ActionType::Disable => self < Self::Disabled,
            ActionType::Delete => true,
        }
    }
}

/// What a policy says about an image that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The image's id.
    pub arn: String,
    /// What happens to it; nothing if it is kept as it is.
    #[serde(serialize_with = "word")]
    pub action: Option<ActionType>,
    /// The index of the policy detail that says so.
    #[serde(skip)]
    pub detail: Option<usize>,
    /// Why.
    pub reason: String,
}

fn word<S: serde::Serializer>(
    action: &Option<ActionType>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    action.map(ActionType::as_str).serialize(serializer)
}

/// What one detail says about one image.
enum Verdict {
    Act(String),
    Keep(String),
}

/// Decides about every image that the policy is about, oldest first within each name. Where several details apply, the one
/// that does most wins: DELETE before DISABLE before DEPRECATE.
///
/// Numbers (`COUNT`, `retainAtLeast`) are counted for each image name by itself: a policy about three recipes does not
/// delete all images of the one that is built least often.
pub fn select(policy: &LifecyclePolicy, images: &[Candidate], now: Timestamp) -> Vec<Decision> {
    let mut names: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    // Containers have images of their own, which are not among these.
    if policy.resource_type == ResourceType::AmiImage {
        for image in images
            .iter()
            .filter(|image| is_about(&policy.resource_selection, image))
        {
            names.entry(&image.slug).or_default().push(image);
        }
    }
    let mut decisions = Vec::new();
    for family in names.values_mut() {
        // Newest first: the position is what COUNT and retainAtLeast go by.
        family.sort_by_key(|image| std::cmp::Reverse((image.created, image.version)));
        let decided = family
            .iter()
            .enumerate()
            .rev()
            .map(|(position, image)| decide(&policy.policy_details, image, position, now));
        decisions.extend(decided);
    }
    decisions
}

fn is_about(selection: &ResourceSelection, image: &Candidate) -> bool {
    if selection.recipes.is_empty() {
        // All tags, so that another tag makes the selection smaller.
        return !selection.tag_map.is_empty()
            && selection
                .tag_map
                .iter()
                .all(|(key, value)| image.tags.get(key) == Some(value));
    }
    selection.recipes.iter().any(|recipe| {
        normalise_name(&recipe.name) == image.slug
            && recipe.semantic_version.matches(image.version.version)
    })
}

fn decide(
    details: &[PolicyDetail],
    image: &Candidate,
    position: usize,
    now: Timestamp,
) -> Decision {
    let mut by_weight: Vec<(usize, &PolicyDetail)> = details.iter().enumerate().collect();
    by_weight.sort_by_key(|(_, detail)| std::cmp::Reverse(detail.action.r#type));
    let mut kept = Vec::new();
    for (index, detail) in by_weight {
        let action = detail.action.r#type;
        match judge(detail, image, position, now) {
            Verdict::Act(reason) if image.condition.is_before(action) => {
                return Decision {
                    arn: image.arn.clone(),
                    action: Some(action),
                    detail: Some(index),
                    reason,
                };
            }
            Verdict::Act(_) => kept.push(format!("{} is done already", action.as_str())),
            Verdict::Keep(reason) => kept.push(format!("no {}: {reason}", action.as_str())),
        }
    }
    Decision {
        arn: image.arn.clone(),
        action: None,
        detail: None,
        reason: kept.join("; "),
    }
}

fn judge(detail: &PolicyDetail, image: &Candidate, position: usize, now: Timestamp) -> Verdict {
    if let Some(reason) = excluded(&detail.exclusion_rules, image) {
        return Verdict::Keep(reason);
    }
    let filter = &detail.filter;
    let value = usize::try_from(filter.value).unwrap_or(usize::MAX);
    if filter.r#type == FilterType::Count {
        let newer = newer_than(position);
        return if position < value {
            Verdict::Keep(format!("{newer}, {value} are kept"))
        } else {
            Verdict::Act(format!("{newer}, {value} are kept"))
        };
    }
    let age = Age::of(filter);
    let created = image.created.strftime("%Y-%m-%d");
    if age.before(now).is_none_or(|limit| image.created > limit) {
        return Verdict::Keep(format!("created {created}, not {age} ago"));
    }
    // The floor is one of the DELETE action only.
    let floor = filter
        .retain_at_least
        .filter(|_| detail.action.r#type == ActionType::Delete)
        .and_then(|floor| usize::try_from(floor).ok())
        .unwrap_or(0);
    if position < floor {
        return Verdict::Keep(format!("one of the {floor} newest, which are retained"));
    }
    Verdict::Act(format!("created {created}, more than {age} ago"))
}

fn newer_than(position: usize) -> String {
    match position {
        0 => "the newest of its name".to_owned(),
        1 => "1 newer of its name".to_owned(),
        many => format!("{many} newer of its name"),
    }
}

/// Any tag is enough here: what protects has to be easy to say.
fn excluded(rules: &ExclusionRules, image: &Candidate) -> Option<String> {
    let ami_tags = rules.amis.iter().flat_map(|amis| &amis.tag_map);
    rules
        .tag_map
        .iter()
        .chain(ami_tags)
        .find(|(key, value)| image.tags.get(*key) == Some(value))
        .map(|(key, value)| format!("excluded by its tag {key}={value}"))
}

/// The rules of a policy that speak of what only EC2 knows; nothing here can be excluded by them.
pub(super) fn unknown_rules(policy: &LifecyclePolicy) -> Vec<&'static str> {
    let amis = || {
        policy
            .policy_details
            .iter()
            .filter_map(|detail| detail.exclusion_rules.amis.as_ref())
    };
    let mut rules = Vec::new();
    if amis().any(|amis| amis.is_public) {
        rules.push("isPublic");
    }
    if amis().any(|amis| !amis.regions.is_empty()) {
        rules.push("regions");
    }
    if amis().any(|amis| !amis.shared_accounts.is_empty()) {
        rules.push("sharedAccounts");
    }
    if amis().any(|amis| amis.last_launched.is_some()) {
        rules.push("lastLaunched");
    }
    rules
}

/// An age by the calendar of UTC: a month ago is the same day of the month before, or its last.
struct Age {
    value: u32,
    unit: TimeUnit,
}

impl Age {
    fn of(filter: &Filter) -> Self {
        Self {
            value: filter.value,
            unit: filter.unit.unwrap_or(TimeUnit::Days),
        }
    }

    fn before(&self, now: Timestamp) -> Option<Timestamp> {
        let value = i64::from(self.value);
        let span = match self.unit {
            TimeUnit::Days => Span::new().try_days(value),
            TimeUnit::Weeks => Span::new().try_weeks(value),
            TimeUnit::Months => Span::new().try_months(value),
            TimeUnit::Years => Span::new().try_years(value),
        };
        now.to_zoned(TimeZone::UTC)
            .checked_sub(span.ok()?)
            .ok()
            .map(|then| then.timestamp())
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            TimeUnit::Days => "day",
            TimeUnit::Weeks => "week",
            TimeUnit::Months => "month",
            TimeUnit::Years => "year",
        };
        let plural = if self.value == 1 { "" } else { "s" };
        write!(f, "{} {unit}{plural}", self.value)
    }
}
