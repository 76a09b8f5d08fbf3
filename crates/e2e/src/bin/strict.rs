//! The strict client by itself, for `cargo xtask bench lossless`: sends until its standard input ends, says on the way
//! how many requests have ended (`at N`), and at the end what became of each, as one line of JSON.
//!
//! `strict --plain ADDRESS --tls ADDRESS --certificate FILE [--connections N] [--peer]`

use mainstay_e2e::soak::{self, Target};
use mainstay_e2e::strict::{Book, Mix, Tally, Trouble};
use mainstay_e2e::wait::pause;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 128;
/// Between two words about how far it is.
const WORD_EVERY: Duration = Duration::from_millis(50);
/// Of each kind; the counts say the rest.
const SHOWN_MAX: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("strict: {why}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |flag: &str| {
        let at = arguments.iter().position(|word| word == flag);
        at.and_then(|at| arguments.get(at + 1)).ok_or(format!("{flag} is missing"))
    };
    let address = |flag: &str| named(flag)?.parse().map_err(|e| format!("{flag}: {e}"));
    let target = Target::new(address("--plain")?, address("--tls")?, Path::new(named("--certificate")?))?;
    let connections = named("--connections").map_or(Ok(CONNECTIONS), |text| text.parse().map_err(|_| text.clone()))?;
    let book = match arguments.iter().any(|word| word == "--peer") {
        true => Book::of_a_peer(Mix::Both),
        false => Book::new(Mix::Both, 1),
    };

    let begun = Instant::now();
    let threads = soak::start(&target, connections, &book);
    let stopped = book.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopped.stop();
    });
    let mut out = std::io::stdout();
    while !book.stopped() {
        pause(WORD_EVERY);
        writeln!(out, "at {}", book.sent()).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    }
    for thread in threads {
        thread.join().map_err(|_| "a client thread panicked")?;
    }
    writeln!(out, "{}", told(&book.tally(), begun.elapsed())).map_err(|e| e.to_string())
}

fn told(tally: &Tally, took: Duration) -> serde_json::Value {
    let some = |all: &[Trouble]| {
        all.iter().take(SHOWN_MAX).map(|t| format!("{} {}: {}", t.method, t.number, t.what)).collect::<Vec<_>>()
    };
    let examples = [some(&tally.lost), some(&tally.cut), some(&tally.honest)].concat();
    serde_json::json!({
        "sent": tally.sent,
        "answered": tally.answered,
        "failed": tally.honest.len(),
        "cut": tally.cut.len(),
        "lost": tally.lost.len(),
        "refused": tally.refused.len(),
        "seconds": took.as_secs_f64(),
        "examples": examples,
        "refusals": tally.refused.iter().take(SHOWN_MAX).collect::<Vec<_>>(),
    })
}
