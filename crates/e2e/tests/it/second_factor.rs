//! The second factor, as curl and an authenticator app see it: on SQLite and on Postgres, with tokens and with
//! sessions; a route that asks for it; what a crash and somebody who guesses change about it. The app's codes are
//! computed by Node, so ours are not held against themselves. And providers linked and taken off while logged in.

use crate::accounts::{
    PASSWORD, accounts, call, each, granted, joined, limited, login, orders, post, refused, seen, up,
};
use crate::oauth::{START, end, with_providers};
use crate::sessions::{Browser, setup};
use mainstay_e2e::idp::github;
use mainstay_e2e::{Answer, Mainstay, Peer, curl, fixtures, processes, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Administration with a second factor, beside the role.
const ADMIN: &str =
    "register_roles = [\"admin\"]\n[[route]]\nmatch = \"/api/v1/admin/users\"\nauth = \"second_factor\"\n";

fn shows(uri: &str, steps: i64) -> String {
    fixtures::node_client("totp.js", &[uri, &steps.to_string()]).trim().to_owned()
}

/// Adds an app; gives its address, the answer to its first code, and the recovery codes.
#[track_caller]
fn enrolled(mainstay: &Mainstay, token: &str) -> (String, Answer, Vec<String>) {
    let begun = call(mainstay, "POST", "second-factor", &json!({ "password": PASSWORD }), Some(token));
    assert_eq!(begun.status, 200, "{begun:?}\n{}", begun.text());
    let uri = begun.json()["uri"].as_str().expect("an address").to_owned();
    let code = json!({ "code": shows(&uri, 0) });
    let done = call(mainstay, "POST", "second-factor/confirm", &code, Some(token));
    assert_eq!(done.status, 200, "{done:?}\n{}", done.text());
    let codes = done.json()["recoveryCodes"].as_array().expect("codes").clone();
    (uri, done, codes.iter().filter_map(|code| code.as_str().map(str::to_owned)).collect())
}

#[track_caller]
fn ticket(mainstay: &Mainstay, email: &str) -> String {
    let waits = login(mainstay, email, PASSWORD);
    refused(&waits, 403, "second_factor_required");
    assert!(waits.header("set-cookie").is_none() && waits.json().get("accessToken").is_none(), "{waits:?}");
    waits.json()["ticket"].as_str().expect("a ticket").to_owned()
}

fn finish(mainstay: &Mainstay, ticket: &str, name: &str, code: &str) -> Answer {
    post(mainstay, "login/code", &json!({ "ticket": ticket, name: code }))
}

fn admin(mainstay: &Mainstay, token: &str) -> Answer {
    curl(&["-H", &format!("Authorization: Bearer {token}"), &mainstay.url("/api/v1/admin/users")])
}

/// ASVS 2.8, 4.3.1: nobody is in before the code, administration asks for it beside the role, and the app is told.
#[test]
fn i1_4_3_1_administration_asks_for_a_second_factor_beside_the_role() {
    each(ADMIN, |peer, mainstay| {
        let jo = joined(&mainstay, "jo@example.com");
        assert_eq!(orders(&mainstay, &jo.access).status, 200);
        refused(&admin(&mainstay, &jo.access), 403, "second_factor_required");
        let (uri, done, codes) = enrolled(&mainstay, &jo.access);
        let first = granted(&done);
        assert_eq!(orders(&mainstay, &jo.access).status, 401, "what was there before the factor is over");
        let told = admin(&mainstay, &first.access);
        assert_eq!(told.status, 200, "{told:?}");
        let statement = seen(&told, "mainstay-identity").expect("a statement");
        let claims =
            fixtures::node_client("access.js", &[&mainstay.url("/.mainstay/jwks.json"), "mainstay", &statement]);
        let claims: Value = serde_json::from_str(&claims).expect("claims");
        assert_eq!(claims["amr"], json!(["mfa"]), "{claims}");

        let asked = ticket(&mainstay, "jo@example.com");
        refused(&admin(&mainstay, &asked), 401, "token_invalid");
        refused(&finish(&mainstay, &asked, "code", "000000"), 401, "code_wrong");
        let second = granted(&finish(&mainstay, &asked, "code", &shows(&uri, 1)));
        assert_eq!(admin(&mainstay, &second.access).status, 200);
        let lost = ticket(&mainstay, "jo@example.com");
        let third = granted(&finish(&mainstay, &lost, "recoveryCode", &codes[0]));
        assert_eq!(admin(&mainstay, &third.access).status, 200);
        refused(&finish(&mainstay, &ticket(&mainstay, "jo@example.com"), "recoveryCode", &codes[0]), 401, "code_wrong");
        // A user of the same role without the factor comes nowhere near; one with the factor and no role neither.
        let eve = joined(&mainstay, "eve@example.com");
        refused(&admin(&mainstay, &eve.access), 403, "second_factor_required");
        let gone = mainstay.verb(&["accounts", "roles", "jo@example.com", "user"]);
        assert!(gone.all().contains("user"), "{gone:?}");
        let plain = ticket(&mainstay, "jo@example.com");
        let plain = granted(&finish(&mainstay, &plain, "recoveryCode", &codes[1]));
        refused(&admin(&mainstay, &plain.access), 403, "role_missing");
        let taken = mainstay.verb(&["accounts", "remove-factor", "jo@example.com"]);
        assert!(taken.all().contains("no second factor"), "{taken:?}");
        assert_eq!(login(&mainstay, "jo@example.com", PASSWORD).status, 200);

        let journal = mainstay.verb(&["journal", "--kind", "identity"]).ok();
        for what in ["second factor on", "recovery code used", "second factor off"] {
            assert!(journal.contains(what), "{what} in\n{journal}");
        }
        let logs = mainstay.verb(&["logs", "-n", "1000"]).all() + &mainstay.said();
        let secret = uri.split("secret=").nth(1).and_then(|rest| rest.split('&').next()).expect("a secret");
        for secret in [secret, &asked, &codes[0], &codes[5]] {
            assert!(!logs.contains(secret) && !journal.contains(secret), "a secret was written down");
        }
        assert!(peer.holding("/api/v1/auth/").is_empty());
    });
}

/// ASVS 2.8.4, 2.6.1: what was spent a moment before the server is killed stays spent.
#[test]
fn i1_2_8_4_a_code_that_was_taken_is_taken_after_kill_9() {
    each(ADMIN, |_, mainstay| {
        let jo = joined(&mainstay, "jo@example.com");
        let (uri, _, codes) = enrolled(&mainstay, &jo.access);
        let code = shows(&uri, 1);
        granted(&finish(&mainstay, &ticket(&mainstay, "jo@example.com"), "code", &code));
        granted(&finish(&mainstay, &ticket(&mainstay, "jo@example.com"), "recoveryCode", &codes[0]));
        let open = ticket(&mainstay, "jo@example.com");
        let server = mainstay.server();
        processes::signal(server, Signal::SIGKILL);
        wait_until("another server", || mainstay.find_server().is_some_and(|pid| pid != server));
        let answer = wait_for("the store of accounts", || {
            let answer = finish(&mainstay, &open, "code", &code);
            (answer.status != 503 && answer.status != 0).then_some(answer)
        });
        refused(&answer, 401, "code_wrong");
        refused(&finish(&mainstay, &open, "recoveryCode", &codes[0]), 401, "code_wrong");
        // The key that seals is still there, and so is the login that was begun.
        granted(&finish(&mainstay, &open, "recoveryCode", &codes[1]));
    });
}

/// By cookie: no session before the code, and the route that asks for it takes the session then.
#[test]
fn i5_2_8_a_session_begins_after_the_code_and_not_before() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "[[route]]\nmatch = \"/vault\"\nauth = \"second_factor\"\n").ready("/");
    let browser = Browser::registered(&mainstay, "jo@example.com");
    refused(&browser.get("/vault"), 403, "second_factor_required");
    let access = granted(&login(&mainstay, "jo@example.com", PASSWORD)).access;
    let (uri, done, _) = enrolled(&mainstay, &access);
    assert_eq!(browser.get("/me").status, 401, "the session of before is over");
    let cookies = |answer: &Answer| -> String {
        let lines = answer.headers.iter().filter(|(name, _)| name == "set-cookie");
        lines.filter_map(|(_, line)| line.split(';').next()).collect::<Vec<_>>().join("; ")
    };
    assert!(cookies(&done).contains("session="), "{done:?}");
    let asked = ticket(&mainstay, "jo@example.com");
    let finished = finish(&mainstay, &asked, "code", &shows(&uri, 1));
    let cookie = format!("Cookie: {}", cookies(&finished));
    assert_eq!(curl(&["-H", &cookie, &mainstay.url("/vault")]).status, 200, "{finished:?}");
}

/// L2: codes are limited like passwords.
#[test]
fn l2_l3_2_2_1_codes_are_limited_by_address() {
    let peer = Peer::mirror();
    let mainstay = up(limited(&peer, ""));
    let tries: Vec<u16> = (0..6).map(|_| finish(&mainstay, "x", "code", "000000").status).collect();
    assert_eq!(tries, [401, 401, 401, 401, 401, 429]);
}

/// ASVS 2.4.5: weak or sample values of the secret beside the salt are refused in production.
#[test]
fn c3_2_4_5_a_weak_secret_beside_the_salt_is_refused_in_production() {
    let peer = Peer::mirror();
    for (value, good) in
        [("k3J9xQ_7vZt", false), ("your-secret-key-here", false), ("wT5rQ8zLk2Vn9XbY3mHc6JfD1sGpA4eU", true)]
    {
        let setup = accounts(&peer, "password_secret = \"${PASSWORD_SECRET}\"");
        let checked = setup.env("MAINSTAY_ENV", "production").env("PASSWORD_SECRET", value).verb(&["check"]);
        assert_eq!(checked.code == Some(0), good, "{value}: {checked:?}");
        assert!(good || checked.all().contains("password_secret"), "{checked:?}");
        assert!(!checked.all().contains(value), "{checked:?}");
    }
}

/// ASVS 3.5.1, 2.2.3: a provider linked while logged in lets him in, is listed, told by mail, and taken off again; not
/// the last way in, and nobody else's.
#[test]
fn i4_3_5_1_a_provider_is_linked_while_logged_in_and_taken_off_again() {
    let peer = Peer::mirror();
    let user = json!({"id": 583_231, "login": "octocat", "name": null, "email": null});
    let hub = github(user, json!([{"email": "octo@example.com", "primary": true, "verified": true}]));
    let lines = "deliver = \"POST /internal/mail\"\n";
    let mainstay = with_providers(&peer, lines, &[("github", &format!("http://{}", hub.address))]);
    wait_until("the store of accounts", || curl(&[&mainstay.url("/api/v1/auth/me")]).status == 401);
    let (jo, eve) = (joined(&mainstay, "jo@example.com"), joined(&mainstay, "eve@example.com"));
    let ask = |method: &str, path: &str, body: Value, token: &str| call(&mainstay, method, path, &body, Some(token));
    let password = || json!({ "password": PASSWORD });
    let begin = |token: &str| {
        let begun = ask("POST", "providers/github", password(), token);
        assert_eq!(begun.status, 200, "{begun:?}\n{}", begun.text());
        let url = begun.json()["url"].as_str().expect("an address").to_owned();
        let state = url.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("a state").to_owned();
        let cookie = begun.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
        (format!("code=good&state={state}"), cookie)
    };
    assert_eq!(post(&mainstay, "providers/github", &password()).status, 401);
    refused(&ask("POST", "providers/github", json!({ "password": "wrong horse" }), &jo.access), 403, "password_wrong");
    refused(&ask("POST", "providers/nobody", password(), &jo.access), 404, "oauth_unknown_provider");
    let away = json!({ "password": PASSWORD, "returnTo": "https://evil.example/" });
    refused(&ask("POST", "providers/github", away, &jo.access), 400, "oauth_return_to");
    // Another browser has not the cookie; and the same one links once.
    let (query, cookie) = begin(&jo.access);
    let (_, other) = begin(&eve.access);
    refused(&end(&mainstay, "github", &query, &other), 400, "oauth_state");
    let linked = end(&mainstay, "github", &query, &cookie);
    assert_eq!((linked.status, linked.json()["linked"].as_str()), (200, Some("github")), "{linked:?}");
    refused(&end(&mainstay, "github", &query, &cookie), 400, "oauth_state");
    let mailed = wait_for("a mail", || peer.holding("\"kind\":\"provider_linked\"").pop());
    assert!(String::from_utf8_lossy(&mailed.body).contains("jo@example.com"));
    let shown = ask("GET", "providers", Value::Null, &jo.access).json();
    assert_eq!(shown["providers"][0]["name"], "github", "{shown}");
    assert_eq!(crate::oauth::login(&mainstay, "github", "good")["user"]["id"], json!(jo.user));
    // Eve cannot have it as well.
    let (query, cookie) = begin(&eve.access);
    refused(&end(&mainstay, "github", &query, &cookie), 409, "oauth_linked_elsewhere");
    // Begun before a logout everywhere, it links nothing.
    let (query, cookie) = begin(&eve.access);
    assert_eq!(ask("POST", "logout-all", json!({}), &eve.access).status, 204);
    refused(&end(&mainstay, "github", &query, &cookie), 403, "oauth_not_you");
    refused(&ask("DELETE", "providers/github", json!({}), &jo.access), 400, "body_invalid");
    assert_eq!(ask("DELETE", "providers/github", password(), &jo.access).status, 204);
    refused(&ask("DELETE", "providers/github", password(), &jo.access), 404, "not_linked");
    wait_for("a mail", || peer.holding("\"kind\":\"provider_unlinked\"").pop());
    // Whoever comes by the provider alone keeps it: nothing else would let him in.
    let octo = crate::oauth::login(&mainstay, "github", "good");
    assert_ne!(octo["user"]["id"], json!(jo.user));
    let token = octo["accessToken"].as_str().expect("a token");
    refused(&ask("DELETE", "providers/github", json!({}), token), 409, "last_way_in");
    assert!(curl(&[&mainstay.url(&format!("{START}github"))]).status == 302);
}

/// ASVS 3.3.4: logins by tokens, listed and ended one by one, with the password again.
#[test]
fn i2_3_3_4_logins_by_tokens_are_seen_and_ended_one_by_one() {
    each("", |_, mainstay| {
        let phone = joined(&mainstay, "jo@example.com");
        let laptop = granted(&login(&mainstay, "jo@example.com", PASSWORD));
        let eve = joined(&mainstay, "eve@example.com");
        let list = |token: &str| call(&mainstay, "GET", "logins", &Value::Null, Some(token)).json()["logins"].clone();
        let shown = list(&laptop.access);
        let all = shown.as_array().expect("logins");
        assert_eq!(all.len(), 2, "{shown}");
        assert!(all.iter().all(|one| one["agent"].as_str().is_some_and(|agent| agent.starts_with("curl/"))), "{shown}");
        assert!(all.iter().all(|one| one["client"] == "127.0.0.1"), "{shown}");
        let other = all.iter().find(|one| one["current"] == false).expect("the phone")["id"].clone();
        let path = format!("logins/{}", other.as_str().expect("an id"));
        let end = |token: &str, body: Value| call(&mainstay, "DELETE", &path, &body, Some(token));
        let password = json!({ "password": PASSWORD });
        refused(&end(&eve.access, password.clone()), 404, "no_login");
        refused(&end(&laptop.access, json!({})), 400, "body_invalid");
        assert_eq!(end(&laptop.access, password.clone()).status, 204);
        assert_eq!((orders(&mainstay, &phone.access).status, orders(&mainstay, &laptop.access).status), (401, 200));
        refused(&end(&laptop.access, password), 404, "no_login");
        assert_eq!(list(&laptop.access).as_array().map(Vec::len), Some(1));
        refused(&post(&mainstay, "refresh", &json!({ "refreshToken": phone.refresh })), 401, "refresh_invalid");
    });
}
