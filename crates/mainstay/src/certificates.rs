//! A replaced certificate file, or link target, is taken up without a restart (E16).
//!
//! Must never put a pair in force that was not proved: a half-written file is tried again when it has changed.

use crate::server::Server;
use crate::settings;
use crate::voice::Voice;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Certificates are replaced weeks before they expire; seconds are soon enough, and a look costs two calls a file.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What tells one version of a file from the next: link targets are followed.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Looks for ever. Must run inside a `LocalSet`.
pub async fn watch(server: Rc<Server>, voice: Voice) {
    let mut known = stamps(&server);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = stamps(&server);
        if now == known {
            continue;
        }
        let same_files = now.iter().map(|(path, _)| path).eq(known.iter().map(|(path, _)| path));
        known = now;
        // Other files are named: that was a reload, which has read them.
        if same_files {
            let _one = server.reloading.lock().await;
            match read_again(&server) {
                Ok(()) => voice.info("a certificate file has changed; the new one is in force"),
                Err(why) => voice.warn(&format!("a certificate file has changed; the old one stays: {why}")),
            }
        }
    }
}

fn stamps(server: &Server) -> Vec<(PathBuf, Stamp)> {
    let files = server.edge.options().tls;
    let paths = files.into_iter().flat_map(|pair| [pair.cert, pair.key]);
    let stamp = |path: &PathBuf| -> Stamp {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    };
    paths
        .map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        })
        .collect()
}

/// Reads the files that are in force once more. The caller holds `reloading`.
pub fn read_again(server: &Server) -> Result<(), String> {
    let prepared = server.edge.prepare(server.edge.options()).map_err(|error| settings::chain(&error))?;
    server.edge.commit(prepared, Vec::new());
    Ok(())
}
