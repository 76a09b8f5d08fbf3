//! What must hold after a round, whatever was killed in it: each invariant a function of the journal and of what was
//! found at the end. Pure; what it says is every violation in words.
//!
//! I10 (a parent runs once, after its children) has nothing to judge: there are no flows.

use super::journal::{Line, What};
use std::collections::{BTreeMap, BTreeSet};

/// The clocks of two processes are read one after the other, and a loaded machine stops either in between.
const SLACK_US: u64 = 4_000_000;
/// A connection that is gone, and the lease that nobody renews (docs/jobs.md); with a second to look.
const RESCUE_US: u64 = 6_000_000;
const LEASE_US: u64 = 31_000_000;

/// How a queue was set.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub concurrency: Option<usize>,
    /// Starts in any window of so many milliseconds.
    pub rate: Option<(usize, u64)>,
    /// Completed and failed jobs that are kept.
    pub keep: Option<(usize, usize)>,
    pub stalls: u64,
}

/// An attempt that did not complete, as the API tells it.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub ending: String,
    pub worker: String,
    pub started_ms: u64,
    pub ended_ms: u64,
}

/// A job at the end of the round, as the API tells it.
#[derive(Clone, Debug, Default)]
pub struct Job {
    pub queue: String,
    /// From its payload: what it was added under.
    pub key: String,
    pub state: String,
    pub attempts: u64,
    pub attempts_made: u64,
    pub starts: u64,
    pub stalls: u64,
    pub started_ms: u64,
    pub failures: Vec<Failure>,
}

/// Counts by state: waiting, delayed, active, completed, failed, dead.
pub type Counts = BTreeMap<String, [u64; 6]>;

/// What a schedule has done between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    pub every_ms: u64,
    /// The next tick at the first look, and at the last.
    pub from_ms: u64,
    pub to_ms: u64,
    /// Jobs that were added between them.
    pub added: u64,
    /// Ticks more than a minute late, which docs/jobs.md leaves out: between these two numbers.
    pub missed: (u64, u64),
    /// This machine's time at the last look; 0: the server's is another.
    pub looked_ms: u64,
}

/// All there is to judge by.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// By time.
    pub lines: Vec<Line>,
    pub jobs: BTreeMap<u64, Job>,
    pub rules: BTreeMap<String, Rules>,
    pub ticks: Ticks,
    /// By whom they were told.
    pub counts: BTreeMap<String, Counts>,
    /// Nobody was killed that held a job: none may be lost by its worker.
    pub is_calm: bool,
    /// The server's clock was moved: its times are not this machine's.
    pub is_moved: bool,
}

type Invariant = (&'static str, fn(&Case) -> Vec<String>);

/// By the names of the specification.
pub const INVARIANTS: [Invariant; 13] = [
    ("I1 every acknowledged add is present or finished", acknowledged_are_there),
    ("I2 one key is one job", one_key_is_one_job),
    ("I3 each job ends once and stays ended", ends_once),
    ("I4 tokens grow, and a stale one changes nothing", tokens_fence),
    ("I5 every start has a cause", starts_have_causes),
    ("I6 an acknowledged end is the end", acknowledged_ends_hold),
    ("I7 concurrency and rate hold", limits_hold),
    ("I8 first come, first served", first_come_first_served),
    ("I9 no tick is lost or doubled", each_tick_once),
    ("I11 only what ended is removed, and no more is kept", retention_holds),
    ("I12 all counts are one", counts_agree),
    ("I13 what a lost worker held is soon another's", rescued_in_time),
    ("I14 who is not killed loses nothing", calm_loses_nothing),
];

/// Every violation, by the invariant's name.
pub fn judge(case: &Case) -> Vec<String> {
    let of = |(name, holds): &Invariant| holds(case).into_iter().map(|what| format!("{name}: {what}")).collect();
    INVARIANTS.iter().flat_map(|invariant| -> Vec<String> { of(invariant) }).collect()
}

impl Case {
    fn of(&self, what: What) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.what == what)
    }

    /// Jobs that were acknowledged.
    pub fn acknowledged(&self) -> BTreeSet<u64> {
        self.of(What::Added).map(|line| line.job).collect()
    }

    fn may_be_removed(&self, queue: &str) -> bool {
        self.rules.get(queue).is_some_and(|rules| rules.keep.is_some())
    }
}

fn has_ended(state: &str) -> bool {
    matches!(state, "completed" | "failed" | "dead")
}

fn acknowledged_are_there(case: &Case) -> Vec<String> {
    let ended: BTreeSet<u64> = case.of(What::Ending).map(|line| line.job).collect();
    let fault = |line: &Line| match case.jobs.get(&line.job) {
        Some(job) if job.key == line.word && job.queue == line.queue => None,
        Some(job) => Some(format!("job {} was {} and is {} of {}", line.job, line.word, job.key, job.queue)),
        None if case.may_be_removed(&line.queue) && ended.contains(&line.job) => None,
        None => Some(format!("job {} ({} of {}) is lost", line.job, line.word, line.queue)),
    };
    case.of(What::Added).filter_map(fault).collect()
}

fn one_key_is_one_job(case: &Case) -> Vec<String> {
    let mut ids: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for line in case.of(What::Added) {
        ids.entry(&line.word).or_default().insert(line.job);
    }
    for (id, job) in case.jobs.iter().filter(|(_, job)| !job.key.is_empty()) {
        ids.entry(&job.key).or_default().insert(*id);
    }
    let asked: BTreeSet<&str> = case.of(What::Asked).map(|line| line.word.as_str()).collect();
    let twice = ids.iter().filter(|(_, ids)| ids.len() > 1).map(|(key, ids)| format!("{key} is {ids:?}"));
    let unasked = ids.keys().filter(|key| !asked.contains(*key)).map(|key| format!("nobody asked for {key}"));
    twice.chain(unasked).collect()
}

fn ends_once(case: &Case) -> Vec<String> {
    let open = case.jobs.iter().filter(|(_, job)| !has_ended(&job.state));
    let mut faults: Vec<String> = open.map(|(id, job)| format!("job {id} of {} is {}", job.queue, job.state)).collect();
    let mut ended: BTreeMap<u64, &str> = BTreeMap::new();
    for line in &case.lines {
        let before = ended.get(&line.job).copied();
        match (line.what, before) {
            (What::State, Some(before)) if before != line.word => {
                faults.push(format!("job {} was {before} and then {}", line.job, line.word));
            }
            (What::State, None) if has_ended(&line.word) => drop(ended.insert(line.job, &line.word)),
            (What::Start, Some(before)) => faults.push(format!("job {} was {before} and was started", line.job)),
            _ => {}
        }
    }
    let other = |(id, was): (&u64, &&str)| {
        let job = case.jobs.get(id).filter(|job| job.state != **was)?;
        Some(format!("job {id} was {was} and is {}", job.state))
    };
    faults.extend(ended.iter().filter_map(other));
    faults
}

fn tokens_fence(case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    let mut given: BTreeMap<u64, u64> = BTreeMap::new();
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    let mut ending: BTreeMap<(u64, u64), bool> = BTreeMap::new();
    for line in &case.lines {
        let (job, token) = (line.job, line.token);
        match line.what {
            What::Start => {
                if let Some(first) = given.insert(token, job) {
                    faults.push(format!("token {token} was given for job {first} and for job {job}"));
                }
                let before = latest.insert(job, token).unwrap_or(0);
                if before >= token {
                    faults.push(format!("job {job} had token {before} and then {token}"));
                }
            }
            // What is asked before another has the job may be heard in time.
            What::Ending => drop(ending.insert((job, token), latest.get(&job).is_some_and(|last| *last > token))),
            // Said when everything was over.
            What::Ended if line.who == "late" => faults.push(format!("job {job} was ended again by token {token}")),
            What::Ended if ending.get(&(job, token)).copied().unwrap_or(true) => {
                faults.push(format!("token {token} of job {job} was stale and {} ended by it", line.word));
            }
            _ => {}
        }
    }
    faults
}

fn starts_have_causes(case: &Case) -> Vec<String> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for line in case.of(What::Start) {
        *seen.entry(line.job).or_default() += 1;
    }
    let mut faults = Vec::new();
    for (id, job) in &case.jobs {
        let count = |what: &str| job.failures.iter().filter(|failure| failure.ending == what).count() as u64;
        let free = count("stalled") + count("released");
        let causes = job.failures.len() as u64 + u64::from(job.state == "completed");
        let stalls = case.rules.get(&job.queue).map_or(0, |rules| rules.stalls) + 1;
        let rules = [
            (job.starts == causes, "its starts are not its failures and its completion"),
            (seen.get(id).copied().unwrap_or(0) <= job.starts, "it was started more often than is known"),
            (job.starts <= job.attempts_made + free, "it was started more often than its attempts and rescues"),
            (job.attempts_made <= job.attempts, "it has more attempts than it may"),
            (job.state != "failed" || job.attempts_made == job.attempts, "it failed with attempts left"),
            (!timed_out(case, job), "its time was over, though its worker was gone: that is no attempt"),
            (job.stalls == count("stalled") && job.stalls <= stalls, "its stalls are not those that are kept"),
        ];
        let broken = rules.iter().filter(|(holds, _)| !holds);
        faults.extend(broken.map(|(_, why)| format!("job {id}: {why}: {job:?}, seen {:?}", seen.get(id))));
    }
    faults
}

/// No job takes half as long as its timeout. A worker that lives and was not told of a job, as the server was killed
/// with the answer, vouches for it all the same: that is the one way to it.
fn timed_out(case: &Case, job: &Job) -> bool {
    let lives = |worker: &str| {
        let started = case.of(What::Start).any(|line| line.who == worker);
        started && !case.of(What::Killed).any(|line| line.who == worker)
    };
    job.failures.iter().any(|failure| failure.ending == "timeout" && !lives(&failure.worker))
}

fn acknowledged_ends_hold(case: &Case) -> Vec<String> {
    let mut completed = BTreeSet::new();
    let mut faults = Vec::new();
    for line in &case.lines {
        match line.what {
            What::Ended if line.word == "ok" => drop(completed.insert(line.job)),
            What::Start if completed.contains(&line.job) => {
                faults.push(format!("job {} was completed and started again", line.job));
            }
            _ => {}
        }
    }
    let is_other = |id: &&u64| case.jobs.get(id).is_some_and(|job| job.state != "completed");
    faults.extend(completed.iter().filter(is_other).map(|id| format!("job {id} was completed and is not")));
    faults
}

fn limits_hold(case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    for (queue, rules) in &case.rules {
        if let Some(most) = rules.concurrency {
            let found = at_once(case, queue);
            if found > most {
                faults.push(format!("{found} of {queue} at once, at most {most}"));
            }
        }
        let Some((count, window_ms)) = rules.rate else { continue };
        // As they were seen: each may have been late by as long as a commit took.
        let seen = case.of(What::Start).filter(|line| line.queue == *queue).map(|line| line.at_us / 1000).collect();
        let closest = closest(seen, count);
        if closest < window_ms / 2 {
            faults.push(format!("{} starts of {queue} were seen within {closest} ms", count + 1));
        }
        if case.is_moved {
            continue;
        }
        let jobs = || case.jobs.iter().filter(|(_, job)| job.queue == *queue);
        let told = jobs().flat_map(|(_, job)| {
            let completed = (job.state == "completed").then_some(job.started_ms);
            job.failures.iter().map(|failure| failure.started_ms).chain(completed)
        });
        let closest = self::closest(told.collect(), count);
        if closest < window_ms {
            faults.push(format!("{} starts of {queue} are told within {closest} ms", count + 1));
        }
    }
    faults
}

/// The shortest time that holds one start more than `count`.
fn closest(mut at_ms: Vec<u64>, count: usize) -> u64 {
    at_ms.sort_unstable();
    at_ms.windows(count + 1).map(|some| some[count] - some[0]).min().unwrap_or(u64::MAX)
}

/// Jobs of a queue that were worked on at the same time. Who is killed works no more; nor does the app for a server
/// that was killed, or somebody whose job was given to another.
fn at_once(case: &Case, queue: &str) -> usize {
    let mut working: BTreeMap<u64, (u64, &str)> = BTreeMap::new();
    let mut most = 0;
    for line in &case.lines {
        match line.what {
            What::Start if line.queue == queue => {
                working.insert(line.job, (line.token, &line.who));
                most = most.max(working.len());
            }
            What::Ending if working.get(&line.job).is_some_and(|(token, _)| *token == line.token) => {
                working.remove(&line.job);
            }
            What::Killed if line.who == "server" => working.retain(|_, (_, who)| *who != "app"),
            What::Killed => working.retain(|_, (_, who)| *who != line.who),
            _ => {}
        }
    }
    most
}

fn first_come_first_served(case: &Case) -> Vec<String> {
    let alone = |queue: &str| case.rules.get(queue).is_some_and(|rules| rules.concurrency == Some(1));
    let mut starts: Vec<&Line> = case.of(What::Start).filter(|line| alone(&line.queue)).collect();
    starts.sort_by_key(|line| line.token);
    let mut faults = Vec::new();
    for pair in starts.windows(2).filter(|pair| pair[0].queue == pair[1].queue && pair[0].job > pair[1].job) {
        // One that failed was put off; one that was lost by its worker keeps its place.
        let failed = |failure: &Failure| matches!(failure.ending.as_str(), "failed" | "timeout");
        if !case.jobs.get(&pair[1].job).is_some_and(|job| job.failures.iter().any(failed)) {
            faults.push(format!("job {} was started before job {}", pair[0].job, pair[1].job));
        }
    }
    faults
}

fn each_tick_once(case: &Case) -> Vec<String> {
    let Ticks { every_ms, from_ms, to_ms, added, missed, looked_ms } = case.ticks;
    let passed = to_ms.saturating_sub(from_ms).checked_div(every_ms).unwrap_or(0);
    let most = passed.saturating_sub(missed.0);
    let least = passed.saturating_sub(missed.1);
    let mut faults = Vec::new();
    if !(least..=most).contains(&added) {
        faults.push(format!("{added} jobs for {least} to {most} ticks, from {from_ms} to {to_ms}"));
    }
    if looked_ms > to_ms + SLACK_US / 1000 {
        faults.push(format!("the next tick was to be at {to_ms}, and it was {looked_ms}"));
    }
    faults
}

fn retention_holds(case: &Case) -> Vec<String> {
    let mut faults = Vec::new();
    for (queue, rules) in &case.rules {
        let count = |state: &str| case.jobs.values().filter(|job| job.queue == *queue && job.state == state).count();
        let Some((completed, failed)) = rules.keep else { continue };
        for (state, most) in [("completed", completed), ("failed", failed)] {
            let found = count(state);
            if found > most {
                faults.push(format!("{found} {state} of {queue}, at most {most}"));
            }
        }
        // What ended last is kept: so many ended, so many are there.
        let ended: BTreeSet<u64> = case
            .of(What::Ended)
            .filter(|line| line.queue == *queue && line.word == "ok")
            .map(|line| line.job)
            .collect();
        if count("completed") < completed.min(ended.len()) {
            faults.push(format!("{} ended of {queue}, {} are kept", ended.len(), count("completed")));
        }
    }
    faults
}

fn counts_agree(case: &Case) -> Vec<String> {
    let mut told = case.counts.iter();
    let Some((first, expected)) = told.next() else { return vec!["nobody told any".to_owned()] };
    let differs = |(who, counts): (&String, &Counts)| {
        let all: BTreeSet<&String> = expected.keys().chain(counts.keys()).collect();
        let other: Vec<String> = all
            .into_iter()
            .filter(|queue| expected.get(*queue) != counts.get(*queue))
            .map(|queue| format!("{queue}: {first} {:?}, {who} {:?}", expected.get(queue), counts.get(queue)))
            .collect();
        (!other.is_empty()).then(|| other.join("; "))
    };
    told.filter_map(differs).collect()
}

fn rescued_in_time(case: &Case) -> Vec<String> {
    if case.is_moved {
        return Vec::new();
    }
    let last = |what, who: &str| {
        let found = case.of(what).filter(|line| who.is_empty() || line.who == who).map(|line| line.at_us);
        found.max()
    };
    let mut faults = Vec::new();
    for (id, job) in &case.jobs {
        for failure in job.failures.iter().filter(|failure| failure.ending == "stalled") {
            // A server that was down begins every lease anew.
            let bound_us = match (last(What::Killed, "server"), last(What::Killed, &failure.worker)) {
                (Some(_), _) => last(What::Up, "").map(|up| up + LEASE_US),
                (None, killed) => killed.map(|killed| killed + RESCUE_US),
            };
            match bound_us {
                None => faults.push(format!("job {id} was taken from {}, who was not killed", failure.worker)),
                Some(bound) if failure.ended_ms * 1000 > bound + SLACK_US => {
                    let late_ms = failure.ended_ms - bound / 1000;
                    faults.push(format!("job {id} was taken from {} {late_ms} ms too late", failure.worker));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

fn calm_loses_nothing(case: &Case) -> Vec<String> {
    let stalled = |job: &Job| job.failures.iter().any(|failure| matches!(failure.ending.as_str(), "stalled"));
    let lost = case.jobs.iter().filter(|(_, job)| stalled(job) || job.state == "dead");
    let lost = lost.map(|(id, job)| format!("job {id} was lost by its worker: {:?}", job.failures));
    if case.is_calm { lost.collect() } else { Vec::new() }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
