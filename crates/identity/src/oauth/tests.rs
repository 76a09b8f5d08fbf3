//! Whole logins against providers that are a function: the good ones, and everything that must not become one.

use super::form;
use super::id_token::tests::{Issuer, issuer};
use super::options::tests::provider;
use super::{Back, Call, Flow, Options, Provider, Seal, Unlinked, waiting};
use crate::exchange::{Answer, Asked};
use bytes::Bytes;
use http::header::{ACCEPT, COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

const NOW_MS: u64 = 1_795_000_000_000;
const ISSUER: &str = "https://id.example";

/// A status and a body, or why there is none.
type Said = Result<(u16, String), String>;

/// What the provider answers by path, and what it was asked.
#[derive(Default)]
struct Stub {
    answers: Mutex<HashMap<String, Said>>,
    asked: Mutex<Vec<(String, HeaderMap, String)>>,
}

impl Stub {
    fn says(&self, path: &str, status: u16, body: impl ToString) {
        self.answers.lock().expect("lock").insert(path.to_owned(), Ok((status, body.to_string())));
    }

    fn is_away(&self, path: &str) {
        self.answers.lock().expect("lock").insert(path.to_owned(), Err("no answer within 5 s".to_owned()));
    }

    fn count(&self, path: &str) -> usize {
        self.asked.lock().expect("lock").iter().filter(|(asked, ..)| asked == path).count()
    }

    /// The fields of the last token request.
    fn last_form(&self) -> HashMap<String, String> {
        let asked = self.asked.lock().expect("lock");
        let (_, _, body) = asked.iter().rfind(|(path, ..)| path.contains("token")).expect("a token request");
        form::decode(body).expect("a form").into_iter().collect()
    }

    fn call(self: &Arc<Stub>) -> Call {
        let stub = self.clone();
        Arc::new(move |request: Request<Bytes>| {
            let path = request.uri().path().to_owned();
            let body = String::from_utf8(request.body().to_vec()).expect("text");
            stub.asked.lock().expect("lock").push((path.clone(), request.headers().clone(), body));
            let answer = stub.answers.lock().expect("lock").get(&path).cloned().unwrap_or(Ok((404, "{}".into())));
            let answer = answer.map(|(status, body)| {
                let kind = "application/json; charset=utf-8";
                let answer = Response::builder().status(status).header("content-type", kind);
                answer.body(Bytes::from(body)).expect("an answer")
            });
            Box::pin(async move { answer })
        })
    }
}

/// A provider that publishes all it should.
struct Idp {
    stub: Arc<Stub>,
    issuer: Issuer,
}

impl Idp {
    fn new() -> Idp {
        let idp = Idp { stub: Arc::default(), issuer: issuer("k1") };
        idp.publishes(json!({}));
        idp.stub.says("/jwks", 200, &idp.issuer.public);
        idp
    }

    fn publishes(&self, more: Value) {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/auth?flow=1"),
            "token_endpoint": format!("{ISSUER}/token"), "jwks_uri": format!("{ISSUER}/jwks"),
            "userinfo_endpoint": format!("{ISSUER}/me"),
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        });
        for (name, value) in more.as_object().expect("an object") {
            document[name] = value.clone();
        }
        self.stub.says("/.well-known/openid-configuration", 200, document);
    }

    fn flow(&self, providers: Vec<Provider>) -> Flow {
        let seal = Seal::of(b"0123456789abcdef0123456789abcdef").expect("a seal");
        Flow::new(&options(providers), seal, self.stub.call())
    }

    /// The next code is worth a token with these claims.
    fn grants(&self, begun: &Begun, more: Value) {
        let now_s = NOW_MS / 1000;
        let mut claims = json!({
            "iss": ISSUER, "aud": "client-1", "sub": "u1", "iat": now_s, "exp": now_s + 300,
            "nonce": begun.get("nonce"), "email": "ann@corp.example", "email_verified": true, "name": "Ann",
        });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        let answer = json!({"access_token": "at", "token_type": "Bearer", "id_token": self.issuer.token(&claims)});
        self.stub.says("/token", 200, answer);
    }
}

fn options(providers: Vec<Provider>) -> Options {
    Options { providers, ..Options::default() }
}

fn asked(path: &str, query: &str, cookie: &str) -> Asked {
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_str(&format!("theme=dark; {cookie}")).expect("a cookie"));
    Asked {
        method: Method::GET,
        path: path.to_owned(),
        query: Some(query.to_owned()),
        headers,
        body: Bytes::new(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        https: true,
        host: "api.example".to_owned(),
        request_id: "r_1".to_owned(),
        identity: None,
        session: None,
    }
}

/// A browser that was sent to the provider.
struct Begun {
    fields: HashMap<String, String>,
    cookie: String,
    cookie_line: String,
    location: String,
}

impl Begun {
    fn get(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    fn query(&self) -> String {
        form::encode(&[("code", "c1"), ("state", self.get("state"))])
    }
}

async fn begin(flow: &Flow, name: &str, query: &str, cookie: &str) -> Begun {
    begin_at(flow, name, query, cookie, NOW_MS).await
}

async fn begin_at(flow: &Flow, name: &str, query: &str, cookie: &str, now_ms: u64) -> Begun {
    let answer = flow.proved(&asked(&super::path(name), query, cookie), now_ms).await.expect_err("a redirect");
    assert_eq!(answer.status, StatusCode::FOUND, "{answer:?}");
    let location = answer.headers[LOCATION].to_str().expect("text").to_owned();
    let (_, query) = location.split_once('?').expect("a query");
    let fields = form::decode(query).expect("fields").into_iter().collect();
    let cookie_line = answer.headers[SET_COOKIE].to_str().expect("text").to_owned();
    let cookie = cookie_line.split(';').next().expect("a pair").to_owned();
    Begun { fields, cookie, cookie_line, location }
}

async fn end(flow: &Flow, name: &str, query: &str, cookie: &str) -> Result<Back, Answer> {
    flow.proved(&asked(&format!("{}/callback", super::path(name)), query, cookie), NOW_MS).await
}

async fn logs_in(idp: &Idp, flow: &Flow, at_ms: u64) -> bool {
    let begun = begin_at(flow, "corp", "", "", at_ms).await;
    idp.grants(&begun, json!({}));
    let back = asked(&format!("{}/callback", super::path("corp")), &begun.query(), &begun.cookie);
    flow.proved(&back, at_ms).await.is_ok()
}

/// Its status and its code.
fn judged(result: Result<Back, Answer>) -> (u16, String) {
    let answer = result.map(|back| back.proved).expect_err("a refusal");
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    (answer.status.as_u16(), body["code"].as_str().expect("a code").to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_login_goes_there_and_back_and_is_good_once() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let begun = begin(&flow, "corp", "return_to=%2Fapp%3Fx%3D1", "").await;
    assert!(begun.location.starts_with("https://id.example/auth?flow=1&response_type=code&"), "{}", begun.location);
    assert_eq!(begun.get("redirect_uri"), "https://api.example/api/v1/auth/oauth/corp/callback");
    assert_eq!((begun.get("code_challenge_method"), begun.get("scope")), ("S256", "openid email profile"));
    assert!(begun.cookie_line.starts_with("__Host-oauth="), "{}", begun.cookie_line);
    assert!(
        begun.cookie_line.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"),
        "{}",
        begun.cookie_line
    );
    // Nothing the browser is shown can be made into what it must not know.
    assert!(!begun.location.contains(begun.cookie.split('=').nth(1).expect("a value")));

    idp.grants(&begun, json!({}));
    let back = end(&flow, "corp", &begun.query(), &begun.cookie).await.expect("somebody");
    assert_eq!((&*back.proved.realm, &*back.proved.subject), (ISSUER, "u1"));
    assert!(back.proved.email_verified && back.proved.email.as_deref() == Some("ann@corp.example"));
    let sent = idp.stub.last_form();
    let challenge = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sent["code_verifier"].as_bytes());
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    assert_eq!(begun.get("code_challenge"), base64::Engine::encode(&engine, challenge.as_ref()));
    assert_eq!((&*sent["redirect_uri"], &*sent["code"]), (begun.get("redirect_uri"), "c1"));

    let session = Answer::json(StatusCode::OK, &json!({})).with(SET_COOKIE, HeaderValue::from_static("__Host-s=1"));
    let onward = back.delivered(session, true, &asked("/", "", ""));
    assert_eq!(
        (onward.status, &onward.headers[LOCATION]),
        (StatusCode::SEE_OTHER, &"/app?x=1"[..].parse().expect("v"))
    );
    let cookies: Vec<_> = onward.headers.get_all(SET_COOKIE).iter().map(|c| c.to_str().expect("text")).collect();
    assert_eq!(cookies[0], "__Host-s=1");
    assert!(cookies[1].starts_with("__Host-oauth=; Path=/; Max-Age=0"), "{cookies:?}");

    let again = end(&flow, "corp", &begun.query(), &begun.cookie).await;
    assert_eq!(judged(again), refused(400, "oauth_state"), "a state is good once");
    assert_eq!(idp.stub.count("/token"), 1);
}

#[tokio::test]
async fn a_state_of_another_browser_or_another_time_asks_nobody_anything() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let (mine, other) = (begin(&flow, "corp", "", "").await, begin(&flow, "corp", "", "").await);
    idp.grants(&mine, json!({}));
    let state = refused(400, "oauth_state");
    assert_eq!(judged(end(&flow, "corp", &mine.query(), "").await), state, "no cookie");
    assert_eq!(judged(end(&flow, "corp", &mine.query(), &other.cookie).await), state, "another login's cookie");
    assert_eq!(judged(end(&flow, "corp", "code=c1", &mine.cookie).await), state, "no state");
    assert_eq!(judged(end(&flow, "corp", &format!("{}&state=x", mine.query()), &mine.cookie).await), state, "two");
    assert_eq!(judged(end(&flow, "corp", "state=%", &mine.cookie).await), state, "broken");
    let late = asked(&format!("{}/callback", super::path("corp")), &mine.query(), &mine.cookie);
    assert_eq!(judged(flow.proved(&late, NOW_MS + 600_000).await), state, "ten minutes later");
    let stranger = Seal::of(b"a secret of another house").expect("a seal");
    let elsewhere = Flow::new(&options(vec![provider("corp", ISSUER)]), stranger, idp.stub.call());
    assert_eq!(judged(end(&elsewhere, "corp", &mine.query(), &mine.cookie).await), state, "sealed by another");
    assert_eq!(idp.stub.count("/token"), 0);
    // What went wrong above cost nothing: the login itself still works, in two tabs at once, after a reload too.
    let second = begin(&flow, "corp", "", &mine.cookie).await;
    let reloaded = flow.with(&options(vec![provider("corp", ISSUER)]));
    assert!(end(&reloaded, "corp", &mine.query(), &second.cookie).await.is_ok());
    idp.grants(&second, json!({}));
    assert!(end(&reloaded, "corp", &second.query(), &second.cookie).await.is_ok());
}

#[tokio::test]
async fn a_code_of_another_provider_reaches_nobody() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER), provider("evil", ISSUER)]);
    let state = refused(400, "oauth_state");
    let begun = begin(&flow, "evil", "", "").await;
    idp.grants(&begun, json!({}));
    assert_eq!(judged(end(&flow, "corp", &begun.query(), &begun.cookie).await), state, "begun with another");
    let begun = begin(&flow, "corp", "", "").await;
    let mixed = format!("{}&iss=https%3A%2F%2Fevil.example", begun.query());
    assert_eq!(judged(end(&flow, "corp", &mixed, &begun.cookie).await), state, "another names itself (RFC 9207)");
    assert_eq!(idp.stub.count("/token"), 0);
    let begun = begin(&flow, "corp", "", "").await;
    idp.grants(&begun, json!({}));
    let own = format!("{}&iss=https%3A%2F%2Fid.example", begun.query());
    assert!(end(&flow, "corp", &own, &begun.cookie).await.is_ok());
    // One that always names itself and does not is another.
    idp.publishes(json!({"authorization_response_iss_parameter_supported": true}));
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let begun = begin(&flow, "corp", "", "").await;
    assert_eq!(judged(end(&flow, "corp", &begun.query(), &begun.cookie).await), state);
}

#[tokio::test]
async fn what_a_provider_cannot_prove_is_no_login() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let fault = refused(502, "oauth_provider_fault");
    for claims in [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"iss": "https://evil.example"}),
        json!({"aud": "client-2"}),
        json!({"exp": 1}),
        json!({"sub": ""}),
    ] {
        let begun = begin(&flow, "corp", "", "").await;
        idp.grants(&begun, claims.clone());
        assert_eq!(judged(end(&flow, "corp", &begun.query(), &begun.cookie).await), fault, "{claims}");
    }
    for answer in [
        json!({"access_token": "at"}),
        json!({"error": "invalid_client"}),
        json!({"id_token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.", "access_token": "at"}),
        json!({"access_token": "at", "id_token": "x".repeat(300_000)}),
    ] {
        let begun = begin(&flow, "corp", "", "").await;
        idp.stub.says("/token", 200, &answer);
        let result = end(&flow, "corp", &begun.query(), &begun.cookie).await;
        assert_eq!(judged(result), fault, "{}", &answer.to_string()[..60.min(answer.to_string().len())]);
    }
    let begun = begin(&flow, "corp", "", "").await;
    idp.grants(&begun, json!({"email": null}));
    idp.stub.says("/me", 200, json!({"sub": "u2", "email": "victim@corp.example", "email_verified": true}));
    assert_eq!(judged(end(&flow, "corp", &begun.query(), &begun.cookie).await), fault, "two people");
    let begun = begin(&flow, "corp", "", "").await;
    idp.grants(&begun, json!({"email": null}));
    idp.stub.says("/me", 200, json!({"sub": "u1", "email": "ann@corp.example", "email_verified": true}));
    assert!(end(&flow, "corp", &begun.query(), &begun.cookie).await.expect("somebody").proved.email_verified);
}

#[tokio::test]
async fn an_error_of_the_provider_is_told_without_its_words() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    for (error, expected) in [
        ("access_denied", refused(403, "oauth_denied")),
        ("server_error", refused(502, "oauth_provider_fault")),
        ("<script>alert(1)</script>", refused(502, "oauth_provider_fault")),
    ] {
        let begun = begin(&flow, "corp", "", "").await;
        let told = "error_description=Call%20this%20number";
        let query = format!("{}&{told}&state={}", form::encode(&[("error", error)]), begun.get("state"));
        let mut page = asked(&format!("{}/callback", super::path("corp")), &query, &begun.cookie);
        page.headers.insert(ACCEPT, HeaderValue::from_static("text/html,*/*"));
        let answer = flow.proved(&page, NOW_MS).await.expect_err("a page");
        let text = String::from_utf8(answer.body.to_vec()).expect("text");
        assert!(text.contains(&expected.1) && text.contains("Start again"), "{text}");
        assert!(!text.contains("number") && !text.contains("script"), "{text}");
        assert_eq!(answer.status.as_u16(), expected.0);
        assert!(answer.headers["content-security-policy"].to_str().expect("text").contains("default-src 'none'"));
        // Without a state of this browser nothing is told at all.
        let bare = form::encode(&[("error", error)]);
        assert_eq!(judged(end(&flow, "corp", &bare, "").await), refused(400, "oauth_state"));
    }
}

#[tokio::test]
async fn a_provider_that_is_away_is_not_asked_by_everybody_and_what_it_said_stays() {
    let idp = Idp::new();
    let document = "/.well-known/openid-configuration";
    idp.stub.is_away(document);
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let start = asked(&super::path("corp"), "", "");
    for _ in 0..5 {
        let answer = flow.proved(&start, NOW_MS).await.expect_err("a refusal");
        assert_eq!((answer.status.as_u16(), &answer.headers[RETRY_AFTER]), (503, &HeaderValue::from(5)));
    }
    assert_eq!(idp.stub.count(document), 1, "five came, one asked");
    idp.publishes(json!({}));
    assert_eq!(flow.proved(&start, NOW_MS + 1000).await.expect_err("a redirect").status, StatusCode::FOUND);
    idp.stub.is_away(document);
    let later = flow.proved(&start, NOW_MS + 700_000).await.expect_err("a redirect");
    assert_eq!((later.status, idp.stub.count(document)), (StatusCode::FOUND, 3), "what was known stays");
    let begun = begin(&flow, "corp", "", "").await;
    idp.stub.is_away("/token");
    assert_eq!(judged(end(&flow, "corp", &begun.query(), &begun.cookie).await), refused(503, "oauth_provider_away"));
}

#[tokio::test]
async fn new_keys_are_fetched_when_a_token_names_one_and_not_for_every_token() {
    let mut idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    let begun = begin(&flow, "corp", "", "").await;
    idp.grants(&begun, json!({}));
    assert!(end(&flow, "corp", &begun.query(), &begun.cookie).await.is_ok());
    idp.issuer = issuer("k2");
    idp.stub.says("/jwks", 200, &idp.issuer.public);
    assert!(!logs_in(&idp, &flow, NOW_MS + 1000).await && idp.stub.count("/jwks") == 1, "asked a second ago");
    assert!(logs_in(&idp, &flow, NOW_MS + 31_000).await && idp.stub.count("/jwks") == 2);
    idp.issuer = issuer("k3");
    for _ in 0..5 {
        assert!(!logs_in(&idp, &flow, NOW_MS + 40_000).await);
    }
    assert_eq!(idp.stub.count("/jwks"), 2, "whoever sends tokens does not make us a flood");
}

#[tokio::test]
async fn github_and_linkedin_are_taken_as_they_are() {
    let idp = Idp::new();
    let github = Provider { issuer: "https://git.example".into(), ..provider("github", "") };
    let linkedin = Provider { issuer: ISSUER.into(), ..provider("linkedin", "") };
    let flow = idp.flow(vec![github, linkedin]);
    let begun = begin(&flow, "github", "", "").await;
    assert_eq!((begun.get("nonce"), begun.get("scope")), ("", "read:user user:email"));
    let token = "/login/oauth/access_token";
    idp.stub.says(token, 200, json!({"error": "bad_verification_code", "error_description": "…"}));
    let fault = refused(502, "oauth_provider_fault");
    assert_eq!(judged(end(&flow, "github", &begun.query(), &begun.cookie).await), fault);
    idp.stub.says(token, 200, json!({"access_token": "gho_1", "scope": "user:email", "token_type": "bearer"}));
    idp.stub.says("/api/v3/user", 200, json!({"id": 7, "login": "ann", "email": "victim@corp.example"}));
    for (status, emails, expected) in [
        (200, json!([{"email": "ann@corp.example", "primary": true, "verified": true}]), Some("ann@corp.example")),
        (200, json!([{"email": "victim@corp.example", "primary": true, "verified": false}]), None),
        (404, json!({"message": "Not Found"}), None),
    ] {
        idp.stub.says("/api/v3/user/emails", status, emails);
        let begun = begin(&flow, "github", "", "").await;
        let proved = end(&flow, "github", &begun.query(), &begun.cookie).await.expect("somebody").proved;
        assert_eq!((&*proved.subject, proved.email.as_deref()), ("7", expected));
        assert_eq!(proved.email_verified, expected.is_some());
    }
    let asked = idp.stub.asked.lock().expect("lock").last().expect("one").1.clone();
    assert_eq!(
        (&asked["authorization"], &asked["user-agent"]),
        (&"Bearer gho_1"[..].parse().expect("v"), &"mainstay"[..].parse().expect("v"))
    );

    let begun = begin(&flow, "linkedin", "", "").await;
    assert_eq!(begun.get("code_challenge"), "", "LinkedIn refuses it");
    idp.grants(&begun, json!({"nonce": null, "email_verified": "true"}));
    let proved = end(&flow, "linkedin", &begun.query(), &begun.cookie).await.expect("somebody").proved;
    assert!(proved.email_verified && !idp.stub.last_form().contains_key("code_verifier"));
}

#[tokio::test]
async fn nobody_is_sent_to_another_site_or_gets_tokens_in_an_address() {
    let idp = Idp::new();
    let flow = idp.flow(vec![provider("corp", ISSUER)]);
    for page in
        ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2F%5Cevil.example", "app", "%2F&return_to=%2F", "%"]
    {
        let start = asked(&super::path("corp"), &format!("return_to={page}"), "");
        assert_eq!(judged(flow.proved(&start, NOW_MS).await), refused(400, "oauth_return_to"), "{page}");
    }
    let begun = begin(&flow, "corp", "return_to=%2Fapp", "").await;
    idp.grants(&begun, json!({}));
    let back = end(&flow, "corp", &begun.query(), &begun.cookie).await.expect("somebody");
    let tokens = Answer::json(StatusCode::OK, &json!({"accessToken": "a.b.c"}));
    let answer = back.delivered(tokens.clone(), false, &asked("/", "", ""));
    assert_eq!((answer.status, &answer.body, answer.headers.get(LOCATION)), (StatusCode::OK, &tokens.body, None));
    let begun = begin(&flow, "corp", "", "").await;
    idp.grants(&begun, json!({}));
    let back = end(&flow, "corp", &begun.query(), &begun.cookie).await.expect("somebody");
    let answer = back.refused(Unlinked::AddressTaken, &asked("/", "", ""));
    assert_eq!((answer.status, answer.headers.get_all(SET_COOKIE).iter().count()), (StatusCode::CONFLICT, 1));

    let missing = asked("/api/v1/auth/oauth/facebook", "", "");
    assert_eq!(judged(flow.proved(&missing, NOW_MS).await), refused(404, "oauth_unknown_provider"));
    let post = Asked { method: Method::POST, ..asked(&super::path("corp"), "", "") };
    assert_eq!(judged(flow.proved(&post, NOW_MS).await), refused(405, "method_not_allowed"));
}

#[test]
fn i4_a_page_is_told_in_its_address_that_a_code_is_asked_for() {
    for (page, expected) in [
        ("/", "/?second_factor=required"),
        ("/app?x=1", "/app?x=1&second_factor=required"),
        ("/app#top", "/app?second_factor=required#top"),
        ("/app?x=1#a#b", "/app?x=1&second_factor=required#a#b"),
    ] {
        assert_eq!(waiting(page), expected);
    }
}
