//! What happens to jobs, whoever does it: read from BullMQ's stream of events, and counted.

use super::{Bull, queue::Queue};
use crate::event::{Event, What};
use bullmq::{QueueEvent, QueueEvents, QueueEventsOptions};
use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Between two looks at how many wait.
const DEPTH_EVERY: Duration = Duration::from_secs(1);
/// Jobs of a queue that are known to run: of those a delay is the wait before the next attempt.
const RUNNING_MAX: usize = 65_536;

impl Bull {
    /// Hears of a queue until it is closed.
    pub(super) async fn hear(self: &Arc<Bull>, queue: &Arc<Queue>) -> Result<(), crate::Error> {
        let options = QueueEventsOptions { connection: self.link.clone(), ..QueueEventsOptions::default() };
        let listening = QueueEvents::with_connection(&queue.name, self.conn.clone(), options);
        let listening = self.asked(listening).await?;
        self.tasks(told(Arc::downgrade(self), Arc::downgrade(queue), listening));
        self.tasks(watched(Arc::downgrade(self), Arc::downgrade(queue)));
        Ok(())
    }

    pub(super) fn tell(&self, queue: &Queue, job: u64, what: What) {
        queue.count(&what);
        let event = Event { queue: queue.name.clone(), job, at_ms: self.clock.wall_ms(), what };
        // Nobody may listen.
        let _ = self.events.send(event);
    }
}

async fn told(bull: Weak<Bull>, queue: Weak<Queue>, listening: QueueEvents) {
    let mut running = HashSet::new();
    while let Some(entry) = listening.next_event().await {
        let (Some(bull), Some(queue)) = (bull.upgrade(), queue.upgrade()) else { return };
        let Some(what) = read(&entry.event, &mut running, bull.clock.wall_ms()) else { continue };
        let job = entry.event.job_id().map_or(0, |id| bull.number(queue.index, id));
        bull.tell(&queue, job, what);
    }
}

/// What it is to us; `running` are the ids of jobs that run.
fn read(event: &QueueEvent, running: &mut HashSet<String>, now_ms: u64) -> Option<What> {
    Some(match event {
        QueueEvent::Added { .. } => What::Added,
        QueueEvent::Active { job_id, .. } => {
            if running.len() < RUNNING_MAX {
                running.insert(job_id.clone());
            }
            // Which start it is the stream does not say.
            What::Started { start: 0 }
        }
        QueueEvent::Completed { job_id, .. } => {
            running.remove(job_id);
            What::Completed
        }
        QueueEvent::Failed { job_id, .. } => {
            running.remove(job_id);
            What::Failed
        }
        QueueEvent::Stalled { job_id } => {
            running.remove(job_id);
            What::Stalled
        }
        // Of one that was put off when it was added that is no news.
        QueueEvent::Delayed { job_id, delay } => {
            running.remove(job_id).then_some(())?;
            What::Retried { wait_ms: u64::try_from(*delay).unwrap_or(0).saturating_sub(now_ms) }
        }
        QueueEvent::Waiting { job_id, prev } if prev.as_deref() == Some("active") => {
            running.remove(job_id).then_some(())?;
            What::Released
        }
        QueueEvent::Waiting { prev, .. } if prev.as_deref() == Some("failed") => What::Revived,
        QueueEvent::Progress { .. } => What::Progress,
        QueueEvent::Removed { job_id, .. } => {
            running.remove(job_id);
            What::Removed
        }
        QueueEvent::Paused => What::Paused,
        QueueEvent::Resumed => What::Resumed,
        QueueEvent::Drained => What::Drained,
        _ => return None,
    })
}

/// Whether it wants workers; and its own is told again that there is room.
async fn watched(bull: Weak<Bull>, queue: Weak<Queue>) {
    loop {
        tokio::time::sleep(DEPTH_EVERY).await;
        let (Some(bull), Some(queue)) = (bull.upgrade(), queue.upgrade()) else { return };
        queue.nudge();
        let Ok(counts) = bull.counts(&queue).await else { continue };
        if let Some(is_short) = queue.turned(counts.waiting, counts.active) {
            bull.tell(&queue, 0, What::Short(is_short));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_the_wait_of_a_retry_where_the_job_ran() {
        let mut running = HashSet::new();
        let job_id = || "7".to_owned();
        let delayed = QueueEvent::Delayed { job_id: job_id(), delay: 1500 };
        assert_eq!(read(&delayed, &mut running, 1000), None);
        let active = QueueEvent::Active { job_id: job_id(), prev: None };
        assert_eq!(read(&active, &mut running, 1000), Some(What::Started { start: 0 }));
        assert_eq!(read(&delayed, &mut running, 1000), Some(What::Retried { wait_ms: 500 }));
        read(&active, &mut running, 1000);
        let back = QueueEvent::Waiting { job_id: job_id(), prev: Some("active".to_owned()) };
        assert_eq!(read(&back, &mut running, 1000), Some(What::Released));
        assert_eq!(read(&back, &mut running, 1000), None);
        assert!(running.is_empty());
    }
}
