//! Parameters of a path and a query, from text to what their schema speaks of. Pure.
//!
//! A value that what stands behind us could read as another one is refused: a name that stands twice, brackets where
//! none belong. Whatever no parameter describes passes.

use super::json;
use super::problem::{Place, Problem};
use super::schema::Schema;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashMap;

#[derive(Debug)]
pub struct Parameter {
    pub name: String,
    pub place: Place,
    pub required: bool,
    /// `allowEmptyValue`: `?name=` says nothing.
    pub may_be_empty: bool,
    pub form: Form,
    /// Of the value, and of its items.
    pub kinds: Kinds,
    pub item_kinds: Kinds,
    pub members: HashMap<String, Kinds>,
    pub schema: Schema,
}

/// How the value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    One,
    /// `a=1&a=2`
    Repeated,
    /// `a=1,2`, by this character.
    Separated(char),
    /// `a[x]=1&a[y]=2`
    Deep,
    /// `content: application/json`
    Json,
}

/// What a text may stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    pub null: bool,
    pub boolean: bool,
    pub number: bool,
    pub string: bool,
    pub array: bool,
    pub object: bool,
}

impl Kinds {
    pub fn any_scalar() -> Kinds {
        Kinds { boolean: true, number: true, string: true, ..Kinds::default() }
    }

    /// The value a text most likely stands for, and what else it could be.
    fn read(self, text: &str) -> (Value, Option<Value>) {
        let number = || serde_json::from_str::<serde_json::Number>(text).ok().map(Value::Number);
        let own = match text {
            _ if self.number && is_number(text) => number(),
            "true" | "false" if self.boolean => Some(Value::Bool(text == "true")),
            "null" if self.null => Some(Value::Null),
            _ => None,
        };
        match own {
            Some(value) => (value, self.string.then(|| text.into())),
            None => (text.into(), None),
        }
    }
}

/// As JSON writes numbers: `0x10`, `1_000`, ` 1` and `+1` are texts, whatever a language makes of them.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    unsigned.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
}

/// A query, taken apart once for all parameters. Values stay escaped.
#[derive(Debug, Default)]
pub struct Query<'q> {
    plain: HashMap<Cow<'q, str>, Vec<&'q str>>,
    /// `name[inside]`, by name.
    bracketed: HashMap<String, Vec<(String, &'q str)>>,
}

impl<'q> Query<'q> {
    pub fn read(text: &'q str) -> Query<'q> {
        let mut query = Query::default();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name, true).unwrap_or_else(|| name.to_owned().into());
            if let Some((base, inside)) = name.split_once('[') {
                query.bracketed.entry(base.to_owned()).or_default().push((inside.to_owned(), value));
            }
            query.plain.entry(name).or_default().push(value);
        }
        query
    }
}

/// Escapes undone; `None` where that is no UTF-8.
pub fn decoded(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = text.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        let byte = escape.filter(|e| e.bytes().all(|b| b.is_ascii_hexdigit()));
        match byte.and_then(|e| u8::from_str_radix(e, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(if bytes[i] == b'+' && plus_is_space { b' ' } else { bytes[i] });
                i += 1;
            }
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

impl Parameter {
    pub fn check_query(&self, query: &Query<'_>, problem: &mut Problem) {
        let at = json::segment(&self.name);
        let plain = query.plain.get(self.name.as_str()).map(Vec::as_slice).unwrap_or_default();
        let bracketed = query.bracketed.get(&self.name).map(Vec::as_slice).unwrap_or_default();
        let is_item = |inside: &str| inside.strip_suffix(']').is_some_and(|i| i.bytes().all(|b| b.is_ascii_digit()));
        let values: Vec<&str> = match self.form {
            Form::Deep if !plain.is_empty() => return problem.add(self.place, &at, "must be written as name[member]"),
            Form::Deep => return self.check_members(bracketed, &at, problem),
            // A list is written either way by one client or another, and read either way by most servers.
            Form::Repeated if bracketed.iter().all(|(inside, _)| is_item(inside)) => {
                plain.iter().copied().chain(bracketed.iter().map(|(_, value)| *value)).collect()
            }
            Form::Repeated => return problem.add(self.place, &at, "must be a list"),
            _ if !bracketed.is_empty() => return problem.add(self.place, &at, "must not be written with brackets"),
            _ => plain.to_vec(),
        };
        if self.form != Form::Repeated && values.len() > 1 {
            return problem.add(self.place, &at, "must stand once");
        }
        if values.is_empty() || self.may_be_empty && values == [""] {
            if values.is_empty() && self.required {
                problem.add(self.place, &at, "is required");
            }
            return;
        }
        self.check(&values, true, &at, problem);
    }

    /// A value out of a path, still escaped.
    pub fn check_path(&self, value: &str, problem: &mut Problem) {
        self.check(&[value], false, &json::segment(&self.name), problem);
    }

    fn check(&self, raw: &[&str], plus_is_space: bool, at: &str, problem: &mut Problem) {
        let pieces: Vec<&str> = match (self.form, raw) {
            (Form::Separated(_), [""]) => Vec::new(),
            (Form::Separated(by), raw) => raw.iter().flat_map(|r| split(r, by)).collect(),
            (_, raw) => raw.to_vec(),
        };
        let texts: Option<Vec<Cow<'_, str>>> = pieces.iter().map(|raw| decoded(raw, plus_is_space)).collect();
        let Some(texts) = texts else { return problem.add(self.place, at, "must be UTF-8") };
        match (self.form, &texts[..]) {
            (Form::Repeated | Form::Separated(_), texts) => {
                let items = texts.iter().map(|text| self.item_kinds.read(text).0);
                let mut value = Value::Array(items.collect());
                self.schema.check(&mut value, self.place, at, problem);
            }
            (Form::Json, [text]) => match json::read(text.as_bytes()) {
                Ok(mut value) => self.schema.check(&mut value, self.place, at, problem),
                Err(broken) => {
                    let what = format!("is not JSON: {}", broken.what);
                    problem.add(self.place, &format!("{at}{}", broken.path), what);
                }
            },
            (_, [text]) => {
                let (mut value, other) = self.kinds.read(text);
                if !other.is_some_and(|mut other| self.schema.allows(&mut other)) {
                    self.schema.check(&mut value, self.place, at, problem);
                }
            }
            _ => problem.add(self.place, at, "must stand once"),
        }
    }

    fn check_members(&self, bracketed: &[(String, &str)], at: &str, problem: &mut Problem) {
        if bracketed.is_empty() {
            if self.required {
                problem.add(self.place, at, "is required");
            }
            return;
        }
        let mut members = Map::new();
        for (inside, raw) in bracketed {
            let Some(name) = inside.strip_suffix(']').filter(|n| !n.is_empty() && !n.contains(['[', ']'])) else {
                return problem.add(self.place, at, "must be written as name[member]");
            };
            let Some(text) = decoded(raw, true) else { return problem.add(self.place, at, "must be UTF-8") };
            let value = self.members.get(name).copied().unwrap_or(Kinds::any_scalar()).read(&text).0;
            if members.insert(name.to_owned(), value).is_some() {
                return problem.add(self.place, &format!("{at}{}", json::segment(name)), "must stand once");
            }
        }
        self.schema.check(&mut Value::Object(members), self.place, at, problem);
    }
}

/// By the character as it is; a space and a `|` are rarely sent as they are.
fn split(raw: &str, by: char) -> Vec<&str> {
    match by {
        ' ' => raw.split("%20").flat_map(|r| r.split(['+', ' '])).collect(),
        '|' => raw.split("%7C").flat_map(|r| r.split("%7c")).flat_map(|r| r.split('|')).collect(),
        by => raw.split(by).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn parameter(schema: Value, form: Form, kinds: &str) -> Parameter {
        let text = schema.to_string();
        let document = Document::parse(Path::new("s.json"), &text).expect("json");
        let kinds = Kinds {
            null: kinds.contains('0'),
            boolean: kinds.contains('b'),
            number: kinds.contains('n'),
            string: kinds.contains('s'),
            ..Kinds::default()
        };
        Parameter {
            name: "p".to_owned(),
            place: Place::Query,
            required: true,
            may_be_empty: false,
            form,
            kinds,
            item_kinds: kinds,
            members: HashMap::from([("n".to_owned(), Kinds { number: true, ..Kinds::default() })]),
            schema: Schema::of_file(&document).expect("a schema"),
        }
    }

    fn told(parameter: &Parameter, query: &str) -> Vec<String> {
        let mut problem = Problem::default();
        parameter.check_query(&Query::read(query), &mut problem);
        problem.fields().iter().map(|f| format!("{} {}", f.path, f.message)).collect()
    }

    #[test]
    fn one_value_is_what_its_schema_says() {
        let p = parameter(json!({"type": "integer", "maximum": 9}), Form::One, "n");
        for (query, expected) in [
            ("p=7", &[][..]),
            ("x=1&p=7&y", &[]),
            ("p=%37", &[]),
            ("p=77", &["/p must be at most 9"]),
            ("p=1.5", &["/p must be an integer"]),
            ("p=0x1", &["/p must be an integer"]),
            ("p=+1", &["/p must be an integer"]),
            ("p=01", &["/p must be an integer"]),
            ("p=1e999", &["/p must be an integer"]),
            ("p=", &["/p must be an integer"]),
            ("p", &["/p must be an integer"]),
            ("", &["/p is required"]),
            ("P=7", &["/p is required"]),
            ("p=7&p=x", &["/p must stand once"]),
            ("p=7&%70=x", &["/p must stand once"]),
            ("p=7&p[]=x", &["/p must not be written with brackets"]),
            ("p%5Bx%5D=x", &["/p must not be written with brackets"]),
            ("p=%ff", &["/p must be UTF-8"]),
        ] {
            assert_eq!(told(&p, query), expected, "{query}");
        }
        let either = json!({"anyOf": [{"type": "integer", "maximum": 9}, {"type": "string", "pattern": "^[0-9]{3}$"}]});
        let either = parameter(either, Form::One, "ns");
        for (query, ok) in [("p=7", true), ("p=123", true), ("p=77", false), ("p=x", false)] {
            assert_eq!(told(&either, query).is_empty(), ok, "{query}");
        }
        let flag = parameter(json!({"type": ["boolean", "null"]}), Form::One, "b0");
        for (query, ok) in [("p=true", true), ("p=null", true), ("p=1", false), ("p=TRUE", false)] {
            assert_eq!(told(&flag, query).is_empty(), ok, "{query}");
        }
        let text = parameter(json!({"type": "string", "maxLength": 3}), Form::One, "s");
        for (query, ok) in [("p=123", true), ("p=a+b", true), ("p=%C3%A4%C3%B6%C3%BC", true), ("p=1234", false)] {
            assert_eq!(told(&text, query).is_empty(), ok, "{query}");
        }
    }

    #[test]
    fn lists_and_members_are_read_in_every_form() {
        let list = json!({"type": "array", "items": {"type": "integer"}, "maxItems": 2});
        let repeated = parameter(list.clone(), Form::Repeated, "n");
        for (query, expected) in [
            ("p=1&p=2", &[][..]),
            ("p[]=1&p[]=2", &[]),
            ("p[0]=1&p[1]=2", &[]),
            ("p=1&p=x", &["/p/1 must be an integer"]),
            ("p=1&p[]=x", &["/p/1 must be an integer"]),
            ("p=1&p=2&p=3", &["/p must have at most 2 items"]),
            ("p[x]=1", &["/p must be a list"]),
        ] {
            assert_eq!(told(&repeated, query), expected, "{query}");
        }
        let separated = parameter(list.clone(), Form::Separated(','), "n");
        for (query, expected) in
            [("p=1,2", &[][..]), ("p=1,x", &["/p/1 must be an integer"]), ("p=1&p=2", &["/p must stand once"])]
        {
            assert_eq!(told(&separated, query), expected, "{query}");
        }
        assert!(told(&parameter(list.clone(), Form::Separated('|'), "n"), "p=1%7C2").is_empty());
        assert!(told(&parameter(list, Form::Separated(' '), "n"), "p=1%202").is_empty());
        let members = json!({"properties": {"n": {"type": "integer"}}, "additionalProperties": false});
        let deep = parameter(members.clone(), Form::Deep, "");
        for (query, expected) in [
            ("p[n]=1", &[][..]),
            ("p[n]=x", &["/p/n must be an integer"]),
            ("p[m]=1", &["/p/m is not allowed"]),
            ("p[n]=1&p[n]=2", &["/p/n must stand once"]),
            ("p[n][m]=1", &["/p must be written as name[member]"]),
            ("p=1", &["/p must be written as name[member]"]),
            ("", &["/p is required"]),
        ] {
            assert_eq!(told(&deep, query), expected, "{query}");
        }
        let json = parameter(members, Form::Json, "");
        assert!(told(&json, "p=%7B%22n%22%3A1%7D").is_empty());
        assert_eq!(told(&json, "p={\"n\":1,\"n\":2}")[0].split(':').next(), Some("/p/n is not JSON"));
    }
}
