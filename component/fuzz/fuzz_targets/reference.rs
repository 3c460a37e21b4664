//! Any text as a template: its pieces put together are the text again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovenbird_component::reference::Template;

fuzz_target!(|text: &str| {
    let template = Template::parse(text);
    let joined: String = template.pieces().iter().map(|piece| &text[piece.start..piece.end]).collect();
    assert_eq!(joined, text);
});
