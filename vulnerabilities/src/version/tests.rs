use std::cmp::Ordering::{self, Equal, Greater, Less};

use proptest::prelude::*;

use super::{Scheme, compare, is_version};

#[track_caller]
fn check(scheme: Scheme, cases: &[(&str, Ordering, &str)]) {
    for (left, order, right) in cases {
        assert_eq!(
            compare(scheme, left, right),
            Some(*order),
            "{left} and {right}"
        );
        assert_eq!(
            compare(scheme, right, left),
            Some(order.reverse()),
            "{right} and {left}"
        );
    }
}

/// Facts of apk's own documentation and of its source: suffixes before and after, zeros in front, letters, revisions.
#[test]
fn apk() {
    check(
        Scheme::Apk,
        &[
            ("1.0", Less, "1.0.0"),
            ("1.0", Equal, "1.0"),
            ("2.34", Greater, "2.4"),
            ("0.1.0_alpha", Less, "0.1.0_alpha2"),
            ("1.0_alpha", Less, "1.0_beta"),
            ("1.0_beta", Less, "1.0_pre"),
            ("1.0_pre2", Less, "1.0_rc1"),
            ("1.0_rc1", Less, "1.0"),
            ("1.0_rc1-r9", Less, "1.0-r0"),
            ("1.0", Less, "1.0_cvs"),
            ("1.0_cvs1", Less, "1.0_svn1"),
            ("1.0_git20240101", Less, "1.0_hg1"),
            ("1.0_hg1", Less, "1.0_p1"),
            ("1.0_p1", Less, "1.0_p2"),
            ("1.0_p10", Greater, "1.0_p9"),
            ("1.0-r0", Less, "1.0-r1"),
            ("1.0-r10", Greater, "1.0-r9"),
            ("1.0", Less, "1.0-r0"),
            ("1.0a", Greater, "1.0"),
            ("1.0a", Less, "1.0b"),
            ("1.0a", Less, "1.0.1"),
            ("1.01", Less, "1.1"),
            ("1.09", Less, "1.1"),
            ("1.010", Less, "1.02"),
            ("3.0.10-r4", Less, "3.0.15-r0"),
            ("1.36.1-r15", Less, "1.36.1-r29"),
            ("20240226-r0", Less, "20240705-r0"),
            (
                "99999999999999999999999.1",
                Greater,
                "99999999999999999999998.2",
            ),
            ("1.2~abc-r0", Greater, "1.2-r0"),
        ],
    );
    for wrong in [
        "", "a", "1.", "1..2", "1_", "1_foo", "1-r", "1-1", "1.0A", "1.0ab", "1~", "1 ",
    ] {
        assert!(!is_version(Scheme::Apk, wrong), "{wrong:?}");
    }
}

/// The order of <https://semver.org/#spec-item-11>, and what npm, Cargo and Go make of it.
#[test]
fn semantic() {
    check(
        Scheme::Semantic,
        &[
            ("1.0.0-alpha", Less, "1.0.0-alpha.1"),
            ("1.0.0-alpha.1", Less, "1.0.0-alpha.beta"),
            ("1.0.0-alpha.beta", Less, "1.0.0-beta"),
            ("1.0.0-beta", Less, "1.0.0-beta.2"),
            ("1.0.0-beta.2", Less, "1.0.0-beta.11"),
            ("1.0.0-beta.11", Less, "1.0.0-rc.1"),
            ("1.0.0-rc.1", Less, "1.0.0"),
            ("1.0.0", Equal, "1.0.0+build.5"),
            ("v1.2.3", Equal, "1.2.3"),
            ("1.2", Equal, "1.2.0"),
            ("1", Equal, "v1.0.0"),
            ("2.0.0+incompatible", Less, "2.0.1"),
            (
                "v0.0.0-20190308221718-c2843e01d9a2",
                Less,
                "v0.0.0-20200220183623-bac4c82f6975",
            ),
            // A pseudo-version after a release stands between it and the next.
            ("v1.2.4-0.20191109021931-daa7c04131f5", Greater, "v1.2.3"),
            ("v1.2.4-0.20191109021931-daa7c04131f5", Less, "v1.2.4"),
            ("go1.21.3", Less, "1.21.4"),
            ("go1.21rc2", Less, "go1.21.0"),
            ("go1.21rc2", Less, "go1.21rc10"),
        ],
    );
    for wrong in [
        "",
        "v",
        "1.2.3.4",
        "1..2",
        "latest",
        "1.x",
        "99999999999999999999.0.0",
    ] {
        assert!(!is_version(Scheme::Semantic, wrong), "{wrong:?}");
    }
}

#[test]
fn what_no_ecosystem_has_is_no_version() {
    for scheme in [Scheme::Dpkg, Scheme::Apk, Scheme::Semantic, Scheme::Pep440] {
        assert!(!is_version(scheme, ""), "{scheme:?}");
        assert!(!is_version(scheme, "$(reboot)"), "{scheme:?}");
        assert!(!is_version(scheme, &"1".repeat(501)), "{scheme:?}");
    }
    assert!(!is_version(Scheme::Dpkg, "x:1.0"));
    assert!(!is_version(Scheme::Rpm, ""));
    assert!(!is_version(Scheme::Rpm, &"1".repeat(501)));
}

fn versions(scheme: Scheme) -> BoxedStrategy<String> {
    let form = match scheme {
        Scheme::Dpkg => "([0-3]:)?[0-9][0-9a-b.+~]{0,6}(-[0-9a-b+~]{1,3})?",
        Scheme::Rpm => "([0-3]:)?[0-9a-c.~^_+é]{1,7}(-[0-9a.~^]{1,3})?",
        Scheme::Apk => {
            "[0-9]{1,2}(\\.0?[0-9]{1,2}){0,2}[a-c]?(_(alpha|rc|git|p)[0-9]{0,2}){0,2}(~[0-9a-f]{1,3})?(-r[0-9])?"
        }
        Scheme::Semantic => "v?[0-9](\\.[0-3]){0,2}(-(a|b|1|10|a\\.1|0\\.2019-x))?(\\+i)?",
        Scheme::Pep440 => {
            "(1!)?[0-3](\\.[0-2]){0,2}((a|b|rc)[0-2])?(\\.post[0-2])?(\\.dev[0-2])?(\\+[a-b1]{1,2})?"
        }
    };
    proptest::string::string_regex(form).unwrap().boxed()
}

const ALL: [Scheme; 5] = [
    Scheme::Dpkg,
    Scheme::Rpm,
    Scheme::Apk,
    Scheme::Semantic,
    Scheme::Pep440,
];

fn three() -> impl Strategy<Value = (Scheme, [String; 3])> {
    proptest::sample::select(&ALL[..]).prop_flat_map(|scheme| {
        let one = || versions(scheme);
        (Just(scheme), [one(), one(), one()])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Every scheme is an order: of three versions, whichever way they are asked about.
    #[test]
    fn versions_are_ordered((scheme, [a, b, c]) in three()) {
        let order = |left: &str, right: &str| compare(scheme, left, right);
        prop_assume!([&a, &b, &c].iter().all(|text| is_version(scheme, text)));
        prop_assert_eq!(order(&a, &a), Some(Equal));
        let (ab, bc, ac) = (order(&a, &b).unwrap(), order(&b, &c).unwrap(), order(&a, &c).unwrap());
        prop_assert_eq!(order(&b, &a), Some(ab.reverse()));
        if ab == bc {
            prop_assert_eq!(ac, ab);
        }
        if ab == Equal {
            prop_assert_eq!(ac, bc);
        }
        if bc == Equal {
            prop_assert_eq!(ac, ab);
        }
    }

    /// Nothing that a stranger writes ends the program.
    #[test]
    fn any_text_is_survived(left in "\\PC{0,20}", right in "[0-9a-z.~^_:+-]{0,20}") {
        for scheme in ALL {
            let there = compare(scheme, &left, &right);
            prop_assert_eq!(compare(scheme, &right, &left), there.map(Ordering::reverse));
        }
    }
}
