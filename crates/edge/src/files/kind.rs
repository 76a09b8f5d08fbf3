//! What a file's name says: its type, and how long it may be kept. Pure.

/// Files browsers may keep for a year without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immutable {
    /// Those with one of `ENDINGS`.
    Endings,
    /// Of these only what has a hash in its name: a new content has a new name.
    Hashed,
    Off,
}

/// The guides' list (E9).
const ENDINGS: [&str; 10] = ["jpg", "jpeg", "png", "gif", "ico", "css", "js", "svg", "woff", "woff2"];
pub const YEAR_S: i64 = 31_536_000;
/// Shortest part of a name that is taken for a hash; bundlers write eight letters or more.
const HASH_LETTERS_MIN: usize = 8;

const TYPES: [(&str, &str); 46] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "application/xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("bmp", "image/bmp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("eot", "application/vnd.ms-fontobject"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/quicktime"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("glb", "model/gltf-binary"),
];

fn ending(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or("", |(_, ending)| ending)
}

pub fn content_type(name: &str) -> &'static str {
    let ending = ending(name);
    TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map_or("application/octet-stream", |(_, t)| t)
}

/// May be kept for a year.
pub fn is_immutable(name: &str, which: Immutable) -> bool {
    let ending = ending(name);
    let listed = ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending));
    match which {
        Immutable::Endings => listed,
        Immutable::Hashed => has_hash(name),
        Immutable::Off => false,
    }
}

/// `index-BdH3bPq2.js`, `main.3f2a1b9c.chunk.css`: a part of eight letters or more with a digit, or with large and
/// small letters mixed.
fn has_hash(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let Some((stem, _)) = file.rsplit_once('.') else { return false };
    let mut parts = stem.split(['.', '-']).skip(1);
    parts.any(|part| {
        let letters = part.bytes();
        part.len() >= HASH_LETTERS_MIN
            && letters.clone().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && (letters.clone().any(|b| b.is_ascii_digit())
                || letters.clone().any(|b| b.is_ascii_uppercase()) && letters.clone().any(|b| b.is_ascii_lowercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_by_the_ending() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/B.JS", "text/javascript; charset=utf-8"),
            ("font.woff2", "font/woff2"),
            ("LICENSE", "application/octet-stream"),
            ("a.b/c", "application/octet-stream"),
            ("x.unknown", "application/octet-stream"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }

    #[test]
    fn a_year_is_for_the_listed_endings_or_for_hashed_names() {
        for (name, by_ending, hashed) in [
            ("logo.png", true, false),
            ("index.html", false, false),
            ("app.js", true, false),
            ("assets/index-BdH3bPq2.js", true, true),
            ("main.3f2a1b9c.chunk.css", true, true),
            ("jquery-components.js", true, false),
            ("3f2a1b9c4d.js", true, false),
            ("data-3f2a1b9c4d.json", false, true),
        ] {
            assert_eq!(is_immutable(name, Immutable::Endings), by_ending, "{name}");
            assert_eq!(is_immutable(name, Immutable::Hashed), hashed, "{name}");
            assert!(!is_immutable(name, Immutable::Off));
        }
    }
}
