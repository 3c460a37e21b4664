//! Versions, compared by the programs that own the rules: dpkg, rpm, Python's `packaging`. Hundreds of pairs in one go each.

use std::cmp::Ordering;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ovenbird_vulnerabilities::version::{Scheme, compare};
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Pairs of what a form stands for, always the same ones.
fn generated(form: &str, count: usize) -> Vec<(String, String)> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = proptest::string::string_regex(form).unwrap();
    let mut one = || strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(|_| (one(), one())).collect()
}

fn listed(versions: &[&str]) -> Vec<(String, String)> {
    versions
        .iter()
        .flat_map(|left| {
            versions
                .iter()
                .map(|right| ((*left).to_owned(), (*right).to_owned()))
        })
        .collect()
}

/// Runs a program on all pairs, one a line; its answers are `-1`, `0` or `1`, one a line. None if it isn't there.
fn asked(program: &str, args: &[&str], pairs: &[(String, String)]) -> Option<Vec<Ordering>> {
    let mut child = match Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(_) => {
            eprintln!("{program} is not installed");
            return None;
        }
    };
    let text: String = pairs
        .iter()
        .map(|(left, right)| format!("{left}\t{right}\n"))
        .collect();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    let answers: Vec<Ordering> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        // rpm's Lua and its macros both end lines.
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.trim().parse::<i32>().unwrap().cmp(&0))
        .collect();
    assert_eq!(answers.len(), pairs.len());
    Some(answers)
}

fn agree(scheme: Scheme, pairs: &[(String, String)], answers: &[Ordering]) {
    let wrong: Vec<String> = pairs
        .iter()
        .zip(answers)
        .filter(|((left, right), answer)| compare(scheme, left, right) != Some(**answer))
        .map(|((left, right), answer)| {
            format!(
                "{left} and {right}: {answer:?}, we say {:?}",
                compare(scheme, left, right)
            )
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn dpkg_agrees() {
    const SCRIPT: &str = r#"while IFS="$(printf '\t')" read -r a b; do
        if dpkg --compare-versions "$a" lt "$b"; then echo -1
        elif dpkg --compare-versions "$a" eq "$b"; then echo 0
        else echo 1; fi; done"#;
    let mut pairs = listed(&[
        "1.0",
        "1.0-0",
        "1.0-1",
        "1.0~rc1-1",
        "1.0~~",
        "1.0+b1",
        "0:1.0",
        "1:0.5",
        "1.0-1+deb12u1",
        "1.0-1~bpo12+1",
        "1.0.",
        "1.00",
        "1.0a",
        "1.0+dfsg-2",
        "3.0.15-1~deb12u1",
        "2:1.0",
    ]);
    pairs.extend(generated(
        "([0-2]:)?[0-9][0-9a-cA-C.+~]{0,7}(-[0-9a-b.+~]{1,4})?",
        300,
    ));
    if let Some(answers) = asked("sh", &["-c", SCRIPT], &pairs)
        && Command::new("dpkg").arg("--version").output().is_ok()
    {
        agree(Scheme::Dpkg, &pairs, &answers);
    }
}

#[test]
fn rpm_agrees() {
    const SCRIPT: &str = r#"%{lua:
        for line in io.lines() do
            local a, b = line:match("^(.-)\t(.*)$")
            print(rpm.vercmp(a, b) .. "\n")
        end}"#;
    let mut pairs = listed(&[
        "1.0",
        "1.0-1",
        "1.0-1.el9",
        "1.0-1.el9_4",
        "0:1.0-1",
        "1:1.0-1",
        "1.0~rc1",
        "1.0~rc1-1",
        "1.0^git1",
        "1.0^git1~x",
        "1.0^20240101-1",
        "1.0a",
        "1.0.a",
        "1.0_1",
        "1.00",
        "1.0.0",
        "5.14.0-427.13.1.el9_4",
        "5.14.0-70.el9",
        "fc4",
        "1.0~~",
        "1.0^^",
        "10:1",
        "2:1",
    ]);
    pairs.extend(generated(
        "([0-2]:)?[0-9a-c][0-9a-cA-B._+~^]{0,8}(-[0-9a-b._~^]{1,5})?",
        600,
    ));
    // It reads its own version of what is empty, and refuses it.
    pairs.retain(|(left, right)| [left, right].iter().all(|text| !text.ends_with('-')));
    if let Some(answers) = asked("rpm", &["--eval", SCRIPT], &pairs) {
        agree(Scheme::Rpm, &pairs, &answers);
    }
}

#[test]
fn python_agrees() {
    const SCRIPT: &str = "
import sys
try:
    from packaging.version import Version
except ImportError:
    from pip._vendor.packaging.version import Version
for line in sys.stdin:
    a, b = (Version(text) for text in line.rstrip('\\n').split('\\t'))
    print((a > b) - (a < b))
";
    let tools =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ovenbird-test/tools/bin/python3");
    let program = if tools.exists() {
        tools.to_str().unwrap()
    } else {
        "python3"
    };
    let mut pairs = listed(&[
        "1.0",
        "1",
        "1.0.0",
        "1.0a1",
        "1.0.dev1",
        "1.0.post1",
        "1.0rc1",
        "1.0-1",
        "1!0.1",
        "1.0+local",
        "1.0+2",
        "v1.0",
        "1.0.post1.dev2",
        "1.0a1.dev1",
        "2024.2.2",
    ]);
    pairs.extend(generated(
        "([01]!)?[0-9]{1,2}(\\.[0-9]{1,2}){0,3}((a|b|rc|alpha|-beta\\.)[0-9]{1,2})?((\\.post|-)[0-9])?(\\.dev[0-9])?(\\+[a-c0-9]{1,3}(\\.[0-9])?)?",
        500,
    ));
    if let Some(answers) = asked(program, &["-c", SCRIPT], &pairs) {
        agree(Scheme::Pep440, &pairs, &answers);
    }
}
