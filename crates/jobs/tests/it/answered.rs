//! A worker that lives vouches for what it was told of. Of a job whose claim was committed, and not answered as the
//! server was killed, nobody knows.

use crate::image::Image;
use mainstay_jobs::op::{Claimed, Finish};
use mainstay_jobs::store::FILE;
use mainstay_jobs::{Answer, Claim, Clock, Effects, Engine, Jobs, NewJob, Op, Outcome, Place, Settings, Setup, State};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const START_MS: u64 = 1_767_225_600_000;

/// Two jobs of one worker in a queue without a timeout, each claimed in a commit of its own.
struct House {
    engine: Engine,
    image: Image,
    now_ms: u64,
    claimed: Vec<Claimed>,
}

impl House {
    fn new() -> House {
        let (engine, image) = (Engine::new(1), Image::default());
        let mut house = House { engine, image, now_ms: START_MS, claimed: Vec::new() };
        let settings = Settings { timeout_ms: 0, stalls: 3, ..Settings::default() };
        house.apply(Op::Configure { queue: "scan".into(), settings: Box::new(settings) });
        house.apply(Op::Add { queue: "scan".into(), jobs: vec![NewJob::new("a"), NewJob::new("b")] });
        for _ in 0..2 {
            let claim = Op::Claim { queue: "scan".into(), worker: "w".into(), max: 1 };
            let Answer::Claimed(mut claimed) = house.apply(claim) else { panic!("a claim") };
            house.claimed.append(&mut claimed);
        }
        house
    }

    /// And commits.
    fn apply(&mut self, op: Op) -> Answer {
        let mut effects = Effects::default();
        let answer = self.engine.apply(op, self.now_ms, &mut effects).expect("done");
        self.image.commit(&effects.changes);
        answer
    }

    fn crash(&mut self) {
        self.engine = self.image.engine(1, self.now_ms);
        let settings = Settings { timeout_ms: 0, stalls: 3, ..Settings::default() };
        self.apply(Op::Configure { queue: "scan".into(), settings: Box::new(settings) });
    }

    /// As a presence beats, and as a worker does that says what it holds.
    fn live(&mut self, seconds: u64, holding: &[(u64, u64)]) {
        for _ in 0..seconds / 10 {
            self.now_ms += 10_000;
            self.apply(Op::Beat { worker: "w".into(), holding: holding.to_vec() });
        }
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|index| self.engine.glance(self.claimed[index].job).expect("a job").state)
    }

    fn holds(&self, index: usize) -> (u64, u64) {
        (self.claimed[index].job, self.claimed[index].token)
    }
}

#[test]
fn whoever_lives_does_not_vouch_for_what_it_was_never_told_of() {
    let mut house = House::new();
    house.apply(Op::Answered { token: house.holds(0).1 });
    house.live(600, &[]);
    assert_eq!(house.states(), [State::Active; 2], "before a crash nothing is doubted");
    house.crash();
    house.live(20, &[]);
    assert_eq!(house.states(), [State::Active; 2], "the lease that begins anew");
    house.live(10, &[]);
    assert_eq!(house.states(), [State::Active, State::Waiting]);
    house.live(600, &[]);
    assert_eq!(house.states(), [State::Active, State::Waiting]);
    assert_eq!(house.engine.glance(house.claimed[1].job).map(|glance| (glance.attempts, glance.stalls)), Some((0, 1)));
    let late = Finish { job: house.holds(1).0, token: house.holds(1).1, outcome: Outcome::Completed { result: None } };
    let mut effects = Effects::default();
    assert!(house.engine.apply(Op::Finish(late), house.now_ms, &mut effects).is_err(), "its token is stale");
}

/// Of a node that pushes its answer may be lost on the way; it names all it has with each beat.
#[test]
fn what_another_node_was_given_is_its_own_once_it_has_named_it() {
    let mut house = House::new();
    let [first, second] = [house.holds(0), house.holds(1)];
    house.apply(Op::Unheard { held: vec![first, second, (first.0, first.1 + 100), (999, 1)] });
    house.live(20, &[first]);
    assert_eq!(house.states(), [State::Active; 2], "a first lease it has in any case");
    house.live(10, &[first]);
    assert_eq!(house.states(), [State::Active, State::Waiting]);
    house.live(600, &[]);
    assert_eq!(house.states(), [State::Active, State::Waiting], "once named it is vouched for");
    // The note of what was answered goes on for everybody.
    let mut house = House::new();
    house.apply(Op::Unheard { held: vec![first] });
    house.apply(Op::Answered { token: second.1 });
    house.crash();
    house.live(600, &[]);
    assert_eq!(house.states(), [State::Active; 2]);
}

#[test]
fn whoever_names_it_has_it() {
    type Word = fn((u64, u64)) -> Op;
    let words: [Word; 4] = [
        |(job, token)| Op::Beat { worker: "w".into(), holding: vec![(job, token)] },
        |(job, token)| Op::Progress { job, token, body: b"1".to_vec() },
        |(job, token)| Op::Log { job, token, line: "here".to_owned() },
        |(job, token)| Op::Extend { job, token, lease_ms: 1000 },
    ];
    for word in words {
        let mut house = House::new();
        house.crash();
        house.live(20, &[]);
        let op = word(house.holds(1));
        house.apply(op.clone());
        house.live(600, &[]);
        assert_eq!(house.states(), [State::Waiting, State::Active], "{op:?}");
    }
    // Not by another's word, nor by a token that is not its own.
    let mut house = House::new();
    house.crash();
    let (job, token) = house.holds(1);
    house.apply(Op::Beat { worker: "other".into(), holding: vec![(job, token)] });
    house.live(600, &[(job, token + 1)]);
    assert_eq!(house.states(), [State::Waiting; 2]);
}

/// What was given out after a crash is answered soon, and says nothing of what was before.
#[test]
fn no_note_goes_past_what_is_in_doubt() {
    let mut house = House::new();
    house.apply(Op::Answered { token: house.holds(0).1 });
    house.crash();
    house.apply(Op::Add { queue: "scan".into(), jobs: vec![NewJob::new("c")] });
    let claim = Op::Claim { queue: "scan".into(), worker: "w".into(), max: 1 };
    let Answer::Claimed(third) = house.apply(claim) else { panic!("a claim") };
    house.apply(Op::Answered { token: third[0].token });
    house.crash();
    house.live(40, &[]);
    assert_eq!(house.states(), [State::Active, State::Waiting], "it is still in doubt");
    house.apply(Op::Answered { token: third[0].token });
    let noted = house.image.reserved[&mainstay_jobs::change::Counter::Answered];
    assert_eq!(noted, third[0].token, "nothing is in doubt any more");
}

#[test]
fn what_is_noted_once_holds_through_crashes_and_an_old_store_doubts_nobody() {
    let mut house = House::new();
    house.apply(Op::Answered { token: house.holds(1).1 });
    for _ in 0..3 {
        house.crash();
        house.live(300, &[]);
    }
    assert_eq!(house.states(), [State::Active; 2]);
    let mut house = House::new();
    house.image.reserved.remove(&mainstay_jobs::change::Counter::Answered);
    house.crash();
    house.live(300, &[]);
    assert_eq!(house.states(), [State::Active; 2]);
}

fn open(folder: &Path, time: &Arc<AtomicU64>) -> Jobs {
    let time = time.clone();
    let setup = Setup {
        place: Place::File(folder.join(FILE)),
        queues: vec![("scan".into(), Settings { timeout_ms: 0, ..Settings::default() })],
        clock: Clock::of(move || time.load(Ordering::SeqCst)),
        seed: 1,
        pusher: None,
    };
    Jobs::open(setup).expect("opened")
}

async fn take(jobs: &Jobs) -> u64 {
    jobs.add("scan", vec![NewJob::new("x")]).await.expect("added");
    let claim = Claim { queue: "scan".into(), worker: "w".into(), max: 1, wait: Duration::ZERO };
    jobs.claim(claim).await.expect("claimed")[0].claimed.job
}

/// Of these jobs, whether each is still its worker's after that one has lived for a minute.
async fn held(jobs: &Jobs, time: &AtomicU64, all: [u64; 2]) -> [bool; 2] {
    for _ in 0..6 {
        time.fetch_add(10_000, Ordering::SeqCst);
        jobs.beat("w", Vec::new()).await.expect("heard");
    }
    let mut held = [false; 2];
    for (held, job) in held.iter_mut().zip(all) {
        let found = jobs.get(job).await.expect("read").expect("a job");
        *held = found.row.progressed.state == State::Active;
    }
    held
}

/// The thread notes what it has answered: what was a second ago outlives a kill, what was just now does not, and a
/// proper end leaves nothing in doubt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_thread_notes_what_was_answered() {
    let [folder, copy] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let time = Arc::new(AtomicU64::new(START_MS));
    let jobs = open(folder.path(), &time);
    let first = take(&jobs).await;
    time.fetch_add(1000, Ordering::SeqCst);
    jobs.tick().await.expect("ticked");
    let all = [first, take(&jobs).await];
    // The files as they are at this instant, as after `kill -9`.
    for ending in ["", "-wal"] {
        let name = format!("{FILE}{ending}");
        std::fs::copy(folder.path().join(&name), copy.path().join(&name)).expect("copied");
    }
    jobs.close().await;
    let jobs = open(copy.path(), &time);
    assert_eq!(held(&jobs, &time, all).await, [true, false]);
    jobs.close().await;
    let jobs = open(folder.path(), &time);
    assert_eq!(held(&jobs, &time, all).await, [true, true]);
    jobs.close().await;
}
