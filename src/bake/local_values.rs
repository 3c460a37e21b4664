//! Stored values that the recipe takes from elsewhere than Parameter Store, most of them from this machine: documents stay
//! as they are, and a bake needs no network for its secrets.

use std::process::Stdio;

use camino::{Utf8Path, Utf8PathBuf};

use super::keyring::Account;
use crate::aws;
use crate::aws::secrets_manager::Secret;
use crate::aws::stored_values::StoredValue;
use crate::documents::image_recipe::LocalValue;
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Parameter Store's largest value has 8 KiB, Secrets Manager's 64 KiB.
const LONGEST: usize = 64 << 10;

/// A name with the place where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSource {
    /// The name by which documents ask for it.
    pub name: String,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Environment(String),
    File(Utf8PathBuf),
    Command(Vec<String>),
    Keyring(Account),
    SecretsManager(Secret),
}

impl LocalSource {
    /// As the recipe in `folder` says it; the shape has checked that exactly one place is given.
    pub fn new(value: &LocalValue, folder: &Utf8Path) -> Option<Self> {
        let place = if let Some(name) = &value.env {
            Place::Environment(name.clone())
        } else if let Some(file) = &value.file {
            Place::File(folder.join(file))
        } else if let Some(words) = &value.command {
            Place::Command(words.clone())
        } else if let Some(keyring) = &value.keyring {
            Place::Keyring(Account {
                service: keyring.service.clone(),
                account: keyring.account.clone(),
            })
        } else {
            let secret = value.secrets_manager.as_ref()?;
            Place::SecretsManager(Secret {
                id: secret.secret.clone(),
                key: secret.key.clone(),
            })
        };
        Some(Self {
            name: value.name.clone(),
            place,
        })
    }

    /// Reads the value; every one is a secret.
    ///
    /// # Errors
    /// [`FailureKind::Config`] if it is not there or is no text, [`FailureKind::Environment`] if AWS can't be asked; no message
    /// holds any of it.
    pub async fn read(&self) -> Result<StoredValue> {
        let bytes = match &self.place {
            Place::Environment(name) => match std::env::var_os(name) {
                Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
                None => {
                    return Err(Failure::config(format!(
                        "the stored value {} is to come from the environment variable {name}, which is not set",
                        self.name
                    )));
                }
            },
            Place::File(file) => tokio::fs::read(file)
                .await
                .or_failure(FailureKind::Config, || {
                    format!("cannot read the stored value {} from {file}", self.name)
                })?,
            Place::Command(words) => self.ask(words).await?,
            Place::Keyring(account) => account
                .password()
                .await
                .map_err(|error| self.not_in_keyring(account).caused_by(error))?,
            Place::SecretsManager(secret) => {
                let config = aws::load().await;
                let value = secret.fetch(&config).await.map_err(|failure| {
                    failure.context(format!("the stored value {}", self.name))
                })?;
                value.value.into_bytes()
            }
        };
        let value = String::from_utf8(bytes)
            .ok()
            .filter(|value| value.len() <= LONGEST && !value.is_empty())
            .ok_or_else(|| {
                Failure::config(format!(
                    "the stored value {} is empty, no UTF-8 text, or longer than {} KiB",
                    self.name,
                    LONGEST >> 10
                ))
            })?;
        // Files and commands end with a line end that nobody means.
        let value = value.strip_suffix('\n').unwrap_or(&value).to_owned();
        Ok(StoredValue {
            value,
            secret: true,
        })
    }

    fn not_in_keyring(&self, Account { service, account }: &Account) -> Failure {
        Failure::config(format!(
            "the stored value {} is to come from a keyring, and none gives the password of {account} for {service}",
            self.name
        ))
        .with_hint(format!(
            "put it there: `secret-tool store --label={service} service {service} username {account}`, or `keyctl padd user keyring:{account}@{service} @u`"
        ))
    }

    async fn ask(&self, words: &[String]) -> Result<Vec<u8>> {
        let failed = |reason: String| {
            Failure::config(format!(
                "the command that gives the stored value {} {reason}",
                self.name
            ))
        };
        let Some((program, arguments)) = words.split_first() else {
            return Err(failed("is empty".into()));
        };
        let output = tokio::process::Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(format!("does not start: {program}")).caused_by(error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        // What it printed to standard output may be half of a secret.
        Err(failed(format!("failed ({})", output.status))
            .with_details(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(place: Place) -> LocalSource {
        LocalSource {
            name: "/app/password".into(),
            place,
        }
    }

    fn command(words: &[&str]) -> LocalSource {
        source(Place::Command(
            words.iter().map(|word| (*word).to_owned()).collect(),
        ))
    }

    #[tokio::test]
    async fn values_come_from_files_commands_and_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = Utf8PathBuf::try_from(folder.path().join("secret")).unwrap();
        std::fs::write(&file, "s3cret\n").unwrap();
        let value = source(Place::File(file)).read().await.unwrap();
        assert_eq!((value.value.as_str(), value.secret), ("s3cret", true));
        let value = command(&["printf", "two\\nlines\\n"]).read().await.unwrap();
        assert_eq!(value.value, "two\nlines");
        // Set for every test process by the runner.
        let value = source(Place::Environment("PATH".into()))
            .read()
            .await
            .unwrap();
        assert_eq!(value.value, std::env::var("PATH").unwrap());
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_without_the_value() {
        for (source, wanted) in [
            (
                source(Place::Environment("OVENBIRD_NOT_SET".into())),
                "OVENBIRD_NOT_SET, which is not set",
            ),
            (
                source(Place::File("/no/such".into())),
                "cannot read the stored value /app/password from /no/such",
            ),
            (
                command(&["sh", "-c", "echo half-a-secret; exit 3"]),
                "failed (exit status: 3)",
            ),
            (
                command(&["/no/such/program"]),
                "does not start: /no/such/program",
            ),
            (command(&["true"]), "is empty"),
            #[cfg(target_os = "linux")]
            (
                source(Place::Keyring(Account {
                    service: "ovenbird-none".into(),
                    account: "nobody".into(),
                })),
                "none gives the password of nobody for ovenbird-none: the kernel's keyring: it has none; the desktop's: ",
            ),
        ] {
            let failure = source.read().await.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Config);
            let text = format!(
                "{} {}",
                failure.chain(),
                failure.details().unwrap_or_default()
            );
            assert!(text.contains(wanted), "{text}");
            assert!(!text.contains("half-a-secret"), "{text}");
        }
    }
}
