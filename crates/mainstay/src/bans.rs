//! The bans as operators see and change them, and their file: a ban outlives the server that spoke it.

use crate::control::{Bans as Asked, Refused};
use crate::journal;
use crate::operate::OPERATOR;
use crate::server::Server;
use mainstay_limits::bans::Banned;
use mainstay_limits::{Bans, Network};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_store::journal::{Event, Notes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In the data folder.
const FILE: &str = "bans.json";
/// How often the file is brought up to date; a server that is killed forgets no more than this.
const KEEP_EVERY: Duration = Duration::from_secs(5);

pub fn run(server: &Server, asked: &Asked) -> Result<Value, Refused> {
    let (bans, now_ms) = (server.edge.bans(), Clock::now().0);
    let network = |text: &str| {
        Network::parse(text).ok_or_else(|| {
            Refused::new(format!("`{text}` is no address   as: 192.0.2.7 or 2001:db8::1 (its /64 is one client)"))
        })
    };
    match asked {
        Asked::List => Ok(json!({ "bans": bans.list(now_ms), "refused": bans.refused() })),
        Asked::Add(client, seconds) => {
            let network = network(client)?;
            bans.ban(network, Duration::from_secs(*seconds), now_ms);
            server.book.did("ban", format!("{network} for {seconds} s"));
            Ok(json!({ "banned": network.to_string(), "seconds": seconds }))
        }
        Asked::Lift(None) => {
            server.book.did("lift every ban", String::new());
            Ok(json!({ "lifted": bans.lift_all(now_ms) }))
        }
        Asked::Lift(Some(client)) => match bans.lift(network(client)?, now_ms) {
            true => {
                let event = Event::BanLifted { client: client.clone() };
                server.book.notes.note(event, Some(OPERATOR.to_owned()));
                Ok(json!({ "lifted": 1 }))
            }
            false => Err(Refused::new(format!("{client} is not banned   see: mainstay bans"))),
        },
    }
}

/// Takes up the bans of the last server, at once, and keeps them written down until shutdown.
pub fn kept(server: &Server, data: &Path, shutdown: Shutdown) -> impl Future<Output = ()> + use<> {
    let bans = server.edge.bans();
    restore(bans, data);
    keep(bans.clone(), data.to_owned(), server.book.notes.clone(), shutdown)
}

fn restore(bans: &Bans, data: &Path) {
    let Ok(text) = std::fs::read_to_string(data.join(FILE)) else { return };
    let Ok(Kept { unix_s, bans: kept }) = serde_json::from_str(&text) else {
        tracing::warn!(file = FILE, "the bans of before cannot be read; there are none");
        return;
    };
    // Time went on while nobody looked.
    let passed = (Clock::unix_micros() / 1_000_000).saturating_sub(unix_s);
    let left = |mut banned: Banned| {
        banned.left_s = banned.left_s.saturating_sub(passed);
        (banned.left_s > 0).then_some(banned)
    };
    let kept: Vec<Banned> = kept.into_iter().filter_map(left).collect();
    bans.restore(&kept, Clock::now().0);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    unix_s: u64,
    bans: Vec<Banned>,
}

/// Writes the bans down whenever they have changed.
async fn keep(bans: Bans, data: PathBuf, notes: Notes, shutdown: Shutdown) {
    // What was taken up is known to the journal already.
    let mut written: Vec<(String, u32)> = names(&bans.list(Clock::now().0));
    let mut told = written.clone();
    loop {
        let ended = tokio::time::timeout(KEEP_EVERY, shutdown.requested()).await.is_ok();
        let list = bans.list(Clock::now().0);
        let now = names(&list);
        journal::banned(&notes, &told, &list);
        told.clone_from(&now);
        if now != written {
            match write(&data, list) {
                Ok(()) => written = now,
                Err(error) => tracing::warn!(%error, file = FILE, "the bans could not be written down"),
            }
        }
        if ended {
            return;
        }
    }
}

fn names(list: &[Banned]) -> Vec<(String, u32)> {
    list.iter().map(|ban| (ban.client.clone(), ban.times)).collect()
}

/// Whole or not at all.
fn write(data: &Path, bans: Vec<Banned>) -> std::io::Result<()> {
    let kept = Kept { unix_s: Clock::unix_micros() / 1_000_000, bans };
    let new = data.join(format!("{FILE}.new"));
    std::fs::write(&new, serde_json::to_vec(&kept)?)?;
    std::fs::rename(new, data.join(FILE))
}
