//! Snapshots, AMIs and what points to them, by EC2's query protocol.

use super::{Image, Reply, Request, State, form, refuse, signer, xml};

pub(super) fn answer(call: &str, request: &Request, state: &mut State) -> Reply {
    let form = form(request);
    let (account, region) = signer(request);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let done = || xml(call, "<return>true</return>");
    match call {
        "DescribeSnapshots" => match state.snapshots.get(&field("SnapshotId.1")) {
            Some(snapshot) => xml(
                call,
                &format!(
                    "<snapshotSet><item><status>{}</status><volumeSize>{}</volumeSize><encrypted>{}</encrypted></item></snapshotSet>",
                    snapshot.state,
                    snapshot.gib,
                    snapshot.encrypted.is_some()
                ),
            ),
            None => refuse(true, 400, "InvalidSnapshot.NotFound", "no such snapshot"),
        },
        "RegisterImage" => {
            for (name, value) in [
                ("VirtualizationType", "hvm"),
                ("EnaSupport", "true"),
                ("Architecture", "x86_64"),
            ] {
                if field(name) != value {
                    return refuse(true, 400, "InvalidParameterValue", name);
                }
            }
            let snapshot = field("BlockDeviceMapping.1.Ebs.SnapshotId");
            if state
                .snapshots
                .get(&snapshot)
                .is_none_or(|known| known.state != "completed")
            {
                return refuse(true, 400, "InvalidSnapshot.NotFound", "not completed");
            }
            made(call, state, &field("Name"), snapshot, &account, &region, "")
        }
        "CopyImage" => {
            let token = field("ClientToken");
            let again = state
                .images
                .iter()
                .find(|(_, image)| !token.is_empty() && image.token == token);
            if let Some((id, _)) = again {
                return xml(call, &format!("<imageId>{id}</imageId>"));
            }
            let Some(source) = state.images.get(&field("SourceImageId")).cloned() else {
                return refuse(true, 400, "InvalidAMIID.NotFound", "no such image");
            };
            if source.region != field("SourceRegion") {
                return refuse(true, 400, "InvalidAMIID.NotFound", "not in that region");
            }
            let below = &state.snapshots[&source.snapshot];
            let seen = |permitted: &[String]| permitted.contains(&account);
            if source.account != account && !(seen(&source.permitted) && seen(&below.permitted)) {
                return refuse(
                    true,
                    400,
                    "InvalidRequest",
                    "You do not have permission to access the storage of this ami",
                );
            }
            let mut copy = below.clone();
            copy.permitted.clear();
            let snapshot = format!("snap-{:017x}", state.snapshots.len() + 1);
            state.snapshots.insert(snapshot.clone(), copy);
            made(
                call,
                state,
                &field("Name"),
                snapshot,
                &account,
                &region,
                &token,
            )
        }
        "DescribeImages" => {
            let wanted = field("ImageId.1");
            let found = state.images.iter().find(|(id, image)| {
                **id == wanted
                    || (image.name == field("Filter.1.Value.1")
                        && image.snapshot == field("Filter.2.Value.1"))
            });
            match found {
                Some((id, image)) => xml(
                    call,
                    &format!(
                        "<imagesSet><item><imageId>{id}</imageId><imageState>available</imageState><snapshotId>{}</snapshotId></item></imagesSet>",
                        image.snapshot
                    ),
                ),
                None if wanted.is_empty() => xml(call, "<imagesSet/>"),
                None => refuse(true, 400, "InvalidAMIID.NotFound", "no such image"),
            }
        }
        "DeregisterImage" => {
            state.images.remove(&field("ImageId"));
            done()
        }
        "DeleteSnapshot" => {
            let id = field("SnapshotId");
            if state.images.values().any(|image| image.snapshot == id) {
                return refuse(true, 400, "InvalidSnapshot.InUse", "an AMI stands on it");
            }
            state.snapshots.remove(&id);
            done()
        }
        "ModifyImageAttribute" | "ModifySnapshotAttribute" => {
            let (permitted, what) = if call == "ModifyImageAttribute" {
                let image = state.images.get_mut(&field("ImageId"));
                (image.map(|image| &mut image.permitted), "LaunchPermission")
            } else {
                let snapshot = state.snapshots.get_mut(&field("SnapshotId"));
                let permitted = snapshot.map(|snapshot| &mut snapshot.permitted);
                (permitted, "CreateVolumePermission")
            };
            let Some(permitted) = permitted else {
                return refuse(true, 400, "InvalidParameterValue", "no such thing");
            };
            for (key, value) in &form {
                if key.starts_with(&format!("{what}.Add.")) {
                    permitted.push(value.clone());
                } else if key.starts_with(&format!("{what}.Remove.")) {
                    permitted.retain(|known| known != value);
                }
            }
            done()
        }
        "EnableFastLaunch" => {
            let most: u32 = field("MaxParallelLaunches").parse().unwrap_or(6);
            if field("ResourceType") != "snapshot" || most < 6 {
                return refuse(
                    true,
                    400,
                    "InvalidParameterValue",
                    "MaxParallelLaunches must be 6 or more",
                );
            }
            state.told.push((
                call.to_owned(),
                format!(
                    "{} {}",
                    field("ImageId"),
                    field("SnapshotConfiguration.TargetResourceCount")
                ),
            ));
            xml(call, "<state>enabling</state>")
        }
        "CreateLaunchTemplateVersion" => {
            state.told.push((
                call.to_owned(),
                format!("{account} {}", field("LaunchTemplateData.ImageId")),
            ));
            xml(
                call,
                "<launchTemplateVersion><versionNumber>2</versionNumber></launchTemplateVersion>",
            )
        }
        "ModifyLaunchTemplate" => done(),
        "CreateTags" => {
            let foreign = form
                .iter()
                .filter(|(key, _)| key.starts_with("ResourceId."))
                .any(|(_, id)| account != super::account::OWN && id.starts_with("snap-"));
            if foreign {
                return refuse(
                    true,
                    403,
                    "UnauthorizedOperation",
                    "the role may tag images only",
                );
            }
            done()
        }
        _ => refuse(true, 400, "InvalidAction", call),
    }
}

fn made(
    call: &str,
    state: &mut State,
    name: &str,
    snapshot: String,
    account: &str,
    region: &str,
    token: &str,
) -> Reply {
    let taken = state
        .images
        .values()
        .any(|image| image.name == name && image.account == account && image.region == region);
    if taken {
        return refuse(
            true,
            400,
            "InvalidAMIName.Duplicate",
            "AMI name is already in use",
        );
    }
    let id = format!("ami-{:017x}", state.counts.values().sum::<usize>());
    let image = Image {
        name: name.to_owned(),
        snapshot,
        account: account.to_owned(),
        region: region.to_owned(),
        permitted: Vec::new(),
        token: token.to_owned(),
    };
    state.images.insert(id.clone(), image);
    xml(call, &format!("<imageId>{id}</imageId>"))
}
