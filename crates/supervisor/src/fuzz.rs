//! Any bytes at all for what supervisor and server read of each other: neither may fall with the other.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use crate::channel::{Inbox, Read};
use crate::protocol::{ToServer, ToSupervisor};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

#[path = "../../config/tests/it/spelled.rs"]
mod spelled;
use spelled::spelled;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

const MESSAGE_WORDS: [&str; 36] = [
    "{",
    "}",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "0",
    "-1",
    "4294967296",
    "{\"Spawn\":",
    "{\"Kill\":{",
    "\"Ready\"",
    "\"Drain\"",
    "\"Reload\"",
    "{\"Hello\":",
    "\"ticket\":1",
    "\"pid\":7",
    "\"signal\":15",
    "\"listener\":",
    "{\"Tcp\":\"127.0.0.1:80\"}",
    "{\"Control\":\"/run/x\"}",
    "{\"StopLimit\":{\"limit_ms\":5}}",
    "{\"Drained\":{\"code\":0}}",
    "{\"Adopt\":{\"inputs\":\"x\"}}",
    "\"exit\":{\"Code\":1}",
    "{\"LeaderExited\":{",
    "{\"GroupEmpty\":{",
    "{\"Listen\":{",
    "}}",
    "\\u0000",
    "\"error\":\"e\"",
    "{\"SpawnFailed\":{",
];

/// What can be read is written so that it is read as the same again.
fn stays<M: Serialize + DeserializeOwned>(text: &str) -> bool {
    let Ok(message) = serde_json::from_str::<M>(text) else { return false };
    let written = serde_json::to_string(&message).expect("a message that was read can be written");
    let again = serde_json::from_str::<M>(&written).unwrap_or_else(|e| panic!("{text}: {written}: {e}"));
    assert_eq!(serde_json::to_string(&again).expect("again"), written);
    true
}

#[test]
fn messages_are_read_as_they_are_written() {
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &MESSAGE_WORDS);
        stays::<ToServer>(&text);
        stays::<ToSupervisor>(&text);
        // Random words rarely close what they open; these do, around any text and number.
        let (quoted, number) = (serde_json::Value::from(text).to_string(), bytes.first().copied().unwrap_or(0));
        let spec = format!(
            "{{\"app\":{quoted},\"number\":{number},\"port\":null,\"argv\":[{quoted}],\"dir\":{quoted},\
             \"user\":{quoted},\"env\":[[{quoted},{quoted}]],\"tag\":{quoted}}}"
        );
        assert!(stays::<ToSupervisor>(&format!("{{\"Spawn\":{{\"ticket\":{number},\"spec\":{spec}}}}}")), "{spec}");
        let instance = format!(
            "{{\"pid\":{number},\"app\":{quoted},\"number\":{number},\"port\":{number},\
             \"started_unix_us\":{number},\"tag\":{quoted},\"exit\":{{\"Signal\":{number}}}}}"
        );
        let spawned = format!("{{\"Spawned\":{{\"ticket\":{number},\"instance\":{instance}}}}}");
        assert!(stays::<ToServer>(&spawned), "{spawned}");
    });
}

/// Everything that has arrived, until nothing more is there or it is refused.
fn read_all(inbox: &mut Inbox, socket: &UnixStream, into: &mut Vec<Vec<u8>>) -> bool {
    loop {
        match inbox.read(socket.as_fd()) {
            Ok(Read::Message(body, _)) => into.push(body),
            Ok(Read::Blocked | Read::Closed) => return true,
            Err(_) => return false,
        }
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (writer, reader) = UnixStream::pair().expect("a socket pair");
    reader.set_nonblocking(true).expect("a socket that does not block");
    (writer, reader)
}

#[test]
fn messages_arrive_whole_however_they_are_cut() {
    bolero::check!().with_iterations(INPUTS).with_max_len(200).for_each(|bytes: &[u8]| {
        let (mut writer, reader) = pair();
        let cut = usize::from(bytes.first().copied().unwrap_or(1) % 40) + 1;
        let sent: Vec<Vec<u8>> = bytes.split(|byte| *byte % 16 == 0).map(<[u8]>::to_vec).collect();
        let mut frames = Vec::new();
        for body in &sent {
            frames.extend((body.len() as u32).to_le_bytes());
            frames.extend(body);
        }
        let (mut inbox, mut read) = (Inbox::default(), Vec::new());
        for piece in frames.chunks(cut) {
            writer.write_all(piece).expect("room for a piece");
            assert!(read_all(&mut inbox, &reader, &mut read));
        }
        assert_eq!(read, sent, "cut by {cut}");
    });
}

#[test]
fn rubbish_is_waited_on_or_refused_and_gives_no_more_than_it_is_long() {
    bolero::check!().with_iterations(INPUTS).with_max_len(200).for_each(|bytes: &[u8]| {
        let (mut writer, reader) = pair();
        writer.write_all(bytes).expect("room for a few bytes");
        let (mut inbox, mut read) = (Inbox::default(), Vec::new());
        read_all(&mut inbox, &reader, &mut read);
        assert!(read.iter().map(|body| body.len() + 4).sum::<usize>() <= bytes.len());
    });
}
