//! `[edge.headers]`: the headers Helmet sets, by one switch, each settable or off; and a content security policy.

use super::edits::is_value;
use mainstay_config::{Item, Reader, Table, Value};

/// Our own pages have no script and one style sheet inside, and need nothing else.
const OWN_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";
const POLICY: &str = "Content-Security-Policy";
const POLICY_TRIAL: &str = "Content-Security-Policy-Report-Only";
const HSTS: &str = "Strict-Transport-Security";

/// Key, header, value under `secure = true`, what it is for.
const SWITCHED: [(&str, &str, &str, &str); 6] = [
    ("hsts", HSTS, "max-age=31536000", "Strict-Transport-Security over TLS, in production; false: none"),
    ("frame_options", "X-Frame-Options", "DENY", "Who may show pages in a frame; false: nothing said"),
    ("content_type_options", "X-Content-Type-Options", "nosniff", "Types are not guessed; false: nothing said"),
    // The filter it once steered is gone from browsers, and was itself a way in: 0 is what Helmet says.
    ("xss_protection", "X-XSS-Protection", "0", "X-XSS-Protection; false: nothing said"),
    ("referrer_policy", "Referrer-Policy", "strict-origin-when-cross-origin", "Referrer-Policy; false: nothing said"),
    (
        "permissions_policy",
        "Permissions-Policy",
        "camera=(), microphone=(), geolocation=(), usb=()",
        "What pages may use of the device; false: nothing said",
    ),
];

/// Key, directive, what it allows unless it is written.
const DIRECTIVES: [(&str, &str, &[&str]); 8] = [
    ("default", "default-src", &["'self'"]),
    ("script", "script-src", &["'self'"]),
    ("style", "style-src", &["'self'", "'unsafe-inline'"]),
    ("font", "font-src", &["'self'", "data:"]),
    ("img", "img-src", &["'self'", "data:", "https:", "blob:"]),
    ("connect", "connect-src", &["'self'"]),
    ("frame", "frame-src", &["'self'"]),
    ("object", "object-src", &["'none'"]),
];

/// Words that are written in quotes, and often without.
const QUOTED: [&str; 8] = [
    "self",
    "none",
    "unsafe-inline",
    "unsafe-eval",
    "unsafe-hashes",
    "strict-dynamic",
    "report-sample",
    "wasm-unsafe-eval",
];

/// The lines to add where the app has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secure {
    always: Vec<(&'static str, String)>,
    /// Over TLS alone (RFC 6797 §7.2).
    hsts: Option<String>,
    /// Written here: nobody else adds it.
    decides_hsts: bool,
    policy: Option<(&'static str, String)>,
}

impl Secure {
    pub fn decides_hsts(&self) -> bool {
        self.decides_hsts
    }

    pub fn lines(&self, https: bool, ours: bool) -> impl Iterator<Item = (&'static str, &str)> {
        let always = self.always.iter().map(|(name, value)| (*name, value.as_str()));
        let hsts = self.hsts.as_deref().filter(|_| https).map(|value| (HSTS, value));
        let policy = self.policy.as_ref().map(|(name, value)| match ours {
            true => (POLICY, OWN_POLICY),
            false => (*name, value.as_str()),
        });
        always.chain(hsts).chain(policy)
    }
}

pub fn read(edge: &Table, reader: &Reader) -> Secure {
    let headers = edge.table("headers");
    if !headers.exists() {
        return Secure::default();
    }
    let on = headers
        .key("secure")
        .doc("The headers Helmet sets, where the app sets none")
        .env("HELMET_ENABLED")
        .boolean(false)
        .value;
    let mut secure = Secure::default();
    for (key, name, usual, doc) in SWITCHED {
        let written = written(&headers, key, doc);
        secure.decides_hsts |= name == HSTS && written.is_some();
        // `edge.hsts` says how long, where somebody wrote it.
        let on = on && !(name == HSTS && edge.has("hsts"));
        let Some(value) = written.unwrap_or_else(|| on.then(|| usual.to_owned())) else { continue };
        match name {
            HSTS if reader.environment().production => secure.hsts = Some(value),
            // A browser would keep it for a year, for a name that next week serves something else.
            HSTS => {}
            _ => secure.always.push((name, value)),
        }
    }
    secure.policy = read_policy(&headers.table("csp"));
    secure
}

/// `Some(None)`: off. `None`: not written, or not usable and said.
fn written(headers: &Table, key: &str, doc: &str) -> Option<Option<String>> {
    let item = headers.key(key).doc(doc).value()?;
    match item.value {
        Value::Boolean(false) => Some(None),
        Value::Boolean(true) => None,
        Value::Text(text) if is_value(&text) && !text.is_empty() => Some(Some(text)),
        other => {
            let what = format!("{} is no value of a header", other.found());
            headers.fault(&item.at, what, "one line of visible ASCII, or false", None);
            None
        }
    }
}

fn read_policy(table: &Table) -> Option<(&'static str, String)> {
    if !table.exists() {
        return None;
    }
    let mut directives = Vec::new();
    for (key, directive, usual) in DIRECTIVES {
        let sources = table.key(key).doc(&format!("Sources of {directive}; [] leaves it out")).texts(usual);
        let sources: Vec<String> = sources.value.iter().filter_map(|source| read_source(table, source)).collect();
        if !sources.is_empty() {
            directives.push(format!("{directive} {}", sources.join(" ")));
        }
    }
    let trial = table.key("report_only").doc("Only report what the policy would refuse").boolean(false).value;
    let policy = directives.join("; ");
    if policy.len() > super::edits::VALUE_BYTES_MAX {
        table.fault(&table.position(), "the policy is too long for a header", "at most 4096 letters", None);
        return None;
    }
    Some((if trial { POLICY_TRIAL } else { POLICY }, policy))
}

fn read_source(table: &Table, source: &Item<String>) -> Option<String> {
    let text = source.value.as_str();
    if QUOTED.contains(&text) {
        return Some(format!("'{text}'"));
    }
    if text.is_empty() || !is_value(text) || text.contains([' ', ';', ',']) {
        let what = format!("`{text}` is not a source");
        table.fault(&source.at, what, "\"self\", \"https://cdn.example.com\", \"data:\", one source a text", None);
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Inputs;

    fn read_file(text: &str) -> (Secure, bool) {
        let reader = Reader::new(&Inputs::of_file(text));
        let secure = read(&reader.table("edge"), &reader);
        (secure, reader.finish().faults.is_empty())
    }

    fn lines(secure: &Secure, https: bool, ours: bool) -> Vec<String> {
        secure.lines(https, ours).map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn one_switch_sets_what_helmet_sets() {
        let file = "environment = \"production\"\n[edge.headers]\nsecure = true\nframe_options = \"SAMEORIGIN\"\n\
                    permissions_policy = false\n";
        let (secure, clean) = read_file(file);
        assert!(clean);
        let plain = lines(&secure, false, false);
        assert_eq!(
            plain,
            [
                "X-Frame-Options: SAMEORIGIN",
                "X-Content-Type-Options: nosniff",
                "X-XSS-Protection: 0",
                "Referrer-Policy: strict-origin-when-cross-origin"
            ]
        );
        let tls = lines(&secure, true, false);
        assert!(tls.contains(&"Strict-Transport-Security: max-age=31536000".to_owned()), "{tls:?}");
    }

    #[test]
    fn nothing_is_added_that_was_not_asked_for() {
        assert_eq!(read_file("").0, Secure::default());
        assert_eq!(read_file("[edge.headers]\n").0, Secure::default());
        let (secure, _) = read_file("environment = \"development\"\n[edge.headers]\nsecure = true\n");
        assert!(!lines(&secure, true, false).iter().any(|l| l.starts_with(HSTS)), "no HSTS in development");
    }

    #[test]
    fn the_policy_has_eight_directives_each_settable() {
        let (secure, clean) = read_file(
            "[edge.headers.csp]\nscript = [\"self\", \"https://js.example.com\"]\nframe = []\nreport_only = true\n",
        );
        assert!(clean);
        let all = lines(&secure, false, false);
        assert_eq!(
            all,
            ["Content-Security-Policy-Report-Only: default-src 'self'; script-src 'self' https://js.example.com; \
              style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data: https: blob:; \
              connect-src 'self'; object-src 'none'"]
        );
        assert_eq!(lines(&secure, false, true), [format!("{POLICY}: {OWN_POLICY}")]);
    }

    #[test]
    fn what_would_break_a_header_is_a_fault() {
        for bad in [
            "[edge.headers]\nhsts = \"a\\nb\"\n",
            "[edge.headers]\nhsts = 3\n",
            "[edge.headers.csp]\nscript = [\"a; b\"]\n",
        ] {
            assert!(!read_file(bad).1, "{bad}");
        }
    }
}
