//! What an import needs of the account, asked one by one before a disk is uploaded: the service answers much of it with the
//! same sentence, hours later.

use ovenbird_disk::preflight::{Road, Severity, check_file};
use ovenbird_disk::{OpenOptions, Progress};
use serde_json::Value;

use super::plan::ImportPlan;
use super::s3;
use super::site::Site;
use super::task::{IMPORT_IMAGE, TaskKind};
use crate::aws::query::{Parameters, Query};
use crate::aws::signed::RequestError;
use crate::aws::{partition, xml};
use crate::error::{Failure, FailureContext as _, FailureKind, Result};

/// Who takes the role.
const SERVICE: &str = "vmie.amazonaws.com";
/// What the role does with the bucket, and with everything.
const OF_BUCKET: [&str; 3] = ["s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject"];
const OF_ALL: [&str; 4] = [
    "ec2:ModifySnapshotAttribute",
    "ec2:CopySnapshot",
    "ec2:RegisterImage",
    "ec2:DescribeSnapshots",
];

/// Nobody watches, and nobody stops it.
struct Quiet;

impl Progress for Quiet {}

impl Site<'_> {
    /// Looks at the file, the bucket and the role; all that is wrong is told at once.
    ///
    /// # Errors
    /// [`FailureKind::Environment`] that lists what is wrong.
    pub(super) async fn preflight(&self, plan: &ImportPlan, kind: &TaskKind) -> Result<()> {
        let mut wrong = self.wrong_with_file(plan, kind).await?;
        wrong.extend(self.wrong_with_bucket(plan).await?);
        wrong.extend(self.wrong_with_role(plan).await?);
        let Some((_, hint)) = wrong.first().cloned() else {
            return Ok(());
        };
        let failure = match wrong.as_slice() {
            [(one, _)] => Failure::environment(format!("the import can't succeed: {one}")),
            all => {
                let lines: Vec<String> = all
                    .iter()
                    .map(|(what, hint)| format!("{what}: {hint}"))
                    .collect();
                let count = all.len();
                Failure::environment(format!("the import can't succeed, for {count} reasons"))
                    .with_details(lines.join("\n"))
            }
        };
        Err(failure.with_hint(hint))
    }

    async fn wrong_with_file(
        &self,
        plan: &ImportPlan,
        kind: &TaskKind,
    ) -> Result<Vec<(String, String)>> {
        // ImportSnapshot looks at no more than the file, as the blocks of the EBS direct APIs have no one to look at them.
        let road = match kind.describe == IMPORT_IMAGE.describe {
            true => Road::AwsImport,
            false => Road::AwsEbs,
        };
        let path = self.source.folder.join(&plan.file);
        let name = plan.file.clone();
        let report = tokio::task::spawn_blocking(move || {
            check_file(path.as_std_path(), &OpenOptions::new(), road, &Quiet)
                .or_failure(FailureKind::Output, || format!("cannot read {path}"))
        })
        .await
        .or_failure(FailureKind::Internal, || "the preflight was cut off".into())??;
        for what in &report.skipped {
            self.note(&format!("not looked at: {what}"));
        }
        Ok(report
            .findings
            .into_iter()
            .filter(|finding| finding.lint.severity == Severity::Error)
            .map(|finding| {
                let what = format!("{name}: {}: {}", finding.place, finding.message);
                (what, finding.lint.fix.to_owned())
            })
            .collect())
    }

    async fn wrong_with_bucket(&self, plan: &ImportPlan) -> Result<Option<(String, String)>> {
        let bucket = s3::bucket(&plan.upload, &self.aws).await?;
        let (name, region) = (bucket.name().to_owned(), &self.plan.region);
        match bucket.location().await {
            Ok(there) if there == *region => Ok(None),
            Ok(there) => Ok(Some((
                format!("the bucket {name} is in {there} and not in {region}"),
                format!("name a bucket in {region} under `local.amis`"),
            ))),
            Err(error) if error.code() == "AccessDenied" => {
                // Putting objects is another right, and the only one that is needed for that.
                self.note(&format!(
                    "whether {name} is in {region} can't be asked: {error}"
                ));
                Ok(None)
            }
            Err(error @ RequestError::Refused { .. }) => Ok(Some((
                format!("the bucket {name} can't be used: {error}"),
                format!("make it in {region}, or name another one under `local.amis`"),
            ))),
            Err(error) => Err(error.into_failure(&format!("ask for the bucket {name}"))),
        }
    }

    async fn wrong_with_role(&self, plan: &ImportPlan) -> Result<Option<(String, String)>> {
        let role = &plan.role;
        let region = &self.plan.region;
        // IAM has one region in each partition.
        let home = match partition(region) {
            "aws-cn" => "cn-north-1",
            "aws-us-gov" => "us-gov-west-1",
            _ => "us-east-1",
        };
        let iam = Query::new(&self.aws, "iam", "2010-05-08", home)?;
        let one = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
        let answer = match iam.call("GetRole", &one("RoleName", role)).await {
            Ok(answer) => answer,
            Err(error) if error.code() == "NoSuchEntity" => {
                return Ok(Some((
                    format!("the role {role} does not exist"),
                    "docs/distribution.md shows how it is made".into(),
                )));
            }
            Err(error @ RequestError::Refused { .. }) => {
                self.note(&format!("the role {role} can't be looked at: {error}"));
                return Ok(None);
            }
            Err(error) => return Err(error.into_failure(&format!("ask for the role {role}"))),
        };
        let first = |name| xml::texts(&answer, name).into_iter().next();
        let trust = first("AssumeRolePolicyDocument").unwrap_or_default();
        if let Some(why) = wrong_with_trust(&trust) {
            return Ok(Some((
                format!("the role {role} can't be taken by the service: {why}"),
                format!(
                    "its trust policy has to let {SERVICE} do sts:AssumeRole with the external id vmimport"
                ),
            )));
        }
        let arn = first("Arn").unwrap_or_default();
        let denied = match self.denied(&iam, &arn, plan).await {
            Ok(denied) => denied,
            Err(error) => {
                self.note(&format!(
                    "the rights of the role {role} can't be asked for: {error}"
                ));
                return Ok(None);
            }
        };
        Ok((!denied.is_empty()).then(|| {
            (
                format!("the role {role} may not do {}", denied.join(", ")),
                format!(
                    "add a policy that allows it; actions of s3 on the bucket {} and what is in it",
                    plan.upload.bucket
                ),
            )
        }))
    }

    /// What a role may not do of what it has to do.
    async fn denied(
        &self,
        iam: &Query,
        arn: &str,
        plan: &ImportPlan,
    ) -> Result<Vec<String>, RequestError> {
        let partition = partition(&self.plan.region);
        let bucket = format!("arn:{partition}:s3:::{}", plan.upload.bucket);
        let files = format!("{bucket}/*");
        let mut denied = Vec::new();
        for (actions, resource) in [
            (&OF_BUCKET[..2], bucket.as_str()),
            (&OF_BUCKET[2..], files.as_str()),
            (&OF_ALL[..], "*"),
        ] {
            let mut parameters: Parameters = vec![
                ("PolicySourceArn".into(), arn.to_owned()),
                ("ResourceArns.member.1".into(), resource.to_owned()),
            ];
            for (number, action) in (1..).zip(actions) {
                parameters.push((format!("ActionNames.member.{number}"), (*action).to_owned()));
            }
            let answer = iam.call("SimulatePrincipalPolicy", &parameters).await?;
            let names = xml::texts(&answer, "EvalActionName");
            let decisions = xml::texts(&answer, "EvalDecision");
            denied.extend(
                names
                    .into_iter()
                    .zip(decisions)
                    .filter(|(_, decision)| decision != "allowed")
                    .map(|(name, _)| name),
            );
        }
        Ok(denied)
    }
}

/// Why the service can't take a role with this trust policy; none if it can.
fn wrong_with_trust(encoded: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy();
    let Ok(policy) = serde_json::from_str::<Value>(&text) else {
        return Some("its trust policy can't be read".into());
    };
    let many = |value: &Value| match value {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        one => vec![one.clone()],
    };
    let names = |value: &Value, wanted: &[&str]| {
        many(value)
            .iter()
            .filter_map(Value::as_str)
            .any(|name| wanted.contains(&name))
    };
    let trusted: Vec<Value> = many(&policy["Statement"])
        .into_iter()
        .filter(|statement| {
            statement["Effect"] == "Allow"
                && names(&statement["Principal"]["Service"], &[SERVICE])
                && names(&statement["Action"], &["sts:AssumeRole", "sts:*", "*"])
        })
        .collect();
    if trusted.is_empty() {
        return Some(format!("its trust policy does not name {SERVICE}"));
    }
    // The service says who it is by this word, and by no other.
    let fits = |statement: &Value| {
        let conditions = statement["Condition"]["StringEquals"].as_object();
        let external = conditions.and_then(|conditions| {
            conditions
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case("sts:ExternalId"))
        });
        external.is_none_or(|(_, value)| names(value, &["vmimport"]))
    };
    (!trusted.iter().any(fits))
        .then(|| "its trust policy wants another external id than vmimport".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(statement: Value) -> Option<String> {
        let text = serde_json::json!({"Version": "2012-10-17", "Statement": statement}).to_string();
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        wrong_with_trust(&encoded)
    }

    #[test]
    fn trust_policies_are_read_as_the_service_reads_them() {
        let good = |condition: Value| {
            serde_json::json!({
                "Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "sts:AssumeRole",
                "Condition": condition,
            })
        };
        let external = |id: &str| serde_json::json!({"StringEquals": {"sts:Externalid": id}});
        assert_eq!(of(serde_json::json!([good(external("vmimport"))])), None);
        // A statement alone, and lists where one value would do.
        assert_eq!(of(good(Value::Null)), None);
        let lists = serde_json::json!({
            "Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", SERVICE]},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        });
        assert_eq!(of(lists), None);
        let other = of(good(external("other"))).unwrap();
        assert!(other.contains("external id"), "{other}");
        let mut foreign = good(Value::Null);
        foreign["Principal"] = serde_json::json!({"Service": "ec2.amazonaws.com"});
        assert!(of(foreign).unwrap().contains(SERVICE));
        let mut denied = good(Value::Null);
        denied["Effect"] = "Deny".into();
        assert!(of(denied).unwrap().contains(SERVICE));
        assert!(wrong_with_trust("%7B").unwrap().contains("can't be read"));
    }
}
