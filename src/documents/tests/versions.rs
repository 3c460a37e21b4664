//! The laws of versions and wildcards.

use proptest::prelude::*;

use crate::documents::version::{BuildVersion, LARGEST_NODE, Version, VersionPattern, VersionSpec};

fn version() -> impl Strategy<Value = Version> {
    // Small numbers meet each other, large ones meet the limit.
    let node = prop_oneof![0..4_u32, 0..=LARGEST_NODE];
    [node.clone(), node.clone(), node].prop_map(|[a, b, c]| Version::new(a, b, c))
}

fn builds() -> impl Strategy<Value = Vec<BuildVersion>> {
    let build = (version(), 1..5_u32).prop_map(|(version, build)| version.build(build));
    proptest::collection::vec(build, 0..12)
}

fn pattern() -> impl Strategy<Value = VersionPattern> {
    (version(), 0..4_usize).prop_map(|(version, fixed)| match fixed {
        3 => VersionPattern::exactly(version),
        open => version.wildcards()[open],
    })
}

#[test]
fn texts() {
    let table = [
        ("1.2.3", Some("1.2.3")),
        ("0.0.0", Some("0.0.0")),
        ("2021.01.01", Some("2021.1.1")),
        ("1073741823.0.0", Some("1073741823.0.0")),
        ("1073741824.0.0", None),
        ("99999999999999999999.0.0", None),
        ("x.x.x", Some("x.x.x")),
        ("1.x.x", Some("1.x.x")),
        ("1.2.x", Some("1.2.x")),
        ("1.2.3/4", Some("1.2.3/4")),
        ("1.2.3/0", None),
        ("1.2.x/4", None),
        ("x.2.x", None),
        ("1.x.8", None),
        ("x.x.3", None),
        ("X.x.x", None),
        ("1.2", None),
        ("1.2.3.4", None),
        ("1.2.", None),
        ("+1.2.3", None),
        ("-1.2.3", None),
        ("1.2.3 ", None),
        ("v1.2.3", None),
        ("", None),
    ];
    for (text, wanted) in table {
        let found = text.parse::<VersionPattern>().ok();
        let found = found.map(|pattern| pattern.to_string());
        assert_eq!(found.as_deref(), wanted, "{text:?}");
    }
}

#[test]
fn newest_is_highest_by_node_then_by_build() {
    let existing: Vec<BuildVersion> = [
        "2.2.4/1", "1.7.8/1", "1.6.8/1", "1.6.8/3", "1.6.8/2", "1.10.0/1",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    for (pattern, wanted) in [
        ("x.x.x", Some("2.2.4/1")),
        ("1.x.x", Some("1.10.0/1")),
        ("1.6.x", Some("1.6.8/3")),
        ("1.6.8", Some("1.6.8/3")),
        ("1.6.8/1", Some("1.6.8/1")),
        ("1.6.8/9", None),
        ("3.x.x", None),
    ] {
        let pattern: VersionPattern = pattern.parse().unwrap();
        let newest = pattern.newest(existing.iter().copied());
        assert_eq!(
            newest.map(|version| version.to_string()).as_deref(),
            wanted,
            "{pattern}"
        );
    }
}

#[test]
fn auto_increment_takes_the_next_free_number() {
    let existing: Vec<Version> = ["1.0.0", "1.0.4", "1.2.0", "3.0.0"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    for (pattern, wanted) in [
        ("1.0.x", Some("1.0.5")),
        ("1.1.x", Some("1.1.0")),
        ("1.x.x", Some("1.3.0")),
        ("x.x.x", Some("4.0.0")),
        ("2.x.x", Some("2.0.0")),
        ("1.0.0", None),
    ] {
        let pattern: VersionPattern = pattern.parse().unwrap();
        let next = pattern.next(existing.iter().copied());
        assert_eq!(
            next.map(|version| version.to_string()).as_deref(),
            wanted,
            "{pattern}"
        );
    }
    let last = Version::new(1, 0, LARGEST_NODE);
    assert_eq!(
        "1.0.x".parse::<VersionPattern>().unwrap().next([last]),
        None
    );
}

proptest! {
    #[test]
    fn text_round_trip(version in version(), build in 1..=LARGEST_NODE) {
        prop_assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        let build = version.build(build);
        prop_assert_eq!(build.to_string().parse::<BuildVersion>().unwrap(), build);
        prop_assert_eq!(build.to_string().parse::<VersionPattern>().unwrap(), VersionPattern::from(build));
        for pattern in version.wildcards() {
            prop_assert_eq!(pattern.to_string().parse::<VersionPattern>().unwrap(), pattern);
            prop_assert_eq!(pattern.to_string().parse::<VersionSpec>().unwrap(), VersionSpec::Next(pattern));
        }
    }

    #[test]
    fn order_is_that_of_the_numbers(a in version(), b in version(), builds in any::<[u8; 2]>()) {
        prop_assert_eq!(a.cmp(&b), a.nodes().cmp(&b.nodes()));
        let [x, y] = builds.map(u32::from);
        prop_assert_eq!(a.build(x).cmp(&b.build(y)), (a.nodes(), x).cmp(&(b.nodes(), y)));
    }

    /// Whatever fits a narrower pattern fits the wider ones around it.
    #[test]
    fn wider_patterns_match_more(a in version(), b in version()) {
        let [any, major, minor] = a.wildcards();
        let exact = VersionPattern::exactly(a);
        prop_assert!(any.matches(b));
        prop_assert!(!exact.matches(b) || minor.matches(b));
        prop_assert!(!minor.matches(b) || major.matches(b));
        prop_assert_eq!(exact.matches(b), a == b);
        prop_assert_eq!(major.matches(b), a.major == b.major);
        prop_assert_eq!(minor.matches(b), (a.major, a.minor) == (b.major, b.minor));
    }

    /// The newest fits, nothing that fits is newer, and the order of what exists does not matter.
    #[test]
    fn newest_is_a_maximum(existing in builds(), pattern in pattern()) {
        let newest = pattern.newest(existing.iter().copied());
        let mut backwards = existing.clone();
        backwards.reverse();
        prop_assert_eq!(pattern.newest(backwards), newest);
        match newest {
            None => prop_assert!(!existing.iter().any(|build| pattern.matches_build(*build))),
            Some(newest) => {
                prop_assert!(existing.contains(&newest));
                prop_assert!(pattern.matches_build(newest));
                prop_assert!(existing.iter().all(|build| !pattern.matches_build(*build) || *build <= newest));
            }
        }
    }

    /// The next number is free, fits, and is newer than all that fit before it: so it becomes their newest.
    #[test]
    fn next_is_free_and_newest(existing in builds(), pattern in pattern()) {
        let versions: Vec<Version> = existing.iter().map(|build| build.version).collect();
        if let Some(next) = pattern.next(versions.iter().copied()) {
            prop_assert!(pattern.matches(next));
            prop_assert!(!versions.contains(&next));
            prop_assert!(versions.iter().all(|version| !pattern.matches(*version) || *version < next));
        } else {
            let full = versions.iter().any(|version| version.nodes().contains(&LARGEST_NODE));
            prop_assert!(!pattern.has_wildcard() || full);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,24}", near in "[0-9x./+ -]{0,16}") {
        for text in [text, near] {
            let _ = text.parse::<Version>();
            let _ = text.parse::<BuildVersion>();
            let _ = text.parse::<VersionSpec>();
            if let Ok(pattern) = text.parse::<VersionPattern>() {
                prop_assert_eq!(pattern.to_string().parse::<VersionPattern>().unwrap(), pattern);
            }
        }
    }
}
