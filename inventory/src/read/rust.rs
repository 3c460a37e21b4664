//! What `cargo auditable` puts into programs: the packages that they were built from. Described at
//! <https://github.com/rust-secure-code/cargo-auditable/blob/master/PARSING.md>.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde_json::Value;

use crate::{Ecosystem, Package};

/// The section that holds them: JSON, compressed by zlib.
pub(super) const SECTION: &str = ".dep-v0";
/// Bytes of the JSON; a hundred a package.
const LONGEST: u64 = 8 << 20;

/// The packages of a program; none if what the section holds is not as it must be.
pub(super) fn packages(section: &[u8]) -> Option<Vec<Package>> {
    let mut text = Vec::new();
    ZlibDecoder::new(section)
        .take(LONGEST + 1)
        .read_to_end(&mut text)
        .ok()?;
    if u64::try_from(text.len()).ok()? > LONGEST {
        return None;
    }
    let value: Value = serde_json::from_slice(&text).ok()?;
    value
        .get("packages")?
        .as_array()?
        .iter()
        // What ran while the program was built is not in it; a package is for running unless it says otherwise.
        .filter(|package| {
            package
                .get("kind")
                .is_none_or(|kind| kind.as_str() != Some("build"))
        })
        .map(|package| {
            let field = |name: &str| package.get(name)?.as_str();
            Some(Package::new(
                Ecosystem::Cargo,
                field("name")?,
                field("version")?,
            ))
        })
        .collect()
}
