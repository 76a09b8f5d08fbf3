//! The thread that jobs live on: one runtime, on it the engine, and beside it whoever asks it most. Who asks from there
//! wakes no other thread, and neither does the answer.
//!
//! Invariant: what runs here is run to its end before the thread ends. Must not be blocked on from this thread itself.

use std::future::Future;
use std::io;
use std::pin::Pin;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Futures that wait to be begun: an engine and a listener or two.
const BEGUN_MAX: usize = 8;

type Begin = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The thread ends once all clones are dropped and what runs on it has ended.
#[derive(Clone, Debug)]
pub struct Home(mpsc::Sender<Begin>);

impl Home {
    /// # Errors
    /// When there is no thread or no descriptor to be had.
    pub fn start() -> io::Result<Home> {
        let (begins, begun) = mpsc::channel(BEGUN_MAX);
        let (built, is_built) = std::sync::mpsc::sync_channel(1);
        // A runtime whose tasks stay on its thread cannot be made on another.
        let work = move || match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = built.send(Ok(()));
                live(&runtime, begun);
            }
            Err(error) => drop(built.send(Err(error))),
        };
        std::thread::Builder::new().name("jobs".to_owned()).spawn(work)?;
        is_built.recv().unwrap_or_else(|_| Err(io::Error::other("the thread of jobs did not begin")))?;
        Ok(Home(begins))
    }

    /// Makes a future on the thread and runs it there.
    ///
    /// # Errors
    /// When the thread is gone, or does not come to what it is to begin.
    pub fn run<F: Future<Output = ()> + 'static>(&self, make: impl FnOnce() -> F + Send + 'static) -> io::Result<()> {
        let begin: Begin = Box::new(move || Box::pin(make()));
        self.0.try_send(begin).map_err(|_| io::Error::other("the thread of jobs takes nothing more"))
    }
}

/// Until nobody can begin anything, and what was begun has ended.
fn live(runtime: &LocalRuntime, mut begun: mpsc::Receiver<Begin>) {
    runtime.block_on(async {
        let mut running = JoinSet::new();
        while let Some(begin) = begun.recv().await {
            // One that panics is told by what it held.
            while running.try_join_next().is_some() {}
            running.spawn_local(begin());
        }
        while running.join_next().await.is_some() {}
    });
}
