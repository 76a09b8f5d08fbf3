//! One setting as it came out, for `mainstay config`. Secret values are masked before they get here.

use crate::position::Position;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `edge.timeouts.drain`, `app.api.run`, `route[2].limit`
    pub key: String,
    /// As it counts, masked where it is secret; `None` where nothing is set and nothing assumed.
    pub value: Option<String>,
    pub origin: Position,
    /// What it overrode, highest first.
    pub overrode: Vec<Overridden>,
    pub default: Option<String>,
    pub doc: String,
    pub secret: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    pub value: String,
    pub at: Position,
}

/// A variable in use: set in an env file, read by a setting, or referred to by the file. Never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// `None`: asked for, and set nowhere.
    pub at: Option<Position>,
    /// The file refers to it or a deployment requires it.
    pub needed: bool,
    pub doc: String,
    pub secret: bool,
}
