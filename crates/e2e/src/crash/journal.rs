//! The outside journal: what clients, workers and the app saw, each in a file of its own, written before they go on.
//! A process that is killed loses nothing of it: the kernel has each line.
//!
//! A line is seven columns: microseconds since 1970, what, queue, job, token, who, and a word.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An add is about to be sent; the word is its key.
    Asked,
    /// An add was not acknowledged; the word is the status, or what happened.
    Unsure,
    /// An add was acknowledged; the word is its key.
    Added,
    /// A worker has a job; the word is the number of its attempt.
    Start,
    /// A worker is about to end a job; the word is `ok` or `fail`.
    Ending,
    /// That end was acknowledged.
    Ended,
    /// That end was refused.
    Refused,
    /// Somebody looked; the word is the job's state.
    State,
    /// A process was killed: `server`, `app`, or a worker by its name.
    Killed,
    /// The server answers again.
    Up,
    /// What the round does to them; the word is its name.
    Fault,
}

const WORDS: [(What, &str); 11] = [
    (What::Asked, "asked"),
    (What::Unsure, "unsure"),
    (What::Added, "added"),
    (What::Start, "start"),
    (What::Ending, "ending"),
    (What::Ended, "ended"),
    (What::Refused, "refused"),
    (What::State, "state"),
    (What::Killed, "killed"),
    (What::Up, "up"),
    (What::Fault, "fault"),
];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since 1970, by this machine's clock.
    pub at_us: u64,
    pub what: What,
    pub queue: String,
    pub job: u64,
    pub token: u64,
    pub who: String,
    pub word: String,
}

impl Line {
    /// A line of now.
    pub fn now(what: What) -> Line {
        let at_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        Line { at_us, what, queue: String::new(), job: 0, token: 0, who: String::new(), word: String::new() }
    }

    #[must_use]
    pub fn queue(self, queue: &str) -> Line {
        Line { queue: queue.to_owned(), ..self }
    }

    #[must_use]
    pub fn job(self, job: u64, token: u64) -> Line {
        Line { job, token, ..self }
    }

    #[must_use]
    pub fn who(self, who: &str) -> Line {
        Line { who: who.to_owned(), ..self }
    }

    #[must_use]
    pub fn word(self, word: impl std::fmt::Display) -> Line {
        Line { word: word.to_string(), ..self }
    }

    fn text(&self) -> String {
        let word = WORDS.iter().find(|(what, _)| *what == self.what).map_or("?", |(_, word)| word);
        let flat = |text: &str| if text.is_empty() { "-".to_owned() } else { text.replace(char::is_whitespace, "_") };
        let (queue, who, last) = (flat(&self.queue), flat(&self.who), flat(&self.word));
        format!("{} {word} {queue} {} {} {who} {last}\n", self.at_us, self.job, self.token)
    }

    fn parse(text: &str) -> Option<Line> {
        let columns: Vec<&str> = text.split(' ').collect();
        let [at, what, queue, job, token, who, word] = columns.as_slice() else { return None };
        let full = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
        Some(Line {
            at_us: at.parse().ok()?,
            what: WORDS.iter().find(|(_, word)| word == what).map(|(what, _)| *what)?,
            queue: full(queue),
            job: job.parse().ok()?,
            token: token.parse().ok()?,
            who: full(who),
            word: full(word),
        })
    }
}

/// A file of lines, written by one process.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

impl Journal {
    /// Opens the file to write at its end.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Journal {
        let file = File::options().create(true).append(true).open(path);
        Journal(Mutex::new(file.unwrap_or_else(|e| panic!("{}: {e}", path.display()))))
    }

    /// In one write, so that no line is ever half there.
    ///
    /// # Panics
    /// When the journal itself has no room.
    pub fn write(&self, line: &Line) {
        let mut file = self.0.lock().expect("the journal's lock");
        file.write_all(line.text().as_bytes()).expect("write the journal");
    }
}

/// All lines of all journals of a folder, by time.
pub fn read(folder: &Path) -> Vec<Line> {
    let files = std::fs::read_dir(folder).expect("the folder of journals").flatten();
    let journals = files.filter(|file| file.path().extension().is_some_and(|ending| ending == "journal"));
    let texts: Vec<String> = journals.filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect();
    let mut lines: Vec<Line> = texts.iter().flat_map(|text| text.lines()).filter_map(Line::parse).collect();
    lines.sort_by_key(|line| line.at_us);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_by_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) =
            (Journal::open(&folder.path().join("one.journal")), Journal::open(&folder.path().join("two.journal")));
        let first = Line::now(What::Asked).queue("fifo").who("p0").word("a key");
        let second = Line { at_us: first.at_us + 1, ..Line::now(What::Start).queue("fifo").job(3, 7).who("w1") };
        two.write(&second);
        one.write(&first);
        assert_eq!(read(folder.path()), [Line { word: "a_key".to_owned(), ..first }, second]);
    }
}
