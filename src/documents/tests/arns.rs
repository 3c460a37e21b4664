//! ARNs, names, and the short forms of references.

use proptest::prelude::*;

use crate::documents::arn::{self, Arn, Place, ResourceType};
use crate::documents::reference::Refers;
use crate::documents::version::{Version, VersionPattern};
use crate::documents::{Kind, ParentImage, ResourceReference};

#[test]
fn arns() {
    let good = [
        "arn:aws:imagebuilder:eu-west-1:123456789012:component/web-server/1.0.0/1",
        "arn:aws:imagebuilder:eu-west-1:aws:component/update-linux/x.x.x",
        "arn:aws-cn:imagebuilder:cn-north-1:aws-marketplace:component/x_y/1.x.x",
        "arn:aws:imagebuilder:eu-west-1:123456789012:image-recipe/web/1.0.x",
        "arn:aws:imagebuilder:eu-west-1:123456789012:image-pipeline/web",
        "arn:aws:imagebuilder:eu-west-1:aws:workflow/build/build-image/x.x.x",
        "local:workflow/test/mine/1.0.0/2",
        "local:lifecycle-policy/tidy",
    ];
    for text in good {
        assert_eq!(
            text.parse::<Arn>().map(|arn| arn.to_string()).as_deref(),
            Ok(text)
        );
    }
    let bad = [
        (
            "arn:aws:imagebuilder:eu-west-1:123456789012",
            "`arn:aws:imagebuilder:eu-west-1:123456789012` is not an ARN of Image Builder",
        ),
        (
            "arn:aws:ec2:eu-west-1:123456789012:image/web",
            "`arn:aws:ec2:eu-west-1:123456789012:image/web` is not an ARN of Image Builder",
        ),
        (
            "arn:aws:imagebuilder:eu-west-1:12:component/web",
            "`12` in `arn:aws:imagebuilder:eu-west-1:12:component/web` is not an account",
        ),
        (
            "local:components/web",
            "`components` in `local:components/web` is not a type of resource",
        ),
        (
            "local:component/Web",
            "`Web` in `local:component/Web` is not a name as ARNs have them",
        ),
        (
            "local:component/web/1.x.8",
            "`1.x.8` has a number after an `x`",
        ),
        (
            "local:image-recipe/web/1.0.0/1",
            "`local:image-recipe/web/1.0.0/1` has more parts than a image-recipe has",
        ),
        (
            "local:image-pipeline/web/1.0.0",
            "`local:image-pipeline/web/1.0.0` has more parts than a image-pipeline has",
        ),
    ];
    for (text, wanted) in bad {
        let error = text.parse::<Arn>().unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}

#[test]
fn names_with_one_normal_form_collide() {
    for (name, normal) in [
        ("web", "web"),
        ("Web Server", "web-server"),
        ("web-server", "web-server"),
        ("web_server", "web_server"),
        ("A  B", "a--b"),
    ] {
        assert_eq!(arn::normalise_name(name), normal);
    }
    assert!(arn::collide("Web Server", "web-server"));
    assert!(!arn::collide("web server", "web_server"));
}

#[test]
fn references_to_resources() {
    type Found<'a> = Option<(&'a str, &'a str)>;
    let table: [(Kind, &str, Found<'_>); 18] = [
        (Kind::Component, "web", Some(("web", "x.x.x"))),
        (
            Kind::Component,
            "Web Server/1.x.x",
            Some(("web-server", "1.x.x")),
        ),
        (Kind::Component, "web/1.2.3/4", Some(("web", "1.2.3/4"))),
        (
            Kind::Component,
            "component/web/1.2.3",
            Some(("web", "1.2.3")),
        ),
        (
            Kind::Component,
            "component/1.2.3",
            Some(("component", "1.2.3")),
        ),
        (
            Kind::Component,
            "local:component/web/1.2.3/4",
            Some(("web", "1.2.3/4")),
        ),
        (Kind::Component, "web/1.x.8", None),
        (Kind::Component, "web/latest", None),
        (Kind::Component, "we", None),
        (Kind::Component, "../web", None),
        (Kind::Component, "local:image-recipe/web/1.2.3", None),
        (Kind::ImageRecipe, "web/1.0.x", Some(("web", "1.0.x"))),
        (Kind::ImageRecipe, "web/1.0.0/1", None),
        (
            Kind::InfrastructureConfiguration,
            "small",
            Some(("small", "x.x.x")),
        ),
        (Kind::InfrastructureConfiguration, "small/1.0.0", None),
        (
            Kind::Workflow,
            "workflow/build/mine/1.0.0",
            Some(("mine", "1.0.0")),
        ),
        (
            Kind::Workflow,
            "arn:aws:imagebuilder:eu-west-1:aws:workflow/test/test-image/x.x.x",
            Some(("test-image", "x.x.x")),
        ),
        (
            Kind::Workflow,
            "arn:aws:imagebuilder:eu-west-1:aws:workflow/test/test-image/1.x.x",
            None,
        ),
    ];
    for (kind, text, wanted) in table {
        let found = ResourceReference::parse(kind, text).ok();
        let found = found.map(|found| (found.name, found.version.to_string()));
        let wanted = wanted.map(|(name, version)| (name.to_owned(), version.to_owned()));
        assert_eq!(found, wanted, "{kind} {text}");
    }
}

#[test]
fn parent_images() {
    let digest = "a".repeat(64);
    let url = format!("https://images.example.org/debian.qcow2#sha256:{digest}");
    for (text, wanted) in [
        ("debian-12", "debian-12"),
        ("ubuntu-24.04/24.x.x", "ubuntu-24.04/24.x.x"),
        (
            "arn:aws:imagebuilder:eu-west-1:aws:image/debian-12-x86/x.x.x",
            "debian-12-x86",
        ),
        ("local:image/web/1.0.0/3", "web/1.0.0/3"),
        ("./disk.qcow2", "./disk.qcow2"),
        ("file:///disk.raw", "file:///disk.raw"),
        (url.as_str(), url.as_str()),
        ("ami-0123456789abcdef0", "ami-0123456789abcdef0"),
        ("ssm:/images/base", "ssm:/images/base"),
    ] {
        let parent = ParentImage::parse(text).unwrap();
        assert_eq!(parent.to_string(), wanted);
    }
    for text in [
        "https://example.org/disk.raw",
        "debian 12",
        "debian-12/latest",
        "-rf",
        "debian-12/x.2.x",
        "local:component/web",
    ] {
        assert!(ParentImage::parse(text).is_err(), "{text}");
    }
}

fn pattern() -> impl Strategy<Value = VersionPattern> {
    (0..5_u32, 0..5_u32, 0..5_u32, 0..4_usize).prop_map(|(a, b, c, fixed)| {
        let version = Version::new(a, b, c);
        match fixed {
            3 => VersionPattern::exactly(version),
            open => version.wildcards()[open],
        }
    })
}

proptest! {
    #[test]
    fn text_round_trip(
        resource in proptest::sample::select(ResourceType::ALL.to_vec()),
        name in "[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,20}[-_A-Za-z0-9]",
        version in proptest::option::of(pattern()),
        account in "[0-9]{12}|aws|aws-marketplace",
        local in any::<bool>(),
    ) {
        let place = Place {
            partition: "aws".into(),
            region: "eu-central-1".into(),
            account,
        };
        let arn = Arn {
            place: (!local).then_some(place),
            ..Arn::local(resource, &name, version.filter(|_| resource.is_versioned()))
        };
        let text = arn.to_string();
        prop_assert_eq!(text.parse::<Arn>().unwrap(), arn.clone());
        prop_assert_eq!(arn::normalise_name(&arn.name), arn.name);
    }

    /// The expression of the schema and the parser agree, whatever the text.
    #[test]
    fn expressions_agree_with_the_parser(
        place in "|local:|arn:aws:imagebuilder:eu-west-1:aws:|arn:aws:imagebuilder:eu-west-1:123456789012:|arn:aws:imagebuilder:eu-west-1:12:|arn:aws:ec2:x:aws:",
        kind in "|component/|image-recipe/|image/|image-pipeline/|workflow/build/|workflow/|build/",
        name in "[a-zA-B0-3_. -]{0,6}",
        version in "|/|/x[.]x[.]x|/1[.]x[.]x|/1[.]x[.]8|/[0-9]{1,2}[.][0-9][.][0-9](/[0-9])?|/latest",
    ) {
        let text = format!("{place}{kind}{name}{version}");
        // A managed workflow's version is a matter of meaning, which expressions do not tell.
        let managed = place.contains(":aws:") && kind.starts_with("workflow");
        let all = Kind::ALL.map(Refers::Resource).into_iter().chain([Refers::ParentImage]);
        for refers in all {
            if managed && refers == Refers::Resource(Kind::Workflow) {
                continue;
            }
            let regex = regex_lite::Regex::new(&refers.expression()).unwrap();
            let parsed = refers.parse(&text, "".into());
            prop_assert_eq!(regex.is_match(&text), parsed.is_ok(), "{:?} {:?} {:?}", refers, text, parsed);
        }
    }
}
