//! The document of a workflow: parameters, steps with their actions, outputs.

use std::collections::BTreeMap;

use ovenbird_component::source::{
    Diagnostics, Node, NodeKind, Reading, Source, Span, join_words, nearest, parse_one,
};
use serde::Deserialize;
use serde_json::Value;

use super::arn::WorkflowType;
use super::shape::{ANY, Casing, Field, Pattern, Reader, Shape, Text, Type};
use super::workflow_actions::{self, ActionSpec};

static STEP_NAME: Pattern = Pattern::new(
    "^[A-Za-z][A-Za-z0-9_-]{1,99}$",
    "bad-name",
    "2 to 100 letters, digits, `-` and `_`, beginning with a letter",
);

static SCHEMA_VERSION: Pattern = Pattern::new(r"^1(?:\.0)?$", "unknown-word", "1.0");

/// Seconds of the longest step of any action: a week.
const LONGEST_STEP: u64 = 604_800;

/// The fields of a workflow document.
pub static SHAPE: Shape = Shape {
    name: "WorkflowDocument",
    what: "the workflow document",
    fields: &[
        Field::new("name", Type::Text(Text::of(1, 128)), "Its name."),
        Field::new(
            "description",
            Type::Text(Text::of(0, 1024)),
            "What it is for.",
        ),
        Field::new(
            "schemaVersion",
            Type::Text(Text::of(1, 8).like(&SCHEMA_VERSION).or_number()),
            "Version of the language: 1.0.",
        )
        .required(),
        Field::new(
            "parameters",
            Type::List(&Type::Object(&PARAMETER), 0, 25),
            "What can be given from outside.",
        ),
        Field::new(
            "steps",
            Type::List(&Type::Object(&STEP), 1, 15),
            "What happens, in this order.",
        )
        .required(),
        Field::new(
            "outputs",
            Type::List(&Type::Object(&OUTPUT), 0, ANY),
            "What comes out.",
        ),
    ],
    rules: &[],
};

static PARAMETER: Shape = Shape {
    name: "workflowDocumentParameter",
    what: "the parameter",
    fields: &[
        Field::new("name", Type::Text(Text::of(1, 128)), "Its name.").required(),
        Field::new(
            "type",
            Type::Word(&["string", "integer", "boolean", "stringList"]),
            "Its type.",
        )
        .required(),
        Field::new("default", Type::Free, "Its value if none is given."),
        Field::new(
            "description",
            Type::Text(Text::of(0, 1024)),
            "What it is for.",
        ),
    ],
    rules: &[],
};

static STEP: Shape = Shape {
    name: "workflowStep",
    what: "the step",
    fields: &[
        Field::new(
            "name",
            Type::Text(Text::of(2, 100).like(&STEP_NAME)),
            "Its name.",
        )
        .required(),
        Field::new("action", Type::Text(Text::of(1, 100)), "What it does.").required(),
        Field::new(
            "description",
            Type::Text(Text::of(0, 1024)),
            "What it is for.",
        ),
        Field::new("if", Type::Free, "Whether it runs at all."),
        Field::new(
            "inputs",
            Type::Free,
            "What goes in; a key that ends in .$ takes a JSON path.",
        ),
        Field::new(
            "onFailure",
            Type::Word(&["Abort", "Continue"]),
            "What its failure means for the rest; Abort if nothing is said.",
        ),
        Field::new(
            "rollbackEnabled",
            Type::Boolean,
            "Whether it is undone when a later step fails; true if nothing is said.",
        ),
        Field::new(
            "timeoutSeconds",
            Type::Integer(1, LONGEST_STEP.cast_signed()),
            "How long it may take.",
        ),
        Field::new(
            "waitSeconds",
            Type::Integer(0, LONGEST_STEP.cast_signed()),
            "How long to wait before it.",
        ),
    ],
    rules: &[],
};

static OUTPUT: Shape = Shape {
    name: "workflowOutput",
    what: "the output",
    fields: &[
        Field::new("name", Type::Text(Text::of(1, 128)), "Its name.").required(),
        Field::new(
            "value",
            Type::Text(Text::of(1, ANY)),
            "A JSON path to its value.",
        )
        .required(),
    ],
    rules: &[],
};

/// The document of a workflow.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowDocument {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// `1.0`.
    pub schema_version: String,
    /// What can be given from outside.
    #[serde(default)]
    pub parameters: Vec<WorkflowParameter>,
    /// What happens, in this order.
    pub steps: Vec<WorkflowStep>,
    /// What comes out.
    #[serde(default)]
    pub outputs: Vec<WorkflowOutput>,
}

/// A parameter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowParameter {
    /// Its name.
    pub name: String,
    /// `string`, `integer`, `boolean` or `stringList`.
    pub r#type: String,
    /// Its value if none is given.
    pub default: Option<Value>,
    /// What it is for.
    pub description: Option<String>,
}

/// A step.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowStep {
    /// Its name.
    pub name: String,
    /// What it does.
    pub action: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whether it runs at all.
    pub r#if: Option<Value>,
    /// What goes in.
    #[serde(default)]
    pub inputs: BTreeMap<String, Value>,
    /// `Abort` or `Continue`.
    pub on_failure: Option<String>,
    /// Whether it is undone when a later step fails.
    pub rollback_enabled: Option<bool>,
    /// How long it may take.
    pub timeout_seconds: Option<u32>,
    /// How long to wait before it.
    pub wait_seconds: Option<u32>,
}

/// An output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowOutput {
    /// Its name.
    pub name: String,
    /// A JSON path to its value.
    pub value: String,
}

/// Reads and checks a document. Without a type, actions of every type are taken.
pub fn read(
    source: &Source,
    workflow: Option<WorkflowType>,
) -> (Option<WorkflowDocument>, Diagnostics) {
    let (node, mut diagnostics) = parse_one(source);
    let Some(node) = node else {
        return (None, diagnostics);
    };
    let reading = Reading::new(source);
    let reader = Reader::new(&reading, Casing::Camel);
    let value = reader.resource(&node, &SHAPE);
    Checks {
        reading: &reading,
        workflow,
        parameters: names(&node, "parameters"),
        steps: Vec::new(),
    }
    .document(&node);
    let document = value
        .filter(|_| !reading.has_errors())
        .and_then(|value| WorkflowDocument::deserialize(value).ok());
    diagnostics.append(reading.finish());
    (document.filter(|_| !diagnostics.has_errors()), diagnostics)
}

fn names(node: &Node, key: &str) -> Vec<String> {
    items(node, key)
        .iter()
        .filter_map(|item| Some(field(item, "name")?.as_scalar()?.value.clone()))
        .collect()
}

fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.as_mapping()?.get(key)
}

fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    field(node, key)
        .and_then(Node::as_sequence)
        .unwrap_or_default()
}

/// What the tables cannot say.
struct Checks<'r> {
    reading: &'r Reading<'r>,
    workflow: Option<WorkflowType>,
    parameters: Vec<String>,
    /// The steps so far with their actions.
    steps: Vec<(String, Option<&'static ActionSpec>)>,
}

/// Comparisons of `if`, and whether they compare numbers.
const COMPARISONS: [&str; 7] = [
    "booleanEquals",
    "stringEquals",
    "numberEquals",
    "numberLessThan",
    "numberLessThanEquals",
    "numberGreaterThan",
    "numberGreaterThanEquals",
];

impl Checks<'_> {
    fn document(mut self, node: &Node) {
        for step in items(node, "steps") {
            self.step(step);
        }
        for output in items(node, "outputs") {
            if let Some(value) = field(output, "value") {
                self.values(value, true);
            }
        }
    }

    fn step(&mut self, step: &Node) {
        let name_node = field(step, "name");
        let name = name_node
            .and_then(Node::as_scalar)
            .map_or("", |scalar| scalar.value.as_str());
        if let Some(node) = name_node
            && self.steps.iter().any(|(known, _)| known == name)
        {
            self.report(
                "duplicate-step",
                node.span,
                format!("a second step is called `{name}`"),
                "a name of its own",
                None,
            );
        }
        let spec = self.action(step);
        if let Some(inputs) = field(step, "inputs") {
            self.inputs(inputs, name, spec);
        } else if let (Some(spec), Some(node)) = (spec, field(step, "action")) {
            self.required(spec, &[], name, node.span);
        }
        if let Some(condition) = field(step, "if") {
            self.condition(condition);
        }
        if let (Some(spec), Some(node)) = (spec, field(step, "timeoutSeconds"))
            && let Some(seconds) = node.as_scalar().and_then(|scalar| scalar.value.parse::<u64>().ok())
            && seconds > u64::from(spec.most_minutes) * 60
            // Above that, the table has said so.
            && seconds <= LONGEST_STEP
        {
            let expected = format!("at most {} for {}", spec.most_minutes * 60, spec.name);
            self.report(
                "out-of-range",
                node.span,
                format!("`timeoutSeconds` of the step `{name}` is {seconds}"),
                &expected,
                None,
            );
        }
        // Only now: a step cannot refer to itself.
        self.steps.push((name.to_owned(), spec));
    }

    fn action(&self, step: &Node) -> Option<&'static ActionSpec> {
        let node = field(step, "action")?;
        let name = &node.as_scalar()?.value;
        let Some(spec) = workflow_actions::find(name) else {
            let known = workflow_actions::ACTIONS.iter().map(|action| action.name);
            let hint = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
            self.report(
                "unknown-action",
                node.span,
                format!("unknown action `{name}`"),
                "the name of an action, such as `LaunchInstance`",
                hint,
            );
            return None;
        };
        if let Some(workflow) = self.workflow
            && !spec.stages.contains(&workflow)
        {
            let stages: Vec<&str> = spec.stages.iter().map(|stage| stage.as_str()).collect();
            let expected = format!("a workflow of type {}", join_words(&stages));
            self.report(
                "wrong-stage",
                node.span,
                format!(
                    "the action `{name}` has no place in a {} workflow",
                    workflow.as_str()
                ),
                &expected,
                None,
            );
        }
        Some(spec)
    }

    fn inputs(&self, node: &Node, step: &str, spec: Option<&'static ActionSpec>) {
        let Some(mapping) = node.as_mapping() else {
            self.reading
                .wrong_type(node, &format!("`inputs` of the step `{step}`"), "a map");
            return;
        };
        let mut given = Vec::new();
        for entry in &mapping.entries {
            let (key, is_path) = match entry.key.text.strip_suffix(".$") {
                Some(key) => (key, true),
                None => (entry.key.text.as_str(), false),
            };
            given.push(key);
            let known: Vec<&str> = spec
                .map(|spec| {
                    spec.inputs
                        .iter()
                        .map(|input| input.trim_end_matches('*'))
                        .collect()
                })
                .unwrap_or_default();
            if spec.is_some() && !known.contains(&key) {
                let hint = nearest(key, known.iter().copied())
                    .map(|near| format!("did you mean `{near}`?"));
                self.report(
                    "unknown-key",
                    entry.key.span,
                    format!("unknown key `{key}` in `inputs` of the step `{step}`"),
                    &join_words(&known),
                    hint,
                );
            }
            self.values(&entry.value, is_path);
        }
        if let Some(spec) = spec {
            let span = mapping
                .entries
                .first()
                .map_or(node.span, |entry| entry.key.span);
            self.required(spec, &given, step, span);
        }
    }

    fn required(&self, spec: &ActionSpec, given: &[&str], step: &str, span: Span) {
        let required = spec
            .inputs
            .iter()
            .filter_map(|input| input.strip_suffix('*'));
        for input in required.filter(|input| !given.contains(input)) {
            self.report(
                "missing-key",
                span,
                format!("`inputs` of the step `{step}` have no `{input}`"),
                &format!("`{input}`, or `{input}.$` with a JSON path"),
                None,
            );
        }
    }

    /// Checks every path in a value: the whole text behind a key with `.$`, or between `{{` and `}}`.
    fn values(&self, node: &Node, is_path: bool) {
        match &*node.kind {
            NodeKind::Scalar(scalar) => {
                if is_path || scalar.value.starts_with("$.") {
                    self.path(&scalar.value, node.span);
                } else {
                    let parts = scalar.value.split("{{").skip(1);
                    for path in parts.filter_map(|part| part.split_once("}}")) {
                        self.path(path.0.trim(), node.span);
                    }
                }
            }
            NodeKind::Sequence(items) => {
                for item in items {
                    self.values(item, false);
                }
            }
            NodeKind::Mapping(mapping) => {
                for entry in &mapping.entries {
                    self.values(&entry.value, entry.key.text.ends_with(".$"));
                }
            }
        }
    }

    fn path(&self, path: &str, span: Span) {
        const EXPECTED: &str =
            "a path below $.parameters, $.stepOutputs, $.workflowOutputs or $.imagebuilder";
        let mut parts = path.split('.');
        let (root, section, name) = (parts.next(), parts.next(), parts.next());
        let (Some("$"), Some(section), Some(name)) = (root, section, name) else {
            self.report(
                "bad-path",
                span,
                format!("`{path}` is not a path"),
                EXPECTED,
                None,
            );
            return;
        };
        // `distributedImages[0]` is an item of an output.
        let plain = |part: &str| part.split('[').next().unwrap_or(part).to_owned();
        let missing = |what: &str, name: &str, known: Vec<&str>| {
            let hint =
                nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let expected = if known.is_empty() {
                format!("the name of a {what}")
            } else {
                join_words(&known)
            };
            self.report(
                "missing-reference",
                span,
                format!("`{path}` refers to the {what} `{name}`, which is not there"),
                &expected,
                hint,
            );
        };
        match section {
            "parameters" => {
                if !self.parameters.iter().any(|known| *known == plain(name)) {
                    missing(
                        "parameter",
                        name,
                        self.parameters.iter().map(String::as_str).collect(),
                    );
                }
            }
            "imagebuilder" => {
                if !workflow_actions::VARIABLES.contains(&plain(name).as_str()) {
                    missing("variable", name, workflow_actions::VARIABLES.to_vec());
                }
            }
            "workflowOutputs" => {}
            "stepOutputs" => match self.steps.iter().find(|(known, _)| known == name) {
                None => missing(
                    "step before it",
                    name,
                    self.steps.iter().map(|(name, _)| name.as_str()).collect(),
                ),
                Some((_, spec)) => {
                    if let (Some(spec), Some(output)) = (spec, parts.next())
                        && !spec.outputs.contains(&plain(output).as_str())
                    {
                        missing("output", output, spec.outputs.to_vec());
                    }
                }
            },
            _ => self.report(
                "bad-path",
                span,
                format!("`{path}` begins with no known part"),
                EXPECTED,
                None,
            ),
        }
    }

    fn condition(&self, node: &Node) {
        const EXPECTED: &str =
            "`and`, `or`, `not`, or a comparison such as `stringEquals` beside `value`";
        let Some(mapping) = node.as_mapping() else {
            self.reading.wrong_type(node, "the condition", "a map");
            return;
        };
        if let [entry] = &mapping.entries[..] {
            match entry.key.text.as_str() {
                "and" | "or" => {
                    let what = format!("`{}`", entry.key.text);
                    for item in self.reading.list(&entry.value, &what).unwrap_or_default() {
                        self.condition(item);
                    }
                    return;
                }
                "not" => {
                    self.condition(&entry.value);
                    return;
                }
                _ => {}
            }
        }
        let comparison = mapping
            .entries
            .iter()
            .find(|entry| COMPARISONS.contains(&entry.key.text.as_str()));
        let stranger = mapping.entries.iter().find(|entry| {
            entry.key.text != "value" && !COMPARISONS.contains(&entry.key.text.as_str())
        });
        if let Some(entry) = stranger {
            let known = COMPARISONS.into_iter().chain(["and", "or", "not", "value"]);
            let hint =
                nearest(&entry.key.text, known).map(|near| format!("did you mean `{near}`?"));
            self.report(
                "unknown-key",
                entry.key.span,
                format!("unknown key `{}` in the condition", entry.key.text),
                EXPECTED,
                hint,
            );
            return;
        }
        match (comparison, mapping.get("value")) {
            (Some(entry), Some(value)) => {
                self.values(&entry.value, false);
                self.values(value, false);
            }
            _ => self.report(
                "bad-condition",
                node.span,
                "the condition compares nothing".to_owned(),
                EXPECTED,
                None,
            ),
        }
    }

    fn report(
        &self,
        code: &'static str,
        span: Span,
        message: String,
        expected: &str,
        hint: Option<String>,
    ) {
        let diagnostic = self.reading.error(code, span, message).expected(expected);
        self.reading.report(match hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        });
    }
}
