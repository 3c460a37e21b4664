//! Logins as Docker, Podman and their credential helpers keep them.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use super::{ImageReference, RegistryError, Result};

/// Docker Hub stands in the files under this name.
const HUB_KEY: &str = "index.docker.io";
/// Helpers give this as the user of a token.
const TOKEN_USER: &str = "<token>";

/// A login. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that the registry's token server changes into one that opens repositories.
    Identity(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.user())
    }
}

impl Credential {
    /// Whose it is.
    pub fn user(&self) -> &str {
        match self {
            Self::Basic { user, .. } => user,
            Self::Identity(_) => "an identity token",
        }
    }

    /// The value of the `Authorization` header; none for identity tokens.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Basic { user, password } => Some(format!(
                "Basic {}",
                STANDARD.encode(format!("{user}:{password}"))
            )),
            Self::Identity(_) => None,
        }
    }
}

/// Where logins are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// In these files, in this order.
    Files(Vec<Utf8PathBuf>),
    /// This one, for whatever registry.
    Given(Credential),
    /// Nowhere.
    None,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

impl Credentials {
    /// The user's files: `REGISTRY_AUTH_FILE` alone if it is set, else Podman's and Docker's.
    pub fn of_user() -> Self {
        let folder = |name: &str| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .map(Utf8PathBuf::from)
        };
        if let Some(file) = folder("REGISTRY_AUTH_FILE") {
            return Self::Files(vec![file]);
        }
        let home = folder("HOME");
        let config =
            folder("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker =
            folder("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
        let files = [
            folder("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
            config.map(|folder| folder.join("containers/auth.json")),
            docker.map(|folder| folder.join("config.json")),
        ];
        Self::Files(files.into_iter().flatten().collect())
    }

    /// Looks for the login for a repository. Runs programs; call it where that may take a while.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] for a file that can't be read or a helper that fails.
    pub fn find(&self, reference: &ImageReference) -> Result<Option<Credential>> {
        let files = match self {
            Self::None => return Ok(None),
            Self::Given(credential) => return Ok(Some(credential.clone())),
            Self::Files(files) => files,
        };
        for file in files {
            if let Some(credential) = in_file(file, reference)? {
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }
}

fn in_file(file: &Utf8Path, reference: &ImageReference) -> Result<Option<Credential>> {
    let bad = |reason: String| RegistryError::Credentials {
        from: file.to_string(),
        reason,
    };
    let text = match std::fs::read(file) {
        // Podman takes an empty file as one without logins.
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    // serde's message would quote the place, and with it perhaps a password.
    let config: ConfigFile = serde_json::from_slice(&text).map_err(|error| {
        bad(format!(
            "it is no JSON of the expected shape at line {}",
            error.line()
        ))
    })?;
    let host = if reference.registry == "docker.io" {
        HUB_KEY
    } else {
        &reference.registry
    };
    if let Some(helper) = config.cred_helpers.get(host)
        && let Some(credential) = from_helper(helper, host)?
    {
        return Ok(Some(credential));
    }
    // Podman's keys may be as long as the repository; the longest that fits is meant.
    let full = format!("{host}/{}", reference.repository);
    let mut key = full.as_str();
    let entry = loop {
        if let Some((_, entry)) = config.auths.iter().find(|(name, _)| bare(name) == key) {
            break Some(entry);
        }
        match key.rsplit_once('/') {
            Some((shorter, _)) => key = shorter,
            None => break None,
        }
    };
    if let Some(credential) = entry.map(from_entry).transpose().map_err(bad)?.flatten() {
        return Ok(Some(credential));
    }
    match &config.creds_store {
        // Docker asks its store for Hub by the address that its files had ten years ago.
        Some(helper) if host == HUB_KEY => from_helper(helper, "https://index.docker.io/v1/"),
        Some(helper) => from_helper(helper, host),
        None => Ok(None),
    }
}

/// A key without scheme and the path of Docker's first API.
fn bare(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    key.strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key)
}

fn from_entry(entry: &Entry) -> Result<Option<Credential>, String> {
    if let Some(token) = entry
        .identitytoken
        .as_ref()
        .filter(|token| !token.is_empty())
    {
        return Ok(Some(Credential::Identity(token.clone())));
    }
    if let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) {
        let text = STANDARD
            .decode(auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = text
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .ok_or("an `auth` in it is not user and password in base64")?;
        return Ok(Some(Credential::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }));
    }
    Ok(match (&entry.username, &entry.password) {
        (Some(user), Some(password)) => Some(Credential::Basic {
            user: user.clone(),
            password: password.clone(),
        }),
        _ => None,
    })
}

/// Asks `docker-credential-NAME`.
fn from_helper(name: &str, host: &str) -> Result<Option<Credential>> {
    let program = format!("docker-credential-{name}");
    let bad = |reason: String| RegistryError::Credentials {
        from: program.clone(),
        reason,
    };
    if name.contains(['/', '\\']) {
        return Err(bad("a helper's name has no slash".into()));
    }
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| bad(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input has its reasons; its answer counts.
        let _ = stdin.write_all(host.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| bad(error.to_string()))?;
    if !output.status.success() {
        // Helpers print their errors to either stream.
        let mut said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if said.is_empty() {
            said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        }
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(bad(format!("{}: {said}", output.status)));
    }
    let helped: Helped = serde_json::from_slice(&output.stdout)
        .map_err(|_| bad("its answer has no Username and Secret".into()))?;
    Ok(Some(if helped.username == TOKEN_USER {
        Credential::Identity(helped.secret)
    } else {
        Credential::Basic {
            user: helped.username,
            password: helped.secret,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &str, reference: &str) -> Result<Option<Credential>> {
        let folder = tempfile::tempdir().unwrap();
        let file = Utf8Path::from_path(folder.path())
            .unwrap()
            .join("auth.json");
        std::fs::write(&file, config).unwrap();
        Credentials::Files(vec![file]).find(&reference.parse().unwrap())
    }

    fn basic(user: &str, password: &str) -> Option<Credential> {
        Some(Credential::Basic {
            user: user.into(),
            password: password.into(),
        })
    }

    #[test]
    fn the_longest_key_that_fits_is_meant() {
        // me:one, you:two:three, hub:h
        let config = r#"{"auths": {
            "r.example": {"auth": "bWU6b25l"},
            "https://r.example/team/": {"auth": "eW91OnR3bzp0aHJlZQ=="},
            "https://index.docker.io/v1/": {"auth": "aHViOmg="},
            "t.example:5000": {"identitytoken": "abc"},
            "empty.example": {}
        }}"#;
        for (reference, expected) in [
            ("r.example/other/web", basic("me", "one")),
            ("r.example/team/web", basic("you", "two:three")),
            ("r.example/teams", basic("me", "one")),
            ("docker.io/debian", basic("hub", "h")),
            ("t.example:5000/a", Some(Credential::Identity("abc".into()))),
            ("t.example/a", None),
            ("empty.example/a", None),
        ] {
            assert_eq!(find(config, reference).unwrap(), expected, "{reference}");
        }
    }

    #[test]
    fn a_broken_file_is_told_without_its_secrets() {
        let error = find(r#"{"auths": {"r.example": "s3cret"}}"#, "r.example/a").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        let error = find(r#"{"auths": {"r.example": {"auth": "?"}}}"#, "r.example/a").unwrap_err();
        assert!(error.to_string().contains("base64"), "{error}");
    }

    #[test]
    fn a_missing_helper_is_told() {
        let config = r#"{"credHelpers": {"r.example": "that-does-not-exist"}}"#;
        let error = find(config, "r.example/a").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("docker-credential-that-does-not-exist"),
            "{error}"
        );
        assert_eq!(find(config, "other.example/a").unwrap(), None);
    }
}
