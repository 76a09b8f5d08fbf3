//! `[logs]`: how much is written, in which form, and how much of it is kept.

use crate::files::Bounds;
use crate::{Level, copies};
use mainstay_config::{Item, Reader, Table};
use std::path::{Path, PathBuf};

/// Smaller would not hold a minute of a busy app.
const SIZE_BYTES_MIN: u64 = 1 << 20;

/// Rotated a thousand times a second, a file says nothing.
const FILE_BYTES_MIN: u64 = 64 << 10;

/// Of the console; files are always JSON lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal in development, else JSON.
    Auto,
    Json,
    Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// For requests and for what Mainstay itself says. A child's lines are its own choice and always kept.
    pub level: Level,
    pub format: Format,
    pub bounds: Bounds,
    /// `error.log` and `combined.log`, where they are wanted (S2).
    pub copies: Option<copies::Options>,
    /// `production`, `development`, or the name that was given; in every line.
    pub environment: String,
    production: bool,
}

impl Options {
    pub fn read(reader: &Reader) -> Options {
        let logs = reader.table("logs").doc("What is written of requests, of the apps' output and of ourselves.");
        let environment = reader.environment();
        let level = logs
            .key("level")
            .doc("The least important level written; `info` in production, `debug` in development.")
            .env("LOG_LEVEL")
            .choice(&Level::WORDS, if environment.production { "info" } else { "debug" });
        let format = logs
            .key("format")
            .doc("`json` or `text` on the console; unset: text on a terminal in development, else JSON.")
            .example("\"json\"")
            .env("LOG_FORMAT")
            .opt_choice(&["json", "text"]);
        let keep = logs.key("keep").doc("Log files older than this are deleted.").duration("90d");
        let size = logs.key("size").doc("All log files together; the oldest are deleted first.").size("1GB");
        if *size < SIZE_BYTES_MIN {
            logs.fault(&size.at, format!("{} bytes of log files", *size), "at least 1MiB", Some("size = \"1GB\""));
        }
        Options {
            level: Level::parse(&level).unwrap_or(Level::Info),
            format: match format.as_ref().map(|format| format.as_str()) {
                Some("json") => Format::Json,
                Some("text") => Format::Text,
                _ => Format::Auto,
            },
            bounds: Bounds { keep: *keep, bytes: (*size).max(SIZE_BYTES_MIN) },
            copies: read_copies(&logs),
            environment: environment.name.clone(),
            production: environment.production,
        }
    }

    /// What to write to a console that is a terminal or not.
    pub fn is_text(&self, terminal: bool) -> bool {
        match self.format {
            Format::Json => false,
            Format::Text => true,
            Format::Auto => terminal && !self.production,
        }
    }
}

/// None without a folder: the log files are in the data folder anyhow, and nothing else is written unasked.
fn read_copies(logs: &Table) -> Option<copies::Options> {
    let dir = logs
        .key("dir")
        .doc("Folder for error.log (level error) and combined.log (everything) too; relative to this file.")
        .example("\"logs\"")
        .opt_text();
    let bytes = logs.key("file_size").doc("One file of `dir`; a full one becomes combined.log.1.").size("5MB");
    let files = logs.key("files").doc("Files of each name in `dir`, the newest counted.").integer(5, 1..=100);
    if *bytes < FILE_BYTES_MIN {
        logs.fault(&bytes.at, format!("{} bytes of one file", *bytes), "at least 64KiB", Some("file_size = \"5MB\""));
    }
    let files = u32::try_from(files.value).unwrap_or(1);
    dir.map(|dir| copies::Options { dir: beside(&dir), bytes: (*bytes).max(FILE_BYTES_MIN), files })
}

/// A path relative to the file it stands in.
fn beside(path: &Item<String>) -> PathBuf {
    let folder = path.at.file().and_then(|file| Path::new(file).parent());
    folder.map_or_else(|| PathBuf::from(&path.value), |folder| folder.join(&path.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Inputs;
    use std::time::Duration;

    fn read(file: &str, environment: &[(&str, &str)]) -> (Options, usize) {
        let mut inputs = Inputs::of_file(file);
        inputs.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let reader = Reader::new(&inputs);
        let options = Options::read(&reader);
        (options, reader.finish().faults.len())
    }

    #[test]
    fn defaults_follow_the_environment() {
        let (options, faults) = read("", &[("NODE_ENV", "development")]);
        assert_eq!((options.level, options.format, faults), (Level::Debug, Format::Auto, 0));
        assert_eq!(options.bounds, Bounds { keep: Duration::from_secs(90 * 86_400), bytes: 1_000_000_000 });
        assert!(options.is_text(true) && !options.is_text(false));
        let (options, _) = read("", &[("NODE_ENV", "production")]);
        assert_eq!((options.level, options.environment.as_str()), (Level::Info, "production"));
        assert!(!options.is_text(true));
    }

    #[test]
    fn variables_of_the_guides_and_faults() {
        let (options, faults) = read("", &[("LOG_LEVEL", "warn"), ("LOG_FORMAT", "text"), ("NODE_ENV", "production")]);
        assert_eq!((options.level, options.format, faults), (Level::Warn, Format::Text, 0));
        let (options, faults) = read("[logs]\nlevel = \"trace\"\nkeep = \"7d\"\nsize = \"10KB\"\n", &[]);
        assert_eq!((options.level, options.bounds.bytes, faults), (Level::Trace, SIZE_BYTES_MIN, 1));
    }

    #[test]
    fn s2_files_of_a_name_are_written_where_a_folder_is_named() {
        assert_eq!(read("", &[("NODE_ENV", "production")]).0.copies, None);
        let (options, faults) = read("[logs]\ndir = \"logs\"\n", &[]);
        assert_eq!(options.copies, Some(copies::Options { dir: "logs".into(), bytes: 5_000_000, files: 5 }));
        assert_eq!(faults, 0);
        let (_, faults) = read("[logs]\ndir = \"x\"\nfile_size = \"1KB\"\nfiles = 0\n", &[]);
        assert_eq!(faults, 2);
    }
}
