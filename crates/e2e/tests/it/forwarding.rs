//! Who the client is: told by the peer's address, or by a proxy that was named, never by the client.

use crate::support::in_front_of;
use mainstay_e2e::{Ask, Mainstay, Peer, Setup, curl, get};

fn ask(mainstay: &Mainstay, peer: &Peer, marker: &str, headers: &[&str]) -> Ask {
    let url = mainstay.url(&format!("/{marker}"));
    let mut arguments = vec![url.as_str()];
    headers.iter().for_each(|header| arguments.extend(["-H", header]));
    assert_eq!(curl(&arguments).status, 200);
    peer.holding(marker).pop().expect("the request reached the upstream")
}

#[test]
fn e10_forwarding_headers_of_a_stranger_are_replaced() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let spoofed = [
        "X-Forwarded-For: 6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Port: 1",
        "Forwarded: for=6.6.6.6",
    ];
    let ask = ask(&mainstay, &peer, "spoofed", &spoofed);
    assert_eq!(ask.header("x-forwarded-for"), Some("127.0.0.1"), "{}", ask.head);
    assert_eq!(ask.header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(ask.header("x-forwarded-proto"), Some("http"));
    assert_eq!(ask.header("host"), Some(mainstay.edge().to_string().as_str()));
    assert!(!ask.head.contains("6.6.6.6") && !ask.head.contains("evil.example"), "{}", ask.head);
    assert!(!ask.has("forwarded"), "{}", ask.head);
}

#[test]
fn e10_spellings_a_server_might_mistake_for_forwarding_headers_do_not_pass() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let ask = ask(&mainstay, &peer, "spelled", &["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 7.7.7.7"]);
    let all: Vec<_> = ask.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for")).collect();
    assert_eq!(all.len(), 1, "{}", ask.head);
    assert_eq!(all[0].1, "127.0.0.1");
}

#[test]
fn e10_forwarding_headers_are_believed_from_named_proxies_alone() {
    let peer = Peer::mirror();
    let named = format!("{}[edge]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&named).ready("/");
    let told = [
        "X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.1.2.3",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: www.example.com",
    ];
    let ask = ask(&mainstay, &peer, "believed", &told);
    // From the right: our peer and 10.1.2.3 are named, 198.51.100.7 is not: it is the client, whatever it says before.
    assert_eq!(ask.header("x-real-ip"), Some("198.51.100.7"), "{}", ask.head);
    assert_eq!(ask.header("x-forwarded-proto"), Some("https"));
    assert_eq!(ask.header("x-forwarded-host"), Some("www.example.com"));
    assert_eq!(ask.header("x-forwarded-for"), Some("6.6.6.6, 198.51.100.7, 10.1.2.3, 127.0.0.1"));
    mainstay_e2e::wait_until("the log to name the client", || {
        let log = mainstay.verb(&["logs", "--json"]).out;
        log.lines().any(|line| line.contains("/believed") && line.contains("198.51.100.7"))
    });
}

#[test]
fn e10_a_proxy_that_is_not_named_is_not_believed_even_if_others_are() {
    let peer = Peer::mirror();
    let named = format!("{}[edge]\ntrusted_proxies = [\"192.0.2.0/24\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&named).ready("/");
    let ask = ask(&mainstay, &peer, "stranger", &["X-Forwarded-For: 6.6.6.6"]);
    assert_eq!(ask.header("x-real-ip"), Some("127.0.0.1"), "{}", ask.head);
}

#[test]
fn e10_the_host_the_client_asked_for_reaches_the_app() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let ask = ask(&mainstay, &peer, "hosted", &["Host: shop.example.com"]);
    assert_eq!(ask.header("host"), Some("shop.example.com"));
    assert_eq!(ask.header("x-forwarded-host"), Some("shop.example.com"));
    assert!(!ask.has("via"), "{}", ask.head);
}

#[test]
fn e15_one_id_stands_in_the_answer_the_log_and_the_trail() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let answer = curl(&["-H", "X-Request-Id: from-the-client-17", &mainstay.url("/with-id")]);
    let id = answer.id();
    assert!(id.starts_with("r_") && id.len() == 28, "{id:?}");
    assert_eq!(answer.header("x-request-id"), Some(id.as_str()), "the app set none, so ours stands in both");
    let seen = peer.holding("with-id").pop().expect("the request reached the upstream");
    assert_eq!(seen.header("mainstay-request-id"), Some(id.as_str()), "{}", seen.head);
    mainstay_e2e::wait_until("the log to hold both ids", || {
        let log = mainstay.verb(&["logs", "--json"]).out;
        log.lines().any(|line| line.contains(&id) && line.contains("from-the-client-17"))
    });
    assert_ne!(get(&mainstay.url("/with-id")).id(), id, "an id belongs to one request");
}

#[test]
fn e15_an_id_the_app_sets_is_left_alone() {
    let peer = Peer::with(|_, out| mainstay_e2e::peer::answer(out, 200, &[("X-Request-Id", "the-apps-own")], b"ok"));
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let answer = get(&mainstay.url("/own-id"));
    assert_eq!(answer.header("x-request-id"), Some("the-apps-own"));
    assert!(answer.id().starts_with("r_"));
}

#[test]
fn s6_a_traceparent_goes_in_and_out_and_a_broken_one_is_replaced() {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let given = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let seen = ask(&mainstay, &peer, "traced", &[&given, "tracestate: vendor=1"]);
    let out = seen.header("traceparent").expect("a traceparent").to_string();
    assert!(out.starts_with(&format!("00-{trace}-")) && out.ends_with("-01"), "{out}");
    assert!(!out.contains("00f067aa0ba902b7"), "our own span stands between: {out}");
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));

    let seen = ask(&mainstay, &peer, "broken-trace", &["traceparent: 00-zzzz-1-1"]);
    let out = seen.header("traceparent").expect("a traceparent");
    let parts: Vec<&str> = out.split('-').collect();
    assert_eq!((parts.len(), parts[1].len(), parts[2].len()), (4, 32, 16), "{out}");
    assert!(parts[1].chars().all(|c| c.is_ascii_hexdigit()) && parts[1].chars().any(|c| c != '0'), "{out}");
}

#[test]
fn e20_a_provider_is_trusted_by_its_name_and_no_wider() {
    let peer = Peer::mirror();
    let named =
        format!("{}[edge]\ntrusted_proxies = [\"cloudflare\", \"fastly\", \"google\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&named).ready("/");
    let seen = ask(&mainstay, &peer, "outside", &["X-Forwarded-For: 6.6.6.6"]);
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"), "this machine is none of them: {}", seen.head);
    let named = format!("{}[edge]\ntrusted_proxies = [\"private\", \"cloudflare\"]\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&named).ready("/");
    // A balancer of ours, before it Cloudflare's edge, before that the client.
    let seen = ask(&mainstay, &peer, "chained", &["X-Forwarded-For: 6.6.6.6, 198.51.100.7, 172.64.1.1"]);
    assert_eq!(seen.header("x-real-ip"), Some("198.51.100.7"), "{}", seen.head);
    let ended = Setup::file("[app.main]\nupstreams = [\"127.0.0.1:9\"]\n[edge]\ntrusted_proxies = [\"cloudfront\"]\n")
        .args(&["check"])
        .ended();
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(ended.all().contains("ip-ranges.json"), "{}", ended.all());
}

#[test]
fn e20_forwarded_is_read_where_proxies_write_it_and_written_where_the_app_wants_it() {
    let peer = Peer::mirror();
    let file = |word: &str| {
        format!(
            "{}[edge]\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nforwarded = \"{word}\"\n",
            in_front_of(&[&peer])
        )
    };
    let mainstay = Setup::file(&file("both")).ready("/");
    let told = [
        "Forwarded: for=6.6.6.6, for=\"[2001:db8::7]:4711\";proto=https;host=www.example.com, for=10.0.0.9",
        "X-Forwarded-For: 7.7.7.7",
        "X-Forwarded-Proto: http",
    ];
    let seen = ask(&mainstay, &peer, "rfc7239", &told);
    assert_eq!(seen.header("x-real-ip"), Some("2001:db8::7"), "{}", seen.head);
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("www.example.com"));
    assert!(!seen.head.contains("7.7.7.7") && !seen.head.contains("6.6.6.6"), "{}", seen.head);
    let expected = "for=\"[2001:db8::7]\";host=\"www.example.com\";proto=https, for=127.0.0.1;proto=http";
    assert_eq!(seen.header("forwarded"), Some(expected));
    // Unless it is asked for, nobody is believed who writes it, and the app does not see it.
    let mainstay = Setup::file(&file("off")).ready("/");
    let seen = ask(&mainstay, &peer, "unasked", &["Forwarded: for=6.6.6.6"]);
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"), "{}", seen.head);
    assert!(!seen.has("forwarded"), "{}", seen.head);
}

#[test]
fn e20_the_proxy_protocol_is_read_of_trusted_peers_alone() {
    use mainstay_e2e::{BOUND, Connection};
    let peer = Peer::mirror();
    let port = mainstay_e2e::ports::Port::free();
    let file = |trusted: &str| {
        let listen = format!("listen = {{ at = \"127.0.0.1:{}\", proxy_protocol = true }}", port.number);
        format!("{}[edge]\n{listen}\ntrusted_proxies = [\"{trusted}\"]\n", in_front_of(&[&peer]))
    };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port.number));
    let asked = |head: &[u8], marker: &str| {
        let request = format!("GET /{marker} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut connection = Connection::open(address).ok()?.patience(BOUND);
        connection.send(&[head, request.as_bytes()].concat()).ok()?;
        connection.response(false).ok().map(|response| response.status)
    };
    let v1 = b"PROXY TCP4 198.51.100.7 10.0.0.1 56324 443\r\n";
    let v2 = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &[198, 51, 100, 8, 10, 0, 0, 1, 1, 2, 3, 4]].concat();
    let mainstay = Setup::file(&file("127.0.0.1")).without_port().spawn();
    mainstay_e2e::wait_until("the listener to serve", || asked(v1, "first") == Some(200));
    for (head, marker, client) in [
        (&v1[..], "v1", "198.51.100.7"),
        (&v2[..], "v2", "198.51.100.8"),
        (b"PROXY UNKNOWN\r\n", "unknown", "127.0.0.1"),
    ] {
        assert_eq!(asked(head, marker), Some(200), "{marker}: {}", mainstay.said());
        let seen = peer.holding(&format!("/{marker} ")).pop().expect("the request reached the upstream");
        assert_eq!(seen.header("x-real-ip"), Some(client), "{}", seen.head);
    }
    assert_eq!(asked(b"", "bare"), None, "what is owed and missing ends the connection");
    assert!(peer.holding("/bare").is_empty());
    // The same words of a peer that nobody names any more.
    mainstay.write("mainstay.toml", &file("192.0.2.1"));
    mainstay.verb(&["reload"]).ok();
    assert_eq!(asked(v1, "stranger"), None, "{}", mainstay.said());
    assert!(peer.holding("/stranger").is_empty());
}
