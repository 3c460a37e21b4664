//! The components that come with the project are valid, versioned and complete.

use std::path::Path;

use ovenbird_component::{Options, validate_bytes};

const EXPECTED: [&str; 8] = [
    "amazon-cloudwatch-agent-linux",
    "aws-cli-version-2-linux",
    "docker-ce-linux",
    "hello-world",
    "python-3-linux",
    "reboot-linux",
    "simple-boot-test-linux",
    "update-linux",
];

#[test]
fn every_managed_component_is_valid_and_has_validate_and_test_phases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/components");
    for name in EXPECTED {
        let mut versions = 0;
        for entry in std::fs::read_dir(folder.join(name)).expect(name) {
            let path = entry.expect("entry").path();
            let version = path
                .file_stem()
                .expect("a version")
                .to_string_lossy()
                .into_owned();
            assert_eq!(
                version
                    .split('.')
                    .filter_map(|part| part.parse::<u32>().ok())
                    .count(),
                3,
                "{}",
                path.display()
            );
            let bytes = std::fs::read(&path).expect("read");
            let found = validate_bytes(&path.display().to_string(), &bytes, &Options::default());
            let document = found
                .document
                .unwrap_or_else(|| panic!("{}", found.diagnostics));
            // Downloads without a fixed checksum follow the vendor's latest version; nothing else may be warned about.
            let unexpected: Vec<_> = found
                .diagnostics
                .iter()
                .filter(|item| item.code != "no-checksum")
                .collect();
            assert!(unexpected.is_empty(), "{unexpected:?}");
            assert_eq!(document.name.as_deref(), Some(name));
            assert!(document.description.is_some(), "{name}");
            assert!(
                document.phase("validate").is_some() && document.phase("test").is_some(),
                "{name}"
            );
            versions += 1;
        }
        assert!(versions > 0, "{name}");
    }
}
