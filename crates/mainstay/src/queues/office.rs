//! What is done by the one node that decides: its file is in force, hooks are told, and what a process that is gone was
//! pushing is given to others.

use super::WORKER;
use crate::hooks;
use mainstay_jobs::{Jobs, Name, Options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between looks at who pushes no more.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Before the names of schedules that stand in the file.
const OF_THE_FILE: &str = "file:";

/// A task that ends with what it is held by.
pub struct Ended(pub JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// For as long as jobs are open.
pub struct Office {
    jobs: Jobs,
    options: watch::Receiver<Arc<Options>>,
    /// Other nodes push too.
    is_shared: bool,
    worker: Name,
    /// The file is not in force yet.
    is_new: bool,
    hooks: Option<Ended>,
    /// Who pushes, or did, and is not of this process; `true`: given up.
    strays: BTreeMap<Name, bool>,
}

impl Office {
    /// `is_shared`: other nodes may push too.
    pub fn new(jobs: Jobs, options: watch::Receiver<Arc<Options>>, is_shared: bool, worker: Name) -> Office {
        Office { jobs, options, is_shared, worker, is_new: true, hooks: None, strays: BTreeMap::new() }
    }

    /// For as long as jobs are open.
    pub async fn run(mut self) {
        let mut decides = self.jobs.deciding();
        loop {
            self.settle().await;
            tokio::select! {
                Ok(()) = decides.changed() => {}
                Ok(()) = self.options.changed() => self.is_new = true,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn settle(&mut self) {
        if !self.jobs.decides() {
            // The one that takes over says everything anew.
            (self.is_new, self.hooks) = (true, None);
            self.strays.clear();
            return;
        }
        if std::mem::take(&mut self.is_new) {
            let options = self.options.borrow_and_update().clone();
            configured(&self.jobs, &options).await;
        }
        if self.hooks.is_none() {
            self.hooks = Some(Ended(tokio::spawn(hooks::run(self.jobs.clone(), self.options.clone()))));
        }
        self.give_up().await;
    }

    /// What a process that is gone was pushing: its connections ended with it, and nobody will say what became of them.
    async fn give_up(&mut self) {
        let Ok(workers) = self.jobs.workers().await else { return };
        let others: BTreeMap<Name, String> = workers
            .into_iter()
            .filter(|name| *name != self.worker)
            .filter_map(|name| folder(&name).map(|folder| (name.clone(), folder.to_owned())))
            .collect();
        self.strays.retain(|name, _| others.contains_key(name));
        for (name, of) in others {
            // Of one folder no two run.
            let is_own = folder(&self.worker) == Some(&of) || !self.is_shared;
            if !self.strays.contains_key(&name) && !is_own {
                self.jobs.expect(&name);
            }
            let is_given_up = self.strays.entry(name.clone()).or_insert(false);
            if !is_own && self.jobs.is_heard(&name) {
                *is_given_up = false;
            } else if !*is_given_up {
                *is_given_up = self.jobs.disconnect(&name).await.is_ok();
            }
        }
    }
}

/// The data folder of who pushes under this name, as [`Queues::new`] makes it; nothing of a worker who pulls.
fn folder(name: &str) -> Option<&str> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (folder, rest) = name.strip_prefix(WORKER)?.strip_prefix(' ')?.split_once(':')?;
    rest.split_once(' ').filter(|(boot, process)| is_number(boot) && is_number(process)).map(|_| folder)
}

/// Every queue as the file has it, and the file's schedules: those it has, and no longer those it had, whoever ran with
/// that file. Others, set by an operator, stay as they are.
async fn configured(jobs: &Jobs, options: &Options) {
    for queue in &options.queues {
        if let Err(error) = jobs.configure(&queue.name, queue.settings.clone()).await {
            tracing::error!(queue = &*queue.name, %error, "a queue goes on as it was");
        }
    }
    let wall_ms = mainstay_runtime::Clock::unix_micros() / 1000;
    let mut stays: Vec<Name> = Vec::new();
    for queue in &options.queues {
        for planned in &queue.schedules {
            let named = mainstay_jobs::options::Planned {
                name: format!("{OF_THE_FILE}{}", planned.name).as_str().into(),
                ..planned.clone()
            };
            stays.push(named.name.clone());
            let set = match named.schedule(&queue.name, wall_ms) {
                Ok(schedule) => jobs.schedule(schedule).await,
                Err(refusal) => Err(refusal.into()),
            };
            if let Err(error) = set {
                tracing::error!(schedule = &*planned.name, at = planned.at, %error, "a schedule does not run");
            }
        }
    }
    for known in jobs.schedules().await.unwrap_or_default() {
        if known.name.starts_with(OF_THE_FILE) && !stays.contains(&known.name) {
            let _ = jobs.unschedule(&known.name).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::folder;

    #[test]
    fn who_pushes_is_known_by_his_name_and_who_pulls_is_not() {
        assert_eq!(folder("push 9f3c:12 4711"), Some("9f3c"));
        for name in ["push 9f3c:12", "push 9f3c", "push 1", "pushing a:1 2", "push a:b 2", "push a:1 ", "w1", ""] {
            assert_eq!(folder(name), None, "{name}");
        }
    }
}
