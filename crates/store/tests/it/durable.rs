//! One suite for both durable stores: what is written is there, what fails is taken back, tables are brought up to date
//! by one of two starters, and nobody starts on tables that are newer.

use crate::support::on_a_core;
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_store::migrate::{Migration, Migrations};
use mainstay_store::postgres::{self, Postgres};
use mainstay_store::sqlite::Sqlite;
use mainstay_store::{Durable, Error};
use std::path::Path;

const ONE: Migration = Migration { version: 1, name: "first", sql: "CREATE TABLE t (x INTEGER NOT NULL UNIQUE)" };
const TWO: Migration = Migration { version: 2, name: "second", sql: "CREATE TABLE u (y INTEGER)" };
const BROKEN: Migration = Migration { version: 2, name: "broken", sql: "CREATE TABLE v (z INTEGER); CREATE TABEL" };
const CHANGED: Migration = Migration { version: 1, name: "first", sql: "CREATE TABLE t (x INTEGER)" };

const fn block(all: &'static [Migration]) -> Migrations {
    Migrations { block: "test", sqlite: all, postgres: all }
}

const FIRST: Migrations = block(&[ONE]);
const BOTH: Migrations = block(&[ONE, TWO]);
const HALF: Migrations = block(&[ONE, BROKEN]);

/// Both stores, in turn; and Postgres behind PgBouncer.
enum Place {
    File(tempfile::TempDir),
    Server(Server),
    Pooled(PgBouncer),
}

impl Place {
    fn all() -> [Place; 3] {
        let file = Place::File(tempfile::tempdir().expect("a folder"));
        [file, Place::Server(Server::plain()), Place::Pooled(PgBouncer::plain())]
    }

    async fn open(&self, blocks: &[Migrations]) -> Result<Durable, Error> {
        match self {
            Place::File(folder) => Sqlite::open(&folder.path().join("x.db"), blocks).map(Durable::Sqlite),
            Place::Server(server) => Postgres::open(&options(&server.url()), blocks).await.map(Durable::Postgres),
            Place::Pooled(bouncer) => Postgres::open(&options(&bouncer.url()), blocks).await.map(Durable::Postgres),
        }
    }
}

pub fn options(url: &str) -> postgres::Options {
    let environment = vec![("DATABASE_URL".to_owned(), url.to_owned())];
    let inputs = mainstay_config::Inputs { environment, ..mainstay_config::Inputs::default() };
    postgres::Options::read(&mainstay_config::Reader::new(&inputs), true).expect("an address")
}

fn with_file(url: &str, file: &str) -> postgres::Options {
    let inputs = mainstay_config::Inputs {
        environment: vec![("DATABASE_URL".to_owned(), url.to_owned())],
        file: Some(mainstay_config::Text { path: Path::new("mainstay.toml").into(), text: file.to_owned() }),
        ..mainstay_config::Inputs::default()
    };
    postgres::Options::read(&mainstay_config::Reader::new(&inputs), true).expect("an address")
}

/// Two rows in one transaction.
async fn insert(store: &Durable, one: i32, other: i32) -> Result<(), Error> {
    match store {
        Durable::Sqlite(store) => {
            let change = move |connection: &mainstay_store::sqlite::rusqlite::Connection| {
                connection.execute("INSERT INTO t VALUES (?1)", [one])?;
                connection.execute("INSERT INTO t VALUES (?1)", [other])?;
                Ok(())
            };
            store.write(change).await
        }
        Durable::Postgres(store) => {
            let mut client = store.client().await?;
            let transaction = client.transaction().await?;
            transaction.execute("INSERT INTO t VALUES ($1)", &[&one]).await?;
            transaction.execute("INSERT INTO t VALUES ($1)", &[&other]).await?;
            Ok(transaction.commit().await?)
        }
    }
}

async fn rows(store: &Durable) -> i64 {
    match store {
        Durable::Sqlite(store) => {
            let count =
                store.read(|connection| Ok(connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?));
            count.await.expect("a count")
        }
        Durable::Postgres(store) => {
            let client = store.client().await.expect("a connection");
            client.query_one("SELECT count(*) FROM t", &[]).await.expect("a count").get(0)
        }
    }
}

#[test]
fn a_transaction_is_whole_or_not_at_all_and_survives_a_reopening() {
    for place in Place::all() {
        on_a_core(async {
            let store = place.open(&[FIRST]).await.expect("a store");
            insert(&store, 1, 2).await.expect("two rows");
            assert!(insert(&store, 3, 1).await.is_err(), "1 is there already, so 3 is taken back");
            assert_eq!(rows(&store).await, 2);
            store.close().await;
            assert!(matches!(insert(&store, 5, 6).await, Err(Error::Closed)));
            store.close().await;
            let store = place.open(&[FIRST]).await.expect("the store again");
            assert_eq!(rows(&store).await, 2);
            store.close().await;
        });
    }
}

#[test]
fn steps_run_once_a_broken_one_is_taken_back_and_newer_or_changed_tables_are_refused() {
    for place in Place::all() {
        on_a_core(async {
            for blocks in [&[FIRST], &[FIRST]] {
                place.open(blocks).await.expect("a store").close().await;
            }
            let Err(error) = place.open(&[HALF]).await else { panic!("a broken step") };
            assert!(error.to_string().contains("migration 2 (broken) of test failed"), "{error}");
            // Nothing of the broken one is left, so that the mended one runs.
            let mended = place.open(&[BOTH]).await.expect("the next step");
            let found = match &mended {
                Durable::Sqlite(store) => {
                    store.read(|c| Ok(c.prepare("SELECT z FROM v").is_ok())).await.expect("an answer")
                }
                Durable::Postgres(store) => {
                    store.client().await.expect("a connection").query("SELECT z FROM v", &[]).await.is_ok()
                }
            };
            assert!(!found);
            mended.close().await;
            let Err(error) = place.open(&[FIRST]).await else { panic!("newer tables") };
            assert!(error.to_string().contains("version 2, this mainstay knows 1"), "{error}");
            let Err(error) = place.open(&[block(&[CHANGED, TWO])]).await else { panic!("a changed step") };
            assert!(error.to_string().contains("migration 1 (first) of test was changed"), "{error}");
        });
    }
}

/// Eight at once, as many Mainstays on one Postgres would.
#[test]
fn of_many_starters_one_runs_the_steps_and_the_others_wait_for_it() {
    let server = Server::plain();
    let url = server.url();
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || on_a_core(async { Postgres::open(&options(&url), &[BOTH]).await.map(drop) }))
        })
        .collect();
    for starter in starters {
        starter.join().expect("no panic").expect("a store");
    }
    assert_eq!(server.psql("SELECT count(*) FROM mainstay.migrations"), "2");
}

#[test]
fn a_change_that_panics_takes_back_itself_and_ends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    on_a_core(async {
        let store = Sqlite::open(&folder.path().join("x.db"), &[FIRST]).expect("a store");
        let durable = Durable::Sqlite(store.clone());
        let panics = store.write(|connection| -> Result<(), Error> {
            connection.execute("INSERT INTO t VALUES (9)", [])?;
            panic!("on purpose")
        });
        let (panicked, written) = tokio::join!(panics, insert(&durable, 1, 2));
        assert!(matches!(panicked, Err(Error::Panicked)) && written.is_ok());
        assert_eq!(rows(&durable).await, 2);
        store.close().await;
    });
}

#[test]
fn the_file_is_private_and_has_one_owner_who_lets_go_when_closed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    std::fs::write(&path, b"").expect("write");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    on_a_core(async {
        let store = Sqlite::open(&path, &[FIRST]).expect("a store");
        insert(&Durable::Sqlite(store.clone()), 1, 2).await.expect("two rows");
        for ending in ["", "-wal", "-shm", "-owner"] {
            let path = format!("{}{ending}", path.display());
            let mode = std::fs::metadata(&path).expect(&path).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path}");
        }
        // A second owner waits, and opens once the first has closed: as in an upgrade.
        let (second, began) = (path.clone(), std::time::Instant::now());
        let waiting = std::thread::spawn(move || Sqlite::open(&second, &[FIRST]).map(drop));
        store.close().await;
        waiting.join().expect("no panic").expect("the store");
        println!("handed over within {:?}", began.elapsed());
        let _store = Sqlite::open(&path, &[FIRST]).expect("a store");
        let Err(error) = Sqlite::open(&path, &[FIRST]) else { panic!("two owners") };
        assert!(matches!(error, Error::Owned { .. }), "{error}");
    });
}

#[test]
fn a_damaged_file_and_one_that_is_none_are_named_and_left_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = folder.path().join("none.db");
    std::fs::write(&none, vec![b'x'; 8192]).expect("write");
    let Err(error) = Sqlite::open(&none, &[FIRST]) else { panic!("no database") };
    assert!(
        matches!(&error, Error::Damaged { .. }) && error.to_string().contains("restore the last backup"),
        "{error}"
    );
    assert_eq!(std::fs::read(&none).expect("read"), vec![b'x'; 8192]);

    let damaged = folder.path().join("damaged.db");
    on_a_core(async {
        let store = Sqlite::open(&damaged, &[FIRST]).expect("a store");
        for n in 0..500 {
            insert(&Durable::Sqlite(store.clone()), 2 * n, 2 * n + 1).await.expect("two rows");
        }
        store.close().await;
    });
    let mut bytes = std::fs::read(&damaged).expect("read");
    let third = bytes.len() / 3;
    bytes[third..2 * third].fill(0xa5);
    std::fs::write(&damaged, &bytes).expect("write");
    let Err(error) = Sqlite::open(&damaged, &[FIRST]) else { panic!("a damaged file") };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

#[test]
fn postgres_tls_is_as_strict_as_the_url_says() {
    let authority = std::sync::Arc::new(mainstay_servers::Authority::new("app"));
    let server = Server::start(Some(authority.clone()));
    let root = authority.root().display().to_string();
    let stranger = mainstay_servers::Authority::new("app");
    let strange = stranger.root().display().to_string();
    let by_name = server.url();
    // Another address of this machine, that no certificate names.
    let unnamed = by_name.replace("127.0.0.1", "127.0.0.2");
    let cases = [
        (format!("{unnamed}?sslmode=verify-full&sslrootcert={root}"), false),
        (format!("{unnamed}?sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{unnamed}?sslmode=require&sslaccept=strict&sslcert={root}"), false),
        (format!("{by_name}?sslmode=require&sslaccept=strict&sslcert={root}"), true),
        (format!("{by_name}?sslmode=require&sslrootcert={strange}"), false),
        (format!("{by_name}?sslmode=require&channel_binding=require"), true),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={root}"), true),
        (format!("{by_name}?sslmode=verify-ca&sslrootcert={root}"), true),
        (format!("{by_name}?sslmode=require"), true),
        (by_name.clone(), true),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={strange}"), false),
        (format!("{by_name}?sslmode=verify-ca&sslrootcert={strange}"), false),
        (format!("{by_name}?sslmode=verify-full"), false),
        (format!("{by_name}?sslmode=disable"), false),
        (by_name.replace("horse", "cow"), false),
    ];
    on_a_core(async {
        for (url, good) in cases {
            let opened = Postgres::open(&options(&url), &[]).await;
            let asked = match &opened {
                Ok(store) => store.client().await.map(drop),
                Err(_) => Err(Error::Closed),
            };
            assert_eq!(asked.is_ok(), good, "{}", url.replace(mainstay_servers::postgres::PASSWORD, "…"));
        }
        let client = authority.client();
        let with = format!("sslcert={}&sslkey={}", client.cert.display(), client.key.display());
        let url = format!("{by_name}?sslmode=verify-full&sslrootcert={root}&{with}");
        let store = Postgres::open(&options(&url), &[]).await.expect("a store");
        let client = store.client().await.expect("a connection");
        let sql = "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = client.query_one(sql, &[]).await.expect("a row");
        assert!(row.get::<_, bool>(0) && row.get::<_, Option<String>>(1).is_some_and(|dn| dn.contains("app")));
    });
}

/// The file's own user holds it, or an unlucky block ends the transaction: the others in its group are told, and what
/// comes after is written.
#[test]
fn a_change_that_ends_the_transaction_of_its_group_is_an_error_for_all_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    on_a_core(async {
        let store = Sqlite::open(&folder.path().join("x.db"), &[FIRST]).expect("a store");
        let durable = Durable::Sqlite(store.clone());
        let ends = store.write(|connection| Ok(connection.execute_batch("INSERT INTO t VALUES (9); ROLLBACK")?));
        let (ended, _) = tokio::join!(ends, insert(&durable, 1, 2));
        assert!(matches!(ended, Err(Error::Sqlite(_))), "{ended:?}");
        insert(&durable, 3, 4).await.expect("two rows");
        let kept = store.read(|connection| {
            Ok(connection.query_row("SELECT count(*) FROM t WHERE x = 9", [], |row| row.get::<_, i64>(0))?)
        });
        assert_eq!(kept.await.expect("a count"), 0);
        store.close().await;
    });
}

/// A server that was stopped in its tracks keeps its connections open and says nothing for ever.
#[test]
fn work_on_a_postgres_that_hangs_ends_and_goes_on_when_it_does() {
    let server = Server::plain();
    let url = format!("{}?connection_limit=2&pool_timeout=1&connect_timeout=1", server.url());
    let file = "[store.postgres]\nstatement = \"300ms\"\n";
    let options = with_file(&url, file);
    on_a_core(async {
        let store = Postgres::open(&options, &[FIRST]).await.expect("a store");
        insert(&Durable::Postgres(store.clone()), 1, 2).await.expect("two rows");
        server.pause();
        let began = std::time::Instant::now();
        for _ in 0..3 {
            let work = store.in_time(async {
                let client = store.client().await?;
                client.execute("INSERT INTO t VALUES (3)", &[]).await
            });
            assert!(matches!(work.await, Err(Error::Late | Error::Busy)));
        }
        println!("three pieces of work given up within {:?}", began.elapsed());
        server.resume();
        // The first may have been written once it went on; it was said that this is not known.
        while insert(&Durable::Postgres(store.clone()), 5, 6).await.is_err() {
            assert!(began.elapsed() < mainstay_servers::wait::BOUND, "no connection after it went on");
            crate::support::look_again().await;
        }
    });
}

/// The pool is bounded, a wait for it too, and so is a statement; a killed server is found again.
#[test]
fn the_pool_has_bounds_and_outlives_a_killed_server() {
    let mut server = Server::plain();
    let url = format!("{}?connection_limit=2&pool_timeout=1", server.url());
    let options = with_file(&url, "[store.postgres]\nstatement = \"300ms\"\n");
    on_a_core(async {
        let store = Postgres::open(&options, &[FIRST]).await.expect("a store");
        let one = store.client().await.expect("a connection");
        let two = store.client().await.expect("another");
        assert!(matches!(store.client().await, Err(Error::Busy)));
        let connections = store.connections();
        assert_eq!((connections.active, connections.idle, connections.max), (2, 0, 2));
        let late = two.execute("SELECT pg_sleep(20)", &[]).await;
        assert!(matches!(late, Err(Error::Late)), "{late:?}");
        drop((one, two));
        assert_eq!(store.connections().idle, 2);
        server.kill();
        server.run();
        // Those that were cut are found out and replaced; the caller may meet one of them.
        let began = std::time::Instant::now();
        while insert(&Durable::Postgres(store.clone()), 1, 2).await.is_err() {
            assert!(began.elapsed() < mainstay_servers::wait::BOUND, "no connection after the restart");
            crate::support::look_again().await;
        }
        println!("written again {:?} after the restart", began.elapsed());
    });
}
