//! The time of the engine: it does not go back while the process runs, and never stands in a future that a jump of the
//! wall clock made up.

use mainstay_runtime::Clock as Process;
use std::sync::Arc;

type Millis = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where the engine's thread looks up what time it is. Cheap to clone.
#[derive(Clone)]
pub struct Clock {
    now: Millis,
    wall: Millis,
}

impl Clock {
    /// Wall time as it was when this was made, and from then on the monotonic clock: waits, leases and rates. Schedules
    /// go by the wall clock itself.
    pub fn system() -> Clock {
        let (wall_us, began_us) = (Process::unix_micros(), Process::micros());
        let now = move || (wall_us + Process::micros().saturating_sub(began_us)) / 1000;
        Clock { now: Arc::new(now), wall: Arc::new(|| Process::unix_micros() / 1000) }
    }

    /// A clock that stands where `now` says, for both: who moves it tells the thread by [`crate::Jobs::tick`].
    pub fn of(now: impl Fn() -> u64 + Send + Sync + 'static) -> Clock {
        let now: Millis = Arc::new(now);
        Clock { wall: now.clone(), now }
    }

    /// Milliseconds since 1970, for the engine.
    pub fn now_ms(&self) -> u64 {
        (self.now)()
    }

    /// Milliseconds since 1970, as everybody reads them.
    pub fn wall_ms(&self) -> u64 {
        (self.wall)()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}
