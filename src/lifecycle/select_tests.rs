use serde_json::{Value, json};

use super::select::{Candidate, Condition, select, unknown_rules};
use crate::documents::{LifecyclePolicy, Version};

const NOW: &str = "2026-07-15T12:00:00Z";

/// `web/1.0.0/1` created on a day, in a condition, with tags.
fn image(id: &str, created: &str, condition: Condition, tags: &[(&str, &str)]) -> Candidate {
    let mut parts = id.split('/');
    let slug = parts.next().unwrap().to_owned();
    let version: Version = parts.next().unwrap().parse().unwrap();
    Candidate {
        arn: id.to_owned(),
        slug,
        version: version.build(parts.next().unwrap().parse().unwrap()),
        condition,
        created: format!("{created}T12:00:00Z").parse().unwrap(),
        tags: tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

fn available(id: &str, created: &str) -> Candidate {
    image(id, created, Condition::Available, &[])
}

fn policy(details: Value, selection: Value) -> LifecyclePolicy {
    serde_json::from_value(json!({
        "name": "tidy",
        "resourceType": "AMI_IMAGE",
        "policyDetails": details,
        "resourceSelection": selection,
    }))
    .unwrap()
}

fn web() -> Value {
    json!({ "recipes": [{ "name": "Web", "semanticVersion": "x.x.x" }] })
}

fn decisions(policy: &LifecyclePolicy, images: &[Candidate]) -> String {
    select(policy, images, NOW.parse().unwrap())
        .into_iter()
        .map(|decision| {
            let action = decision.action.map_or("keep", |action| action.as_str());
            format!("{} {action}: {}", decision.arn, decision.reason)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn by_age() {
    let rule = |value: u32, unit: &str| {
        policy(
            json!([{ "action": { "type": "DEPRECATE" }, "filter": { "type": "AGE", "value": value, "unit": unit } }]),
            web(),
        )
    };
    let images = [
        available("web/1.0.0/1", "2025-07-15"),
        available("web/1.0.0/2", "2026-06-15"),
        available("web/1.0.0/3", "2026-07-08"),
        available("web/1.0.0/4", "2026-07-15"),
        available("other/1.0.0/1", "2020-01-01"),
    ];
    // An image that is exactly so old is old enough.
    insta::assert_snapshot!(decisions(&rule(7, "DAYS"), &images), @"
    web/1.0.0/1 DEPRECATE: created 2025-07-15, more than 7 days ago
    web/1.0.0/2 DEPRECATE: created 2026-06-15, more than 7 days ago
    web/1.0.0/3 DEPRECATE: created 2026-07-08, more than 7 days ago
    web/1.0.0/4 keep: no DEPRECATE: created 2026-07-15, not 7 days ago
    ");
    let count = |value, unit| {
        decisions(&rule(value, unit), &images)
            .matches(" DEPRECATE: ")
            .count()
            - decisions(&rule(value, unit), &images)
                .matches("no DEPRECATE: ")
                .count()
    };
    assert_eq!(count(8, "DAYS"), 2);
    assert_eq!(count(1, "WEEKS"), 3);
    assert_eq!(count(1, "MONTHS"), 2);
    assert_eq!(count(1, "YEARS"), 1);
    assert_eq!(count(13, "MONTHS"), 0);
    assert_eq!(count(1000, "YEARS"), 0);
}

#[test]
fn months_end_with_their_last_day() {
    let rule = policy(
        json!([{ "action": { "type": "DELETE" }, "filter": { "type": "AGE", "value": 1, "unit": "MONTHS" } }]),
        web(),
    );
    let images = [available("web/1.0.0/1", "2026-02-28")];
    let at = |now: &str| {
        select(&rule, &images, now.parse().unwrap())[0]
            .action
            .is_some()
    };
    // A month before 31 March is 28 February.
    assert!(at("2026-03-31T12:00:00Z"));
    assert!(at("2026-03-28T12:00:00Z"));
    assert!(!at("2026-03-28T11:59:59Z"));
}

#[test]
fn by_count_for_each_name() {
    let rule = policy(
        json!([{ "action": { "type": "DELETE" }, "filter": { "type": "COUNT", "value": 2 } }]),
        json!({ "recipes": [
            { "name": "Web", "semanticVersion": "1.x.x" },
            { "name": "db", "semanticVersion": "1.0.0" },
        ] }),
    );
    let images = [
        available("web/1.0.0/1", "2026-01-01"),
        available("web/1.0.0/2", "2026-01-02"),
        available("web/1.1.0/1", "2026-01-03"),
        available("web/2.0.0/1", "2026-01-04"),
        available("db/1.0.0/1", "2020-01-01"),
        available("db/1.1.0/1", "2020-01-01"),
    ];
    insta::assert_snapshot!(decisions(&rule, &images), @"
    db/1.0.0/1 keep: no DELETE: the newest of its name, 2 are kept
    web/1.0.0/1 DELETE: 2 newer of its name, 2 are kept
    web/1.0.0/2 keep: no DELETE: 1 newer of its name, 2 are kept
    web/1.1.0/1 keep: no DELETE: the newest of its name, 2 are kept
    ");
}

#[test]
fn deletion_retains_a_number() {
    let rule = |action: &str| {
        policy(
            json!([{
                "action": { "type": action },
                "filter": { "type": "AGE", "value": 10, "unit": "DAYS", "retainAtLeast": 2 },
            }]),
            web(),
        )
    };
    let images = [
        available("web/1.0.0/1", "2026-01-01"),
        available("web/1.0.0/2", "2026-01-02"),
        available("web/1.0.0/3", "2026-01-03"),
    ];
    insta::assert_snapshot!(decisions(&rule("DELETE"), &images), @"
    web/1.0.0/1 DELETE: created 2026-01-01, more than 10 days ago
    web/1.0.0/2 keep: no DELETE: one of the 2 newest, which are retained
    web/1.0.0/3 keep: no DELETE: one of the 2 newest, which are retained
    ");
    // Other actions know no floor.
    assert!(!decisions(&rule("DISABLE"), &images).contains("retained"));
}

#[test]
fn what_does_most_wins_and_nothing_is_done_twice() {
    let rule = policy(
        json!([
            { "action": { "type": "DEPRECATE" }, "filter": { "type": "AGE", "value": 10, "unit": "DAYS" } },
            { "action": { "type": "DISABLE" }, "filter": { "type": "AGE", "value": 20, "unit": "DAYS" } },
            { "action": { "type": "DELETE" }, "filter": { "type": "AGE", "value": 30, "unit": "DAYS" } },
        ]),
        web(),
    );
    let images = [
        image("web/1.0.0/1", "2026-06-01", Condition::Disabled, &[]),
        image("web/1.0.0/2", "2026-06-20", Condition::Deprecated, &[]),
        image("web/1.0.0/3", "2026-06-21", Condition::Disabled, &[]),
        image("web/1.0.0/4", "2026-07-01", Condition::Available, &[]),
        image("web/1.0.0/5", "2026-07-02", Condition::Deprecated, &[]),
    ];
    insta::assert_snapshot!(decisions(&rule, &images), @"
    web/1.0.0/1 DELETE: created 2026-06-01, more than 30 days ago
    web/1.0.0/2 DISABLE: created 2026-06-20, more than 20 days ago
    web/1.0.0/3 keep: no DELETE: created 2026-06-21, not 30 days ago; DISABLE is done already; DEPRECATE is done already
    web/1.0.0/4 DEPRECATE: created 2026-07-01, more than 10 days ago
    web/1.0.0/5 keep: no DELETE: created 2026-07-02, not 30 days ago; no DISABLE: created 2026-07-02, not 20 days ago; DEPRECATE is done already
    ");
}

#[test]
fn tags_select_and_exclude() {
    let rule = policy(
        json!([{
            "action": { "type": "DELETE" },
            "filter": { "type": "COUNT", "value": 1 },
            "exclusionRules": {
                "tagMap": { "keep": "yes", "release": "true" },
                "amis": { "tagMap": { "pinned": "1" }, "lastLaunched": { "value": 7, "unit": "DAYS" } },
            },
        }]),
        json!({ "tagMap": { "team": "web", "stage": "test" } }),
    );
    let tagged = |id: &str, day: &str, more: &[(&str, &str)]| {
        let mut tags = vec![("team", "web"), ("stage", "test")];
        tags.extend_from_slice(more);
        image(id, day, Condition::Available, &tags)
    };
    let images = [
        tagged("a/1.0.0/1", "2026-01-01", &[]),
        tagged("a/1.0.0/2", "2026-01-02", &[("keep", "yes")]),
        tagged("a/1.0.0/3", "2026-01-03", &[("keep", "no")]),
        tagged("a/1.0.0/4", "2026-01-04", &[("pinned", "1")]),
        tagged("a/1.0.0/5", "2026-01-05", &[]),
        image(
            "a/1.0.0/6",
            "2026-01-06",
            Condition::Available,
            &[("team", "web")],
        ),
    ];
    insta::assert_snapshot!(decisions(&rule, &images), @"
    a/1.0.0/1 DELETE: 4 newer of its name, 1 are kept
    a/1.0.0/2 keep: no DELETE: excluded by its tag keep=yes
    a/1.0.0/3 DELETE: 2 newer of its name, 1 are kept
    a/1.0.0/4 keep: no DELETE: excluded by its tag pinned=1
    a/1.0.0/5 keep: no DELETE: the newest of its name, 1 are kept
    ");
    assert_eq!(unknown_rules(&rule), ["lastLaunched"]);
}

#[test]
fn containers_are_another_matter() {
    let mut rule = policy(
        json!([{ "action": { "type": "DELETE" }, "filter": { "type": "COUNT", "value": 1 } }]),
        web(),
    );
    rule.resource_type = crate::documents::lifecycle::ResourceType::ContainerImage;
    let images = [
        available("web/1.0.0/1", "2026-01-01"),
        available("web/1.0.0/2", "2026-01-02"),
    ];
    assert_eq!(decisions(&rule, &images), "");
}
