//! The code that a browser brought, exchanged for tokens: the request, and how the answers of providers are read.

use super::fault::{Fault, Untrusted};
use super::form;
use super::metadata::Metadata;
use super::options::Provider;
use base64::Engine;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, Response};
use serde_json::{Map, Value};

/// Tokens, documents and people are small; key sets of those who never forget one are the longest.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A code and what is shown to an operator of an error.
const ERROR_CHARS_MAX: usize = 60;

/// What a provider gives for a code. Never written anywhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub access: Option<String>,
    pub id: Option<String>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens(access: {}, id: {})", self.access.is_some(), self.id.is_some())
    }
}

/// `verifier`: of the challenge, where one was sent.
pub(crate) fn request(
    provider: &Provider,
    metadata: &Metadata,
    code: &str,
    verifier: Option<&str>,
) -> Result<Request<Bytes>, Fault> {
    let secret = provider.client_secret.text();
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &*provider.callback),
        ("client_id", &*provider.client_id),
    ];
    if let Some(verifier) = verifier {
        fields.push(("code_verifier", verifier));
    }
    if !metadata.basic {
        fields.push(("client_secret", secret));
    }
    let mut request = asked(Request::post(&metadata.token))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    if metadata.basic {
        let both = format!("{}:{}", form::escaped(&provider.client_id), form::escaped(secret));
        request = request.header(AUTHORIZATION, sensitive("Basic", &both_encoded(&both))?);
    }
    request
        .body(Bytes::from(form::encode(&fields)))
        .map_err(|_| Fault::Untrusted(Untrusted::Document("token_endpoint")))
}

fn both_encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A document, or with an access token whom it speaks of.
pub(crate) fn get(address: &str, access: Option<&str>) -> Result<Request<Bytes>, Fault> {
    let mut request = asked(Request::get(address));
    if let Some(access) = access {
        request = request.header(AUTHORIZATION, sensitive("Bearer", access)?);
    }
    request.body(Bytes::new()).map_err(|_| Fault::Untrusted(Untrusted::Document("endpoint")))
}

/// GitHub answers a form unless it is asked for JSON, and nothing at all to a client without a name.
fn asked(request: http::request::Builder) -> http::request::Builder {
    request.header(ACCEPT, "application/json").header(USER_AGENT, "mainstay")
}

fn sensitive(scheme: &str, value: &str) -> Result<HeaderValue, Fault> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {value}"))
        .map_err(|_| Fault::Untrusted(Untrusted::Answer("the token endpoint")))?;
    value.set_sensitive(true);
    Ok(value)
}

/// GitHub says what is wrong with 200; others with 400 or 401.
pub(crate) fn tokens(answer: &Response<Bytes>) -> Result<Tokens, Fault> {
    let what = "the token endpoint";
    let fields = fields(answer, what)?;
    if let Some(error) = fields.get("error") {
        return Err(Fault::Refused(shown(error.as_str().unwrap_or_default())));
    }
    if !answer.status().is_success() {
        return Err(Fault::Refused(format!("{what} answers {}", answer.status().as_u16())));
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
    if fields.get("token_type").and_then(Value::as_str).is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(Untrusted::Answer(what).into());
    }
    let tokens = Tokens { access: text("access_token"), id: text("id_token") };
    if tokens.access.is_none() && tokens.id.is_none() { Err(Untrusted::Answer(what).into()) } else { Ok(tokens) }
}

/// JSON, or a form where the answer says it is one.
fn fields(answer: &Response<Bytes>, what: &'static str) -> Result<Map<String, Value>, Fault> {
    let text = bounded(answer, what)?;
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        let pairs = form::decode(text).ok_or(Untrusted::Answer(what))?;
        return Ok(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect());
    }
    match serde_json::from_str(text) {
        Ok(fields) => Ok(fields),
        // An error page of whatever stands before the provider.
        Err(_) if !answer.status().is_success() => unavailable(answer, what),
        Err(_) => Err(Untrusted::Answer(what).into()),
    }
}

/// The answer of a document or a user endpoint.
pub(crate) fn json(answer: &Response<Bytes>, what: &'static str) -> Result<Value, Fault> {
    if !answer.status().is_success() {
        return unavailable(answer, what);
    }
    serde_json::from_str(bounded(answer, what)?).map_err(|_| Untrusted::Answer(what).into())
}

pub(crate) fn bounded<'a>(answer: &'a Response<Bytes>, what: &'static str) -> Result<&'a str, Fault> {
    if answer.body().len() > ANSWER_BYTES_MAX {
        return Err(Untrusted::Answer(what).into());
    }
    std::str::from_utf8(answer.body()).map_err(|_| Untrusted::Answer(what).into())
}

fn unavailable<T>(answer: &Response<Bytes>, what: &'static str) -> Result<T, Fault> {
    let told = format!("{what} answers {}", answer.status().as_u16());
    Err(if answer.status().is_server_error() { Fault::Away(told) } else { Fault::Refused(told) })
}

/// An error's name as the standards write it; anything else could be anything.
pub(crate) fn shown(error: &str) -> String {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.len() <= ERROR_CHARS_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    };
    if is_name(error) { error.to_owned() } else { "an error without a name".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::options::tests::provider;

    fn answered(status: u16, kind: &str, body: &str) -> Result<Tokens, Fault> {
        let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
        tokens(&answer.body(Bytes::copy_from_slice(body.as_bytes())).expect("an answer"))
    }

    #[test]
    fn answers_are_read_as_providers_write_them() {
        let good = Tokens { access: Some("a b".into()), id: None };
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        assert_eq!(answered(200, form, "access_token=a+b&scope=&token_type=bearer"), Ok(good.clone()));
        assert_eq!(answered(200, "application/json", r#"{"access_token":"a b","token_type":"Bearer"}"#), Ok(good));
        let refused = |error: &str| Err(Fault::Refused(error.to_owned()));
        // GitHub: 200, whatever went wrong.
        let bad = r#"{"error":"bad_verification_code","error_description":"…","error_uri":"…"}"#;
        assert_eq!(answered(200, "application/json", bad), refused("bad_verification_code"));
        assert_eq!(
            answered(200, form, "error=redirect_uri_mismatch&error_description=x"),
            refused("redirect_uri_mismatch")
        );
        assert_eq!(answered(401, "application/json", r#"{"error":"invalid_client"}"#), refused("invalid_client"));
        let page = answered(400, "application/json", r#"{"error":"<script>alert(1)</script>"}"#);
        assert_eq!(page, refused("an error without a name"));
        assert_eq!(answered(403, "application/json", "{}"), refused("the token endpoint answers 403"));
        assert!(matches!(answered(502, "text/html", "<html>"), Err(Fault::Away(_))));
        for (kind, body) in [
            ("text/html", "<html>"),
            ("application/json", "[]"),
            ("application/json", "{}"),
            ("application/json", r#"{"access_token":""}"#),
            ("application/json", r#"{"access_token":"x","token_type":"mac"}"#),
            ("application/json", r#"{"id_token":7}"#),
            (form, "access_token=%ff"),
        ] {
            assert!(matches!(answered(200, kind, body), Err(Fault::Untrusted(_))), "{body}");
        }
        let huge = format!("{{\"access_token\":\"{}\"}}", "a".repeat(ANSWER_BYTES_MAX));
        assert!(matches!(answered(200, "application/json", &huge), Err(Fault::Untrusted(_))));
    }

    #[test]
    fn the_secret_stands_in_one_place_and_is_escaped_there() {
        let provider = provider("corp", "https://id.example");
        let mut metadata = Metadata::of_github("https://git.example");
        let body = |request: &Request<Bytes>| String::from_utf8(request.body().to_vec()).expect("text");
        let in_body = request(&provider, &metadata, "c/1", None).expect("a request");
        assert!(body(&in_body).contains("code=c%2F1") && body(&in_body).contains("client_secret=s%3A%25cret"));
        assert!(!in_body.headers().contains_key(AUTHORIZATION) && !body(&in_body).contains("code_verifier"));
        metadata.basic = true;
        let in_header = request(&provider, &metadata, "c", Some("v")).expect("a request");
        assert!(!body(&in_header).contains("client_secret") && body(&in_header).contains("code_verifier=v"));
        let value = in_header.headers()[AUTHORIZATION].to_str().expect("text").to_owned();
        assert_eq!(value, format!("Basic {}", both_encoded("client-1:s%3A%25cret")));
        let shown = format!("{:?} {provider:?}", in_header.headers());
        assert!(shown.contains("Sensitive") && !shown.contains("%cret") && !shown.contains("Basic"), "{shown}");
    }
}
