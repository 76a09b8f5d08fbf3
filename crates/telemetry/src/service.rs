//! The telemetry thread: takes what the cores and everybody else have to tell, writes files and console, keeps
//! trails. It wakes at most forty times a second, and once a second when nothing happens.
//!
//! Must never make anybody wait: whatever does not fit is dropped and counted.

use crate::access::{self, Access};
use crate::console::Console;
use crate::copies::Copies;
use crate::files::Files;
use crate::handle::{DroppedCounts, Handle, Shared};
use crate::ring::CoreDrain;
use crate::{Error, Level, Line, Names, Options, Record, Redactor};
use mainstay_runtime::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// A line is in the file this much after it was said, or sooner.
const ROUND: Duration = Duration::from_millis(25);
/// A second without anything to do, and the thread sleeps until it is woken.
const IDLE_ROUNDS: u32 = 40;
const DEEP_SLEEP: Duration = Duration::from_secs(1);
/// One write to a file or the console.
const BATCH_BYTES: usize = 256 << 10;
/// Lines taken in one round, so that a flood of them cannot keep the rings waiting.
const ROUND_LINES_MAX: usize = 4096;
/// How often what was dropped is said, and a file that cannot be written is tried again.
const SAY_EVERY_MS: u64 = 1000;
/// How often it is checked that the file is still there.
const CHECK_EVERY_MS: u64 = 5000;
const PRUNE_EVERY_MS: u64 = 3_600_000;

/// What the service is built from.
#[derive(Debug)]
pub struct Setup {
    /// The `logs` folder in the data folder.
    pub dir: PathBuf,
    pub options: Options,
    pub names: Names,
    pub secrets: Redactor,
    /// None: files alone.
    pub console: Option<Console>,
    /// Another server still writes into this folder.
    pub beside: bool,
}

/// Built, not yet running.
#[derive(Debug)]
pub struct Service {
    shared: Arc<Shared>,
    lines: Receiver<Line>,
    cores: Vec<CoreDrain>,
    access: Access,
    level: Level,
    files: Files,
    copies: Option<Copies>,
    /// Of `buffer`, the lines of level `error`; only where there are copies.
    errors: Vec<u8>,
    /// Lines for the file, and for the console if it takes JSON.
    buffer: Vec<u8>,
    console: Option<Console>,
    told: Told,
}

/// What was last said of drops and faults, and when.
#[derive(Debug, Default)]
struct Told {
    records: u64,
    lines: u64,
    at_ms: u64,
    checked_ms: u64,
    pruned_ms: u64,
    /// The file could not be written; not tried again before.
    broken_until_ms: u64,
    /// When it was last said that the copies cannot be written.
    copies_ms: u64,
}

/// The running thread. Dropping it asks the thread to end, without waiting.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Service {
    /// Opens the files. Nothing runs yet.
    pub fn new(setup: Setup) -> Result<(Service, Handle), Error> {
        let Setup { dir, options, names, secrets, console, beside } = setup;
        let files = match beside {
            true => Files::beside(&dir, options.bounds),
            false => Files::open(&dir, options.bounds, Clock::unix_micros())?,
        };
        let console_dropped = console.as_ref().map(Console::dropped).unwrap_or_default();
        let (shared, lines) = Shared::new(console_dropped);
        let handle = Handle::new(shared.clone());
        let service = Service {
            shared,
            lines,
            cores: Vec::new(),
            access: Access::new(names, &options.environment, secrets),
            level: options.level,
            files,
            copies: options.copies.map(Copies::new),
            errors: Vec::new(),
            buffer: Vec::new(),
            console,
            told: Told::default(),
        };
        Ok((service, handle))
    }

    pub fn spawn(self) -> Result<Running, Error> {
        let shared = self.shared.clone();
        let (end, ended) = sync_channel(1);
        let thread = std::thread::Builder::new().name("telemetry".into());
        let run = move || {
            self.run();
            let _ = end.send(());
        };
        thread.spawn(run).map_err(Error::Thread)?;
        Ok(Running { shared, ended })
    }

    fn run(mut self) {
        self.shared.waker.register();
        let mut idle = 0;
        loop {
            // Read before the work: what was said before the end was asked for is written.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            let wanted = self.shared.sync_wanted();
            self.take_changes();
            let taken = self.drain();
            self.upkeep();
            self.flush();
            self.shared.synced(wanted);
            if stopping {
                break;
            }
            idle = if taken > 0 { 0 } else { idle + 1 };
            self.sleep(idle);
        }
        if let Some(console) = self.console.take() {
            console.finish();
        }
    }

    fn sleep(&self, idle: u32) {
        if idle < IDLE_ROUNDS {
            return std::thread::park_timeout(ROUND);
        }
        self.shared.waker.falls_asleep(true);
        if self.cores.iter().all(CoreDrain::is_empty) && !self.shared.has_work() {
            std::thread::park_timeout(DEEP_SLEEP);
        }
        self.shared.waker.falls_asleep(false);
    }

    fn take_changes(&mut self) {
        let Some(changes) = self.shared.take_changes() else { return };
        self.cores.extend(changes.cores);
        if let Some(options) = changes.options {
            self.level = options.level;
            self.access.environment = options.environment;
            self.files.set_bounds(options.bounds);
            if self.copies.as_ref().map(|copies| &copies.options) != options.copies.as_ref() {
                // What was said until now belongs to the old ones.
                self.flush();
                self.copies = options.copies.map(Copies::new);
            }
            // The next upkeep makes the files fit.
            self.told.pruned_ms = 0;
        }
        if let Some(secrets) = changes.secrets {
            self.access.secrets = secrets;
        }
    }

    fn drain(&mut self) -> usize {
        let mut cores = std::mem::take(&mut self.cores);
        let mut taken = 0;
        for core in &mut cores {
            taken += core.drain(|record| self.record(record));
        }
        cores.retain(|core| !core.is_finished());
        self.cores = cores;
        for _ in 0..ROUND_LINES_MAX {
            let Ok(line) = self.lines.try_recv() else { break };
            self.shared.line_taken(&line);
            self.line(&line);
            taken += 1;
        }
        taken
    }

    fn record(&mut self, record: &Record) {
        let is_notable = access::is_notable(record);
        if record.health && !is_notable {
            return;
        }
        let start = self.buffer.len();
        self.access.write_json(record, &mut self.buffer);
        if is_notable && let Ok(line) = std::str::from_utf8(&self.buffer[start..]) {
            self.shared.trails().keep(record.id.0, line.trim_end());
        }
        let is_wanted = !record.health && access::level(record) <= self.level;
        if is_wanted {
            match &mut self.console {
                Some(console) if console.text => self.access.write_text(record, console.color, &mut console.buffer),
                Some(console) => console.buffer.extend_from_slice(&self.buffer[start..]),
                None => {}
            }
        } else if record.health || !is_notable {
            // A notable request stays in the file at any level, so that `why` can tell of it after a crash.
            self.buffer.truncate(start);
        }
        self.copy_error(start, access::level(record));
        self.flush_if_full();
    }

    fn copy_error(&mut self, start: usize, level: Level) {
        if level == Level::Error && self.copies.is_some() {
            self.errors.extend_from_slice(&self.buffer[start..]);
        }
    }

    fn line(&mut self, line: &Line) {
        let start = self.buffer.len();
        line.write_json(&self.access.environment, &self.access.secrets, &mut self.buffer);
        match &mut self.console {
            Some(console) if console.text => line.write_text(console.color, &self.access.secrets, &mut console.buffer),
            Some(console) => console.buffer.extend_from_slice(&self.buffer[start..]),
            None => {}
        }
        self.copy_error(start, line.level);
        self.flush_if_full();
    }

    fn flush_if_full(&mut self) {
        let console = self.console.as_ref().map_or(0, |console| console.buffer.len());
        if self.buffer.len().max(console) >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let now_ms = Clock::now().0;
        if !self.buffer.is_empty() && now_ms >= self.told.broken_until_ms {
            match self.files.write(&self.buffer, Clock::unix_micros()) {
                Ok(()) => add(&self.shared.counts.bytes, self.buffer.len() as u64),
                Err(error) => self.broken(&error, now_ms),
            }
        }
        let copies = self.copies.as_mut().filter(|_| !self.buffer.is_empty());
        let failed = copies.and_then(|copies| copies.write(&self.buffer, &self.errors).err());
        self.errors.clear();
        self.buffer.clear();
        self.buffer.shrink_to(BATCH_BYTES * 2);
        if let Some(console) = &mut self.console {
            console.flush();
        }
        if let Some(error) = failed {
            self.copies_broken(&error, now_ms);
        }
    }

    /// Said in the log itself, once a minute; the next lines are tried again.
    fn copies_broken(&mut self, error: &Error, now_ms: u64) {
        add(&self.shared.counts.errors, 1);
        if self.told.copies_ms != 0 && now_ms < self.told.copies_ms + 60 * SAY_EVERY_MS {
            return;
        }
        self.told.copies_ms = now_ms.max(1);
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}; [logs] dir is not written until it can be");
        // Written with the next batch.
        self.line(&Line::own(Clock::unix_micros(), Level::Error, text));
    }

    /// Said on the console alone, as the file is what failed; the lines are lost to the file.
    fn broken(&mut self, error: &Error, now_ms: u64) {
        add(&self.shared.counts.errors, 1);
        let is_new = now_ms >= self.told.broken_until_ms + 60 * SAY_EVERY_MS || self.told.broken_until_ms == 0;
        self.told.broken_until_ms = now_ms + SAY_EVERY_MS;
        let Some(console) = self.console.as_mut().filter(|_| is_new) else { return };
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}; lines are not kept until it can be written again");
        let line = Line::own(Clock::unix_micros(), Level::Error, text);
        match console.text {
            true => line.write_text(console.color, &self.access.secrets, &mut console.buffer),
            false => line.write_json(&self.access.environment, &self.access.secrets, &mut console.buffer),
        }
    }

    fn upkeep(&mut self) {
        let now_ms = Clock::now().0;
        if now_ms.saturating_sub(self.told.at_ms) >= SAY_EVERY_MS {
            self.told.at_ms = now_ms;
            self.say_dropped();
        }
        let mut outcome = Ok(());
        if !self.buffer.is_empty() && now_ms.saturating_sub(self.told.checked_ms) >= CHECK_EVERY_MS {
            self.told.checked_ms = now_ms;
            outcome = self.files.check(Clock::unix_micros());
            self.copies.iter_mut().for_each(Copies::check);
        }
        if self.told.pruned_ms == 0 || now_ms.saturating_sub(self.told.pruned_ms) >= PRUNE_EVERY_MS {
            self.told.pruned_ms = now_ms.max(1);
            outcome = outcome.and(self.files.prune(Clock::unix_micros()).map(drop));
        }
        if let Err(error) = outcome {
            self.broken(&error, now_ms);
        }
    }

    fn say_dropped(&mut self) {
        let DroppedCounts { records, lines, .. } = self.shared.counts.dropped();
        let (new_records, new_lines) = (records - self.told.records, lines - self.told.lines);
        (self.told.records, self.told.lines) = (records, lines);
        if new_records + new_lines > 0 {
            let text = "telemetry is behind and dropped what did not fit; requests were served";
            let line = Line::own(Clock::unix_micros(), Level::Warn, text);
            self.line(&line.field("records", new_records).field("lines", new_lines));
        }
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Running {
    /// Writes what was said so far and ends the thread. False if it took longer than `limit`.
    pub fn finish(self, limit: Duration) -> bool {
        self.shared.stop();
        !matches!(self.ended.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
