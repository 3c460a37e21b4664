//! Any bytes as a component document: no panic, and a document exactly when there are no errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovenbird_component::{Options, validate_bytes};

fuzz_target!(|bytes: &[u8]| {
    let found = validate_bytes("fuzz", bytes, &Options::default());
    assert_eq!(found.document.is_none(), found.diagnostics.has_errors());
    let _ = found.diagnostics.render();
    let _ = found.diagnostics.to_json();
});
