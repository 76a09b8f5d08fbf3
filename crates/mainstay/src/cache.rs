//! The response cache as operators see and change it.

use crate::control::{Cache as Asked, Refused};
use crate::server::Server;
use mainstay_edge::Purge;
use serde_json::{Value, json};

pub fn run(server: &Server, asked: &Asked) -> Result<Value, Refused> {
    let totals = server.edge.cache_totals();
    let what = match asked {
        Asked::Status => return Ok(status(server)),
        _ if totals.size == 0 => {
            return Err(Refused::new("no route is cached   fix: cache = true in a [[route]], then mainstay reload"));
        }
        Asked::All => Purge::All,
        Asked::Tag(tag) => Purge::Tag(tag.as_bytes().into()),
        Asked::Path(path) => Purge::parse(path)
            .ok_or_else(|| Refused::new(format!("`{path}` is no path   as: /a, /a?page=2, /a/*, api.example.com/a")))?,
    };
    Ok(json!({ "purged": server.edge.purge(&what) }))
}

fn status(server: &Server) -> Value {
    let totals = server.edge.cache_totals();
    let routes: Vec<Value> = server
        .edge
        .cache_counts()
        .iter()
        .map(|r| {
            json!({
                "route": r.route, "hits": r.hits, "stale": r.stale, "misses": r.misses,
                "revalidated": r.revalidated, "collapsed": r.collapsed, "bypassed": r.bypassed,
                "stored": r.stored, "evicted": r.evicted, "entries": r.entries, "bytes": r.bytes,
            })
        })
        .collect();
    json!({ "size": totals.size, "used": totals.used, "entries": totals.entries, "routes": routes })
}

/// Of `GET /api/v1/metrics` (S5): null where nothing is cached or nothing was asked for.
pub fn summary(server: &Server) -> Value {
    let totals = server.edge.cache_totals();
    let counts = server.edge.cache_counts();
    let sum = |of: fn(&mainstay_edge::RouteCounts) -> u64| counts.iter().map(of).sum::<u64>();
    let hits = sum(|r| r.hits + r.stale + r.collapsed + r.revalidated);
    let all = hits + sum(|r| r.misses);
    json!({
        "hitRate": (all > 0).then(|| hits as f64 / all as f64),
        "keys": (totals.size > 0).then_some(totals.entries),
    })
}
