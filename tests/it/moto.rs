//! A server that speaks as AWS does, for a test: moto.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
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

    /// A door to this server for clients that believe what they read: moto says numbers of blocks as text, and a block size of
    /// 512 bytes, where the service says numbers and 524288. Everything else goes through as it is. For requests without a body.
    pub fn corrected(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let port = self.port;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || correct(stream, port));
            }
        });
        endpoint
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

/// Hands one request on and corrects its answer.
fn correct(mut stream: TcpStream, port: u16) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        request.push(byte[0]);
    }
    request.truncate(request.len() - 2);
    request.extend_from_slice(b"connection: close\r\n\r\n");
    let mut moto = TcpStream::connect(("127.0.0.1", port)).unwrap();
    moto.write_all(&request).unwrap();
    let mut answer = Vec::new();
    moto.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .unwrap();
    let (head, body) = (
        String::from_utf8_lossy(&answer[..end]).into_owned(),
        &answer[end + 4..],
    );
    let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(body) else {
        stream.write_all(&answer).unwrap();
        return;
    };
    value["BlockSize"] = 524_288.into();
    for block in value["Blocks"].as_array_mut().into_iter().flatten() {
        if let Some(index) = block["BlockIndex"].as_str() {
            block["BlockIndex"] = index.parse::<u64>().unwrap().into();
        }
    }
    let body = value.to_string();
    let status = head.lines().next().unwrap();
    write!(
        stream,
        "{status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
}
