//! Counters and histograms: per-core arrays with one writer each, summed when somebody asks.
//!
//! Counting never locks, never allocates and never fails: what finds no room is counted under route `other`.

pub mod exposition;
mod latency;
mod summary;
mod table;

pub use exposition::{Exposition, Kind};
pub use latency::Latency;
pub use summary::{RecentError, Summary};
pub use table::{HISTOGRAMS_MAX, SERIES_MAX};

use crate::{MethodCode, Names, Record, Verdict};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use table::{Histograms, Series};

/// Upper bounds in microseconds: prom-client's defaults, and two below them because an edge is faster than that.
pub const BUCKETS_US: [u64; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
];
const BUCKETS_SECONDS: [&str; 13] =
    ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10"];

/// Tenants that are counted apart, two numbers of the table aside; the rest are `other`. A scrape of ten statuses each
/// is half a megabyte already.
pub const TENANTS_MAX: usize = 1000;

/// One core's counters; everything here is written by that core alone.
#[derive(Debug, Default)]
struct Cells {
    series: Series,
    histograms: Histograms,
    latency: Latency,
    verdicts: PerVerdict<AtomicU64>,
    opened: AtomicU64,
    closed: AtomicU64,
    tunnels_opened: AtomicU64,
    tunnels_closed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    tries: AtomicU64,
    held: AtomicU64,
    /// By tenant and status; made when the first tenant comes.
    tenants: OnceLock<Series>,
}

/// One of each. Arrays have a default up to 32 only.
#[derive(Debug)]
struct PerVerdict<T>([T; Verdict::ALL.len()]);

impl<T: Default> Default for PerVerdict<T> {
    fn default() -> PerVerdict<T> {
        PerVerdict(std::array::from_fn(|_| T::default()))
    }
}

/// The writing end of one core. Not `Sync`: the type keeps it to one thread at a time.
#[derive(Debug)]
pub struct CoreMetrics {
    cells: Arc<Cells>,
    tenants: Names,
    one_writer: PhantomData<Cell<()>>,
}

/// All cores together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    cores: Arc<Mutex<Vec<Arc<Cells>>>>,
    names: Names,
    tenants: Names,
}

/// One writer: a load and a store are enough, and cheaper than an atomic addition.
#[inline]
pub(crate) fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

impl CoreMetrics {
    /// One finished request: its counter and its histogram.
    #[inline]
    pub fn observe(&self, route: u32, method: MethodCode, status: u16, micros: u64) {
        self.cells.series.count(route, method, status);
        self.cells.histograms.observe(route, method, micros);
        self.cells.latency.observe(micros);
    }

    /// `observe` and everything else a record knows.
    #[inline]
    pub fn record(&self, record: &Record) {
        self.observe(record.route, record.method, record.status, record.total_us);
        add(&self.cells.bytes_in, record.bytes_in);
        add(&self.cells.bytes_out, record.bytes_out);
        if record.verdict != Verdict::Ok {
            add(&self.cells.verdicts.0[record.verdict as usize], 1);
        }
        if record.tries[0].is_some() {
            add(&self.cells.tries, record.tries.iter().flatten().count() as u64);
        }
        let tenant = u32::from(record.tenant);
        if tenant != Names::NONE {
            // The method says nothing about a tenant.
            self.cells.tenants.get_or_init(Series::default).count(tenant, MethodCode::Other, record.status);
        }
        if record.held_ms > 0 {
            add(&self.cells.held, 1);
        }
    }

    /// The number that a record carries for a tenant; those beyond `TENANTS_MAX` share one.
    pub fn tenant(&self, name: &str) -> u16 {
        u16::try_from(self.tenants.intern(name)).unwrap_or(Names::OTHER as u16)
    }

    pub fn connection_opened(&self) {
        add(&self.cells.opened, 1);
    }

    pub fn connection_closed(&self) {
        add(&self.cells.closed, 1);
    }

    /// An upgraded connection: WebSocket or any other.
    pub fn tunnel_opened(&self) {
        add(&self.cells.tunnels_opened, 1);
    }

    pub fn tunnel_closed(&self) {
        add(&self.cells.tunnels_closed, 1);
    }

    /// Bytes of a tunnel, which belong to no finished request.
    pub fn bytes(&self, received: u64, sent: u64) {
        add(&self.cells.bytes_in, received);
        add(&self.cells.bytes_out, sent);
    }
}

/// Sums over the cores.
#[derive(Debug, Default)]
struct Totals {
    verdicts: PerVerdict<u64>,
    open: u64,
    opened: u64,
    tunnels: u64,
    bytes_in: u64,
    bytes_out: u64,
    tries: u64,
    held: u64,
}

type SeriesSums = BTreeMap<(Arc<str>, &'static str, u16), u64>;
type HistogramSums = BTreeMap<(Arc<str>, &'static str), table::HistogramSum>;

impl Metrics {
    pub fn new(names: Names) -> Metrics {
        Metrics { cores: Arc::default(), names, tenants: Names::at_most(TENANTS_MAX) }
    }

    /// The counters of one more core.
    pub fn core(&self) -> CoreMetrics {
        let cells = Arc::new(Cells::default());
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).push(cells.clone());
        CoreMetrics { cells, tenants: self.tenants.clone(), one_writer: PhantomData }
    }

    fn cells(&self) -> Vec<Arc<Cells>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for core in self.cells() {
            for (sum, cell) in totals.verdicts.0.iter_mut().zip(&core.verdicts.0) {
                *sum += cell.load(Relaxed);
            }
            // Closed before opened: a connection that opens in between may be missed, never counted below zero.
            let (closed, tunnels_closed) = (core.closed.load(Relaxed), core.tunnels_closed.load(Relaxed));
            totals.opened += core.opened.load(Relaxed);
            totals.open += core.opened.load(Relaxed).saturating_sub(closed);
            totals.tunnels += core.tunnels_opened.load(Relaxed).saturating_sub(tunnels_closed);
            totals.bytes_in += core.bytes_in.load(Relaxed);
            totals.bytes_out += core.bytes_out.load(Relaxed);
            totals.tries += core.tries.load(Relaxed);
            totals.held += core.held.load(Relaxed);
        }
        totals
    }

    fn series(&self) -> SeriesSums {
        let mut sums = SeriesSums::new();
        for core in self.cells() {
            core.series.each(|route, method, status, n| {
                *sums.entry((self.route_name(route), method.as_str(), status)).or_default() += n;
            });
        }
        sums
    }

    fn histograms(&self) -> HistogramSums {
        let mut sums = HistogramSums::new();
        for core in self.cells() {
            core.histograms.each(|route, method, sum| {
                sums.entry((self.route_name(route), method.as_str())).or_default().add(&sum);
            });
        }
        sums
    }

    /// A request that matched no route and taught none is `other`, never an empty label.
    fn route_name(&self, route: u32) -> Arc<str> {
        self.names.get(if route == Names::NONE { Names::OTHER } else { route })
    }

    /// What the edge counted, under the guides' names (S4).
    pub fn expose(&self, out: &mut Exposition) {
        let mut requests = out.family("http_requests_total", Kind::Counter, "Requests answered at the edge.");
        for ((route, method, status), n) in self.series() {
            let mut digits = [0; 3];
            let labels = [("method", method), ("route", &*route), ("status", status_text(status, &mut digits))];
            requests.sample(&labels, n);
        }
        let help = "Time from a request's first byte to the end of its answer.";
        let mut durations = out.family("http_request_duration_seconds", Kind::Histogram, help);
        for ((route, method), sum) in self.histograms() {
            let labels = [("method", method), ("route", &*route)];
            durations.histogram(&labels, &BUCKETS_SECONDS, &sum.buckets, sum.micros as f64 / 1e6);
        }
        self.expose_tenants(out);
        self.expose_totals(out);
    }

    fn expose_tenants(&self, out: &mut Exposition) {
        let mut sums: BTreeMap<(Arc<str>, u16), u64> = BTreeMap::new();
        for core in self.cells() {
            let Some(series) = core.tenants.get() else { continue };
            series.each(|tenant, _, status, n| {
                *sums.entry((self.tenants.get(tenant), status)).or_default() += n;
            });
        }
        let help = "Requests answered, by the tenant of the verified identity.";
        let mut requests = out.family("mainstay_tenant_requests_total", Kind::Counter, help);
        for ((tenant, status), n) in sums {
            let mut digits = [0; 3];
            requests.sample(&[("status", status_text(status, &mut digits)), ("tenant", &*tenant)], n);
        }
    }

    fn expose_totals(&self, out: &mut Exposition) {
        let totals = self.totals();
        let mut refused =
            out.family("mainstay_refusals_total", Kind::Counter, "Requests the edge itself ended, by stable code.");
        for (verdict, n) in Verdict::ALL.iter().zip(totals.verdicts.0).filter(|(_, n)| *n > 0) {
            refused.sample(&[("code", verdict.code())], n);
        }
        let singles: [(&str, Kind, &str, u64); 7] = [
            ("http_active_connections", Kind::Gauge, "Client connections open now.", totals.open),
            ("http_connections_total", Kind::Counter, "Client connections accepted.", totals.opened),
            ("websocket_connections", Kind::Gauge, "Upgraded connections open now.", totals.tunnels),
            ("http_received_bytes_total", Kind::Counter, "Bytes of request bodies and tunnels.", totals.bytes_in),
            ("http_sent_bytes_total", Kind::Counter, "Bytes of response bodies and tunnels.", totals.bytes_out),
            ("mainstay_retries_total", Kind::Counter, "Attempts at an instance that gave no answer.", totals.tries),
            ("mainstay_held_total", Kind::Counter, "Requests held until an instance was ready.", totals.held),
        ];
        for (name, kind, help, value) in singles {
            out.family(name, kind, help).sample(&[], value);
        }
    }

    /// The shape of `GET /api/v1/metrics` (S5).
    pub fn summary(&self) -> Summary {
        summary::summary(&self.series(), &self.totals(), self.cells().iter().map(|c| &c.latency))
    }
}

fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    let status = status.min(999);
    *digits = [b'0' + (status / 100) as u8, b'0' + (status / 10 % 10) as u8, b'0' + (status % 10) as u8];
    std::str::from_utf8(digits).unwrap_or("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_summed_and_the_guides_line_is_there() {
        let names = Names::default();
        let route = names.intern("/api/v1/protocols");
        let metrics = Metrics::new(names);
        let (a, b) = (metrics.core(), metrics.core());
        for _ in 0..1500 {
            a.observe(route, MethodCode::Get, 200, 700);
        }
        for _ in 0..23 {
            b.observe(route, MethodCode::Get, 200, 45_000);
        }
        b.observe(Names::NONE, MethodCode::Post, 404, 10);
        let mut out = Exposition::default();
        metrics.expose(&mut out);
        let text = out.finish();
        for line in [
            r#"http_requests_total{method="GET",route="/api/v1/protocols",status="200"} 1523"#,
            r#"http_requests_total{method="POST",route="other",status="404"} 1"#,
            r#"http_request_duration_seconds_bucket{method="GET",route="/api/v1/protocols",le="0.001"} 1500"#,
            r#"http_request_duration_seconds_bucket{method="GET",route="/api/v1/protocols",le="0.05"} 1523"#,
            r#"http_request_duration_seconds_bucket{method="GET",route="/api/v1/protocols",le="+Inf"} 1523"#,
            r#"http_request_duration_seconds_count{method="GET",route="/api/v1/protocols"} 1523"#,
            r#"http_request_duration_seconds_sum{method="GET",route="/api/v1/protocols"} 2.085"#,
            "# TYPE http_request_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_record_counts_everything_it_knows() {
        let metrics = Metrics::new(Names::default());
        let core = metrics.core();
        core.connection_opened();
        core.connection_opened();
        core.connection_closed();
        core.tunnel_opened();
        core.record(&Record {
            status: 502,
            verdict: Verdict::UpstreamClosed,
            bytes_in: 5,
            bytes_out: 70,
            held_ms: 3,
            ..Record::EMPTY
        });
        let mut out = Exposition::default();
        metrics.expose(&mut out);
        let text = out.finish();
        for line in [
            r#"mainstay_refusals_total{code="upstream_closed"} 1"#,
            "http_active_connections 1",
            "http_connections_total 2",
            "websocket_connections 1",
            "http_received_bytes_total 5",
            "http_sent_bytes_total 70",
            "mainstay_held_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn tenants_are_counted_apart_until_there_are_too_many() {
        let metrics = Metrics::new(Names::default());
        let core = metrics.core();
        let text = || {
            let mut out = Exposition::default();
            metrics.expose(&mut out);
            out.finish()
        };
        core.record(&Record { status: 200, ..Record::EMPTY });
        assert!(!text().contains("tenant"), "what is not there is not claimed");
        for number in 0..TENANTS_MAX * 2 {
            let tenant = core.tenant(&format!("t{number}"));
            core.record(&Record { status: 200, tenant, ..Record::EMPTY });
        }
        let text = text();
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("mainstay_tenant_requests_total{")).collect();
        assert_eq!(lines.len(), TENANTS_MAX - 1);
        assert!(lines.contains(&r#"mainstay_tenant_requests_total{status="200",tenant="t0"} 1"#), "{text}");
        assert!(lines.contains(&r#"mainstay_tenant_requests_total{status="200",tenant="other"} 1002"#), "{text}");
    }

    #[test]
    fn a_full_table_counts_under_other_and_loses_nothing() {
        let metrics = Metrics::new(Names::default());
        let core = metrics.core();
        let requests = SERIES_MAX as u32 * 3;
        for route in 0..requests {
            core.observe(route + 2, MethodCode::Get, (route % 400) as u16 + 100, 1);
        }
        assert_eq!(metrics.series().values().sum::<u64>(), u64::from(requests));
        assert_eq!(metrics.histograms().values().map(|h| h.count()).sum::<u64>(), u64::from(requests));
        assert!(metrics.summary().total == u64::from(requests));
    }
}
