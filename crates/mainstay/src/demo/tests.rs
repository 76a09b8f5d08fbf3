//! The sample backend over real sockets, by raw requests.

use super::*;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(30);

/// Runs a backend on a free port with a test against it, and ends both.
fn with_backend<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, mainstay_runtime::Trigger) -> F) {
    let (runtime, local) = mainstay_runtime::current_thread().expect("a runtime");
    local.block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (trigger, stop) = Shutdown::new();
        let backend = Backend { pid: 4127, port: address.port(), count: Cell::new(0), crash: || {}, stop };
        let both = async { tokio::join!(serve(listener, Rc::new(backend)), test(address, trigger)) };
        tokio::time::timeout(BOUND, both).await.expect("served and drained within 30 s");
    });
}

/// Sends bytes on a connection of their own and reads until the backend closes it.
async fn raw(address: SocketAddr, request: &str) -> String {
    let mut client = TcpStream::connect(address).await.expect("a connection");
    client.write_all(request.as_bytes()).await.expect("a request is sent");
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    raw(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: r_1\r\nConnection: close\r\n\r\n")).await
}

/// Reads until `end` has been seen.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(end) {
        let mut piece = [0; 4096];
        let read = client.read(&mut piece).await.expect("more to read");
        assert!(read > 0, "`{end}` did not come, only: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[test]
fn every_route_answers_as_its_name_says() {
    with_backend(|address, trigger| async move {
        let instance = format!(r#""instance":{{"pid":4127,"port":{}}}"#, address.port());
        for (path, status, part) in [
            ("/", "200 OK", "<title>Mainstay demo</title>"),
            ("/page.js", "200 OK", "text/javascript"),
            ("/page.css", "200 OK", "text/css"),
            ("/icon.svg", "200 OK", "image/svg+xml"),
            ("/hello", "200 OK", instance.as_str()),
            ("/hello", "200 OK", r#""n":6,"requestId":"r_1""#),
            ("/slow?ms=1", "200 OK", r#""ms":1"#),
            ("/slow?ms=90001", "400 Bad Request", "up to 90000"),
            ("/slow?ms=x", "400 Bad Request", "up to 90000"),
            ("/fail", "500 Internal Server Error", r#""error":"this route always fails""#),
            ("/headers", "200 OK", r#""x-request-id":"r_1""#),
            ("/ws", "426 Upgrade Required", "WebSocket"),
            ("/health", "404 Not Found", "application/json"),
        ] {
            let answer = get(address, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {answer}");
            assert!(answer.contains(part), "{path} without {part}: {answer}");
            assert!(answer.contains(&format!("demo-instance: 4127@{}\r\n", address.port())), "{path}: {answer}");
        }
        trigger.request();
    });
}

#[test]
fn the_page_brings_everything_itself_and_needs_nothing_inline() {
    with_backend(|address, trigger| async move {
        let page = get(address, "/").await;
        assert!(page.contains("content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'"));
        for inline in ["<style", "style=\"", "onclick", "http://", "https://", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
        assert!(raw(address, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.contains("405"));
        trigger.request();
    });
}

#[test]
fn a_crash_answers_nothing() {
    with_backend(|address, trigger| async move {
        assert_eq!(get(address, "/crash").await, "");
        trigger.request();
    });
}

#[test]
fn echo_sends_back_while_it_reads() {
    with_backend(|address, trigger| async move {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let head = "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Type: text/x\r\nContent-Length: 8\r\n\r\n";
        client.write_all(head.as_bytes()).await.expect("sent");
        client.write_all(b"half").await.expect("sent");
        let first = until(&mut client, "half").await;
        assert!(first.contains("content-type: text/x") && first.contains("content-length: 8"), "{first}");
        client.write_all(b"rest").await.expect("sent");
        until(&mut client, "rest").await;
        trigger.request();
    });
}

#[test]
fn events_come_one_by_one_and_end_with_the_process() {
    with_backend(|address, trigger| async move {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let first = until(&mut client, "\"n\":1").await;
        assert!(first.contains("text/event-stream") && first.contains("event: hello"), "{first}");
        trigger.request();
        until(&mut client, "0\r\n\r\n").await;
    });
}

const UPGRADE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_websocket_echoes_and_is_closed_properly_at_the_end() {
    with_backend(|address, trigger| async move {
        let mut client = TcpStream::connect(address).await.expect("a connection");
        client.write_all(format!("GET /ws?hello HTTP/1.1\r\nHost: x\r\n{UPGRADE}").as_bytes()).await.expect("sent");
        let head = until(&mut client, "\"requestId\":null}").await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        // The key and its answer as in RFC 6455 §1.3.
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        client.write_all(b"\x81\x82\0\0\0\0hi").await.expect("sent");
        assert_eq!(until(&mut client, "hi").await, "\u{fffd}\u{2}hi");
        trigger.request();
        // Close, 1012 and a reason; the answer to it ends the connection.
        let close = until(&mut client, "restarting").await;
        assert!(close.contains("\u{3}\u{fffd}restarting"), "{close:?}");
        client.write_all(b"\x88\x82\0\0\0\0\x03\xf4").await.expect("sent");
        assert_eq!(client.read(&mut [0; 16]).await.ok(), Some(0));
    });
}

#[test]
fn a_stop_finishes_what_was_begun_and_takes_nothing_new() {
    with_backend(|address, trigger| async move {
        let slow = async {
            let answer = get(address, "/slow?ms=300").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        };
        let stop = async {
            // The slow one has arrived once the backend counts more requests than came from here.
            for own in 1.. {
                if get(address, "/hello").await.contains(&format!("\"n\":{},", own + 1)) {
                    break;
                }
            }
            trigger.request();
        };
        tokio::join!(slow, stop);
        assert!(TcpStream::connect(address).await.is_err());
    });
}

#[test]
fn where_to_listen_comes_from_the_environment() {
    let of = |host: Option<&str>, port: Option<&str>| {
        address(host.map(str::to_owned), port.map(str::to_owned)).map_err(|e| e.to_string()).map(|a| a.to_string())
    };
    assert_eq!(of(None, None).as_deref(), Ok("127.0.0.1:3000"));
    assert_eq!(of(Some("localhost"), Some("21000")).as_deref(), Ok("127.0.0.1:21000"));
    assert_eq!(of(Some("::1"), Some("0")).as_deref(), Ok("[::1]:0"));
    assert!(of(None, Some("http")).is_err_and(|e| e.contains("PORT is `http`")));
    assert!(of(Some("example"), None).is_err_and(|e| e.contains("HOST is `example`")));
}
