//! What every store must do, shown on what the simulation commits: it gives back the sum of all changes, at whatever
//! commit it is killed; of a commit that is torn, nothing.

use crate::ground::Ground;
use crate::image::Image;
use crate::simulation::{Batch, Play};
use mainstay_jobs::change::{Link, Record};
use mainstay_jobs::store::{FILE, Store};
use mainstay_jobs::{Clock, Jobs, Place, Setup};
use mainstay_servers::postgres::Postgres as Server;
use std::fs;
use std::path::{Path, PathBuf};

/// What a play with this seed commits, and the image it starts from: a play begins with its queues.
fn batches(seed: u64, steps: u32) -> Vec<Batch> {
    let mut play = Play::recorded(seed);
    let first = play.first.clone();
    play.run(steps);
    let mut all = vec![first];
    all.append(&mut play.batches);
    all
}

async fn loaded(store: &mut Store) -> Vec<String> {
    let mut records = Vec::new();
    store.load(&mut |record| records.push(record)).await.expect("what was committed can be read");
    sorted(records)
}

/// Opened and owned.
async fn open(place: &Place) -> Store {
    let mut store = Store::open(place).await.expect("opened");
    store.probe().await.expect("owned");
    store
}

async fn open_file(path: &Path) -> Store {
    open(&Place::File(path.to_owned())).await
}

/// A store may give the records of a kind in any order, where none is asked for.
fn sorted(records: Vec<Record>) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    lines.sort_unstable();
    lines
}

/// The files as they are at this instant, as after `kill -9`.
fn copied(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).expect("a folder");
    for ending in ["", "-wal"] {
        let name = format!("{FILE}{ending}");
        if from.join(&name).exists() {
            fs::copy(from.join(&name), to.join(&name)).expect("copied");
        }
    }
    to.join(FILE)
}

fn wal(folder: &Path) -> PathBuf {
    folder.join(format!("{FILE}-wal"))
}

/// From the first byte that differs to the last.
fn written(before: &[u8], after: &[u8]) -> Option<(usize, usize)> {
    const PAGE: usize = 4096;
    assert_eq!(before.len(), after.len(), "the log is written over in place");
    let mut pages = before.chunks(PAGE).zip(after.chunks(PAGE));
    let first = pages.position(|(one, other)| one != other)? * PAGE;
    let last = pages.rposition(|(one, other)| one != other).map_or(first, |page| first + (page + 1) * PAGE);
    let first = first + before[first..].iter().zip(&after[first..]).position(|(one, other)| one != other)?;
    let end = after.len().min(last + PAGE);
    let last = last + before[last..end].iter().zip(&after[last..end]).rposition(|(one, other)| one != other)?;
    Some((first, last))
}

#[tokio::test]
async fn it_gives_back_what_was_committed_after_a_kill_at_any_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open_file(&folder.path().join(FILE)).await;
    let mut image = Image::default();
    for (number, batch) in batches(11, 400).iter().enumerate() {
        store.commit(&batch.changes, batch.fsync).await.expect("committed");
        image.commit(&batch.changes);
        let killed = copied(folder.path(), &folder.path().join(number.to_string()));
        let mut after = open_file(&killed).await;
        assert_eq!(loaded(&mut after).await, sorted(image.records()), "after commit {number}");
    }
    assert!(image.rows.len() > 10, "{} jobs are left", image.rows.len());
}

#[tokio::test]
async fn of_a_commit_that_is_torn_nothing_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open_file(&folder.path().join(FILE)).await;
    let mut image = Image::default();
    let mut torn = 0;
    let mut before = fs::read(wal(folder.path())).expect("the log");
    for (number, batch) in batches(12, 300).iter().enumerate() {
        store.commit(&batch.changes, batch.fsync).await.expect("committed");
        let after = fs::read(wal(folder.path())).expect("the log");
        if let Some((first, last)) = written(&before, &after) {
            let copy = folder.path().join(number.to_string());
            let killed = copied(folder.path(), &copy);
            // Anywhere within what this commit wrote: what is behind is as it was before.
            let cut = first + (number * 977) % (last - first).max(1);
            fs::write(wal(&copy), [&after[..cut], &before[cut..]].concat()).expect("cut");
            let mut found = open_file(&killed).await;
            assert_eq!(loaded(&mut found).await, sorted(image.records()), "commit {number} was torn");
            torn += 1;
            drop(found);
            fs::remove_dir_all(&copy).expect("removed");
        }
        before = after;
        image.commit(&batch.changes);
    }
    assert!(torn > 50, "{torn} commits were torn");
}

/// After each commit a session of its own reads it; every hundredth the server is killed as well.
#[tokio::test]
async fn postgres_gives_back_what_was_committed_after_a_kill() {
    let mut server = Server::plain();
    let place = Place::Postgres(Box::new(crate::ground::options(&server.url())));
    let mut store = open(&place).await;
    let mut image = Image::default();
    for (number, batch) in batches(11, 400).iter().enumerate() {
        store.commit(&batch.changes, batch.fsync).await.expect("committed");
        image.commit(&batch.changes);
        // What is not synced lasts from the next commit that is.
        if number % 100 == 99 && batch.fsync {
            server.kill();
            server.run();
            store.commit(&batch.changes, true).await.expect_err("the session is gone");
            store.probe().await.expect("owned again");
        }
        assert_eq!(loaded(&mut store).await, sorted(image.records()), "after commit {number}");
    }
    assert!(image.rows.len() > 10, "{} jobs are left", image.rows.len());
}

#[tokio::test]
async fn a_commit_of_which_one_change_is_refused_writes_nothing() {
    for ground in Ground::each() {
        let mut store = open(&ground.place()).await;
        let all = batches(13, 200);
        let (last, before) = all.split_last().expect("batches");
        for batch in before {
            store.commit(&batch.changes, batch.fsync).await.expect("committed");
        }
        let kept = loaded(&mut store).await;
        let mut changes = all.iter().flat_map(|batch| &batch.changes);
        let insert = changes.rfind(|change| matches!(change, mainstay_jobs::change::Change::Insert { .. }));
        let mut twice = last.changes.clone();
        // An id that is there, or is there by then.
        twice.extend([insert.cloned(), insert.cloned()].into_iter().flatten());
        store.commit(&twice, true).await.expect_err("an id was inserted twice");
        assert_eq!(loaded(&mut store).await, kept);
        store.commit(&last.changes, true).await.expect("the next commit is not disturbed");
    }
}

#[tokio::test]
async fn all_that_is_kept_of_a_job_can_be_read() {
    for ground in Ground::each() {
        all_can_be_read(&ground).await;
    }
}

async fn all_can_be_read(ground: &Ground) {
    let mut store = open(&ground.place()).await;
    let mut image = Image::default();
    let is_rich = |image: &Image| {
        let kinds =
            [image.attempts.len(), image.results.len(), image.progress.len(), image.lines.len(), image.links.len()];
        image.rows.len() > 20 && kinds.into_iter().all(|count| count > 2) && !image.given.is_empty()
    };
    for batch in batches(14, 8000) {
        store.commit(&batch.changes, false).await.expect("committed");
        image.commit(&batch.changes);
        if is_rich(&image) {
            break;
        }
    }
    assert!(is_rich(&image), "there is something to read");
    store.close().await;
    // A clock that stands: no lease ends while it is looked at.
    let setup = Setup { place: ground.place(), queues: Vec::new(), clock: Clock::of(|| 1), seed: 1, pusher: None };
    let jobs = Jobs::open(setup).expect("opened");
    for (id, row) in &image.rows {
        let detail = jobs.get(*id).await.expect("read").expect("it is there");
        assert_eq!(detail.row, *row);
        assert_eq!(Some(&detail.body), image.bodies.get(id));
        assert_eq!(detail.result.as_ref(), image.results.get(id));
        assert_eq!(detail.progress.as_ref(), image.progress.get(id));
        assert_eq!(detail.attempts, image.attempts.get(id).cloned().unwrap_or_default());
        let lines: Vec<(u64, String)> = detail.lines.into_iter().map(|line| (line.at_ms, line.line)).collect();
        assert_eq!(lines, image.lines.get(id).cloned().unwrap_or_default());
        assert_eq!(detail.parent, image.links.get(id).map(|link| link.parent));
        let children = jobs.children(*id, 0, 1000).await.expect("read");
        let links: Vec<&Link> = image.links.values().filter(|link| link.parent == *id).collect();
        assert_eq!(children.len(), links.len(), "children of {id}");
        for (child, link) in children.iter().zip(links) {
            let (state, given) = match link.gone {
                Some(state) => (state, &image.given),
                None => (image.rows[&link.child].progressed.state, &image.results),
            };
            let queue = &image.queues[&link.queue].0;
            assert_eq!((child.job, &child.queue, child.on_failure), (link.child, queue, link.on_failure));
            assert_eq!((child.state, child.is_gone), (state, link.gone.is_some()));
            assert_eq!((child.result.as_ref(), child.is_left_out), (given.get(&link.child), false));
        }
    }
    assert_eq!(jobs.get(1 << 40).await.expect("read"), None);
    jobs.close().await;
}

#[tokio::test]
async fn a_second_owner_is_refused_until_the_first_lets_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::File(folder.path().join(FILE));
    let first = open(&place).await;
    assert!(matches!(Store::open(&place).await, Err(mainstay_store::Error::Owned { .. })));
    first.close().await;
    Store::open(&place).await.expect("opened once it was let go of");
}

#[tokio::test]
async fn schedules_are_given_back_as_they_were_set() {
    for ground in Ground::each() {
        schedules_come_back(&ground).await;
    }
}

async fn schedules_come_back(ground: &Ground) {
    use mainstay_jobs::change::Change;
    use mainstay_jobs::job::Own;
    use mainstay_jobs::schedule::{CatchUp, Rule, Schedule};
    use mainstay_jobs::{Backoff, Growth, NewJob};
    let mut store = open(&ground.place()).await;
    let mut image = Image::default();
    let backoff = Some(Backoff { growth: Growth::Fixed, delay_ms: 7, jitter_percent: 9 });
    let own = Own { attempts: Some(2), backoff, timeout_ms: Some(0) };
    let job = NewJob { priority: 3, group: Some("tenant".into()), own, ..NewJob::new("x") };
    let cron = Rule::Cron { pattern: "5 4 * * sun".into(), zone: "America/New_York".into() };
    let set = |name: &str, rule, catch_up, job| Schedule {
        name: name.into(),
        queue: "q".into(),
        rule,
        catch_up,
        job,
        next_ms: 1_767_225_600_000,
    };
    let schedules = [
        set("a", cron, CatchUp::One, job),
        set("b", Rule::Every(60_000), CatchUp::All, NewJob::default()),
        set("c", Rule::Every(1000), CatchUp::None, NewJob::default()),
    ];
    let mut changes: Vec<Change> = schedules.into_iter().map(|one| Change::Schedule(Box::new(one))).collect();
    changes.push(Change::Unschedule { name: "c".into() });
    store.commit(&changes, true).await.expect("committed");
    image.commit(&changes);
    assert_eq!(image.schedules.len(), 2);
    assert_eq!(loaded(&mut store).await, sorted(image.records()));
}
