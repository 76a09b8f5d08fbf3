//! What accounts do by themselves: learn what was revoked, at the start and by other nodes; hand over mails; forget
//! what is past its time.

use super::grant::now_us;
use super::store::{PRUNED_AT_A_TIME, REVOCATIONS_AT_A_TIME};
use super::{Accounts, Fault, seconds};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// A node that nobody told by Redis learns of a revocation this late.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Between two attempts to read what was revoked at the start: nobody is let in meanwhile.
const LOAD_EVERY: Duration = Duration::from_millis(250);
/// A transaction that began before others may end after them: so far back is read again.
const OVERLAP_US: i64 = 30 * 1_000_000;

impl Accounts {
    /// Lives as long as this configuration.
    pub async fn upkeep(&self) {
        let mut loading = interval(LOAD_EVERY);
        let mut since_us = loop {
            loading.tick().await;
            match self.learn(0).await {
                Ok(since_us) => break since_us,
                Err(_) => self.revoked.is_late(),
            }
        };
        self.revoked.loaded();
        let (mut looking, mut pruning) = (interval(LOOK_EVERY), interval(PRUNE_EVERY));
        looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One configuration's at a time.
        let mut wished = self.kept.wished.lock().await;
        loop {
            tokio::select! {
                Some(wish) = wished.recv() => drop(self.fulfil(wish, now_us()).await),
                _ = looking.tick() => {
                    // What cannot be read now is read by the next look.
                    since_us = self.learn(since_us.saturating_sub(OVERLAP_US)).await.unwrap_or(since_us);
                }
                _ = pruning.tick() => drop(self.prune().await),
            }
        }
    }

    /// Everything that was revoked after this time, into the table that the edge asks. Gives the latest time seen.
    async fn learn(&self, mut since_us: i64) -> Result<i64, Fault> {
        loop {
            let now_us = now_us();
            let found = self.store.revocations(since_us, now_us / 1_000_000).await?;
            for (_, revocation) in &found {
                self.revoked.insert(revocation, seconds(now_us));
            }
            let before_us = since_us;
            since_us = found.last().map_or(since_us, |(at_us, _)| since_us.max(*at_us));
            // A full page of one instant would be read for ever.
            if i64::try_from(found.len()).unwrap_or(i64::MAX) < REVOCATIONS_AT_A_TIME || since_us == before_us {
                return Ok(since_us);
            }
            // The page may have ended in the middle of that instant.
            since_us -= 1;
            if since_us == before_us {
                return Ok(since_us);
            }
        }
    }

    async fn prune(&self) -> Result<(), Fault> {
        let now_us = now_us();
        self.revoked.forget(seconds(now_us));
        while self.store.prune(now_us).await? >= u64::try_from(PRUNED_AT_A_TIME).unwrap_or(1) {}
        Ok(())
    }
}
