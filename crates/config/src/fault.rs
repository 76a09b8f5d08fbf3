//! One thing wrong with what was written: what, where, and what to type. Holds no secret: `Report` scrubs its words.

use std::fmt;

use crate::position::Position;
use crate::{mask, render};

/// A fault or a warning. `found`, `expected` may be empty; `fix` is what to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub position: Position,
    pub what: String,
    pub found: String,
    pub expected: String,
    pub fix: Option<String>,
    /// A syntax fault hides what else is wrong on its line.
    pub(crate) syntax: bool,
}

impl Fault {
    pub fn new(at: &Position, what: impl Into<String>) -> Fault {
        let position = at.clone();
        Fault { position, what: what.into(), found: String::new(), expected: String::new(), fix: None, syntax: false }
    }

    pub fn found(mut self, found: impl Into<String>) -> Fault {
        self.found = found.into();
        self
    }

    pub fn expected(mut self, expected: impl Into<String>) -> Fault {
        self.expected = expected.into();
        self
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Fault {
        self.fix = Some(fix.into());
        self
    }

    /// `mainstay.toml:12: unknown key "intervall" in [app.api.health]; nearest: "interval"`
    pub fn line(&self) -> String {
        let mut line = format!("{}: {}", self.position, self.what);
        if !self.found.is_empty() {
            line.push_str("; found ");
            line.push_str(&self.found);
        }
        if !self.expected.is_empty() {
            line.push_str("; expected ");
            line.push_str(&self.expected);
        }
        if let Some(fix) = &self.fix {
            line.push_str("; ");
            line.push_str(fix);
        }
        mask::printable(&line)
    }

    /// Takes every secret out of its words.
    pub(crate) fn scrub(&mut self, secrets: &[(String, String)]) {
        for words in [&mut self.what, &mut self.found, &mut self.expected] {
            mask::scrub(words, secrets);
        }
        if let Some(fix) = &mut self.fix {
            mask::scrub(fix, secrets);
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.line())
    }
}

/// What kept the inputs from being read at all.
#[derive(Debug)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    pub fn render(&self, color: bool) -> String {
        render::all(&self.0, &[], color)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
