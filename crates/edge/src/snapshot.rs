//! What a core reads for each request: one immutable picture of the configuration, replaced whole by a reload.

use crate::address::Trusted;
use crate::members::{Group, Members};
use crate::options::{App, Limits, Offered, Options, Timeouts};
use crate::path::Pattern;
use mainstay_telemetry::Names;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Snapshot {
    pub apps: Vec<Served>,
    /// Most specific first; the index is into `apps`.
    table: Vec<(Pattern, usize)>,
    /// One app serves everything: nothing needs comparing.
    everything: Option<usize>,
    routes: Vec<Route>,
    pub trusted: Trusted,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub offered: Offered,
    pub hide_traces: bool,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// In `Names`: where the limits stand, for trails.
    pub limits_rule: u32,
}

/// An app as the edge serves it.
#[derive(Debug)]
pub struct Served {
    pub app: App,
    pub group: Arc<Group>,
}

#[derive(Debug)]
struct Route {
    pattern: Pattern,
    name: u32,
    rule: u32,
    response: Option<Duration>,
    connect: Option<Duration>,
    body: Option<u64>,
    retry: Option<bool>,
}

/// What holds for one request once all matching routes have spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Name of the most specific route; `Names::NONE` if none matches.
    pub route: u32,
    pub response: Option<Duration>,
    pub connect: Duration,
    pub body: Option<u64>,
    /// Where the body limit stands.
    pub body_rule: u32,
    pub retry: Option<bool>,
}

impl Snapshot {
    pub fn build(
        options: &Options,
        members: &Members,
        names: &Names,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Snapshot {
        let apps: Vec<Served> =
            options.apps.iter().map(|app| Served { app: app.clone(), group: members.group(&app.name) }).collect();
        let mut table: Vec<(Pattern, usize)> = Vec::new();
        for (i, served) in apps.iter().enumerate() {
            table.extend(served.app.routes.iter().map(|pattern| (pattern.clone(), i)));
        }
        table.sort_by(|a, b| b.0.specificity(&a.0));
        let everything = match &table[..] {
            [(pattern, app)] if pattern.is_everything() => Some(*app),
            _ => None,
        };
        let routes = options.routes.iter().map(|r| Route {
            pattern: r.pattern.clone(),
            name: names.intern(&r.pattern.text),
            rule: names.intern(&r.at),
            response: r.response,
            connect: r.connect,
            body: r.body,
            retry: r.retry,
        });
        Snapshot {
            apps,
            table,
            everything,
            routes: routes.collect(),
            trusted: options.trusted.clone(),
            timeouts: options.timeouts,
            limits: options.limits,
            offered: options.offered,
            hide_traces: options.hide_traces,
            tls,
            limits_rule: names.intern("edge.limits"),
        }
    }

    /// The app that serves this; `host` in lower case without its port, `path` canonical.
    pub fn app(&self, method: &str, host: &str, path: &str) -> Option<&Served> {
        if let Some(i) = self.everything {
            return self.apps.get(i);
        }
        let (_, i) = self.table.iter().find(|(pattern, _)| pattern.matches(method, host, path))?;
        self.apps.get(*i)
    }

    /// All matching routes apply; for one setting the more specific wins.
    pub fn settings(&self, method: &str, host: &str, path: &str) -> Settings {
        let mut settings = Settings {
            route: Names::NONE,
            response: self.timeouts.response,
            connect: self.timeouts.connect,
            body: self.limits.body,
            body_rule: self.limits_rule,
            retry: None,
        };
        if self.routes.is_empty() {
            return settings;
        }
        // From the least specific on, so that the more specific overwrites.
        for route in self.routes.iter().rev().filter(|r| r.pattern.matches(method, host, path)) {
            settings.route = route.name;
            settings.response = route.response.or(settings.response);
            settings.connect = route.connect.unwrap_or(settings.connect);
            settings.retry = route.retry.or(settings.retry);
            if route.body.is_some() {
                settings.body = route.body;
                settings.body_rule = route.rule;
            }
        }
        settings
    }
}
