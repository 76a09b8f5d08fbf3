//! What the edge does to answers: headers, CORS, the sticky cookie, compression. Only where a file asks for it.

use crate::support::{before, in_front_of};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl, get, wait_until};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};

fn with(peer: &Peer, lines: &str) -> Setup {
    Setup::file(&format!("{}{lines}", in_front_of(&[peer])))
}

/// Sets one of the headers itself, and one nobody asked for.
fn app() -> Peer {
    Peer::with(|_, out| {
        let headers = [("X-Frame-Options", "ALLOW-ME"), ("X-Powered-By", "Express"), ("Content-Type", "text/html")];
        answer(out, 200, &headers, b"page")
    })
}

#[test]
fn e12_one_switch_sets_helmets_headers_and_the_apps_own_win() {
    let peer = app();
    let file = "[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n[edge.headers]\nsecure = true\nreferrer_policy = false\n\
                [edge.headers.csp]\nscript = [\"self\", \"https://js.example.com\"]\nreport_only = true\n\
                [[route]]\nmatch = \"/admin/*\"\nheaders = { X-Robots-Tag = \"noindex\", X-Powered-By = false }\n";
    let mainstay = with(&peer, file).env("MAINSTAY_ENV", "production").ready("/");
    let told = get(&mainstay.url("/"));
    for (name, value) in [
        ("x-frame-options", Some("ALLOW-ME")),
        ("x-content-type-options", Some("nosniff")),
        ("x-xss-protection", Some("0")),
        ("referrer-policy", None),
        ("permissions-policy", Some("camera=(), microphone=(), geolocation=(), usb=()")),
        ("x-powered-by", Some("Express")),
        ("x-robots-tag", None),
        // Over plain HTTP it would be ignored, and is not sent.
        ("strict-transport-security", None),
    ] {
        assert_eq!(told.header(name), value, "{name}: {:?}", told.headers);
    }
    let policy = told.header("content-security-policy-report-only").unwrap_or_default();
    assert!(policy.contains("script-src 'self' https://js.example.com; ") && policy.contains("object-src 'none'"));
    assert_eq!(told.headers.iter().filter(|(name, _)| name == "x-frame-options").count(), 1);
    let tls = curl(&["-H", "X-Forwarded-Proto: https", &mainstay.url("/")]);
    assert_eq!(tls.header("strict-transport-security"), Some("max-age=31536000"));
    let admin = get(&mainstay.url("/admin/x"));
    assert_eq!((admin.header("x-robots-tag"), admin.header("x-powered-by")), (Some("noindex"), None));
    // Our own refusals have them too, and a policy of their own.
    let refused = curl(&["-H", "X: y", "-X", "CONNECT", "--request-target", "/", &mainstay.url("/")]);
    assert!(refused.status >= 400, "{refused:?}");
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"), "{:?}", refused.headers);
    assert!(refused.header("content-security-policy").is_some_and(|p| p.starts_with("default-src 'none'")));
}

#[test]
fn e12_nothing_is_added_that_no_file_asks_for() {
    let peer = app();
    for mainstay in [before(&peer), with(&peer, "").env("HELMET_ENABLED", "true").ready("/")] {
        let told = get(&mainstay.url("/"));
        let names: Vec<&str> = told.headers.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "content-length",
            "content-type",
            "mainstay-request-id",
            "x-frame-options",
            "x-powered-by",
            "x-request-id",
        ];
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
    }
}

fn preflight(mainstay: &Mainstay, path: &str, origin: &str) -> Answer {
    let origin = format!("Origin: {origin}");
    let asks = ["-H", "Access-Control-Request-Method: PUT", "-H", "Access-Control-Request-Headers: x-tenant"];
    curl(&[&["-X", "OPTIONS", "-H", &origin][..], &asks, &[&mainstay.url(path)]].concat())
}

#[test]
fn e13_a_preflight_is_answered_at_the_edge_and_another_origin_gets_nothing() {
    let peer = Peer::with(|_, out| {
        let own = [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Credentials", "true")];
        answer(out, 200, &own, b"ok")
    });
    let file = "[edge.cors]\ncredentials = true\nmax_age = \"1h\"\nexpose = [\"X-Total\"]\n\
                [[route]]\nmatch = \"/public/*\"\ncors = { origins = [\"*\"] }\n\
                [[route]]\nmatch = \"/own/*\"\ncors = false\n";
    let mainstay = with(&peer, file).env("CORS_ORIGIN", "https://www.example.com, https://app.example.com").ready("/");
    let allowed = preflight(&mainstay, "/flight", "https://app.example.com");
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example.com"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "x-tenant"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(allowed.header(name), Some(value), "{name}: {:?}", allowed.headers);
    }
    assert!(allowed.header("access-control-allow-methods").is_some_and(|m| m.contains("PUT")));
    for stranger in ["https://evil.example", "https://app.example.com.evil.example", "null"] {
        let refused = preflight(&mainstay, "/flight", stranger);
        assert!(!refused.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{:?}", refused.headers);
        let plain = curl(&["-H", &format!("Origin: {stranger}"), &mainstay.url("/")]);
        assert_eq!(plain.status, 200);
        assert!(!plain.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{:?}", plain.headers);
        assert_eq!(plain.header("vary"), Some("Origin"));
    }
    assert!(peer.holding("/flight").is_empty(), "the app was never asked");
    let plain = curl(&["-H", "Origin: https://www.example.com", &mainstay.url("/")]);
    let all: Vec<_> = plain.headers.iter().filter(|(name, _)| name == "access-control-allow-origin").collect();
    assert_eq!(all.len(), 1, "ours alone: {:?}", plain.headers);
    assert_eq!(all[0].1, "https://www.example.com");
    assert_eq!(plain.header("access-control-expose-headers"), Some("X-Total"));
    let public = curl(&["-H", "Origin: https://anybody.example", &mainstay.url("/public/x")]);
    assert_eq!(public.header("access-control-allow-origin"), Some("*"));
    assert_eq!(public.header("access-control-allow-credentials"), None);
    let own = curl(&["-H", "Origin: https://anybody.example", &mainstay.url("/own/x")]);
    assert_eq!(own.header("access-control-allow-credentials"), Some("true"), "the app's");
}

#[test]
fn e13_what_would_open_the_door_is_a_fault_of_check() {
    for (lines, word) in [
        ("origins = [\"http://localhost:3000\"]\n", "localhost"),
        ("origins = [\"*\"]\ncredentials = true\n", "credentials"),
        ("", "without an origin"),
    ] {
        let file =
            format!("environment = \"production\"\n[app.main]\nupstreams = [\"127.0.0.1:9\"]\n[edge.cors]\n{lines}");
        let ended = Setup::file(&file).args(&["check"]).ended();
        assert_eq!(ended.code, Some(78), "{file}\n{}", ended.all());
        assert!(ended.all().contains(word), "{file}\n{}", ended.all());
    }
}

fn sticky_cookie(answer: &Answer) -> Option<String> {
    let line = answer.header("set-cookie")?;
    line.split(';').next().map(str::to_owned)
}

#[test]
fn e5_a_signed_cookie_brings_a_client_back_to_its_instance() {
    let label = |name: &'static str| {
        Peer::with(move |ask, out| {
            let saw = ask.header("cookie").unwrap_or("none").to_owned();
            answer(out, 200, &[("X-By", name), ("X-Saw", &saw)], b"ok")
        })
    };
    let (one, two) = (label("one"), label("two"));
    let file = format!(
        "{}balance = \"sticky\"\nmax_fails = 1\n[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n",
        in_front_of(&[&one, &two])
    );
    let mainstay = Setup::file(&file).ready("/");
    let first = get(&mainstay.url("/"));
    let line = first.header("set-cookie").expect("a cookie").to_owned();
    for part in ["mainstay_main=", "Max-Age=86400", "Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains("Secure"), "{line}");
    let cookie = sticky_cookie(&first).expect("a cookie");
    let by = first.header("x-by").expect("who answered").to_owned();
    let again = |cookie: &str| curl(&["-H", &format!("Cookie: a=1; {cookie}; b=2"), &mainstay.url("/")]);
    for _ in 0..6 {
        let back = again(&cookie);
        assert_eq!(back.header("x-by"), Some(by.as_str()));
        assert_eq!(back.header("set-cookie"), None, "it knows already");
        assert_eq!(back.header("x-saw"), Some("a=1; b=2"), "the cookie is the edge's alone");
    }
    mainstay.verb(&["reload"]).ok();
    assert_eq!(again(&cookie).header("set-cookie"), None, "a reload changes nothing");
    // One letter changed: as no cookie, and a new one is given.
    let last = if cookie.ends_with('0') { "1" } else { "0" };
    let forged = format!("{}{last}", &cookie[..cookie.len() - 1]);
    assert!(sticky_cookie(&again(&forged)).is_some_and(|new| new != forged));
    let tls = curl(&["-H", "X-Forwarded-Proto: https", &mainstay.url("/")]);
    assert!(tls.header("set-cookie").is_some_and(|l| l.ends_with("; Secure")), "{:?}", tls.headers);
    // Its instance is gone: another serves, and says so.
    let gone = if by == "one" { &one } else { &two };
    gone.stop();
    wait_until("the other instance to take over", || {
        let moved = again(&cookie);
        moved.header("x-by").is_some_and(|now| now != by) && sticky_cookie(&moved).is_some_and(|new| new != cookie)
    });
}

const TEXT_BYTES: usize = 20_000;

fn texts() -> Peer {
    Peer::with(|ask, out| {
        let text = "all work and no play makes Jack a dull boy\n".repeat(500);
        let text = &text.as_bytes()[..TEXT_BYTES];
        match ask.path() {
            "/small" => answer(out, 200, &[("Content-Type", "text/plain")], &text[..1000]),
            "/image" => answer(out, 200, &[("Content-Type", "image/png")], text),
            "/events" => answer(out, 200, &[("Content-Type", "text/event-stream")], text),
            "/mine" => answer(out, 200, &[("Content-Type", "text/plain"), ("Content-Encoding", "x-own")], text),
            "/whole" => answer(out, 200, &[("Content-Type", "text/plain"), ("Cache-Control", "no-transform")], text),
            _ if ask.method == "HEAD" => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: {TEXT_BYTES}\r\n\r\n"
                );
                let _ = out.write_all(head.as_bytes());
                Then::Keep
            }
            _ => answer(out, 200, &[("Content-Type", "text/plain"), ("ETag", "\"a\"")], text),
        }
    })
}

#[test]
fn e15_answers_are_compressed_as_the_client_likes_it() {
    let peer = texts();
    let file = "[edge]\ncompress = true\n[[route]]\nmatch = \"/off/*\"\ncompress = false\n";
    let mainstay = with(&peer, file).ready("/");
    for http2 in ["--http1.1", "--http2-prior-knowledge"] {
        for (accept, coding) in
            [("gzip, deflate, br, zstd", "zstd"), ("gzip;q=0.5, br", "br"), ("gzip", "gzip"), ("*;q=0.1, gzip", "gzip")]
        {
            let accept = format!("Accept-Encoding: {accept}");
            let answer = curl(&[http2, "--compressed", "-H", &accept, &mainstay.url("/")]);
            assert_eq!(answer.header("content-encoding"), Some(coding), "{accept}: {:?}", answer.headers);
            assert_eq!(answer.body.len(), TEXT_BYTES, "{accept}: {}", answer.said);
            assert_eq!(answer.header("content-length"), None);
            assert_eq!(answer.header("etag"), Some("W/\"a\""));
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            let raw = curl(&[http2, "-H", &accept, &mainstay.url("/")]);
            assert!(raw.body.len() < TEXT_BYTES / 10, "{coding}: {} bytes", raw.body.len());
        }
    }
    for (path, accept, varies) in [
        ("/", "", true),
        ("/", "br;q=0, *;q=0", true),
        ("/", "identity, gzip;q=0.9", true),
        ("/small", "gzip", false),
        ("/image", "gzip", false),
        ("/events", "gzip", false),
        ("/whole", "gzip", false),
        ("/off/x", "gzip", false),
    ] {
        let answer = curl(&["-H", &format!("Accept-Encoding: {accept}"), &mainstay.url(path)]);
        assert_eq!(answer.header("content-encoding"), None, "{path} {accept:?}: {:?}", answer.headers);
        assert_eq!(answer.header("vary").is_some(), varies, "{path} {accept:?}: {:?}", answer.headers);
        assert!(answer.header("content-length").is_some(), "{path}: {:?}", answer.headers);
    }
    let mine = curl(&["-H", "Accept-Encoding: gzip", &mainstay.url("/mine")]);
    assert_eq!(mine.header("content-encoding"), Some("x-own"));
    let head = curl(&["-I", "-H", "Accept-Encoding: gzip", &mainstay.url("/")]);
    assert_eq!((head.header("content-encoding"), head.header("content-length")), (Some("gzip"), None));
    // HTTP/1.0 has no chunks: the length stays.
    let old = curl(&["--http1.0", "-H", "Accept-Encoding: gzip", &mainstay.url("/")]);
    assert_eq!((old.header("content-encoding"), old.body.len()), (None, TEXT_BYTES));
    let fetch = format!("fetch('{}').then(r => r.text()).then(t => console.log(t.length))", mainstay.url("/"));
    let node = Command::new("node").args(["-e", &fetch]).output().expect("run node");
    assert_eq!(String::from_utf8_lossy(&node.stdout).trim(), TEXT_BYTES.to_string());
}

#[test]
fn e15_without_being_asked_nothing_is_compressed() {
    let peer = texts();
    let mainstay = before(&peer);
    let answer = curl(&["-H", "Accept-Encoding: gzip, br, zstd", &mainstay.url("/")]);
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    assert_eq!((answer.header("etag"), answer.body.len()), (Some("\"a\""), TEXT_BYTES));
}

#[test]
fn e15_what_the_app_has_written_arrives_although_it_is_compressed() {
    let (go_on, told) = mpsc::sync_channel::<()>(8);
    let told = Mutex::new(told);
    let peer = Peer::with(move |ask, out| {
        if ask.path() != "/slowly" {
            return answer(out, 200, &[], b"fine");
        }
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 1..=3 {
            let line = format!("line {n}\n");
            let _ = out.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
            // The next line is written only after the client has seen this one.
            if told.lock().expect("lock").recv_timeout(mainstay_e2e::BOUND).is_err() {
                return Then::Close;
            }
        }
        let _ = out.write_all(b"0\r\n\r\n");
        Then::Keep
    });
    let mainstay = with(&peer, "[edge]\ncompress = true\n").ready("/");
    for coding in ["gzip", "br", "zstd"] {
        let mut client = Command::new("curl")
            .args(["-sN", "--compressed", "-H", &format!("Accept-Encoding: {coding}"), &mainstay.url("/slowly")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run curl");
        let mut out = client.stdout.take().expect("curl's output");
        for n in 1..=3 {
            let mut line = vec![0u8; format!("line {n}\n").len()];
            out.read_exact(&mut line).unwrap_or_else(|e| panic!("{coding}, line {n}: {e}"));
            assert_eq!(String::from_utf8_lossy(&line), format!("line {n}\n"), "{coding}");
            go_on.send(()).expect("the upstream waits");
        }
        assert!(client.wait().expect("curl ends").success(), "{coding}");
    }
}

#[test]
fn e15_a_compressed_answer_that_breaks_off_is_seen_to_break_off() {
    let peer = Peer::with(|ask, out| {
        if ask.path() != "/cut" {
            return answer(out, 200, &[], b"fine");
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 50000\r\n\r\n";
        let _ = out.write_all(head.as_bytes());
        let _ = out.write_all(&[b'x'; 20_000]);
        Then::Close
    });
    let mainstay = with(&peer, "[edge]\ncompress = true\n").ready("/");
    let answer = curl(&["--compressed", "-H", "Accept-Encoding: gzip", &mainstay.url("/cut")]);
    assert_ne!(answer.exit, 0, "curl must not take it for whole");
}
