//! `docker-registry` on loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::setup::{tool, wait_for};

pub const USER: &str = "baker";
pub const PASSWORD: &str = "right-password";
/// bcrypt, the only scheme that the registry takes: of [`PASSWORD`], and of the token that moto gives for ECR.
const LOGINS: &str = "baker:$2y$05$abcdefghijklmnopqrstuuBO.kmgTJhdt40M5ZyHgFmcpBdUb9aS.
AWS:$2y$05$abcdefghijklmnopqrstuu/4ofrUS75HrKu6f.iuRo0I/XlrmpqlC
";

/// The registry; it ends with this value.
pub struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_| String::new())
    }

    /// Lets manifests be removed.
    pub fn with_deletion() -> Self {
        Self::with_storage("  delete:\n    enabled: true\n", |_| String::new())
    }

    pub fn with_login() -> Self {
        Self::with(|folder| {
            let path = folder.join("htpasswd");
            std::fs::write(&path, LOGINS).unwrap();
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}\n")
        })
    }

    /// Speaks TLS with a certificate of its own.
    pub fn with_tls() -> Self {
        Self::with(|folder| tls(folder, false))
    }

    /// The same with a certificate that is said to be an authority's, as `openssl req -x509` makes them.
    pub fn with_authority() -> Self {
        Self::with(|folder| tls(folder, true))
    }

    /// Believes tokens of a server at this address, signed with the key of this certificate.
    pub fn with_tokens(realm: &str, certificate: &Utf8Path) -> Self {
        Self::with(|_| {
            format!(
                "auth:\n  token:\n    realm: {realm}\n    service: test-registry\n    issuer: test-issuer\n    rootcertbundle: {certificate}\n"
            )
        })
    }

    fn with(more: impl FnOnce(&Utf8Path) -> String) -> Self {
        Self::with_storage("", more)
    }

    fn with_storage(storage: &str, more: impl FnOnce(&Utf8Path) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {path}/data\n{storage}http:\n  addr: 127.0.0.1:{port}\n{}",
            more(path)
        );
        let file = path.join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts (`make setup` installs it)");
        wait_for("the registry", Duration::from_secs(60), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            child,
            port,
            folder,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Forgets a repository.
    pub fn clear(&self, repository: &str) {
        let folder = self.folder.path().join("data/docker/registry/v2");
        std::fs::remove_dir_all(folder.join("repositories").join(repository)).unwrap();
    }

    /// The certificate that it shows, where it speaks TLS.
    pub fn certificate(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path())
            .unwrap()
            .join("certificate.pem")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tls(folder: &Utf8Path, authority: bool) -> String {
    let (certificate, key) = certificate(folder, authority);
    format!("  tls:\n    certificate: {certificate}\n    key: {key}\n")
}

/// Makes a certificate for 127.0.0.1, and its key.
pub fn certificate(folder: &Utf8Path, authority: bool) -> (Utf8PathBuf, Utf8PathBuf) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN={}", folder.file_name().unwrap_or_default()),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            if authority {
                "basicConstraints=critical,CA:TRUE"
            } else {
                "basicConstraints=critical,CA:FALSE"
            },
            "-keyout",
            key.as_str(),
            "-out",
            certificate.as_str(),
        ],
    );
    (certificate, key)
}
