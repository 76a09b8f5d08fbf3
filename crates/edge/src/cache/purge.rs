//! What a purge names: a path with or without its host and query, all that begins so, a tag, or everything. Pure.

use super::key::Parsed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    All,
    Tag(Box<[u8]>),
    Path {
        /// `None`: every host.
        host: Option<String>,
        path: String,
        /// `None`: every query, and none.
        query: Option<String>,
        /// All that begins like this.
        prefix: bool,
    },
}

impl What {
    /// `/a`, `/a?x=1`, `/a/*`, `api.example.com/a`, `https://api.example.com/a`.
    pub fn parse(text: &str) -> Option<What> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        let at = rest.find('/')?;
        let (host, target) = rest.split_at(at);
        let host = (!host.is_empty()).then(|| host.to_ascii_lowercase());
        let (target, prefix) = target.strip_suffix('*').map_or((target, false), |target| (target, true));
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Some(What::Path { host, path: path.to_owned(), query, prefix })
    }

    /// Whether what is stored under this key is meant. Tags are told by what is stored.
    pub fn names(&self, key: &Parsed<'_>) -> bool {
        match self {
            What::All => true,
            What::Tag(_) => false,
            What::Path { host, path, query, prefix } => {
                let host = host.as_ref().is_none_or(|host| is_host(key.host, host.as_bytes()));
                let (stored, path) = (key.path, path.as_bytes());
                let target = match (query, prefix) {
                    (None, true) => {
                        // `/a/*` means `/a` too, as in a route.
                        stored.starts_with(path) || path.strip_suffix(b"/") == Some(stored)
                    }
                    (None, false) => stored == path,
                    (Some(query), true) => stored == path && key.query.is_some_and(|q| q.starts_with(query.as_bytes())),
                    (Some(query), false) => stored == path && key.query == Some(query.as_bytes()),
                };
                host && target
            }
        }
    }
}

/// A host named without its port means any port.
fn is_host(stored: &[u8], named: &[u8]) -> bool {
    let port = || stored.strip_prefix(named).and_then(|rest| rest.strip_prefix(b":"));
    stored == named || port().is_some_and(|port| port.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_purge_names() {
        let names = |text: &str, host: &str, path: &str, query: Option<&str>| {
            let key = Parsed { host: host.as_bytes(), path: path.as_bytes(), query: query.map(str::as_bytes) };
            What::parse(text).expect(text).names(&key)
        };
        for (text, host, path, query, expected) in [
            ("/a", "x", "/a", None, true),
            ("/a", "x", "/a", Some("q"), true),
            ("/a", "x", "/ab", None, false),
            ("/a?q", "x", "/a", Some("q"), true),
            ("/a?q", "x", "/a", Some("qq"), false),
            ("/a?q", "x", "/a", None, false),
            ("/a?q*", "x", "/a", Some("qq"), true),
            ("/a/*", "x", "/a/b/c", Some("q"), true),
            ("/a/*", "x", "/a", None, true),
            ("/a/*", "x", "/ab", None, false),
            ("/*", "x", "/", None, true),
            ("x.example/a", "x.example", "/a", None, true),
            ("X.example/a", "x.example:8080", "/a", None, true),
            ("x.example:80/a", "x.example:8080", "/a", None, false),
            ("x.example/a", "x.example.evil", "/a", None, false),
            ("https://x/a", "x", "/a", None, true),
        ] {
            assert_eq!(names(text, host, path, query), expected, "{text} {host}{path} {query:?}");
        }
        assert_eq!(What::parse("a"), None);
        assert_eq!(What::parse(""), None);
    }
}
