//! `${NAME}` and `${NAME:-default}` in a text. Pure; `$${` is a literal `${`. Nothing else of a shell is here.

/// What came out, and which names went in.
pub(crate) struct Filled {
    pub(crate) text: String,
    pub(crate) names: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Unset(String),
    Unclosed,
    /// What stands between the braces and is no name.
    NoName(String),
}

/// # Errors
/// Every problem of the text.
pub(crate) fn fill(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Filled, Vec<Problem>> {
    let mut filled = Filled { text: String::new(), names: Vec::new() };
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            filled.text.push_str(&rest[..at - 1]);
            filled.text.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        filled.text.push_str(&rest[..at]);
        let Some(close) = rest[at..].find('}').map(|close| at + close) else {
            problems.push(Problem::Unclosed);
            rest = "";
            break;
        };
        let inner = &rest[at + 2..close];
        rest = &rest[close + 1..];
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !crate::known::is_shell_name(name) || default.is_some_and(|default| default.contains("${")) {
            problems.push(Problem::NoName(crate::mask::cut(name)));
            continue;
        }
        match lookup(name).filter(|value| default.is_none() || !value.is_empty()).or(default.map(str::to_owned)) {
            Some(value) => filled.text.push_str(&value),
            None => problems.push(Problem::Unset(name.to_owned())),
        }
        filled.names.push(name.to_owned());
    }
    filled.text.push_str(rest);
    if problems.is_empty() { Ok(filled) } else { Err(problems) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn fills_in() {
        for (text, filled) in [
            ("", ""),
            ("plain $HOME $", "plain $HOME $"),
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("${B:-two}", "two"),
            ("${B:-}", ""),
            ("${A:-two}", "1"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("${B:-a:-b}", "a:-b"),
        ] {
            assert_eq!(fill(text, lookup).ok().map(|f| f.text).as_deref(), Some(filled), "{text}");
        }
    }

    #[test]
    fn names_every_problem() {
        for (text, problems) in [
            ("${B} ${C}", vec![Problem::Unset("B".into()), Problem::Unset("C".into())]),
            ("${A", vec![Problem::Unclosed]),
            ("${}", vec![Problem::NoName(String::new())]),
            ("${A?x}", vec![Problem::NoName("A?x".into())]),
            ("${1A}", vec![Problem::NoName("1A".into())]),
            ("${A:-${B}}", vec![Problem::NoName("A".into())]),
        ] {
            assert_eq!(fill(text, lookup).err(), Some(problems), "{text}");
        }
    }
}
