//! One stored answer, and how it is given out.

use super::conditional::{Part, part};
use super::policy::Meta;
use crate::fields::{Fields, Name};
use crate::headers::end_to_end;
use crate::message::ResponseHead;
use bytes::Bytes;

/// What keeping a variant costs beside its bytes: its place, its counts, the ends of what was allocated.
const STORED_BYTES: u64 = 256;
/// Tags of one answer; more are passed over, and so is what is longer.
const TAGS_MAX: usize = 64;
const TAG_BYTES_MAX: usize = 256;

/// Never changed: a newer one takes its place.
#[derive(Debug)]
pub struct Stored {
    pub status: u16,
    pub reason: String,
    pub fields: Fields,
    pub body: Bytes,
    pub meta: Meta,
    pub tags: Vec<Box<[u8]>>,
    /// What it takes of the cache's room.
    pub cost: u64,
}

/// Where the tags of an answer stand. Both names are in use; neither leaves the edge.
pub const TAGS: &[Name] = &[Name::CacheTag, Name::SurrogateKey];

impl Stored {
    pub fn new(head: &ResponseHead, fields: Fields, body: Bytes, meta: Meta, tags: Vec<Box<[u8]>>) -> Stored {
        let tag_bytes: usize = tags.iter().map(|t| t.len() + 16).sum();
        // Twice the fields: what holds them grows by doubling.
        let cost = STORED_BYTES + (2 * (fields.size() + fields.len() * 16) + body.len() + tag_bytes) as u64;
        Stored { status: head.status, reason: head.reason.clone(), fields, body, meta, tags, cost }
    }

    /// Fills `head` with the answer to a request with these conditions, and gives its body.
    pub fn answer(&self, head: &mut ResponseHead, asked: &Fields, get: bool) -> Bytes {
        head.status = self.status;
        head.reason.clear();
        head.fields.copy_from(&self.fields);
        let wanted = if self.status == 200 { part(asked, &self.fields, self.body.len(), get) } else { Part::Whole };
        let body = match wanted {
            Part::Whole => {
                head.reason.push_str(&self.reason);
                self.body.clone()
            }
            Part::NotModified => {
                head.status = 304;
                for name in [Name::ContentLength, Name::ContentType, Name::ContentEncoding] {
                    head.fields.remove(name);
                }
                Bytes::new()
            }
            Part::Range(first, last) => {
                head.status = 206;
                let place = format!("bytes {first}-{last}/{}", self.body.len());
                head.fields.set(Name::ContentRange, place.as_bytes());
                head.fields.set(Name::ContentLength, (last - first + 1).to_string().as_bytes());
                self.body.slice(first..=last)
            }
            Part::Unsatisfiable => {
                head.status = 416;
                head.fields.set(Name::ContentRange, format!("bytes */{}", self.body.len()).as_bytes());
                head.fields.set(Name::ContentLength, b"0");
                head.fields.remove(Name::ContentEncoding);
                Bytes::new()
            }
        };
        if get { body } else { Bytes::new() }
    }
}

/// Not stored (RFC 9111 §3.1), or made anew for each answer. `withheld`: what `no-cache="…"` names.
pub fn is_kept(name: &[u8], withheld: &[Vec<u8>]) -> bool {
    const NEVER: &[Name] = &[
        Name::Age,
        Name::CacheTag,
        Name::SurrogateKey,
        Name::SetCookie,
        Name::RequestId,
        Name::XRequestId,
        Name::Connection,
        Name::KeepAlive,
        Name::ProxyConnection,
        Name::TransferEncoding,
        Name::Upgrade,
        Name::Trailer,
        Name::ContentRange,
    ];
    !Name::of(name).is_some_and(|known| NEVER.contains(&known))
        && name.get(..6).is_none_or(|start| !start.eq_ignore_ascii_case(b"proxy-"))
        && !withheld.iter().any(|w| w.eq_ignore_ascii_case(name))
}

/// The fields of an answer that are stored.
pub fn kept(answer: &Fields, withheld: &[Vec<u8>]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in answer.iter().filter(|(name, _)| is_kept(name, withheld)) {
        fields.push(name, value);
    }
    end_to_end(&mut fields, false);
    fields
}

/// `Cache-Tag: a, b` and `Surrogate-Key: a b`.
pub fn tags(answer: &Fields) -> Vec<Box<[u8]>> {
    let lines = TAGS.iter().flat_map(|&name| answer.all(name));
    let words = lines.flat_map(|line| line.split(|b| matches!(b, b',' | b' ' | b'\t')));
    words.filter(|w| !w.is_empty() && w.len() <= TAG_BYTES_MAX).take(TAGS_MAX).map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_one_connection_or_one_client_is_kept() {
        let answer = Fields::of(&[
            ("Content-Type", "text/plain"),
            ("Connection", "x-hop"),
            ("X-Hop", "1"),
            ("Set-Cookie", "a=1"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("X-Request-Id", "1"),
            ("Age", "5"),
            ("X-Secret", "1"),
            ("Cache-Tag", "a"),
        ]);
        // What `Connection` names went when the answer came in.
        let mut answer = answer;
        end_to_end(&mut answer, false);
        let kept = kept(&answer, &[b"x-secret".to_vec()]);
        let names: Vec<_> = kept.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
        assert_eq!(names, ["Content-Type"]);
    }

    #[test]
    fn tags_are_words() {
        let answer = Fields::of(&[("Cache-Tag", "a, b,"), ("Surrogate-Key", "c d"), ("cache-tag", "e")]);
        let all: Vec<_> = tags(&answer).iter().map(|t| String::from_utf8_lossy(t).into_owned()).collect();
        assert_eq!(all, ["a", "b", "e", "c", "d"]);
        let many = Fields::of(&[("Cache-Tag", &"x ".repeat(1000)), ("Cache-Tag", &"y".repeat(1000))]);
        assert_eq!(tags(&many).len(), TAGS_MAX);
    }

    #[test]
    fn parts_of_a_stored_answer() {
        let head = ResponseHead { reason: "Fine".to_owned(), ..ResponseHead::new(200) };
        let kept = Fields::of(&[("ETag", "\"a\""), ("Content-Length", "5"), ("Content-Type", "text/plain")]);
        let stored = Stored::new(&head, kept, Bytes::from_static(b"hello"), Meta::default(), vec![]);
        let mut out = ResponseHead::default();
        let body = stored.answer(&mut out, &Fields::of(&[]), true);
        assert_eq!((out.status, out.reason(), &body[..]), (200, "Fine", &b"hello"[..]));
        let body = stored.answer(&mut out, &Fields::of(&[]), false);
        assert_eq!((out.fields.get(Name::ContentLength), body.len()), (Some(&b"5"[..]), 0), "HEAD");
        let body = stored.answer(&mut out, &Fields::of(&[("if-none-match", "\"a\"")]), true);
        assert_eq!(
            (out.status, out.reason(), out.fields.has(Name::ContentLength), body.len()),
            (304, "Not Modified", false, 0)
        );
        let body = stored.answer(&mut out, &Fields::of(&[("range", "bytes=1-2")]), true);
        assert_eq!((out.status, &body[..]), (206, &b"el"[..]));
        assert_eq!(out.fields.get(Name::ContentRange), Some(&b"bytes 1-2/5"[..]));
        stored.answer(&mut out, &Fields::of(&[("range", "bytes=9-")]), true);
        assert_eq!((out.status, out.fields.get(Name::ContentRange)), (416, Some(&b"bytes */5"[..])));
    }
}
