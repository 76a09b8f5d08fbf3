//! One line to be logged that is not a request: what a child printed, or what Mainstay itself has to say.

use crate::Level;
use crate::json::key;
use crate::redact::Redactor;
use crate::{json, time};
use serde_json::Value;
use std::sync::Arc;

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Stream {
    Stdout,
    Stderr,
    /// Mainstay's own.
    Own,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub at_unix_us: u64,
    pub level: Level,
    /// Empty when it belongs to no app.
    pub app: Arc<str>,
    /// As `main.1`; empty when it belongs to none.
    pub instance: Arc<str>,
    pub stream: Stream,
    /// May hold terminal colours: they are kept on terminals and stripped from files.
    pub text: String,
    /// The text was longer than a line may be.
    pub cut: bool,
    /// 32 hexadecimal digits; empty if unknown.
    pub trace_id: String,
    /// Further fields; a child's are written under `app.`.
    pub fields: Vec<(String, Value)>,
}

/// Names that our own lines' fields may not take.
const RESERVED: [&str; 10] =
    ["level", "timestamp", "service", "environment", "kind", "message", "traceId", "app", "instance", "stream"];

impl Stream {
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
            Stream::Own => "own",
        }
    }
}

impl Line {
    /// Something Mainstay itself says.
    pub fn own(at_unix_us: u64, level: Level, text: impl Into<String>) -> Line {
        Line {
            at_unix_us,
            level,
            app: "".into(),
            instance: "".into(),
            stream: Stream::Own,
            text: text.into(),
            cut: false,
            trace_id: String::new(),
            fields: Vec::new(),
        }
    }

    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Line {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Roughly what it holds in memory, for the bound of the queue.
    pub fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum();
        size_of::<Line>() + self.text.len() + fields
    }

    /// Every string that came from outside goes through the redactor. Our own keys come first, the child's last:
    /// `read` depends on that.
    pub(crate) fn write_json(&self, environment: &str, secrets: &Redactor, out: &mut Vec<u8>) {
        let own = self.stream == Stream::Own;
        head(out, self.level, self.at_unix_us);
        json::text(out, key!("service"), if own { "mainstay" } else { &self.app });
        json::text(out, key!("environment"), environment);
        json::text(out, key!("kind"), if own { "mainstay" } else { "app" });
        let text = strip_ansi(&self.text);
        out.extend_from_slice(key!("message").as_bytes());
        let text = if self.cut { secrets.cut_text(&text) } else { secrets.text(&text) };
        json::string(out, &text);
        if !self.trace_id.is_empty() {
            json::text(out, key!("traceId"), &self.trace_id);
        }
        if !self.app.is_empty() {
            json::text(out, key!("app"), &self.app);
        }
        if !self.instance.is_empty() {
            json::text(out, key!("instance"), &self.instance);
        }
        if !own {
            json::text(out, key!("stream"), self.stream.as_str());
        }
        json::flag(out, key!("cut"), self.cut);
        for (name, value) in &self.fields {
            out.extend_from_slice(b",\"");
            if !own {
                out.extend_from_slice(b"app.");
            }
            secrets.json_inner(out, name);
            if own && RESERVED.contains(&name.as_str()) {
                out.push(b'_');
            }
            out.extend_from_slice(b"\":");
            write_value(out, value, secrets);
        }
        out.extend_from_slice(b"}\n");
    }

    /// For people: time, who, level unless it is info, the text as it was, then the fields.
    pub(crate) fn write_text(&self, color: bool, secrets: &Redactor, out: &mut Vec<u8>) {
        let paint = crate::paint::Paint(color);
        paint.dim(out, clock(&time::iso(self.at_unix_us)));
        out.push(b' ');
        let who = match (&*self.instance, &*self.app) {
            ("", "") => "mainstay",
            ("", app) => app,
            (instance, _) => instance,
        };
        paint.instance(out, who);
        if self.level != Level::Info {
            out.push(b' ');
            paint.level(out, self.level);
        }
        out.push(b' ');
        let plain = strip_ansi(&self.text);
        let is_clean = color && !self.cut && !secrets.is_match(&plain) && !secrets.is_match(&self.text);
        let text = match (is_clean, self.cut) {
            (true, _) => std::borrow::Cow::Borrowed(self.text.as_str()),
            (false, true) => secrets.cut_text(&plain),
            (false, false) => secrets.text(&plain),
        };
        out.extend_from_slice(text.as_bytes());
        if is_clean && plain.len() != text.len() {
            // A colour the app left open ends with its line.
            out.extend_from_slice(b"\x1b[0m");
        }
        for (name, value) in &self.fields {
            out.push(b' ');
            let mut pair = Vec::new();
            secrets.json_inner(&mut pair, name);
            pair.push(b'=');
            match value {
                Value::String(text) if !text.contains([' ', '"', '=']) => secrets.json_inner(&mut pair, text),
                value => write_value(&mut pair, value, secrets),
            }
            paint.dim(out, &String::from_utf8_lossy(&pair));
        }
        out.push(b'\n');
    }
}

/// `{"level":…,"timestamp":…`: every line begins with these two, in this order and width. `read` depends on it.
pub(crate) fn head(out: &mut Vec<u8>, level: Level, unix_us: u64) {
    out.extend_from_slice(b"{\"level\":\"");
    out.extend_from_slice(level.as_str().as_bytes());
    out.extend_from_slice(b"\",\"timestamp\":\"");
    let mut at = [0; time::ISO_BYTES];
    time::write_iso(unix_us, &mut at);
    out.extend_from_slice(&at);
    out.push(b'"');
}

/// The time of day out of an ISO time.
pub(crate) fn clock(iso: &str) -> &str {
    iso.get(11..19).unwrap_or("")
}

fn write_value(out: &mut Vec<u8>, value: &Value, secrets: &Redactor) {
    json::value(out, value, &|out, text| secrets.json_inner(out, text));
}

fn value_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(value_bytes).sum(),
            Value::Object(members) => members.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
            _ => 0,
        }
}

/// Without terminal sequences (CSI, OSC and single escapes); borrowed when there are none.
pub fn strip_ansi(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains(['\x1b', '\u{9b}']) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let is_csi = match c {
            '\u{9b}' => true,
            '\x1b' => match chars.next() {
                Some('[') => true,
                Some(']' | 'P' | '_' | '^') => {
                    skip_string(&mut chars);
                    continue;
                }
                // Two-character sequences; a few carry one more.
                Some('(' | ')' | '#' | '%') => {
                    chars.next();
                    continue;
                }
                _ => continue,
            },
            c => {
                out.push(c);
                continue;
            }
        };
        if is_csi {
            // Parameters, then one final character.
            chars.by_ref().find(|c| ('\x40'..='\x7e').contains(c));
        }
    }
    out.into()
}

/// Up to the bell or `ESC \`.
fn skip_string(chars: &mut std::str::Chars<'_>) {
    while let Some(c) = chars.next() {
        match c {
            '\x07' | '\u{9c}' => return,
            '\x1b' => {
                chars.next();
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn line(text: &str) -> Line {
        Line {
            app: "main".into(),
            instance: "main.1".into(),
            stream: Stream::Stdout,
            ..Line::own(1, Level::Info, text)
        }
    }

    fn written(line: &Line, secrets: &Redactor) -> Value {
        let mut out = Vec::new();
        line.write_json("production", secrets, &mut out);
        assert_eq!(out.iter().filter(|c| **c == b'\n').count(), 1);
        serde_json::from_slice(&out).expect("a line is JSON")
    }

    #[test]
    fn a_childs_fields_are_its_own_and_hold_no_secret() {
        let secrets = Redactor::new([("TOKEN", "tok_123456"), ("PIN", "424242")]);
        let line = line("\x1b[32mtok_1\x1b[0m23456 sent")
            .field("userId", "user_xyz789")
            .field("level", 7)
            .field("deep", json!({"a": ["tok_123456", 424242, null, true]}))
            .field("tok_123456", 424242);
        assert_eq!(
            written(&line, &secrets),
            json!({
                "level": "info", "timestamp": "1970-01-01T00:00:00.000Z", "service": "main",
                "environment": "production", "kind": "app", "message": "[secret TOKEN] sent",
                "app": "main", "instance": "main.1", "stream": "stdout",
                "app.userId": "user_xyz789", "app.level": 7,
                "app.deep": {"a": ["[secret TOKEN]", "[secret PIN]", null, true]},
                "app.[secret TOKEN]": "[secret PIN]",
            })
        );
        let mut out = Vec::new();
        line.write_text(true, &secrets, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert!(!text.contains("tok_1") && !text.contains("424242"), "{text}");
    }

    #[test]
    fn our_own_fields_cannot_take_our_keys() {
        let value = written(&Line::own(1, Level::Warn, "x").field("level", "y").field("n", 1), &Redactor::default());
        assert_eq!((&value["level"], &value["level_"], &value["n"]), (&json!("warn"), &json!("y"), &json!(1)));
        assert_eq!(value["service"], "mainstay");
    }

    #[test]
    fn terminal_sequences_are_stripped() {
        for (text, plain) in [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b(Bplain\x1b", "plain"),
            ("a\x1b[", "a"),
            ("none", "none"),
        ] {
            assert_eq!(strip_ansi(text), plain);
        }
    }

    #[test]
    fn a_person_reads_time_who_and_text() {
        let mut out = Vec::new();
        let line = line("hello").field("n", 1).field("what", "two words");
        Line { level: Level::Error, ..line }.write_text(false, &Redactor::default(), &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "00:00:00 main.1 error hello n=1 what=\"two words\"\n");
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_line(text: String, name: String, field: String, cut: bool) {
            let line = Line { cut, ..line(&text).field(&name, field.clone()) };
            let value = written(&line, &Redactor::default());
            prop_assert_eq!(&value["message"], &strip_ansi(&text).into_owned());
            prop_assert_eq!(&value[format!("app.{name}")], &field);
            line.write_text(true, &Redactor::default(), &mut Vec::new());
        }
    }
}
