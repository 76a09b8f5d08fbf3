//! `error.log` and `combined.log` in a folder of the operator's choice: what the log files hold, under names that do
//! not change, for tools that look for them.
//!
//! Rotated by size: `combined.log` is the newest, `combined.log.1` the one before. Never needed by anything of ours:
//! `mainstay logs` and `why` read the segments of the data folder.

use crate::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub dir: PathBuf,
    /// Of one file.
    pub bytes: u64,
    /// Of each name, the newest counted.
    pub files: u32,
}

/// The writing end of both names.
#[derive(Debug)]
pub(crate) struct Copies {
    pub options: Options,
    errors: Rotated,
    combined: Rotated,
}

impl Copies {
    /// Touches nothing yet: a folder that cannot be written is told with the first line.
    pub fn new(options: Options) -> Copies {
        let rotated = |name: &str| Rotated { path: options.dir.join(name), file: None, bytes: 0 };
        Copies { errors: rotated("error.log"), combined: rotated("combined.log"), options }
    }

    /// Whole lines; those of level `error` stand in both.
    pub fn write(&mut self, all: &[u8], errors: &[u8]) -> Result<(), Error> {
        let combined = self.combined.write(all, &self.options);
        let errors = self.errors.write(errors, &self.options);
        combined.and(errors)
    }

    /// A file that was moved or deleted under us is begun anew, or lines would go to nowhere.
    pub fn check(&mut self) {
        for rotated in [&mut self.errors, &mut self.combined] {
            if rotated.file.is_some() && !rotated.path.exists() {
                rotated.file = None;
            }
        }
    }
}

#[derive(Debug)]
struct Rotated {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Rotated {
    /// A batch may hold more than one file takes: it is cut between two lines.
    fn write(&mut self, mut lines: &[u8], options: &Options) -> Result<(), Error> {
        while !lines.is_empty() {
            self.open(options)?;
            let room = usize::try_from(options.bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
            let mut fits = fitting(lines, room);
            if fits == 0 {
                if self.bytes > 0 {
                    self.rotate(options)?;
                    continue;
                }
                // A single line longer than a file has one to itself.
                fits = lines.iter().position(|c| *c == b'\n').map_or(lines.len(), |end| end + 1);
            }
            let (now, rest) = lines.split_at(fits);
            let Some(file) = &mut self.file else { return Ok(()) };
            if let Err(error) = file.write_all(now) {
                self.file = None;
                return Err(Error::file(&self.path, error));
            }
            self.bytes += now.len() as u64;
            lines = rest;
        }
        Ok(())
    }

    fn open(&mut self, options: &Options) -> Result<(), Error> {
        if self.file.is_some() {
            return Ok(());
        }
        let fault = |error| Error::file(&self.path, error);
        fs::create_dir_all(&options.dir).map_err(fault)?;
        let mut mode = OpenOptions::new();
        let file = mode.append(true).create(true).mode(0o640).open(&self.path).map_err(fault)?;
        self.bytes = file.metadata().map_err(fault)?.len();
        self.file = Some(file);
        Ok(())
    }

    /// `.3` to `.4`, `.2` to `.3`, …; what would be one too many is overwritten.
    fn rotate(&mut self, options: &Options) -> Result<(), Error> {
        self.file = None;
        for number in (0..options.files.saturating_sub(1)).rev() {
            let from = numbered(&self.path, number);
            match fs::rename(&from, numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&from, error)),
                _ => {}
            }
        }
        if options.files <= 1 {
            fs::remove_file(&self.path).map_err(|error| Error::file(&self.path, error))?;
        }
        Ok(())
    }
}

/// The newest has no number.
fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => PathBuf::from(format!("{}.{number}", path.display())),
    }
}

/// How many bytes of whole lines go into the room there is.
fn fitting(lines: &[u8], room: usize) -> usize {
    if lines.len() <= room {
        return lines.len();
    }
    lines[..room].iter().rposition(|c| *c == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn s2_five_files_of_each_and_no_line_torn_or_lost_within_them() {
        let dir = tempfile::tempdir().expect("folder");
        let options = Options { dir: dir.path().join("logs"), bytes: 1000, files: 5 };
        let mut copies = Copies::new(options.clone());
        let lines: Vec<String> = (0..1000).map(|i| format!("{{\"line\":{i:05}}}\n")).collect();
        for batch in lines.chunks(77) {
            copies.write(batch.concat().as_bytes(), batch[0].as_bytes()).expect("write");
        }
        let combined = options.dir.join("combined.log");
        let all: String = (0..5).rev().map(|n| text(&numbered(&combined, n))).collect();
        assert!(lines.concat().ends_with(&all) && all.len() > 4000, "{} bytes", all.len());
        for n in 0..5 {
            let size = text(&numbered(&combined, n)).len();
            assert!((1..=1000).contains(&size) && (n == 0 || size > 900), "{n}: {size}");
        }
        assert!(!numbered(&combined, 5).exists());
        assert_eq!(text(&options.dir.join("error.log")).lines().count(), lines.chunks(77).count());

        // A new start goes on where the old one was.
        let before = text(&combined);
        Copies::new(options).write(b"next\n", b"").expect("write");
        assert_eq!(text(&combined), before + "next\n");
    }

    #[test]
    fn long_lines_one_file_and_a_file_that_was_moved_away() {
        let dir = tempfile::tempdir().expect("folder");
        let mut copies = Copies::new(Options { dir: dir.path().into(), bytes: 10, files: 1 });
        copies.write(b"a line that is too long\nb\n", b"").expect("write");
        assert_eq!(text(&dir.path().join("combined.log")), "b\n");
        fs::rename(dir.path().join("combined.log"), dir.path().join("moved")).expect("move");
        copies.check();
        copies.write(b"c\n", b"").expect("write");
        assert_eq!(text(&dir.path().join("combined.log")), "c\n");

        fs::write(dir.path().join("file"), "").expect("write");
        let mut copies = Copies::new(Options { dir: dir.path().join("file/no"), bytes: 10, files: 5 });
        assert!(copies.write(b"x\n", b"").is_err());
    }
}
