use std::fmt::Write as _;

use super::*;

#[test]
fn messages_and_hints() {
    let registry = || "r.example".to_owned();
    let refused = |status, code: &str| RegistryError::Refused {
        registry: registry(),
        what: "sending x".into(),
        status,
        code: Some(code.to_owned()).filter(|code| !code.is_empty()),
        reason: None,
    };
    let errors = [
        RegistryError::Login {
            registry: registry(),
            user: None,
            reason: Some("UNAUTHORIZED: authentication required".into()),
        },
        RegistryError::Login {
            registry: registry(),
            user: Some("baker".into()),
            reason: None,
        },
        RegistryError::Denied {
            registry: registry(),
            what: "sending x".into(),
            reason: Some("DENIED".into()),
        },
        refused(413, ""),
        refused(400, "TAG_INVALID"),
        RegistryError::GaveUp {
            what: "sending x".into(),
            attempts: 8,
            spent: Duration::from_secs(91),
            last: Box::new(refused(503, "")),
        },
        RegistryError::DigestMismatch {
            what: "the disk".into(),
            expected: "a".into(),
            actual: "b".into(),
        },
    ];
    let mut text = String::new();
    for error in errors {
        let failure = Failure::from(error);
        let _ = writeln!(
            text,
            "{} [{}]\n  {}",
            failure.chain(),
            failure.kind().exit_code(),
            failure.hint().unwrap_or("-")
        );
    }
    insta::assert_snapshot!(text, @r"
    r.example refuses the login: UNAUTHORIZED: authentication required [4]
      no login for r.example was found; `podman login r.example` or `docker login r.example` stores one
    r.example refuses the login [4]
      the login of baker was tried; `podman login r.example` stores another one
    r.example does not allow sending x: DENIED [4]
      the login needs the right to pull and push in this repository
    r.example answered 413 while sending x [8]
      a proxy before the registry limits the size of uploads; --chunk 16 sends smaller parts
    r.example answered 400 while sending x [8]
      the registry does not let a tag move; push under another tag
    gave up sending x after 8 attempts in 91 s: r.example answered 503 while sending x [8]
      what has arrived stays there: the same command sends only the rest
    the disk has the digest b, expected a [3]
      the content was changed or damaged; nothing was taken over
    ");
}
