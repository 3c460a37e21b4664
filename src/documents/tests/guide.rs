//! `docs/documents.md` follows the tables, and its examples work.
//!
//! `OVENBIRD_UPDATE_GUIDE=1` writes the tables of fields into the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::fixture;
use crate::documents::shape::{ANY, Rule, Shape, Text, Type};
use crate::documents::{Kind, load_text, workflow_document};

const BEGIN: &str = "<!-- fields of ";
const END: &str = "<!-- end of fields -->";

fn page() -> camino::Utf8PathBuf {
    fixture("../../docs/documents.md")
}

fn shapes() -> Vec<&'static Shape> {
    let kinds = Kind::ALL.map(Kind::shape);
    kinds
        .into_iter()
        .chain([&workflow_document::SHAPE])
        .collect()
}

#[test]
fn the_guide_has_the_fields_of_every_kind() {
    let text = std::fs::read_to_string(page()).unwrap();
    let mut wanted = String::new();
    let mut rest = text.as_str();
    let mut seen = 0;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->").unwrap();
        let (_, after) = after.split_once(END).unwrap();
        let shape = shapes()
            .into_iter()
            .find(|shape| shape.name == name)
            .unwrap();
        write!(wanted, "{before}{BEGIN}{name} -->\n{}{END}", table(shape)).unwrap();
        rest = after;
        seen += 1;
    }
    wanted.push_str(rest);
    assert_eq!(seen, shapes().len());
    if std::env::var_os("OVENBIRD_UPDATE_GUIDE").is_some() {
        std::fs::write(page(), wanted).unwrap();
    } else {
        assert!(
            text == wanted,
            "the tables have changed: run again with OVENBIRD_UPDATE_GUIDE=1"
        );
    }
}

fn table(shape: &Shape) -> String {
    let mut table = "| field | takes | |\n|---|---|---|\n".to_owned();
    rows(shape, "", &mut table);
    table
}

fn rows(shape: &Shape, prefix: &str, table: &mut String) {
    for field in shape.fields.iter().filter(|field| !field.dropped) {
        let needed = field.required
            || shape
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::ExactlyOne(keys) if keys.contains(&field.key)));
        let mark = match (field.required, needed) {
            (true, _) => " *",
            (false, true) => " °",
            (false, false) => "",
        };
        let about = field.about.replace('|', "\\|");
        writeln!(
            table,
            "| `{prefix}{}`{mark} | {} | {about} |",
            field.key,
            takes(&field.takes)
        )
        .unwrap();
        match field.takes {
            Type::Object(inner) => rows(inner, &format!("{prefix}{}.", field.key), table),
            Type::List(Type::Object(inner), ..) => {
                rows(inner, &format!("{prefix}{}[].", field.key), table)
            }
            _ => {}
        }
    }
}

fn takes(takes: &Type) -> String {
    match takes {
        Type::Text(limits) | Type::Checked(limits, _) => text(limits),
        Type::Integer(least, i64::MAX) => format!("number from {least}"),
        Type::Integer(least, most) => format!("{least} … {most}"),
        Type::Boolean => "true, false".to_owned(),
        Type::Word(words) => words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", "),
        Type::List(Type::Object(_), least, most) => format!("list{}", counts(*least, *most)),
        Type::List(item, least, most) => {
            format!("list{} of {}", counts(*least, *most), self::takes(item))
        }
        Type::Object(_) => "map".to_owned(),
        Type::Map(map) => format!("map{}", counts(map.least, map.most)),
        Type::Values(_) => "text, or list of texts".to_owned(),
        Type::Free => "anything".to_owned(),
        Type::Reference(_) => "reference".to_owned(),
    }
}

fn text(limits: &Text) -> String {
    match limits.pattern {
        Some(pattern) if !pattern.expected().contains("NUL") => {
            pattern.expected().replace('|', "\\|")
        }
        _ => match (limits.shortest, limits.longest) {
            (_, ANY) => "text".to_owned(),
            (0, 0) => "empty text".to_owned(),
            (_, most) => format!("text, at most {most}"),
        },
    }
}

fn counts(least: usize, most: usize) -> String {
    match (least, most) {
        (0, ANY) => String::new(),
        (least, ANY) => format!(" of {least} or more"),
        (0, most) => format!(" of at most {most}"),
        (least, most) => format!(" of {least} to {most}"),
    }
}

#[test]
fn the_examples_of_the_guide_work() {
    let text = std::fs::read_to_string(page()).unwrap();
    let mut read = 0;
    for example in text.split("```yaml\n").skip(1) {
        let (example, _) = example.split_once("```").unwrap();
        let name = fixture("whole/example.yml");
        let (documents, diagnostics) = load_text(&name, example, &BTreeMap::new());
        assert!(!diagnostics.has_errors(), "{example}\n{diagnostics}");
        read += documents.len();
    }
    assert!(read >= 8, "{read} documents");
}
