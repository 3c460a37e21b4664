//! Known vulnerabilities of a disk, from a folder that was carried in to what a pipeline of checks reads.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::cli::recipe;
use crate::setup::{self, Setup, tool, tool_in};

/// The service's own model, as the AWS CLI carries it: every field must be known there, and be of its type.
const BOTOCORE: &str = "
import json, sys
import botocore.session
from botocore.model import StructureShape, ListShape
model = botocore.session.get_session().get_service_model('imagebuilder')
def check(shape, value, path):
    kind = shape.type_name
    if kind == 'structure':
        for key, inner in value.items():
            if key not in shape.members:
                sys.exit(f'{path}.{key} is not known')
            check(shape.members[key], inner, f'{path}.{key}')
        for key in shape.required_members:
            if key not in value:
                sys.exit(f'{path}.{key} is missing')
    elif kind == 'list':
        for index, inner in enumerate(value):
            check(shape.member, inner, f'{path}[{index}]')
    else:
        types = {'string': str, 'integer': int, 'long': int, 'double': (int, float), 'timestamp': (int, float), 'boolean': bool}
        if not isinstance(value, types[kind]):
            sys.exit(f'{path}: {value!r} is no {kind}')
        limits = shape.metadata
        if kind == 'string' and not limits.get('min', 0) <= len(value) <= limits.get('max', 1 << 30):
            sys.exit(f'{path}: {value!r} is too short or too long')
        if shape.enum if hasattr(shape, 'enum') else False:
            if value not in shape.enum:
                sys.exit(f'{path}: {value!r} is none of {shape.enum}')
def answer(operation, value):
    check(model.operation_model(operation).output_shape, value, operation)
told = json.load(open(sys.argv[1]))
check(model.shape_for('ImageScanState'), told.pop('imageScanState'), 'imageScanState')
aggregations = told.pop('aggregations')
answer('ListImageScanFindingAggregations', aggregations['image'])
answer('ListImageScanFindingAggregations', aggregations['vulnerabilities'])
answer('ListImageScanFindings', told)
";

const RELEASE: &str = "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";

const STATUS: &str = "Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.11-1~deb12u2
Maintainer: Debian

Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib (1:1.2.13.dfsg-1)
Version: 1:1.2.13.dfsg-1+b1
Maintainer: Debian

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
Maintainer: Debian
";

const TRACKER: &str = r#"{
"openssl": {
  "CVE-2026-1001": {"description": "A flaw in the handshake", "scope": "remote", "releases": {
    "bookworm": {"status": "resolved", "fixed_version": "3.0.15-1~deb12u1", "urgency": "not yet assigned"}}},
  "CVE-2026-1002": {"description": "A flaw that was never in bookworm", "releases": {
    "bookworm": {"status": "resolved", "fixed_version": "0", "urgency": "high"}}}},
"zlib": {
  "CVE-2026-1003": {"description": "An overflow in minizip", "releases": {
    "bookworm": {"status": "open", "urgency": "unimportant", "nodsa": "minizip is not built"}}}},
"gone": {"CVE-2026-1004": {"releases": {"bookworm": {"status": "open", "urgency": "high"}}}}
}"#;

const RECORDS: [(&str, &str); 4] = [
    (
        "npm/GHSA-aaaa.json",
        r#"{"id": "GHSA-aaaa", "modified": "2026-03-01T00:00:00Z", "aliases": ["CVE-2026-2001"], "summary": "Prototypes",
        "severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}],
        "references": [{"type": "ADVISORY", "url": "https://example.org/GHSA-aaaa"}],
        "affected": [{"package": {"ecosystem": "npm", "name": "@scope/left"},
          "ranges": [{"type": "SEMVER", "events": [{"introduced": "1.0.0"}, {"fixed": "1.2.0"}]}]}]}"#,
    ),
    (
        "cve/CVE-2026-1001.json",
        r#"{"id": "CVE-2026-1001", "published": "2026-02-01T00:00:00Z", "modified": "2026-02-02T00:00:00Z", "details": "x",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N"}]}"#,
    ),
    (
        "npm/withdrawn.json",
        r#"{"id": "GHSA-bbbb", "withdrawn": "2026-01-01T00:00:00Z"}"#,
    ),
    (
        "npm/cut-off.json",
        r#"{"id": "GHSA-cccc", "affected": [{"pack"#,
    ),
];

/// A disk with what dpkg and npm have installed.
fn disk(setup: &Setup) -> Utf8PathBuf {
    setup.file("tree/etc/os-release", RELEASE);
    setup.file("tree/var/lib/dpkg/status", STATUS);
    setup.file(
        "tree/srv/app/node_modules/@scope/left/package.json",
        r#"{"name": "@scope/left", "version": "1.1.3", "license": "MIT"}"#,
    );
    let (tree, disk) = (setup.path().join("tree"), setup.path().join("disk.raw"));
    setup::ext4(&tree, &disk, "16M");
    disk
}

/// Folder and file as somebody carries them in.
fn carried_in(setup: &Setup) -> (Utf8PathBuf, Utf8PathBuf) {
    for (name, text) in RECORDS {
        setup.file(&format!("in/{name}"), text);
    }
    (setup.path().join("in"), setup.file("tracker.json", TRACKER))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

#[test]
fn a_disk_is_looked_up_without_a_network() {
    let setup = setup::empty();
    let disk = disk(&setup);
    let check =
        |more: &[&str]| setup.run(&[&["disk", "vulnerabilities", disk.as_str()], more].concat());
    check(&[])
        .expect(4)
        .says("`ovenbird vuln update --from FILE|FOLDER|URL` makes one");
    setup.run(&["vuln", "list"]).expect(4);

    let (folder, tracker) = carried_in(&setup);
    let update = [
        "vuln",
        "update",
        "--from",
        folder.as_str(),
        tracker.as_str(),
        "--json",
    ];
    let made = setup.run(&update).expect(0);
    let sources = json(&made.stdout)["sources"].clone();
    let told = |at: usize, key: &str| sources[at][key].as_u64().unwrap();
    assert_eq!(
        ["records", "used", "withdrawn", "damaged"].map(|key| told(0, key)),
        [4, 2, 1, 1]
    );
    assert_eq!(
        ["records", "used", "damaged"].map(|key| told(1, key)),
        [4, 4, 0]
    );
    let listed = json(&setup.run(&["vuln", "list", "--json"]).expect(0).stdout);
    let names: Vec<&str> = listed["ecosystems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["ecosystem"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["debian:12", "npm"]);

    let table = check(&[]).expect(0).stdout;
    let lines: Vec<&str> = table.lines().take(4).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    SEVERITY       ID             PACKAGE      INSTALLED         CORRECTED IN      SUMMARY
    critical       CVE-2026-2001  @scope/left  1.1.3             1.2.0             Prototypes
    high           CVE-2026-1001  openssl      3.0.11-1~deb12u2  3.0.15-1~deb12u1  A flaw in the handshake
    informational  CVE-2026-1003  zlib         1:1.2.13.dfsg-1   -                 An overflow in minizip
    ");

    let found = json(&check(&["--format", "json"]).expect(0).stdout);
    assert_eq!(
        found["counts"],
        serde_json::json!({"critical": 1, "high": 1, "medium": 0, "low": 0, "informational": 1, "unknown": 0})
    );
    assert_eq!(found["findings"][2]["note"], "minizip is not built");
    // The same with the switch that every command has.
    let again = json(&check(&["--json"]).expect(0).stdout);
    assert_eq!(again["findings"], found["findings"]);
}

#[test]
fn thresholds_and_exceptions_decide() {
    let setup = setup::empty();
    let disk = disk(&setup);
    let (folder, tracker) = carried_in(&setup);
    let update = [
        "vuln",
        "update",
        "--from",
        folder.as_str(),
        "--from",
        tracker.as_str(),
    ];
    setup.run(&update).expect(0).says("left out: ");
    let check =
        |more: &[&str]| setup.run(&[&["disk", "vulnerabilities", disk.as_str()], more].concat());
    let failed = check(&["--fail-on", "high"]).expect(9);
    insta::assert_snapshot!(failed.stderr, @r"
    error: 2 known vulnerabilities of severity high or above: 1 critical, 1 high
      critical CVE-2026-2001 in @scope/left 1.1.3, corrected in 1.2.0
      high CVE-2026-1001 in openssl 3.0.11-1~deb12u2, corrected in 3.0.15-1~deb12u1
    hint: update what is installed, or bear it for a while by an exception with its reason and its last day
    ");
    // The findings are printed all the same.
    assert!(failed.stdout.contains("CVE-2026-2001"), "{}", failed.stdout);
    let exceptions = |expires: &str| {
        setup.file(
            "exceptions.yml",
            &format!(
                "exceptions:\n- {{id: GHSA-aaaa, package: '@scope/left', reason: not loaded, expires: {expires}}}\n\
                 - {{id: CVE-2026-1001, reason: no TLS here, expires: 2999-12-31}}\n"
            ),
        )
    };
    let file = exceptions("2999-12-31");
    let with = ["--fail-on", "low", "--exceptions", file.as_str()];
    let passed = check(&with).expect(0);
    assert!(
        passed.stdout.contains("critical (borne until 2999-12-31)"),
        "{}",
        passed.stdout
    );
    exceptions("2020-01-01");
    check(&with)
        .expect(9)
        .says("the exception for GHSA-aaaa in @scope/left has ended on 2020-01-01");
    check(&["--fail-on", "informational", "--only-fixed"])
        .expect(9)
        .says("2 known vulnerabilities of severity informational or above: 1 critical, 1 high");
    check(&["--fail-on", "terrible"])
        .expect(2)
        .says("`terrible` is no severity");
    setup.file(
        "exceptions.yml",
        "exceptions:\n- {id: X, reason: y, expires: soon}\n",
    );
    check(&with).expect(3).says("exceptions.yml");
}

#[test]
fn others_can_read_the_findings() {
    let setup = setup::empty();
    let disk = disk(&setup);
    let (folder, tracker) = carried_in(&setup);
    setup
        .run(&[
            "vuln",
            "update",
            "--from",
            folder.as_str(),
            tracker.as_str(),
        ])
        .expect(0);
    let check = |form: &str| {
        let words = ["disk", "vulnerabilities", disk.as_str(), "--format", form];
        setup.run(&words).expect(0).stdout
    };
    let sarif = json(&check("sarif"));
    let validator = jsonschema::validator_for(&sarif_schema()).unwrap();
    let problems: Vec<String> = validator
        .iter_errors(&sarif)
        .map(|problem| format!("{problem} at {}", problem.instance_path()))
        .collect();
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(sarif["runs"][0]["results"].as_array().unwrap().len(), 3);

    let service = check("service");
    let file = setup.file("service.json", &service);
    let python = tool_in("python3");
    tool(python.to_str().unwrap(), &["-c", BOTOCORE, file.as_str()]);
    let service = json(&service);
    let severities: Vec<&str> = service["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["severity"].as_str().unwrap())
        .collect();
    assert_eq!(severities, ["CRITICAL", "HIGH", "INFORMATIONAL"]);
}

/// The schema of the standard, as the crate `serde-sarif` carries it; `make setup` fetches it.
fn sarif_schema() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .current_dir(setup::source("tests/peers/sarif-schema"))
        .output()
        .unwrap();
    let metadata = json(&String::from_utf8(output.stdout).unwrap());
    let package = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|package| package["name"] == "serde-sarif")
        .unwrap();
    let manifest = Utf8Path::new(package["manifest_path"].as_str().unwrap());
    let text = std::fs::read_to_string(manifest.with_file_name("src/schema.json")).unwrap();
    let mut schema = json(&text);
    // Two of its patterns have a bracket too many, which not every implementation of regular expressions takes.
    for part in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][part]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern");
    }
    schema
}

/// Serves one file to everybody who asks, until the test ends.
fn serve(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| !line.unwrap_or_default().is_empty())
            {}
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                bytes.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&bytes);
        }
    });
    format!("http://{address}/tracker.json")
}

#[test]
fn a_download_is_what_its_digest_says() {
    let setup = setup::empty();
    let url = serve(TRACKER.as_bytes().to_vec());
    let update = |from: &str| setup.run(&["vuln", "update", "--from", from]);
    let wrong = "0".repeat(64);
    update(&format!("{url}#sha256:{wrong}"))
        .expect(3)
        .says("is not what it must be");
    setup.run(&["vuln", "list"]).expect(4);
    let file = setup.file("copy.json", TRACKER);
    let right = tool("sha256sum", &[file.as_str()]);
    let right = right.split(' ').next().unwrap();
    update(&format!("{url}#sha256:{right}")).expect(0);
    let listed = json(&setup.run(&["vuln", "list", "--json"]).expect(0).stdout);
    assert_eq!(listed["sources"][0]["location"], url.as_str());
    assert_eq!(listed["sources"][0]["sha256"], right);
    // Nothing of the download is left.
    let left = setup.home().join("cache/vulnerabilities");
    assert_eq!(left.read_dir_utf8().map_or(0, Iterator::count), 0);
    // What is wrong with a source leaves the database that is there.
    update("nowhere.json")
        .expect(3)
        .says("there is no nowhere.json");
    let page = setup.file("page.html", "<html>");
    update(page.as_str()).expect(3).says("no JSON and no zip");
    setup.file("java/a.json", &RECORDS[0].1.replace("npm", "Maven"));
    update("java")
        .expect(3)
        .says("about no distribution or language");
    assert_eq!(
        json(&setup.run(&["vuln", "list", "--json"]).expect(0).stdout),
        listed
    );
}

/// Without a database a threshold can't be kept, which is told before anything boots; with one a vulnerability fails the
/// bake, unless it is borne.
#[test]
fn guest_a_known_vulnerability_fails_the_bake() {
    let setup = setup::with_base();
    setup.file(
        "c.yml",
        "name: c\nschemaVersion: 1.0\nphases:\n- name: build\n  steps:\n  - {name: A, action: ExecuteBash, inputs: {commands: ['true']}}\n",
    );
    let write = |more: &str| {
        let local =
            "local:\n  tests: false\n  memory: 1GiB\n  vulnerabilities:\n    failOn: high\n";
        setup.file("r.yml", &recipe(&format!("{local}{more}")));
    };
    write("");
    let build = || setup.run(&["build", "r.yml"]);
    build()
        .expect(4)
        .says("`local.vulnerabilities.failOn` of the recipe can't be kept");
    setup.assert_nothing_left();
    let tracker = setup.file(
        "tracker.json",
        r#"{"dpkg": {"CVE-2026-3001": {"description": "d", "releases": {
            "bookworm": {"status": "resolved", "fixed_version": "9:1.0", "urgency": "high"}}}}}"#,
    );
    setup
        .run(&["vuln", "update", "--from", tracker.as_str()])
        .expect(0);
    build().expect(9).says("high CVE-2026-3001 in dpkg");
    setup.assert_nothing_left();
    write("    exceptions:\n    - {id: CVE-2026-3001, reason: a test, expires: 2999-12-31}\n");
    build().expect(0);
    let shown = json(
        &setup
            .run(&["image", "show", "web server", "--json"])
            .expect(0)
            .stdout,
    );
    let folder = Utf8Path::new(shown["image"]["folder"].as_str().unwrap());
    let report = json(&std::fs::read_to_string(folder.join("vulnerabilities.json")).unwrap());
    assert_eq!(report["findings"][0]["id"], "CVE-2026-3001");
    assert_eq!(report["findings"][0]["exception"]["reason"], "a test");
    assert!(
        report["packagesChecked"].as_u64().unwrap() > 100,
        "{report:#}"
    );
    let manifest = json(&std::fs::read_to_string(folder.join("manifest.json")).unwrap());
    let kinds: Vec<&str> = manifest["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["kind"].as_str().unwrap())
        .collect();
    assert!(kinds.contains(&"vulnerabilities"), "{kinds:?}");
    // The finished image, as the database knows it today.
    setup
        .run(&[
            "image",
            "vulnerabilities",
            "web server",
            "--fail-on",
            "high",
        ])
        .expect(9)
        .says("CVE-2026-3001");
    let page = setup.path().join("page.html");
    setup
        .run(&["image", "report", "web server", "--output", page.as_str()])
        .expect(0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("borne until 2999-12-31: a test"), "{page}");
}
