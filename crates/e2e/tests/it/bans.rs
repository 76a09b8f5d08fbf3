//! Offenders are sent away for a growing time, seen and let in again from the command line.

use crate::support::{in_front_of, judged_answer};
use mainstay_e2e::peer::answer;
use mainstay_e2e::{Answer, Connection, Mainstay, Peer, Setup, curl, wait_until};

/// An app that knows nobody at `/login` and has nothing at most paths.
fn app() -> Peer {
    Peer::with(|ask, out| match ask.path() {
        "/" => answer(out, 200, &[], b"fine"),
        "/login" => answer(out, 401, &[], b"who are you"),
        _ => answer(out, 404, &[], b"nothing here"),
    })
}

/// Behind a proxy that is trusted, so that a test can come from anywhere.
fn behind_a_proxy(peer: &Peer, rules: &str) -> Mainstay {
    let text = format!("{}[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n{rules}", in_front_of(&[peer]));
    Setup::file(&text).ready("/")
}

fn from(mainstay: &Mainstay, client: &str, path: &str) -> Answer {
    curl(&["-H", &format!("X-Forwarded-For: {client}"), &mainstay.url(path)])
}

#[test]
fn e14_five_offences_send_a_client_away_and_nobody_else() {
    let peer = app();
    let mainstay = behind_a_proxy(&peer, "[edge.bans]\n");
    for _ in 0..5 {
        assert_eq!(from(&mainstay, "203.0.113.7", "/login").status, 401);
    }
    // An offence is noted once its answer is on its way.
    wait_until("the ban", || mainstay.verb(&["bans"]).ok().contains("203.0.113.7"));
    let refused = from(&mainstay, "203.0.113.7", "/");
    let why = judged_answer(&mainstay, "banned", &refused, 403, "banned");
    assert!(why.contains("mainstay.toml:"), "`why` does not name the rule:\n{why}");
    assert_eq!(from(&mainstay, "203.0.113.8", "/").status, 200);

    let list = mainstay.verb(&["bans"]).ok();
    assert!(list.contains("203.0.113.7") && list.contains("last: 401 /login"), "{list}");
    let listed = mainstay.verb(&["bans", "--json"]).json();
    let left = listed["bans"][0]["left_s"].as_u64().expect("seconds");
    assert!((590..=600).contains(&left), "fail2ban's ten minutes, not {left} s");

    assert!(mainstay.verb(&["bans", "lift", "203.0.113.7"]).ok().contains("lifted 1"));
    assert_eq!(from(&mainstay, "203.0.113.7", "/").status, 200);
    let nobody = mainstay.verb(&["bans", "lift", "203.0.113.7"]);
    assert!(nobody.code == Some(1) && nobody.err.contains("is not banned"), "{nobody:?}");
}

#[test]
fn e14_scanners_are_sent_away_by_what_they_ask_for_and_a_whole_64_with_them() {
    let peer = app();
    let mainstay = behind_a_proxy(&peer, "[edge.bans]\noffences = 3\nspare = [\"203.0.113.0/24\"]\n");
    for path in ["/.env", "/wp-login.php", "/.git/config"] {
        assert_eq!(from(&mainstay, "2001:db8:0:1::1", path).status, 404);
        assert_eq!(from(&mainstay, "203.0.113.9", path).status, 404);
    }
    assert_eq!(from(&mainstay, "2001:db8:0:1::ffff", "/").status, 403);
    assert_eq!(from(&mainstay, "2001:db8:0:2::1", "/").status, 200);
    assert_eq!(from(&mainstay, "203.0.113.9", "/").status, 200);
}

#[test]
fn e14_a_ban_outlives_the_server_and_its_connections_are_closed_unread() {
    let peer = app();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    mainstay.verb(&["bans", "add", "203.0.113.7", "--for", "2h"]).ok();
    mainstay.verb(&["bans", "add", "127.0.0.1", "--for", "1h"]).ok();
    let mut connection = Connection::open(mainstay.edge()).expect("connect");
    let _ = connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(connection.response(false).is_err(), "a banned client was answered");

    let kept = mainstay.path().join(".mainstay/bans.json");
    wait_until("the bans to be written down", || {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("203.0.113.7"))
    });
    let before = mainstay.server();
    mainstay_e2e::processes::signal(before, nix::sys::signal::Signal::SIGKILL);
    wait_until("the next server to know the bans", || {
        let listed = mainstay.verb(&["bans", "--json"]);
        listed.code == Some(0) && listed.out.contains("203.0.113.7") && mainstay.server() != before
    });
    mainstay.verb(&["bans", "lift", "--all"]).ok();
    assert_eq!(mainstay_e2e::get(&mainstay.url("/")).status, 200);
    let bad = mainstay.verb(&["bans", "add", "somebody"]);
    assert!(bad.code == Some(1) && bad.err.contains("192.0.2.7"), "{bad:?}");
}

#[test]
fn e14_one_client_has_so_many_connections_and_no_more() {
    let peer = app();
    let rules = "[edge.limits]\nconnections_per_client = 5\n";
    let mainstay = Setup::file(&format!("{}{rules}", in_front_of(&[&peer]))).ready("/");
    let mut held = Vec::new();
    let refused = mainstay_e2e::wait_for("the limit of one client", || {
        let mut connection = Connection::open(mainstay.edge()).ok()?;
        let _ = connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match connection.response(false) {
            Ok(response) if response.status == 503 => Some(response),
            Ok(_) => {
                held.push(connection);
                None
            }
            Err(fault) => panic!("refused without a word: {fault:?}"),
        }
    });
    assert!(held.len() <= 5, "{} connections", held.len());
    drop(held);
    wait_until("room again", || mainstay_e2e::get(&mainstay.url("/")).status == 200);
    let why = crate::support::judged(&mainstay, "connections", &refused, 503, "too_many_connections");
    assert!(why.contains("mainstay.toml:4"), "`why` does not name the line of the limit:\n{why}");
}
