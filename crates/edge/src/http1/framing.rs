//! Where an HTTP/1 body ends (RFC 9112 §6, §7.1). Pure.
//!
//! Strict on purpose: whatever two servers could read in two ways is refused, because the one behind us may read it
//! the other way.

use crate::fields::{Fields, Name};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Absent,
    Length(u64),
    Chunked,
    /// The end of the connection; only responses.
    UntilClose,
}

/// The framing of a message cannot be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear;

/// Of a request. A length beside chunks is not believed and dropped; the connection is then not used again.
pub fn of_request(fields: &mut Fields, http10: bool) -> Result<Framing, Unclear> {
    if fields.has(Name::TransferEncoding) {
        if http10 {
            return Err(Unclear);
        }
        only_chunked(fields)?;
        fields.remove(Name::TransferEncoding);
        if fields.has(Name::ContentLength) {
            fields.remove(Name::ContentLength);
            // Somebody before us may have believed the length (RFC 9112 §6.1).
            fields.add(Name::Connection, b"close");
        }
        return Ok(Framing::Chunked);
    }
    if !fields.has(Name::ContentLength) {
        return Ok(Framing::Absent);
    }
    let mut lengths = fields.all(Name::ContentLength);
    let length = lengths.next().and_then(length).ok_or(Unclear)?;
    if lengths.next().is_some() {
        return Err(Unclear);
    }
    Ok(if length == 0 { Framing::Absent } else { Framing::Length(length) })
}

/// Makes the length that a request announces the one it will have, in plain digits, or none at all beside chunks: an
/// app must not find another than we framed by, whatever the client wrote and whichever version of HTTP brought it.
pub fn announce(fields: &mut Fields, framing: Framing) {
    if !fields.has(Name::ContentLength) {
        return;
    }
    let announced = match framing {
        Framing::Absent => 0,
        Framing::Length(length) => length,
        Framing::Chunked | Framing::UntilClose => return fields.remove(Name::ContentLength),
    };
    let is_said = |value: &[u8]| length(value) == Some(announced) && is_plain(value);
    if fields.count(Name::ContentLength) > 1 || !fields.get(Name::ContentLength).is_some_and(is_said) {
        fields.set(Name::ContentLength, announced.to_string().as_bytes());
    }
}

/// Without zeros before, which some read as the mark of another base.
fn is_plain(digits: &[u8]) -> bool {
    digits.len() == 1 || !digits.starts_with(b"0")
}

/// Of a response with this status to this kind of request.
pub fn of_response(fields: &mut Fields, status: u16, to_head: bool) -> Result<Framing, Unclear> {
    let chunked = fields.has(Name::TransferEncoding);
    if chunked {
        only_chunked(fields)?;
        fields.remove(Name::TransferEncoding);
        fields.remove(Name::ContentLength);
    }
    let mut announced = None;
    if fields.has(Name::ContentLength) {
        // A repeated length that says the same is common enough in apps to be forgiven, once.
        let mut plain = true;
        for value in fields.all(Name::ContentLength) {
            plain &= is_plain(value);
            let value = length(value).ok_or(Unclear)?;
            if announced.is_some_and(|a| a != value) {
                return Err(Unclear);
            }
            announced = Some(value);
        }
        if let Some(length) = announced
            && (!plain || fields.count(Name::ContentLength) > 1)
        {
            fields.set(Name::ContentLength, length.to_string().as_bytes());
        }
    }
    if matches!(status, 100..=199 | 204) {
        fields.remove(Name::ContentLength);
    }
    Ok(match announced {
        _ if to_head || matches!(status, 100..=199 | 204 | 304) => Framing::Absent,
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    })
}

/// Exactly one coding, and that `chunked`: any other would have to be undone by us or the app.
fn only_chunked(fields: &Fields) -> Result<(), Unclear> {
    let mut codings = fields.all(Name::TransferEncoding);
    match (codings.next(), codings.next()) {
        (Some(one), None) if one.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Unclear),
    }
}

/// Digits alone; a list, a sign or a space is refused.
pub fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
}

/// Bytes of extensions, and of zeros before sizes, one body may carry; nobody uses them but to attack.
const EXTENSION_BYTES_MAX: u32 = 16 * 1024;
/// Bytes of trailers.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// Lines of trailers.
const TRAILERS_MAX: usize = 64;

/// Reads a chunked body, fed in pieces of any size.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// Of the current chunk: what has not passed yet.
    left: u64,
    extension_bytes: u32,
    trailers: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size,
    Extension,
    /// After the CR behind a size.
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// The last chunk has been read; lines up to an empty one.
    Trailer,
    Ended,
}

/// One step through the bytes of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The first of these many bytes were framing.
    Framing(usize),
    /// The first of these many bytes are the body's.
    Data(usize),
    /// Nothing more belongs to the body.
    Ended,
}

impl Chunks {
    /// What comes first in these bytes, which are not empty.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Step, Unclear> {
        if self.state == State::Ended {
            return Ok(Step::Ended);
        }
        if self.state == State::Data {
            let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= here as u64;
            if self.left == 0 {
                self.state = State::DataCr;
            }
            return Ok(Step::Data(here));
        }
        for (i, &byte) in bytes.iter().enumerate() {
            self.state = self.next(byte)?;
            if matches!(self.state, State::Data | State::Ended) {
                return Ok(Step::Framing(i + 1));
            }
        }
        Ok(Step::Framing(bytes.len()))
    }

    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn next(&mut self, byte: u8) -> Result<State, Unclear> {
        match (self.state, byte) {
            (State::Start | State::Size, digit) if digit.is_ascii_hexdigit() => {
                if self.left >> 60 != 0 {
                    return Err(Unclear);
                }
                if self.left == 0 && self.state == State::Size {
                    // Zeros before a size say no more than an extension does.
                    self.framing_only()?;
                }
                self.left = self.left << 4 | u64::from((digit as char).to_digit(16).unwrap_or(0));
                Ok(State::Size)
            }
            (State::Size, b';') => Ok(State::Extension),
            (State::Size, b'\r') => Ok(State::SizeEnd),
            (State::Extension, b'\r') => Ok(State::SizeEnd),
            (State::Extension, other) if other == b'\t' || (other >= b' ' && other != 0x7f) => {
                self.framing_only()?;
                Ok(State::Extension)
            }
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::Trailer),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Start),
            (State::Trailer, byte) => self.trailer(byte),
            _ => Err(Unclear),
        }
    }

    /// Counts a byte that is neither body nor needed to frame it.
    fn framing_only(&mut self) -> Result<(), Unclear> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX { Err(Unclear) } else { Ok(()) }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Unclear> {
        if self.trailers.len() >= TRAILER_BYTES_MAX {
            return Err(Unclear);
        }
        self.trailers.push(byte);
        let text = &self.trailers;
        match text.as_slice() {
            [b'\r', b'\n'] | [.., b'\r', b'\n', b'\r', b'\n'] => Ok(State::Ended),
            // A line ends with both; one alone is read in two ways.
            [b'\n'] => Err(Unclear),
            [.., before, b'\n'] if *before != b'\r' => Err(Unclear),
            [.., b'\r', after] if *after != b'\n' => Err(Unclear),
            _ => Ok(State::Trailer),
        }
    }

    /// What came behind the last chunk, once ended. Fields that would frame or route the message are left out
    /// (RFC 9110 §6.5.1).
    pub fn trailers(&self) -> Result<Option<Fields>, Unclear> {
        if self.trailers.len() <= 2 {
            return Ok(None);
        }
        let mut room = [httparse::EMPTY_HEADER; TRAILERS_MAX];
        let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(&self.trailers, &mut room) else {
            return Err(Unclear);
        };
        let mut fields = Fields::default();
        for line in lines {
            if is_trailer(line.name.as_bytes()) {
                fields.push(line.name.as_bytes(), line.value);
            }
        }
        Ok((fields.len() > 0).then_some(fields))
    }
}

/// Whether a field may stand behind a body: none that frames, routes or identifies (RFC 9110 §6.5.1), in whatever
/// spelling a gateway interface would fold into one.
pub fn is_trailer(name: &[u8]) -> bool {
    let identifies = mainstay_identity::is_identity_header(name);
    !identifies && !name.contains(&b'_') && Name::of(name).is_none_or(|n| n == Name::RequestId || n == Name::XRequestId)
}

/// The line before a chunk of this size.
pub fn chunk_head(size: usize) -> ([u8; 18], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 18];
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1) as usize;
    for (i, place) in text.iter_mut().take(digits).enumerate() {
        *place = DIGITS[size >> (4 * (digits - 1 - i)) & 15];
    }
    text[digits..digits + 2].copy_from_slice(b"\r\n");
    (text, digits + 2)
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Lines = &'static [(&'static str, &'static str)];

    #[test]
    fn of_requests() {
        let cases: [(Lines, Result<Framing, Unclear>); 12] = [
            (&[], Ok(Framing::Absent)),
            (&[("content-length", "0")], Ok(Framing::Absent)),
            (&[("content-length", "5")], Ok(Framing::Length(5))),
            (&[("content-length", "5"), ("Content-Length", "5")], Err(Unclear)),
            (&[("content-length", "5,5")], Err(Unclear)),
            (&[("content-length", "+5")], Err(Unclear)),
            (&[("content-length", "")], Err(Unclear)),
            (&[("content-length", "99999999999999999999")], Err(Unclear)),
            (&[("transfer-encoding", "Chunked")], Ok(Framing::Chunked)),
            (&[("transfer-encoding", "gzip, chunked")], Err(Unclear)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(Unclear)),
            (&[("transfer-encoding", "chunked"), ("content-length", "5")], Ok(Framing::Chunked)),
        ];
        for (lines, expected) in cases {
            assert_eq!(of_request(&mut Fields::of(lines), false), expected, "{lines:?}");
        }
        assert_eq!(of_request(&mut Fields::of(&[("transfer-encoding", "chunked")]), true), Err(Unclear));
    }

    #[test]
    fn an_app_finds_no_other_length_than_the_one_framed_by() {
        let length = "content-length";
        for (lines, framing, expected) in [
            (&[][..], Framing::Absent, &[][..]),
            (&[], Framing::Length(5), &[]),
            (&[(length, "5")], Framing::Length(5), &["5"]),
            (&[(length, "005")], Framing::Length(5), &["5"]),
            (&[(length, "5"), ("Content-Length", "5")], Framing::Length(5), &["5"]),
            (&[(length, "")], Framing::Length(5), &["5"]),
            (&[(length, "0")], Framing::Absent, &["0"]),
            (&[(length, "00")], Framing::Absent, &["0"]),
            (&[(length, "5")], Framing::Absent, &["0"]),
            (&[(length, "5")], Framing::Chunked, &[]),
            (&[(length, ""), (length, "7")], Framing::Chunked, &[]),
        ] {
            let mut fields = Fields::of(lines);
            announce(&mut fields, framing);
            let found: Vec<&[u8]> = fields.all(Name::ContentLength).collect();
            let expected: Vec<&[u8]> = expected.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, expected, "{lines:?} {framing:?}");
        }
    }

    #[test]
    fn a_response_tells_its_length_in_plain_digits() {
        for lines in [&[("content-length", "05")][..], &[("content-length", "5"), ("content-length", "05")]] {
            let mut fields = Fields::of(lines);
            assert_eq!(of_response(&mut fields, 200, false), Ok(Framing::Length(5)));
            assert_eq!(fields.all(Name::ContentLength).collect::<Vec<_>>(), [b"5"]);
        }
    }

    #[test]
    fn of_responses() {
        let five: Lines = &[("content-length", "5")];
        for (lines, status, head, expected) in [
            (five, 200, false, Ok(Framing::Length(5))),
            (five, 200, true, Ok(Framing::Absent)),
            (five, 304, false, Ok(Framing::Absent)),
            (&[], 204, false, Ok(Framing::Absent)),
            (&[], 200, false, Ok(Framing::UntilClose)),
            (&[("transfer-encoding", "chunked")], 200, false, Ok(Framing::Chunked)),
            (&[("content-length", "5"), ("content-length", "5")], 200, false, Ok(Framing::Length(5))),
            (&[("content-length", "5"), ("content-length", "6")], 200, false, Err(Unclear)),
        ] {
            assert_eq!(of_response(&mut Fields::of(lines), status, head), expected, "{lines:?} {status} {head}");
        }
    }

    /// Everything the body holds, and how many bytes it took; `None` where it is not read to its end.
    fn read(chunks: &mut Chunks, mut bytes: &[u8]) -> Result<(Vec<u8>, usize), Unclear> {
        let (mut data, whole) = (Vec::new(), bytes.len());
        while !bytes.is_empty() && !chunks.is_ended() {
            match chunks.step(bytes)? {
                Step::Framing(n) => bytes = &bytes[n..],
                Step::Data(n) => {
                    data.extend_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                }
                Step::Ended => break,
            }
        }
        Ok((data, whole - bytes.len()))
    }

    #[test]
    fn bodies_that_can_be_read_in_two_ways_are_not_read() {
        for bad in [
            &b"zz\r\n"[..],
            b"\r\nhello",
            b"-5\r\n",
            b"0x5\r\n",
            b"fffffffffffffffff\r\n",
            b"5\nhello",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5 5\r\n",
            b"5;a\nb\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\rc\r\n\r\n",
        ] {
            assert_eq!(read(&mut Chunks::default(), bad), Err(Unclear), "{}", String::from_utf8_lossy(bad));
        }
        for (start, more) in [(&b"5;"[..], b'x'), (b"", b'0')] {
            let mut long = start.to_vec();
            long.extend_from_slice(&[more; 20_000]);
            assert_eq!(read(&mut Chunks::default(), &long), Err(Unclear));
        }
    }

    #[test]
    fn trailers_are_kept_but_not_those_that_frame() {
        let mut chunks = Chunks::default();
        let text = b"2;x=1\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\nHost: evil\r\n\r\nNEXT";
        let (data, taken) = read(&mut chunks, text).expect("body");
        assert_eq!((data.as_slice(), &text[taken..]), (&b"hi"[..], &b"NEXT"[..]));
        let trailers = chunks.trailers().expect("clear").expect("one");
        assert_eq!(trailers.iter().collect::<Vec<_>>(), [(&b"X-Sum"[..], &b"1"[..])]);
    }

    #[test]
    fn sizes_are_written_without_zeros_before() {
        for (size, text) in [(0, "0\r\n"), (9, "9\r\n"), (16, "10\r\n"), (0xfff, "fff\r\n"), (0x1_0000, "10000\r\n")] {
            let (bytes, n) = chunk_head(size);
            assert_eq!(&bytes[..n], text.as_bytes());
        }
    }

    proptest! {
        /// Written and read again, cut anywhere: the same bytes, and nothing of what follows.
        #[test]
        fn any_body_cut_anywhere_is_the_same(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 0..6),
            cuts in prop::collection::vec(0..400usize, 0..6),
        ) {
            let mut text = Vec::new();
            for part in &parts {
                let (head, n) = chunk_head(part.len());
                text.extend_from_slice(&head[..n]);
                text.extend_from_slice(part);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(LAST_CHUNK);
            let body = text.len();
            text.extend_from_slice(b"GET / HTTP/1.1\r\n");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c % text.len()).collect();
            cuts.push(text.len());
            cuts.sort_unstable();
            let (mut chunks, mut data, mut at, mut taken) = (Chunks::default(), Vec::new(), 0, 0);
            for cut in cuts {
                let (more, n) = read(&mut chunks, &text[at..cut]).expect("clear");
                data.extend(more);
                taken += n;
                at = cut;
            }
            prop_assert!(chunks.is_ended());
            prop_assert_eq!(taken, body);
            prop_assert_eq!(data, parts.concat());
        }

        #[test]
        fn no_bytes_make_it_panic_or_read_past_its_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut chunks = Chunks::default();
            if let Ok((data, taken)) = read(&mut chunks, &bytes) {
                prop_assert!(data.len() <= taken && taken <= bytes.len());
            }
        }
    }
}
