//! The schemas of an OpenAPI document as JSON Schema 2020-12, for what a client sends. Pure.
//!
//! 3.0 has words of its own: `nullable`, `exclusiveMinimum: true`, a `$ref` whose neighbours do not count. In 3.0 and
//! 3.1 alike a property that is `readOnly` is not required of a request.

use super::json::segment;
use serde_json::{Map, Value, json};

/// Schemas within each other. A file is no deeper than its parser lets it be; this is for who changes that.
const DEPTH_MAX: usize = 128;

/// Whether the document speaks 3.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    V30,
    V31,
}

/// Rewrites every schema in place.
pub fn rewrite(document: &mut Value, speaks: Speaks) {
    let read_only = read_only(document);
    let walk = Walk { speaks, read_only: &read_only };
    if let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        schemas.values_mut().for_each(|schema| walk.schema(schema, 0));
    }
    walk.around(document, "", 0);
}

/// Components that are read-only wherever they are used.
fn read_only(document: &Value) -> Vec<String> {
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    let is_read_only = |schema: &Value| schema.get("readOnly") == Some(&Value::Bool(true));
    let named = schemas.into_iter().flatten().filter(|(_, schema)| is_read_only(schema));
    named.map(|(name, _)| format!("#/components/schemas{}", segment(name))).collect()
}

struct Walk<'a> {
    speaks: Speaks,
    read_only: &'a [String],
}

impl Walk<'_> {
    /// What is no schema and may hold some, under the key `schema`; `within` is the key it stands under.
    fn around(&self, value: &mut Value, within: &str, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.around(item, "", depth + 1)),
            Value::Object(pairs) => {
                for (key, member) in pairs {
                    match key.as_str() {
                        "example" | "examples" => {}
                        extension if extension.starts_with("x-") => {}
                        "schema" => self.schema(member, depth + 1),
                        // Of the components: they are done.
                        "schemas" if within == "components" && depth == 1 => {}
                        key => self.around(member, key, depth + 1),
                    }
                }
            }
            _ => {}
        }
    }

    fn schema(&self, schema: &mut Value, depth: usize) {
        let Value::Object(words) = schema else { return };
        if depth > DEPTH_MAX {
            return;
        }
        if self.speaks == Speaks::V30
            && let Some(target) = words.get("$ref").filter(|t| t.is_string()).cloned()
        {
            // Its neighbours do not count; `nullable` is there because its writer meant it.
            let nullable = words.get("nullable") == Some(&Value::Bool(true));
            *words = Map::new();
            words.insert("$ref".to_owned(), target);
            if nullable {
                *schema = json!({ "anyOf": [{ "type": "null" }, schema.take()] });
            }
            return;
        }
        for (key, member) in words.iter_mut() {
            match (key.as_str(), member) {
                ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", member) => {
                    for inner in member.as_object_mut().into_iter().flat_map(Map::values_mut) {
                        self.schema(inner, depth + 1);
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(items)) => {
                    for inner in items {
                        self.schema(inner, depth + 1);
                    }
                }
                (
                    "items"
                    | "additionalProperties"
                    | "not"
                    | "if"
                    | "then"
                    | "else"
                    | "contains"
                    | "propertyNames"
                    | "unevaluatedItems"
                    | "unevaluatedProperties",
                    member,
                ) => self.schema(member, depth + 1),
                _ => {}
            }
        }
        self.drop_read_only(words);
        whole_numbers(words);
        if self.speaks == Speaks::V30 {
            exclusive(words, "minimum", "exclusiveMinimum");
            exclusive(words, "maximum", "exclusiveMaximum");
            if words.remove("nullable") == Some(Value::Bool(true)) {
                nullable(schema);
            }
        }
    }

    /// What only answers carry is not required of a request.
    fn drop_read_only(&self, words: &mut Map<String, Value>) {
        let Some(properties) = words.get("properties").and_then(Value::as_object) else { return };
        let is_read_only = |schema: &Value| {
            schema.get("readOnly") == Some(&Value::Bool(true))
                || schema.get("$ref").and_then(Value::as_str).is_some_and(|t| self.read_only.iter().any(|r| r == t))
        };
        let names: Vec<String> = properties.iter().filter(|(_, s)| is_read_only(s)).map(|(n, _)| n.clone()).collect();
        if names.is_empty() {
            return;
        }
        if let Some(required) = words.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| !names.iter().any(|n| name == n));
        }
    }
}

/// `int32` and `int64` are formats that OpenAPI gives to numbers; JSON Schema knows formats of texts alone.
fn whole_numbers(words: &mut Map<String, Value>) {
    let (least, most) = match words.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("int64") => (i64::MIN, i64::MAX),
        _ => return,
    };
    for (key, exclusive, limit) in [("minimum", "exclusiveMinimum", least), ("maximum", "exclusiveMaximum", most)] {
        if !words.contains_key(key) && !words.get(exclusive).is_some_and(Value::is_number) {
            words.insert(key.to_owned(), limit.into());
        }
    }
}

/// `minimum: 5, exclusiveMinimum: true` is `exclusiveMinimum: 5`.
fn exclusive(words: &mut Map<String, Value>, limit: &str, key: &str) {
    let Some(Value::Bool(is_exclusive)) = words.get(key) else { return };
    let is_exclusive = *is_exclusive;
    words.remove(key);
    if is_exclusive && let Some(value) = words.remove(limit) {
        words.insert(key.to_owned(), value);
    }
}

/// With a type, null is one more of them; without, one more form.
fn nullable(schema: &mut Value) {
    match schema.get_mut("type") {
        Some(kind @ Value::String(_)) => *kind = json!([kind.take(), "null"]),
        Some(Value::Array(kinds)) => kinds.push("null".into()),
        _ => *schema = json!({ "anyOf": [{ "type": "null" }, schema.take()] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(schema: Value, speaks: Speaks) -> Value {
        let mut document = json!({"paths": {"/a": {"post": {"requestBody": {"content": {"x/y": {"schema": schema}}}}}},
            "components": {"schemas": {"Id": {"type": "string", "readOnly": true}}}});
        rewrite(&mut document, speaks);
        let at = "/paths/~1a/post/requestBody/content/x~1y/schema";
        document.pointer(at).expect("there").clone()
    }

    #[test]
    fn the_words_of_3_0_become_those_of_json_schema() {
        for (from, to) in [
            (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
            (json!({"type": "string", "nullable": false}), json!({"type": "string"})),
            (json!({"minimum": 1, "exclusiveMinimum": true}), json!({"exclusiveMinimum": 1})),
            (json!({"maximum": 1, "exclusiveMaximum": false}), json!({"maximum": 1})),
            (json!({"$ref": "#/a", "minLength": 3}), json!({"$ref": "#/a"})),
            (json!({"$ref": "#/a", "nullable": true}), json!({"anyOf": [{"type": "null"}, {"$ref": "#/a"}]})),
            (
                json!({"nullable": true, "allOf": [{"$ref": "#/a", "x": 1}]}),
                json!({"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#/a"}]}]}),
            ),
            (
                json!({"properties": {"nullable": {"items": {"type": "integer", "nullable": true}}}}),
                json!({"properties": {"nullable": {"items": {"type": ["integer", "null"]}}}}),
            ),
            (
                json!({"type": "integer", "format": "int32", "minimum": 0}),
                json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 2_147_483_647}),
            ),
            (
                json!({"required": ["id", "a", "b"], "properties": {"id": {"$ref": "#/components/schemas/Id"},
                    "a": {"readOnly": true}, "b": {}}}),
                json!({"required": ["b"], "properties": {"id": {"$ref": "#/components/schemas/Id"},
                    "a": {"readOnly": true}, "b": {}}}),
            ),
            (json!({"example": {"nullable": true}}), json!({"example": {"nullable": true}})),
        ] {
            assert_eq!(rewritten(from.clone(), Speaks::V30), to, "{from}");
        }
    }

    #[test]
    fn the_words_of_3_1_stay() {
        for schema in [
            json!({"$ref": "#/a", "minLength": 3}),
            json!({"exclusiveMinimum": 1, "nullable": true}),
            json!({"properties": {"a": true}, "items": false}),
        ] {
            assert_eq!(rewritten(schema.clone(), Speaks::V31), schema);
        }
    }
}
