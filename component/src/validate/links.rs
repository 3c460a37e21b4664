//! Checks what refers to what: parameters, earlier steps, loops.

use std::collections::{HashMap, HashSet};

use super::read::Partial;
use crate::action::{Action, Shape};
use crate::document::{Document, Step};
use crate::reference::{Chain, PieceKind, Reference, Side, Stored, Template};
use crate::source::{Code, Reading, Span, join_words, nearest};
use crate::value::Input;

pub(super) fn check(reading: &Reading<'_>, partial: &Partial) {
    let document = &partial.document;
    let mut checker = Checker {
        reading,
        document,
        unreadable: &partial.unreadable,
        names: document
            .parameters
            .iter()
            .map(|parameter| parameter.name.value.as_str())
            .chain(
                document
                    .constants
                    .iter()
                    .map(|constant| constant.name.value.as_str()),
            )
            .collect(),
        used: HashSet::new(),
        earlier: HashMap::new(),
    };
    for phase in &document.phases {
        for step in &phase.steps {
            step.visit_texts(&mut |template, span| checker.template(template, span, step));
            checker
                .earlier
                .insert((&phase.name.value, &step.name.value), step);
        }
    }
    checker.report_unused();
}

struct Checker<'r, 's, 'd> {
    reading: &'r Reading<'s>,
    document: &'d Document,
    unreadable: &'d HashSet<(String, String)>,
    names: HashSet<&'d str>,
    used: HashSet<String>,
    earlier: HashMap<(&'d str, &'d str), &'d Step>,
}

impl Checker<'_, '_, '_> {
    fn template(&mut self, template: &Template, span: Span, step: &Step) {
        for piece in template.pieces() {
            let written = &template.text()[piece.start..piece.end];
            let place = self.place(span, written);
            match &piece.kind {
                PieceKind::Literal => {}
                PieceKind::Foreign => self.foreign(written, place),
                PieceKind::Reference(reference) => {
                    let dollar = template.follows_dollar(piece);
                    self.reference(reference, written, place, step, dollar);
                }
            }
        }
    }

    /// Finds the reference inside the text's own span; escapes and folding can hide it, then the whole text stands for it.
    fn place(&self, span: Span, written: &str) -> Span {
        let source = self.reading.source();
        match source.slice(span).find(written) {
            Some(at) => {
                let start = span.start.offset as usize + at;
                source.span(start, start + written.len())
            }
            None => span,
        }
    }

    fn foreign(&self, written: &str, place: Span) {
        let inner = written.trim_matches(['{', '}']).trim();
        // Text such as `{{.ID}}` clearly belongs to another program; only what looks like one of ours is worth a word.
        let ours =
            inner.starts_with("aws:") || inner.contains(".outputs") || inner.contains(".inputs");
        let mut diagnostic = self.reading.warning(
            Code::ForeignTemplate,
            place,
            format!(
                "`{}` is not a reference and stays as it is",
                shorten(written)
            ),
        );
        if ours {
            diagnostic = diagnostic.expected(
                "{{ name }}, {{ phase.step.outputs.field }}, {{ phase.step.inputs[0].field }}, {{ loop.value }} or {{ aws:ssm:/name }}",
            );
        }
        self.reading.report(diagnostic);
    }

    fn reference(
        &mut self,
        reference: &Reference,
        written: &str,
        place: Span,
        step: &Step,
        dollar: bool,
    ) {
        match reference {
            Reference::Name(name) => self.name(name, written, place, dollar),
            Reference::Stored(Stored::ByParameter(name)) => self.name(name, written, place, false),
            Reference::Stored(_) if step.action == Action::ExecuteBinary => {
                self.reading.report(
                    self.reading
                        .warning(Code::SecretInArguments, place, "a stored value in the arguments of a program can be seen in the process list")
                        .hint("hand it over in a file or in an ExecuteBash script"),
                );
            }
            Reference::Stored(_) => {}
            Reference::Loop { name, .. } => self.loop_value(name, written, place, step, dollar),
            Reference::Chain(chain) => self.chain(chain, written, place),
        }
    }

    fn name(&mut self, name: &str, written: &str, place: Span, dollar: bool) {
        if self.names.contains(name) {
            self.used.insert(name.to_owned());
            return;
        }
        if dollar {
            self.foreign(written, place);
            return;
        }
        let mut diagnostic = self.reading.error(
            Code::UndeclaredName,
            place,
            format!("`{name}` is neither a parameter nor a constant of this document"),
        );
        if let Some(near) = nearest(name, self.names.iter().copied()) {
            diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
        } else if self.names.is_empty() {
            diagnostic = diagnostic.hint(format!(
                "declare it under `parameters:` as `- {name}:` with `type: string`"
            ));
        } else {
            let mut names: Vec<&str> = self.names.iter().copied().collect();
            names.sort_unstable();
            diagnostic = diagnostic.expected(join_words(&names));
        }
        self.reading.report(diagnostic);
    }

    fn loop_value(&self, name: &str, written: &str, place: Span, step: &Step, dollar: bool) {
        let own = step
            .looping
            .as_ref()
            .and_then(|looping| looping.name.as_ref());
        let known =
            step.looping.is_some() && (name == "loop" || own.is_some_and(|own| own.value == name));
        if known || dollar {
            return;
        }
        if name == "loop" {
            self.reading.report(self.reading.warning(
                Code::LoopWithoutLoop,
                place,
                format!("`{written}` stays as it is: this step has no loop"),
            ));
            return;
        }
        let mut diagnostic = self.reading.error(
            Code::UnknownLoop,
            place,
            format!("this step has no loop `{name}`"),
        );
        if let Some(own) = own {
            diagnostic = diagnostic.expected(format!("`{}` or `loop`", own.value));
        } else if step.looping.is_some() {
            diagnostic = diagnostic.expected("`loop`, because the loop has no name");
        }
        self.reading.report(diagnostic);
    }

    fn chain(&self, chain: &Chain, written: &str, place: Span) {
        let Some(target) = self
            .earlier
            .get(&(chain.phase.as_str(), chain.step.as_str()))
        else {
            self.unknown_target(chain, written, place);
            return;
        };
        match chain.side {
            Side::Outputs => self.output(chain, target, place),
            Side::Inputs => self.input(chain, target, place),
        }
    }

    fn unknown_target(&self, chain: &Chain, written: &str, place: Span) {
        if self
            .unreadable
            .contains(&(chain.phase.clone(), chain.step.clone()))
        {
            return;
        }
        let (phase, step) = (&chain.phase, &chain.step);
        let diagnostic = if self.document.step(phase, step).is_some() {
            self.reading
                .error(
                    Code::LaterStep,
                    place,
                    format!("`{written}` refers to a step that has not run yet"),
                )
                .expected("a step that stands before this one")
        } else if let Some(found) = self.document.phase(phase) {
            let mut diagnostic = self.reading.error(
                Code::UnknownStep,
                place,
                format!("the phase `{phase}` has no step `{step}`"),
            );
            let names = found.steps.iter().map(|step| step.name.value.as_str());
            if let Some(near) = nearest(step, names) {
                diagnostic = diagnostic.hint(format!("did you mean `{near}`?"));
            }
            diagnostic
        } else {
            let names: Vec<&str> = self
                .document
                .phases
                .iter()
                .map(|phase| phase.name.value.as_str())
                .collect();
            self.reading
                .error(
                    Code::UnknownStep,
                    place,
                    format!("there is no phase `{phase}` in this document"),
                )
                .expected(join_words(&names))
        };
        self.reading.report(diagnostic);
    }

    fn output(&self, chain: &Chain, target: &Step, place: Span) {
        let spec = target.action.spec();
        if spec.outputs.contains(&chain.field.as_str()) {
            return;
        }
        let message = format!("{} has no output `{}`", spec.name, chain.field);
        let mut diagnostic = self.reading.error(Code::UnknownOutput, place, message);
        diagnostic = if spec.outputs.is_empty() {
            diagnostic.hint(format!("{} has no outputs at all", spec.name))
        } else {
            diagnostic.expected(join_words(spec.outputs))
        };
        self.reading.report(diagnostic);
    }

    fn input(&self, chain: &Chain, target: &Step, place: Span) {
        let spec = target.action.spec();
        if target.assertion.is_none() && spec.input(&chain.field).is_none() {
            let names: Vec<&str> = spec.inputs.iter().map(|input| input.name).collect();
            let message = format!("{} has no input `{}`", spec.name, chain.field);
            self.reading.report(
                self.reading
                    .error(Code::UnknownInput, place, message)
                    .expected(join_words(&names)),
            );
            return;
        }
        let map = match (&target.inputs, chain.index) {
            (Input::List(items), index) => {
                if index.is_none() && spec.shape == Shape::List {
                    self.reading.report(
                        self.reading
                            .warning(
                                Code::MissingIndex,
                                place,
                                format!("the inputs of {} are a list", spec.name),
                            )
                            .expected(format!(
                                "an index: {{{{ {}.{}.inputs[0].{} }}}}",
                                chain.phase, chain.step, chain.field
                            )),
                    );
                }
                items.get(index.unwrap_or(0))
            }
            (map, None | Some(0)) => Some(map),
            (_, Some(_)) => None,
        };
        if map.and_then(|map| map.get(&chain.field)).is_none() {
            self.reading.report(
                self.reading
                    .error(
                        Code::UnknownInput,
                        place,
                        format!("the step `{}` does not set this input", chain.step),
                    )
                    .expected("an input that the step sets"),
            );
        }
    }

    fn report_unused(&self) {
        // What a step that could not be read uses is not known.
        if !self.unreadable.is_empty() {
            return;
        }
        let parameters = self
            .document
            .parameters
            .iter()
            .map(|parameter| (&parameter.name, "parameter"));
        let constants = self
            .document
            .constants
            .iter()
            .map(|constant| (&constant.name, "constant"));
        for (name, what) in parameters.chain(constants) {
            if !self.used.contains(&name.value) {
                let message = format!("the {what} `{}` is never used", name.value);
                self.reading
                    .report(self.reading.warning(Code::UnusedName, name.span, message));
            }
        }
    }
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    if line.len() == text.len() && line.chars().count() <= 60 {
        return text.to_owned();
    }
    let start: String = line.chars().take(60).collect();
    format!("{start}…")
}
