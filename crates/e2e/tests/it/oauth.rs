//! Logging in by a provider: a person at a browser with npm's oidc-provider, GitHub and LinkedIn as they are.

use crate::http2::certificate;
use crate::support::in_front_of;
use mainstay_e2e::idp::{CLIENT_ID, CLIENT_SECRET, OidcProvider, Stub, github};
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, fixtures, wait_until};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

pub const START: &str = "/api/v1/auth/oauth/";

/// The table of a provider whose browsers come back to this port.
pub fn provider(name: &str, issuer: &str, port: u16) -> String {
    format!(
        "[identity.oauth.{name}]\nissuer = \"{issuer}\"\nclient_id = \"{CLIENT_ID}\"\n\
         client_secret = \"${{PROVIDER_SECRET}}\"\ncallback = \"http://localhost:{port}{START}{name}/callback\"\n"
    )
}

/// In front of `peer`, with accounts and these providers.
pub fn with_providers(peer: &Peer, lines: &str, providers: &[(&str, &str)]) -> Mainstay {
    let setup = Setup::new();
    let tables: String = providers.iter().map(|(name, issuer)| provider(name, issuer, setup.port())).collect();
    let text = format!("{}[identity]\naccounts = true\n{lines}{tables}", in_front_of(&[peer]));
    setup.write("mainstay.toml", &text).env("PROVIDER_SECRET", CLIENT_SECRET).ready("/")
}

/// A browser that was sent to its provider.
#[derive(Debug)]
pub struct Begun {
    fields: HashMap<String, String>,
    /// `name=value`
    pub cookie: String,
}

impl Begun {
    pub fn get(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }

    /// What the provider would send it back with.
    pub fn query(&self, code: &str) -> String {
        format!("code={code}&state={}", self.get("state"))
    }
}

#[track_caller]
pub fn begin(mainstay: &Mainstay, name: &str, query: &str) -> Begun {
    let sent = curl(&[&mainstay.url(&format!("{START}{name}?{query}"))]);
    assert_eq!(sent.status, 302, "{sent:?}\n{}", sent.text());
    let location = sent.header("location").expect("a location");
    let (_, query) = location.split_once('?').expect("a query");
    let fields = query.split('&').filter_map(|pair| pair.split_once('='));
    let line = sent.header("set-cookie").expect("a cookie");
    assert!(line.contains("; HttpOnly; SameSite=Lax") && line.contains("Max-Age=600"), "{line}");
    Begun {
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        cookie: line.split(';').next().expect("a pair").to_owned(),
    }
}

pub fn end(mainstay: &Mainstay, name: &str, query: &str, cookie: &str) -> Answer {
    let cookie = format!("Cookie: {cookie}");
    curl(&["-H", &cookie, &mainstay.url(&format!("{START}{name}/callback?{query}"))])
}

/// curl with these words before the address.
pub fn ask(mainstay: &Mainstay, path: &str, words: &[&str]) -> Answer {
    let url = mainstay.url(path);
    let mut all = words.to_vec();
    all.push(&url);
    curl(&all)
}

/// A whole login by curl.
#[track_caller]
pub fn login(mainstay: &Mainstay, name: &str, code: &str) -> Value {
    let begun = begin(mainstay, name, "");
    let granted = end(mainstay, name, &begun.query(code), &begun.cookie);
    assert_eq!(granted.status, 200, "{granted:?}\n{}", granted.text());
    granted.json()
}

#[track_caller]
pub fn refused(name: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{name}: {answer:?}\n{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{name}: {problem}");
    assert!(problem["error"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {problem}");
    assert!(answer.header("cache-control") == Some("no-store"), "{name}: {answer:?}");
}

/// Who a token speaks of, as the account says.
#[track_caller]
pub fn me(mainstay: &Mainstay, granted: &Value) -> Value {
    let token = granted["accessToken"].as_str().unwrap_or_else(|| panic!("no token: {granted}"));
    let told = curl(&["-H", &format!("Authorization: Bearer {token}"), &mainstay.url("/api/v1/auth/me")]);
    assert_eq!(told.status, 200, "{told:?}\n{}", told.text());
    told.json()
}

/// Id tokens with these claims, all signed by one key; and its key set.
pub fn id_tokens(claims: &[Value]) -> (Vec<String>, String) {
    let asked = json!({"kid": "k1", "tokens": claims}).to_string();
    let told: Value = serde_json::from_str(&fixtures::node_client("tokens.js", &[&asked])).expect("JSON");
    let tokens = told["tokens"].as_array().expect("tokens").iter();
    (tokens.map(|token| token.as_str().expect("a token").to_owned()).collect(), told["jwks"].to_string())
}

pub fn claims(issuer: &str, begun: &Begun, more: &Value) -> Value {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let mut claims = json!({
        "iss": issuer, "aud": CLIENT_ID, "sub": "u-1", "iat": now_s, "exp": now_s + 300, "nonce": begun.get("nonce"),
        "email": "ann@corp.example", "email_verified": true, "name": "Ann",
    });
    for (name, value) in more.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

#[test]
fn i4_a_person_logs_in_with_a_browser_at_a_provider_of_openid_connect() {
    let peer = Peer::labelled("app");
    let setup = Setup::new();
    let callback = format!("http://localhost:{}{START}corp/callback", setup.port());
    let people = json!({"ann": {"email": "Ann@corp.example", "email_verified": true, "name": "Ann Lee"}});
    let idp = OidcProvider::start(&callback, &people);
    let tables = provider("corp", &idp.issuer(), setup.port());
    let text = format!("{}[identity]\naccounts = true\n{tables}", in_front_of(&[&peer]));
    let mainstay = setup.write("mainstay.toml", &text).env("PROVIDER_SECRET", CLIENT_SECRET).ready("/");
    let start = mainstay.url(&format!("{START}corp")).replace("127.0.0.1", "localhost");
    let browse = || -> Value {
        let asked = json!({"start": start, "login": "ann", "twice": true}).to_string();
        serde_json::from_str(&fixtures::node_client("oauth_browser.js", &[&asked])).expect("JSON")
    };
    let first = browse();
    assert_eq!(first["status"], 200, "{first}\n{}\n{}", idp.said(), mainstay.said());
    let granted: Value = serde_json::from_str(first["text"].as_str().expect("text")).expect("tokens");
    let own = me(&mainstay, &granted);
    assert!(own.to_string().contains("ann@corp.example") && own.to_string().contains("Ann Lee"), "{own}");
    // The address of the callback, opened once more, is a page that says what to do.
    assert_eq!(first["again"]["status"], 400, "{first}");
    assert!(first["again"]["text"].as_str().is_some_and(|text| text.contains("Start again")), "{first}");
    let left = first["cookies"].as_array().expect("cookies").iter().any(|cookie| cookie["name"] == "oauth");
    assert!(!left, "the cookie outlives the login: {first}");
    // Who comes again is the same.
    let second = browse();
    let granted: Value = serde_json::from_str(second["text"].as_str().expect("text")).expect("tokens");
    assert_eq!(me(&mainstay, &granted), own);
    let hops = first["hops"].as_array().expect("hops").iter().filter_map(|hop| hop["url"].as_str());
    let back = hops.filter_map(|url| url.split_once("/callback?")).next().expect("a callback").1;
    let code = back.split(['=', '&']).nth(1).expect("a code");
    let logs = mainstay.verb(&["logs", "-n", "1000"]).all() + &mainstay.said();
    for secret in [code, CLIENT_SECRET, granted["accessToken"].as_str().expect("a token")] {
        assert!(!logs.contains(secret), "{secret} was written down");
    }
    assert!(peer.holding("oauth").is_empty(), "a login reached the app");
}

/// Over TLS the cookie is one that no other host can set, and with sessions the browser comes back to its page, known.
#[test]
fn i4_a_person_with_a_session_comes_back_to_his_page_over_tls() {
    let (peer, tls) = (Peer::mirror(), Port::free());
    let base = format!("https://localhost:{}", tls.number);
    let people = json!({"ann": {"email": "ann@corp.example", "email_verified": true, "name": "Ann Lee"}});
    let idp = OidcProvider::start(&format!("{base}{START}corp/callback"), &people);
    let table = provider("corp", &idp.issuer(), tls.number).replace("http://localhost", "https://localhost");
    let text = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"localhost\"]\ncert = \"own.pem\"\nkey = \"own.key\"\n\
         [identity]\naccounts = true\n[identity.sessions]\n{table}",
        in_front_of(&[&peer]),
        tls.number
    );
    let setup = Setup::file(&text).without_port().env("PROVIDER_SECRET", CLIENT_SECRET);
    certificate(setup.path(), "own", "localhost");
    let mainstay = setup.spawn();
    let start = format!("{base}{START}corp?return_to=%2Fpage%3Ftab%3D1");
    wait_until("the service", || curl(&["-k", &start]).status == 302);
    let begun = curl(&["-k", &start]);
    let line = begun.header("set-cookie").unwrap_or_default();
    assert!(line.starts_with("__Host-oauth=") && line.ends_with("; Secure"), "{line}");
    let asked = json!({"start": start, "login": "ann"}).to_string();
    let told: Value = serde_json::from_str(&fixtures::node_client("oauth_browser.js", &[&asked])).expect("JSON");
    assert_eq!(told["url"], format!("{base}/page?tab=1"), "{told}\n{}", mainstay.said());
    let seen: Value = serde_json::from_str(told["text"].as_str().expect("text")).expect("what the app saw");
    let known = seen["headers"].as_array().expect("headers").iter().any(|pair| pair[0] == "x-user-id");
    assert!(known, "the app is not told who it is: {seen}");
    let cookies = told["cookies"].as_array().expect("cookies").iter();
    let names: Vec<&str> = cookies.filter_map(|cookie| cookie["name"].as_str()).collect();
    assert!(!names.contains(&"__Host-oauth"), "{names:?}");
    assert!(peer.all().iter().all(|ask| !ask.target.contains("code=")), "a code reached the app");
}

#[test]
fn i4_github_is_taken_as_it_is() {
    let peer = Peer::labelled("app");
    let user = json!({"id": 583_231, "login": "octocat", "name": null, "email": "public@example.com"});
    let list = json!([
        {"email": "other@example.com", "primary": false, "verified": true},
        {"email": "octo@example.com", "primary": true, "verified": true, "visibility": "private"},
    ]);
    let hub = github(user, list);
    let mainstay = with_providers(&peer, "", &[("github", &format!("http://{}", hub.address))]);
    let begun = begin(&mainstay, "github", "");
    assert_eq!((begun.get("scope"), begun.get("code_challenge_method")), ("read%3Auser%20user%3Aemail", "S256"));
    // 200, and an error all the same.
    let bad = end(&mainstay, "github", &begun.query("bad"), &begun.cookie);
    refused("a bad code", &bad, 502, "oauth_provider_fault");
    let granted = login(&mainstay, "github", "good");
    let own = me(&mainstay, &granted);
    assert!(own.to_string().contains("octo@example.com") && own.to_string().contains("octocat"), "{own}");
    assert_eq!(me(&mainstay, &login(&mainstay, "github", "good")), own);
}

#[test]
fn i4_linkedin_is_taken_as_it_is() {
    let peer = Peer::labelled("app");
    let stub = Stub::oidc("/oauth");
    let issuer = format!("{}/oauth", stub.issuer());
    let mainstay = with_providers(&peer, "", &[("linkedin", &issuer)]);
    let (first, second) = (begin(&mainstay, "linkedin", ""), begin(&mainstay, "linkedin", ""));
    assert_eq!(first.get("code_challenge"), "", "LinkedIn refuses a challenge as `invalid_client`");
    // No nonce comes back, and whether the address is verified is a text.
    let more = json!({"nonce": null, "email_verified": "true"});
    let wrong = json!({"nonce": "of another login", "email_verified": "true"});
    let all = [claims(&issuer, &first, &more), claims(&issuer, &second, &wrong)];
    let (tokens, keys) = id_tokens(&all);
    stub.says("/jwks", 200, &keys);
    stub.grants(&tokens[0]);
    let granted = end(&mainstay, "linkedin", &first.query("c"), &first.cookie);
    assert_eq!(granted.status, 200, "{granted:?}\n{}\n{}", granted.text(), mainstay.said());
    assert_eq!(me(&mainstay, &granted.json())["emailVerified"], true);
    let asked = stub.peer.all().into_iter().find(|ask| ask.path() == "/token").expect("an exchange");
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    assert!(
        form.contains("client_secret=") && !form.contains("code_verifier") && !asked.has("authorization"),
        "{form}"
    );
    stub.grants(&tokens[1]);
    let mixed = end(&mainstay, "linkedin", &second.query("c"), &second.cookie);
    refused("a nonce of another login", &mixed, 502, "oauth_provider_fault");
}
