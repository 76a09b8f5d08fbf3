//! The telemetry parts of one server: names, counters, the thread that writes, and each core's instruments.

use crate::settings::Settings;
use anyhow::Context;
use mainstay_edge::Instruments;
use mainstay_telemetry::own::{LevelSwitch, OwnLog};
use mainstay_telemetry::{Console, Handle, Ids, Metrics, Names, Routes, Running, Service, Setup};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

/// Where the log files lie within the data folder.
pub const LOG_FOLDER: &str = "logs";
/// At the end, what is still to be written is a few megabytes at most.
const FINISH_LIMIT: Duration = Duration::from_secs(2);

pub struct Told {
    pub handle: Handle,
    pub names: Names,
    pub metrics: Metrics,
    /// Of what Mainstay itself says.
    pub level: LevelSwitch,
    /// The console is for a person.
    pub text: bool,
    routes: Routes,
    running: Running,
}

impl Told {
    /// `beside`: another server still writes into the same folder.
    pub fn start(settings: &Settings, data: &Path, beside: bool) -> anyhow::Result<Told> {
        let names = Names::default();
        let stdout = std::io::stdout();
        let text = settings.logs.is_text(stdout.is_terminal());
        let color = text && stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let console = Console::start(stdout, text, color).context("cannot start the console's thread")?;
        let (service, handle) = Service::new(Setup {
            dir: data.join(LOG_FOLDER),
            options: settings.logs.clone(),
            names: names.clone(),
            secrets: settings.redactor(),
            console: Some(console),
            beside,
        })?;
        let running = service.spawn()?;
        let level = LevelSwitch::new(settings.logs.level);
        let own = OwnLog::new(handle.clone(), level.clone());
        // Set once a process; a second server in one process does not exist.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(own));
        let metrics = Metrics::new(names.clone());
        let routes = Routes::new(names.clone());
        Ok(Told { handle, names, metrics, level, text, routes, running })
    }

    /// One for each core, and one for the acceptor.
    pub fn instruments(&self, cores: usize) -> anyhow::Result<Vec<Instruments>> {
        let one = || {
            anyhow::Ok(Instruments {
                ids: Ids::new().context("the kernel gave no random bytes")?,
                ring: self.handle.core(),
                metrics: self.metrics.core(),
                routes: self.routes.learner(),
            })
        };
        (0..=cores).map(|_| one()).collect()
    }

    /// Writes what is still to be told and ends the thread.
    pub fn finish(self) {
        self.running.finish(FINISH_LIMIT);
    }
}
