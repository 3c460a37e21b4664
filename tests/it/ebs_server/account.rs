//! Who is who: STS and IAM by the query protocol; licenses and ECR by JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{Reply, Request, State, form, ok, refuse, signer};

/// The account whose credentials the tests have.
pub const OWN: &str = "123456789012";
const DISTRIBUTOR: &str = "EC2ImageBuilderDistributionCrossAccountRole";

/// A role of the account.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its trust policy.
    pub trust: Value,
    /// What it may not do.
    pub denied: Vec<String>,
}

impl Role {
    /// As the manual says that it has to be.
    pub fn for_imports() -> Self {
        Self {
            trust: json!({"Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": {"Service": "vmie.amazonaws.com"}, "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:Externalid": "vmimport"}},
            }]}),
            denied: Vec::new(),
        }
    }
}

/// STS and IAM put their answers into an element more than EC2 does.
fn wrapped(call: &str, text: &str) -> Reply {
    super::xml(call, &format!("<{call}Result>{text}</{call}Result>"))
}

fn refused(status: u16, code: &str, message: &str) -> Reply {
    let mut reply = refuse(true, status, code, message);
    reply.body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
    .into_bytes();
    reply
}

pub(super) fn query(call: &str, request: &Request, state: &mut State) -> Reply {
    let form = form(request);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    match call {
        "GetCallerIdentity" => {
            let (account, _) = signer(request);
            wrapped(call, &format!("<Account>{account}</Account>"))
        }
        "AssumeRole" => {
            let arn = field("RoleArn");
            let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
            if !arn.ends_with(&format!(":role/{DISTRIBUTOR}")) || !state.trusting.contains(&account)
            {
                return refused(
                    403,
                    "AccessDenied",
                    &format!(
                        "User is not authorized to perform: sts:AssumeRole on resource: {arn}"
                    ),
                );
            }
            wrapped(
                call,
                &format!(
                    "<Credentials><AccessKeyId>ASIAOF{account}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser><AssumedRoleId>AROA:x</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser>"
                ),
            )
        }
        "GetRole" => match state.roles.get(&field("RoleName")) {
            Some(role) => {
                let trust: String = role
                    .trust
                    .to_string()
                    .bytes()
                    .map(|byte| format!("%{byte:02X}"))
                    .collect();
                let name = field("RoleName");
                wrapped(
                    call,
                    &format!(
                        "<Role><RoleName>{name}</RoleName><Arn>arn:aws:iam::{OWN}:role/{name}</Arn><AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument></Role>"
                    ),
                )
            }
            None => refused(404, "NoSuchEntity", "The role cannot be found."),
        },
        _ => {
            let arn = field("PolicySourceArn");
            let role = state
                .roles
                .iter()
                .find(|(name, _)| arn.ends_with(&format!(":role/{name}")));
            let Some((_, role)) = role else {
                return refused(404, "NoSuchEntity", "The role cannot be found.");
            };
            let results: String = form
                .iter()
                .filter(|(key, _)| key.starts_with("ActionNames.member."))
                .map(|(_, action)| {
                    let decision = match role.denied.contains(action) {
                        true => "implicitDeny",
                        false => "allowed",
                    };
                    format!(
                        "<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>"
                    )
                })
                .collect();
            wrapped(
                call,
                &format!("<EvaluationResults>{results}</EvaluationResults>"),
            )
        }
    }
}

pub(super) fn json(call: &str, request: &Request, state: &mut State) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match call {
        "UpdateLicenseSpecificationsForResource" => {
            let added = body["AddLicenseSpecifications"][0]["LicenseConfigurationArn"].as_str();
            let (Some(added), Some(resource)) = (added, body["ResourceArn"].as_str()) else {
                return refuse(false, 400, "InvalidParameterValueException", "no license");
            };
            state
                .told
                .push((call.to_owned(), format!("{resource} {added}")));
            ok(200, &json!({}))
        }
        "GetAuthorizationToken" => ok(
            200,
            &json!({"authorizationData": [{
                "authorizationToken": BASE64.encode("baker:right-password"),
                "proxyEndpoint": state.importing.registry,
                "expiresAt": 4_000_000_000_u64,
            }]}),
        ),
        _ => refuse(false, 400, "UnknownOperationException", call),
    }
}
