//! Production or development, and why. Pure: the pid and the variables are arguments. In doubt it is production.

use std::fmt;

use crate::position::Position;

/// What was decided, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `staging` and anything unknown count as production.
    pub production: bool,
    /// As it was named (`staging`), or `production` / `development`.
    pub name: String,
    /// `NODE_ENV=production`, `a domain is configured`, `no domain`
    pub why: String,
    pub at: Position,
}

/// What the decision looks at, highest first.
pub(crate) struct Evidence {
    /// `--production`
    pub(crate) flag: Option<(String, Position)>,
    /// The first that is set of `NAMES`, from the environment or `--env-file`; `./.env` may not decide.
    pub(crate) variable: Option<(&'static str, String, Position)>,
    /// The file's top-level key `environment`.
    pub(crate) file: Option<(String, Position)>,
    /// Where `[edge] domains` is configured.
    pub(crate) domains: Option<Position>,
    pub(crate) pid: u32,
    pub(crate) systemd_pid: Option<String>,
}

/// Ranked: the first that is set decides.
pub(crate) const NAMES: [&str; 3] = ["MAINSTAY_ENV", "ENVIRONMENT", "NODE_ENV"];

/// Everything else is production.
const DEVELOPMENT: [&str; 4] = ["development", "dev", "local", "test"];

impl Environment {
    pub(crate) fn decide(evidence: Evidence) -> Environment {
        if let Some((value, at)) = evidence.flag {
            let name = if is_no(&value) { "development" } else { "production" };
            return named(name, "flag --production".to_owned(), at);
        }
        if let Some((variable, value, at)) = evidence.variable {
            let why = format!("{variable}={}", crate::mask::cut(&value));
            return named(&value, why, at);
        }
        if let Some((value, at)) = evidence.file {
            return named(&value, format!("environment = {}", crate::mask::quoted(&value)), at);
        }
        if let Some(at) = evidence.domains {
            return named("production", "a domain is configured".to_owned(), at);
        }
        if evidence.systemd_pid.is_some_and(|pid| pid.trim().parse() == Ok(evidence.pid)) {
            return named("production", "started by systemd".to_owned(), Position::variable("SYSTEMD_EXEC_PID"));
        }
        if evidence.pid == 1 {
            return named("production", "process 1".to_owned(), Position::unset());
        }
        named("development", "no domain".to_owned(), Position::unset())
    }
}

fn named(name: &str, why: String, at: Position) -> Environment {
    let name = name.trim();
    Environment { production: is_production(name), name: crate::mask::cut(name), why, at }
}

/// Everything that is not plainly development.
pub(crate) fn is_production(name: &str) -> bool {
    !DEVELOPMENT.iter().any(|known| known.eq_ignore_ascii_case(name.trim()))
}

fn is_no(value: &str) -> bool {
    matches!(value.trim().to_ascii_lowercase().as_str(), "false" | "no" | "0" | "off")
}

impl Environment {
    /// Nobody named it outside the file: no flag, no variable.
    pub(crate) fn file_decides(&self) -> bool {
        !self.at.is_flag() && !NAMES.iter().any(|name| self.why.starts_with(&format!("{name}=")))
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.production { "production" } else { "development" };
        write!(out, "{kind} ({})", crate::mask::printable(&self.why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Evidence {
        Evidence { flag: None, variable: None, file: None, domains: None, pid: 4711, systemd_pid: None }
    }

    #[test]
    fn ranks_what_it_looks_at() {
        let at = Position::unset;
        let mut evidence = nothing();
        assert_eq!(Environment::decide(nothing()).to_string(), "development (no domain)");
        evidence.systemd_pid = Some("4710".to_owned());
        assert!(!Environment::decide(evidence).production);
        let systemd = Evidence { systemd_pid: Some("4711".to_owned()), ..nothing() };
        assert_eq!(Environment::decide(systemd).to_string(), "production (started by systemd)");
        let init = Evidence { pid: 1, ..nothing() };
        assert_eq!(Environment::decide(init).to_string(), "production (process 1)");
        let file = || Evidence { file: Some(("dev".to_owned(), at())), domains: Some(at()), pid: 1, ..nothing() };
        assert_eq!(Environment::decide(file()).to_string(), "development (environment = \"dev\")");
        let variable = || Evidence { variable: Some(("NODE_ENV", "production".to_owned(), at())), ..file() };
        assert_eq!(Environment::decide(variable()).to_string(), "production (NODE_ENV=production)");
        let flag = Evidence { flag: Some(("false".to_owned(), at())), ..variable() };
        assert!(!Environment::decide(flag).production);
    }

    #[test]
    fn the_unknown_is_production() {
        for (name, production) in [
            ("production", true),
            ("staging", true),
            ("prod", true),
            ("Development", false),
            (" test ", false),
            ("developement", true),
            ("", true),
        ] {
            let evidence = Evidence { variable: Some(("NODE_ENV", name.to_owned(), Position::unset())), ..nothing() };
            assert_eq!(Environment::decide(evidence).production, production, "{name}");
        }
    }
}
