//! Rate limits as operators see and change them, and what is done about them from time to time.

use crate::control::{Limits as Asked, Refused};
use crate::server::Server;
use crate::voice::Voice;
use mainstay_edge::redis::Seen;
use mainstay_edge::{Forgotten, Limits, RESETS, Reach, Shown};
use mainstay_runtime::Shutdown;
use mainstay_store::redis::{Heard, listen};
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// Clients shown of each limit.
const SHOWN: usize = 5;
/// Of a client's name as another Mainstay tells it: what a header line may hold.
const WHOM_BYTES_MAX: usize = 16 * 1024;
/// How often memory of those who left is given back, and unnamed proxies are looked for.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

pub async fn run(server: &Server, asked: &Asked) -> Result<Value, Refused> {
    let limits = server.edge.limits();
    match asked {
        Asked::List => {
            let (clients, forgotten) = limits.tracked();
            let counts = |(name, refused): (String, u64)| json!({ "name": name, "refused": refused });
            Ok(json!({
                "limits": limits.shown(SHOWN).iter().map(shown).collect::<Vec<_>>(),
                "routes": limits.routes().into_iter().map(counts).collect::<Vec<_>>(),
                "tenants": limits.tenants().into_iter().map(counts).collect::<Vec<_>>(),
                "clients": clients,
                "forgotten": forgotten,
                "shared": limits.store().map(|(seen, trouble)| store(seen, trouble)),
            }))
        }
        Asked::Reset(whom) => {
            let Forgotten { counts, reach } = limits.reset(whom).await.map_err(|error| not_forgotten(&error))?;
            match counts {
                0 => Err(Refused::new(format!("nothing is counted of `{whom}`   see: mainstay limits"))),
                counts => Ok(json!({ "reset": whom, "counts": counts, "reach": word(reach) })),
            }
        }
    }
}

/// As the command line tells it in a sentence.
fn word(reach: Reach) -> &'static str {
    match reach {
        Reach::Here => "here",
        Reach::Number => "number",
        Reach::Redis => "redis",
        Reach::Everywhere => "everywhere",
    }
}

fn not_forgotten(error: &mainstay_store::redis::Error) -> Refused {
    let why = crate::settings::chain(error);
    Refused::new(format!("forgotten by this Mainstay alone: {why}   try again, or see: mainstay health"))
}

fn store(seen: Seen, trouble: Option<String>) -> Value {
    json!({ "cores": seen.cores, "up": seen.up, "open": seen.open, "trouble": trouble })
}

fn shown(limit: &Shown) -> Value {
    let top = limit.top.iter().map(|(client, used, of)| json!({ "client": client, "used": used, "of": of }));
    let causes = limit.causes.iter().map(|(client, refused)| json!({ "client": client, "refused": refused }));
    json!({
        "name": limit.name,
        "quota": limit.quota,
        "at": limit.at,
        "admitted": limit.counts.admitted,
        "refused": limit.counts.refused,
        "undecided": limit.counts.undecided,
        "clients": limit.tracked,
        "top": top.collect::<Vec<_>>(),
        "lately": {
            "refused": limit.lately.total,
            "clients": limit.lately.clients,
            "few": limit.lately.few,
            "top": causes.collect::<Vec<_>>(),
        },
    })
}

/// Once when Redis goes away, and once when it is back. Gives whether it is away.
fn tell_of_store(limits: &Limits<'_>, was_away: bool, voice: &Voice) -> bool {
    let Some((seen, trouble)) = limits.store() else { return false };
    let is_away = seen.up < seen.cores;
    match (was_away, is_away) {
        (false, true) => voice.warn(&format!(
            "Redis is away for {} of {} cores: limits count by this Mainstay alone, or refuse, as on_outage says   \
             why: {}",
            seen.cores - seen.up,
            seen.cores,
            trouble.as_deref().unwrap_or("it does not answer within 50 ms")
        )),
        (true, false) => voice.info("Redis is back: limits are counted by all together"),
        _ => {}
    }
    is_away
}

/// Forgets here whom an operator of another Mainstay reset, until shutdown. What is said while Redis is away is missed:
/// then a count ends with its window.
pub async fn hear(server: Rc<Server>, shutdown: Shutdown) {
    let Some(options) = server.edge.options().redis else { return };
    let (mut heard, listener) = match listen(&options, &[RESETS]) {
        Ok(listening) => listening,
        Err(error) => return tracing::error!(%error, "limits that others reset go on here"),
    };
    let hearing = async {
        while let Some(heard) = heard.recv().await {
            let Heard::Message { payload, .. } = heard else { continue };
            if payload.len() <= WHOM_BYTES_MAX
                && let Ok(whom) = std::str::from_utf8(&payload)
            {
                server.edge.limits().forget_too(whom);
            }
        }
    };
    tokio::join!(listener.run(shutdown), hearing);
}

/// Until shutdown.
pub async fn upkeep(server: Rc<Server>, voice: Voice, shutdown: Shutdown) {
    let (mut forgotten, mut is_away) = (0, false);
    while tokio::time::timeout(UPKEEP_EVERY, shutdown.requested()).await.is_err() {
        let limits = server.edge.limits();
        limits.sweep();
        if let Some(sentence) = limits.unnamed_proxy() {
            voice.warn(&sentence);
        }
        is_away = tell_of_store(&limits, is_away, &voice);
        let (clients, now) = limits.tracked();
        if now > forgotten {
            let new = now - forgotten;
            voice.warn(&format!(
                "{clients} clients are counted by limits, which is all there is room for: {new} that had used little \
                 were forgotten   see: mainstay limits"
            ));
        }
        forgotten = now;
    }
}
