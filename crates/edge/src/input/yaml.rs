//! A YAML document as the JSON it stands for (YAML 1.2, core schema), with the line of every value.
//!
//! Bounded: nesting, values, and what aliases may bring in. A key that stands twice is a fault, as it is in JSON.

use super::json::segment;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

const DEPTH_MAX: usize = 128;
/// The largest documents that are published have half as many.
const VALUES_MAX: usize = 1_000_000;

/// Lines by JSON pointer, from 1.
pub type Lines = HashMap<String, usize>;

/// A collection that is still open.
struct Open {
    path: String,
    anchor: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

struct Reading {
    open: Vec<Open>,
    lines: Lines,
    anchors: HashMap<usize, Value>,
    values: usize,
}

/// The first document. The fault is a line and what is wrong there.
pub fn parse(text: &str) -> Result<(Value, Lines), (usize, String)> {
    let mut reading = Reading { open: Vec::new(), lines: Lines::new(), anchors: HashMap::new(), values: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), error.info().to_owned()))?;
        let line = span.start.line();
        match reading.take(event, line) {
            Ok(None) => {}
            Ok(Some(value)) => return Ok((value, reading.lines)),
            Err(what) => return Err((line, what)),
        }
    }
    Err((1, "holds no document".to_owned()))
}

impl Reading {
    /// Gives the document once it is whole.
    fn take(&mut self, event: Event<'_>, line: usize) -> Result<Option<Value>, String> {
        let (value, anchor) = match event {
            Event::MappingStart(anchor, _) => return self.start(Kind::Map(Map::new(), None), anchor, line),
            Event::SequenceStart(anchor, _) => return self.start(Kind::List(Vec::new()), anchor, line),
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tag.is_some_and(|t| t.suffix == "str");
                if self.waits_for_key() {
                    return self.key(text.into_owned(), line);
                }
                (if is_text { Value::String(text.into_owned()) } else { plain(&text) }, anchor)
            }
            Event::Alias(anchor) => {
                if self.waits_for_key() {
                    return Err("a key is a text".to_owned());
                }
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias of nothing")?;
                self.values += count(&value);
                (value, 0)
            }
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                Some(Open { kind: Kind::List(items), anchor, .. }) => (Value::Array(items), anchor),
                Some(Open { kind: Kind::Map(pairs, _), anchor, .. }) => (Value::Object(pairs), anchor),
                None => return Err("ends what was not begun".to_owned()),
            },
            Event::DocumentEnd | Event::StreamEnd => return Err("holds no document".to_owned()),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => return Ok(None),
        };
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        self.put(value, line)
    }

    fn waits_for_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: Kind::Map(_, None), .. }))
    }

    fn start(&mut self, kind: Kind, anchor: usize, line: usize) -> Result<Option<Value>, String> {
        if self.waits_for_key() {
            return Err("a key is a text".to_owned());
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        let path = self.path();
        self.lines.entry(path.clone()).or_insert(line);
        self.open.push(Open { path, anchor, kind });
        Ok(None)
    }

    /// Of what comes next.
    fn path(&self) -> String {
        match self.open.last() {
            None => String::new(),
            Some(Open { path, kind: Kind::List(items), .. }) => format!("{path}/{}", items.len()),
            Some(Open { path, kind: Kind::Map(_, key), .. }) => {
                format!("{path}{}", segment(key.as_deref().unwrap_or_default()))
            }
        }
    }

    fn key(&mut self, text: String, line: usize) -> Result<Option<Value>, String> {
        let Some(Open { path, kind: Kind::Map(pairs, key), .. }) = self.open.last_mut() else { return Ok(None) };
        if pairs.contains_key(&text) {
            return Err(format!("the key `{text}` stands twice"));
        }
        if text == "<<" {
            return Err("merge keys (`<<`) are no part of YAML 1.2: write the keys out".to_owned());
        }
        self.lines.insert(format!("{path}{}", segment(&text)), line);
        *key = Some(text);
        Ok(None)
    }

    fn put(&mut self, value: Value, line: usize) -> Result<Option<Value>, String> {
        let path = self.path();
        let Some(parent) = self.open.last_mut() else { return Ok(Some(value)) };
        match &mut parent.kind {
            Kind::List(items) => {
                self.lines.entry(path).or_insert(line);
                items.push(value);
            }
            Kind::Map(pairs, key) => {
                let key = key.take().ok_or("a key is a text")?;
                pairs.insert(key, value);
            }
        }
        Ok(None)
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(count).sum::<usize>() + 1,
        Value::Object(pairs) => pairs.values().map(count).sum::<usize>() + 1,
        _ => 1,
    }
}

/// What a scalar without quotes stands for (YAML 1.2.2 §10.3.2).
fn plain(text: &str) -> Value {
    let digits = |text: &str, radix| i64::from_str_radix(text, radix).ok().map(Value::from);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return digits(octal, 8).unwrap_or_else(|| text.into());
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return digits(hex, 16).unwrap_or_else(|| text.into());
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<i64>().map_or_else(|_| text.into(), Value::from);
    }
    // As a number is written, so that `inf`, `1_000` and `e5` stay texts.
    let is_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number = text.parse::<f64>().ok().filter(|_| is_number).and_then(Number::from_f64);
    number.map_or_else(|| text.into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_the_json_it_stands_for() {
        let text = "openapi: 3.0.3\ninfo: {title: T, version: '1.0'}\na: [1, -2, 0.5, 1e3, 0x10, 0o17, yes, true, ~]\n\
                    responses:\n  200: &ok\n    description: |\n      two\n      lines\n  '404': *ok\n\
                    b: \"1\"\nc: !!str 7\nd: +12\ne: .inf\nf:\n";
        let (value, lines) = parse(text).expect("yaml");
        let expected = json!({
            "openapi": "3.0.3", "info": {"title": "T", "version": "1.0"},
            "a": [1, -2, 0.5, 1000.0, 16, 15, "yes", true, null],
            "responses": {"200": {"description": "two\nlines\n"}, "404": {"description": "two\nlines\n"}},
            "b": "1", "c": "7", "d": 12, "e": ".inf", "f": null,
        });
        assert_eq!(value, expected);
        for (path, line) in [("/openapi", 1), ("/info/version", 2), ("/a/3", 3), ("/responses/200/description", 6)] {
            assert_eq!(lines.get(path), Some(&line), "{path}");
        }
    }

    #[test]
    fn what_is_wrong_says_where() {
        for (text, line, what) in [
            ("", 1, "no document"),
            ("a: 1\nb: [\n", 3, ""),
            ("a: 1\nb: 2\na: 3\n", 3, "stands twice"),
            ("a: &a {x: 1}\nb:\n  <<: *a\n", 3, "merge keys"),
            ("? [1]\n: 2\n", 1, "a key is a text"),
        ] {
            let (at, said) = parse(text).expect_err(text);
            assert!(said.contains(what), "{text:?}: {said}");
            assert!(at == line || what.is_empty() || what == "no document", "{text:?}: {at} {said}");
        }
        assert!(parse(&"[".repeat(DEPTH_MAX + 1)).is_err());
        // Nine levels of ten aliases are a billion values.
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let alias = format!("*a{}, ", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", alias.repeat(10).trim_end_matches(", ")));
        }
        assert!(parse(&bomb).expect_err("bomb").1.contains("more than"));
    }
}
