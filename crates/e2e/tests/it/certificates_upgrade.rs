//! Upgrades in place under TLS: clients lose nothing, sessions are resumed or made anew, and of two servers one alone
//! orders certificates.

use crate::certificates::{House, listed};
use crate::http2::certificate;
use crate::support::static_app;
use crate::upgrade::{servers, under_way, upgraded};
use mainstay_e2e::ports::Port;
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::strict_tls::Way;
use mainstay_e2e::{Authority, Conduct, Connection, Mainstay, Manner, Setup, get, wait_until};
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

const ROUNDS: usize = 6;
const CONNECTIONS: usize = 40;

/// Two instances of the static app behind TLS for `api.example.com`.
fn started(tls: &Port) -> Mainstay {
    let text = format!(
        "{}\n[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n[edge.timeouts]\ndrain = \"10s\"\n\
         [tls.\"api.example.com\"]\ncert = \"api.pem\"\nkey = \"api.key\"\n",
        static_app("instances = 2"),
        tls.number
    );
    let setup = Setup::file(&text).without_port().own_binary();
    certificate(setup.path(), "api", "api.example.com");
    let mainstay = setup.spawn();
    wait_until("an answer over TLS", || resumed(tls, mainstay.path(), "-tls1_3", None).is_some());
    crate::support::ready_instances(&mainstay, 2);
    mainstay
}

/// One request of `openssl s_client`, with the session of this file where one is named; whether that was resumed. The
/// new session is left in `session`. `None`: no answer.
fn resumed(tls: &Port, folder: &Path, version: &str, session: Option<&str>) -> Option<bool> {
    let ask = "printf 'GET /number?n=7 HTTP/1.1\\r\\nHost: api.example.com\\r\\nConnection: close\\r\\n\\r\\n'";
    let old = session.map_or(String::new(), |name| format!("-sess_in {name}"));
    let script = format!(
        "{ask} | timeout 20 openssl s_client -connect 127.0.0.1:{} -servername api.example.com -CAfile api.pem \
         -verify_return_error -ign_eof {version} {old} -sess_out session",
        tls.number
    );
    let output = Command::new("sh").arg("-c").arg(script).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.expect("run openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answered = text.contains("HTTP/1.1 200") && text.contains("\r\n\r\n7");
    answered.then(|| text.contains("Reused, TLSv1."))
}

/// E7: HTTP/1.1 and HTTP/2 over TLS through upgrades: every request is answered.
#[test]
fn e7_r_upgrade_over_tls_loses_nothing() {
    let tls = Port::free();
    let mainstay = started(&tls);
    let edge = SocketAddr::from(([127, 0, 0, 1], tls.number));
    let way = Way::tls(edge, "api.example.com", &mainstay.path().join("api.pem"));
    let (one, two) = Load::over_tls(&way, CONNECTIONS, Mix::Both);
    for round in 0..ROUNDS {
        one.goes_on(200);
        two.goes_on(200);
        upgraded(&mainstay, round % 2 == 1);
    }
    one.goes_on(200);
    two.goes_on(200);
    let (one, two) = (one.finish(), two.finish());
    let (full, again) = way.handshakes();
    println!(
        "{ROUNDS} upgrades: {} requests of HTTP/1.1, {} of HTTP/2, {} of them for another connection; {full} full \
         handshakes, {again} resumed",
        one.sent, two.sent, two.unsent
    );
    one.all_answered();
    two.all_answered();
    assert!(two.unsent <= (CONNECTIONS * ROUNDS) as u64, "{} refused", two.unsent);
    // Each upgrade sends every connection elsewhere.
    assert!(full + again >= (ROUNDS * CONNECTIONS / 2) as u64, "{full} + {again} handshakes: nothing was upgraded");
}

/// E7: a session of the old server is unknown to the new one: a full handshake, no error; the next is resumed again.
#[test]
fn e7_r_upgrade_sessions_fall_back_to_a_full_handshake_and_are_resumed_again() {
    let tls = Port::free();
    let mainstay = started(&tls);
    let folder = mainstay.path();
    for version in ["-tls1_2", "-tls1_3"] {
        assert_eq!(resumed(&tls, folder, version, None), Some(false), "{version}: new");
        assert_eq!(resumed(&tls, folder, version, Some("session")), Some(true), "{version}: not resumed at all");
    }
    std::fs::copy(folder.join("session"), folder.join("before")).expect("copy");
    mainstay.verb(&["reload"]).ok();
    assert_eq!(resumed(&tls, folder, "-tls1_3", Some("before")), Some(true), "a reload forgot sessions");
    assert_eq!(resumed(&tls, folder, "-tls1_2", None), Some(false));
    std::fs::copy(folder.join("session"), folder.join("older")).expect("copy");
    upgraded(&mainstay, false);
    for (version, session) in [("-tls1_2", "older"), ("-tls1_3", "before")] {
        assert_eq!(resumed(&tls, folder, version, Some(session)), Some(false), "{version}: after the upgrade");
        assert_eq!(resumed(&tls, folder, version, Some("session")), Some(true), "{version}: never again");
    }
}

/// An upgrade up to where the old server still finishes: an idle connection keeps it.
fn half_upgraded(mainstay: &Mainstay, house: &House) -> Connection {
    let mut idle = Connection::open(SocketAddr::from(([127, 0, 0, 1], house.plain.number))).expect("connect");
    idle.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    idle.response(false).expect("an answer");
    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    mainstay.signal(Signal::SIGUSR2);
    wait_until("the new server to serve", || under_way(mainstay).is_some_and(|text| text.contains("taken over")));
    assert_eq!(servers(mainstay).len(), 2);
    idle
}

fn ordering(house: &House, authority: &Authority) -> Mainstay {
    let edge = "domains = [\"api.example.com\"]\n[edge.timeouts]\ndrain = \"120s\"";
    let mainstay = Setup::file(&house.file(edge, &authority.lines())).without_port().own_binary().spawn();
    let plain = format!("http://127.0.0.1:{}/", house.plain.number);
    wait_until("the plain address", || get(&plain).status == 200);
    mainstay
}

/// E8: an order under way is the new server's to make, at once and alone.
#[test]
fn e8_r_upgrade_an_order_under_way_is_made_by_the_new_server() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let silent = Conduct { silent: Some("/order-plz".to_owned()), ..Conduct::default() };
    let authority = Authority::before(&pebble, silent.clone());
    let mainstay = ordering(&house, &authority);
    wait_until("an order under way", || authority.asked("/order-plz").len() == 1);
    let idle = half_upgraded(&mainstay, &house);
    wait_until("the new server's order", || authority.asked("/order-plz").len() == 2);
    // Whoever asked before the upgrade is no longer there to hear it; pebble gets both.
    authority.conduct(Conduct::default());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let one = listed(&mainstay).remove(0);
    assert!(one["failures"] == 0 && one["last_error"].is_null(), "given up is not failed: {one}");
    assert_eq!(mainstay.said().matches("a certificate is in force").count(), 1, "{}", mainstay.said());
    assert_eq!((authority.asked("/order-plz").len(), servers(&mainstay).len()), (2, 2), "the old one ended too soon");
    drop(idle);
}

/// E8: while the old server finishes, the new one alone renews. It has what the old one got last.
#[test]
fn e8_r_upgrade_of_two_servers_one_renews() {
    let house = House::new();
    let pebble = house.pebble(&Manner { life_s: 30, ..Manner::default() });
    let authority = Authority::before(&pebble, Conduct::default());
    let mainstay = ordering(&house, &authority);
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let serial = || listed(&mainstay)[0]["serial"].as_str().map(str::to_owned);
    let first = serial();
    let idle = half_upgraded(&mainstay, &house);
    assert_eq!(serial(), first, "what the old one got was ordered again");
    wait_until("a renewal", || serial() != first);
    let second = serial();
    // The old one would have been due with the first of these.
    wait_until("the next", || serial() != second);
    assert_eq!(servers(&mainstay).len(), 2, "the old one ended too soon");
    assert_eq!(authority.asked("/order-plz").len(), 3, "two servers ordered");
    drop(idle);
}
