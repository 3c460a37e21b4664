//! Logins, certificates, and what is said when they do not fit.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8PathBuf;
use ovenbird::registry::{Credential, Credentials, Options, RegistryError, Sent};

use super::proxy::{Fault, Proxy};
use super::server::{PASSWORD, Server, USER, certificate};
use super::tokens::Tokens;
use super::{blob, options, raw_disk, registry, run_with};
use crate::setup::{Setup, empty, tool};

fn auths(host: &str, user: &str, password: &str) -> String {
    let login = STANDARD.encode(format!("{user}:{password}"));
    format!(r#"{{"auths": {{"{host}": {{"auth": "{login}"}}}}}}"#)
}

/// Writes a program. Another process does it: a file that this one had open for writing could be inherited by what another
/// thread starts, and could then not be executed.
fn program(setup: &Setup, name: &str, text: &str) -> Utf8PathBuf {
    let source = setup.file("program", text);
    let path = setup.path().join(name);
    tool("install", &["-m", "755", source.as_str(), path.as_str()]);
    path
}

#[test]
fn a_registry_with_a_login() {
    let (setup, server) = (empty(), Server::with_login());
    let disk = raw_disk(&setup);
    let host = server.host();
    let reference = format!("{host}/a:1");
    let push = |config: &str| run_with(&setup, config, &["push", disk.as_str(), &reference]);
    // As Docker and Podman write it.
    push(&auths(&host, USER, PASSWORD)).expect(0);
    let by_podman = setup.path().join("podman.json");
    let login = [
        "login",
        "--tls-verify=false",
        "--authfile",
        by_podman.as_str(),
        "-u",
        USER,
        "-p",
        PASSWORD,
        &host,
    ];
    tool("podman", &login);
    push(&std::fs::read_to_string(by_podman).unwrap()).expect(0);
    // By a helper, which stands in the path.
    let helper = program(
        &setup,
        "docker-credential-test",
        "#!/bin/sh\n[ \"$1\" = get ] && cat > \"$0.asked\" && echo '{\"Username\":\"baker\",\"Secret\":\"right-password\"}'\n",
    );
    for config in [
        format!(r#"{{"credHelpers": {{"{host}": "test"}}}}"#),
        r#"{"credsStore": "test"}"#.to_owned(),
    ] {
        let _ = std::fs::remove_file(format!("{helper}.asked"));
        push(&config).expect(0);
        let asked = std::fs::read_to_string(format!("{helper}.asked")).unwrap();
        assert_eq!(asked, host);
    }
    // What came by a login comes back by it alone.
    let import = ["base", "import", &format!("oci://{reference}")];
    run_with(&setup, "{}", &import).expect(4);
    run_with(&setup, &auths(&host, USER, PASSWORD), &import).expect(0);
}

/// A file's error output with what differs from run to run replaced.
fn told(setup: &Setup, ran: &crate::setup::Ran, hosts: &[(&str, &str)]) -> String {
    let mut text = ran.stderr.replace(setup.path().as_str(), "FOLDER");
    for (host, name) in hosts {
        text = text.replace(host, name);
    }
    // Stages with their times are no errors.
    let lines = text.lines().filter(|line| !line.starts_with('['));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_is_said_when_it_cannot_be() {
    let (setup, plain, locked) = (empty(), Server::start(), Server::with_login());
    let (tls, authority) = (Server::with_tls(), Server::with_authority());
    let disk = raw_disk(&setup);
    let (plain, locked_host, tls_host) = (plain.host(), locked.host(), tls.host());
    let authority_host = authority.host();
    let hosts = [
        (plain.as_str(), "PLAIN"),
        (&locked_host, "LOCKED"),
        (&tls_host, "TLS"),
        (&authority_host, "AUTHORITY"),
    ];
    let other = setup.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (other, _) = certificate(&other, false);
    let (own, authority_file) = (tls.certificate(), authority.certificate());
    setup.file("not-a-certificate", "hello");
    program(
        &setup,
        "docker-credential-broken",
        "#!/bin/sh\necho the keyring is locked\nexit 1\n",
    );
    let wrong = auths(&locked_host, USER, "wrong");
    let helper = r#"{"credsStore": "broken"}"#;
    let missing = r#"{"credsStore": "that-is-not-there"}"#;
    let at = |host: &str| format!("{host}/a:1");
    let from = |host: &str, what: &str| format!("oci://{host}/{what}");
    let (to_plain, to_locked, to_tls) = (at(&plain), at(&locked_host), at(&tls_host));
    let to_authority = at(&authority_host);
    let unknown = from(&plain, "nothing:1");
    let zeros = format!("sha256:{}", "0".repeat(64));
    let tagged_digest = format!("{plain}/a@sha256:{}", "0".repeat(64));
    let disk = disk.as_str();
    let cases: Vec<(&str, &str, i32, Vec<&str>)> = vec![
        ("no login", "{}", 4, vec!["push", disk, &to_locked]),
        ("wrong password", &wrong, 4, vec!["push", disk, &to_locked]),
        ("broken helper", helper, 4, vec!["push", disk, &to_locked]),
        ("missing helper", missing, 4, vec!["push", disk, &to_locked]),
        (
            "broken login file",
            "{\"auths\": 7}",
            4,
            vec!["push", disk, &to_locked],
        ),
        ("unknown tag", "{}", 3, vec!["base", "import", &unknown]),
        (
            "nobody there",
            "{}",
            4,
            vec!["push", disk, "127.0.0.1:9/a:1"],
        ),
        (
            "unknown authority",
            "{}",
            4,
            vec!["push", disk, &to_tls, "--ca-file", other.as_str()],
        ),
        (
            "an authority as certificate",
            "{}",
            4,
            vec![
                "push",
                disk,
                &to_authority,
                "--ca-file",
                authority_file.as_str(),
            ],
        ),
        (
            "no TLS there",
            "{}",
            4,
            vec!["push", disk, &to_plain, "--ca-file", own.as_str()],
        ),
        ("TLS wanted", "{}", 8, vec!["push", disk, &to_tls]),
        (
            "no certificate",
            "{}",
            3,
            vec!["push", disk, &to_tls, "--ca-file", "not-a-certificate"],
        ),
        ("no registry", "{}", 2, vec!["push", disk, "web:1"]),
        (
            "bad repository",
            "{}",
            2,
            vec!["base", "import", "oci://localhost:1/Upper:1"],
        ),
        (
            "digest for a push",
            "{}",
            2,
            vec!["push", disk, &tagged_digest],
        ),
        (
            "unknown variable",
            "{}",
            2,
            vec!["push", disk, &to_plain, "--tag", "{{ local:name }}"],
        ),
        (
            "not ECR",
            "{}",
            2,
            vec!["push", disk, &to_plain, "--create-repository"],
        ),
        ("no name", "{}", 2, vec!["base", "import", disk]),
        (
            "digest apart",
            "{}",
            2,
            vec!["base", "import", &unknown, "--digest", &zeros],
        ),
        (
            "no such file",
            "{}",
            3,
            vec!["push", "nothing.raw", &to_plain],
        ),
    ];
    let mut all = String::new();
    for (name, login, code, arguments) in cases {
        let ran = run_with(&setup, login, &arguments);
        let code_is = ran.code;
        all.push_str(&format!("# {name}\n{}\n", told(&setup, &ran, &hosts)));
        assert_eq!(code_is, Some(code), "{name}:\n{}", ran.stderr);
    }
    insta::assert_snapshot!(all);
    // With the right authority it goes.
    let right = ["push", disk, &to_tls, "--ca-file", own.as_str()];
    run_with(&setup, "{}", &right).expect(0);
    let pulled = from(&tls_host, "a:1");
    let import = ["base", "import", &pulled, "--ca-file", own.as_str()];
    run_with(&setup, "{}", &import).expect(0);
}

/// A registry that sends its clients to a token server, as the large public ones do.
#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let (setup, tokens) = (empty(), Tokens::start());
    let server = Server::with_tokens(&tokens.realm(), &tokens.certificate());
    let proxy = Proxy::start(server.port());
    let login = |password: &str| Options {
        credentials: Credentials::Given(Credential::Basic {
            user: USER.into(),
            password: password.into(),
        }),
        ..options()
    };
    let baker = registry(&proxy.host(), "team/web", login(PASSWORD));
    let (descriptor, source) = blob(&setup, 4096, 1);
    baker.push_blob(&descriptor, &source, &[]).await.unwrap();
    assert_eq!(tokens.asked(), ["repository:team/web:pull,push"], "once");

    // A token that is no longer good is replaced in the middle of the work.
    let (other, bytes) = blob(&setup, 4096, 2);
    let challenge = format!(
        "www-authenticate: Bearer realm=\"{}\",service=\"test-registry\",error=\"invalid_token\"\r\n",
        tokens.realm()
    );
    proxy.next("PUT", "/blobs/uploads/", Fault::Status(401, challenge));
    baker.push_blob(&other, &bytes, &[]).await.unwrap();
    assert!(proxy.all_faults_happened());
    assert_eq!(tokens.asked(), ["repository:team/web:pull,push"]);

    // From another repository by a token for both.
    let copy = registry(&proxy.host(), "team/copy", login(PASSWORD));
    proxy.forget();
    let others = ["team/web".to_owned()];
    let mounted = copy.push_blob(&descriptor, &source, &others).await.unwrap();
    assert_eq!(mounted, Sent::Mounted);
    assert_eq!(proxy.blob_bytes(), 0);

    // The login is good, but not for this repository.
    let foreign = registry(&proxy.host(), "others/web", login(PASSWORD));
    let error = foreign.has_blob(&descriptor).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");
    // Without a login one may read what is open, but not write there.
    let nobody = registry(&proxy.host(), "open/web", options());
    let error = nobody.manifest("1").await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
    let write = nobody.push_blob(&descriptor, &source, &[]);
    let error = write.await.unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
    let wrong = registry(&proxy.host(), "team/web", login("wrong"));
    let error = wrong.has_blob(&descriptor).await.unwrap_err();
    assert!(matches!(error, RegistryError::Login { .. }), "{error:?}");
}

/// Registries keep blobs in storage services, and send their clients there; the login is none of their business.
#[tokio::test]
async fn a_login_goes_to_no_other_host() {
    let (setup, server, storage) = (empty(), Server::with_login(), Server::start());
    let (front, behind) = (Proxy::start(server.port()), Proxy::start(storage.port()));
    let with_login = Options {
        credentials: Credentials::Given(Credential::Basic {
            user: USER.into(),
            password: PASSWORD.into(),
        }),
        ..options()
    };
    let both = registry(&front.host(), "a", with_login);
    let (descriptor, source) = blob(&setup, 4096, 1);
    both.push_blob(&descriptor, &source, &[]).await.unwrap();
    assert!(front.authorised() > 0);

    // An upload whose session is on the other host.
    let (other, bytes) = blob(&setup, 4096, 2);
    let uploads = format!("http://{}/v2/a/blobs/uploads/", behind.host());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let opened = client.post(uploads).send().await.unwrap();
    let location = opened.headers()["location"].to_str().unwrap();
    let answer = format!("location: {location}\r\n");
    front.next("POST", "/blobs/uploads/", Fault::Status(202, answer));
    let sent = both.push_blob(&other, &bytes, &[]).await.unwrap();
    assert_eq!(sent, Sent::Sent { bytes: 4096 });
    assert!(front.all_faults_happened());
    assert_eq!(behind.count("PUT", "/blobs/uploads/"), 1);

    // A download that is sent on.
    let there = format!("http://{}/v2/a/blobs/{}", behind.host(), other.digest);
    let answer = format!("location: {there}\r\n");
    front.next("GET", "/blobs/sha256:", Fault::Status(307, answer));
    let target = setup.path().join("fetched");
    both.fetch_blob(&other, &target, &|_| ()).await.unwrap();
    assert_eq!(behind.count("GET", "/blobs/sha256:"), 1);
    assert_eq!(behind.authorised(), 0, "a login has left its host");
}
