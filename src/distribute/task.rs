//! Tasks of VM Import/Export: the service works on them for minutes or hours, and says how far it is.

use std::time::Duration;

use ovenbird_disk::preflight::LINTS;

use crate::aws::ec2::Ec2;
use crate::aws::xml;
use crate::error::Failure;

/// How long a task may take.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// The longest pause between two questions.
const PAUSE: Duration = Duration::from_secs(20);

/// A kind of task: how it is asked for, and where in the answer things are.
#[derive(Debug)]
pub(super) struct TaskKind {
    /// What it does, for messages.
    pub doing: &'static str,
    /// The call that tells of it.
    pub describe: &'static str,
    /// The parameter with its id.
    pub parameter: &'static str,
    /// The element with its id.
    pub id: &'static str,
    /// The element with what it made.
    pub result: Option<&'static str>,
}

pub(super) const IMPORT_SNAPSHOT: TaskKind = TaskKind {
    doing: "import the disk as a snapshot",
    describe: "DescribeImportSnapshotTasks",
    parameter: "ImportTaskId.1",
    id: "importTaskId",
    result: Some("snapshotId"),
};

pub(super) const IMPORT_IMAGE: TaskKind = TaskKind {
    doing: "import the disk as an AMI",
    describe: "DescribeImportImageTasks",
    parameter: "ImportTaskId.1",
    id: "importTaskId",
    result: Some("imageId"),
};

pub(super) const EXPORT: TaskKind = TaskKind {
    doing: "export the AMI to a bucket",
    describe: "DescribeExportImageTasks",
    parameter: "ExportImageTaskId.1",
    id: "exportImageTaskId",
    result: None,
};

/// Why a task brought nothing.
#[derive(Debug)]
pub(super) struct TaskEnded {
    /// What a person is told.
    pub failure: Failure,
    /// Whether it is over: another attempt needs another task.
    pub is_final: bool,
}

impl From<Failure> for TaskEnded {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            is_final: false,
        }
    }
}

/// Waits for a task and gives what it made; tells what the service says on the way.
pub(super) async fn wait(
    ec2: &Ec2,
    kind: &TaskKind,
    task: &str,
    told: &(dyn Fn(&str) + Sync),
) -> Result<String, TaskEnded> {
    let began = tokio::time::Instant::now();
    let mut pause = Duration::from_secs(1);
    let mut last = String::new();
    loop {
        let parameters = vec![(kind.parameter.to_owned(), task.to_owned())];
        let answer = match ec2.call(kind.describe, &parameters).await {
            Ok(answer) => answer,
            // What was just begun is not known everywhere at once.
            Err(error)
                if error.code().ends_with(".NotFound")
                    && began.elapsed() < crate::aws::ebs::UNKNOWN =>
            {
                String::new()
            }
            Err(error) => {
                let is_final = error.code().ends_with(".NotFound");
                let failure = error.into_failure(&format!("ask for {task}"));
                return Err(TaskEnded { failure, is_final });
            }
        };
        let first = |name| xml::texts(&answer, name).into_iter().next();
        let status = first("status").unwrap_or_default();
        let message = first("statusMessage").unwrap_or_default();
        match status.as_str() {
            "completed" => {
                let Some(result) = kind.result else {
                    return Ok(String::new());
                };
                return first(result).ok_or_else(|| {
                    let failure = format!("{task} is completed and names no {result}");
                    Failure::environment(failure).into()
                });
            }
            // Tasks that fail are deleted; there is no state of their own for that.
            "deleting" | "deleted" | "cancelling" | "cancelled" => {
                return Err(TaskEnded {
                    failure: refused(kind, task, &status, &message),
                    is_final: true,
                });
            }
            _ => {}
        }
        if began.elapsed() > PATIENCE {
            return Err(
                Failure::environment(format!("{task} is still {status}: {message}"))
                    .with_hint("run the same command again later: it waits for the same task")
                    .into(),
            );
        }
        let percent = first("progress").map(|progress| format!(" {progress} %"));
        let now = format!("{task} {status}{} {message}", percent.unwrap_or_default());
        if now != last {
            told(now.trim_end());
            last = now;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}

/// What a person is told of a task that failed: the service's words, and what they mean.
fn refused(kind: &TaskKind, task: &str, status: &str, message: &str) -> Failure {
    let said = match message {
        "" => "the service gives no reason",
        message => message,
    };
    let failure =
        Failure::environment(format!("cannot {}: {task} is {status}: {said}", kind.doing));
    match explained(message) {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// What the service's words mean. Those about disks are in the catalogue of the preflight.
fn explained(message: &str) -> Option<&'static str> {
    const ACCESS: [(&str, &str); 5] = [
        (
            "do not have access to the given resource",
            "the role can't read the file: it needs s3:GetObject, s3:GetBucketLocation and s3:ListBucket on the bucket",
        ),
        (
            "Invalid S3 source location",
            "the role can't find the file: look at its rights on the bucket, and whether somebody removed the file",
        ),
        (
            "not local to the Region",
            "the bucket has to be in the region of the import: name another one under `local.amis`",
        ),
        (
            "Insufficient permissions",
            "the role needs s3:GetBucketLocation, s3:PutObject and s3:PutObjectAcl on the bucket, in the AMI's region",
        ),
        (
            "service role",
            "the role is missing or may not be used; docs/distribution.md shows how it is made",
        ),
    ];
    let of_access = ACCESS.iter().find(|(words, _)| message.contains(words));
    let of_disk = || {
        LINTS.iter().find_map(|lint| {
            let words = lint.answer?.trim_start_matches("ClientError: ");
            message
                .contains(words.trim_end_matches('.'))
                .then_some(lint.fix)
        })
    };
    of_access.map(|(_, hint)| *hint).or_else(of_disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_words_are_explained() {
        let access = "ClientError: Disk validation failed [We do not have access to the given resource. Reason 403 Forbidden]";
        assert!(explained(access).unwrap().contains("s3:GetObject"));
        let grub =
            "ClientError: BLSC-style GRUB found, but unable to detect default kernel. Details…";
        assert!(explained(grub).unwrap().contains("saved_entry"));
        let table = "ClientError: No valid partitions. Not a valid volume.";
        assert!(explained(table).unwrap().contains("GPT"));
        assert_eq!(explained("ServerError: An internal error"), None);
        assert_eq!(explained(""), None);
    }
}
