//! `mainstay certificates revoke`: pebble is told, and another certificate is in force at once.

use crate::certificates::{Encrypted, House, listed};
use mainstay_e2e::{Authority, Conduct, Mainstay, Manner, get, processes, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

fn text(one: &Value, name: &str) -> String {
    one[name].as_str().unwrap_or_else(|| panic!("no {name} in {one}")).to_owned()
}

fn serial(mainstay: &Mainstay) -> String {
    text(&listed(mainstay)[0], "serial")
}

/// The authority says "revoked", why, and by the account that ordered; the next one has another key; an open
/// connection goes on; a line says what was done.
#[test]
fn e8_a_revoked_certificate_is_replaced_at_once_with_another_key() {
    let house = House::new();
    // A nonce in seven is refused: no reason to leave a stolen key in force.
    let pebble = house.pebble(&Manner { bad_nonces: 15, ..Manner::default() });
    let mainstay = house.started("domains = [\"api.example.com www.example.com\"]", &pebble.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let before = listed(&mainstay).remove(0);
    assert_eq!(pebble.status(&text(&before, "serial"))["Status"], "Valid");
    let mut open = Encrypted::open(house.tls.number);
    open.ask("/before");

    let revoke = ["certificates", "revoke", "www.example.com", "--reason", "key-compromise"];
    let said = mainstay.verb(&revoke).ok();
    assert!(said.contains("revoked by 127.0.0.1:") && said.contains("key-compromise"), "{said}");
    assert!(said.contains(&text(&before, "serial")) && said.contains("in force, from"), "{said}");
    let status = pebble.status(&text(&before, "serial"));
    assert_eq!(status["Status"], "Revoked", "{status}");
    assert_eq!(status["Reason"], 1, "key compromise by RFC 5280: {status}");
    let after = listed(&mainstay).remove(0);
    assert_ne!(after["pins"][0], before["pins"][0], "the key that was given away is still in use");
    assert_eq!((after["outlook"].as_str(), &after["names"]), (Some("good"), &before["names"]));
    assert_eq!(pebble.status(&text(&after, "serial"))["Status"], "Valid");
    let pin = format!("sha256//{}", after["pins"][0].as_str().expect("a pin"));
    for host in ["api.example.com", "www.example.com"] {
        assert_eq!(house.over_tls(host, &root, &["--pinnedpubkey", &pin]).status, 200, "{host}");
    }
    open.ask("/after");
    assert_eq!(pebble.log().matches("There are now 1 accounts").count(), 1, "revoked by another account");
    let line = mainstay.said().lines().find(|line| line.contains("a certificate was revoked")).map(str::to_owned);
    let line = line.unwrap_or_else(|| panic!("no line says so:\n{}", mainstay.said()));
    assert!(line.contains(&text(&before, "serial")) && line.contains("key-compromise"), "{line}");

    let unknown = mainstay.verb(&["certificates", "revoke", "api.example.com", "--reason", "boredom"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.all());
    assert!(unknown.err.contains("superseded"), "{}", unknown.err);
}

#[test]
fn e8_e19_a_revoked_pinned_key_makes_room_for_the_spare() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let mainstay = house.started("domains = [\"api.example.com\"]", &format!("{}pins = true", pebble.lines()));
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let pin = |n: usize| listed(&mainstay)[0]["pins"][n].as_str().expect("a pin").to_owned();
    let (own, spare) = (pin(0), pin(1));
    mainstay.verb(&["certificates", "revoke", "api.example.com", "--json"]).json();
    assert_eq!(pin(0), spare);
    assert!(pin(1) != own && pin(1) != spare, "a key that was given away lies ready");
    assert_eq!(house.over_tls("api.example.com", &root, &["--pinnedpubkey", &format!("sha256//{spare}")]).status, 200);
}

/// The authority takes the revocation and no order: what is served, what is said, and that a crash forgets nothing.
#[test]
fn e8_a_revocation_without_a_next_certificate_is_said_and_remembered() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let authority = Authority::before(&pebble, Conduct::default());
    let mainstay = house.started("domains = [\"api.example.com\"]", &authority.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let first = serial(&mainstay);
    let limited = |seconds| Conduct { limited: Some(("/order-plz".to_owned(), seconds)), ..Conduct::default() };
    authority.conduct(limited(3600));
    let ended = mainstay.verb(&["certificates", "revoke", "api.example.com"]);
    assert_eq!(ended.code, Some(1), "{}", ended.all());
    for words in ["revoked by", "failed: ", "too many of these", "the revoked one is served until there is another"] {
        assert!(ended.out.contains(words), "no {words:?} in {}", ended.out);
    }
    assert_eq!(pebble.status(&first)["Status"], "Revoked");
    assert_eq!(house.over_tls("api.example.com", &root, &[]).status, 200);
    let server = mainstay.server();
    processes::signal(server, Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    let one = listed(&mainstay).remove(0);
    assert!(one["outlook"] == "revoked" && one["next_attempt"].is_string(), "{one}");
    assert!(mainstay.verb(&["certificates", "list"]).ok().contains("REVOKED, the next one is due"));
    let detailed = get(&format!("http://127.0.0.1:{}/.mainstay/health/detailed", house.plain.number)).json();
    assert_eq!(detailed["certificates"]["status"], "unavailable");
    let asked = authority.asked("/order-plz").len();
    // Once more is what was asked for, and no fault; the order still has to wait.
    let again = mainstay.verb(&["certificates", "revoke", "api.example.com"]);
    assert!(again.code == Some(1) && again.out.contains("is left alone until"), "{}", again.all());
    assert_eq!(authority.asked("/order-plz").len(), asked, "it said too many");
    // Its hour is over.
    mainstay.verb(&["stop"]).ok();
    authority.conduct(Conduct::default());
    std::fs::remove_file(mainstay.path().join(".mainstay/certificates/stalled.json")).expect("what was noted");
    let mainstay = { mainstay }.again();
    wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    mainstay.verb(&["certificates", "renew"]).ok();
    let one = listed(&mainstay).remove(0);
    assert!(one["outlook"] == "good" && text(&one, "serial") != first, "{one}");
}

/// Who cannot be helped is told what to do instead, and nothing is asked of any authority.
#[test]
fn e8_what_no_authority_gave_cannot_be_revoked_here() {
    let house = House::new();
    let mut pebble = mainstay_e2e::Pebble::prepared(house.plain.number, house.tls.number);
    let edge = "domains = [\"api.example.com\", \"shop.test\"]";
    let file = house.file(edge, &pebble.lines());
    let files = "[tls.\"*.files.example.com\"]\ncert = \"a.pem\"\nkey = \"a.key\"\n";
    let setup = mainstay_e2e::Setup::file(&format!("{file}{files}")).without_port();
    crate::http2::certificate(setup.path(), "a", "*.files.example.com");
    let mainstay = setup.spawn();
    wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    for (host, words) in [
        ("x.files.example.com", &["a.pem (mainstay.toml:", "whoever issued it", "fix: "][..]),
        ("shop.test", &["own authority", "mainstay certificates renew shop.test"]),
        ("api.example.com", &["no certificate of api.example.com to revoke", "stand-in"]),
        ("other.example.com", &["is not among [edge] domains"]),
    ] {
        let ended = mainstay.verb(&["certificates", "revoke", host]);
        assert_eq!(ended.code, Some(1), "{host}: {}", ended.all());
        for word in words {
            assert!(ended.err.contains(word), "{host}: no {word:?} in {}", ended.all());
        }
    }
    // An authority that is away revokes nothing, and nothing changes.
    pebble.start(&Manner::default());
    mainstay.verb(&["certificates", "renew", "api.example.com"]).ok();
    let before = listed(&mainstay);
    pebble.stop();
    let ended = mainstay.verb(&["certificates", "revoke", "api.example.com"]);
    assert!(ended.code == Some(1) && ended.err.contains("nothing was revoked: 127.0.0.1:"), "{}", ended.all());
    assert_eq!(listed(&mainstay), before);
}
