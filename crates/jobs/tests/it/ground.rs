//! Where jobs are kept in a test: a file, or a database of its own on a private Postgres, with PgBouncer before it or
//! not.

use mainstay_config::{Inputs, Reader};
use mainstay_jobs::{Place, store};
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::{DATABASE, Postgres as Server};
use mainstay_store::postgres::Options;
use mainstay_store::sqlite::rusqlite::Connection;
use std::path::PathBuf;
use std::rc::Rc;
use tempfile::TempDir;

/// Each of these on a file, one after the other in Postgres, and behind PgBouncer: a server takes a second or two to
/// make.
macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod file {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::ground::Ground::file()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_it_in_postgres() {
            let server = std::rc::Rc::new(mainstay_servers::postgres::Postgres::plain());
            let mut number = 0;
            $(
                number += 1;
                println!("{}", stringify!($name));
                $name($crate::ground::Ground::database(&server, &format!("case_{number}"))).await;
            )*
            assert!(number > 0);
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_it_behind_pgbouncer() {
            let server = std::rc::Rc::new(mainstay_servers::postgres::Postgres::plain());
            let bouncer = std::rc::Rc::new(mainstay_servers::PgBouncer::before(&server));
            let mut number = 0;
            $(
                number += 1;
                println!("{}", stringify!($name));
                $name($crate::ground::Ground::pooled(&server, &bouncer, &format!("case_{number}"))).await;
            )*
            assert!(number > 0);
        }
    };
}

pub enum Ground {
    File(TempDir),
    Database(Rc<Server>, String),
    Pooled(Rc<PgBouncer>, Rc<Server>, String),
}

impl Ground {
    pub fn file() -> Ground {
        Ground::File(tempfile::tempdir().expect("a folder"))
    }

    /// An empty database.
    pub fn database(server: &Rc<Server>, name: &str) -> Ground {
        server.psql(&format!("CREATE DATABASE {name}"));
        Ground::Database(server.clone(), name.to_owned())
    }

    /// The same, reached through PgBouncer.
    pub fn pooled(server: &Rc<Server>, bouncer: &Rc<PgBouncer>, name: &str) -> Ground {
        server.psql(&format!("CREATE DATABASE {name}"));
        Ground::Pooled(bouncer.clone(), server.clone(), name.to_owned())
    }

    /// A file, a server of its own, and one behind PgBouncer.
    pub fn each() -> [Ground; 3] {
        let (server, pooled) = (Rc::new(Server::plain()), Rc::new(Server::plain()));
        let bouncer = Rc::new(PgBouncer::before(&pooled));
        let name = || DATABASE.to_owned();
        [Ground::file(), Ground::Database(server, name()), Ground::Pooled(bouncer, pooled, name())]
    }

    pub fn place(&self) -> Place {
        match self {
            Ground::File(folder) => Place::File(folder.path().join(store::FILE)),
            Ground::Database(server, name) => Place::Postgres(Box::new(options(&url(server, name)))),
            Ground::Pooled(bouncer, _, name) => Place::Postgres(Box::new(options(&bouncer.url_of(name)))),
        }
    }

    /// Does this to what is kept, beside its owner: in SQLite, or in Postgres.
    pub fn tamper(&self, file: &str, database: &str) -> Option<Connection> {
        match self {
            Ground::File(folder) => {
                let path: PathBuf = folder.path().join(store::FILE);
                let other = Connection::open(path).expect("opened beside it");
                other.execute_batch(file).expect("done");
                // What it holds it holds as long as it lives.
                Some(other)
            }
            Ground::Database(server, name) | Ground::Pooled(_, server, name) => {
                server.psql_in(name, database);
                None
            }
        }
    }
}

fn url(server: &Server, database: &str) -> String {
    let url = server.url();
    let (front, _) = url.rsplit_once('/').expect("a database");
    format!("{front}/{database}")
}

pub fn options(url: &str) -> Options {
    let environment = vec![("DATABASE_URL".to_owned(), url.to_owned())];
    Options::read(&Reader::new(&Inputs { environment, ..Inputs::default() }), true).expect("an address")
}
