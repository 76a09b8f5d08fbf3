//! Certificates on the control thread: files that are replaced are taken up without a restart (E16), and the commands
//! of `mainstay certificates` run here.
//!
//! Must never put a pair in force that was not proved: a half-written file is tried again when it has changed.

use crate::control::{CertificatesAction, CertificatesAsked, Refused, Say};
use crate::server::Server;
use crate::settings;
use crate::voice::Voice;
use mainstay_edge::acme;
use mainstay_watch::{Certificates, Status};
use serde_json::{Value, json};
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

/// Reads the files that are in force once more; each good pair counts, whatever is wrong with another. The caller
/// holds `reloading`.
pub fn read_again(server: &Server) -> Result<(), String> {
    let errors = server.edge.take_up_files();
    server.certificates.look();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors.iter().map(|error| settings::chain(error)).collect::<Vec<_>>().join("; ")),
    }
}

/// For the health documents, which name nobody.
pub fn state(server: &Server) -> Option<Certificates> {
    server.certificates.summary().map(|summary| Certificates {
        status: match summary.outlook {
            acme::Outlook::Good => Status::Ok,
            acme::Outlook::ExpiresSoon => Status::Degraded,
            acme::Outlook::Missing if !summary.is_failing => Status::Unknown,
            acme::Outlook::Expired | acme::Outlook::Revoked | acme::Outlook::Missing => Status::Unavailable,
        },
        count: summary.count,
        expires_in_days: summary.soonest_days,
    })
}

/// The command of the control socket.
pub async fn command(server: &Server, asked: CertificatesAsked, say: &Say) -> Result<Value, Refused> {
    let host = asked.host.as_deref();
    match asked.action {
        CertificatesAction::List => Ok(json!({ "certificates": server.certificates.list() })),
        CertificatesAction::Check => {
            say.line("looking at names, ports and authorities; this takes a few seconds").await;
            Ok(json!({ "findings": server.certificates.check(host).await }))
        }
        CertificatesAction::Renew => {
            say.line("ordering; an authority takes seconds, sometimes minutes").await;
            let renewal = acme::Renewal { is_asked: true, dry_run: asked.dry_run, new_key: asked.new_key };
            let renewed = server.certificates.renew(host, renewal).await.map_err(Refused::new)?;
            if !asked.dry_run {
                server.book.did("renew certificates", host.unwrap_or("all").to_owned());
            }
            Ok(json!({ "renewed": renewed }))
        }
        CertificatesAction::Revoke => {
            let Some(host) = host else { return Err(Refused::new("a revocation names its host")) };
            say.line("revoking, then ordering the next; an authority takes seconds, sometimes minutes").await;
            let revoked = server.certificates.revoke(host, asked.reason).await.map_err(Refused::new)?;
            server.book.did("revoke the certificate of", host.to_owned());
            Ok(json!({ "revoked": revoked }))
        }
    }
}
