//! A backend as a static binary: takes `PORT`, knows nothing of Mainstay, ends at once on SIGTERM as a program without
//! a handler does. What it can be asked for is what the tests need to see.
//!
//! `static_app [--port N] [--journal FILE]`: the port named wins over `PORT`; the journal gets one line for each
//! request with a number (`?n=`) that it begins to work on.

// Asked to die, it dies at once: that is what the tests want of it.
#![allow(clippy::disallowed_methods)]

use mainstay_e2e::peer::{Ask, Peer, Then, answer};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named =
        |flag: &str| arguments.iter().position(|word| word == flag).and_then(|at| arguments.get(at + 1).cloned());
    let port = named("--port").or_else(|| std::env::var("PORT").ok()).and_then(|text| text.parse().ok());
    let Some(port) = port else {
        eprintln!("no PORT");
        std::process::exit(1);
    };
    let journal = named("--journal");
    println!("static app on {port}");
    let _peer = Peer::at(port, move |ask, out| reply(ask, out, journal.as_deref()));
    loop {
        std::thread::park();
    }
}

fn reply(ask: &Ask, out: &mut TcpStream, journal: Option<&str>) -> Then {
    if let (Some(path), Some(number)) = (journal, ask.query("n")) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{} {number}", ask.method));
    }
    let millis = ask.query("ms").and_then(|text| text.parse().ok()).unwrap_or(0);
    if millis > 0 {
        mainstay_e2e::wait::pause(Duration::from_millis(millis));
    }
    let pid = std::process::id().to_string();
    let headers = [("content-type", "text/plain"), ("x-pid", pid.as_str())];
    match ask.path() {
        "/number" => answer(out, 200, &headers, ask.query("n").unwrap_or("none").as_bytes()),
        "/pid" => answer(out, 200, &headers, pid.as_bytes()),
        "/headers" => answer(out, 200, &headers, ask.head.as_bytes()),
        "/variable" => {
            let value = std::env::var(ask.query("name").unwrap_or_default()).unwrap_or_else(|_| "unset".into());
            answer(out, 200, &headers, value.as_bytes())
        }
        "/echo" => answer(out, 200, &headers, &ask.body),
        "/length" => answer(out, 200, &headers, ask.body.len().to_string().as_bytes()),
        "/print" => {
            println!("{}", unescape(ask.query("line").unwrap_or_default()));
            answer(out, 200, &headers, b"printed")
        }
        "/die" => std::process::exit(ask.query("code").and_then(|code| code.parse().ok()).unwrap_or(1)),
        "/half" => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf");
            std::process::abort();
        }
        "/grow" => {
            let megabytes: usize = ask.query("mb").and_then(|text| text.parse().ok()).unwrap_or(0);
            // Written to, so that it is resident, and never given back.
            std::mem::forget(vec![1u8; megabytes * 1024 * 1024]);
            answer(out, 200, &headers, b"grown")
        }
        "/health" => answer(out, 200, &headers, b"fine"),
        path => match path.strip_prefix("/status/").and_then(|code| code.parse().ok()) {
            Some(status) => answer(out, status, &headers, format!("status {status}").as_bytes()),
            None if path == "/" || path.starts_with("/app") => answer(out, 200, &headers, b"static app"),
            None => answer(out, 404, &headers, b"no such page"),
        },
    }
}

/// `%20`, `%7B` and so on, enough for lines a test prints.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
