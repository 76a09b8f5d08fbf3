//! Who adds jobs: over HTTP, each add with its idempotency key, asked again with the same key until it is acknowledged
//! or its producer leaves. All of it is in the journal.

use super::Dice;
use super::client::Client;
use super::journal::{Journal, Line, What};
use crate::wait::pause;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Before an add is repeated.
const AGAIN: Duration = Duration::from_millis(50);
/// One that is not acknowledged by then is a fault of its own.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Of a hundred that are not answered, so many are never asked again.
const LEAVES: u64 = 15;

/// One request.
#[derive(Clone, Debug)]
pub struct Add {
    pub queue: &'static str,
    /// Of each job of it.
    pub keys: Vec<String>,
    pub jobs: Vec<Value>,
    /// So long after the one before.
    pub after: Duration,
    /// Its producer may leave it unacknowledged.
    pub may_leave: bool,
}

impl Add {
    /// One job, with its plan as its payload.
    pub fn one(queue: &'static str, key: &str, fail: u64, ms: u64, after_ms: u64) -> Add {
        let job = json!({ "data": { "key": key, "fail": fail, "ms": ms } });
        let after = Duration::from_millis(after_ms);
        Add { queue, keys: vec![key.to_owned()], jobs: vec![job], after, may_leave: true }
    }

    /// Many jobs of so many bytes: all of them or none are added.
    pub fn many(queue: &'static str, key: &str, count: usize, bytes: usize) -> Add {
        let keys: Vec<String> = (0..count).map(|number| format!("{key}-{number}")).collect();
        let pad = "x".repeat(bytes);
        let jobs = keys.iter().map(|key| json!({ "data": { "key": key, "pad": pad } })).collect();
        Add { queue, keys, jobs, after: Duration::ZERO, may_leave: false }
    }
}

/// Sends them one after the other.
///
/// # Errors
/// Which was not acknowledged in a minute, or was answered in a way that no add is.
pub fn produce(edge: SocketAddr, name: &str, adds: &[Add], journal: &Journal, mut dice: Dice) -> Result<(), String> {
    let mut client = Client::new(edge);
    for add in adds {
        pause(add.after);
        produce_one(&mut client, name, add, journal, &mut dice)?;
    }
    Ok(())
}

/// Sends one until it is acknowledged or left.
///
/// # Errors
/// As [`produce`].
pub fn produce_one(
    client: &mut Client,
    name: &str,
    add: &Add,
    journal: &Journal,
    dice: &mut Dice,
) -> Result<(), String> {
    let line = |what| Line::now(what).queue(add.queue).who(name);
    add.keys.iter().for_each(|key| journal.write(&line(What::Asked).word(key)));
    let body = if let [job] = add.jobs.as_slice() { job.clone() } else { Value::Array(add.jobs.clone()) };
    let began = Instant::now();
    while began.elapsed() < GIVE_UP {
        let why = match client.add(add.queue, &body, &add.keys[0]) {
            Ok((200 | 201, told)) => {
                let ids = ids(&told);
                if ids.len() != add.keys.len() {
                    return Err(format!("{} jobs were added by {told}", add.keys.len()));
                }
                let both = add.keys.iter().zip(ids);
                both.for_each(|(key, id)| journal.write(&line(What::Added).job(id, 0).word(key)));
                return Ok(());
            }
            Ok((status, told)) if is_refusal(status) => format!("{status} {}", told["code"]),
            Ok((status, told)) => return Err(format!("an add to {} was answered {status}: {told}", add.queue)),
            Err(why) => why,
        };
        journal.write(&line(What::Unsure).word(why));
        if add.may_leave && dice.below(100) < LEAVES {
            return Ok(());
        }
        pause(AGAIN);
    }
    Err(format!("{} was not acknowledged in {} s", add.keys[0], GIVE_UP.as_secs()))
}

/// Nothing was done, or the token is of another boot: it may be asked again.
fn is_refusal(status: u16) -> bool {
    matches!(status, 401 | 502 | 503 | 507)
}

fn ids(told: &Value) -> Vec<u64> {
    match told["jobs"].as_array() {
        Some(jobs) => jobs.iter().filter_map(|job| job["id"].as_u64()).collect(),
        None => told["id"].as_u64().into_iter().collect(),
    }
}
