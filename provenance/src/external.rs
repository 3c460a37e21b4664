//! Signing by a command: for keys in a hardware token or a service that we never see.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dsse::{EnvelopeError, Signer};
use crate::key::{KeyError, PublicKey};

/// Why something could not be signed. Of a command only its first word is told: the rest may hold a PIN.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The command did not run or broke off.
    #[error("cannot run the signing command `{command}`")]
    Run {
        /// Its name.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("the signing command `{command}` failed ({status}): {message}")]
    Failed {
        /// Its name.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last of what it told.
        message: String,
    },
    /// It printed something else.
    #[error(
        "the signing command `{command}` must print a signature in base64 on its standard output"
    )]
    NotBase64 {
        /// Its name.
        command: String,
    },
    /// The envelope can't be signed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The signature or the key is wrong.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A command that gets the message on its standard input and prints the signature in base64.
#[derive(Clone)]
pub struct CommandSigner {
    command: String,
    public: PublicKey,
    withheld: Vec<String>,
}

impl fmt::Debug for CommandSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSigner")
            .field("command", &name_of(&self.command))
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// What of a shell command may be shown: its first word. Of an assignment (`PIN=1234 sign`) that is the variable's name, for
/// where its value ends only a shell can tell.
fn name_of(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or_default();
    match word.split_once('=') {
        Some((variable, _)) => format!("{variable}=…"),
        None => word.to_owned(),
    }
}

impl CommandSigner {
    /// A command for the shell, and the public half of the key that it signs with.
    pub fn new(command: impl Into<String>, public: PublicKey) -> Self {
        Self {
            command: command.into(),
            public,
            withheld: Vec::new(),
        }
    }

    /// Leaves a variable out of the command's environment.
    #[must_use]
    pub fn without(mut self, variable: impl Into<String>) -> Self {
        self.withheld.push(variable.into());
        self
    }
}

impl Signer for CommandSigner {
    fn public(&self) -> Result<PublicKey, SignError> {
        Ok(self.public.clone())
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let command = || name_of(&self.command);
        let run = |source| SignError::Run {
            command: command(),
            source,
        };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for variable in &self.withheld {
            shell.env_remove(variable);
        }
        let mut child = shell.spawn().map_err(run)?;
        let input = child.stdin.take();
        // Written beside reading: a command may print before it has read all.
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that does not read to the end tells by its exit status whether it minds.
                input.map(|mut input| input.write_all(message))
            });
            child.wait_with_output()
        })
        .map_err(run)?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(SignError::Failed {
                command: command(),
                status: output.status,
                message: told.lines().last().unwrap_or("it told nothing").to_owned(),
            });
        }
        let text: String = String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .collect();
        STANDARD
            .decode(text)
            .map_err(|_| SignError::NotBase64 { command: command() })
    }
}
