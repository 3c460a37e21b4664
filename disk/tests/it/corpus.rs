//! The fuzz targets without the fuzzer: every seed, and seeds with bytes changed.
//!
//! An input that finds something becomes a seed: its lines in `seeds.py` say what it is.

#[path = "../../fuzz/exercise.rs"]
mod exercise;

use std::fs;
use std::path::{Path, PathBuf};

use crate::fixtures::{run, text};
use crate::formats::noise;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn seeds_and_their_neighbours_end_in_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    run(
        "python3",
        &[text(&fuzz_folder().join("seeds.py")), text(dir.path())],
    );
    for (name, parse) in exercise::TARGETS {
        let seeds = inputs(&dir.path().join(name));
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for (path, seed) in seeds {
            parse(&seed);
            let dice = noise(seed.len() as u64, 50 * 8);
            for round in dice.chunks_exact(8) {
                let mut changed = seed.clone();
                let at = |i: usize| usize::from(u16::from_le_bytes([round[i], round[i + 1]]));
                // What comes first in an image is what decides most.
                let near = at(0) % changed.len().min(600);
                let far = at(2) * 7 % changed.len();
                changed[near] = round[4];
                changed[far] ^= round[5];
                if round[6] < 20 {
                    changed.truncate(far);
                }
                let outcome = std::panic::catch_unwind(|| parse(&changed));
                assert!(outcome.is_ok(), "{} with {round:?}", path.display());
            }
        }
    }
}
