//! How much a line matters, in the five words the guides use.

/// From the most to the least important, so that `level <= limit` means "is written".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub const ALL: [Level; 5] = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    pub const WORDS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }

    /// One of our own five words, in any case.
    pub fn parse(word: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }

    /// A word any logger uses: syslog's, Python's, winston's, Java's, Go's.
    pub fn foreign(word: &str) -> Option<Level> {
        // The longest word is "information".
        let mut lower = [0; 11];
        let lower = lower.get_mut(..word.len())?;
        lower.copy_from_slice(word.as_bytes());
        lower.make_ascii_lowercase();
        Some(match &*lower {
            b"error" | b"err" | b"fatal" | b"critical" | b"crit" | b"emerg" | b"emergency" | b"alert" | b"panic"
            | b"severe" => Level::Error,
            b"warn" | b"warning" => Level::Warn,
            b"info" | b"information" | b"notice" | b"http" | b"log" => Level::Info,
            b"debug" | b"verbose" | b"fine" => Level::Debug,
            b"trace" | b"silly" | b"finest" => Level::Trace,
            _ => return None,
        })
    }

    /// pino's and bunyan's numbers.
    pub fn number(number: f64) -> Level {
        match number {
            n if n >= 50.0 => Level::Error,
            n if n >= 40.0 => Level::Warn,
            n if n >= 30.0 => Level::Info,
            n if n >= 20.0 => Level::Debug,
            _ => Level::Trace,
        }
    }

    pub(crate) fn from_index(index: u8) -> Level {
        Level::ALL.get(usize::from(index)).copied().unwrap_or(Level::Trace)
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_of_other_loggers() {
        for (word, level) in [
            ("ERROR", Some(Level::Error)),
            ("CRITICAL", Some(Level::Error)),
            ("Warning", Some(Level::Warn)),
            ("information", Some(Level::Info)),
            ("silly", Some(Level::Trace)),
            ("", None),
            ("informationen", None),
            ("nonsense", None),
        ] {
            assert_eq!(Level::foreign(word), level, "{word}");
        }
        assert_eq!(Level::number(60.0), Level::Error);
        assert_eq!(Level::number(30.0), Level::Info);
        assert_eq!(Level::parse("Info"), Some(Level::Info));
        assert_eq!(Level::parse("warning"), None);
        assert!(Level::Error < Level::Info);
    }
}
