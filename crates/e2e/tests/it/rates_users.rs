//! Limits of users and tenants: whoever a verified token speaks of, and nobody who only says so.

use crate::identity::{SECRET, tokens};
use crate::rates::{Client, count, file};
use crate::support::{in_front_of, judged};
use mainstay_e2e::{Mainstay, Peer, Setup, get, wait_until};
use mainstay_servers::redis::Redis;
use serde_json::json;

fn recognising(peer: &Peer, rules: &str) -> String {
    format!("{}[identity.verify]\n{}", in_front_of(&[peer]), file(rules))
}

fn started(text: &str) -> Mainstay {
    Setup::file(text).env("JWT_SECRET", SECRET).ready("/")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// From an address of its own each time, so that no address is the reason.
fn statuses(mainstay: &Mainstay, headers: &str, times: u8) -> Vec<u16> {
    let ask = |i| Client::new(mainstay, &format!("198.51.100.{i}")).ask("GET /api/x", headers).status;
    (0..times).map(ask).collect()
}

#[test]
fn l3_a_user_and_a_tenant_have_limits_of_their_own_wherever_they_come_from() {
    let peer = Peer::labelled("fine");
    let rules = "[limits]\nip = \"20/min\"\nuser = \"5/min\"\ntenant = \"8/min\"\n\
                 [[route]]\nmatch = \"POST /api/pay\"\nlimit = \"1/min per user\"\n";
    let mainstay = started(&recognising(&peer, rules));
    let claims = json!([
        {"sub": "ann", "tenant": "acme"}, {"sub": "ben", "tenant": "acme"}, {"sub": "cid", "tenant": "other"}
    ]);
    let all = tokens(SECRET, &claims).iter().map(|token| bearer(token)).collect::<Vec<_>>();
    let [ann, ben, cid] = &all[..] else { panic!("three tokens") };

    assert_eq!(statuses(&mainstay, ann, 7), [200, 200, 200, 200, 200, 429, 429]);
    let refused = Client::new(&mainstay, "203.0.113.7").ask("GET /api/x", ann);
    let why = judged(&mainstay, "ann's sixth", &refused, 429, "too_many_requests");
    assert!(why.contains("limits.user 5/1m per user (mainstay.toml:"), "{why}");
    // What her limit refused her tenant has not used: three of eight are left.
    assert_eq!(statuses(&mainstay, ben, 5), [200, 200, 200, 429, 429]);
    let refused = Client::new(&mainstay, "203.0.113.7").ask("GET /api/x", ben);
    let why = judged(&mainstay, "the tenant's ninth", &refused, 429, "too_many_requests");
    assert!(why.contains("limits.tenant 8/1m per tenant"), "{why}");
    assert_eq!(statuses(&mainstay, cid, 3), [200; 3]);
    assert_eq!(statuses(&mainstay, "X-User-Id: ann\r\nX-Tenant-Id: acme\r\n", 3), [200; 3], "who only says so");
    assert_eq!(statuses(&mainstay, &ann.replace("Bearer ey", "Bearer ez"), 3), [200; 3], "a token that proves nothing");

    // The address is counted too, and refused requests cost it nothing: two were.
    let mut address = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(address.ask("GET /", "").header("ratelimit-remaining"), Some("19"));
    let mut pay = |user: &str| address.ask("POST /api/pay", user).status;
    assert_eq!([pay(cid), pay(cid)], [200, 429]);

    let list = mainstay.verb(&["limits", "--json"]).json();
    let tenants = list["tenants"].as_array().expect("tenants");
    assert_eq!((&tenants[0]["name"], &tenants[0]["refused"]), (&"acme".into(), &6.into()), "{list}");
    let users = list["limits"].as_array().expect("limits").iter().find(|limit| limit["name"] == "limits.user");
    assert_eq!(users.expect("users")["lately"]["top"][0], json!({"client": "ann", "refused": 3}), "{list}");
    let metrics = get(&mainstay.url("/.mainstay/health/metrics")).text();
    assert!(metrics.contains("mainstay_limit_tenant_refusals{tenant=\"acme\"} 6"), "{metrics}");
    assert!(metrics.contains("mainstay_limit_refused_few{rule=\"limits.user\"} 1"), "{metrics}");
    assert!(mainstay.verb(&["limits", "reset", "ann"]).ok().contains("counts forgotten"));
    assert!(mainstay.verb(&["limits", "reset", "acme"]).ok().contains("counts forgotten"));
    assert_eq!(count(&statuses(&mainstay, ann, 6), 200), 5);
}

#[test]
fn l7_a_tenants_tier_decides_and_is_changed_without_a_restart() {
    let peer = Peer::labelled("fine");
    let text = |free: u32, pro: u32| {
        let rules = format!(
            "[limits]\ntenant = \"{free}/min\"\n[limits.tier.pro]\ntenant = \"{pro}/min\"\nuser = \"90/min\"\n"
        );
        recognising(&peer, &rules.replace("[limits]\n", "[limits]\nuser = \"80/min\"\n"))
    };
    let mainstay = started(&text(2, 5));
    let claims = json!([{"sub": "ann", "tenant": "acme"}, {"sub": "ben", "tenant": "big", "tier": "pro"}]);
    let all = tokens(SECRET, &claims).iter().map(|token| bearer(token)).collect::<Vec<_>>();
    assert_eq!(count(&statuses(&mainstay, &all[0], 6), 200), 2);
    assert_eq!(count(&statuses(&mainstay, &all[1], 9), 200), 5);
    let told = Client::new(&mainstay, "203.0.113.7").ask("GET /", &all[1]);
    assert_eq!(told.header("ratelimit-policy"), Some("5;w=60"), "{}", told.head);
    let server = mainstay.server();
    mainstay.write("mainstay.toml", &text(3, 9));
    mainstay.verb(&["reload"]).ok();
    // Whoever used two or five goes on from there.
    assert_eq!(count(&statuses(&mainstay, &all[0], 6), 200), 1);
    assert_eq!(count(&statuses(&mainstay, &all[1], 9), 200), 4);
    assert_eq!(mainstay.server(), server, "it was restarted");
}

#[test]
fn l4_l3_a_users_limit_is_kept_by_two_mainstays_together() {
    let (peer, redis) = (Peer::labelled("fine"), Redis::plain());
    let store = format!("[store]\nshared = \"redis\"\n[store.redis]\nurl = \"{}\"\n", redis.url());
    let rules = format!("{store}[limits]\nip = \"500/min\"\nuser = \"6/min\"\non_outage = \"refuse\"\n");
    let two = [0; 2].map(|_| started(&recognising(&peer, &rules)));
    for mainstay in &two {
        wait_until("every core to reach Redis", || {
            let shared = mainstay.verb(&["limits", "--json"]).json()["shared"].clone();
            shared["up"] == shared["cores"]
        });
    }
    let ann = bearer(&tokens(SECRET, &json!([{"sub": "ann"}]))[0]);
    let mut all = statuses(&two[0], &ann, 4);
    all.extend(statuses(&two[1], &ann, 6));
    let (admitted, undecided) = (count(&all, 200), count(&all, 503));
    assert!(admitted <= 6 && admitted + undecided >= 6, "{all:?}");
    let keys = redis.cli(&["KEYS", "*limits.user*"]);
    assert_eq!(keys.trim(), "mainstay:limit:{limits.user|ann}:stamps");
}
