//! One request on its way to the app for a key, and those that wait for what it brings.

use super::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest wait of one request for another's answer, in all. Then it goes on by itself: a client that reads slowly
/// holds nobody up for longer.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Requests that wait for one other; more go on at once.
const WAITERS_MAX: u32 = 1024;

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    Open = 0,
    /// Broken off: whoever waits looks again, and one of them goes.
    Again = 1,
    Stored = 2,
    /// Not to be stored: all go on by themselves.
    GoOn = 3,
}

/// Shared by its one leader and those that wait.
#[derive(Debug, Default)]
pub struct Flight {
    /// What the leader's request is told apart by, where that is known already; `None` stands for all.
    pub selecting: Option<Box<[u8]>>,
    end: AtomicU8,
    /// Something changed at the app since it left: its answer is not stored.
    tainted: AtomicBool,
    waiters: AtomicU32,
    done: Notify,
}

impl Flight {
    pub fn new(selecting: Option<&[u8]>) -> Arc<Flight> {
        Arc::new(Flight { selecting: selecting.map(Into::into), ..Flight::default() })
    }

    pub fn taint(&self) {
        self.tainted.store(true, SeqCst);
    }

    pub fn is_tainted(&self) -> bool {
        self.tainted.load(SeqCst)
    }

    fn ended(&self) -> End {
        match self.end.load(SeqCst) {
            0 => End::Open,
            1 => End::Again,
            2 => End::Stored,
            _ => End::GoOn,
        }
    }

    pub fn finish(&self, end: End) {
        self.end.store(end as u8, SeqCst);
        self.done.notify_waiters();
    }

    /// A place among those that wait; `None` if there are too many.
    pub fn join(self: &Arc<Flight>) -> Option<Waiting> {
        let waiting = Waiting(self.clone());
        let before = self.waiters.fetch_add(1, SeqCst);
        (before < WAITERS_MAX).then_some(waiting)
    }
}

/// One that waits; counted until dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Flight>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, SeqCst);
    }
}

impl Waiting {
    pub fn flight(&self) -> &Arc<Flight> {
        &self.0
    }

    /// `Open` where it has not ended within `limit`.
    pub async fn end(&self, limit: Duration) -> End {
        let flight = &self.0;
        let ended = async {
            loop {
                let mut told = std::pin::pin!(flight.done.notified());
                // Enlisted before the look, so that nothing is missed between the two.
                told.as_mut().enable();
                match flight.ended() {
                    End::Open => told.await,
                    end => return end,
                }
            }
        };
        tokio::time::timeout(limit, ended).await.unwrap_or(End::Open)
    }
}

/// The leader's side. Dropped without a word, it was broken off.
#[derive(Debug)]
pub struct Flying {
    store: Arc<Store>,
    pub key: Arc<[u8]>,
    pub flight: Arc<Flight>,
    ended: bool,
}

impl Flying {
    pub fn new(store: Arc<Store>, key: Arc<[u8]>, flight: Arc<Flight>) -> Flying {
        Flying { store, key, flight, ended: false }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// After `GoOn` nobody waits for this key for a while.
    pub fn end(mut self, end: End, now_ms: u64) {
        self.over(end, now_ms);
    }

    fn over(&mut self, end: End, now_ms: u64) {
        if !std::mem::replace(&mut self.ended, true) {
            self.store.landed(&self.key, &self.flight, end, now_ms);
            self.flight.finish(end);
        }
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.over(End::Again, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_once_and_places_are_bounded() {
        let flight = Flight::new(None);
        let places: Vec<_> = (0..WAITERS_MAX).map(|_| flight.join().expect("a place")).collect();
        assert!(flight.join().is_none());
        drop(places);
        let waiting = flight.join().expect("a place again");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let other = flight.clone();
        let thread = std::thread::spawn(move || other.finish(End::Stored));
        assert_eq!(runtime.block_on(waiting.end(Duration::from_secs(30))), End::Stored);
        thread.join().expect("thread");
        let late = flight.join().expect("a place");
        assert_eq!(runtime.block_on(late.end(Duration::from_secs(30))), End::Stored, "who comes late is told too");
    }
}
