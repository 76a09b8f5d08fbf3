//! `Accept-Encoding` (RFC 9110 §12.5.3): which codings a client takes, and which it likes best. Pure.

/// A way to write a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    Zstd,
    Br,
    Gzip,
}

impl Coding {
    /// Ours first: where a client likes all alike, the one that costs least for what it saves.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    pub const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// How a file of this coding is called: `app.js.br`.
    pub const fn ending(self) -> &'static str {
        match self {
            Coding::Zstd => ".zst",
            Coding::Br => ".br",
            Coding::Gzip => ".gz",
        }
    }
}

/// Those of `offered` the client takes rather than the plain body, its favourite first; among equals, in our order.
pub fn acceptable<'a>(elements: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Vec<Coding> {
    let (mut named, mut any, mut identity) = ([None; Coding::ALL.len()], None, None);
    for element in elements {
        let mut parts = element.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let Some(q) = parts.next().map_or(Some(1000), quality) else { continue };
        match name {
            b"*" => any = Some(q),
            _ if name.eq_ignore_ascii_case(b"identity") => identity = Some(q),
            _ if name.eq_ignore_ascii_case(b"x-gzip") => named[Coding::Gzip as usize] = Some(q),
            _ => {
                if let Some(coding) = Coding::ALL.iter().find(|c| name.eq_ignore_ascii_case(c.name().as_bytes())) {
                    named[*coding as usize] = Some(q);
                }
            }
        }
    }
    let least = identity.unwrap_or(0).max(1);
    let mut all: Vec<(Coding, u16)> =
        offered.iter().filter_map(|&c| Some((c, named[c as usize].or(any)?))).filter(|(_, q)| *q >= least).collect();
    // Stable: equals keep our order.
    all.sort_by_key(|(_, q)| std::cmp::Reverse(*q));
    all.into_iter().map(|(coding, _)| coding).collect()
}

/// `q=0.5` in thousandths.
fn quality(parameter: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    let value = value.trim();
    if !name.trim().eq_ignore_ascii_case("q") || value.len() > 5 {
        return None;
    }
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if !part.bytes().all(|b| b.is_ascii_digit()) || part.len() > 3 {
        return None;
    }
    let thousandths = format!("{part:0<3}").parse::<u16>().ok()?;
    match (whole, thousandths) {
        ("0", n) => Some(n),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(header: &str) -> Vec<&'static str> {
        let elements = header.split(',').map(|e| e.trim().as_bytes()).filter(|e| !e.is_empty());
        acceptable(elements, &Coding::ALL).into_iter().map(Coding::name).collect()
    }

    #[test]
    fn the_client_chooses_and_among_equals_we_do() {
        for (header, expected) in [
            ("gzip, deflate, br, zstd", &["zstd", "br", "gzip"][..]),
            ("gzip;q=1.0, br;q=0.5", &["gzip", "br"]),
            ("gzip, br;q=0", &["gzip"]),
            ("*", &["zstd", "br", "gzip"]),
            ("*;q=0.1, gzip;q=1", &["gzip", "zstd", "br"]),
            ("*;q=0", &[]),
            ("identity;q=1, gzip;q=0.5", &[]),
            ("identity;q=0.5, gzip;q=0.5", &["gzip"]),
            ("identity;q=0, GZIP", &["gzip"]),
            ("x-gzip", &["gzip"]),
            ("identity", &[]),
            ("", &[]),
            ("gzip;q=1.5, br;q=-1, zstd;q=nan", &[]),
            ("gzip ; Q=0.300", &["gzip"]),
        ] {
            assert_eq!(accepts(header), expected, "{header:?}");
        }
        assert!(acceptable([&b"br"[..]].into_iter(), &[Coding::Gzip]).is_empty(), "not offered");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_only_what_is_offered_comes_back(header in "\\PC{0,60}") {
            let elements = header.split(',').map(str::as_bytes);
            for coding in acceptable(elements, &[Coding::Br]) {
                prop_assert_eq!(coding, Coding::Br);
                prop_assert!(header.to_lowercase().contains("br") || header.contains('*'));
            }
        }
    }
}
