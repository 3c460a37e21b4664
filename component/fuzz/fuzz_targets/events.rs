//! Any bytes as an event stream, in two halves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovenbird_component::event::Decoder;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let _ = decoder.push(first);
    let _ = decoder.push(second);
    let _ = decoder.finish();
});
