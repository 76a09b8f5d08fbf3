//! Web frameworks whose handlers say that they were reached: Express 4 and 5, Fastify, Koa, Flask, Django. The same
//! routes on each (`fixtures/*/apps/handlers`), and a count of how often any of them was entered.

use crate::fixtures;
use crate::ports::Port;
use crate::processes::{self, MARK};
use crate::wait::wait_until;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framework {
    Express4,
    Express5,
    Fastify,
    Koa,
    Flask,
    Django,
}

impl Framework {
    fn command(self, port: u16) -> Command {
        let node = |words: &[&str]| {
            let mut command = Command::new("node");
            command.args(words).current_dir(fixtures::folder().join("node/apps/handlers"));
            command.env("NODE_PATH", fixtures::node_modules()).env("PORT", port.to_string());
            command
        };
        let gunicorn = |app: &str| {
            let mut command = Command::new(fixtures::python());
            command.args(["-B", "-m", "gunicorn", "--no-control-socket", "--bind", &format!("127.0.0.1:{port}"), app]);
            command.current_dir(fixtures::folder().join("python/apps/handlers"));
            command
        };
        match self {
            Framework::Express4 => node(&["express.js", "express4"]),
            Framework::Express5 => node(&["express.js", "express"]),
            Framework::Fastify => node(&["fastify.js"]),
            Framework::Koa => node(&["koa.js"]),
            Framework::Flask => gunicorn("flask_app:app"),
            Framework::Django => gunicorn("django_app:application"),
        }
    }
}

/// A running app; it ends when dropped.
#[derive(Debug)]
pub struct Handlers {
    child: Child,
    port: Port,
    mark: String,
}

impl Handlers {
    #[track_caller]
    pub fn start(framework: Framework) -> Handlers {
        let port = Port::free();
        let mark = format!("handlers-{}-{}", std::process::id(), port.number);
        let mut command = framework.command(port.number);
        command.env(MARK, &mark).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let app = Handlers { child, port, mark };
        wait_until(&format!("{framework:?} to answer"), || crate::get(&app.url("/count")).status == 200);
        app
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// How often a handler was entered so far.
    #[track_caller]
    pub fn count(&self) -> u64 {
        let text = crate::get(&self.url("/count")).text();
        text.trim().parse().unwrap_or_else(|_| panic!("no count: {text:?}"))
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        processes::end(&mut self.child, &self.mark);
    }
}
