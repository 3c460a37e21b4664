//! Warnings about what works but probably should not be so.

use crate::action::Action;
use crate::document::{Document, KNOWN_PHASES, Step};
use crate::reference::{Template, is_name};
use crate::source::{Code, Reading, Span, join_words};
use crate::value::Input;

pub(super) fn check(reading: &Reading<'_>, document: &Document) {
    for phase in &document.phases {
        if !KNOWN_PHASES.contains(&phase.name.value.as_str()) {
            reading.report(
                reading
                    .warning(
                        Code::CustomPhase,
                        phase.name.span,
                        format!(
                            "the phase `{}` runs only when it is asked for",
                            phase.name.value
                        ),
                    )
                    .expected(join_words(&KNOWN_PHASES)),
            );
        }
        for step in &phase.steps {
            check_step(reading, step);
        }
    }
}

fn check_step(reading: &Reading<'_>, step: &Step) {
    if !is_name(&step.name.value) {
        reading.report(
            reading
                .warning(
                    Code::UnreferableName,
                    step.name.span,
                    format!("no reference can name the step `{}`", step.name.value),
                )
                .expected("letters, digits, `-` and `_` only"),
        );
    }
    step.visit_texts(&mut |template, span| plain_secret(reading, template, span));
    match step.action {
        Action::ExecuteBash => check_script(reading, step),
        Action::WebDownload => {
            if let Input::List(items) = &step.inputs {
                items.iter().for_each(|item| check_download(reading, item));
            }
        }
        _ => {}
    }
}

/// The texts of the command list with their places.
fn commands(step: &Step) -> Vec<(&str, Span)> {
    match step.inputs.get("commands") {
        Some(Input::List(items)) => items
            .iter()
            .filter_map(|item| match item {
                Input::Text(template, span) => Some((template.text(), *span)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn check_script(reading: &Reading<'_>, step: &Step) {
    let commands = commands(step);
    let lines: Vec<(&str, Span)> = commands
        .iter()
        .flat_map(|(text, span)| text.lines().map(move |line| (line.trim(), *span)))
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let handles_failure = lines.iter().any(|(line, _)| {
        let sets = line.starts_with("set ")
            && line
                .split_whitespace()
                .skip(1)
                .any(|word| word.starts_with('-') && word.contains('e'));
        sets || line.contains("errexit") || line.contains("|| exit") || line.contains("trap ")
    });
    if lines.len() > 1
        && !handles_failure
        && let Some((_, span)) = commands.first()
    {
        reading.report(
            reading
                .warning(
                    Code::NoFailureHandling,
                    *span,
                    format!(
                        "only the last command decides whether the step `{}` fails",
                        step.name.value
                    ),
                )
                .hint("start with `set -euo pipefail`, then any failing command fails the step"),
        );
    }
    check_reboot_guard(reading, &lines);
    for (line, span) in &lines {
        check_apt(reading, line, *span);
    }
}

/// `exit 194` runs the step again after the reboot; without a guard it does so for ever.
fn check_reboot_guard(reading: &Reading<'_>, lines: &[(&str, Span)]) {
    if !lines.iter().any(|(line, _)| line.contains("194")) {
        return;
    }
    let mut guarded = false;
    for (line, span) in lines {
        let words: Vec<&str> = line
            .split(|c: char| c.is_whitespace() || c == ';')
            .collect();
        let exits = words.windows(2).any(|pair| pair == ["exit", "194"]);
        guarded |= words
            .iter()
            .any(|word| matches!(*word, "if" | "[" | "[[" | "test" | "case" | "&&" | "||"));
        if exits && !guarded {
            reading.report(
                reading
                    .warning(Code::EndlessReboot, *span, "`exit 194` runs this step again after the reboot, and nothing stops it then")
                    .hint("test for a marker file first, and create it before the exit"),
            );
            return;
        }
    }
}

fn check_apt(reading: &Reading<'_>, line: &str, span: Span) {
    if !line.contains("apt") {
        return;
    }
    let mut words = line
        .split_whitespace()
        .skip_while(|word| !matches!(*word, "apt-get" | "apt"));
    if words.next().is_none() {
        return;
    }
    let words: Vec<&str> = words.collect();
    let asks = words.iter().any(|word| {
        matches!(
            *word,
            "install"
                | "upgrade"
                | "dist-upgrade"
                | "full-upgrade"
                | "remove"
                | "purge"
                | "autoremove"
        )
    });
    let answered = words.iter().any(|word| {
        matches!(*word, "--yes" | "--assume-yes" | "--force-yes")
            || (word.starts_with('-')
                && !word.starts_with("--")
                && word.contains(['y', 'q'])
                && (word.contains('y') || word.contains("qq")))
    });
    if asks && !answered {
        reading.report(
            reading
                .warning(
                    Code::AptAsks,
                    span,
                    "apt asks a question here and nobody can answer",
                )
                .hint("use `DEBIAN_FRONTEND=noninteractive apt-get … -y`"),
        );
    }
}

fn check_download(reading: &Reading<'_>, item: &Input) {
    let Some(Input::Text(source, span)) = item.get("source") else {
        return;
    };
    let verified = item.get("checksum").is_some() && item.get("algorithm").is_some();
    if item.get("checksum").is_some() != item.get("algorithm").is_some() {
        reading.report(
            reading
                .warning(
                    Code::HalfChecksum,
                    *span,
                    "only one of `checksum` and `algorithm` is given, so nothing is verified",
                )
                .expected("both"),
        );
    } else if source.text().to_ascii_lowercase().starts_with("http://") && !verified {
        reading.report(
            reading
                .warning(
                    Code::InsecureDownload,
                    *span,
                    "this download is neither encrypted nor verified",
                )
                .hint("use https, and give `checksum` and `algorithm`"),
        );
    } else if !verified {
        reading.report(
            reading
                .warning(Code::NoChecksum, *span, "this download is not verified")
                .hint("give `checksum` and `algorithm`, so that a changed file is noticed"),
        );
    }
    let ignores = match item.get("ignoreCertificateErrors") {
        Some(Input::Literal(value)) => value == &serde_json::Value::Bool(true),
        Some(Input::Text(template, _)) => !template.text().eq_ignore_ascii_case("false"),
        _ => false,
    };
    if ignores {
        reading.report(reading.warning(
            Code::CertificateErrors,
            *span,
            "any certificate is accepted for this download",
        ));
    }
}

/// Marks that only secrets have.
fn plain_secret(reading: &Reading<'_>, template: &Template, span: Span) {
    let text = template.text();
    let what = if text.contains("PRIVATE KEY-----") && text.contains("-----BEGIN") {
        "a private key"
    } else if has_access_key(text) {
        "an AWS access key"
    } else if has_password(text) {
        "a password"
    } else {
        return;
    };
    reading.report(
        reading
            .warning(
                Code::PlainSecret,
                span,
                format!("this text seems to hold {what}"),
            )
            .hint("keep it in a parameter store and refer to it with {{ aws:ssm:/name }}"),
    );
}

/// `AKIA` or `ASIA` and 16 capital letters or digits.
fn has_access_key(text: &str) -> bool {
    ["AKIA", "ASIA"].iter().any(|prefix| {
        text.match_indices(prefix).any(|(at, _)| {
            let rest = &text.as_bytes()[at + prefix.len()..];
            rest.len() >= 16
                && rest[..16]
                    .iter()
                    .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        })
    })
}

/// `password=x`, `--password x`, `PASSWORD: x` with a literal behind it.
fn has_password(text: &str) -> bool {
    // Most texts hold none of the words; they are not worth a copy in lower case.
    let holds = |word: &[u8]| {
        text.as_bytes()
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
    };
    if !holds(b"passw") && !holds(b"secret_") {
        return false;
    }
    let lower = text.to_ascii_lowercase();
    [
        "password=",
        "password: ",
        "--password ",
        "passwd=",
        "secret_access_key=",
    ]
    .iter()
    .any(|mark| {
        lower.match_indices(mark).any(|(at, _)| {
            let value = lower[at + mark.len()..].trim_start_matches(['"', '\'']);
            value
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "!@#%^&*+/=._-".contains(*c))
                .count()
                >= 6
        })
    })
}
