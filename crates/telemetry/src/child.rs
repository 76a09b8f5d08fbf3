//! A child's output: bytes from its pipes in, lines out. Bounded in length and in rate, and never trusted.

use crate::line::{self, Line, Stream};
use crate::{Level, time};
use mainstay_runtime::Millis;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What of one line is kept. More is a dump, not a message.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Per instance, both streams together; as much may come at once. A flood must not fill the disk in an hour.
pub const RATE_BYTES_PER_S: u64 = 1 << 20;
/// How often what was dropped is said.
const SAY_EVERY_MS: u64 = 1000;
/// An app's own time is believed if it is this close to ours.
const CLOCK_SKEW_US: u64 = 60_000_000;
/// A level written as a word stands near the beginning of a line.
const LEVEL_WITHIN_BYTES: usize = 80;

/// The output of one instance.
#[derive(Debug)]
pub struct Output {
    app: Arc<str>,
    instance: Arc<str>,
    streams: [Partial; 2],
    bucket: Bucket,
    dropped: Dropped,
}

/// One stream's unfinished line.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// Bytes of this line past the limit.
    beyond: u64,
    /// For continuation lines, as of a stack trace.
    last_level: Option<Level>,
}

#[derive(Debug, Default)]
struct Dropped {
    lines: u64,
    bytes: u64,
    said: Millis,
}

/// A token bucket. Pure: time is an argument.
#[derive(Debug)]
struct Bucket {
    tokens: u64,
    at: Millis,
}

impl Bucket {
    fn take(&mut self, now: Millis, wanted: u64) -> bool {
        let elapsed_ms = now.0.saturating_sub(self.at.0);
        let earned = elapsed_ms.saturating_mul(RATE_BYTES_PER_S) / 1000;
        // A step too short to earn a byte must not lose its time.
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(RATE_BYTES_PER_S);
            self.at = now;
        }
        let has_enough = self.tokens >= wanted;
        if has_enough {
            self.tokens -= wanted;
        }
        has_enough
    }
}

impl Output {
    /// `instance` as it is to be shown: `main.1`.
    pub fn new(app: &str, instance: &str) -> Output {
        Output {
            app: app.into(),
            instance: instance.into(),
            streams: Default::default(),
            bucket: Bucket { tokens: RATE_BYTES_PER_S, at: Millis(0) },
            dropped: Dropped::default(),
        }
    }

    /// What was read from one of the pipes, cut anywhere.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], now: Millis, unix_us: u64, mut emit: impl FnMut(Line)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|c| *c == b'\n') {
            self.streams[index(stream)].append(&rest[..end]);
            self.finish(stream, now, unix_us, &mut emit);
            rest = &rest[end + 1..];
        }
        self.streams[index(stream)].append(rest);
        self.tick(now, unix_us, emit);
    }

    /// The pipe was closed: a last line without a newline counts too.
    pub fn end(&mut self, stream: Stream, now: Millis, unix_us: u64, mut emit: impl FnMut(Line)) {
        if !self.streams[index(stream)].bytes.is_empty() {
            self.finish(stream, now, unix_us, &mut emit);
        }
        self.say_dropped(now, unix_us, emit);
    }

    /// The beginning of a line whose end has not been read; for whoever reads on.
    pub fn take_begun(&mut self, stream: Stream) -> Vec<u8> {
        std::mem::take(&mut self.streams[index(stream)].bytes)
    }

    /// To be called about once a second while `has_dropped`, so that a flood that ends is told of.
    pub fn tick(&mut self, now: Millis, unix_us: u64, emit: impl FnMut(Line)) {
        if self.dropped.lines > 0 && now.0.saturating_sub(self.dropped.said.0) >= SAY_EVERY_MS {
            self.say_dropped(now, unix_us, emit);
        }
    }

    pub fn has_dropped(&self) -> bool {
        self.dropped.lines > 0
    }

    fn say_dropped(&mut self, now: Millis, unix_us: u64, mut emit: impl FnMut(Line)) {
        let Dropped { lines, bytes, .. } =
            std::mem::replace(&mut self.dropped, Dropped { said: now, ..Dropped::default() });
        if lines > 0 {
            let s = if lines == 1 { "" } else { "s" };
            let text = format!("dropped {lines} line{s} of output: more than 1 MiB/s");
            let line = Line::own(unix_us, Level::Warn, text).field("lines", lines).field("bytes", bytes);
            emit(Line { app: self.app.clone(), instance: self.instance.clone(), ..line });
        }
    }

    fn finish(&mut self, stream: Stream, now: Millis, unix_us: u64, emit: &mut impl FnMut(Line)) {
        let partial = &mut self.streams[index(stream)];
        let beyond = std::mem::take(&mut partial.beyond);
        let mut bytes = std::mem::take(&mut partial.bytes);
        let whole = bytes.len() as u64 + beyond + 1;
        if !self.bucket.take(now, bytes.len() as u64 + 1) {
            if self.dropped.lines == 0 && self.dropped.said == Millis(0) {
                self.dropped.said = now;
            }
            self.dropped.lines += 1;
            self.dropped.bytes += whole;
        } else {
            let end = bytes.iter().rposition(|c| *c != b'\r').map_or(0, |at| at + 1);
            let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let mut line = Line {
                app: self.app.clone(),
                instance: self.instance.clone(),
                stream,
                cut: beyond > 0,
                ..Line::own(unix_us, Level::Info, text)
            };
            read_line(&mut line, &mut partial.last_level);
            if beyond > 0 {
                line.fields.push(("cutBytes".to_owned(), beyond.into()));
            }
            emit(line);
        }
        // The room is used again, but a long line's is given back.
        bytes.clear();
        bytes.shrink_to(LINE_BYTES_MAX / 16);
        partial.bytes = bytes;
    }
}

fn index(stream: Stream) -> usize {
    usize::from(stream != Stream::Stdout)
}

impl Partial {
    fn append(&mut self, bytes: &[u8]) {
        let (kept, beyond) = bytes.split_at(bytes.len().min(LINE_BYTES_MAX - self.bytes.len()));
        self.bytes.extend_from_slice(kept);
        self.beyond += beyond.len() as u64;
    }
}

/// JSON gives its own level, message, time and trace; of plain text the level is guessed.
fn read_line(line: &mut Line, last_level: &mut Option<Level>) {
    let trimmed = line.text.trim();
    let looks_json = !line.cut && trimmed.starts_with('{') && trimmed.ends_with('}');
    if looks_json && let Ok(members) = serde_json::from_str::<Map<String, Value>>(trimmed) {
        read_json(line, members);
        *last_level = None;
        return;
    }
    let plain = line::strip_ansi(&line.text);
    line.level = match (guess_level(&plain), last_level.as_ref()) {
        (Some(level), _) => level,
        (None, Some(last)) if plain.starts_with([' ', '\t']) => *last,
        (None, _) if line.stream == Stream::Stderr => Level::Warn,
        (None, _) => Level::Info,
    };
    *last_level = Some(line.level);
}

fn read_json(line: &mut Line, mut members: Map<String, Value>) {
    let level = take(&mut members, &["level", "severity", "levelname", "log.level", "lvl"], |value| match value {
        Value::String(word) => Level::foreign(word),
        Value::Number(number) => number.as_f64().map(Level::number),
        _ => None,
    });
    line.level = level.unwrap_or(if line.stream == Stream::Stderr { Level::Warn } else { Level::Info });
    let at = line.at_unix_us;
    let own_time = take(&mut members, &["timestamp", "time", "@timestamp", "ts", "asctime"], |value| {
        read_time(value).filter(|own| own.abs_diff(at) <= CLOCK_SKEW_US)
    });
    line.at_unix_us = own_time.unwrap_or(at);
    let trace = take(&mut members, &["traceId", "trace_id", "trace.id"], |value| {
        let id = value.as_str()?;
        (id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit())).then(|| id.to_ascii_lowercase())
    });
    line.trace_id = trace.unwrap_or_default();
    let message = take(&mut members, &["message", "msg", "event"], |value| value.as_str().map(str::to_owned));
    line.text = message.unwrap_or_default();
    line.fields = members.into_iter().collect();
}

/// The first of these members that can be read is taken out; what cannot stays a field.
fn take<T>(members: &mut Map<String, Value>, keys: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    let (key, found) = keys.iter().find_map(|key| Some((*key, read(members.get(*key)?)?)))?;
    members.shift_remove(key);
    Some(found)
}

/// ISO 8601, Python's `2026-02-01 12:00:00,123`, or a number of seconds, milliseconds or microseconds.
fn read_time(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => time::parse_iso(text).or_else(|| {
            let text = text.replacen(' ', "T", 1).replacen(',', ".", 1);
            time::parse_iso(&format!("{text}Z"))
        }),
        Value::Number(number) => match number.as_f64()? {
            n if n < 1e8 => None,
            n if n < 1e11 => Some((n * 1e6) as u64),
            n if n < 1e14 => Some((n * 1e3) as u64),
            n if n < 1e17 => Some(n as u64),
            _ => None,
        },
        _ => None,
    }
}

/// A word that names a level, in capitals or in brackets or before a colon, near the beginning; or what every
/// language writes when something was thrown.
fn guess_level(text: &str) -> Option<Level> {
    const THROWN: [&str; 6] = ["Error:", "Exception", "Traceback (most recent", "panicked at", "Unhandled", "panic: "];
    let mut end = text.len().min(LEVEL_WITHIN_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let mut start = 0;
    for (at, c) in head.char_indices().chain(std::iter::once((end, ' '))) {
        if c.is_ascii_alphabetic() {
            continue;
        }
        let word = &head[start..at];
        let before = head[..start].chars().next_back();
        let is_marked = word.bytes().all(|c| c.is_ascii_uppercase()) || (before == Some('[') && c == ']') || c == ':';
        if (4..=8).contains(&word.len())
            && is_marked
            && before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '/' | '.'))
            && let Some(level) = Level::foreign(word)
        {
            return Some(level);
        }
        start = at + c.len_utf8();
    }
    THROWN.iter().any(|sign| text.contains(sign)).then_some(Level::Error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const NOON_US: u64 = 1_769_947_200_000_000;

    fn lines(stream: Stream, bytes: &[u8]) -> Vec<Line> {
        let mut output = Output::new("main", "main.1");
        let mut lines = Vec::new();
        output.push(stream, bytes, Millis(0), NOON_US, |line| lines.push(line));
        output.end(stream, Millis(0), NOON_US, |line| lines.push(line));
        lines
    }

    #[test]
    fn the_loggers_of_the_guides_are_understood() {
        for (text, level, message, at_ms, fields) in [
            (r#"{"level":50,"time":1769947200250,"pid":7,"msg":"boom"}"#, Level::Error, "boom", 250, json!({"pid": 7})),
            (r#"{"level":"warn","message":"m","timestamp":"2026-02-01T12:00:01Z"}"#, Level::Warn, "m", 1000, json!({})),
            (
                r#"{"v":0,"level":20,"name":"x","msg":"b","time":"2026-02-01T12:00:00.5Z"}"#,
                Level::Debug,
                "b",
                500,
                json!({"v": 0, "name": "x"}),
            ),
            (
                r#"{"asctime":"2026-02-01 12:00:00,123","levelname":"CRITICAL","message":"p"}"#,
                Level::Error,
                "p",
                123,
                json!({}),
            ),
            (
                r#"{"event":"s","level":"info","timestamp":"yesterday"}"#,
                Level::Info,
                "s",
                0,
                json!({"timestamp": "yesterday"}),
            ),
            (r#"{"a":1}"#, Level::Info, "", 0, json!({"a": 1})),
        ] {
            let line = &lines(Stream::Stdout, format!("{text}\n").as_bytes())[0];
            let found: Map<String, Value> = line.fields.iter().cloned().collect();
            assert_eq!((line.level, line.text.as_str()), (level, message), "{text}");
            assert_eq!(line.at_unix_us, NOON_US + at_ms * 1000, "{text}");
            assert_eq!(Value::Object(found), fields, "{text}");
        }
        let traced = r#"{"msg":"x","traceId":"ABABABABABABABABABABABABABABABAB"}"#;
        assert_eq!(lines(Stream::Stdout, traced.as_bytes())[0].trace_id, "ab".repeat(16));
    }

    #[test]
    fn the_level_of_plain_text_is_guessed() {
        for (text, stdout, stderr) in [
            ("listening on 3000", Level::Info, Level::Warn),
            ("2026-02-01 12:00:00 ERROR db gone", Level::Error, Level::Error),
            ("INFO:     Started server process [1]", Level::Info, Level::Info),
            ("\x1b[33m[warn]\x1b[0m old", Level::Warn, Level::Warn),
            ("error: nope", Level::Error, Level::Error),
            ("TypeError: x is not a function", Level::Error, Level::Error),
            ("GET /error/ERROR-7 200", Level::Info, Level::Warn),
            ("no error here", Level::Info, Level::Warn),
        ] {
            assert_eq!(lines(Stream::Stdout, text.as_bytes())[0].level, stdout, "{text}");
            assert_eq!(lines(Stream::Stderr, text.as_bytes())[0].level, stderr, "{text}");
        }
        let trace = lines(Stream::Stderr, b"Error: x\n    at a (b.js:1)\n\tat c\nnext\n");
        let levels: Vec<_> = trace.iter().map(|l| l.level).collect();
        assert_eq!(levels, [Level::Error, Level::Error, Level::Error, Level::Warn]);
    }

    #[test]
    fn long_lines_are_cut_and_what_was_cut_is_said() {
        let long = [&[b'x'; LINE_BYTES_MAX + 1234][..], b"\nshort\n"].concat();
        let lines = lines(Stream::Stdout, &long);
        assert_eq!((lines[0].text.len(), lines[0].cut), (LINE_BYTES_MAX, true));
        assert_eq!(lines[0].fields, [("cutBytes".to_owned(), json!(1234))]);
        assert_eq!((lines[1].text.as_str(), lines[1].cut), ("short", false));
    }

    #[test]
    fn a_flood_is_dropped_and_said_once_a_second() {
        let mut output = Output::new("main", "main.1");
        let kib = [vec![b'y'; 1023], b"\n".to_vec()].concat();
        let mut all: Vec<Line> = Vec::new();
        for ms in 0..5_000 {
            (0..4).for_each(|_| output.push(Stream::Stdout, &kib, Millis(10_000 + ms), 0, |line| all.push(line)));
        }
        output.push(Stream::Stdout, b"x\n", Millis(60_000), 0, |line| all.push(line));
        let (said, kept): (Vec<_>, Vec<_>) = all.iter().partition(|line| line.stream == Stream::Own);
        let dropped: u64 = said.iter().filter_map(|line| line.fields[0].1.as_u64()).sum();
        assert!((4..=6).contains(&said.len()), "{}", said.len());
        assert!((5_000..=7_200).contains(&kept.len()), "{}", kept.len());
        assert_eq!(dropped + kept.len() as u64, 20_001);
        assert!(said[0].text.starts_with("dropped ") && said[0].text.contains(" lines"));
        assert!(!output.has_dropped());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_cut_matters(
            bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..400,
        ) {
            let whole: Vec<_> = lines(Stream::Stdout, &bytes).into_iter().map(|l| (l.text, l.level)).collect();
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            let mut output = Output::new("main", "main.1");
            let mut parts = Vec::new();
            output.push(Stream::Stdout, a, Millis(0), NOON_US, |l| parts.push((l.text, l.level)));
            output.push(Stream::Stdout, b, Millis(0), NOON_US, |l| parts.push((l.text, l.level)));
            output.end(Stream::Stdout, Millis(0), NOON_US, |l| parts.push((l.text, l.level)));
            prop_assert_eq!(whole, parts);
        }

        #[test]
        fn no_json_panics(
            members in r#"("[a-z]{1,9}":("[^"\\]*"|-?[0-9]{1,30}(\.[0-9]{1,9})?|null|\{\}|\[\]),?){0,5}"#,
        ) {
            let count = lines(Stream::Stderr, format!("{{{members}}}").as_bytes()).len();
            prop_assert!(count >= 1);
        }
    }
}
