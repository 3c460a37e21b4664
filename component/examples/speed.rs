//! Validates 1,000 documents of 10 KB and prints how long that took.

use std::time::Instant;

use ovenbird_component::{Options, validate_bytes};

fn main() {
    let mut document = "schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n".to_owned();
    let mut index = 0;
    while document.len() < 10 * 1024 {
        document.push_str(&format!(
            "      - name: Step{index}\n        action: ExecuteBash\n        onFailure: Continue\n        inputs:\n          commands:\n            - set -e\n            - echo 'number {index}' >> /tmp/log\n"
        ));
        index += 1;
    }
    let started = Instant::now();
    for _ in 0..1000 {
        let validated = validate_bytes("speed.yml", document.as_bytes(), &Options::default());
        assert!(validated.document.is_some(), "{}", validated.diagnostics);
    }
    println!(
        "1000 documents of {} bytes: {:.3} s",
        document.len(),
        started.elapsed().as_secs_f64()
    );
}
