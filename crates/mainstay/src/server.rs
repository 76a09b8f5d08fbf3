//! The server's parts as the control side holds them: handles, and the facts of this start.

use crate::hearers::Hearers;
use crate::link::Link;
use crate::settings::{Ops, Settings};
use crate::upgrade::Progress;
use mainstay_config::{Inputs, Setting};
use mainstay_identity::operators::{Operators, Scope};
use mainstay_runtime::Clock;
use mainstay_supervisor::protocol::Hello;
use mainstay_watch::State;
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use tokio::sync::Notify;

/// Everything a command or a document may ask. Lives on the control thread.
pub struct Server {
    pub edge: mainstay_edge::Handle,
    pub certificates: mainstay_edge::acme::Handle,
    pub fleet: mainstay_fleet::Handle,
    pub telemetry: mainstay_telemetry::Handle,
    pub metrics: mainstay_telemetry::Metrics,
    /// Of what Mainstay itself says.
    pub level: mainstay_telemetry::own::LevelSwitch,
    pub watch: mainstay_watch::Handle,
    pub book: crate::journal::Book,
    pub services: crate::services::Services,
    pub queues: crate::queues::Queues,
    /// Operators at a browser.
    pub console: crate::console::Console,
    /// Machines that may see the inside.
    pub operators: Operators,
    pub link: Link,
    pub hearers: Hearers,
    pub facts: Facts,
    /// What is in force. Changed by a reload, as a whole.
    pub current: RefCell<Current>,
    /// One reload at a time.
    pub reloading: tokio::sync::Mutex<()>,
    /// The supervisor asks for the end.
    pub stop: Notify,
    /// Where an upgrade is, if there is one.
    pub upgrade: Progress,
}

/// Does not change while the process lives.
#[derive(Debug, Clone)]
pub struct Facts {
    pub dir: PathBuf,
    pub data: PathBuf,
    pub crashes: u32,
    pub started_unix_us: u64,
}

impl Facts {
    /// As a person in the directory we were started in would write it.
    pub fn shown_data(&self) -> String {
        self.data.strip_prefix(&self.dir).unwrap_or(&self.data).display().to_string()
    }

    pub fn new(hello: &Hello) -> anyhow::Result<Facts> {
        Ok(Facts {
            dir: std::env::current_dir()?,
            data: hello.data.clone(),
            crashes: hello.crashes,
            started_unix_us: hello.started_unix_us,
        })
    }
}

/// The configuration in force.
pub struct Current {
    pub inputs: Inputs,
    pub ops: Ops,
    /// `production` or `development`, and why.
    pub environment: String,
    pub environment_why: String,
    pub app_version: Option<String>,
    pub settings: Vec<Setting>,
}

impl Current {
    pub fn new(inputs: Inputs, settings: &Settings, shown: Vec<Setting>) -> Current {
        Current {
            inputs,
            ops: settings.ops.clone(),
            environment: settings.environment.name.clone(),
            environment_why: settings.environment.why.clone(),
            app_version: settings.app_version.clone(),
            settings: shown,
        }
    }
}

impl Server {
    /// Whether this caller may see the inside.
    pub fn allows(&self, client: IpAddr, authorization: Option<&str>, scope: Scope) -> bool {
        let now_us = i64::try_from(Clock::unix_micros()).unwrap_or(i64::MAX);
        let current = self.current.borrow();
        current.ops.allows(client)
            || current.ops.knows(authorization)
            || self.operators.allow(authorization, scope, now_us)
    }

    /// Addresses of the edge, and whether each speaks TLS.
    pub fn listeners(&self) -> Vec<(SocketAddr, bool)> {
        let listen = self.edge.options().listen;
        let is_tls = |at: &SocketAddr| listen.iter().any(|listen| listen.tls && listen.address == *at);
        self.edge.addresses().into_iter().map(|address| (address, is_tls(&address))).collect()
    }

    /// Everything the health documents are made from, now.
    pub fn state(&self) -> State {
        let current = self.current.borrow();
        let mut apps: Vec<mainstay_watch::App> = self
            .fleet
            .status()
            .into_iter()
            .map(|app| mainstay_watch::App {
                name: app.name,
                ready: app.ready,
                total: app.wanted,
                traffic: app.traffic,
            })
            .collect();
        for group in self.edge.members().groups() {
            let list = group.list();
            if !list.upstreams.is_empty() && !apps.iter().any(|app| app.name == group.name) {
                let total = u32::try_from(list.upstreams.len()).unwrap_or(u32::MAX);
                let now = Clock::now().0;
                let ready = list.upstreams.iter().filter(|u| !u.is_probe_failed() && !u.is_ejected(now)).count();
                let ready = u32::try_from(ready).unwrap_or(u32::MAX);
                apps.push(mainstay_watch::App { name: group.name.clone(), ready, total, traffic: true });
            }
        }
        State {
            started_unix_us: self.facts.started_unix_us,
            now_unix_us: Clock::unix_micros(),
            version: current.app_version.clone(),
            environment: current.environment.clone(),
            apps,
            services: self.watch.services(),
            certificates: crate::certificates::state(self),
        }
    }
}
