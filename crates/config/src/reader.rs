//! The one handle blocks read their options from. It never fails: faults are collected for `finish`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::dotenv::{self, Assignment};
use crate::environment::{self, Environment, Evidence, NAMES};
use crate::fault::Fault;
use crate::inputs::{Inputs, Text};
use crate::key::Key;
use crate::kind::Kind;
use crate::position::Position;
use crate::read::{Core, State, variable_secrets};
use crate::report::Report;
use crate::setting::{Overridden, Setting};
use crate::shape::KnownKey;
use crate::source::{Language, Source};
use crate::table::Table;
use crate::tree::{self, Kind as Written, Node};
use crate::value::Item;
use crate::variables::{Place, Variables};
use crate::{mask, secret, unread, url};

/// Cheap to clone; all clones share what was read.
#[derive(Clone)]
pub struct Reader {
    core: Rc<Core>,
    root: Table,
}

impl Reader {
    pub fn new(inputs: &Inputs) -> Reader {
        Reader::with(inputs, false)
    }

    /// A reader that has nothing to read but takes every table to exist once, so that its report knows every key.
    pub fn describe() -> Reader {
        Reader::with(&Inputs::default(), true)
    }

    fn with(inputs: &Inputs, describe: bool) -> Reader {
        let (variables, mut faults, warnings) = Variables::new(inputs);
        let source = inputs.file.as_ref().map(|file| {
            let name = file.path.to_string_lossy().into_owned();
            Arc::new(Source::new(name, file.text.clone(), Language::Toml))
        });
        let parsed = source.as_ref().map(tree::parse);
        let (root, syntax) = parsed.map_or((None, Vec::new()), |(root, syntax)| (Some(root), syntax));
        faults.extend(syntax);
        let evidence = evidence(inputs, &variables, source.as_ref(), root.as_ref());
        let environment = Environment::decide(evidence);
        let secrets = variable_secrets(&variables);
        let state = State { faults, warnings, secrets, ..State::default() };
        let core = Rc::new(Core {
            variables,
            flags: inputs.flags.clone(),
            command: inputs.command.clone(),
            source,
            root: root.clone(),
            environment,
            development: inputs.development.iter().flat_map(assignments).collect(),
            describe,
            state: RefCell::new(state),
        });
        let root = Table::root(&core, root);
        let reader = Reader { core, root };
        reader.record_environment();
        reader
    }

    /// Production or development, and why.
    pub fn environment(&self) -> &Environment {
        &self.core.environment
    }

    /// There is a `mainstay.toml`; without one nothing that works bare may change.
    pub fn has_file(&self) -> bool {
        self.core.source.is_some() || self.core.describe
    }

    /// `run -- command`
    pub fn command(&self) -> Option<&[String]> {
        self.core.command.as_deref()
    }

    /// A table by its dotted path, there or not.
    pub fn table(&self, path: &str) -> Table {
        self.root.table(path)
    }

    /// `[app.NAME]`: every table within `app`, in the order of the file.
    pub fn named(&self, path: &str) -> Vec<Table> {
        self.root.named(path)
    }

    /// `[[route]]`, in the order of the file.
    pub fn array(&self, path: &str) -> Vec<Table> {
        self.root.array(path)
    }

    /// A key above every table.
    pub fn key(&self, name: &str) -> Key {
        self.root.key(name)
    }

    pub fn fault(&self, at: &Position, what: impl Into<String>, expected: impl Into<String>, fix: Option<&str>) {
        self.root.fault(at, what, expected, fix);
    }

    pub fn warn(&self, at: &Position, what: impl Into<String>, expected: impl Into<String>, fix: Option<&str>) {
        self.root.warn(at, what, expected, fix);
    }

    /// A variable by name: environment, then `--env-file`, then `./.env`; `NAME_FILE` too. Two forms that disagree are
    /// a fault. Marks it used.
    pub fn variable(&self, name: &str) -> Option<Item<String>> {
        self.core.used(name, "");
        let all = self.core.variables.all(name);
        let first = all.first()?;
        let other = all.iter().find(|other| other.name != first.name && other.value != first.value);
        if let Some(other) = other {
            let what = format!("{} and {} disagree", first.name, other.name);
            let fault = Fault::new(&first.at, what).found(format!("another value at {}", other.at));
            self.core.fault(fault.expected("one of them").fix(format!("unset {}", other.name)));
        }
        Some(Item::new(first.value.clone(), first.at.clone()))
    }

    /// Set by the environment or `--env-file`, not by `./.env`: what an app would see whoever starts it.
    pub fn named_variable(&self, name: &str) -> Option<Item<String>> {
        self.core.used(name, "");
        let all = self.core.variables.all(name);
        let found = all.into_iter().find(|found| found.place < Place::DotEnv)?;
        Some(Item::new(found.value, found.at))
    }

    /// Name and value of all that must never be shown, for redaction by value. Longest first.
    pub fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = self.core.state.borrow().secrets.clone();
        secrets.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.cmp(b)));
        secrets
    }

    /// Everything said and read so far, and a fault for every key of the file nobody read.
    pub fn finish(&self) -> Report {
        unread::collect(&self.core);
        Report::of(&self.core, self.secrets())
    }

    /// The decision as a setting; the key is read by the decision itself.
    fn record_environment(&self) {
        let doc = "production or development; anything unknown counts as production";
        if let Some(entry) = self.core.root.as_ref().and_then(|root| root.entry("environment")) {
            entry.read.set(true);
            if !matches!(entry.node.kind, Written::Text(_) | Written::Broken) {
                let at = self.core.position(entry.node.span.clone());
                let fault = Fault::new(&at, "\"environment\" is not a text").found(entry.node.found());
                self.core.fault(fault.expected("\"production\" or \"development\""));
            }
        }
        let environment = self.environment().clone();
        let kind = Kind::Parsed("\"production\", \"development\" or a name of your own".to_owned());
        let variables = NAMES.iter().map(|name| ((*name).to_owned(), crate::shape::Unit::Written)).collect();
        self.core.state.borrow_mut().shape.key(
            "",
            KnownKey {
                name: "environment".to_owned(),
                doc: doc.to_owned(),
                kind,
                default: None,
                example: Some("\"production\"".to_owned()),
                variables,
                secret: false,
            },
        );
        for name in NAMES {
            self.core.used(name, "");
            self.warn_of_undecided(name);
        }
        self.core.setting(Setting {
            key: "environment".to_owned(),
            value: Some(environment.name),
            origin: environment.at,
            overrode: Vec::<Overridden>::new(),
            default: None,
            doc: doc.to_owned(),
            secret: false,
        });
    }
}

impl Reader {
    /// `./.env` does not decide, and who wrote `NODE_ENV` there may think it does.
    fn warn_of_undecided(&self, name: &str) {
        let decided = &self.core.environment;
        let Some(found) = self.core.variables.plain(name).find(|found| found.place == Place::DotEnv) else { return };
        if decided.file_decides() && environment::is_production(&found.value) != decided.production {
            let what = format!("{name} in ./.env does not decide the environment, which is {decided}");
            let fix =
                if decided.production { format!("{name}=… in the environment") } else { "--production".to_owned() };
            self.core.warn(Fault::new(&found.at, what).expected("the environment or --env-file").fix(fix));
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Reader({})", self.core.environment)
    }
}

fn evidence(inputs: &Inputs, variables: &Variables, source: Option<&Arc<Source>>, root: Option<&Rc<Node>>) -> Evidence {
    let flag = |key: &str| inputs.flags.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.clone());
    let variable = NAMES.iter().find_map(|name| {
        let found = variables.plain(name).find(|found| found.place < Place::DotEnv && !found.value.trim().is_empty());
        found.map(|found| (*name, found.value.clone(), found.at.clone()))
    });
    let at = |span: &std::ops::Range<usize>| {
        source.map_or_else(Position::unset, |source| Position::within(source, span.clone()))
    };
    let file = root.and_then(|root| root.entry("environment")).and_then(|entry| match &entry.node.kind {
        Written::Text(text) if !text.trim().is_empty() => Some((text.clone(), at(&entry.node.span))),
        _ => None,
    });
    // `./.env` may not decide: `environment = "${X}"` looks where a variable's own name would be looked for.
    let file = file.and_then(|(text, at)| {
        let lookup = |name: &str| {
            let found = variables.plain(name).find(|found| found.place < Place::DotEnv);
            found.map(|found| found.value.clone())
        };
        crate::interpolate::fill(&text, lookup).ok().map(|filled| (filled.text, at))
    });
    let edge = root.and_then(|root| root.entry("edge")).and_then(|edge| edge.node.entry("domains"));
    let domains = edge.filter(|entry| match &entry.node.kind {
        Written::Text(text) => !text.is_empty(),
        Written::List(items) => !items.is_empty(),
        _ => false,
    });
    Evidence {
        flag: flag("production").map(|value| (value, Position::flag("production"))),
        variable,
        file,
        domains: match flag("edge.domains").filter(|value| !value.is_empty()) {
            Some(_) => Some(Position::flag("edge.domains")),
            None => domains.map(|entry| at(&entry.span)),
        },
        pid: inputs.pid,
        systemd_pid: inputs.environment.iter().find(|(name, _)| name == "SYSTEMD_EXEC_PID").map(|(_, pid)| pid.clone()),
    }
}

impl Reader {
    /// A connection string by its variable, taken apart. A broken one is a fault in production, else a warning; a
    /// scheme that is not ours is the app's business.
    pub fn url(&self, name: &str) -> Option<Item<url::Url>> {
        let item = self.variable(name)?;
        match url::parse(&item.value) {
            Ok(url) => Some(Item::new(url, item.at)),
            Err(problem) => {
                if !problem.foreign {
                    let what = format!("{name} {}", problem.what);
                    let fault = Fault::new(&item.at, what).expected(problem.expected);
                    self.judge(fault.fix(problem.fix));
                }
                None
            }
        }
    }

    /// A secret by its variable: weak or a sample, it is a fault in production, else a warning. `None` for the least
    /// length takes the one its name asks for.
    pub fn secret(&self, name: &str, least_chars: Option<usize>) -> Option<Item<String>> {
        let item = self.variable(name)?;
        self.core.keep_secret(name, &item.value);
        let least = least_chars.unwrap_or_else(|| secret::least_chars(name));
        if let Some(weakness) = secret::weakness_below(name, &item.value, least) {
            let fault = Fault::new(&item.at, weakness);
            self.judge(fault.fix(format!("mainstay secret {}", mask::cut(name))));
        }
        let all = self.core.variables.all(name);
        let development = all.iter().find(|found| found.place == Place::DotEnv && found.value == item.value);
        if let (true, Some(found), true) = (self.core.environment.production, development, all.len() > 1) {
            let what = format!("{name} is the value that development uses ({})", found.at);
            let fix = format!("mainstay secret {}", mask::cut(name));
            self.core.warn(Fault::new(&item.at, what).expected("a value of its own in production").fix(fix));
        }
        Some(item)
    }

    /// A variable that a deployment lists as required (C8), `at` its place in the list: without it there is a fault in
    /// production, else a warning.
    pub fn require(&self, name: &str, at: &Position) -> Option<Item<String>> {
        self.core.needed(name);
        let item = self.variable(name);
        if item.is_none() {
            let name = mask::cut(name);
            let fault = Fault::new(at, format!("{name} is required and not set"));
            let expected = "a variable of the environment, of --env-file or of .env";
            self.judge(fault.expected(expected).fix(format!("set {name}=…")));
        }
        item
    }

    /// Secrets by their name that are set, as they count.
    pub(crate) fn set_secrets(&self) -> Vec<(String, String, Position)> {
        let names = self.core.variables.names().filter(|(name, _)| secret::is_secret_name(name));
        names.map(|(name, found)| (name.to_owned(), found.value.clone(), found.at.clone())).collect()
    }

    /// Where a file of development gives this variable this very value.
    pub(crate) fn in_development(&self, name: &str, value: &str) -> Option<&Position> {
        let same = |assignment: &&Assignment| assignment.name == name && assignment.value.trim() == value.trim();
        self.core.development.iter().find(same).map(|assignment| &assignment.at)
    }

    pub(crate) fn warn_with(&self, fault: Fault) {
        self.core.warn(fault);
    }

    /// A fault in production, a warning in development.
    fn judge(&self, fault: Fault) {
        if self.core.environment.production { self.core.fault(fault) } else { self.core.warn(fault) }
    }
}

fn assignments(text: &Text) -> Vec<Assignment> {
    dotenv::parse(&text.path.to_string_lossy(), &text.text).0
}
