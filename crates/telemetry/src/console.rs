//! The console: a thread of its own, because a paused terminal or a full pipe may hold it up for ever.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Batches under way to a console that does not take them; a batch is at most a few hundred KiB.
const BATCHES_MAX: usize = 16;
/// `PIPE_BUF` of Linux: a write of no more is never mixed with another process's.
const PIPE_WRITE_BYTES: usize = 4096;
/// At the end, a console that takes nothing is not waited for longer.
const FINISH: Duration = Duration::from_secs(1);

/// Where a person or a collector reads along.
#[derive(Debug)]
pub struct Console {
    /// For people; else JSON lines.
    pub(crate) text: bool,
    pub(crate) color: bool,
    pub(crate) buffer: Vec<u8>,
    batches: SyncSender<Vec<u8>>,
    ended: Receiver<()>,
    dropped: Arc<AtomicU64>,
}

/// Whole lines, as many as the kernel writes at once into a pipe: during an upgrade two servers share it, and no line
/// of one may stand within a line of the other. A longer line is a piece of its own.
fn pieces(batch: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = batch;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = rest[..rest.len().min(PIPE_WRITE_BYTES)].iter().rposition(|byte| *byte == b'\n');
        let end = whole.or_else(|| rest.iter().position(|byte| *byte == b'\n')).map_or(rest.len(), |at| at + 1);
        let (piece, more) = rest.split_at(end);
        rest = more;
        Some(piece)
    })
}

impl Console {
    /// Starts the thread that writes to `out`, usually standard output.
    pub fn start(out: impl Write + Send + 'static, text: bool, color: bool) -> std::io::Result<Console> {
        let (batches, receive) = sync_channel::<Vec<u8>>(BATCHES_MAX);
        let (end, ended) = sync_channel(1);
        let mut out = out;
        let run = move || {
            for batch in receive {
                // A closed console is no reason to stop; the files go on.
                let _ = pieces(&batch).try_for_each(|piece| out.write_all(piece).and_then(|()| out.flush()));
            }
            let _ = end.send(());
        };
        std::thread::Builder::new().name("console".into()).spawn(run)?;
        Ok(Console { text, color, buffer: Vec::new(), batches, ended, dropped: Arc::default() })
    }

    /// Lines the console did not take in time. The files have them.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        self.dropped.clone()
    }

    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        match self.batches.try_send(std::mem::take(&mut self.buffer)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(mut batch)) => {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                batch.clear();
                self.buffer = batch;
            }
        }
    }

    pub(crate) fn finish(mut self) {
        self.flush();
        drop(self.batches);
        let _ = self.ended.recv_timeout(FINISH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_between_lines_and_loses_nothing() {
        let short = "x".repeat(99) + "\n";
        let long = "y".repeat(5000) + "\n";
        let batch = [short.repeat(60), long.clone(), short.clone(), "no newline".to_owned()].concat();
        let cut: Vec<&[u8]> = pieces(batch.as_bytes()).collect();
        assert_eq!(cut.concat(), batch.as_bytes());
        assert!(cut.iter().all(|piece| piece.len() <= PIPE_WRITE_BYTES || *piece == long.as_bytes()));
        assert!(cut[..cut.len() - 1].iter().all(|piece| piece.ends_with(b"\n")));
        assert!(cut.len() <= 6, "{}", cut.len());
        assert_eq!(pieces(b"").count(), 0);
    }
}
