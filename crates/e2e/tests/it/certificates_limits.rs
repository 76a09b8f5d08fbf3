//! When an authority is away, busy, or says "too many": the edge serves on, says so, and never hammers.

use crate::certificates::{House, listed};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Manner, Pebble, Peer, curl, get, processes, wait_until};
use nix::sys::signal::Signal;

/// An authority that has accounts and answers every order with "too many".
fn busy() -> Peer {
    Peer::with(|ask, out| {
        let base = format!("http://{}", ask.header("host").unwrap_or_default());
        let json = ("content-type", "application/json");
        let nonce = ("replay-nonce", "bm9uY2U");
        match ask.path() {
            "/dir" => {
                let at = |path: &str| format!("{base}/{path}");
                let told = serde_json::json!({
                    "newNonce": at("nonce"), "newAccount": at("account"), "newOrder": at("order"),
                });
                answer(out, 200, &[json], told.to_string().as_bytes())
            }
            "/nonce" => answer(out, 200, &[nonce], b""),
            "/account" => {
                let location = format!("{base}/account/1");
                answer(out, 201, &[json, nonce, ("location", &location)], br#"{"status":"valid"}"#)
            }
            _ => {
                let problem = br#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many of these"}"#;
                let kind = ("content-type", "application/problem+json");
                answer(out, 429, &[kind, nonce, ("retry-after", "7200")], problem)
            }
        }
    })
}

fn orders(authority: &Peer) -> usize {
    authority.all().iter().filter(|ask| ask.path() == "/order").count()
}

#[test]
fn e8_an_authority_that_is_away_at_the_start_keeps_nobody_from_serving() {
    let house = House::new();
    let mut pebble = Pebble::prepared(house.plain.number, house.tls.number);
    let mainstay = house.started("domains = [\"api.example.com\"]", &pebble.lines());
    mainstay.says("a stand-in is served");
    let stranger = house.over_tls("api.example.com", &pebble.own_root(), &[]);
    assert_ne!(stranger.status, 200, "nobody may believe a stand-in");
    let careless = house.over_tls("api.example.com", &pebble.own_root(), &["-k"]);
    assert_eq!(careless.text(), "app", "{careless:?}");
    assert_eq!(careless.header("strict-transport-security"), None);
    assert_eq!(house.plainly("api.example.com", "/x", &[]).text(), "app", "plain is all there is until then");
    let list = listed(&mainstay);
    assert!(list[0]["outlook"] == "missing" && list[0]["next_attempt"].is_string(), "{list:?}");
    let detailed = get(&format!("http://127.0.0.1:{}/.mainstay/health/detailed", house.plain.number));
    assert_eq!(detailed.json()["certificates"]["status"], "unavailable", "{}", detailed.text());
    let check = mainstay.verb(&["certificates", "check"]);
    assert_eq!(check.code, Some(1), "{}", check.all());
    assert!(check.out.contains("bad  127.0.0.1:") && check.out.contains("authority"), "{}", check.out);

    pebble.start(&Manner::default());
    mainstay.verb(&["certificates", "renew"]).ok();
    assert_eq!(house.over_tls("api.example.com", &pebble.root(), &[]).text(), "app");
}

#[test]
fn e8_a_limit_is_kept_through_crashes_restarts_and_commands() {
    let (house, authority) = (House::new(), busy());
    let acme = format!("directory = [\"http://{}/dir\"]", authority.address);
    let mainstay = house.started("domains = [\"api.example.com\"]", &acme);
    mainstay.says("too many of these");
    assert_eq!(orders(&authority), 1);
    let asked = mainstay.verb(&["certificates", "renew"]);
    assert_eq!(asked.code, Some(1), "{}", asked.all());
    assert!(asked.out.contains("is left alone until"), "{}", asked.out);
    for _ in 0..3 {
        let server = mainstay.server();
        processes::signal(server, Signal::SIGKILL);
        wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
        wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    }
    let list = listed(&mainstay);
    assert!(list[0]["last_error"].as_str().is_some_and(|text| text.contains("left alone")), "{list:?}");
    mainstay.verb(&["stop"]).ok();
    let mainstay = { mainstay }.again();
    wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    let plain = format!("http://127.0.0.1:{}/", house.plain.number);
    wait_until("service", || curl(&[&plain]).status == 200);
    assert_eq!(orders(&authority), 1, "the authority was asked again");
}

#[test]
fn e8_the_second_authority_is_asked_when_the_first_says_too_many() {
    let (house, first) = (House::new(), busy());
    let pebble = house.pebble(&Manner::default());
    let acme = format!(
        "directory = [\"http://{}/dir\", \"{}\"]\nca = \"{}\"",
        first.address,
        pebble.directory(),
        pebble.own_root().display()
    );
    let mainstay = house.started("domains = [\"api.example.com\"]", &acme);
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).text() == "app");
    let source = listed(&mainstay)[0]["source"].as_str().map(str::to_owned);
    assert_eq!(source, pebble.directory().split('/').nth(2).map(str::to_owned));
    assert_eq!(orders(&first), 1);
}
