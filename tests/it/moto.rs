//! A server that speaks as AWS does, for a test: moto.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::setup::{tool_in, wait_for};

/// The server; it ends with this value.
pub struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    pub fn start() -> Self {
        // Moto can't pick a port by itself and tell it, so a free one is looked up for it.
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let child = Command::new(tool_in("moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server starts (`make setup` installs it)");
        wait_for("moto", Duration::from_secs(120), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Points a program to this server.
    pub fn env<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        point(command, &self.endpoint())
    }

    /// Runs the AWS CLI against it and returns what it prints.
    #[track_caller]
    pub fn aws(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tool_in("aws"));
        let output = self
            .env(&mut command)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("aws starts (`make setup` installs it)");
        assert!(
            output.status.success(),
            "aws {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Points a program to a server that speaks as AWS does, with credentials that are nobody's.
pub fn point<'a>(command: &'a mut Command, endpoint: &str) -> &'a mut Command {
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "not-a-real-key")
        .env("AWS_REGION", "eu-central-1")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env_remove("AWS_PROFILE")
}
