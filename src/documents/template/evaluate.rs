//! Evaluates the functions of a template on the tree, keeping places.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ovenbird_component::source::{
    Diagnostic, Entry, Mapping, Node, NodeKind, Reading, Span, Style, nearest,
};

use super::graph::Edges;
use super::{PREFIX, kind_of, parameters, stand_in, text};
use crate::documents::Kind;
use crate::documents::arn::Arn;

/// A problem that has been reported already.
#[derive(Debug)]
pub struct Reported;

/// The result of an evaluation; `None` is `AWS::NoValue`.
pub type Evaluated = Result<Option<Node>, Reported>;

/// The values that the service would give.
#[derive(Debug, Clone)]
pub struct Pseudo {
    /// `AWS::Partition`
    pub partition: String,
    /// `AWS::Region`
    pub region: String,
    /// `AWS::AccountId`
    pub account: String,
    /// `AWS::URLSuffix`
    pub suffix: String,
    /// `AWS::StackName`
    pub stack: String,
}

/// The pseudo parameters: from the command line (`--parameter AWS::Region=…`), or values that exist nowhere.
pub fn pseudo_parameters(file: &str, given: &BTreeMap<String, String>) -> Pseudo {
    let value = |name: &str, default: &str| {
        given
            .get(name)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let stem = camino::Utf8Path::new(file).file_stem().unwrap_or("stack");
    let stack: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Pseudo {
        partition: value("AWS::Partition", "aws"),
        region: value("AWS::Region", "us-east-1"),
        account: value("AWS::AccountId", "000000000000"),
        suffix: value("AWS::URLSuffix", "amazonaws.com"),
        stack: value("AWS::StackName", &stack),
    }
}

/// What a template's functions can see.
pub struct Scope<'t> {
    /// Values of the parameters.
    pub parameters: parameters::Values,
    /// Values that the service would give.
    pub pseudo: Pseudo,
    /// The section `Mappings`.
    pub mappings: &'t Mapping,
    /// The section `Conditions`.
    pub conditions: &'t Mapping,
    /// The section `Resources`.
    pub resources: &'t Mapping,
}

/// One pass over a template.
pub struct Evaluator<'r, 't> {
    pub(super) reading: &'r Reading<'r>,
    pub(super) scope: &'r Scope<'t>,
    conditions: RefCell<BTreeMap<String, bool>>,
    pub(super) visiting: RefCell<Vec<String>>,
    current: RefCell<String>,
    edges: RefCell<Edges>,
}

/// How deep values may be nested; the parser's own limit is smaller.
const DEEPEST: usize = 256;

impl<'r, 't> Evaluator<'r, 't> {
    /// Starts a pass.
    pub fn new(reading: &'r Reading<'r>, scope: &'r Scope<'t>) -> Self {
        Self {
            reading,
            scope,
            conditions: RefCell::default(),
            visiting: RefCell::default(),
            current: RefCell::default(),
            edges: RefCell::default(),
        }
    }

    /// Says whose properties are evaluated next.
    pub fn begin(&self, id: &str) {
        id.clone_into(&mut self.current.borrow_mut());
    }

    /// Which resource needs which.
    pub fn into_edges(self) -> Edges {
        self.edges.into_inner()
    }

    /// Notes `DependsOn`.
    pub fn depends_on(&self, node: &Node) {
        let one = [node.clone()];
        for node in node.as_sequence().unwrap_or(&one) {
            if let Some(scalar) = node.as_scalar() {
                match self.scope.resources.entry(&scalar.value) {
                    Some(_) => self.edge(&scalar.value, node.span),
                    None => self.unknown(&scalar.value, node.span),
                }
            }
        }
    }

    fn edge(&self, target: &str, span: Span) {
        let current = self.current.borrow().clone();
        if !current.is_empty() {
            let mut edges = self.edges.borrow_mut();
            edges
                .entry(current)
                .or_default()
                .push((target.to_owned(), span));
        }
    }

    /// Reports a problem.
    pub(super) fn fail<T>(&self, diagnostic: Diagnostic) -> Result<T, Reported> {
        self.reading.report(diagnostic);
        Err(Reported)
    }

    /// Reports a problem at a place.
    pub(super) fn fault<T>(
        &self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Result<T, Reported> {
        self.fail(self.reading.error(code, span, message).expected(expected))
    }

    /// Evaluates a value and everything in it.
    pub fn node(&self, node: &Node) -> Evaluated {
        self.nested(node, 0)
    }

    fn nested(&self, node: &Node, depth: usize) -> Evaluated {
        if depth > DEEPEST {
            return self.fault(
                "nested-too-deeply",
                node.span,
                "functions are nested too deeply",
                "less",
            );
        }
        if let Some((name, argument)) = function(node) {
            return self.call(&name, &argument, node);
        }
        match &*node.kind {
            NodeKind::Scalar(scalar) => {
                if let Some(start) = scalar.value.find("{{resolve:") {
                    let rest = scalar.value.get(start..).unwrap_or_default();
                    let quoted = rest.split_inclusive("}}").next().unwrap_or(rest);
                    return self.fail(
                        self.reading
                            .error(
                                "not-supported",
                                node.span,
                                format!("`{quoted}` can be looked up only in the service"),
                            )
                            .expected("a value")
                            .hint(
                                "make it a parameter of the template, and give it with --parameter",
                            ),
                    );
                }
                Ok(Some(node.clone()))
            }
            NodeKind::Sequence(items) => {
                let items = self.each(items, depth)?;
                Ok(Some(Node {
                    kind: Arc::new(NodeKind::Sequence(items)),
                    ..node.clone()
                }))
            }
            NodeKind::Mapping(mapping) => {
                let mut entries = Vec::with_capacity(mapping.entries.len());
                let mut failed = false;
                for entry in &mapping.entries {
                    if entry.key.text.starts_with("Fn::") {
                        self.reading
                            .report(self.refusal(&entry.key.text, entry.key.span));
                        failed = true;
                        continue;
                    }
                    match self.nested(&entry.value, depth + 1) {
                        Ok(Some(value)) => entries.push(Entry {
                            key: entry.key.clone(),
                            value,
                        }),
                        Ok(None) => {}
                        Err(Reported) => failed = true,
                    }
                }
                if failed {
                    return Err(Reported);
                }
                Ok(Some(Node {
                    kind: Arc::new(NodeKind::Mapping(Mapping { entries })),
                    ..node.clone()
                }))
            }
        }
    }

    fn each(&self, items: &[Node], depth: usize) -> Result<Vec<Node>, Reported> {
        // All items are looked at even when one fails: all problems in one go.
        let evaluated: Vec<Evaluated> = items
            .iter()
            .map(|item| self.nested(item, depth + 1))
            .collect();
        let items: Result<Vec<Option<Node>>, Reported> = evaluated.into_iter().collect();
        Ok(items?.into_iter().flatten().collect())
    }

    /// A function that is not known, or not where it may stand.
    pub fn refusal(&self, name: &str, span: Span) -> Diagnostic {
        if name.starts_with("Fn::ForEach") {
            return self
                .reading
                .error(
                    "not-supported",
                    span,
                    format!("`{name}` cannot be unrolled here"),
                )
                .expected("the resources written out")
                .hint("`aws cloudformation get-template --template-stage Processed` prints them");
        }
        self.reading
            .error(
                "bad-function",
                span,
                format!("`{name}` stands beside other keys"),
            )
            .expected("a function alone in its map")
    }

    /// Evaluates to text.
    pub(super) fn text(&self, node: &Node, what: &str) -> Result<String, Reported> {
        let value = self.node(node)?;
        match value.as_ref().and_then(Node::as_scalar) {
            Some(scalar) => Ok(scalar.value.clone()),
            None => {
                let found = value.as_ref().map_or("no value", Node::describe);
                self.fault(
                    "wrong-type",
                    node.span,
                    format!("{what} is {found}"),
                    "text",
                )
            }
        }
    }

    /// Evaluates to a list.
    pub(super) fn items(&self, node: &Node, what: &str) -> Result<Vec<Node>, Reported> {
        let value = self.node(node)?;
        match value.as_ref().and_then(Node::as_sequence) {
            Some(items) => Ok(items.to_vec()),
            None => {
                let found = value.as_ref().map_or("no value", Node::describe);
                self.fault(
                    "wrong-type",
                    node.span,
                    format!("{what} is {found}"),
                    "a list",
                )
            }
        }
    }

    /// What a name means: a parameter, a pseudo parameter, or a resource.
    pub(super) fn reference(&self, name: &str, span: Span, style: Style) -> Evaluated {
        let pseudo = &self.scope.pseudo;
        let value = match name {
            "AWS::NoValue" => return Ok(None),
            "AWS::NotificationARNs" => return Ok(Some(super::list(Vec::new(), span))),
            "AWS::Partition" => pseudo.partition.clone(),
            "AWS::Region" => pseudo.region.clone(),
            "AWS::AccountId" => pseudo.account.clone(),
            "AWS::URLSuffix" => pseudo.suffix.clone(),
            "AWS::StackName" => pseudo.stack.clone(),
            "AWS::StackId" => format!(
                "arn:{}:cloudformation:{}:{}:stack/{}/00000000-0000-0000-0000-000000000000",
                pseudo.partition, pseudo.region, pseudo.account, pseudo.stack
            ),
            name => {
                if let Some(value) = self.scope.parameters.get(name) {
                    // The place of use: a message about the value should show the property.
                    return Ok(Some(Node {
                        span,
                        ..value.clone()
                    }));
                }
                let Some(resource) = self.resource(name, span)? else {
                    self.unknown(name, span);
                    return Err(Reported);
                };
                match resource.kind {
                    Ok(kind) => self.arn(kind, name, resource.properties, span)?.to_string(),
                    Err(other) => stand_in::reference(
                        &other,
                        &self.stand_in_name(name, &other, resource.properties)?,
                        pseudo,
                    ),
                }
            }
        };
        Ok(Some(text(&value, span, style)))
    }

    /// An attribute of a resource.
    pub(super) fn attribute(&self, name: &str, attribute: &str, span: Span) -> Evaluated {
        let Some(resource) = self.resource(name, span)? else {
            self.unknown(name, span);
            return Err(Reported);
        };
        let value = match resource.kind {
            Err(other) => {
                let own = self.stand_in_name(name, &other, resource.properties)?;
                stand_in::attribute(&other, &own, attribute, &self.scope.pseudo)
            }
            Ok(kind) => {
                let arn = self.arn(kind, name, resource.properties, span)?;
                let version = arn.version.and_then(|version| version.exact());
                let latest = |index: usize| {
                    version.map(|version| Arn {
                        version: Some(version.wildcards()[index]),
                        ..arn.clone()
                    })
                };
                let found = match attribute {
                    "Arn" | "ImageBuilderArn" => Some(arn.to_string()),
                    "Name" => Some(self.name_of(name, resource.properties)?),
                    "LatestVersion.Arn" => latest(0).map(|arn| arn.to_string()),
                    "LatestVersion.Major" => latest(1).map(|arn| arn.to_string()),
                    "LatestVersion.Minor" => latest(2).map(|arn| arn.to_string()),
                    "LatestVersion.Patch" if version.is_some() => Some(arn.to_string()),
                    _ => None,
                };
                match found {
                    Some(found) => found,
                    None => {
                        return self.fault(
                            "unknown-attribute",
                            span,
                            format!("`{name}` has no attribute `{attribute}` that is known before it is made"),
                            "Arn, Name, or LatestVersion.Arn, .Major, .Minor or .Patch of a resource with an exact version",
                        );
                    }
                }
            }
        };
        Ok(Some(text(&value, span, Style::DoubleQuoted)))
    }

    /// A resource by its logical id; its condition has to hold.
    fn resource(&self, id: &str, span: Span) -> Result<Option<Resource<'t>>, Reported> {
        let Some(entry) = self.scope.resources.entry(id) else {
            return Ok(None);
        };
        self.edge(id, span);
        let mapping = entry.value.as_mapping();
        let part = |key: &str| mapping.and_then(|mapping| mapping.get(key));
        if let Some(condition) = part("Condition").and_then(Node::as_scalar)
            && !self.condition(&condition.value, span)?
        {
            return self.fault(
                "missing-reference",
                span,
                format!(
                    "the resource `{id}` is left out because its condition `{}` is false",
                    condition.value
                ),
                "a resource that is there, or Fn::If around the reference",
            );
        }
        let kind = part("Type")
            .and_then(Node::as_scalar)
            .map_or("", |scalar| scalar.value.as_str());
        Ok(Some(Resource {
            kind: kind
                .strip_prefix(PREFIX)
                .and_then(kind_of)
                .ok_or_else(|| kind.to_owned()),
            properties: part("Properties").and_then(Node::as_mapping),
        }))
    }

    fn unknown(&self, name: &str, span: Span) {
        let known = self
            .scope
            .parameters
            .keys()
            .chain(
                self.scope
                    .resources
                    .entries
                    .iter()
                    .map(|entry| &entry.key.text),
            )
            .map(String::as_str);
        let mut diagnostic = self
            .reading
            .error(
                "missing-reference",
                span,
                format!("there is no parameter or resource `{name}`"),
            )
            .expected("the name of a parameter or resource of this template");
        if let Some(near) = nearest(name, known) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        }
        self.reading.report(diagnostic);
    }

    /// Whether a condition of the template holds.
    pub fn condition(&self, name: &str, span: Span) -> Result<bool, Reported> {
        if let Some(known) = self.conditions.borrow().get(name) {
            return Ok(*known);
        }
        let Some(entry) = self.scope.conditions.entry(name) else {
            let known = self
                .scope
                .conditions
                .entries
                .iter()
                .map(|entry| entry.key.text.as_str());
            let mut diagnostic = self
                .reading
                .error(
                    "missing-reference",
                    span,
                    format!("there is no condition `{name}`"),
                )
                .expected("the name of a condition of this template");
            if let Some(near) = nearest(name, known) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            return self.fail(diagnostic);
        };
        let mark = format!("condition {name}");
        if self.visiting.borrow().contains(&mark) {
            let mut path = self.visiting.borrow().clone();
            path.push(mark);
            return self.fault(
                "cycle",
                span,
                format!("a condition depends on itself: {}", path.join(" → ")),
                "a condition that can be decided",
            );
        }
        self.visiting.borrow_mut().push(mark);
        let holds = self.decide(&entry.value);
        self.visiting.borrow_mut().pop();
        if let Ok(holds) = holds {
            self.conditions.borrow_mut().insert(name.to_owned(), holds);
        }
        holds
    }
}

/// A resource as others see it: a kind of ours, or another service's type.
struct Resource<'t> {
    kind: Result<Kind, String>,
    properties: Option<&'t Mapping>,
}

/// A call: `!Sub x`, `{Fn::Sub: x}`, `!Ref x`, `{Ref: x}` or `!Condition x`.
pub(super) fn function(node: &Node) -> Option<(String, Node)> {
    if let Some(tag) = node.tag.as_deref()
        && let Some(name) = tag.strip_prefix('!')
        && !name.starts_with('!')
    {
        let argument = Node {
            tag: None,
            ..node.clone()
        };
        return Some((name.to_owned(), argument));
    }
    let [entry] = &node.as_mapping()?.entries[..] else {
        return None;
    };
    let name = match entry.key.text.as_str() {
        "Ref" => "Ref",
        key => key.strip_prefix("Fn::")?,
    };
    if name.starts_with("ForEach") {
        return None;
    }
    Some((name.to_owned(), entry.value.clone()))
}
