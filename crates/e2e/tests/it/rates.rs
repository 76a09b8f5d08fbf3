//! Rate limits: exactly as many as the file says, told as the guides tell it, the same clients as everywhere else.

use crate::support::{in_front_of, judged, judged_answer};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Answer, Connection, Mainstay, Peer, Response, Setup, curl, get, wait_until};
use std::io::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

/// A backend as the guides have them: Node, without a package.
const NODE: &str = "require('http').createServer((req, res) => {\n\
                    if (req.url === '/own') res.setHeader('RateLimit-Limit', '7');\n\
                    res.end('node') }).listen(process.env.PORT, process.env.HOST)\n";

/// Behind a proxy that is trusted, so that a test can come from anywhere.
pub fn file(rules: &str) -> String {
    format!("[edge]\ntrusted_proxies = [\"127.0.0.1\"]\n{rules}")
}

fn before(peer: &Peer, rules: &str) -> Mainstay {
    Setup::file(&format!("{}{}", in_front_of(&[peer]), file(rules))).ready("/")
}

fn from(mainstay: &Mainstay, client: &str, path: &str) -> Answer {
    curl(&["-H", &format!("X-Forwarded-For: {client}"), &mainstay.url(path)])
}

/// A client that keeps its connection.
pub struct Client {
    connection: Connection,
    address: String,
}

impl Client {
    pub fn new(mainstay: &Mainstay, address: &str) -> Client {
        Client { connection: Connection::open(mainstay.edge()).expect("connect"), address: address.to_owned() }
    }

    #[track_caller]
    pub fn ask(&mut self, what: &str, headers: &str) -> Response {
        let request = format!(
            "{what} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {}\r\nContent-Length: 0\r\n{headers}\r\n",
            self.address
        );
        self.connection.send(request.as_bytes()).expect("send");
        self.connection.response(what.starts_with("HEAD")).expect("a response")
    }

    #[track_caller]
    pub fn statuses(&mut self, what: &str, times: usize) -> Vec<u16> {
        (0..times).map(|_| self.ask(what, "").status).collect()
    }
}

pub fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|s| **s == status).count()
}

#[test]
fn l1_a_hundred_a_minute_pass_and_the_next_gets_the_guides_answer() {
    let text = format!("[app.main]\nrun = [\"node\", \"server.js\"]\n{}", file("[limits]\nip = \"100/min\"\n"));
    let mainstay = Setup::file(&text).write("server.js", NODE).ready("/");
    let first = from(&mainstay, "203.0.113.7", "/");
    assert_eq!((first.status, first.text().as_str()), (200, "node"));
    for (name, value) in [("limit", "100"), ("remaining", "99"), ("reset", "60"), ("policy", "100;w=60")] {
        assert_eq!(first.header(&format!("ratelimit-{name}")), Some(value), "{:?}", first.headers);
    }
    // From four connections at once: never one too many, never one too few.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || scope.spawn(|| Client::new(&mainstay, "203.0.113.7").statuses("GET /x", 50));
        let all: Vec<_> = (0..4).map(|_| ask()).collect();
        all.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    });
    assert_eq!((count(&statuses, 200), count(&statuses, 429)), (99, 101), "{statuses:?}");

    let refused = from(&mainstay, "203.0.113.7", "/");
    let why = judged_answer(&mainstay, "the next", &refused, 429, "too_many_requests");
    assert!(why.contains("limits.ip 100/1m per ip (mainstay.toml:6)"), "`why` does not name the rule:\n{why}");
    let body = refused.json();
    let wait: u64 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("Retry-After");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(body["error"], "Too many requests");
    assert_eq!(body["retryAfter"], wait);
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    assert!(refused.headers.iter().all(|(name, _)| !name.starts_with("x-ratelimit")), "{:?}", refused.headers);
    // Nobody else, and no health check.
    assert_eq!(from(&mainstay, "203.0.113.8", "/").status, 200);
    assert!(Client::new(&mainstay, "203.0.113.7").statuses("GET /health", 5).iter().all(|s| *s != 429));
    // What the app says of limits of its own stands alone.
    let own = from(&mainstay, "203.0.113.9", "/own");
    assert_eq!(own.header("ratelimit-limit"), Some("7"));
    assert!(own.header("ratelimit-remaining").is_none() && own.header("ratelimit-policy").is_none(), "{own:?}");
}

#[test]
fn l1_who_waits_as_long_as_it_is_told_is_admitted() {
    let peer = Peer::labelled("fine");
    let mainstay = before(&peer, "[limits]\nip = \"3/2s\"\n[[route]]\nmatch = \"/many\"\nlimit = \"150/2s\"\n");
    for (client, path, most) in [("203.0.113.7", "GET /", 3), ("203.0.113.8", "GET /", 3)] {
        let mut client = Client::new(&mainstay, client);
        assert!(client.statuses(path, most).iter().all(|s| *s == 200));
        let refused = client.ask(path, "");
        let told = Instant::now();
        assert_eq!(refused.status, 429);
        let wait: u64 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("Retry-After");
        wait_until("the time it was told to wait", || told.elapsed() >= Duration::from_secs(wait));
        assert_eq!(client.ask(path, "").status, 200, "it waited {wait} s");
    }
}

#[test]
fn l1_of_ipv6_a_64_is_one_client_and_another_form_of_headers_is_there() {
    let peer = Peer::labelled("fine");
    let mainstay = before(&peer, "[limits]\nip = \"2/min\"\nheaders = \"draft-10\"\n");
    let first = from(&mainstay, "2001:db8:1:2::1", "/");
    assert_eq!(first.header("ratelimit"), Some("\"ip\";r=1;t=60"), "{:?}", first.headers);
    assert_eq!(first.header("ratelimit-policy"), Some("\"ip\";q=2;w=60"));
    assert!(first.header("ratelimit-limit").is_none());
    assert_eq!(from(&mainstay, "2001:db8:1:2:ffff::9", "/").status, 200);
    assert_eq!(from(&mainstay, "2001:db8:1:2::3", "/").status, 429);
    assert_eq!(from(&mainstay, "2001:db8:1:3::1", "/").status, 200);
    assert_eq!(from(&mainstay, "::ffff:203.0.113.7", "/").status, 200);
    assert_eq!(from(&mainstay, "203.0.113.7", "/").status, 200);
    assert_eq!(from(&mainstay, "203.0.113.7", "/").status, 429);
}

#[test]
fn l1_who_is_refused_again_and_again_is_sent_away() {
    let peer = Peer::labelled("fine");
    let mainstay = before(&peer, "[edge.bans]\n[limits]\nip = \"2/min\"\n");
    let statuses = Client::new(&mainstay, "203.0.113.7").statuses("GET /", 7);
    assert_eq!((count(&statuses, 200), count(&statuses, 429)), (2, 5), "{statuses:?}");
    // An offence is noted once its answer is on its way.
    wait_until("the ban", || mainstay.verb(&["bans"]).ok().contains("203.0.113.7"));
    assert_eq!(from(&mainstay, "203.0.113.7", "/").status, 403);
}

#[test]
fn l2_of_all_that_match_the_strictest_decides() {
    let peer = Peer::labelled("fine");
    let rules = "[limits]\nip = \"20/min\"\n\
                 [[route]]\nmatch = \"POST /api/v1/auth/login\"\nlimit = \"5/min\"\n\
                 [[route]]\nmatch = \"POST /api/v1/auth/register\"\nlimit = \"3/min\"\n\
                 [[route]]\nmatch = \"GET /api/v1/scans/:id\"\nlimit = \"9/min\"\n\
                 [[route]]\nmatch = \"/api/v1/*\"\nlimit = [\"12/min\", \"11/h per ip\"]\n";
    let mainstay = before(&peer, rules);
    let mut client = Client::new(&mainstay, "203.0.113.7");
    let statuses = client.statuses("POST /api/v1/auth/login", 7);
    assert_eq!(count(&statuses, 200), 5, "{statuses:?}");
    let refused = client.ask("POST //api/v1/%61uth/LOGIN/", "");
    let why = judged(&mainstay, "another spelling", &refused, 429, "too_many_requests");
    assert!(why.contains("route POST /api/v1/auth/login 5/1m per ip (mainstay.toml:9)"), "{why}");
    // A refused request counts nowhere: 5 of 11 an hour are used, and 6 are left.
    assert_eq!(count(&client.statuses("GET /api/v1/auth/login", 9), 200), 6);
    let other = client.ask("GET /elsewhere", "");
    assert_eq!((other.status, other.header("ratelimit-remaining")), (200, Some("8")), "{}", other.head);
    // One count for a pattern, whatever stands in its place; the handler of GET answers HEAD.
    let mut client = Client::new(&mainstay, "203.0.113.8");
    let statuses: Vec<u16> = (0..10).map(|i| client.ask(&format!("GET /api/v1/scans/{i}"), "").status).collect();
    assert_eq!(count(&statuses, 200), 9, "{statuses:?}");
    assert_eq!(client.ask("HEAD /api/v1/scans/1", "").status, 429);
    assert_eq!(client.ask("PUT /api/v1/scans/1", "").status, 200);
}

#[test]
fn l2_the_guides_variables_set_the_limits_of_signing_in_the_api_and_sockets() {
    let peer = Peer::with(|ask, out| {
        if !ask.has("upgrade") {
            return answer(out, 200, &[], b"fine");
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = out.write_all(head.as_bytes());
        Then::Close
    });
    let text = format!("{}{}", in_front_of(&[&peer]), file("[limits]\n"));
    let mainstay = Setup::file(&text)
        .env("RATE_LIMIT_ENABLED", "true")
        .env("RATE_LIMIT_WINDOW_MS", "60000")
        .env("RATE_LIMIT_MAX_REQUESTS", "100")
        .env("RATE_LIMIT_AUTH", "4")
        .env("RATE_LIMIT_API", "10")
        .env("RATE_LIMIT_WEBSOCKET", "3")
        .ready("/");
    let mut client = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(count(&client.statuses("POST /api/v1/auth/login", 6), 200), 4);
    assert_eq!(count(&client.statuses("GET /api/v1/users", 9), 200), 6, "four were the API's too");
    let first = client.ask("GET /", "");
    assert_eq!((first.status, first.header("ratelimit-limit")), (200, Some("100")));
    let open = || {
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        Client::new(&mainstay, "203.0.113.7").ask("GET /socket", headers).status
    };
    assert_eq!((0..5).map(|_| open()).collect::<Vec<_>>(), [101, 101, 101, 429, 429]);
    let config = mainstay.verb(&["config"]).ok();
    assert!(config.contains("RATE_LIMIT_MAX_REQUESTS"), "{config}");
}

#[test]
fn l3_signing_in_five_times_a_quarter_of_an_hour_and_by_key() {
    let peer = Peer::labelled("fine");
    let rules = "[[route]]\nmatch = \"/auth/login\"\nlimit = \"5/15min per ip\"\n\
                 [[route]]\nmatch = \"/api/*\"\nlimit = \"3/min per key:X-Api-Key\"\n";
    let mainstay = before(&peer, rules);
    let mut client = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(count(&client.statuses("POST /auth/login", 6), 200), 5);
    let refused = client.ask("POST /auth/login", "");
    let wait: u64 = refused.header("retry-after").and_then(|s| s.parse().ok()).expect("Retry-After");
    // A second that has begun counts whole: 900.0004 s are 901.
    assert!((800..=901).contains(&wait), "{wait}");

    let key = |client: &mut Client, key: &str| client.ask("GET /api/x", &format!("x-api-KEY: {key}\r\n")).status;
    assert_eq!((0..4).map(|_| key(&mut client, "one")).collect::<Vec<_>>(), [200, 200, 200, 429]);
    assert_eq!(key(&mut Client::new(&mainstay, "203.0.113.9"), "one"), 429, "the key counts, wherever it comes from");
    assert_eq!(key(&mut client, "two"), 200);
    // Without a key the address counts.
    assert_eq!(count(&client.statuses("GET /api/x", 4), 200), 3);
    let list = mainstay.verb(&["limits", "--json"]).ok();
    assert!(!list.contains("\"one\""), "a key is shown: {list}");
    assert!(mainstay.verb(&["limits", "reset", "one"]).ok().contains("1 counts"));
    assert_eq!(key(&mut client, "one"), 200);
}

/// A name server that knows one crawler, and a liar whose address claims the crawler's name.
fn names() -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind a name server");
    let address = socket.local_addr().expect("address");
    socket.set_read_timeout(Some(mainstay_e2e::BOUND)).expect("timeout");
    let serve = move || {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..size];
            let data: &[u8] = match question[size - 3] {
                12 => b"\x05crawl\x09googlebot\x03com\x00",
                _ => &[203, 0, 113, 66],
            };
            let mut reply = question.to_vec();
            reply[2] |= 0x80;
            reply[7] = 1;
            reply.extend_from_slice(&[0xc0, 12, 0, question[size - 3], 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            reply.extend_from_slice(data);
            let _ = socket.send_to(&reply, from);
        }
    };
    (address, std::thread::spawn(serve))
}

#[test]
fn l5_one_route_has_a_limit_of_its_own_and_a_proven_crawler_has_none() {
    let peer = Peer::labelled("fine");
    let (resolver, _) = names();
    let rules = format!(
        "[limits]\nip = \"3/min\"\nskip = [\"googlebot\"]\nresolver = \"{resolver}\"\n\
         [[route]]\nmatch = \"POST /upload\"\nlimit = \"2/min\"\n"
    );
    let mainstay = before(&peer, &rules);
    assert_eq!(count(&Client::new(&mainstay, "203.0.113.1").statuses("POST /upload", 3), 200), 2);

    let agent = "User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1)\r\n";
    let mut crawler = Client::new(&mainstay, "203.0.113.66");
    let mut liar = Client::new(&mainstay, "203.0.113.67");
    let mut visits = 0;
    wait_until("the crawler to be proven", || {
        visits += 1;
        let answer = crawler.ask("GET /", agent);
        answer.status == 200 && answer.header("ratelimit-limit").is_none() && visits > 3
    });
    assert!((0..20).all(|_| crawler.ask("GET /", agent).status == 200));
    let statuses: Vec<u16> = (0..20).map(|_| liar.ask("GET /", agent).status).collect();
    assert_eq!(count(&statuses, 200), 3, "an address that only says so: {statuses:?}");
    assert_eq!(liar.ask("GET /", agent).status, 429);
}

#[test]
fn l6_what_succeeds_does_not_count_if_asked_and_a_switch_turns_it_off() {
    let peer = Peer::labelled("fine");
    let rules = "[limits]\nip = \"3/min\"\nskip_successful = true\n";
    let mainstay = before(&peer, rules);
    let mut client = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(count(&client.statuses("GET /", 20), 200), 20);
    assert_eq!(client.ask("GET /", "").header("ratelimit-remaining"), Some("3"));
    assert_eq!(count(&client.statuses("GET /status/302", 5), 302), 5);
    assert_eq!(client.statuses("GET /status/401", 4), [401, 401, 401, 429]);
    assert_eq!(client.ask("GET /", "").status, 429);

    let text = format!("{}{}", in_front_of(&[&peer]), file(rules));
    let off = Setup::file(&text).env("RATE_LIMIT_ENABLED", "false").ready("/");
    let mut client = Client::new(&off, "203.0.113.7");
    assert_eq!(count(&client.statuses("GET /status/401", 20), 401), 20);
    assert!(client.ask("GET /", "").header("ratelimit-limit").is_none());
}

#[test]
fn l7_windows_are_each_endpoints_own_and_a_reload_forgives_nobody() {
    let peer = Peer::labelled("fine");
    let text = |login: &str, search: &str| {
        let routes = format!(
            "[[route]]\nmatch = \"/login\"\nlimit = \"{login}\"\n[[route]]\nmatch = \"/search\"\nlimit = \"{search}\"\n"
        );
        format!("{}{}", in_front_of(&[&peer]), file(&routes))
    };
    let mainstay = Setup::file(&text("5/15m", "200/min")).ready("/");
    let mut client = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(count(&client.statuses("GET /login", 7), 200), 5);
    assert_eq!(count(&client.statuses("GET /search", 150), 200), 150);
    let server = mainstay.server();
    // More for one, a longer window for the other: those who came count on.
    mainstay.write("mainstay.toml", &text("8/15m", "160/5m"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!(count(&client.statuses("GET /login", 7), 200), 3);
    assert_eq!(count(&client.statuses("GET /search", 20), 200), 10);
    mainstay.write("mainstay.toml", &text("2/15m", "1000/5m"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!(count(&client.statuses("GET /login", 3), 429), 3);
    assert_eq!(client.ask("GET /search", "").header("ratelimit-remaining"), Some("839"));
    assert_eq!(mainstay.server(), server, "it was restarted");
}

#[test]
fn l8_refusals_are_counted_by_rule_and_route_and_a_few_are_told_from_many() {
    let peer = Peer::labelled("fine");
    let rules = "[limits]\nip = \"30/min\"\n[[route]]\nmatch = \"/login\"\nlimit = \"1/min\"\n";
    let mainstay = before(&peer, rules);
    // One client causes it under one rule, fifty under the other.
    let statuses = Client::new(&mainstay, "203.0.113.7").statuses("GET /a", 50);
    assert_eq!(count(&statuses, 429), 20);
    for i in 0..50 {
        let statuses = Client::new(&mainstay, &format!("198.51.100.{i}")).statuses("GET /login", 2);
        assert_eq!(statuses, [200, 429]);
    }
    let list = mainstay.verb(&["limits", "--json"]).json();
    let rule = |name: &str| {
        let all = list["limits"].as_array().expect("limits").iter();
        all.clone().find(|l| l["name"] == name).unwrap_or_else(|| panic!("no {name}: {list}")).clone()
    };
    let (ip, login) = (rule("limits.ip"), rule("route /login per ip"));
    assert_eq!((&ip["refused"], &ip["lately"]["clients"]), (&20.into(), &1.into()), "{ip}");
    assert_eq!(ip["lately"]["few"], true);
    assert_eq!(ip["lately"]["top"][0]["client"], "203.0.113.7");
    assert_eq!((&ip["top"][0]["client"], &ip["top"][0]["used"]), (&"203.0.113.7".into(), &30.into()), "{ip}");
    assert_eq!((&login["refused"], &login["lately"]["few"]), (&50.into(), &false.into()), "{login}");
    let clients = login["lately"]["clients"].as_u64().expect("clients");
    assert!((40..=60).contains(&clients), "{clients}");
    assert!(login["at"].as_str().is_some_and(|at| at.starts_with("mainstay.toml:")), "{login}");

    let screen = mainstay.verb(&["limits"]).ok();
    assert!(screen.contains("by one client: 203.0.113.7 20") && screen.contains("many clients"), "{screen}");
    assert!(screen.contains("/login"), "{screen}");
    let metrics = get(&mainstay.url("/.mainstay/health/metrics")).text();
    assert!(metrics.contains("mainstay_limit_decisions_total{rule=\"limits.ip\",outcome=\"refused\"} 20"), "{metrics}");
    assert!(metrics.contains("mainstay_limit_refusals_total{route=\"/login\"} 50"), "{metrics}");

    assert!(mainstay.verb(&["limits", "reset", "203.0.113.7"]).ok().contains("1 counts"));
    assert_eq!(from(&mainstay, "203.0.113.7", "/a").status, 200);
    let nobody = mainstay.verb(&["limits", "reset", "192.0.2.99"]);
    assert!(nobody.code == Some(1) && nobody.err.contains("nothing is counted"), "{nobody:?}");
}

#[test]
fn e10_a_proxy_that_nobody_named_is_found_and_the_line_told() {
    let peer = Peer::labelled("fine");
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let mut proxy = Client::new(&mainstay, "203.0.113.7");
    proxy.statuses("GET /", 300);
    // In the log, where quotes are escaped.
    mainstay.says(r#"[edge] trusted_proxies = [\"127.0.0.1\"]"#);
}

#[test]
fn l_without_a_file_there_are_no_limits() {
    let mainstay = Setup::command(&["node", "server.js"])
        .write("server.js", NODE)
        .env("RATE_LIMIT_MAX_REQUESTS", "2")
        .env("RATE_LIMIT_WINDOW_MS", "60000")
        .ready("/");
    let mut client = Client::new(&mainstay, "203.0.113.7");
    assert_eq!(count(&client.statuses("GET /", 50), 200), 50);
    let answer = client.ask("GET /", "");
    assert!(!answer.head.to_ascii_lowercase().contains("ratelimit"), "{}", answer.head);
}
