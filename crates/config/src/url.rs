//! Connection strings of Postgres and Redis, taken apart by hand so that the usual break can be named: a password with
//! `/`, `?`, `#` or `@` in it that nobody percent-encoded (C2). No message ever holds a password.

mod problem;

pub use problem::Problem;

/// What a connection string says; the password stays in the string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `postgres`, `postgresql`, `redis` or `rediss`
    pub scheme: String,
    pub user: Option<String>,
    pub has_password: bool,
    /// The first host; empty when only a socket folder is given.
    pub host: String,
    pub port: u16,
    /// Every host, for a cluster or a list of replicas.
    pub hosts: Vec<(String, u16)>,
    pub database: Option<String>,
    /// Decoded, in their order.
    pub params: Vec<(String, String)>,
    /// Characters of the password that some clients take for something else; the string still can be read.
    pub unescaped: Vec<char>,
}

impl Url {
    pub fn is_postgres(&self) -> bool {
        self.scheme.starts_with("postgres")
    }

    /// TLS by its scheme or `sslmode`.
    pub fn is_tls(&self) -> bool {
        let mode = self.param("sslmode").or_else(|| self.param("ssl"));
        self.scheme == "rediss" || mode.is_some_and(|mode| !matches!(mode, "disable" | "allow" | "prefer" | "false"))
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Longer ones are no connection strings.
const MAX_BYTES: usize = 8 * 1024;

/// Nobody lists more hosts than this.
const MAX_HOSTS: usize = 64;

/// # Errors
/// What is wrong with it and what to type, never the password.
pub fn parse(text: &str) -> Result<Url, Problem> {
    let text = text.trim();
    if text.len() > MAX_BYTES {
        return Err(Problem::new("is longer than 8 KiB", "a connection string", "check what was pasted"));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(problem::no_scheme(text));
    };
    let again = format!(",{scheme}://");
    if rest.contains(&again) {
        return list(scheme, rest, &again);
    }
    let lower = scheme.to_ascii_lowercase();
    let default_port = match lower.as_str() {
        "postgres" | "postgresql" => 5432,
        "redis" | "rediss" => 6379,
        _ => return Err(problem::foreign(scheme)),
    };
    problem::check_characters(rest)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    problem::check_password(authority, tail)?;
    let (userinfo, hosts) = match authority.rsplit_once('@') {
        Some((userinfo, hosts)) => (Some(userinfo), hosts),
        None => (None, authority),
    };
    let (user, password) = match userinfo.map(|info| info.split_once(':').unwrap_or((info, ""))) {
        Some((user, password)) => (Some(user).filter(|user| !user.is_empty()), password),
        None => (None, ""),
    };
    let user = user.map(|user| decode(user, "user")).transpose()?;
    decode(password, "password")?;
    let params = params(tail)?;
    let hosts = hosts_of(hosts, &lower, default_port, &params)?;
    let (host, port) = hosts.first().cloned().unwrap_or_default();
    Ok(Url {
        has_password: !password.is_empty(),
        unescaped: problem::doubtful(password),
        database: database(tail)?,
        scheme: lower,
        user,
        host,
        port,
        hosts,
        params,
    })
}

/// `redis://a:1,redis://b:2`: a list of whole ones; the first counts, with the hosts of all.
fn list(scheme: &str, rest: &str, separator: &str) -> Result<Url, Problem> {
    let mut first: Option<Url> = None;
    for part in rest.split(separator).take(MAX_HOSTS) {
        let url = parse(&format!("{scheme}://{part}"))?;
        match &mut first {
            Some(first) => first.hosts.extend(url.hosts),
            None => first = Some(url),
        }
    }
    first.ok_or_else(|| problem::no_scheme(rest))
}

fn hosts_of(
    hosts: &str,
    scheme: &str,
    default_port: u16,
    params: &[(String, String)],
) -> Result<Vec<(String, u16)>, Problem> {
    let mut all = Vec::new();
    if hosts.is_empty() {
        let host = params.iter().find(|(name, _)| name == "host").map(|(_, value)| value.clone());
        let socket = host.clone().is_some_and(|host| host.starts_with('/'));
        return match host {
            Some(host) if !socket => Ok(vec![(host, default_port)]),
            _ if scheme.starts_with("postgres") => Ok(vec![(String::new(), default_port)]),
            _ => Err(Problem::new("names no host", "scheme://host", "add the host after ://")),
        };
    }
    for part in hosts.split(',').take(MAX_HOSTS) {
        all.push(host_port(part, default_port)?);
    }
    Ok(all)
}

fn host_port(text: &str, default_port: u16) -> Result<(String, u16), Problem> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((host, after)) = rest.split_once(']') else {
                return Err(Problem::new("has an IPv6 host without its ]", "[::1]:5432", "close it with ]"));
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(Problem::new(
                    "has brackets around what is no IPv6 address",
                    "[::1]",
                    "leave out the brackets",
                ));
            }
            (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    if host.is_empty() {
        return Err(Problem::new("names no host", "user:password@host:port", "add the host before the port"));
    }
    let port = match port {
        Some("") => Some(default_port),
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok().filter(|port| *port != 0),
        _ => None,
    };
    match port {
        Some(port) => Ok((decode(host, "host")?, port)),
        None => Err(problem::bad_port()),
    }
}

fn database(tail: &str) -> Result<Option<String>, Problem> {
    let Some(path) = tail.strip_prefix('/') else { return Ok(None) };
    let path = path.split(['?', '#']).next().unwrap_or("");
    let name = decode(path, "database")?;
    Ok(Some(name).filter(|name| !name.is_empty()))
}

fn params(tail: &str) -> Result<Vec<(String, String)>, Problem> {
    let tail = tail.split('#').next().unwrap_or("");
    let Some((_, query)) = tail.split_once('?') else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        all.push((decode(name, "parameters")?, decode(value, "parameters")?));
    }
    Ok(all)
}

/// `%2F` is `/`. What is not UTF-8 once decoded is refused.
fn decode(text: &str, part: &str) -> Result<String, Problem> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = byte.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let Some(byte) = byte else { return Err(problem::bad_escape(part)) };
        decoded.push(byte);
        at += 3;
    }
    String::from_utf8(decoded).map_err(|_| problem::bad_escape(part))
}

/// The password of a connection string that can be read, decoded; of the first where there are several. It is kept out
/// of [`Url`], which is shown.
pub fn password(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let rest = rest.split(&format!(",{scheme}://")).next()?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (userinfo, _) = rest[..end].rsplit_once('@')?;
    let (_, password) = userinfo.split_once(':')?;
    decode(password, "password").ok().filter(|password| !password.is_empty())
}

/// Every password in a text of URLs, as written and decoded, for redaction. Generous: it works on broken ones.
pub(crate) fn passwords(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    if !text.contains("://") {
        return all;
    }
    for word in text.split([',', ' ', '\n', '\t', '"']) {
        let Some((_, rest)) = word.split_once("://") else { continue };
        keep_params(rest, &mut all);
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A broken password hides the @ behind a slash: then the last @ of the word ends it.
        let at = rest[..end].rfind('@').or_else(|| {
            let port = rest[..end].rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            rest.rfind('@').filter(|_| !port)
        });
        let Some((_, password)) = at.and_then(|at| rest[..at].split_once(':')) else { continue };
        if password.is_empty() || password.starts_with("${") {
            continue;
        }
        keep(password, &mut all);
    }
    all
}

/// As written, and decoded where that is something else.
fn keep(password: &str, all: &mut Vec<String>) {
    all.push(password.to_owned());
    if let Ok(decoded) = decode(password, "")
        && decoded != password
    {
        all.push(decoded);
    }
}

/// libpq takes a password as a parameter too.
fn keep_params(rest: &str, all: &mut Vec<String>) {
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split(['&', '#']) {
        let value = pair.strip_prefix("password=").or_else(|| pair.strip_prefix("sslpassword="));
        if let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with("${")) {
            keep(value, all);
        }
    }
}

#[cfg(test)]
mod tests;
