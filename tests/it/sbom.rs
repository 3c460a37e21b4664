//! Bills of materials, judged by validators of others and by the package manager of a real system.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::setup::{self, Setup, tool, tool_in};

/// SPDX's own reference implementation: schema and all rules of the specification.
const SPDX: &str = "
import sys
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
problems = validate_full_spdx_document(parse_file(sys.argv[1]))
sys.exit('; '.join(str(problem.validation_message) for problem in problems[:5]) or 0)
";
/// CycloneDX's own library, with its schema.
const CYCLONEDX: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(problem) if problem else 0)
";

/// Both bills are valid, and name the same packages: their package URLs.
pub fn packages_of(setup: &Setup, spdx: &str, cyclonedx: &str) -> BTreeSet<String> {
    let python = tool_in("python3");
    let python = python.to_str().unwrap();
    let (spdx_file, cyclonedx_file) = (
        setup.file("bill.spdx.json", spdx),
        setup.file("bill.cdx.json", cyclonedx),
    );
    tool(python, &["-c", SPDX, spdx_file.as_str()]);
    tool(python, &["-c", CYCLONEDX, cyclonedx_file.as_str()]);
    let (spdx, cyclonedx): (Value, Value) = (
        serde_json::from_str(spdx).unwrap(),
        serde_json::from_str(cyclonedx).unwrap(),
    );
    let of_spdx: BTreeSet<String> = spdx["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .map(str::to_owned)
        .collect();
    let of_cyclonedx: BTreeSet<String> = cyclonedx["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| component["purl"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(of_spdx, of_cyclonedx);
    of_spdx
}

/// This very machine, if dpkg has installed it, with all its packages and their copyright files.
#[test]
fn a_bill_of_this_machine_is_what_dpkg_says() {
    let setup = setup::empty();
    let tree = setup.path().join("tree");
    if !std::path::Path::new("/var/lib/dpkg/status").exists() {
        eprintln!("this machine has no dpkg");
        return;
    }
    for path in ["etc", "var/lib/dpkg", "usr/share"] {
        std::fs::create_dir_all(tree.join(path)).unwrap();
    }
    std::fs::copy("/etc/os-release", tree.join("etc/os-release")).unwrap();
    std::fs::copy("/var/lib/dpkg/status", tree.join("var/lib/dpkg/status")).unwrap();
    tool(
        "cp",
        &["-rL", "/usr/share/doc", tree.join("usr/share/doc").as_str()],
    );
    let disk = setup.path().join("disk.raw");
    setup::ext4(&tree, &disk, "2G");
    let bill = |form: &str| {
        let ran = setup
            .run(&["disk", "sbom", disk.as_str(), "--format", form])
            .expect(0);
        ran.stdout
    };
    let found = packages_of(&setup, &bill("spdx"), &bill("cyclonedx"));
    let names: BTreeSet<String> = found
        .iter()
        .map(|purl| {
            let (name, rest) = purl.split_once('@').unwrap();
            let version = rest.split('?').next().unwrap().replace("%2B", "+");
            format!(
                "{} {version}",
                name.rsplit('/').next().unwrap().replace("%2B", "+")
            )
        })
        .collect();
    let format = "${db:Status-Status}\\t${Package} ${Version}\\n";
    let listed = tool("dpkg-query", &["-W", "-f", format]);
    let wanted: BTreeSet<String> = listed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(state, _)| !["config-files", "half-installed", "not-installed"].contains(state))
        .map(|(_, package)| package.to_owned())
        .collect();
    assert_eq!(names, wanted);
}

/// A root and a `/data` that only the kernel of the guest could read.
#[test]
fn what_of_a_disk_can_not_be_looked_into_is_told() {
    let setup = setup::empty();
    let tree = setup.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::create_dir_all(tree.join("data")).unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    std::fs::write(
        tree.join("etc/fstab"),
        "LABEL=data /data xfs defaults 0 2\n",
    )
    .unwrap();
    let disk = setup.path().join("disk.raw");
    let file = std::fs::File::create(&disk).unwrap();
    file.set_len(400 << 20).unwrap();
    tool(
        "sgdisk",
        &["--new=1:1M:+16M", "--new=2:32M:+360M", disk.as_str()],
    );
    setup::ext4_at(1 << 20, &tree, &disk, "16M");
    let data = setup.path().join("data");
    std::fs::File::create(&data)
        .unwrap()
        .set_len(360 << 20)
        .unwrap();
    tool("mkfs.xfs", &["-q", "-L", "data", data.as_str()]);
    std::os::unix::fs::FileExt::write_all_at(&file, &std::fs::read(&data).unwrap(), 32 << 20)
        .unwrap();
    let ran = setup.run(&["disk", "ls", disk.as_str(), "/etc"]).expect(0);
    ran.says("/data can't be looked into: xfs is not supported");
    assert!(ran.stdout.contains("os-release"), "{}", ran.stdout);
    let ran = setup.run(&["disk", "sbom", disk.as_str()]).expect(0);
    ran.says("/data was not looked into: xfs is not supported");
    assert!(ran.stdout.contains("/data was not looked into"));
    // Who names a partition knows what they get.
    let ran = setup.run(&["disk", "ls", disk.as_str(), "/etc", "--partition", "1"]);
    assert!(!ran.expect(0).stderr.contains("/data"));
}

/// Programs of Go and Rust: skopeo as Debian has built it, and a program with the section of cargo-auditable.
#[test]
fn programs_are_in_both_bills() {
    let setup = setup::empty();
    let tree = setup.path().join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    std::fs::write(tree.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
    let packages = r#"{"packages":[{"name":"itoa","version":"1.0.11","source":"crates.io"},{"name":"tiny","version":"0.3.1+local","source":"local","root":true}],"format":1}"#;
    let mut section = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut section, packages.as_bytes()).unwrap();
    std::fs::write(setup.path().join("section"), section.finish().unwrap()).unwrap();
    let added = format!(".dep-v0={}/section", setup.path());
    let tiny = tree.join("tiny");
    tool(
        "objcopy",
        &["--add-section", &added, "/bin/true", tiny.as_str()],
    );
    let mut wanted = BTreeSet::from(["pkg:cargo/itoa@1.0.11", "pkg:cargo/tiny@0.3.1%2Blocal"]);
    let skopeo = std::path::Path::new("/usr/bin/skopeo");
    if skopeo.exists() {
        std::fs::copy(skopeo, tree.join("skopeo")).unwrap();
        wanted.insert("pkg:golang/stdlib");
    }
    let disk = setup.path().join("disk.raw");
    setup::ext4(&tree, &disk, "128M");
    let bill = |form: &str| {
        let ran = setup.run(&["disk", "sbom", disk.as_str(), "--format", form]);
        ran.expect(0).stdout
    };
    let (spdx, cyclonedx) = (bill("spdx"), bill("cyclonedx"));
    let found = packages_of(&setup, &spdx, &cyclonedx);
    let found: BTreeSet<&str> = found
        .iter()
        .map(|purl| match purl.split_once('@') {
            Some((name @ "pkg:golang/stdlib", _)) => name,
            _ => purl,
        })
        .collect();
    assert_eq!(found, wanted);
    assert!(cyclonedx.contains("/tiny"), "{cyclonedx}");
}
