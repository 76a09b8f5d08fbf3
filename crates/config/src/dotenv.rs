//! `.env` files: `export`, comments, quotes, escapes, values over several lines. `${…}` is left as it stands: whether
//! it is expanded differs between frameworks, and the app reads the same file. A bad line is a fault, never skipped.

use std::sync::Arc;

use crate::fault::Fault;
use crate::known;
use crate::mask::cut;
use crate::position::Position;
use crate::source::{Language, Source};

/// One `NAME=value`.
#[derive(Clone, Debug)]
pub struct Assignment {
    pub name: String,
    pub value: String,
    pub at: Position,
}

/// Faults kept of one file; a binary given by mistake has one a line.
const MAX_FAULTS: usize = 50;

/// Every assignment in order, and every line that is none.
pub fn parse(name: &str, text: &str) -> (Vec<Assignment>, Vec<Fault>) {
    let source = Arc::new(Source::new(name.to_owned(), text.to_owned(), Language::Dotenv));
    let mut parser = Parser { source, at: 0, assignments: Vec::new(), faults: Vec::new() };
    if text.starts_with('\u{feff}') {
        parser.at = '\u{feff}'.len_utf8();
    }
    while parser.at < parser.source.text.len() && parser.faults.len() < MAX_FAULTS {
        parser.line();
    }
    (parser.assignments, parser.faults)
}

struct Parser {
    source: Arc<Source>,
    /// Always at the beginning of a line, or within one that `line` is reading.
    at: usize,
    assignments: Vec<Assignment>,
    faults: Vec<Fault>,
}

impl Parser {
    fn line(&mut self) {
        let source = Arc::clone(&self.source);
        let start = self.at;
        let end = line_end(&source.text, start);
        self.at = next_line(&source.text, end);
        let line = &source.text[start..end];
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return;
        }
        if line.contains('\0') {
            return self.fault(start..end, "a NUL byte", "text", None);
        }
        let Some(equals) = line.find('=') else {
            return self.fault(start..end, "a line without \"=\"", "NAME=value", Some(self.missing_equals()));
        };
        let Some((name, offset)) = self.name(&line[..equals], start, end) else { return };
        let value_at = start + equals + 1;
        let (value, problem) = self.value(value_at, end);
        if let Some((found, fix)) = problem {
            return self.fault(start..end, &found, "NAME=value", Some(fix));
        }
        if value.contains('\0') {
            return self.fault(start..end, "a NUL byte", "text", None);
        }
        if is_key_material(&name, line[equals + 1..].trim()) {
            let fix = self.missing_equals();
            return self.fault(start..end, "what looks like a piece of a key", "NAME=value", Some(fix));
        }
        let at = Position::within(&source, offset..offset + name.len());
        self.assignments.push(Assignment { name, value, at });
    }

    /// The name and the offset at which it stands.
    fn name(&mut self, before: &str, start: usize, end: usize) -> Option<(String, usize)> {
        let mut name = before.trim_start();
        let exported = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t']));
        name = exported.map_or(name, str::trim_start);
        let offset = start + before.len() - name.len();
        let name = name.trim_end();
        if name.is_empty() {
            self.fault(start..end, "no name before \"=\"", "NAME=value", None);
            return None;
        }
        if !known::is_variable_name(name) {
            let found = "a name that is not made of letters, digits and \"_\"";
            self.fault(start..end, found, "NAME=value", Some(self.missing_equals()));
            return None;
        }
        Some((name.to_owned(), offset))
    }

    /// The value from `from`; a quoted one may go beyond `end`, the end of the line.
    fn value(&mut self, from: usize, end: usize) -> (String, Option<(String, String)>) {
        let source = Arc::clone(&self.source);
        let line = &source.text[from..end];
        let begin = from + line.len() - line.trim_start_matches([' ', '\t']).len();
        let quote = source.text[begin..end].chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let Some(quote) = quote else {
            return (unquoted(&source.text[begin..end]).to_owned(), None);
        };
        let Some((value, close)) = quoted(&source.text, begin + 1, quote) else {
            let found = format!("a value whose {quote} is never closed");
            return (String::new(), Some((found, format!("close it with {quote}"))));
        };
        let end = line_end(&source.text, close);
        self.at = next_line(&source.text, end);
        let rest = source.text[close..end].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            let found = format!("text after the closing {quote}");
            let fix = format!("put a # before it, or escape the {quote} within the value");
            return (String::new(), Some((found, fix)));
        }
        (value, None)
    }

    /// A line with no name often belongs to the value above: a key pasted without quotes.
    fn missing_equals(&self) -> String {
        match self.assignments.last() {
            Some(last) => format!("if it belongs to {}, put that value in double quotes", cut(&last.name)),
            None => "write NAME=value, or # before a comment".to_owned(),
        }
    }

    fn fault(&mut self, span: std::ops::Range<usize>, found: &str, expected: &str, fix: Option<String>) {
        let at = Position::within(&self.source, span);
        let mut fault = Fault::new(&at, "this line cannot be read").found(found).expected(expected);
        fault.fix = fix;
        fault.syntax = true;
        self.faults.push(fault);
    }
}

/// The padding of base64 makes a pasted line look like a name: it must not be shown as one.
fn is_key_material(name: &str, written: &str) -> bool {
    const NAME_CHARS: usize = 20;
    let mixed = name.contains(|c: char| c.is_ascii_lowercase()) && name.contains(|c: char| c.is_ascii_uppercase());
    written == "=" || (written.is_empty() && mixed && name.len() >= NAME_CHARS)
}

fn line_end(text: &str, from: usize) -> usize {
    let end = text[from..].find('\n').map_or(text.len(), |at| from + at);
    if end > from && text.as_bytes()[end - 1] == b'\r' { end - 1 } else { end }
}

fn next_line(text: &str, end: usize) -> usize {
    text[end..].find('\n').map_or(text.len(), |at| end + at + 1)
}

/// Up to a comment, which needs a space before its `#`: `a#b` is a value.
fn unquoted(text: &str) -> &str {
    let comment = text
        .char_indices()
        .find(|(at, c)| *c == '#' && (*at == 0 || text[..*at].ends_with([' ', '\t'])))
        .map_or(text.len(), |(at, _)| at);
    text[..comment].trim()
}

/// The value and the offset behind its closing quote. Only double quotes know escapes.
fn quoted(text: &str, from: usize, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text[from..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((value, from + at + quote.len_utf8())),
            '\\' if quote == '"' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$' | '\'' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            '\r' if text[from + at + 1..].starts_with('\n') => {}
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let (assignments, faults) = parse(".env", text);
        assert!(faults.is_empty(), "{text:?}: {faults:?}");
        let read: Vec<_> =
            assignments.iter().map(|a| (a.name.as_str(), a.value.as_str(), a.at.line().unwrap_or(0))).collect();
        assert_eq!(read, expected, "{text:?}");
    }

    #[test]
    fn reads_what_dotenv_reads() {
        check("A=1\nB=two words \n", &[("A", "1", 1), ("B", "two words", 2)]);
        check("# c\n\nexport A=1 # why\nB=a#b\n", &[("A", "1", 3), ("B", "a#b", 4)]);
        check("A=\nB=# only a comment\nC=\"\"", &[("A", "", 1), ("B", "", 2), ("C", "", 3)]);
        check("A = 'x # y' # c", &[("A", "x # y", 1)]);
        check(r#"A="a\nb\"c\$d\\" "#, &[("A", "a\nb\"c$d\\", 1)]);
        check(r"A='a\nb'", &[("A", r"a\nb", 1)]);
        check("K=\"one\r\ntwo\"\r\nB=2\r\n", &[("K", "one\ntwo", 1), ("B", "2", 3)]);
        check("\u{feff}A=1", &[("A", "1", 1)]);
        check("A=x=y==\nexport=1", &[("A", "x=y==", 1), ("export", "1", 2)]);
        check("A=${B}\nA.B-c=1", &[("A", "${B}", 1), ("A.B-c", "1", 2)]);
        check("A=`x'y\"z`", &[("A", "x'y\"z", 1)]);
    }

    #[test]
    fn a_bad_line_is_said_in_words_without_its_value() {
        for (text, words) in [
            ("hunter2", "without \"=\""),
            ("=hunter2", "no name"),
            ("A B=hunter2", "letters, digits"),
            ("A=\"hunter2", "never closed"),
            ("A='hunter2", "never closed"),
            ("A=\"x\" hunter2", "after the closing"),
            ("A=hun\0ter2", "NUL"),
            ("hunter2hunter2==", "piece of a key"),
            ("MIIEvQIBADANBghunter2=", "piece of a key"),
            ("A=\"x\nhun\0ter2\"", "NUL"),
            ("K=-----BEGIN\nhunter2\n", "without \"=\""),
        ] {
            let (_, faults) = parse(".env", text);
            assert_eq!(faults.len(), 1, "{text:?}: {faults:?}");
            let line = faults[0].line();
            assert!(line.contains(words), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }

    #[test]
    fn reads_on_after_a_bad_line() {
        let (assignments, faults) = parse(".env", "A=1\nbad\nB=2\n=\nC=3");
        assert_eq!(assignments.len(), 3);
        assert_eq!(faults.iter().map(|f| f.position.line()).collect::<Vec<_>>(), [Some(2), Some(4)]);
    }
}
