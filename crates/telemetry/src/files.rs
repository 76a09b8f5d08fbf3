//! Log files in the data folder: JSON lines in segments, bounded by age and by size in all.
//!
//! Never synced: a crash of the machine may cost the last seconds, a crash of ours costs nothing that was
//! written. A segment is named for the millisecond it was begun, so that names sort in order of writing.

use crate::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Sixteen segments make the whole, so that deleting one loses little.
const SEGMENTS: u64 = 16;
/// Searching back for a line should not have to read more than this to know a segment.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
/// Below it a file would hold only a few lines.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const EXTENSION: &str = "jsonl";

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub keep: Duration,
    /// All segments together.
    pub bytes: u64,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Milliseconds since the Unix epoch at its beginning, or one more than its predecessor's if clocks went back.
    pub number: u64,
    pub bytes: u64,
    pub modified_unix_s: u64,
}

/// The writing end. One a data folder, the folder's lock sees to that; during an upgrade two, each with segments of
/// its own.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    bounds: Bounds,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: File,
    number: u64,
    bytes: u64,
}

impl Bounds {
    pub fn segment_bytes(&self) -> u64 {
        (self.bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:013}.{EXTENSION}"))
}

/// Oldest first. A folder that does not exist holds none; files that are not ours are not looked at.
pub fn segments(dir: &Path) -> std::io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(EXTENSION)?.strip_suffix('.')) else {
            continue;
        };
        let is_ours = stem.len() >= 13 && stem.bytes().all(|c| c.is_ascii_digit());
        // Deleted between the listing and the question: nothing to list.
        if let (true, Ok(number), Ok(about)) = (is_ours, stem.parse(), entry.metadata()) {
            let modified_unix_s = u64::try_from(about.mtime()).unwrap_or(0);
            segments.push(Segment { number, bytes: about.len(), modified_unix_s });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.number);
    Ok(segments)
}

/// How many of the oldest to delete: those whose last line is too old, and more until the rest fits. Never the
/// last, which counts as full, so that the bound holds until the next one begins.
pub fn expired(now_unix_s: u64, segments: &[Segment], bounds: Bounds) -> usize {
    let Some((last, older)) = segments.split_last() else { return 0 };
    let mut total: u64 = older.iter().map(|segment| segment.bytes).sum();
    total += last.bytes.max(bounds.segment_bytes());
    let mut count = 0;
    for segment in older {
        let is_old = now_unix_s.saturating_sub(segment.modified_unix_s) > bounds.keep.as_secs();
        if !is_old && total <= bounds.bytes {
            break;
        }
        total -= segment.bytes;
        count += 1;
    }
    count
}

impl Files {
    /// Goes on with the newest segment. The folder is made, for us alone to read.
    pub fn open(dir: &Path, bounds: Bounds, now_unix_us: u64) -> Result<Files, Error> {
        let fault = |e| Error::file(dir, e);
        fs::create_dir_all(dir).map_err(fault)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(fault)?;
        let mut files = Files { dir: dir.to_owned(), bounds, current: None };
        files.prune(now_unix_us)?;
        let newest = segments(dir).map_err(fault)?.pop();
        match newest {
            Some(segment) if segment.bytes < bounds.segment_bytes() => files.resume(segment.number)?,
            _ => files.begin(now_unix_us)?,
        }
        Ok(files)
    }

    /// Beside a server that still writes: a segment has one writer, so this one begins its own with its first line.
    pub fn beside(dir: &Path, bounds: Bounds) -> Files {
        Files { dir: dir.to_owned(), bounds, current: None }
    }

    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Whole lines, in one write. A full segment is ended first, and what is too old or too much deleted.
    pub fn write(&mut self, lines: &[u8], now_unix_us: u64) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        let limit = self.bounds.segment_bytes();
        if self.current.as_ref().is_none_or(|c| c.bytes > 0 && c.bytes + lines.len() as u64 > limit) {
            self.begin(now_unix_us)?;
            self.prune(now_unix_us)?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        match current.file.write_all(lines) {
            Ok(()) => {
                current.bytes += lines.len() as u64;
                Ok(())
            }
            Err(e) => {
                // The tail may be torn now: the next write begins a new line, or a new file.
                let at = path(&self.dir, current.number);
                self.current = None;
                Err(Error::file(&at, e))
            }
        }
    }

    /// The file was deleted under us: begin another, or every line from now on would go to nowhere.
    pub fn check(&mut self, now_unix_us: u64) -> Result<(), Error> {
        let is_there = self.current.as_ref().is_some_and(|c| path(&self.dir, c.number).exists());
        if is_there { Ok(()) } else { self.begin(now_unix_us) }
    }

    /// Deletes what is past the bounds. Returns how many segments.
    pub fn prune(&self, now_unix_us: u64) -> Result<usize, Error> {
        let all = segments(&self.dir).map_err(|e| Error::file(&self.dir, e))?;
        let count = expired(now_unix_us / 1_000_000, &all, self.bounds);
        for segment in &all[..count] {
            let at = path(&self.dir, segment.number);
            match fs::remove_file(&at) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&at, e)),
                _ => {}
            }
        }
        Ok(count)
    }

    fn begin(&mut self, now_unix_us: u64) -> Result<(), Error> {
        fs::create_dir_all(&self.dir).map_err(|e| Error::file(&self.dir, e))?;
        let newest = segments(&self.dir).map_err(|e| Error::file(&self.dir, e))?.pop();
        let after = newest.map_or(0, |segment| segment.number + 1);
        let mut number = (now_unix_us / 1000).max(after);
        // During an upgrade another server may choose the same number at the same moment: the next one then.
        while let Err(e) = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(&self.dir, number)) {
            if e.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(Error::file(&path(&self.dir, number), e));
            }
            number += 1;
        }
        self.resume(number)
    }

    /// Opens for appending. A line that a crash tore is ended, so that it spoils no other.
    fn resume(&mut self, number: u64) -> Result<(), Error> {
        let at = path(&self.dir, number);
        let fault = |e| Error::file(&at, e);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).append(true).create(true).mode(0o600).open(&at).map_err(fault)?;
        let mut bytes = file.metadata().map_err(fault)?.len();
        if bytes > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).map_err(fault)?;
            file.read_exact(&mut last).map_err(fault)?;
            if last != *b"\n" {
                file.write_all(b"\n").map_err(fault)?;
                bytes += 1;
            }
        }
        self.current = Some(Current { file, number, bytes });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u64, bytes: u64, modified_unix_s: u64) -> Segment {
        Segment { number, bytes, modified_unix_s }
    }

    #[test]
    fn two_writers_at_one_moment_have_a_segment_each() {
        let dir = tempfile::tempdir().expect("temp dir");
        let bounds = Bounds { keep: Duration::from_secs(1 << 40), bytes: 1 << 20 };
        let mut old = Files::open(dir.path(), bounds, 5_000_000).expect("open");
        let mut new = Files::beside(dir.path(), bounds);
        for _ in 0..10 {
            old.write(b"{\"old\":1}\n", 5_000_000).expect("write");
            new.write(b"{\"new\":1}\n", 5_000_000).expect("write");
        }
        let all = segments(dir.path()).expect("list");
        let texts: Vec<_> = all.iter().map(|s| fs::read_to_string(path(dir.path(), s.number)).expect("read")).collect();
        assert_eq!(texts, ["{\"old\":1}\n".repeat(10), "{\"new\":1}\n".repeat(10)]);
    }

    #[test]
    fn age_and_size_decide_and_the_last_stays() {
        let bounds = Bounds { keep: Duration::from_secs(100), bytes: 500_000 };
        let now = 1_000;
        for (segments, expected) in [
            (vec![], 0),
            (vec![segment(1, 99, 0)], 0),
            (vec![segment(1, 1, 899), segment(2, 1, 900)], 1),
            (vec![segment(1, 200_000, 990), segment(2, 200_000, 991), segment(3, 20, 992)], 0),
            (vec![segment(1, 200_000, 990), segment(2, 250_000, 991), segment(3, 20, 992)], 1),
            (vec![segment(1, 600_000, 990), segment(2, 600_000, 991)], 1),
            (vec![segment(1, 10, 5), segment(2, 10, 6), segment(3, 10, 999)], 2),
        ] {
            assert_eq!(expired(now, &segments, bounds), expected, "{segments:?}");
        }
        assert_eq!(Bounds { bytes: 1 << 30, ..bounds }.segment_bytes(), 16 << 20);
        assert_eq!(bounds.segment_bytes(), SEGMENT_BYTES_MIN);
    }

    #[test]
    fn writing_rotates_prunes_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().expect("folder");
        let dir = dir.path().join("logs");
        let bounds = Bounds { keep: Duration::from_secs(1 << 40), bytes: 256 << 10 };
        let line = vec![b'x'; 1023];
        let line = [&line[..], b"\n"].concat();
        let mut files = Files::open(&dir, bounds, 5_000_000).expect("open");
        for i in 0..1024 {
            files.write(&line, 5_000_000 + i).expect("write");
        }
        let all = segments(&dir).expect("list");
        let total: u64 = all.iter().map(|s| s.bytes).sum();
        assert!(total <= bounds.bytes && total > bounds.bytes / 2, "{total}");
        assert!(all.iter().all(|s| s.bytes <= bounds.segment_bytes()));
        let newest = all.last().expect("one").number;

        fs::write(path(&dir, newest), b"{\"torn").expect("tear");
        fs::write(dir.join("notes.txt"), b"not ours").expect("write");
        // The clock went back: order of writing is kept all the same.
        let mut files = Files::open(&dir, bounds, 0).expect("open");
        files.write(b"{}\n", 0).expect("write");
        assert_eq!(fs::read(path(&dir, newest)).expect("read"), b"{\"torn\n{}\n");
        assert_eq!(segments(&dir).expect("list").last().expect("one").number, newest);
        fs::remove_file(path(&dir, newest)).expect("delete");
        files.check(0).expect("check");
        files.write(b"{}\n", 0).expect("write");
        assert_eq!(segments(&dir).expect("list").last().expect("one").bytes, 3);
    }
}
