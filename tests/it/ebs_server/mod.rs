//! A stand-in for the EBS direct APIs, and for the few calls of EC2 and its neighbours around them, that enforces the service's
//! rules: lengths, checksums, counts, tokens, parents, states, owners, roles. It can be told to misbehave.

pub mod account;
mod ec2;
mod tasks;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes of a block.
pub const BLOCK: usize = 512 * 1024;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The connection ends without an answer.
    Reset,
    /// The service has a problem.
    Internal,
    /// Too many requests.
    Throttle,
    /// The block was stored, but the answer has another checksum.
    WrongChecksum,
    /// The request is not allowed.
    Denied,
    /// The snapshot is not known yet.
    Unknown,
    /// The credentials are over.
    Expired,
    /// Answered late.
    Slow(u64),
    /// Never answered.
    Stall,
}

/// A snapshot.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub gib: u64,
    pub parent: Option<String>,
    pub blocks: BTreeMap<u64, Arc<Vec<u8>>>,
    pub state: String,
    pub encrypted: Option<String>,
    /// Accounts that may make volumes of it.
    pub permitted: Vec<String>,
    token: String,
    request: String,
}

/// An AMI.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub name: String,
    pub snapshot: String,
    pub account: String,
    pub region: String,
    /// Accounts that may launch it.
    pub permitted: Vec<String>,
    token: String,
}

/// What the server knows.
#[derive(Default)]
pub struct State {
    pub snapshots: BTreeMap<String, Snapshot>,
    /// AMIs by id.
    pub images: BTreeMap<String, Image>,
    /// Tasks of imports and exports by id.
    pub tasks: BTreeMap<String, tasks::Task>,
    /// What imports are told, and how they end.
    pub importing: tasks::Importing,
    /// Roles of the account that may import, by name.
    pub roles: BTreeMap<String, account::Role>,
    /// Accounts that let others distribute to them.
    pub trusting: Vec<String>,
    /// What licenses, launches and templates were told: the call and its fields.
    pub told: Vec<(String, String)>,
    /// How often each call was made.
    pub counts: BTreeMap<String, usize>,
    /// Whether blocks are counted and not kept, and only one in eight has its checksum computed: for measurements of clients,
    /// which share the machine with the server.
    pub forgetful: bool,
}

impl State {
    /// All blocks of a snapshot, with those of its parents below.
    pub fn content(&self, id: &str) -> BTreeMap<u64, Arc<Vec<u8>>> {
        let snapshot = &self.snapshots[id];
        let mut content = match &snapshot.parent {
            Some(parent) => self.content(parent),
            None => BTreeMap::new(),
        };
        content.extend(snapshot.blocks.clone());
        content
    }
}

type Faults = Box<dyn Fn(&str, usize) -> Option<Fault> + Send + Sync>;

/// The server; its threads end with the process.
pub struct EbsServer {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl EbsServer {
    /// Starts it; `faults` says what goes wrong with the n-th request (from 1) of a call.
    pub fn start(faults: impl Fn(&str, usize) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let faults: Arc<Faults> = Arc::new(Box::new(faults));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, faults) = (Arc::clone(&shared), Arc::clone(&faults));
                std::thread::spawn(move || serve(stream, &state, &faults));
            }
        });
        Self { port, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn count(&self, call: &str) -> usize {
        *self.state.lock().unwrap().counts.get(call).unwrap_or(&0)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>, faults: &Faults) {
    stream.set_nodelay(true).ok();
    let Ok(mut writer) = stream.try_clone() else {
        return;
    };
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    while let Some(request) = read(&mut reader, &mut writer) {
        let call = name(&request);
        let nth = {
            let mut state = state.lock().unwrap();
            let count = state.counts.entry(call.clone()).or_default();
            *count += 1;
            *count
        };
        let fault = faults(&call, nth);
        let ec2 = request.path == "/" && !request.headers.contains_key("x-amz-target");
        let reply = match fault {
            Some(Fault::Reset) => return,
            Some(Fault::Internal) => refuse(ec2, 500, "InternalServerException", "try again"),
            Some(Fault::Throttle) => refuse(ec2, 400, "RequestThrottledException", "slow down"),
            Some(Fault::Denied) => refuse(
                ec2,
                if ec2 { 403 } else { 400 },
                if ec2 {
                    "UnauthorizedOperation"
                } else {
                    "AccessDeniedException"
                },
                "You are not authorized to perform this operation.",
            ),
            Some(Fault::Expired) => refuse(
                ec2,
                400,
                if ec2 {
                    "RequestExpired"
                } else {
                    "ExpiredTokenException"
                },
                "The security token included in the request is expired",
            ),
            Some(Fault::Unknown) => refuse(
                ec2,
                404,
                "ResourceNotFoundException",
                "The snapshot does not exist.",
            ),
            Some(Fault::WrongChecksum) => {
                let mut reply = answer(&call, &request, state);
                for header in &mut reply.headers {
                    if header.0 == "x-amz-Checksum" {
                        header.1 = BASE64.encode([0; 32]);
                    }
                }
                reply
            }
            Some(Fault::Stall) => {
                // The client hangs up; until then nothing comes.
                let mut rest = [0; 1];
                let _ = reader.read(&mut rest);
                return;
            }
            Some(Fault::Slow(milliseconds)) => {
                std::thread::sleep(Duration::from_millis(milliseconds));
                answer(&call, &request, state)
            }
            None => answer(&call, &request, state),
        };
        if write(&mut writer, &reply).is_err() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> Option<Request> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    if headers
        .get("expect")
        .is_some_and(|expect| expect == "100-continue")
    {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let length = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn write(writer: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} x\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    writer.write_all(head.as_bytes())?;
    writer.write_all(&reply.body)
}

fn name(request: &Request) -> String {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("POST", ["snapshots"]) => "StartSnapshot".into(),
        ("PUT", ["snapshots", _, "blocks", _]) => "PutSnapshotBlock".into(),
        ("POST", ["snapshots", "completion", _]) => "CompleteSnapshot".into(),
        ("GET", ["snapshots", _, "blocks"]) => "ListSnapshotBlocks".into(),
        ("GET", ["snapshots", _, "blocks", _]) => "GetSnapshotBlock".into(),
        ("POST", [""]) => match request.headers.get("x-amz-target") {
            Some(target) => target.rsplit('.').next().unwrap_or_default().to_owned(),
            None => form(request).remove("Action").unwrap_or_default(),
        },
        _ => "unknown".into(),
    }
}

fn form(request: &Request) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(&request.body).into_owned();
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn refuse(ec2: bool, status: u16, code: &str, message: &str) -> Reply {
    if ec2 {
        return Reply {
            status,
            headers: vec![("content-type", "text/xml".into())],
            body: format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors></Response>"
            )
            .into_bytes(),
        };
    }
    Reply {
        status,
        headers: vec![("x-amzn-ErrorType", code.into())],
        body: json!({"Message": message}).to_string().into_bytes(),
    }
}

fn invalid(message: &str) -> Reply {
    refuse(false, 400, "ValidationException", message)
}

fn ok(status: u16, value: &Value) -> Reply {
    Reply {
        status,
        headers: vec![("content-type", "application/json".into())],
        body: value.to_string().into_bytes(),
    }
}

fn answer(call: &str, request: &Request, state: &Mutex<State>) -> Reply {
    if !request.headers.contains_key("authorization") {
        return refuse(false, 403, "AccessDeniedException", "not signed");
    }
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match call {
        "StartSnapshot" => start(request, &mut state.lock().unwrap()),
        "PutSnapshotBlock" => put(request, parts[1], parts[3], state),
        "CompleteSnapshot" => complete(request, parts[2], &mut state.lock().unwrap()),
        "ListSnapshotBlocks" => list(parts[1], &state.lock().unwrap()),
        "GetSnapshotBlock" => get(parts[1], parts[3], &state.lock().unwrap()),
        _ if request.headers.contains_key("x-amz-target") => {
            account::json(call, request, &mut state.lock().unwrap())
        }
        "AssumeRole" | "GetCallerIdentity" | "GetRole" | "SimulatePrincipalPolicy" => {
            account::query(call, request, &mut state.lock().unwrap())
        }
        "ImportSnapshot" | "ImportImage" => tasks::import(call, request, state),
        "ExportImage"
        | "DescribeImportSnapshotTasks"
        | "DescribeImportImageTasks"
        | "DescribeExportImageTasks" => tasks::answer(call, request, &mut state.lock().unwrap()),
        _ => ec2::answer(call, request, &mut state.lock().unwrap()),
    }
}

/// Whose key signed a request, and for which region.
fn signer(request: &Request) -> (String, String) {
    let scope = request.headers["authorization"]
        .split("Credential=")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .unwrap_or_default();
    let parts: Vec<&str> = scope.split('/').collect();
    let account = match parts[0].strip_prefix("ASIAOF") {
        Some(account) => account.to_owned(),
        None => account::OWN.to_owned(),
    };
    (account, parts[2].to_owned())
}

fn xml(call: &str, text: &str) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type", "text/xml".into())],
        body: format!("<{call}Response>{text}</{call}Response>").into_bytes(),
    }
}

fn start(request: &Request, state: &mut State) -> Reply {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return invalid("the body is no JSON");
    };
    let gib = body["VolumeSize"].as_u64().unwrap_or(0);
    if !(1..=65_536).contains(&gib) {
        return invalid("INVALID_VOLUME_SIZE");
    }
    let timeout = body["Timeout"].as_u64().unwrap_or(60);
    if !(10..=4320).contains(&timeout) {
        return invalid("INVALID_TIMEOUT");
    }
    if body["Description"]
        .as_str()
        .is_some_and(|text| text.len() > 255)
    {
        return invalid("the description is too long");
    }
    if let Some(key) = body["KmsKeyArn"].as_str()
        && !(key.starts_with("arn:") && key.contains(":key/"))
    {
        return invalid("INVALID_CUSTOMER_KEY");
    }
    let parent = body["ParentSnapshotId"].as_str();
    if parent.is_some() && !body["Encrypted"].is_null() {
        return invalid("INVALID_PARAMETER: Encrypted and ParentSnapshotId");
    }
    if let Some(parent) = parent {
        match state.snapshots.get(parent) {
            Some(snapshot) if snapshot.state == "completed" && snapshot.gib <= gib => {}
            _ => return invalid("INVALID_PARENT_SNAPSHOT"),
        }
    }
    let token = body["ClientToken"].as_str().unwrap_or_default().to_owned();
    let text = body.to_string();
    if let Some((id, known)) = state
        .snapshots
        .iter()
        .find(|(_, known)| !token.is_empty() && known.token == token)
    {
        if known.request != text {
            return refuse(
                false,
                409,
                "ConflictException",
                "another request had this token",
            );
        }
        return ok(
            201,
            &json!({"SnapshotId": id, "Status": known.state, "VolumeSize": gib, "BlockSize": BLOCK}),
        );
    }
    let id = format!("snap-{:017x}", state.snapshots.len() + 1);
    state.snapshots.insert(
        id.clone(),
        Snapshot {
            gib,
            parent: parent.map(str::to_owned),
            state: "pending".into(),
            encrypted: body["KmsKeyArn"].as_str().map(str::to_owned),
            token,
            request: text,
            blocks: BTreeMap::new(),
            ..Snapshot::default()
        },
    );
    ok(
        201,
        &json!({"SnapshotId": id, "Status": "pending", "VolumeSize": gib, "BlockSize": BLOCK, "OwnerId": "123456789012"}),
    )
}

fn put(request: &Request, id: &str, index: &str, state: &Mutex<State>) -> Reply {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    if request.body.len() != BLOCK || header("x-amz-data-length") != Some("524288") {
        return invalid("INVALID_BLOCK: the length is not 524288");
    }
    let told = header("x-amz-checksum").and_then(|told| BASE64.decode(told).ok());
    let Some(told) = told.filter(|told| told.len() == 32) else {
        return invalid("the checksum is no SHA-256");
    };
    let forgetful = state.lock().unwrap().forgetful;
    let is_checked = !forgetful || told[0] % 8 == 0;
    if header("x-amz-checksum-algorithm") != Some("SHA256")
        || (is_checked && told != Sha256::digest(&request.body).as_slice())
    {
        return invalid("the checksum does not match");
    }
    let mut state = state.lock().unwrap();
    let Some(snapshot) = state.snapshots.get_mut(id) else {
        return refuse(
            false,
            404,
            "ResourceNotFoundException",
            "The snapshot does not exist.",
        );
    };
    let Some(index) = index
        .parse()
        .ok()
        .filter(|index| *index < snapshot.gib * 2048)
    else {
        return invalid("INVALID_BLOCK: the index is behind the volume's end");
    };
    if snapshot.state != "pending" {
        return invalid("INVALID_SNAPSHOT_STATE");
    }
    let digest = BASE64.encode(&told);
    let body = if forgetful {
        told
    } else {
        request.body.clone()
    };
    snapshot.blocks.insert(index, Arc::new(body));
    Reply {
        status: 201,
        headers: vec![
            ("x-amz-Checksum", digest),
            ("x-amz-Checksum-Algorithm", "SHA256".into()),
        ],
        body: Vec::new(),
    }
}

fn complete(request: &Request, id: &str, state: &mut State) -> Reply {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let forgetful = state.forgetful;
    let Some(snapshot) = state.snapshots.get_mut(id) else {
        return refuse(
            false,
            404,
            "ResourceNotFoundException",
            "The snapshot does not exist.",
        );
    };
    let count = header("x-amz-changedblockscount").and_then(|count| count.parse().ok());
    if count != Some(snapshot.blocks.len()) {
        return invalid("INVALID_CHANGED_BLOCKS_COUNT");
    }
    if let Some(checksum) = header("x-amz-checksum") {
        let mut hash = Sha256::new();
        for block in snapshot.blocks.values() {
            if forgetful {
                hash.update(block.as_slice());
            } else {
                hash.update(Sha256::digest(block.as_slice()));
            }
        }
        if header("x-amz-checksum-aggregation-method") != Some("LINEAR")
            || checksum != BASE64.encode(hash.finalize())
        {
            return invalid("the checksum of all blocks does not match");
        }
    }
    snapshot.state = "completed".into();
    ok(202, &json!({"Status": "completed"}))
}

fn list(id: &str, state: &State) -> Reply {
    if !state.snapshots.contains_key(id) {
        return refuse(
            false,
            404,
            "ResourceNotFoundException",
            "The snapshot does not exist.",
        );
    }
    let blocks: Vec<Value> = state
        .content(id)
        .keys()
        .map(|index| json!({"BlockIndex": index, "BlockToken": format!("t/{index}=")}))
        .collect();
    ok(
        200,
        &json!({"Blocks": blocks, "BlockSize": BLOCK, "VolumeSize": state.snapshots[id].gib, "ExpiryTime": 2e9}),
    )
}

fn get(id: &str, index: &str, state: &State) -> Reply {
    let block = index.parse().ok().and_then(|index: u64| {
        state.snapshots.get(id)?;
        state.content(id).remove(&index)
    });
    match block {
        Some(block) => Reply {
            status: 200,
            headers: vec![
                ("x-amz-Data-Length", BLOCK.to_string()),
                (
                    "x-amz-Checksum",
                    BASE64.encode(Sha256::digest(block.as_slice())),
                ),
                ("x-amz-Checksum-Algorithm", "SHA256".into()),
            ],
            body: block.to_vec(),
        },
        None => refuse(false, 404, "ResourceNotFoundException", "no such block"),
    }
}
