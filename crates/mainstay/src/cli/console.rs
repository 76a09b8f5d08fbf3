//! `mainstay console`: a link that lets this operator's browser in, once.

use crate::control::{Command, ConsoleAsked, client};
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Log out every browser, make every link worthless and close the port
    #[arg(long)]
    end: bool,
    /// The answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(place: &PlaceArgs, args: &Args) -> Result<u8, Failure> {
    let asked = if args.end { ConsoleAsked::End } else { ConsoleAsked::Link };
    let answer = client::ask(&place.resolve()?, &Command::Console(asked), client::to_stderr)?;
    if args.json {
        println!("{answer}");
        return Ok(exit::ASKED);
    }
    if args.end {
        match answer["wasOpen"] == true {
            true => println!("closed; {} logged out", answer["ended"]),
            false => println!("it was not open"),
        }
        return Ok(exit::ASKED);
    }
    // Alone on stdout, for a pipe.
    println!("{}", answer["link"].as_str().unwrap_or_default());
    let minutes = answer["seconds"].as_u64().unwrap_or_default() / 60;
    eprintln!("open it in a browser: it lets in once, within {minutes} minutes   to end it: mainstay console --end");
    let port = answer["port"].as_u64().unwrap_or_default();
    if let Some(line) = std::env::var("SSH_CONNECTION").ok().and_then(|text| tunnel(&text, port)) {
        eprintln!("from where you came from, first: {line}");
    }
    Ok(exit::ASKED)
}

/// What an operator types at home, who sits here by ssh. `connection`: client, its port, server, its port.
fn tunnel(connection: &str, port: u64) -> Option<String> {
    let mut words = connection.split_whitespace().skip(2);
    let (host, ssh_port) = (words.next()?, words.next()?);
    let user = std::env::var("USER").map(|user| format!("{user}@")).unwrap_or_default();
    let ssh_port = if ssh_port == "22" { String::new() } else { format!("-p {ssh_port} ") };
    Some(format!("ssh {ssh_port}-N -L {port}:127.0.0.1:{port} {user}{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_by_ssh_is_told_how_the_browser_comes_too() {
        let line = tunnel("198.51.100.7 50022 192.0.2.1 2222", 4700).expect("a line");
        assert!(line.starts_with("ssh -p 2222 -N -L 4700:127.0.0.1:4700 ") && line.ends_with("192.0.2.1"), "{line}");
        assert!(!tunnel("a 1 b 22", 4700).expect("a line").contains("-p"));
        assert_eq!(tunnel("", 4700), None);
        assert_eq!(tunnel("a b c", 4700), None);
    }
}
