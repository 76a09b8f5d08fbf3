//! Names a certificate is wanted for: which are written correctly, and which no public authority vouches for. Pure.

use std::net::IpAddr;

/// Longest name of DNS.
const NAME_BYTES_MAX: usize = 253;
/// Suffixes that are nobody's in the public DNS (RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`).
pub const LOCAL_SUFFIXES: [&str; 5] = ["localhost", "test", "internal", "local", "home.arpa"];

/// The name in its one form, or what is wrong with it.
pub fn parse(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return match is_private(address) {
            true => Ok(address.to_string()),
            false => Err(format!("`{text}` is a public address, not a name")),
        };
    }
    if !name.is_ascii() {
        return Err(format!("`{text}` is not written in ASCII (its xn-- form)"));
    }
    if name.starts_with("*.") && !is_local(&name) {
        return Err(format!("`{text}` is a wildcard, which ACME gives only by DNS"));
    }
    if LOCAL_SUFFIXES.iter().any(|suffix| name.strip_prefix("*.") == Some(suffix)) {
        return Err(format!("`{text}` is a wildcard over everything, which no client takes"));
    }
    let labels = name.strip_prefix("*.").unwrap_or(&name);
    let label_is_good = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.len() > NAME_BYTES_MAX || !labels.split('.').all(label_is_good) {
        return Err(format!("`{text}` is not a host name"));
    }
    if !name.contains('.') && !is_local(&name) {
        return Err(format!("`{text}` has no domain"));
    }
    Ok(name)
}

/// No public authority can vouch for it.
pub fn is_local(name: &str) -> bool {
    if name.parse::<IpAddr>().is_ok() {
        return true;
    }
    LOCAL_SUFFIXES
        .iter()
        .any(|suffix| name.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// `host` as a certificate's name covers it: itself, or one label under a wildcard.
pub fn covers(name: &str, host: &str) -> bool {
    name == host
        || name
            .strip_prefix("*.")
            .is_some_and(|rest| host.split_once('.').is_some_and(|(label, after)| !label.is_empty() && after == rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_one_form_and_faults_are_named() {
        for (text, name) in [
            ("API.Example.com.", "api.example.com"),
            ("localhost", "localhost"),
            ("*.shop.test", "*.shop.test"),
            ("10.1.2.3", "10.1.2.3"),
            ("[fd00::1]", "fd00::1"),
            ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(name));
        }
        for text in
            ["münchen.de", "8.8.8.8", "*.example.com", "intranet", "a..b", "-a.com", "a/b.com", "", "a b.com", "*.test"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn local_is_what_nobody_owns() {
        for name in ["localhost", "app.localhost", "shop.test", "db.internal", "tv.local", "nas.home.arpa", "10.0.0.1"]
        {
            assert!(is_local(name), "{name}");
        }
        for name in ["example.com", "notlocalhost", "latest", "test.com", "internal.example.com"] {
            assert!(!is_local(name), "{name}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        assert!(covers("*.a.test", "b.a.test") && covers("a.test", "a.test"));
        assert!(!covers("*.a.test", "a.test") && !covers("*.a.test", "c.b.a.test") && !covers("*.a.test", ".a.test"));
    }
}
