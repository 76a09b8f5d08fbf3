//! The decisions by table, and against a world that answers at random.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const LIMIT: Duration = Duration::from_secs(30);

fn rules(overlap: bool) -> Rules {
    Rules { overlap, on_failure: false, limit: LIMIT }
}

struct Bench {
    instance: Instance,
    serials: Serials,
    now: Millis,
}

impl Bench {
    fn new(rules: Rules) -> Bench {
        Bench { instance: Instance::new(rules), serials: Serials::default(), now: Millis(1000) }
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.instance.step(self.now, event, &mut self.serials)
    }

    fn after(&mut self, ms: u64) -> Vec<Effect> {
        self.now = Millis(self.now.0 + ms);
        self.step(Event::Tick)
    }

    fn up(&mut self) -> Serial {
        let effects = self.step(Event::Tick);
        let Some(Effect::Spawn(serial)) = effects.first().copied() else { panic!("no spawn: {effects:?}") };
        assert_eq!(self.step(Event::Spawned(serial)), []);
        assert_eq!(self.step(Event::Ready(serial)), [Effect::Join(serial)]);
        serial
    }
}

#[test]
fn a_replacement_with_its_own_port_serves_before_the_old_one_drains() {
    let mut b = Bench::new(rules(true));
    let old = b.up();
    let new = old + 1;
    assert_eq!(b.step(Event::Replace), [Effect::Spawn(new)]);
    assert_eq!(b.step(Event::Spawned(new)), []);
    assert_eq!(b.step(Event::Ready(new)), [Effect::Join(new), Effect::Drain(old)]);
    assert_eq!(b.step(Event::Quiet(old)), [], "a core may have picked it just before");
    b.after(100);
    assert_eq!(b.step(Event::Quiet(old)), [Effect::Leave(old), Effect::Term(old)]);
    let done = [Effect::Forget(old), Effect::Say(old, Note::Replaced)];
    assert_eq!(b.step(Event::Emptied(old, Exit::Code(0))), done);
    assert_eq!(b.instance.main().map(|l| l.serial), Some(new));
}

#[test]
fn without_a_port_of_its_own_it_stops_before_it_starts() {
    let mut b = Bench::new(rules(false));
    let old = b.up();
    assert_eq!(b.step(Event::Replace), [Effect::Drain(old)]);
    b.after(100);
    assert_eq!(b.step(Event::Quiet(old)), [Effect::Leave(old), Effect::Term(old)]);
    let effects = b.step(Event::Emptied(old, Exit::Signal(15)));
    assert_eq!(effects, [Effect::Forget(old), Effect::Spawn(old + 1)]);
    b.step(Event::Spawned(old + 1));
    let done = [Effect::Join(old + 1), Effect::Say(old + 1, Note::Replaced)];
    assert_eq!(b.step(Event::Ready(old + 1)), done);
}

#[test]
fn a_replacement_that_exits_or_is_late_leaves_the_old_one_serving() {
    let mut b = Bench::new(rules(true));
    let old = b.up();
    b.step(Event::Replace);
    b.step(Event::Spawned(old + 1));
    let kept = Note::Kept(Why::Exited(Exit::Code(1)));
    let effects = b.step(Event::Emptied(old + 1, Exit::Code(1)));
    assert_eq!(effects, [Effect::Forget(old + 1), Effect::Say(old + 1, kept)]);

    b.step(Event::Replace);
    b.step(Event::Spawned(old + 2));
    let effects = b.after(60_000);
    assert_eq!(effects, [Effect::Term(old + 2), Effect::Say(old + 2, Note::Kept(Why::NotReady))]);
    assert_eq!(b.step(Event::Emptied(old + 2, Exit::Signal(15))), [Effect::Forget(old + 2)]);
    assert_eq!(b.instance.main().map(|l| (l.serial, l.phase)), Some((old, Phase::Ready)));
}

#[test]
fn a_drain_ends_at_the_limit_and_so_does_patience_with_sigterm() {
    let mut b = Bench::new(rules(true));
    let s = b.up();
    assert_eq!(b.step(Event::Down), [Effect::Drain(s)]);
    assert_eq!(b.after(29_999), []);
    assert_eq!(b.after(1), [Effect::Leave(s), Effect::Term(s)]);
    assert_eq!(b.after(29_999), []);
    assert_eq!(b.after(1), [Effect::Say(s, Note::HadToKill), Effect::Kill(s)]);
    assert_eq!(b.after(5_000), [Effect::Say(s, Note::WouldNotStop)]);
    assert_eq!(b.after(500_000), []);
    assert_eq!(b.step(Event::Emptied(s, Exit::Signal(9))), [Effect::Forget(s)]);
    assert_eq!(b.instance.deadline(), None);
}

#[test]
fn a_leader_that_ends_takes_the_rest_along_unless_somebody_still_serves() {
    let mut b = Bench::new(rules(true));
    let s = b.up();
    let exit = Exit::Signal(9);
    assert_eq!(b.step(Event::LeaderExited { serial: s, exit, serving: true }), []);
    let effects = b.step(Event::LeaderExited { serial: s, exit, serving: false });
    assert_eq!(effects, [Effect::Leave(s), Effect::Term(s)]);
    let effects = b.step(Event::Emptied(s, exit));
    assert_eq!(effects, [Effect::Forget(s), Effect::Say(s, Note::Exited(Some(exit)))]);
    assert_eq!(b.after(99), []);
    assert_eq!(b.after(1), [Effect::Spawn(s + 1)]);
}

#[test]
fn a_crash_loop_is_said_once_and_retried_for_ever() {
    let mut b = Bench::new(rules(true));
    b.step(Event::Tick);
    let mut notes = Vec::new();
    for serial in 1..=20 {
        b.step(Event::Spawned(serial));
        let effects = b.step(Event::Emptied(serial, Exit::Code(1)));
        notes.extend(effects.into_iter().filter_map(|e| if let Effect::Say(_, note) = e { Some(note) } else { None }));
        assert_eq!(b.after(30_000), [Effect::Spawn(serial + 1)]);
    }
    let exited = Note::Exited(Some(Exit::Code(1)));
    assert_eq!(notes, [exited, exited, exited, exited, Note::CrashLoop]);
}

#[test]
fn exit_status_0_is_the_end_only_where_that_was_asked_for() {
    let mut b = Bench::new(Rules { on_failure: true, ..rules(true) });
    let s = b.up();
    let effects = b.step(Event::Emptied(s, Exit::Code(0)));
    assert_eq!(effects, [Effect::Leave(s), Effect::Forget(s), Effect::Say(s, Note::Finished)]);
    assert_eq!(b.after(1_000_000), []);
    assert_eq!(b.step(Event::Replace), [Effect::Spawn(s + 1)]);

    let mut b = Bench::new(rules(true));
    let s = b.up();
    b.step(Event::Emptied(s, Exit::Code(0)));
    assert_eq!(b.after(100), [Effect::Spawn(s + 1)]);
}

#[test]
fn a_life_that_is_unwanted_before_it_runs_is_stopped_when_it_does() {
    let mut b = Bench::new(rules(true));
    b.step(Event::Tick);
    assert_eq!(b.step(Event::Halt), []);
    assert_eq!(b.step(Event::Spawned(1)), [Effect::Term(1)]);
    assert_eq!(b.step(Event::Emptied(1, Exit::Signal(15))), [Effect::Forget(1)]);
    assert!(b.instance.is_gone());
}

#[test]
fn when_the_old_one_dies_meanwhile_the_new_one_is_simply_the_instance() {
    let mut b = Bench::new(rules(true));
    let old = b.up();
    b.step(Event::Replace);
    b.step(Event::Spawned(old + 1));
    b.step(Event::Emptied(old, Exit::Signal(9)));
    let done = [Effect::Join(old + 1), Effect::Say(old + 1, Note::Replaced)];
    assert_eq!(b.step(Event::Ready(old + 1)), done);
}

#[test]
fn up_starts_one_and_reports_whether_it_came_up() {
    let mut b = Bench::new(rules(true));
    assert_eq!(b.step(Event::Up), [Effect::Spawn(1)]);
    assert_eq!(b.step(Event::Up), [], "it runs");
    b.step(Event::Spawned(1));
    assert_eq!(b.step(Event::Ready(1)), [Effect::Join(1), Effect::Say(1, Note::Replaced)]);
    b.step(Event::Down);
    assert_eq!(b.step(Event::Up), [], "the last one is still there");
    assert_eq!(b.step(Event::Emptied(1, Exit::Code(0))), [Effect::Leave(1), Effect::Forget(1), Effect::Spawn(2)]);
    b.step(Event::Spawned(2));
    let effects = b.step(Event::Emptied(2, Exit::Code(9)));
    assert_eq!(effects[2], Effect::Say(2, Note::Kept(Why::Exited(Exit::Code(9)))));
}

#[test]
fn two_adopted_groups_of_one_number_become_one() {
    let mut b = Bench::new(rules(true));
    let (old, new) = (b.serials.next(), b.serials.next());
    b.instance.adopt(old, b.now);
    b.instance.adopt(new, b.now);
    assert_eq!(b.step(Event::Ready(old)), [Effect::Join(old)]);
    assert_eq!(b.step(Event::Ready(new)), [Effect::Join(new), Effect::Drain(old)]);
}

/// What the random world may do next; numbers choose among what is possible.
#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Answer(usize, bool),
    BeReady(usize),
    Die(usize, i32),
    LoseLeader(usize, i32, bool),
    Quiet(usize),
    Ask(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0u64..70_000).prop_map(Act::Wait),
        2 => (0u64..200).prop_map(Act::Wait),
        6 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(n, ok)| Act::Answer(n, ok)),
        5 => any::<usize>().prop_map(Act::BeReady),
        2 => (any::<usize>(), 0i32..3).prop_map(|(n, code)| Act::Die(n, code)),
        1 => (any::<usize>(), 0i32..3, any::<bool>()).prop_map(|(n, code, s)| Act::LoseLeader(n, code, s)),
        3 => any::<usize>().prop_map(Act::Quiet),
        3 => (0u8..20).prop_map(Act::Ask),
    ]
}

/// What is true of each group outside of the machine.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    runs: bool,
    signalled: bool,
    joined: bool,
}

struct World {
    bench: Bench,
    groups: BTreeMap<Serial, Group>,
    earliest_start: Option<Millis>,
    up: bool,
}

impl World {
    fn pick(&self, n: usize, runs: bool) -> Option<Serial> {
        let fit: Vec<Serial> = self.groups.iter().filter(|(_, g)| g.runs == runs).map(|(s, _)| *s).collect();
        if fit.is_empty() { None } else { Some(fit[n % fit.len()]) }
    }

    fn feed(&mut self, event: Event) {
        match event {
            Event::Up => self.up = true,
            Event::Down | Event::Halt => self.up = false,
            _ => {}
        }
        if let Event::SpawnFailed(serial) | Event::Emptied(serial, _) = event {
            assert!(self.groups.contains_key(&serial));
        }
        let effects = self.bench.step(event);
        for effect in effects {
            self.obey(effect, event);
        }
        if let Event::SpawnFailed(serial) | Event::Emptied(serial, _) = event {
            assert!(!self.groups.contains_key(&serial), "{serial} was not forgotten");
        }
        self.check();
    }

    fn obey(&mut self, effect: Effect, cause: Event) {
        match effect {
            Effect::Spawn(serial) => {
                assert!(self.up, "started while down");
                let beside = self.groups.len();
                let allowed = if self.bench.instance.rules().overlap { 1 } else { 0 };
                assert!(beside <= allowed, "{serial} started beside {:?}", self.groups);
                let due = self.earliest_start.is_none_or(|at| self.bench.now >= at);
                assert!(due || cause == Event::Replace || cause == Event::Up, "too early");
                assert!(self.groups.insert(serial, Group::default()).is_none());
            }
            Effect::Join(serial) => {
                let group = self.groups.get_mut(&serial).expect("joined one that exists");
                assert!(group.runs && !group.joined && !group.signalled);
                group.joined = true;
            }
            Effect::Drain(serial) => assert!(self.groups[&serial].joined),
            Effect::Leave(serial) => {
                let group = self.groups.get_mut(&serial).expect("left by one that exists");
                assert!(std::mem::take(&mut group.joined));
            }
            Effect::Term(serial) | Effect::Kill(serial) => {
                let group = self.groups.get_mut(&serial).expect("signalled one that exists");
                assert!(group.runs && !group.joined);
                group.signalled = true;
            }
            Effect::Forget(serial) => {
                let group = self.groups.remove(&serial).expect("forgot one that exists");
                assert!(!group.joined);
            }
            Effect::Say(_, Note::Exited(_)) => self.earliest_start = Some(Millis(self.bench.now.0)),
            Effect::Say(..) => {}
        }
    }

    fn check(&self) {
        let known: Vec<Serial> = self.groups.keys().copied().collect();
        let mut lives: Vec<Serial> = self.bench.instance.lives().map(|l| l.serial).collect();
        lives.sort_unstable();
        assert_eq!(known, lives);
        if let Some(at) = self.bench.instance.start_at() {
            assert!(at.since(self.bench.now) <= crate::backoff::LONGEST);
        }
        // Something is always going on or due: nobody has to come and push.
        if self.up && known.is_empty() && !self.bench.instance.is_finished() {
            assert!(self.bench.instance.deadline().is_some(), "would wait for ever");
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Wait(ms) => {
                self.bench.now = Millis(self.bench.now.0 + ms);
                self.feed(Event::Tick);
            }
            Act::Answer(n, ok) => {
                if let Some(serial) = self.pick(n, false) {
                    if let (true, Some(group)) = (ok, self.groups.get_mut(&serial)) {
                        group.runs = true;
                    }
                    self.feed(if ok { Event::Spawned(serial) } else { Event::SpawnFailed(serial) });
                }
            }
            Act::BeReady(n) => self.on_running(n, Event::Ready),
            Act::Die(n, code) => self.on_running(n, |s| Event::Emptied(s, Exit::Code(code))),
            Act::LoseLeader(n, code, serving) => {
                self.on_running(n, |serial| Event::LeaderExited { serial, exit: Exit::Code(code), serving });
            }
            Act::Quiet(n) => self.on_running(n, Event::Quiet),
            Act::Ask(0) => self.feed(Event::Halt),
            Act::Ask(1 | 2) => self.feed(Event::Down),
            Act::Ask(3..=9) => self.feed(Event::Up),
            Act::Ask(_) => self.feed(Event::Replace),
        }
    }

    fn on_running(&mut self, n: usize, event: impl Fn(Serial) -> Event) {
        if let Some(serial) = self.pick(n, true) {
            self.feed(event(serial));
        }
    }

    /// Everybody behaves from here on: what was asked for is reached.
    fn calm_down(&mut self) {
        for _ in 0..40 {
            self.act(&Act::Answer(0, true));
            for serial in self.groups.keys().copied().collect::<Vec<_>>() {
                if self.groups.get(&serial).is_some_and(|g| g.runs && !g.signalled) {
                    self.feed(Event::Ready(serial));
                }
                if self.groups.get(&serial).is_some_and(|g| g.runs) {
                    self.feed(Event::Quiet(serial));
                }
                if self.groups.get(&serial).is_some_and(|g| g.runs && g.signalled) {
                    self.feed(Event::Emptied(serial, Exit::Code(0)));
                }
            }
            self.act(&Act::Wait(1000));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_the_invariants_hold(
        overlap in any::<bool>(),
        on_failure in any::<bool>(),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let rules = Rules { overlap, on_failure, limit: LIMIT };
        let mut world =
            World { bench: Bench::new(rules), groups: BTreeMap::new(), earliest_start: None, up: true };
        world.feed(Event::Tick);
        for act in &acts {
            world.act(act);
        }
        world.calm_down();
        let instance = &world.bench.instance;
        if !world.up || instance.is_finished() {
            prop_assert!(instance.is_gone());
        } else {
            prop_assert_eq!(instance.lives().count(), 1);
            prop_assert_eq!(instance.main().map(|l| l.phase), Some(Phase::Ready));
        }
    }
}
