//! E9: the response cache, judged by what reaches the app and by what each client gets. An app here numbers its
//! answers, so that one given twice is seen.

use crate::support::{in_front_of, judged_answer, sent};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Answer, Ask, Connection, Mainstay, Peer, Setup, curl, get, wait_for, wait_until};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

/// An app that answers `/c/…` with these headers and a number that grows.
fn numbering(headers: &'static [(&'static str, &'static str)]) -> Peer {
    app(move |_, number, out| answer(out, 200, headers, format!("n{number}").as_bytes()))
}

/// An app whose `/c/…` is answered by `how`, which is told the number of the request.
fn app(how: impl Fn(&Ask, usize, &mut TcpStream) -> Then + Send + Sync + 'static) -> Peer {
    let count = AtomicUsize::new(0);
    Peer::with(move |ask, out| match ask.path().starts_with("/c") {
        true => how(ask, count.fetch_add(1, SeqCst), out),
        // Nothing of what the edge offers where the app has nothing.
        false => answer(out, if ask.path() == "/" { 200 } else { 404 }, &[], b"fine"),
    })
}

fn cached(peer: &Peer, route: &str) -> Mainstay {
    let file = format!("{}[[route]]\nmatch = \"/c/*\"\n{route}\n", in_front_of(&[peer]));
    Setup::file(&file).ready("/")
}

fn asked(peer: &Peer) -> usize {
    peer.asks().iter().filter(|ask| ask.path().starts_with("/c")).count()
}

fn with(mainstay: &Mainstay, path: &str, arguments: &[&str]) -> Answer {
    let url = mainstay.url(path);
    let mut all = arguments.to_vec();
    all.push(&url);
    curl(&all)
}

#[track_caller]
fn says(answer: &Answer, words: &str) {
    let status = answer.header("cache-status").unwrap_or_default();
    assert!(status.starts_with("mainstay; ") && status.contains(words), "{words}: {answer:?}");
}

/// Closed until it is opened; then whoever waits goes on.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<bool>, Condvar)>);

impl Door {
    fn open(&self) {
        *self.0.0.lock().expect("lock") = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().expect("lock");
        while !*open {
            let (next, timeout) = self.0.1.wait_timeout(open, mainstay_e2e::BOUND).expect("lock");
            open = next;
            if timeout.timed_out() {
                return;
            }
        }
    }
}

#[test]
fn e9_an_answer_that_says_for_how_long_is_given_again() {
    let peer = numbering(&[("Cache-Control", "max-age=600"), ("X-App", "1"), ("X-Request-Id", "apps-own")]);
    let mainstay = cached(&peer, "cache = true");
    let first = get(&mainstay.url("/c/a?x=1"));
    says(&first, "fwd=uri-miss; stored");
    assert_eq!(first.text(), "n0");
    let second = get(&mainstay.url("/c/a?x=1"));
    says(&second, "hit; ttl=");
    assert_eq!((second.status, second.text().as_str(), second.header("x-app")), (200, "n0", Some("1")));
    assert!(second.header("age").is_some_and(|age| age.parse::<u32>().is_ok_and(|age| age < 600)), "{second:?}");
    assert!(second.header("date").is_some(), "{second:?}");
    assert!(second.id().starts_with("r_") && second.id() != first.id(), "each answer has an id of its own");
    assert_ne!(second.header("x-request-id"), Some("apps-own"), "an id of another request was given out");
    let two = with(&mainstay, "/c/a?x=1", &["--http2-prior-knowledge"]);
    assert_eq!((two.version.as_str(), two.text().as_str()), ("2", "n0"));
    says(&two, "hit");
    let head = with(&mainstay, "/c/a?x=1", &["-I"]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("2")));
    says(&head, "hit");
    assert_eq!(asked(&peer), 1);
    for other in ["/c/a?x=2", "/c/a", "/c/A?x=1"] {
        says(&get(&mainstay.url(other)), "fwd=uri-miss");
    }
    assert_eq!(asked(&peer), 4);
    let host = with(&mainstay, "/c/a?x=1", &["-H", "Host: other.example"]);
    says(&host, "fwd=uri-miss");
    let line = wait_for("the access log", || {
        let out = mainstay.verb(&["logs", "--json"]).out;
        out.lines().find(|line| line.contains(&second.id())).map(str::to_owned)
    });
    assert!(line.contains("\"cache\":\"hit\""), "{line}");
}

#[test]
fn e9_nothing_is_stored_that_no_file_asks_for() {
    let peer = numbering(&[("Cache-Control", "public, max-age=600"), ("Cache-Tag", "a")]);
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    for number in 0..3 {
        let answer = get(&mainstay.url("/c/a"));
        assert_eq!(answer.text(), format!("n{number}"));
        assert_eq!((answer.header("cache-status"), answer.header("cache-tag")), (None, Some("a")));
    }
    let refused = mainstay.verb(&["cache", "purge", "--all"]);
    assert!(refused.code == Some(1) && refused.err.contains("cache = true"), "{}", refused.all());
    // On, but the app says nothing, and the file gives no freshness.
    let silent = numbering(&[("ETag", "\"a\""), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]);
    let mainstay = cached(&silent, "cache = true");
    for number in 0..2 {
        assert_eq!(get(&mainstay.url("/c/a")).text(), format!("n{number}"));
    }
    let mainstay = cached(&silent, "cache = \"60s\"");
    let first = get(&mainstay.url("/c/b")).text();
    assert_eq!(get(&mainstay.url("/c/b")).text(), first);
}

#[test]
fn e9_what_is_one_clients_own_is_never_anothers() {
    for (name, headers, asks) in [
        ("private", vec![("Cache-Control", "private, max-age=600")], vec![]),
        ("no-store", vec![("Cache-Control", "no-store, max-age=600")], vec![]),
        ("set-cookie", vec![("Cache-Control", "public, max-age=600"), ("Set-Cookie", "sid=secret")], vec![]),
        ("authorization", vec![("Cache-Control", "max-age=600")], vec!["-H", "Authorization: Bearer a"]),
        ("cookie", vec![("X-None", "1")], vec!["-H", "Cookie: sid=a"]),
        ("vary *", vec![("Cache-Control", "max-age=600"), ("Vary", "*")], vec![]),
        (
            "a client that wants nothing kept",
            vec![("Cache-Control", "max-age=600")],
            vec!["-H", "Cache-Control: no-store"],
        ),
    ] {
        let peer = app(move |_, number, out| answer(out, 200, &headers, format!("own{number}").as_bytes()));
        // A freshness of the file's: nothing but what the answer says keeps it from being stored.
        let mainstay = cached(&peer, "cache = \"600s\"");
        let own = with(&mainstay, "/c/me", &asks);
        assert_eq!(own.text(), "own0", "{name}");
        let stranger = get(&mainstay.url("/c/me"));
        assert_eq!(stranger.text(), "own1", "{name}: another client got it");
        assert!(!stranger.headers.iter().any(|(_, v)| v.contains("secret")) || name == "set-cookie");
    }
    // And the other way round: a page for nobody in particular is not given to who has a cookie.
    let peer = numbering(&[]);
    let mainstay = cached(&peer, "cache = \"600s\"");
    assert_eq!(get(&mainstay.url("/c/me")).text(), "n0");
    let known = with(&mainstay, "/c/me", &["-H", "Cookie: sid=a"]);
    assert_eq!(known.text(), "n1");
    says(&known, "fwd=bypass");
    assert_eq!(get(&mainstay.url("/c/me")).text(), "n0");
    // What the app itself calls public is for those with credentials too.
    let peer = numbering(&[("Cache-Control", "public, max-age=600")]);
    let mainstay = cached(&peer, "cache = true");
    assert_eq!(with(&mainstay, "/c/all", &["-H", "Authorization: Bearer a"]).text(), "n0");
    assert_eq!(with(&mainstay, "/c/all", &["-H", "Authorization: Bearer b"]).text(), "n0");
}

#[test]
fn e9_a_poisoned_request_poisons_nobody_elses_answer() {
    // The app shows every header and the body it got: whatever of them is not in the key would be seen by the next.
    let peer = app(|ask, _, out| {
        let text = format!("{} {} {}", ask.method, ask.head, String::from_utf8_lossy(&ask.body));
        answer(out, 200, &[("Cache-Control", "public, max-age=600")], text.as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    let headers = [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: evil",
        "X-Forwarded-Port: 666",
        "X-Forwarded-For: 6.6.6.6, evil",
        "X-Real-IP: evil",
        "Forwarded: for=evil;host=evil.example",
        "X-Forwarded-Server: evil.example",
        "X-Forwarded-Scheme: evil",
        "X-Forwarded-Prefix: /evil",
        "X-Forwarded-Evil: evil",
        "X-Host: evil.example",
        "X-Original-URL: /evil",
        "X-Rewrite-URL: /evil",
        "X-HTTP-Method-Override: EVIL",
        "X-Method-Override: EVIL",
        "X-HTTP-Host-Override: evil.example",
        "Front-End-Https: evil",
    ];
    for (number, header) in headers.iter().enumerate() {
        let path = format!("/c/poison-{number}");
        with(&mainstay, &path, &["-H", header]);
        let victim = get(&mainstay.url(&path));
        assert!(!victim.text().to_lowercase().contains("evil"), "{header}: {}", victim.text());
        let again = with(&mainstay, &path, &["-H", header]);
        assert_eq!(again.status, 200, "{header}");
        assert!(!get(&mainstay.url(&path)).text().to_lowercase().contains("evil"), "{header}, on a warm key");
    }
    for (name, arguments) in [
        ("fat", vec!["-X", "GET", "-d", "evil"]),
        ("host", vec!["-H", "Host: evil.example"]),
        ("method", vec!["-X", "EVIL"]),
        ("post", vec!["-X", "POST", "-d", "evil"]),
    ] {
        let path = format!("/c/{name}");
        with(&mainstay, &path, &arguments);
        let victim = get(&mainstay.url(&path));
        assert!(!victim.text().to_lowercase().contains("evil"), "{name}: {}", victim.text());
    }
    // The target may name another host than the field; the app and the key both see the target's.
    let raw = b"GET http://evil.example/c/target HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    sent(&mainstay, "absolute form", raw);
    assert!(!get(&mainstay.url("/c/target")).text().contains("evil"));
}

#[test]
fn e9_a_header_the_app_never_saw_does_not_choose_a_variant() {
    let peer = app(|ask, _, out| {
        let language = ask.header("accept-language").unwrap_or("none").to_string();
        let headers = [("Cache-Control", "max-age=600"), ("Vary", "Accept-Language")];
        answer(out, 200, &headers, language.as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    with(&mainstay, "/c/a", &["-H", "Connection: Accept-Language", "-H", "Accept-Language: de"]);
    assert_eq!(with(&mainstay, "/c/a", &["-H", "Accept-Language: de"]).text(), "de");
    assert_eq!(get(&mainstay.url("/c/a")).text(), "none");
}

#[test]
fn e9_variants_are_told_apart_by_vary() {
    let peer = app(|ask, number, out| {
        let language = ask.header("accept-language").unwrap_or("none");
        let headers = [("Cache-Control", "max-age=600"), ("Vary", "Accept-Language, Accept-Encoding")];
        answer(out, 200, &headers, format!("{language}{number}").as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    let language = |name: &str| with(&mainstay, "/c/a", &["-H", &format!("Accept-Language: {name}")]);
    assert_eq!(language("de").text(), "de0");
    let other = language("en");
    assert_eq!(other.text(), "en1");
    says(&other, "fwd=vary-miss; stored");
    assert_eq!((language("de").text(), language("en").text()), ("de0".into(), "en1".into()));
    // Whoever takes the same codings shares an answer, however that is written.
    let coding = |value: &str| with(&mainstay, "/c/b", &["-H", &format!("Accept-Encoding: {value}")]).text();
    let first = coding("gzip, br");
    assert_eq!(coding("br;q=0.8, gzip"), first);
    assert_ne!(coding("identity"), first);
}

#[test]
fn e9_conditions_and_ranges_are_answered_without_the_app() {
    let changed = "Sun, 06 Nov 1994 08:49:37 GMT";
    let peer = app(move |_, _, out| {
        let headers = [("Cache-Control", "max-age=600"), ("ETag", "\"v1\""), ("Last-Modified", changed)];
        answer(out, 200, &headers, b"0123456789")
    });
    let mainstay = cached(&peer, "cache = true");
    assert_eq!(get(&mainstay.url("/c/a")).status, 200);
    for header in ["If-None-Match: \"v0\", W/\"v1\"", "If-None-Match: *", &format!("If-Modified-Since: {changed}")] {
        let answer = with(&mainstay, "/c/a", &["-H", header]);
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{header}: {answer:?}");
        assert_eq!((answer.header("etag"), answer.header("content-length")), (Some("\"v1\""), None), "{answer:?}");
        says(&answer, "hit");
    }
    for (header, status, body) in [
        ("If-None-Match: \"v2\"", 200, "0123456789"),
        ("Range: bytes=2-4", 206, "234"),
        ("Range: bytes=-3", 206, "789"),
        ("Range: bytes=0-1,3-4", 200, "0123456789"),
        ("Range: bytes=99-", 416, ""),
    ] {
        let answer = with(&mainstay, "/c/a", &["-H", header]);
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{header}: {answer:?}");
    }
    let part = with(&mainstay, "/c/a", &["-H", "Range: bytes=2-4"]);
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(asked(&peer), 1);
    // Nothing stored: what is asked for in part is the app's to answer, and is not stored.
    let answer = with(&mainstay, "/c/b", &["-H", "Range: bytes=2-4"]);
    says(&answer, "fwd=uri-miss");
    assert!(!answer.header("cache-status").unwrap_or_default().contains("stored"), "{answer:?}");
}

#[test]
fn e9_what_is_stale_is_validated_and_a_304_freshens_it() {
    let peer = app(|ask, number, out| {
        let number = number.to_string();
        let headers =
            [("Cache-Control", "no-cache"), ("ETag", "\"v1\""), ("X-Number", number.as_str()), ("Set-Cookie", "s=1")];
        match ask.header("if-none-match") {
            Some("\"v1\"") => answer(out, 304, &headers, b""),
            _ => answer(out, 200, &headers[..3], b"body"),
        }
    });
    let mainstay = cached(&peer, "cache = true");
    says(&get(&mainstay.url("/c/a")), "fwd=uri-miss; stored");
    for number in ["1", "2"] {
        let answer = get(&mainstay.url("/c/a"));
        assert_eq!((answer.status, answer.text().as_str()), (200, "body"), "{answer:?}");
        assert_eq!(answer.header("x-number"), Some(number), "the 304's fields are the answer's");
        assert_eq!(answer.header("set-cookie"), Some("s=1"), "for who asked");
        says(&answer, "fwd=stale; fwd-status=304");
    }
    let client = with(&mainstay, "/c/a", &["-H", "If-None-Match: \"v1\""]);
    assert_eq!(client.status, 304, "{client:?}");
    let part = with(&mainstay, "/c/a", &["-H", "Range: bytes=1-2"]);
    assert_eq!((part.status, part.text().as_str()), (206, "od"));
    assert_eq!(asked(&peer), 5);
    assert!(peer.asks().iter().all(|ask| !ask.has("range")), "a range was asked of the app while it was validated");
}

#[test]
fn e9_a_stale_answer_is_given_at_once_while_it_is_asked_for_anew() {
    let door = Door::default();
    let inside = door.clone();
    // Old when it comes: stale from the first moment on, so that no test waits for time to pass.
    let peer = app(move |_, number, out| {
        if number == 1 {
            inside.pass();
        }
        let control = if number < 1 { "max-age=60, stale-while-revalidate=6000" } else { "max-age=6000" };
        answer(out, 200, &[("Cache-Control", control), ("Age", "100")], format!("n{number}").as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    assert_eq!(get(&mainstay.url("/c/a")).text(), "n0");
    for _ in 0..5 {
        let stale = get(&mainstay.url("/c/a"));
        assert_eq!(stale.text(), "n0", "the client waited for the refresh");
        says(&stale, "hit; ttl=-");
    }
    wait_until("the refresh to reach the app", || asked(&peer) == 2);
    door.open();
    wait_until("the new answer", || get(&mainstay.url("/c/a")).text() == "n1");
    assert_eq!(asked(&peer), 2, "one refresh for all");
    let log = mainstay.verb(&["logs", "--json"]).out;
    assert!(log.lines().filter(|line| line.contains("/c/a")).all(|line| !line.contains("\"status\":0")), "{log}");
}

#[test]
fn e9_a_stale_answer_is_better_than_an_error_where_that_is_allowed() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let peer = app(move |ask, number, out| match failing.load(SeqCst) {
        true => answer(out, 503, &[], b"down"),
        false => {
            let control = match ask.path() {
                "/c/strict" => "max-age=60, must-revalidate",
                _ => "max-age=60",
            };
            answer(
                out,
                200,
                &[("Cache-Control", control), ("Age", "100"), ("ETag", "\"a\"")],
                format!("n{number}").as_bytes(),
            )
        }
    });
    let mainstay = cached(&peer, "cache = true\nstale_if_error = \"1h\"\nretry = false");
    assert_eq!((get(&mainstay.url("/c/a")).text(), get(&mainstay.url("/c/strict")).status), ("n0".into(), 200));
    fails.store(true, SeqCst);
    let stale = get(&mainstay.url("/c/a"));
    assert_eq!((stale.status, stale.text().as_str()), (200, "n0"), "{stale:?}");
    says(&stale, "fwd=stale; fwd-status=503");
    assert_eq!(get(&mainstay.url("/c/strict")).status, 503, "must-revalidate");
    assert_eq!(get(&mainstay.url("/c/unknown")).status, 503);
    peer.stop();
    let stale = get(&mainstay.url("/c/a"));
    assert_eq!((stale.status, stale.text().as_str()), (200, "n0"), "the app is gone: {stale:?}");
    says(&stale, "detail=stale-if-error");
    assert!(get(&mainstay.url("/c/strict")).status >= 500);
}

/// Sends the same request on so many connections, and gives them.
fn crowd(mainstay: &Mainstay, count: usize, path: &str) -> Vec<Connection> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let all = (0..count).map(|_| {
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        connection.send(request.as_bytes()).expect("send");
        connection
    });
    all.collect()
}

#[test]
fn e9_fifty_clients_on_a_cold_key_are_one_request_to_the_app() {
    let door = Door::default();
    let inside = door.clone();
    let peer = app(move |_, number, out| {
        inside.pass();
        answer(out, 200, &[("Cache-Control", "max-age=600")], format!("n{number}").as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    let mut clients = crowd(&mainstay, 50, "/c/cold");
    wait_until("the first to reach the app", || asked(&peer) == 1);
    wait_until("all clients to be there", || {
        mainstay.verb(&["status", "--json"]).json()["connections"].as_u64().is_some_and(|n| n >= 50)
    });
    door.open();
    let mut waited = 0;
    for client in &mut clients {
        let response = client.response(false).expect("an answer");
        assert_eq!((response.status, response.text().as_str()), (200, "n0"));
        waited += usize::from(response.header("cache-status").is_some_and(|s| s.contains("collapsed")));
    }
    assert_eq!(asked(&peer), 1);
    println!("{waited} of 50 waited for the first");
    assert!(waited > 0, "nobody waited: was the first answered before the others came?");
}

#[test]
fn e9_a_first_answer_that_is_not_stored_or_breaks_off_holds_nobody_up() {
    let door = Door::default();
    let inside = door.clone();
    let peer = app(move |ask, number, out| match (ask.path(), number) {
        ("/c/own", _) => {
            if number == 0 {
                inside.pass();
            }
            answer(out, 200, &[("Cache-Control", "private")], format!("n{number}").as_bytes())
        }
        ("/c/cut", 20) => {
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 1000\r\n\r\n0123456789";
            let _ = out.write_all(head.as_bytes());
            Then::Close
        }
        _ => answer(out, 200, &[("Cache-Control", "max-age=600")], b"whole"),
    });
    let mainstay = cached(&peer, "cache = true\nretry = false");
    let mut clients = crowd(&mainstay, 20, "/c/own");
    wait_until("the first to reach the app", || asked(&peer) >= 1);
    door.open();
    let mut bodies: Vec<String> =
        clients.iter_mut().map(|client| client.response(false).expect("an answer").text()).collect();
    bodies.sort();
    bodies.dedup();
    assert_eq!((bodies.len(), asked(&peer)), (20, 20), "each has an answer of its own");
    let mut clients = crowd(&mainstay, 20, "/c/cut");
    let whole = clients.iter_mut().filter_map(|client| client.response(false).ok()).filter(|r| r.text() == "whole");
    assert_eq!(whole.count(), 19, "one saw the cut, the others an answer");
    assert_eq!(get(&mainstay.url("/c/cut")).text(), "whole");
}

#[test]
fn e9_only_what_came_whole_and_fits_is_stored() {
    let peer = app(|ask, number, out| {
        let control = "Cache-Control: max-age=600\r\n";
        let large = "x".repeat(40 * 1024);
        let text = match ask.path() {
            "/c/chunked" => format!(
                "HTTP/1.1 200 OK\r\n{control}Transfer-Encoding: chunked\r\n\r\n2\r\nn{number}\r\n\
                 3\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n"
            ),
            "/c/close" => format!("HTTP/1.1 200 OK\r\n{control}\r\nn{number}"),
            "/c/cut" => format!("HTTP/1.1 200 OK\r\n{control}Content-Length: 100\r\n\r\nn{number}"),
            "/c/cut-chunks" => {
                format!("HTTP/1.1 200 OK\r\n{control}Transfer-Encoding: chunked\r\n\r\n2\r\nn{number}\r\n")
            }
            "/c/empty" => format!("HTTP/1.1 200 OK\r\n{control}X-Number: {number}\r\nContent-Length: 0\r\n\r\n"),
            "/c/none" => format!("HTTP/1.1 204 No Content\r\n{control}X-Number: {number}\r\n\r\n"),
            "/c/large" => format!("HTTP/1.1 200 OK\r\n{control}Content-Length: {}\r\n\r\n{large}", large.len()),
            _ => format!(
                "HTTP/1.1 200 OK\r\n{control}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
                large.len()
            ),
        };
        let _ = out.write_all(text.as_bytes());
        if ask.path() == "/c/close" || ask.path().starts_with("/c/cut") { Then::Close } else { Then::Keep }
    });
    let mainstay = cached(&peer, "cache = true\n[edge.cache]\nsize = \"2MiB\"\nobject = \"32KiB\"");
    for (path, stored) in [
        ("/c/chunked", true),
        ("/c/empty", true),
        ("/c/none", true),
        ("/c/close", false),
        ("/c/cut", false),
        ("/c/cut-chunks", false),
        ("/c/large", false),
        ("/c/large-chunks", false),
    ] {
        let before = asked(&peer);
        let (first, second) = (get(&mainstay.url(path)), get(&mainstay.url(path)));
        let more = asked(&peer) - before;
        assert_eq!(more == 1, stored, "{path}: {more} requests {second:?}");
        if stored {
            assert_eq!(
                (first.status, &first.body, first.header("x-number")),
                (second.status, &second.body, second.header("x-number")),
                "{path}"
            );
            says(&second, "hit");
        }
        if path.contains("cut") {
            assert!(first.text().starts_with('n') && first.exit != 0, "what came before the cut: {first:?}");
        }
        if path.contains("large") {
            assert_eq!((first.body.len(), second.body.len()), (40 * 1024, 40 * 1024), "{path}");
        }
    }
    assert_eq!(get(&mainstay.url("/c/none")).header("content-length"), None);
    let two = with(&mainstay, "/c/chunked", &["--http2-prior-knowledge"]);
    assert!(two.text().ends_with("abc") && two.header("transfer-encoding").is_none(), "{two:?}");
}

#[test]
fn e9_a_client_that_leaves_leaves_nothing_half_stored() {
    let door = Door::default();
    let inside = door.clone();
    let peer = app(move |_, number, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: 4\r\n\r\nab");
        if number == 0 {
            inside.pass();
        }
        let _ = out.write_all(b"cd");
        Then::Keep
    });
    let mainstay = cached(&peer, "cache = true");
    let leaves = crowd(&mainstay, 1, "/c/a");
    wait_until("it to reach the app", || asked(&peer) == 1);
    drop(leaves);
    let stays = crowd(&mainstay, 1, "/c/a").pop().expect("one").response(false).expect("an answer");
    assert_eq!(stays.text(), "abcd");
    door.open();
}

#[test]
fn e9_a_client_that_does_not_read_keeps_nobody_from_an_answer_or_from_storing_it() {
    let peer = app(|_, number, out| {
        let body = number.to_string().repeat(7 << 20);
        answer(out, 200, &[("Cache-Control", "max-age=600")], body.as_bytes())
    });
    let mainstay = cached(&peer, "cache = true\n[edge.cache]\nsize = \"64MiB\"\nobject = \"16MiB\"");
    let stuck = crowd(&mainstay, 1, "/c/a");
    wait_until("it to reach the app", || asked(&peer) == 1);
    let with_host = |path: &str| with(&mainstay, path, &["-H", "Host: a.example"]);
    let second = with_host("/c/a");
    assert_eq!(
        (second.body.len(), second.body.first()),
        (7 << 20, Some(&b'1')),
        "it waited for ever, or for the first"
    );
    let third = with_host("/c/a");
    says(&third, "hit");
    assert_eq!(third.body.first(), Some(&b'1'));
    drop(stuck);
}

#[test]
fn e9_what_changes_something_makes_what_is_stored_stale() {
    let peer = app(|ask, number, out| match ask.method.as_str() {
        "GET" => answer(out, 200, &[("Cache-Control", "max-age=600")], format!("n{number}").as_bytes()),
        _ if ask.path() == "/c/fails" => answer(out, 500, &[], b"no"),
        _ if ask.path() == "/c/new" => answer(out, 201, &[("Location", "/c/list")], b""),
        _ => answer(out, 204, &[], b""),
    });
    let mainstay = cached(&peer, "cache = true");
    for path in ["/c/a", "/c/fails", "/c/list"] {
        get(&mainstay.url(path));
        assert!(says_hit(&mainstay, path), "{path}");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "EXTEND"] {
        let changed = with(&mainstay, "/c/a", &["-X", method]);
        says(&changed, "fwd=method");
        assert!(!says_hit(&mainstay, "/c/a"), "{method} changed it");
        assert!(says_hit(&mainstay, "/c/a"), "{method}");
    }
    with(&mainstay, "/c/a", &["-X", "OPTIONS"]);
    assert!(says_hit(&mainstay, "/c/a"), "OPTIONS changes nothing");
    with(&mainstay, "/c/fails", &["-X", "POST"]);
    assert!(says_hit(&mainstay, "/c/fails"), "what failed changed nothing");
    with(&mainstay, "/c/new", &["-X", "POST"]);
    assert!(!says_hit(&mainstay, "/c/list"), "the answer names it");
    // A route that caches GET alone is changed by the others all the same.
    let file = format!("{}[[route]]\nmatch = \"GET /c/*\"\ncache = true\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&file).ready("/");
    get(&mainstay.url("/c/a"));
    assert!(says_hit(&mainstay, "/c/a"));
    assert_eq!(with(&mainstay, "/c/a", &["-X", "POST"]).header("cache-status"), None);
    assert!(!says_hit(&mainstay, "/c/a"));
}

fn says_hit(mainstay: &Mainstay, path: &str) -> bool {
    get(&mainstay.url(path)).header("cache-status").is_some_and(|status| status.contains("; hit"))
}

#[test]
fn e9_a_client_may_ask_past_the_cache_or_for_nothing_else() {
    let peer = numbering(&[("Cache-Control", "max-age=600"), ("Age", "100")]);
    let mainstay = cached(&peer, "cache = true");
    let control = |path: &str, value: &str| with(&mainstay, path, &["-H", &format!("Cache-Control: {value}")]);
    let none = control("/c/a", "only-if-cached");
    judged_answer(&mainstay, "only-if-cached", &none, 504, "not_cached");
    assert_eq!(asked(&peer), 0);
    assert_eq!(get(&mainstay.url("/c/a")).text(), "n0");
    assert_eq!(control("/c/a", "only-if-cached").text(), "n0");
    for (number, value) in ["no-cache", "max-age=0", "max-age=50", "min-fresh=600"].iter().enumerate() {
        let answer = control("/c/a", value);
        assert_eq!(answer.text(), format!("n{}", number + 1), "{value}");
        says(&answer, "fwd=request; stored");
    }
    assert_eq!(with(&mainstay, "/c/a", &["-H", "Pragma: no-cache"]).text(), "n5");
    assert_eq!(get(&mainstay.url("/c/a")).text(), "n5", "what was fetched past it was stored");
    assert_eq!(control("/c/a", "max-age=200").text(), "n5");
}

#[test]
fn e9_answers_are_purged_by_path_by_prefix_and_by_tag() {
    let peer = app(|ask, number, out| {
        let tag = ask.path().trim_start_matches("/c/").replace('/', " ");
        let headers = [("Cache-Control", "max-age=600"), ("Cache-Tag", tag.as_str()), ("Surrogate-Key", "all")];
        answer(out, 200, &headers, format!("n{number}").as_bytes())
    });
    let mainstay = cached(&peer, "cache = true");
    let paths = ["/c/a", "/c/a?q=1", "/c/b/x", "/c/b/y"];
    let fill = || paths.iter().for_each(|path| drop(get(&mainstay.url(path))));
    let left = || paths.iter().filter(|path| says_hit(&mainstay, path)).count();
    fill();
    let answer = get(&mainstay.url("/c/a"));
    assert_eq!((answer.header("cache-tag"), answer.header("surrogate-key")), (None, None), "tags are the edge's alone");
    for (words, purged) in [
        (&["/c/a?q=1"][..], 1),
        (&["/c/a"], 2),
        (&["/c/b/*"], 2),
        (&["--tag", "b"], 2),
        (&["--tag", "all"], 4),
        (&["--all"], 4),
        (&["other.example/c/a"], 0),
        (&["127.0.0.1/c/*"], 4),
    ] {
        let mut arguments = vec!["cache", "purge"];
        arguments.extend_from_slice(words);
        assert_eq!(mainstay.verb(&arguments).ok().trim(), format!("purged {purged}"), "{words:?}");
        assert_eq!(left(), 4 - purged, "{words:?}");
        fill();
    }
    let status = mainstay.verb(&["cache", "--json"]).json();
    assert_eq!(
        (status["entries"].as_u64(), status["routes"][0]["route"].as_str()),
        (Some(4), Some("/c/*")),
        "{status}"
    );
    assert!(status["routes"][0]["hits"].as_u64().is_some_and(|hits| hits > 0), "{status}");
    assert!(mainstay.verb(&["cache"]).ok().contains("4 entries"));
    assert_eq!(mainstay.verb(&["cache", "purge"]).code, Some(2));
    assert_eq!(mainstay.verb(&["cache", "purge", "no-path"]).code, Some(1));
    let metrics = get(&mainstay.url("/metrics")).text();
    for line in
        ["mainstay_cache_requests_total{route=\"/c/*\",outcome=\"hit\"}", "mainstay_cache_entries{route=\"/c/*\"} 4"]
    {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let document = get(&mainstay.url("/api/v1/metrics")).json();
    assert!(document["cache"]["hitRate"].as_f64().is_some_and(|rate| rate > 0.0 && rate < 1.0), "{document}");
}

#[test]
fn e9_the_key_may_be_chosen_and_a_reload_changes_it() {
    let peer = numbering(&[("Cache-Control", "max-age=600")]);
    let mainstay = cached(&peer, "cache = true\ncache_key = [\"query:page\", \"header:X-Plan\"]");
    let text = |path: &str| get(&mainstay.url(path)).text();
    assert_eq!(text("/c/a?page=1&utm=1"), "n0");
    assert_eq!(text("/c/a?utm=2&page=1"), "n0");
    assert_eq!(text("/c/a?page=2"), "n1");
    assert_eq!(text("/c/a?p%61ge=3"), "n2", "a disguised parameter is no unknown one");
    assert_eq!(text("/c/a"), "n3");
    assert_eq!(with(&mainstay, "/c/a", &["-H", "X-Plan: gold"]).text(), "n4");
    assert_eq!(text("/c/a"), "n3");
    let off = format!("{}[[route]]\nmatch = \"/c/*\"\ncache = false\n", in_front_of(&[&peer]));
    mainstay.write("mainstay.toml", &off);
    mainstay.verb(&["reload"]).ok();
    let answer = get(&mainstay.url("/c/a"));
    assert_eq!((answer.text().as_str(), answer.header("cache-status")), ("n5", None));
    let bad = "cache = \"often\"\ncache_key = [\"cookie\"]\n[edge.cache]\nsize = \"1MiB\"\nobject = \"1MiB\"";
    let file = format!("{}[[route]]\nmatch = \"/c/*\"\n{bad}\n", in_front_of(&[&peer]));
    let refused = Setup::file(&file).args(&["check"]).ended();
    assert_eq!(refused.code, Some(78), "{}", refused.all());
    for words in ["\"60s\"", "header:NAME", "quarter"] {
        assert!(refused.all().contains(words), "{words}: {}", refused.all());
    }
}
