//! A token server as registries name them in their challenges. The registry verifies what it signs.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use camino::{Utf8Path, Utf8PathBuf};

use super::server::{PASSWORD, USER, certificate};
use crate::setup::tool;

/// The server. Its thread ends with the test's process.
pub struct Tokens {
    port: u16,
    folder: tempfile::TempDir,
    /// Scopes, in the order in which they were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// What it grants: the baker everything below `team/`, anybody reading below `open/`.
fn granted(user: Option<&str>, repository: &str) -> &'static str {
    match user {
        Some(_) if repository.starts_with("team/") => r#""pull","push""#,
        _ if repository.starts_with("open/") => r#""pull""#,
        _ => "",
    }
}

impl Tokens {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().to_owned();
        let (_, key) = certificate(&path, false);
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let shared = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                serve(client, &path, &key, &shared);
            }
        });
        Self {
            port,
            folder,
            asked,
        }
    }

    pub fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    pub fn certificate(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path())
            .unwrap()
            .join("certificate.pem")
    }

    /// Scopes that were asked for since the last time.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(
    mut client: TcpStream,
    folder: &Utf8Path,
    key: &Utf8Path,
    asked: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.split(' ').nth(1)?;
    let url = reqwest::Url::parse(&format!("http://localhost{target}")).ok()?;
    let login = head
        .lines()
        .find_map(|line| line.strip_prefix("authorization: Basic "));
    let right = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let answer = match login {
        Some(login) if login != right => "HTTP/1.1 401 No\r\ncontent-length: 0\r\n".to_owned(),
        _ => {
            let scopes: Vec<String> = url
                .query_pairs()
                .filter(|(name, _)| name == "scope")
                .map(|(_, scope)| scope.into_owned())
                .collect();
            asked.lock().unwrap().extend(scopes.clone());
            let token = token(&scopes, login.map(|_| USER), folder, key);
            let body = format!("{{\"token\":\"{token}\",\"expires_in\":300}}");
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
        }
    };
    let end = if answer.contains("\r\n\r\n") {
        ""
    } else {
        "\r\n"
    };
    client.write_all(format!("{answer}{end}").as_bytes()).ok()
}

/// A JSON Web Token as the distribution project describes it, with the certificate in its header.
fn token(scopes: &[String], user: Option<&str>, folder: &Utf8Path, key: &Utf8Path) -> String {
    let certificate = std::fs::read_to_string(folder.join("certificate.pem")).unwrap();
    let der: String = certificate
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let access: Vec<String> = scopes
        .iter()
        .filter_map(|scope| {
            let repository = scope.strip_prefix("repository:")?.rsplit_once(':')?.0;
            let actions = granted(user, repository);
            Some(format!(
                r#"{{"type":"repository","name":"{repository}","actions":[{actions}]}}"#
            ))
        })
        .collect();
    let now = jiff::Timestamp::now().as_second();
    let header = format!(r#"{{"typ":"JWT","alg":"RS256","x5c":["{der}"]}}"#);
    let claims = format!(
        r#"{{"iss":"test-issuer","sub":"{}","aud":"test-registry","exp":{},"nbf":{},"iat":{now},"jti":"{now}","access":[{}]}}"#,
        user.unwrap_or_default(),
        now + 300,
        now - 60,
        access.join(",")
    );
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let (text, signature) = (folder.join("signed"), folder.join("signature"));
    std::fs::write(&text, &signed).unwrap();
    tool(
        "openssl",
        &[
            "dgst",
            "-sha256",
            "-sign",
            key.as_str(),
            "-out",
            signature.as_str(),
            text.as_str(),
        ],
    );
    let signature = std::fs::read(signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
