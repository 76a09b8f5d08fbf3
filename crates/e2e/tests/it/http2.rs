//! HTTP/2 by prior knowledge and over TLS, by curl and by a client of our own.

use crate::support::{in_front_of, judged, judged_answer};
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Mainstay, Peer, Setup, curl, get, wait_until};
use std::path::Path;

/// A certificate for this host, its own authority, written as `NAME.pem` and `NAME.key`.
pub fn certificate(folder: &Path, name: &str, host: &str) {
    let made = rcgen::generate_simple_self_signed(vec![host.to_string()]).expect("make a certificate");
    std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).expect("write");
    std::fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).expect("write");
}

/// Mainstay with TLS for `api.example.com` and `www.example.com` on a port of its own.
pub fn with_tls(peer: &Peer, tls: &Port) -> Mainstay {
    let text = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"api.example.com\"]\ncert = \"api.pem\"\nkey = \"api.key\"\n\
         [tls.\"www.example.com\"]\ncert = \"www.pem\"\nkey = \"www.key\"\n",
        in_front_of(&[peer]),
        tls.number
    );
    let setup = Setup::file(&text).without_port();
    certificate(setup.path(), "api", "api.example.com");
    certificate(setup.path(), "www", "www.example.com");
    let mainstay = setup.spawn();
    wait_until("the TLS listener", || std::net::TcpStream::connect(("127.0.0.1", tls.number)).is_ok());
    mainstay
}

fn over_tls(mainstay: &Mainstay, tls: &Port, host: &str, more: &[&str]) -> mainstay_e2e::Answer {
    let name = host.split('.').next().unwrap_or_default();
    let authority = mainstay.path().join(format!("{name}.pem"));
    let resolve = format!("{host}:{}:127.0.0.1", tls.number);
    let url = format!("https://{host}:{}/over-tls", tls.number);
    let authority = authority.to_str().expect("a path");
    let mut arguments = vec!["--cacert", authority, "--resolve", &resolve, &url];
    arguments.extend_from_slice(more);
    curl(&arguments)
}

#[test]
fn http2_with_prior_knowledge_is_served_beside_http1_on_one_port() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let answer = curl(&["--http2-prior-knowledge", "-d", "body", &mainstay.url("/two")]);
    assert_eq!((answer.status, answer.version.as_str()), (200, "2"), "{answer:?}");
    assert_eq!(answer.json()["length"], 4);
    assert_eq!(get(&mainstay.url("/one")).version, "1.1");
    let seen = peer.holding("/two").pop().expect("it reached the upstream");
    assert_eq!(seen.header("host"), Some(mainstay.edge().to_string().as_str()), "{}", seen.head);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(!seen.head.contains("\r\n:"), "a pseudo-header passed: {}", seen.head);
}

#[test]
fn http2_cookies_in_crumbs_reach_the_app_as_one_line() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let crumbs = ["--http2-prior-knowledge", "-H", "Cookie: a=1", "-H", "Cookie: b=2"];
    let url = mainstay.url("/crumbs");
    let mut arguments = crumbs.to_vec();
    arguments.push(&url);
    assert_eq!(curl(&arguments).status, 200);
    let seen = peer.holding("/crumbs").pop().expect("it reached the upstream");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"), "{}", seen.head);
}

#[test]
fn http2_refusals_have_their_code_and_their_trail() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let large = format!("X-Large: {}", "x".repeat(40 * 1024));
    let answer = curl(&["--http2-prior-knowledge", "-H", &large, &mainstay.url("/large")]);
    judged_answer(&mainstay, "large header", &answer, 431, "header_too_large");
    // By our own client: curl 7.88 loses an answer that comes before its upload has ended.
    let refused = mainstay_e2e::strict_h2::post(mainstay.edge(), "/huge", vec![b'x'; 11_000_000]);
    judged(&mainstay, "11 MB", &refused.expect("an answer"), 413, "body_too_large");
    assert!(peer.raw_holding("/huge").is_empty());
}

#[test]
fn http2_many_requests_at_once_on_one_connection_each_get_their_own_answer() {
    let mainstay = Setup::file(&crate::support::static_app("instances = 2")).ready("/");
    let load = mainstay_e2e::strict::Load::http2(mainstay.edge(), 50, mainstay_e2e::strict::Mix::Both);
    load.goes_on(500);
    load.finish().all_answered();
}

#[test]
fn e7_e16_tls_from_files_one_pair_a_host_http2_and_http1() {
    let (peer, tls) = (Peer::mirror(), Port::free());
    let mainstay = with_tls(&peer, &tls);
    for host in ["api.example.com", "www.example.com"] {
        let two = over_tls(&mainstay, &tls, host, &["--http2"]);
        assert_eq!((two.status, two.version.as_str()), (200, "2"), "{host}: {}\n{}", two.said, mainstay.said());
        let one = over_tls(&mainstay, &tls, host, &["--http1.1"]);
        assert_eq!((one.status, one.version.as_str()), (200, "1.1"), "{host}: {}", one.said);
        let thirteen = over_tls(&mainstay, &tls, host, &["--tlsv1.3"]);
        assert_eq!(thirteen.status, 200, "{host}: {}", thirteen.said);
        let twelve = over_tls(&mainstay, &tls, host, &["--tls-max", "1.2"]);
        assert_eq!(twelve.status, 200, "{host}: {}", twelve.said);
    }
    let old = over_tls(&mainstay, &tls, "api.example.com", &["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]);
    assert_ne!(old.exit, 0, "TLS 1.1 was accepted");
    let seen = peer.holding("/over-tls").pop().expect("it reached the upstream");
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"), "{}", seen.head);
}

#[test]
fn e16_a_replaced_certificate_is_taken_up_without_a_restart() {
    let (peer, tls) = (Peer::mirror(), Port::free());
    let mainstay = with_tls(&peer, &tls);
    assert_eq!(over_tls(&mainstay, &tls, "api.example.com", &[]).status, 200);
    let server = mainstay.server();
    certificate(mainstay.path(), "api", "api.example.com");
    mainstay.verb(&["reload"]).ok();
    wait_until("the new certificate to be served", || over_tls(&mainstay, &tls, "api.example.com", &[]).status == 200);
    assert_eq!(mainstay.server(), server, "a reload is no restart");
}

#[test]
fn e7_plain_http_on_a_tls_port_does_not_disturb_it() {
    let (peer, tls) = (Peer::mirror(), Port::free());
    let mainstay = with_tls(&peer, &tls);
    for _ in 0..5 {
        let plain = get(&format!("http://127.0.0.1:{}/plain", tls.number));
        assert_ne!(plain.status, 200);
    }
    assert_eq!(over_tls(&mainstay, &tls, "api.example.com", &[]).status, 200);
    assert!(peer.holding("/plain").is_empty());
}

#[test]
fn e16_a_certificate_that_does_not_fit_its_key_is_a_fault_that_names_the_file() {
    let peer = Peer::mirror();
    let text = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:1\", tls = true }}]\n\
         [tls.\"a.example.com\"]\ncert = \"a.pem\"\nkey = \"b.key\"\n",
        in_front_of(&[&peer])
    );
    let setup = Setup::file(&text).without_port();
    certificate(setup.path(), "a", "a.example.com");
    certificate(setup.path(), "b", "b.example.com");
    let ended = setup.ended();
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(ended.err.contains("b.key") || ended.err.contains("mainstay.toml:5"), "{}", ended.err);
    let missing = Setup::file(&text).without_port().ended();
    assert_eq!(missing.code, Some(78), "{}", missing.all());
    assert!(missing.err.contains("a.pem"), "{}", missing.err);
}
