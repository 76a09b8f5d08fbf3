//! Every table and key the blocks asked for, whether set or not: what may be written, in the order it was asked for.

use crate::kind::Kind;

/// How the numbers of a variable are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As in the file.
    Written,
    Millis,
    Seconds,
}

#[derive(Clone, Debug)]
pub(crate) struct KnownKey {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) kind: Kind,
    /// As TOML.
    pub(crate) default: Option<String>,
    /// As TOML.
    pub(crate) example: Option<String>,
    pub(crate) variables: Vec<(String, Unit)>,
    pub(crate) secret: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct KnownTable {
    /// `edge.timeouts`, `app.*`, `route[]`; empty for the file itself.
    pub(crate) pattern: String,
    pub(crate) doc: String,
    pub(crate) keys: Vec<KnownKey>,
    /// Its keys are anybody's names: `env = { … }`.
    pub(crate) open: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) tables: Vec<KnownTable>,
}

impl Shape {
    pub(crate) fn table(&mut self, pattern: &str) -> &mut KnownTable {
        let at = self.tables.iter().position(|table| table.pattern == pattern).unwrap_or_else(|| {
            self.tables.push(KnownTable { pattern: pattern.to_owned(), ..KnownTable::default() });
            self.tables.len() - 1
        });
        &mut self.tables[at]
    }

    pub(crate) fn key(&mut self, pattern: &str, key: KnownKey) {
        let keys = &mut self.table(pattern).keys;
        match keys.iter_mut().find(|known| known.name == key.name) {
            // Two blocks read it: the one that says what it is for wins.
            Some(known) if known.doc.is_empty() => *known = key,
            Some(_) => {}
            None => keys.push(key),
        }
    }

    pub(crate) fn get(&self, pattern: &str) -> Option<&KnownTable> {
        self.tables.iter().find(|table| table.pattern == pattern)
    }

    /// What may stand in the table `pattern`: keys and tables.
    pub(crate) fn names(&self, pattern: &str) -> Vec<&str> {
        let keys = self.get(pattern).into_iter().flat_map(|table| table.keys.iter().map(|key| key.name.as_str()));
        let mut names: Vec<&str> = keys.chain(self.children(pattern).map(|(name, _)| name)).collect();
        names.dedup();
        names
    }

    /// Tables directly within `pattern`, with the name they have there.
    pub(crate) fn children<'a>(&'a self, pattern: &str) -> impl Iterator<Item = (&'a str, &'a KnownTable)> {
        let prefix = if pattern.is_empty() { String::new() } else { format!("{pattern}.") };
        self.tables.iter().filter_map(move |table| {
            let rest = table.pattern.strip_prefix(&prefix)?;
            let name = rest.split('.').next()?.trim_end_matches("[]");
            // `app.*` alone is asked for as `named("app")`: its parent exists through it.
            (!name.is_empty() && name != "*" && !rest.is_empty()).then_some((name, table))
        })
    }
}

/// `a.b` from `a` and `b`.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key as it must be typed.
pub(crate) fn typed(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare { key.to_owned() } else { crate::kind::quote(key) }
}
