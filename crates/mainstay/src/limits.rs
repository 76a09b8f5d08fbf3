//! Rate limits as operators see and change them, and what is done about them from time to time.

use crate::control::{Limits as Asked, Refused};
use crate::server::Server;
use crate::voice::Voice;
use mainstay_edge::Shown;
use mainstay_runtime::Shutdown;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;

/// Clients shown of each limit.
const SHOWN: usize = 5;
/// How often memory of those who left is given back, and unnamed proxies are looked for.
const UPKEEP_EVERY: Duration = Duration::from_secs(10);

pub fn run(server: &Server, asked: &Asked) -> Result<Value, Refused> {
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
            }))
        }
        Asked::Reset(whom) => match limits.reset(whom) {
            0 => Err(Refused::new(format!("nothing is counted of `{whom}`   see: mainstay limits"))),
            counts => Ok(json!({ "reset": whom, "counts": counts })),
        },
    }
}

fn shown(limit: &Shown) -> Value {
    let top = limit.top.iter().map(|(client, used, of)| json!({ "client": client, "used": used, "of": of }));
    let causes = limit.causes.iter().map(|(client, refused)| json!({ "client": client, "refused": refused }));
    json!({
        "name": limit.name,
        "quota": limit.quota,
        "at": limit.at,
        "admitted": limit.admitted,
        "refused": limit.refused,
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

/// Until shutdown.
pub async fn upkeep(server: Rc<Server>, voice: Voice, shutdown: Shutdown) {
    let mut forgotten = 0;
    while tokio::time::timeout(UPKEEP_EVERY, shutdown.requested()).await.is_err() {
        let limits = server.edge.limits();
        limits.sweep();
        if let Some(sentence) = limits.unnamed_proxy() {
            voice.warn(&sentence);
        }
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
