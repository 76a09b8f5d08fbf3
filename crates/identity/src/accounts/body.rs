//! What a client wrote: an object of JSON with texts in it.

use super::Fault;
use crate::exchange::Asked;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

pub(crate) struct Body(Map<String, Value>);

impl Body {
    /// JSON alone: a form of a foreign page cannot send it.
    pub fn read(asked: &Asked) -> Result<Body, Fault> {
        if asked.body.is_empty() {
            return Ok(Body(Map::new()));
        }
        let kind = asked.header(CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            let text = "The body is not JSON.";
            return Err(Fault::refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", text));
        }
        match serde_json::from_slice(&asked.body) {
            Ok(Value::Object(object)) => Ok(Body(object)),
            _ => Err(Fault::refused(StatusCode::BAD_REQUEST, "body_invalid", "The body is not an object of JSON.")),
        }
    }

    /// The first of these that is there.
    pub fn opt(&self, names: &[&str]) -> Result<Option<&str>, Fault> {
        for name in names {
            match self.0.get(*name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => return Ok(Some(text)),
                Some(_) => {
                    let text = format!("`{name}` is not a text.");
                    return Err(Fault::refused(StatusCode::BAD_REQUEST, "body_invalid", &text));
                }
            }
        }
        Ok(None)
    }

    pub fn text(&self, names: &[&str]) -> Result<&str, Fault> {
        let missing = || {
            let text = format!("`{}` is missing.", names.first().unwrap_or(&""));
            Fault::refused(StatusCode::BAD_REQUEST, "body_invalid", &text)
        };
        self.opt(names)?.ok_or_else(missing)
    }
}
