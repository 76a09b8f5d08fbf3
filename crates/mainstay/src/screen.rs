//! The first minute's screen: what runs, where it is, what was given, what to mend.
//!
//! Pure text. A line is made only for what exists.

use mainstay_config::Fault;
use std::net::SocketAddr;

/// Labels are set in a column, so that the eye finds them.
const COLUMN: usize = 9;

fn line(label: &str, rest: &str) -> String {
    format!("{label:<COLUMN$}{}", rest.trim_end())
}

/// The line without its label: in a log the level says as much.
pub fn without_label(line: &str) -> &str {
    match line.split_at_checked(COLUMN) {
        Some((label, rest)) if is_label(label) => rest,
        _ => line,
    }
}

fn is_label(text: &str) -> bool {
    ["app", "open", "given", "warn", "error"].contains(&text.trim_end()) && text.ends_with(' ')
}

/// The first line: which environment and why, where data lies, which file.
pub fn opening(environment: &str, data: &str, file: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let version = version.strip_suffix(".0").unwrap_or(version);
    let file = file.map_or("no file: built-in defaults".to_owned(), |file| format!("file {file}"));
    format!("mainstay {version}   {environment}   data {data}   {file}")
}

/// Where to point a browser. Loopback and wildcard pairs are one line.
pub fn open(listeners: &[(SocketAddr, bool)]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for (address, tls) in listeners {
        let scheme = if *tls { "https" } else { "http" };
        let host = if address.ip().is_unspecified() || address.ip().is_loopback() {
            "127.0.0.1".to_owned()
        } else {
            match address {
                SocketAddr::V4(a) => a.ip().to_string(),
                SocketAddr::V6(a) => format!("[{}]", a.ip()),
            }
        };
        let url = format!("{scheme}://{host}:{}", address.port());
        if !shown.contains(&url) {
            shown.push(url);
        }
    }
    shown.iter().map(|url| line("open", &format!("{url:<29}your app, through the edge"))).collect()
}

/// Variables the children were given. `asks`: there is something that they may ask for.
pub fn given(has_ports: bool, asks: bool) -> Option<String> {
    let names = match (has_ports, asks) {
        (true, true) => "PORT HOST MAINSTAY_URL MAINSTAY_TOKEN",
        (true, false) => "PORT HOST",
        (false, true) => "MAINSTAY_URL MAINSTAY_TOKEN",
        (false, false) => return None,
    };
    Some(line("given", names))
}

/// What, where, and what to type.
pub fn warn(warning: &Fault) -> String {
    let mut text = warning.what.clone();
    if !warning.found.is_empty() {
        text.push_str(&format!(", found {}", warning.found));
    }
    text.push_str(&format!(" ({})", warning.position));
    match (warning.expected.as_str(), &warning.fix) {
        ("", Some(fix)) if fix.starts_with("mainstay secret") => text.push_str("; production would refuse it"),
        ("", _) => {}
        (expected, _) => text.push_str(&format!("; expected {expected}")),
    }
    if let Some(fix) = &warning.fix {
        text.push_str(&format!("   fix: {fix}"));
    }
    line("warn", &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_reads_as_the_design_shows_it() {
        let opening = opening("development (no domain)", ".mainstay", None);
        assert_eq!(opening, "mainstay 0.1   development (no domain)   data .mainstay   no file: built-in defaults");
    }

    #[test]
    fn a_log_line_has_no_label() {
        assert_eq!(without_label("app      main   npm start"), "main   npm start");
        assert_eq!(without_label("mainstay 0.1   development"), "mainstay 0.1   development");
        assert_eq!(without_label("short"), "short");
    }

    #[test]
    fn one_way_in_is_one_line() {
        let pair = ["127.0.0.1:8080".parse().expect("v4"), "[::1]:8080".parse().expect("v6")].map(|a| (a, false));
        assert_eq!(open(&pair), ["open     http://127.0.0.1:8080        your app, through the edge"]);
        let public = [("[2001:db8::1]:443".parse().expect("v6"), true)];
        assert!(open(&public)[0].contains("https://[2001:db8::1]:443"));
    }
}
