//! The JSON Schema of component documents, made from the tables that validation uses.

use serde_json::{Map, Value, json};

use crate::action::{ACTIONS, ActionSpec, InputKind, InputSpec, Shape};
use crate::condition::{OPERATORS, SecondOperand};
use crate::document::{Decision, MOST_PARAMETERS, OnFailure};

/// The schema, for editors.
pub fn document() -> Value {
    let mut definitions = Map::new();
    definitions.insert("condition".to_owned(), condition(false));
    definitions.insert("guard".to_owned(), condition(true));
    definitions.insert("loop".to_owned(), looping());
    definitions.insert("step".to_owned(), step());
    definitions.insert("parameter".to_owned(), parameter());
    definitions.insert("constant".to_owned(), constant());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AWSTOE component document",
        "type": "object",
        "additionalProperties": false,
        "required": ["schemaVersion", "phases"],
        "properties": {
            "name": {"type": "string", "description": "Name of the document for people."},
            "description": {"type": "string", "description": "What the document is for."},
            "schemaVersion": {"enum": [1, 1.0, "1", "1.0"], "description": "Version of the language."},
            "parameters": {"type": "array", "maxItems": MOST_PARAMETERS, "items": {"$ref": "#/$defs/parameter"}},
            "constants": {"type": "array", "items": {"$ref": "#/$defs/constant"}},
            "phases": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["name", "steps"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "description": "build, validate, test, container-host-test or a name of your own."},
                        "steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}},
                    },
                },
            },
        },
        "$defs": definitions,
    })
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"enum": words.into_iter().collect::<Vec<_>>()})
}

fn named(body: &Value) -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z0-9_-]{3,128}$"},
        "additionalProperties": body,
    })
}

fn parameter_type() -> Value {
    // Types are read without regard to case; the first four are what editors should offer.
    json!({"anyOf": [
        words(["string", "integer", "boolean", "stringList"]),
        {"pattern": "^([Ss][Tt][Rr][Ii][Nn][Gg]([Ll][Ii][Ss][Tt])?|[Ii][Nn][Tt][Ee][Gg][Ee][Rr]|[Bb][Oo][Oo][Ll][Ee][Aa][Nn])$"},
    ]})
}

fn parameter() -> Value {
    named(&json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type"],
        "properties": {
            "type": parameter_type(),
            "default": {"type": ["string", "number", "boolean", "array"]},
            "description": {"type": "string"},
            "allowedValues": {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}},
        },
    }))
}

fn constant() -> Value {
    named(&json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["type", "value"],
        "properties": {"type": parameter_type(), "value": {"type": ["string", "number", "boolean"]}},
    }))
}

fn condition(with_decision: bool) -> Value {
    let scalar = json!({"type": ["string", "number", "boolean", "null"]});
    let inner = json!({"$ref": "#/$defs/condition"});
    let mut alternatives: Vec<Value> = OPERATORS
        .iter()
        .map(|(name, _, second, about)| {
            let mut properties = Map::new();
            let mut required = vec![*name];
            let mut operand = scalar.clone();
            operand["description"] = json!(format!("True when {about}."));
            properties.insert((*name).to_owned(), operand);
            let second = match second {
                SecondOperand::None => None,
                SecondOperand::Value => Some("value"),
                SecondOperand::Path => Some("path"),
            };
            if let Some(second) = second {
                properties.insert(second.to_owned(), scalar.clone());
                required.push(second);
            }
            alternative(properties, &required, with_decision)
        })
        .collect();
    for name in ["and", "or"] {
        let list = json!({"type": "array", "minItems": 1, "items": inner});
        alternatives.push(alternative(
            Map::from_iter([(name.to_owned(), list)]),
            &[name],
            with_decision,
        ));
    }
    let one =
        json!({"anyOf": [inner, {"type": "array", "minItems": 1, "maxItems": 1, "items": inner}]});
    alternatives.push(alternative(
        Map::from_iter([("not".to_owned(), one)]),
        &["not"],
        with_decision,
    ));
    json!({"oneOf": alternatives})
}

fn alternative(
    mut properties: Map<String, Value>,
    required: &[&str],
    with_decision: bool,
) -> Value {
    if with_decision {
        for key in ["then", "else"] {
            properties.insert(key.to_owned(), words(Decision::WORDS.map(|(word, _)| word)));
        }
    }
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

fn looping() -> Value {
    let texts =
        json!({"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
            "for": {
                "type": "object",
                "additionalProperties": false,
                "required": ["start", "end", "updateBy"],
                "properties": {
                    "start": {"type": "integer"},
                    "end": {"type": "integer", "description": "Included."},
                    "updateBy": {"type": "integer", "not": {"const": 0}},
                },
            },
            "forEach": {"oneOf": [texts, {
                "type": "object",
                "additionalProperties": false,
                "required": ["list"],
                "properties": {
                    "list": {"type": "string"},
                    "delimiter": words([".", ",", ";", ":", "\n", "\\n", "\t", "\\t", " ", "-", "_"]),
                },
            }]},
        },
        "oneOf": [{"required": ["for"]}, {"required": ["forEach"]}],
    })
}

fn step() -> Value {
    let cases: Vec<Value> = ACTIONS.iter().map(inputs_of).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "action"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "Unique in its phase."},
            "action": words(ACTIONS.iter().map(|spec| spec.name)),
            "timeoutSeconds": {"anyOf": [{"const": -1}, {"type": "integer", "minimum": 1}], "default": 7200},
            "onFailure": {"enum": OnFailure::WORDS.map(|(word, _)| word), "default": "Abort"},
            "maxAttempts": {"type": "integer", "minimum": 1, "default": 1},
            "inputs": true,
            "if": {"$ref": "#/$defs/guard"},
            "loop": {"$ref": "#/$defs/loop"},
            "disableLogging": {"type": "boolean", "default": false, "description": "Keeps standard output out of the logs."},
        },
        "allOf": cases,
    })
}

/// Ties the form of `inputs` to the module's name.
fn inputs_of(spec: &ActionSpec) -> Value {
    let inputs = match spec.shape {
        Shape::Operator => json!({"$ref": "#/$defs/condition"}),
        Shape::Map | Shape::OptionalMap => input_map(spec),
        Shape::List => json!({"type": "array", "minItems": 1, "items": input_map(spec)}),
    };
    let inputs = if spec.shape == Shape::OptionalMap {
        json!({"anyOf": [{"type": "null"}, inputs]})
    } else {
        inputs
    };
    let mut then = json!({"properties": {"inputs": inputs}});
    if spec.shape != Shape::OptionalMap {
        then["required"] = json!(["inputs"]);
    }
    json!({"if": {"properties": {"action": {"const": spec.name}}, "required": ["action"]}, "then": then})
}

fn input_map(spec: &ActionSpec) -> Value {
    let properties: Map<String, Value> = spec
        .inputs
        .iter()
        .map(|input| (input.name.to_owned(), input_schema(input)))
        .collect();
    let required: Vec<&str> = spec
        .inputs
        .iter()
        .filter(|input| input.required)
        .map(|input| input.name)
        .collect();
    json!({
        "type": "object",
        "description": spec.about,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

/// Texts may hold references, so kinds that look like words or numbers take any text as well.
fn input_schema(input: &InputSpec) -> Value {
    let mut schema = match input.kind {
        InputKind::Boolean => json!({"type": ["boolean", "string"]}),
        InputKind::Count => json!({"type": ["integer", "string"]}),
        InputKind::Texts => {
            json!({"type": "array", "items": {"type": ["string", "number", "boolean"]}})
        }
        InputKind::TextMap => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
        }
        InputKind::Parameters => json!({
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name", "value"],
                "properties": {"name": {"type": "string"}, "value": {"type": ["string", "number", "boolean"]}},
            },
        }),
        InputKind::Word(list) => {
            json!({"anyOf": [{"enum": list}, {"type": "string", "pattern": "\\{\\{.*\\}\\}"}]})
        }
        InputKind::RegistryValue => json!({"type": ["string", "number", "array"]}),
        _ => json!({"type": ["string", "number"]}),
    };
    let mut about = input.about.to_owned();
    if let Some(default) = input.default {
        about.push_str(&format!(" Default: {default}."));
    }
    schema["description"] = json!(about);
    schema
}
