//! `mainstay logs`: reads the bounded files of the data folder, so it works while nothing runs (S11).

use super::log_line::show;
use crate::exit::{self, Failure};
use crate::place::PlaceArgs;
use crate::told::LOG_FOLDER;
use mainstay_config::units;
use mainstay_runtime::Clock;
use mainstay_telemetry::Level;
use mainstay_telemetry::read::{Logs, Position, Query};
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Duration;

/// What fits a few screens.
const TAIL_LINES: usize = 100;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the last N lines (100; with --since all of them)
    #[arg(short = 'n', long = "tail", value_name = "N")]
    tail: Option<usize>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// This level and what is worse: error, warn, info, debug, trace
    #[arg(long, value_parser = level)]
    level: Option<Level>,
    /// Lines of the last 24h, 30m, 1h30m, or since a time as 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// One instance, as main.2
    #[arg(long)]
    instance: Option<String>,
    /// One app
    #[arg(long)]
    app: Option<String>,
    /// The lines as they were written
    #[arg(long)]
    json: bool,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    UnixMicros(u64),
}

fn level(text: &str) -> Result<Level, String> {
    // `level=error` is how the guides' hosting writes a filter.
    Level::parse(text.strip_prefix("level=").unwrap_or(text))
        .ok_or_else(|| format!("expected one of {}", Level::WORDS.join(", ")))
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Since::UnixMicros(u64::try_from(at.as_microsecond()).unwrap_or(0)));
    }
    units::duration(text)
        .map(Since::Ago)
        .map_err(|why| format!("{why}; expected a duration as 24h, or a time as 2026-11-21T10:00:00Z"))
}

/// How often a follower looks for more: as fast as the writer's own rounds would be noise.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

pub fn run(place: &PlaceArgs, args: &Args) -> Result<u8, Failure> {
    let dir = place.resolve()?.data.join(LOG_FOLDER);
    if !dir.is_dir() {
        return Err(Failure::Unreachable(format!(
            "there are no logs at {}\n  fix: mainstay run -- COMMAND   or name the data folder: --data DIR",
            dir.display()
        )));
    }
    let query = query(args);
    let logs = Logs::new(&dir);
    let mut out = Out::new(args.json);
    let mut position = logs.read(&query, |line| out.line(line))?;
    if args.follow && !out.is_closed {
        follow(&logs, &Query { tail: None, ..query }, &mut position, &mut out)?;
    }
    Ok(exit::ASKED)
}

fn query(args: &Args) -> Query {
    let now = Clock::unix_micros();
    let since = args.since.map(|since| match since {
        Since::Ago(ago) => now.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)),
        Since::UnixMicros(at) => at,
    });
    Query {
        since_unix_us: since,
        level: args.level,
        app: args.app.clone(),
        instance: args.instance.clone(),
        // Who names a time wants everything from then on, unless a number was named too.
        tail: args.tail.or_else(|| since.is_none().then_some(TAIL_LINES)),
        ..Query::default()
    }
}

/// Until the reader of our output is gone, or Ctrl-C.
fn follow(logs: &Logs, query: &Query, position: &mut Position, out: &mut Out) -> Result<(), Failure> {
    let (runtime, local) = mainstay_runtime::current_thread()?;
    local.block_on(&runtime, async {
        while !out.is_closed {
            logs.follow(query, position, |line| out.line(line))?;
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
        Ok(())
    })
}

/// Standard output, until nobody reads it any more.
struct Out {
    json: bool,
    color: bool,
    is_closed: bool,
}

impl Out {
    fn new(json: bool) -> Out {
        let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Out { json, color, is_closed: false }
    }

    fn line(&mut self, line: &str) -> ControlFlow<()> {
        let text = if self.json { line.to_owned() } else { show(line, self.color) };
        if writeln!(std::io::stdout(), "{text}").is_err() {
            // `| head` has seen enough.
            self.is_closed = true;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_levels_are_read_as_people_write_them() {
        assert_eq!(since("24h"), Ok(Since::Ago(Duration::from_secs(86_400))));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::UnixMicros(1_000_000)));
        assert!(since("yesterday").is_err());
        assert_eq!(level("level=error"), Ok(Level::Error));
        assert!(level("loud").is_err());
    }
}
