//! JSON Schema of the file, written from what the blocks read, for editors. It may accept what the reader refuses
//! (a rule between two keys), never the other way round.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use crate::kind::Kind;
use crate::shape::{KnownKey, Shape, join};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A text with `${NAME}` may stand wherever a value is expected.
const REFERENCE: &str = r"\$\{";

pub(crate) fn write(shape: &Shape) -> Value {
    let mut schema = table(shape, "");
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!(DIALECT));
        schema.insert("title".to_owned(), json!("mainstay.toml"));
    }
    schema
}

fn table(shape: &Shape, pattern: &str) -> Value {
    let known = shape.get(pattern);
    let mut properties = Map::new();
    for key in known.into_iter().flat_map(|table| &table.keys) {
        properties.insert(key.name.clone(), value(key));
    }
    let mut others = json!(false);
    for (name, list) in within(shape, pattern) {
        let child = table(shape, &join(pattern, &name));
        if name == "*" {
            others = child;
            continue;
        }
        let child = if list { array(table(shape, &format!("{}[]", join(pattern, &name)))) } else { child };
        // A key of its own shape (`instances = 3 | { … }`) keeps what it takes besides a table.
        properties.entry(name).or_insert(child);
    }
    if known.is_some_and(|table| table.open) {
        others = json!({ "type": ["string", "number", "boolean"] });
    }
    let mut schema = Map::new();
    if let Some(doc) = known.map(|table| table.doc.as_str()).filter(|doc| !doc.is_empty()) {
        schema.insert("description".to_owned(), json!(doc));
    }
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), others);
    Value::Object(schema)
}

fn array(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Names directly within a table, and whether each is a list of tables.
fn within(shape: &Shape, pattern: &str) -> Vec<(String, bool)> {
    let prefix = if pattern.is_empty() { String::new() } else { format!("{pattern}.") };
    let mut all: Vec<(String, bool)> = Vec::new();
    for table in &shape.tables {
        let Some(rest) = table.pattern.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
        let segment = rest.split('.').next().unwrap_or(rest);
        let name = segment.trim_end_matches("[]");
        let list = segment.ends_with("[]");
        if !name.is_empty() && !all.iter().any(|(known, _)| known == name) {
            all.push((name.to_owned(), list));
        }
    }
    all
}

fn value(key: &KnownKey) -> Value {
    let reference = json!({ "type": "string", "pattern": REFERENCE });
    let mut schema = match &key.kind {
        Kind::Duration => json!({ "type": "string" }),
        Kind::Size => json!({ "type": ["string", "integer"], "minimum": 0 }),
        Kind::Integer { least, most } => {
            json!({ "anyOf": [{ "type": "integer", "minimum": least, "maximum": most }, reference] })
        }
        Kind::Boolean => json!({ "anyOf": [{ "type": "boolean" }, reference] }),
        Kind::Text => json!({ "type": "string" }),
        Kind::Texts => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
        Kind::Choice(choices) => json!({ "anyOf": [{ "enum": choices }, { "type": "string" }] }),
        Kind::Parsed(_) => json!({ "type": ["string", "number", "boolean"] }),
        Kind::Any => json!({}),
    };
    let doc = match (key.doc.is_empty(), &key.kind) {
        (_, Kind::Any) => key.doc.clone(),
        (true, kind) => kind.expected(),
        (false, kind) => format!("{} ({})", key.doc, kind.expected()),
    };
    if let Some(schema) = schema.as_object_mut() {
        if !doc.is_empty() {
            schema.insert("description".to_owned(), json!(doc));
        }
        if let Some(default) = key.default.as_deref().and_then(json_of) {
            schema.insert("default".to_owned(), default);
        }
        let names: Vec<&str> = key.variables.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            schema.insert("$comment".to_owned(), json!(format!("variables: {}", names.join(", "))));
        }
    }
    schema
}

/// A default as JSON; it is written as TOML.
fn json_of(toml: &str) -> Option<Value> {
    converted(DeValue::parse(toml).ok()?.get_ref())
}

fn converted(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(json!(text)),
        DeValue::Integer(number) => number.as_str().parse::<i64>().ok().map(|number| json!(number)),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().map(|number| json!(number)),
        DeValue::Boolean(boolean) => Some(json!(boolean)),
        DeValue::Array(items) => items.iter().map(|item| converted(item.get_ref())).collect(),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}
