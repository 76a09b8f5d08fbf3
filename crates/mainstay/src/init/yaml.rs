//! A YAML document as a tree with lines. Merge keys (`<<: *common`) are followed, as compose files use them.
//!
//! Bounded: nesting, nodes, and what aliases may bring in; a file past a bound is refused, not read in part.

use saphyr_parser::{Event, Parser};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Compose files nest six deep.
const DEPTH_MAX: usize = 64;
/// A file of a megabyte has fewer.
const NODES_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub struct Node {
    /// From 1.
    pub line: usize,
    pub kind: Kind,
    /// Levels below it, what aliases brought in counted: dropping it must not exhaust the stack.
    depth: usize,
}

#[derive(Debug, Clone)]
pub enum Kind {
    Scalar(String),
    List(Vec<Rc<Node>>),
    Map(Vec<Pair>),
}

#[derive(Debug, Clone)]
pub struct Pair {
    pub key: String,
    pub line: usize,
    pub value: Rc<Node>,
}

impl Node {
    fn new(line: usize, kind: Kind) -> Rc<Node> {
        let depth = match &kind {
            Kind::Scalar(_) => 0,
            Kind::List(items) => 1 + items.iter().map(|item| item.depth).max().unwrap_or(0),
            Kind::Map(pairs) => 1 + pairs.iter().map(|pair| pair.value.depth).max().unwrap_or(0),
        };
        Rc::new(Node { line, kind, depth })
    }

    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Rc<Node>] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub fn pairs(&self) -> &[Pair] {
        match &self.kind {
            Kind::Map(pairs) => pairs,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        self.pairs().iter().find(|pair| pair.key == key).map(|pair| &pair.value)
    }

    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key).map(Rc::as_ref))
    }
}

/// What is still open while the events come.
struct Open {
    line: usize,
    anchor: usize,
    kind: Kind,
    key: Option<(String, usize)>,
}

/// The first document. The fault is a line and what is wrong with it.
pub fn parse(text: &str) -> Result<Option<Rc<Node>>, (usize, String)> {
    let mut anchors: BTreeMap<usize, Rc<Node>> = BTreeMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut count = 0;
    let full = |line| (line, "more than a file of this kind can hold".to_owned());
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), error.info().to_owned()))?;
        let line = span.start.line();
        count += 1;
        if count > NODES_MAX || open.len() > DEPTH_MAX {
            return Err(full(line));
        }
        let (node, anchor) = match event {
            Event::MappingStart(anchor, _) => {
                open.push(Open { line, anchor, kind: Kind::Map(Vec::new()), key: None });
                continue;
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open { line, anchor, kind: Kind::List(Vec::new()), key: None });
                continue;
            }
            Event::Scalar(text, _, anchor, _) => (Node::new(line, Kind::Scalar(text.into_owned())), anchor),
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).cloned();
                (node.ok_or_else(|| (line, "an alias of nothing".to_owned()))?, 0)
            }
            Event::MappingEnd | Event::SequenceEnd => {
                let Some(Open { line, anchor, kind, .. }) = open.pop() else { return Ok(None) };
                (Node::new(line, merged(kind).ok_or_else(|| full(line))?), anchor)
            }
            Event::DocumentEnd | Event::StreamEnd => return Ok(None),
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        if node.depth > DEPTH_MAX {
            return Err(full(line));
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(parent) => parent.take(node),
            None => return Ok(Some(node)),
        }
    }
    Ok(None)
}

impl Open {
    fn take(&mut self, node: Rc<Node>) {
        match (&mut self.kind, self.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(pairs), Some((key, line))) => pairs.push(Pair { key, line, value: node }),
            // A key that is no scalar is nobody's: it gets a name that nothing asks for.
            (Kind::Map(_), None) => self.key = Some((node.text().unwrap_or_default().to_owned(), node.line)),
            (Kind::Scalar(_), _) => {}
        }
    }
}

/// The mapping's own keys win over those it merges. Only one level is copied: values are shared. `None`: too much.
fn merged(kind: Kind) -> Option<Kind> {
    const MERGE: &str = "<<";
    /// A service has two dozen keys.
    const MERGED_KEYS_MAX: usize = 256;
    let Kind::Map(pairs) = kind else { return Some(kind) };
    let (merges, mut own): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(|pair| pair.key == MERGE);
    for merge in merges {
        let sources = match &merge.value.kind {
            Kind::List(items) => items.clone(),
            _ => vec![merge.value.clone()],
        };
        for pair in sources.iter().flat_map(|source| source.pairs()) {
            if own.len() > MERGED_KEYS_MAX {
                return None;
            }
            if !own.iter().any(|known| known.key == pair.key) {
                own.push(pair.clone());
            }
        }
    }
    Some(Kind::Map(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lists_maps_and_merges() {
        let text = "x: &c\n  a: 1\n  b: [2, three]\ny:\n  <<: *c\n  a: 4\n  d: |\n    many\n    lines\n";
        let root = parse(text).expect("yaml").expect("a document");
        let y = root.get("y").expect("y");
        assert_eq!(y.get("a").and_then(|n| n.text()), Some("4"));
        assert_eq!(y.at(&["b"]).map(|b| b.items().len()), Some(2));
        assert_eq!(y.get("d").map(|d| (d.line, d.text())), Some((8, Some("many\nlines\n"))));
        assert_eq!(y.pairs()[0].line, 6);
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        assert_eq!(parse("a: 1\nb: [\n").expect_err("broken").0, 3);
        assert!(parse("").expect("nothing is a document without content").is_none());
        let deep = "[".repeat(DEPTH_MAX + 10);
        assert!(parse(&deep).is_err());
    }

    #[test]
    fn aliases_share_and_do_not_multiply() {
        let mut text = String::from("a0: &a0 [x]\n");
        for i in 1..60 {
            text.push_str(&format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}]\n", i - 1));
        }
        assert!(parse(&text).expect("yaml").is_some());
        for i in 60..20_000 {
            text.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
        }
        assert!(parse(&text).is_err(), "a chain of aliases is as deep as it is long");
    }
}
