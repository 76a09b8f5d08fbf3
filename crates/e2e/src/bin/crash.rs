//! The crash harness by itself, for `cargo xtask soak jobs`; and the processes that its rounds kill.
//!
//! `crash soak --rounds N --seed S --lanes N --folder DIR`
//! `crash worker EDGE NAME JOURNAL QUEUE…` until standard input ends
//! `crash app JOURNAL` at `PORT`

use mainstay_e2e::crash::{Soak, worker};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("crash: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether all held.
fn run(words: &[&str]) -> Result<bool, String> {
    match words {
        ["soak", rest @ ..] => soak(rest),
        ["worker", edge, name, journal, queues @ ..] => {
            worker::pull(edge.parse().map_err(|_| format!("no address: {edge}"))?, name, Path::new(journal), queues);
            Ok(true)
        }
        ["app", journal] => {
            let port = std::env::var("PORT").ok().and_then(|text| text.parse().ok());
            worker::app(port.ok_or("no PORT")?, Path::new(journal));
            Ok(true)
        }
        _ => Err("soak, worker or app".to_owned()),
    }
}

fn soak(words: &[&str]) -> Result<bool, String> {
    let named = |flag: &str| {
        let at = words.iter().position(|word| *word == flag);
        at.and_then(|at| words.get(at + 1)).ok_or(format!("{flag} is missing"))
    };
    let number = |flag: &str| named(flag)?.parse::<u64>().map_err(|e| format!("{flag}: {e}"));
    let soak = Soak {
        seed: number("--seed")?,
        rounds: number("--rounds")?,
        lanes: usize::try_from(number("--lanes")?).map_err(|e| e.to_string())?,
        folder: Path::new(named("--folder")?).to_path_buf(),
    };
    let sum = soak.run(|line| println!("{line}"));
    let faults: Vec<String> = sum.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("{}\n{sum}", faults.join(", "));
    sum.troubles.iter().for_each(|trouble| print!("{trouble}"));
    Ok(sum.troubles.is_empty())
}
