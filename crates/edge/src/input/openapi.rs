//! An OpenAPI document (3.0, 3.1) as the operations it describes. What it does not describe is none of our business.

use super::dialect::{self, Speaks};
use super::document::{Document, Fault};
use super::json::segment;
use super::parameter::{Form, Kinds, Parameter};
use super::problem::Place;
use super::schema::{self, DOCUMENT, Gathered, Schema};
use super::template::Template;
use jsonschema::Registry;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A `$ref` to a `$ref` and so on.
const REFS_MAX: usize = 16;
/// Looks into `allOf` and the like for the types of a parameter.
const KINDS_DEPTH_MAX: usize = 8;
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

#[derive(Debug)]
pub struct Api {
    /// Most specific first.
    operations: Vec<Operation>,
}

#[derive(Debug)]
pub struct Operation {
    method: String,
    template: Template,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    /// `POST /users`, and where it stands, for trails.
    pub at: String,
}

#[derive(Debug)]
pub struct Body {
    pub required: bool,
    /// Media types in lower case, most specific first. Without a schema: anything.
    media: Vec<(String, Option<Arc<Schema>>)>,
}

impl Body {
    /// What is said of a media type, which is in lower case and without parameters. `None`: not accepted.
    pub fn of_type(&self, kind: &str) -> Option<Option<&Arc<Schema>>> {
        let fits = |range: &str| match range.split_once("/*") {
            Some(("*", "")) => true,
            Some((main, "")) => kind.split('/').next() == Some(main),
            _ => range == kind,
        };
        self.media.iter().find(|(range, _)| fits(range)).map(|(_, schema)| schema.as_ref())
    }
}

impl Api {
    /// The operation a request is for, with the values of its path. A HEAD request is for its GET.
    pub fn find<'a, 'p>(
        &'a self,
        method: &str,
        path: &'p [String],
    ) -> Option<(&'a Operation, Vec<(&'a str, &'p str)>)> {
        let of = |method: &str| {
            let mut all = self.operations.iter().filter(|o| o.method.eq_ignore_ascii_case(method));
            all.find_map(|o| o.template.matches(path).map(|values| (o, values)))
        };
        of(method).or_else(|| if method.eq_ignore_ascii_case("HEAD") { of("GET") } else { None })
    }

    pub fn build(mut document: Document<'_>) -> Result<Api, Vec<Fault>> {
        let speaks = version(&document)?;
        dialect::rewrite(&mut document.value, speaks);
        let registry = Registry::new().add(DOCUMENT, &document.value).and_then(|registry| registry.prepare());
        let registry = registry.map_err(|error| vec![document.fault("", format!("cannot be read: {error}"))])?;
        let mut build = Build {
            document: &document,
            known: HashMap::new(),
            proven: HashSet::new(),
            schemas: Gathered::default(),
            faults: Vec::new(),
        };
        let mut operations = build.operations();
        let Build { faults, schemas, .. } = build;
        if !faults.is_empty() {
            return Err(faults);
        }
        schemas.compile(&document, &registry)?;
        operations.sort_by(|a, b| b.template.specificity(&a.template));
        Ok(Api { operations })
    }
}

fn version(document: &Document<'_>) -> Result<Speaks, Vec<Fault>> {
    let said = document.value.get("openapi");
    let refused = |pointer: &str, what: String| Err(vec![document.fault(pointer, what)]);
    match said.and_then(Value::as_str) {
        Some(v) if v.starts_with("3.0") => Ok(Speaks::V30),
        Some(v) if v.starts_with("3.") => Ok(Speaks::V31),
        Some(v) => refused("/openapi", format!("OpenAPI {v} is not known: 3.0 and 3.1 are")),
        None if document.value.get("swagger").is_some() => refused(
            "/swagger",
            "Swagger 2.0 is not read: `npx swagger2openapi swagger.json -o openapi.json` makes OpenAPI 3.0 of it"
                .into(),
        ),
        None if said.is_some() => refused("/openapi", "the version is a text: openapi: \"3.1.0\"".into()),
        None => refused("", "is no OpenAPI document: it has no `openapi`; a JSON Schema is `schema = …`".into()),
    }
}

/// A fragment's escapes undone.
fn unescaped(pointer: &str) -> String {
    super::parameter::decoded(pointer, false).map_or_else(|| pointer.to_owned(), |p| p.into_owned())
}

struct Build<'b, 'd> {
    document: &'b Document<'d>,
    known: HashMap<String, Option<Arc<Schema>>>,
    proven: HashSet<String>,
    schemas: Gathered,
    faults: Vec<Fault>,
}

impl<'b> Build<'b, '_> {
    fn operations(&mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let root = &self.document.value;
        let Some(paths) = root.get("paths").and_then(Value::as_object) else { return operations };
        for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
            let (item, item_at) = self.led(item, format!("/paths{}", segment(path)));
            for method in METHODS {
                let Some(operation) = item.get(method) else { continue };
                let at = format!("{item_at}/{method}");
                let bases = [operation, item, root].into_iter().find_map(bases);
                let bases = bases.unwrap_or_else(|| vec![String::new()]);
                for base in bases {
                    match Template::parse(&base, path) {
                        Ok(template) => operations.push(self.operation(method, template, (item, &item_at), &at)),
                        Err(what) => self.faults.push(self.document.fault(&item_at, what)),
                    }
                }
            }
        }
        operations
    }

    fn operation(&mut self, method: &str, template: Template, item: (&'b Value, &str), at: &str) -> Operation {
        let document = self.document;
        let own = document.value.pointer(at).unwrap_or(&Value::Null);
        let mut parameters: Vec<Parameter> = Vec::new();
        // An operation's own go before those of all operations of the path.
        for (holder, at) in [(own, at), item] {
            for (i, parameter) in holder.get("parameters").and_then(Value::as_array).into_iter().flatten().enumerate() {
                let (parameter, at) = self.led(parameter, format!("{at}/parameters/{i}"));
                let read = self.parameter(parameter, &at);
                parameters.extend(
                    read.filter(|new| !parameters.iter().any(|p| p.name == new.name && p.place == new.place))
                        .filter(|p| p.place != Place::Path || template.names(&p.name)),
                );
            }
        }
        let body = own.get("requestBody").and_then(|body| {
            let (body, at) = self.led(body, format!("{at}/requestBody"));
            self.body(body, &at)
        });
        let line = document.line(at);
        Operation {
            method: method.to_owned(),
            template,
            parameters,
            body,
            at: format!("{}:{line}", document.file.display()),
        }
    }

    /// What a `$ref` stands for, and where that stands.
    fn follow(&self, value: &'b Value, at: String) -> (&'b Value, String) {
        let (mut value, mut at) = (value, at);
        for _ in 0..REFS_MAX {
            let Some(target) = value.get("$ref").and_then(Value::as_str) else { break };
            let pointer = unescaped(target.trim_start_matches('#'));
            let Some(next) = self.document.value.pointer(&pointer) else { break };
            (value, at) = (next, pointer);
        }
        (value, at)
    }

    /// The same; one that leads nowhere is a fault.
    fn led(&mut self, value: &'b Value, at: String) -> (&'b Value, String) {
        let (value, at) = self.follow(value, at);
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            self.blame(self.document.fault(&format!("{at}/$ref"), schema::unresolved(target)));
        }
        (value, at)
    }

    fn blame(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// A schema and all it refers to are schemas, and there. What only answers use is not looked at.
    fn prove(&mut self, pointer: &str) -> bool {
        let before = self.faults.len();
        let mut open = vec![pointer.to_owned()];
        while let Some(pointer) = open.pop() {
            let Some(schema) = self.document.value.pointer(&pointer) else { continue };
            if !self.proven.insert(pointer.clone()) {
                continue;
            }
            for fault in schema::prove(self.document, &pointer).err().into_iter().flatten() {
                self.blame(fault);
            }
            let mut faults = Vec::new();
            schema::each_ref(schema, pointer, &mut |at, target| match target.strip_prefix('#').map(unescaped) {
                Some(inside) if self.document.value.pointer(&inside).is_some() => open.push(inside),
                // An anchor, which the schemas themselves look up.
                Some(inside) if !inside.starts_with('/') => {}
                _ => faults.push(self.document.fault(at, schema::unresolved(target))),
            });
            faults.into_iter().for_each(|fault| self.blame(fault));
        }
        self.faults.len() == before
    }

    fn gathered(&mut self, pointer: &str) -> Option<Schema> {
        if self.prove(pointer) { Some(self.schemas.add(pointer)) } else { None }
    }

    fn body(&mut self, body: &'b Value, at: &str) -> Option<Body> {
        let content = body.get("content")?.as_object()?;
        let mut media = Vec::new();
        for (kind, described) in content {
            let pointer = format!("{at}/content{}/schema", segment(kind));
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let checked = described.get("schema").is_some() && (is_json(&kind) || kind.contains('*'));
            if checked && !self.known.contains_key(&pointer) {
                let schema = self.gathered(&pointer).map(Arc::new);
                self.known.insert(pointer.clone(), schema);
            }
            let schema = if checked { self.known.get(&pointer).cloned().flatten() } else { None };
            media.push((kind, schema));
        }
        media.sort_by_key(|(kind, _)| kind.matches('*').count());
        Some(Body { required: body.get("required") == Some(&Value::Bool(true)), media })
    }

    /// `None` for what is not checked: headers, cookies, and forms that frameworks read in ways of their own.
    fn parameter(&mut self, parameter: &'b Value, at: &str) -> Option<Parameter> {
        let text = |key: &str| parameter.get(key).and_then(Value::as_str);
        let name = text("name")?.to_owned();
        let place = match text("in")? {
            "query" => Place::Query,
            "path" => Place::Path,
            _ => return None,
        };
        let (schema, pointer, is_json) = match parameter.get("schema") {
            Some(schema) => (schema, format!("{at}/schema"), false),
            None => {
                let (kind, media) = parameter.get("content")?.as_object()?.iter().next()?;
                let pointer = format!("{at}/content{}/schema", segment(kind));
                (media.get("schema").filter(|_| is_json(kind))?, pointer, true)
            }
        };
        let kinds = self.kinds(schema, 0);
        let explode = parameter.get("explode").and_then(Value::as_bool);
        let form = match (place, text("style"), explode) {
            _ if is_json => Form::Json,
            (Place::Path, None | Some("simple"), _) if kinds.array => Form::Separated(','),
            (Place::Path, None | Some("simple"), _) if !kinds.object => Form::One,
            (Place::Query, Some("deepObject"), _) => Form::Deep,
            (Place::Query, None | Some("form"), None | Some(true)) if kinds.array => Form::Repeated,
            (Place::Query, None | Some("form"), Some(false)) if kinds.array => Form::Separated(','),
            (Place::Query, Some("spaceDelimited"), _) if kinds.array => Form::Separated(' '),
            (Place::Query, Some("pipeDelimited"), _) if kinds.array => Form::Separated('|'),
            (Place::Query, None | Some("form"), _) if !kinds.object => Form::One,
            _ => return None,
        };
        let schema_of = |key: &str| self.follow(schema, String::new()).0.get(key);
        let item_kinds = schema_of("items").map_or(Kinds::any_scalar(), |items| self.kinds(items, 0));
        let members = schema_of("properties").and_then(Value::as_object).into_iter().flatten();
        let members = members.map(|(name, schema)| (name.clone(), self.kinds(schema, 0))).collect();
        Some(Parameter {
            required: place == Place::Path || parameter.get("required") == Some(&Value::Bool(true)),
            may_be_empty: parameter.get("allowEmptyValue") == Some(&Value::Bool(true)),
            schema: self.gathered(&pointer)?,
            name,
            place,
            form,
            kinds,
            item_kinds,
            members,
        })
    }

    /// What a text may stand for, by the types its schema names.
    fn kinds(&self, schema: &'b Value, depth: usize) -> Kinds {
        let (schema, _) = self.follow(schema, String::new());
        let mut kinds = Kinds::default();
        let mut add = |kind: &str| match kind {
            "null" => kinds.null = true,
            "boolean" => kinds.boolean = true,
            "integer" | "number" => kinds.number = true,
            "array" => kinds.array = true,
            "object" => kinds.object = true,
            _ => kinds.string = true,
        };
        match schema.get("type") {
            Some(Value::String(kind)) => add(kind),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).for_each(add),
            _ if depth < KINDS_DEPTH_MAX => {
                let parts = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array());
                for part in parts.flatten() {
                    let more = self.kinds(part, depth + 1);
                    kinds.null |= more.null;
                    kinds.boolean |= more.boolean;
                    kinds.number |= more.number;
                    kinds.string |= more.string;
                    kinds.array |= more.array;
                    kinds.object |= more.object;
                }
                kinds.array |= schema.get("items").is_some();
                kinds.object |= schema.get("properties").is_some();
            }
            _ => {}
        }
        if kinds == Kinds::default() { Kinds::any_scalar() } else { kinds }
    }
}

/// The paths of the servers named here, without their hosts. `None`: none are named.
fn bases(holder: &Value) -> Option<Vec<String>> {
    let servers = holder.get("servers")?.as_array().filter(|s| !s.is_empty())?;
    let path = |server: &Value| {
        let url = server.get("url").and_then(Value::as_str).unwrap_or("/");
        let absolute = url.split_once("://").map(|(_, rest)| rest).or_else(|| url.strip_prefix("//"));
        let below = absolute.map_or(url, |rest| rest.find('/').map_or("", |slash| &rest[slash..]));
        // A variable in a path is one of its values; any will do.
        let path = below.split(['?', '#']).next().unwrap_or_default();
        path.trim_start_matches('.').trim_end_matches('/').to_owned()
    };
    let mut paths: Vec<String> = servers.iter().map(path).collect();
    paths.sort();
    paths.dedup();
    Some(paths)
}

/// `application/json`, `application/problem+json`: what frameworks parse as JSON.
pub fn is_json(kind: &str) -> bool {
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}
