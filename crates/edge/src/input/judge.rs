//! Reading and checking a body: a small one where it is, a large one on threads of their own, so that a core is never
//! busy with one request for long.

use super::json;
use super::problem::{Place, Problem};
use super::schema::Schema;
use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot};

/// Checked on the core itself: some tenths of a millisecond (`docs/input.md` has the numbers).
const ON_CORE_BYTES_MAX: usize = 16 * 1024;
/// Of a broken one, what breaks it is found there too: naming costs ten times what checking does.
const TOLD_ON_CORE_BYTES_MAX: usize = 2 * 1024;
/// Of a broken body with more values only the first fault is told: all of them would cost a second.
const TOLD_VALUES_MAX: usize = 20_000;
/// Large bodies are rare; two of them at once leave the cores their time.
const THREADS: usize = 2;
/// Large bodies that wait, over all cores; one more is told that we are busy.
const JOBS_MAX: usize = 256;

type Schemas = Vec<Arc<Schema>>;

struct Job {
    body: Bytes,
    schemas: Schemas,
    answer: oneshot::Sender<Result<Judged, Failed>>,
}

/// What breaks a body.
#[derive(Debug, Default)]
pub struct Judged {
    pub problem: Problem,
    /// Which schema was the first to be broken.
    pub first: usize,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Judges(Arc<Inner>);

struct Inner {
    jobs: mpsc::Sender<Job>,
    /// Taken by the threads when they start.
    waiting: Mutex<Option<mpsc::Receiver<Job>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// Too many wait.
    Busy,
    /// A fault of ours; the body is not let through.
    Broken,
}

impl std::fmt::Debug for Judges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Judges")
    }
}

impl Default for Judges {
    fn default() -> Judges {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        Judges(Arc::new(Inner { jobs, waiting: Mutex::new(Some(waiting)) }))
    }
}

impl Judges {
    /// The bodies of the threads; none the second time.
    pub fn threads(&self) -> Vec<impl FnOnce() + Send + 'static> {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = waiting.map(|w| Arc::new(Mutex::new(w)));
        let one = |waiting: &Arc<Mutex<mpsc::Receiver<Job>>>| {
            let waiting = waiting.clone();
            move || {
                loop {
                    let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(Job { body, schemas, answer }) = job else { return };
                    let _ = answer.send(guarded(|| judged(&body, &schemas)));
                }
            }
        };
        shared.iter().flat_map(|w| (0..THREADS).map(move |_| one(w))).collect()
    }

    /// What of a body breaks any of the schemas.
    pub async fn judge(&self, body: Bytes, schemas: Schemas) -> Result<Judged, Failed> {
        if body.len() <= TOLD_ON_CORE_BYTES_MAX {
            return guarded(|| judged(&body, &schemas));
        }
        if body.len() <= ON_CORE_BYTES_MAX && guarded(|| passes(&body, &schemas))? {
            return Ok(Judged::default());
        }
        let (answer, judged) = oneshot::channel();
        self.0.jobs.try_send(Job { body, schemas, answer }).map_err(|_| Failed::Busy)?;
        judged.await.unwrap_or(Err(Failed::Broken))
    }
}

/// A fault within a schema's library costs this request, not its thread.
fn guarded<T>(judge: impl FnOnce() -> T) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(judge)).map_err(|_| Failed::Broken)
}

fn passes(body: &[u8], schemas: &[Arc<Schema>]) -> bool {
    json::read(body).is_ok_and(|mut value| schemas.iter().all(|schema| schema.allows(&mut value)))
}

pub fn judged(body: &[u8], schemas: &[Arc<Schema>]) -> Judged {
    let mut judged = Judged::default();
    match json::read_counted(body) {
        Ok((mut value, count)) => {
            for (i, schema) in schemas.iter().enumerate() {
                if judged.problem.is_empty() {
                    judged.first = i;
                }
                let mut own = Problem::default();
                if count <= TOLD_VALUES_MAX {
                    schema.check(&mut value, Place::Body, "", &mut own);
                } else {
                    schema.check_first(&mut value, &mut own);
                }
                judged.problem.append(own);
            }
        }
        Err(broken) => judged.problem.add(Place::Body, &broken.path, format!("is not JSON: {}", broken.what)),
    }
    judged
}
