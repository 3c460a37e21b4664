//! The user guide: its examples run, its tables are those of the code.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ovenbird_agent::config::{DocumentEntry, RESTART_LIMIT, RunConfig};
use ovenbird_agent::{Outcome, run};
use ovenbird_component::action::ACTIONS;
use ovenbird_component::condition::{OPERATORS, SecondOperand};
use ovenbird_component::event::Status;
use ovenbird_component::source::Code;

fn guide_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/components.md")
}

fn guide() -> String {
    std::fs::read_to_string(guide_path()).expect("the guide")
}

#[test]
fn every_example_runs() {
    let guide = guide();
    let examples: Vec<&str> = guide
        .split("```yaml\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .collect();
    assert!(examples.len() >= 8);
    for example in examples {
        let folder = tempfile::tempdir().expect("folder");
        let document = example.replace("@dir@", &folder.path().display().to_string());
        let path = folder.path().join("example.yml");
        std::fs::write(&path, document).expect("document");
        let config = RunConfig {
            documents: vec![DocumentEntry {
                path: path.display().to_string(),
                parameters: Vec::new(),
                carried_from: None,
            }],
            log_directory: Some(folder.path().join("logs")),
            state_directory: Some(folder.path().join("state")),
            restart_limit: RESTART_LIMIT,
            ..RunConfig::default()
        };
        let summary = loop {
            match run(&config, None).expect("a run") {
                Outcome::Finished(summary) => break summary,
                Outcome::Reboot { .. } => {}
            }
        };
        assert_eq!(
            summary.status,
            Status::Success,
            "{}\n{example}",
            summary.failure_message
        );
        assert!(summary.executed_step_count > 0);
    }
}

fn modules() -> String {
    let mut text = String::new();
    for spec in ACTIONS {
        let platforms: Vec<&str> = spec
            .platforms
            .iter()
            .map(|platform| platform.word())
            .collect();
        let _ = writeln!(
            text,
            "\n### {}\n\n{} On {}.",
            spec.name,
            spec.about,
            platforms.join(", ")
        );
        if !spec.outputs.is_empty() {
            let outputs: Vec<String> = spec
                .outputs
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let _ = writeln!(text, "Outputs: {}.", outputs.join(", "));
        }
        if spec.inputs.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n| input | | |\n|---|---|---|");
        for input in spec.inputs {
            let preset = match (input.required, input.default) {
                (true, _) => "required".to_owned(),
                (false, Some(default)) => format!("default `{default}`"),
                (false, None) => String::new(),
            };
            let _ = writeln!(text, "| `{}` | {preset} | {} |", input.name, input.about);
        }
    }
    text.push('\n');
    text
}

fn operators() -> String {
    let mut text = "\n| operator | beside it | true when |\n|---|---|---|\n".to_owned();
    for (name, _, second, about) in OPERATORS {
        let second = match second {
            SecondOperand::None => "",
            SecondOperand::Value => "`value`",
            SecondOperand::Path => "`path`",
        };
        let _ = writeln!(text, "| `{name}` | {second} | {about} |");
    }
    text.push_str("| `and`, `or` | | all, or one, of a list of conditions hold; stops early |\n| `not` | | the condition does not hold |\n\n");
    text
}

fn codes() -> String {
    let mut text = "\n| code | | |\n|---|---|---|\n".to_owned();
    for code in Code::ALL {
        let _ = writeln!(
            text,
            "| `{code}` | {} | {} |",
            code.severity(),
            code.about()
        );
    }
    text.push('\n');
    text
}

/// The tables are written by this test when `UPDATE_GUIDE` is set, and compared otherwise.
#[test]
fn the_tables_are_those_of_the_code() {
    let mut wanted = guide();
    for (name, content) in [
        ("modules", modules()),
        ("operators", operators()),
        ("codes", codes()),
    ] {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let start = wanted.find(&open).expect("the opening mark") + open.len();
        let end = wanted.find(&close).expect("the closing mark");
        wanted.replace_range(start..end, &content);
    }
    if std::env::var_os("UPDATE_GUIDE").is_some() {
        std::fs::write(guide_path(), &wanted).expect("written");
    }
    assert!(
        guide() == wanted,
        "docs/components.md is out of date; run this test with UPDATE_GUIDE=1"
    );
}
