//! A thousand WebSockets through an upgrade: none is cut before the drain limit, and each is then told to come back,
//! between two frames.

use crate::upgrade::{servers, under_way, upgraded};
use mainstay_e2e::processes::resident;
use mainstay_e2e::{Mainstay, Setup, wait_until};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOCKETS: usize = 1000;
/// Of them, those on which the app never stops talking, so that most are in the middle of a frame at the limit.
const BUSY_EACH: usize = 20;
const LIMIT: Duration = Duration::from_secs(8);
/// Larger than any one read or write of the edge.
const BUSY_FRAME_BYTES: usize = 200_000;
/// DESIGN's bound for a connection at rest, for each socket in both servers together; and for the second server itself
/// what one of this profile has at rest (34 MiB, of which 26 are pages of the file that both have).
const GROWTH_KIB_MAX: u64 = SOCKETS as u64 * 16 + 34 * 1024;

const HEAD: &str = "GET /PATH HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An app that sends each small frame back, or, asked for `/busy`, large ones in halves without end.
fn app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.windows(7).any(|window| window == b"websock") {
        return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    }
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
    if head.starts_with(b"GET /busy") {
        let frame = [&[0x82, 127][..], &(BUSY_FRAME_BYTES as u64).to_be_bytes(), &vec![7; BUSY_FRAME_BYTES]].concat();
        loop {
            for half in frame.chunks(BUSY_FRAME_BYTES / 2) {
                stream.write_all(half)?;
                mainstay_e2e::wait::pause(Duration::from_millis(40));
            }
        }
    }
    loop {
        let mut frame = [0; 2 + 4 + 6];
        stream.read_exact(&mut frame)?;
        stream.write_all(&[&[0x82, 6], &frame[6..]].concat())?;
    }
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// A close frame with this code, between two frames.
    Told(u16, Instant),
    /// Without a word, or in the middle of a frame.
    Cut(String, Instant),
}

fn opened(mainstay: &Mainstay, path: &str) -> Arc<TcpStream> {
    let mut stream = TcpStream::connect(mainstay.edge()).expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(mainstay_e2e::BOUND)).expect("timeout");
    stream.write_all(HEAD.replace("PATH", path).as_bytes()).expect("send");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the answer to an upgrade");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    Arc::new(stream)
}

/// Reads frames until the end; `heard` counts them. A close is answered, as a client must.
fn listen(stream: Arc<TcpStream>, heard: Arc<AtomicUsize>) -> JoinHandle<End> {
    std::thread::spawn(move || {
        let mut stream = &*stream;
        loop {
            match frame(&mut stream) {
                Ok((0x88, payload)) if payload.len() == 2 => {
                    let _ = stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, payload[0], payload[1]]);
                    return End::Told(u16::from_be_bytes([payload[0], payload[1]]), Instant::now());
                }
                Ok((0x82, _)) => {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
                Ok((kind, payload)) => {
                    let what = format!("a frame nobody sent: {kind:#x}, {} bytes", payload.len());
                    return End::Cut(what, Instant::now());
                }
                Err(e) => return End::Cut(e.to_string(), Instant::now()),
            }
        }
    })
}

/// An unmasked frame: its first byte and its payload.
fn frame(stream: &mut &TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] {
        127 => {
            let mut long = [0; 8];
            stream.read_exact(&mut long)?;
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= BUSY_FRAME_BYTES);
    let mut payload = vec![0; length.ok_or_else(|| std::io::Error::other("a length nobody sent"))?];
    stream.read_exact(&mut payload)?;
    Ok((head[0], payload))
}

/// Resident memory of every server, in KiB.
fn memory(mainstay: &Mainstay) -> u64 {
    servers(mainstay).into_iter().filter_map(resident).sum::<u64>() / 1024
}

/// E4: sockets are the old server's until the limit; with real counts.
#[test]
fn e4_r_upgrade_a_thousand_sockets_are_held_until_the_limit() {
    let file = format!(
        "[app.main]\nupstreams = [\"{}\"]\n[edge.limits]\nconnections_per_client = 5000\n[edge.timeouts]\n\
         drain = \"{}s\"\n",
        app(),
        LIMIT.as_secs()
    );
    let mainstay = Setup::file(&file).own_binary().ready("/");
    let before = memory(&mainstay);
    let heard = Arc::new(AtomicUsize::new(0));
    let path = |number: usize| if number.is_multiple_of(BUSY_EACH) { "busy" } else { "held" };
    let sockets: Vec<_> = (0..SOCKETS).map(|number| (path(number), opened(&mainstay, path(number)))).collect();
    let ends: Vec<_> = sockets.iter().map(|(_, socket)| listen(socket.clone(), heard.clone())).collect();

    mainstay.replace_binary(&mainstay_e2e::mainstay::binary());
    // The old server begins to drain after this; what is told before this and the limit is told too early.
    let began = Instant::now();
    mainstay.signal(Signal::SIGUSR2);
    wait_until("the new server to serve", || under_way(&mainstay).is_some_and(|text| text.contains("taken over")));
    let mut peak = 0;
    let mut sent = 0;
    while began.elapsed() < LIMIT - Duration::from_secs(1) {
        for (_, socket) in sockets.iter().filter(|(path, _)| *path == "held") {
            sent += usize::from((&**socket).write_all(&[0x82, 0x86, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).is_ok());
        }
        peak = peak.max(memory(&mainstay));
        mainstay_e2e::wait::pause(Duration::from_millis(200));
    }
    let open = ends.iter().filter(|end| !end.is_finished()).count();
    let ends: Vec<End> = ends.into_iter().map(|end| end.join().expect("a listener")).collect();
    let times = ends.iter().map(|end| match end {
        End::Told(_, at) | End::Cut(_, at) => *at - began,
    });
    let (first, last) = (times.clone().min().unwrap_or_default(), times.max().unwrap_or_default());
    let cut: Vec<&End> = ends.iter().filter(|end| matches!(end, End::Cut(..))).collect();
    let early = ends.iter().filter(|end| matches!(end, End::Told(_, at) | End::Cut(_, at) if *at < began + LIMIT));
    let early = early.count();
    let grown = peak.saturating_sub(before);
    println!(
        "{SOCKETS} sockets, {sent} small frames sent and {} heard meanwhile: {early} ended before the limit, {} cut; \
         told to come back from {first:?} to {last:?}; both servers grew by {grown} KiB at most",
        heard.load(Ordering::SeqCst),
        cut.len()
    );
    assert_eq!((early, cut.len()), (0, 0), "{:?}", &cut[..cut.len().min(3)]);
    assert_eq!(open, SOCKETS);
    assert!(ends.iter().all(|end| matches!(end, End::Told(1012, _))), "another code");
    assert!(heard.load(Ordering::SeqCst) >= sent, "an echo is missing");
    assert!(last - first > Duration::from_secs(1), "all at once: the apps get a thousand new sockets in a moment");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");

    wait_until("the end of the upgrade", || servers(&mainstay).len() == 1 && under_way(&mainstay).is_none());
    drop(sockets);
    // They come back, and the next upgrade finds nothing of the last.
    let again = opened(&mainstay, "held");
    (&*again).write_all(&[0x82, 0x86, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]).expect("send");
    assert_eq!(frame(&mut &*again).expect("an echo"), (0x82, vec![1, 2, 3, 4, 5, 6]));
    drop(again);
    upgraded(&mainstay, false);
}
