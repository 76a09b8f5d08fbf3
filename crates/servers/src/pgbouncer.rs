//! A private PgBouncer in transaction mode, with few connections to the Postgres behind it: whoever relies on having
//! the same connection twice finds out. Nothing that PgBouncer refuses by itself is let through.

use crate::ports::Port;
use crate::postgres::{DATABASE, PASSWORD, Postgres, USER, owned, unprivileged};
use crate::process::Process;
use crate::wait::wait_until;
use std::os::unix::process::CommandExt;
use std::process::Command;
use tempfile::TempDir;

/// To each database.
const SERVER_CONNECTIONS: u32 = 2;

/// Databases of cases that are over give theirs back.
const SERVER_IDLE_SECONDS: u32 = 1;

/// A running pooler; it ends when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    port: Port,
    process: Process,
    /// Its own, where nobody else has it; it ends after the pooler.
    _server: Option<Postgres>,
    _folder: TempDir,
}

impl PgBouncer {
    /// With a Postgres of its own behind it.
    pub fn plain() -> PgBouncer {
        let server = Postgres::plain();
        let bouncer = PgBouncer::before(&server);
        PgBouncer { _server: Some(server), ..bouncer }
    }

    pub fn before(server: &Postgres) -> PgBouncer {
        let (port, folder) = (Port::free(), tempfile::tempdir().expect("a folder for PgBouncer"));
        owned(folder.path());
        let path = |name: &str| folder.path().join(name);
        let users = path("users");
        std::fs::write(&users, format!("\"{USER}\" \"{PASSWORD}\"\n")).expect("write");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {SERVER_CONNECTIONS}\nserver_idle_timeout = {SERVER_IDLE_SECONDS}\n",
            server.port(),
            port.number,
            users.display()
        );
        let file = path("pgbouncer.ini");
        std::fs::write(&file, settings).expect("write");
        [&users, &file].into_iter().for_each(|path| owned(path));
        // Debian's package puts it where not everybody looks.
        let known = std::path::Path::new("/usr/sbin/pgbouncer");
        let mut command = Command::new(if known.exists() { known } else { std::path::Path::new("pgbouncer") });
        command.arg(&file).current_dir(folder.path());
        if let Some(user) = unprivileged() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let process = Process::start("pgbouncer", command, &path("log"));
        let bouncer = PgBouncer { port, process, _server: None, _folder: folder };
        wait_until("PgBouncer to answer", || std::net::TcpStream::connect(("127.0.0.1", bouncer.port.number)).is_ok());
        bouncer
    }

    /// Of a database, as Mainstay would be given it.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}?pgbouncer=true", self.port.number)
    }

    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        self.process.said()
    }
}
