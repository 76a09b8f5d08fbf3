//! What is said of a field that breaks its schema. Nothing of a value is in it; of the schema only what is short. Pure.

use super::json::segment;
use super::problem::{Place, Problem};
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

/// Allowed values and patterns longer than this are not repeated.
const QUOTED_BYTES_MAX: usize = 120;
const ALLOWED_NAMED_MAX: usize = 10;
/// Choices within choices that are looked into for the fields that are meant.
const CHOICES_DEPTH_MAX: usize = 8;

/// Where what is said goes.
#[derive(Debug)]
pub struct Told<'a> {
    pub place: Place,
    /// Where the value stands in the input.
    pub base: &'a str,
    /// Bytes at the beginning of each path that are not the value's own.
    pub skip: usize,
    pub problem: &'a mut Problem,
}

impl Told<'_> {
    fn at(&self, error: &ValidationError<'_>) -> String {
        format!("{}{}", self.base, error.instance_path().as_str().get(self.skip..).unwrap_or_default())
    }

    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.problem.add(self.place, path, message);
    }

    /// Whatever the words left out: what breaks a schema is never let through.
    pub fn at_least(&mut self) {
        if self.problem.is_empty() {
            self.problem.add(self.place, self.base, "is not allowed");
        }
    }
}

/// Names what one error is about: most are one field, some are several.
pub fn tell(error: &ValidationError<'_>, told: &mut Told<'_>) {
    tell_within(error, told, 0);
}

fn tell_within(error: &ValidationError<'_>, told: &mut Told<'_>, depth: usize) {
    if told.problem.is_full() {
        return told.problem.count(1);
    }
    let at = told.at(error);
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().map_or_else(String::new, segment);
            told.add(&format!("{at}{name}"), "is required");
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                told.add(&format!("{at}{}", segment(name)), "is not allowed");
            }
        }
        Kind::PropertyNames { .. } => told.add(&at, "has a key that is not allowed"),
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            tell_choice(context, error.instance_path().as_str(), &at, told, depth);
        }
        kind => told.add(&at, message(kind)),
    }
}

/// Which of several forms was meant: if one is left once those of another type or another tag are set aside, its fields
/// are named.
fn tell_choice(forms: &[Vec<ValidationError<'static>>], here: &str, at: &str, told: &mut Told<'_>, depth: usize) {
    const VAGUE: &str = "must have one of the allowed forms";
    let is_other_type = |form: &[ValidationError<'_>]| {
        form.iter().any(|e| e.instance_path().as_str() == here && matches!(e.kind(), Kind::Type { .. }))
    };
    let is_other_tag = |form: &[ValidationError<'_>]| {
        form.iter().any(|e| {
            let below = e.instance_path().as_str().strip_prefix(here).unwrap_or_default();
            let is_tag = below.matches('/').count() == 1;
            is_tag && matches!(e.kind(), Kind::Constant { .. } | Kind::Enum { .. })
        })
    };
    let fits: Vec<&Vec<_>> = forms.iter().filter(|form| !is_other_type(form)).collect();
    let tagged: Vec<&Vec<_>> = fits.iter().copied().filter(|form| !is_other_tag(form)).collect();
    let meant = match (&fits[..], &tagged[..]) {
        ([one], _) | (_, [one]) if depth < CHOICES_DEPTH_MAX && !one.is_empty() => *one,
        ([], _) => return told.add(at, types(forms, here)),
        _ => return told.add(at, VAGUE),
    };
    for error in meant {
        tell_within(error, told, depth + 1);
    }
}

/// Every form wanted another type: all that would do.
fn types(forms: &[Vec<ValidationError<'static>>], here: &str) -> String {
    let errors = forms.iter().flatten().filter(|e| e.instance_path().as_str() == here);
    let mut words: Vec<&str> = Vec::new();
    for error in errors {
        if let Kind::Type { kind } = error.kind() {
            words.extend(type_words(kind));
        }
    }
    words.dedup();
    format!("must be {}", words.join(" or "))
}

fn type_words(kind: &TypeKind) -> Vec<&'static str> {
    let word = |kind: JsonType| match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "an integer",
        JsonType::Number => "a number",
        JsonType::String => "a string",
        JsonType::Array => "an array",
        JsonType::Object => "an object",
    };
    match kind {
        TypeKind::Single(kind) => vec![word(*kind)],
        TypeKind::Multiple(kinds) => {
            // "an integer or null", as one says it.
            let (null, others): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| *kind == JsonType::Null);
            others.into_iter().chain(null).map(word).collect()
        }
    }
}

fn message(kind: &Kind) -> String {
    let count = |limit: u64, what: &str| if limit == 1 { format!("1 {what}") } else { format!("{limit} {what}s") };
    match kind {
        Kind::Type { kind } => format!("must be {}", type_words(kind).join(" or ")),
        Kind::Enum { options } => allowed(options),
        Kind::Constant { expected_value } => match quoted(expected_value) {
            Some(value) => format!("must be {value}"),
            None => "must be the allowed value".to_owned(),
        },
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be greater than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {}", count(*limit, "character")),
        Kind::MaxLength { limit } => format!("must have at most {}", count(*limit, "character")),
        Kind::MinItems { limit } => format!("must have at least {}", count(*limit, "item")),
        Kind::MaxItems { limit } => format!("must have at most {}", count(*limit, "item")),
        Kind::MinProperties { limit } => format!("must have at least {}", count(*limit, "member")),
        Kind::MaxProperties { limit } => format!("must have at most {}", count(*limit, "member")),
        Kind::Pattern { pattern } if pattern.len() <= QUOTED_BYTES_MAX => format!("must match {pattern}"),
        Kind::Pattern { .. } => "must match its pattern".to_owned(),
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } => "cannot be matched in time".to_owned(),
        Kind::Format { format } => format!("must be a valid {format}"),
        Kind::UniqueItems => "must have no item twice".to_owned(),
        Kind::AdditionalItems { limit } => format!("must have at most {}", count(*limit as u64, "item")),
        Kind::UnevaluatedItems { .. } => "has items that are not allowed".to_owned(),
        Kind::Contains => "lacks an item it must have".to_owned(),
        Kind::ContentEncoding { content_encoding } => format!("must be {content_encoding}"),
        Kind::FromUtf8 { .. } => "must be UTF-8".to_owned(),
        Kind::ContentMediaType { content_media_type } => format!("must be {content_media_type}"),
        Kind::OneOfMultipleValid { .. } => "has more than one of the allowed forms at once".to_owned(),
        Kind::Not { .. } => "has a form that is not allowed".to_owned(),
        _ => "is not allowed".to_owned(),
    }
}

fn allowed(options: &Value) -> String {
    let all = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let named: Option<Vec<String>> = all.iter().map(quoted).collect();
    match named {
        Some(named) if named.len() <= ALLOWED_NAMED_MAX => {
            let list = named.join(", ");
            if list.len() <= QUOTED_BYTES_MAX { format!("must be one of {list}") } else { vague() }
        }
        _ => vague(),
    }
}

fn vague() -> String {
    "must be one of the allowed values".to_owned()
}

/// A short plain value of the schema.
fn quoted(value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(_) | Value::Object(_) => return None,
        value => value.to_string(),
    };
    (text.len() <= QUOTED_BYTES_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::document::Document;
    use super::super::schema::Schema;
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn told(schema: Value, mut value: Value) -> Vec<(String, String)> {
        let text = schema.to_string();
        let document = Document::parse(Path::new("s.json"), &text).expect("json");
        let schema = Schema::of_file(&document).expect("a schema");
        let mut problem = Problem::default();
        schema.check(&mut value, Place::Body, "", &mut problem);
        problem.fields().iter().map(|f| (f.path.clone(), f.message.clone())).collect()
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn every_broken_field_is_named_with_what_it_must_be() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "required": ["email", "name", "items"],
            "properties": {
                "email": {"type": "string", "format": "email"},
                "name": {"type": "string", "minLength": 1, "maxLength": 5},
                "age": {"type": ["integer", "null"], "minimum": 18, "exclusiveMaximum": 150},
                "role": {"enum": ["user", "admin", 1]},
                "tags": {"type": "array", "uniqueItems": true, "maxItems": 2},
                "items": {"type": "array", "items": {
                    "type": "object", "required": ["price"],
                    "properties": {"price": {"type": "number", "multipleOf": 0.5}, "sku": {"pattern": "^[A-Z]+$"}},
                }},
            },
        });
        let value = json!({
            "email": "sesame", "age": 3.5, "role": "root", "tags": [1, 1, 1], "a/b~": "sesame",
            "items": [{"price": "sesame"}, {"price": 1.5}, {"price": 0.7, "sku": "sesame"}, {}],
        });
        let told = told(schema, value);
        let mut expected = pairs(&[
            ("/email", "must be a valid email"),
            ("/name", "is required"),
            ("/age", "must be an integer or null"),
            ("/age", "must be at least 18"),
            ("/role", "must be one of \"user\", \"admin\", 1"),
            ("/tags", "must have at most 2 items"),
            ("/tags", "must have no item twice"),
            ("/a~1b~0", "is not allowed"),
            ("/items/0/price", "must be a number"),
            ("/items/2/price", "must be a multiple of 0.5"),
            ("/items/2/sku", "must match ^[A-Z]+$"),
            ("/items/3/price", "is required"),
        ]);
        let mut sorted = told.clone();
        sorted.sort();
        expected.sort();
        assert_eq!(sorted, expected);
        assert!(!format!("{told:?}").contains("sesame"));
    }

    #[test]
    fn of_several_forms_the_one_that_was_meant_is_told() {
        let card = json!({"type": "object", "required": ["kind", "number"],
            "properties": {"kind": {"const": "card"}, "number": {"type": "string"}}});
        let bank = json!({"type": "object", "required": ["kind", "iban"],
            "properties": {"kind": {"const": "bank"}, "iban": {"type": "string"}}});
        for keyword in ["oneOf", "anyOf"] {
            let schema = json!({keyword: [card, bank, {"type": "null"}]});
            assert_eq!(told(schema.clone(), json!({"kind": "bank"})), pairs(&[("/iban", "is required")]));
            let told_7 = told(schema.clone(), json!(7));
            assert!(told_7[0].1.contains("an object") && told_7[0].1.contains("null"), "{told_7:?}");
            let other = told(schema, json!({"kind": "cash"}));
            assert_eq!(other, pairs(&[("", "must have one of the allowed forms")]));
        }
        let nullable = json!({"properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}},
            "$defs": {"a": {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}}});
        assert_eq!(told(nullable, json!({"a": {"x": 1}})), pairs(&[("/a/x", "must be a string")]));
    }
}
