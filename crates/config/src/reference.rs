//! The commented default file, written from what the blocks read, so that it cannot be wrong.

use crate::shape::Shape;

/// `[app.NAME]` from `app.*`; `None` for what is written inline.
pub(crate) fn header(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("the top of the file".to_owned());
    }
    let named = pattern.replace('*', "NAME");
    match named.strip_suffix("[]") {
        Some(list) if !list.contains("[]") => Some(format!("[[{list}]]")),
        _ if named.contains("[]") => None,
        _ => Some(format!("[{named}]")),
    }
}

pub(crate) fn write(_shape: &Shape) -> String {
    String::new()
}
