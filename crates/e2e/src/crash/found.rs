//! What there is at the end of a round, from everybody who tells it: the API by job, by list and by count, the metrics,
//! and the file itself once Mainstay has let go of it.

use super::client::Client;
use super::judge::{Counts, Failure, Job};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// In the order of [`Counts`].
pub const STATES: [&str; 6] = ["waiting", "delayed", "active", "completed", "failed", "dead"];

/// Reads counts and integrity of a file that nobody has open.
const READ_FILE: &str = "
import sqlite3, sys, json
file = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)
rows = file.execute('SELECT queue.name, job.state, count(*) FROM job JOIN queue ON queue.id = job.queue GROUP BY 1, 2')
counts = [list(row) for row in rows]
bodies = file.execute('SELECT count(*) FROM job LEFT JOIN body ON body.job = job.id WHERE body.job IS NULL').fetchone()
orphans = [file.execute('SELECT count(*) FROM ' + t + ' WHERE job NOT IN (SELECT id FROM job)').fetchone()[0]
           for t in ('body', 'attempt', 'line', 'words')]
check = file.execute('PRAGMA integrity_check').fetchone()[0]
print(json.dumps({'counts': counts, 'check': check, 'without': bodies[0], 'orphans': sum(orphans)}))
";

/// Counts as `/v1/queues` has them.
///
/// # Errors
/// When it does not answer 200.
pub fn counts(client: &mut Client) -> Result<Counts, String> {
    let (status, told) = client.get("/v1/queues")?;
    if status != 200 {
        return Err(format!("/v1/queues is answered {status}"));
    }
    let queues = told["queues"].as_array().cloned().unwrap_or_default();
    let of = |queue: &Value| STATES.map(|state| queue[state].as_u64().unwrap_or(u64::MAX));
    Ok(queues.iter().map(|queue| (queue["name"].as_str().unwrap_or_default().to_owned(), of(queue))).collect())
}

/// Jobs that are listed, and how many of each state.
///
/// # Errors
/// As [`counts`].
pub fn listed(client: &mut Client, queues: &[String]) -> Result<(Vec<u64>, Counts), String> {
    let (mut ids, mut counts) = (Vec::new(), Counts::new());
    for queue in queues {
        let mut of = [0; 6];
        for (state, count) in STATES.iter().zip(&mut of) {
            let (status, told) = client.get(&format!("/v1/queues/{queue}/jobs?state={state}&limit=1000"))?;
            let jobs = told["jobs"].as_array().ok_or(format!("the list of {queue} is answered {status}"))?;
            *count = jobs.len() as u64;
            ids.extend(jobs.iter().filter_map(|job| job["id"].as_u64()));
        }
        counts.insert(queue.clone(), of);
    }
    Ok((ids, counts))
}

/// One job; `None` if it is not there.
///
/// # Errors
/// When it is answered neither 200 nor 404.
pub fn job(client: &mut Client, id: u64) -> Result<Option<Job>, String> {
    match client.get(&format!("/v1/jobs/{id}"))? {
        (200, told) => Ok(Some(read(&told))),
        (404, _) => Ok(None),
        (status, told) => Err(format!("job {id} is answered {status}: {told}")),
    }
}

fn read(told: &Value) -> Job {
    let number = |name: &str| told[name].as_u64().unwrap_or(0);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failure = |one: &Value| Failure {
        ending: text(&one["ending"]),
        worker: text(&one["worker"]),
        started_ms: one["startedMs"].as_u64().unwrap_or(0),
        ended_ms: one["endedMs"].as_u64().unwrap_or(0),
    };
    Job {
        queue: text(&told["queue"]),
        key: text(&told["payload"]["key"]),
        state: text(&told["state"]),
        attempts: number("attempts"),
        attempts_made: number("attemptsMade"),
        starts: number("starts"),
        stalls: number("stalls"),
        started_ms: number("startedMs"),
        failures: told["failures"].as_array().into_iter().flatten().map(failure).collect(),
    }
}

/// The same counts with what the metrics say of waiting and active jobs in their place.
pub fn by_metrics(metrics: &str, counts: &Counts) -> Counts {
    let gauge = |name: &str, queue: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{queue=\"{queue}\"}} ")));
        line.and_then(|value| value.trim().parse::<f64>().ok()).map_or(u64::MAX, |value| value as u64)
    };
    let mut found = counts.clone();
    for (queue, of) in &mut found {
        of[0] = gauge("queue_jobs_waiting", queue);
        of[2] = gauge("queue_jobs_active", queue);
    }
    found
}

/// Counts as the file has them, after it was checked.
///
/// # Errors
/// When it is damaged, or holds half a job.
pub fn in_file(path: &Path, queues: &[String]) -> Result<Counts, String> {
    let output = Command::new("python3").args(["-c", READ_FILE]).arg(path).output().map_err(|e| e.to_string())?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr)))?;
    if told["check"] != "ok" || told["without"] != 0 || told["orphans"] != 0 {
        return Err(format!("{}: {told}", path.display()));
    }
    let mut counts: Counts = queues.iter().map(|queue| (queue.clone(), [0; 6])).collect();
    for row in told["counts"].as_array().into_iter().flatten() {
        let at = STATES.iter().position(|state| row[1] == **state).ok_or(format!("a state {}", row[1]))?;
        counts.entry(row[0].as_str().unwrap_or_default().to_owned()).or_default()[at] = row[2].as_u64().unwrap_or(0);
    }
    Ok(counts)
}

/// All jobs of these ids that are there.
///
/// # Errors
/// As [`job`].
pub fn jobs(client: &mut Client, ids: impl IntoIterator<Item = u64>) -> Result<BTreeMap<u64, Job>, String> {
    let mut found = BTreeMap::new();
    for id in ids {
        if let Some(job) = job(client, id)? {
            found.insert(id, job);
        }
    }
    Ok(found)
}
