//! What the children print: pipes in, lines out, and the last of them kept for messages about a crash.
//!
//! Always reads to the end, whatever becomes of the lines: a child must never block on a full pipe.

use mainstay_runtime::Clock;
use mainstay_telemetry::{Handle, Line, Stream, child};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// What a message about a crash shows of the child's own words.
const TAIL_LINES: usize = 20;
/// A pipe holds 64 KiB: two reads empty it.
const READ_BYTES: usize = 32 * 1024;
/// How often a flood that has ended is looked for, to say what was dropped of it.
const TICK: Duration = Duration::from_secs(1);

/// The last lines of every instance, as its newest process wrote them.
#[derive(Debug, Clone, Default)]
pub struct Tails(Rc<RefCell<HashMap<Key, VecDeque<String>>>>);

/// An app and the number of one of its instances.
type Key = (String, u32);

impl Tails {
    fn push(&self, key: &Key, line: &str) {
        let mut tails = self.0.borrow_mut();
        // The key is made once an instance; lines are many.
        if !tails.contains_key(key) {
            tails.insert(key.clone(), VecDeque::with_capacity(TAIL_LINES));
        }
        let Some(tail) = tails.get_mut(key) else { return };
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    }

    /// A new process begins: what the one before it said is no account of this one.
    fn begin(&self, key: &Key) {
        self.0.borrow_mut().remove(key);
    }

    pub fn of(&self, app: &str, number: u32) -> Vec<String> {
        self.0.borrow().get(&(app.to_owned(), number)).map(|tail| tail.iter().cloned().collect()).unwrap_or_default()
    }
}

/// One process's output, both streams.
struct Source {
    key: Key,
    lines: RefCell<child::Output>,
    tails: Tails,
    telemetry: Handle,
}

impl Source {
    fn emit(&self, line: Line) {
        if line.stream != Stream::Own {
            self.tails.push(&self.key, &line.text);
        }
        self.telemetry.line(line);
    }

    fn push(&self, stream: Stream, bytes: &[u8]) {
        let mut lines = self.lines.borrow_mut();
        lines.push(stream, bytes, Clock::now(), Clock::unix_micros(), |line| self.emit(line));
    }

    fn end(&self, stream: Stream) {
        self.lines.borrow_mut().end(stream, Clock::now(), Clock::unix_micros(), |line| self.emit(line));
    }

    fn tick(&self) {
        self.lines.borrow_mut().tick(Clock::now(), Clock::unix_micros(), |line| self.emit(line));
    }

    fn has_dropped(&self) -> bool {
        self.lines.borrow().has_dropped()
    }
}

/// Reads both streams of a process until the last one that holds them is gone. Must run inside a `LocalSet`.
pub fn listen(output: mainstay_fleet::Output, telemetry: Handle, tails: Tails) {
    let mainstay_fleet::Output { app, number, stdout, stderr, .. } = output;
    let lines = RefCell::new(child::Output::new(&app, &format!("{app}.{number}")));
    let key = (app, number);
    tails.begin(&key);
    let source = Rc::new(Source { key, lines, tails, telemetry });
    tokio::task::spawn_local(read(stdout, Stream::Stdout, source.clone()));
    tokio::task::spawn_local(read(stderr, Stream::Stderr, source));
}

async fn read(fd: OwnedFd, stream: Stream, source: Rc<Source>) {
    let Ok(mut pipe) = pipe::Receiver::from_owned_fd(fd) else { return };
    let mut bytes = vec![0; READ_BYTES];
    loop {
        let reading = pipe.read(&mut bytes);
        let read = if source.has_dropped() {
            match tokio::time::timeout(TICK, reading).await {
                Ok(read) => read,
                Err(_) => {
                    source.tick();
                    continue;
                }
            }
        } else {
            reading.await
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(n) => source.push(stream, &bytes[..n]),
        }
        // A child that floods its output must not keep the control thread from anything else.
        tokio::task::yield_now().await;
    }
    source.end(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines_of_its_instance_alone() {
        let tails = Tails::default();
        for i in 0..TAIL_LINES + 5 {
            tails.push(&("main".to_owned(), 1), &i.to_string());
        }
        assert_eq!(tails.of("main", 1).first().map(String::as_str), Some("5"));
        assert_eq!(tails.of("main", 1).len(), TAIL_LINES);
        assert!(tails.of("main", 2).is_empty());
    }
}
