//! The commented default file, written from what the blocks read, so that it cannot be wrong. A setting is a line that
//! begins with `#` and no space: with that `#` removed it says what counts without it, or an example.

use crate::kind::Kind;
use crate::shape::{KnownKey, KnownTable, Shape, Unit, typed};

/// Comments are wrapped here, as the house's own lines are.
const WIDTH_CHARS: usize = 118;

const HEAD: &str = "Every setting of mainstay.toml. A line that begins with # and no space is a setting with its \
    default, or an example where there is none: remove the # to write it.";

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

pub(crate) fn write(shape: &Shape) -> String {
    let mut text = String::new();
    comment(&mut text, HEAD);
    for table in ordered(shape) {
        let Some(header) = header(&table.pattern) else { continue };
        if table.keys.is_empty() && !table.open {
            continue;
        }
        text.push('\n');
        if !table.doc.is_empty() {
            comment(&mut text, &table.doc);
        }
        if !table.pattern.is_empty() {
            text.push_str(&format!("#{header}\n"));
        }
        if table.open {
            comment(&mut text, "Any name, with a text, a number or true/false.");
        }
        table.keys.iter().for_each(|key| setting(&mut text, key));
    }
    text
}

/// Each table, then the tables within it, in the order they were asked for.
fn ordered(shape: &Shape) -> Vec<&KnownTable> {
    let mut all = Vec::new();
    if let Some(root) = shape.get("") {
        all.push(root);
    }
    let mut tops: Vec<&str> = Vec::new();
    for table in &shape.tables {
        let top = top(&table.pattern);
        if !top.is_empty() && !tops.contains(&top) {
            tops.push(top);
        }
    }
    for name in tops {
        let mut within: Vec<&KnownTable> = shape.tables.iter().filter(|table| top(&table.pattern) == name).collect();
        // Stable: parents before what is within them, otherwise as asked for.
        within.sort_by_key(|table| table.pattern.matches('.').count());
        all.extend(within);
    }
    all
}

fn top(pattern: &str) -> &str {
    pattern.split(['.', '[']).next().unwrap_or(pattern)
}

fn setting(text: &mut String, key: &KnownKey) {
    if !key.doc.is_empty() {
        comment(text, &key.doc);
    }
    comment(text, &accepts(key));
    let name = typed(&key.name);
    let value = key.default.clone().or_else(|| key.example.clone());
    match value {
        Some(value) => text.push_str(&format!("#{name} = {value}\n")),
        None if key.secret => comment(text, &format!("{name} = \"${{NAME}}\"")),
        None if key.kind == Kind::Any => {}
        None => text.push_str(&format!("#{name} = {}\n", key.kind.sample())),
    }
}

/// What it takes and which variables set it, in one comment.
fn accepts(key: &KnownKey) -> String {
    let name = typed(&key.name);
    let mut words = match key.kind {
        Kind::Any => format!("`{name}`: see above"),
        _ => format!("`{name}`: {}", key.kind.expected()),
    };
    if key.default.is_none() {
        words.push_str("; not set by default");
    }
    for (index, (variable, unit)) in key.variables.iter().enumerate() {
        words.push_str(if index == 0 { "; variable " } else { " or " });
        words.push_str(variable);
        match unit {
            Unit::Written => {}
            Unit::Millis => words.push_str(" (milliseconds)"),
            Unit::Seconds => words.push_str(" (seconds)"),
        }
    }
    words
}

/// Wrapped at words, each line with `# `.
fn comment(text: &mut String, words: &str) {
    let mut line = String::from("#");
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH_CHARS && line.len() > 1 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}
