//! What happens to sessions while nobody waits for it: questions of the cores are put to the stores, what was used is
//! written down, what ended is told to others and heard from them, what could not live any more is removed.

// Its tasks live on the service runtime, and end with it.
#![allow(clippy::disallowed_methods)]

use super::id::Hash;
use super::{Order, Sessions, Who};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_store::redis::Heard;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Questions put to the stores at a time; the rest wait in the channel.
const ASKING_MAX: usize = 64;
/// A question that took so long interests nobody any more.
const ASKED_LIMIT: Duration = Duration::from_secs(5);
/// Uses gathered before they are written, in time and in number.
const WRITE_EVERY: Duration = Duration::from_secs(1);
const GATHERED_MAX: usize = 1024;
/// Ticks of `WRITE_EVERY` between two looks for what is to be removed.
const PRUNE_TICKS: u64 = 60;

#[must_use = "no store is asked while it does not run"]
pub struct Upkeep {
    sessions: Arc<Sessions>,
    orders: mpsc::Receiver<Order>,
    asking: Arc<Semaphore>,
    seen: HashMap<Hash, u64>,
}

impl Upkeep {
    pub(super) fn new(sessions: Arc<Sessions>, orders: mpsc::Receiver<Order>) -> Upkeep {
        Upkeep { sessions, orders, asking: Arc::new(Semaphore::new(ASKING_MAX)), seen: HashMap::new() }
    }

    /// On the service runtime, until the end is asked for. `heard`: what comes over [`super::CHANNEL`].
    pub async fn run(mut self, mut heard: Option<mpsc::Receiver<Heard>>, shutdown: Shutdown) {
        let mut ticks = interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count: u64 = 0;
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                order = self.orders.recv() => match order {
                    Some(order) => self.take(order).await,
                    None => break,
                },
                news = listen(&mut heard) => self.hear(&news),
                _ = ticks.tick() => {
                    count += 1;
                    self.write().await;
                    self.tell().await;
                    if count.is_multiple_of(PRUNE_TICKS) {
                        self.prune().await;
                    }
                }
            }
        }
        self.write().await;
    }

    async fn take(&mut self, order: Order) {
        match order {
            Order::Seen(hash, at_s) => {
                self.seen.insert(hash, at_s);
                if self.seen.len() >= GATHERED_MAX {
                    self.write().await;
                }
            }
            Order::Write(answer) => {
                self.write().await;
                let _ = answer.send(());
            }
            Order::Find(_, answer) if answer.is_closed() => {}
            Order::Find(hash, answer) => {
                let Ok(turn) = self.asking.clone().acquire_owned().await else { return };
                let sessions = self.sessions.clone();
                tokio::spawn(async move {
                    let _turn = turn;
                    let who = timeout(ASKED_LIMIT, asked(&sessions, hash)).await;
                    let _ = answer.send(who.unwrap_or(Who::Unsaid));
                });
            }
        }
    }

    fn hear(&self, news: &Heard) {
        match news {
            Heard::Message { payload, .. } => {
                if let Some(hash) = Hash::parse(payload) {
                    self.sessions.table.end(hash);
                }
            }
            Heard::Gap => {
                self.sessions.table.doubt();
                // What ended while the link was away, by whichever node, is told to whom was away too.
                self.sessions.owes.store(true, Relaxed);
            }
        }
    }

    /// Writes down what was used. What a store does not take now is lost: a minute of a session's life.
    async fn write(&mut self) {
        let seen: Vec<(Hash, u64)> = self.seen.drain().collect();
        let (Ok(stores), Some(policy)) = (self.sessions.stores(), self.sessions.policy()) else { return };
        if seen.is_empty() {
            return;
        }
        if let Some(shared) = &stores.shared {
            for (hash, at_s) in &seen {
                let Some(here) = self.sessions.table.peek(*hash) else { continue };
                let left_s = policy.left_s(here.session.begun_s, *at_s, now_s());
                if !self.sessions.noted(shared.seen(*hash, left_s).await) {
                    break;
                }
            }
        }
        if let Err(error) = stores.kept.seen(&seen).await {
            tracing::debug!(%error, "when sessions were used last is not written down");
        }
    }

    /// Tells Redis of what ended, where it was not told.
    async fn tell(&self) {
        let sessions = &self.sessions;
        if !sessions.owes.swap(false, Relaxed) {
            return;
        }
        let (Ok(stores), Some(policy)) = (sessions.stores(), sessions.policy()) else { return };
        let Some(shared) = &stores.shared else { return };
        let Ok(ended) = stores.kept.ended(now_s().saturating_sub(policy.life_s)).await else {
            return sessions.owes.store(true, Relaxed);
        };
        for hash in ended {
            if !sessions.noted(shared.end(hash, &policy).await) {
                return sessions.owes.store(true, Relaxed);
            }
        }
    }

    async fn prune(&self) {
        let (Ok(stores), Some(policy)) = (self.sessions.stores(), self.sessions.policy()) else { return };
        if let Err(error) = stores.kept.prune(now_s().saturating_sub(policy.life_s)).await {
            tracing::debug!(%error, "sessions that are over are not removed for now");
        }
    }
}

async fn asked(sessions: &Sessions, hash: Hash) -> Who {
    // Of a server that has just begun: its store opens in a moment.
    if sessions.opened.subscribe().wait_for(|opened| *opened).await.is_err() {
        return Who::Unsaid;
    }
    sessions.ask(hash, now_s()).await.unwrap_or(Who::Unsaid)
}

async fn listen(heard: &mut Option<mpsc::Receiver<Heard>>) -> Heard {
    match heard {
        Some(receiver) => match receiver.recv().await {
            Some(news) => news,
            None => {
                *heard = None;
                std::future::pending().await
            }
        },
        None => std::future::pending().await,
    }
}

fn now_s() -> u64 {
    Clock::unix_micros() / 1_000_000
}
