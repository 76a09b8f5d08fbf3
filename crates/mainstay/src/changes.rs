//! What a reload changed, in words. Pure.

use mainstay_config::Setting;
use std::collections::BTreeMap;

/// A reload that changes more than this is a new file: the rest is counted.
const SHOWN_MAX: usize = 40;

/// One line a setting that differs, `edge.timeouts.drain 30s -> 7s (mainstay.toml:4)`.
pub fn settings(old: &[Setting], new: &[Setting]) -> Vec<String> {
    let before: BTreeMap<&str, &Setting> = old.iter().map(|s| (s.key.as_str(), s)).collect();
    let after: BTreeMap<&str, &Setting> = new.iter().map(|s| (s.key.as_str(), s)).collect();
    let mut lines = Vec::new();
    for (key, setting) in &after {
        let had = before.get(key).and_then(|s| s.value.as_deref());
        let has = setting.value.as_deref();
        if had != has {
            lines.push(format!("{key} {} -> {} ({})", shown(had), shown(has), setting.origin));
        }
    }
    for (key, setting) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        lines.push(format!("{key} {} -> not set", shown(setting.value.as_deref())));
    }
    if lines.len() > SHOWN_MAX {
        let more = lines.len() - SHOWN_MAX;
        lines.truncate(SHOWN_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

fn shown(value: Option<&str>) -> &str {
    value.unwrap_or("not set")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Position;

    fn setting(key: &str, value: Option<&str>) -> Setting {
        Setting {
            key: key.to_owned(),
            value: value.map(str::to_owned),
            origin: Position::variable("PORT"),
            overrode: Vec::new(),
            default: None,
            doc: String::new(),
            secret: false,
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let old = [setting("a", Some("1")), setting("b", Some("2")), setting("gone", Some("3"))];
        let new = [setting("a", Some("1")), setting("b", None), setting("c", Some("4"))];
        assert_eq!(
            settings(&old, &new),
            ["b 2 -> not set (environment PORT)", "c not set -> 4 (environment PORT)", "gone 3 -> not set"]
        );
        assert!(settings(&old, &old).is_empty());
    }
}
