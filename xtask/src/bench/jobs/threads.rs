//! Mainstay's API asked by threads of this process, for a client that costs less than Node's: the same calls over the
//! same kept connections. Printed apart, for the peers have no such client here.

use crate::{keepalive, process};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Jobs of one call, as in the scripts.
const BULK: u64 = 1000;
const QUEUE: &str = "bench";

/// Where Mainstay's jobs are asked for, and the token for it.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    token: String,
}

/// Without the token.
impl std::fmt::Debug for Api {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Api").field(&self.address).finish()
    }
}

impl Api {
    /// From what the app was given.
    pub fn new(given: &Value) -> Result<Api> {
        let url = given["url"].as_str().context("the app was given no MAINSTAY_URL")?;
        let token = given["token"].as_str().context("the app was given no MAINSTAY_TOKEN")?;
        let address = url.strip_prefix("http://").context("no http:// address")?.parse()?;
        Ok(Api { address, token: token.to_owned() })
    }

    /// For a script.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("MAINSTAY_URL", format!("http://{}", self.address)), ("MAINSTAY_TOKEN", self.token.clone())]
    }

    /// Jobs of a queue that have not ended.
    pub fn left(&self, queue: &str) -> Result<u64> {
        let queues = Caller::new(self)?.call("GET", "/v1/queues", "")?;
        let all = queues["queues"].as_array().context("no queues")?;
        let of = all.iter().find(|one| one["name"] == queue).with_context(|| format!("there is no queue {queue}"))?;
        Ok(["waiting", "delayed", "active"].iter().filter_map(|state| of[*state].as_u64()).sum())
    }
}

/// One kept connection.
struct Caller<'a> {
    api: &'a Api,
    client: keepalive::Client,
}

impl Caller<'_> {
    fn new(api: &Api) -> Result<Caller<'_>> {
        Ok(Caller { api, client: keepalive::Client::connect(api.address)? })
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let Api { address, token } = self.api;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, answer) = self.client.exchange(request.as_bytes())?;
        ensure!((200..300).contains(&status), "{path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }

    fn post(&mut self, path: &str, body: &str) -> Result<Value> {
        self.call("POST", path, body)
    }
}

#[derive(Debug)]
pub struct Threads {
    api: Api,
    added: AtomicU64,
    /// By number.
    starts: Vec<u8>,
}

impl Threads {
    pub fn new(api: Api) -> Threads {
        Threads { api, added: AtomicU64::new(0), starts: Vec::new() }
    }

    /// The same words as the scripts': `add` and `process`.
    pub fn ask(&mut self, asked: &Value) -> Result<Value> {
        let number = |name: &str| asked[name].as_u64().unwrap_or(1);
        let own = [std::process::id()];
        let (cpu, began) = (process::cpu_micros_of(&own)?, Instant::now());
        let is_processing = asked["do"] == "process";
        match asked["do"].as_str() {
            Some("add") => self.add(number("count"), number("flight"), asked["bulk"] == true)?,
            Some("process") => self.process(number("concurrency"), number("workers"))?,
            _ => bail!("no such word: {asked}"),
        }
        let seconds = began.elapsed().as_secs_f64();
        let used = process::cpu_micros_of(&own)?.saturating_sub(cpu);
        if is_processing {
            self.check()?;
        }
        Ok(json!({ "seconds": seconds, "cpu_us": used }))
    }

    fn add(&mut self, count: u64, flight: u64, is_bulk: bool) -> Result<()> {
        let (first, size) = (self.added.load(Ordering::Relaxed), if is_bulk { BULK } else { 1 });
        let end = first + count;
        let (added, api) = (&self.added, &self.api);
        let one = || -> Result<()> {
            let mut caller = Caller::new(api)?;
            let path = format!("/v1/queues/{QUEUE}/jobs");
            loop {
                let from = added.fetch_add(size, Ordering::Relaxed);
                if from >= end {
                    return Ok(());
                }
                let jobs: Vec<String> = (from..(from + size).min(end)).map(job).collect();
                caller.post(&path, &if is_bulk { format!("[{}]", jobs.join(",")) } else { jobs.concat() })?;
            }
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..flight).map(|_| scope.spawn(one)).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread died"))?)
        })?;
        self.added.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Each worker's call ends what it took and takes as many again, as the script's worker does, until none is left.
    fn process(&mut self, concurrency: u64, workers: u64) -> Result<()> {
        let added = self.added.load(Ordering::Relaxed) as usize;
        self.starts.resize(added, 0);
        let api = &self.api;
        let started = std::thread::scope(|scope| {
            let begin = |number| scope.spawn(move || worked(api, &format!("threads-{number}"), concurrency));
            let threads: Vec<_> = (0..workers).map(begin).collect();
            let joined =
                threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread died"))?);
            joined.collect::<Result<Vec<Vec<u64>>>>()
        })?;
        for number in started.into_iter().flatten() {
            *self.starts.get_mut(number as usize).context("a job that was not added")? += 1;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let once = self.starts.iter().filter(|starts| **starts == 1).count();
        let left = self.api.left(QUEUE)?;
        ensure!(
            once == self.starts.len() && left == 0,
            "{once} of {} jobs ran once, {left} are left",
            self.starts.len()
        );
        Ok(())
    }
}

/// The numbers of the jobs that a worker started, each of which it ended.
fn worked(api: &Api, worker: &str, concurrency: u64) -> Result<Vec<u64>> {
    let mut caller = Caller::new(api)?;
    let take = json!({ "worker": worker, "max": concurrency, "waitMs": 0 });
    let next = json!({ "queue": QUEUE, "worker": worker, "max": concurrency, "waitMs": 0 });
    let mut answer = caller.post(&format!("/v1/queues/{QUEUE}/claim"), &take.to_string())?;
    let mut started = Vec::new();
    loop {
        let jobs = answer["jobs"].as_array().context("no jobs")?;
        if jobs.is_empty() {
            return Ok(started);
        }
        let mut ends = Vec::with_capacity(jobs.len());
        for job in jobs {
            started.push(job["data"]["n"].as_u64().context("a job without its number")?);
            ends.push(json!({ "id": job["id"], "token": job["token"], "result": null }));
        }
        let body = json!({ "ends": ends, "next": next });
        answer = caller.post("/v1/jobs/finish", &body.to_string())?;
        let told = answer["ends"].as_array().context("no ends")?;
        ensure!(told.iter().all(|end| end["ok"] == true), "not ended: {told:?}");
    }
}

/// As the scripts' job: about 100 bytes of data.
fn job(number: u64) -> String {
    const URL: &str = "https://example.com/files/report-2026.pdf";
    format!(r#"{{"name":"job","data":{{"n":{number},"at":1234567.123456,"url":"{URL}","user":"u-1042"}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_json_of_about_100_bytes() {
        let job: Value = serde_json::from_str(&job(123_456)).unwrap();
        assert_eq!(job["data"]["n"], 123_456);
        assert!((90..=110).contains(&job["data"].to_string().len()));
    }

    #[test]
    fn a_token_is_not_shown() {
        let api = Api::new(&json!({ "url": "http://127.0.0.1:1", "token": "secret" })).unwrap();
        assert!(!format!("{api:?}").contains("secret"));
    }
}
