//! WebSockets pass byte for byte: three client libraries, three servers, and raw bytes; taps on both sides compare.

use crate::support::in_front_of;
use mainstay_e2e::fixtures::{node_client, python, python_client};
use mainstay_e2e::tap::Tap;
use mainstay_e2e::{Connection, Mainstay, Peer, Setup, wait_until};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{WebSocket, WebSocketConfig};

/// Mainstay before a child that speaks WebSocket.
fn node_server() -> Mainstay {
    Setup::command(&["node", "server.js"]).node_app("plainws").ready("/")
}

fn python_server() -> Mainstay {
    let python = python();
    let path = python.to_str().expect("a path");
    Setup::command(&[path, "server.py"]).python_app("websockets").start()
}

fn ws(address: SocketAddr) -> String {
    format!("ws://{address}/socket")
}

#[test]
fn e4_ws_of_npm_talks_to_ws_of_npm() {
    let mainstay = node_server();
    let said = node_client("ws.js", &[&ws(mainstay.edge())]);
    assert!(said.contains("extensions permessage-deflate"), "compression was lost on the way: {said}");
    assert!(said.contains("closed 4321"), "{said}");
}

#[test]
fn e4_sockets_over_http2_share_one_connection() {
    let mainstay = node_server();
    let said = node_client("ws_http2.js", &[&mainstay.edge().to_string()]);
    assert!(said.contains("both sockets echoed"), "{said}");
}

#[test]
fn e4_websockets_of_pypi_talks_to_ws_of_npm_and_to_its_own_kind() {
    let mainstay = node_server();
    let said = python_client("websockets_client.py", &[&ws(mainstay.edge())]);
    assert!(said.contains("permessage-deflate") && said.contains("closed 4321"), "{said}");
    let mainstay = python_server();
    let said = python_client("websockets_client.py", &[&ws(mainstay.edge())]);
    assert!(said.contains("permessage-deflate") && said.contains("closed 4321"), "{said}");
    let said = node_client("ws.js", &[&ws(mainstay.edge())]);
    assert!(said.contains("closed 4321"), "{said}");
}

fn tungstenite(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(mainstay_e2e::BOUND)).expect("timeout");
    let config = WebSocketConfig::default().max_message_size(Some(64 << 20)).max_frame_size(Some(64 << 20));
    let url = format!("ws://{address}{path}");
    let (socket, response) =
        tokio_tungstenite::tungstenite::client::client_with_config(url, stream, Some(config)).expect("handshake");
    assert_eq!(response.status(), 101);
    socket
}

/// The next message that is not a control frame answered by the library itself.
fn next(socket: &mut WebSocket<TcpStream>) -> Message {
    socket.read().expect("a message")
}

#[test]
fn e4_tungstenite_fragments_pings_close_codes_and_large_messages() {
    let mainstay = node_server();
    let mut socket = tungstenite(mainstay.edge(), "/socket");
    socket.send(Message::text("hello")).expect("send");
    assert_eq!(next(&mut socket), Message::text("hello"));

    let large = Message::binary((0..16_000_000u32).map(|n| (n >> 3) as u8).collect::<Vec<u8>>());
    socket.send(large.clone()).expect("send");
    assert!(next(&mut socket) == large, "a large message changed");

    for (text, kind, last) in
        [("one ", Data::Text, false), ("two ", Data::Continue, false), ("3", Data::Continue, true)]
    {
        let frame = Frame::message(text.as_bytes().to_vec(), OpCode::Data(kind), last);
        socket.send(Message::Frame(frame)).expect("send");
    }
    assert_eq!(next(&mut socket), Message::text("one two 3"));

    socket.send(Message::Ping(b"there?".to_vec().into())).expect("send");
    assert_eq!(next(&mut socket), Message::Pong(b"there?".to_vec().into()));

    let reason = CloseFrame { code: CloseCode::Library(4321), reason: "good bye".into() };
    socket.close(Some(reason)).expect("close");
    match next(&mut socket) {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 4321),
        other => panic!("expected a close, got {other:?}"),
    }

    let mut closed = tungstenite(mainstay.edge(), "/?close=4000");
    match next(&mut closed) {
        Message::Close(Some(frame)) => {
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4000, "as asked"));
        }
        other => panic!("expected a close, got {other:?}"),
    }
}

#[test]
fn e4_every_byte_after_the_handshake_is_the_same_on_both_sides() {
    // client → tap → mainstay → tap → server, with compression and everything the two libraries do.
    let port = mainstay_e2e::ports::Port::free();
    let folder = tempfile::tempdir().expect("a folder");
    mainstay_e2e::fixtures::node_app("plainws", folder.path());
    let mut server = std::process::Command::new("node")
        .arg("server.js")
        .current_dir(folder.path())
        .env("PORT", port.number.to_string())
        .spawn()
        .expect("run node");
    wait_until("the server to listen", || TcpStream::connect(("127.0.0.1", port.number)).is_ok());
    let behind = Tap::to(SocketAddr::from(([127, 0, 0, 1], port.number)));
    let mainstay = Setup::file(&format!("[app.main]\nupstreams = [\"{}\"]\n", behind.address)).ready("/");
    let front = Tap::to(mainstay.edge());
    let said = node_client("ws.js", &[&format!("ws://{}/tapped", front.address)]);
    assert!(said.contains("closed 4321"), "{said}");
    wait_until("both taps to have recorded the same", || {
        let (one, two) = (front.holding("/tapped"), behind.holding("/tapped"));
        one.len() == 1 && two.len() == 1 && one[0].after_heads() == two[0].after_heads()
    });
    let recorded = &front.holding("/tapped")[0];
    let (up, down) = recorded.after_heads();
    assert!(up.len() > 8_000_000 && down.len() > 8_000_000, "{} up, {} down", up.len(), down.len());
    let _ = server.kill();
    let _ = server.wait();
}

/// An upstream that answers any upgrade with 101 and sends everything back.
fn echo_tunnel() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0u8; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    if !head.contains("\r\nupgrade:") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        return;
    }
    let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade:")).unwrap_or_default().trim().to_string();
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
    // The first bytes of the tunnel come with the head, as some servers send them.
    let _ = stream.write_all(format!("{answer}hello from the tunnel").as_bytes());
    let mut buffer = [0u8; 32 * 1024];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

#[test]
fn e4_any_other_upgrade_is_a_tunnel_for_any_bytes() {
    let address = echo_tunnel();
    let mainstay = Setup::file(&format!("[app.main]\nupstreams = [\"{address}\"]\n")).ready("/");
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    let head = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: my-own/7\r\n\r\n";
    // Bytes right behind the head, before the 101 is back.
    client.send(format!("{head}early bytes").as_bytes()).expect("send");
    let response = client.response(false).expect("101");
    assert_eq!((response.status, response.header("upgrade")), (101, Some("my-own/7")), "{}", response.head);
    assert_eq!(client.exactly(21).expect("bytes"), b"hello from the tunnel");
    assert_eq!(client.exactly(11).expect("bytes"), b"early bytes");
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut writer = client.stream.try_clone().expect("clone");
    let copy = noise.clone();
    let sender = std::thread::spawn(move || writer.write_all(&copy).is_ok());
    assert!(client.exactly(noise.len()).expect("bytes") == noise, "bytes changed in the tunnel");
    assert!(sender.join().expect("the sender"));
    // Half closed by us, it ends for the server, whose end reaches us.
    client.stream.shutdown(std::net::Shutdown::Write).expect("shutdown");
    assert!(client.rest().is_empty());
}

#[test]
fn e4_a_refused_upgrade_is_an_ordinary_answer() {
    let peer = Peer::with(|_, out| mainstay_e2e::peer::answer(out, 403, &[("x-why", "no sockets")], b"not here"));
    let mainstay = Setup::file(&in_front_of(&[&peer])).start();
    let mut client = Connection::open(mainstay.edge()).expect("connect");
    let head = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(head.as_bytes()).expect("send");
    let response = client.response(false).expect("a response");
    assert_eq!((response.status, response.text().as_str()), (403, "not here"));
    // The connection is an ordinary one and may go on.
    client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    assert_eq!(client.response(false).expect("a response").status, 403);
}

#[test]
fn e4_sockets_outlive_a_reload_and_the_limits_of_ordinary_requests() {
    let text = |word: &str| {
        format!(
            "[app.main]\nrun = \"node server.js\"\nenv = {{ WORD = \"same\" }}\n[edge.timeouts]\nresponse = \"1s\"\n\
             idle = \"1s\"\nheader = \"1s\"\nbody = \"1s\"\n[[route]]\nmatch = \"/{word}\"\nbody = \"1KB\"\n"
        )
    };
    let mainstay = Setup::file(&text("one")).node_app("plainws").ready("/");
    let mut socket = tungstenite(mainstay.edge(), "/socket");
    socket.send(Message::text("before")).expect("send");
    assert_eq!(next(&mut socket), Message::text("before"));
    // Quiet for longer than every limit of ordinary requests.
    mainstay_e2e::wait::pause(Duration::from_millis(2500));
    mainstay.write("mainstay.toml", &text("two"));
    mainstay.verb(&["reload"]).ok();
    socket.send(Message::text("after")).expect("send");
    assert_eq!(next(&mut socket), Message::text("after"));
}

#[test]
fn e4_an_idle_socket_is_closed_after_its_own_time() {
    let text = "[app.main]\nrun = \"node server.js\"\n[edge.timeouts]\nupgrade_idle = \"1s\"\n";
    let mainstay = Setup::file(text).node_app("plainws").ready("/");
    let mut socket = tungstenite(mainstay.edge(), "/socket");
    socket.send(Message::text("hello")).expect("send");
    assert_eq!(next(&mut socket), Message::text("hello"));
    assert!(socket.read().is_err() || !socket.can_read(), "the idle socket is still open");
}

#[test]
fn e4_a_draining_instance_says_1012_to_its_sockets_at_a_frame_boundary() {
    let text = "[app.main]\nrun = \"node server.js\"\ninstances = 2\n[edge.timeouts]\ndrain = \"2s\"\n";
    let mainstay = Setup::file(text).node_app("plainws").ready("/");
    crate::support::ready_instances(&mainstay, 2);
    let mut sockets: Vec<_> = (0..4).map(|_| tungstenite(mainstay.edge(), "/socket")).collect();
    mainstay.verb(&["restart"]).ok();
    for socket in &mut sockets {
        match socket.read() {
            Ok(Message::Close(Some(frame))) => assert_eq!(u16::from(frame.code), 1012, "{frame:?}"),
            other => panic!("expected close 1012, got {other:?}"),
        }
    }
}

#[test]
fn e4_a_thousand_sockets_are_held_through_twenty_reloads() {
    const SOCKETS: usize = 1000;
    let address = echo_tunnel();
    let file = |round: usize| {
        format!(
            "[app.main]\nupstreams = [{{ to = \"{address}\", weight = {} }}]\n\
             [edge.limits]\nconnections_per_client = 5000\n[edge.timeouts]\nidle = \"{}s\"\n",
            round % 3 + 1,
            60 + round
        )
    };
    let mainstay = Setup::file(&file(0)).ready("/");
    let head = b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut sockets: Vec<TcpStream> = (0..SOCKETS)
        .map(|_| {
            let mut socket = TcpStream::connect(mainstay.edge()).expect("connect");
            socket.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
            socket.write_all(head).expect("send");
            read_until(&mut socket, b"hello from the tunnel");
            socket
        })
        .collect();
    for round in 1..=20 {
        mainstay.write("mainstay.toml", &file(round));
        mainstay.verb(&["reload"]).ok();
        // Some speak between two reloads, the others are idle all the while.
        for socket in sockets.iter_mut().step_by(50) {
            echoed(socket, round);
        }
    }
    let mut cut = 0;
    for (number, socket) in sockets.iter_mut().enumerate() {
        cut += usize::from(!echoed(socket, number));
    }
    println!("{SOCKETS} sockets, 20 reloads: {cut} cut");
    assert_eq!(cut, 0, "of {SOCKETS} sockets");
}

/// A small masked frame there and back; false if the socket was cut.
fn echoed(socket: &mut TcpStream, number: usize) -> bool {
    let text = format!("{number:06}");
    let frame = [&[0x82, 0x80 | text.len() as u8, 0, 0, 0, 0][..], text.as_bytes()].concat();
    let mut back = vec![0; frame.len()];
    socket.write_all(&frame).is_ok() && socket.read_exact(&mut back).is_ok() && back == frame
}

fn read_until(socket: &mut TcpStream, end: &[u8]) {
    let mut all = Vec::new();
    let mut byte = [0; 1];
    while !all.ends_with(end) {
        socket.read_exact(&mut byte).expect("the answer to an upgrade");
        all.push(byte[0]);
    }
}
