//! Sessions by cookie (I5) and what keeps other people's pages from using them (I6), as curl and a browser see it.

use crate::support::{OFTEN, in_front_of, judged_answer};
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, fixtures, get, wait_until};
use mainstay_servers::Redis;
use mainstay_servers::postgres::Postgres;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SECRET: &str = "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e";
const SESSION_SECRET: &str = "aP6cM4jG1fH8dYs5BnT7rZ2wLq9Xv3Uk0z";
const PASSWORD: &str = "correct horse battery";
const ON: &str = "[identity]\naccounts = true\n[identity.sessions]\n\
                  [[route]]\nmatch = \"/me\"\nauth = \"required\"\n";

pub fn setup(peer: &Peer, more: &str) -> Setup {
    Setup::file(&format!("{}{ON}{OFTEN}{more}", in_front_of(&[peer])))
        .env("JWT_SECRET", SECRET)
        .env("SESSION_SECRET", SESSION_SECRET)
}

/// A browser's view of one Mainstay: its cookie, its token, where its pages are from.
pub struct Browser<'a> {
    mainstay: &'a Mainstay,
    pub cookie: String,
}

impl<'a> Browser<'a> {
    /// Registers, which is a login too, and keeps the cookie.
    #[track_caller]
    pub fn registered(mainstay: &'a Mainstay, email: &str) -> Browser<'a> {
        let answer = post(mainstay, "/api/v1/auth/register", &credentials(email), &[]);
        assert_eq!(answer.status, 201, "{answer:?}\n{}", answer.text());
        Browser { mainstay, cookie: pair(&session_cookie(&answer)) }
    }

    #[track_caller]
    fn logged_in(mainstay: &'a Mainstay, email: &str, more: &[&str]) -> Browser<'a> {
        let answer = post(mainstay, "/api/v1/auth/login", &credentials(email), more);
        assert_eq!(answer.status, 200, "{answer:?}\n{}", answer.text());
        Browser { mainstay, cookie: pair(&session_cookie(&answer)) }
    }

    pub fn at<'b>(&self, mainstay: &'b Mainstay) -> Browser<'b> {
        Browser { mainstay, cookie: self.cookie.clone() }
    }

    pub fn get(&self, path: &str) -> Answer {
        curl(&["-H", &format!("Cookie: {}", self.cookie), &self.mainstay.url(path)])
    }

    #[track_caller]
    fn token(&self) -> String {
        let answer = self.get("/api/v1/auth/csrf");
        assert_eq!(answer.status, 200, "{answer:?}\n{}", answer.text());
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// As a page of ours writes.
    pub fn asks(&self, method: &str, path: &str) -> Answer {
        let (origin, token) = (self.origin(), format!("X-CSRF-Token: {}", self.token()));
        self.with(method, path, &["-H", &origin, "-H", &token])
    }

    fn origin(&self) -> String {
        format!("Origin: http://{}", self.mainstay.edge())
    }

    fn with(&self, method: &str, path: &str, more: &[&str]) -> Answer {
        let (cookie, url) = (format!("Cookie: {}", self.cookie), self.mainstay.url(path));
        let mut words = vec!["-X", method, "-H", &cookie, "-d", "a=b"];
        words.extend_from_slice(more);
        words.push(&url);
        curl(&words)
    }

    #[track_caller]
    pub fn sessions(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/auth/sessions");
        assert_eq!(answer.status, 200, "{answer:?}\n{}", answer.text());
        answer.json()["sessions"].as_array().expect("a list").clone()
    }
}

fn credentials(email: &str) -> String {
    json!({ "email": email, "password": PASSWORD }).to_string()
}

fn post(mainstay: &Mainstay, path: &str, body: &str, more: &[&str]) -> Answer {
    let url = mainstay.url(path);
    let mut words = vec!["-H", "Content-Type: application/json", "-d", body];
    words.extend_from_slice(more);
    words.push(&url);
    curl(&words)
}

/// The one `Set-Cookie` of an answer that begins a session.
#[track_caller]
fn session_cookie(answer: &Answer) -> String {
    let set = answer.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value);
    // That of a browser that was let in before is no session's.
    let all: Vec<&String> = set.filter(|line| !line.contains("mainstay-device=")).collect();
    let [cookie] = all[..] else { panic!("not one cookie: {answer:?}") };
    cookie.clone()
}

/// `name=value` of it.
fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap_or_default().to_owned()
}

fn value(cookie: &str) -> &str {
    cookie.split_once('=').map_or("", |(_, value)| value)
}

fn headers_seen(answer: &Answer, name: &str) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}\n{}", answer.text());
    let told = answer.json();
    let all = told["headers"].as_array().expect("headers").clone();
    let own = all.iter().filter(|pair| pair[0] == name);
    own.map(|pair| pair[1].as_str().expect("a text").to_owned()).collect()
}

/// Turns back the time of every session in the store of a Mainstay that does not run.
fn used_before(mainstay: &Mainstay, seconds: u32) {
    let line = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                c.execute('UPDATE sessions SET seen_s = seen_s - ?', (int(sys.argv[2]),)); c.commit(); c.close()";
    let file = mainstay.path().join(".mainstay/mainstay.db");
    fixtures::python_script(line, &[&file.display().to_string(), &seconds.to_string()]);
}

#[test]
fn i5_the_cookie_is_one_that_scripts_and_strangers_cannot_have() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let browser = Browser::registered(&mainstay, "a@example.com");
    let answer = post(&mainstay, "/api/v1/auth/login", &credentials("a@example.com"), &[]);
    let cookie = session_cookie(&answer);
    let attributes: Vec<&str> = cookie.split("; ").skip(1).collect();
    assert_eq!(attributes, ["Max-Age=86400", "Path=/", "HttpOnly", "SameSite=Lax"], "{cookie}");
    assert!(cookie.starts_with("mainstay-session=") && value(&pair(&cookie)).len() == 43, "{cookie}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    // It counts like a token; the app is told who it is and never gets the cookie, its own cookies as they came.
    assert_eq!(get(&mainstay.url("/me")).status, 401);
    let own = format!("a=1; {};  connect.sid=s%3Axyz.abc; b=\"2\"", browser.cookie);
    let seen = curl(&["-H", &format!("Cookie: {own}"), &mainstay.url("/me")]);
    assert_eq!(headers_seen(&seen, "cookie"), ["a=1; connect.sid=s%3Axyz.abc; b=\"2\""]);
    assert_eq!(headers_seen(&seen, "x-user-id").len(), 1);
    assert_eq!(headers_seen(&seen, "mainstay-identity").len(), 1);
    // What is none of ours, twice over or cut, opens nothing and is no error.
    for cookie in ["mainstay-session=abc", &format!("{}x", browser.cookie), "mainstay-session="] {
        assert_eq!(curl(&["-H", &format!("Cookie: {cookie}"), &mainstay.url("/me")]).status, 401, "{cookie}");
        assert_eq!(curl(&["-H", &format!("Cookie: {cookie}"), &mainstay.url("/")]).status, 200, "{cookie}");
    }
    // A token decides alone, good or not.
    let both = browser.with("GET", "/me", &["-H", "Authorization: Bearer rubbish"]);
    judged_answer(&mainstay, "both", &both, 401, "token_invalid");
    // Neither the store nor the log knows the id.
    let id = value(&browser.cookie).as_bytes();
    for file in ["mainstay.db", "mainstay.db-wal"] {
        let store = std::fs::read(mainstay.path().join(".mainstay").join(file)).expect("the store");
        assert!(!store.windows(id.len()).any(|bytes| bytes == id), "the id is in {file}");
    }
    assert!(!mainstay.said().contains(value(&browser.cookie)));
}

#[test]
fn i5_in_production_it_goes_over_tls_alone_and_a_domain_is_the_files() {
    for (domain, expected) in [
        (None, "__Host-session=; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax; Secure"),
        (
            Some("example.com"),
            "__Secure-session=; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax; Domain=example.com; Secure",
        ),
    ] {
        let peer = Peer::mirror();
        let mut setup = setup(&peer, "").env("MAINSTAY_ENV", "production");
        if let Some(domain) = domain {
            setup = setup.env("COOKIE_DOMAIN", domain);
        }
        let mainstay = setup.ready("/");
        post(&mainstay, "/api/v1/auth/register", &credentials("a@example.com"), &[]);
        let answer = post(&mainstay, "/api/v1/auth/login", &credentials("a@example.com"), &[]);
        let cookie = session_cookie(&answer);
        assert_eq!(cookie.replace(value(&pair(&cookie)), ""), expected);
        let seen = curl(&["-H", &format!("Cookie: {}", pair(&cookie)), &mainstay.url("/me")]);
        assert_eq!(headers_seen(&seen, "x-user-id").len(), 1);
    }
}

#[test]
fn i5_it_rolls_for_a_day_and_survives_what_happens_to_the_server() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let cookie = Browser::registered(&mainstay, "a@example.com").cookie;
    // Killed: until the next server is there nobody is told that he is a stranger.
    kill(Pid::from_raw(mainstay.server()), Signal::SIGKILL).expect("kill the server");
    let ask = |mainstay: &Mainstay| curl(&["-H", &format!("Cookie: {cookie}"), &mainstay.url("/me")]);
    wait_until("the next server to know the session", || {
        let answer = ask(&mainstay);
        assert_ne!(answer.status, 401, "logged out by a crash: {answer:?}");
        answer.status == 200
    });

    // 23 hours later: it lives, and is told so.
    let mut mainstay = mainstay;
    mainstay.verb(&["stop"]).ok();
    mainstay.end();
    used_before(&mainstay, 23 * 3600);
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    mainstay.answering("/");
    let answer = ask(&mainstay);
    assert_eq!(answer.status, 200, "{answer:?}");
    let renewed = session_cookie(&answer);
    assert!(renewed.starts_with(&format!("{cookie}; Max-Age=86400; ")), "{renewed}");
    assert_eq!(ask(&mainstay).header("set-cookie"), None, "once a minute is enough");

    // Another 23: the day began anew with the last use.
    mainstay.verb(&["stop"]).ok();
    mainstay.end();
    used_before(&mainstay, 23 * 3600);
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    mainstay.answering("/");
    assert_eq!(ask(&mainstay).status, 200);

    mainstay.verb(&["stop"]).ok();
    mainstay.end();
    used_before(&mainstay, 24 * 3600);
    let mut mainstay = mainstay.again();
    mainstay.accepting();
    mainstay.answering("/");
    judged_answer(&mainstay, "a day unused", &ask(&mainstay), 401, "login_required");
}

#[test]
fn i5_a_login_begins_another_session_and_ends_the_one_before() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let before = Browser::registered(&mainstay, "a@example.com");
    assert_eq!(before.get("/me").status, 200);
    let cookie = format!("Cookie: {}", before.cookie);
    let after = Browser::logged_in(&mainstay, "a@example.com", &["-H", &cookie, "-H", &before.origin()]);
    assert_ne!(before.cookie, after.cookie);
    assert_eq!((before.get("/me").status, after.get("/me").status), (401, 200));
    // An id that somebody planted does not become a session by a login.
    let planted = format!("mainstay-session={}", "A".repeat(43));
    let own = Browser::logged_in(&mainstay, "a@example.com", &["-H", &format!("Cookie: {planted}")]);
    assert_ne!(own.cookie, planted);
    assert_eq!(curl(&["-H", &format!("Cookie: {planted}"), &mainstay.url("/me")]).status, 401);
}

#[test]
fn i5_a_user_sees_his_sessions_and_ends_them_at_once() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let desk = Browser::registered(&mainstay, "a@example.com");
    let phone = Browser::logged_in(&mainstay, "a@example.com", &["-A", "Phone/1"]);
    let lost = Browser::logged_in(&mainstay, "a@example.com", &["-A", "Lost/1"]);
    let stranger = Browser::registered(&mainstay, "b@example.com");

    let all = desk.sessions();
    assert_eq!(all.len(), 3, "{all:?}");
    let current: Vec<&Value> = all.iter().filter(|session| session["current"] == true).collect();
    assert!(current.len() == 1 && current[0]["agent"].as_str().is_some_and(|agent| agent.starts_with("curl/")));
    assert_eq!(current[0]["client"], "127.0.0.1");
    let of =
        |agent: &str| all.iter().find(|session| session["agent"] == agent).expect(agent)["id"].as_str().expect("id");
    let lost_path = format!("/api/v1/auth/sessions/{}", of("Lost/1"));
    assert!(!desk.get("/api/v1/auth/sessions").text().contains(value(&lost.cookie)), "a list of secrets");

    // Nobody ends another's, and the CSRF gate holds for this too.
    assert_eq!(stranger.asks("DELETE", &lost_path).status, 404);
    judged_answer(&mainstay, "no token", &desk.with("DELETE", &lost_path, &["-H", &desk.origin()]), 403, "csrf_token");
    assert_eq!(lost.get("/me").status, 200);
    assert_eq!(desk.asks("DELETE", &lost_path).status, 204);
    assert_eq!(lost.get("/me").status, 401, "at once");
    assert_eq!(desk.asks("DELETE", &lost_path).status, 404);

    let ended = desk.asks("DELETE", "/api/v1/auth/sessions");
    assert_eq!((ended.status, ended.json()), (200, json!({ "ended": 1 })));
    assert_eq!((phone.get("/me").status, desk.get("/me").status, stranger.get("/me").status), (401, 200, 200));
    assert_eq!(desk.sessions().len(), 1);
    // An end survives a crash of the server.
    kill(Pid::from_raw(mainstay.server()), Signal::SIGKILL).expect("kill the server");
    wait_until("the next server", || desk.get("/me").status == 200);
    assert_eq!((phone.get("/me").status, lost.get("/me").status), (401, 401));
    // Without a login there is nothing to see.
    for path in ["/api/v1/auth/sessions", "/api/v1/auth/csrf"] {
        assert_eq!(get(&mainstay.url(path)).status, 401, "{path}");
    }
}

#[test]
fn i5_redis_killed_logs_nobody_out_and_a_warning_says_so() {
    let peer = Peer::mirror();
    let mut redis = Redis::plain();
    let mainstay = setup(&peer, "[store]\nshared = \"redis\"\n").env("REDIS_URL", &redis.url()).ready("/");
    let browser = Browser::registered(&mainstay, "a@example.com");
    let kept = || redis_keys(&redis);
    wait_until("the session to be in Redis", || kept() == 1);
    redis.kill();
    wait_until("a server that misses Redis", || {
        let answer = browser.get("/me");
        assert_eq!(answer.status, 200, "logged out by Redis: {answer:?}");
        mainstay.verb(&["logs", "--level", "warn"]).out.contains("sessions are not shared for now")
    });
    // Logging in and out goes on.
    let other = Browser::logged_in(&mainstay, "a@example.com", &["-A", "Other/1"]);
    assert_eq!(other.get("/me").status, 200);
    let all = browser.sessions();
    let id = all.iter().find(|session| session["agent"] == "Other/1").expect("the other")["id"].as_str().expect("id");
    assert_eq!(browser.asks("DELETE", &format!("/api/v1/auth/sessions/{id}")).status, 204);
    assert_eq!(other.get("/me").status, 401);
    // It comes back with nothing; what is used goes back into it, what ended stays ended.
    redis.run();
    wait_until("the session to be in Redis again, and the end", || {
        assert_eq!(browser.get("/me").status, 200);
        redis_keys(&redis) == 2
    });
    assert_eq!(other.get("/me").status, 401);
}

fn redis_keys(redis: &Redis) -> usize {
    redis.cli(&["KEYS", "mainstay:session:*"]).lines().filter(|line| line.contains("mainstay:session:")).count()
}

#[test]
fn i5_an_end_on_one_node_is_one_on_the_other() {
    let peer = Peer::mirror();
    let (redis, postgres) = (Redis::plain(), Postgres::plain());
    let node = || {
        setup(&peer, "[store]\nshared = \"redis\"\ndurable = \"postgres\"\n")
            .env("REDIS_URL", &redis.url())
            .env("DATABASE_URL", &postgres.url())
            .ready("/")
    };
    let (one, other) = (node(), node());
    let here = Browser::registered(&one, "a@example.com");
    let there = here.at(&other);
    assert_eq!((here.get("/me").status, there.get("/me").status), (200, 200));
    // A token of one node is one of the other: `SESSION_SECRET` and the session are.
    assert_eq!(there.asks("POST", "/things").status, 200);
    let ended = Browser::logged_in(&one, "a@example.com", &[]).asks("DELETE", "/api/v1/auth/sessions");
    assert_eq!(ended.json()["ended"], 1);
    assert_eq!(here.get("/me").status, 401, "at once");
    let took = wait_until("the other node to know", || there.get("/me").status == 401);
    println!("the other node knew after {took:?}");
}

#[test]
fn i6_a_write_by_cookie_needs_a_page_of_ours_and_its_token() {
    let peer = Peer::mirror();
    let more = "[[route]]\nmatch = \"/hook\"\ncsrf = \"off\"\n[[route]]\nmatch = \"/form\"\ncsrf = \"origin\"\n\
                [edge.cors]\norigins = [\"https://spa.example\"]\ncredentials = true\n";
    let mainstay = setup(&peer, more).ready("/");
    let browser = Browser::registered(&mainstay, "a@example.com");
    let other = Browser::registered(&mainstay, "b@example.com");
    let (ours, token) = (browser.origin(), format!("X-CSRF-Token: {}", browser.token()));
    let xsrf = token.replace("X-CSRF", "X-XSRF");
    let foreign = format!("X-CSRF-Token: {}", other.token());
    let last = if token.ends_with('A') { "B" } else { "A" };
    let forged = format!("{}{last}", &token[..token.len() - 1]);
    let [ours, token, xsrf, foreign, forged] = [&ours, &token, &xsrf, &foreign, &forged].map(String::as_str);
    let evil = "Origin: https://evil.example";
    let same = "Sec-Fetch-Site: same-origin";
    for (name, path, headers, status, code) in [
        ("nothing", "/x", &[][..], 403, "cross_site"),
        ("a page of ours, no token", "/x", &[ours], 403, "csrf_token"),
        ("both", "/x", &[ours, token], 200, ""),
        ("the other name", "/x", &[ours, xsrf], 200, ""),
        ("the browser says so", "/x", &[same, token], 200, ""),
        ("another session's token", "/x", &[ours, foreign], 403, "csrf_token"),
        ("a forged token", "/x", &[ours, forged], 403, "csrf_token"),
        ("somebody else's page with the token", "/x", &[evil, token], 403, "cross_site"),
        ("no page at all", "/x", &["Origin: null", token], 403, "cross_site"),
        ("a sibling host", "/x", &["Sec-Fetch-Site: same-site", token], 403, "cross_site"),
        ("the browser says cross-site", "/x", &["Sec-Fetch-Site: cross-site", token], 403, "cross_site"),
        ("a page that CORS trusts", "/x", &["Origin: https://spa.example", token], 200, ""),
        ("the same, without the token", "/x", &["Origin: https://spa.example"], 403, "csrf_token"),
        ("off", "/hook", &[evil], 200, ""),
        ("origin: ours", "/form", &[ours], 200, ""),
        ("origin: another's", "/form", &[evil, token], 403, "cross_site"),
    ] {
        let words: Vec<&str> = headers.iter().flat_map(|header| ["-H", *header]).collect();
        let before = peer.asks().len();
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
            let answer = browser.with(method, path, &words);
            match code {
                "" => assert_eq!(answer.status, status, "{name} {method}: {answer:?}\n{}", answer.text()),
                code => {
                    let why = judged_answer(&mainstay, name, &answer, status, code);
                    assert!(why.contains("mainstay.toml:"), "{name}: no place in\n{why}");
                }
            }
        }
        let reached = peer.asks().len() - before;
        assert_eq!(reached, if code.is_empty() { 5 } else { 0 }, "{name}: what reached the app");
    }
    // Reading is free; a browser sees a page.
    assert_eq!(browser.with("GET", "/x", &["-H", evil]).status, 200);
    let page = browser.with("POST", "/x", &["-H", "Sec-Fetch-Mode: navigate", "-H", evil]);
    assert!(page.status == 403 && page.text().starts_with("<!doctype html>"), "{page:?}");
    // A token is of its session: after a login it is worth nothing.
    let cookie = format!("Cookie: {}", browser.cookie);
    let again = Browser::logged_in(&mainstay, "a@example.com", &["-H", &cookie, "-H", ours]);
    assert_eq!(again.with("POST", "/x", &["-H", ours, "-H", token]).status, 403);
    assert_eq!(again.asks("POST", "/x").status, 200);
}

#[test]
fn i6_who_brings_a_token_or_no_cookie_of_ours_is_left_alone() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let browser = Browser::registered(&mainstay, "a@example.com");
    let login = post(&mainstay, "/api/v1/auth/login", &credentials("a@example.com"), &[]);
    let bearer = format!("Authorization: Bearer {}", login.json()["accessToken"].as_str().expect("a token"));
    let evil = ["-H", "Origin: https://evil.example"];
    // A page cannot make a browser send this header to somebody else.
    assert_eq!(browser.with("POST", "/x", &["-H", &bearer, evil[0], evil[1]]).status, 200);
    // As `express-session` has it: the app's own session, its own matter.
    let own = "Cookie: connect.sid=s%3AxT1.q%2Bz; theme=dark";
    let answer = curl(&["-d", "a=b", "-H", own, evil[0], evil[1], &mainstay.url("/x")]);
    assert_eq!(headers_seen(&answer, "cookie"), ["connect.sid=s%3AxT1.q%2Bz; theme=dark"]);
    // A login needs no cookie, but not from somebody else's page: it would log its visitor in as somebody else.
    let refused = post(&mainstay, "/api/v1/auth/login", &credentials("a@example.com"), &evil);
    judged_answer(&mainstay, "a login from elsewhere", &refused, 403, "cross_site");
    // Without sessions there is no such gate.
    let text = format!("{}[identity]\naccounts = true\n", in_front_of(&[&peer]));
    let plain = Setup::file(&text).env("JWT_SECRET", SECRET).env("SESSION_SECRET", SESSION_SECRET).ready("/");
    let answer = post(&plain, "/x", "{}", &[evil[0], evil[1], "-H", &format!("Cookie: {}", browser.cookie)]);
    assert_eq!(headers_seen(&answer, "cookie"), [browser.cookie.as_str()], "nothing of ours is on");
    assert_eq!(get(&plain.url("/api/v1/auth/csrf")).status, 404);
}

/// A socket carries no token, so where it comes from decides.
#[test]
fn i6_a_socket_by_cookie_is_opened_by_a_page_of_ours_alone() {
    let peer = Peer::mirror();
    let mainstay = setup(&peer, "").ready("/");
    let browser = Browser::registered(&mainstay, "a@example.com");
    let socket = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let words = ["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", &origin];
        let words: Vec<&str> = words.into_iter().chain(["-H", "Sec-WebSocket-Version: 13"]).collect();
        let (cookie, url) = (format!("Cookie: {}", browser.cookie), mainstay.url("/socket"));
        let mut all = vec!["-H", &cookie, "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
        all.extend_from_slice(&words);
        all.push(&url);
        curl(&all)
    };
    judged_answer(&mainstay, "a socket from elsewhere", &socket("https://evil.example"), 403, "cross_site");
    // The mirror opens none: its answer shows that it was asked.
    assert_eq!(socket(&format!("http://{}", mainstay.edge())).status, 200);
}

/// A real browser: what it sends by itself, what it refuses to send, and what a page of somebody else's gets.
#[test]
fn i6_a_browser_writes_from_our_pages_and_not_from_anybody_elses() {
    let peer = Peer::with(|ask, out| {
        use mainstay_e2e::peer::answer;
        match (ask.method.as_str(), ask.path()) {
            ("GET", _) => answer(out, 200, &[("content-type", "text/html")], b"<!doctype html><title>app</title>"),
            _ => answer(out, 200, &[("content-type", "text/plain")], b"written"),
        }
    });
    let mainstay = setup(&peer, "").ready("/");
    post(&mainstay, "/api/v1/auth/register", &credentials("a@example.com"), &[]);
    // The same address by another name is another site.
    let target = mainstay.url("/transfer");
    let evil = Peer::with(move |_, out| {
        let page = format!(
            "<!doctype html><title>evil</title><form method=post action=\"{target}\"><input name=to value=me></form>"
        );
        mainstay_e2e::peer::answer(out, 200, &[("content-type", "text/html")], page.as_bytes())
    });
    let asked = json!({
        "app": mainstay.url(""),
        "evil": format!("http://localhost:{}", evil.address.port()),
        "email": "a@example.com",
        "password": PASSWORD,
    });
    let told: Value = serde_json::from_str(&fixtures::node_client("browser_sessions.js", &[&asked.to_string()]))
        .expect("what browser_sessions.js prints");
    assert_eq!(told["login"], 200, "{told:#}");
    assert_eq!(told["cookie"]["httpOnly"], true, "{told:#}");
    assert_eq!(told["cookie"]["sameSite"], "Lax", "{told:#}");
    assert_eq!(told["script_sees"], "", "a script reads the cookie: {told:#}");
    assert_eq!((&told["me"], &told["without_token"]), (&json!(200), &json!(403)), "{told:#}");
    assert_eq!((&told["with_token"], &told["with_token_body"]), (&json!(200), &json!("written")), "{told:#}");
    // A form of another site comes without the cookie (SameSite) and is nobody's; its script does not come at all.
    assert_eq!(told["evil_fetch"], "refused", "{told:#}");
    let posts: Vec<_> = peer.holding("/transfer").into_iter().filter(|ask| ask.method == "POST").collect();
    let with_user = posts.iter().filter(|ask| ask.header("x-user-id").is_some()).count();
    assert_eq!(with_user, 1, "only the page of ours wrote as somebody: {posts:?}");
    assert_eq!(told["still"], 200, "{told:#}");
    assert_eq!(told["logged_out"], 401, "{told:#}");
}
