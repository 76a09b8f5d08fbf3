//! Events in words: what, where, and what to type.
//!
//! Must never: let a child's words move the cursor.

use super::{End, Event, Level, Trouble, Who};
use crate::ready::{How, Seen};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// `main.1`
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.app, self.number)
    }
}

/// Width of the first column, so that lines of all kinds stand under each other.
const COLUMN: usize = 9;

fn kind(event: &Event) -> &'static str {
    match event.level() {
        Level::Debug | Level::Info => "app",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:COLUMN$}", kind(self))?;
        match self {
            Event::Started { who, pid, port: Some(port) } => write!(f, "{who}   started   pid {pid}   PORT={port}"),
            Event::Started { who, pid, port: None } => write!(f, "{who}   started   pid {pid}"),
            Event::TakenOver { who, pid } => write!(f, "{who}   taken over   pid {pid}"),
            Event::Ready { who, line, address, took, how } => ready(f, who, line, *address, *took, how),
            Event::HealthAdopted { app, path, status } => {
                write!(f, "{app}   its health is asked at {path}, which answered {status}")?;
                write!(f, "   to change: [app.{app}] health = {{ path = … }}")
            }
            Event::Elsewhere { who, port, address } => elsewhere(f, who, *port, *address),
            Event::WrongPort { who, port, listening } => wrong_port(f, who, *port, listening),
            Event::Exposed { who, listening } => exposed(f, who, listening),
            Event::Late { who, waited, port, seen, lines } => {
                write!(f, "{who} is not ready after {}; still waiting", span(*waited))?;
                not_ready(f, &who.app, *port, seen)?;
                last_lines(f, lines)
            }
            Event::Exited { who, end, again_in } => exited(f, who, end, *again_in),
            Event::CrashLoop { who, end, exits } => {
                write!(f, "{who}   {exits} times in a row {end}")?;
                write!(f, "; it is tried again for ever, every 30 s at the latest")?;
                end.details(f)
            }
            Event::Finished { who } => {
                write!(f, "{who}   ended with exit status 0, and [app.{}] restart = \"on-failure\"", who.app)
            }
            Event::Replaced { who } => write!(f, "{who}   replaced"),
            Event::NotReplaced { who, trouble } => write!(f, "{who}   not replaced: {trouble}"),
            Event::OverMemory { who, rss_bytes, limit_bytes } => {
                let (rss, limit) = (mib(*rss_bytes), mib(*limit_bytes));
                write!(f, "{who} uses {rss} MiB, more than its memory_limit of {limit} MiB; it is replaced")?;
                write!(f, "   to change: [app.{}] memory_limit", who.app)
            }
            Event::HadToKill { who, limit } => {
                write!(f, "{who} did not end within {} after SIGTERM and was killed", span(*limit))
            }
            Event::WouldNotStop { who, pid } => {
                write!(f, "{who} is still there after SIGKILL   look: ps -o pid,stat,wchan,args -g {pid}")
            }
            Event::Stray { label, pid } => write!(f, "{label}   pid {pid} runs and is not asked for any more; stopped"),
        }
    }
}

fn elsewhere(f: &mut fmt::Formatter<'_>, who: &Who, port: u16, address: SocketAddr) -> fmt::Result {
    write!(f, "{who} listens on {address} and not on its PORT {port}; requests go where it listens")?;
    write!(f, "   fix: let it listen on the number in PORT (node: process.env.PORT)")?;
    write!(f, ", or [app.{}] port = {}", who.app, address.port())
}

fn exited(f: &mut fmt::Formatter<'_>, who: &Who, end: &End, again_in: Duration) -> fmt::Result {
    write!(f, "{who}   {end}")?;
    match again_in.is_zero() {
        true => write!(f, "   started again")?,
        false => write!(f, "   again in {}", span(again_in))?,
    }
    end.details(f)
}

fn ready(
    f: &mut fmt::Formatter<'_>,
    who: &Who,
    line: &str,
    address: Option<SocketAddr>,
    took: Duration,
    how: &How,
) -> fmt::Result {
    match who.of {
        1 => write!(f, "{}   {}   1 instance", who.app, printable(line))?,
        of => write!(f, "{who}   {}   {of} instances", printable(line))?,
    }
    if let Some(address) = address {
        write!(f, "   {address}")?;
    }
    write!(f, "   ready in {} ({how})", span(took))
}

fn wrong_port(f: &mut fmt::Formatter<'_>, who: &Who, port: u16, listening: &[SocketAddr]) -> fmt::Result {
    write!(f, "{who} listens on {} and not on its PORT {port}", addresses(listening))?;
    match (who.of, listening) {
        (1, [one]) => write!(f, "   fix: [app.{}] port = {}", who.app, one.port()),
        (1, _) => write!(f, "; which one takes requests?   fix: [app.{}] port = NUMBER", who.app),
        (of, _) => write!(
            f,
            "; {of} instances cannot share it   fix: let it listen on the number in PORT (node: process.env.PORT), \
             or [app.{}] instances = 1",
            who.app
        ),
    }
}

fn exposed(f: &mut fmt::Formatter<'_>, who: &Who, listening: &[SocketAddr]) -> fmt::Result {
    write!(
        f,
        "{who} listens on {}, where others could walk round [identity]; it is not used   fix: let it listen on the \
         address in HOST, 127.0.0.1 (node: server.listen(process.env.PORT, process.env.HOST)), or [app.{}] \
         exposed = true if no one else reaches this machine",
        addresses(listening),
        who.app
    )
}

/// What stands between a running process and readiness, and what to do.
fn not_ready(f: &mut fmt::Formatter<'_>, app: &str, port: Option<u16>, seen: &Seen) -> fmt::Result {
    let Some(port) = port else { return Ok(()) };
    if seen.listening.is_empty() {
        return write!(
            f,
            "; it listens on no port   fix: let it listen on the number in PORT (now {port}), \
             or [app.{app}] port = false if it takes no requests"
        );
    }
    write!(f, "; it listens on {}", addresses(&seen.listening))?;
    match &seen.answer {
        Some(answer) => write!(f, "; {answer}   fix: [app.{app}] health = {{ path = … }} must answer 2xx"),
        None => write!(f, ", its PORT is {port}   fix: [app.{app}] port = NUMBER"),
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.exit, &self.error) {
            (Some(exit), _) => {
                write!(f, "{exit} after {}", span(self.ran))?;
                if self.was_ready { Ok(()) } else { write!(f, ", before it was ready") }
            }
            (None, Some(error)) => write!(f, "could not be started: {}", printable(error)),
            (None, None) => write!(f, "could not be started"),
        }
    }
}

impl End {
    fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.was_ready && !self.listening.is_empty() {
            write!(f, "\n{:COLUMN$}it listened on {}", "", addresses(&self.listening))?;
        }
        last_lines(f, &self.lines)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Ended(end) => {
                write!(f, "the new one: {end}")?;
                end.details(f)
            }
            Trouble::NotReady { app, waited, port, seen, lines } => {
                write!(f, "the new one was not ready after {}", span(*waited))?;
                not_ready(f, app, *port, seen)?;
                last_lines(f, lines)
            }
        }
    }
}

fn last_lines(f: &mut fmt::Formatter<'_>, lines: &[String]) -> fmt::Result {
    for line in lines {
        write!(f, "\n{:COLUMN$}| {}", "", printable(line))?;
    }
    Ok(())
}

fn addresses(list: &[SocketAddr]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A child's words may not move the cursor.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

pub(crate) fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// `80 ms`, `1.8 s`, `2 min`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..120_000 if ms % 1000 < 50 => format!("{} s", ms / 1000),
        1000..120_000 => format!("{:.1} s", duration.as_secs_f64()),
        ms => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_supervisor::protocol::Exit;

    fn who(of: u32) -> Who {
        Who { app: "main".to_owned(), number: 1, of }
    }

    fn end() -> End {
        End {
            exit: Some(Exit::Code(1)),
            error: None,
            ran: Duration::from_millis(412),
            was_ready: false,
            listening: vec![SocketAddr::from(([127, 0, 0, 1], 9229))],
            lines: vec!["Error: Cannot find module 'x'".to_owned(), "\x1b[31mred\x07".to_owned()],
        }
    }

    #[test]
    fn the_first_line_is_the_designs() {
        let ready = Event::Ready {
            who: who(1),
            line: "npm start".to_owned(),
            address: Some(SocketAddr::from(([127, 0, 0, 1], 21_000))),
            took: Duration::from_millis(1_830),
            how: How::Health { path: "/health".to_owned(), status: 200 },
        };
        let expected = "app      main   npm start   1 instance   127.0.0.1:21000   ready in 1.8 s (GET /health 200)";
        assert_eq!(ready.to_string(), expected);
    }

    #[test]
    fn an_end_says_what_when_where_and_its_last_words() {
        let exited = Event::Exited { who: who(2), end: end(), again_in: Duration::from_millis(100) };
        let expected = "warn     main.1   exit status 1 after 412 ms, before it was ready   again in 100 ms\n         \
                        it listened on 127.0.0.1:9229\n         | Error: Cannot find module 'x'\n         | [31mred";
        assert_eq!(exited.to_string(), expected);
        let crash = Event::CrashLoop { who: who(1), end: end(), exits: 5 };
        assert!(crash.to_string().starts_with("error    main.1   5 times in a row exit status 1 after"));
    }

    #[test]
    fn each_reason_not_to_be_ready_says_what_to_type() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let late = |seen| Event::Late {
            who: who(1),
            waited: Duration::from_secs(60),
            port: Some(21_000),
            seen,
            lines: vec![],
        };
        let nothing = late(Seen::default()).to_string();
        assert!(nothing.contains("listens on no port") && nothing.contains("[app.main] port = false"), "{nothing}");
        let sick = Seen { listening: vec![at(21_000)], answer: Some("GET /health 503".to_owned()) };
        assert!(late(sick).to_string().contains("GET /health 503"));
        let wrong = |of, ports: &[u16]| {
            let listening = ports.iter().map(|port| at(*port)).collect();
            Event::WrongPort { who: who(of), port: 21_000, listening }.to_string()
        };
        assert!(wrong(2, &[3000]).contains("2 instances cannot share it"));
        assert!(wrong(1, &[3000, 3001]).contains("which one takes requests?"));
        let exposed = Event::Exposed { who: who(1), listening: vec![at(3000)] }.to_string();
        assert!(exposed.contains("127.0.0.1:3000") && exposed.contains("[app.main] exposed = true"), "{exposed}");
    }

    #[test]
    fn spans_read_well() {
        let all = [80, 999, 1000, 1830, 60_000, 119_990, 120_000, 7_200_000].map(Duration::from_millis).map(span);
        assert_eq!(all, ["80 ms", "999 ms", "1 s", "1.8 s", "60 s", "120.0 s", "2 min", "120 min"]);
    }
}
