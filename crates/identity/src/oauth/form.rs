//! `application/x-www-form-urlencoded`, as queries, token requests and GitHub's answers are written. Pure; bounded by
//! the text it is given and by a count of fields.

/// Providers send four; a query of hundreds is not theirs.
const FIELDS_MAX: usize = 32;

pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        push(&mut text, name);
        text.push('=');
        push(&mut text, value);
    }
    text
}

/// One value alone, for where two are joined by a colon (RFC 6749 §2.3.1).
pub(crate) fn escaped(value: &str) -> String {
    let mut text = String::new();
    push(&mut text, value);
    text
}

fn push(text: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Every field, decoded. `None` where that cannot be done in one way: a broken escape, no UTF-8, too many.
pub(crate) fn decode(text: &str) -> Option<Vec<(String, String)>> {
    let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > FIELDS_MAX {
        return None;
    }
    let split = |pair: &'_ str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescaped(name)?, unescaped(value)?))
    };
    pairs.into_iter().map(split).collect()
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => plain.push(b' '),
            b'%' => plain.push((digit(bytes.next()?)? << 4) | digit(bytes.next()?)?),
            other => plain.push(other),
        }
    }
    String::from_utf8(plain).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The fields of a query that a flow goes by. What is there twice could be read in two ways.
#[derive(Debug)]
pub(crate) struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn of(query: Option<&str>) -> Option<Fields> {
        decode(query.unwrap_or_default()).map(Fields)
    }

    /// # Errors
    /// It is there more than once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Twice> {
        let mut found = self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let first = found.next();
        if found.next().is_some() { Err(Twice) } else { Ok(first) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Twice;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_read_back() {
        let fields = [("a b", "ü&=+%"), ("", "/?#"), ("x", "")];
        let text = encode(&fields);
        assert_eq!(text, "a%20b=%C3%BC%26%3D%2B%25&=%2F%3F%23&x=");
        let read = decode(&text).expect("fields");
        assert_eq!(read, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(decode("a=b+c"), Some(vec![("a".into(), "b c".into())]));
        assert_eq!(escaped("a:b"), "a%3Ab");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for text in ["a=%", "a=%4", "a=%zz", "a=%ff", "%+1=a"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode(&"a&".repeat(FIELDS_MAX + 1)), None);
        let fields = Fields::of(Some("state=1&code=2&state=3")).expect("fields");
        assert_eq!((fields.one("state"), fields.one("code")), (Err(Twice), Ok(Some("2"))));
        assert_eq!(fields.one("iss"), Ok(None));
    }
}
