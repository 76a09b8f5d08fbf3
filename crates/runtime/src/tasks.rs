//! Named tasks on a current-thread runtime, each with a policy for its end.

use std::future::Future;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, LocalSet};

/// What the end of a task means for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// The task is expected to finish by itself.
    Ignore,
    /// The task lives as long as the process: its end is reported and stops the process.
    Stop,
}

/// A task whose policy is `OnEnd::Stop` ended.
#[derive(Debug)]
pub struct TaskEnded {
    pub name: &'static str,
    pub panicked: bool,
}

/// The first end that is heard stops the process; those after it add nothing.
const ENDS_MAX: usize = 1;

/// Spawns tasks and hears of their ends. Must be used inside a `LocalSet`.
#[derive(Debug)]
pub struct Tasks {
    ended: mpsc::Sender<TaskEnded>,
    ends: mpsc::Receiver<TaskEnded>,
}

impl Default for Tasks {
    fn default() -> Self {
        let (ended, ends) = mpsc::channel(ENDS_MAX);
        Tasks { ended, ends }
    }
}

impl Tasks {
    pub fn spawn<F>(&self, name: &'static str, on_end: OnEnd, task: F) -> AbortHandle
    where
        F: Future<Output = ()> + 'static,
    {
        let ended = self.ended.clone();
        let handle = tokio::task::spawn_local(task);
        let abort = handle.abort_handle();
        tokio::task::spawn_local(async move {
            let panicked = match handle.await {
                Ok(()) => false,
                Err(e) => e.is_panic(),
            };
            if panicked || on_end == OnEnd::Stop {
                let _ = ended.try_send(TaskEnded { name, panicked });
            }
        });
        abort
    }

    /// The next end that stops the process: a panic of any task, or the end of an `OnEnd::Stop` task.
    pub async fn unexpected_end(&mut self) -> TaskEnded {
        // `self.ended` is held, so the channel cannot close.
        self.ends.recv().await.unwrap_or(TaskEnded { name: "tasks", panicked: false })
    }
}

/// A runtime whose every task stays on this thread, without the layer of a `LocalSet`: what a core runs on.
pub fn local() -> std::io::Result<tokio::runtime::LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(tokio::runtime::LocalOptions::default())
}

/// What waits for stores, hashes and others' servers, away from cores and control: two workers.
const SERVICE_WORKERS: usize = 2;

pub fn services() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(SERVICE_WORKERS).thread_name("service").enable_all().build()
}

/// A runtime for one thread, as the control thread uses it.
pub fn current_thread() -> std::io::Result<(tokio::runtime::Runtime, LocalSet)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok((runtime, LocalSet::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_end_is_named() {
        let (runtime, local) = current_thread().expect("runtime");
        local.block_on(&runtime, async {
            let mut tasks = Tasks::default();
            tasks.spawn("short", OnEnd::Ignore, async {});
            tasks.spawn("probe", OnEnd::Stop, async {});
            let end = tasks.unexpected_end().await;
            assert_eq!((end.name, end.panicked), ("probe", false));
            tasks.spawn("broken", OnEnd::Ignore, async { panic!("on purpose") });
            let end = tasks.unexpected_end().await;
            assert_eq!((end.name, end.panicked), ("broken", true));
        });
    }
}
