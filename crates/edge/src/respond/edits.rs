//! Headers a `[[route]]` gives its answers or takes from them.

use crate::fields::Fields;
use mainstay_config::{Table, Value};

/// Longest value: a head must stay far from what clients refuse.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Headers one route may name.
const EDITS_MAX: usize = 32;
/// These frame a message or belong to one connection, say how its body is written, or are the request's identity.
const NOT_YOURS: [&str; 11] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "keep-alive",
    "mainstay-request-id",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
];

/// One line of `headers = { NAME = "value", OTHER = false }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub name: String,
    /// Set where the app set none; `None`: taken away, whoever set it.
    pub value: Option<String>,
}

impl Edit {
    pub fn apply(&self, fields: &mut Fields) {
        match &self.value {
            Some(value) if !fields.has_named(self.name.as_bytes()) => {
                fields.push(self.name.as_bytes(), value.as_bytes());
            }
            Some(_) => {}
            None => fields.remove_named(self.name.as_bytes()),
        }
    }
}

pub fn read(route: &Table) -> Vec<Edit> {
    const DOC: &str = "Headers of this route's answers: a value where the app sets none, false to remove one";
    const EXPECTED: &str = "headers = { X-Robots-Tag = \"noindex\", X-Powered-By = false }";
    let key = route.key("headers").doc(DOC);
    let table = match key.value() {
        None => return Vec::new(),
        Some(item) => match item.value {
            Value::Table(table) => table,
            _ => {
                route.fault(&item.at, "`headers` is not a table", EXPECTED, None);
                return Vec::new();
            }
        },
    };
    let mut edits = Vec::new();
    for (name, value) in table.pairs() {
        if !may_be_set(&name.value) {
            let what = format!("`{}` is no header a route may set", name.value);
            table.fault(&name.at, what, "a header's name that is not about framing or the connection", None);
        } else if value.value != "false" && !is_value(&value.value) {
            let what = format!("the value of `{}` is no header's value", name.value);
            table.fault(&value.at, what, "one line of visible ASCII of at most 4096 letters", None);
        } else if edits.len() >= EDITS_MAX {
            table.fault(&name.at, "too many headers in one route", "at most 32", None);
            break;
        } else {
            edits.push(Edit { value: (value.value != "false").then_some(value.value), name: name.value });
        }
    }
    edits
}

/// A header's name, and none of those that say where a message or its connection ends.
pub fn may_be_set(name: &str) -> bool {
    is_token(name) && !NOT_YOURS.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// A header's name (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let is = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(is)
}

/// One line, nothing that could end it.
pub fn is_value(text: &str) -> bool {
    text.len() <= VALUE_BYTES_MAX && text.trim() == text && text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(name: &str, value: Option<&str>) -> Edit {
        Edit { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_value_is_set_where_the_app_set_none_and_false_removes() {
        let mut fields = Fields::default();
        fields.push(b"X-Robots-Tag", b"all");
        fields.push(b"X-Powered-By", b"Express");
        for e in [edit("x-robots-tag", Some("noindex")), edit("X-New", Some("1")), edit("x-powered-by", None)] {
            e.apply(&mut fields);
        }
        assert_eq!(fields.find("x-robots-tag"), Some(&b"all"[..]));
        assert_eq!(fields.find("x-new"), Some(&b"1"[..]));
        assert_eq!(fields.find("x-powered-by"), None);
    }

    #[test]
    fn nothing_that_ends_a_line_is_a_value() {
        for bad in ["a\r\nb", "a\nb", " a", "a\0", "é", &"x".repeat(5000)] {
            assert!(!is_value(bad), "{bad:?}");
        }
        assert!(is_value("max-age=0; a=\"b\"") && is_token("X-A") && !is_token("X A") && !is_token(""));
    }
}
