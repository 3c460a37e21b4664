//! VM Import/Export: tasks that take their time, and say in words alone why they failed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use super::{BLOCK, Image, Reply, Request, Snapshot, State, form, refuse, signer, xml};

/// A task.
#[derive(Debug, Clone, Default)]
pub struct Task {
    pub description: String,
    pub status: String,
    pub message: String,
    pub result: String,
    token: String,
    asked: usize,
}

/// What imports find, and how they end.
#[derive(Debug, Clone, Default)]
pub struct Importing {
    /// Host and port of the buckets.
    pub buckets: String,
    /// How often a task is asked for before it ends.
    pub patience: usize,
    /// Why tasks fail.
    pub failure: Option<String>,
    /// The address of the account's registry.
    pub registry: String,
}

/// An object of a bucket.
fn object(host: &str, bucket: &str, key: &str) -> Option<Vec<u8>> {
    let mut stream = std::net::TcpStream::connect(host).ok()?;
    // Moto believes every signature, but wants one.
    let who = "AWS4-HMAC-SHA256 Credential=a/20260101/eu-central-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    write!(
        stream,
        "GET /{bucket}/{key} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {who}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    answer
        .starts_with(b"HTTP/1.1 200")
        .then(|| answer.split_off(head + 4))
}

pub(super) fn import(call: &str, request: &Request, state: &Mutex<State>) -> Reply {
    let form = form(request);
    let (account, region) = signer(request);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    let of_image = call == "ImportImage";
    let within = |name: &str| {
        let container = if of_image {
            "DiskContainer.1"
        } else {
            "DiskContainer"
        };
        field(&format!("{container}.{name}"))
    };
    let formats: &[&str] = match of_image {
        true => &["VMDK", "VHD", "RAW", "OVA", "VHDX"],
        false => &["VMDK", "VHD", "RAW"],
    };
    if !formats.contains(&within("Format").as_str()) {
        return refuse(true, 400, "InvalidParameter", "invalid format");
    }
    if of_image
        && (field("Platform") != "Linux"
            || field("Architecture") != "x86_64"
            || !["legacy-bios", "uefi"].contains(&field("BootMode").as_str()))
    {
        return refuse(
            true,
            400,
            "InvalidParameter",
            "platform, architecture or boot mode",
        );
    }
    let host = {
        let mut state = state.lock().unwrap();
        if !state.roles.contains_key(&field("RoleName")) {
            return refuse(
                true,
                400,
                "InvalidParameter",
                "The service role does not exist or does not have sufficient permissions",
            );
        }
        let token = field("ClientToken");
        let again = state.tasks.iter().find(|(_, task)| task.token == token);
        if let Some((id, _)) = again {
            let id = id.clone();
            return xml(call, &format!("<importTaskId>{id}</importTaskId>"));
        }
        let id = format!("import-{:017x}", state.tasks.len() + 1);
        let task = Task {
            description: field("Description"),
            status: "active".into(),
            message: "pending".into(),
            token,
            ..Task::default()
        };
        state.tasks.insert(id, task);
        state.importing.buckets.clone()
    };
    // The service reads the file later, and by itself.
    let bytes = object(
        &host,
        &within("UserBucket.S3Bucket"),
        &within("UserBucket.S3Key"),
    );
    let mut state = state.lock().unwrap();
    let id = format!("import-{:017x}", state.tasks.len());
    let Some(bytes) = bytes else {
        let task = state.tasks.get_mut(&id).unwrap();
        task.status = "deleted".into();
        task.message = "ClientError: Invalid S3 source location".into();
        return xml(call, &format!("<importTaskId>{id}</importTaskId>"));
    };
    let snapshot = format!("snap-{:017x}", state.snapshots.len() + 1);
    let content = read(&bytes);
    state.snapshots.insert(snapshot.clone(), content);
    let result = match of_image {
        true => {
            // As the service names AMIs that it imported.
            let ami = format!("ami-0000000000000{:04x}", state.tasks.len());
            let image = Image {
                name: id.replace("import-", "import-ami-"),
                snapshot,
                account,
                region,
                ..Image::default()
            };
            state.images.insert(ami.clone(), image);
            ami
        }
        false => snapshot,
    };
    state.tasks.get_mut(&id).unwrap().result = result;
    xml(call, &format!("<importTaskId>{id}</importTaskId>"))
}

/// What is in a disk file, in blocks.
fn read(bytes: &[u8]) -> Snapshot {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let disk = ovenbird_disk::open(file.path()).unwrap();
    let size = disk.virtual_size();
    let mut blocks = BTreeMap::new();
    for index in 0..size.div_ceil(BLOCK as u64) {
        let mut block = vec![0; BLOCK];
        let offset = index * BLOCK as u64;
        let length = usize::try_from((size - offset).min(BLOCK as u64)).unwrap();
        disk.read_at(&mut block[..length], offset).unwrap();
        if block.iter().any(|byte| *byte != 0) {
            blocks.insert(index, Arc::new(block));
        }
    }
    Snapshot {
        gib: size.div_ceil(1 << 30).max(1),
        blocks,
        state: "completed".into(),
        ..Snapshot::default()
    }
}

pub(super) fn answer(call: &str, request: &Request, state: &mut State) -> Reply {
    let form = form(request);
    let field = |name: &str| form.get(name).cloned().unwrap_or_default();
    if call == "ExportImage" {
        let token = field("ClientToken");
        let known = state.tasks.iter().find(|(_, task)| task.token == token);
        let id = match known {
            Some((id, _)) => id.clone(),
            None => {
                if !state.images.contains_key(&field("ImageId")) {
                    return refuse(true, 400, "InvalidAMIID.NotFound", "no such image");
                }
                let id = format!("export-ami-{:017x}", state.tasks.len() + 1);
                let task = Task {
                    description: field("S3ExportLocation.S3Bucket"),
                    status: "active".into(),
                    message: "validating".into(),
                    token,
                    ..Task::default()
                };
                state.tasks.insert(id.clone(), task);
                id
            }
        };
        return xml(
            call,
            &format!("<exportImageTaskId>{id}</exportImageTaskId>"),
        );
    }
    let export = call == "DescribeExportImageTasks";
    let wanted = field(if export {
        "ExportImageTaskId.1"
    } else {
        "ImportTaskId.1"
    });
    let (patience, failure) = (state.importing.patience, state.importing.failure.clone());
    let of_snapshots = call == "DescribeImportSnapshotTasks";
    let mut items = String::new();
    for (id, task) in &mut state.tasks {
        if !wanted.is_empty() && *id != wanted {
            continue;
        }
        if *id == wanted && task.status == "active" {
            task.asked += 1;
            task.message = "downloading/converting".into();
            if task.asked > patience {
                match &failure {
                    Some(why) => {
                        task.status = "deleted".into();
                        task.message = why.clone();
                    }
                    None => task.status = "completed".into(),
                }
            }
        }
        let how = format!(
            "<progress>{}</progress><status>{}</status><statusMessage>{}</statusMessage>",
            task.asked * 10,
            task.status,
            task.message
        );
        let result = match task.status.as_str() {
            "completed" => task.result.as_str(),
            _ => "",
        };
        let description = &task.description;
        items.push_str(&if export {
            format!("<item><exportImageTaskId>{id}</exportImageTaskId>{how}</item>")
        } else if of_snapshots {
            format!(
                "<item><description>{description}</description><importTaskId>{id}</importTaskId><snapshotTaskDetail>{how}<snapshotId>{result}</snapshotId></snapshotTaskDetail></item>"
            )
        } else {
            format!(
                "<item><description>{description}</description><importTaskId>{id}</importTaskId>{how}<imageId>{result}</imageId></item>"
            )
        });
    }
    if !wanted.is_empty() && items.is_empty() {
        let code = if export {
            "InvalidExportTaskId.NotFound"
        } else {
            "InvalidConversionTaskId.NotFound"
        };
        return refuse(true, 400, code, "no such task");
    }
    xml(call, &format!("<taskSet>{items}</taskSet>"))
}
