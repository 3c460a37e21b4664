//! Replays the inputs of the fuzz targets: those that were chosen by hand and those that once went wrong.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;

/// What a fuzz target does with its bytes.
type Target = fn(&[u8]);

#[test]
fn the_corpus_of_every_fuzz_target_holds() {
    let targets: [(&str, Target); 4] = [
        ("document", checks::document),
        ("reference", checks::reference),
        ("events", checks::events),
        ("guard", checks::guard),
    ];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let known: Vec<_> = std::fs::read_dir(&corpus)
        .expect("corpus")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(
        known.len(),
        targets.len(),
        "a target without a replay: {known:?}"
    );
    for (name, check) in targets {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus.join(name)).expect(name) {
            check(&std::fs::read(entry.expect("entry").path()).expect("input"));
            count += 1;
        }
        assert!(count > 0, "{name}");
    }
}
