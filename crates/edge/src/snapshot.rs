//! What a core reads for each request: one immutable picture of the configuration, replaced whole by a reload.

use crate::address::Trusted;
use crate::cache;
use crate::csrf;
use crate::files::Files;
use crate::forwarded::Use;
use crate::https::Https;
use crate::identity;
use crate::input::{self, CHECKED_BYTES_CEILING, CHECKED_BYTES_MAX};
use crate::limit;
use crate::local::{self, Ours};
use crate::members::{Group, Members};
use crate::options::{App, Limits, Offered, Options, Timeouts};
use crate::path::{Pattern, canonical, is_at_or_below, readings};
use crate::proxy_protocol::Listeners;
use crate::respond;
use crate::sticky::Key;
use crate::tls::Certificates;
use mainstay_identity::{Verifier, exchange};
use mainstay_limits::Rates;
use mainstay_telemetry::Names;
use std::collections::BTreeSet;
use std::net::IpAddr;
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
    pub forwarded: Use,
    /// Where connections begin with the PROXY protocol.
    pub proxy_protocol: Listeners,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub offered: Offered,
    pub cache: cache::Rules,
    pub rate: limit::Rules,
    pub hide_traces: bool,
    /// Who may come.
    pub identity: identity::Rules,
    /// What writes by cookie must bring.
    pub csrf: csrf::Rules,
    /// The services of this process answer for some paths.
    serves: bool,
    /// Where the pages of operators stand, canonical.
    pages: Option<String>,
    /// Where the app is given mails and jobs: nobody else may give it any. Canonical.
    pushed: BTreeSet<String>,
    /// Some pattern names a host; else nobody needs to read it.
    pub by_host: bool,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    // Read by the request path alone.
    pub https: Https,
    /// In `Names`: where each rule stands, for trails.
    pub rules: Rules,
    /// Most specific first.
    files: Vec<(Pattern, Files)>,
    /// What is done to answers.
    pub respond: respond::Rules,
    /// What requests must keep.
    pub input: input::Rules,
    /// Signs sticky cookies, where the file names a secret for it.
    pub sticky: Option<Key>,
}

/// Places in `Names`.
#[derive(Debug, Clone)]
pub struct Rules {
    pub header: u32,
    pub connections: u32,
    pub per_client: u32,
    pub bans: u32,
    body: u32,
    response: u32,
    /// One for each entry of `trusted`.
    trusted: Vec<u32>,
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
    cache: cache::Layer,
}

/// What holds for one request once all matching routes have spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Name of the most specific route; `Names::NONE` if none matches.
    pub route: u32,
    pub response: Option<Duration>,
    pub connect: Duration,
    pub body: Option<u64>,
    /// In `Names`: where the body limit and the wait for the app stand.
    pub body_rule: u32,
    pub response_rule: u32,
    pub retry: Option<bool>,
    pub cache: cache::Rule,
}

/// What a snapshot goes by that lives longer than one.
pub struct Held<'a> {
    pub certificates: &'a Certificates,
    pub store: &'a cache::Store,
    pub schemas: &'a input::Schemas,
    pub verifier: Option<Arc<Verifier>>,
    pub rates: &'a Rates,
}

impl Snapshot {
    pub fn build(options: &Options, members: &Members, names: &Names, held: Held<'_>) -> Snapshot {
        let Held { certificates, store, schemas, verifier, rates } = held;
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
        let mut rules = cache::Rules::default();
        let routes = options.routes.iter().map(|r| Route {
            pattern: r.pattern.clone(),
            name: names.intern(&r.pattern.text),
            rule: names.intern(&r.at),
            response: r.response,
            connect: r.connect,
            body: r.body,
            retry: r.retry,
            cache: rules.layer(store, &r.cache, names.intern(&r.pattern.text)),
        });
        let routes = routes.collect();
        let patterns = options.apps.iter().flat_map(|a| &a.routes).chain(options.routes.iter().map(|r| &r.pattern));
        let rate = limit::Rules::new(options, rates, names);
        let by_host = patterns.into_iter().chain(rate.patterns().map(|(pattern, _)| pattern)).any(Pattern::names_host);
        let tls_ports: Vec<u16> = options.listen.iter().filter(|l| l.tls).map(|l| l.address.port()).collect();
        Snapshot {
            apps,
            table,
            everything,
            routes,
            trusted: options.trusted.clone(),
            forwarded: options.forwarded,
            proxy_protocol: Listeners::new(options.listen.iter().filter(|l| l.proxy_protocol).map(|l| l.address)),
            timeouts: options.timeouts.clone(),
            limits: options.limits.clone(),
            offered: options.offered,
            cache: rules,
            rate,
            hide_traces: options.hide_traces,
            csrf: csrf::Rules::new(options, names),
            serves: options.identity.serves(),
            pages: options.pages.as_ref().map(|pages| canonical(&pages.path).path.into_owned()),
            pushed: options.pushed().map(|path| canonical(path).path.into_owned()).collect(),
            identity: identity::Rules::new(options, names, verifier),
            by_host,
            tls: options.serves_tls().then(|| certificates.config()),
            https: Https::new(&options.https, &tls_ports, certificates.clone()),
            files: options.routes.iter().filter_map(|r| Some((r.pattern.clone(), r.files.clone()?))).collect(),
            sticky: options.sticky_secret.as_ref().map(|secret| Key::new(secret.as_bytes())),
            respond: respond::Rules::new(&options.respond, options.routes.iter().map(|r| (&r.pattern, &r.respond))),
            input: input::Rules::new(&options.apps, &options.routes, schemas, names),
            rules: Rules {
                header: names.intern(&options.limits.header_rule),
                connections: names.intern(&options.limits.connections_rule),
                per_client: names.intern(&options.limits.per_client_rule),
                bans: options.bans.as_ref().map_or(Names::NONE, |policy| names.intern(&policy.at)),
                body: names.intern(&options.limits.body_rule),
                response: names.intern(&options.timeouts.response_rule),
                trusted: options.trusted.places().map(|at| names.intern(at)).collect(),
            },
        }
    }

    /// In `Names`: the entry that vouches for this peer's forwarding headers; `Names::NONE` if none does.
    pub fn trusted_by(&self, peer: IpAddr) -> u32 {
        self.trusted.position(peer).and_then(|i| self.rules.trusted.get(i)).copied().unwrap_or(Names::NONE)
    }

    /// Of a checked body: how large it may be, and in `Names` where that stands. A route that says how large is
    /// believed, up to what memory bears.
    pub fn checked_body(&self, settings: &Settings) -> (u64, u32) {
        let is_routes = settings.body_rule != self.rules.body;
        let bound = if is_routes { CHECKED_BYTES_CEILING } else { CHECKED_BYTES_MAX };
        match settings.body {
            Some(limit) if limit <= bound => (limit, settings.body_rule),
            _ => (bound, Names::NONE),
        }
    }

    /// The schemas a request must keep.
    pub fn inputs(&self, method: &str, host: &str, path: &str) -> Vec<&input::Rule> {
        if self.input.is_empty() {
            return Vec::new();
        }
        let served = self.app(method, host, path);
        let app = served.and_then(|served| self.apps.iter().position(|app| std::ptr::eq(app, served)));
        self.input.matching(method, host, path, app)
    }

    /// What a path is to us. `path` is canonical.
    pub fn ours(&self, path: &str) -> Ours {
        match local::ours(path) {
            Ours::No if self.serves && exchange::is_ours(path) => Ours::Service,
            Ours::No if self.pages.as_deref().is_some_and(|pages| is_at_or_below(path, pages)) => Ours::Pages,
            // Nothing of ours is there either, so it is answered as if it did not exist.
            _ if self.pushed.contains(path) => Ours::Alone,
            other => other,
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

    /// The app that serves a request of our own, which has no host: where hosts alone tell apps apart, the first whose
    /// path it is.
    pub fn app_of(&self, method: &str, path: &str) -> Option<&Served> {
        let by_path = || {
            let (_, i) = self.table.iter().find(|(pattern, _)| pattern.matches_anywhere(method, path))?;
            self.apps.get(*i)
        };
        self.app(method, "", path).or_else(by_path)
    }

    /// The folder this is looked for in, unless an app's route speaks of it more specifically.
    pub fn files(&self, method: &str, host: &str, path: &str) -> Option<&Files> {
        let (pattern, files) = self.files.iter().find(|(pattern, _)| pattern.matches(method, host, path))?;
        let app = self.table.iter().find(|(pattern, _)| pattern.matches(method, host, path));
        app.is_none_or(|(app, _)| pattern.specificity(app).is_ge()).then_some(files)
    }

    /// The rule of a route, or of an app's `routes`, that some reading of an ambiguous path falls under and another
    /// does not: whoever stands behind may read it the other way, so it is refused.
    pub fn divided(&self, method: &str, host: &str, canonical: &str, raw: &str) -> Option<u32> {
        let limited = || self.rate.patterns();
        if self.routes.is_empty() && self.everything.is_some() && limited().next().is_none() {
            return None;
        }
        let readings = readings(raw);
        let differs = |pattern: &Pattern| {
            let here = pattern.covers(method, host, canonical);
            readings.iter().any(|other| pattern.covers(method, host, other) != here)
        };
        let app = || self.table.iter().find(|(pattern, _)| differs(pattern)).map(|_| Names::NONE);
        let limit = || limited().find(|(pattern, _)| differs(pattern)).map(|(_, at)| at);
        self.routes.iter().find(|route| differs(&route.pattern)).map(|route| route.rule).or_else(limit).or_else(app)
    }

    /// All matching routes apply; for one setting the more specific wins.
    pub fn settings(&self, method: &str, host: &str, path: &str) -> Settings {
        let mut settings = Settings {
            route: Names::NONE,
            response: self.timeouts.response,
            connect: self.timeouts.connect,
            body: self.limits.body,
            body_rule: self.rules.body,
            response_rule: self.rules.response,
            retry: None,
            cache: cache::Rule::default(),
        };
        if self.routes.is_empty() {
            return settings;
        }
        // From the least specific on, so that the more specific overwrites.
        for route in self.routes.iter().rev().filter(|r| r.pattern.matches(method, host, path)) {
            settings.route = route.name;
            if route.response.is_some() {
                settings.response = route.response;
                settings.response_rule = route.rule;
            }
            settings.connect = route.connect.unwrap_or(settings.connect);
            settings.retry = route.retry.or(settings.retry);
            route.cache.lay(&mut settings.cache);
            if route.body.is_some() {
                settings.body = route.body;
                settings.body_rule = route.rule;
            }
        }
        settings
    }
}
