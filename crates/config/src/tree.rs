//! The file as a tree that remembers where everything stands and what was read. Knows no setting's meaning.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::fault::Fault;
use crate::position::Position;
use crate::secret;
use crate::source::Source;

pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) span: Range<usize>,
    /// Set when a block took this table: what the table is called, and which keys are known in it.
    pub(crate) taken: RefCell<Option<Taken>>,
}

#[derive(Clone)]
pub(crate) struct Taken {
    pub(crate) pattern: String,
    pub(crate) label: String,
}

pub(crate) enum Kind {
    Text(String),
    Integer(i64),
    /// An integer too large for us, as it was written.
    Huge(String),
    Float(f64),
    Boolean(bool),
    Date(String),
    List(Vec<Rc<Node>>),
    Table(Vec<Entry>),
    /// A syntax fault stands where the value should: said already.
    Broken,
}

pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) span: Range<usize>,
    pub(crate) node: Rc<Node>,
    pub(crate) read: Cell<bool>,
}

impl Node {
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Table(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// As a person says it; the caller keeps secrets away.
    pub(crate) fn found(&self) -> String {
        match &self.kind {
            Kind::Text(text) => crate::mask::quoted(text),
            Kind::Integer(number) => format!("the number {number}"),
            Kind::Huge(digits) => format!("the number {}", crate::mask::cut(digits)),
            Kind::Float(number) => format!("the number {number}"),
            Kind::Boolean(boolean) => boolean.to_string(),
            Kind::Date(date) => format!("the date {date}"),
            Kind::List(items) => format!("a list of {}", items.len()),
            Kind::Table(_) => "a table".to_owned(),
            Kind::Broken => "nothing".to_owned(),
        }
    }
}

/// The tree and every syntax fault. What could be recovered is in the tree.
pub(crate) fn parse(source: &Arc<Source>) -> (Rc<Node>, Vec<Fault>) {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    let faults: Vec<Fault> = errors.iter().map(|error| syntax(source, error)).collect();
    let blanked = if faults.is_empty() { None } else { blanked(source, &faults) };
    let again = blanked.as_deref().map(DeTable::parse_recoverable);
    let table = match again {
        // Only headers are left broken: this tree has all that the first one lacks behind a broken line.
        Some((again, errors)) if errors.iter().all(|error| is_header(source, error.span())) => again,
        _ => table,
    };
    let root = node(source, DeValue::Table(table.into_inner()), 0..0, true);
    (Rc::new(root), faults)
}

/// The text without its broken lines, everything else at its place: the parser recovers from many faults, but some end
/// its reading, and the rest of the file is to be checked too. A broken header stays, for what follows belongs to it.
fn blanked(source: &Source, faults: &[Fault]) -> Option<String> {
    let mut bytes = source.text.clone().into_bytes();
    for fault in faults {
        let (_, span) = fault.position.span()?;
        if !is_header(source, Some(span.clone())) {
            let line = source.line_span(source.line(span.start));
            bytes.get_mut(line)?.fill(b' ');
        }
    }
    String::from_utf8(bytes).ok()
}

fn is_header(source: &Source, span: Option<Range<usize>>) -> bool {
    let Some(span) = span else { return false };
    let line = source.line_span(source.line(span.start.min(source.text.len())));
    source.text[line].trim_start().starts_with('[')
}

fn node(source: &Arc<Source>, value: DeValue<'_>, span: Range<usize>, root: bool) -> Node {
    let kind = match value {
        // The recovering parser puts an empty span where a value is missing.
        _ if span.is_empty() && !root => Kind::Broken,
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Kind::Integer(number),
            Err(_) => Kind::Huge(integer.to_string()),
        },
        DeValue::Float(float) => float.as_str().parse().map_or(Kind::Broken, Kind::Float),
        DeValue::Boolean(boolean) => Kind::Boolean(boolean),
        DeValue::Datetime(date) => Kind::Date(date.to_string()),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| {
                let span = item.span();
                Rc::new(node(source, item.into_inner(), span, false))
            });
            Kind::List(items.collect())
        }
        DeValue::Table(table) => Kind::Table(entries(source, table)),
    };
    Node { kind, span, taken: RefCell::new(None) }
}

fn entries(source: &Arc<Source>, table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| {
            let (span, value_span) = (key.span(), value.span());
            let key = key.into_inner().into_owned();
            let node = Rc::new(node(source, value.into_inner(), value_span, false));
            if secret::is_secret_name(&key) {
                hide(source, &node);
            }
            Entry { key, span, node, read: Cell::new(false) }
        })
        .collect();
    // The order of the file: faults, apps and screens follow it.
    entries.sort_by_key(|entry| entry.span.start);
    entries
}

/// Keeps a value out of every line shown, unless it only says where the secret comes from.
pub(crate) fn hide(source: &Source, node: &Node) {
    match &node.kind {
        Kind::Text(text) if text.starts_with("${") && text.ends_with('}') && !text.contains(":-") => {}
        Kind::Text(_) | Kind::Integer(_) | Kind::Huge(_) => source.hide(node.span.clone()),
        Kind::List(items) => items.iter().for_each(|item| hide(source, item)),
        _ => {}
    }
}

/// The parser's words, split into what, found and expected.
fn syntax(source: &Arc<Source>, error: &toml::de::Error) -> Fault {
    let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
    let span = error.span().unwrap_or_else(|| source.text.len()..source.text.len());
    let at = Position::within(source, span);
    let mut fault = Fault::new(&at, format!("this is not TOML: {what}")).expected(expected.replace('`', "\""));
    if what == "duplicate key" {
        fault.what = "this key is set twice".to_owned();
        fault.fix = Some("remove one of the two".to_owned());
    }
    fault.syntax = true;
    fault
}
