//! What is known at one instant, and what follows from it. Pure: no clock, no socket.

/// How one service or one app stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was asked and it answered.
    Ok,
    /// Nobody asked for it: counts as healthy.
    NotConfigured,
    /// It is set up and there is no way to ask it without using it (an API key).
    Configured,
    /// Part of it is there: an app with some of its instances ready.
    Degraded,
    /// It could not be found out. Never green, and alone no reason to take traffic away.
    Unknown,
    /// It was asked and did not answer, or answered with something else.
    Unavailable,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NotConfigured => "not_configured",
            Status::Configured => "configured",
            Status::Degraded => "degraded",
            Status::Unknown => "unknown",
            Status::Unavailable => "unavailable",
        }
    }
}

/// The services that are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Database,
    Redis,
    Email,
    Stripe,
    Blockchain,
}

impl Watched {
    pub const ALL: [Watched; 5] =
        [Watched::Database, Watched::Redis, Watched::Email, Watched::Stripe, Watched::Blockchain];

    pub fn as_str(self) -> &'static str {
        match self {
            Watched::Database => "database",
            Watched::Redis => "redis",
            Watched::Email => "email",
            Watched::Stripe => "stripe",
            Watched::Blockchain => "blockchain",
        }
    }

    /// Without these the app cannot take traffic, so readiness falls with them.
    fn is_store(self) -> bool {
        matches!(self, Watched::Database | Watched::Redis)
    }
}

/// What the last look at one service gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceState {
    pub service: Watched,
    pub status: Status,
    /// From the first packet to the answer, in milliseconds; only where there was an answer.
    pub latency_ms: Option<f64>,
    /// Only where it says so.
    pub memory: Option<Memory>,
}

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    pub used: u64,
    /// `None`: no bound.
    pub max: Option<u64>,
}

impl ServiceState {
    pub fn new(service: Watched, status: Status) -> ServiceState {
        ServiceState { service, status, latency_ms: None, memory: None }
    }
}

/// One app and its instances. An app without a port counts a living process as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    pub name: String,
    pub ready: u32,
    pub total: u32,
    /// It takes requests; a worker does not, and keeps nobody's site up.
    pub traffic: bool,
}

impl App {
    pub fn status(&self) -> Status {
        match (self.ready, self.total) {
            (0, _) => Status::Unavailable,
            (ready, total) if ready < total => Status::Degraded,
            _ => Status::Ok,
        }
    }
}

/// All certificates the edge serves, in a few numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificates {
    /// `Degraded`: one should have been renewed by now; `Unavailable`: one has expired, or could not be had;
    /// `Unknown`: one is being ordered for the first time.
    pub status: Status,
    pub count: usize,
    pub expires_in_days: Option<i64>,
}

/// Everything a health document is made from.
#[derive(Clone, Debug)]
pub struct State {
    pub started_unix_us: u64,
    pub now_unix_us: u64,
    /// `APP_VERSION`.
    pub version: Option<String>,
    /// `production` or `development`.
    pub environment: String,
    pub apps: Vec<App>,
    pub services: Vec<ServiceState>,
    /// `None`: the edge serves no TLS.
    pub certificates: Option<Certificates>,
}

impl State {
    /// One not named in `services` is one nobody asked about: `unknown`, not `ok`.
    pub fn service(&self, service: Watched) -> ServiceState {
        let found = self.services.iter().find(|s| s.service == service);
        found.copied().unwrap_or(ServiceState::new(service, Status::Unknown))
    }

    /// At least one instance can take a request; where there are only workers, at least one is alive.
    pub fn is_serving(&self) -> bool {
        let workers_only = !self.apps.iter().any(|app| app.traffic);
        self.apps.iter().any(|app| app.ready > 0 && (app.traffic || workers_only))
    }

    /// Serving, and no configured database or Redis is known to be away.
    pub fn is_ready(&self) -> bool {
        let away = |service: &Watched| service.is_store() && self.service(*service).status == Status::Unavailable;
        self.is_serving() && !Watched::ALL.iter().any(away)
    }

    /// The worst of all: no instance, something away, something unknown, in this order.
    pub fn overall(&self, services: &[Watched]) -> Status {
        let certificates = self.certificates.map_or(Status::NotConfigured, |certificates| certificates.status);
        let is = |status| certificates == status;
        let has = |status| is(status) || services.iter().any(|s| self.service(*s).status == status);
        if !self.is_serving() {
            Status::Unavailable
        } else if has(Status::Unavailable) || is(Status::Degraded) || self.apps.iter().any(|app| app.ready == 0) {
            Status::Degraded
        } else if has(Status::Unknown) {
            Status::Unknown
        } else {
            Status::Ok
        }
    }

    /// Microseconds since the start; 0 where the clock was set back past it.
    pub fn uptime_us(&self) -> u64 {
        self.now_unix_us.saturating_sub(self.started_unix_us)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn app(name: &str, ready: u32, total: u32) -> App {
        App { name: name.to_owned(), ready, total, traffic: true }
    }

    pub fn state(apps: Vec<App>, changed: &[(Watched, Status)]) -> State {
        let status = |s| changed.iter().find(|(w, _)| *w == s).map_or(Status::NotConfigured, |(_, status)| *status);
        State {
            started_unix_us: 1_704_067_200_000_000,
            now_unix_us: 1_704_067_200_000_000 + 3_600_500_000,
            version: Some("1.0.0".to_owned()),
            environment: "production".to_owned(),
            apps,
            services: Watched::ALL.iter().map(|&s| ServiceState::new(s, status(s))).collect(),
            certificates: None,
        }
    }

    #[test]
    fn an_app_is_as_well_as_its_instances() {
        for (ready, total, status) in
            [(0, 0, Status::Unavailable), (0, 2, Status::Unavailable), (1, 2, Status::Degraded), (2, 2, Status::Ok)]
        {
            assert_eq!(app("main", ready, total).status(), status, "{ready} of {total}");
        }
    }

    #[test]
    fn readiness_falls_with_a_store_that_is_away_and_with_nothing_else() {
        let ready = |service, status| state(vec![app("main", 1, 1)], &[(service, status)]).is_ready();
        for service in Watched::ALL {
            let store = matches!(service, Watched::Database | Watched::Redis);
            assert_eq!(ready(service, Status::Unavailable), !store, "{service:?}");
            for status in [Status::Ok, Status::NotConfigured, Status::Configured, Status::Unknown] {
                assert!(ready(service, status), "{service:?} {status:?}");
            }
        }
        assert!(!state(vec![], &[]).is_ready());
        assert!(!state(vec![app("main", 0, 3)], &[]).is_ready());
        assert!(state(vec![app("api", 0, 1), app("web", 1, 1)], &[]).is_ready());
    }

    #[test]
    fn the_whole_is_as_bad_as_its_worst_part_and_unknown_is_not_ok() {
        let overall = |ready, changed: &[(Watched, Status)]| {
            state(vec![app("main", ready, 2)], changed).overall(&Watched::ALL).as_str()
        };
        assert_eq!(overall(2, &[]), "ok");
        assert_eq!(overall(2, &[(Watched::Stripe, Status::Configured)]), "ok");
        assert_eq!(overall(2, &[(Watched::Blockchain, Status::Unknown)]), "unknown");
        let both = [(Watched::Blockchain, Status::Unknown), (Watched::Email, Status::Unavailable)];
        assert_eq!(overall(2, &both), "degraded");
        assert_eq!(overall(0, &[]), "unavailable");
        let one_app_down = state(vec![app("api", 0, 1), app("web", 1, 1)], &[]);
        assert_eq!(one_app_down.overall(&Watched::ALL), Status::Degraded);
    }

    #[test]
    fn a_certificate_near_its_end_degrades_the_whole_and_takes_no_traffic_away() {
        let mut state = state(vec![app("main", 1, 1)], &[]);
        for (status, overall) in [
            (Status::Ok, Status::Ok),
            (Status::Unknown, Status::Unknown),
            (Status::Degraded, Status::Degraded),
            (Status::Unavailable, Status::Degraded),
        ] {
            state.certificates = Some(Certificates { status, count: 1, expires_in_days: Some(3) });
            assert_eq!(state.overall(&Watched::ALL), overall);
            assert!(state.is_ready());
        }
    }

    #[test]
    fn a_worker_keeps_no_site_up_unless_there_is_none() {
        let worker = App { traffic: false, ..app("worker", 1, 1) };
        assert!(!state(vec![worker.clone(), app("web", 0, 1)], &[]).is_serving());
        assert!(state(vec![worker.clone(), app("web", 1, 1)], &[]).is_serving());
        assert!(state(vec![worker], &[]).is_serving());
    }

    #[test]
    fn a_service_nobody_reported_is_unknown_and_time_does_not_run_backwards() {
        let mut state = state(vec![app("main", 1, 1)], &[]);
        state.services.clear();
        assert_eq!(state.service(Watched::Database).status, Status::Unknown);
        state.now_unix_us = 0;
        assert_eq!(state.uptime_us(), 0);
    }
}
