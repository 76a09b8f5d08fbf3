//! The health documents, in the shapes the guides show (H1 to H5). Pure functions of the state.
//!
//! Must never name a host, an address, a user, a database or an error text (H6); what was not measured is null.

use crate::paths::Document;
use crate::state::{ServiceState, State, Status, Watched};
use serde_json::{Map, Value, json};

/// A status code and a JSON body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// H4's list: `redis` is ours, because sessions live there.
const API_SERVICES: [Watched; 4] = [Watched::Database, Watched::Redis, Watched::Email, Watched::Stripe];

/// None for the metrics, which telemetry writes.
pub fn answer(document: Document, state: &State) -> Option<Answer> {
    match document {
        Document::Health => Some(health(state)),
        Document::Live => Some(live(state)),
        Document::Ready => Some(ready(state)),
        Document::Detailed => Some(detailed(state)),
        Document::ApiHealth => Some(api_health(state)),
        Document::ApiReady => Some(api_ready(state)),
        Document::Metrics | Document::ApiMetrics => None,
    }
}

fn health(state: &State) -> Answer {
    let serving = state.is_serving();
    let status = if serving { Status::Ok } else { Status::Unavailable };
    let body = json!({
        "status": status.as_str(),
        "timestamp": timestamp(state),
        "uptime": state.uptime_us() / 1_000_000,
        "version": state.version,
        "environment": state.environment,
    });
    Answer { status: code(serving), body }
}

/// The process answers: that is all a liveness probe may ask, or a restart would follow a database that is away.
fn live(state: &State) -> Answer {
    let body = json!({
        "status": "ok",
        "timestamp": timestamp(state),
        "uptime": state.uptime_us() / 1_000_000,
    });
    Answer { status: 200, body }
}

fn ready(state: &State) -> Answer {
    let ready = state.is_ready();
    let instances = if state.is_serving() { Status::Ok } else { Status::Unavailable };
    let body = json!({
        "status": readiness(ready),
        "timestamp": timestamp(state),
        "checks": {
            "instances": instances.as_str(),
            "database": state.service(Watched::Database).status.as_str(),
            "redis": state.service(Watched::Redis).status.as_str(),
        },
    });
    Answer { status: code(ready), body }
}

fn detailed(state: &State) -> Answer {
    let overall = state.overall(&Watched::ALL);
    let apps: Map<String, Value> = state
        .apps
        .iter()
        .map(|app| {
            let about = json!({ "status": app.status().as_str(), "ready": app.ready, "instances": app.total });
            (app.name.clone(), about)
        })
        .collect();
    let body = json!({
        "status": overall.as_str(),
        "timestamp": timestamp(state),
        "uptime": state.uptime_us() / 1_000_000,
        "version": state.version,
        "environment": state.environment,
        "apps": apps,
        "services": services(state),
        "certificates": state.certificates.map(|certificates| json!({
            "status": certificates.status.as_str(),
            "count": certificates.count,
            "expiresInDays": certificates.expires_in_days,
        })),
    });
    Answer { status: code(matches!(overall, Status::Ok | Status::Unknown)), body }
}

/// H3. Pool and chain numbers need a login we do not do: null until something measures them.
fn services(state: &State) -> Value {
    let with = |service: Watched, more: Value| {
        let ServiceState { status, latency_ms, .. } = state.service(service);
        let mut about = Map::new();
        about.insert("status".to_owned(), status.as_str().into());
        about.insert("latency".to_owned(), latency_ms.into());
        if let Value::Object(more) = more {
            about.extend(more);
        }
        about
    };
    json!({
        "database": with(Watched::Database, json!({ "connections": { "active": null, "idle": null, "max": null } })),
        "redis": with(Watched::Redis, json!({ "memory": memory(state) })),
        "queues": {},
        "blockchain": with(Watched::Blockchain, json!({ "network": null, "blockNumber": null })),
        "email": with(Watched::Email, json!({})),
        "stripe": with(Watched::Stripe, json!({})),
    })
}

/// As the guide writes it: `"50MB"`. A server without a bound has no `max`.
fn memory(state: &State) -> Value {
    let memory = state.service(Watched::Redis).memory;
    let used = memory.map(|memory| bytes(memory.used));
    json!({ "used": used, "max": memory.and_then(|memory| memory.max).map(bytes) })
}

/// Whole megabytes; below one, kilobytes.
fn bytes(number: u64) -> String {
    const KB: u64 = 1000;
    const MB: u64 = 1000 * KB;
    if number >= MB { format!("{}MB", (number + MB / 2) / MB) } else { format!("{}KB", number.div_ceil(KB)) }
}

fn api_health(state: &State) -> Answer {
    let overall = state.overall(&API_SERVICES);
    let services: Map<String, Value> = API_SERVICES
        .iter()
        .map(|&service| (service.as_str().to_owned(), state.service(service).status.as_str().into()))
        .collect();
    let body = json!({
        "status": overall.as_str(),
        "timestamp": timestamp(state),
        "uptime": state.uptime_us() as f64 / 1_000_000.0,
        "environment": state.environment,
        "services": services,
    });
    Answer { status: code(matches!(overall, Status::Ok | Status::Unknown)), body }
}

fn api_ready(state: &State) -> Answer {
    let ready = state.is_ready();
    Answer { status: code(ready), body: json!({ "status": readiness(ready) }) }
}

fn readiness(ready: bool) -> &'static str {
    if ready { "ready" } else { "not_ready" }
}

fn code(healthy: bool) -> u16 {
    if healthy { 200 } else { 503 }
}

/// ISO 8601, UTC, milliseconds, as JavaScript writes it. Null past the year 9999.
fn timestamp(state: &State) -> Option<String> {
    let micros = i64::try_from(state.now_unix_us).ok()?;
    let stamp = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(format!("{stamp:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{app, state};

    fn one(document: Document, state: &State) -> (u16, Value) {
        let answer = answer(document, state).expect("a document");
        (answer.status, answer.body)
    }

    #[test]
    fn h1_health_has_the_guides_members_and_follows_the_instances() {
        let body = |status: &str| {
            json!({ "status": status, "timestamp": "2024-01-01T01:00:00.500Z", "uptime": 3600, "version": "1.0.0",
                    "environment": "production" })
        };
        assert_eq!(one(Document::Health, &state(vec![app("main", 1, 2)], &[])), (200, body("ok")));
        assert_eq!(one(Document::Health, &state(vec![app("main", 0, 2)], &[])), (503, body("unavailable")));
        let away = state(vec![app("main", 1, 1)], &[(Watched::Database, Status::Unavailable)]);
        assert_eq!(one(Document::Health, &away), (200, body("ok")));
        let mut unnamed = state(vec![app("main", 1, 1)], &[]);
        unnamed.version = None;
        assert_eq!(one(Document::Health, &unnamed).1["version"], Value::Null);
    }

    #[test]
    fn h2_live_always_answers_and_ready_falls_with_stores_and_instances() {
        let away = state(vec![], &[(Watched::Database, Status::Unavailable)]);
        assert_eq!(one(Document::Live, &away).0, 200);
        assert_eq!(one(Document::Ready, &away).0, 503);
        let redis = state(vec![app("main", 1, 1)], &[(Watched::Redis, Status::Unavailable)]);
        let (code, body) = one(Document::Ready, &redis);
        assert_eq!(
            (code, &body["status"], &body["checks"]["redis"]),
            (503, &json!("not_ready"), &json!("unavailable"))
        );
        let unknown = state(vec![app("main", 1, 1)], &[(Watched::Redis, Status::Unknown)]);
        let (code, body) = one(Document::Ready, &unknown);
        assert_eq!((code, &body["status"], &body["checks"]["redis"]), (200, &json!("ready"), &json!("unknown")));
    }

    #[test]
    fn h3_detailed_has_the_guides_shape_and_null_where_nothing_was_measured() {
        let mut state = state(vec![app("main", 2, 2)], &[(Watched::Redis, Status::Ok)]);
        let database = ServiceState { latency_ms: Some(12.5), ..ServiceState::new(Watched::Database, Status::Ok) };
        state.services[0] = database;
        let (code, body) = one(Document::Detailed, &state);
        assert_eq!(code, 200);
        assert_eq!(body["status"], "ok");
        assert_eq!(
            body["services"],
            json!({
                "database": { "status": "ok", "latency": 12.5,
                              "connections": { "active": null, "idle": null, "max": null } },
                "redis": { "status": "ok", "latency": null, "memory": { "used": null, "max": null } },
                "queues": {},
                "blockchain": { "status": "not_configured", "latency": null, "network": null, "blockNumber": null },
                "email": { "status": "not_configured", "latency": null },
                "stripe": { "status": "not_configured", "latency": null },
            })
        );
        assert_eq!(body["apps"], json!({ "main": { "status": "ok", "ready": 2, "instances": 2 } }));
    }

    #[test]
    fn h3_detailed_says_what_is_wrong() {
        for (service, status, code, word) in [
            (Watched::Database, Status::Unavailable, 503, "degraded"),
            (Watched::Email, Status::Unavailable, 503, "degraded"),
            (Watched::Blockchain, Status::Unknown, 200, "unknown"),
            (Watched::Stripe, Status::Configured, 200, "ok"),
        ] {
            let (got, body) = one(Document::Detailed, &state(vec![app("main", 1, 1)], &[(service, status)]));
            assert_eq!((got, &body["status"]), (code, &json!(word)), "{service:?}");
            assert_eq!(body["services"][service.as_str()]["status"], status.as_str());
        }
    }

    #[test]
    fn h4_api_health_counts_not_configured_as_healthy_and_unknown_as_neither() {
        let of = |changed: &[(Watched, Status)]| one(Document::ApiHealth, &state(vec![app("main", 1, 1)], changed));
        let (code, body) = of(&[(Watched::Database, Status::Ok)]);
        assert_eq!(code, 200);
        assert_eq!(
            body,
            json!({
                "status": "ok", "timestamp": "2024-01-01T01:00:00.500Z", "uptime": 3600.5,
                "environment": "production",
                "services": { "database": "ok", "redis": "not_configured", "email": "not_configured",
                              "stripe": "not_configured" },
            })
        );
        for (service, status, code, word) in [
            (Watched::Email, Status::Unavailable, 503, "degraded"),
            (Watched::Database, Status::Unavailable, 503, "degraded"),
            (Watched::Redis, Status::Unknown, 200, "unknown"),
            (Watched::Blockchain, Status::Unavailable, 200, "ok"),
        ] {
            let (got, body) = of(&[(service, status)]);
            assert_eq!((got, &body["status"]), (code, &json!(word)), "{service:?}");
        }
        let (code, body) = one(Document::ApiHealth, &state(vec![app("main", 0, 1)], &[]));
        assert_eq!((code, &body["status"]), (503, &json!("unavailable")));
    }

    #[test]
    fn h4_api_ready_is_one_word() {
        let up = state(vec![app("main", 1, 1)], &[]);
        assert_eq!(one(Document::ApiReady, &up), (200, json!({ "status": "ready" })));
        let down = state(vec![app("main", 1, 1)], &[(Watched::Database, Status::Unavailable)]);
        assert_eq!(one(Document::ApiReady, &down), (503, json!({ "status": "not_ready" })));
    }

    #[test]
    fn h6_public_documents_hold_words_and_numbers_we_chose() {
        let secret = "db.internal.example";
        let mut state = state(vec![app(secret, 0, 1)], &[(Watched::Database, Status::Unavailable)]);
        state.version = Some("1".to_owned());
        for document in [Document::Health, Document::Live, Document::Ready, Document::ApiHealth, Document::ApiReady] {
            assert!(!one(document, &state).1.to_string().contains(secret), "{document:?}");
        }
    }

    #[test]
    fn metrics_are_not_made_here_and_a_clock_beyond_the_calendar_is_null() {
        let mut state = state(vec![app("main", 1, 1)], &[]);
        assert_eq!(answer(Document::Metrics, &state), None);
        assert_eq!(answer(Document::ApiMetrics, &state), None);
        state.now_unix_us = u64::MAX;
        assert_eq!(one(Document::Health, &state).1["timestamp"], Value::Null);
    }
}
