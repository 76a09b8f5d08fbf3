//! CORS (the Fetch standard §3.2): preflights answered here, allow headers for named origins, none for others.
//!
//! Where it is on, its headers are ours alone: two lists that disagree are worse than either.

use super::edits::is_token;
use super::vary;
use crate::fields::{Fields, Name};
use crate::message::{RequestHead, ResponseHead};
use http::Method;
use mainstay_config::{Item, Reader, Table, Value};
use std::net::IpAddr;

/// Names of headers a preflight may ask for at once, in bytes.
const ASKED_HEADERS_BYTES_MAX: usize = 4096;
/// Origins one entry may name.
const ORIGINS_MAX: usize = 256;
/// Longest time a browser may keep a preflight's answer; browsers cut it to less.
const MAX_AGE_S_MAX: u64 = 86_400;
const PREFIX: &[u8] = b"access-control-";
const REQUEST_METHOD: &str = "access-control-request-method";
const REQUEST_HEADERS: &str = "access-control-request-headers";
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// As browsers write them; empty: any.
    origins: Vec<String>,
    methods: String,
    /// `None`: whatever the preflight asks for.
    headers: Option<String>,
    expose: Option<String>,
    credentials: bool,
    max_age_s: u64,
}

/// What is said to one request.
#[derive(Debug, Default)]
pub enum Said {
    /// CORS is off: the app's headers stay.
    #[default]
    Nothing,
    /// Not to this origin, or to none.
    NotAllowed,
    Allowed {
        origin: Vec<u8>,
        credentials: bool,
        expose: Option<String>,
    },
    /// To any, whoever asks.
    Any {
        expose: Option<String>,
    },
}

impl Cors {
    fn allows(&self, origin: &[u8]) -> bool {
        // Browsers write scheme and host in small letters and without the usual port: equal means equal.
        self.origins.is_empty() || self.origins.iter().any(|o| o.as_bytes() == origin)
    }

    /// The answer to a preflight; `None` if this is none.
    pub fn preflight(&self, head: &RequestHead) -> Option<Box<ResponseHead>> {
        if head.method != Method::OPTIONS {
            return None;
        }
        let origin = head.fields.get(Name::Origin)?;
        head.fields.find(REQUEST_METHOD)?;
        let mut answer = Box::new(ResponseHead::new(204));
        let fields = &mut answer.fields;
        self.answer(&head.fields).write(fields);
        fields.remove_named(b"access-control-expose-headers");
        for name in ["Access-Control-Request-Method", "Access-Control-Request-Headers"] {
            vary(fields, name);
        }
        if self.allows(origin) {
            fields.push(b"Access-Control-Allow-Methods", self.methods.as_bytes());
            let asked = head.fields.find(REQUEST_HEADERS).filter(|asked| is_list(asked));
            if let Some(headers) = self.headers.as_deref().map(str::as_bytes).or(asked) {
                fields.push(b"Access-Control-Allow-Headers", headers);
            }
            fields.push(b"Access-Control-Max-Age", self.max_age_s.to_string().as_bytes());
        }
        Some(answer)
    }

    /// What an answer to a request with these fields will say.
    pub fn answer(&self, request: &Fields) -> Said {
        let expose = self.expose.clone();
        if self.origins.is_empty() {
            return Said::Any { expose };
        }
        match request.get(Name::Origin).filter(|origin| self.allows(origin)) {
            Some(origin) => Said::Allowed { origin: origin.to_vec(), credentials: self.credentials, expose },
            None => Said::NotAllowed,
        }
    }
}

impl Said {
    pub fn write(&self, fields: &mut Fields) {
        let expose = match self {
            Said::Nothing => return,
            Said::NotAllowed => {
                fields.remove_prefixed(PREFIX);
                return vary(fields, "Origin");
            }
            Said::Any { expose } => {
                fields.remove_prefixed(PREFIX);
                fields.push(b"Access-Control-Allow-Origin", b"*");
                expose
            }
            Said::Allowed { origin, credentials, expose } => {
                fields.remove_prefixed(PREFIX);
                vary(fields, "Origin");
                fields.push(b"Access-Control-Allow-Origin", origin);
                if *credentials {
                    fields.push(b"Access-Control-Allow-Credentials", b"true");
                }
                expose
            }
        };
        if let Some(expose) = expose {
            fields.push(b"Access-Control-Expose-Headers", expose.as_bytes());
        }
    }
}

/// Names with commas between: what may be given back to whoever sent it.
fn is_list(text: &[u8]) -> bool {
    text.len() <= ASKED_HEADERS_BYTES_MAX
        && text.split(|&b| b == b',').all(|name| std::str::from_utf8(name.trim_ascii()).is_ok_and(is_token))
}

/// `[edge.cors]`.
pub fn read(edge: &Table, reader: &Reader) -> Option<Cors> {
    let table = edge.table("cors");
    if !table.exists() {
        return None;
    }
    let on = table.key("enabled").doc("false: the app's own CORS headers stay").env("CORS_ENABLED").boolean(true);
    let origins = table.key("origins").doc("Origins whose pages may read answers").env("CORS_ORIGIN").opt_texts();
    read_rest(&table, origins, reader.environment().production).filter(|_| on.value)
}

/// `[[route]] cors = …`. `Some(None)`: off here.
pub fn read_route(route: &Table, production: bool) -> Option<Option<Cors>> {
    const DOC: &str = "CORS on this route: a table as [edge.cors], or false";
    let item = route.key("cors").doc(DOC).value()?;
    match item.value {
        Value::Boolean(false) => Some(None),
        Value::Table(table) => {
            let origins = table.key("origins").doc("Origins whose pages may read answers").opt_texts();
            Some(read_rest(&table, origins, production))
        }
        other => {
            let what = format!("`cors` is {}", other.found());
            route.fault(&item.at, what, "cors = { origins = [\"https://example.com\"] }, or false", None);
            None
        }
    }
}

fn read_rest(table: &Table, origins: Option<Item<Vec<Item<String>>>>, production: bool) -> Option<Cors> {
    let methods = table.key("methods").doc("Methods pages may use").texts(&METHODS);
    let headers = table.key("headers").doc("Headers pages may send; unset: whatever they ask for").opt_texts();
    let expose = table.key("expose").doc("Headers of answers pages may read").opt_texts();
    let credentials = table.key("credentials").doc("Cookies and logins go with such requests").boolean(false);
    let max_age = table.key("max_age").doc("How long a browser keeps a preflight's answer").duration("10m");
    let Some(origins) = origins.filter(|o| !o.value.is_empty()) else {
        table.fault(
            &table.position(),
            "CORS without an origin",
            "origins = [\"https://www.example.com\"]",
            Some("name the origins, or remove the table"),
        );
        return None;
    };
    let any = origins.value.iter().find(|o| o.value == "*");
    if let Some(star) = any
        && credentials.value
    {
        let what = "any origin, with credentials: every page could act as the person who opens it";
        table.fault(&star.at, what, "the origins by name, or credentials = false", None);
    }
    let mut named = Vec::new();
    for origin in origins.value.iter().filter(|o| o.value != "*").take(ORIGINS_MAX) {
        match parse_origin(&origin.value) {
            Ok((_, host)) if production && is_this_machine(&host) => {
                let what = format!("`{}` in production lets whatever runs on a visitor's machine read", origin.value);
                table.fault(&origin.at, what, "origins of the environment, as \"${CORS_ORIGIN}\"", None);
            }
            Ok((text, _)) => named.push(text),
            Err(what) => table.fault(&origin.at, what, "scheme, host and port, as \"https://www.example.com\"", None),
        }
    }
    if named.is_empty() && any.is_none() {
        return None;
    }
    Some(Cors {
        origins: if any.is_some() { Vec::new() } else { named },
        methods: tokens(table, &methods.value),
        headers: headers.map(|h| tokens(table, &h.value)),
        expose: expose.map(|e| tokens(table, &e.value)),
        credentials: credentials.value,
        max_age_s: max_age.value.as_secs().min(MAX_AGE_S_MAX),
    })
}

fn tokens(table: &Table, list: &[Item<String>]) -> String {
    for item in list.iter().filter(|item| !is_token(&item.value)) {
        table.fault(&item.at, format!("`{}` is not a name", item.value), "a method's or a header's name", None);
    }
    list.iter().map(|item| item.value.as_str()).collect::<Vec<_>>().join(", ")
}

/// The origin as a browser writes it, and its host.
fn parse_origin(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{text}` is not an origin");
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(wrong)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let scheme_is_usual =
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.parse::<u16>().map_err(|_| wrong())?)),
        _ => (rest, None),
    };
    let host_is_usual = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if !scheme_is_usual || !host_is_usual {
        return Err(wrong());
    }
    let port = port.filter(|&p| !matches!((scheme, p), ("http", 80) | ("https", 443)));
    let port = port.map_or(String::new(), |p| format!(":{p}"));
    Ok((format!("{scheme}://{host}{port}"), host.to_owned()))
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Inputs;
    use proptest::prelude::*;

    fn read_file(text: &str) -> (Option<Cors>, Vec<String>) {
        let reader = Reader::new(&Inputs::of_file(text));
        let cors = read(&reader.table("edge"), &reader);
        (cors, reader.finish().faults.iter().map(|f| f.line()).collect())
    }

    fn head(method: Method, pairs: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.method = method;
        pairs.iter().for_each(|(name, value)| head.fields.push(name.as_bytes(), value.as_bytes()));
        head
    }

    fn all(fields: &Fields) -> String {
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_named_origin_is_allowed_and_the_apps_headers_are_replaced() {
        let (cors, faults) = read_file(
            "[edge.cors]\norigins = [\"HTTPS://WWW.Example.com:443/\"]\ncredentials = true\nexpose = [\"X-A\"]\n",
        );
        assert!(faults.is_empty(), "{faults:?}");
        let cors = cors.expect("on");
        let mut fields = Fields::default();
        fields.push(b"access-control-allow-origin", b"*");
        fields.push(b"Access-Control-Allow-Methods", b"TRACE");
        cors.answer(&head(Method::GET, &[("origin", "https://www.example.com")]).fields).write(&mut fields);
        assert_eq!(
            all(&fields),
            "vary: Origin\r\nAccess-Control-Allow-Origin: https://www.example.com\r\n\
             Access-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-A\r\n"
        );
        for other in ["https://evil.example", "https://www.example.com.evil", "null", "http://www.example.com"] {
            let mut fields = Fields::default();
            fields.push(b"access-control-allow-origin", b"*");
            cors.answer(&head(Method::GET, &[("origin", other)]).fields).write(&mut fields);
            assert_eq!(all(&fields), "vary: Origin\r\n", "{other}");
        }
    }

    #[test]
    fn a_preflight_is_answered_and_nothing_else_is() {
        let (cors, _) = read_file("[edge.cors]\norigins = [\"https://a.example\"]\nmax_age = \"1h\"\n");
        let cors = cors.expect("on");
        let asks = [
            ("origin", "https://a.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-a, content-type"),
        ];
        let answer = cors.preflight(&head(Method::OPTIONS, &asks)).expect("an answer");
        assert_eq!(answer.status, 204);
        for (name, value) in [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE"),
            ("access-control-allow-headers", "x-a, content-type"),
            ("access-control-max-age", "3600"),
            ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ] {
            assert_eq!(answer.fields.find(name), Some(value.as_bytes()), "{name}");
        }
        let stranger = [("origin", "https://b.example"), ("access-control-request-method", "PUT")];
        let refused = cors.preflight(&head(Method::OPTIONS, &stranger)).expect("an answer");
        assert!(!all(&refused.fields).to_lowercase().contains("access-control-allow"), "{:?}", refused.fields);
        assert!(cors.preflight(&head(Method::OPTIONS, &asks[..1])).is_none(), "OPTIONS of the app");
        assert!(cors.preflight(&head(Method::POST, &asks)).is_none());
    }

    #[test]
    fn what_would_open_the_door_is_a_fault() {
        for (file, word) in [
            ("[edge.cors]\norigins = [\"*\"]\ncredentials = true\n", "credentials"),
            ("environment = \"production\"\n[edge.cors]\norigins = [\"http://localhost:3000\"]\n", "production"),
            ("environment = \"production\"\n[edge.cors]\norigins = [\"http://127.0.0.1\"]\n", "production"),
            ("environment = \"production\"\n[edge.cors]\norigins = [\"http://[::1]:3000\"]\n", "production"),
            ("[edge.cors]\norigins = [\"null\"]\n", "not an origin"),
            ("[edge.cors]\norigins = [\"https://*.example.com\"]\n", "not an origin"),
            ("[edge.cors]\n", "without an origin"),
        ] {
            let (_, faults) = read_file(file);
            assert!(faults.iter().any(|f| f.contains(word)), "{file}: {faults:?}");
        }
        assert!(
            read_file("environment = \"development\"\n[edge.cors]\norigins = [\"http://localhost:3000\"]\n")
                .1
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn an_origin_stays_itself(text in "\\PC{0,40}") {
            if let Ok((origin, host)) = parse_origin(&text) {
                prop_assert_eq!(parse_origin(&origin), Ok((origin.clone(), host)));
                prop_assert!(origin.bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
