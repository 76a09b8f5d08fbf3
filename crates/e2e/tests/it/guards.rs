//! Guards against every spelling of a path: whatever a framework takes for the guarded path, nobody without a token
//! gets to its handler. The frameworks are real, and each spelling is tried on them bare first.

use crate::guards_corpus::{Spelling, all};
use crate::identity::{SECRET, tokens};
use mainstay_e2e::frames::{Client, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Next, RST_STREAM, frame};
use mainstay_e2e::handlers::{Framework, Handlers};
use mainstay_e2e::hpack::literal;
use mainstay_e2e::{Mainstay, Setup, curl, wire};
use serde_json::json;
use std::net::SocketAddr;

/// Each path is named exactly: nothing but the reading of the path keeps the handler.
const GUARDS: [&str; 6] = [
    "GET /api/v1/admin/tasks",
    "/api/v1/admin/users/:id",
    "/api/v1/@me",
    "/api/v1/büro",
    "/api/v1/kiosk/*",
    "DELETE /api/v1/things",
];

/// The handler says so in a header, whatever else became of the answer.
const REACHED: &str = "x-reached";

fn guarded(app: &Handlers) -> Mainstay {
    let routes: String =
        GUARDS.iter().map(|guard| format!("[[route]]\nmatch = \"{guard}\"\nroles = [\"admin\"]\n")).collect();
    let text = format!("[app.main]\nupstreams = [\"{}\"]\n[identity.verify]\n{routes}", app.address());
    Setup::file(&text).env("JWT_SECRET", SECRET).ready("/open")
}

fn reached(address: SocketAddr, bytes: &[u8]) -> bool {
    wire::exchange(address, bytes).is_ok_and(|response| response.header(REACHED).is_some())
}

/// The same over HTTP/2, as far as it can be said there.
fn reached_by_http2(address: SocketAddr, spelling: &Spelling) -> bool {
    let mut client = Client::open(address, &[]);
    let mut block = literal(b":method", spelling.method.as_bytes());
    for (name, value) in [(&b":scheme"[..], &b"http"[..]), (b":authority", b"a"), (b":path", &spelling.target)] {
        block.extend(literal(name, value));
    }
    for (name, value) in spelling.headers.lines().filter_map(|line| line.split_once(": ")) {
        block.extend(literal(name.to_ascii_lowercase().as_bytes(), value.as_bytes()));
    }
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    loop {
        match client.read() {
            Next::Frame(frame) if frame.kind == HEADERS => {
                let head = client.heads.read(&frame.payload).expect("a head");
                return head.iter().any(|(name, _)| name == REACHED);
            }
            Next::Frame(frame) if matches!(frame.kind, RST_STREAM | GOAWAY) => return false,
            Next::Frame(_) => {}
            Next::End => return false,
            Next::Silence => panic!("no answer to {}", spelling.shown()),
        }
    }
}

/// `routed`: how many spellings at least the framework takes for one of the guarded paths, so that the corpus bites.
#[track_caller]
fn holds(framework: Framework, routed: usize) {
    let app = Handlers::start(framework);
    let mainstay = guarded(&app);
    let all = all();
    let bare: Vec<&Spelling> = all.iter().filter(|spelling| reached(app.address(), &spelling.bytes(""))).collect();
    println!("{framework:?} takes {} of {} spellings for a guarded path", bare.len(), all.len());
    assert!(bare.len() >= routed, "{} of {}: the corpus lost its teeth", bare.len(), all.len());

    let before = app.count();
    let through: Vec<String> =
        all.iter().filter(|s| reached(mainstay.edge(), &s.bytes(""))).map(Spelling::shown).collect();
    assert!(through.is_empty(), "{framework:?} was reached without a token by\n{}", through.join("\n"));
    let through: Vec<String> =
        all.iter().filter(|s| reached_by_http2(mainstay.edge(), s)).map(Spelling::shown).collect();
    assert!(through.is_empty(), "{framework:?} was reached over HTTP/2 without a token by\n{}", through.join("\n"));
    assert_eq!(app.count(), before, "a handler was entered, and its answer lost");

    // The guards hold by what they ask, not by refusing everybody.
    let admin = tokens(SECRET, &json!([{"sub": "u1", "roles": ["admin"]}])).remove(0);
    let bearer = format!("Authorization: Bearer {admin}\r\n");
    let allowed = bare.iter().filter(|spelling| reached(mainstay.edge(), &spelling.bytes(&bearer))).count();
    println!("of these an administrator may use {allowed}");
    assert!(allowed >= routed / 2, "{allowed} of {}: an administrator is refused", bare.len());
    for path in ["/open", "/open/caf%C3%A9", "/open/a%20b", "/open/@x", "/open/%40x", "/open/A;b", "/open/a/../b"] {
        let answer = curl(&["--path-as-is", &mainstay.url(path)]);
        assert_eq!((answer.status, answer.text().as_str()), (404, "open"), "{path}: nobody guards this");
    }
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_express_4() {
    holds(Framework::Express4, 150);
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_express_5() {
    holds(Framework::Express5, 150);
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_fastify() {
    holds(Framework::Fastify, 150);
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_koa() {
    holds(Framework::Koa, 150);
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_flask() {
    holds(Framework::Flask, 150);
}

#[test]
fn i3_no_spelling_gets_round_a_guard_on_django() {
    holds(Framework::Django, 150);
}
