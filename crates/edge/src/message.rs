//! The heads of requests and responses, whatever version of HTTP brought them.

use crate::fields::{Fields, Name};
use http::{Method, StatusCode};
use std::cell::RefCell;

/// A request without its body.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    /// `/path?query` as it came, or the `*` of OPTIONS.
    target: String,
    path_bytes: usize,
    /// What the target named in place of `Host` (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    pub authority: Option<String>,
    pub fields: Fields,
}

/// A response without its body.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    /// As the app wrote it; empty for the usual words.
    pub reason: String,
    pub fields: Fields,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
    Http2,
}

impl Default for RequestHead {
    fn default() -> RequestHead {
        RequestHead {
            method: Method::GET,
            version: Version::Http11,
            target: String::new(),
            path_bytes: 0,
            authority: None,
            fields: Fields::default(),
        }
    }
}

/// Neither a path, nor `*`, nor an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTarget;

impl RequestHead {
    pub fn path(&self) -> &str {
        &self.target[..self.path_bytes]
    }

    pub fn query(&self) -> Option<&str> {
        self.target.get(self.path_bytes + 1..)
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    /// Reads any form of target (RFC 9112 §3.2). A fragment is nobody's business but the client's: it is cut off.
    pub fn set_target(&mut self, text: &str) -> Result<(), NoTarget> {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        self.authority = None;
        self.target.clear();
        // A head is used again: what it held before says nothing of this one.
        self.path_bytes = 0;
        let of_the_server = text == "*" && self.method == Method::OPTIONS;
        if text.starts_with('/') || of_the_server || self.method == Method::CONNECT {
            self.target.push_str(text);
        } else {
            let rest = strip_scheme(text).ok_or(NoTarget)?;
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            // Without the user part, which says who asks and not whom.
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            if host.is_empty() {
                return Err(NoTarget);
            }
            self.authority = Some(host.to_owned());
            if !path.starts_with('/') {
                self.target.push('/');
            }
            self.target.push_str(path);
        }
        self.path_bytes = self.target.find('?').unwrap_or(self.target.len());
        Ok(())
    }

    /// The host asked for, as it came.
    pub fn host(&self) -> &str {
        match &self.authority {
            Some(authority) => authority,
            None => self.fields.text_of(Name::Host).unwrap_or(""),
        }
    }
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")).then_some(rest)
}

impl ResponseHead {
    pub fn new(status: u16) -> ResponseHead {
        ResponseHead { status, ..ResponseHead::default() }
    }

    pub fn reason(&self) -> &str {
        if !self.reason.is_empty() {
            return &self.reason;
        }
        StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
    }
}

/// Heads of one core that no message uses at the moment: their room is used again.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "a head goes from message to message in its box, never copied")]
pub struct Heads {
    requests: RefCell<Vec<Box<RequestHead>>>,
    responses: RefCell<Vec<Box<ResponseHead>>>,
}

/// Kept for reuse a core; more are freed.
const HEADS_KEPT_MAX: usize = 256;
/// A head whose fields took more than this is freed: one large head must not stay for ever.
const FIELDS_KEPT_MAX: usize = 4096;

impl Heads {
    pub fn request(&self) -> Box<RequestHead> {
        self.requests.borrow_mut().pop().unwrap_or_default()
    }

    pub fn response(&self) -> Box<ResponseHead> {
        self.responses.borrow_mut().pop().unwrap_or_default()
    }

    pub fn release_request(&self, mut head: Box<RequestHead>) {
        let mut kept = self.requests.borrow_mut();
        if kept.len() < HEADS_KEPT_MAX && head.fields.size() <= FIELDS_KEPT_MAX {
            head.fields.clear();
            kept.push(head);
        }
    }

    pub fn release_response(&self, mut head: Box<ResponseHead>) {
        let mut kept = self.responses.borrow_mut();
        if kept.len() < HEADS_KEPT_MAX && head.fields.size() <= FIELDS_KEPT_MAX {
            head.fields.clear();
            head.reason.clear();
            kept.push(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_target_is_read() {
        let mut head = RequestHead::default();
        for (text, target, path, query, authority) in [
            ("/a/b?x=1?y", "/a/b?x=1?y", "/a/b", Some("x=1?y"), None),
            ("/a?", "/a?", "/a", Some(""), None),
            ("/a#f", "/a", "/a", None, None),
            ("http://h.example:80/p?q", "/p?q", "/p", Some("q"), Some("h.example:80")),
            ("HTTPS://u:p@h", "/", "/", None, Some("h")),
            ("http://h?q", "/?q", "/", Some("q"), Some("h")),
        ] {
            head.set_target(text).expect(text);
            assert_eq!((head.target(), head.path(), head.query()), (target, path, query), "{text}");
            assert_eq!(head.authority.as_deref(), authority, "{text}");
        }
        for bad in
            ["", "a", "*", "*/a", "ftp://h/", "http:///p", "http://", "//x".strip_prefix('/').map_or("", |_| "x//")]
        {
            assert_eq!(head.set_target(bad), Err(NoTarget), "{bad}");
            assert_eq!((head.path(), head.query()), ("", None), "{bad}");
        }
        // Of the server as a whole, and that is asked for its options alone (RFC 9112 §3.2.4).
        head.method = Method::OPTIONS;
        assert_eq!(head.set_target("*"), Ok(()));
        assert_eq!((head.target(), head.path(), head.query()), ("*", "*", None));
    }
}
