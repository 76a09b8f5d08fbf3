//! One JSON Schema, compiled: what breaks it is told field by field, in words that hold nothing of the values.
//!
//! Nothing is ever fetched: what a schema refers to stands in its own file.

use super::document::{Document, Fault};
use super::problem::{Place, Problem};
use super::words::{self, Told};
use jsonschema::{PatternOptions, Registry, ValidationError, ValidationOptions, Validator};
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};

/// Steps a pattern with look-around or a backreference may go back before it counts as not matching. All other
/// patterns take time in proportion to the text.
const PATTERN_STEPS_MAX: usize = 10_000;
/// A compiled pattern, and what it may remember while it matches.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Faults told of one file; who mends them sees the rest.
const FAULTS_MAX: usize = 20;
/// Words quoted of a library's sentence about the operator's own file.
const SENTENCE_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub struct Schema {
    /// Filled before the first request; many schemas of one document share it, and what they have in common.
    all: Arc<OnceLock<Validator>>,
    /// Which of them this is; none: all of it.
    slot: Option<[String; 2]>,
}

/// Schemas of one document, gathered and then compiled at once: what several of them refer to is compiled once.
#[derive(Debug, Default)]
pub struct Gathered {
    pointers: Vec<String>,
    all: Arc<OnceLock<Validator>>,
}

/// Members of one object among which a slot is looked for.
const SLOTS: usize = 32;

impl Gathered {
    pub fn add(&mut self, pointer: &str) -> Schema {
        let index = self.pointers.iter().position(|p| p == pointer).unwrap_or(self.pointers.len());
        if index == self.pointers.len() {
            self.pointers.push(pointer.to_owned());
        }
        let slot = [(index / SLOTS).to_string(), (index % SLOTS).to_string()];
        Schema { all: self.all.clone(), slot: Some(slot) }
    }

    pub fn compile(self, document: &Document<'_>, registry: &Registry<'_>) -> Result<(), Vec<Fault>> {
        let reference = |pointer: &String| json!({ "$ref": format!("{DOCUMENT}#{}", fragment(pointer)) });
        let members = |all: Vec<Value>| {
            let pairs = all.into_iter().enumerate().map(|(i, schema)| (i.to_string(), schema));
            json!({ "properties": pairs.collect::<Map<_, _>>() })
        };
        let groups = self.pointers.chunks(SLOTS).map(|chunk| members(chunk.iter().map(reference).collect()));
        match options().with_registry(registry).build(&members(groups.collect())) {
            Ok(validator) => {
                let _ = self.all.set(validator);
                Ok(())
            }
            Err(error) => {
                // One by one, to tell which.
                let mut faults = Vec::new();
                for pointer in &self.pointers {
                    let alone = options().with_registry(registry).build(&reference(pointer));
                    faults.extend(alone.err().map(|error| build_fault(document, pointer, &error)));
                    if faults.len() >= FAULTS_MAX {
                        break;
                    }
                }
                Err(if faults.is_empty() { vec![build_fault(document, "", &error)] } else { faults })
            }
        }
    }
}

fn options<'i>() -> ValidationOptions<'i> {
    jsonschema::options().offline().should_validate_formats(true).with_pattern_options(
        PatternOptions::fancy_regex()
            .backtrack_limit(PATTERN_STEPS_MAX)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX),
    )
}

impl Schema {
    /// A file that is one schema, in the draft that its `$schema` names.
    pub fn of_file(document: &Document<'_>) -> Result<Schema, Vec<Fault>> {
        let value = &document.value;
        if !value.is_object() && !value.is_boolean() {
            return Err(vec![document.fault("", "is no JSON Schema: an object is expected")]);
        }
        if value.get("openapi").is_some() || value.get("swagger").is_some() {
            return Err(vec![
                document.fault("", "is an OpenAPI document: write `openapi = …` in place of `schema = …`"),
            ]);
        }
        match jsonschema::meta::validator_for(value) {
            Ok(meta) => well_formed(document, "", meta.iter_errors(value))?,
            Err(error) => return Err(vec![build_fault(document, "", &error)]),
        }
        let built = options().build(value).map_err(|error| vec![build_fault(document, "", &error)])?;
        Ok(Schema { all: Arc::new(OnceLock::from(built)), slot: None })
    }

    /// Tells all of `value` that breaks it. `base`: where the value stands in the input.
    pub fn check(&self, value: &mut Value, place: Place, base: &str, problem: &mut Problem) {
        self.within(value, |validator, value, skip| {
            if validator.is_valid(value) {
                return;
            }
            let mut told = Told { place, base, skip, problem };
            validator.iter_errors(value).for_each(|error| words::tell(&error, &mut told));
            told.at_least();
        });
    }

    /// Tells the first thing of a body that breaks it; what else does is not looked for.
    pub fn check_first(&self, value: &mut Value, problem: &mut Problem) {
        self.within(value, |validator, value, skip| {
            if let Err(error) = validator.validate(value) {
                let mut told = Told { place: Place::Body, base: "", skip, problem };
                words::tell(&error, &mut told);
                told.at_least();
            }
        });
    }

    pub fn allows(&self, value: &mut Value) -> bool {
        self.within(value, |validator, value, _| validator.is_valid(value)) == Some(true)
    }

    /// Hands the value to the validator as it expects it, and how many bytes of each path are not the value's own.
    fn within<T>(&self, value: &mut Value, judge: impl FnOnce(&Validator, &Value, usize) -> T) -> Option<T> {
        let validator = self.all.get()?;
        let Some([group, member]) = &self.slot else { return Some(judge(validator, value, 0)) };
        let inner = Map::from_iter([(member.clone(), value.take())]);
        let mut outer = Value::Object(Map::from_iter([(group.clone(), Value::Object(inner))]));
        let judged = judge(validator, &outer, group.len() + member.len() + 2);
        *value = outer[group][member].take();
        Some(judged)
    }
}

/// The name a document has for itself; nobody else sees it.
pub const DOCUMENT: &str = "mainstay:///openapi.json";

/// The schema at `pointer`, against the draft that OpenAPI 3.1 speaks.
pub fn prove(document: &Document<'_>, pointer: &str) -> Result<(), Vec<Fault>> {
    let Some(schema) = document.value.pointer(pointer) else { return Ok(()) };
    well_formed(document, pointer, jsonschema::draft202012::meta::validator().iter_errors(schema))
}

fn well_formed<'e>(
    document: &Document<'_>,
    base: &str,
    errors: impl Iterator<Item = ValidationError<'e>>,
) -> Result<(), Vec<Fault>> {
    let fault = |error: ValidationError<'_>| {
        let at = format!("{base}{}", error.instance_path().as_str());
        document.fault(&at, format!("is no JSON Schema at `{at}`: {}", sentence(&error)))
    };
    let faults: Vec<Fault> = errors.take(FAULTS_MAX).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

fn build_fault(document: &Document<'_>, base: &str, error: &ValidationError<'_>) -> Fault {
    if let jsonschema::error::ValidationErrorKind::Referencing(cause) = error.kind() {
        // Its own words for "not in this file" speak of retrieval.
        let (found, target) = culprit(&document.value, &cause.to_string());
        let what = match target {
            Some(target) => unresolved(&target),
            None => format!("a $ref leads nowhere: {}", cut(&cause.to_string())),
        };
        return document.fault(found.as_deref().unwrap_or(base), what);
    }
    let at = format!("{base}{}", error.instance_path().as_str());
    document.fault(&at, format!("is no usable schema: {}", sentence(error)))
}

/// What is said of a `$ref` that cannot be followed.
pub fn unresolved(target: &str) -> String {
    if target.starts_with('#') {
        return format!("`$ref: {}` names nothing in this file", cut(target));
    }
    format!(
        "`$ref: {}` lies outside this file, and nothing is fetched: put all into one file, as \
         `npx @redocly/cli bundle` does",
        cut(target)
    )
}

/// The `$ref` a library's sentence speaks of, and where it stands.
fn culprit(value: &Value, sentence: &str) -> (Option<String>, Option<String>) {
    let mut found = (None, None);
    let mut longest = 0;
    each_ref(value, String::new(), &mut |pointer, target| {
        let tail = target.rsplit(['/', '#']).next().unwrap_or(target);
        let named = sentence.contains(target.trim_start_matches('#')) || sentence.contains(tail);
        if named && !tail.is_empty() && target.len() > longest {
            longest = target.len();
            found = (Some(pointer.to_owned()), Some(target.to_owned()));
        }
    });
    found
}

/// Every `$ref` that is followed, with its place; what stands in examples and the like is data.
pub fn each_ref(value: &Value, pointer: String, tell: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                each_ref(item, format!("{pointer}/{i}"), tell);
            }
        }
        Value::Object(pairs) => {
            for (key, member) in pairs {
                let is_data = matches!(key.as_str(), "example" | "examples" | "default" | "enum" | "const");
                let at = || format!("{pointer}{}", super::json::segment(key));
                match member {
                    Value::String(target) if key == "$ref" => tell(&at(), target),
                    Value::Array(_) | Value::Object(_)
                        if !key.starts_with("x-") && (!is_data || pointer.ends_with("/properties")) =>
                    {
                        each_ref(member, at(), tell);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn sentence(error: &ValidationError<'_>) -> String {
    cut(&error.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SENTENCE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON pointer as the fragment of an address (RFC 6901 §6).
fn fragment(pointer: &str) -> String {
    let mut out = String::with_capacity(pointer.len());
    for b in pointer.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'~' | b'-' | b'.' | b'_' => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn faults(text: &str) -> Vec<String> {
        let document = Document::parse(Path::new("s.json"), text).expect("json");
        let faults = Schema::of_file(&document).expect_err(text);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_broken_schema_says_where() {
        for (text, at, said) in [
            ("[]", "s.json:1:", "is no JSON Schema"),
            ("{\n\"type\": \"strng\"\n}", "s.json:2:", "/type"),
            ("{\n\"properties\": {\n\"a\": {\"minimum\": \"1\"}}}", "s.json:3:", "/properties/a/minimum"),
            ("{\n\"items\":\n{\"$ref\": \"#/$defs/no\"}}", "s.json:3:", "`$ref: #/$defs/no` names nothing"),
            ("{\n\"$ref\": \"https://example.com/x.json\"}", "s.json:2:", "lies outside this file"),
            ("{\n\n\"$ref\": \"other.json#/a\"}", "s.json:3:", "lies outside this file"),
            ("{\"type\": \"string\",\n\"pattern\": \"(\"}", "s.json:2:", ""),
            ("{\"openapi\": \"3.1.0\"}", "s.json:1:", "write `openapi = …`"),
            ("{\"$schema\": \"https://example.com/own\"}", "s.json:1:", ""),
        ] {
            let told = faults(text);
            assert!(told[0].starts_with(at) && told[0].contains(said), "{text}: {told:?}");
        }
        // All at once.
        assert_eq!(faults("{\"type\": 1,\n\"minimum\": \"x\"}").len(), 2);
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        let text = r#"{"pattern": "^(a+)+(?=b)$"}"#;
        let document = Document::parse(Path::new("s.json"), text).expect("json");
        let schema = Schema::of_file(&document).expect("a schema");
        // Without the bound this would be 2^1000 steps.
        assert!(!schema.allows(&mut Value::String("a".repeat(1000))));
        let mut problem = Problem::default();
        schema.check(&mut Value::String("a".repeat(1000)), Place::Body, "", &mut problem);
        assert!(!problem.is_empty());
    }
}
