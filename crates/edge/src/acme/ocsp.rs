//! OCSP answers for stapling: asked for by plain HTTP where a certificate names a responder.
//!
//! What a responder signs is for clients to verify; here an answer is only read as far as decides whether it is
//! about this certificate, says "good", and until when. Must never panic on what a responder sends.

use super::client::Http;
use super::failure::Failure;
use super::leaf::Leaf;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0a;
const TIME: u8 = 0x18;
const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;
/// SHA-1 by its OID, with NULL: what every responder understands (RFC 5019 §2.1.1).
const SHA1: [u8; 11] = [0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00];
/// An answer goes into every handshake.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Where an answer names no end it is asked for again after this.
const UNNAMED_LIFE_S: u64 = 24 * 3600;

/// An answer worth stapling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    pub answer: Vec<u8>,
    pub until_s: u64,
}

/// Asks the responder that the chain's first certificate names.
pub async fn fetch(http: &Http, chain: &[CertificateDer<'_>], leaf: &Leaf, now_s: u64) -> Result<Staple, Failure> {
    let address = leaf.responder.as_deref().ok_or_else(|| Failure::new("the certificate names no responder"))?;
    let [own, issuer, ..] = chain else {
        return Err(Failure::new("the chain lacks the issuer's certificate, which a question must name"));
    };
    let question = question(own, issuer).ok_or_else(|| Failure::new("the certificate cannot be asked about"))?;
    let mut request = Request::post(address)
        .body(Full::new(Bytes::from(question)))
        .map_err(|_| Failure::new(format!("`{address}` is no address")))?;
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/ocsp-request"));
    let answer = http.send(request).await.map_err(|error| Failure::new(error.to_string()))?;
    if !answer.status().is_success() {
        return Err(Failure::new(format!("{address} answered {}", answer.status())));
    }
    read(&answer.into_body(), own, now_s)
}

fn serial(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.raw_serial().to_vec())
}

/// RFC 6960 §4.1, one certificate, without a nonce: responders answer from what they have signed already.
fn question(own: &[u8], issuer: &[u8]) -> Option<Vec<u8>> {
    let (_, own) = X509Certificate::from_der(own).ok()?;
    let (_, issuer) = X509Certificate::from_der(issuer).ok()?;
    let hash = |bytes: &[u8]| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec();
    let mut id = SHA1.to_vec();
    id.extend(wrap(OCTETS, &hash(own.issuer().as_raw())));
    id.extend(wrap(OCTETS, &hash(&issuer.public_key().subject_public_key.data)));
    id.extend(wrap(INTEGER, own.raw_serial()));
    let mut request = wrap(SEQUENCE, &id);
    for _ in 0..4 {
        request = wrap(SEQUENCE, &request);
    }
    Some(request)
}

/// A value of DER; nothing here is longer than 64 KiB.
fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ ..=0x7f => out.push(short as u8),
        middle @ ..=0xff => out.extend([0x81, middle as u8]),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The first value: its tag, its content, what follows.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(*rest.first()?) << 8 | usize::from(*rest.get(1)?), rest.get(2..)?),
        _ => return None,
    };
    Some((tag, rest.get(..length)?, rest.get(length..)?))
}

/// The content of the first value, which must have this tag, and what follows.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    value(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Single {
    status: u8,
    until_s: Option<u64>,
}

pub fn read(answer: &[u8], own: &[u8], now_s: u64) -> Result<Staple, Failure> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(Failure::new(format!("the answer has {} bytes", answer.len())));
    }
    let unreadable = || Failure::new("the responder sent no answer that can be read");
    let serial = serial(own).ok_or_else(unreadable)?;
    let single = single(answer, &serial).ok_or_else(unreadable)?;
    match (single.status, single.until_s) {
        (REVOKED, _) => Err(Failure::new("the responder says that this certificate is REVOKED; get a new one")),
        (GOOD, Some(until_s)) if until_s <= now_s => Err(Failure::new("the responder's answer has run out")),
        (GOOD, until_s) => Ok(Staple { answer: answer.to_vec(), until_s: until_s.unwrap_or(now_s + UNNAMED_LIFE_S) }),
        _ => Err(Failure::new("the responder does not know this certificate")),
    }
}

/// What the answer says of this serial number (RFC 6960 §4.2.1).
fn single(answer: &[u8], serial: &[u8]) -> Option<Single> {
    let (response, _) = expect(SEQUENCE, answer)?;
    let (status, rest) = expect(ENUMERATED, response)?;
    if status != [0] {
        return None;
    }
    let (bytes, _) = expect(0xa0, rest)?;
    let (bytes, _) = expect(SEQUENCE, bytes)?;
    let (_, rest) = expect(0x06, bytes)?;
    let (basic, _) = expect(OCTETS, rest)?;
    let (basic, _) = expect(SEQUENCE, basic)?;
    let (mut data, _) = expect(SEQUENCE, basic)?;
    // A version may come first, then who answers, then when it was made.
    loop {
        let (tag, _, rest) = value(data)?;
        data = rest;
        if tag == TIME {
            break;
        }
    }
    let (mut singles, _) = expect(SEQUENCE, data)?;
    while let Some((one, rest)) = expect(SEQUENCE, singles) {
        singles = rest;
        let (id, about) = expect(SEQUENCE, one)?;
        let (_, id) = expect(SEQUENCE, id)?;
        let (_, id) = expect(OCTETS, id)?;
        let (_, id) = expect(OCTETS, id)?;
        if expect(INTEGER, id)?.0 != serial {
            continue;
        }
        let (status, _, rest) = value(about)?;
        let (_, rest) = expect(TIME, rest)?;
        let until_s = expect(0xa0, rest).and_then(|(next, _)| expect(TIME, next)).and_then(|(text, _)| time(text));
        return Some(Single { status, until_s });
    }
    None
}

/// `20260219103000Z`.
fn time(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let at = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    u64::try_from(at.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::authority;
    use super::*;
    use proptest::prelude::*;

    const NOW_S: u64 = 1_800_000_000;

    /// An answer as a responder builds it, without a signature.
    fn answer(serial: &[u8], status: u8, next: Option<&str>) -> Vec<u8> {
        let mut id = SHA1.to_vec();
        id.extend(wrap(OCTETS, &[1; 20]));
        id.extend(wrap(OCTETS, &[2; 20]));
        id.extend(wrap(INTEGER, serial));
        let mut one = wrap(SEQUENCE, &id);
        one.extend(wrap(status, &[]));
        one.extend(wrap(TIME, b"20260101000000Z"));
        if let Some(next) = next {
            one.extend(wrap(0xa0, &wrap(TIME, next.as_bytes())));
        }
        let mut data = wrap(0xa2, &wrap(OCTETS, &[3; 20]));
        data.extend(wrap(TIME, b"20260101000000Z"));
        data.extend(wrap(SEQUENCE, &wrap(SEQUENCE, &one)));
        let basic = wrap(SEQUENCE, &wrap(SEQUENCE, &data));
        let mut bytes = wrap(0x06, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1]);
        bytes.extend(wrap(OCTETS, &basic));
        let mut response = wrap(ENUMERATED, &[0]);
        response.extend(wrap(0xa0, &wrap(SEQUENCE, &bytes)));
        wrap(SEQUENCE, &response)
    }

    #[test]
    fn a_good_answer_is_stapled_and_no_other() {
        let own = authority::stand_in(&["a.example".to_owned()]).expect("made").cert[0].clone();
        let number = serial(&own).expect("serial");
        let good = answer(&number, GOOD, Some("20270201000000Z"));
        assert_eq!(read(&good, &own, NOW_S).expect("good").until_s, 1_801_440_000);
        let open = answer(&number, GOOD, None);
        assert_eq!(read(&open, &own, NOW_S).expect("good").until_s, NOW_S + UNNAMED_LIFE_S);
        for (bad, words) in [
            (answer(&number, REVOKED, Some("20270201000000Z")), "REVOKED"),
            (answer(&number, 0x82, None), "does not know"),
            (answer(&number, GOOD, Some("20260201000000Z")), "run out"),
            (answer(&[1, 2, 3], GOOD, None), "can be read"),
            (wrap(SEQUENCE, &wrap(ENUMERATED, &[6])), "can be read"),
            (vec![0; ANSWER_BYTES_MAX + 1], "bytes"),
        ] {
            let failure = read(&bad, &own, NOW_S).expect_err(words);
            assert!(failure.what.contains(words), "{failure}");
        }
    }

    proptest! {
        #[test]
        fn nothing_a_responder_sends_panics(cut in 0usize..300, at in 0usize..300, byte in any::<u8>()) {
            let mut bytes = answer(&[7, 7], GOOD, Some("20270201000000Z"));
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(cut);
            let _ = single(&bytes, &[7, 7]);
        }

        #[test]
        fn what_is_wrapped_is_unwrapped(content in proptest::collection::vec(any::<u8>(), 0..600)) {
            let bytes = wrap(OCTETS, &content);
            prop_assert_eq!(value(&bytes), Some((OCTETS, &content[..], &[][..])));
        }
    }
}
