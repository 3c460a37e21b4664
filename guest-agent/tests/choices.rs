//! Where the reference is silent or contradicts itself, we have chosen: each choice has a case of its own.

use std::path::Path;

/// A choice, the file that shows it, and the case or test in it.
const CHOICES: &[(&str, &str, &str)] = &[
    (
        "a phase or step may have any name, but no reference can hold an odd one",
        "component:warnings.case",
        "=== names that no reference can hold",
    ),
    (
        "keys that nobody knows are errors",
        "component:structure.case",
        "=== misspelt top-level key",
    ),
    (
        "the types of parameters are read without regard to case",
        "component:structure.case",
        "=== parameters of every type",
    ),
    (
        "`allowedValues` is accepted, told as undocumented, and enforced",
        "component:structure.case",
        "=== allowed values",
    ),
    (
        "`allowedValues` is enforced in a run",
        "references.case",
        "=== a value that is not allowed",
    ),
    (
        "a parameter without a value is an error",
        "references.case",
        "=== a parameter without a value",
    ),
    (
        "parameters of a document win over those of the run",
        "command_line.rs",
        "every_key_of_the_configuration_is_obeyed_and_flags_win",
    ),
    (
        "booleans may be texts",
        "component:inputs.case",
        "=== booleans, numbers and references in their place",
    ),
    (
        "permissions may be numbers, which is warned of",
        "component:inputs.case",
        "=== permissions",
    ),
    (
        "braces that are no reference stay, with a warning",
        "component:references.case",
        "=== foreign templates",
    ),
    (
        "braces that are no reference reach the command",
        "references.case",
        "=== text that is not ours stays as it is",
    ),
    (
        "several output objects without an index are one text",
        "references.case",
        "=== chains",
    ),
    (
        "values of secrets are masked wherever they show up",
        "references.case",
        "=== stored values are used and not shown",
    ),
    (
        "a secret is not kept over a restart",
        "references.case",
        "=== a secret is not kept over a restart",
    ),
    (
        "PATH, HOME, TERM and the working folder of commands are fixed",
        "programs.case",
        "=== the environment of a command",
    ),
    (
        "output that is no text is made one",
        "programs.case",
        "=== output that is no text",
    ),
    (
        "`disableLogging` keeps standard output out of the logs",
        "programs.case",
        "=== silent steps",
    ),
    (
        "a run restarts fifteen times",
        "programs.case",
        "=== endless reboots end",
    ),
    (
        "exit code 194 in a loop repeats the iteration",
        "programs.case",
        "=== a loop that reboots goes on with the same iteration",
    ),
    (
        "a reboot inside a nested document is survived",
        "semantics.case",
        "=== nesting has a limit, and a reboot inside it is survived",
    ),
    (
        "`if` is kept over a reboot",
        "semantics.case",
        "=== an if is decided once, also over a reboot",
    ),
    (
        "`if` is decided once for all iterations",
        "semantics.case",
        "=== an if is decided before the loop, not for each iteration",
    ),
    (
        "`stringEquals` minds the case, ordering and patterns do not; numbers are exact",
        "semantics.case",
        "=== the case of letters in comparisons",
    ),
    (
        "the digest of a missing file equals nothing",
        "semantics.case",
        "=== assertions",
    ),
    (
        "CreateFolder empties what is there",
        "folders.case",
        "=== CreateFolder",
    ),
    (
        "folders of the operating system are not emptied",
        "folders.case",
        "=== system folders are not emptied",
    ),
    (
        "DeleteFile fails for a path and not for a wildcard",
        "files.case",
        "=== DeleteFile",
    ),
    (
        "`file://` stands in for a bucket",
        "folders.case",
        "=== local objects",
    ),
    (
        "S3Download makes the folders that it needs",
        "object_store.rs",
        "folders_go_to_a_real_server_and_come_back",
    ),
    (
        "UpdateOS knows dnf, zypper and apk as well",
        "machine.rs",
        "every_package_manager_is_called_as_it_wants_to_be",
    ),
    (
        "without a state directory a reboot fails",
        "command_line.rs",
        "without a state directory",
    ),
    (
        "validating nothing is an error",
        "resume.rs",
        "names no document",
    ),
    (
        "phases that are not there are warned of",
        "orders.rs",
        "phases_that_a_document_does_not_have_are_told_and_no_failure",
    ),
    (
        "another execution id starts another run",
        "resume.rs",
        "a_new_execution_id_does_not_resume_an_old_run",
    ),
    (
        "InstallMSI runs again over another version",
        "src:windows/installer.rs",
        "fn exit_codes()",
    ),
    (
        "BINARY values of the registry are hexadecimal",
        "src:windows/registry.rs",
        "fn values()",
    ),
];

#[test]
fn every_choice_has_its_case() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (choice, file, case) in CHOICES {
        let path = match file.split_once(':') {
            Some(("component", file)) => root.join("../component/tests/cases").join(file),
            Some((_, file)) => root.join("src/modules").join(file),
            None if file.ends_with(".case") => root.join("tests/cases").join(file),
            None => root.join("tests").join(file),
        };
        let text = std::fs::read_to_string(&path).expect(file);
        assert!(text.contains(case), "{choice}: {file} has no `{case}`");
    }
}
