//! What one reading shares: the inputs, and all that was found out on the way. Only `Reader` and `Table` hold it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::dotenv::Assignment;
use crate::environment::Environment;
use crate::fault::Fault;
use crate::interpolate::{self, Problem};
use crate::position::Position;
use crate::setting::Setting;
use crate::shape::Shape;
use crate::source::Source;
use crate::tree::Node;
use crate::variables::{Place, Variables};
use crate::{mask, secret, url};

/// Faults kept of each kind: nobody mends more in one go, and a hostile file has a million.
pub(crate) const MAX_FAULTS: usize = 500;

/// Secrets kept for redaction: far more than any app has, few enough to search for.
const MAX_SECRETS: usize = 4096;

pub(crate) struct Core {
    pub(crate) variables: Variables,
    pub(crate) flags: Vec<(String, String)>,
    pub(crate) command: Option<Vec<String>>,
    pub(crate) source: Option<Arc<Source>>,
    pub(crate) root: Option<Rc<Node>>,
    pub(crate) environment: Environment,
    /// What the files of development say.
    pub(crate) development: Vec<Assignment>,
    /// Every table is taken to exist once, to learn what may be written.
    pub(crate) describe: bool,
    pub(crate) state: RefCell<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Fault>,
    pub(crate) settings: Vec<Setting>,
    pub(crate) shape: Shape,
    /// Name and value.
    pub(crate) secrets: Vec<(String, String)>,
    /// Variables asked for, with what they are for.
    pub(crate) used: BTreeMap<String, String>,
    /// Variables the file refers to, or that are required by name.
    pub(crate) needed: BTreeSet<String>,
}

impl Core {
    pub(crate) fn fault(&self, fault: Fault) {
        push(&mut self.state.borrow_mut().faults, fault);
    }

    pub(crate) fn warn(&self, fault: Fault) {
        push(&mut self.state.borrow_mut().warnings, fault);
    }

    pub(crate) fn position(&self, span: std::ops::Range<usize>) -> Position {
        self.source.as_ref().map_or_else(Position::unset, |source| Position::within(source, span))
    }

    pub(crate) fn setting(&self, setting: Setting) {
        let settings = &mut self.state.borrow_mut().settings;
        match settings.iter_mut().find(|known| known.key == setting.key) {
            Some(known) if known.doc.is_empty() || known.value.is_none() => *known = setting,
            Some(_) => {}
            None => settings.push(setting),
        }
    }

    /// Remembers a value that must never be shown.
    pub(crate) fn keep_secret(&self, name: &str, value: &str) {
        keep_secret(&mut self.state.borrow_mut().secrets, name, value);
    }

    pub(crate) fn used(&self, name: &str, doc: &str) {
        let used = &mut self.state.borrow_mut().used;
        let known = used.entry(name.to_owned()).or_default();
        if known.is_empty() {
            doc.clone_into(known);
        }
    }

    pub(crate) fn needed(&self, name: &str) {
        self.used(name, "");
        self.state.borrow_mut().needed.insert(name.to_owned());
    }

    /// Does the file have the table this path begins with?
    pub(crate) fn configures(&self, path: &str) -> bool {
        let first = path.split(['.', '[']).next().unwrap_or(path);
        self.root.as_ref().is_some_and(|root| root.entry(first).is_some())
    }

    /// Fills `${…}` in a text of the file. `None` after a fault; else the text, and whether anything was filled in,
    /// and whether a secret was.
    pub(crate) fn fill(&self, text: &str, at: &Position) -> Option<Filled> {
        if !text.contains("${") {
            return Some(Filled { text: text.to_owned(), filled: false, secret: false });
        }
        let filled = interpolate::fill(text, |name| self.lookup(name));
        match filled {
            Ok(filled) => {
                let secret = filled.names.iter().any(|name| secret::is_secret_name(name));
                if secret {
                    self.keep_secret("${}", &filled.text);
                }
                filled.names.iter().for_each(|name| self.needed(name));
                Some(Filled { filled: !filled.names.is_empty(), text: filled.text, secret })
            }
            Err(problems) => {
                for problem in &problems {
                    if let Problem::Unset(name) = problem {
                        self.needed(name);
                    }
                    self.fault(unfilled(problem, at));
                }
                None
            }
        }
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let found = self.variables.all(name).into_iter().next().map(|found| found.value);
        found.or_else(|| self.variables.is_set(name).then(String::new))
    }
}

pub(crate) struct Filled {
    pub(crate) text: String,
    pub(crate) filled: bool,
    pub(crate) secret: bool,
}

fn unfilled(problem: &Problem, at: &Position) -> Fault {
    match problem {
        Problem::Unset(name) => Fault::new(at, format!("${{{name}}} is not set"))
            .expected("a variable of the environment, of --env-file or of .env")
            .fix(format!("{name}=… in the environment, or ${{{name}:-default}} here")),
        Problem::Unclosed => Fault::new(at, "\"${\" is never closed")
            .expected("${NAME} or ${NAME:-default}")
            .fix("add }, or write $${ for a literal ${"),
        Problem::NoName(name) => Fault::new(at, "this is not a variable's name")
            .found(mask::quoted(name))
            .expected("${NAME} or ${NAME:-default}")
            .fix("write $${ for a literal ${"),
    }
}

fn push(faults: &mut Vec<Fault>, fault: Fault) {
    if faults.len() < MAX_FAULTS && !faults.contains(&fault) {
        faults.push(fault);
    }
}

pub(crate) fn keep_secret(secrets: &mut Vec<(String, String)>, name: &str, value: &str) {
    let pair = (name.to_owned(), value.to_owned());
    if value.len() >= mask::SCRUBBED_BYTES && secrets.len() < MAX_SECRETS && !secrets.contains(&pair) {
        secrets.push(pair);
    }
}

/// Every value of the variables that is secret: by its name, or as the password of a URL.
pub(crate) fn variable_secrets(variables: &Variables) -> Vec<(String, String)> {
    let mut secrets = Vec::new();
    for (name, value) in variables.values() {
        if secret::is_secret_name(name) {
            keep_secret(&mut secrets, name, value);
        }
        for password in url::passwords(value) {
            keep_secret(&mut secrets, name, &password);
        }
    }
    secrets
}

/// What a place is called in messages about variables.
pub(crate) fn is_variable(place: Place) -> bool {
    matches!(place, Place::Environment | Place::EnvFile | Place::DotEnv)
}
