//! JSON written by hand into a buffer that is used again: a record becomes a line without allocating.

use serde_json::Value;

/// For each byte: 0 = as it is, `u` = as `\u00XX`, else the letter after the backslash.
const ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = b'u';
        i += 1;
    }
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[0x08] = b'b';
    table[0x0c] = b'f';
    table[0x7f] = b'u';
    table
};
/// `,"name":` as one literal: one copy instead of three for each of a record's twenty keys.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
pub(crate) use key;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// In quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    inner(out, text);
    out.push(b'"');
}

/// Without the quotes around it.
pub fn inner(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        let escape = ESCAPE[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[start..i]);
        start = i + 1;
        match escape {
            b'u' => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
    }
    out.extend_from_slice(&bytes[start..]);
}

/// `,"key":"text"`. Here and below `key` is what the macro makes: ours, without a need for escapes.
pub fn text(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    string(out, text);
}

/// As `text`, for a word of ours that needs no escapes.
pub fn word(out: &mut Vec<u8>, key: &str, word: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
}

/// `,"key":123`.
pub fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    digits(out, value);
}

/// `,"key":true`; nothing at all when it is false, as the reader takes a missing key for false.
pub fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    if value {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"true");
    }
}

/// `,"key":1.234`, from microseconds.
pub fn millis(out: &mut Vec<u8>, key: &str, micros: u64) {
    out.extend_from_slice(key.as_bytes());
    digits(out, micros / 1000);
    let rest = (micros % 1000) as u16;
    out.extend_from_slice(&[b'.', b'0' + (rest / 100) as u8, b'0' + (rest / 10 % 10) as u8, b'0' + (rest % 10) as u8]);
}

pub fn digits(out: &mut Vec<u8>, mut value: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// Any value, each string in it passed through `map`.
pub fn value(out: &mut Vec<u8>, value: &Value, map: &impl Fn(&mut Vec<u8>, &str)) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(n) => number_or_text(out, &n.to_string(), map),
        Value::String(text) => {
            out.push(b'"');
            map(out, text);
            out.push(b'"');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                self::value(out, item, map);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (i, (name, item)) in members.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
                map(out, name);
                out.extend_from_slice(b"\":");
                self::value(out, item, map);
            }
            out.push(b'}');
        }
    }
}

/// A number that `map` changes becomes text, so that the line stays JSON.
fn number_or_text(out: &mut Vec<u8>, number: &str, map: &impl Fn(&mut Vec<u8>, &str)) {
    let mut mapped = Vec::with_capacity(number.len());
    map(&mut mapped, number);
    if mapped == number.as_bytes() {
        return out.extend_from_slice(&mapped);
    }
    out.push(b'"');
    out.extend_from_slice(&mapped);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        let mut out = Vec::new();
        digits(&mut out, 0);
        digits(&mut out, u64::MAX);
        millis(&mut out, key!("ms"), 1_234_005);
        assert_eq!(out, b"018446744073709551615,\"ms\":1234.005");
    }

    proptest! {
        #[test]
        fn every_text_is_read_back(text: String) {
            let mut out = Vec::new();
            string(&mut out, &text);
            prop_assert!(out.iter().all(|c| *c >= 0x20 && *c != 0x7f));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
        }
    }
}
