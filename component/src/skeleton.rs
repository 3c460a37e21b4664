//! The text of a new component document, with a comment at everything that people ask about.

/// A commented document that is valid as it is. `name` is put in as the document's name.
pub fn skeleton(name: &str) -> String {
    // A name in single quotes needs only its own quotes doubled.
    let quoted = format!("'{}'", name.replace('\'', "''").replace(['\n', '\r'], " "));
    TEMPLATE.replace("@NAME@", &quoted)
}

const TEMPLATE: &str = r"# A component document: what to do in the image (build), how to know that it worked (validate), and what has to hold on
# a fresh boot of the finished image (test).
name: @NAME@
description: What this component does.
schemaVersion: 1.0

# Values that a recipe can set. Refer to them as '{{ Message }}', always inside quotes.
parameters:
  - Message:
      type: string
      default: hello
      description: What the message file says.

# Values that never change, referred to in the same way.
constants:
  - MessageFile:
      type: string
      value: /etc/message

phases:
  - name: build
    steps:
      - name: WriteMessage
        action: CreateFile
        inputs:
          - path: '{{ MessageFile }}'
            content: '{{ Message }}'
            permissions: '0644'

      - name: Describe
        action: ExecuteBash
        # Time for one attempt (default 7200), attempts in all (default 1), and what a failure means: Abort (default),
        # Continue or Ignore.
        timeoutSeconds: 300
        maxAttempts: 2
        onFailure: Abort
        inputs:
          commands:
            # All items are one script. Without `set -e` only the last command decides.
            - set -euo pipefail
            - . /etc/os-release
            - echo $ID

  - name: validate
    steps:
      # The output of an earlier step is '{{ phase.step.outputs.stdout }}'.
      - name: KnowsItsSystem
        action: Assert
        inputs:
          not:
            stringIsEmpty: '{{ build.Describe.outputs.stdout }}'

  - name: test
    steps:
      - name: MessageSurvived
        action: Assert
        inputs:
          fileExists: '{{ MessageFile }}'
";

#[cfg(test)]
mod tests {
    use crate::source::Source;
    use crate::{Options, validate_source};

    #[test]
    fn a_new_document_is_valid_without_warnings_whatever_its_name() {
        for name in ["my-component", "it's: {odd}", "two\nlines", "#x"] {
            let source = Source::new("new.yml", super::skeleton(name));
            let found = validate_source(&source, &Options::default());
            assert!(
                found.diagnostics.is_empty(),
                "{name}: {}",
                found.diagnostics
            );
        }
    }
}
