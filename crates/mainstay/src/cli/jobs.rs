//! `mainstay jobs [list|show|add|retry|remove|promote|pause|resume|drain|clean|redrive|schedules|schedule|unschedule]`:
//! queues and what is in them.

mod screen;

use crate::control::{
    COMMAND_BYTES_MAX, Command, JobAdded, JobAsked, JobsAsked, JobsListed, RuleAsked, ScheduleSet, client,
};
use crate::exit::{self, Failure};
use crate::jobs::no_state;
use crate::place::{Place, PlaceArgs};
use crate::told::LOG_FOLDER;
use mainstay_config::units;
use mainstay_jobs::job::PAYLOAD_BYTES_MAX;
use mainstay_jobs::schedule::CatchUp;
use mainstay_jobs::{LIST_MAX, State};
use mainstay_runtime::Clock;
use mainstay_telemetry::read::Logs;
use mainstay_telemetry::trail;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use std::io::Read;
use std::time::Duration;

/// What fits a screen.
const SHOWN: usize = 20;
/// What a job is given that is given nothing: most handlers read JSON.
const NO_PAYLOAD: &str = "{}";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Every queue, or the jobs of one
    List {
        queue: Option<String>,
        /// Only those that are waiting, delayed, active, waiting_children, completed, failed or dead
        #[arg(long, value_parser = state, requires = "queue")]
        state: Option<State>,
        /// Without the first so many
        #[arg(long, value_name = "N", default_value_t = 0, requires = "queue")]
        skip: usize,
        /// So many; 1000 at most
        #[arg(short = 'n', long, value_name = "N", default_value_t = SHOWN, value_parser = limit, requires = "queue")]
        limit: usize,
    },
    /// One job: its attempts with error and stack trace, progress, log, result, parent and children
    Show {
        #[arg(value_parser = id)]
        id: String,
        /// With what it was given
        #[arg(long)]
        payload: bool,
    },
    /// Add a job
    Add {
        queue: String,
        #[command(flatten)]
        job: JobArgs,
        /// Start it so much later, as 10s
        #[arg(long, value_name = "TIME", value_parser = time)]
        delay: Option<Duration>,
        /// Add nothing while a job of this key is there that has not ended
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// What must be done first: jobs, each with its queue, in an array as POST takes it; JSON, @FILE, or -
        #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
        children: Option<String>,
    },
    /// Give a failed or dead job all its attempts anew
    Retry {
        #[arg(value_parser = id)]
        id: String,
    },
    /// Take a job away that no worker has; if it waits for children, with those
    Remove {
        #[arg(value_parser = id)]
        id: String,
    },
    /// Start a delayed job now
    Promote {
        #[arg(value_parser = id)]
        id: String,
    },
    /// Start nothing of a queue; what runs is finished
    Pause { queue: String },
    /// Go on with a queue
    Resume { queue: String },
    /// Remove all that waits in a queue
    Drain {
        queue: String,
        /// And all that is put off
        #[arg(long)]
        delayed: bool,
    },
    /// Remove what ended longer ago
    Clean {
        queue: String,
        /// completed, failed or dead
        #[arg(long, value_parser = ended)]
        state: State,
        /// As 1d; 0s for all
        #[arg(long, value_name = "TIME", value_parser = time)]
        older: Duration,
    },
    /// Give all that failed or is dead its attempts anew
    Redrive {
        queue: String,
        /// Only what is failed, or dead
        #[arg(long, value_parser = unwell)]
        state: Option<State>,
    },
    /// What apps added in SQL and cannot be taken over, and why; it is tried again each minute
    Refused {
        /// Drop one of them
        #[arg(long, value_name = "ID", conflicts_with = "drop_all")]
        drop: Option<u64>,
        /// Drop all of them
        #[arg(long)]
        drop_all: bool,
    },
    /// What is added by itself, and when next
    Schedules,
    /// Add a job by itself from now on; in the place of the schedule of this name
    #[command(group(clap::ArgGroup::new("rule").required(true).args(["cron", "every"])))]
    Schedule {
        schedule: String,
        #[arg(long)]
        queue: String,
        /// Minute, hour, day, month, weekday: "0 3 * * *"; with seconds in front if there are six
        #[arg(long, value_name = "PATTERN")]
        cron: Option<String>,
        /// Time zone of --cron, as Europe/Berlin
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        tz: String,
        /// As 1h, at whole hours; 1s at least
        #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "tz")]
        every: Option<Duration>,
        /// What becomes of times at which nobody was there: none, one (the last of them) or all
        #[arg(long, value_name = "HOW", default_value = "none", value_parser = catch_up)]
        catch_up: CatchUp,
        #[command(flatten)]
        job: JobArgs,
    },
    /// Add it no longer; jobs that were added stay
    Unschedule { schedule: String },
}

#[derive(Debug, Default, clap::Args)]
struct JobArgs {
    /// What kind of job of its queue
    #[arg(long, default_value = "")]
    name: String,
    /// JSON, @FILE, or - for stdin; {} if left out
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    payload: Option<String>,
    /// Lower starts first; 0 is the highest
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u32,
    /// Instead of what its queue says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,
    /// Of which jobs of the queue take turns with other groups
    #[arg(long)]
    group: Option<String>,
}

/// A number, or a queue and what BullMQ calls the job.
fn id(text: &str) -> Result<String, String> {
    let is_bullmq = text.split_once(':').is_some_and(|(queue, id)| !queue.is_empty() && !id.is_empty());
    let is_id = is_bullmq || text.parse::<u64>().is_ok();
    is_id.then(|| text.to_owned()).ok_or_else(|| "expected an id, as mainstay jobs list QUEUE shows it".to_owned())
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=LIST_MAX).contains(limit));
    limit.ok_or_else(|| format!("expected a number from 1 to {LIST_MAX}"))
}

fn time(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|why| format!("{why}; expected a time as 10s, 30m, 1d"))
}

fn state(text: &str) -> Result<State, String> {
    State::parse(text).ok_or_else(|| no_state(text))
}

fn ended(text: &str) -> Result<State, String> {
    let ended = state(text)?;
    if ended.is_terminal() {
        return Ok(ended);
    }
    Err("expected completed, failed or dead; what waits: mainstay jobs drain QUEUE".to_owned())
}

fn unwell(text: &str) -> Result<State, String> {
    match state(text)? {
        unwell @ (State::Failed | State::Dead) => Ok(unwell),
        State::Delayed => Err("expected failed or dead; to start a delayed job: mainstay jobs promote ID".to_owned()),
        _ => Err("expected failed or dead".to_owned()),
    }
}

fn catch_up(text: &str) -> Result<CatchUp, String> {
    CatchUp::parse(text).ok_or_else(|| "expected none, one or all".to_owned())
}

pub fn run(place: &PlaceArgs, args: Args) -> Result<u8, Failure> {
    let asked = asked(args.action)?;
    let command = Command::Jobs(asked.clone());
    let size = command.body().map_err(|error| Failure::Internal(error.into()))?.len();
    if size > COMMAND_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "this makes a command of {size} bytes, and {COMMAND_BYTES_MAX} are the most: a larger payload is added \
             over HTTP   POST $MAINSTAY_URL/v1/queues/QUEUE/jobs (docs/jobs.md)"
        )));
    }
    let place = place.resolve()?;
    let mut answer = client::ask(&place, &command, client::to_stderr)?;
    if let JobsAsked::Show { .. } = asked {
        answer["requestId"] = request_of(&place, &answer).into();
    }
    if args.json {
        println!("{answer:#}");
        return Ok(exit::ASKED);
    }
    let told = told(&asked, answer, Clock::unix_micros() / 1000)?;
    told.lines.iter().for_each(|line| println!("{line}"));
    told.notes.iter().for_each(|note| eprintln!("{note}"));
    Ok(exit::ASKED)
}

/// Which request added it, as far as log files go back.
fn request_of(place: &Place, job: &Value) -> Option<String> {
    let (trace_id, added_ms) = (job["traceId"].as_str()?, job["createdMs"].as_u64()?);
    trail::find_traced(&Logs::new(&place.data.join(LOG_FOLDER)), trace_id, added_ms * 1000).ok().flatten()
}

fn asked(action: Option<Action>) -> Result<JobsAsked, Failure> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let word = |state: State| state.as_str().to_owned();
    Ok(match action {
        None | Some(Action::List { queue: None, .. }) => JobsAsked::Queues,
        Some(Action::List { queue: Some(queue), state, skip, limit }) => {
            JobsAsked::List(JobsListed { queue, state: state.map(word), skip, limit })
        }
        Some(Action::Show { id, payload }) => JobsAsked::Show { id, payload },
        Some(Action::Add { queue, job, delay, key, children }) => {
            let delay_ms = delay.map_or(0, millis);
            let children = children.map(|given| below(&given)).transpose()?.unwrap_or_default();
            JobsAsked::Add(Box::new(JobAdded { queue, job: job.read()?, delay_ms, key, children }))
        }
        Some(Action::Retry { id }) => JobsAsked::Retry(id),
        Some(Action::Remove { id }) => JobsAsked::Remove(id),
        Some(Action::Promote { id }) => JobsAsked::Promote(id),
        Some(Action::Pause { queue }) => JobsAsked::Pause(queue),
        Some(Action::Resume { queue }) => JobsAsked::Resume(queue),
        Some(Action::Drain { queue, delayed }) => JobsAsked::Drain { queue, delayed },
        Some(Action::Clean { queue, state, older }) => {
            JobsAsked::Clean { queue, state: word(state), older_ms: millis(older) }
        }
        Some(Action::Redrive { queue, state }) => JobsAsked::Redrive { queue, state: state.map(word) },
        Some(Action::Refused { drop: None, drop_all: false }) => JobsAsked::Refused,
        Some(Action::Refused { drop, .. }) => JobsAsked::DropRefused(drop),
        Some(Action::Schedules) => JobsAsked::Schedules,
        Some(Action::Schedule { schedule, queue, cron, tz, every, catch_up, job }) => {
            let rule = match (cron, every) {
                (Some(pattern), _) => RuleAsked::Cron { pattern, zone: tz },
                (None, every) => RuleAsked::EveryMs(every.map_or(0, millis)),
            };
            let catch_up = catch_up.as_str().to_owned();
            JobsAsked::Schedule(Box::new(ScheduleSet { name: schedule, queue, rule, catch_up, job: job.read()? }))
        }
        Some(Action::Unschedule { schedule }) => JobsAsked::Unschedule(schedule),
    })
}

impl JobArgs {
    fn read(self) -> Result<JobAsked, Failure> {
        let JobArgs { name, payload, priority, attempts, group } = self;
        let payload = payload.map_or_else(|| Ok(NO_PAYLOAD.to_owned()), |given| read("--payload", &given));
        Ok(JobAsked { name, payload: payload.map_err(Failure::Usage)?, priority, attempts, group })
    }
}

/// Children as they were written, once it is known that they can be read.
fn below(given: &str) -> Result<String, Failure> {
    let text = read("--children", given).map_err(Failure::Usage)?;
    crate::api::children(&text).map_err(|fault| {
        let shape = "[{\"queue\":\"fetch\",\"data\":{}}]";
        Failure::Usage(format!("--children: {}   expected an array as '{shape}' (docs/jobs.md)", fault.detail))
    })?;
    Ok(text)
}

/// As it was written: what it says is the handler's. `option`: which it was given to.
fn read(option: &str, given: &str) -> Result<String, String> {
    let file = |path: &str, reader: &mut dyn Read| {
        let mut text = String::new();
        match reader.take(PAYLOAD_BYTES_MAX as u64 + 1).read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(format!("{option}: {path} cannot be read: {error}")),
        }
    };
    let text = match given.strip_prefix('@') {
        _ if given == "-" => file("stdin", &mut std::io::stdin().lock())?,
        Some(path) => {
            let opened = std::fs::File::open(path);
            file(path, &mut opened.map_err(|error| format!("{option}: {path} cannot be read: {error}"))?)?
        }
        None => given.to_owned(),
    };
    match serde_json::from_str::<IgnoredAny>(&text) {
        Ok(_) if text.len() <= PAYLOAD_BYTES_MAX => Ok(text),
        Ok(_) => Err(format!("{option} has more than {PAYLOAD_BYTES_MAX} bytes: keep it elsewhere and say where")),
        Err(error) => Err(format!(
            "{option} is no JSON: {error}   a text is \"…\" within quotes of the shell: {option} '\"text\"'   \
             a file: {option} @FILE"
        )),
    }
}

/// Data for stdout, and what is said to a person.
#[derive(Debug, Default)]
struct Told {
    lines: Vec<String>,
    notes: Vec<String>,
}

fn told(asked: &JobsAsked, answer: Value, now_ms: u64) -> Result<Told, Failure> {
    let line = |line: String| Told { lines: vec![line], ..Told::default() };
    let counted = |queue: &str, what: &str| line(format!("{queue}: {} {what}", answer["count"]));
    Ok(match asked {
        JobsAsked::Queues => {
            let all: Vec<screen::Queue> = parsed(answer["queues"].clone())?;
            let none = all.is_empty().then(|| "there is no queue   fix: [jobs.NAME] in mainstay.toml".to_owned());
            Told { lines: screen::queues(&all), notes: none.into_iter().collect() }
        }
        JobsAsked::List(list) => {
            let all: Vec<screen::Job> = parsed(answer["jobs"].clone())?;
            let notes = screen::more(list, all.len(), answer["left"].as_u64().unwrap_or(0));
            Told { lines: all.iter().map(|job| screen::line(job, now_ms)).collect(), notes }
        }
        JobsAsked::Show { payload, .. } => {
            Told { lines: screen::job(&parsed(answer)?, *payload, now_ms), ..Told::default() }
        }
        JobsAsked::Traced { .. } => Told { lines: of_request(&answer, now_ms)?, ..Told::default() },
        JobsAsked::Add(asked) => line(screen::added(asked, &answer)),
        JobsAsked::Retry(id) => line(format!("{id} waits, with all its attempts")),
        JobsAsked::Remove(id) => line(format!("{id} is gone")),
        JobsAsked::Promote(id) => line(format!("{id} waits, and starts in its turn")),
        JobsAsked::Pause(queue) => {
            line(format!("{queue} is paused: nothing starts, {} run to their end", answer["active"]))
        }
        JobsAsked::Resume(queue) => line(format!("{queue} goes on, {} wait", answer["waiting"])),
        JobsAsked::Drain { queue, .. } | JobsAsked::Clean { queue, .. } => counted(queue, "removed"),
        JobsAsked::Redrive { queue, .. } => counted(queue, "wait again, with all their attempts"),
        JobsAsked::Refused => {
            let all: Vec<screen::Refused> = parsed(answer["refused"].clone())?;
            let note = match all.is_empty() {
                true => "there is none".to_owned(),
                false => "each is tried again every minute   to drop one: mainstay jobs refused --drop ID".to_owned(),
            };
            Told { lines: all.iter().map(|one| screen::refused(one, now_ms)).collect(), notes: vec![note] }
        }
        JobsAsked::DropRefused(_) => line(format!("{} dropped", answer["count"])),
        JobsAsked::Schedules => {
            let all: Vec<screen::Schedule> = parsed(answer["schedules"].clone())?;
            let none = all.is_empty().then(|| {
                "there is none   make one: mainstay jobs schedule nightly --queue NAME --cron \"0 3 * * *\"".to_owned()
            });
            let lines = all.iter().map(|schedule| screen::schedule(schedule, now_ms)).collect();
            Told { lines, notes: none.into_iter().collect() }
        }
        JobsAsked::Schedule(_) => line(screen::schedule(&parsed(answer)?, now_ms)),
        JobsAsked::Unschedule(name) => line(format!("{name} adds nothing any more")),
    })
}

/// A line for each job that a request added.
pub fn of_request(answer: &Value, now_ms: u64) -> Result<Vec<String>, Failure> {
    let all: Vec<screen::Job> = parsed(answer["jobs"].clone())?;
    let mut lines: Vec<String> = all.iter().map(|job| screen::line_with_queue(job, now_ms)).collect();
    lines.extend((answer["more"] == true).then(|| "and more: mainstay why ID --json".to_owned()));
    Ok(lines)
}

fn parsed<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::Internal(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(line: &[&str]) -> Result<JobsAsked, String> {
        let words = std::iter::once("jobs").chain(line.iter().copied());
        let typed = Typed::try_parse_from(words).map_err(|error| error.to_string())?;
        asked(typed.args.action).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_is_typed_is_what_is_asked() {
        assert_eq!(typed(&[]), Ok(JobsAsked::Queues));
        assert_eq!(typed(&["list"]), Ok(JobsAsked::Queues));
        let list = JobsListed { queue: "scan".to_owned(), state: Some("failed".to_owned()), skip: 0, limit: 5 };
        assert_eq!(typed(&["list", "scan", "--state", "failed", "--limit", "5"]), Ok(JobsAsked::List(list)));
        let job = JobAsked { name: "pdf".to_owned(), payload: "[1.10]".to_owned(), ..JobAsked::default() };
        let added = JobAdded {
            queue: "scan".to_owned(),
            job,
            delay_ms: 10_000,
            key: Some("k".to_owned()),
            children: String::new(),
        };
        let line = ["add", "scan", "--name", "pdf", "--payload", "[1.10]", "--delay", "10s", "--key", "k"];
        assert_eq!(typed(&line), Ok(JobsAsked::Add(Box::new(added))));
        let clean = JobsAsked::Clean { queue: "scan".to_owned(), state: "dead".to_owned(), older_ms: 86_400_000 };
        assert_eq!(typed(&["clean", "scan", "--state", "dead", "--older", "1d"]), Ok(clean));
        let set = ScheduleSet {
            name: "nightly".to_owned(),
            queue: "scan".to_owned(),
            rule: RuleAsked::Cron { pattern: "0 3 * * *".to_owned(), zone: "Europe/Berlin".to_owned() },
            catch_up: "one".to_owned(),
            job: JobAsked { payload: "{}".to_owned(), ..JobAsked::default() },
        };
        let line = ["schedule", "nightly", "--queue", "scan", "--cron", "0 3 * * *", "--tz", "Europe/Berlin"];
        let line = [&line[..], &["--catch-up", "one"]].concat();
        assert_eq!(typed(&line), Ok(JobsAsked::Schedule(Box::new(set))));
    }

    #[test]
    fn what_cannot_be_meant_says_what_to_type() {
        assert!(typed(&["refused", "--drop", "7"]).is_ok());
        for (line, words) in [
            (&["show", "abc"][..], "expected an id, as mainstay jobs list"),
            (&["list", "--state", "failed"], "<QUEUE>"),
            (&["list", "scan", "--state", "stuck"], "waiting, delayed, active"),
            (&["list", "scan", "--limit", "0"], "from 1 to 1000"),
            (&["add", "scan", "--payload", "text"], "--payload '\"text\"'"),
            (&["add", "scan", "--payload", "@/nowhere/x"], "/nowhere/x cannot be read"),
            (&["add", "scan", "--delay", "10"], "has no unit"),
            (&["add", "scan", "--attempts", "0"], "--attempts"),
            (&["clean", "scan", "--state", "waiting", "--older", "1d"], "mainstay jobs drain"),
            (&["clean", "scan", "--state", "failed"], "--older"),
            (&["redrive", "scan", "--state", "completed"], "failed or dead"),
            (&["schedule", "nightly", "--queue", "scan"], "--cron"),
            (&["schedule", "n", "--queue", "q", "--every", "1h", "--cron", "* * * * *"], "cannot be used with"),
            (&["schedule", "n", "--queue", "q", "--every", "1h", "--tz", "UTC"], "cannot be used with"),
            (&["schedule", "n", "--queue", "q", "--every", "1h", "--catch-up", "some"], "none, one or all"),
        ] {
            let error = typed(line).expect_err("refused");
            assert!(error.contains(words), "{line:?}: {error}");
        }
    }

    #[test]
    fn answers_are_told_in_a_line() {
        let told = |asked, answer| told(&asked, answer, 0).expect("told").lines.join("\n");
        let answer = serde_json::json!({ "queue": "scan", "count": 3 });
        let drain = JobsAsked::Drain { queue: "scan".to_owned(), delayed: false };
        assert_eq!(told(drain, answer.clone()), "scan: 3 removed");
        let redrive = JobsAsked::Redrive { queue: "scan".to_owned(), state: None };
        assert_eq!(told(redrive, answer), "scan: 3 wait again, with all their attempts");
    }
}
