//! Any bytes at all for what frames and routes a message: heads of requests and responses, chunks, targets, fields of
//! one connection, lengths; and for what is read out of fields: sticky cookies, `Cache-Control`, what a purge names.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use crate::cache::control::{Said, Wanted};
use crate::cache::purge::What;
use crate::fields::{Fields, Name};
use crate::fuzz::spelled::spelled;
use crate::headers::end_to_end;
use crate::http1::framing::{Chunks, Framing, LAST_CHUNK, Step, Unclear, announce, chunk_head};
use crate::http1::head::{self, Keep, Parsed, may_be_whole};
use crate::message::{RequestHead, ResponseHead};
use crate::probe::status;
use crate::sticky;
use http::Method;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const HEAD_WORDS: [&str; 40] = [
    "\r\n",
    "\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET http://a/b HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 304 \r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length:",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:",
    "Transfer_Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: content-length\r\n",
    "Expect: 100-continue\r\n",
    "X-A: b\r\n",
    "X: ",
    ":",
    ": ",
    " ",
    "\t",
    "\0",
    "\u{b}",
    "0",
    "5",
    ",",
    ";",
    "chunked",
    "x",
    "+",
    "-",
    "é",
];

/// A first line half of the time: the rest is then read.
fn text(bytes: &[u8], first: &str) -> Vec<u8> {
    let (start, rest) = bytes.split_first().map_or((0, bytes), |(start, rest)| (*start, rest));
    let first = if start % 2 == 0 { first } else { "" };
    let end = if start % 4 < 2 { "\r\n\r\n" } else { "" };
    format!("{first}{}{end}", spelled(rest, &HEAD_WORDS)).into_bytes()
}

/// Nothing in a head's lines can end one of them.
fn is_clean(fields: &Fields) -> bool {
    fields.iter().all(|(name, value)| {
        let token =
            !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && !b":()<>@,;\\\"/[]?={}".contains(b));
        token && !value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0))
    })
}

#[test]
fn a_requests_head_is_read_in_one_way_and_written_so_that_it_is_read_again() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = text(bytes, "POST /a HTTP/1.1\r\nHost: a\r\n");
        let mut one = RequestHead::default();
        let Ok(Parsed::Head(size, framing)) = head::request(&text, &mut one) else { return };
        assert!(size <= text.len() && is_clean(&one.fields), "{text:?}");
        assert!(!one.fields.has(Name::TransferEncoding) && one.fields.count(Name::ContentLength) < 2, "{text:?}");
        assert!(framing != Framing::Chunked || !one.fields.has(Name::ContentLength), "{text:?}");
        announce(&mut one.fields, framing);
        let mut written = Vec::new();
        head::write_request(&mut written, &one, framing);
        let mut again = RequestHead::default();
        assert_eq!(head::request(&written, &mut again), Ok(Parsed::Head(written.len(), framing)), "{text:?}");
        assert_eq!((&one.method, one.target()), (&again.method, again.target()), "{text:?}");
        let mut twice = Vec::new();
        head::write_request(&mut twice, &again, framing);
        assert_eq!(written, twice, "{text:?}");
        // Behind it may stand anything.
        written.extend_from_slice(&text);
        assert_eq!(head::request(&written, &mut RequestHead::default()), Ok(Parsed::Head(twice.len(), framing)));
    });
}

#[test]
fn a_responses_head_is_read_in_one_way_and_written_so_that_it_is_read_again() {
    bolero::check!().with_iterations(INPUTS).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = text(bytes, "HTTP/1.1 200 OK\r\n");
        for to_head in [false, true] {
            let mut one = ResponseHead::default();
            let Ok((Parsed::Head(size, framing), keeps)) = head::response(&text, &mut one, to_head) else { continue };
            assert!(size <= text.len() && is_clean(&one.fields), "{text:?}");
            assert!(!one.fields.has(Name::TransferEncoding) && one.fields.count(Name::ContentLength) < 2, "{text:?}");
            assert!(framing != Framing::UntilClose || !keeps, "{text:?}");
            let mut written = Vec::new();
            head::write_response(&mut written, &one, framing, Keep::Unsaid);
            let mut again = ResponseHead::default();
            let read = head::response(&written, &mut again, to_head);
            assert!(
                matches!(read, Ok((Parsed::Head(size, f), _)) if size == written.len() && f == framing),
                "{text:?}"
            );
            let mut twice = Vec::new();
            head::write_response(&mut twice, &again, framing, Keep::Unsaid);
            assert_eq!(written, twice, "{text:?}");
        }
    });
}

#[test]
fn a_head_is_whole_with_its_last_byte_wherever_it_is_cut() {
    bolero::check!().with_iterations(INPUTS / 10).with_max_len(24).for_each(|bytes: &[u8]| {
        let text = text(bytes, "GET /a HTTP/1.1\r\n");
        let Ok(Parsed::Head(size, _)) = head::request(&text, &mut RequestHead::default()) else { return };
        for cut in 0..size {
            let part = head::request(&text[..cut], &mut RequestHead::default());
            assert_eq!(part, Ok(Parsed::Partial), "{cut} of {text:?}");
            assert!(may_be_whole(&text[..size], cut), "{cut} of {text:?}");
        }
        let response = [b"HTTP/1.1 200 OK\r\n", &text[..]].concat();
        let whole = |bytes| head::response(bytes, &mut ResponseHead::default(), false);
        let Ok((Parsed::Head(size, _), _)) = whole(&response) else { return };
        for cut in 0..size {
            assert!(matches!(whole(&response[..cut]), Ok((Parsed::Partial, _))), "{cut} of {response:?}");
        }
    });
}

/// What a chunked body holds, how many bytes it took, and whether it has ended.
type Decoded = (Vec<u8>, usize, bool);

/// Decodes pieces of this size, until there is a fault.
fn decoded(bytes: &[u8], size: usize) -> (Result<Decoded, Unclear>, Chunks) {
    let (mut chunks, mut data, mut taken) = (Chunks::default(), Vec::new(), 0);
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            match chunks.step(piece) {
                Ok(Step::Ended) => return (Ok((data, taken, true)), chunks),
                Ok(Step::Framing(n)) => (taken, piece) = (taken + n, &piece[n..]),
                Ok(Step::Data(n)) => {
                    data.extend_from_slice(&piece[..n]);
                    (taken, piece) = (taken + n, &piece[n..]);
                }
                Err(unclear) => return (Err(unclear), chunks),
            }
        }
    }
    let ended = chunks.is_ended();
    (Ok((data, taken, ended)), chunks)
}

#[test]
fn chunks_are_the_same_wherever_they_are_cut_and_written_again() {
    let words = [
        "\r\n",
        "\r\n",
        "\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "5\r\nhello\r\n",
        "5",
        "a",
        "F",
        "00",
        ";x=y",
        ";",
        "\r",
        "\n",
        " ",
        "0x",
        "-",
        "+",
        "X: y\r\n",
        "Content-Length: 5\r\n",
        "Host: a\r\n",
        "\0",
        "é",
        "ffffffffffffffff",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(32).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words).into_bytes();
        let (whole, chunks) = decoded(&text, text.len().max(1));
        for size in [1, 2, 3, 7] {
            assert_eq!(decoded(&text, size).0, whole, "cut by {size}: {text:?}");
        }
        let Ok((data, taken, true)) = whole else { return };
        assert!(data.len() < taken && taken <= text.len(), "{text:?}");
        // What stands behind is never part of it.
        let longer = [&text[..taken], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(decoded(&longer, 5).0, Ok((data.clone(), taken, true)), "{text:?}");
        let mut written = Vec::new();
        for piece in data.chunks(3) {
            let (head, n) = chunk_head(piece.len());
            written.extend_from_slice(&[&head[..n], piece, b"\r\n"].concat());
        }
        match chunks.trailers() {
            Ok(Some(trailers)) => {
                assert!(is_clean(&trailers), "{text:?}");
                let frames = [Name::ContentLength, Name::TransferEncoding, Name::Host, Name::Connection];
                assert!(!trailers.has_any(&frames), "{text:?}");
                written.extend_from_slice(b"0\r\n");
                trailers.write(&mut written);
                written.extend_from_slice(b"\r\n");
            }
            _ => written.extend_from_slice(LAST_CHUNK),
        }
        assert_eq!(decoded(&written, 4).0, Ok((data, written.len(), true)), "{text:?}");
    });
}

#[test]
fn a_target_is_a_path_and_is_read_again_as_itself() {
    let words =
        ["/", "/", "//", "?", "#", "*", "http://", "HTTPS://", "a", "b:80", "@", "\\", "..", "%00", "ftp://", ":"];
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        for method in [Method::GET, Method::OPTIONS] {
            let mut head = RequestHead::default();
            head.method = method;
            if head.set_target(&text).is_err() {
                assert_eq!((head.target(), &head.authority), ("", &None), "{text:?}");
                continue;
            }
            let of_the_server = head.target() == "*" && head.method == Method::OPTIONS;
            assert!(head.target().starts_with('/') || of_the_server, "{text:?}: {head:?}");
            assert!(!head.target().contains('#') && head.authority.as_deref() != Some(""), "{text:?}: {head:?}");
            let query = head.query().map_or(String::new(), |query| format!("?{query}"));
            assert_eq!(format!("{}{query}", head.path()), head.target(), "{text:?}");
            let once = head.target().to_owned();
            assert_eq!(head.set_target(&once), Ok(()), "{text:?}");
            assert_eq!((head.target(), &head.authority), (once.as_str(), &None), "{text:?}");
        }
    });
}

#[test]
fn naming_a_field_takes_away_nothing_that_frames_or_identifies() {
    let words = [
        ",",
        ",",
        " ",
        "close",
        "upgrade",
        "content-length",
        "Host",
        "cookie",
        "authorization",
        "te",
        "x-forwarded-for",
        "X-Own",
        "keep-alive",
        "transfer-encoding",
        "\"",
        ";",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let named = spelled(bytes, &words);
        for upgrade in [false, true] {
            let kept = [("Host", "a"), ("Content-Length", "5"), ("Authorization", "b"), ("x-forwarded-for", "1.2.3.4")];
            let mut fields = Fields::of(&kept);
            fields.push(b"Connection", named.as_bytes());
            fields.push(b"Upgrade", b"websocket");
            end_to_end(&mut fields, upgrade);
            for (name, value) in kept {
                assert_eq!(fields.find(name), Some(value.as_bytes()), "{named:?}");
            }
            let left: Vec<&[u8]> = fields.all(Name::Connection).collect();
            assert_eq!(left, if upgrade { vec![&b"upgrade"[..]] } else { vec![] }, "{named:?}");
        }
    });
}

#[test]
fn a_cookie_of_ours_leaves_and_the_others_stay_as_they_are() {
    let words =
        [";", ";", "; ", "=", "a=1", "b=2", "mainstay_main=x", "mainstay_main=", "mainstay_main", " ", "\"", ","];
    let key = sticky::Key::new(b"secret");
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        let mut fields = Fields::of(&[("Cookie", &text), ("cookie", "last=1")]);
        let value = sticky::take(&mut fields, "mainstay_main");
        // A signature is not guessed.
        assert!(value.as_deref().is_none_or(|value| !key.holds("main", value, 1_795_000_000)), "{text:?}");
        let left: Vec<&[u8]> = fields.all(Name::Cookie).flat_map(|l| l.split(|b| *b == b';')).collect();
        let left: Vec<&[u8]> = left.into_iter().map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).collect();
        let pairs = text.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        let others: Vec<&[u8]> =
            pairs.filter(|pair| !pair.starts_with(b"mainstay_main=")).chain([&b"last=1"[..]]).collect();
        assert_eq!(left, others, "{text:?}");
        assert_eq!(sticky::take(&mut fields, "mainstay_main"), None, "{text:?}");
    });
}

#[test]
fn what_forbids_storing_is_heard_whatever_stands_around_it() {
    let words = [
        ",",
        ",",
        "=",
        "\"",
        "\\",
        " ",
        "max-age=5",
        "s-maxage=",
        "no-cache=\"a,b\"",
        "public",
        "private",
        "stale-if-error=1",
        "99999999999",
        "-1",
        "max-stale",
        "min-fresh=1",
        "No-Store",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        for lines in [vec![format!("{text},no-store")], vec![text.clone(), "no-store".to_owned()]] {
            let mut fields = Fields::default();
            lines.iter().for_each(|line| fields.push(b"Cache-Control", line.as_bytes()));
            assert!(Said::of(&fields).no_store, "{text:?}");
            assert!(Wanted::of(&fields).no_store, "{text:?}");
        }
    });
}

#[test]
fn what_a_purge_names_and_what_a_check_is_told_is_read_or_not() {
    let words = ["/", "*", "?", "a", "https://", "http://", "example.com", "HTTP/1.", "1 ", "200", " ", "999", "x=1"];
    bolero::check!().with_iterations(INPUTS).with_max_len(12).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        if let Some(What::Path { path, host, .. }) = What::parse(&text) {
            assert!(path.starts_with('/') || path.is_empty(), "{text:?}");
            assert!(host.is_none_or(|host| !host.is_empty()), "{text:?}");
        }
        assert!(status(text.as_bytes()).is_none_or(|status| (100..=599).contains(&status)), "{text:?}");
    });
}
