//! The numbers of `GET /api/v1/metrics` (S5) that the edge knows. What others measure, they add beside these.

use super::latency::{Latency, Quantiles};
use super::{SeriesSums, Totals};
use crate::Verdict;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Since this server started. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub total: u64,
    /// Answered below 400.
    pub successful: u64,
    /// Answered 400 or above, `client_gone` included.
    pub failed: u64,
    pub average_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// By our own code where the edge ended the request, else `http_STATUS`.
    pub errors: BTreeMap<String, u64>,
    pub active_connections: u64,
    pub websocket_connections: u64,
}

/// One line of `recent` errors.
#[derive(Clone, Debug, PartialEq)]
pub struct RecentError {
    pub unix_us: u64,
    pub id: String,
    pub kind: String,
    pub method: String,
    /// The pattern, never the path: this answer may be shown where a log may not.
    pub route: String,
    pub status: u16,
}

pub(super) fn summary<'a>(
    series: &SeriesSums,
    totals: &Totals,
    latency: impl IntoIterator<Item = &'a Latency>,
) -> Summary {
    let quantiles = Quantiles::of(latency);
    let ms = |us: u64| us as f64 / 1000.0;
    let mut summary = Summary {
        average_ms: quantiles.mean_us() / 1000.0,
        p95_ms: ms(quantiles.quantile_us(0.95)),
        p99_ms: ms(quantiles.quantile_us(0.99)),
        max_ms: ms(quantiles.max_us()),
        active_connections: totals.open,
        websocket_connections: totals.tunnels,
        ..Summary::default()
    };
    let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
    for ((_, _, status), n) in series {
        summary.total += n;
        if *status < 400 {
            summary.successful += n;
        } else {
            summary.failed += n;
            *by_status.entry(*status).or_default() += n;
        }
    }
    // What the edge itself ended is counted by its code, so it is taken out of the plain statuses.
    for (verdict, n) in Verdict::ALL.iter().zip(totals.verdicts.0).filter(|(_, n)| *n > 0) {
        summary.errors.insert(verdict.code().to_owned(), n);
        if let Some(plain) = by_status.get_mut(&verdict.status()) {
            *plain = plain.saturating_sub(n);
        }
    }
    for (status, n) in by_status.into_iter().filter(|(_, n)| *n > 0) {
        summary.errors.insert(format!("http_{status}"), n);
    }
    summary
}

impl Summary {
    /// `requests`, `performance` and `errors`; the caller adds `system`, `database`, `cache`.
    pub fn to_json(&self, recent: &[RecentError]) -> Map<String, Value> {
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        let recent: Vec<Value> = recent.iter().map(RecentError::to_json).collect();
        let body = json!({
            "requests": { "total": self.total, "successful": self.successful, "failed": self.failed },
            "performance": {
                "averageResponseTime": round(self.average_ms),
                "p95ResponseTime": round(self.p95_ms),
                "p99ResponseTime": round(self.p99_ms),
                "maxResponseTime": round(self.max_ms),
            },
            "errors": { "total": self.errors.values().sum::<u64>(), "byType": self.errors, "recent": recent },
            "connections": { "active": self.active_connections, "websocket": self.websocket_connections },
        });
        match body {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

impl RecentError {
    fn to_json(&self) -> Value {
        json!({
            "timestamp": crate::time::iso(self.unix_us),
            "requestId": self.id,
            "type": self.kind,
            "method": self.method,
            "route": self.route,
            "status": self.status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;
    use crate::{MethodCode, Names, Record};

    #[test]
    fn errors_are_counted_once_each_by_type() {
        let metrics = Metrics::new(Names::default());
        let core = metrics.core();
        let record = |status, verdict| Record { status, verdict, total_us: 2_000, ..Record::EMPTY };
        (0..7).for_each(|_| core.observe(2, MethodCode::Get, 200, 1_000));
        core.record(&record(502, Verdict::UpstreamClosed));
        core.record(&record(502, Verdict::Ok));
        core.record(&record(404, Verdict::Ok));
        let summary = metrics.summary();
        assert_eq!((summary.total, summary.successful, summary.failed), (10, 7, 3));
        let errors: Vec<_> = summary.errors.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        assert_eq!(errors, [("http_404", 1), ("http_502", 1), ("upstream_closed", 1)]);
        assert_eq!(summary.max_ms, 2.0);
        let json = Value::Object(summary.to_json(&[RecentError {
            unix_us: 1_769_947_200_000_000,
            id: "r_1".into(),
            kind: "upstream_closed".into(),
            method: "GET".into(),
            route: "/a".into(),
            status: 502,
        }]));
        assert_eq!(json["requests"]["failed"], 3);
        assert_eq!(json["performance"]["averageResponseTime"], 1.3);
        assert_eq!(json["errors"]["recent"][0]["timestamp"], "2026-02-01T12:00:00.000Z");
    }
}
