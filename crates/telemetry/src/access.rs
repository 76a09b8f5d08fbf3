//! A record as a line: JSON for files and collectors (S1), one short line for people.
//!
//! Written by hand into a buffer that is used again. Whatever `why` prints is in the JSON, so that it can be told
//! from the files after a crash.

use crate::json::key;
use crate::paint::Paint;
use crate::redact::Redactor;
use crate::{CacheCode, Cut, Level, Names, Record, Verdict};
use crate::{json, line, time, traceparent};
use std::io::Write as _;
use std::net::IpAddr;

/// An answer that took longer than this to begin is a warning, and its trail is kept.
pub const SLOW_US: u64 = 1_000_000;

/// Writes records; owned by the one thread that does so.
#[derive(Debug)]
pub struct Access {
    names: Names,
    /// Names as JSON with its quotes, by number: each is asked for and escaped once.
    quoted: Vec<Option<Box<[u8]>>>,
    /// The path of the record at hand, escaped.
    path: Vec<u8>,
    pub environment: String,
    pub secrets: Redactor,
}

/// 5xx is an error, slow is a warning; a refusal is the client's affair and plain information.
pub fn level(record: &Record) -> Level {
    match record.status {
        500.. => Level::Error,
        _ if is_slow(record) => Level::Warn,
        _ => Level::Info,
    }
}

/// By the first byte, where one came: a long download, an event stream or a socket is not slow.
pub fn is_slow(record: &Record) -> bool {
    match record.first_byte_us {
        0 => record.total_us > SLOW_US && !record.upgraded,
        first => u64::from(first) > SLOW_US,
    }
}

/// Worth a trail: refused, failed, retried, held or slow.
pub fn is_notable(record: &Record) -> bool {
    record.status >= 500
        || record.verdict != Verdict::Ok
        || record.tries[0].is_some()
        || record.held_ms > 0
        || is_slow(record)
}

impl Access {
    pub fn new(names: Names, environment: &str, secrets: Redactor) -> Access {
        Access { names, quoted: Vec::new(), path: Vec::new(), environment: environment.to_owned(), secrets }
    }

    /// One line with its newline.
    pub fn write_json(&mut self, record: &Record, out: &mut Vec<u8>) {
        line::head(out, level(record), record.started_unix_us + record.total_us);
        out.extend_from_slice(key!("service").as_bytes());
        match record.app {
            Names::NONE => out.extend_from_slice(b"\"mainstay\""),
            app => self.name(out, app),
        }
        json::text(out, key!("environment"), &self.environment);
        json::word(out, key!("kind"), "access");
        // The path goes out twice: cleaned and escaped once.
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        json::inner(&mut path, &self.clean(&record.path));
        message(record, &path, out);
        self.ids(record, out);
        json::millis(out, key!("duration"), record.total_us);
        json::word(out, key!("method"), record.method.as_str());
        out.extend_from_slice(key!("path").as_bytes());
        out.push(b'"');
        out.extend_from_slice(&path);
        out.push(b'"');
        self.path = path;
        json::flag(out, key!("pathCut"), record.path.is_cut());
        json::number(out, key!("status"), u64::from(record.status));
        self.named(out, key!("route"), record.route);
        self.named(out, key!("app"), record.app);
        self.named(out, key!("instance"), record.upstream);
        self.client(record, out);
        self.outcome(record, out);
        self.tries(record, out);
        out.extend_from_slice(b"}\n");
    }

    fn ids(&self, record: &Record, out: &mut Vec<u8>) {
        hex(out, key!("traceId"), &record.trace_id);
        out.extend_from_slice(key!("requestId").as_bytes());
        out.extend_from_slice(b"\"r_");
        out.extend_from_slice(record.id.as_str().as_bytes());
        out.push(b'"');
        hex(out, key!("spanId"), &record.span_id);
        hex(out, key!("parentId"), &record.parent_id);
        if !record.client_request_id.as_str().is_empty() {
            self.cut_text(out, key!("clientRequestId"), &record.client_request_id);
        }
    }

    fn client(&mut self, record: &Record, out: &mut Vec<u8>) {
        address(out, key!("client"), record.client);
        if record.peer != record.client {
            address(out, key!("peer"), record.peer);
        }
        self.named(out, key!("trustedBy"), record.trusted_by);
        if !record.agent.as_str().is_empty() {
            self.cut_text(out, key!("agent"), &record.agent);
        }
        let version = match record.version {
            10 => "1.0",
            20 => "2",
            30 => "3",
            _ => "1.1",
        };
        json::word(out, key!("http"), version);
        json::flag(out, key!("tls"), record.tls);
        json::number(out, key!("bytesIn"), record.bytes_in);
        json::number(out, key!("bytesOut"), record.bytes_out);
    }

    fn outcome(&mut self, record: &Record, out: &mut Vec<u8>) {
        if record.first_byte_us > 0 {
            json::millis(out, key!("firstByte"), u64::from(record.first_byte_us));
        }
        if record.held_ms > 0 {
            json::number(out, key!("held"), u64::from(record.held_ms));
        }
        if record.cache != CacheCode::Off {
            json::word(out, key!("cache"), record.cache.code());
        }
        json::flag(out, key!("upgraded"), record.upgraded);
        json::flag(out, key!("clientGone"), record.client_gone);
        if record.verdict != Verdict::Ok {
            json::word(out, key!("code"), record.verdict.code());
        }
        self.named(out, key!("rule"), record.rule);
    }

    fn tries(&mut self, record: &Record, out: &mut Vec<u8>) {
        if record.tries[0].is_none() {
            return;
        }
        out.extend_from_slice(key!("tries").as_bytes());
        for (i, attempt) in record.tries.iter().flatten().enumerate() {
            out.extend_from_slice(if i == 0 { b"[{\"instance\":" } else { b",{\"instance\":" });
            self.name(out, attempt.upstream);
            json::word(out, key!("outcome"), attempt.outcome.code());
            json::number(out, key!("ms"), u64::from(attempt.millis));
            out.push(b'}');
        }
        out.push(b']');
    }

    /// `12:03:04 GET /path 200 1.2 ms main.1 r_…`
    pub fn write_text(&mut self, record: &Record, color: bool, out: &mut Vec<u8>) {
        let paint = Paint(color);
        let ended = time::iso(record.started_unix_us + record.total_us);
        paint.dim(out, line::clock(&ended));
        out.push(b' ');
        out.extend_from_slice(record.method.as_str().as_bytes());
        out.push(b' ');
        // A path is the client's: nothing in it may reach the terminal as a command.
        json::inner(out, &self.clean(&record.path));
        out.push(b' ');
        paint.status(out, record.status);
        let _ = write!(out, " {}.{} ms ", record.total_us / 1000, record.total_us % 1000 / 100);
        if record.verdict != Verdict::Ok {
            let _ = write!(out, "{} ", record.verdict.code());
        }
        if record.upstream != Names::NONE {
            paint.instance(out, &self.names.get(record.upstream));
            out.push(b' ');
        }
        paint.dim(out, &record.id.to_string());
        out.push(b'\n');
    }

    fn cut_text<const N: usize>(&self, out: &mut Vec<u8>, key: &str, text: &Cut<N>) {
        json::text(out, key, &self.clean(text));
    }

    fn clean<'a, const N: usize>(&self, text: &'a Cut<N>) -> std::borrow::Cow<'a, str> {
        match text.is_cut() {
            true => self.secrets.cut_text(text.as_str()),
            false => self.secrets.text(text.as_str()),
        }
    }

    /// Nothing when there is no name.
    fn named(&mut self, out: &mut Vec<u8>, key: &str, name: u32) {
        if name != Names::NONE {
            out.extend_from_slice(key.as_bytes());
            self.name(out, name);
        }
    }

    fn name(&mut self, out: &mut Vec<u8>, name: u32) {
        let index = name as usize;
        if index >= self.quoted.len() {
            // Numbers are given out in order, up to `names::NAMES_MAX`; anything else is a fault of the writer's.
            let wanted = (index + 1).min(crate::names::NAMES_MAX);
            self.quoted.resize_with(wanted.max(self.quoted.len()), || None);
        }
        let names = &self.names;
        let quote = || {
            let mut quoted = Vec::new();
            json::string(&mut quoted, &names.get(name));
            quoted.into_boxed_slice()
        };
        match self.quoted.get_mut(index) {
            Some(slot) => out.extend_from_slice(slot.get_or_insert_with(quote)),
            None => out.extend_from_slice(b"\"other\""),
        }
    }
}

/// `GET /path 200`.
fn message(record: &Record, path: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(concat!(key!("message"), "\"").as_bytes());
    out.extend_from_slice(record.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path);
    out.push(b' ');
    json::digits(out, u64::from(record.status));
    out.push(b'"');
}

/// Nothing when it is all zero, which means "none".
fn hex<const N: usize>(out: &mut Vec<u8>, key: &str, bytes: &[u8; N]) {
    if *bytes == [0; N] {
        return;
    }
    out.extend_from_slice(key.as_bytes());
    let mut digits = [0; 32];
    traceparent::write_hex(bytes, &mut digits[..N * 2]);
    out.push(b'"');
    out.extend_from_slice(&digits[..N * 2]);
    out.push(b'"');
}

fn address(out: &mut Vec<u8>, key: &str, address: IpAddr) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    match address {
        IpAddr::V4(v4) => {
            for (i, octet) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                json::digits(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MethodCode, Outcome, RequestId, Try};
    use serde_json::{Value, json};

    fn full(names: &Names) -> Record {
        Record {
            id: RequestId(*b"01k0c3x5yq7v9w2t4b6d8f0g2h"),
            started_unix_us: 1_769_947_200_000_000,
            total_us: 12_345,
            first_byte_us: 11_000,
            held_ms: 7,
            status: 502,
            method: MethodCode::Post,
            tls: true,
            verdict: Verdict::UpstreamClosed,
            rule: names.intern("mainstay.toml:9"),
            app: names.intern("main"),
            route: names.intern("/auth/login"),
            upstream: names.intern("main.1"),
            bytes_in: 5,
            bytes_out: 70,
            client: "203.0.113.9".parse().expect("address"),
            peer: "2001:db8::1".parse().expect("address"),
            trusted_by: names.intern("mainstay.toml:3"),
            trace_id: [0xab; 16],
            span_id: [1; 8],
            tries: [Some(Try { upstream: names.intern("main.2"), outcome: Outcome::Refused, millis: 1 }), None, None],
            path: Cut::new("/auth/\"login\"\u{1}/hunter22"),
            client_request_id: Cut::new("abc"),
            agent: Cut::new("curl/8"),
            ..Record::EMPTY
        }
    }

    #[test]
    fn a_line_holds_everything_a_record_knows() {
        let names = Names::default();
        let record = full(&names);
        let mut access = Access::new(names, "production", Redactor::new([("PASS", "hunter22")]));
        let mut out = Vec::new();
        access.write_json(&record, &mut out);
        let value: Value = serde_json::from_slice(&out).expect("json");
        assert_eq!(
            value,
            json!({
                "level": "error", "timestamp": "2026-02-01T12:00:00.012Z", "service": "main",
                "environment": "production", "kind": "access",
                "message": "POST /auth/\"login\"\u{1}/[secret PASS] 502",
                "traceId": "ab".repeat(16), "requestId": "r_01k0c3x5yq7v9w2t4b6d8f0g2h",
                "spanId": "01".repeat(8), "clientRequestId": "abc", "duration": 12.345, "method": "POST",
                "path": "/auth/\"login\"\u{1}/[secret PASS]", "status": 502, "route": "/auth/login",
                "app": "main", "instance": "main.1", "client": "203.0.113.9", "peer": "2001:db8::1",
                "trustedBy": "mainstay.toml:3", "agent": "curl/8", "http": "1.1", "tls": true, "bytesIn": 5,
                "bytesOut": 70, "firstByte": 11.0, "held": 7, "code": "upstream_closed", "rule": "mainstay.toml:9",
                "tries": [{"instance": "main.2", "outcome": "refused", "ms": 1}],
            })
        );
        out.clear();
        access.write_json(&Record::EMPTY, &mut out);
        let value: Value = serde_json::from_slice(&out).expect("json");
        assert_eq!((&value["service"], &value["client"]), (&json!("mainstay"), &json!("0.0.0.0")));
        assert_eq!(value.get("tries"), None);
    }

    #[test]
    fn a_person_reads_one_short_line() {
        let names = Names::default();
        let record = full(&names);
        let mut access = Access::new(names, "development", Redactor::default());
        let mut out = Vec::new();
        access.write_text(&record, false, &mut out);
        let text = String::from_utf8(out).expect("text");
        let expected = "12:00:00 POST /auth/\\\"login\\\"\\u0001/hunter22 502 12.3 ms upstream_closed main.1 \
                        r_01k0c3x5yq7v9w2t4b6d8f0g2h\n";
        assert_eq!(text, expected);
        let mut colored = Vec::new();
        access.write_text(&record, true, &mut colored);
        assert_eq!(line::strip_ansi(&String::from_utf8_lossy(&colored)), text);
    }

    #[test]
    fn what_is_notable_and_how_much() {
        let base = Record { status: 200, total_us: 10, ..Record::EMPTY };
        let cases = [
            (base, false, Level::Info),
            (Record { status: 404, ..base }, false, Level::Info),
            (Record { status: 500, ..base }, true, Level::Error),
            (Record { status: 413, verdict: Verdict::BodyTooLarge, ..base }, true, Level::Info),
            (Record { held_ms: 1, ..base }, true, Level::Info),
            (Record { total_us: SLOW_US + 1, ..base }, true, Level::Warn),
            (Record { total_us: SLOW_US * 90, first_byte_us: 900, ..base }, false, Level::Info),
            (Record { total_us: SLOW_US * 90, upgraded: true, ..base }, false, Level::Info),
        ];
        for (record, notable, at) in cases {
            assert_eq!((is_notable(&record), level(&record)), (notable, at), "{record:?}");
        }
    }
}
