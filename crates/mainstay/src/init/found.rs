//! What `init` found in a project's files, before it is written down: apps, the edge, and what was left out.
//!
//! Pure data. Holds no value of a secret: names alone.

use std::fmt;

/// A value and where it stood, as `nginx.conf:12`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    pub value: T,
    pub at: String,
}

impl<T> Seen<T> {
    pub fn new(value: T, at: impl Into<String>) -> Seen<T> {
        Seen { value, at: at.into() }
    }
}

/// What an app does about a port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Port {
    /// It takes the one it is given.
    #[default]
    Own,
    None,
    /// Its own start line names one.
    Fixed(Seen<u16>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub to: String,
    pub weight: u32,
}

#[derive(Debug, Clone, Default)]
pub struct App {
    pub name: String,
    pub run: Option<Seen<String>>,
    pub dir: Option<Seen<String>>,
    pub upstreams: Vec<Seen<Upstream>>,
    pub routes: Vec<Seen<String>>,
    pub balance: Option<Seen<&'static str>>,
    pub port: Port,
    pub instances: Option<Seen<u32>>,
    pub health: Option<Seen<String>>,
    /// `h2c`, where it does not speak HTTP/1.1.
    pub protocol: Option<Seen<&'static str>>,
    pub memory_limit: Option<Seen<String>>,
    pub env: Vec<(String, Seen<String>)>,
    /// What it is made of, in words: `Express, Socket.IO`.
    pub made_of: Option<Seen<String>>,
    /// What nginx calls it, once one of its locations is known to be this app.
    pub upstream_of: Option<String>,
    /// What has to be looked at before a second instance runs.
    pub before_two: Vec<Seen<String>>,
}

impl App {
    pub fn named(name: impl Into<String>) -> App {
        App { name: name.into(), ..App::default() }
    }

    pub fn takes_requests(&self) -> bool {
        self.port != Port::None
    }
}

/// A port of the edge, on every address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listen {
    pub port: u16,
    pub tls: bool,
    pub proxy_protocol: bool,
}

/// A certificate and its key, for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub host: String,
    pub cert: String,
    pub key: String,
}

/// What a setting of a route says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Flag(bool),
    /// `headers = { … }`: a text that is set, or a header that is removed.
    Headers(Vec<(String, Option<String>)>),
}

/// One `[[route]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    pub pattern: String,
    pub settings: Vec<(&'static str, Seen<Value>)>,
    /// Why it is written as a comment, and what to do.
    pub off: Option<String>,
}

/// Something of a file that is not in `mainstay.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub at: String,
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// As many as a route takes.
const HEADERS_MAX: usize = 32;
/// More of one file is another kind of file given by mistake.
const NOTES_MAX: usize = 200;

#[derive(Debug, Default)]
pub struct Found {
    /// Files that were read, in order.
    pub files: Vec<String>,
    pub apps: Vec<App>,
    pub listen: Vec<Seen<Listen>>,
    pub domains: Vec<Seen<String>>,
    pub trusted: Vec<Seen<String>>,
    /// Keys of `[edge.timeouts]`.
    pub timeouts: Vec<(&'static str, Seen<String>)>,
    pub body: Option<Seen<String>>,
    /// `connections_per_client` of `[edge.limits]`.
    pub per_client: Option<Seen<u32>>,
    pub compress: Option<Seen<bool>>,
    /// `hsts` of `[edge.headers]`.
    pub hsts: Option<Seen<String>>,
    pub certificates: Vec<Seen<Certificate>>,
    pub routes: Vec<Route>,
    /// Names without which the app is not worth starting.
    pub required: Vec<Seen<String>>,
    /// There is a `.env`, and nothing of the app's own reads it.
    pub env_file: Option<String>,
    pub notes: Vec<Note>,
    /// Past `NOTES_MAX`.
    pub more_notes: usize,
}

impl Found {
    pub fn note(&mut self, at: impl Into<String>, what: impl Into<String>) {
        let note = Note { at: at.into(), what: plain(&what.into()) };
        if self.notes.contains(&note) {
            return;
        }
        if self.notes.len() < NOTES_MAX { self.notes.push(note) } else { self.more_notes += 1 }
    }

    pub fn not_understood(&mut self, at: impl Into<String>, what: &str) {
        self.note(at, format!("not understood: {}", cut(what)));
    }

    pub fn app(&mut self, name: &str) -> Option<&mut App> {
        self.apps.iter_mut().find(|app| app.name == name)
    }

    /// A setting of a route; the first of a name counts, headers add up.
    pub fn set(&mut self, pattern: &str, key: &'static str, value: Seen<Value>) {
        if !self.routes.iter().any(|route| route.pattern == pattern) {
            self.routes.push(Route { pattern: pattern.to_owned(), ..Route::default() });
        }
        let Some(route) = self.routes.iter_mut().find(|route| route.pattern == pattern) else { return };
        match (route.settings.iter_mut().find(|(known, _)| *known == key), value.value) {
            (None, new) => route.settings.push((key, Seen::new(new, value.at))),
            (Some((_, Seen { value: Value::Headers(all), .. })), Value::Headers(more)) => {
                let is_new = |name: &str| !all.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
                let room = HEADERS_MAX.saturating_sub(all.len());
                let more: Vec<_> = more.into_iter().filter(|(name, _)| is_new(name)).take(room).collect();
                all.extend(more);
            }
            _ => {}
        }
    }

    /// The project's own app that answers requests, if there is one.
    pub fn own(&mut self) -> Option<&mut App> {
        self.apps.iter_mut().find(|app| app.run.is_some() && app.takes_requests())
    }
}

/// A name of an app out of any text: what is not allowed in one becomes a hyphen.
pub fn app_name(text: &str) -> String {
    const NAME_CHARACTERS_MAX: usize = 40;
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' };
    let name: String = text.chars().map(fits).take(NAME_CHARACTERS_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "main".to_owned() } else { name.to_owned() }
}

/// Text of a file as part of one line of ours: no control characters, which a terminal or TOML would act on.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A piece of a file, short enough for a message.
pub fn cut(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 80;
    let text = plain(text.trim());
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_what_a_name_may_hold() {
        for (text, name) in [("api", "api"), ("my.app/x", "my-app-x"), ("--", "main"), ("", "main"), ("é1", "1")] {
            assert_eq!(app_name(text), name);
        }
        assert_eq!(app_name(&"x".repeat(99)).len(), 40);
    }

    #[test]
    fn notes_are_bounded_said_once_and_hold_no_control_characters() {
        let mut found = Found::default();
        for i in 0..NOTES_MAX + 5 {
            found.not_understood(format!("f:{i}"), "a\x1b[31m\nb");
            found.not_understood(format!("f:{i}"), "a\x1b[31m\nb");
        }
        assert_eq!((found.notes.len(), found.more_notes), (NOTES_MAX, 10));
        assert_eq!(found.notes[0].to_string(), "f:0: not understood: a [31m b");
        assert!(cut(&"é".repeat(200)).ends_with('…'));
    }
}
