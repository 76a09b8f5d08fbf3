//! Input checked before the app sees it (E18): `[[route]] schema = "user.json"`, `openapi = "openapi.json"`.
//!
//! Schema files are read and compiled when a configuration is proved; what is wrong in them never meets a request.
//! The app receives the bytes that were checked, as they came. Nothing of a value is ever said or logged.

pub mod check;
mod dialect;
mod document;
#[cfg(test)]
mod fuzz;
mod json;
pub mod judge;
mod load;
mod openapi;
mod parameter;
pub mod problem;
pub mod room;
mod rules;
mod schema;
mod template;
mod words;
mod yaml;

pub use load::{Schemas, load};
pub use rules::{Rule, Rules};

use crate::options::beside;
use mainstay_config::{Item, Table};
use std::path::PathBuf;

/// Largest body that is checked, where its route does not say how large a body may be.
pub const CHECKED_BYTES_MAX: u64 = 1024 * 1024;
/// What a route may raise that to: a checked body is kept in memory until the app has it.
pub const CHECKED_BYTES_CEILING: u64 = 8 * 1024 * 1024;

/// What one `[[route]]` or `[app.NAME]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub kind: Kind,
    pub file: PathBuf,
    /// As it was written.
    pub text: String,
    /// Where it stands.
    pub at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A JSON Schema of the body.
    Schema,
    OpenApi,
}

const OPENAPI_DOC: &str = "OpenAPI document (3.0, 3.1; JSON or YAML) whose parameters and bodies are checked";

impl Options {
    pub fn read_route(route: &Table, body: Option<&Item<u64>>) -> Vec<Options> {
        const DOC: &str = "JSON Schema of the body: what breaks it is refused with every field named";
        let schema = route.key("schema").doc(DOC).example("\"schemas/create-user.json\"").opt_text();
        let schema = schema.map(|item| Options::new(Kind::Schema, item));
        let all: Vec<Options> = schema.into_iter().chain(Options::read_openapi(route)).collect();
        if let Some(body) = body.filter(|body| !all.is_empty() && body.value > CHECKED_BYTES_CEILING) {
            let what = "a body that is checked is kept in memory";
            route.fault(&body.at, what, "8MiB at most, or no `schema` and no `openapi` here", None);
        }
        all
    }

    pub fn read_openapi(table: &Table) -> Option<Options> {
        let item = table.key("openapi").doc(OPENAPI_DOC).example("\"openapi.json\"").opt_text();
        item.map(|item| Options::new(Kind::OpenApi, item))
    }

    fn new(kind: Kind, item: Item<String>) -> Options {
        Options { kind, file: beside(&item), at: item.at.to_string(), text: item.value }
    }
}
