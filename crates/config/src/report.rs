//! Everything a reading found out, in the order a person mends it, with no secret in it.

use crate::fault::Fault;
use crate::position::Position;
use crate::read::{Core, State};
use crate::setting::{Setting, Variable};
use crate::shape::Shape;
use crate::variables::Place;
use crate::{known, mask, reference, render, schema, secret};

#[derive(Clone, Debug)]
pub struct Report {
    pub faults: Vec<Fault>,
    pub warnings: Vec<Fault>,
    /// In the order the blocks read them.
    pub settings: Vec<Setting>,
    /// Variables in use or asked for, by name; `Variable::in_use` tells.
    pub variables: Vec<Variable>,
    pub(crate) shape: Shape,
}

impl Report {
    pub(crate) fn of(core: &Core, secrets: Vec<(String, String)>) -> Report {
        let variables = variables(core);
        let state = core.state.borrow();
        let mut report = Report {
            faults: sorted(without_echoes(&state.faults)),
            warnings: sorted(without_echoes_of(&state.faults, &state.warnings)),
            settings: state.settings.clone(),
            variables,
            shape: state.shape.clone(),
        };
        for fault in report.faults.iter_mut().chain(&mut report.warnings) {
            fault.scrub(&secrets);
        }
        for setting in &mut report.settings {
            let values = setting.value.iter_mut().chain(setting.overrode.iter_mut().map(|over| &mut over.value));
            values.for_each(|value| mask::scrub(value, &secrets));
        }
        report
    }

    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// For a person: every fault with its line, every warning, then the counts.
    pub fn render(&self, color: bool) -> String {
        render::all(&self.faults, &self.warnings, color)
    }

    /// Everything that may be written, commented: the file `mainstay init` and the documentation start from. Complete
    /// when the report is `Reader::describe`'s.
    pub fn reference(&self) -> String {
        reference::write(&self.shape)
    }

    /// JSON Schema (2020-12) of the file. Complete when the report is `Reader::describe`'s.
    pub fn schema(&self) -> serde_json::Value {
        schema::write(&self.shape)
    }
}

/// A syntax fault leaves half a value behind: what else is said of its line is its echo.
fn without_echoes(faults: &[Fault]) -> Vec<Fault> {
    without_echoes_of(faults, faults)
}

fn without_echoes_of(faults: &[Fault], of: &[Fault]) -> Vec<Fault> {
    let place = |at: &Position| at.file().map(str::to_owned).zip(at.line());
    let broken: Vec<_> =
        faults.iter().filter(|fault| fault.syntax).filter_map(|fault| place(&fault.position)).collect();
    let echo = |fault: &Fault| !fault.syntax && place(&fault.position).is_some_and(|place| broken.contains(&place));
    of.iter().filter(|fault| !echo(fault)).cloned().collect()
}

fn sorted(mut faults: Vec<Fault>) -> Vec<Fault> {
    faults.sort_by(|a, b| a.position.order(&b.position));
    faults
}

/// Those set in an env file, those asked for, and those of the guides that the environment sets.
fn variables(core: &Core) -> Vec<Variable> {
    let state = core.state.borrow();
    let mut all: Vec<Variable> = Vec::new();
    for (name, found) in core.variables.names() {
        let in_file = matches!(found.place, Place::EnvFile | Place::DotEnv);
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        let counts = known::is_known(name) || (base != name && known::is_known(base));
        if in_file || counts || state.used.contains_key(name) {
            all.push(variable(name, Some(found.at.clone()), &state));
        }
    }
    for name in state.used.keys() {
        let file_form = format!("{name}_FILE");
        if !all.iter().any(|known| known.name == *name || known.name == file_form) {
            all.push(variable(name, None, &state));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn variable(name: &str, at: Option<Position>, state: &State) -> Variable {
    let base = name.strip_suffix("_FILE").unwrap_or(name);
    let known = known::doc(name).map(str::to_owned);
    let known = known.or_else(|| known::doc(base).map(|doc| format!("path of a file that holds {base}: {doc}")));
    let asked = state.used.get(name).filter(|doc| !doc.is_empty()).cloned();
    let doc = known.or(asked).unwrap_or_else(|| "read by the app".to_owned());
    let needed = state.needed.contains(name);
    Variable { name: name.to_owned(), at, needed, doc, secret: secret::is_secret_name(name) }
}
