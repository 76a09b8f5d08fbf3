//! Who asks and who may: tokens of the app or of an issuer verified at the edge, routes guarded by role, and what the
//! app is told. The app here is a mirror: it shows what reached it.

use crate::support::{in_front_of, judged_answer};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, fixtures, wait_until, wire};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

pub const SECRET: &str = "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e";
const OTHER: &str = "aP6cM4jG1fH8dYs5BnT7rZ2wLq9Xv3Uk0z";

const GUARDED: &str = "[[route]]\nmatch = \"/api/v1/admin/*\"\nroles = [\"admin\", \"moderator\"]\n\
                       [[route]]\nmatch = \"GET /me\"\nauth = \"required\"\n";

/// Tokens with these claims, signed by jose.
pub fn tokens(secret: &str, claims: &Value) -> Vec<String> {
    let asked = json!({ "secret": secret, "tokens": claims });
    signed_by("tokens.js", &asked)["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .map(|t| t.as_str().expect("a token").into())
        .collect()
}

/// What a client of `fixtures/node/clients` signs.
pub fn signed_by(client: &str, asked: &Value) -> Value {
    serde_json::from_str(&fixtures::node_client(client, &[&asked.to_string()])).expect("JSON")
}

pub fn guarded(peer: &Peer, verify: &str) -> Setup {
    let text = format!("{}[identity.verify]\n{verify}\n{GUARDED}", in_front_of(&[peer]));
    Setup::file(&text).env("JWT_SECRET", SECRET)
}

fn get_with(mainstay: &Mainstay, path: &str, token: &str) -> Answer {
    curl(&["-H", &format!("Authorization: Bearer {token}"), &mainstay.url(path)])
}

/// Values of a header as the app saw it.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    let headers = told["headers"].as_array().expect("headers");
    let own = headers.iter().filter(|pair| pair[0] == name);
    own.map(|pair| pair[1].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn i3_a_guarded_route_wants_a_token_and_one_of_its_roles() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "").ready("/");
    let claims = json!([{"sub": "u1", "role": "user"}, {"sub": "u2", "roles": ["user", "moderator"]}]);
    let [user, moderator]: [String; 2] = tokens(SECRET, &claims).try_into().expect("two");
    let path = "/api/v1/admin/users";

    let nobody = curl(&[&mainstay.url(path)]);
    let why = judged_answer(&mainstay, "nobody", &nobody, 401, "login_required");
    assert!(why.contains("mainstay.toml:"), "`why` does not name the rule:\n{why}");
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    let refused = get_with(&mainstay, path, &user);
    let why = judged_answer(&mainstay, "user", &refused, 403, "role_missing");
    assert!(why.contains("/api/v1/admin/*"), "{why}");
    assert!(peer.holding("/admin/").is_empty(), "a refused request reached the app");

    let allowed = get_with(&mainstay, path, &moderator);
    assert_eq!(seen(&allowed, "x-user-id"), ["u2"]);
    assert_eq!(seen(&allowed, "x-user-roles"), ["user,moderator"]);
    assert_eq!(seen(&allowed, "authorization"), [format!("Bearer {moderator}")], "it is the app's as well");
    assert_eq!(seen(&get_with(&mainstay, "/me", &user), "x-user-id"), ["u1"]);
    // HEAD is answered by the handler of GET; another method is another route.
    assert_eq!(curl(&["-I", &mainstay.url("/me")]).status, 401);
    assert_eq!(curl(&["-X", "POST", &mainstay.url("/me")]).status, 200);
}

#[test]
fn i3_tokens_that_prove_nothing_are_told_apart_and_open_nothing() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "audience = [\"api\"]").ready("/");
    let admin = |more: Value| {
        let mut claims = json!({"sub": "u1", "roles": ["admin"], "aud": "api"});
        more.as_object().expect("object").iter().for_each(|(name, value)| claims[name] = value.clone());
        claims
    };
    let good = tokens(SECRET, &json!([admin(json!({}))])).remove(0);
    let expired = tokens(SECRET, &json!([admin(json!({"exp": 1000}))])).remove(0);
    let foreign = tokens(SECRET, &json!([admin(json!({"aud": "mobile"}))])).remove(0);
    let forged = tokens(OTHER, &json!([admin(json!({}))])).remove(0);
    let (unsigned, _) = good.rsplit_once('.').expect("dots");
    let none = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).expect("claims"));
    let path = "/api/v1/admin/users";
    for (name, token, code) in [
        ("expired", expired.as_str(), "token_expired"),
        ("for another audience", &foreign, "token_invalid"),
        ("signed by another", &forged, "token_invalid"),
        ("without signature", unsigned, "token_invalid"),
        ("alg none", &none, "token_invalid"),
        ("rubbish", "x", "token_invalid"),
    ] {
        let refused = get_with(&mainstay, path, token);
        judged_answer(&mainstay, name, &refused, 401, code);
        assert!(refused.header("www-authenticate").is_some_and(|c| c.contains("invalid_token")), "{name}: {refused:?}");
        // Where nothing is guarded it passes untouched, and names nobody.
        let passed = get_with(&mainstay, "/open", token);
        assert_eq!(seen(&passed, "authorization"), [format!("Bearer {token}")], "{name}");
        assert!(seen(&passed, "x-user-id").is_empty() && seen(&passed, "mainstay-identity").is_empty(), "{name}");
    }
    assert_eq!(get_with(&mainstay, path, &good).status, 200);
    let twice = ["-H", &format!("Authorization: Bearer {good}"), "-H", "Authorization: Bearer x", &mainstay.url(path)];
    assert_eq!(curl(&twice).status, 401, "two servers could take two different ones");
    assert_eq!(peer.holding("/admin/").len(), 1);
    for token in [&good, &forged] {
        let logs = mainstay.verb(&["logs", "-n", "1000"]).all();
        assert!(
            !logs.contains(token.as_str()) && !mainstay.said().contains(token.as_str()),
            "a token was written down"
        );
    }
}

/// ASVS 3.1.1: addresses stand in logs and histories, so nothing in one proves who asks.
#[test]
fn i3_a_token_in_an_address_is_none() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "").ready("/");
    let token = tokens(SECRET, &json!([{"sub": "u1", "roles": ["admin"]}])).remove(0);
    let path = "/api/v1/admin/users";
    for name in ["access_token", "token", "jwt", "authorization"] {
        let refused = curl(&[&mainstay.url(&format!("{path}?{name}={token}"))]);
        judged_answer(&mainstay, name, &refused, 401, "login_required");
    }
    assert_eq!(get_with(&mainstay, path, &token).status, 200);
    assert_eq!(peer.holding("/admin/").len(), 1, "a refused request reached the app");
    assert!(!mainstay.verb(&["logs", "-n", "1000"]).all().contains(&token), "a token was written down");
}

#[test]
fn i7_a_client_names_neither_itself_nor_its_tenant() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "").ready("/");
    let token = tokens(SECRET, &json!([{"sub": "u1", "roles": ["user"], "tenant_id": "acme"}])).remove(0);
    let spellings = [
        "X-Tenant-Id",
        "x-tenant-id",
        "X_TENANT_ID",
        "X-Tenant_Id",
        "X.Tenant.Id",
        "X-User-Id",
        "X_USER_ROLES",
        "Mainstay-Identity",
        "mainstay_identity",
    ];
    for bearer in [None, Some(&token)] {
        let lines: String = spellings.iter().map(|name| format!("{name}: evil\r\n")).collect();
        let bearer = bearer.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        // What `Connection` names is dropped on the way; what the edge says itself must not be.
        let hop = "Connection: X-Tenant-Id, X-User-Id\r\n";
        let text = format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}{hop}{bearer}\r\n");
        let answer = wire::exchange(mainstay.edge(), text.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert!(!answer.text().contains("evil"), "{}", answer.text());
        let told: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let headers = told["headers"].as_array().expect("headers");
        let tenants: Vec<_> =
            headers.iter().filter(|pair| pair[0] == "x-tenant-id").map(|pair| pair[1].clone()).collect();
        let expected: Vec<Value> = if bearer.is_empty() { Vec::new() } else { vec!["acme".into()] };
        assert_eq!(tenants, expected);
    }
}

#[test]
fn i3_an_app_verifies_what_it_is_told_by_our_published_keys() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "").ready("/");
    let claims = json!([{"sub": "u1", "roles": ["user"], "tenant_id": "acme"}]);
    let token = tokens(SECRET, &claims).remove(0);
    let statement = seen(&get_with(&mainstay, "/open", &token), "mainstay-identity").remove(0);
    let verify = |statement: &str| {
        let told = fixtures::node_client("statement.js", &[&mainstay.url("/.mainstay/jwks.json"), "main", statement]);
        serde_json::from_str::<Value>(&told).expect("claims")
    };
    let claims = verify(&statement);
    assert_eq!((&claims["sub"], &claims["roles"], &claims["tenant"]), (&json!("u1"), &json!(["user"]), &json!("acme")));
    assert_eq!(claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat), Some(60));
    // A start later the key is the same, so an app that has it keeps believing.
    let mut mainstay = mainstay;
    mainstay.signal(Signal::SIGTERM);
    mainstay.end();
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    let told = fixtures::node_client("statement.js", &[&mainstay.url("/.mainstay/jwks.json"), "main", &statement]);
    assert!(told.contains("acme"), "{told}");
}

#[test]
fn c4_after_a_rotation_old_tokens_are_good_until_they_expire() {
    let peer = Peer::mirror();
    let old = tokens(OTHER, &json!([{"sub": "u1"}])).remove(0);
    let mainstay = guarded(&peer, "").ready("/");
    judged_answer(&mainstay, "old", &get_with(&mainstay, "/me", &old), 401, "token_invalid");
    let mainstay = guarded(&peer, "").env("JWT_SECRET_PREVIOUS", OTHER).ready("/");
    assert_eq!(seen(&get_with(&mainstay, "/me", &old), "x-user-id"), ["u1"]);
    let new = tokens(SECRET, &json!([{"sub": "u2"}])).remove(0);
    assert_eq!(seen(&get_with(&mainstay, "/me", &new), "x-user-id"), ["u2"]);
}

#[test]
fn c4_a_rotated_secret_is_taken_up_by_reload_and_old_tokens_stay_good() {
    let peer = Peer::mirror();
    let text = format!("{}[identity.verify]\n{GUARDED}", in_front_of(&[&peer]));
    let before = tokens(SECRET, &json!([{"sub": "u1"}])).remove(0);
    let after = tokens(OTHER, &json!([{"sub": "u2"}])).remove(0);
    let one = format!("JWT_SECRET={SECRET}\n");
    let mainstay = Setup::file(&text).write(".env", &one).env("NODE_ENV", "production").ready("/");
    let status = |token: &str| get_with(&mainstay, "/me", token).status;
    assert_eq!((status(&before), status(&after)), (200, 401));
    mainstay.write(".env", &format!("JWT_SECRET={OTHER}\nJWT_SECRET_PREVIOUS={SECRET}\n"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!((status(&before), status(&after)), (200, 200), "both are good while old tokens live");
    mainstay.write(".env", &format!("JWT_SECRET={OTHER}\n"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!((status(&before), status(&after)), (401, 200), "no core remembers what the old secret verified");
    let said = format!("{}{}", mainstay.said(), mainstay.verb(&["logs", "-n", "1000"]).all());
    assert!(!said.contains(SECRET) && !said.contains(OTHER), "a secret was written down");
}

#[test]
fn c4_production_on_the_development_value_is_told() {
    let setup = |environment: &str, own: &str| {
        let peer = Peer::mirror();
        Setup::file(&in_front_of(&[&peer]))
            .write(".env.development", &format!("# for our machines\nJWT_SECRET={SECRET}\n"))
            .env("JWT_SECRET", own)
            .env("NODE_ENV", environment)
            .verb(&["check"])
    };
    let told = setup("production", SECRET);
    assert_eq!(told.code, Some(0), "a strong one may be meant: {told:?}");
    let place = ".env.development:2";
    assert!(told.all().contains(place) && told.all().contains("mainstay secret JWT_SECRET"), "{told:?}");
    assert!(!told.all().contains(SECRET), "{told:?}");
    assert!(!setup("production", OTHER).all().contains(place), "another value is another's");
    assert!(!setup("development", SECRET).all().contains(place), "there it belongs");
}

#[test]
fn i7_requests_are_counted_by_tenant_and_never_by_a_clients_word() {
    let peer = Peer::mirror();
    let mainstay = guarded(&peer, "").ready("/");
    let claims: Vec<Value> = (0..1100).map(|n| json!({"sub": "u1", "tenant_id": format!("t{n}")})).collect();
    let tokens = tokens(SECRET, &json!(claims));
    let ask = |path: &str, lines: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: evil\r\n{lines}Connection: close\r\n\r\n");
        wire::exchange(mainstay.edge(), text.as_bytes()).expect("an answer").status
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for _ in 0..3 {
        assert_eq!(ask("/open", &bearer(&tokens[0])), 200);
    }
    assert_eq!(ask("/api/v1/admin/users", &bearer(&tokens[0])), 403);
    assert_eq!((ask("/open", ""), ask("/open", &bearer("x"))), (200, 200));
    let lines = || -> Vec<String> {
        let text = curl(&[&mainstay.url("/.mainstay/health/metrics")]).text();
        text.lines().filter(|line| line.starts_with("mainstay_tenant_requests_total{")).map(str::to_owned).collect()
    };
    let line = |status: u16, tenant: &str, count: u32| {
        format!("mainstay_tenant_requests_total{{status=\"{status}\",tenant=\"{tenant}\"}} {count}")
    };
    wait_until("the refusal to be counted", || lines().contains(&line(403, "t0", 1)));
    assert_eq!(lines(), [line(200, "t0", 3), line(403, "t0", 1)]);
    // Whoever may issue tokens may name any number of tenants; memory does not follow.
    for token in &tokens {
        assert_eq!(ask("/open", &bearer(token)), 200);
    }
    wait_until("the rest to be counted as one", || lines().iter().any(|line| line.contains("tenant=\"other\"")));
    assert!(lines().len() <= 1000, "{}", lines().len());
}

#[test]
fn i1_an_issuers_keys_are_fetched_and_followed_when_they_change() {
    let document: Arc<Mutex<(u16, String)>> = Arc::new(Mutex::new((503, String::new())));
    let published = document.clone();
    let issuer = Peer::with(move |_, out| {
        let (status, text) = published.lock().expect("lock").clone();
        answer(out, status, &[("content-type", "application/json")], text.as_bytes())
    });
    let peer = Peer::mirror();
    let jwks = format!("jwks = \"http://{}/jwks.json\"\nissuer = [\"https://issuer.example\"]", issuer.address);
    let mainstay = guarded(&peer, &jwks).ready("/");
    let issue = |kid: &str| {
        let claims =
            json!([{"sub": kid, "iss": "https://issuer.example"}, {"sub": kid, "iss": "https://other.example"}]);
        let signed = signed_by("tokens.js", &json!({ "kid": kid, "tokens": claims }));
        let token = |at: usize| signed["tokens"][at].as_str().expect("a token").to_owned();
        (token(0), token(1), signed["jwks"].to_string())
    };
    let (first, foreign, keys) = issue("k1");
    // The issuer is away: honest, and no reason to log anybody out.
    let unknown = get_with(&mainstay, "/me", &first);
    judged_answer(&mainstay, "no keys yet", &unknown, 503, "service_busy");
    *document.lock().expect("lock") = (200, keys);
    wait_until("the keys to be fetched", || get_with(&mainstay, "/me", &first).status == 200);
    judged_answer(&mainstay, "another issuer", &get_with(&mainstay, "/me", &foreign), 401, "token_invalid");
    // It goes away again: whoever is logged in stays so.
    *document.lock().expect("lock") = (500, String::new());
    assert_eq!(seen(&get_with(&mainstay, "/me", &first), "x-user-id"), ["k1"]);
    // Thousands of tokens that name keys nobody has do not become thousands of questions.
    let (stranger, _, _) = issue("k9");
    let before = issuer.all().len();
    for _ in 0..200 {
        assert_eq!(get_with(&mainstay, "/me", &stranger).status, 401);
    }
    assert!(issuer.all().len() - before <= 2, "{} questions", issuer.all().len() - before);
}

#[test]
fn i3_a_guard_without_identity_and_an_identity_without_keys_are_faults_of_check() {
    let peer = Peer::mirror();
    let base = in_front_of(&[&peer]);
    for (lines, expected) in [
        ("[[route]]\nmatch = \"/a\"\nroles = [\"admin\"]\n", "nothing says how users are recognised"),
        ("[identity]\n", "says nothing of where users come from"),
        ("[identity.verify]\njwks = \"http://issuer.example/jwks\"\n", "without TLS"),
        ("[identity.verify]\nissuer = \"x\"\n", "names no key"),
        ("[identity.verify]\nsecret = \"short\"\n", "5 characters"),
    ] {
        let ended = Setup::file(&format!("{base}{lines}")).env("NODE_ENV", "production").verb(&["check"]);
        assert!(ended.code == Some(78) && ended.all().contains(expected), "{lines}: {ended:?}");
        assert!(ended.all().contains("mainstay.toml:"), "{lines}: no place\n{ended:?}");
    }
}
