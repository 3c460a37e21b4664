//! What references to resources of other services become: names and ARNs in the right form, which exist nowhere.

use super::evaluate::Pseudo;

/// What a type's `Ref` is.
#[derive(Clone, Copy)]
enum Form {
    /// Its name.
    Name,
    /// Its ARN.
    Arn,
    /// An id with this prefix and 17 digits.
    Id(&'static str),
}

/// A type of resource: the property that names it, what `Ref` gives, and its ARN behind the partition. `%` is the name,
/// `@` stands for region and account.
struct Stand {
    kind: &'static str,
    name: &'static str,
    form: Form,
    arn: &'static str,
}

const STANDS: &[Stand] = &[
    stand(
        "AWS::IAM::InstanceProfile",
        "InstanceProfileName",
        Form::Name,
        "iam::$:instance-profile/%",
    ),
    stand("AWS::IAM::Role", "RoleName", Form::Name, "iam::$:role/%"),
    stand("AWS::SNS::Topic", "TopicName", Form::Arn, "sns:@:%"),
    stand("AWS::S3::Bucket", "BucketName", Form::Name, "s3:::%"),
    stand(
        "AWS::ECR::Repository",
        "RepositoryName",
        Form::Name,
        "ecr:@:repository/%",
    ),
    stand("AWS::KMS::Key", "", Form::Name, "kms:@:key/%"),
    stand("AWS::KMS::Alias", "AliasName", Form::Name, "kms:@:alias/%"),
    stand(
        "AWS::Logs::LogGroup",
        "LogGroupName",
        Form::Name,
        "logs:@:log-group:%",
    ),
    stand(
        "AWS::SSM::Parameter",
        "Name",
        Form::Name,
        "ssm:@:parameter/%",
    ),
    stand(
        "AWS::Lambda::Function",
        "FunctionName",
        Form::Name,
        "lambda:@:function:%",
    ),
    stand(
        "AWS::EC2::KeyPair",
        "KeyName",
        Form::Name,
        "ec2:@:key-pair/%",
    ),
    stand(
        "AWS::EC2::SecurityGroup",
        "",
        Form::Id("sg-"),
        "ec2:@:security-group/%",
    ),
    stand(
        "AWS::EC2::Subnet",
        "",
        Form::Id("subnet-"),
        "ec2:@:subnet/%",
    ),
    stand("AWS::EC2::VPC", "", Form::Id("vpc-"), "ec2:@:vpc/%"),
    stand(
        "AWS::EC2::LaunchTemplate",
        "",
        Form::Id("lt-"),
        "ec2:@:launch-template/%",
    ),
];

const fn stand(kind: &'static str, name: &'static str, form: Form, arn: &'static str) -> Stand {
    Stand {
        kind,
        name,
        form,
        arn,
    }
}

/// The property that names a resource of a type, if it has one.
pub fn name_property(kind: &str) -> Option<&'static str> {
    STANDS
        .iter()
        .find(|stand| stand.kind == kind)
        .map(|stand| stand.name)
        .filter(|name| !name.is_empty())
}

/// What `Ref` gives.
pub fn reference(kind: &str, name: &str, pseudo: &Pseudo) -> String {
    match STANDS.iter().find(|stand| stand.kind == kind) {
        Some(stand) => match stand.form {
            Form::Name => name.to_owned(),
            Form::Arn => arn(stand, name, pseudo),
            Form::Id(prefix) => id(prefix, name),
        },
        None => name.to_owned(),
    }
}

/// What `Fn::GetAtt` gives.
pub fn attribute(kind: &str, name: &str, attribute: &str, pseudo: &Pseudo) -> String {
    let Some(stand) = STANDS.iter().find(|stand| stand.kind == kind) else {
        return format!("{name}.{attribute}");
    };
    let own = match stand.form {
        Form::Id(prefix) => id(prefix, name),
        Form::Name | Form::Arn => name.to_owned(),
    };
    if attribute.ends_with("Arn") {
        return arn(stand, &own, pseudo);
    }
    match (attribute, stand.kind) {
        ("RepositoryUri", _) => format!(
            "{}.dkr.ecr.{}.{}/{name}",
            pseudo.account, pseudo.region, pseudo.suffix
        ),
        ("LatestVersionNumber" | "DefaultVersionNumber", _) => "1".to_owned(),
        _ => own,
    }
}

fn arn(stand: &Stand, name: &str, pseudo: &Pseudo) -> String {
    let place = format!("{}:{}", pseudo.region, pseudo.account);
    let rest = stand
        .arn
        .replace('@', &place)
        .replace('$', &pseudo.account)
        .replace('%', name);
    format!("arn:{}:{rest}", pseudo.partition)
}

/// An id that is always the same for a name: FNV-1a, which is enough to tell two logical ids apart.
fn id(prefix: &str, name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{prefix}0{hash:016x}")
}
