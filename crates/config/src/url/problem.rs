//! What is wrong with a connection string, in words. Looks at the password and never repeats it.

/// The words follow the variable's name: `DATABASE_URL has an unescaped "/" in its password`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    pub expected: String,
    /// What to type.
    pub fix: String,
    /// A scheme that is not ours (`mysql://`, `file:`): the app may know it.
    pub foreign: bool,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>, expected: impl Into<String>, fix: impl Into<String>) -> Problem {
        Problem { what: what.into(), expected: expected.into(), fix: fix.into(), foreign: false }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}; expected {}; {}", self.what, self.expected, self.fix)
    }
}

impl std::error::Error for Problem {}

const SCHEMES: &str = "postgres://, postgresql://, redis:// or rediss://";

/// End a password where they stand unescaped.
const BREAKING: [char; 4] = ['/', '?', '#', '@'];

/// Base64's others: most clients take them as they are, some do not.
const DOUBTFUL: [char; 2] = ['+', '='];

pub(super) fn no_scheme(text: &str) -> Problem {
    // `file:./dev.db`, `sqlite::memory:`: another kind of database.
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let known = |scheme: &str| ["postgres", "postgresql", "redis", "rediss"].contains(&scheme);
    let foreign = scheme.is_some_and(|scheme| {
        !known(scheme)
            && !text.contains('@')
            && scheme.bytes().all(|b| b.is_ascii_alphabetic())
            && ["file", "sqlite", "unix", "jdbc", "mongodb", "mysql", "sqlserver", "prisma"].contains(&scheme)
    });
    Problem { foreign, ..Problem::new("has no scheme", SCHEMES, "put the scheme and :// before it") }
}

pub(super) fn foreign(scheme: &str) -> Problem {
    let word =
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let what = if word { format!("has the scheme {scheme}://") } else { "has no scheme".to_owned() };
    Problem { foreign: word, ..Problem::new(what, SCHEMES, "check the scheme") }
}

pub(super) fn bad_port() -> Problem {
    Problem::new("has a port that is no number", "a port from 1 to 65535", "write host:5432")
}

pub(super) fn bad_escape(part: &str) -> Problem {
    let what = format!("has a % in its {part} that is no escape");
    Problem::new(what, "% followed by two hexadecimal digits", "write % as %25")
}

/// What can stand nowhere in a URL.
pub(super) fn check_characters(rest: &str) -> Result<(), Problem> {
    if rest.contains(['\n', '\r']) {
        let fix = "remove it: openssl rand wraps its output after 64 characters";
        return Err(Problem::new("has a line break in it", "one line", fix));
    }
    if rest.contains(['<', '>']) {
        return Err(Problem::new("still has a placeholder in <…>", "the real value", "replace <…> by the value"));
    }
    if rest.contains("${") {
        return Err(Problem::new("has a ${…} that nobody filled in", "the real value", "write the value itself"));
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let fix = "write a space as %20";
        return Err(Problem::new("has a space or control character in it", "neither", fix));
    }
    Ok(())
}

/// An unescaped password moves the end of the authority: then an @ is left behind it, or one too many before it.
pub(super) fn check_password(authority: &str, tail: &str) -> Result<(), Problem> {
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let before = authority.len() - hosts.len();
    let extra = authority[..before.saturating_sub(1)].contains('@');
    if extra {
        let password = password_of(&authority[..before - 1]);
        return Err(unescaped(password));
    }
    if before > 0 || !authority.contains(':') {
        return Ok(());
    }
    // No @ before the first / ? #, and a colon: a host with a port, or a user with half a password.
    let port = authority.split(',').all(|part| part.rsplit_once(':').is_some_and(|(_, port)| is_port(port)));
    let path_end = tail.find('?').filter(|_| tail.starts_with('/')).unwrap_or(tail.len());
    let searched = if port && !authority.starts_with(':') { &tail[..path_end] } else { tail };
    match searched.rfind('@') {
        Some(at) => {
            let broken = format!("{authority}{}", &tail[..at]);
            Err(unescaped(password_of(&broken)))
        }
        None => Ok(()),
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port != 0)
}

fn password_of(userinfo: &str) -> &str {
    userinfo.split_once(':').map_or(userinfo, |(_, password)| password)
}

/// Names every character that must be escaped, the harmless ones of base64 included, so that one edit is enough.
fn unescaped(password: &str) -> Problem {
    let mut found: Vec<char> = Vec::new();
    for c in password.chars().filter(|c| BREAKING.contains(c) || DOUBTFUL.contains(c)) {
        if !found.contains(&c) {
            found.push(c);
        }
    }
    let shown: Vec<String> = found.iter().map(|c| format!("\"{c}\"")).collect();
    let typed: Vec<String> = found.iter().map(|c| format!("{c} as %{:02X}", u32::from(*c))).collect();
    let base64 = password.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '='));
    let of = if base64 { " of a base64 password" } else { "" };
    Problem::new(
        format!("is broken by an unescaped {}{of}", shown.join(", ")),
        "a percent-encoded password",
        format!("in the password, write {}", typed.join(", ")),
    )
}

/// Characters of a password that can be read but that some clients take for something else.
pub(super) fn doubtful(password: &str) -> Vec<char> {
    DOUBTFUL.into_iter().filter(|c| password.contains(*c)).collect()
}
