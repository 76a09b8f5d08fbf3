//! One key, described and then read. The terminals are in `terminals`; here is what all of them share.

use crate::candidate::Candidate;
use crate::fault::Fault;
use crate::kind::Kind;
use crate::mask;
use crate::position::Position;
use crate::read::is_variable;
use crate::secret;
use crate::setting::{Overridden, Setting};
use crate::shape::{KnownKey, Unit, join, typed};
use crate::table::Table;
use crate::value::{Item, Value};
use crate::variables::Place;

/// Describe it, then end with a terminal: `edge.key("drain").doc("…").env_ms("…").duration("30s")`.
#[must_use = "a key is read by its terminal, such as .text(\"\")"]
pub struct Key {
    pub(crate) table: Table,
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) example: Option<String>,
    pub(crate) variables: Vec<(String, Unit)>,
    pub(crate) secret: bool,
    strict: bool,
}

/// Why a candidate cannot be read.
pub(crate) struct Refused {
    /// `None`: as the candidate says it.
    pub(crate) found: Option<String>,
    pub(crate) expected: String,
    pub(crate) fix: Option<String>,
}

/// The value, and how it is shown.
pub(crate) type Read<T> = Result<(T, String), Refused>;

impl Key {
    pub(crate) fn new(table: Table, name: &str) -> Key {
        let (doc, example, variables) = (String::new(), None, Vec::new());
        Key { table, name: name.to_owned(), doc, example, variables, secret: false, strict: false }
    }

    /// What it is for, in a line or a few.
    pub fn doc(mut self, doc: &str) -> Key {
        doc.clone_into(&mut self.doc);
        self
    }

    /// What to show in the reference where there is no default, as TOML: `"\"10s\""`, `"[\":80\"]"`.
    pub fn example(mut self, toml: &str) -> Key {
        self.example = Some(toml.to_owned());
        self
    }

    /// A variable that sets it, written as in the file.
    pub fn env(self, name: &str) -> Key {
        self.variable(name, Unit::Written)
    }

    /// A variable that sets it in whole milliseconds.
    pub fn env_ms(self, name: &str) -> Key {
        self.variable(name, Unit::Millis)
    }

    /// A variable that sets it in whole seconds.
    pub fn env_s(self, name: &str) -> Key {
        self.variable(name, Unit::Seconds)
    }

    fn variable(mut self, name: &str, unit: Unit) -> Key {
        self.variables.push((name.to_owned(), unit));
        self
    }

    /// Never shown; refused in production when the file holds the value itself.
    pub fn secret(mut self) -> Key {
        self.secret = true;
        self
    }

    /// A variable that cannot be read is always a fault: for what is ours alone, such as `PORT`.
    pub fn strict(mut self) -> Key {
        self.strict = true;
        self
    }

    pub(crate) fn path(&self) -> String {
        join(&self.table.path, &typed(&self.name))
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.secret || secret::is_secret_name(&self.name)
    }

    /// Reads every candidate; the highest that can be read counts. `default` is TOML.
    pub(crate) fn resolve<T>(
        &self,
        kind: Kind,
        default: Option<String>,
        parse: &dyn Fn(&Candidate) -> Read<T>,
    ) -> Option<Item<T>> {
        self.describe(kind.clone(), default.clone());
        let mut read: Vec<(T, String, Candidate)> = Vec::new();
        for candidate in self.candidates() {
            match parse(&candidate) {
                Ok((value, shown)) => {
                    self.keep_secret(&candidate);
                    read.push((value, shown, candidate));
                }
                Err(refused) => self.refuse(&candidate, &kind, refused),
            }
        }
        self.check_agreement(&read);
        self.record(&read, default);
        read.into_iter().next().map(|(value, _, candidate)| Item::new(value, candidate.at))
    }

    fn describe(&self, kind: Kind, default: Option<String>) {
        let key = KnownKey {
            name: self.name.clone(),
            doc: self.doc.clone(),
            kind,
            default,
            example: self.example.clone(),
            variables: self.variables.clone(),
            secret: self.is_secret(),
        };
        self.table.core.state.borrow_mut().shape.key(&self.table.pattern, key);
    }

    fn keep_secret(&self, candidate: &Candidate) {
        if !candidate.secret {
            return;
        }
        let name = candidate.variable.clone().unwrap_or_else(|| self.path());
        match &candidate.value {
            Value::Text(text) => self.table.core.keep_secret(&name, text),
            Value::List(items) => {
                for item in items {
                    if let Value::Text(text) = &item.value {
                        self.table.core.keep_secret(&name, text);
                    }
                }
            }
            _ => {}
        }
    }

    /// A variable the app may read otherwise (`LOG_LEVEL=http`) is no reason to stop, unless in production the file
    /// shows that the block is meant to work.
    fn refuse(&self, candidate: &Candidate, kind: &Kind, refused: Refused) {
        let core = &self.table.core;
        let own = candidate.variable.as_ref().is_some_and(|name| name.starts_with("MAINSTAY_")) || self.strict;
        let configured = core.environment.production && core.configures(&self.table.path);
        let lenient = is_variable(candidate.place) && !own && !configured;
        let noun = match kind {
            Kind::Duration => " is not a duration",
            Kind::Size => " is not a size",
            Kind::Integer { .. } => " is not such a number",
            Kind::Boolean => " is not true or false",
            Kind::Text => " is not a text",
            Kind::Texts => " is not a list of texts",
            Kind::Choice(_) => " is not a choice",
            Kind::Parsed(_) | Kind::Any => " cannot be read",
        };
        let ignored = if lenient { " and is ignored here" } else { "" };
        let mut fault = Fault::new(&candidate.at, format!("{}{noun}{ignored}", candidate.subject));
        fault.found = refused.found.map_or_else(|| candidate.found(), |found| mask::cut(&found));
        fault.expected = refused.expected;
        fault.fix = refused.fix;
        if candidate.secret
            && let Value::Text(text) = &candidate.value
        {
            fault.scrub(&[(String::new(), text.clone())]);
        }
        if lenient { core.warn(fault) } else { core.fault(fault) }
    }

    /// Two names of one setting must say the same.
    fn check_agreement<T>(&self, read: &[(T, String, Candidate)]) {
        let mut names: Vec<(&str, &str, &Candidate)> = Vec::new();
        for (_, shown, candidate) in read {
            let Some(name) = &candidate.variable else { continue };
            if !names.iter().any(|(known, ..)| known == name) {
                names.push((name, shown, candidate));
            }
        }
        let Some((first, others)) = names.split_first() else { return };
        for other in others.iter().filter(|other| other.1 != first.1) {
            let say = |(_, shown, candidate): &(&str, &str, &Candidate)| {
                let shown = if candidate.secret { "another value".to_owned() } else { mask::cut(shown) };
                format!("{shown} at {}", candidate.at)
            };
            let what = format!("{} and {} name one setting and disagree", first.0, other.0);
            let fault = Fault::new(&first.2.at, what).found(format!("{}, {}", say(first), say(other)));
            let expected = format!("one value for {}", self.path());
            self.table.core.fault(fault.expected(expected).fix(format!("unset {}", other.0)));
        }
    }

    fn record<T>(&self, read: &[(T, String, Candidate)], default: Option<String>) {
        let show = |shown: &str, candidate: &Candidate| {
            if candidate.secret { mask::MASK.to_owned() } else { mask::url_passwords(shown) }
        };
        let mut all = read
            .iter()
            .map(|(_, shown, candidate)| Overridden { value: show(shown, candidate), at: candidate.at.clone() });
        let first = all.next();
        let mut overrode: Vec<Overridden> = all.collect();
        if let (Some(default), true) = (&default, first.is_some()) {
            overrode.push(Overridden { value: default.clone(), at: Position::unset() });
        }
        let secret = self.is_secret() || read.iter().any(|(_, _, candidate)| candidate.secret);
        let (value, origin) = match first {
            Some(first) => (Some(first.value), first.at),
            None => (default.clone(), Position::unset()),
        };
        let key = self.path();
        self.table.core.setting(Setting { key, value, origin, overrode, default, doc: self.doc.clone(), secret });
    }
}

impl Refused {
    pub(crate) fn new(kind: &Kind) -> Refused {
        Refused { found: None, expected: kind.expected(), fix: None }
    }

    pub(crate) fn found(mut self, found: impl Into<String>) -> Refused {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Refused {
        self.expected = expected.into();
        self
    }

    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Refused {
        self.fix = Some(fix.into());
        self
    }
}

/// How a correct value is typed where the wrong one stands.
pub(crate) fn assign(candidate: &Candidate, key: &str, toml: &str) -> String {
    match (&candidate.variable, candidate.place) {
        (Some(name), _) => format!("{name}={}", toml.trim_matches('"')),
        (None, Place::Flag) => format!("{} {}", candidate.subject, toml.trim_matches('"')),
        _ => format!("{} = {toml}", typed(key)),
    }
}
