//! Everybody who sets one key, highest first: flag, variables, file. Decides nothing but the order.

use crate::key::Key;
use crate::mask;
use crate::position::Position;
use crate::secret;
use crate::shape::{Unit, join, typed};
use crate::tree;
use crate::value::Value;
use crate::variables::Place;

pub(crate) struct Candidate {
    pub(crate) value: Value,
    /// From a flag, a variable or `${…}`: numbers and booleans are spelled as text there.
    pub(crate) spelled: bool,
    pub(crate) unit: Unit,
    pub(crate) at: Position,
    pub(crate) place: Place,
    /// The variable's name as it was set, `NAME_FILE` included.
    pub(crate) variable: Option<String>,
    /// How messages speak of it.
    pub(crate) subject: String,
    pub(crate) secret: bool,
}

impl Candidate {
    /// What it says, unless that is a secret.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Value::Text(text) if self.secret => format!("a text of {} characters", text.chars().count()),
            _ if self.secret => "a value that is not shown".to_owned(),
            value => mask::url_passwords(&value.found()),
        }
    }
}

impl Key {
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        all.extend(self.by_flags());
        let mut variables = self.by_variables();
        variables.sort_by_key(|candidate| candidate.place);
        all.extend(variables);
        all.extend(self.by_file());
        all
    }

    fn by_flags(&self) -> Option<Candidate> {
        let path = self.path();
        let (_, value) = self.table.core.flags.iter().rfind(|(key, _)| *key == path)?;
        let at = Position::flag(&path);
        Some(Candidate {
            value: Value::Text(value.clone()),
            spelled: true,
            unit: Unit::Written,
            subject: at.to_string().trim_start_matches("flag ").to_owned(),
            at,
            place: Place::Flag,
            variable: None,
            secret: self.is_secret(),
        })
    }

    fn by_variables(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        for (name, unit) in &self.variables {
            self.table.core.used(name, &self.doc);
            for found in self.table.core.variables.all(name) {
                all.push(Candidate {
                    value: Value::Text(found.value),
                    spelled: true,
                    unit: *unit,
                    subject: found.name.clone(),
                    at: found.at,
                    place: found.place,
                    variable: Some(found.name),
                    secret: self.is_secret() || secret::is_secret_name(name),
                });
            }
        }
        all
    }

    fn by_file(&self) -> Option<Candidate> {
        let entry = self.table.entry(&self.name)?;
        let at = self.table.core.position(entry.node.span.clone());
        let pattern = join(&self.table.pattern, &typed(&self.name));
        if self.is_secret()
            && let Some(source) = &self.table.core.source
        {
            tree::hide(source, &entry.node);
        }
        let taking = self.table.take(&entry.node, &self.name, &self.path(), &pattern)?;
        if let (Value::Text(text), false) = (&taking.value, taking.filled) {
            let own = self.path().replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_uppercase();
            let name = self.variables.first().map_or(own, |(name, _)| name.clone());
            self.table.refuse_literal(&self.name, text, self.is_secret(), &name, &at);
        }
        Some(Candidate {
            value: taking.value,
            spelled: taking.filled,
            unit: Unit::Written,
            at,
            place: Place::File,
            variable: None,
            subject: self.table.subject(&self.name),
            secret: self.is_secret() || taking.secret,
        })
    }
}
