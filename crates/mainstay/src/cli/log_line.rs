//! A line of the log files for a person. Pure.
//!
//! Must never pass on a control character: what a client or a child wrote is not a command for this terminal.

use serde_json::{Map, Value};

/// What is shown in its own place, or not at all.
const SHOWN: [&str; 9] =
    ["level", "timestamp", "service", "environment", "kind", "message", "app", "instance", "stream"];

/// `12:03:04 main.1 warn listening on 3000 key=value`; a line that is not JSON comes back as it is.
pub fn show(line: &str, color: bool) -> String {
    match serde_json::from_str::<Map<String, Value>>(line) {
        Ok(json) if text(&json, "kind") == "access" => access(&json, color),
        Ok(json) => told(&json, color),
        Err(_) => printable(line),
    }
}

fn text<'a>(json: &'a Map<String, Value>, key: &str) -> &'a str {
    json.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The day only where it matters to tell lines apart: a file holds weeks.
fn clock(json: &Map<String, Value>, color: bool) -> String {
    let at = text(json, "timestamp");
    let shown = at.get(5..19).map_or(at.to_owned(), |at| at.replace('T', " "));
    paint(color, "2", &shown)
}

fn access(json: &Map<String, Value>, color: bool) -> String {
    let status = json.get("status").and_then(Value::as_u64).unwrap_or_default();
    let code = match status {
        0..300 => "32",
        300..400 => "36",
        400..500 => "33",
        _ => "31",
    };
    let mut parts = vec![
        clock(json, color),
        text(json, "method").to_owned(),
        printable(text(json, "path")),
        paint(color, code, &status.to_string()),
        format!("{} ms", json.get("duration").and_then(Value::as_f64).unwrap_or_default()),
    ];
    parts.extend([text(json, "code"), text(json, "instance")].into_iter().filter(|s| !s.is_empty()).map(str::to_owned));
    parts.push(paint(color, "2", text(json, "requestId")));
    parts.join(" ")
}

fn told(json: &Map<String, Value>, color: bool) -> String {
    let who = [text(json, "instance"), text(json, "app"), "mainstay"].into_iter().find(|name| !name.is_empty());
    let mut parts = vec![clock(json, color), paint(color, "36", who.unwrap_or_default())];
    match text(json, "level") {
        "info" => {}
        level @ "error" => parts.push(paint(color, "1;31", level)),
        level @ "warn" => parts.push(paint(color, "33", level)),
        level => parts.push(paint(color, "2", level)),
    }
    parts.push(printable(text(json, "message")));
    let more = json.iter().filter(|(key, _)| !SHOWN.contains(&key.as_str()));
    parts.extend(more.map(|(key, value)| paint(color, "2", &field(key, value))));
    parts.join(" ")
}

fn field(key: &str, value: &Value) -> String {
    let key = key.strip_prefix("app.").unwrap_or(key);
    match value {
        Value::String(text) if !text.contains([' ', '"', '=']) => printable(&format!("{key}={text}")),
        value => printable(&format!("{key}={value}")),
    }
}

/// Line breaks stay: messages about a crash have several lines.
fn printable(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t' || !c.is_control();
    text.chars().map(|c| if keep(c) { c } else { '\u{fffd}' }).collect()
}

fn paint(color: bool, code: &str, text: &str) -> String {
    if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_as_on_the_console_and_carry_no_commands() {
        let child = r#"{"level":"warn","timestamp":"2026-11-21T12:03:04.567Z","service":"main","kind":"app",
            "message":"slow \u001b[2Jquery","app":"main","instance":"main.1","stream":"stdout","app.ms":12}"#;
        assert_eq!(show(child, false), "11-21 12:03:04 main.1 warn slow \u{fffd}[2Jquery ms=12");
        let access = r#"{"level":"info","timestamp":"2026-11-21T12:03:04.567Z","kind":"access","method":"GET",
            "path":"/a","status":502,"duration":1.5,"code":"upstream_closed","instance":"main.2","requestId":"r_1"}"#;
        assert_eq!(show(access, false), "11-21 12:03:04 GET /a 502 1.5 ms upstream_closed main.2 r_1");
        assert_eq!(show("no json", false), "no json");
        assert!(show(access, true).contains("\x1b[31m502\x1b[0m"));
    }
}
