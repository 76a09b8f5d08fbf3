//! The journal, one suite on both stores; and what its acknowledgement is worth when the process is killed or the disk
//! is full.

use crate::durable::options;
use crate::support::on_a_core;
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_servers::process::Process;
use mainstay_servers::wait::wait_until;
use mainstay_store::journal::{
    Class, Event, Journal, KEPT_AUDIT, KEPT_OPERATIONS, MIGRATIONS, Notes, PAYLOAD_BYTES_MAX, Query,
};
use mainstay_store::postgres::Postgres;
use mainstay_store::sqlite::Sqlite;
use mainstay_store::{Durable, Error};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const MINUTE_US: u64 = 60_000_000;
const NOW_US: u64 = 1_700_000_000_000_000;

/// A file, Postgres, and Postgres behind PgBouncer.
fn on_each(work: impl AsyncFn(Durable)) {
    let folder = tempfile::tempdir().expect("a folder");
    on_a_core(async {
        let store = Durable::Sqlite(Sqlite::open(&folder.path().join("x.db"), &[MIGRATIONS]).expect("a store"));
        work(store.clone()).await;
        store.close().await;
    });
    let server = Server::plain();
    on_a_core(async {
        let store = Postgres::open(&options(&server.url()), &[MIGRATIONS]).await.expect("a store");
        work(Durable::Postgres(store)).await;
    });
    let bouncer = PgBouncer::plain();
    on_a_core(async {
        let store = Postgres::open(&options(&bouncer.url()), &[MIGRATIONS]).await.expect("a store");
        work(Durable::Postgres(store)).await;
    });
}

fn config(change: &str) -> Event {
    Event::Config { changes: vec![change.to_owned()] }
}

fn health(status: &str) -> Event {
    Event::Health { subject: "redis".to_owned(), status: status.to_owned() }
}

#[test]
fn what_is_appended_is_read_by_time_kind_and_class() {
    on_each(async |store| {
        let journal = Journal::new(store);
        let first = journal.append(&config("a"), Some("o_1"), NOW_US).await.expect("an entry");
        let second = journal.append(&health("unavailable"), None, NOW_US + MINUTE_US).await.expect("an entry");
        assert!(second > first);
        let all = journal.read(&Query::default()).await.expect("entries");
        assert_eq!(all.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first, second]);
        assert_eq!((all[0].event(), all[0].actor.as_deref()), (Some(config("a")), Some("o_1")));
        assert_eq!((all[0].class, all[1].class, all[0].at_us), (Class::Audit, Class::Operations, NOW_US));
        let journal = &journal;
        let only = |query: Query| async move { journal.read(&query).await.expect("entries").len() };
        assert_eq!(only(Query { since_us: NOW_US + 1, ..Query::default() }).await, 1);
        assert_eq!(only(Query { until_us: NOW_US, ..Query::default() }).await, 1);
        assert_eq!(only(Query { kinds: vec!["health".to_owned(), "x".to_owned()], ..Query::default() }).await, 1);
        assert_eq!(only(Query { class: Some(Class::Audit), ..Query::default() }).await, 1);
        assert_eq!(journal.read(&Query { limit: 1, ..Query::default() }).await.expect("entries")[0].id, second);
        let long = config(&"x".repeat(PAYLOAD_BYTES_MAX));
        assert!(matches!(journal.append(&long, None, NOW_US).await, Err(Error::TooLong { .. })));
    });
}

#[test]
fn a_flap_is_two_lines_and_a_count() {
    on_each(async |store| {
        let journal = Journal::new(store);
        for n in 0..21 {
            let status = if n % 2 == 0 { "unavailable" } else { "ok" };
            journal.append(&health(status), None, NOW_US + n * MINUTE_US).await.expect("an entry");
        }
        let other = Event::Health { subject: "database".to_owned(), status: "ok".to_owned() };
        journal.append(&other, None, NOW_US).await.expect("an entry");
        let all = journal.read(&Query::default()).await.expect("entries");
        assert_eq!(all.iter().map(|entry| entry.count).collect::<Vec<_>>(), [1, 20, 1]);
        assert_eq!(all[1].event(), Some(health("unavailable")), "the last word counts");
        assert_eq!((all[1].at_us, all[1].last_us), (NOW_US + MINUTE_US, NOW_US + 20 * MINUTE_US));
        // A change after a quiet time is told again.
        journal.append(&health("ok"), None, NOW_US + 60 * MINUTE_US).await.expect("an entry");
        assert_eq!(journal.read(&Query::default()).await.expect("entries").len(), 4);
    });
}

#[test]
fn what_is_past_its_time_goes_in_batches_and_nothing_else() {
    on_each(async |store| {
        let journal = Journal::new(store);
        let micros = |kept: std::time::Duration| u64::try_from(kept.as_micros()).expect("a number");
        let admin = |n: usize| Event::Admin { action: "x".to_owned(), detail: n.to_string() };
        let stopped = |pid: i32| Event::Stopped { version: "1".to_owned(), pid };
        let appends = (0..1100).map(|n| (stopped(n), NOW_US - micros(KEPT_OPERATIONS) - 1));
        let kept = [
            (stopped(-1), NOW_US - micros(KEPT_OPERATIONS)),
            (admin(1), NOW_US - micros(KEPT_OPERATIONS) - 1),
            (admin(2), NOW_US - micros(KEPT_AUDIT)),
        ];
        for (event, at_us) in appends.chain([(admin(0), NOW_US - micros(KEPT_AUDIT) - 1)]).chain(kept) {
            journal.append(&event, None, at_us).await.expect("an entry");
        }
        assert_eq!(journal.prune(NOW_US).await.expect("a number"), 1101);
        assert_eq!(journal.prune(NOW_US).await.expect("a number"), 0);
        let left: Vec<_> = journal.read(&Query::default()).await.expect("entries");
        let left: Vec<_> = left.iter().filter_map(|entry| entry.event()).collect();
        assert_eq!(left, [stopped(-1), admin(1), admin(2)]);
    });
}

#[test]
fn notes_are_written_in_order_and_flushed_at_the_end() {
    on_each(async |store| {
        let (notes, writer) = Notes::new();
        let (trigger, shutdown) = mainstay_runtime::Shutdown::new();
        let journal = Journal::new(store);
        let writing = tokio::spawn(writer.run(journal.clone(), shutdown, |error| panic!("{error}")));
        for n in 0..10 {
            notes.note(Event::Stopped { version: "1".to_owned(), pid: n }, None);
        }
        notes.flush().await;
        assert_eq!(journal.read(&Query::default()).await.expect("entries").len(), 10);
        notes.note(Event::Stopped { version: "1".to_owned(), pid: 10 }, None);
        trigger.request();
        writing.await.expect("no panic");
        assert_eq!((journal.read(&Query::default()).await.expect("entries").len(), notes.lost()), (11, 0));
    });
}

/// Appends for ever and prints each number once it is acknowledged; started by the tests below as a process of its own.
#[test]
fn appender() {
    let Some(path) = std::env::var_os("STORE_TEST_APPENDER") else { return };
    let url = path.to_string_lossy().into_owned();
    on_a_core(async {
        let store = match url.starts_with("postgres") {
            true => Durable::Postgres(Postgres::open(&options(&url), &[MIGRATIONS]).await.expect("a store")),
            false => Durable::Sqlite(Sqlite::open(Path::new(&url), &[MIGRATIONS]).expect("a store")),
        };
        let journal = Journal::new(store);
        // No two processes say the same number.
        let first = i32::try_from(std::process::id() % 20_000).expect("a number") * 100_000;
        // Several at once, so that groups are committed.
        let append = |pid: i32| {
            let journal = journal.clone();
            async move {
                let event = Event::Stopped { version: "1".to_owned(), pid };
                match journal.append(&event, None, NOW_US).await {
                    Ok(_) => println!("\nacknowledged {pid}"),
                    Err(error) => println!("\nrefused {error}"),
                }
            }
        };
        for round in 0..10_000 {
            futures_util::future::join_all((0..8).map(|n| append(first + round * 8 + n))).await;
        }
    });
}

/// Starts `appender` on this store.
fn appending(store: &str, log: &Path, limit: Option<u64>) -> Process {
    let test = std::env::current_exe().expect("this test");
    let mut command = match limit {
        None => Command::new(&test),
        // In blocks of 512 bytes.
        Some(blocks) => {
            let mut shell = Command::new("sh");
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
            shell.arg("-c").arg(script).arg(&test);
            shell
        }
    };
    command.args(["--exact", "journal::appender", "--nocapture"]).env("STORE_TEST_APPENDER", store);
    Process::start("appender", command, log)
}

fn acknowledged(text: &str) -> BTreeSet<i32> {
    // The last line may be cut by the kill: a number is whole only with its line break.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).collect()
}

async fn kept(store: Durable) -> BTreeSet<i32> {
    let pids = match &store {
        Durable::Sqlite(store) => {
            let read = store.read(|connection| {
                let mut select = connection.prepare("SELECT payload FROM journal")?;
                let rows = select.query_map([], |row| row.get::<_, String>(0))?;
                Ok(rows.collect::<Result<Vec<String>, _>>()?)
            });
            read.await.expect("entries")
        }
        Durable::Postgres(store) => {
            let client = store.client().await.expect("a connection");
            let rows = client.query("SELECT payload FROM mainstay.journal", &[]).await.expect("entries");
            rows.iter().map(|row| row.get(0)).collect()
        }
    };
    let pid = |payload: &String| serde_json::from_str::<Event>(payload).ok();
    pids.iter().filter_map(pid).map(|event| if let Event::Stopped { pid, .. } = event { pid } else { -1 }).collect()
}

#[test]
fn what_was_acknowledged_survives_twenty_kills_of_its_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let mut told = BTreeSet::new();
    for round in 0..20 {
        let log = folder.path().join(format!("log{round}"));
        let mut process = appending(&path.display().to_string(), &log, None);
        // Killed after a different number of acknowledgements each time, and wherever it then is.
        let enough = 1 + round * 3;
        wait_until("acknowledgements", || acknowledged(&process.said()).len() > enough);
        process.kill();
        told.extend(acknowledged(&process.said()));
    }
    on_a_core(async {
        let store = Durable::Sqlite(Sqlite::open(&path, &[MIGRATIONS]).expect("a whole file"));
        let kept = kept(store.clone()).await;
        println!("{} acknowledged, {} kept, 20 kills", told.len(), kept.len());
        assert!(told.len() > 500 && told.is_subset(&kept), "lost: {:?}", told.difference(&kept).collect::<Vec<_>>());
        store.close().await;
    });
}

#[test]
fn what_postgres_acknowledged_survives_kills_of_it_and_of_its_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::plain();
    let mut told = BTreeSet::new();
    for round in 0..6 {
        let log = folder.path().join(format!("log{round}"));
        let mut process = appending(&server.url(), &log, None);
        wait_until("acknowledgements", || acknowledged(&process.said()).len() > 5 + round * 20);
        if round % 2 == 0 {
            server.kill();
        }
        process.kill();
        told.extend(acknowledged(&process.said()));
        if round % 2 == 0 {
            server.run();
        }
    }
    on_a_core(async {
        let store = Postgres::open(&options(&server.url()), &[MIGRATIONS]).await.expect("a store");
        let kept = kept(Durable::Postgres(store)).await;
        println!("{} acknowledged, {} kept, 6 kills", told.len(), kept.len());
        assert!(told.len() > 100 && told.is_subset(&kept), "lost: {:?}", told.difference(&kept).collect::<Vec<_>>());
    });
}

/// A file that may not grow behaves as a full disk does: the write fails.
#[test]
fn a_full_disk_is_an_error_and_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.db");
    let log = folder.path().join("log");
    // The limit holds for its output too, which is far smaller than the store.
    let mut process = appending(&path.display().to_string(), &log, Some(1024));
    wait_until("a refusal", || process.said().contains("refused"));
    process.kill();
    let said = process.said();
    let told = acknowledged(&said);
    let refusal = said.lines().find(|line| line.starts_with("refused")).expect("a refusal");
    assert!(refusal.contains("disk"), "{refusal}");
    on_a_core(async {
        let store = Durable::Sqlite(Sqlite::open(&path, &[MIGRATIONS]).expect("a whole file"));
        let kept = kept(store.clone()).await;
        println!("{} acknowledged before: {refusal}", told.len());
        assert!(!told.is_empty() && told.is_subset(&kept));
        // With room it goes on.
        Journal::new(store.clone()).append(&health("ok"), None, NOW_US).await.expect("room again");
        store.close().await;
    });
}
