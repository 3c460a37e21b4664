//! No input may make the readers panic, hang or use up memory.

use ovenbird_component::event::Decoder;
use ovenbird_component::reference::Template;
use ovenbird_component::source::{Source, parse};
use ovenbird_component::{Options, validate_bytes, validate_source};
use proptest::prelude::*;

/// A document that touches most of the grammar, to be damaged.
const GOOD: &str = r#"name: Damaged
schemaVersion: 1.0
parameters:
  - Version: {type: string, default: '1', allowedValues: ['1', '2']}
constants:
  - Fixed: {type: string, value: x}
phases:
  - name: build
    steps:
      - name: First
        action: ExecuteBash
        timeoutSeconds: 60
        onFailure: Ignore
        maxAttempts: 2
        loop: {name: Each, forEach: {list: 'a,b', delimiter: ','}}
        if: {and: [{stringEquals: '{{ Version }}', value: '1'}, {not: {fileExists: /x}}], else: Abort}
        inputs:
          commands:
            - |
              set -e
              echo {{ Each.value }} {{ Fixed }}
      - &a {name: Second, action: CopyFile, inputs: [{source: '{{ build.First.outputs[0].stdout }}', destination: /b/}]}
      - <<: *a
        name: Third
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let found = validate_bytes("x", &bytes, &Options::default());
        prop_assert!(found.document.is_some() || found.diagnostics.has_errors());
        let _ = found.diagnostics.render();
    }

    #[test]
    fn arbitrary_yaml_like_text_is_read_without_a_panic(text in r#"([-a-z:{}\[\]&*!|>'"%@`#?, \n\t]|é|\{\{|\}\}|  |: |- ){0,200}"#) {
        let source = Source::new("x", text);
        let stream = parse(&source);
        for item in &stream.diagnostics {
            prop_assert!(item.line >= 1 && item.column >= 1);
        }
        let _ = stream.diagnostics.render();
        let _ = validate_source(&source, &Options::default());
    }

    #[test]
    fn damaged_documents_are_read_without_a_panic(cut in 0..GOOD.len(), length in 0usize..40, insert in ".{0,12}") {
        let end = (cut + length).min(GOOD.len());
        let text = format!("{}{insert}{}", &GOOD[..cut], &GOOD[end..]);
        let found = validate_bytes("x", text.as_bytes(), &Options::default());
        let _ = found.diagnostics.render();
        for item in &found.diagnostics {
            // Every place lies inside the text.
            prop_assert!(item.span.end.offset as usize <= text.len());
        }
    }

    #[test]
    fn templates_are_taken_apart_without_loss(text in r#"(\{\{|\}\}|[a-z.\[\]0-9: $é]){0,60}"#) {
        let template = Template::parse(text.as_str());
        let joined: String = template.pieces().iter().map(|piece| &text[piece.start..piece.end]).collect();
        prop_assert_eq!(joined, text);
    }

    #[test]
    fn the_event_decoder_does_not_care_how_bytes_are_cut(bytes in proptest::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
        let mut whole = Decoder::new();
        let mut expected = whole.push(&bytes);
        expected.extend(whole.finish());
        let mut pieces = Decoder::new();
        let mut found = Vec::new();
        for chunk in bytes.chunks(step) {
            found.extend(pieces.push(chunk));
        }
        found.extend(pieces.finish());
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn the_undamaged_document_is_good() {
    let found = validate_bytes("x", GOOD.as_bytes(), &Options::default());
    assert!(found.document.is_some(), "{}", found.diagnostics);
}
