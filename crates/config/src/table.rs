//! One table of the file, there or not. Reading it marks what is known, so that the rest can be called unknown.

use std::fmt;
use std::rc::Rc;

use crate::fault::Fault;
use crate::key::Key;
use crate::position::Position;
use crate::read::Core;
use crate::setting::Setting;
use crate::shape::{join, typed};
use crate::tree::{Entry, Kind, Node, Taken};
use crate::value::{Item, Value};
use crate::{mask, secret};

/// Cheap to clone.
#[derive(Clone)]
pub struct Table {
    pub(crate) core: Rc<Core>,
    pub(crate) node: Option<Rc<Node>>,
    name: String,
    /// `app.api`, `route[2]`; empty for the file.
    pub(crate) path: String,
    /// `app.*`, `route[]`
    pub(crate) pattern: String,
    /// As it is written: `[app.api]`, `[[route]]`.
    pub(crate) label: String,
    at: Position,
}

/// What stands for a name that is not written yet.
const DESCRIBED: &str = "NAME";

impl Table {
    pub(crate) fn root(core: &Rc<Core>, node: Option<Rc<Node>>) -> Table {
        let root = Naming { name: String::new(), path: String::new(), pattern: String::new(), label: String::new() };
        Table::new(core, node, root)
    }

    pub(crate) fn new(core: &Rc<Core>, node: Option<Rc<Node>>, naming: Naming) -> Table {
        let Naming { name, path, pattern, label } = naming;
        core.state.borrow_mut().shape.table(&pattern);
        let at = node.as_ref().map_or_else(Position::unset, |node| core.position(node.span.clone()));
        if let Some(node) = &node {
            *node.taken.borrow_mut() = Some(Taken { pattern: pattern.clone(), label: label.clone() });
        }
        Table { core: Rc::clone(core), node, name, path, pattern, label, at }
    }

    /// The last part of its name: `api` for `[app.api]`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `app.api`, `route[2]`
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As it is written: `[app.api]`, `[[route]]`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Where its header stands; `default` if it is not written.
    pub fn position(&self) -> Position {
        self.at.clone()
    }

    pub fn exists(&self) -> bool {
        self.node.is_some() || self.core.describe
    }

    /// Written in the file, whoever reads it.
    pub fn has(&self, key: &str) -> bool {
        self.node.as_ref().is_some_and(|node| node.entry(key).is_some())
    }

    /// What the table is for, shown in the reference.
    pub fn doc(self, doc: &str) -> Table {
        doc.clone_into(&mut self.core.state.borrow_mut().shape.table(&self.pattern).doc);
        self
    }

    pub fn key(&self, name: &str) -> Key {
        Key::new(self.clone(), name)
    }

    /// A table within, by its dotted path, there or not. A name with a dot in it is quoted, as `path` gives it.
    pub fn table(&self, path: &str) -> Table {
        let mut table = self.clone();
        for name in segments(path) {
            let node = table.entry(&name).and_then(|entry| table.as_table(entry));
            // `table("app.main")` is one of `named("app")`.
            let any = join(&table.pattern, "*");
            let named = table.core.state.borrow().shape.get(&any).is_some();
            let pattern = if named { any } else { join(&table.pattern, &name) };
            let naming = table.naming(&name, &pattern);
            table = Table::new(&table.core, node, naming);
        }
        table
    }

    /// Every table within the table `path`, in the order of the file. A key beside them is read before they are.
    pub fn named(&self, path: &str) -> Vec<Table> {
        let parent = self.table(path);
        let pattern = join(&parent.pattern, "*");
        if parent.core.describe {
            return vec![Table::new(&parent.core, None, parent.naming(DESCRIBED, &pattern))];
        }
        parent.core.state.borrow_mut().shape.table(&pattern);
        let Some(node) = &parent.node else { return Vec::new() };
        let mut tables = Vec::new();
        for entry in node.entries() {
            let was_read = entry.read.replace(true);
            if was_read && !matches!(entry.node.kind, Kind::Table(_)) {
                continue;
            }
            if let Some(node) = parent.as_table(entry) {
                tables.push(Table::new(&parent.core, Some(node), parent.naming(&entry.key, &pattern)));
            }
        }
        tables
    }

    /// `[[path]]`: every table of the list, in the order of the file.
    pub fn array(&self, path: &str) -> Vec<Table> {
        let (parent, name) = match path.rsplit_once('.') {
            Some((parent, name)) => (self.table(parent), name),
            None => (self.clone(), path),
        };
        let pattern = format!("{}[]", join(&parent.pattern, name));
        if parent.core.describe {
            return vec![Table::new(&parent.core, None, parent.element(name, 0, &pattern))];
        }
        parent.core.state.borrow_mut().shape.table(&pattern);
        let Some(entry) = parent.entry(name) else { return Vec::new() };
        let label = format!("[[{}]]", join(&parent.path, &typed(name)));
        let Kind::List(items) = &entry.node.kind else {
            if !matches!(entry.node.kind, Kind::Broken) {
                let at = parent.core.position(entry.span.clone());
                let fault = Fault::new(&at, format!("\"{name}\" is not a list of tables"));
                let found = parent.found(&entry.key, &entry.node);
                parent.core.fault(fault.found(found).expected(&label).fix(format!("write {label}")));
            }
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if matches!(item.kind, Kind::Table(_)) {
                let naming = parent.element(name, index, &pattern);
                tables.push(Table::new(&parent.core, Some(Rc::clone(item)), naming));
            } else if !matches!(item.kind, Kind::Broken) {
                let at = parent.core.position(item.span.clone());
                let fault = Fault::new(&at, format!("an entry of \"{name}\" is not a table"));
                parent.core.fault(fault.found(parent.found(name, item)).expected(&label));
            }
        }
        tables
    }

    /// Every key with its value as text: `env = { A = "1", B = 2 }`. Its keys are anybody's names.
    pub fn pairs(&self) -> Vec<(Item<String>, Item<String>)> {
        self.core.state.borrow_mut().shape.table(&self.pattern).open = true;
        let Some(node) = &self.node else { return Vec::new() };
        node.entries().iter().filter_map(|entry| self.pair(entry)).collect()
    }

    fn pair(&self, entry: &Entry) -> Option<(Item<String>, Item<String>)> {
        entry.read.set(true);
        let at = self.core.position(entry.node.span.clone());
        let mut masked = secret::is_secret_name(&entry.key);
        let value = match &entry.node.kind {
            Kind::Text(text) => {
                let filled = self.core.fill(text, &at)?;
                masked |= filled.secret;
                if !filled.filled {
                    self.refuse_literal(&entry.key, text, masked, &entry.key, &at);
                }
                filled.text
            }
            Kind::Integer(number) => number.to_string(),
            Kind::Float(number) => number.to_string(),
            Kind::Boolean(boolean) => boolean.to_string(),
            Kind::Broken => return None,
            _ => {
                let what = format!("{} is not a text", self.subject(&entry.key));
                let fault = Fault::new(&at, what).found(self.found(&entry.key, &entry.node));
                self.core.fault(fault.expected("a text in quotes"));
                return None;
            }
        };
        if masked {
            self.core.keep_secret(&entry.key, &value);
        }
        self.core.setting(Setting {
            key: join(&self.path, &typed(&entry.key)),
            value: Some(if masked { mask::MASK.to_owned() } else { mask::url_passwords(&value) }),
            origin: at.clone(),
            overrode: Vec::new(),
            default: None,
            doc: String::new(),
            secret: masked,
        });
        let name = Item::new(entry.key.clone(), self.core.position(entry.span.clone()));
        Some((name, Item::new(value, at)))
    }

    /// A secret does not belong in a file that others see: refused in production (`name` is what to call it instead).
    pub(crate) fn refuse_literal(&self, key: &str, text: &str, secret: bool, name: &str, at: &Position) {
        if !self.core.environment.production || text.is_empty() {
            return;
        }
        let what = match (secret, crate::url::passwords(text).is_empty()) {
            (true, _) => "is a secret written in the file",
            (false, false) => "has a password written in the file",
            (false, true) => return,
        };
        let fault = Fault::new(at, format!("{} {what}", self.subject(key)));
        let expected = "a variable, so that the file can be shown to others";
        self.core.fault(fault.expected(expected).fix(format!("{} = \"${{{name}}}\"", typed(key))));
    }

    pub fn fault(&self, at: &Position, what: impl Into<String>, expected: impl Into<String>, fix: Option<&str>) {
        let mut fault = Fault::new(at, what).expected(expected);
        fault.fix = fix.map(str::to_owned);
        self.core.fault(fault);
    }

    pub fn warn(&self, at: &Position, what: impl Into<String>, expected: impl Into<String>, fix: Option<&str>) {
        let mut fault = Fault::new(at, what).expected(expected);
        fault.fix = fix.map(str::to_owned);
        self.core.warn(fault);
    }

    /// The key's entry, marked as read.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let entry = self.node.as_ref()?.entry(key)?;
        entry.read.set(true);
        Some(entry)
    }

    /// How the key is spoken of: `"interval" in [app.api.health]`.
    pub(crate) fn subject(&self, key: &str) -> String {
        let key = mask::quoted(key);
        if self.label.is_empty() { key } else { format!("{key} in {}", self.label) }
    }

    /// What stands there, unless its name says it is a secret.
    pub(crate) fn found(&self, key: &str, node: &Node) -> String {
        match &node.kind {
            Kind::Text(text) if secret::is_secret_name(key) => format!("a text of {} characters", text.chars().count()),
            _ => mask::url_passwords(&node.found()),
        }
    }

    fn as_table(&self, entry: &Entry) -> Option<Rc<Node>> {
        match &entry.node.kind {
            Kind::Table(_) => return Some(Rc::clone(&entry.node)),
            Kind::Broken => return None,
            _ => {}
        }
        let at = self.core.position(entry.span.clone());
        let label = format!("[{}]", join(&self.path, &typed(&entry.key)));
        let mut fault = Fault::new(&at, format!("{} is not a table", self.subject(&entry.key)));
        fault = fault.found(self.found(&entry.key, &entry.node)).expected(format!("a table {label}"));
        let named = self.core.state.borrow().shape.get(&join(&self.pattern, "*")).is_some();
        if named {
            let missing = join(&self.path, "main");
            fault = fault.fix(format!("write [{missing}] above it"));
        } else if matches!(entry.node.kind, Kind::List(_)) {
            fault = fault.fix(format!("write {label}"));
        }
        self.core.fault(fault);
        None
    }

    fn naming(&self, name: &str, pattern: &str) -> Naming {
        let path = join(&self.path, &typed(name));
        let label = format!("[{path}]");
        Naming { name: name.to_owned(), path, pattern: pattern.to_owned(), label }
    }

    fn element(&self, name: &str, index: usize, pattern: &str) -> Naming {
        let path = join(&self.path, &typed(name));
        let label = format!("[[{path}]]");
        Naming { name: name.to_owned(), path: format!("{path}[{index}]"), pattern: pattern.to_owned(), label }
    }

    /// A value of any shape; `None` after a fault. `path` and `pattern` are its own.
    pub(crate) fn take(&self, node: &Rc<Node>, key: &str, path: &str, pattern: &str) -> Option<Taking> {
        let at = self.core.position(node.span.clone());
        let plain = |value| Some(Taking { value, filled: false, secret: false });
        match &node.kind {
            Kind::Text(text) => {
                let filled = self.core.fill(text, &at)?;
                let value = Value::Text(filled.text);
                Some(Taking { value, filled: filled.filled, secret: filled.secret })
            }
            Kind::Integer(number) => plain(Value::Integer(*number)),
            Kind::Float(number) => plain(Value::Float(*number)),
            Kind::Boolean(boolean) => plain(Value::Boolean(*boolean)),
            Kind::List(items) => {
                let mut secret = false;
                let mut list = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    let taking = self.take(item, key, &path, &format!("{pattern}[]"));
                    // An entry that cannot be read was said; the others still count.
                    let Some(taking) = taking else { continue };
                    secret |= taking.secret;
                    list.push(Item::new(taking.value, self.core.position(item.span.clone())));
                }
                Some(Taking { value: Value::List(list), filled: false, secret })
            }
            Kind::Table(_) => {
                let (path, pattern) = (path.to_owned(), pattern.to_owned());
                let naming = Naming { name: key.to_owned(), label: format!("[{path}]"), path, pattern };
                plain(Value::Table(Table::new(&self.core, Some(Rc::clone(node)), naming)))
            }
            Kind::Broken => None,
            Kind::Huge(_) | Kind::Date(_) => {
                let fault = Fault::new(&at, format!("{} cannot be read", self.subject(key)));
                let expected = match &node.kind {
                    Kind::Huge(_) => "a number below 2^63",
                    _ => "a text in quotes",
                };
                self.core.fault(fault.found(self.found(key, node)).expected(expected));
                None
            }
        }
    }
}

/// `a."b.c"` is `a` and `b.c`.
fn segments(path: &str) -> Vec<String> {
    let (mut all, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for c in path.chars() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => all.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    all.push(part);
    all
}

pub(crate) struct Taking {
    pub(crate) value: Value,
    /// It came through `${…}`, so a number may be spelled in a text.
    pub(crate) filled: bool,
    pub(crate) secret: bool,
}

pub(crate) struct Naming {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) pattern: String,
    pub(crate) label: String,
}

impl fmt::Debug for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.label.is_empty() { "[]" } else { &self.label })
    }
}
