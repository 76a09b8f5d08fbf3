//! Methods a client names beside the one it uses: `X-HTTP-Method-Override` and its sisters, `_method` in the query, as
//! npm's `method-override`, Flask's recipe, Rails, Laravel and Symfony read them.
//!
//! For guards alone. Must never change what is sent on: only the app knows whether it listens to any of them. A
//! `_method` in the body is not seen here; a guard that names no method holds for it all the same.

use crate::message::RequestHead;
use crate::readings::unescape;

const HEADERS: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
const QUERY: &str = "_method";

/// The longest registered method has 17 letters (`UPDATEREDIRECTREF`).
const METHOD_BYTES_MAX: usize = 17;

/// All that is named, in any place.
pub fn override_of(head: &RequestHead) -> Vec<String> {
    let named = head.fields.iter().filter(|(name, _)| HEADERS.iter().any(|known| is(name, known)));
    let headers = named.flat_map(|(_, value)| value.split(|&b| b == b',').map(text));
    let pairs = head.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    // `_method[]=` too.
    let queries = pairs.filter(|(name, _)| decoded(name).starts_with(QUERY)).map(|(_, value)| decoded(value));
    headers.chain(queries).filter(|method| (1..=METHOD_BYTES_MAX).contains(&method.len())).collect()
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim().to_owned()
}

/// Gateway interfaces make one variable of `X-Http-Method` and `x_http_method`.
fn is(name: &[u8], known: &str) -> bool {
    let plain = |byte: u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == known.len() && name.iter().zip(known.bytes()).all(|(&given, known)| plain(given) == known)
}

fn decoded(word: &str) -> String {
    text(&unescape(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

    #[test]
    fn every_place_and_spelling_is_looked_at() {
        for (target, fields, expected) in [
            ("/a", &[("X-HTTP-Method-Override", "DELETE")][..], &["DELETE"][..]),
            ("/a", &[("x_http_method", "delete"), ("X-METHOD-OVERRIDE", "PUT, POST")], &["delete", "PUT", "POST"]),
            ("/a?_method=DELETE", &[], &["DELETE"]),
            ("/a?x&b=1&%5fmethod=%44ELETE&_method[]=PUT", &[], &["DELETE", "PUT"]),
            ("/a?method=DELETE&_metho=x", &[("X-Method", "DELETE")], &[]),
            ("/a?_method=", &[("X-HTTP-Method", "")], &[]),
        ] {
            let mut head = RequestHead::default();
            head.fields = Fields::of(fields);
            head.set_target(target).expect(target);
            assert_eq!(override_of(&head), expected, "{target} {fields:?}");
        }
    }
}
