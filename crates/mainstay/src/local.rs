//! What Mainstay answers itself over the edge: health documents and metrics.
//!
//! What tells of the inside is shown to this machine alone (no forwarding header), to `[ops] allow`, and to whoever
//! brings `[ops] token`; for everybody else it does not exist.

use crate::scrape;
use crate::server::Server;
use crate::{cache, errors};
use bytes::Bytes;
use mainstay_edge::local::{Ask, LocalReceiver, Reply};
use mainstay_identity::operators::Scope;
use mainstay_runtime::Clock;
use mainstay_telemetry::metrics::exposition::{CONTENT_TYPE, Exposition, Kind};
use mainstay_watch::{Document, documents, nodejs, paths};
use serde_json::{Value, json};
use std::rc::Rc;

/// Questions answered at once; the rest wait in the channel, which is bounded too.
const ANSWERING_MAX: usize = 64;

/// The keys that `Mainstay-Identity` is signed with, for apps to verify it.
const JWKS_PATH: &str = "/.mainstay/jwks.json";

/// Whose tokens those are that accounts make, for libraries that want it all from one document.
const DISCOVERY_PATH: &str = "/.mainstay/openid-configuration";

/// How many of the newest failures `/api/v1/metrics` shows.
const RECENT_ERRORS: usize = 10;

/// Lives as long as the edge. Must run inside a `LocalSet`.
pub async fn serve(mut asks: LocalReceiver, server: Rc<Server>) {
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(ANSWERING_MAX));
    while let Some(ask) = asks.recv().await {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let server = server.clone();
        tokio::task::spawn_local(async move {
            let reply = reply(&ask, &server).await;
            // The client may be gone.
            let _ = ask.answer.send(reply);
            drop(turn);
        });
    }
}

async fn reply(ask: &Ask, server: &Server) -> Reply {
    if let Some(page) = errors::page(&ask.path) {
        let content_type = "text/markdown; charset=utf-8";
        return Reply::Document { status: 200, content_type, body: Bytes::from_static(page.as_bytes()) };
    }
    if let Some(answer) = server.certificates.answer(&ask.path) {
        return Reply::Document { status: 200, content_type: "application/octet-stream", body: answer.into() };
    }
    if ask.path == JWKS_PATH {
        return match server.edge.verifier() {
            Some(current) => json_text(current.1.signer().jwks()),
            None => Reply::NotHere,
        };
    }
    if ask.path == DISCOVERY_PATH {
        let options = server.edge.options();
        let document = options.identity.accounts.as_ref().and_then(|accounts| accounts.discovery());
        return document.map_or(Reply::NotHere, |document| json_reply(200, &document));
    }
    let Some(document) = paths::offered(&ask.path) else { return Reply::NotHere };
    if paths::is_inside(document)
        && !ask.from_here
        && !server.allows(ask.client, ask.authorization.as_deref(), scope(document))
    {
        return Reply::NotHere;
    }
    match document {
        Document::Metrics => {
            Reply::Document { status: 200, content_type: CONTENT_TYPE, body: metrics(server).await.into() }
        }
        Document::ApiMetrics => json_reply(200, &api_metrics(server)),
        _ => match documents::answer(document, &server.state()) {
            Some(answer) => json_reply(answer.status, &answer.body),
            None => Reply::NotHere,
        },
    }
}

fn json_text(text: &str) -> Reply {
    Reply::Document { status: 200, content_type: "application/json", body: Bytes::copy_from_slice(text.as_bytes()) }
}

/// What a token must be good for.
fn scope(document: Document) -> Scope {
    match document {
        Document::Metrics | Document::ApiMetrics => Scope::Metrics,
        _ => Scope::Health,
    }
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::Document { status, content_type: "application/json", body: Bytes::from(body.to_string()) }
}

/// S4 and S17, as Prometheus reads it.
async fn metrics(server: &Server) -> String {
    let instances = instances(server).await;
    let mut out = Exposition::default();
    server.metrics.expose(&mut out);
    server.telemetry.expose(&mut out);
    fleet(server, &mut out);
    upstreams(server, &mut out);
    mainstay_edge::expose_cache(&server.edge.cache_counts(), &mut out);
    server.edge.limits().expose(&mut out);
    server.queues.expose(&mut out).await;
    let mut text = out.finish();
    text.push_str(&nodejs::render(&instances, Clock::unix_micros() as f64 / 1e6));
    text
}

async fn instances(server: &Server) -> Vec<nodejs::Instance> {
    let apps = server.fleet.status();
    let running: Vec<_> = apps
        .iter()
        .flat_map(|app| app.instances.iter().map(move |instance| (app, instance)))
        .filter(|(_, instance)| instance.pid.is_some())
        .collect();
    let addresses = running.iter().map(|(_, i)| i.address.as_ref().and_then(|a| a.parse().ok())).collect();
    let shown = scrape::shown(addresses).await;
    let told = running.iter().zip(shown).map(|((app, instance), shown)| nodejs::Instance {
        app: app.name.clone(),
        instance: instance.label.clone(),
        shown,
        process: nodejs::Process {
            resident_bytes: instance.rss_bytes.map(|bytes| bytes as f64),
            uptime_seconds: Some(instance.uptime_ms as f64 / 1000.0),
        },
    });
    told.collect()
}

fn fleet(server: &Server, out: &mut Exposition) {
    for app in server.fleet.status() {
        let labels = [("app", app.name.as_str())];
        out.family("mainstay_instances_wanted", Kind::Gauge, "Instances there should be.").sample(&labels, app.wanted);
        out.family("mainstay_instances_ready", Kind::Gauge, "Instances that serve.").sample(&labels, app.ready);
        for instance in &app.instances {
            let labels = [("app", app.name.as_str()), ("instance", instance.label.as_str())];
            out.family("mainstay_instance_restarts_total", Kind::Counter, "Starts that nobody asked for.")
                .sample(&labels, instance.restarts);
            if let Some(percent) = instance.cpu_percent {
                out.family("mainstay_instance_cpu_percent", Kind::Gauge, "Percent of one processor.")
                    .real(&labels, percent);
            }
        }
    }
}

fn upstreams(server: &Server, out: &mut Exposition) {
    for group in server.edge.members().groups() {
        for upstream in &group.list().upstreams {
            let labels = [("app", group.name.as_str()), ("upstream", upstream.label.as_str())];
            let (requests, failures) = upstream.totals();
            out.family("mainstay_upstream_requests_total", Kind::Counter, "Requests sent to the upstream.")
                .sample(&labels, requests);
            out.family("mainstay_upstream_failures_total", Kind::Counter, "Requests it failed.")
                .sample(&labels, failures);
            out.family("mainstay_upstream_in_flight", Kind::Gauge, "Requests it works on now.")
                .sample(&labels, upstream.in_flight());
        }
    }
}

/// S5. What nothing measures is null, never a constant.
fn api_metrics(server: &Server) -> Value {
    let recent = server.telemetry.recent_errors(RECENT_ERRORS);
    let mut body = server.metrics.summary().to_json(&recent);
    let apps = server.fleet.status();
    let instances = || apps.iter().flat_map(|app| &app.instances);
    let memory: Option<u64> = instances().map(|instance| instance.rss_bytes).sum();
    let cpu: Option<f64> = instances().map(|instance| instance.cpu_percent).sum();
    body.insert(
        "system".to_owned(),
        json!({
            "memory": { "used": memory.filter(|bytes| *bytes > 0) },
            "cpu": { "percent": cpu.filter(|_| instances().count() > 0) },
            "uptime": server.state().uptime_us() / 1_000_000,
            "instances": instances().count(),
        }),
    );
    body.insert("database".to_owned(), json!({ "pool": null, "queries": null }));
    body.insert("cache".to_owned(), cache::summary(server));
    Value::Object(body)
}
