//! The log of a file (WAL) is copied into the file by a thread of its own: a commit waits for one sync of the log, and
//! not for those of a copy.
//!
//! Invariant: the log stays bounded. While commits follow each other without a rest a copy never catches up with them,
//! and the log can begin anew only when it has; so past a length the writer copies what is left itself.

use super::file;
use crate::error::Error;
use rusqlite::Connection;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Pages that are written to the log between two copies: what SQLite takes by itself.
const COPY_EVERY: usize = 1000;
/// Pages at which the writer waits for the copy: 8 MiB.
const PAGES_MAX: usize = 2 * COPY_EVERY;
/// A page of SQLite's, and what stands before each in the log.
const PAGE_BYTES: usize = 4096 + 24;

/// Lets `writer` write its log and nothing else. The thread ends when the writer is closed.
pub(super) fn copied_aside(writer: &mut Connection, path: &Path) -> Result<JoinHandle<()>, Error> {
    let (due, dues) = mpsc::sync_channel(1);
    let mut copied = 0;
    writer.wal_hook(Some(move |log: &mut rusqlite::hooks::Wal, pages| {
        let pages = usize::try_from(pages).unwrap_or(0);
        if pages < copied {
            copied = 0;
        }
        if pages >= PAGES_MAX {
            // That the other copies just now, or that the disk refuses, is no fault of the commit.
            let _ = log.checkpoint();
        } else if pages >= copied + COPY_EVERY {
            copied = pages;
            let _ = due.try_send(());
        }
        Ok(())
    }))?;
    let copier = file::copier(path)?;
    let grown = lengthen(path);
    let copy = move || {
        if let Ok(log) = grown {
            // Else the first commit would wait for all of it.
            let _ = log.sync_all();
        }
        while dues.recv().is_ok() {
            // What was not copied is in the log, and is copied the next time.
            let _ = copier.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    };
    let started = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(copy);
    started.map_err(|source| Error::Open { path: "checkpoint".into(), source })
}

/// Writes nothing where the log will be: what is written over in place needs one write to be on the disk, what makes a
/// file longer several. Whoever reads a log ends at the first page that is none. Must come before the first commit.
fn lengthen(path: &Path) -> io::Result<File> {
    let log = File::options().write(true).open(file::beside(path, "-wal"))?;
    let nothing = vec![0; 64 * PAGE_BYTES];
    let (mut at, end) = (log.metadata()?.len(), (PAGES_MAX * PAGE_BYTES) as u64);
    while at < end {
        let some = nothing.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
        log.write_all_at(&nothing[..some], at)?;
        at += some as u64;
    }
    Ok(log)
}
