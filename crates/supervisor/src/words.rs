//! What the server of a new file prints while it is on trial: the last of it, for the message that it failed.
//!
//! Must never wait, nor grow with what is printed.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A page or two on a terminal.
const WORDS_BYTES_MAX: usize = 16 << 10;
const WORDS_LINES_MAX: usize = 20;

/// What the new server prints before it takes over; shown only if it never does.
#[derive(Debug)]
pub(crate) struct Words {
    /// `None` at its end.
    pipe: Option<OwnedFd>,
    tail: Vec<u8>,
}

impl Words {
    /// Our end, and the one to write to.
    pub fn pipe() -> io::Result<(Words, OwnedFd)> {
        let (ours, theirs) = io::pipe()?;
        let ours = OwnedFd::from(ours);
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Words { pipe: Some(ours), tail: Vec::new() }, theirs.into()))
    }

    pub fn open(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(OwnedFd::as_fd)
    }

    /// As much as a pipe holds at most, so that a flood starves nobody.
    pub fn read(&mut self) {
        let mut buffer = [0; WORDS_BYTES_MAX];
        for _ in 0..4 {
            let Some(pipe) = &self.pipe else { return };
            match read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.tail.extend_from_slice(&buffer[..count]);
                    self.tail.drain(..self.tail.len().saturating_sub(WORDS_BYTES_MAX));
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(WORDS_LINES_MAX)..];
        if last.is_empty() {
            return "; it printed nothing".to_owned();
        }
        format!("; its last lines:\n    {}", last.join("\n    "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn words_are_bounded_and_the_last_are_shown() {
        let (mut words, theirs) = Words::pipe().unwrap();
        assert_eq!(words.shown(), "; it printed nothing");
        let mut theirs = std::fs::File::from(theirs);
        for line in 0..2000 {
            writeln!(theirs, "line {line}").unwrap();
            words.read();
        }
        drop(theirs);
        words.read();
        assert!(words.open().is_none() && words.tail.len() <= WORDS_BYTES_MAX);
        let shown = words.shown();
        assert!(shown.ends_with("line 1999") && shown.lines().count() == WORDS_LINES_MAX + 1, "{shown}");
    }
}
