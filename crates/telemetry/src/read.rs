//! Reading the log files: forwards, the last so many, and following along. Works without the server.
//!
//! Lines are matched by their text, not parsed: every line begins with level and timestamp in fixed places, our
//! own keys come before a child's, and inside JSON no text can look like a key of ours.

use crate::files::{self, Segment};
use crate::json::key;
use crate::{Level, time};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// One step backwards through a file.
const BLOCK_BYTES: usize = 64 << 10;
/// The longest line there is: a child's 16 KiB, each byte escaped, and its keys. Longer is not ours.
const LINE_BYTES_MAX: usize = 1 << 20;
/// A tail is kept in memory before it is shown.
pub const TAIL_LINES_MAX: usize = 100_000;

/// Which lines. Everything that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub since_unix_us: Option<u64>,
    /// This level or a more important one.
    pub level: Option<Level>,
    pub app: Option<String>,
    /// `main.1`, or its number alone.
    pub instance: Option<String>,
    /// `access`, `app` or `mainstay`.
    pub kind: Option<String>,
    /// Text as it stands in the file.
    pub contains: Option<String>,
    /// Only the last so many, at most `TAIL_LINES_MAX`.
    pub tail: Option<usize>,
}

/// Where a reader stands: segment and byte. The beginning is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
    /// The segment before, and how far it was read: during an upgrade the old server still writes there.
    pub before: Option<(u64, u64)>,
}

/// The log folder of one data folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    dir: PathBuf,
}

impl Query {
    pub fn matches(&self, line: &str) -> bool {
        let Some((level, at)) = head(line) else { return false };
        if self.level.is_some_and(|limit| Level::parse(level).is_none_or(|level| level > limit)) {
            return false;
        }
        // Times of one width compare as text.
        if self.since_unix_us.is_some_and(|since| *at < *time::iso(since)) {
            return false;
        }
        let own = &line[..line.find(",\"app.").unwrap_or(line.len())];
        let holds = |key: &str, value: &Option<String>| value.as_ref().is_none_or(|value| has(own, key, value));
        holds(key!("app"), &self.app)
            && holds(key!("kind"), &self.kind)
            && self.instance.as_ref().is_none_or(|instance| has_instance(own, instance))
            && self.contains.as_ref().is_none_or(|text| line.contains(text.as_str()))
    }
}

/// Level and timestamp.
fn head(line: &str) -> Option<(&str, &str)> {
    let (level, rest) = line.strip_prefix("{\"level\":\"")?.split_once('"')?;
    let at = rest.strip_prefix(",\"timestamp\":\"")?.get(..time::ISO_BYTES)?;
    Some((level, at))
}

/// When a line was written.
pub(crate) fn timestamp(line: &str) -> Option<&str> {
    head(line).map(|(_, at)| at)
}

fn has(line: &str, key: &str, value: &str) -> bool {
    let mut wanted = Vec::new();
    crate::json::text(&mut wanted, key, value);
    String::from_utf8(wanted).is_ok_and(|wanted| line.contains(&wanted))
}

fn has_instance(line: &str, instance: &str) -> bool {
    if !instance.bytes().all(|c| c.is_ascii_digit()) {
        return has(line, key!("instance"), instance);
    }
    let Some((_, rest)) = line.split_once(",\"instance\":\"") else { return false };
    rest.split('"').next().and_then(|name| name.rsplit_once('.')).is_some_and(|(_, number)| number == instance)
}

impl Logs {
    pub fn new(dir: &Path) -> Logs {
        Logs { dir: dir.to_owned() }
    }

    /// Every matching line in order of writing, or the last `tail` of them. Returns where `follow` goes on.
    pub fn read(&self, query: &Query, mut each: impl FnMut(&str) -> ControlFlow<()>) -> std::io::Result<Position> {
        let segments = files::segments(&self.dir)?;
        let before = segments.iter().rev().nth(1).map(|segment| (segment.number, segment.bytes));
        let end = segments.last().map(|s| Position { segment: s.number, offset: s.bytes, before }).unwrap_or_default();
        if let Some(tail) = query.tail {
            for line in self.last_of(&segments, query, tail.min(TAIL_LINES_MAX))?.iter().rev() {
                if each(line).is_break() {
                    break;
                }
            }
            return Ok(Position { offset: self.line_end(end)?, ..end });
        }
        let mut position = Position::default();
        self.forward(&segments, query, &mut position, &mut each)?;
        Ok(position)
    }

    /// What was written since `position`, which moves along, over rotations too. Call it again and again.
    pub fn follow(
        &self,
        query: &Query,
        position: &mut Position,
        mut each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> std::io::Result<()> {
        // Listed first: a segment that has two successors in this list is complete.
        let segments = files::segments(&self.dir)?;
        if let Some((number, mut offset)) = position.before {
            let flow = self.rest_of(number, &mut offset, query, &mut each)?;
            position.before = Some((number, offset));
            if flow.is_break() {
                return Ok(());
            }
        }
        self.forward(&segments, query, position, &mut each)
    }

    /// The newest matching lines, newest first.
    pub fn last(&self, query: &Query, count: usize) -> std::io::Result<Vec<String>> {
        self.last_of(&files::segments(&self.dir)?, query, count)
    }

    fn last_of(&self, segments: &[Segment], query: &Query, count: usize) -> std::io::Result<Vec<String>> {
        let mut lines = Vec::new();
        if count > 0 {
            self.backward_of(segments, query, |line| {
                lines.push(line.to_owned());
                if lines.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        Ok(lines)
    }

    /// Every matching line, newest first, until told to stop or until older than asked for.
    pub fn backward(&self, query: &Query, each: impl FnMut(&str) -> ControlFlow<()>) -> std::io::Result<()> {
        self.backward_of(&files::segments(&self.dir)?, query, each)
    }

    /// As far as these segments went when they were listed.
    fn backward_of(
        &self,
        segments: &[Segment],
        query: &Query,
        mut each: impl FnMut(&str) -> ControlFlow<()>,
    ) -> std::io::Result<()> {
        for segment in segments.iter().rev() {
            if is_before(segment, query) {
                break;
            }
            let Some(file) = self.open(segment.number)? else { continue };
            let mut lines = Backwards { file, left: segment.bytes, buffer: Vec::new(), is_torn: true };
            while let Some(line) = lines.next()? {
                let Ok(line) = std::str::from_utf8(&line) else { continue };
                if query.matches(line) && each(line).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn forward(
        &self,
        segments: &[Segment],
        query: &Query,
        position: &mut Position,
        each: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> std::io::Result<()> {
        let from = segments.partition_point(|segment| segment.number < position.segment);
        for segment in &segments[from..] {
            if segment.number != position.segment {
                let before = (position.segment > 0).then_some((position.segment, position.offset));
                *position = Position { segment: segment.number, offset: 0, before };
            }
            if is_before(segment, query) {
                continue;
            }
            if self.rest_of(segment.number, &mut position.offset, query, each)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The whole lines of one segment from `offset` on, which moves along.
    fn rest_of(
        &self,
        number: u64,
        offset: &mut u64,
        query: &Query,
        each: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> std::io::Result<ControlFlow<()>> {
        let Some(mut file) = self.open(number)? else { return Ok(ControlFlow::Continue(())) };
        file.seek(SeekFrom::Start(*offset))?;
        let mut reader = BufReader::with_capacity(BLOCK_BYTES, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
            // A line without its end is still being written, or was torn by a crash.
            if read == 0 || (line.last() != Some(&b'\n') && read < LINE_BYTES_MAX) {
                return Ok(ControlFlow::Continue(()));
            }
            *offset += read as u64;
            let text = std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(&line)).unwrap_or("");
            if query.matches(text) && each(text).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Where the last whole line ends.
    fn line_end(&self, end: Position) -> std::io::Result<u64> {
        let Some(mut file) = self.open(end.segment)? else { return Ok(end.offset) };
        let from = end.offset.saturating_sub(LINE_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(end.offset - from).read_to_end(&mut bytes)?;
        Ok(bytes.iter().rposition(|c| *c == b'\n').map_or(from, |at| from + at as u64 + 1))
    }

    /// None if it was deleted meanwhile.
    fn open(&self, number: u64) -> std::io::Result<Option<File>> {
        match File::open(files::path(&self.dir, number)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }
}

/// Written to for the last time before what is asked for; a minute is left for clocks that moved.
fn is_before(segment: &Segment, query: &Query) -> bool {
    query.since_unix_us.is_some_and(|since| segment.modified_unix_s + 60 < since / 1_000_000)
}

/// Lines of a file from its end, in blocks.
struct Backwards {
    file: File,
    /// Bytes of the file that are not in `buffer` yet.
    left: u64,
    buffer: Vec<u8>,
    /// What follows the last newline is no line.
    is_torn: bool,
}

impl Backwards {
    fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let newline = self.buffer[..self.buffer.len() - searched].iter().rposition(|c| *c == b'\n');
            if let Some(at) = newline {
                let line = self.buffer.split_off(at + 1);
                self.buffer.truncate(at);
                searched = 0;
                if !std::mem::take(&mut self.is_torn) {
                    return Ok(Some(line));
                }
                continue;
            }
            if self.left == 0 {
                let is_line = !self.is_torn && !self.buffer.is_empty();
                let line = std::mem::take(&mut self.buffer);
                return Ok(is_line.then_some(line));
            }
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
                self.buffer.clear();
                searched = 0;
            }
            self.fill()?;
        }
    }

    /// One block more, in front.
    fn fill(&mut self) -> std::io::Result<()> {
        let size = (BLOCK_BYTES as u64).min(self.left);
        self.left -= size;
        self.file.seek(SeekFrom::Start(self.left))?;
        let mut block = vec![0; size as usize];
        self.file.read_exact(&mut block)?;
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(())
    }
}
