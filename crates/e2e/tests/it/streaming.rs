//! Bodies that flow: nothing is buffered on the way, in either direction, over HTTP/1.1 and HTTP/2.

use crate::http2::certificate;
use crate::support::{before, in_front_of};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Connection, Peer, Setup, curl, wait_for, wait_until};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

#[test]
fn server_sent_events_arrive_one_by_one_while_the_response_is_open() {
    let (go_on, told) = mpsc::sync_channel::<()>(8);
    let told = Mutex::new(told);
    let peer = Peer::with(move |ask, out| {
        if ask.path() != "/events" {
            return answer(out, 200, &[], b"fine");
        }
        let _ =
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 1..=3 {
            let event = format!("data: {n}\n\n");
            let _ = out.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
            // The next event is made only after the client has seen this one.
            if told.lock().expect("lock").recv_timeout(mainstay_e2e::BOUND).is_err() {
                return Then::Close;
            }
        }
        let _ = out.write_all(b"0\r\n\r\n");
        Then::Keep
    });
    let mainstay = before(&peer);
    for http2 in [false, true] {
        let version = if http2 { "--http2-prior-knowledge" } else { "--http1.1" };
        let mut client = Command::new("curl")
            .args(["-sN", version, &mainstay.url("/events")])
            .stdout(Stdio::piped())
            .spawn()
            .expect("run curl");
        let mut out = client.stdout.take().expect("curl's output");
        for n in 1..=3 {
            let mut event = vec![0u8; format!("data: {n}\n\n").len()];
            out.read_exact(&mut event).expect("an event");
            assert_eq!(String::from_utf8_lossy(&event), format!("data: {n}\n\n"));
            go_on.send(()).expect("the upstream waits");
        }
        assert!(client.wait().expect("curl ends").success());
    }
}

#[test]
fn a_request_body_reaches_the_app_while_it_is_still_being_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = count.clone();
            std::thread::spawn(move || raw_counter(stream, &count));
        }
    });
    let mainstay = Setup::file(&format!("[app.main]\nupstreams = [\"{address}\"]\n")).ready("/");
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").expect("send");
    for n in 1..=3 {
        client.send(b"8\r\nPIECE-ED\r\n").expect("send");
        wait_until("the piece to arrive before the next is sent", || seen.load(Ordering::SeqCst) >= n);
    }
    client.send(b"0\r\n\r\n").expect("send");
    assert_eq!(client.response(false).expect("a response").status, 200);
}

/// Counts the pieces as they come; answers when the body or a request without one has ended.
fn raw_counter(mut stream: std::net::TcpStream, count: &AtomicUsize) {
    let mut all = Vec::new();
    let mut buffer = [0u8; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            return;
        }
        all.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&all).into_owned();
        count.fetch_max(text.matches("PIECE-ED").count(), Ordering::SeqCst);
        if text.starts_with("GET") && text.ends_with("\r\n\r\n") || text.ends_with("0\r\n\r\n") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            all.clear();
        }
    }
}

#[test]
fn a_response_a_slow_client_does_not_read_is_not_kept_in_memory() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    const TOTAL: usize = 512 * 1024 * 1024;
    let peer = Peer::with(move |ask, out| {
        if ask.path() != "/huge" {
            return answer(out, 200, &[], b"fine");
        }
        let _ = out.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n").as_bytes());
        let piece = vec![b'x'; 256 * 1024];
        while count.load(Ordering::SeqCst) < TOTAL {
            if out.write_all(&piece).is_err() {
                return Then::Close;
            }
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Then::Keep
    });
    let mainstay = before(&peer);
    let start = mainstay_e2e::processes::resident(mainstay.server()).expect("memory of the server");
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    client.send(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    // Nobody reads: what the upstream gets rid of fills the kernel's buffers, then it stands still.
    let mut last = usize::MAX;
    let mut same = 0;
    wait_until("the upstream to be held back", || {
        let now = written.load(Ordering::SeqCst);
        same = if now > 0 && now == last { same + 1 } else { 0 };
        last = now;
        same > 50
    });
    let grown = mainstay_e2e::processes::resident(mainstay.server()).expect("memory").saturating_sub(start);
    assert!(last < TOTAL / 4, "{last} bytes went nowhere");
    assert!(grown < 64 * 1024 * 1024, "the server grew by {grown} bytes");
    let head = client.exactly(15).expect("the head");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
}

#[test]
fn fifty_megabytes_pass_up_and_down_unchanged() {
    let peer = Peer::with(|ask, out| match ask.path() {
        "/echo" => answer(out, 200, &[], &ask.body),
        _ => answer(out, 200, &[], b"fine"),
    });
    let text = format!("{}[edge.limits]\nbody = \"60MB\"\n", in_front_of(&[&peer]));
    let mainstay = Setup::file(&text).ready("/");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("upload");
    let bytes: Vec<u8> = (0..50_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &bytes).expect("write");
    let data = format!("@{}", file.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[version, "-H", "Expect:", "--data-binary", &data, &mainstay.url("/echo")]);
        assert_eq!(answer.status, 200, "{version}: {}", answer.said);
        assert!(answer.body == bytes, "{version}: {} bytes came back changed", answer.body.len());
    }
}

#[test]
fn bodies_are_neither_compressed_nor_unpacked_on_the_way() {
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    let peer = Peer::with(move |ask, out| match ask.path() {
        "/packed" => answer(out, 200, &[("Content-Encoding", "gzip"), ("ETag", "\"x\"")], &packed),
        _ => answer(out, 200, &[("Content-Type", "text/plain")], "plain text ".repeat(1000).as_bytes()),
    });
    let mainstay = before(&peer);
    let answer = curl(&["-H", "Accept-Encoding: gzip", &mainstay.url("/packed")]);
    assert_eq!((answer.body.as_slice(), answer.header("content-encoding")), (&packed[..], Some("gzip")));
    assert_eq!(answer.header("etag"), Some("\"x\""));
    let plain = curl(&["-H", "Accept-Encoding: gzip, br", &mainstay.url("/plain")]);
    assert_eq!((plain.header("content-encoding"), plain.body.len()), (None, 11_000));
}

#[test]
fn head_and_statuses_without_body_keep_their_headers() {
    let peer = Peer::with(|ask, out| {
        let head = match ask.path() {
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\nX-Kept: 1\r\n\r\n",
            "/204" => "HTTP/1.1 204 No Content\r\nX-Kept: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nX-Kept: 1\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Kept: 1\r\n\r\n",
        };
        let _ = out.write_all(head.as_bytes());
        Then::Keep
    });
    let mainstay = before(&peer);
    let head = curl(&["-I", &mainstay.url("/head")]);
    assert_eq!((head.status, head.header("content-length"), head.exit), (200, Some("12345"), 0), "{head:?}");
    for (path, status) in [("/204", 204), ("/304", 304), ("/empty", 200)] {
        let answer = mainstay_e2e::get(&mainstay.url(path));
        assert_eq!((answer.status, answer.header("x-kept"), answer.exit), (status, Some("1"), 0), "{path}: {answer:?}");
    }
}

#[test]
fn an_app_that_answers_before_the_upload_ends_is_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0u8; 4096];
                let read = stream.read(&mut buffer).unwrap_or(0);
                let early = buffer[..read].starts_with(b"POST");
                let text: &[u8] = if early {
                    b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                };
                let _ = stream.write_all(text);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
            });
        }
    });
    let mainstay = Setup::file(&format!("[app.main]\nupstreams = [\"{address}\"]\n")).ready("/");
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    client.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe first bytes").expect("send");
    let response = wait_for("the early answer", || client.response(false).ok());
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
}

/// HTTP/1.0 is told neither a length nor chunks: over TLS it knows by TLS's own end that an answer is whole, and by the
/// lack of it that an answer was cut.
#[test]
fn the_end_of_an_answer_over_tls_is_told_from_a_cut() {
    let peer = Peer::with(|ask, out| {
        let _ = out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
        if ask.path() == "/cut" {
            return Then::Close;
        }
        let _ = out.write_all(b"4\r\nrest\r\n0\r\n\r\n");
        Then::Keep
    });
    let tls = Port::free();
    let file = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"a.example.com\"]\ncert = \"a.pem\"\nkey = \"a.key\"\n",
        in_front_of(&[&peer]),
        tls.number
    );
    let setup = Setup::file(&file).without_port();
    certificate(setup.path(), "a", "a.example.com");
    let _mainstay = setup.spawn();
    wait_until("the TLS listener", || std::net::TcpStream::connect(("127.0.0.1", tls.number)).is_ok());
    for version in ["1.0", "1.1"] {
        let (whole, said) = over_tls(tls.number, &format!("GET /whole HTTP/{version}"));
        assert!(whole.contains("half") && whole.contains("rest"), "{version}: {whole}\n{said}");
        assert!(!said.contains("unexpected eof"), "{version}: {whole}\n{said}");
        let (cut, said) = over_tls(tls.number, &format!("GET /cut HTTP/{version}"));
        assert!(cut.contains("half") && said.contains("unexpected eof"), "{version}: {cut}\n{said}");
    }
}

/// Asks by `openssl s_client`, which says so where a connection ends without TLS's own end: what came, what it said.
fn over_tls(port: u16, line: &str) -> (String, String) {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "a.example.com", "-connect", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run openssl");
    let mut input = client.stdin.take().expect("its input");
    write!(input, "{line}\r\nHost: a.example.com\r\nConnection: close\r\n\r\n").expect("ask");
    let output = client.wait_with_output().expect("openssl's end");
    drop(input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
