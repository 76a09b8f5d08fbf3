//! What nginx does to answers, as settings of a route: headers, compression, the cache, files and how long a browser
//! may keep them. Also its one limit that Mainstay has: connections of a client.
//!
//! Never serves a folder that holds programs: what nginx hands to PHP would be given out as text.

use super::Directive;
use super::words::duration;
use crate::init::found::{Found, Seen, Value, cut};
use mainstay_edge::{header_may_be_set, is_header_value};
use std::path::Path;

/// From here on a browser that keeps a file keeps it for good, as far as a release is concerned.
const LONG_S: u64 = 30 * 86_400;

/// A `location` (or the whole server) among what it inherits from.
pub struct Block<'a> {
    pub file: &'a str,
    /// The project's own folder, for a relative `root`.
    pub dir: &'a Path,
    pub http: &'a [&'a Directive],
    pub server: &'a Directive,
    /// `None`: what holds of every path of the server.
    pub location: Option<&'a Directive>,
    /// Its path, as nginx matches it: `/static/`.
    pub path: &'a str,
}

impl Block<'_> {
    fn at(&self, directive: &Directive) -> String {
        format!("{}:{}", self.file, directive.line)
    }

    /// The block's own directives.
    fn own(&self) -> &Directive {
        self.location.unwrap_or(self.server)
    }

    /// The directive in force: the block's, else the server's, else that of `http`.
    fn inherited(&self, name: &str) -> Option<&Directive> {
        let of = |block: &Directive| block.inner().iter().position(|d| d.name == name);
        if let Some(at) = of(self.own()) {
            return Some(&self.own().inner()[at]);
        }
        of(self.server)
            .map(|at| &self.server.inner()[at])
            .or_else(|| self.http.iter().copied().find(|d| d.name == name))
    }

    /// Every setting of the block, for `pattern`.
    pub fn carry(&self, pattern: &str, found: &mut Found) {
        for directive in self.own().inner() {
            match directive.name.as_str() {
                "add_header" => self.header(directive, pattern, found),
                "proxy_hide_header" if header_may_be_set(directive.arg(0)) => {
                    let gone = Value::Headers(vec![(directive.arg(0).to_owned(), None)]);
                    found.set(pattern, "headers", Seen::new(gone, self.at(directive)));
                }
                "gzip" | "brotli" => self.compression(directive, pattern, found),
                "proxy_cache" => self.cache(directive, pattern, found),
                "limit_conn" => limit_conn(self.http, self.at(directive), directive, found),
                _ => {}
            }
        }
        self.files(pattern, found);
        self.expires(pattern, found);
    }

    fn header(&self, directive: &Directive, pattern: &str, found: &mut Found) {
        let (name, value, at) = (directive.arg(0), directive.arg(1), self.at(directive));
        let lower = name.to_ascii_lowercase();
        if !header_may_be_set(name) || !is_value(value) {
            return found.not_understood(at, &format!("add_header {name};"));
        }
        if value.contains('$') {
            return found.note(at, format!("add_header {} is not carried over: its value is a variable", cut(name)));
        }
        if lower.starts_with("access-control-") {
            let what = "CORS is [edge.cors]: origins = [\"https://www.example.com\"], unless the app does its own";
            return found.note(at, format!("add_header {} is not carried over: {what}", cut(name)));
        }
        if lower == "strict-transport-security" {
            return hsts(directive, at, found);
        }
        if lower == "cache-control" && self.folder().is_some() {
            return found.note(at, "add_header Cache-Control of files is not carried over: immutable says how long");
        }
        let set = Value::Headers(vec![(name.to_owned(), Some(value.to_owned()))]);
        found.set(pattern, "headers", Seen::new(set, at));
    }

    fn compression(&self, directive: &Directive, pattern: &str, found: &mut Found) {
        let value = Seen::new(directive.arg(0) == "on", self.at(directive));
        match self.location {
            None => {
                found.compress.get_or_insert(value).value |= directive.arg(0) == "on";
            }
            Some(_) => found.set(pattern, "compress", Seen::new(Value::Flag(value.value), value.at)),
        }
    }

    fn cache(&self, directive: &Directive, pattern: &str, found: &mut Found) {
        if directive.arg(0) == "off" {
            return found.set(pattern, "cache", Seen::new(Value::Flag(false), self.at(directive)));
        }
        let of_success = |d: &&Directive| {
            let codes = d.args.split_last().map_or(&[][..], |(_, codes)| codes);
            d.name == "proxy_cache_valid"
                && (codes.is_empty() || codes.iter().any(|code| code == "200" || code == "any"))
        };
        let all = self.own().inner().iter().chain(self.server.inner()).chain(self.http.iter().copied());
        let valid = all.clone().find(of_success).and_then(|d| Some(Seen::new(duration(d.args.last()?)?, self.at(d))));
        let (value, at) = match valid {
            Some(seen) => (Value::Text(seen.value), seen.at),
            None => (Value::Flag(true), self.at(directive)),
        };
        found.set(pattern, "cache", Seen::new(value, at));
        let Some(stale) = all.clone().find(|d| d.name == "proxy_cache_use_stale") else { return };
        if stale.args.iter().any(|word| word == "updating") {
            // nginx gives it out for as long as it is there; here somebody has to say how long.
            found.set(pattern, "stale_while_revalidate", Seen::new(Value::Text("1m".into()), self.at(stale)));
        }
        if stale.args.iter().any(|word| word != "updating" && word != "off") {
            found.set(pattern, "stale_if_error", Seen::new(Value::Text("1h".into()), self.at(stale)));
        }
    }

    /// Where its files lie, if it gives out any.
    fn folder(&self) -> Option<&Directive> {
        let own = self.own();
        let answers = |d: &Directive| {
            d.name.ends_with("_pass") || matches!(d.name.as_str(), "return" | "deny" | "internal" | "stub_status")
        };
        if own.inner().iter().any(answers) {
            return None;
        }
        own.find("alias").next().or_else(|| self.inherited("root").filter(|_| !self.is_covered()))
    }

    /// It says nothing of files that the whole of the server does not say.
    fn is_covered(&self) -> bool {
        const OF_FILES: [&str; 3] = ["root", "try_files", "expires"];
        let own = |name: &&str| self.own().find(name).next().is_some();
        let whole = self.server.find("location").find(|l| l.args.as_slice() == ["/"]);
        let passed = whole.is_some_and(|whole| whole.inner().iter().any(|d| d.name.ends_with("_pass")));
        self.location.is_some() && self.path != "/" && !passed && !OF_FILES.iter().any(own)
    }

    fn files(&self, pattern: &str, found: &mut Found) {
        let Some(folder) = self.folder() else { return };
        let at = self.at(folder);
        let last = self.inherited("try_files").and_then(|tries| tries.args.last()).map_or("=404", String::as_str);
        if let Some(program) = program(self.server).filter(|_| folder.name == "root") {
            let what = format!("it holds what {program} runs, which would be given out as text");
            return found.note(at, format!("{} {} is not carried over: {what}", folder.name, cut(folder.arg(0))));
        }
        if folder.arg(0).contains('$') {
            return found.note(at, format!("{} {} is not carried over: a variable", folder.name, cut(folder.arg(0))));
        }
        let path = folder.arg(0).trim_end_matches('/');
        let text = |text: &str| Seen::new(Value::Text(text.to_owned()), at.clone());
        found.set(pattern, "files", text(if path.is_empty() { "/" } else { path }));
        if folder.name == "alias" && !self.path.trim_end_matches('/').is_empty() {
            found.set(pattern, "strip", text(self.path.trim_end_matches('/')));
        }
        match last {
            "=404" | "$uri" | "$uri/" => found.set(pattern, "fallback", text("none")),
            page if page.ends_with("index.html") => {
                found.set(pattern, "spa", Seen::new(Value::Flag(true), at.clone()));
                found.set(pattern, "fallback", text("none"));
            }
            // A named location: the app behind it is asked, as it would be anyway.
            named if named.starts_with('@') => {}
            other => found.note(&at, format!("try_files … {} is not carried over: files, spa or the app", cut(other))),
        }
        if let Some(index) = self.inherited("index").filter(|index| !index.args.iter().any(|arg| arg == "index.html")) {
            found.note(self.at(index), "index is not carried over: a folder is its index.html");
        }
        if !self.dir.join(folder.arg(0)).is_dir()
            && let Some(route) = found.routes.iter_mut().find(|route| route.pattern == pattern)
        {
            let shown = cut(folder.arg(0));
            let fix = "name the folder of the built frontend, as files = \"dist\", and take the # away";
            route.off.get_or_insert(format!("{shown} is not on this machine: {fix}"));
        }
    }

    /// How long a browser keeps an answer: files say it by name, what an app says nothing about by a header.
    fn expires(&self, pattern: &str, found: &mut Found) {
        let own = self.own().find("expires").next();
        let Some(folder) = self.folder() else {
            let Some(expires) = own.filter(|_| self.location.is_some()) else { return };
            let value = match seconds(expires.arg(0)) {
                Some(0) => "no-cache".to_owned(),
                Some(seconds) => format!("max-age={seconds}"),
                None => return,
            };
            let set = Value::Headers(vec![("Cache-Control".to_owned(), Some(value))]);
            return found.set(pattern, "headers", Seen::new(set, self.at(expires)));
        };
        if !found
            .routes
            .iter()
            .any(|route| route.pattern == pattern && route.settings.iter().any(|(k, _)| *k == "files"))
        {
            return;
        }
        let by_ending = self.server.find("location").find(|l| is_by_ending(l)).and_then(|l| l.find("expires").next());
        let expires = own.or_else(|| self.inherited("expires")).or(by_ending);
        match expires.map(|d| (d, seconds(d.arg(0)))) {
            // A year for files of such endings is what happens unasked.
            Some((_, Some(LONG_S..))) => {}
            Some((_, Some(0))) => self.keep(pattern, "off", folder, found),
            Some((directive, Some(_))) => {
                let what = "files are asked about each time, and kept for a year with a hash in their name";
                found
                    .note(self.at(directive), format!("expires {} is not carried over: {what}", cut(directive.arg(0))));
                self.keep(pattern, "hashed", directive, found);
            }
            _ => self.keep(pattern, "hashed", folder, found),
        }
    }

    fn keep(&self, pattern: &str, which: &str, of: &Directive, found: &mut Found) {
        found.set(pattern, "immutable", Seen::new(Value::Text(which.to_owned()), self.at(of)));
    }
}

/// `location ~* \.(js|css|png)$`: files by their ending, with nothing to answer for them but `root`.
pub fn is_by_ending(location: &Directive) -> bool {
    let of_files = |d: &Directive| {
        matches!(
            d.name.as_str(),
            "expires" | "add_header" | "access_log" | "log_not_found" | "root" | "etag" | "tcp_nodelay"
        ) || d.name == "try_files" && d.args.last().is_some_and(|last| last == "=404")
            || d.name.starts_with("gzip")
            || d.name.starts_with("open_file_cache")
    };
    location.arg(0).starts_with('~')
        && location.arg(1).contains("\\.")
        && location.inner().iter().all(of_files)
        && location.find("expires").next().is_some_and(|d| seconds(d.arg(0)).is_some_and(|s| s >= LONG_S))
}

/// A value of one line that says something; nginx sends no header that is empty.
fn is_value(value: &str) -> bool {
    !value.is_empty() && is_header_value(value)
}

/// The one header that is the whole edge's.
pub fn hsts(directive: &Directive, at: String, found: &mut Found) {
    if is_value(directive.arg(1)) {
        found.hsts.get_or_insert(Seen::new(directive.arg(1).to_owned(), at));
    }
}

/// What keeps the folder from being files and nothing else.
fn program(server: &Directive) -> Option<&str> {
    server.inner().iter().find_map(|directive| match directive.name.as_str() {
        "fastcgi_pass" => Some("PHP"),
        "uwsgi_pass" | "scgi_pass" => Some("an app"),
        "try_files" if directive.args.iter().any(|arg| arg.contains(".php")) => Some("PHP"),
        "location" => program(directive),
        _ => None,
    })
}

/// `1y`, `30d`, `max`; 0 for what is not to be kept, nothing for `off`.
fn seconds(text: &str) -> Option<u64> {
    let text = text.trim_start_matches('+');
    if text == "max" {
        return Some(10 * 365 * 86_400);
    }
    if text == "epoch" || text == "0" || text.starts_with('-') {
        return Some(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let unit: u64 = match &text[end..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "M" => 30 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// `limit_conn ZONE N`, of a zone by address.
pub fn limit_conn(http: &[&Directive], at: String, directive: &Directive, found: &mut Found) {
    let zone = http.iter().find(|d| {
        d.name == "limit_conn_zone"
            && d.args
                .iter()
                .any(|arg| arg.strip_prefix("zone=").is_some_and(|z| z.split(':').next() == Some(directive.arg(0))))
    });
    let by_address = zone.is_some_and(|zone| zone.arg(0).ends_with("remote_addr"));
    match directive.arg(1).parse().ok().filter(|most| by_address && (1..=1_000_000).contains(most)) {
        Some(most) => {
            found.per_client.get_or_insert(Seen::new(most, at));
        }
        None => found.note(at, "limit_conn is not carried over: connections are counted by address alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_expires_are_nginxs() {
        for (text, time) in [
            ("1y", Some(31_536_000)),
            ("30d", Some(LONG_S)),
            ("+1h", Some(3600)),
            ("-1", Some(0)),
            ("epoch", Some(0)),
            ("max", Some(315_360_000)),
            ("off", None),
            ("$map", None),
            ("99999999999999999y", None),
        ] {
            assert_eq!(seconds(text), time, "{text}");
        }
    }
}
