//! Requests as they come off a connection, and replies as they go out: RESP2, and RESP3 for who asked for it.
//!
//! Invariant: how bytes are cut into reads changes nothing. Must never panic on any bytes, nor keep more than its
//! bounds of them.

/// Words of a request, the command's name among them.
pub const ARGUMENTS_MAX: usize = 64;
/// Bytes of a word.
pub const ARGUMENT_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request, framing included.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a request that is typed as a line.
pub const INLINE_BYTES_MAX: usize = 4096;
/// Bytes of a line that holds a number alone.
const NUMBER_LINE_BYTES_MAX: usize = 32;

/// What stands at the front of what was received.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not yet a whole request.
    Partial,
    /// The words of a request, and how many bytes it took. Without words nothing was asked.
    Whole(Vec<Vec<u8>>, usize),
}

/// Why nothing behind these bytes can be understood. In Redis's words where it has some.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("invalid multibulk length")]
    Count,
    #[error("a request has at most {ARGUMENTS_MAX} words here")]
    Arguments,
    #[error("invalid bulk length")]
    Length,
    #[error("a word has at most {ARGUMENT_BYTES_MAX} bytes here")]
    Argument,
    #[error("a request has at most {REQUEST_BYTES_MAX} bytes here")]
    Request,
    #[error("expected '$', got '{}'", char::from(*.0).escape_default())]
    Expected(u8),
    #[error("a word is longer than it said")]
    End,
    #[error("too big inline request")]
    Inline,
    #[error("unbalanced quotes in request")]
    Quotes,
}

/// The first request of these bytes.
///
/// # Errors
/// When they are none, and what follows cannot be told from what is within.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Broken> {
    match bytes.first() {
        None => Ok(Parsed::Partial),
        Some(b'*') => array(bytes),
        Some(_) => inline(bytes),
    }
}

fn array(bytes: &[u8]) -> Result<Parsed, Broken> {
    let Some((count, mut at)) = number(bytes, Broken::Count)? else { return Ok(Parsed::Partial) };
    let Ok(count) = usize::try_from(count) else { return Ok(Parsed::Whole(Vec::new(), at)) };
    if count > ARGUMENTS_MAX {
        return Err(Broken::Arguments);
    }
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let rest = bytes.get(at..).unwrap_or_default();
        match rest.first() {
            None => return Ok(Parsed::Partial),
            Some(b'$') => {}
            Some(other) => return Err(Broken::Expected(*other)),
        }
        let Some((length, head)) = number(rest, Broken::Length)? else { return Ok(Parsed::Partial) };
        let length = usize::try_from(length).map_err(|_| Broken::Length)?;
        if length > ARGUMENT_BYTES_MAX {
            return Err(Broken::Argument);
        }
        let (begin, end) = (at + head, at + head + length);
        if end + 2 > REQUEST_BYTES_MAX {
            return Err(Broken::Request);
        }
        let behind = bytes.get(end..).unwrap_or_default();
        if !b"\r\n".starts_with(&behind[..behind.len().min(2)]) {
            return Err(Broken::End);
        }
        words.push(begin..end);
        at = end + 2;
    }
    if bytes.len() < at {
        return Ok(Parsed::Partial);
    }
    // Only now: what comes in many pieces is copied once.
    Ok(Parsed::Whole(words.into_iter().map(|word| bytes[word].to_vec()).collect(), at))
}

/// The number behind the first byte, and how many bytes its line took.
fn number(bytes: &[u8], wrong: Broken) -> Result<Option<(i64, usize)>, Broken> {
    let head = &bytes[..bytes.len().min(NUMBER_LINE_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() == NUMBER_LINE_BYTES_MAX { Err(wrong) } else { Ok(None) };
    };
    let text = head[1..end.max(1)].strip_suffix(b"\r").and_then(|text| std::str::from_utf8(text).ok());
    match text.filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some((number, end + 1))),
        None => Err(wrong),
    }
}

fn inline(bytes: &[u8]) -> Result<Parsed, Broken> {
    let head = &bytes[..bytes.len().min(INLINE_BYTES_MAX)];
    let Some(end) = head.iter().position(|byte| *byte == b'\n') else {
        return if head.len() == INLINE_BYTES_MAX { Err(Broken::Inline) } else { Ok(Parsed::Partial) };
    };
    let line = head[..end].strip_suffix(b"\r").unwrap_or(&head[..end]);
    let words = words(line).ok_or(Broken::Quotes)?;
    if words.len() > ARGUMENTS_MAX {
        return Err(Broken::Arguments);
    }
    Ok(Parsed::Whole(words, end + 1))
}

/// A line as `redis-cli` and Redis itself cut it: by blanks, with "…" and its escapes, or '…'.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let (mut words, mut rest) = (Vec::new(), line);
    loop {
        while let Some((_, behind)) = rest.split_first().filter(|(byte, _)| is_blank(byte)) {
            rest = behind;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some((byte, behind)) = rest.split_first().filter(|(byte, _)| !is_blank(byte)) {
            rest = match byte {
                b'"' | b'\'' => {
                    let behind = quoted(*byte, behind, &mut word)?;
                    // A quote that is closed ends its word.
                    if behind.first().is_some_and(|byte| !is_blank(byte)) {
                        return None;
                    }
                    behind
                }
                byte => {
                    word.push(*byte);
                    behind
                }
            };
        }
        words.push(word);
    }
}

/// Takes what stands before the closing quote, and gives what stands behind it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match (quote, rest) {
            (_, []) => return None,
            (b'"', [b'\\', b'x', high, low, behind @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                word.push(digit(high)? << 4 | digit(low)?);
                behind
            }
            (b'"', [b'\\', byte, behind @ ..]) => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    byte => *byte,
                });
                behind
            }
            (b'\'', [b'\\', b'\'', behind @ ..]) => {
                word.push(b'\'');
                behind
            }
            (quote, [byte, behind @ ..]) if *byte == quote => return Some(behind),
            (_, [byte, behind @ ..]) => {
                word.push(*byte);
                behind
            }
        };
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Two,
    Three,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(&'static str),
    /// With its code in front: `ERR …`.
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// Of a sorted set.
    Score(u64),
    Null,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    /// Members of a sorted set with their scores.
    Scored(Vec<(Vec<u8>, u64)>),
}

impl Reply {
    pub fn bulk(text: impl Into<Vec<u8>>) -> Reply {
        Reply::Bulk(text.into())
    }

    pub fn error(text: impl Into<String>) -> Reply {
        Reply::Error(text.into())
    }

    pub fn count(count: u64) -> Reply {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Puts it behind what stands in `out`.
    pub fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let is_three = protocol == Protocol::Three;
        match self {
            Reply::Simple(text) => line(out, '+', text),
            Reply::Error(text) => {
                // A line of its own, whatever a request brought into it.
                let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
                line(out, '-', &clean);
            }
            Reply::Integer(number) => line(out, ':', &number.to_string()),
            Reply::Bulk(bytes) => {
                line(out, '$', &bytes.len().to_string());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            Reply::Score(score) if is_three => line(out, ',', &score.to_string()),
            Reply::Score(score) => Reply::bulk(score.to_string()).write(protocol, out),
            Reply::Null if is_three => out.extend(b"_\r\n"),
            Reply::Null => out.extend(b"$-1\r\n"),
            Reply::Array(items) => {
                line(out, '*', &items.len().to_string());
                items.iter().for_each(|item| item.write(protocol, out));
            }
            Reply::Map(pairs) => {
                let (sigil, count) = if is_three { ('%', pairs.len()) } else { ('*', 2 * pairs.len()) };
                line(out, sigil, &count.to_string());
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
            Reply::Scored(members) => {
                let count = if is_three { members.len() } else { 2 * members.len() };
                line(out, '*', &count.to_string());
                for (member, score) in members {
                    if is_three {
                        out.extend(b"*2\r\n");
                    }
                    Reply::bulk(member.as_slice()).write(protocol, out);
                    Reply::Score(*score).write(protocol, out);
                }
            }
        }
    }
}

fn line(out: &mut Vec<u8>, sigil: char, text: &str) {
    out.extend(sigil.to_string().as_bytes());
    out.extend(text.as_bytes());
    out.extend(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a client writes it.
    fn written(words: &[Vec<u8>]) -> Vec<u8> {
        let items = words.iter().map(|word| Reply::bulk(word.as_slice())).collect();
        let mut bytes = Vec::new();
        Reply::Array(items).write(Protocol::Two, &mut bytes);
        bytes
    }

    fn texts(words: Vec<Vec<u8>>) -> Vec<String> {
        words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect()
    }

    #[track_caller]
    fn whole(bytes: &[u8]) -> Vec<String> {
        match parse(bytes) {
            Ok(Parsed::Whole(words, taken)) if taken == bytes.len() => texts(words),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_cut_as_redis_cuts_them() {
        assert_eq!(whole(b"LLEN bull:scan:wait\r\n"), ["LLEN", "bull:scan:wait"]);
        assert_eq!(whole(b"  PING\n"), ["PING"]);
        assert_eq!(whole(b"\r\n"), [""; 0]);
        assert_eq!(whole(b"ECHO \"a b\\n\\x41\\\"\" 'it\\'s' ''\r\n"), ["ECHO", "a b\nA\"", "it's", ""]);
        for wrong in ["ECHO \"a\r\n", "ECHO 'a\r\n", "ECHO \"a\"b\r\n"] {
            assert_eq!(parse(wrong.as_bytes()), Err(Broken::Quotes), "{wrong}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused_before_it_is_received() {
        assert_eq!(parse(b"*65\r\n"), Err(Broken::Arguments));
        assert_eq!(parse(b"*1\r\n$65537\r\n"), Err(Broken::Argument));
        assert_eq!(parse(&[b'x'; INLINE_BYTES_MAX]), Err(Broken::Inline));
        assert_eq!(parse("x ".repeat(65).as_bytes()), Ok(Parsed::Partial));
        assert_eq!(parse(("x ".repeat(65) + "\n").as_bytes()), Err(Broken::Arguments));
        let mut large = b"*5\r\n".to_vec();
        for _ in 0..3 {
            large.extend(b"$65536\r\n");
            large.extend([b'x'; ARGUMENT_BYTES_MAX]);
            large.extend(b"\r\n");
        }
        assert_eq!(parse(&large), Ok(Parsed::Partial));
        large.extend(b"$65536\r\n");
        assert_eq!(parse(&large), Err(Broken::Request));
    }

    #[test]
    fn what_is_no_request_is_said_to_be_none() {
        for (bytes, broken) in [
            (&b"*x\r\n"[..], Broken::Count),
            (b"*1\n", Broken::Count),
            (b"*\n", Broken::Count),
            (b"*+1\r\n", Broken::Count),
            (b"*99999999999999999999\r\n", Broken::Count),
            (b"*1\r\nPING\r\n", Broken::Expected(b'P')),
            (b"*1\r\n$-1\r\n", Broken::Length),
            (b"*1\r\n$\r\n", Broken::Length),
            (b"*1\r\n$4\r\nPINGS\r\n", Broken::End),
            (&[b'*'; 32], Broken::Count),
        ] {
            assert_eq!(parse(bytes), Err(broken), "{}", bytes.escape_ascii());
        }
        assert_eq!(whole(b"*0\r\n"), [""; 0]);
        assert_eq!(whole(b"*-1\r\n"), [""; 0]);
    }

    #[test]
    fn replies_are_spelled_as_each_protocol_has_them() {
        let reply = Reply::Array(vec![
            Reply::Simple("OK"),
            Reply::error("ERR a\r\nb"),
            Reply::Integer(-2),
            Reply::Null,
            Reply::Map(vec![(Reply::bulk("a"), Reply::Score(7))]),
            Reply::Scored(vec![(b"1".to_vec(), 5)]),
        ]);
        let spelled = |protocol| {
            let mut out = Vec::new();
            reply.write(protocol, &mut out);
            String::from_utf8(out).expect("text").replace("\r\n", "|")
        };
        let head = "*6|+OK|-ERR a  b|:-2|";
        assert_eq!(spelled(Protocol::Two), format!("{head}$-1|*2|$1|a|$1|7|*2|$1|1|$1|5|"));
        assert_eq!(spelled(Protocol::Three), format!("{head}_|%1|$1|a|,7|*1|*2|$1|1|,5|"));
    }

    proptest! {
        /// Two requests behind each other, cut anywhere: the first is whole when its last byte is there.
        #[test]
        fn requests_are_read_as_they_are_written_wherever_they_are_cut(
            first in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..9),
            second in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 1..5),
        ) {
            let (front, back) = (written(&first), written(&second));
            let bytes = [front.clone(), back.clone()].concat();
            for cut in 0..=bytes.len() {
                let parsed = parse(&bytes[..cut]).expect("a request");
                if cut < front.len() {
                    prop_assert_eq!(parsed, Parsed::Partial);
                    continue;
                }
                prop_assert_eq!(parsed, Parsed::Whole(first.clone(), front.len()));
                let rest = parse(&bytes[front.len()..cut]).expect("a request");
                let expected = Parsed::Whole(second.clone(), back.len());
                prop_assert_eq!(rest, if cut == bytes.len() { expected } else { Parsed::Partial });
            }
        }
    }
}
