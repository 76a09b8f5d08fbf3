//! The address tables, and the wait itself against small servers in groups of their own.

use super::*;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn a_listener_is_reached_by_loopback_where_it_can_be() {
    let texts =
        |listener: &str, foreign| reachable(at(listener), foreign).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts("127.0.0.1:3000", false), ["127.0.0.1:3000"]);
    assert_eq!(texts("0.0.0.0:3000", false), ["127.0.0.1:3000"]);
    assert_eq!(texts("[::1]:3000", false), ["[::1]:3000"]);
    assert_eq!(texts("[::]:3000", false), ["127.0.0.1:3000", "[::1]:3000"]);
    assert_eq!(texts("[::]:3000", true), ["[::1]:3000", "127.0.0.1:3000"]);
    assert_eq!(texts("[::ffff:127.0.0.1]:3000", false), ["127.0.0.1:3000"]);
    assert_eq!(texts("10.1.2.3:3000", false), ["10.1.2.3:3000"]);
}

#[test]
fn its_own_port_the_inspector_and_the_second_family_are_no_others() {
    let listening =
        ["127.0.0.1:21000", "127.0.0.1:9229", "0.0.0.0:9239", "[::]:3000", "0.0.0.0:3000", "127.0.0.1:80"].map(at);
    assert_eq!(others(21_000, &listening), [at("127.0.0.1:80"), at("[::]:3000")]);
    assert_eq!(others(21_000, &[]), []);
}

#[test]
fn ports_are_stable_from_when_they_last_changed() {
    let mut stable = Stable::default();
    let start = Instant::now();
    let ms = Duration::from_millis;
    assert_eq!(stable.since(&[at("0.0.0.0:1")], start), ms(0));
    assert_eq!(stable.since(&[at("0.0.0.0:1")], start + ms(900)), ms(900));
    assert_eq!(stable.since(&[at("0.0.0.0:2")], start + ms(1000)), ms(0));
    assert_eq!(stable.since(&[at("0.0.0.0:2")], start + ms(2500)), ms(1500));
}

/// A process group of its own, gone with the test.
struct Group(Child);

impl Group {
    fn python(program: &str, arguments: &[&str]) -> Group {
        let child = Command::new("python3")
            .args(["-c", program])
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        Group(child)
    }

    fn id(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.id()), nix::sys::signal::Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

/// `ADDRESS PORT PATH…`: 200 on these paths, 404 elsewhere.
const SERVER: &str = r"
import sys, socket
from http.server import HTTPServer, BaseHTTPRequestHandler
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in sys.argv[3:] else 404)
        self.send_header('content-length', '0')
        self.end_headers()
class S(HTTPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
S((sys.argv[1], int(sys.argv[2])), H).serve_forever()
";

fn target(group: &Group, port: Option<u16>) -> Target {
    Target { group: group.id(), port, alone: true, health: Health::Unknown, adopted: false, closed: false }
}

/// A port nobody else has while the test runs.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

async fn within_bounds<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), what).await.expect("within 30 s")
}

#[tokio::test]
async fn the_first_offered_path_that_answers_is_the_one() {
    let port = free_port();
    let group = Group::python(SERVER, &["127.0.0.1", &port.to_string(), "/api/health", "/api/v1/health"]);
    let ready = within_bounds(wait(target(&group, Some(port)), Rc::default(), |_| {})).await;
    let how = How::Health { path: "/api/health".to_owned(), status: 200 };
    let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(ready, Ready { address, elsewhere: false, how });
}

#[tokio::test]
async fn without_any_such_path_accepting_is_enough_and_loopback_may_be_v6() {
    let port = free_port();
    let group = Group::python(SERVER, &["::1", &port.to_string()]);
    let ready = within_bounds(wait(target(&group, Some(port)), Rc::default(), |_| {})).await;
    let address = Some(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    assert_eq!(ready, Ready { address, elsewhere: false, how: How::Tcp });
}

#[tokio::test]
async fn a_named_path_must_answer_2xx() {
    let port = free_port();
    let group = Group::python(SERVER, &["127.0.0.1", &port.to_string(), "/health"]);
    let seen: Rc<RefCell<Seen>> = Rc::default();
    let named = |path: &str| Target { health: Health::Named(path.to_owned()), ..target(&group, Some(port)) };
    let watching = async {
        while seen.borrow().answer.as_deref() != Some("GET /ready 404") {
            tokio::task::yield_now().await;
        }
    };
    let never = wait(named("/ready"), seen.clone(), |_| {});
    within_bounds(async {
        tokio::select! {
            ready = never => panic!("ready by {ready:?}"),
            () = watching => {}
        }
    })
    .await;
    let ready = within_bounds(wait(named("/health"), Rc::default(), |_| {})).await;
    assert_eq!(ready.how, How::Health { path: "/health".to_owned(), status: 200 });
}

#[tokio::test]
async fn an_only_child_is_used_where_it_listens_others_are_told() {
    let (port, wanted) = (free_port(), free_port());
    let group = Group::python(SERVER, &["127.0.0.1", &port.to_string(), "/health"]);
    let ready = within_bounds(wait(target(&group, Some(wanted)), Rc::default(), |_| {})).await;
    let how = How::Health { path: "/health".to_owned(), status: 200 };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(ready, Ready { address: Some(address), elsewhere: true, how });

    let (problems, mut told) = tokio::sync::mpsc::channel(4);
    let many = Target { alone: false, adopted: true, ..target(&group, Some(wanted)) };
    let never = wait(many, Rc::default(), |problem| drop(problems.try_send(problem)));
    let problem = within_bounds(async {
        tokio::select! {
            ready = never => panic!("ready by {ready:?}"),
            problem = told.recv() => problem,
        }
    })
    .await;
    assert_eq!(problem, Some(Problem::WrongPort { listening: vec![address], alone: false }));
}

#[tokio::test]
async fn what_others_can_reach_is_not_ready_where_it_must_be_closed() {
    assert_eq!(public(&["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.2]:1"].map(at)), []);
    let open = ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"].map(at);
    assert_eq!(public(&open), open);
    let port = free_port();
    let group = Group::python(SERVER, &["0.0.0.0", &port.to_string(), "/health"]);
    let (problems, mut told) = tokio::sync::mpsc::channel(4);
    let closed = Target { closed: true, ..target(&group, Some(port)) };
    let never = wait(closed, Rc::default(), |problem| drop(problems.try_send(problem)));
    let problem = within_bounds(async {
        tokio::select! {
            ready = never => panic!("ready by {ready:?}"),
            problem = told.recv() => problem,
        }
    })
    .await;
    assert_eq!(problem, Some(Problem::Exposed { listening: vec![SocketAddr::from(([0, 0, 0, 0], port))] }));
    let ready = within_bounds(wait(target(&group, Some(port)), Rc::default(), |_| {})).await;
    assert!(ready.address.is_some());
}

#[tokio::test]
async fn somebody_elses_listener_at_its_port_is_not_the_child() {
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = stranger.local_addr().expect("its address").port();
    let group = Group::python("import time; time.sleep(60)", &[]);
    assert_eq!(own_address(group.id(), port, &RefCell::default()).await, None);
}

#[tokio::test]
async fn without_a_port_alive_is_ready() {
    let group = Group::python("import time; time.sleep(60)", &[]);
    let ready = wait(target(&group, None), Rc::default(), |_| {}).await;
    assert_eq!(ready, Ready { address: None, elsewhere: false, how: How::Alive });
}
