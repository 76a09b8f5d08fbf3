//! Any bytes at all for what is read of a stranger's input: JSON, queries, paths, and what is said of them.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use super::document::Document;
use super::judge::judged;
use super::openapi::Api;
use super::parameter::{Query, decoded};
use super::problem::{Place, Problem};
use super::schema::Schema;
use super::template::Template;
use super::{json, yaml};
use crate::fuzz::spelled::spelled;
use crate::path::segments;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const JSON_WORDS: [&str; 34] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ",",
    ":",
    "\"a\":",
    "\"b\":",
    "\"\\u0061\":",
    "\"A\":",
    "\"a\"",
    "\"sesame\"",
    "{}",
    "[]",
    "{\"a\":1}",
    "1",
    "-0",
    "1e3",
    "1e999",
    "01",
    "0.5",
    "true",
    "null",
    "NaN",
    " ",
    "\n",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\u{feff}",
    "//x",
    "'a'",
    "\"x",
    "18446744073709551616",
];

/// A reader that believes the first of two keys, as some do.
struct FirstWins(Value);

impl<'de> Deserialize<'de> for FirstWins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FirstWins, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut all = Vec::new();
                while let Some(FirstWins(item)) = items.next_element()? {
                    all.push(item);
                }
                Ok(Value::Array(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
                let mut all = Map::new();
                while let Some((key, FirstWins(value))) = pairs.next_entry::<String, FirstWins>()? {
                    all.entry(key).or_insert(value);
                }
                Ok(Value::Object(all))
            }
        }
        deserializer.deserialize_any(Any).map(FirstWins)
    }
}

fn reads_as_others_do(bytes: &[u8]) {
    let last = serde_json::from_slice::<Value>(bytes);
    match json::read(bytes) {
        Ok(value) => {
            assert_eq!(last.ok().as_ref(), Some(&value), "{:?}", String::from_utf8_lossy(bytes));
            let FirstWins(first) = serde_json::from_slice(bytes).expect("read before");
            assert_eq!(first, value, "two readers differ: {:?}", String::from_utf8_lossy(bytes));
        }
        Err(broken) => {
            let doubtful = broken.what.contains("twice") || broken.what.contains("nested");
            assert!(last.is_err() || doubtful, "{:?}: {broken:?}", String::from_utf8_lossy(bytes));
            assert!(!broken.what.contains("sesame"), "{broken:?}");
        }
    }
}

#[test]
fn json_is_read_as_every_other_reader_does_or_not_at_all() {
    bolero::check!().with_iterations(INPUTS).with_max_len(48).for_each(|bytes: &[u8]| {
        reads_as_others_do(bytes);
        reads_as_others_do(spelled(bytes, &JSON_WORDS).as_bytes());
    });
}

/// What a target only reads: nothing of it is broken by a panic.
struct Whole<T>(T);

impl<T> std::panic::UnwindSafe for Whole<T> {}
impl<T> std::panic::RefUnwindSafe for Whole<T> {}

impl<T> Whole<T> {
    fn get(&self) -> &T {
        &self.0
    }
}

/// A schema with every kind of word that has something to say.
const SCHEMA: &str = r##"{
    "type": ["object", "array", "null"],
    "properties": {"a": {"anyOf": [{"type": "integer", "minimum": 2}, {"$ref": "#"}]},
        "b": {"type": "string", "pattern": "^(?=x)x+$", "format": "email"}, "A": {"enum": [1, [2]]}},
    "additionalProperties": {"oneOf": [{"const": 1}, {"multipleOf": 0.5}, {"$ref": "#"}]},
    "required": ["b"], "propertyNames": {"maxLength": 5}, "maxProperties": 3,
    "items": {"not": {"type": "string"}}, "uniqueItems": true, "contains": {"type": "number"}
}"##;

#[test]
fn whatever_is_wrong_is_said_without_a_value() {
    let document = Document::parse(Path::new("s.json"), SCHEMA).expect("json");
    let schema = Whole([Arc::new(Schema::of_file(&document).expect("a schema"))]);
    bolero::check!().with_iterations(INPUTS).with_max_len(48).for_each(|bytes: &[u8]| {
        let schema = schema.get();
        let text = spelled(bytes, &JSON_WORDS);
        let judged = judged(text.as_bytes(), schema);
        let allowed = json::read(text.as_bytes()).is_ok_and(|mut value| schema[0].allows(&mut value));
        assert_eq!(judged.problem.is_empty(), allowed, "{text:?}");
        for field in judged.problem.fields() {
            assert!(!field.message.contains("sesame") && !field.message.is_empty(), "{text:?}: {field:?}");
            assert!(field.path.is_empty() || field.path.starts_with('/'), "{text:?}: {field:?}");
        }
    });
}

const API: &str = r#"{"openapi": "3.1.0", "paths": {"/a/{n}": {"get": {"parameters": [
    {"name": "n", "in": "path", "required": true, "schema": {"type": "integer"}},
    {"name": "p", "in": "query", "required": true, "schema": {"type": "integer", "maximum": 9}},
    {"name": "l", "in": "query", "schema": {"type": "array", "items": {"type": "boolean"}}},
    {"name": "d", "in": "query", "style": "deepObject", "schema": {"type": "object"}}]}}}}"#;

#[test]
fn a_query_that_passes_is_what_it_says_however_it_is_read() {
    let api = Whole(Api::build(Document::parse(Path::new("a.json"), API).expect("json")).expect("an API"));
    let words = [
        "p=", "p=7", "p=12", "&", "&", "%70=", "p[]=", "p[x]=", "P=", "=", "7", "l=true", "l[]=", "d[a]=", "d[a][b]=",
        "%", "%ff", "%5B", "%5D", "+", "[", "]", "x", "%37",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        let path = segments("/a/1");
        let (operation, _) = api.get().find("GET", &path).expect("there");
        let query = Query::read(&text);
        let mut problem = Problem::default();
        let asked = operation.parameters.iter().filter(|p| p.place == Place::Query);
        asked.for_each(|parameter| parameter.check_query(&query, &mut problem));
        if problem.fields().iter().any(|f| f.path.starts_with("/p")) {
            return;
        }
        // Everything any server could take for `p`.
        let named = text.split('&').filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, true)?;
            (name == "p" || name.starts_with("p[")).then(|| decoded(value, true))
        });
        let values: Vec<_> = named.collect();
        assert_eq!(values.len(), 1, "{text:?}");
        let value = values[0].as_ref().and_then(|v| v.parse::<i64>().ok());
        assert!(value.is_some_and(|v| v <= 9), "{text:?}: {values:?}");
    });
}

#[test]
fn templates_find_the_values_that_make_the_path() {
    let words = ["/", "a", "b", "{x}", "{y}", ".", "-", "%41", "A", "{", "}"];
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        let text = spelled(one, &words);
        let path = segments(&format!("/{}", spelled(other, &words)));
        let Ok(template) = Template::parse("", &text) else { return };
        assert!(template.specificity(&template).is_eq());
        let Some(values) = template.matches(&path) else { return };
        assert!(values.iter().all(|(name, value)| template.names(name) && !value.is_empty()), "{text:?} {values:?}");
    });
}

#[test]
fn yaml_reads_what_is_json_as_json() {
    let words = ["{", "}", "[", "]", ", ", "\"a\": ", "\"b\": ", "1", "0.5", "true", "null", "\"x y\"", "[]", "{}"];
    bolero::check!().with_iterations(INPUTS).with_max_len(32).for_each(|bytes: &[u8]| {
        let _ = yaml::parse(&String::from_utf8_lossy(bytes));
        let text = spelled(bytes, &words);
        if let (Ok(json), Ok((yaml, lines))) = (json::read(text.as_bytes()), yaml::parse(&text)) {
            assert_eq!(yaml, json, "{text:?}");
            assert!(lines.values().all(|line| *line == 1), "{text:?}");
        }
    });
}
