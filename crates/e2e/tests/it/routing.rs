//! Which app and which upstream a request reaches.

use crate::support::{in_front_of, ready_instances, static_app};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Connection, Mainstay, Peer, Setup, curl, get, wait_for, wait_until};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

/// How many of `count` requests each upstream answered.
fn spread(mainstay: &Mainstay, count: usize) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for _ in 0..count {
        let answer = get(&mainstay.url("/which"));
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
        *seen.entry(answer.text()).or_default() += 1;
    }
    seen
}

#[test]
fn e1_round_robin_takes_turns() {
    let (one, two, three) = (Peer::labelled("one"), Peer::labelled("two"), Peer::labelled("three"));
    let mainstay = Setup::file(&in_front_of(&[&one, &two, &three])).ready("/");
    let seen = spread(&mainstay, 30);
    // The cores take turns independently, so a turn may come twice at a seam.
    assert!(seen.len() == 3 && seen.values().all(|n| (7..=13).contains(n)), "{seen:?}");
}

#[test]
fn e1_weights_share_the_requests() {
    let (heavy, light) = (Peer::labelled("heavy"), Peer::labelled("light"));
    let text =
        format!("[app.main]\nupstreams = [{{ to = \"{}\", weight = 3 }}, \"{}\"]\n", heavy.address, light.address);
    let mainstay = Setup::file(&text).ready("/");
    let seen = spread(&mainstay, 40);
    assert!((26..=34).contains(&seen["heavy"]), "{seen:?}");
}

#[test]
fn e1_least_connections_avoids_the_busy_one() {
    let free = Arc::new(AtomicBool::new(false));
    let gate = free.clone();
    let busy = Peer::with(move |ask, out| {
        while ask.path() == "/hold" && !gate.load(Ordering::SeqCst) {
            mainstay_e2e::wait::pause(Duration::from_millis(10));
        }
        answer(out, 200, &[], b"busy")
    });
    let idle = Peer::with(|ask, out| match ask.path() {
        // Only the busy one keeps what it is asked to hold.
        "/hold" => Then::Close,
        _ => answer(out, 200, &[], b"idle"),
    });
    let text = format!("{}balance = \"least_conn\"\nmax_fails = 0\n", in_front_of(&[&busy, &idle]));
    let mainstay = Setup::file(&text).ready("/");
    let mut held = Vec::new();
    wait_until("a request to hang at the busy one", || {
        let mut connection = Connection::open(mainstay.edge()).expect("connect");
        connection.send(b"POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("send");
        held.push(connection);
        !busy.holding("/hold").is_empty()
    });
    let seen = spread(&mainstay, 12);
    free.store(true, Ordering::SeqCst);
    assert_eq!(seen.get("idle"), Some(&12), "{seen:?}");
}

#[test]
fn e1_e5_client_ip_hash_brings_a_client_back_to_the_same_instance() {
    let peers: Vec<Peer> = ["a", "b", "c", "d"].iter().map(|label| Peer::labelled(label)).collect();
    let all: Vec<&Peer> = peers.iter().collect();
    let text = format!("{}balance = \"ip_hash\"\n[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n", in_front_of(&all));
    let mainstay = Setup::file(&text).ready("/");
    let asked = |client: &str| {
        let header = format!("X-Forwarded-For: {client}");
        curl(&["-H", &header, &mainstay.url("/which")]).text()
    };
    let mut used = HashMap::new();
    for n in 1..=40 {
        let client = format!("198.51.100.{n}");
        let first = asked(&client);
        assert_eq!(asked(&client), first, "{client} moved");
        *used.entry(first).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 4, "every instance gets some clients: {used:?}");
}

#[test]
fn e2_three_failures_take_an_upstream_out_for_its_time_and_then_it_is_tried_again() {
    let broken = Arc::new(AtomicBool::new(true));
    let state = broken.clone();
    let bad = Peer::with(
        move |_, out| {
            if state.load(Ordering::SeqCst) { Then::Close } else { answer(out, 200, &[], b"bad") }
        },
    );
    let good = Peer::labelled("good");
    let text = format!("{}max_fails = 3\nfail_timeout = \"3s\"\n", in_front_of(&[&bad, &good]));
    let mainstay = Setup::file(&text).ready("/");
    // GETs: each failure is repeated at the good one, so that nobody notices.
    assert_eq!(spread(&mainstay, 20).get("good"), Some(&20));
    let asked = bad.asks().len();
    assert!((3..=4 * num_cores()).contains(&asked), "the bad one was asked {asked} times in 20");
    broken.store(false, Ordering::SeqCst);
    wait_until("the recovered upstream to be used again", || get(&mainstay.url("/which")).text() == "bad");
}

fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

#[test]
fn e2_active_checks_take_an_instance_out_and_bring_it_back() {
    let status = Arc::new(AtomicU16::new(200));
    let told = status.clone();
    let sick = Peer::with(move |ask, out| match ask.path() {
        "/check" => answer(out, told.load(Ordering::SeqCst), &[], b""),
        _ => answer(out, 200, &[], b"sick"),
    });
    let well = Peer::labelled("well");
    let text = format!(
        "{}health = {{ path = \"/check\", interval = \"200ms\", timeout = \"1s\", fails = 3, passes = 2 }}\n",
        in_front_of(&[&sick, &well])
    );
    let mainstay = Setup::file(&text).ready("/");
    wait_until("both to be used", || get(&mainstay.url("/which")).text() == "sick");
    status.store(500, Ordering::SeqCst);
    wait_until("the sick one to be left out", || (0..8).all(|_| get(&mainstay.url("/which")).text() == "well"));
    status.store(200, Ordering::SeqCst);
    wait_until("the recovered one to be used again", || get(&mainstay.url("/which")).text() == "sick");
    assert!(sick.all().iter().any(|ask| ask.path() == "/check"), "the path that was named is the one asked for");
}

#[test]
fn e2_the_last_instance_is_never_taken_out() {
    let peer = Peer::with(|ask, out| match ask.path() {
        "/which" => answer(out, 500, &[], b"broken"),
        _ => Then::Close,
    });
    let text =
        format!("{}max_fails = 1\nhealth = {{ path = \"/check\", interval = \"200ms\" }}\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).start();
    for _ in 0..10 {
        let answer = get(&mainstay.url("/which"));
        assert_eq!((answer.status, answer.text().as_str()), (500, "broken"));
    }
}

#[test]
fn e6_upstream_connections_are_kept_and_closed_before_the_app_does_it() {
    let peer = Peer::with(|_, out| answer(out, 200, &[("Keep-Alive", "timeout=3")], b"ok"));
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    for _ in 0..50 {
        client.send(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
        assert_eq!(client.response(false).expect("a response").status, 200);
    }
    let used: std::collections::HashSet<usize> = peer.holding("/kept").iter().map(|ask| ask.connection).collect();
    assert!(used.len() <= 2, "50 requests of one client took {} connections", used.len());
    // The app says it closes after 3 s; ours is gone by then, so no request meets a closing door.
    wait_until("the idle connections to be closed by us", || peer.open() == 0);
}

#[test]
fn e21_hosts_and_prefixes_reach_their_own_apps() {
    let (api, web, admin) = (Peer::labelled("api"), Peer::labelled("web"), Peer::labelled("admin"));
    let text = format!(
        "[app.api]\nupstreams = [\"{}\"]\nroutes = [\"/api/*\", \"/socket.io/*\"]\n\
         [app.web]\nupstreams = [\"{}\"]\nroutes = [\"/*\"]\n\
         [app.admin]\nupstreams = [\"{}\"]\nroutes = [\"admin.example.com/*\"]\n",
        api.address, web.address, admin.address
    );
    let mainstay = Setup::file(&text).ready("/");
    let asked = |host: &str, path: &str| {
        let header = format!("Host: {host}");
        curl(&["--path-as-is", "-H", &header, &mainstay.url(path)]).text()
    };
    for (host, path, expected) in [
        ("example.com", "/", "web"),
        ("www.example.com", "/shop", "web"),
        ("example.com", "/api/users", "api"),
        ("example.com", "/api", "api"),
        ("example.com", "/apix", "web"),
        ("example.com", "/socket.io/?EIO=4", "api"),
        ("example.com", "/API/users", "api"),
        ("example.com", "/x/../api/users", "api"),
        ("example.com", "//api/users", "api"),
        ("example.com", "/%61pi/users", "api"),
        ("admin.example.com", "/", "admin"),
        ("ADMIN.example.com:8080", "/any", "admin"),
        ("admin.example.com.", "/any", "admin"),
    ] {
        assert_eq!(asked(host, path), expected, "{host}{path}");
    }
    assert_eq!(api.holding("/x/../api/users").len(), 1, "the app receives the original bytes");
}

#[test]
fn e11_r1_a_number_of_instances_each_with_its_own_port() {
    let mainstay = Setup::file(&static_app("instances = 3")).ready("/");
    let ready = ready_instances(&mainstay, 3);
    let mut addresses: Vec<&str> = ready.iter().filter_map(|instance| instance["address"].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{ready:?}");
    let mut seen = std::collections::HashSet::new();
    wait_until("every instance to answer", || {
        seen.insert(get(&mainstay.url("/pid")).text());
        seen.len() == 3
    });
}

#[test]
fn r1_auto_is_one_instance_a_cpu_and_cluster_workers_says_so_too() {
    let cpus = num_cores();
    let mainstay = Setup::file(&static_app("instances = \"auto\"")).ready("/");
    ready_instances(&mainstay, cpus);
    let app = mainstay_e2e::fixtures::static_app();
    let app = app.to_str().expect("a path");
    let by_variable = Setup::command(&[app]).env("CLUSTER_WORKERS", "2").ready("/");
    ready_instances(&by_variable, 2);
    let by_auto = Setup::command(&[app]).env("CLUSTER_WORKERS", "auto").ready("/");
    ready_instances(&by_auto, cpus);
}

#[test]
fn the_edge_holds_requests_while_the_app_is_still_starting() {
    let folder = "sleep 2 && exec ";
    let app = mainstay_e2e::fixtures::static_app();
    let mainstay = Setup::command(&["sh", "-c", &format!("{folder}{}", app.display())]).start();
    // Sent before anything listens: held, not refused.
    let answer = curl(&["-d", "a body that is kept", &mainstay.url("/echo")]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "a body that is kept"), "{}", mainstay.said());
    let why = mainstay.why(&answer.id());
    assert!(why.contains("held"), "{why}");
}

#[test]
fn several_apps_and_a_worker_without_a_port() {
    let app = mainstay_e2e::fixtures::static_app();
    let text = format!(
        "[app.web]\nrun = \"{}\"\n\
         [app.worker]\nrun = \"sh -c 'while true; do echo working; sleep 1; done'\"\nport = false\n",
        app.display()
    );
    let mainstay = Setup::file(&text).ready("/");
    ready_instances(&mainstay, 2);
    wait_for("the worker's lines in the log", || mainstay.verb(&["logs"]).out.contains("working").then_some(()));
}

#[test]
fn e11_upstreams_are_added_weighed_drained_and_removed_by_a_verb_and_the_file_keeps_it() {
    let (a, b) = (Peer::labelled("a"), Peer::labelled("b"));
    let text = format!("# kept\n[app.main]\nupstreams = [\"{}\"]\n", a.address);
    let mainstay = Setup::file(&text).ready("/");
    let by = |mainstay: &Mainstay| -> std::collections::BTreeSet<String> {
        (0..20).map(|_| get(&mainstay.url("/")).text()).collect()
    };
    let added = b.address.to_string();
    mainstay.verb(&["upstreams", "add", &added, "--weight", "3"]).ok();
    let both = by(&mainstay);
    assert_eq!(both.len(), 2, "{both:?}");
    let file = std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file");
    assert!(file.starts_with("# kept\n") && file.contains(&format!("{{ to = \"{added}\", weight = 3 }}")), "{file}");

    mainstay.verb(&["upstreams", "weight", &added, "1"]).ok();
    mainstay.verb(&["upstreams", "drain", &added]).ok();
    assert_eq!(by(&mainstay).len(), 1);
    let list = mainstay.verb(&["upstreams"]).ok();
    assert!(list.lines().any(|line| line.contains(&added) && line.contains("drains")), "{list}");
    mainstay.verb(&["upstreams", "serve", &added]).ok();
    assert_eq!(by(&mainstay), both);
    mainstay.verb(&["upstreams", "remove", &added]).ok();
    assert_eq!(by(&mainstay).len(), 1);

    // What cannot be put in force changes neither the file nor the traffic.
    let before = std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file");
    let refused = mainstay.verb(&["upstreams", "add", "no port"]);
    assert_ne!(refused.code, Some(0));
    assert_eq!(std::fs::read_to_string(mainstay.path().join("mainstay.toml")).expect("the file"), before);
    assert_eq!(by(&mainstay).len(), 1);
    let last = mainstay.verb(&["upstreams", "remove", &a.address.to_string()]);
    assert!(last.code == Some(1) && last.err.contains("last upstream"), "{last:?}");
}
