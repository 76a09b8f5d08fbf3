//! The W3C `traceparent` header, read and written without allocating.

/// Which trace a request belongs to, and which span of it called us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    pub parent_id: [u8; 8],
    pub flags: u8,
}

/// `00-` + 32 + `-` + 16 + `-` + 2.
pub const TRACEPARENT_BYTES: usize = 55;
pub const SAMPLED: u8 = 1;

impl TraceParent {
    /// None for anything the specification tells us to ignore: a trace is then begun anew.
    pub fn parse(header: &[u8]) -> Option<TraceParent> {
        let (head, rest) = header.split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = hex(&head[..2])?;
        // A later version may say more after a dash; version 255 is forbidden.
        let well_ended = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if version == 0xff || !well_ended || [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let trace_id = hex(&head[3..35])?;
        let parent_id = hex(&head[36..52])?;
        let [flags] = hex(&head[53..55])?;
        let known = if version == 0 { flags } else { flags & SAMPLED };
        let parent = TraceParent { trace_id, parent_id, flags: known };
        (trace_id != [0; 16] && parent_id != [0; 8]).then_some(parent)
    }

    /// Always version 00.
    pub fn format(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id, &mut out[3..35]);
        write_hex(&self.parent_id, &mut out[36..52]);
        write_hex(&[self.flags], &mut out[53..55]);
        out
    }
}

const DIGITS: [u8; 16] = *b"0123456789abcdef";

/// `out` is twice as long as `bytes`.
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower case only, as the specification demands.
pub fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_written_is_what_was_read() {
        let parent = TraceParent::parse(GOOD).expect("valid");
        assert_eq!(parent.flags, SAMPLED);
        assert_eq!(parent.trace_id[0], 0x4b);
        assert_eq!(parent.parent_id[7], 0xb7);
        assert_eq!(parent.format(), GOOD);
    }

    #[test]
    fn the_specification_says_what_to_ignore() {
        let text = std::str::from_utf8(GOOD).expect("ascii");
        let cases = [
            (text.to_owned(), true),
            (text.replace("00-4", "01-4"), true),
            (format!("{}-more", text.replace("00-4", "cc-4")), true),
            (format!("{}.more", text.replace("00-4", "cc-4")), false),
            (format!("{text}-more"), false),
            (text.replace("00-4", "ff-4"), false),
            (text.replace("4bf92f", "4BF92F"), false),
            (text.replace("4bf92f", "4bg92f"), false),
            (text.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
            (text.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
            (text.replace("-00f0", "_00f0"), false),
            (text[..54].to_owned(), false),
            (String::new(), false),
        ];
        for (header, valid) in cases {
            assert_eq!(TraceParent::parse(header.as_bytes()).is_some(), valid, "{header}");
        }
    }
}
