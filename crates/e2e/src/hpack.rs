//! HPACK (RFC 7541) as tests need it: heads written plainly, so that they can be written wrongly on purpose, and
//! whatever a server wrote read back, by a strict reader.

use std::collections::VecDeque;

/// The size of a table nobody has agreed on (§4.2, RFC 9113 §6.5.2).
const TABLE_BYTES: usize = 4096;
/// What an entry counts beside its text (§4.1).
const ENTRY_BYTES: usize = 32;

/// Appendix A, from index 1.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Appendix B: the length of each symbol's code in base 36. The code is canonical, so the lengths give all of it. The
/// last is the end of a string, which no string may hold.
const CODE_LENGTHS: &[u8; 257] = b"dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6ca\
    d67777777777777777777777878djde6f56565666577666567655677777fbeds\
    kmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmn\
    qqkjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrqu";

/// A whole number in the low `bits` of an octet that begins with `first`, and in those behind it (§5.1).
pub fn integer(first: u8, bits: u32, value: usize) -> Vec<u8> {
    let most = (1usize << bits) - 1;
    if value < most {
        return vec![first | value as u8];
    }
    let (mut bytes, mut rest) = (vec![first | most as u8], value - most);
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// A string as it is.
pub fn string(text: &[u8]) -> Vec<u8> {
    [integer(0, 7, text.len()), text.to_vec()].concat()
}

/// A field that is not remembered, its name spelled out (§6.2.2).
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0], string(name), string(value)].concat()
}

/// A field that both sides remember (§6.2.1).
pub fn remembered(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// A block of fields, none remembered.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// What reads the blocks of one server.
#[derive(Debug)]
pub struct Reader {
    entries: VecDeque<(String, String)>,
    /// What the table may hold now, and what it may be set to.
    size_max: usize,
    agreed: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { entries: VecDeque::new(), size_max: TABLE_BYTES, agreed: TABLE_BYTES }
    }
}

type Read<T> = Result<T, String>;

impl Reader {
    /// The size that was asked of the server (SETTINGS_HEADER_TABLE_SIZE): it may never go beyond.
    pub fn agree(&mut self, size: usize) {
        self.agreed = size;
    }

    /// What the table holds, as it counts (§4.1).
    pub fn size(&self) -> usize {
        self.entries.iter().map(|(name, value)| name.len() + value.len() + ENTRY_BYTES).sum()
    }

    /// The fields of a whole block.
    pub fn read(&mut self, mut block: &[u8]) -> Read<Vec<(String, String)>> {
        let mut fields = Vec::new();
        while let Some(&first) = block.first() {
            match first {
                0x80.. => fields.push(self.entry(take_integer(&mut block, 7)?)?),
                0x40..=0x7f => {
                    let field = self.literal(&mut block, 6)?;
                    self.remember(field.clone());
                    fields.push(field);
                }
                0x20..=0x3f if !fields.is_empty() => return Err("a change of size within a block".into()),
                0x20..=0x3f => self.resize(take_integer(&mut block, 5)?)?,
                _ => fields.push(self.literal(&mut block, 4)?),
            }
        }
        if self.size_max > self.agreed {
            return Err(format!("the table has {} octets, {} were agreed", self.size_max, self.agreed));
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Read<(String, String)> {
        let known = index.checked_sub(1).and_then(|index| STATIC.get(index));
        let known = known.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let learnt = || self.entries.get(index.checked_sub(STATIC.len() + 1)?).cloned();
        known.or_else(learnt).ok_or_else(|| format!("no entry {index}"))
    }

    fn literal(&self, block: &mut &[u8], bits: u32) -> Read<(String, String)> {
        let name = match take_integer(block, bits)? {
            0 => take_string(block)?,
            index => self.entry(index)?.0,
        };
        Ok((name, take_string(block)?))
    }

    fn remember(&mut self, field: (String, String)) {
        self.entries.push_front(field);
        self.evict();
    }

    fn resize(&mut self, size: usize) -> Read<()> {
        if size > self.agreed {
            return Err(format!("a table of {size} octets, {} were agreed", self.agreed));
        }
        self.size_max = size;
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.size() > self.size_max {
            self.entries.pop_back();
        }
    }
}

fn take_integer(block: &mut &[u8], bits: u32) -> Read<usize> {
    let mut next = || {
        let (first, rest) = block.split_first().ok_or("a number without end")?;
        *block = rest;
        Ok::<usize, String>(usize::from(*first))
    };
    let most = (1usize << bits) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21, 28] {
        let octet = next()?;
        value += (octet & 127) << shift;
        if octet < 128 {
            return Ok(value);
        }
    }
    Err("a number beyond all use".into())
}

fn take_string(block: &mut &[u8]) -> Read<String> {
    let packed = block.first().is_some_and(|first| first & 128 != 0);
    let length = take_integer(block, 7)?;
    if length > block.len() {
        return Err("a string without end".into());
    }
    let (bytes, rest) = block.split_at(length);
    *block = rest;
    let bytes = if packed { unpacked(bytes)? } else { bytes.to_vec() };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Symbols in the order of their codes: by length, then by value.
fn codes() -> Vec<(u32, u32, usize)> {
    let length = |symbol: usize| (CODE_LENGTHS[symbol] as char).to_digit(36).unwrap_or(0);
    let mut symbols: Vec<usize> = (0..CODE_LENGTHS.len()).collect();
    symbols.sort_by_key(|&symbol| (length(symbol), symbol));
    let (mut next, mut last) = (0u32, 0);
    symbols
        .into_iter()
        .map(|symbol| {
            next <<= length(symbol) - last;
            last = length(symbol);
            next += 1;
            (last, next - 1, symbol)
        })
        .collect()
}

fn unpacked(bytes: &[u8]) -> Read<Vec<u8>> {
    let codes = codes();
    let (mut out, mut code, mut length) = (Vec::new(), 0u32, 0u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if let Some((.., symbol)) = codes.iter().find(|(l, c, _)| (*l, *c) == (length, code)) {
            out.push(u8::try_from(*symbol).map_err(|_| "the end of a string within it")?);
            (code, length) = (0, 0);
        } else if length > 30 {
            return Err("no such code".into());
        }
    }
    // What is left fills the last octet with ones, and is shorter than one (§5.2).
    match length < 8 && code == (1 << length) - 1 {
        true => Ok(out),
        false => Err("what fills up the last octet is no filling".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 C.4.1 and C.4.2, C.6.1: a head packed, one that refers to it, an answer.
    #[test]
    fn examples_of_the_rfc_are_read() {
        let hex = |text: &str| -> Vec<u8> {
            let digits: Vec<u8> = text.bytes().filter_map(|b| (b as char).to_digit(16).map(|d| d as u8)).collect();
            digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        };
        let mut reader = Reader::default();
        let first = reader.read(&hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")).expect("C.4.1");
        assert_eq!(first.last(), Some(&(":authority".into(), "www.example.com".into())));
        assert_eq!(reader.size(), 57);
        let second = reader.read(&hex("8286 84be 5886 a8eb 1064 9cbf")).expect("C.4.2");
        assert_eq!(second[3..], [first[3].clone(), ("cache-control".into(), "no-cache".into())]);
        let answer = "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d \
                      29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        let answer = Reader::default().read(&hex(answer)).expect("C.6.1");
        assert_eq!(answer[0], (":status".into(), "302".into()));
        assert_eq!(answer[3], ("location".into(), "https://www.example.com".into()));
        for bad in ["80", "c0", "3fe2 1f", "00 81 ff 00", "00 81 18 00", "00 01", "ffff ffff ffff"] {
            assert!(Reader::default().read(&hex(bad)).is_err(), "{bad}");
        }
        assert_eq!(integer(0x40, 6, 1337), [0x7f, 0xfa, 0x09]);
    }
}
