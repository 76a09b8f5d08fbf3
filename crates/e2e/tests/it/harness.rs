//! The strict client judged first: what it must see as lost, it sees.

use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::{Peer, wait_until};
use std::io::Write;
use std::net::TcpStream;

/// Answers every request but those whose number ends with 7, which go by `how`.
fn answering(how: impl Fn(&mut TcpStream) -> Then + Send + Sync + 'static) -> Peer {
    Peer::with(move |ask, out| {
        let number = ask.query("n").unwrap_or_default();
        if number.ends_with('7') { how(out) } else { answer(out, 200, &[], number.as_bytes()) }
    })
}

#[test]
fn the_strict_client_counts_every_request_once() {
    let peer = answering(|out| answer(out, 200, &[], b"7 by another name"));
    let load = Load::http1(peer.address, 5, Mix::Both);
    load.goes_on(100);
    let tally = load.finish();
    assert_eq!(tally.sent, peer.all().len() as u64);
    assert_eq!(tally.sent, tally.answered + tally.lost.len() as u64);
    assert!(tally.lost.iter().all(|trouble| trouble.number % 10 == 7), "{:?}", tally.lost);
}

#[test]
fn the_strict_client_sees_silence_cuts_and_errors_without_an_id_as_lost() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort";
    let cut_with_id = b"HTTP/1.1 200 OK\r\nMainstay-Request-Id: r_1\r\nContent-Length: 99\r\n\r\nshort";
    let honest = b"HTTP/1.1 502 X\r\nMainstay-Request-Id: r_1\r\nContent-Length: 0\r\n\r\n";
    let nameless = b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n";
    for (bytes, class) in
        [(&b""[..], "lost"), (cut, "lost"), (cut_with_id, "cut"), (honest, "honest"), (nameless, "lost")]
    {
        let bytes = bytes.to_vec();
        let peer = answering(move |out| {
            let _ = out.write_all(&bytes);
            Then::Close
        });
        let load = Load::http1(peer.address, 3, Mix::Safe);
        load.goes_on(60);
        let tally = load.finish();
        let seen = match (tally.lost.len(), tally.cut.len(), tally.honest.len()) {
            (1.., 0, 0) => "lost",
            (0, 1.., 0) => "cut",
            (0, 0, 1..) => "honest",
            _ => "mixed",
        };
        assert_eq!(seen, class, "{tally:?}");
    }
}

#[test]
fn the_strict_client_sees_a_refused_connection() {
    let peer = answering(|_| Then::Close);
    let load = Load::http1(peer.address, 2, Mix::Safe);
    load.goes_on(5);
    let address = peer.address;
    peer.stop();
    drop(peer);
    wait_until("the port to be closed", || TcpStream::connect(address).is_err());
    let tally = load.finish();
    let seen = std::panic::catch_unwind(|| tally.nothing_lost());
    assert!(seen.is_err(), "{tally:?}");
}
