//! The JSON Schema of a shape, for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{ANY, Field, Rule, Shape, StringMap, Text, Type};

/// The schema of a kind of document.
pub fn document(shape: &'static Shape) -> Value {
    let mut definitions = Definitions::default();
    let Value::Object(mut root) = definitions.shape(shape) else {
        return Value::Null;
    };
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("title".to_owned(), json!(shape.name));
    if !definitions.done.is_empty() {
        root.insert("$defs".to_owned(), json!(definitions.done));
    }
    Value::Object(root)
}

/// A schema for documents of any of several shapes, told apart by `kind`.
pub fn any_of(shapes: &[&'static Shape]) -> Value {
    let mut definitions = Definitions::default();
    let references: Vec<Value> = shapes
        .iter()
        .map(|shape| {
            let mut schema = definitions.shape(shape);
            // Without it, an error in one kind would be told eight times.
            if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
                required.insert(0, json!("kind"));
            }
            definitions.done.insert(shape.name, schema);
            json!({"$ref": format!("#/$defs/{}", shape.name)})
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ovenbird document",
        "oneOf": references,
        "$defs": definitions.done,
    })
}

#[derive(Default)]
struct Definitions {
    done: BTreeMap<&'static str, Value>,
}

impl Definitions {
    fn shape(&mut self, shape: &Shape) -> Value {
        let mut properties = Map::new();
        for field in shape.fields {
            properties.insert(field.key.to_owned(), self.field(field));
        }
        let required: Vec<&str> = shape
            .fields
            .iter()
            .filter(|field| field.required)
            .map(|field| field.key)
            .collect();
        let mut schema = json!({
            "type": "object",
            "additionalProperties": false,
            "required": required,
            "properties": properties,
        });
        let rules: Vec<Value> = shape.rules.iter().map(rule).collect();
        if !rules.is_empty() {
            schema["allOf"] = Value::from(rules);
        }
        schema
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut schema = self.takes(&field.takes);
        schema["description"] = json!(field.about);
        schema
    }

    fn takes(&mut self, takes: &Type) -> Value {
        match takes {
            Type::Text(limits) | Type::Checked(limits, _) => text(limits),
            Type::Integer(least, most) => {
                let mut schema = json!({"type": "integer"});
                if *least != i64::MIN {
                    schema["minimum"] = json!(least);
                }
                if *most != i64::MAX {
                    schema["maximum"] = json!(most);
                }
                schema
            }
            Type::Free => json!({}),
            Type::Boolean => json!({"type": "boolean"}),
            Type::Word(words) => json!({"enum": words}),
            Type::List(item, least, most) => {
                let mut schema = json!({"type": "array", "items": self.takes(item)});
                counts(&mut schema, "Items", *least, *most);
                schema
            }
            Type::Object(shape) => {
                // Entered before its fields are, so that a shape that holds itself would end.
                if !self.done.contains_key(shape.name) {
                    self.done.insert(shape.name, Value::Null);
                    let schema = self.shape(shape);
                    self.done.insert(shape.name, schema);
                }
                json!({"$ref": format!("#/$defs/{}", shape.name)})
            }
            Type::Map(limits) => map(limits),
            Type::Values(limits) => {
                let one = text(limits);
                json!({"anyOf": [one.clone(), {"type": "array", "items": one}]})
            }
            Type::Reference(refers) => {
                json!({"type": "string", "minLength": 1, "maxLength": 1024, "pattern": refers.expression()})
            }
        }
    }
}

fn text(limits: &Text) -> Value {
    let mut schema = json!({"type": "string"});
    if limits.loose {
        schema["type"] = json!(["string", "number", "boolean"]);
    }
    if let Some(pattern) = limits.pattern {
        schema["pattern"] = json!(pattern.ecma());
    }
    counts(&mut schema, "Length", limits.shortest, limits.longest);
    schema
}

fn map(limits: &StringMap) -> Value {
    let mut value = text(&limits.value);
    // An empty tag may be written as nothing at all.
    if let Some(types) = value["type"].as_array_mut() {
        types.push(json!("null"));
    }
    let mut schema = json!({
        "type": "object",
        "propertyNames": text(&limits.key),
        "additionalProperties": value,
    });
    counts(&mut schema, "Properties", limits.least, limits.most);
    schema
}

fn counts(schema: &mut Value, what: &str, least: usize, most: usize) {
    if least > 0 {
        schema[format!("min{what}")] = json!(least);
    }
    if most != ANY {
        schema[format!("max{what}")] = json!(most);
    }
}

fn rule(rule: &Rule) -> Value {
    let each = |keys: &[&str]| -> Vec<Value> {
        keys.iter().map(|key| json!({"required": [key]})).collect()
    };
    match rule {
        Rule::ExactlyOne(keys) => json!({"oneOf": each(keys)}),
        Rule::AtLeastOne(keys) => json!({"anyOf": each(keys)}),
        Rule::AtMostOne(keys) => {
            let mut ways = each(keys);
            ways.push(json!({"not": {"anyOf": each(keys)}}));
            json!({"oneOf": ways})
        }
        Rule::Needs(one, other) => json!({"dependentRequired": {*one: [other]}}),
    }
}
