//! Heads of HTTP/1 messages: read by `httparse`, judged by us, written by us. Pure.

use super::framing::{Framing, Unclear, of_request, of_response};
use crate::fields::Name;
use crate::message::{RequestHead, ResponseHead, Version};
use http::Method;
use std::mem::MaybeUninit;

/// Fields a head may have.
const FIELDS_MAX: usize = 128;
/// Longest target that is read.
const TARGET_BYTES_MAX: usize = 64 * 1024;

/// What these bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole head of so many bytes, and how its body ends.
    Head(usize, Framing),
    /// The beginning of one.
    Partial,
}

/// Why they begin with no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Malformed,
    TooManyFields,
    TargetTooLong,
}

impl From<Unclear> for Fault {
    fn from(_: Unclear) -> Fault {
        Fault::Malformed
    }
}

impl From<httparse::Error> for Fault {
    fn from(error: httparse::Error) -> Fault {
        match error {
            httparse::Error::TooManyHeaders => Fault::TooManyFields,
            _ => Fault::Malformed,
        }
    }
}

/// Reads a request's head into `head`, whose fields are empty.
pub fn request(bytes: &[u8], head: &mut RequestHead) -> Result<Parsed, Fault> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let httparse::Status::Complete(size) = parsed.parse_with_uninit_headers(bytes, &mut room)? else {
        return Ok(Parsed::Partial);
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Fault::Malformed);
    };
    head.method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Malformed)?;
    head.version = if version == 0 { Version::Http10 } else { Version::Http11 };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Fault::TargetTooLong);
    }
    head.set_target(target).map_err(|_| Fault::Malformed)?;
    for line in parsed.headers.iter() {
        head.fields.push(line.name.as_bytes(), line.value);
    }
    let framing = of_request(&mut head.fields, version == 0)?;
    Ok(Parsed::Head(size, framing))
}

/// Reads a response's head into `head`, whose fields are empty. `HTTP/1.0` closes unless it says otherwise: the
/// second value says whether the connection may be used again.
pub fn response(bytes: &[u8], head: &mut ResponseHead, to_head: bool) -> Result<(Parsed, bool), Fault> {
    let mut room = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let status = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut room)?;
    let httparse::Status::Complete(size) = status else { return Ok((Parsed::Partial, false)) };
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else { return Err(Fault::Malformed) };
    if !(100..=999).contains(&code) {
        return Err(Fault::Malformed);
    }
    head.status = code;
    head.reason.clear();
    head.reason.push_str(parsed.reason.unwrap_or(""));
    for line in parsed.headers.iter() {
        head.fields.push(line.name.as_bytes(), line.value);
    }
    // An end told in two ways, or by a way HTTP/1.0 does not know: nothing behind it is believed (RFC 9112 §6.1).
    let unclear = head.fields.has(Name::TransferEncoding) && (version == 0 || head.fields.has(Name::ContentLength));
    let framing = of_response(&mut head.fields, code, to_head)?;
    let keeps = match version {
        0 => head.fields.has_token(Name::Connection, "keep-alive"),
        _ => !head.fields.has_token(Name::Connection, "close"),
    };
    Ok((Parsed::Head(size, framing), keeps && !unclear && framing != Framing::UntilClose))
}

/// Whether a head that was not whole when `before` bytes were there can be whole now.
pub fn may_be_whole(bytes: &[u8], before: usize) -> bool {
    let new = &bytes[before.saturating_sub(3).min(bytes.len())..];
    new.windows(2).any(|w| w == b"\n\n") || new.windows(3).any(|w| w == b"\n\r\n")
}

/// Appends a request's head as an upstream gets it.
pub fn write_request(out: &mut Vec<u8>, head: &RequestHead, framing: Framing) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    head.fields.write(out);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// What a client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// HTTP/1.1 stays open unsaid.
    Unsaid,
    /// HTTP/1.0 asked for it.
    Said,
    Close,
    /// It becomes something else; the fields say what.
    Upgrade,
}

/// Appends a response's head as a client gets it.
pub fn write_response(out: &mut Vec<u8>, head: &ResponseHead, framing: Framing, keep: Keep) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let code = head.status;
    out.extend_from_slice(&[code / 100, code / 10 % 10, code % 10].map(|digit| b'0' + digit as u8));
    out.push(b' ');
    out.extend_from_slice(head.reason().as_bytes());
    out.extend_from_slice(b"\r\n");
    head.fields.write(out);
    if framing == Framing::Chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    match keep {
        Keep::Unsaid | Keep::Upgrade => {}
        Keep::Said => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Keep::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_read_and_written_with_its_own_letters() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: x\r\nX-Odd-CASE:  1 \r\nContent-Length: 2\r\n\r\nhi";
        let mut head = RequestHead::default();
        assert_eq!(request(text, &mut head), Ok(Parsed::Head(text.len() - 2, Framing::Length(2))));
        let mut out = Vec::new();
        write_request(&mut out, &head, Framing::Length(2));
        assert_eq!(out, b"POST /a?b HTTP/1.1\r\nHost: x\r\nX-Odd-CASE: 1\r\nContent-Length: 2\r\n\r\n");
    }

    #[test]
    fn heads_that_are_none_say_why() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(FIELDS_MAX + 1));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(TARGET_BYTES_MAX));
        for (text, fault) in [
            (many.as_str(), Fault::TooManyFields),
            (&long, Fault::TargetTooLong),
            ("GET / HTTP/3.7\r\n\r\n", Fault::Malformed),
            ("GET\r\n\r\n", Fault::Malformed),
            ("GET / HTTP/1.1\r\nA : b\r\n\r\n", Fault::Malformed),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", Fault::Malformed),
            ("GET ftp://x/ HTTP/1.1\r\n\r\n", Fault::Malformed),
        ] {
            assert_eq!(request(text.as_bytes(), &mut RequestHead::default()), Err(fault), "{text:.60}");
        }
    }

    #[test]
    fn a_response_says_whether_its_connection_lives_on() {
        for (text, framing, keeps) in [
            ("HTTP/1.1 200 Fine\r\nContent-Length: 1\r\n\r\n", Framing::Length(1), true),
            ("HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 1\r\n\r\n", Framing::Length(1), false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", Framing::Length(1), false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n", Framing::Length(1), true),
            ("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose, false),
        ] {
            let mut head = ResponseHead::default();
            let read = response(text.as_bytes(), &mut head, false).expect(text);
            assert_eq!(read, (Parsed::Head(text.len(), framing), keeps), "{text}");
        }
        let mut head = ResponseHead::default();
        assert!(response(b"HTTP/1.1 2000 OK\r\n\r\n", &mut head, false).is_err());
        assert!(response(b"HTTP/1.1 099 No\r\n\r\n", &mut head, false).is_err());
    }

    #[test]
    fn a_response_is_written_with_the_apps_words() {
        let mut head = ResponseHead { reason: "Very Fine".to_owned(), ..ResponseHead::new(200) };
        head.fields.add(Name::ContentLength, b"2");
        let mut out = Vec::new();
        write_response(&mut out, &head, Framing::Length(2), Keep::Close);
        assert_eq!(out, b"HTTP/1.1 200 Very Fine\r\ncontent-length: 2\r\nconnection: close\r\n\r\n");
        let mut out = Vec::new();
        write_response(&mut out, &ResponseHead::new(204), Framing::Absent, Keep::Unsaid);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\n\r\n");
    }

    /// A head as a client may write it.
    fn any_head() -> impl Strategy<Value = String> {
        let line = ("[A-Za-z][A-Za-z0-9-]{0,12}", "[!-~]([ -~]{0,20}[!-~])?");
        let line = line.prop_filter("frames", |(name, _)| {
            !matches!(name.to_ascii_lowercase().as_str(), "content-length" | "transfer-encoding")
        });
        ("[A-Z]{1,8}", "/[!-\"$-~]{0,20}", prop::collection::vec(line, 0..12), prop::option::of(0..100_000u64))
            .prop_map(|(method, target, lines, length)| {
                let lines: String = lines.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
                let length = length.map(|n| format!("Content-Length: {n}\r\n")).unwrap_or_default();
                format!("{method} {target} HTTP/1.1\r\n{lines}{length}\r\n")
            })
    }

    proptest! {
        /// Read, written, read again: the same head, the same framing.
        #[test]
        fn writing_and_reading_again_changes_nothing(text in any_head()) {
            let mut head = RequestHead::default();
            let Ok(Parsed::Head(_, framing)) = request(text.as_bytes(), &mut head) else { return Ok(()) };
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            write_request(&mut once, &head, framing);
            let mut again = RequestHead::default();
            prop_assert_eq!(request(&once, &mut again), Ok(Parsed::Head(once.len(), framing)));
            write_request(&mut twice, &again, framing);
            prop_assert_eq!(once, twice);
        }

        /// Cut anywhere, the first part alone is never a whole head, and the look for its end never misses it.
        #[test]
        fn a_head_is_whole_only_with_its_last_byte(text in any_head(), cut in 0..400usize) {
            let mut head = RequestHead::default();
            if request(text.as_bytes(), &mut head).is_err() { return Ok(()) }
            let cut = cut % text.len();
            let mut part = RequestHead::default();
            prop_assert_eq!(request(&text.as_bytes()[..cut], &mut part), Ok(Parsed::Partial));
            prop_assert!(may_be_whole(text.as_bytes(), cut));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = request(&bytes, &mut RequestHead::default());
            let _ = response(&bytes, &mut ResponseHead::default(), false);
        }
    }
}
