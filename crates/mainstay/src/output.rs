//! What the children print: pipes in, lines out, and the last of them kept for messages about a crash.
//!
//! Always reads to the end, whatever becomes of the lines: a child must never block on a full pipe. A pipe has one
//! reader: in an upgrade one server lets go, with the beginnings of lines it has, before the next one begins.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use mainstay_runtime::Clock;
use mainstay_telemetry::{Handle, Line, Stream, child};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::AbortHandle;

/// What a message about a crash shows of the child's own words.
const TAIL_LINES: usize = 20;
/// A pipe holds 64 KiB: two reads empty it.
const READ_BYTES: usize = 32 * 1024;
/// How often a flood that has ended is looked for, to say what was dropped of it.
const TICK: Duration = Duration::from_secs(1);

/// The pipes of all processes. Cheap to clone; lives on the control thread.
#[derive(Clone)]
pub struct Outputs {
    tails: Tails,
    telemetry: Handle,
    reading: Rc<RefCell<Reading>>,
}

#[derive(Default)]
struct Reading {
    /// Not to be read yet: another server does.
    held: Option<Vec<mainstay_fleet::Output>>,
    /// Beginnings of lines that another server has read, by process.
    begun: HashMap<i32, Begun>,
    open: Vec<Open>,
}

struct Open {
    pid: i32,
    source: Rc<Source>,
    tasks: [AbortHandle; 2],
}

/// What of a process's next lines was read already, in base64: it may end within a character.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    pid: i32,
    stdout: String,
    stderr: String,
}

impl Outputs {
    /// `hold`: reads nothing before `begin`.
    pub fn new(telemetry: Handle, hold: bool) -> Outputs {
        let reading = Reading { held: hold.then(Vec::new), ..Reading::default() };
        Outputs { tails: Tails::default(), telemetry, reading: Rc::new(RefCell::new(reading)) }
    }

    pub fn tail(&self, app: &str, number: u32) -> Vec<String> {
        self.tails.of(app, number)
    }

    /// Reads both streams of a process until the last one that holds them is gone. Must run inside a `LocalSet`.
    pub fn listen(&self, output: mainstay_fleet::Output) {
        let mut reading = self.reading.borrow_mut();
        if let Some(held) = &mut reading.held {
            return held.push(output);
        }
        let mainstay_fleet::Output { app, number, pid, stdout, stderr } = output;
        let lines = RefCell::new(child::Output::new(&app, &format!("{app}.{number}")));
        let key = (app, number);
        self.tails.begin(&key);
        let source = Rc::new(Source { key, lines, tails: self.tails.clone(), telemetry: self.telemetry.clone() });
        if let Some(begun) = reading.begun.remove(&pid) {
            source.resume(Stream::Stdout, &begun.stdout);
            source.resume(Stream::Stderr, &begun.stderr);
        }
        let tasks = [(stdout, Stream::Stdout), (stderr, Stream::Stderr)]
            .map(|(fd, stream)| tokio::task::spawn_local(read(fd, stream, source.clone())).abort_handle());
        reading.open.retain(|open| !open.tasks.iter().all(AbortHandle::is_finished));
        reading.open.push(Open { pid, source, tasks });
    }

    /// What a server before this one had read; and from now on this one reads.
    pub fn begin(&self, begun: Vec<Begun>) {
        let held = {
            let mut reading = self.reading.borrow_mut();
            reading.begun = begun.into_iter().map(|begun| (begun.pid, begun)).collect();
            reading.held.take()
        };
        held.into_iter().flatten().for_each(|output| self.listen(output));
        self.reading.borrow_mut().begun.clear();
    }

    /// Reads nothing more: what lies in the pipes is another server's.
    pub fn release(&self) -> Vec<Begun> {
        let mut reading = self.reading.borrow_mut();
        reading.held = Some(Vec::new());
        let let_go = |open: Open| {
            // Between two polls: whatever a task had read it has handed on.
            open.tasks.iter().for_each(AbortHandle::abort);
            let mut lines = open.source.lines.borrow_mut();
            let stdout = BASE64.encode(lines.take_begun(Stream::Stdout));
            let stderr = BASE64.encode(lines.take_begun(Stream::Stderr));
            Begun { pid: open.pid, stdout, stderr }
        };
        let begun = std::mem::take(&mut reading.open).into_iter().map(let_go);
        begun.filter(|begun| !begun.stdout.is_empty() || !begun.stderr.is_empty()).collect()
    }
}

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

    fn resume(&self, stream: Stream, begun: &str) {
        // Ours from a moment ago; if it is not, a line lacks its beginning.
        self.push(stream, &BASE64.decode(begun).unwrap_or_default());
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
