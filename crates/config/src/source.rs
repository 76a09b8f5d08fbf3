//! One text a person wrote, with its lines. It must never be shown except through `shown`, which hides secrets.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::mask;

/// What the text is written in: decides how its lines are hidden.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Toml,
    Dotenv,
}

pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) language: Language,
    /// Byte offset at which each line begins.
    lines: Vec<usize>,
    /// Values found secret while reading; a line is never shown with one of these in clear.
    hidden: Mutex<Vec<Range<usize>>>,
}

impl Source {
    pub(crate) fn new(name: String, text: String, language: Language) -> Source {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Source { name, text, language, lines, hidden: Mutex::new(Vec::new()) }
    }

    /// Counted from 1, as editors do.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// Counted from 1 in characters, as editors do.
    pub(crate) fn column(&self, offset: usize) -> usize {
        let start = self.line_start(self.line(offset));
        self.text.get(start..offset.min(self.text.len())).map_or(1, |before| before.chars().count() + 1)
    }

    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// Bytes of one line, its line break excluded.
    pub(crate) fn line_span(&self, line: usize) -> Range<usize> {
        let start = self.line_start(line);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let text = self.text.get(start..end).unwrap_or("");
        start..start + text.trim_end_matches(['\n', '\r']).len()
    }

    pub(crate) fn hide(&self, span: Range<usize>) {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    /// The line as it may be shown: as many bytes as it has, secrets replaced by stars.
    pub(crate) fn shown(&self, line: usize) -> String {
        let span = self.line_span(line);
        let mut shown = mask::line(&self.text[span.clone()], self.language);
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        for range in hidden.iter().filter(|range| range.start < span.end && range.end > span.start) {
            let start = range.start.max(span.start) - span.start;
            let end = range.end.min(span.end) - span.start;
            mask::stars(&mut shown, start..end);
        }
        shown
    }
}
