//! The positioned YAML layer, seen from outside.

use ovenbird_component::source::{
    Limits, MapReader, Node, Plain, Reading, Source, Style, parse, parse_one, parse_with_limits,
};

fn one(text: &str) -> Node {
    let (node, diagnostics) = parse_one(&Source::new("a.yml", text));
    assert!(diagnostics.is_empty(), "{diagnostics}");
    node.expect("a document")
}

fn problem(text: &str) -> String {
    let (_, diagnostics) = parse_one(&Source::new("a.yml", text));
    assert_eq!(diagnostics.len(), 1, "{diagnostics}");
    diagnostics.render()
}

#[test]
fn spans_are_right_with_bom_crlf_and_non_ascii_text() {
    let text = "\u{feff}# ü\r\nüber: 'ä€'\r\nlist:\r\n  - a\r\n  - {x: y}\r\n\r\n";
    let source = Source::new("a.yml", text);
    let (node, _) = parse_one(&source);
    let node = node.expect("a document");
    let map = node.as_mapping().expect("a map");
    let first = &map.entries[0];
    assert_eq!(
        (first.key.span.start.line, first.key.span.start.column),
        (2, 1)
    );
    assert_eq!(source.slice(first.key.span), "über");
    assert_eq!(source.slice(first.value.span), "'ä€'");
    let list = map.get("list").expect("list");
    assert_eq!(source.slice(list.span), "- a\r\n  - {x: y}");
    assert_eq!(list.span.start.line, 4);
}

#[test]
fn styles_and_tags_are_kept() {
    let node = one("a: '1'\nb: 1\nc: |\n  x\nd: !Ref Foo\ne: !!str 5\n");
    let map = node.as_mapping().expect("a map");
    let get = |key: &str| map.get(key).expect("key");
    assert_eq!(get("a").plain(), Some(Plain::Text));
    assert_eq!(get("b").plain(), Some(Plain::Integer(1)));
    assert_eq!(get("c").as_scalar().expect("scalar").style, Style::Literal);
    assert_eq!(get("d").tag.as_deref(), Some("!Ref"));
    assert_eq!(get("e").plain(), Some(Plain::Text));
}

#[test]
fn json_is_read_as_well() {
    let node = one("{\"name\": \"x\", \"list\": [1, true, null, \"\\u00e4\"]}");
    assert_eq!(
        node.to_json(),
        serde_json::json!({"name": "x", "list": [1, true, null, "ä"]})
    );
}

#[test]
fn anchors_and_merge_keys_expand() {
    let node = one("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n");
    assert_eq!(node.to_json()["use"], serde_json::json!({"y": 3, "x": 1}));
}

#[test]
fn expansion_and_depth_are_bounded() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
    }
    let found = parse(&Source::new("bomb", bomb)).diagnostics;
    assert_eq!(
        found.iter().next().expect("one").code,
        "document-too-complex"
    );

    let deep = "[".repeat(100_000);
    let found = parse(&Source::new("deep", deep)).diagnostics;
    assert_eq!(found.iter().next().expect("one").code, "nested-too-deeply");

    let limits = Limits {
        depth: 2,
        nodes: 100,
    };
    let stream = parse_with_limits(&Source::new("a", "a: {b: {c: 1}}"), limits);
    assert!(stream.diagnostics.has_errors());
}

#[test]
fn several_documents_are_a_stream() {
    let stream = parse(&Source::new("a", "---\na: 1\n---\nb: 2\n...\n"));
    assert_eq!(stream.documents.len(), 2);
    assert!(problem("a: 1\n---\nb: 2\n").contains("several-documents"));
    assert!(problem("# nothing\n").contains("empty-document"));
}

#[test]
fn syntax_errors_name_the_usual_cause() {
    insta::assert_snapshot!(problem("a:\n\t- b\n"), @r"
    error[tab-indentation]: a tab is used for indentation
     --> a.yml:2:1
      |
    2 |  - b
      | ^
      = expected: spaces
      = hint: YAML allows only spaces there; replace each tab by spaces

    1 error
    ");
    insta::assert_snapshot!(problem("fileNamePattern: *log\n"), @r"
    error[unquoted-star]: `*log` is an alias of an anchor that does not exist
     --> a.yml:1:18
      |
    1 | fileNamePattern: *log
      |                  ^^^^
      = hint: quote values that start with `*`, for instance '*log'

    1 error
    ");
    insta::assert_snapshot!(problem("path: {{ Target }}\n"), @r"
    error[unquoted-reference]: a map or list stands where a key is expected
     --> a.yml:1:8
      |
    1 | path: {{ Target }}
      |        ^^^^^^^^^^
      = expected: a reference in quotes, such as '{{ name }}'
      = hint: without quotes YAML reads `{{ … }}` as a map; put the whole value in quotes

    1 error
    ");
    assert!(problem("path: {{ Target }}/x\n").contains("unquoted-reference"));
    insta::assert_snapshot!(problem("name: a\nname: b\n"), @r"
    error[duplicate-key]: duplicate key `name`
     --> a.yml:2:1
      |
    2 | name: b
      | ^^^^
      = hint: it is already set on line 1; remove one of the two

    1 error
    ");
    insta::assert_snapshot!(problem("run: echo: x\n"), @r"
    error[yaml-syntax]: not valid YAML: mapping values are not allowed in this context
     --> a.yml:1:10
      |
    1 | run: echo: x
      |          ^^^
      = hint: a value that contains `: ` must be quoted; or the indentation of this line is wrong

    1 error
    ");
}

#[test]
fn a_reader_reports_every_problem_in_one_pass() {
    let source = Source::new(
        "r.yml",
        "name: 5\nsiz: 3\nmode: Fast\ncount: 99\nflag: yes\nextra: {}\n",
    );
    let node = parse_one(&source).0.expect("a document");
    let reading = Reading::new(&source);
    let mut map = MapReader::new(&reading, &node, "the thing").expect("a map");
    assert_eq!(map.require_string("name").as_deref(), Some("5"));
    assert_eq!(map.integer("size", 1..=10), None);
    assert_eq!(map.one_of("mode", &[("fast", 1), ("slow", 2)]), None);
    assert_eq!(map.integer("count", 1..=10), None);
    assert_eq!(map.boolean("flag"), None);
    assert!(map.require_list("items").is_none());
    map.finish();
    let lines: Vec<String> = reading.finish().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    r.yml:1:1: error[missing-key]: the thing has no `items`
    r.yml:2:1: error[unknown-key]: unknown key `siz` in the thing; expected `name`, `size`, `mode`, `count`, `flag` or `items`; did you mean `size`?
    r.yml:3:7: error[unknown-word]: `mode` of the thing is `Fast`; expected `fast` or `slow`; did you mean `fast`?
    r.yml:4:8: error[out-of-range]: `count` of the thing is 99; expected a whole number from 1 to 10
    r.yml:5:7: error[wrong-type]: `flag` of the thing is not a boolean; expected true or false; write `true`
    r.yml:6:1: error[unknown-key]: unknown key `extra` in the thing; expected `name`, `size`, `mode`, `count`, `flag` or `items`
    ");
}
