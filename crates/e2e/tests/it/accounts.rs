//! Accounts of the app's users: what a client with curl, or with npm's jose and fetch, sees of them, on SQLite and on
//! Postgres; what a crash, a flood and a thief change about it. The app is a mirror: it shows what reached it.

use crate::support::{OFTEN, in_front_of};
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, fixtures, processes, wait_for, wait_until};
use mainstay_servers::Postgres;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub const PASSWORD: &str = "correct horse battery";
const OTHER: &str = "another horse entirely";
const GUARDED: &str = "[[route]]\nmatch = \"/api/v1/admin/*\"\nroles = [\"admin\"]\n\
                       [[route]]\nmatch = \"GET /orders\"\nauth = \"required\"\n";

/// Accounts in front of a mirror, and no limits but those a test writes.
pub fn accounts(peer: &Peer, lines: &str) -> Setup {
    limited(peer, &format!("{lines}\n{GUARDED}{OFTEN}"))
}

/// With the limits that are there unasked.
pub fn limited(peer: &Peer, lines: &str) -> Setup {
    Setup::file(&format!("{}[identity]\naccounts = true\n{lines}", in_front_of(&[peer])))
}

/// The same with both stores, in turn.
pub fn each(lines: &str, test: impl Fn(&Peer, Mainstay)) {
    let peer = Peer::mirror();
    test(&peer, up(accounts(&peer, lines)));
    let postgres = Postgres::plain();
    let lines = format!("{lines}\n[store]\ndurable = \"postgres\"");
    test(&peer, up(accounts(&peer, &lines).env("DATABASE_URL", &postgres.url())));
}

/// Ready with the store that accounts are in: until it is open the answer is an honest 503.
pub fn up(setup: Setup) -> Mainstay {
    let mainstay = setup.ready("/");
    wait_until("the store of accounts", || curl(&[&mainstay.url("/api/v1/auth/me")]).status == 401);
    mainstay
}

pub fn call(mainstay: &Mainstay, method: &str, path: &str, body: &Value, token: Option<&str>) -> Answer {
    let (url, body) = (mainstay.url(&format!("/api/v1/auth/{path}")), body.to_string());
    let bearer = format!("Authorization: Bearer {}", token.unwrap_or_default());
    let mut arguments = vec!["-X", method, "-H", "content-type: application/json", "-d", &body];
    if token.is_some() {
        arguments.extend(["-H", &bearer]);
    }
    arguments.push(&url);
    curl(&arguments)
}

pub fn post(mainstay: &Mainstay, path: &str, body: &Value) -> Answer {
    call(mainstay, "POST", path, body, None)
}

pub fn login(mainstay: &Mainstay, email: &str, password: &str) -> Answer {
    post(mainstay, "login", &json!({ "email": email, "password": password }))
}

#[track_caller]
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.json()["requestId"], answer.id(), "{answer:?}");
}

pub struct Login {
    pub user: String,
    pub access: String,
    pub refresh: String,
}

#[track_caller]
pub fn granted(answer: &Answer) -> Login {
    assert!(answer.status == 200 || answer.status == 201, "{answer:?}\n{}", answer.text());
    let body = answer.json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Login { user: text(&body["user"]["id"]), access: text(&body["accessToken"]), refresh: text(&body["refreshToken"]) }
}

#[track_caller]
pub fn joined(mainstay: &Mainstay, email: &str) -> Login {
    granted(&post(mainstay, "register", &json!({ "email": email, "password": PASSWORD })))
}

/// What a guarded route of the app answers this token.
pub fn orders(mainstay: &Mainstay, token: &str) -> Answer {
    curl(&["-H", &format!("Authorization: Bearer {token}"), &mainstay.url("/orders")])
}

pub fn seen(answer: &Answer, name: &str) -> Option<String> {
    let told = answer.json();
    let headers = told["headers"].as_array()?;
    headers.iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str()).map(str::to_owned)
}

/// I1: B's paths with curl; the app reads who asks, and jose verifies the token by our published key.
#[test]
fn i1_accounts_register_log_in_and_the_app_is_told_who_asks() {
    each("", |peer, mainstay| {
        let jo = joined(&mainstay, "Jo@Example.com");
        let told = orders(&mainstay, &jo.access);
        assert_eq!(seen(&told, "x-user-id").as_deref(), Some(jo.user.as_str()), "{told:?}");
        assert_eq!(seen(&told, "x-user-roles").as_deref(), Some("user"));
        assert!(seen(&told, "mainstay-identity").is_some());
        let again = granted(&login(&mainstay, "jo@example.com", PASSWORD));
        assert_eq!(again.user, jo.user);
        let wrong = login(&mainstay, "jo@example.com", OTHER);
        let stranger = login(&mainstay, "eve@example.com", PASSWORD);
        for answer in [&wrong, &stranger] {
            refused(answer, 401, "login_failed");
        }
        assert_eq!(wrong.json()["error"], stranger.json()["error"]);
        assert_eq!(curl(&[&mainstay.url("/api/v1/admin/users")]).status, 401);
        let forbidden = ["-H", &format!("Authorization: Bearer {}", jo.access), &mainstay.url("/api/v1/admin/users")];
        assert_eq!(curl(&forbidden).status, 403);
        let jwks = mainstay.url("/.mainstay/jwks.json");
        let claims = fixtures::node_client("access.js", &[&jwks, "mainstay:accounts", &jo.access]);
        let claims: Value = serde_json::from_str(&claims).expect("claims");
        assert_eq!((&claims["sub"], &claims["roles"]), (&json!(jo.user), &json!(["user"])));
        assert_eq!(claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat), Some(900));
        // What is ours reaches no app, and no password is written down.
        assert!(peer.holding("/api/v1/auth/").is_empty());
        let logs = mainstay.verb(&["logs", "-n", "1000"]).all();
        for secret in [PASSWORD, OTHER, &jo.access, &jo.refresh] {
            assert!(!logs.contains(secret) && !mainstay.said().contains(secret), "a secret was written down");
        }
    });
}

/// I2: rotated, a copy ends the login, and what is logged out is refused at once.
#[test]
fn i2_accounts_refresh_reuse_and_logout() {
    each("", |_, mainstay| {
        let first = joined(&mainstay, "jo@example.com");
        let refresh = |token: &str| post(&mainstay, "refresh", &json!({ "refreshToken": token }));
        let next = |token: &str| refresh(token).json()["refreshToken"].as_str().expect("a token").to_owned();
        let second = next(&first.refresh);
        let third = next(&second);
        refused(&refresh(&first.refresh), 401, "refresh_invalid");
        refused(&refresh(&third), 401, "refresh_invalid");
        assert_eq!(orders(&mainstay, &first.access).status, 401);

        let phone = granted(&login(&mainstay, "jo@example.com", PASSWORD));
        let laptop = granted(&login(&mainstay, "jo@example.com", PASSWORD));
        assert_eq!(call(&mainstay, "POST", "logout", &json!({}), Some(&phone.access)).status, 204);
        assert_eq!((orders(&mainstay, &phone.access).status, orders(&mainstay, &laptop.access).status), (401, 200));
        assert_eq!(call(&mainstay, "POST", "logout-all", &json!({}), Some(&laptop.access)).status, 204);
        assert_eq!(orders(&mainstay, &laptop.access).status, 401);
        refused(&refresh(&laptop.refresh), 401, "refresh_invalid");
        let journal = mainstay.verb(&["journal", "--kind", "identity"]).ok();
        for what in ["registered", "logged in", "refresh reused", "logged out", "logged out everywhere"] {
            assert!(journal.contains(what), "{what} in\n{journal}");
        }
        assert!(!journal.contains("jo@example.com"), "people appear by opaque id:\n{journal}");
    });
}

/// The whole life by a client in Node: register, an authorised call, 401 on expiry, refresh, change, delete.
#[test]
fn i1_i2_accounts_as_a_client_in_node_uses_them() {
    let peer = Peer::mirror();
    let mainstay = up(accounts(&peer, "access = \"2s\""));
    let told = fixtures::node_client("accounts.js", &[&mainstay.url(""), "jo@example.com", PASSWORD, OTHER]);
    let told: Value = serde_json::from_str(told.trim()).expect("what accounts.js prints");
    assert_eq!(told["ended"], "deleted", "{told}");
    assert!(told["refreshed"].as_u64().is_some_and(|times| times >= 1), "{told}");
}

/// Invariant 1: what was acknowledged a moment before the server is killed is there, and what was revoked stays so.
#[test]
fn i1_i2_accounts_and_revocations_survive_kill_9() {
    each("", |_, mainstay| {
        let jo = joined(&mainstay, "jo@example.com");
        for round in 0..3 {
            let email = format!("user{round}@example.com");
            let phone = granted(&login(&mainstay, "jo@example.com", PASSWORD));
            assert_eq!(call(&mainstay, "POST", "logout", &json!({}), Some(&phone.access)).status, 204);
            let new = joined(&mainstay, &email);
            let server = mainstay.server();
            processes::signal(server, Signal::SIGKILL);
            wait_until("another server", || mainstay.find_server().is_some_and(|pid| pid != server));
            // Honest while it does not know: never the app's answer for a token that was taken back.
            wait_for("the store of accounts", || match orders(&mainstay, &phone.access).status {
                401 => Some(()),
                503 | 0 => None,
                status => panic!("a revoked token was answered {status}"),
            });
            assert_eq!(orders(&mainstay, &new.access).status, 200);
            assert_eq!(granted(&login(&mainstay, &email, PASSWORD)).user, new.user);
        }
        assert_eq!(orders(&mainstay, &jo.access).status, 200, "nobody else was logged out");
        let next = post(&mainstay, "refresh", &json!({ "refreshToken": jo.refresh }));
        assert_eq!(next.status, 200, "{next:?}");
    });
}

/// Two hundred logins at once: few hashes at a time, the rest told to come again, and others are served meanwhile.
#[test]
fn i1_accounts_a_flood_of_logins_takes_no_memory() {
    let peer = Peer::mirror();
    let mainstay = up(accounts(&peer, ""));
    let jo = joined(&mainstay, "jo@example.com");
    let resident = || processes::resident(mainstay.server()).expect("the server's memory") / (1024 * 1024);
    let before = resident();
    let url = mainstay.url("/api/v1/auth/login");
    let told = std::thread::scope(|scope| {
        let flood = scope.spawn(|| fixtures::node_client("login_flood.js", &[&url, "200"]));
        let mut most = before;
        while !flood.is_finished() {
            assert_eq!(orders(&mainstay, &jo.access).status, 200, "somebody else was not served");
            most = most.max(resident());
        }
        (flood.join().expect("no panic"), most)
    });
    let (statuses, most) = told;
    let statuses: Value = serde_json::from_str(statuses.trim()).expect("what login_flood.js prints");
    println!("{statuses}, memory {before} MiB before and {most} MiB at most");
    let of = |status: &str| statuses[status].as_u64().unwrap_or(0);
    assert_eq!(of("401") + of("503") + of("429"), 200, "{statuses}");
    assert!(of("401") > 0 && of("503") > 0 && statuses["retryAfter"] == of("503"), "{statuses}");
    // Two hundred at once would be 3.8 GB.
    assert!(most - before < 160, "memory grew from {before} to {most} MiB");
    assert_eq!(login(&mainstay, "jo@example.com", PASSWORD).status, 200);
}

/// An address proven and a password replaced by mail that the app sends; the path it gets them by is closed outside.
#[test]
fn i1_accounts_mail_goes_to_the_app_and_its_path_is_closed_to_others() {
    let peer = Peer::mirror();
    let lines = "verified = \"required\"\ndeliver = \"POST /internal/mail\"\npages = \"https://app.example.com\"";
    let mainstay = up(accounts(&peer, lines));
    let join = json!({ "email": "jo@example.com", "password": PASSWORD });
    assert_eq!(post(&mainstay, "register", &join).status, 202);
    let mail = |kind: &str| -> Value {
        wait_for(kind, || {
            let found = peer.holding(&format!("\"kind\":\"{kind}\"")).pop()?;
            assert_eq!((found.method.as_str(), found.path()), ("POST", "/internal/mail"));
            serde_json::from_slice(&found.body).ok()
        })
    };
    refused(&login(&mainstay, "jo@example.com", PASSWORD), 403, "address_unverified");
    let verify = mail("verify_address");
    let link = format!("https://app.example.com/verify-email?token={}", verify["token"].as_str().expect("a token"));
    assert_eq!(verify["url"], link);
    assert_eq!(post(&mainstay, "verify-email", &json!({ "token": verify["token"] })).status, 204);
    let jo = granted(&login(&mainstay, "jo@example.com", PASSWORD));
    let known = post(&mainstay, "forgot-password", &json!({ "email": "jo@example.com" }));
    let unknown = post(&mainstay, "forgot-password", &json!({ "email": "eve@example.com" }));
    assert_eq!((known.status, known.text()), (202, unknown.text()));
    let reset = mail("reset_password");
    let new = json!({ "token": reset["token"], "password": OTHER });
    assert_eq!(post(&mainstay, "reset-password", &new).status, 204);
    assert_eq!(orders(&mainstay, &jo.access).status, 401);
    assert_eq!(login(&mainstay, "jo@example.com", OTHER).status, 200);
    mail("password_changed");
    let before = peer.holding("/internal/mail").len();
    for path in [
        "/internal/mail",
        "/internal//mail",
        "/internal/./mail",
        "/INTERNAL/mail",
        "/internal/%6dail",
        "/internal/mail/",
    ] {
        let forged = curl(&["--path-as-is", "-d", "{\"kind\":\"x\"}", &mainstay.url(path)]);
        assert_eq!(forged.status, 404, "{path}: {forged:?}");
    }
    assert_eq!(peer.holding("/internal/mail").len(), before, "a stranger reached the path of mails");
    assert!(!mainstay.verb(&["logs", "-n", "1000"]).all().contains(reset["token"].as_str().expect("a token")));
}

/// B, N: a team moves over with its bcrypt hashes of cost 12; operators see and change accounts by a verb.
#[test]
fn i1_accounts_are_imported_with_bcrypt_hashes_and_operated_by_a_verb() {
    // "secret", as npm's bcrypt writes it.
    const HASH: &str = "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW";
    each("", |_, mainstay| {
        let of = |id: &str, email: &str, hash: &str| {
            json!({ "id": id, "email": email, "password_hash": hash, "roles": ["admin"] }).to_string()
        };
        let lines = [
            of("42", "jo@example.com", HASH),
            of("43", "ann@example.com", "5f4dcc3b5aa765d61d8327deb882cf99"),
            "{\"email\":".to_owned(),
        ];
        mainstay.write("users.jsonl", &lines.join("\n"));
        let file = mainstay.path().join("users.jsonl").display().to_string();
        let imported = mainstay.verb(&["accounts", "import", &file]);
        assert_eq!(imported.code, Some(1), "{imported:?}");
        assert!(imported.out.contains("1 taken over, 0 here already, 2 refused"), "{imported:?}");
        assert!(imported.all().contains("ann@example.com: neither a bcrypt hash") && !imported.all().contains("5f4d"));
        let shown = || mainstay.verb(&["accounts", "show", "42"]).json();
        assert_eq!(shown()["password"], "bcrypt");
        let jo = granted(&login(&mainstay, "jo@example.com", "secret"));
        assert_eq!((jo.user.as_str(), &shown()["password"]), ("42", &json!("argon2")));
        assert_eq!(login(&mainstay, "jo@example.com", "secret").status, 200);
        let admin = ["-H", &format!("Authorization: Bearer {}", jo.access), &mainstay.url("/api/v1/admin/users")];
        assert_eq!(curl(&admin).status, 200);

        mainstay.verb(&["accounts", "roles", "jo@example.com", "user,editor"]).ok();
        assert_eq!(curl(&admin).status, 401, "the roles of before are worth nothing");
        let next = post(&mainstay, "refresh", &json!({ "refreshToken": jo.refresh })).json();
        let access = next["accessToken"].as_str().expect("a token").to_owned();
        assert_eq!(seen(&orders(&mainstay, &access), "x-user-roles").as_deref(), Some("user,editor"));
        mainstay.verb(&["accounts", "revoke", "42"]).ok();
        assert_eq!(orders(&mainstay, &access).status, 401);
        assert!(mainstay.verb(&["accounts"]).ok().contains("jo@example.com"));
        assert_eq!(mainstay.verb(&["accounts", "delete", "42"]).code, Some(2));
        mainstay.verb(&["accounts", "delete", "42", "--yes"]).ok();
        assert!(mainstay.verb(&["accounts", "show", "42"]).all().contains("there is no account"));
        let journal = mainstay.verb(&["journal", "--kind", "identity", "--audit"]).ok();
        for line in ["imported 1 accounts", "42 roles user,editor", "42 deleted   by operator"] {
            assert!(journal.contains(line), "{line} in\n{journal}");
        }
    });
}

/// Q: what one node took back the other refuses; they share Postgres and the key of the app's secret.
#[test]
fn i2_accounts_a_revoked_token_is_refused_by_every_node() {
    let (peer, postgres) = (Peer::mirror(), Postgres::plain());
    let node = || {
        let lines = "sign = \"jwt_secret\"\n[store]\ndurable = \"postgres\"";
        let setup = accounts(&peer, lines).env("DATABASE_URL", &postgres.url());
        up(setup.env("JWT_SECRET", "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e"))
    };
    let (here, there) = (node(), node());
    let jo = joined(&here, "jo@example.com");
    assert_eq!(orders(&there, &jo.access).status, 200);
    assert_eq!(call(&here, "POST", "logout-all", &json!({}), Some(&jo.access)).status, 204);
    assert_eq!(orders(&here, &jo.access).status, 401);
    wait_until("the other node to hear of it", || orders(&there, &jo.access).status == 401);
    refused(&post(&there, "refresh", &json!({ "refreshToken": jo.refresh })), 401, "refresh_invalid");
}

/// Off, nothing of it is there: the paths are the app's. On, what is written wrong is told with its line.
#[test]
fn i1_accounts_are_off_until_the_file_says_so_and_faults_are_told() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    assert_eq!(curl(&["-d", "{}", &mainstay.url("/api/v1/auth/login")]).json()["target"], "/api/v1/auth/login");
    let mainstay = up(accounts(&peer, "issuer = \"https://api.example.com\""));
    let told = curl(&[&mainstay.url("/.mainstay/openid-configuration")]).json();
    assert_eq!(told["jwks_uri"], "https://api.example.com/.mainstay/jwks.json");
    let base = in_front_of(&[&peer]);
    for (lines, expected) in [
        ("[identity]\naccounts = true\nsign = \"jwt_secret\"\n", "there is no JWT_SECRET"),
        ("[identity]\naccounts = true\nverified = \"required\"\n", "nobody delivers the mail"),
        ("[identity]\naccounts = true\ndeliver = \"/mail\"\n", "POST and a path"),
        ("[identity]\naccounts = true\naccess = \"90d\"\n", "1s to 30d"),
        ("[identity]\naccounts = true\n[identity.verify]\njwks = \"https://a.example/k\"\n", "one of them, not both"),
    ] {
        let ended = Setup::file(&format!("{base}{lines}")).env("NODE_ENV", "production").verb(&["check"]);
        assert!(ended.code == Some(78) && ended.all().contains(expected), "{lines}: {ended:?}");
        assert!(ended.all().contains("mainstay.toml:"), "{lines}: no place\n{ended:?}");
    }
}

/// B: five logins and three registrations a minute of one address, unless the file says otherwise.
#[test]
fn l2_l3_accounts_logins_and_registrations_are_limited() {
    let peer = Peer::mirror();
    let mainstay = up(limited(&peer, ""));
    let statuses: Vec<u16> = (0..6).map(|_| login(&mainstay, "jo@example.com", PASSWORD).status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429]);
    let join = |number: u32| json!({ "email": format!("u{number}@example.com"), "password": PASSWORD });
    let statuses: Vec<u16> = (0..4).map(|number| post(&mainstay, "register", &join(number)).status).collect();
    assert_eq!(statuses, [201, 201, 201, 429]);
    let own = "[[route]]\nmatch = \"POST /api/v1/auth/login\"\nlimit = \"5/15m per ip\"\n";
    let mainstay = up(limited(&peer, own));
    for _ in 0..5 {
        assert_eq!(login(&mainstay, "jo@example.com", PASSWORD).status, 401);
    }
    let late = login(&mainstay, "jo@example.com", PASSWORD);
    assert!(late.status == 429 && late.json()["retryAfter"].as_u64().is_some_and(|s| s > 600), "{late:?}");
}
