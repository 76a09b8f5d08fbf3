//! `h2load` (Debian's `nghttp2-client`): many requests at once, every one of them answered, none failed or late.

use crate::http2::with_tls;
use crate::support::before;
use mainstay_e2e::peer::answer;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Mainstay, Peer};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

/// Ten clients, ten streams each.
const ALL_AT_ONCE: [&str; 6] = ["-c", "10", "-m", "10", "-t", "1"];
/// Small requests a run.
const REQUESTS: u32 = 20_000;
/// Large ones.
const LARGE: u32 = 200;
const LARGE_BYTES: usize = 1024 * 1024;

/// Answers `/large` with a MiB, everything else with the length of what was sent.
fn app() -> Peer {
    Peer::with(|ask, out| match ask.path() {
        "/large" => answer(out, 200, &[], &vec![b'x'; LARGE_BYTES]),
        _ => answer(out, 200, &[], ask.body.len().to_string().as_bytes()),
    })
}

/// Runs it; what it says at the end is judged word by word.
#[track_caller]
fn clean(url: &str, to: SocketAddr, requests: u32, more: &[&str]) {
    let (count, to) = (requests.to_string(), to.to_string());
    let mut load = Command::new("h2load");
    load.args(ALL_AT_ONCE).args(["-n", &count, "--connect-to", &to]).args(more).arg(url);
    let run = load.output();
    let run = run.expect("h2load, of Debian's nghttp2-client");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let told = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    println!("{url} {more:?}: {}", told("finished in"));
    let all = format!(
        "requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout"
    );
    assert_eq!(told("requests:"), all, "{said}{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(told("status codes:"), format!("status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
}

/// GET and POST, small and large, with a body as large as the answer.
#[track_caller]
fn all_clean(mainstay: &Mainstay, scheme: &str, to: SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // A name, so that TLS has one to ask for.
    let base = format!("{scheme}://api.example.com:{}", to.port());
    let (small, large) = (folder.join("small"), folder.join("large"));
    std::fs::write(&small, b"a body").expect("write");
    std::fs::write(&large, vec![b'y'; LARGE_BYTES]).expect("write");
    let (small, large) = (small.display().to_string(), large.display().to_string());
    clean(&format!("{base}/small"), to, REQUESTS, &[]);
    clean(&format!("{base}/small"), to, REQUESTS / 4, &["-d", &small]);
    clean(&format!("{base}/large"), to, LARGE, &[]);
    clean(&format!("{base}/large"), to, LARGE, &["-d", &large]);
    // A window of one frame, so that flow control stops every answer again and again.
    clean(&format!("{base}/large"), to, LARGE / 4, &["-w", "14", "-W", "14"]);
    assert!(!mainstay.said().contains("panicked"), "{}", mainstay.said());
}

#[test]
fn http2_h2load_is_clean_without_tls() {
    let peer = app();
    let mainstay = before(&peer);
    all_clean(&mainstay, "http", mainstay.edge());
}

#[test]
fn http2_h2load_is_clean_over_tls() {
    let (peer, tls) = (app(), Port::free());
    let mainstay = with_tls(&peer, &tls);
    all_clean(&mainstay, "https", SocketAddr::from((Ipv4Addr::LOCALHOST, tls.number)));
}
