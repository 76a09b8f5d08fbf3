//! Which addresses a login may lead to: providers behind TLS, and our own site's pages.

use http::Uri;
use std::net::IpAddr;

/// Beyond this it is no page but a payload; the cookie has to hold it.
pub(crate) const RETURN_BYTES_MAX: usize = 512;

/// Whoever is on the way could take the code, the secret or the tokens: `https`, or it does not leave this machine.
pub(crate) fn is_safe(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "not an address")?;
    let authority = uri.authority().ok_or("not an https address")?;
    if authority.as_str().contains('@') {
        return Err("a user in an address");
    }
    if text.contains('#') {
        return Err("a fragment (#…) in it");
    }
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if is_loopback(authority.host()) => Ok(uri),
        Some("http") => Err("without TLS anybody on the way could read along"),
        _ => Err("not an https address"),
    }
}

pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A page of this site and of no other, however a browser reads it: no scheme, no host, no `\`, which browsers take for
/// `/`, and no control characters, which they leave out.
pub(crate) fn is_own_page(text: &str) -> bool {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    text.len() <= RETURN_BYTES_MAX
        && text.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'\\')
        && path.starts_with('/')
        && !path.contains("//")
        && !path.split('/').any(is_dots)
}

/// `.` and `..` in their spellings: `/.//evil` would become `//evil` once they are taken out.
fn is_dots(part: &str) -> bool {
    let part = part.to_ascii_lowercase().replace("%2e", ".");
    part == "." || part == ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_our_own_are_returned_to() {
        for own in
            ["/", "/app", "/app?tab=1&next=//x", "/a/b#top", "/search?q=https://evil.example", "/a:b", "/%5Cevil"]
        {
            assert!(is_own_page(own), "{own}");
        }
        for other in [
            "",
            "app",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            " //evil.example",
            "/.//evil.example",
            "/..//evil.example",
            "/a//b",
            "/./a",
            "/%2e%2E/a",
            "/ü",
        ] {
            assert!(!is_own_page(other), "{other:?}");
        }
        assert!(!is_own_page(&format!("/{}", "a".repeat(RETURN_BYTES_MAX))));
    }

    #[test]
    fn without_tls_nothing_leaves_this_machine() {
        for good in [
            "https://accounts.google.com",
            "https://id.example/tenant/v2?x=1",
            "http://127.0.0.1:3000/a",
            "http://localhost:1",
            "http://[::1]:80/",
        ] {
            assert!(is_safe(good).is_ok(), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://10.0.0.1",
            "http://localhost.evil.example",
            "ftp://localhost",
            "https://user:pass@id.example",
            "/path",
            "id.example",
            "https://id.example/#a",
            "",
        ] {
            assert!(is_safe(bad).is_err(), "{bad}");
        }
    }
}
