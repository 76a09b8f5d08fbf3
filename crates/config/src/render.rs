//! Faults as a person reads them: the line of the file where there is one, a plain line where there is none. Lines
//! are shown through `Source::shown` only, which hides secrets.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::fault::Fault;
use crate::mask::printable;

/// Longer lines are cut around the fault: a minified line would fill the screen.
const SHOWN_BYTES: usize = 400;

pub(crate) fn all(faults: &[Fault], warnings: &[Fault], color: bool) -> String {
    let mut blocks: Vec<String> = Vec::new();
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    for (fault, level) in faults.iter().map(|f| (f, Level::ERROR)).chain(warnings.iter().map(|f| (f, Level::WARNING))) {
        blocks.push(one(fault, level, &renderer));
    }
    if !blocks.is_empty() {
        blocks.push(count(faults.len(), warnings.len()));
    }
    blocks.join("\n\n")
}

fn count(faults: usize, warnings: usize) -> String {
    let many = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    format!("{}, {}", many(faults, "fault"), many(warnings, "warning"))
}

fn one(fault: &Fault, level: Level<'_>, renderer: &Renderer) -> String {
    let mut group = Group::with_title(level.primary_title(printable(&fault.what)));
    let shown = Shown::of(fault);
    match &shown {
        Some(shown) => {
            let mut annotation = AnnotationKind::Primary.span(shown.span.clone());
            if !fault.found.is_empty() {
                annotation = annotation.label(format!("found {}", printable(&fault.found)));
            }
            let snippet = Snippet::source(shown.text.as_str()).line_start(shown.line).path(shown.path.as_str());
            group = group.element(snippet.annotation(annotation));
        }
        None => {
            group = group.element(Level::NOTE.with_name("at").message(printable(&fault.position.to_string())));
            if !fault.found.is_empty() {
                group = group.element(Level::NOTE.with_name("found").message(printable(&fault.found)));
            }
        }
    }
    if !fault.expected.is_empty() {
        group = group.element(Level::NOTE.with_name("expected").message(printable(&fault.expected)));
    }
    if let Some(fix) = &fault.fix {
        group = group.element(Level::HELP.with_name("fix").message(printable(fix)));
    }
    renderer.render(&[group])
}

/// The line of a fault, and the bytes of it that are meant.
struct Shown {
    text: String,
    line: usize,
    path: String,
    span: std::ops::Range<usize>,
}

impl Shown {
    fn of(fault: &Fault) -> Option<Shown> {
        let (source, span) = fault.position.span()?;
        let line = source.line(span.start);
        let bounds = source.line_span(line);
        let mut text = source.shown(line);
        let start = span.start.clamp(bounds.start, bounds.end) - bounds.start;
        let end = span.end.clamp(bounds.start, bounds.end) - bounds.start;
        let (mut start, mut end) = (boundary(&text, start), boundary(&text, end.max(start)));
        if text.len() > SHOWN_BYTES {
            let from = boundary(&text, start.saturating_sub(SHOWN_BYTES / 2));
            let to = boundary(&text, (from + SHOWN_BYTES).min(text.len()));
            text = text[from..to].to_owned();
            start = start.saturating_sub(from).min(text.len());
            end = end.saturating_sub(from).clamp(start, text.len());
        }
        Some(Shown { span: start..end, text, line, path: printable(&source.name) })
    }
}

/// The nearest boundary of a character at or below `at`: hiding keeps bytes, not characters.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
