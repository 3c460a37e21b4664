use std::path::Path;
use std::process::Command;

use ovenbird_disk::ErrorKind;
use proptest::prelude::*;

use super::*;

/// The list of modules of a program that Go 1.19.8 has built, with one module replaced by another and one by a folder.
const MODULES: &str = "path\texample.org/tool\n\
    mod\texample.org/tool\t(devel)\t\n\
    dep\texample.org/lib\tv1.2.3\th1:Lsed3eZaZ9VnxAgiRCfZaHvsYaCCp4K/7u3Eyg0Im/o=\n\
    dep\texample.org/near\tv0.0.0\n\
    =>\t../near\t(devel)\t\n\
    dep\texample.org/old\tv1.0.0\n\
    =>\texample.org/fork\tv1.9.0-rc.1\th1:5FFieGtaa31eOZH2xzVup1sdC6mZzJ0NnisLzNGmX9g=\n\
    build\t-compiler=gc\n\
    build\tCGO_ENABLED=0\n\
    build\tGOARCH=386\n";
/// What stands around the list.
const MARKS: [&[u8]; 2] = [
    b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6",
    b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2",
];
/// The packages of a program that depends on itoa, and on version_check for its build script: JSON that cargo-auditable has
/// written.
const RUST: &str = r#"{"packages":[{"name":"itoa","version":"1.0.11","source":"crates.io"},{"name":"tiny","version":"0.3.1","source":"local","dependencies":[0,2],"root":true},{"name":"version_check","version":"0.9.5","source":"crates.io","kind":"build"}],"format":1}"#;

struct Bytes(Vec<u8>);

impl FileData for Bytes {
    fn size(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> ovenbird_disk::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let part = self
            .0
            .get(start..start + buffer.len())
            .ok_or_else(|| ovenbird_disk::Error::invalid("past the end"))?;
        buffer.copy_from_slice(part);
        Ok(())
    }
}

fn run(program: &str, arguments: &[&str], folder: &Path) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// What Go writes since 1.18.
fn inline(version: &str, modules: &str) -> Vec<u8> {
    let modules = [MARKS[0], modules.as_bytes(), MARKS[1]].concat();
    let mut bytes = b"\xff Go buildinf:\x08\x02".to_vec();
    bytes.resize(32, 0);
    for text in [version.as_bytes(), &modules] {
        bytes.extend(varint(text.len()));
        bytes.extend(text);
    }
    bytes
}

fn zlib(text: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A program of the system's with one section more.
fn with_section(name: &str, content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("content"), content).unwrap();
    let section = format!("{name}=content");
    run(
        "objcopy",
        &["--add-section", &section, "/bin/true", "program"],
        folder.path(),
    );
    std::fs::read(folder.path().join("program")).unwrap()
}

/// As Go before 1.18 left it: pointers to strings elsewhere in the program. The C compiler knows where they will be.
fn with_pointers(version: &str, modules: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let modules = [MARKS[0], modules.as_bytes(), MARKS[1]].concat();
    let bytes = |text: &[u8]| {
        let numbers: Vec<String> = text.iter().map(u8::to_string).collect();
        numbers.join(",")
    };
    let source = format!(
        "struct string {{ const unsigned char *text; long length; }};\n\
         static const unsigned char version[] = {{{}}}, modules[] = {{{}}};\n\
         static struct string strings[] = {{{{version, sizeof version}}, {{modules, sizeof modules}}}};\n\
         __attribute__((section(\".go.buildinfo\"), aligned(16), used))\n\
         static struct {{ char magic[14]; char pointer; char flags; struct string *version, *modules; }} info =\n\
         {{{{'\\xff',' ','G','o',' ','b','u','i','l','d','i','n','f',':'}}, sizeof(void *), 0, strings, strings + 1}};\n\
         void _start(void) {{ for (;;) {{}} }}\n",
        bytes(version.as_bytes()),
        bytes(&modules),
    );
    std::fs::write(folder.path().join("old.c"), source).unwrap();
    run(
        "cc",
        &["-nostdlib", "-static", "-no-pie", "-o", "old", "old.c"],
        folder.path(),
    );
    std::fs::read(folder.path().join("old")).unwrap()
}

fn look(program: Vec<u8>) -> (Vec<String>, Vec<String>) {
    let mut programs = Programs::default();
    let mut found = Found::default();
    programs.look_into(&Bytes(program), "/usr/bin/tool", &mut found);
    programs.add_to(&mut found);
    let packages = found
        .packages
        .iter()
        .map(|package| {
            assert!(package.paths.iter().eq(["/usr/bin/tool"]));
            package.purl(&crate::Distro::default()).to_string()
        })
        .collect();
    (packages, found.notes.into_iter().collect())
}

#[test]
fn modules_of_go_in_both_forms() {
    let wanted = |version: &str| {
        [
            "pkg:golang/example.org/fork@v1.9.0-rc.1".to_owned(),
            "pkg:golang/example.org/lib@v1.2.3".to_owned(),
            "pkg:golang/example.org/near@v0.0.0".to_owned(),
            "pkg:golang/example.org/tool@%28devel%29".to_owned(),
            format!("pkg:golang/stdlib@{version}"),
        ]
        .to_vec()
    };
    let inline = |version: &str| with_section(".go.buildinfo", &inline(version, MODULES));
    for (program, version) in [
        (inline("go1.22.1"), "1.22.1"),
        (inline("go1.22.1 X:boringcrypto"), "1.22.1"),
        (
            inline("devel go1.23-4d1d9bd Tue Jan 2 15:04:05 2024 +0000"),
            "1.23-4d1d9bd",
        ),
        (with_pointers("go1.16.5", MODULES), "1.16.5"),
    ] {
        assert_eq!(look(program), (wanted(version), vec![]));
    }
    // Without modules there is Go itself.
    let (packages, notes) = look(with_pointers("go1.13", ""));
    assert_eq!(packages, ["pkg:golang/stdlib@1.13"]);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn packages_of_rust() {
    let (packages, notes) = look(with_section(".dep-v0", &zlib(RUST.as_bytes())));
    assert_eq!(packages, ["pkg:cargo/itoa@1.0.11", "pkg:cargo/tiny@0.3.1"]);
    assert_eq!(notes, [""; 0]);
}

#[test]
fn what_is_damaged_is_told_and_what_is_none_is_not() {
    let bomb = zlib(&vec![b' '; 9 << 20]);
    for (section, content, wanted) in [
        (
            ".go.buildinfo",
            b"something else".to_vec(),
            "its Go modules",
        ),
        (
            ".go.buildinfo",
            inline("go1.22", MODULES)[..40].to_vec(),
            "its Go modules",
        ),
        (".dep-v0", b"not compressed".to_vec(), "its Rust packages"),
        (
            ".dep-v0",
            zlib(b"{\"packages\": [{\"name\": \"x\"}]}"),
            "its Rust packages",
        ),
        (".dep-v0", bomb, "its Rust packages"),
    ] {
        let (packages, notes) = look(with_section(section, &content));
        assert_eq!(packages, [""; 0]);
        assert_eq!(notes, [format!("/usr/bin/tool: {wanted} can't be read")]);
    }
    for other in [
        std::fs::read("/bin/true").unwrap(),
        b"#!/bin/sh\n".to_vec(),
        b"\x7fELF".to_vec(),
        Vec::new(),
    ] {
        assert_eq!(look(other), (vec![], vec![]));
    }
}

/// Programs that Debian has built with Go, if this machine has any: Go's own version is said in their text too.
#[test]
fn real_programs_of_go() {
    let mut seen = 0;
    for name in ["podman", "skopeo", "umoci", "docker-registry"] {
        let Ok(program) = std::fs::read(format!("/usr/bin/{name}")) else {
            eprintln!("this machine has no {name}");
            continue;
        };
        seen += 1;
        let (packages, notes) = look(program.clone());
        assert_eq!(notes, [""; 0], "{name}");
        let version = packages
            .iter()
            .find_map(|purl| purl.strip_prefix("pkg:golang/stdlib@"))
            .unwrap();
        let texts = Command::new("strings")
            .args(["-a", "-n", "4"])
            .arg(format!("/usr/bin/{name}"))
            .output()
            .unwrap();
        let texts = String::from_utf8_lossy(&texts.stdout);
        assert!(
            texts.contains(&format!("go{version}")) && version.starts_with("1."),
            "{name}: {version}"
        );
        let modules = texts
            .lines()
            .filter(|line| line.starts_with("dep\t") || line.starts_with("mod\t"))
            .count();
        assert_eq!(packages.len(), modules + 1, "{name}: {packages:?}");
    }
    eprintln!("{seen} programs looked into");
}

#[test]
fn one_package_has_all_its_places() {
    let mut programs = Programs::default();
    let mut found = Found::default();
    let program = Bytes(with_section(".go.buildinfo", &inline("go1.22.1", MODULES)));
    for path in ["/usr/bin/one", "/opt/two"] {
        programs.look_into(&program, path, &mut found);
    }
    programs.add_to(&mut found);
    assert_eq!(found.packages.len(), 5);
    for package in &found.packages {
        assert!(package.paths.iter().eq(["/opt/two", "/usr/bin/one"]));
    }
    assert_eq!(
        found.packages[0].checksum.as_deref(),
        Some("h1:5FFieGtaa31eOZH2xzVup1sdC6mZzJ0NnisLzNGmX9g=")
    );
}

/// Header, tables and the section itself with anything in them.
#[test]
fn any_program_is_read_without_harm() {
    let seeds = [
        with_pointers("go1.16.5", MODULES),
        with_section(".go.buildinfo", &inline("go1.22.1", MODULES)),
        with_section(".dep-v0", &zlib(RUST.as_bytes())),
    ];
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..3_usize);
    proptest!(|(
        which in 0..3_usize,
        changes in proptest::collection::vec(change, 1..12),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    )| {
        let mut bytes = seeds[which].clone();
        let length = bytes.len();
        let tables = u64::from_le_bytes(bytes[40..48].try_into().unwrap());
        let tables = usize::try_from(tables).unwrap();
        for (at, value, part) in changes {
            // The headers are a small part of the file: most changes shall meet them.
            let at = match part {
                0 => at.index(64 + 10 * 56),
                1 => tables + at.index(length - tables),
                _ => at.index(length),
            };
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(length));
        }
        let _ = look(bytes);
    });
    proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..300))| {
        let _ = rust::packages(&bytes);
        let _ = look([b"\x7fELF".as_slice(), &bytes].concat());
    });
    let past = Bytes(vec![0; 4]).read_at(&mut [0; 8], 0).unwrap_err();
    assert_eq!(past.kind(), ErrorKind::Invalid);
}
