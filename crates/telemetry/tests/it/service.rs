//! The thread: from rings and lines to files, console and trails; through faults and restarts.

use crate::{Screen, WAIT, options, start, wait};
use mainstay_runtime::Millis;
use mainstay_telemetry::child::Output;
use mainstay_telemetry::metrics::Exposition;
use mainstay_telemetry::read::{Logs, Query};
use mainstay_telemetry::trail::{Found, find_in_files};
use mainstay_telemetry::{Console, Cut, Ids, Level, Line, Names, Record, Redactor, Service, Setup, Stream, Verdict};
use std::io::Write;
use std::sync::mpsc::{Receiver, sync_channel};

const NOON_US: u64 = 1_769_947_200_000_000;

fn record(ids: &mut Ids, status: u16, path: &str) -> Record {
    let verdict = if status == 502 { Verdict::UpstreamClosed } else { Verdict::Ok };
    Record {
        id: ids.request(NOON_US),
        started_unix_us: NOON_US,
        status,
        verdict,
        path: Cut::new(path),
        ..Record::EMPTY
    }
}

fn all(dir: &std::path::Path, query: &Query) -> Vec<String> {
    Logs::new(dir).last(query, 1000).expect("read")
}

#[test]
fn what_is_told_is_in_files_console_and_trails_and_survives_a_crash() {
    let (dir, names, screen) = (tempfile::tempdir().expect("folder"), Names::default(), Screen::default());
    let (running, handle) = start(dir.path(), "", &names, &[("DB_PASSWORD", "hunter22")], Some(&screen));
    let (mut core, mut ids) = (handle.core(), Ids::seeded(1));
    let failed = record(&mut ids, 502, "/pay/hunter22");
    core.push(record(&mut ids, 200, "/fine"));
    core.push(failed);
    core.push(Record { health: true, ..record(&mut ids, 200, "/health") });
    let sick = Record { health: true, ..record(&mut ids, 502, "/health/ready") };
    core.push(sick);
    let mut output = Output::new("main", "main.1");
    output.push(Stream::Stdout, b"{\"level\":30,\"msg\":\"pass hunter22\",\"n\":1}\n", Millis(0), NOON_US, |line| {
        handle.line(line);
    });
    handle.line(Line::own(NOON_US, Level::Debug, "ready").field("pass", "aHVudGVyMjI="));
    assert!(handle.sync(WAIT));

    assert!(matches!(handle.find(&failed.id.to_string()), Found::One(entry) if entry.code == "upstream_closed"));
    assert!(matches!(handle.find(&sick.id.to_string()[12..]), Found::One(_)), "a failed health request has a trail");
    assert_eq!(handle.recent_errors(10).len(), 2);
    // As after `kill -9`: nothing is asked of the thread any more.
    let lines = all(dir.path(), &Query::default());
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("hunter22") && !line.contains("aHVudGVyMjI")));
    assert!(lines.iter().any(|line| line.contains("\"app.n\":1") && line.contains("pass [secret DB_PASSWORD]")));
    let Found::One(entry) = find_in_files(&Logs::new(dir.path()), &failed.id.to_string()).expect("read") else {
        panic!("not in the files")
    };
    assert!(entry.render().contains("/pay/[secret DB_PASSWORD] -> 502"));

    assert!(running.finish(WAIT));
    let text = screen.text();
    assert!(
        text.contains("GET /fine 200 0.0 ms r_") && text.contains("main.1 pass [secret DB_PASSWORD] n=1"),
        "{text}"
    );
    assert!(!text.contains("/health") && !text.contains("hunter22"));
}

#[test]
fn the_level_decides_but_not_over_children_and_trails() {
    let (dir, names) = (tempfile::tempdir().expect("folder"), Names::default());
    let (_running, handle) = start(dir.path(), "[logs]\nlevel = \"error\"\n", &names, &[], None);
    let (mut core, mut ids) = (handle.core(), Ids::seeded(2));
    core.push(record(&mut ids, 200, "/fine"));
    core.push(Record { held_ms: 5, ..record(&mut ids, 200, "/held") });
    core.push(record(&mut ids, 500, "/broken"));
    let debug = Line { stream: Stream::Stdout, ..Line::own(NOON_US, Level::Debug, "mine") };
    handle.line(Line { app: "main".into(), ..debug });
    assert!(handle.sync(WAIT));
    let count = |text: &str| all(dir.path(), &Query { contains: Some(text.into()), ..Query::default() }).len();
    assert_eq!((count("/fine"), count("/held"), count("/broken"), count("mine")), (0, 1, 1, 1));

    handle.set_options(options("[logs]\nlevel = \"info\"\n"));
    handle.set_secrets(Redactor::new([("LATE", "fineword")]));
    assert!(handle.sync(WAIT));
    core.push(record(&mut ids, 200, "/fineword"));
    assert!(handle.sync(WAIT));
    assert_eq!((count("/fineword"), count("[secret LATE]")), (0, 1));
}

#[test]
fn a_restart_goes_on_in_the_same_file() {
    let (dir, names) = (tempfile::tempdir().expect("folder"), Names::default());
    for i in 0..3 {
        let (running, handle) = start(dir.path(), "", &names, &[], None);
        handle.line(Line::own(NOON_US, Level::Info, format!("start {i}")));
        assert!(running.finish(WAIT));
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    let texts = all(dir.path(), &Query { kind: Some("mainstay".into()), ..Query::default() });
    assert!(texts.len() == 3 && texts[0].contains("start 2"));
}

/// A console that takes nothing until it is allowed to.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_console_holds_up_nothing() {
    let dir = tempfile::tempdir().expect("folder");
    let (release, stuck) = sync_channel(1);
    let setup = Setup {
        dir: dir.path().to_owned(),
        options: options(""),
        names: Names::default(),
        secrets: Redactor::default(),
        console: Some(Console::start(Stuck(stuck), false, false).expect("console")),
        beside: false,
    };
    let (service, handle) = Service::new(setup).expect("service");
    let running = service.spawn().expect("thread");
    for i in 0..100 {
        handle.line(Line::own(NOON_US, Level::Info, format!("line {i}")));
        assert!(handle.sync(WAIT));
    }
    assert_eq!(all(dir.path(), &Query::default()).len(), 100);
    // One is being written, 16 wait; the first may have waited too.
    let dropped = handle.dropped();
    assert!((82..=84).contains(&dropped.console_lines) && dropped.lines == 0, "{dropped:?}");
    let mut out = Exposition::default();
    handle.expose(&mut out);
    let text = out.finish();
    assert!(text.contains(&format!("mainstay_console_lines_dropped_total {}\n", dropped.console_lines)), "{text}");
    assert!(running.finish(WAIT));
    drop(release);
}

#[test]
fn a_flood_of_lines_is_bounded_and_counted() {
    let (dir, names) = (tempfile::tempdir().expect("folder"), Names::default());
    let setup = Setup {
        dir: dir.path().to_owned(),
        options: options(""),
        names,
        secrets: Redactor::default(),
        console: None,
        beside: false,
    };
    // Not started yet: nothing is taken.
    let (service, handle) = Service::new(setup).expect("service");
    for _ in 0..20_000 {
        handle.line(Line::own(NOON_US, Level::Info, "x"));
    }
    let mut core = handle.core();
    let mut ids = Ids::seeded(3);
    for _ in 0..10_000 {
        core.push(record(&mut ids, 200, "/"));
    }
    let exposed = || {
        let mut out = Exposition::default();
        handle.expose(&mut out);
        out.finish()
    };
    let text = exposed();
    assert!(text.contains("mainstay_log_lines_dropped_total 3616\n"), "{text}");
    assert!(text.contains("mainstay_records_dropped_total 5904\n"), "{text}");
    let _running = service.spawn().expect("thread");
    let said = Query { contains: Some("telemetry is behind".into()), ..Query::default() };
    wait("what was dropped is said", || all(dir.path(), &said).len() == 1);
    let line = &all(dir.path(), &said)[0];
    assert!(line.contains("\"records\":5904,\"lines\":3616"), "{line}");
}

#[test]
fn a_folder_that_goes_away_comes_back() {
    let (dir, names, screen) = (tempfile::tempdir().expect("folder"), Names::default(), Screen::default());
    let logs = dir.path().join("logs");
    let (running, handle) = start(&logs, "", &names, &[], Some(&screen));
    handle.line(Line::own(NOON_US, Level::Info, "before"));
    assert!(handle.sync(WAIT));
    std::fs::remove_dir_all(&logs).expect("remove");
    wait("a new file", || {
        handle.line(Line::own(NOON_US, Level::Info, "after"));
        assert!(handle.sync(WAIT));
        !all(&logs, &Query { contains: Some("after".into()), ..Query::default() }).is_empty()
    });
    assert!(running.finish(WAIT));
}
