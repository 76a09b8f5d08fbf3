//! Renewal information (RFC 9773), which decides when a certificate is renewed where an authority gives it, and what an
//! authority does on a bad day while certificates are in force.

use crate::certificates::{House, listed};
use mainstay_e2e::{Authority, Conduct, Mainstay, Manner, Pebble, Renewals, processes, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: i64 = 24 * 3600;
const HOST: &str = "api.example.com";

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs().cast_signed()
}

fn window(from_s: i64, to_s: i64, retry_after: &str) -> Renewals {
    Renewals::Window { from_s, to_s, retry_after: Some(retry_after.to_owned()) }
}

fn with(renewals: Renewals) -> Conduct {
    Conduct { renewals, ..Conduct::default() }
}

/// The authority, and Mainstay with one certificate of it.
fn started(conduct: Conduct) -> (House, Pebble, Authority, Mainstay) {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let authority = Authority::before(&pebble, conduct);
    let mainstay = house.started(&format!("domains = [\"{HOST}\"]"), &authority.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls(HOST, &root, &[]).status == 200);
    (house, pebble, authority, mainstay)
}

/// When it says that it will renew.
fn renews_s(mainstay: &Mainstay) -> Option<i64> {
    let list = listed(mainstay);
    list.first()?["renews"].as_str()?.parse::<jiff::Timestamp>().ok().map(|at| at.as_second())
}

fn life(mainstay: &Mainstay) -> (i64, i64) {
    let one = listed(mainstay).remove(0);
    let at = |name: &str| one[name].as_str().expect(name).parse::<jiff::Timestamp>().expect("a time").as_second();
    (at("valid_from"), at("valid_until"))
}

/// What is written down of it between restarts.
fn kept(mainstay: &Mainstay) -> Value {
    let path = mainstay.path().join(format!(".mainstay/certificates/issued/{HOST}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("JSON")
}

/// Stops, puts another moment where this one was written down, starts again.
fn as_if(mainstay: Mainstay, change: impl FnOnce(&mut Value)) -> Mainstay {
    mainstay.verb(&["stop"]).ok();
    let mut state = kept(&mainstay);
    change(&mut state);
    mainstay.write(&format!(".mainstay/certificates/issued/{HOST}.json"), &state.to_string());
    let mainstay = { mainstay }.again();
    wait_until("its list", || mainstay.verb(&["certificates", "list"]).code == Some(0));
    mainstay
}

#[test]
fn e8_a_window_of_the_authority_moves_the_renewal_and_is_asked_for_again_at_its_pace() {
    let (_house, pebble, authority, mainstay) = started(with(window(10 * DAY_S, 12 * DAY_S, "20000")));
    let at = wait_for("the window to count", || renews_s(&mainstay).filter(|at| *at < now_s() + 13 * DAY_S));
    assert!(at >= now_s() + 10 * DAY_S - 60, "renews {} s from now", at - now_s());
    let asked = authority.asked("/renewal/");
    assert_eq!(asked.len(), 1, "{asked:?}");
    // RFC 9773 §4.1: by what identifies the certificate, plainly.
    let id: Vec<&str> = asked[0].path["/renewal/".len()..].split('.').collect();
    assert!(asked[0].method == "GET" && id.len() == 2 && id.iter().all(|part| !part.is_empty()), "{asked:?}");
    let again = kept(&mainstay)["ask_at_s"].as_i64().expect("a time");
    assert!((now_s() + 19_900..=now_s() + 20_000).contains(&again), "asks again {} s from now", again - now_s());

    // A crash and a restart ask no sooner, and the moment stays what it was.
    let server = mainstay.server();
    processes::signal(server, Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("its list", || renews_s(&mainstay) == Some(at));
    let mainstay = as_if(mainstay, |_| {});
    assert_eq!((authority.asked("/renewal/").len(), renews_s(&mainstay)), (1, Some(at)));

    // Its time has come: the window lies elsewhere now (a mass revocation moves it), and the renewal moves along.
    authority.conduct(with(window(3 * DAY_S, 4 * DAY_S, "Thu, 01 Jan 1970 00:00:00 GMT")));
    let mainstay = as_if(mainstay, |state| state["ask_at_s"] = Value::from(now_s() - 1));
    wait_until("the new window", || renews_s(&mainstay).is_some_and(|at| at < now_s() + 5 * DAY_S));
    // However soon it is told to ask, an hour lies between.
    let again = kept(&mainstay)["ask_at_s"].as_i64().expect("a time");
    assert!((now_s() + 3500..=now_s() + 3600).contains(&again), "asks again {} s from now", again - now_s());
    assert_eq!((authority.asked("/renewal/").len(), pebble.orders()), (2, 1));
}

/// It is renewed at once, the order says what it replaces, and an authority that says the same of every certificate
/// is not asked for ever.
#[test]
fn e8_a_window_in_the_past_is_renewed_now_and_not_for_ever() {
    let (house, pebble, authority, mainstay) = started(with(window(-600, -300, "3600")));
    wait_until("the renewal", || pebble.orders() >= 2);
    wait_until("the third to be put off", || {
        let one = listed(&mainstay).remove(0);
        one["next_attempt"].is_string() && one["last_error"].is_null()
    });
    let orders = authority.asked("/order-plz");
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert_eq!(orders[0].replaces, None);
    let first = authority.asked("/renewal/")[0].path["/renewal/".len()..].to_owned();
    assert_eq!(orders[1].replaces.as_deref(), Some(first.as_str()));
    wait_until("the new one to be asked about", || authority.asked("/renewal/").len() == 2);
    assert_ne!(authority.asked("/renewal/")[1].path["/renewal/".len()..], first);
    assert_eq!(house.over_tls(HOST, &pebble.root(), &[]).status, 200);
}

/// An answer that makes no sense is as none: two thirds of the life count, and nothing is ordered.
#[test]
fn e8_without_an_answer_that_makes_sense_the_age_decides() {
    let good = "2020-01-01T00:00:00Z";
    let upside_down = format!(r#"{{"suggestedWindow":{{"start":"{good}","end":"{good}"}}}}"#);
    for (name, renewals, is_asked) in [
        ("absent", Renewals::Absent, false),
        ("500", Renewals::Other(500, "{}".to_owned()), true),
        ("no JSON", Renewals::Other(200, "<html>".to_owned()), true),
        ("no times", Renewals::Other(200, r#"{"suggestedWindow":{"start":"soon","end":7}}"#.to_owned()), true),
        ("an empty window", Renewals::Other(200, upside_down), true),
    ] {
        let (_house, pebble, authority, mainstay) = started(with(renewals));
        if is_asked {
            wait_until(name, || authority.asked("/renewal/").len() == 1);
        }
        let again = wait_for(name, || kept(&mainstay)["ask_at_s"].as_i64().filter(|at| *at > now_s()));
        assert!(again >= now_s() + 6 * 3600 - 60, "{name}: asks again {} s from now", again - now_s());
        let (from, until) = life(&mainstay);
        let age = from + (until - from) / 3 * 2;
        assert_eq!(renews_s(&mainstay), Some(age), "{name}");
        assert_eq!((pebble.orders(), authority.asked("/renewal/").len()), (1, usize::from(is_asked)), "{name}");
    }
}

/// Without `Retry-After` a window is a window: it is asked for again after six hours.
#[test]
fn e8_a_window_without_a_pace_is_taken() {
    let silent = Renewals::Window { from_s: 5 * DAY_S, to_s: 6 * DAY_S, retry_after: None };
    let (_house, _pebble, _authority, mainstay) = started(with(silent));
    wait_until("the window to count", || renews_s(&mainstay).is_some_and(|at| at < now_s() + 7 * DAY_S));
    let again = kept(&mainstay)["ask_at_s"].as_i64().expect("a time") - now_s();
    assert!((6 * 3600 - 60..=6 * 3600).contains(&again), "asks again {again} s from now");
}

/// A renewal that fails leaves what is in force in force, says so, and is made up for. The order that follows is taken
/// although it cannot say what it replaces.
#[test]
fn e8_an_authority_that_is_away_when_a_renewal_is_due_costs_nothing() {
    let (house, pebble, authority, mainstay) = started(Conduct::default());
    let before = listed(&mainstay).remove(0);
    authority.conduct(Conduct { down: true, ..Conduct::default() });
    // The day that the authority once suggested has come; it gives no such information any more.
    let mainstay = as_if(mainstay, |state| state["renew_at_s"] = Value::from(now_s() - 1));
    mainstay.says("a certificate could not be renewed");
    assert_eq!(house.over_tls(HOST, &pebble.root(), &[]).status, 200);
    let one = listed(&mainstay).remove(0);
    assert!(one["last_error"].is_string() && one["serial"] == before["serial"], "{one}");
    authority.conduct(Conduct::default());
    mainstay.verb(&["certificates", "renew"]).ok();
    assert_ne!(listed(&mainstay)[0]["serial"], before["serial"]);
    assert_eq!(house.over_tls(HOST, &pebble.root(), &[]).status, 200);
}

/// "Too many" at a renewal: the one in force is served, the authority is left alone for as long as it says.
#[test]
fn e8_a_limit_at_a_renewal_is_kept_and_what_is_in_force_is_served() {
    let (house, pebble, authority, mainstay) = started(Conduct::default());
    authority.conduct(Conduct { limited: Some(("/order-plz".to_owned(), 7200)), ..Conduct::default() });
    let before = listed(&mainstay).remove(0);
    for words in ["too many of these", "is left alone until"] {
        let ended = mainstay.verb(&["certificates", "renew"]);
        assert!(ended.code == Some(1) && ended.out.contains(words), "no {words:?} in {}", ended.all());
    }
    assert_eq!(authority.asked("/order-plz").len(), 2, "the first, and the one that was too many");
    let one = listed(&mainstay).remove(0);
    assert!(one["serial"] == before["serial"] && one["outlook"] == "good", "{one}");
    let next = one["next_attempt"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert!((7100..=7200).contains(&(next.as_second() - now_s())), "{one}");
    assert_eq!(house.over_tls(HOST, &pebble.root(), &[]).status, 200);
}
