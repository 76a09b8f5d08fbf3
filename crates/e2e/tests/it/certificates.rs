//! Certificates by ACME: Debian's pebble is the authority, curl the client.

use crate::support::in_front_of;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Answer, Mainstay, Manner, Pebble, Peer, Setup, curl, get, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// An edge with a plain and a TLS address, and the authority that looks for it there.
pub struct House {
    pub plain: Port,
    pub tls: Port,
    pub peer: Peer,
}

impl House {
    pub fn new() -> House {
        House { plain: Port::free(), tls: Port::free(), peer: Peer::labelled("app") }
    }

    pub fn pebble(&self, manner: &Manner) -> Pebble {
        Pebble::started(self.plain.number, self.tls.number, manner)
    }

    /// `acme`: the lines of `[edge.acme]`; `edge`: further ones of `[edge]`.
    pub fn file(&self, edge: &str, acme: &str) -> String {
        format!(
            "{}[edge]\nlisten = [\"127.0.0.1:{}\", {{ at = \"127.0.0.1:{}\", tls = true }}]\n{edge}\n\
             [edge.acme]\n{acme}\n",
            in_front_of(&[&self.peer]),
            self.plain.number,
            self.tls.number
        )
    }

    pub fn started(&self, edge: &str, acme: &str) -> Mainstay {
        let mainstay = Setup::file(&self.file(edge, acme)).without_port().spawn();
        let plain = format!("http://127.0.0.1:{}/", self.plain.number);
        wait_until("the plain address", || get(&plain).status == 200);
        mainstay
    }

    /// By HTTPS, believing `root` alone; `more` goes to curl.
    pub fn over_tls(&self, host: &str, root: &Path, more: &[&str]) -> Answer {
        let resolve = format!("{host}:{}:127.0.0.1", self.tls.number);
        let url = format!("https://{host}:{}/x", self.tls.number);
        let mut arguments = vec!["--cacert", root.to_str().expect("a path"), "--resolve", &resolve, &url];
        arguments.extend_from_slice(more);
        curl(&arguments)
    }

    /// Plainly, by this host's name.
    pub fn plainly(&self, host: &str, path: &str, more: &[&str]) -> Answer {
        let (host, url) = (format!("Host: {host}"), format!("http://127.0.0.1:{}{path}", self.plain.number));
        let mut arguments = vec!["-H", &host, &url];
        arguments.extend_from_slice(more);
        curl(&arguments)
    }
}

pub fn listed(mainstay: &Mainstay) -> Vec<Value> {
    let answer = mainstay.verb(&["certificates", "list", "--json"]).json();
    answer["certificates"].as_array().cloned().unwrap_or_default()
}

#[test]
fn e8_a_domain_is_all_it_takes_by_http_01_and_a_restart_orders_nothing() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let domains = "domains = [\"example.com www.example.com\", \"api.example.com\"]";
    let acme = format!("{}challenge = \"http-01\"\nemail = \"ops@example.com\"", pebble.lines());
    let mainstay = house.started(domains, &acme);
    let root = pebble.root();
    let hosts = ["example.com", "www.example.com", "api.example.com"];
    for host in hosts {
        wait_until(host, || house.over_tls(host, &root, &[]).text() == "app");
    }
    let list = listed(&mainstay);
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(list[0]["names"], serde_json::json!(["example.com", "www.example.com"]));
    assert!(list.iter().all(|one| one["outlook"] == "good" && one["failures"] == 0), "{list:?}");
    let text = mainstay.verb(&["certificates", "list"]).ok();
    assert!(text.contains("example.com www.example.com   127.0.0.1:") && text.contains("days)"), "{text}");
    for entry in ["issued/example.com.pem", "issued/api.example.com.json"] {
        let path = mainstay.path().join(".mainstay/certificates").join(entry);
        assert_eq!(std::fs::metadata(&path).expect(entry).permissions().mode() & 0o777, 0o600, "{entry}");
    }

    // A token of somebody else's order is the app's to answer, and no plain request for one is sent elsewhere.
    assert_eq!(house.plainly("example.com", "/.well-known/acme-challenge/theirs", &[]).text(), "app");
    let orders = pebble.orders();
    assert_eq!(orders, 2);
    let server = mainstay.server();
    mainstay_e2e::processes::signal(server, nix::sys::signal::Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("the certificate after a crash", || house.over_tls("example.com", &root, &[]).status == 200);
    mainstay.verb(&["stop"]).ok();
    let mainstay = { mainstay }.again();
    wait_until("the certificate after a restart", || house.over_tls("api.example.com", &root, &[]).status == 200);
    assert_eq!(listed(&mainstay).len(), 2);
    assert_eq!(pebble.orders(), orders, "a restart ordered again");
}

#[test]
fn e8_tls_alpn_01_shows_control_without_port_80() {
    let house = House::new();
    // Nobody listens where it would look by HTTP.
    let nobody = Port::free();
    let pebble = Pebble::started(nobody.number, house.tls.number, &Manner::default());
    let mainstay =
        house.started("domains = [\"api.example.com\"]", &format!("{}challenge = \"tls-alpn-01\"", pebble.lines()));
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).text() == "app");
    for more in [&["--http2"][..], &["--http1.1"], &["--tls-max", "1.2"]] {
        assert_eq!(house.over_tls("api.example.com", &root, more).status, 200, "{more:?}");
    }
    drop(mainstay);
}

#[test]
fn e8_renew_now_and_dry_run_lose_no_connection() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let mainstay = house.started("domains = [\"api.example.com\"]", &pebble.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let pin = |mainstay: &Mainstay| listed(mainstay)[0]["pins"][0].as_str().map(str::to_owned);
    let first = pin(&mainstay);
    let dry = mainstay.verb(&["certificates", "renew", "--dry-run", "api.example.com"]).ok();
    assert!(dry.contains("dry run") && pebble.orders() == 2, "{dry}");
    assert_eq!(pin(&mainstay), first, "a dry run changed the certificate");

    let mut open = Encrypted::open(house.tls.number);
    open.ask("/before");
    mainstay.verb(&["certificates", "renew", "api.example.com"]).ok();
    assert_ne!(pin(&mainstay), first);
    assert_eq!(house.over_tls("api.example.com", &root, &[]).status, 200);
    open.ask("/after");
    let stranger = mainstay.verb(&["certificates", "renew", "other.example.com"]);
    assert_eq!(stranger.code, Some(1), "{}", stranger.all());
}

#[test]
fn e8_a_certificate_is_renewed_before_its_end() {
    let house = House::new();
    let pebble = house.pebble(&Manner { life_s: 24, ..Manner::default() });
    let mainstay = house.started("domains = [\"api.example.com\"]", &pebble.lines());
    let until = || listed(&mainstay)[0]["valid_until"].as_str().map(str::to_owned);
    wait_until("the first certificate", || until().is_some());
    let first = until();
    wait_until("the next one", || until() != first);
    assert_eq!(house.over_tls("api.example.com", &pebble.root(), &[]).status, 200);
}

#[test]
fn e8_bad_nonces_cost_no_attempt() {
    let house = House::new();
    let pebble = house.pebble(&Manner { bad_nonces: 20, ..Manner::default() });
    let mainstay = house.started("domains = [\"api.example.com\"]", &pebble.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    assert_eq!(listed(&mainstay)[0]["failures"], 0);
}

/// One TLS connection of `openssl s_client`, kept open.
pub struct Encrypted(Child, ChildStdout);

impl Encrypted {
    pub fn open(port: u16) -> Encrypted {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "api.example.com", "-connect", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run openssl");
        let out = child.stdout.take().expect("its output");
        Encrypted(child, out)
    }

    /// Asks on the open connection and reads the answer to its end.
    pub fn ask(&mut self, path: &str) {
        let input = self.0.stdin.as_mut().expect("its input");
        input.write_all(format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n\r\n").as_bytes()).expect("send");
        let (mut read, mut byte) = (Vec::new(), [0]);
        while !read.ends_with(b"\r\n\r\napp") {
            self.1.read_exact(&mut byte).unwrap_or_else(|e| panic!("{path}: {e}: {}", String::from_utf8_lossy(&read)));
            read.push(byte[0]);
        }
        assert!(read.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&read));
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// E19: pins are printed, the key stays through a renewal, and the spare takes over when asked for.
#[test]
fn e19_pinned_keys_stay_through_renewals() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let mainstay = house.started("domains = [\"api.example.com\"]", &format!("{}pins = true", pebble.lines()));
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let pins = || {
        let list = listed(&mainstay);
        let pin = |n: usize| list[0]["pins"][n].as_str().expect("a pin").to_owned();
        (pin(0), pin(1))
    };
    let (own, spare) = pins();
    let pinned = |pin: &str| house.over_tls("api.example.com", &root, &["--pinnedpubkey", &format!("sha256//{pin}")]);
    assert_eq!(pinned(&own).status, 200, "curl counts the pin otherwise");
    assert_ne!(pinned(&spare).status, 200);
    mainstay.verb(&["certificates", "renew"]).ok();
    assert_eq!(pins(), (own.clone(), spare.clone()));
    assert_eq!(pinned(&own).status, 200);
    mainstay.verb(&["certificates", "renew", "--new-key"]).ok();
    let (now, next) = pins();
    assert_eq!(now, spare);
    assert!(next != spare && next != own);
    assert_eq!(pinned(&spare).status, 200);
}

/// E7: plain requests go to HTTPS once clients believe the certificate; health and tokens stay; HSTS over TLS alone.
#[test]
fn e7_plain_requests_are_sent_to_https_and_health_is_not() {
    let house = House::new();
    let pebble = house.pebble(&Manner::default());
    let mainstay = house.started("domains = [\"api.example.com\"]", &pebble.lines());
    let root = pebble.root();
    wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
    let sent = house.plainly("api.example.com", "/a%2Fb?c=d", &["-d", "body"]);
    assert_eq!(sent.status, 308, "{sent:?}");
    let to = format!("https://api.example.com:{}/a%2Fb?c=d", house.tls.number);
    assert_eq!(sent.header("location"), Some(to.as_str()));
    for (path, more) in [
        ("/health", &[][..]),
        ("/.mainstay/health", &[]),
        ("/.well-known/acme-challenge/x", &[]),
        ("/x", &["-H", "X-Forwarded-Proto: https"]),
    ] {
        assert_ne!(house.plainly("api.example.com", path, more).status, 308, "{path} {more:?}");
    }
    let encrypted = house.over_tls("api.example.com", &root, &[]);
    assert_eq!(encrypted.header("strict-transport-security"), Some("max-age=31536000"), "{encrypted:?}");
    assert_eq!(sent.header("strict-transport-security"), None);
    assert_eq!(house.plainly("other.example.com", "/x", &[]).status, 200, "a host without a certificate was sent away");
    drop(mainstay);
}
