//! A path without what varies: numbers, UUIDs, hashes, tokens and addresses become `:id`. No allocation.

/// Longer patterns are counted as `other`; a record keeps as many bytes of a path.
pub const PATTERN_BYTES: usize = 256;

/// Room for one pattern, used again and again.
#[derive(Debug)]
pub struct Pattern {
    len: usize,
    bytes: [u8; PATTERN_BYTES],
}

// What a byte of a path is to the rules below; a–f are both a letter and `HEX`.
const DIGIT: u8 = 1;
const HEX: u8 = 2;
const LOWER: u8 = 4;
const UPPER: u8 = 8;
/// `-` and `_`, which join words.
const JOIN: u8 = 16;
/// The dot, and signs frameworks use in file names: brackets, `$`, `!`, `@` and the like.
const SIGN: u8 = 32;
/// Never in a name somebody chose for a route: escapes, separators of values, anything beyond ASCII.
const DATA: u8 = 64;
/// Ends a segment.
const END: u8 = 128;

const CLASS: [u8; 256] = {
    let mut table = [DATA; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i as u8 {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' => LOWER | HEX,
            b'A'..=b'F' => UPPER | HEX,
            b'g'..=b'z' => LOWER,
            b'G'..=b'Z' => UPPER,
            b'-' | b'_' => JOIN,
            b'.' | b'@' | b'$' | b'!' | b'(' | b')' | b'[' | b']' | b'*' | b'+' | b'~' | b':' | b'\'' => SIGN,
            b'/' | b'?' | b'#' => END,
            _ => DATA,
        };
        i += 1;
    }
    table
};

/// A segment that no person typed is longer than this.
const NAME_BYTES: usize = 64;
/// From here on a word with a digit in it is a token.
const TOKEN_BYTES: usize = 16;
/// From here on hexadecimal digits are a hash.
const HASH_BYTES: usize = 8;
/// File extensions stay: `/assets/:id.js` says more than `/assets/:id`.
const EXTENSION_BYTES: usize = 5;

impl Default for Pattern {
    fn default() -> Self {
        Pattern { len: 0, bytes: [0; PATTERN_BYTES] }
    }
}

impl Pattern {
    /// The pattern of this path; None if it does not fit. A query is ignored.
    #[inline]
    pub fn of(&mut self, path: &str) -> Option<&[u8]> {
        self.len = 0;
        let mut rest = path.as_bytes();
        rest = rest.strip_prefix(b"/").unwrap_or(rest);
        loop {
            *self.bytes.get_mut(self.len)? = b'/';
            self.len += 1;
            // Copied while it is looked at; a segment that turns out to vary is written over.
            let room = &mut self.bytes[self.len..];
            let (mut classes, mut end) = (0, 0);
            for c in rest {
                let class = CLASS[usize::from(*c)];
                if class == END {
                    break;
                }
                if let Some(slot) = room.get_mut(end) {
                    *slot = *c;
                }
                classes |= class;
                end += 1;
            }
            let has_room = end <= room.len();
            let (segment, after) = rest.split_at(end);
            // Most segments are a short word without a digit: nothing more to look at.
            let is_word = classes & (DIGIT | SIGN | DATA) == 0 && end < TOKEN_BYTES;
            if !is_word && is_doubtful_id(classes, segment) {
                self.push_id(classes, segment)?;
            } else if has_room {
                self.len += end;
            } else {
                return None;
            }
            match after {
                [b'/', next @ ..] => rest = next,
                _ => return Some(&self.bytes[..self.len]),
            }
        }
    }

    /// What `of` gave last.
    pub fn last(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, text: &[u8]) -> Option<()> {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(text);
        self.len = end;
        Some(())
    }

    fn push_id(&mut self, classes: u8, segment: &[u8]) -> Option<()> {
        self.push(b":id")?;
        if classes & SIGN == 0 {
            return Some(());
        }
        self.push(if is_address(segment) { b"" } else { split_extension(segment).1 })
    }
}

/// `classes` is what occurs in the segment.
fn is_doubtful_id(classes: u8, segment: &[u8]) -> bool {
    if segment.len() > NAME_BYTES || classes & DATA != 0 {
        return true;
    }
    if classes & SIGN == 0 {
        return is_id(segment);
    }
    is_address(segment) || split_extension(segment).0.split(|c| *c == b'.').any(is_id)
}

/// `main.8f3c.js` → `main.8f3c` and `.js`. The extension is letters alone.
fn split_extension(segment: &[u8]) -> (&[u8], &[u8]) {
    match segment.iter().rposition(|c| *c == b'.') {
        Some(dot) if dot > 0 => {
            let extension = &segment[dot + 1..];
            let is_plain = extension.iter().all(u8::is_ascii_lowercase);
            match (1..=EXTENSION_BYTES).contains(&extension.len()) && is_plain {
                true => segment.split_at(dot),
                false => (segment, b""),
            }
        }
        _ => (segment, b""),
    }
}

/// `somebody@example.com`, escaped or not, but not `@scope`: what looks like its extension is part of it.
fn is_address(segment: &[u8]) -> bool {
    segment.iter().enumerate().any(|(i, c)| *c == b'%' || (*c == b'@' && i > 0))
}

/// Does this word, of at most 64 bytes, stand for one thing among many? A mistake either way is harmless: the
/// cap holds. The masks have one bit a byte, the first byte lowest.
fn is_id(word: &[u8]) -> bool {
    let (mut all, mut digit, mut hex, mut lower, mut upper, mut join) = (0, 0u64, 0u64, 0u64, 0u64, 0u64);
    for byte in word.iter().rev() {
        let class = CLASS[usize::from(*byte)];
        all |= class;
        let class = u64::from(class);
        digit = digit << 1 | (class & 1);
        hex = hex << 1 | (class >> 1 & 1);
        lower = lower << 1 | (class >> 2 & 1);
        upper = upper << 1 | (class >> 3 & 1);
        join = join << 1 | (class >> 4 & 1);
    }
    let n = word.len();
    if digit == 0 {
        // Random letters change case about every second time, names in camelCase far less often.
        let changes = (upper & lower << 1 | lower & !(lower << 1)).count_ones() as usize;
        let is_hash = all & !(HEX | LOWER | UPPER | JOIN) == 0 && hex == lower | upper && hex != 0;
        return n >= TOKEN_BYTES && (is_hash || changes * 100 >= n * 45);
    }
    let is_number = all & !(DIGIT | JOIN) == 0;
    let is_hash = n >= HASH_BYTES && hex == lower | upper && all & SIGN == 0;
    let is_token = n >= TOKEN_BYTES;
    let turns = (digit & !(digit << 1)).count_ones() + ((lower | upper) & digit << 1).count_ones();
    let is_short_token = n >= 6 && turns >= 4;
    let is_prefixed = join != 0 && digit > join;
    let trailing_digits = (digit << (64 - n)).leading_ones();
    is_number || is_hash || is_token || is_short_token || is_prefixed || trailing_digits >= 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(path: &str) -> String {
        let mut pattern = Pattern::default();
        pattern.of(path).map_or("none".to_owned(), |p| String::from_utf8(p.to_vec()).expect("a cut character"))
    }

    #[test]
    fn what_varies_is_an_id_and_what_names_a_route_stays() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/api/v1/protocols?token=1", "/api/v1/protocols"),
            ("/users/42/posts/7", "/users/:id/posts/:id"),
            ("/users/6f9619ff-8b86-d011-b42d-00c04fc964ff", "/users/:id"),
            ("/o/507f1f77bcf86cd799439011", "/o/:id"),
            ("/c/deadbeef", "/c/deadbeef"),
            ("/c/deadbee1", "/c/:id"),
            ("/s/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/s/:id"),
            ("/s/r_01k0c3x5yq7v9w2t4b6d8f0g2h", "/s/:id"),
            ("/p/proto_abc123", "/p/:id"),
            ("/p/order-42", "/p/:id"),
            ("/w/dQw4w9WgXcQ", "/w/:id"),
            ("/w/VGhpcyBpc-yBhIHRva2Vu", "/w/:id"),
            ("/u/ann@example.com", "/u/:id"),
            ("/u/ann%40example.com", "/u/:id"),
            ("/u/jos\u{e9}", "/u/:id"),
            ("/d/2024-01-31", "/d/:id"),
            ("/auth/oauth2/callback", "/auth/oauth2/callback"),
            ("/i18n/en-US.json", "/i18n/en-US.json"),
            ("/api/getUserAccountDetailsByName", "/api/getUserAccountDetailsByName"),
            ("/assets/main.8f3c2a1b.js", "/assets/:id.js"),
            ("/assets/app-BX3kd93k.css", "/assets/:id.css"),
            ("/export/12345.json", "/export/:id.json"),
            ("/@vite/client", "/@vite/client"),
            ("/_next/static/chunks/main.js", "/_next/static/chunks/main.js"),
            ("/.well-known/security.txt", "/.well-known/security.txt"),
            ("/a//b/", "/a//b/"),
        ] {
            assert_eq!(pattern(path), expected, "{path}");
        }
    }

    #[test]
    fn what_does_not_fit_has_no_pattern() {
        assert_eq!(pattern(&"/abc".repeat(64)), "/abc".repeat(64));
        assert_eq!(pattern(&"/abc".repeat(65)), "none");
        assert_eq!(pattern(&format!("/a/{}", "x".repeat(9000))), "/a/:id");
    }

    proptest! {
        #[test]
        fn an_id_never_shows(id in prop_oneof![
            "[0-9]{1,30}",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{11}[0-9]",
            "[0-9a-f]{7,62}[0-9]",
            "[0-9A-F]{7,62}[0-9]",
            "[0-9a-f]{24}",
            "[A-Za-z0-9_-]{15,62}[0-9]",
            "[0-9a-hjkmnp-tv-z]{25}[0-9]",
            "[a-z]{1,10}[.+]?[a-z0-9]{0,5}@[a-z]{1,10}\\.[a-z]{2,3}",
            "(usr|order|tx)[_-][a-z]{0,4}[0-9]{1,8}",
            "\\PC{0,6}%[0-9A-F]{2}[^.]{0,6}",
        ]) {
            let id = id.replace(['/', '?', '#'], "x");
            let found = pattern(&format!("/users/{id}/posts"));
            prop_assert_eq!(found, "/users/:id/posts");
        }

        #[test]
        fn no_path_panics(path in "\\PC{0,400}") {
            pattern(&path);
        }
    }
}
