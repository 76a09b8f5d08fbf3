//! `mainstay why ID`: the account of one request, from its access line, for people and for programs.

use crate::metrics::RecentError;
use crate::{Outcome, Verdict, time};
use serde_json::{Map, Value};
use std::fmt::Write;

/// An access line read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    pub timestamp: String,
    pub level: String,
    pub environment: String,
    pub request_id: String,
    pub client_request_id: String,
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: String,
    pub duration_ms: f64,
    pub first_byte_ms: Option<f64>,
    pub held_ms: u64,
    pub method: String,
    pub path: String,
    pub path_cut: bool,
    pub status: u16,
    pub http: String,
    pub tls: bool,
    pub upgraded: bool,
    pub client_gone: bool,
    pub route: String,
    pub app: String,
    pub instance: String,
    pub client: String,
    /// Empty if the client itself was connected.
    pub peer: String,
    pub trusted_by: String,
    pub agent: String,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Empty if the app's own answer was passed on.
    pub code: String,
    /// Empty if no rule of the configuration decided.
    pub rule: String,
    pub tries: Vec<EntryTry>,
    /// The line itself.
    json: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntryTry {
    pub instance: String,
    pub outcome: String,
    pub ms: u64,
}

impl Entry {
    /// None for a line that is no access line.
    pub fn parse(line: &str) -> Option<Entry> {
        let json: Map<String, Value> = serde_json::from_str(line).ok()?;
        let text = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| json.get(key).and_then(Value::as_u64).unwrap_or_default();
        let flag = |key: &str| json.get(key).and_then(Value::as_bool).unwrap_or_default();
        let millis = |key: &str| json.get(key).and_then(Value::as_f64);
        if text("kind") != "access" {
            return None;
        }
        let tries = json.get("tries").and_then(Value::as_array).into_iter().flatten().map(EntryTry::of).collect();
        Some(Entry {
            timestamp: text("timestamp"),
            level: text("level"),
            environment: text("environment"),
            request_id: text("requestId"),
            client_request_id: text("clientRequestId"),
            trace_id: text("traceId"),
            span_id: text("spanId"),
            parent_id: text("parentId"),
            duration_ms: millis("duration").unwrap_or_default(),
            first_byte_ms: millis("firstByte"),
            held_ms: number("held"),
            method: text("method"),
            path: text("path"),
            path_cut: flag("pathCut"),
            status: u16::try_from(number("status")).unwrap_or_default(),
            http: text("http"),
            tls: flag("tls"),
            upgraded: flag("upgraded"),
            client_gone: flag("clientGone"),
            route: text("route"),
            app: text("app"),
            instance: text("instance"),
            client: text("client"),
            peer: text("peer"),
            trusted_by: text("trustedBy"),
            agent: text("agent"),
            bytes_in: number("bytesIn"),
            bytes_out: number("bytesOut"),
            code: text("code"),
            rule: text("rule"),
            tries,
            json,
        })
    }

    /// The line's own fields, and what the code means.
    pub fn to_json(&self) -> Value {
        let mut json = self.json.clone();
        json.insert("explanation".into(), self.explanation().into());
        if let Some(page) = self.page() {
            json.insert("docs".into(), page.into());
        }
        Value::Object(json)
    }

    /// Where the code is explained at length.
    pub fn page(&self) -> Option<String> {
        (!self.code.is_empty()).then(|| format!("docs/errors/{}.md", self.code))
    }

    /// One sentence: who ended the request, and why.
    pub fn explanation(&self) -> String {
        let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.code() == self.code);
        match (verdict, self.code.as_str()) {
            (Some(verdict), _) => verdict.sentence().to_owned(),
            (None, "") if self.status >= 500 => format!("The app itself answered {}.", self.status),
            (None, "") => "The request was answered by the app.".to_owned(),
            (None, code) => format!("Ended with code {code}."),
        }
    }

    /// Several lines, each with its label; without the last newline.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let cut = if self.path_cut { "…" } else { "" };
        let (id, method, path, status) = (&self.request_id, &self.method, &self.path, self.status);
        // A path is the client's: nothing in it may reach the terminal as a command.
        let _ = write!(out, "{id} {method} {}{cut} -> {status} in {} ms", printable(path), self.duration_ms);
        let _ = write!(out, "   {}", self.timestamp);
        let why = match self.code.as_str() {
            "" => self.explanation(),
            code => format!("{code}: {}", self.explanation()),
        };
        row(&mut out, "why", &why);
        row(&mut out, "rule", if self.rule.is_empty() { self.default_rule() } else { &self.rule });
        self.render_way(&mut out);
        self.render_client(&mut out);
        self.render_rest(&mut out);
        out
    }

    fn default_rule(&self) -> &'static str {
        if self.code.is_empty() { "none: passed on" } else { "built in" }
    }

    fn render_way(&self, out: &mut String) {
        let app = if self.app.is_empty() { String::new() } else { format!("   app {}", self.app) };
        if !self.route.is_empty() || !app.is_empty() {
            row(out, "route", format!("{}{app}", printable(&self.route)).trim_start());
        }
        if self.held_ms > 0 {
            row(out, "held", &format!("{} ms, until an instance was ready", self.held_ms));
        }
        for (i, attempt) in self.tries.iter().enumerate() {
            let EntryTry { instance, outcome, ms } = attempt;
            let instance = if instance.is_empty() { "?" } else { instance };
            row(out, "try", &format!("{}  {instance} {} after {ms} ms", i + 1, Outcome::explain(outcome)));
        }
        if !self.instance.is_empty() {
            let number = self.tries.len() + 1;
            let first = match self.first_byte_ms {
                Some(ms) => format!("first byte after {ms} ms"),
                None => "gave no answer".to_owned(),
            };
            let label = if self.tries.is_empty() { "instance" } else { "try" };
            let number = if self.tries.is_empty() { String::new() } else { format!("{number}  ") };
            row(out, label, &format!("{number}{} {first}", self.instance));
        } else if self.tries.is_empty() {
            row(out, "instance", "none was asked");
        }
    }

    fn render_client(&self, out: &mut String) {
        let client = match (self.peer.is_empty(), self.trusted_by.is_empty()) {
            (true, _) => format!("{}, the address that was connected", self.client),
            (false, true) => format!("{} as told by peer {}", self.client, self.peer),
            (false, false) => format!(
                "{} from the forwarding headers, believed because peer {} is in trusted_proxies ({})",
                self.client, self.peer, self.trusted_by
            ),
        };
        row(out, "client", &client);
        if !self.agent.is_empty() {
            row(out, "agent", &printable(&self.agent));
        }
        if self.client_gone {
            row(out, "gone", "the client went away before the answer was complete");
        }
    }

    fn render_rest(&self, out: &mut String) {
        let over = if self.tls { " over TLS" } else { "" };
        let upgraded = if self.upgraded { ", upgraded" } else { "" };
        let (http, received, sent) = (&self.http, self.bytes_in, self.bytes_out);
        row(out, "sent", &format!("HTTP/{http}{over}{upgraded}, {received} bytes in, {sent} bytes out"));
        if !self.trace_id.is_empty() {
            let parent = if self.parent_id.is_empty() { "begun here" } else { "continued from the client's" };
            row(out, "trace", &format!("{}, {parent}", self.trace_id));
        }
        if !self.client_request_id.is_empty() {
            row(out, "their id", &printable(&self.client_request_id));
        }
        if let Some(page) = self.page() {
            row(out, "more", &page);
        }
    }
}

impl From<Entry> for RecentError {
    fn from(entry: Entry) -> RecentError {
        let kind = if entry.code.is_empty() { format!("http_{}", entry.status) } else { entry.code };
        RecentError {
            unix_us: time::parse_iso(&entry.timestamp).unwrap_or_default(),
            id: entry.request_id,
            kind,
            method: entry.method,
            route: if entry.route.is_empty() { "other".into() } else { entry.route },
            status: entry.status,
        }
    }
}

impl EntryTry {
    fn of(value: &Value) -> EntryTry {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let ms = value.get("ms").and_then(Value::as_u64).unwrap_or_default();
        EntryTry { instance: text("instance"), outcome: text("outcome"), ms }
    }
}

fn row(out: &mut String, label: &str, text: &str) {
    let _ = write!(out, "\n  {label:<9}{text}");
}

/// Control characters as escapes.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::{Cut, MethodCode, Names, Record, Redactor, RequestId, Try};

    fn line(record: &Record, names: &Names) -> String {
        let mut out = Vec::new();
        Access::new(names.clone(), "production", Redactor::default()).write_json(record, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_account_of_a_failure() {
        let names = Names::default();
        let attempt = |name: &str, outcome, millis| Some(Try { upstream: names.intern(name), outcome, millis });
        let record = Record {
            id: RequestId(*b"01k0c3x5yq7v9w2t4b6d8f0g2h"),
            started_unix_us: 1_769_947_200_000_000,
            total_us: 12_300,
            held_ms: 120,
            status: 502,
            method: MethodCode::Post,
            verdict: Verdict::UpstreamClosed,
            app: names.intern("main"),
            route: names.intern("/auth/login"),
            client: "203.0.113.9".parse().expect("address"),
            peer: "10.0.0.2".parse().expect("address"),
            trusted_by: names.intern("mainstay.toml:3"),
            tries: [attempt("main.2", Outcome::Refused, 1), attempt("main.1", Outcome::answered(503), 9), None],
            path: Cut::new("/auth/login"),
            trace_id: [0xab; 16],
            bytes_in: 5,
            bytes_out: 70,
            ..Record::EMPTY
        };
        let entry = Entry::parse(&line(&record, &names)).expect("entry");
        let expected = "\
r_01k0c3x5yq7v9w2t4b6d8f0g2h POST /auth/login -> 502 in 12.3 ms   2026-02-01T12:00:00.012Z
  why      upstream_closed: The service broke off before it answered.
  rule     built in
  route    /auth/login   app main
  held     120 ms, until an instance was ready
  try      1  main.2 refused the connection after 1 ms
  try      2  main.1 answered 503 after 9 ms
  client   203.0.113.9 from the forwarding headers, believed because peer 10.0.0.2 is in \
trusted_proxies (mainstay.toml:3)
  sent     HTTP/1.1, 5 bytes in, 70 bytes out
  trace    abababababababababababababababab, begun here
  more     docs/errors/upstream_closed.md";
        assert_eq!(entry.render(), expected);
        let json = entry.to_json();
        assert_eq!(json["docs"], "docs/errors/upstream_closed.md");
        assert_eq!(json["tries"][1]["outcome"], "status_503");
    }

    #[test]
    fn the_account_of_a_success_and_of_what_is_no_access_line() {
        let names = Names::default();
        let record = Record {
            status: 200,
            upstream: names.intern("main.1"),
            first_byte_us: 1500,
            path: Cut::new("/\u{1b}[2J"),
            ..Record::EMPTY
        };
        let text = Entry::parse(&line(&record, &names)).expect("entry").render();
        assert!(text.contains("GET /\\u{1b}[2J -> 200") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("instance main.1 first byte after 1.5 ms") && text.contains("none: passed on"), "{text}");
        assert!(!text.contains("more"));
        for line in ["", "{", "[]", "{}", r#"{"kind":"app"}"#] {
            assert_eq!(Entry::parse(line), None);
        }
    }
}
