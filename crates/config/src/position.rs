//! Where a value came from, in the words an operator looks for it with. Never holds the value itself.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::source::Source;

/// `mainstay.toml:12`, `.env:3`, `environment PORT`, `flag --listen`, `default`. Cheap to clone.
#[derive(Clone)]
pub struct Position(At);

#[derive(Clone)]
enum At {
    File { source: Arc<Source>, start: usize, end: usize },
    Path(Arc<str>),
    Variable(Arc<str>),
    Credential(Arc<str>),
    Flag(Arc<str>),
    Command,
    Default,
}

impl Position {
    /// Nobody set it.
    pub fn unset() -> Position {
        Position(At::Default)
    }

    /// The command after `run --`.
    pub fn command_line() -> Position {
        Position(At::Command)
    }

    /// A whole file.
    pub fn path(path: impl AsRef<str>) -> Position {
        Position(At::Path(Arc::from(path.as_ref())))
    }

    /// A variable of the process's environment.
    pub fn variable(name: impl AsRef<str>) -> Position {
        Position(At::Variable(Arc::from(name.as_ref())))
    }

    /// A flag, by the dotted key it sets.
    pub fn flag(key: &str) -> Position {
        let last = key.rsplit('.').next().unwrap_or(key);
        Position(At::Flag(Arc::from(last.replace('_', "-"))))
    }

    pub(crate) fn credential(name: &str) -> Position {
        Position(At::Credential(Arc::from(name)))
    }

    pub(crate) fn within(source: &Arc<Source>, span: Range<usize>) -> Position {
        let mut start = span.start.min(source.text.len());
        while !source.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = span.end.clamp(start, source.text.len());
        while !source.text.is_char_boundary(end) {
            end += 1;
        }
        Position(At::File { source: Arc::clone(source), start, end })
    }

    /// The file's name as it was given, when this is a place in a file.
    pub fn file(&self) -> Option<&str> {
        match &self.0 {
            At::File { source, .. } => Some(&source.name),
            At::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Counted from 1.
    pub fn line(&self) -> Option<usize> {
        match &self.0 {
            At::File { source, start, .. } => Some(source.line(*start)),
            _ => None,
        }
    }

    /// Counted from 1, in characters.
    pub fn column(&self) -> Option<usize> {
        match &self.0 {
            At::File { source, start, .. } => Some(source.column(*start)),
            _ => None,
        }
    }

    /// Nobody set it: the default counts.
    pub fn is_default(&self) -> bool {
        matches!(self.0, At::Default)
    }

    /// Set by a flag or by the command line itself.
    pub fn is_flag(&self) -> bool {
        matches!(self.0, At::Flag(_) | At::Command)
    }

    pub(crate) fn span(&self) -> Option<(&Arc<Source>, Range<usize>)> {
        match &self.0 {
            At::File { source, start, end } => Some((source, *start..*end)),
            _ => None,
        }
    }

    /// The order in which faults are told: by file, then by line, then what has no line.
    pub(crate) fn order(&self, other: &Position) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| match (&self.0, &other.0) {
            (At::File { source: a, start: x, .. }, At::File { source: b, start: y, .. }) => {
                a.name.cmp(&b.name).then(x.cmp(y))
            }
            _ => self.to_string().cmp(&other.to_string()),
        })
    }

    fn rank(&self) -> u8 {
        match &self.0 {
            At::Command | At::Flag(_) => 0,
            At::Path(_) => 1,
            At::File { source, .. } if source.language == crate::source::Language::Toml => 2,
            At::File { .. } => 3,
            At::Variable(_) | At::Credential(_) => 4,
            At::Default => 5,
        }
    }
}

impl Default for Position {
    fn default() -> Position {
        Position::unset()
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Position) -> bool {
        match (&self.0, &other.0) {
            (At::File { source: a, start: s, end: e }, At::File { source: b, start: t, end: f }) => {
                a.name == b.name && s == t && e == f
            }
            (At::Path(a), At::Path(b)) | (At::Variable(a), At::Variable(b)) => a == b,
            (At::Credential(a), At::Credential(b)) | (At::Flag(a), At::Flag(b)) => a == b,
            (At::Command, At::Command) | (At::Default, At::Default) => true,
            _ => false,
        }
    }
}

impl Eq for Position {}

impl fmt::Display for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::File { source, start, .. } => write!(out, "{}:{}", source.name, source.line(*start)),
            At::Path(path) => out.write_str(path),
            At::Variable(name) => write!(out, "environment {name}"),
            At::Credential(name) => write!(out, "credential {name}"),
            At::Flag(name) => write!(out, "flag --{name}"),
            At::Command => out.write_str("command line"),
            At::Default => out.write_str("default"),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
