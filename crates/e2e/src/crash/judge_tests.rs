//! A round in which all is well, and each invariant's violation planted in it: the judge must see that one.

use super::super::journal::{Line, What};
use super::{Case, Failure, INVARIANTS, Job, Rules, Ticks, judge};
use std::collections::BTreeMap;

fn line(at_ms: u64, what: What, queue: &str, job: u64, token: u64) -> Line {
    let mut line = Line::now(what).queue(queue).job(job, token).who("w1");
    line.at_us = at_ms * 1000;
    line.word = match what {
        What::Asked | What::Added => format!("k{job}"),
        What::Ending | What::Ended | What::Refused => "ok".to_owned(),
        What::State => "completed".to_owned(),
        _ => String::new(),
    };
    line
}

fn killed(at_ms: u64, who: &str) -> Line {
    line(at_ms, What::Killed, "", 0, 0).who(who)
}

fn job(queue: &str, id: u64) -> Job {
    Job {
        queue: queue.to_owned(),
        key: format!("k{id}"),
        state: "completed".to_owned(),
        attempts: 3,
        attempts_made: 1,
        starts: 1,
        started_ms: 1000 * id,
        ..Job::default()
    }
}

/// Two jobs one after the other, the second of them first lost by a worker that was killed.
fn well() -> Case {
    let rules = Rules { concurrency: Some(1), rate: Some((2, 1000)), keep: Some((10, 10)), stalls: 5 };
    let mut lines: Vec<Line> =
        (1..=2).flat_map(|id| [line(id, What::Asked, "q", id, 0), line(id, What::Added, "q", id, 0)]).collect();
    lines.extend([
        line(1000, What::Start, "q", 1, 1),
        line(1010, What::Ending, "q", 1, 1),
        line(1011, What::Ended, "q", 1, 1),
        line(1500, What::Start, "q", 2, 2),
        killed(2000, "w1"),
        line(8000, What::Start, "q", 2, 3).who("w2"),
        line(8010, What::Ending, "q", 2, 3).who("w2"),
        line(8011, What::Ended, "q", 2, 3).who("w2"),
        line(8012, What::State, "q", 2, 0),
    ]);
    let lost = Failure { ending: "stalled".to_owned(), worker: "w1".to_owned(), started_ms: 1500, ended_ms: 7000 };
    let second = Job { starts: 2, stalls: 1, started_ms: 8000, failures: vec![lost], ..job("q", 2) };
    let counts = BTreeMap::from([("q".to_owned(), [0, 0, 0, 2, 0, 0])]);
    Case {
        lines,
        jobs: BTreeMap::from([(1, job("q", 1)), (2, second)]),
        rules: BTreeMap::from([("q".to_owned(), rules)]),
        ticks: Ticks { every_ms: 1000, from_ms: 1000, to_ms: 9000, added: 8, missed: (0, 0), looked_ms: 8000 },
        counts: BTreeMap::from([("api".to_owned(), counts.clone()), ("file".to_owned(), counts)]),
        ..Case::default()
    }
}

#[test]
fn nothing_is_said_of_a_round_in_which_all_is_well() {
    assert_eq!(judge(&well()), Vec::<String>::new());
}

type Planted = (&'static str, fn(&mut Case));

/// What is planted, by the number of the invariant that must see it.
const PLANTED: [Planted; 30] = [
    ("I1", |case| case.lines.insert(0, line(0, What::Added, "q", 9, 0))),
    ("I1", |case| case.jobs.get_mut(&1).expect("it").key = "k7".to_owned()),
    ("I1", |case| case.lines.insert(0, line(0, What::Added, "other", 1, 0))),
    ("I2", |case| drop(case.jobs.insert(3, Job { key: "k1".to_owned(), ..job("q", 3) }))),
    ("I2", |case| drop(case.jobs.insert(3, job("q", 3)))),
    ("I3", |case| case.jobs.get_mut(&1).expect("it").state = "waiting".to_owned()),
    ("I3", |case| case.lines.push(line(8013, What::State, "q", 2, 0).word("waiting"))),
    ("I3", |case| case.lines.push(line(9000, What::Start, "q", 2, 4))),
    ("I4", |case| case.lines.push(line(9000, What::Start, "q", 7, 3))),
    ("I4", |case| case.lines.push(line(9000, What::Start, "q", 1, 0))),
    ("I4", |case| {
        case.lines.extend([line(8100, What::Ending, "q", 2, 2), line(8101, What::Ended, "q", 2, 2)]);
    }),
    ("I4", |case| case.lines.push(line(9000, What::Ended, "q", 2, 3).who("late"))),
    ("I5", |case| case.jobs.get_mut(&2).expect("it").failures.clear()),
    ("I5", |case| case.jobs.get_mut(&1).expect("it").attempts_made = 4),
    ("I5", |case| case.lines.push(line(9000, What::Start, "q", 1, 4))),
    ("I5", |case| case.jobs.get_mut(&1).expect("it").state = "failed".to_owned()),
    ("I5", |case| case.jobs.get_mut(&2).expect("it").failures[0].ending = "timeout".to_owned()),
    ("I6", |case| case.lines.push(line(9000, What::Start, "q", 1, 4))),
    ("I6", |case| case.jobs.get_mut(&1).expect("it").state = "failed".to_owned()),
    ("I7", |case| case.lines[5].at_us = 1600 * 1000),
    ("I7", |case| case.jobs.get_mut(&2).expect("it").started_ms = 1900),
    ("I8", |case| {
        case.lines.iter_mut().filter(|line| line.token == 1).for_each(|line| line.job = 3);
    }),
    ("I9", |case| case.ticks.added = 7),
    ("I9", |case| case.ticks.added = 9),
    ("I9", |case| case.ticks.looked_ms = 19_000),
    ("I11", |case| case.rules.get_mut("q").expect("it").keep = Some((1, 1))),
    ("I11", |case| drop(case.jobs.remove(&1))),
    ("I12", |case| drop(case.counts.insert("zero".to_owned(), BTreeMap::new()))),
    ("I13", |case| case.jobs.get_mut(&2).expect("it").failures[0].ended_ms = 13_000),
    ("I14", |case| case.is_calm = true),
];

#[test]
fn each_planted_violation_is_seen_by_its_invariant() {
    for (number, (name, plant)) in PLANTED.iter().enumerate() {
        let mut case = well();
        plant(&mut case);
        case.lines.sort_by_key(|line| line.at_us);
        let said = judge(&case);
        assert!(said.iter().any(|said| said.starts_with(&format!("{name} "))), "{number} {name}: {said:?}");
    }
    for (name, _) in INVARIANTS {
        let number = name.split(' ').next().expect("a number");
        assert!(PLANTED.iter().any(|(planted, _)| *planted == number), "nothing is planted for {name}");
    }
}

/// More than the rate and the concurrency, seen from outside alone.
#[test]
fn a_rate_is_judged_by_what_was_seen_where_the_servers_clock_was_moved() {
    let mut case = well();
    case.is_moved = true;
    let three = [(9000, 4), (9100, 5), (9200, 6)];
    case.lines.extend(three.map(|(at_ms, token)| line(at_ms, What::Start, "q", token + 10, token)));
    assert!(judge(&case).iter().any(|said| said.contains("3 starts of q were seen within 200 ms")));
}

#[test]
fn who_is_killed_works_no_more_and_a_rescued_job_is_worked_on_once() {
    let mut case = well();
    let before = case.lines.len();
    case.lines.push(line(9000, What::Start, "q", 2, 9));
    assert_eq!(super::at_once(&case, "q"), 1);
    case.lines.truncate(before);
    case.lines.retain(|line| line.what != What::Killed);
    case.lines.iter_mut().filter(|line| line.token == 3).for_each(|line| line.job = 4);
    assert_eq!(super::at_once(&case, "q"), 2);
}
