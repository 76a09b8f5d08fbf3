//! Keys of the file that no block asked for, each with the nearest name that one would have.

use crate::fault::Fault;
use crate::known;
use crate::mask;
use crate::nearest::nearest;
use crate::read::{Core, MAX_FAULTS};
use crate::shape::{Shape, typed};
use crate::tree::{Entry, Kind, Node, Taken};

/// Tables the design names and this version does not read yet. Saying "unknown" of them would send people searching.
const LATER: [&str; 3] = ["jobs", "outbound", "backup"];

pub(crate) fn collect(core: &Core) {
    let Some(root) = &core.root else { return };
    let mut faults = Vec::new();
    walk(core, root, &Taken { pattern: String::new(), label: String::new() }, &mut faults);
    faults.into_iter().for_each(|fault| core.fault(fault));
    own_variables(core);
}

fn walk(core: &Core, node: &Node, taken: &Taken, faults: &mut Vec<Fault>) {
    for entry in node.entries() {
        if faults.len() >= MAX_FAULTS {
            return;
        }
        if entry.read.get() {
            descend(core, &entry.node, faults);
        } else {
            faults.push(unknown(core, entry, taken));
        }
    }
}

/// Only into what a block took: the inside of a value of the wrong type is not called unknown as well.
fn descend(core: &Core, node: &Node, faults: &mut Vec<Fault>) {
    if let Kind::List(items) = &node.kind {
        items.iter().for_each(|item| descend(core, item, faults));
    }
    let taken = node.taken.borrow().clone();
    if let Some(taken) = taken {
        walk(core, node, &taken, faults);
    }
}

fn unknown(core: &Core, entry: &Entry, taken: &Taken) -> Fault {
    let at = core.position(entry.span.clone());
    let is_table = matches!(&entry.node.kind, Kind::Table(_));
    let is_list = matches!(&entry.node.kind, Kind::List(items)
        if items.first().is_some_and(|item| matches!(item.kind, Kind::Table(_))));
    let key = mask::cut(&entry.key);
    let what = match (&taken.label, is_table, is_list) {
        (_, true, _) if taken.label.is_empty() => format!("unknown table [{}]", typed(&key)),
        (_, _, true) if taken.label.is_empty() => format!("unknown table [[{}]]", typed(&key)),
        (label, ..) if label.is_empty() => format!("unknown key \"{key}\""),
        (label, ..) => format!("unknown key \"{key}\" in {label}"),
    };
    if taken.label.is_empty() && LATER.contains(&entry.key.as_str()) {
        let what = what.replacen("unknown table", "this version of mainstay does not read", 1);
        return Fault::new(&at, what).fix("remove it, or put # before its lines");
    }
    let state = core.state.borrow();
    let fault = Fault::new(&at, what);
    let names = state.shape.names(&taken.pattern);
    match nearest(&entry.key, names.iter().copied()) {
        Some(near) => fault.fix(format!("nearest: \"{near}\"")),
        None => match elsewhere(&entry.key, &state.shape) {
            Some(place) => fault.fix(format!("it belongs in {place}")),
            None => fault.expected(listed(&names)),
        },
    }
}

/// A key in the wrong table is as common as a mistyped one.
fn elsewhere(key: &str, shape: &Shape) -> Option<String> {
    let mut places = shape.tables.iter().filter(|table| table.keys.iter().any(|known| known.name == key));
    let place = places.next()?;
    let none_else = places.next().is_none();
    let label = crate::reference::header(&place.pattern)?;
    none_else.then_some(label)
}

/// What could stand there, when there are few enough names to be worth reading.
fn listed(names: &[&str]) -> String {
    const LISTED: usize = 12;
    if names.is_empty() || names.len() > LISTED {
        return String::new();
    }
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("one of {}", names.join(", "))
}

/// A mistyped `MAINSTAY_…` does nothing, silently: say so.
fn own_variables(core: &Core) {
    for (name, found) in core.variables.names() {
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        let known = known::is_known(name) || known::is_known(base) || core.state.borrow().used.contains_key(name);
        if let Some(meant) = known::meant(name).filter(|_| !known) {
            let fault = Fault::new(&found.at, format!("{} is no variable of mainstay", mask::cut(name)));
            core.warn(fault.fix(format!("nearest: {meant}")));
        }
    }
}
