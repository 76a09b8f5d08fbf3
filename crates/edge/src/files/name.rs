//! Which file a path names. Pure: what comes out has no way out of a folder.

/// Longest name of a file, its folders included; what the kernel itself takes.
const NAME_BYTES_MAX: usize = 4096;

/// The file within the folder: segments with `/` between, none at the beginning; empty for the folder itself, and `/`
/// at the end where the path has one. `None`: no file can be meant.
pub fn file_of(path: &str, strip: Option<&str>, well_known: bool) -> Option<String> {
    let decoded = decode(path)?;
    let rest = match strip {
        Some(strip) => {
            let rest = decoded.strip_prefix(strip)?;
            if !rest.is_empty() && !rest.starts_with('/') {
                return None;
            }
            rest
        }
        None => &decoded,
    };
    if rest.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut name = String::with_capacity(rest.len());
    for (i, segment) in rest.split('/').filter(|s| !s.is_empty()).enumerate() {
        let hidden = segment.starts_with('.') && !(i == 0 && well_known && segment == ".well-known");
        if hidden || segment.contains(['\\', '\0']) {
            return None;
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(segment);
    }
    if !name.is_empty() && rest.ends_with('/') {
        name.push('/');
    }
    Some(name)
}

/// Escapes are decoded once. An escaped `/` is no separator and no letter of a name.
fn decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] != b'%' {
            out.push(bytes[i]);
            i += 1;
            continue;
        }
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        let byte = u8::try_from(digit(i + 1)? << 4 | digit(i + 2)?).ok()?;
        if matches!(byte, b'/' | b'\\' | 0) {
            return None;
        }
        out.push(byte);
        i += 3;
    }
    String::from_utf8(out).ok()
}

/// The path of a folder, for a redirect: always one `/` at its beginning, whatever came.
pub fn folder_path(path: &str) -> String {
    let trimmed = path.trim_start_matches(['/', '\\']);
    let safe: String = trimmed.chars().map(|c| if c.is_ascii_graphic() && c != '\\' { c } else { '_' }).collect();
    if safe.is_empty() { "/".to_owned() } else { format!("/{}/", safe.trim_end_matches('/')) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_names_a_file_or_none() {
        for (path, expected) in [
            ("/", Some("")),
            ("/a.js", Some("a.js")),
            ("//a//b.css", Some("a/b.css")),
            ("/docs/", Some("docs/")),
            ("/with%20space.txt", Some("with space.txt")),
            ("/%C3%A9.txt", Some("é.txt")),
            ("/../etc/passwd", None),
            ("/a/../b", None),
            ("/%2e%2e/etc/passwd", None),
            ("/..%2fetc", None),
            ("/a%5c..%5cb", None),
            ("/a\\b", None),
            ("/.env", None),
            ("/a/.git/config", None),
            ("/.well-known/x", None),
            ("/a%00.js", None),
            ("/a%zz", None),
            ("/a%2", None),
            ("/%ff", None),
        ] {
            assert_eq!(file_of(path, None, false).as_deref(), expected, "{path}");
        }
        assert_eq!(file_of("/.well-known/x", None, true).as_deref(), Some(".well-known/x"));
        assert_eq!(file_of("/a/.well-known/x", None, true), None);
        assert_eq!(file_of("/static/a.js", Some("/static"), false).as_deref(), Some("a.js"));
        assert_eq!(file_of("/statics/a.js", Some("/static"), false), None);
        assert_eq!(file_of("/static", Some("/static"), false).as_deref(), Some(""));
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        for (path, expected) in [
            ("/docs", "/docs/"),
            ("//", "/"),
            ("/docs//", "/docs/"),
            ("//evil.example", "/evil.example/"),
            ("/\\evil.example/x", "/evil.example/x/"),
        ] {
            assert_eq!(folder_path(path), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_leads_out(path in "(/|\\.|\\.\\.|%2e|%2f|%5c|\\\\|%00|a|é|[ -~]){0,24}", well_known: bool) {
            if let Some(name) = file_of(&path, None, well_known) {
                prop_assert!(!name.starts_with('/') && !name.contains(['\0', '\\']));
                for segment in name.trim_end_matches('/').split('/').filter(|_| !name.is_empty()) {
                    prop_assert!(!segment.is_empty());
                    prop_assert!(!segment.starts_with('.') || well_known && segment == ".well-known");
                }
            }
        }
    }
}
