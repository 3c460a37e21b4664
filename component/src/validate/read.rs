//! Takes the structure of a document out of its tree.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::{Options, conditions, inputs, loops};
use crate::action::{ACTIONS, Action};
use crate::document::{
    Constant, DEFAULT_TIMEOUT, Document, MOST_PARAMETERS, OnFailure, Parameter, ParameterKind,
    Phase, SCHEMA_VERSION, Step,
};
use crate::reference::is_name;
use crate::source::{Code, MapReader, Node, Plain, Reading, Span, Spanned, join_words, nearest};
use crate::value::Input;

/// Phases of which a document must have at least one.
const REQUIRED_PHASES: [&str; 3] = ["build", "validate", "test"];

/// A document as far as it could be read.
pub(super) struct Partial {
    /// The document without the steps that could not be read.
    pub(super) document: Document,
    /// Phase and name of those steps, so that references to them are not reported a second time.
    pub(super) unreadable: HashSet<(String, String)>,
}

pub(super) fn document(reading: &Reading<'_>, node: &Node, options: &Options) -> Option<Partial> {
    let mut map = MapReader::new(reading, node, "the document")?;
    let name = map.string("name");
    let description = map.string("description");
    let version = map
        .require("schemaVersion")
        .is_some_and(|node| schema_version(reading, node));
    let mut names = Names::default();
    let parameters = map
        .list("parameters")
        .iter()
        .filter_map(|node| parameter(reading, node, &mut names))
        .collect::<Vec<_>>();
    let constants = map
        .list("constants")
        .iter()
        .filter_map(|node| constant(reading, node, &mut names))
        .collect();
    if let Some(extra) = parameters.get(MOST_PARAMETERS) {
        reading.report(
            reading
                .error(
                    Code::TooManyParameters,
                    extra.name.span,
                    format!("the document has {} parameters", parameters.len()),
                )
                .expected(format!("at most {MOST_PARAMETERS}")),
        );
    }
    let mut unreadable = HashSet::new();
    let phases = map
        .require("phases")
        .map(|node| phases(reading, node, options, &mut unreadable))
        .unwrap_or_default();
    map.finish();
    let document = Document {
        name,
        description,
        parameters,
        constants,
        phases,
    };
    version.then_some(Partial {
        document,
        unreadable,
    })
}

/// Accepts `1`, `1.0` and both in quotes.
fn schema_version(reading: &Reading<'_>, node: &Node) -> bool {
    let good = node.as_scalar().is_some_and(|scalar| {
        matches!(scalar.value.trim(), SCHEMA_VERSION | "1")
            || node.plain() == Some(Plain::Float(1.0))
    });
    if !good {
        let found = node.as_scalar().map_or_else(
            || node.describe().to_owned(),
            |scalar| format!("`{}`", scalar.value),
        );
        reading.report(
            reading
                .error(
                    Code::SchemaVersion,
                    node.span,
                    format!("`schemaVersion` is {found}"),
                )
                .expected(format!(
                    "{SCHEMA_VERSION}, the only version of the language"
                )),
        );
    }
    good
}

/// Names of parameters and constants, which share one space.
#[derive(Default)]
struct Names(HashMap<String, Span>);

impl Names {
    fn check(&mut self, reading: &Reading<'_>, name: &Spanned<String>, what: &str) {
        let length = name.value.chars().count();
        if !is_name(&name.value) || !(3..=128).contains(&length) {
            reading.report(
                reading
                    .error(
                        Code::BadName,
                        name.span,
                        format!("`{}` cannot name a {what}", name.value),
                    )
                    .expected("3 to 128 letters, digits, `-` or `_`"),
            );
        }
        if let Some(first) = self.0.insert(name.value.clone(), name.span) {
            reading.report(
                reading
                    .error(
                        Code::DuplicateName,
                        name.span,
                        format!("the name `{}` is used twice", name.value),
                    )
                    .hint(format!(
                        "parameters and constants share their names; it was first used on line {}",
                        first.start.line
                    )),
            );
        }
    }
}

/// Splits `- Name: {…}`; catches the flat form `- name: X` that workflow documents use.
fn single_entry<'n>(
    reading: &Reading<'_>,
    node: &'n Node,
    what: &str,
) -> Option<(Spanned<String>, &'n Node)> {
    let Some(mapping) = node.as_mapping() else {
        reading.wrong_type(
            node,
            &format!("an item of `{what}s`"),
            &format!("a map with the {what}'s name as its only key"),
        );
        return None;
    };
    let [entry] = &mapping.entries[..] else {
        let name = mapping.get("name").and_then(Node::as_scalar);
        let example = name.map_or("Name", |scalar| scalar.value.as_str());
        let diagnostic = reading
            .error(
                Code::FlatParameter,
                node.span,
                format!("a {what} is written with several keys side by side"),
            )
            .expected(format!("a map with the {what}'s name as its only key"));
        let second = if what == "constant" {
            "value"
        } else {
            "default"
        };
        reading.report(diagnostic.hint(format!(
            "write `- {example}:` and put `type:` and `{second}:` below it, indented further"
        )));
        return None;
    };
    // `- name: X` alone is the same mistake with nothing else in it.
    if entry.key.text == "name" && entry.value.as_scalar().is_some() {
        let example = entry
            .value
            .as_scalar()
            .map_or("Name", |scalar| scalar.value.as_str());
        reading.report(
            reading
                .error(
                    Code::FlatParameter,
                    node.span,
                    format!("a {what} is written with `name:`"),
                )
                .expected(format!("the {what}'s name as the key"))
                .hint(format!(
                    "write `- {example}:` and put `type:` below it, indented further"
                )),
        );
        return None;
    }
    let name = Spanned {
        value: entry.key.text.clone(),
        span: entry.key.span,
    };
    Some((name, &entry.value))
}

fn kind(map: &mut MapReader<'_, '_>) -> Option<ParameterKind> {
    let node = map.require("type")?;
    let reading = map.reading();
    let word = reading.string(node, &format!("`type` of {}", map.what()))?;
    let found = ParameterKind::from_word(&word);
    if found.is_none() {
        reading.report(
            reading
                .error(
                    Code::UnknownWord,
                    node.span,
                    format!("`type` of {} is `{word}`", map.what()),
                )
                .expected("`string`, `integer`, `boolean` or `stringList`"),
        );
    }
    found
}

fn parameter(reading: &Reading<'_>, node: &Node, names: &mut Names) -> Option<Parameter> {
    let (name, body) = single_entry(reading, node, "parameter")?;
    names.check(reading, &name, "parameter");
    let mut map = MapReader::new(reading, body, format!("parameter `{}`", name.value))?;
    let kind = kind(&mut map);
    let default_node = map.take("default");
    let description = map.string("description");
    let allowed_span = map.key_span("allowedValues");
    let allowed = map.strings("allowedValues");
    let default = default_node.and_then(|node| match node.as_sequence() {
        // A default list is written as a list for `stringList`; its value is the text with commas, as everywhere.
        Some(_) if kind == Some(ParameterKind::StringList) => {
            reading.strings(node, "the default").map(|items| {
                items
                    .into_iter()
                    .map(|item| item.value)
                    .collect::<Vec<_>>()
                    .join(",")
            })
        }
        _ => reading.string(node, &format!("`default` of {}", map.what())),
    });
    map.finish();
    if let Some(span) = allowed_span {
        if allowed.as_ref().is_some_and(Vec::is_empty) {
            reading.report(reading.error(
                Code::EmptyValue,
                span,
                format!("`allowedValues` of parameter `{}` is empty", name.value),
            ));
        }
        reading.report(
            reading
                .warning(
                    Code::UndocumentedKey,
                    span,
                    "`allowedValues` is not part of the documented language",
                )
                .hint("it is enforced here and accepted by the service"),
        );
    }
    let parameter = Parameter {
        name,
        kind: kind?,
        default,
        description,
        allowed_values: allowed.map(|items| items.into_iter().map(|item| item.value).collect()),
    };
    if let (Some(default), Some(node)) = (&parameter.default, default_node)
        && let Err(message) = parameter.check(default)
    {
        reading.report(reading.error(Code::BadDefault, node.span, message));
    }
    Some(parameter)
}

fn constant(reading: &Reading<'_>, node: &Node, names: &mut Names) -> Option<Constant> {
    let (name, body) = single_entry(reading, node, "constant")?;
    names.check(reading, &name, "constant");
    let mut map = MapReader::new(reading, body, format!("constant `{}`", name.value))?;
    let kind = kind(&mut map);
    let value = map.require("value");
    map.finish();
    let node = value?;
    let value = reading.string(node, &format!("`value` of constant `{}`", name.value))?;
    if let Some(Err(expected)) = kind.map(|kind| kind.check(&value)) {
        reading.report(
            reading
                .error(
                    Code::WrongType,
                    node.span,
                    format!(
                        "the value `{value}` of constant `{}` has another type",
                        name.value
                    ),
                )
                .expected(expected),
        );
    }
    Some(Constant {
        name,
        kind: kind?,
        value,
    })
}

fn phases(
    reading: &Reading<'_>,
    node: &Node,
    options: &Options,
    unreadable: &mut HashSet<(String, String)>,
) -> Vec<Phase> {
    let Some(items) = reading.list(node, "`phases`") else {
        return Vec::new();
    };
    if items.is_empty() {
        reading.report(
            reading
                .error(Code::EmptyValue, node.span, "`phases` is empty")
                .expected(format!("at least one of {}", join_words(&REQUIRED_PHASES))),
        );
        return Vec::new();
    }
    let mut seen: HashMap<String, Span> = HashMap::new();
    let phases: Vec<Phase> = items
        .iter()
        .filter_map(|node| phase(reading, node, &mut seen, options, unreadable))
        .collect();
    if !seen.is_empty() && !REQUIRED_PHASES.iter().any(|name| seen.contains_key(*name)) {
        let mut diagnostic = reading
            .error(
                Code::NoKnownPhase,
                node.span,
                "none of the phases is one that a build runs",
            )
            .expected(format!("at least one of {}", join_words(&REQUIRED_PHASES)));
        if let Some(near) = seen.keys().find_map(|name| nearest(name, REQUIRED_PHASES)) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        reading.report(diagnostic);
    }
    phases
}

fn phase(
    reading: &Reading<'_>,
    node: &Node,
    seen: &mut HashMap<String, Span>,
    options: &Options,
    unreadable: &mut HashSet<(String, String)>,
) -> Option<Phase> {
    let mut map = MapReader::new(reading, node, "a phase")?;
    let name = map.require_spanned_string("name");
    if let Some(name) = &name {
        map.rename(format!("phase `{}`", name.value));
        if let Some(first) = seen.insert(name.value.clone(), name.span) {
            reading.report(
                reading
                    .error(
                        Code::DuplicatePhase,
                        name.span,
                        format!("the phase `{}` exists twice", name.value),
                    )
                    .hint(format!(
                        "it was first defined on line {}; names of phases are unique in a document",
                        first.start.line
                    )),
            );
        }
    }
    let mut steps = Vec::new();
    if let Some(items) = map.require_list("steps") {
        if items.is_empty() {
            let span = map.key_span("steps").unwrap_or(map.span());
            reading.report(reading.error(
                Code::EmptyValue,
                span,
                format!("{} has no steps", map.what()),
            ));
        }
        let mut step_names = HashMap::new();
        let mut loop_names = HashMap::new();
        for item in items {
            match step(reading, item, &mut step_names, &mut loop_names, options) {
                Some(step) => steps.push(step),
                None => unreadable.extend(name_of(name.as_ref(), item)),
            }
        }
    }
    map.finish();
    Some(Phase { name: name?, steps })
}

/// Phase and name of a step that could not be read, if it has a name at all.
fn name_of(phase: Option<&Spanned<String>>, step: &Node) -> Option<(String, String)> {
    let name = step.as_mapping()?.get("name")?.as_scalar()?;
    Some((phase?.value.clone(), name.value.clone()))
}

fn step(
    reading: &Reading<'_>,
    node: &Node,
    names: &mut HashMap<String, Span>,
    loop_names: &mut HashMap<String, Span>,
    options: &Options,
) -> Option<Step> {
    let mut map = MapReader::new(reading, node, "a step")?;
    let name = map.require_spanned_string("name");
    if let Some(name) = &name {
        map.rename(format!("step `{}`", name.value));
        if let Some(first) = names.insert(name.value.clone(), name.span) {
            reading.report(
                reading
                    .error(
                        Code::DuplicateStep,
                        name.span,
                        format!("the step `{}` exists twice in its phase", name.value),
                    )
                    .hint(format!(
                        "it was first defined on line {}; names of steps are unique in a phase",
                        first.start.line
                    )),
            );
        }
    }
    let action_node = map.require("action");
    let action = action_node.and_then(|node| self::action(reading, node, options));
    let timeout = timeout(&mut map, action);
    let on_failure = map.one_of("onFailure", &OnFailure::WORDS);
    let attempts_node = map.take("maxAttempts");
    let max_attempts = attempts_node.and_then(|node| {
        reading.integer(
            node,
            &format!("`maxAttempts` of {}", map.what()),
            1..=i64::from(u32::MAX),
        )
    });
    if let (Some(node), Some(count)) = (attempts_node, max_attempts)
        && count != 1
        && action.is_some_and(Action::has_fixed_attempts)
    {
        reading.report(
            reading
                .error(
                    Code::FixedAttempts,
                    node.span,
                    "`maxAttempts` of ExecuteDocument cannot be changed",
                )
                .expected("1, or no `maxAttempts` at all")
                .hint("set `maxAttempts` on the steps of the document that is run"),
        );
    }
    let condition = map
        .take("if")
        .map(|node| conditions::guard(reading, node, &format!("`if` of {}", map.what())));
    let looping = map
        .take("loop")
        .map(|node| loops::looping(reading, node, map.what(), loop_names));
    let disable_logging = map.boolean("disableLogging");
    if let Some(span) = map.key_span("disableLogging") {
        reading.report(reading.warning(
            Code::UndocumentedKey,
            span,
            "`disableLogging` is not part of the documented language",
        ));
    }
    let inputs_node = map.take_with_null("inputs");
    let (inputs, assertion) = match action {
        Some(action) => inputs::read(reading, action, inputs_node, &map),
        None => (Some(Input::empty()), None),
    };
    map.finish();
    let action_span = action_node.map_or(node.span, |node| node.span);
    Some(Step {
        name: name?,
        action: action?,
        action_span,
        timeout,
        on_failure: on_failure.unwrap_or(OnFailure::Abort),
        max_attempts: max_attempts
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(1),
        inputs: inputs?,
        assertion,
        condition: condition.flatten(),
        looping: looping.flatten(),
        disable_logging: disable_logging.unwrap_or(false),
    })
}

fn action(reading: &Reading<'_>, node: &Node, options: &Options) -> Option<Action> {
    let name = reading.string(node, "`action`")?;
    let Some(action) = Action::from_name(&name) else {
        let mut diagnostic = reading
            .error(
                Code::UnknownAction,
                node.span,
                format!("unknown action `{name}`"),
            )
            .expected("the name of an action module, such as `ExecuteBash`");
        if let Some(near) = nearest(&name, ACTIONS.iter().map(|spec| spec.name)) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        reading.report(diagnostic);
        return None;
    };
    for platform in options
        .platforms
        .iter()
        .filter(|platform| !action.spec().runs_on(**platform))
    {
        let places: Vec<&str> = action
            .spec()
            .platforms
            .iter()
            .map(|platform| platform.word())
            .collect();
        reading.report(
            reading
                .error(
                    Code::WrongPlatform,
                    node.span,
                    format!("{name} does not work on {platform}"),
                )
                .expected(format!("a module for {platform}"))
                .hint(format!("{name} works on {}", places.join(", "))),
        );
    }
    if options
        .blocked_actions
        .iter()
        .any(|blocked| blocked == &name)
    {
        reading.report(reading.error(
            Code::BlockedAction,
            node.span,
            format!("the module {name} is blocked for this run"),
        ));
    }
    Some(action)
}

/// Reads `timeoutSeconds`: -1 means no limit.
fn timeout(map: &mut MapReader<'_, '_>, action: Option<Action>) -> Option<Duration> {
    let preset = match action {
        Some(Action::ExecuteDocument | Action::Reboot) => None,
        _ => Some(DEFAULT_TIMEOUT),
    };
    let Some(node) = map.take("timeoutSeconds") else {
        return preset;
    };
    let reading = map.reading();
    let what = format!("`timeoutSeconds` of {}", map.what());
    let Some(seconds) = reading.integer(node, &what, i64::MIN..=i64::MAX) else {
        return preset;
    };
    if seconds == 0 || seconds < -1 {
        reading.report(
            reading
                .error(Code::OutOfRange, node.span, format!("{what} is {seconds}"))
                .expected("a number of seconds above 0, or -1 for no limit"),
        );
    } else if seconds != -1 && action == Some(Action::ExecuteDocument) {
        reading.report(
            reading
                .error(
                    Code::FixedTimeout,
                    node.span,
                    "`timeoutSeconds` of ExecuteDocument cannot be changed",
                )
                .expected("-1, or no `timeoutSeconds` at all")
                .hint("set `timeoutSeconds` on the steps of the document that is run"),
        );
    } else if seconds != -1 && action == Some(Action::Reboot) {
        reading.report(reading.warning(
            Code::NoTimeout,
            node.span,
            "a Reboot step has no time limit; this one is ignored",
        ));
    }
    match action {
        Some(Action::ExecuteDocument | Action::Reboot) => None,
        _ => u64::try_from(seconds).ok().map(Duration::from_secs),
    }
}
