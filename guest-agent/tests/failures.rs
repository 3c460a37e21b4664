//! Every message with which a module or a run can fail is asserted somewhere, or it says here why it cannot be.
//!
//! The list is compared with the messages that stand in the sources: one without a line here fails, and so does a line
//! whose test is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A part of the message, what a test asserts of it, and the file of that test: below `tests/`, or below `src/modules/`
/// where a unit test does.
const ASSERTED: &[(&str, &str, &str)] = &[
    (
        "the object store has only one half of its credentials",
        "the object store has only one half of its credentials",
        "object_store.rs",
    ),
    (
        "cannot {what} {name}: {}",
        "Connection refused",
        "object_store.rs",
    ),
    (
        "cannot {what} {name}: {error}",
        "the object was cut off",
        "web.rs",
    ),
    (
        "cannot {what} {name}: {reason}",
        "NoSuchBucket",
        "object_store.rs",
    ),
    (
        "there are more than {MOST_OBJECTS} objects below",
        "more than 1000",
        "object_store.rs",
    ),
    (
        "bytes, the most that one upload takes",
        "bytes, the most that one upload takes",
        "object_store.rs",
    ),
    (
        "cannot write {name}: {}",
        "cannot write s3://",
        "object_store.rs",
    ),
    ("cannot make {}: {error}", "cannot make ", "command_line.rs"),
    ("it is a folder", "it is a folder", "files.case"),
    ("the limit is ", "the limit is ", "failures.case"),
    ("text: {reason}", "is not Utf32Le text", "files.case"),
    (
        "cannot tell the encoding of ",
        "cannot tell the encoding of ",
        "failures.case",
    ),
    (
        "bash is not installed in this guest",
        "bash is not installed in this guest",
        "machine.rs",
    ),
    (
        "does not exist or cannot be executed",
        "does not exist or cannot be executed",
        "failures.case",
    ),
    ("cannot run ", "cannot run ", "failures.case"),
    ("cannot append to ", "cannot append to ", "failures.case"),
    ("names a folder", "names a folder", "files.case"),
    (
        "it exists and overwrite is false",
        "it exists and overwrite is false",
        "failures.case",
    ),
    ("cannot link to ", "cannot link to ", "failures.case"),
    ("it is not a folder", "it is not a folder", "failures.case"),
    (
        "has to end with a separator",
        "has to end with a separator",
        "failures.case",
    ),
    (
        "is a folder, not a file",
        "is a folder, not a file",
        "files.case",
    ),
    (
        "end the destination with a separator to put the file into it",
        "end the destination with a separator to put the file into it",
        "failures.case",
    ),
    ("same file", "same file", "files.case"),
    (
        "cannot create the folder ",
        "cannot create the folder ",
        "failures.case",
    ),
    (
        "belongs to the operating system and is not emptied or deleted",
        "belongs to the operating system and is not emptied or deleted",
        "machine.rs",
    ),
    (
        "is a file, not a folder",
        "is a file, not a folder",
        "files.case",
    ),
    (
        "cannot write the folder ",
        "cannot write the folder ",
        "failures.case",
    ),
    ("into itself", "into itself", "folders.case"),
    (
        "`{text}`, is not {wanted}",
        "is not a number of 32 bits",
        "windows/registry.rs",
    ),
    ("there is no user `", "there is no user `", "files.case"),
    ("there is no group `", "there is no group `", "folders.case"),
    (
        "the source has no name to keep",
        "the source has no name to keep",
        "failures.case",
    ),
    (
        "there are no objects",
        "there are no objects",
        "object_store.rs",
    ),
    ("names no object", "names no object", "object_store.rs"),
    (
        "would be written outside the destination",
        "would be written outside",
        "storage.rs",
    ),
    (
        "there are no files at ",
        "there are no files at ",
        "failures.case",
    ),
    (
        "files at {}",
        "there are more than 1000 files at",
        "failures.case",
    ),
    ("nothing to upload", "nothing to upload", "object_store.rs"),
    (
        "it is larger than ",
        "it is larger than ",
        "object_store.rs",
    ),
    (
        "UpdateOS has to run as root",
        "UpdateOS has to run as root",
        "machine.rs",
    ),
    (
        "no package manager is installed",
        "no package manager is installed",
        "machine.rs",
    ),
    (
        "apk cannot leave packages out",
        "apk cannot leave packages out",
        "machine.rs",
    ),
    (
        "is not the name of a package",
        "is not the name of a package",
        "machine.rs",
    ),
    ("in {TRIES} tries", "in 5 tries", "web.rs"),
    ("cannot download {}: {message}", "status 404", "web.rs"),
    ("cannot download {}: {}", "more than 10 redirects", "web.rs"),
    (
        "has no file name; name the file in the destination",
        "has no file name; name the file in the destination",
        "failures.case",
    ),
    (
        "is set by the module itself",
        "is set by the module itself",
        "windows/installer.rs",
    ),
    (
        "is not the name of a property",
        "is not the name of a property",
        "windows/installer.rs",
    ),
    ("` is not a path", "is not a path", "windows/installer.rs"),
    (
        "has no signature",
        "has no signature",
        "windows/installer.rs",
    ),
    (
        "is not good: {other}",
        "is not good: HashMismatch",
        "windows/installer.rs",
    ),
    (
        "is not a key of the registry",
        "is not a key of the registry",
        "windows/registry.rs",
    ),
    ("is not a list", "is not a list", "windows/registry.rs"),
    (
        "is neither a text nor a number",
        "is neither a text nor a number",
        "windows/registry.rs",
    ),
];

/// The same, of the errors of a run as a whole.
const ERRORS_ASSERTED: &[(&str, &str, &str)] = &[
    (
        "cannot read {path}: {reason}",
        "cannot read gone.json",
        "orders.rs",
    ),
    (
        "is not a configuration",
        "is not a configuration",
        "orders.rs",
    ),
    ("use one of the two", "use one of the two", "resume.rs"),
    ("expected name=value", "expected name=value", "resume.rs"),
    (
        "no documents are given",
        "no documents are given",
        "resume.rs",
    ),
    (
        "cannot use the state in",
        "cannot use the state in",
        "orders.rs",
    ),
    (
        "is not the state of a run",
        "is not the state of a run",
        "orders.rs",
    ),
    (
        "cannot use the log folder",
        "cannot use the log folder",
        "orders.rs",
    ),
    (
        "ended by signal {0}",
        "ended by signal 15; started again with the same state directory",
        "orders.rs",
    ),
    (
        "cannot read the document",
        "cannot read the document",
        "semantics.case",
    ),
    ("is not valid: {first}", "is not valid", "semantics.case"),
    (
        "document {path}: {reason}",
        "is not one of",
        "references.case",
    ),
];

/// A part of the message, and why no test can see it.
const NEVER_SEEN: &[(&str, &str)] = &[
    (
        ": the server sent {received} of {length} bytes",
        "the HTTP client notices before",
    ),
    (
        "the list of objects is absurdly long",
        "a server would have to send thousands of pages, each with a new token",
    ),
    (
        "` is not a known encoding",
        "checked by validation, and again after substitution",
    ),
    (
        "` is not an octal mode",
        "checked by validation, and again after substitution",
    ),
    (
        "` is not an object's address",
        "checked by validation, and again after substitution",
    ),
    (
        "the agent was told to end",
        "the run stops before anybody is told",
    ),
    (
        " cannot be run as a module",
        "Assert and ExecuteDocument are carried out by the engine",
    ),
    ("wrong inputs: ", "inputs are brought into form before"),
    ("no try was made", "there are always five"),
    ("do not work on Windows", "only there"),
    (
        "works on Windows only",
        "such a step is refused by validation",
    ),
    ("is no module of Windows", "there are four"),
    (
        "UpdateOS knows the package managers of Linux only",
        "only on Windows",
    ),
    (
        "ExecutePowerShell needs exactly one of",
        "checked by validation",
    ),
    ("cannot write {} of {}: {}", "only on Windows"),
];

/// The texts that follow a mark in the sources below a folder.
fn messages(folder: &str, mark: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![source(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("sources") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]\nmod tests").next().expect("code");
            for part in code.split(mark).skip(1) {
                let part = part.trim_start();
                let part = part.strip_prefix("format!(").unwrap_or(part).trim_start();
                if let Some(literal) = part.strip_prefix('"') {
                    found.insert(literal.split('"').next().expect("an end").to_owned());
                }
            }
        }
    }
    found
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn every_message_of_a_module_is_asserted() {
    let messages = messages("src/modules", "Failure::new(");
    assert!(messages.len() > 50, "only {} messages", messages.len());
    compare(&messages, ASSERTED, NEVER_SEEN);
}

#[test]
fn every_error_of_a_run_is_asserted() {
    let messages = messages("src", "#[error(");
    assert!(messages.len() > 10, "only {} messages", messages.len());
    compare(&messages, ERRORS_ASSERTED, &[]);
}

fn compare(
    messages: &BTreeSet<String>,
    asserted: &[(&str, &str, &str)],
    never_seen: &[(&str, &str)],
) {
    let parts = || {
        let asserted = asserted.iter().map(|(part, _, _)| *part);
        asserted.chain(never_seen.iter().map(|(part, _)| *part))
    };
    for message in messages {
        assert!(
            parts().any(|part| message.contains(part)),
            "no test asserts `{message}`"
        );
    }
    for part in parts() {
        assert!(
            messages.iter().any(|message| message.contains(part)),
            "no source says `{part}`"
        );
    }
    for (part, asserted, file) in asserted {
        let text = test_text(file);
        assert!(
            text.contains(asserted.trim()),
            "{file} does not assert `{asserted}` of `{part}`"
        );
    }
}

/// The text of a test file, or the unit tests of a module.
fn test_text(file: &str) -> String {
    let read = |path: &str| std::fs::read_to_string(source(path));
    if file.ends_with(".case") {
        return read(&format!("tests/cases/{file}")).expect(file);
    }
    if let Ok(text) = read(&format!("tests/{file}")) {
        return text;
    }
    let text = read(&format!("src/modules/{file}")).expect(file);
    let (_, tests) = text
        .split_once("#[cfg(test)]\nmod tests")
        .expect("unit tests");
    tests.to_owned()
}
