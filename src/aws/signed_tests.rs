use super::*;

fn refused(status: u16, code: &str) -> RequestError {
    RequestError::Refused {
        status: StatusCode::from_u16(status).unwrap(),
        code: code.into(),
        message: "m".into(),
    }
}

#[test]
fn refusals_are_read_in_both_languages() {
    let xml = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>a &amp; b</Message></Error></Errors></Response>";
    assert_eq!(
        refusal(&HeaderMap::new(), xml),
        ("UnauthorizedOperation".into(), "a & b".into())
    );
    let json = br#"{"__type":"com.amazon#ValidationException:http://x","Message":"no"}"#;
    assert_eq!(
        refusal(&HeaderMap::new(), json),
        ("ValidationException".into(), "no".into())
    );
}

#[test]
fn what_is_denied_is_final() {
    assert!(refused(500, "InternalError").is_transient());
    assert!(refused(400, "RequestThrottledException").is_transient());
    assert!(RequestError::Transport("reset".into()).is_transient());
    assert!(!refused(403, "AccessDeniedException").is_transient());
    assert!(!refused(400, "ValidationException").is_transient());
}

#[test]
fn every_known_refusal_has_a_hint() {
    for code in [
        "ExpiredToken",
        "AuthFailure",
        "UnauthorizedOperation",
        "AccessDeniedException",
        "InvalidAMIName.Duplicate",
        "InvalidAMIName.Malformed",
    ] {
        let failure = refused(400, code).into_failure("register the AMI");
        assert!(failure.hint().is_some(), "{code}");
        assert!(failure.chain().contains(code), "{}", failure.chain());
    }
}
