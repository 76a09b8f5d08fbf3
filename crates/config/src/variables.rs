//! Every variable there is, by name, with its place: environment, then `--env-file`, then `./.env`. Each may also be
//! given as a file (`NAME_FILE`) or as a credential of systemd. Reads nothing itself: `Inputs::gather` did.

use std::collections::BTreeMap;

use crate::dotenv::{self, Assignment};
use crate::fault::Fault;
use crate::inputs::Inputs;
use crate::mask;
use crate::position::Position;

/// Who said it, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Flag,
    Environment,
    EnvFile,
    DotEnv,
    File,
}

#[derive(Clone)]
pub(crate) struct Found {
    /// `NAME` or `NAME_FILE`, as it was set.
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) at: Position,
    pub(crate) place: Place,
}

#[derive(Default)]
pub(crate) struct Variables {
    by_name: BTreeMap<String, Vec<Found>>,
    /// Contents of files that a `NAME_FILE` names, by the path as written.
    files: BTreeMap<String, String>,
}

impl Variables {
    /// With the faults of the env files, and warnings about names given twice in one.
    pub(crate) fn new(inputs: &Inputs) -> (Variables, Vec<Fault>, Vec<Fault>) {
        let mut variables = Variables::default();
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        for (name, value) in &inputs.environment {
            variables.add(name, value, Position::variable(name), Place::Environment);
        }
        for (name, value) in &inputs.credentials {
            variables.add(name, trim_end(value), Position::credential(name), Place::Environment);
        }
        for (text, place) in [(&inputs.env_file, Place::EnvFile), (&inputs.dot_env, Place::DotEnv)] {
            let Some(text) = text else { continue };
            let (assignments, bad) = dotenv::parse(&text.path.to_string_lossy(), &text.text);
            faults.extend(bad);
            variables.add_file(assignments, place, &mut warnings);
        }
        for text in &inputs.secret_files {
            let value = trim_end(&text.text).to_owned();
            variables.files.insert(text.path.to_string_lossy().into_owned(), value);
        }
        for found in variables.by_name.values_mut() {
            found.sort_by_key(|found| found.place);
        }
        (variables, faults, warnings)
    }

    fn add(&mut self, name: &str, value: &str, at: Position, place: Place) {
        let found = Found { name: name.to_owned(), value: value.to_owned(), at, place };
        let all = self.by_name.entry(name.to_owned()).or_default();
        // The last of one place counts, as in every dotenv reader.
        all.retain(|other| other.place != place);
        all.push(found);
    }

    fn add_file(&mut self, assignments: Vec<Assignment>, place: Place, warnings: &mut Vec<Fault>) {
        for Assignment { name, value, at } in assignments {
            let earlier = self.by_name.get(&name).and_then(|all| all.iter().find(|other| other.place == place));
            if let Some(earlier) = earlier.filter(|earlier| earlier.value != value) {
                let what = format!("{} is set twice, and this one counts", mask::cut(&name));
                let fix = format!("remove {}", earlier.at);
                warnings.push(Fault::new(&at, what).fix(fix));
            }
            self.add(&name, &value, at, place);
        }
    }

    /// Where `name` itself is set and not empty, highest first. An empty variable is an unset one.
    pub(crate) fn plain(&self, name: &str) -> impl Iterator<Item = &Found> {
        self.by_name.get(name).into_iter().flatten().filter(|found| !found.value.is_empty())
    }

    /// Like `plain`, with what the file holds that `NAME_FILE` names.
    pub(crate) fn all(&self, name: &str) -> Vec<Found> {
        let mut all: Vec<Found> = self.plain(name).cloned().collect();
        for found in self.plain(&format!("{name}_FILE")) {
            if let Some(value) = self.files.get(&found.value).filter(|value| !value.is_empty()) {
                all.push(Found { value: value.clone(), ..found.clone() });
            }
        }
        all.sort_by_key(|found| found.place);
        all
    }

    /// Set at all, even to nothing: a shell tells these apart in `${NAME:-default}`.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || !self.all(name).is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.by_name.iter().filter_map(|(name, all)| all.first().map(|found| (name.as_str(), found)))
    }

    /// Every value of every name, whoever wins.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self
            .by_name
            .iter()
            .flat_map(|(name, all)| all.iter().map(move |found| (name.as_str(), found.value.as_str())));
        let files = self.by_name.keys().filter_map(|name| name.strip_suffix("_FILE")).flat_map(move |name| {
            let set = self.by_name.get(&format!("{name}_FILE")).into_iter().flatten();
            set.filter_map(move |found| self.files.get(&found.value).map(|value| (name, value.as_str())))
        });
        plain.chain(files)
    }
}

/// One line break at the end of a file is the editor's.
fn trim_end(value: &str) -> &str {
    let value = value.strip_suffix('\n').unwrap_or(value);
    value.strip_suffix('\r').unwrap_or(value)
}
