//! Changes to an app's `upstreams` in the text of the file: comments, order and everything else stay. Pure.
//!
//! The file stays the one truth: what a verb changes is what a reload reads, and what a diff shows.

use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value};

/// What shall become of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add(u32),
    Weight(u32),
    /// `false`: it serves again.
    Drain(bool),
    Remove,
}

/// The text with the change, and the app it was made in. `app` may be left out where there is only one.
pub fn change(text: &str, app: Option<&str>, address: &str, change: &Change) -> Result<(String, String), String> {
    let mut document: DocumentMut = text.parse().map_err(|e| format!("the file cannot be read: {e}"))?;
    let app = match app {
        Some(app) => app.to_owned(),
        None => only_app(&document, address, change)?,
    };
    let table = document
        .get_mut("app")
        .and_then(|apps| apps.get_mut(&app))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| format!("there is no [app.{app}] in the file"))?;
    let list = addresses(table, &app)?;
    let at = list.iter().position(|entry| address_of(entry) == Some(address));
    match (change, at) {
        (Change::Add(_), Some(_)) => return Err(format!("{address} is there already   see: mainstay upstreams")),
        (Change::Add(weight), None) => list.push(entry(address, *weight, false)),
        (_, None) => return Err(format!("{address} is no upstream of {app}   see: mainstay upstreams")),
        (Change::Remove, Some(_)) if list.len() == 1 => {
            return Err(format!("{address} is the last upstream of {app}; an app without one serves nobody"));
        }
        (Change::Remove, Some(at)) => drop(list.remove(at)),
        (Change::Weight(weight), Some(at)) => {
            let drains = is_draining(list.get(at));
            list.replace(at, entry(address, *weight, drains));
        }
        (Change::Drain(drain), Some(at)) => {
            let weight = weight_of(list.get(at));
            list.replace(at, entry(address, weight, *drain));
        }
    }
    Ok((document.to_string(), app))
}

/// The app that has this address; for a new one, the only app that has any.
fn only_app(document: &DocumentMut, address: &str, change: &Change) -> Result<String, String> {
    let apps = document.get("app").and_then(Item::as_table_like);
    let has = |item: &Item| {
        let upstreams = item.get("upstreams").and_then(Item::as_value)?;
        let there = match upstreams {
            Value::Array(list) => list.iter().any(|entry| address_of(entry) == Some(address)),
            one => address_of(one) == Some(address),
        };
        Some(there || matches!(change, Change::Add(_)))
    };
    let having: Vec<&str> = apps
        .into_iter()
        .flat_map(|apps| apps.iter())
        .filter(|(_, item)| has(item) == Some(true))
        .map(|(name, _)| name)
        .collect();
    match having[..] {
        [only] => Ok(only.to_owned()),
        [] => Err(format!("no app of the file has {address}   see: mainstay upstreams")),
        _ => Err(format!("several apps have upstreams: {}   say which: --app NAME", having.join(", "))),
    }
}

/// The list; a single address written as text becomes one.
fn addresses<'a>(table: &'a mut dyn TableLike, app: &str) -> Result<&'a mut Array, String> {
    let item = table.get_mut("upstreams").ok_or_else(|| format!("[app.{app}] has no upstreams: it is run here"))?;
    if let Some(text) = item.as_str().map(str::to_owned) {
        *item = toml_edit::value(Array::from_iter([text]));
    }
    item.as_array_mut().ok_or_else(|| format!("`upstreams` of [app.{app}] is no list"))
}

fn address_of(entry: &Value) -> Option<&str> {
    let text = match entry {
        Value::InlineTable(table) => table.get("to")?.as_str()?,
        other => other.as_str()?,
    };
    Some(text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/'))
}

fn weight_of(entry: Option<&Value>) -> u32 {
    let weight = entry.and_then(Value::as_inline_table).and_then(|t| t.get("weight")).and_then(Value::as_integer);
    weight.and_then(|w| u32::try_from(w).ok()).unwrap_or(1)
}

fn is_draining(entry: Option<&Value>) -> bool {
    entry.and_then(Value::as_inline_table).and_then(|t| t.get("drain")).and_then(Value::as_bool) == Some(true)
}

/// As short as it can be written.
fn entry(address: &str, weight: u32, drain: bool) -> Value {
    if weight == 1 && !drain {
        return address.into();
    }
    let mut table = InlineTable::new();
    table.insert("to", address.into());
    if weight != 1 {
        table.insert("weight", i64::from(weight).into());
    }
    if drain {
        table.insert("drain", true.into());
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[app.api]  # the api\n\
                        upstreams = [\"10.0.0.1:3000\", { to = \"10.0.0.2:3000\", weight = 2 }]\n\
                        routes = [\"/*\"]\n";

    fn changed(what: &Change, address: &str) -> Result<String, String> {
        change(FILE, None, address, what).map(|(text, _)| text)
    }

    #[test]
    fn one_line_changes_and_everything_else_stays() {
        for (what, address, line) in [
            (
                Change::Add(1),
                "10.0.0.3:3000",
                "[\"10.0.0.1:3000\", { to = \"10.0.0.2:3000\", weight = 2 }, \"10.0.0.3:3000\"]",
            ),
            (
                Change::Weight(5),
                "10.0.0.1:3000",
                "[{ to = \"10.0.0.1:3000\", weight = 5 }, { to = \"10.0.0.2:3000\", weight = 2 }]",
            ),
            (
                Change::Drain(true),
                "10.0.0.2:3000",
                "[\"10.0.0.1:3000\", { to = \"10.0.0.2:3000\", weight = 2, drain = true }]",
            ),
            (Change::Remove, "10.0.0.2:3000", "[\"10.0.0.1:3000\"]"),
        ] {
            let text = changed(&what, address).expect("changed");
            assert_eq!(
                text,
                format!("# ours\n[app.api]  # the api\nupstreams = {line}\nroutes = [\"/*\"]\n"),
                "{what:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_done_says_why() {
        assert!(changed(&Change::Add(1), "10.0.0.1:3000").expect_err("there").contains("already"));
        assert!(changed(&Change::Remove, "10.0.0.9:1").expect_err("none").contains("mainstay upstreams"));
        let one = "[app.a]\nupstreams = \"10.0.0.1:1\"\n";
        assert!(change(one, Some("a"), "10.0.0.1:1", &Change::Remove).expect_err("last").contains("last"));
        assert!(change(one, Some("b"), "10.0.0.1:1", &Change::Remove).expect_err("app").contains("[app.b]"));
        let run = "[app.a]\nrun = \"x\"\n";
        assert!(change(run, Some("a"), "10.0.0.1:1", &Change::Add(1)).expect_err("run").contains("run here"));
        let two = format!("{one}[app.b]\nupstreams = [\"10.0.0.2:1\"]\n");
        assert!(change(&two, None, "10.0.0.3:1", &Change::Add(1)).expect_err("which").contains("--app"));
    }
}
