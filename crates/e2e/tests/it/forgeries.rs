//! Forged tokens, and what a client says about itself, over HTTP/1.1 and HTTP/2; the app approached from the side.

use crate::identity::{SECRET, guarded, signed_by};
use crate::support::{as_ourselves, in_front_of, judged_answer};
use mainstay_e2e::frames::{Client, DATA, END_HEADERS, END_STREAM, HEADERS, frame};
use mainstay_e2e::hpack::literal;
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Mainstay, Peer, Setup, curl, wait_until, wire};
use serde_json::{Value, json};
use std::net::SocketAddr;

const PATH: &str = "/api/v1/admin/users";

/// The status, and what it carries, of a request with these fields over HTTP/2.
fn over_http2(address: SocketAddr, path: &str, fields: &[(&str, &str)], trailers: &[(&str, &str)]) -> (u16, Vec<u8>) {
    let mut client = Client::open(address, &[]);
    let told = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)];
    let block = |fields: &[(&str, &str)]| -> Vec<u8> {
        fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
    };
    let head = [block(&told), block(fields)].concat();
    if trailers.is_empty() {
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head));
    } else {
        client.send(&frame(HEADERS, END_HEADERS, 1, &head));
        client.send(&frame(DATA, 0, 1, b"x"));
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    let reply = client.answer(1);
    (reply.status(), reply.body)
}

/// Every forgery, on a route that wants an administrator.
#[track_caller]
fn none_is_believed(mainstay: &Mainstay, app: &Peer, told: &Value) {
    let forged = told["forged"].as_object().expect("forgeries");
    assert!(forged.len() > 60, "{}", forged.len());
    for (name, token) in forged {
        let bearer = format!("Bearer {}", token.as_str().expect("a token"));
        let refused = curl(&["-H", &format!("Authorization: {bearer}"), &mainstay.url(PATH)]);
        assert_eq!(refused.status, 401, "{name}: {refused:?}");
        let code = refused.json()["code"].clone();
        assert!(code == "token_invalid" || code == "token_expired" && name == "expired", "{name}: {code}");
        let (status, _) = over_http2(mainstay.edge(), PATH, &[("authorization", &bearer)], &[]);
        assert_eq!(status, 401, "{name} over HTTP/2");
        // Where nobody asks, it passes and names nobody.
        let passed = curl(&["-H", &format!("Authorization: {bearer}"), &mainstay.url("/open")]);
        assert_eq!(passed.status, 200, "{name}: {passed:?}");
        assert!(!passed.text().contains("\"x-user-id\""), "{name} names somebody: {}", passed.text());
    }
    assert!(app.holding("/admin/").is_empty(), "a forgery reached the app");
}

#[test]
fn i3_forged_tokens_open_nothing_over_http1_and_http2() {
    let app = Peer::mirror();
    let rules = "audience = [\"api\"]\nissuer = [\"https://issuer.example\"]";
    let told = signed_by("forge.js", &json!({ "secret": SECRET }));
    let mainstay = guarded(&app, rules).ready("/");
    none_is_believed(&mainstay, &app, &told);
    let honest = format!("Authorization: Bearer {}", told["honest"].as_str().expect("a token"));
    assert_eq!(curl(&["-H", &honest, &mainstay.url(PATH)]).status, 200, "nothing at all is believed");

    let told = signed_by("forge.js", &json!({}));
    let keys = told["jwks"].to_string();
    let issuer = Peer::with(move |_, out| answer(out, 200, &[("content-type", "application/json")], keys.as_bytes()));
    let app = Peer::mirror();
    let mainstay = guarded(&app, &format!("jwks = \"http://{}/jwks.json\"\n{rules}", issuer.address)).ready("/");
    let honest = format!("Authorization: Bearer {}", told["honest"].as_str().expect("a token"));
    wait_until("the keys to be fetched", || curl(&["-H", &honest, &mainstay.url("/me")]).status == 200);
    none_is_believed(&mainstay, &app, &told);
    assert!(issuer.all().iter().all(|ask| ask.path() == "/jwks.json"), "a token chose where keys are fetched");
}

#[test]
fn i3_a_token_counts_once_and_in_its_header_alone() {
    let app = Peer::mirror();
    let mainstay = guarded(&app, "").ready("/");
    let good = signed_by("forge.js", &json!({ "secret": SECRET }))["honest"].as_str().expect("a token").to_owned();
    let lines = |lines: &[String]| format!("GET {PATH} HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat());
    let bearer = |text: &str| format!("Authorization: {text}\r\n");
    for (name, lines, status) in [
        ("the honest one", lines(&[bearer(&format!("Bearer {good}"))]), 200),
        ("none", lines(&[]), 401),
        ("an empty one", lines(&[bearer("Bearer ")]), 401),
        ("twice the same", lines(&[bearer(&format!("Bearer {good}")), bearer(&format!("Bearer {good}"))]), 401),
        ("a good one after a bad one", lines(&[bearer("Bearer x"), bearer(&format!("Bearer {good}"))]), 401),
        ("a good one before another scheme", lines(&[bearer(&format!("Bearer {good}")), bearer("Basic dTpw")]), 401),
        ("two in one line", lines(&[bearer(&format!("Bearer {good}, Bearer {good}"))]), 401),
        ("with something behind it", lines(&[bearer(&format!("Bearer {good} x"))]), 401),
        ("another scheme", lines(&[bearer(&format!("Token {good}"))]), 401),
        ("without a scheme", lines(&[bearer(&good)]), 401),
        ("a cookie", lines(&[format!("Cookie: token={good}; access_token={good}\r\n")]), 401),
        ("another header", lines(&[format!("X-Access-Token: {good}\r\nProxy-Authorization: Bearer {good}\r\n")]), 401),
        ("an upgrade", lines(&["Connection: Upgrade\r\nUpgrade: websocket\r\n".to_owned()]), 401),
        ("a preflight", lines(&["Access-Control-Request-Method: GET\r\nOrigin: https://a\r\n".to_owned()]), 401),
        ("another spelling", lines(&[format!("X-Authorization: Bearer {good}\r\n")]), 401),
    ] {
        let answer = wire::exchange(mainstay.edge(), lines.as_bytes()).expect("an answer");
        assert_eq!(answer.status, status, "{name}: {}", answer.head);
    }
    let query = curl(&[&mainstay.url(&format!("{PATH}?access_token={good}&token={good}"))]);
    judged_answer(&mainstay, "in the address", &query, 401, "login_required");
    let bearer = format!("Bearer {good}");
    let twice = [("authorization", bearer.as_str()), ("authorization", "Bearer x")];
    assert_eq!(over_http2(mainstay.edge(), PATH, &twice, &[]).0, 401);
    assert_eq!(over_http2(mainstay.edge(), PATH, &[("x", "y")], &[("authorization", &bearer)]).0, 401, "a trailer");
    assert_eq!(app.holding("/admin/").len(), 1);
}

/// Each name in small letters, capitals, and with every mark that some server takes for a hyphen.
fn spellings() -> Vec<String> {
    let mut all = Vec::new();
    for name in ["x-user-id", "x-user-roles", "x-tenant-id", "mainstay-identity"] {
        for mark in ["-", "_", ".", "~", "!", "|", "'", "+"] {
            all.extend([name.replace('-', mark), name.to_ascii_uppercase().replace('-', mark)]);
        }
        all.extend([name.replacen('-', "_", 1), name.to_ascii_uppercase().replacen('-', "_", 1)]);
    }
    all
}

#[test]
fn i7_identity_headers_of_a_client_reach_no_app_over_http1_and_http2() {
    let app = Peer::mirror();
    let mainstay = guarded(&app, "").ready("/");
    let claims = json!([{"sub": "u1", "roles": ["user"], "tenant_id": "acme"}]);
    let token = signed_by("tokens.js", &json!({ "secret": SECRET, "tokens": claims }))["tokens"][0].clone();
    let bearer = format!("Bearer {}", token.as_str().expect("a token"));
    for given in [None, Some(bearer.as_str())] {
        let authorization = given.map(|bearer| format!("Authorization: {bearer}\r\n")).unwrap_or_default();
        for name in spellings() {
            for lines in [
                format!("{name}: evil\r\n"),
                format!("{name}: evil\r\n{name}: evil\r\n"),
                format!("Connection: {name}\r\n{name}: evil\r\n"),
            ] {
                let text = format!("GET /open HTTP/1.1\r\nHost: a\r\n{lines}{authorization}\r\n");
                let answer = wire::exchange(mainstay.edge(), text.as_bytes()).expect("an answer");
                assert_eq!(answer.status, 200, "{name}: {}", answer.head);
                assert!(!answer.text().contains("evil"), "{name}: {}", answer.text());
                assert_eq!(answer.text().contains("acme"), given.is_some(), "{name}: {}", answer.text());
            }
            let small = name.to_ascii_lowercase();
            let mut fields = vec![(small.as_str(), "evil")];
            fields.extend(given.map(|bearer| ("authorization", bearer)));
            let (status, body) = over_http2(mainstay.edge(), "/open", &fields, &[]);
            let body = String::from_utf8_lossy(&body);
            assert_eq!(status, 200, "{name} over HTTP/2");
            assert!(!body.contains("evil") && body.contains("acme") == given.is_some(), "{name} over HTTP/2: {body}");
        }
    }
    // A trailer is a field too, to whoever puts them together.
    let chunks = "1\r\nx\r\n0\r\nX-User-Id: evil\r\nX_Tenant_Id: evil\r\nX-Kept: yes\r\n\r\n";
    let head = "POST /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = wire::exchange(mainstay.edge(), format!("{head}{chunks}").as_bytes()).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.head);
    over_http2(mainstay.edge(), "/trailers", &[("te", "trailers")], &[("x-user-id", "evil"), ("x-kept", "yes")]);
    let asks: Vec<_> = app.all().into_iter().filter(|ask| ask.path() == "/trailers").collect();
    assert_eq!(asks.len(), 2);
    for ask in asks {
        assert!(!ask.trailers.iter().any(|(_, value)| value == "evil"), "{:?}", ask.trailers);
    }
}

#[test]
fn i3_in_production_a_child_that_others_can_reach_is_not_used() {
    let file = |bind: &str, more: &str| {
        let line = format!("exec python3 -m http.server $PORT --bind {bind}");
        format!("[app.main]\nrun = \"{line}\"\n{}{more}\n[identity.verify]\n", as_ourselves())
    };
    let start = |bind: &str, more: &str, environment: &str| {
        Setup::file(&file(bind, more)).env("JWT_SECRET", SECRET).env("NODE_ENV", environment).start()
    };
    let served = |mainstay: &Mainstay| mainstay.answering("/");
    let mainstay = start("0.0.0.0", "", "production");
    mainstay.says("exposed = true");
    assert!(mainstay.said().contains("0.0.0.0:"), "{}", mainstay.said());
    let status = mainstay.verb(&["status", "--json"]).json();
    assert_ne!(status["apps"][0]["instances"][0]["state"], "ready", "{status}");
    drop(mainstay);
    // Nobody else reaches it; or its file says that others may; or it is no production.
    served(&start("127.0.0.1", "", "production"));
    served(&start("0.0.0.0", "exposed = true", "production"));
    served(&start("0.0.0.0", "", "development"));
    // Without an identity there is nothing to walk round.
    let text = file("0.0.0.0", "").replace("[identity.verify]", "");
    served(&Setup::file(&text).env("NODE_ENV", "production").start());
    // What runs elsewhere is not ours to look at.
    let peer = Peer::mirror();
    let text = format!("{}[identity.verify]\n", in_front_of(&[&peer]));
    served(&Setup::file(&text).env("JWT_SECRET", SECRET).env("NODE_ENV", "production").start());
}
