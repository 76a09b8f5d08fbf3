//! Time as the blocks see it: a monotonic count for waits and limits, wall time for what people read.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on the monotonic clock since this process first asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    pub fn plus(self, d: Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    pub fn since(self, earlier: Millis) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The process clock. Pure decisions take `Millis` as an argument instead of calling this.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

static START: OnceLock<Instant> = OnceLock::new();

impl Clock {
    pub fn now() -> Millis {
        Millis(Self::micros() / 1000)
    }

    /// Microseconds since the process first asked, monotonic.
    pub fn micros() -> u64 {
        let start = START.get_or_init(Instant::now);
        u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Microseconds since the Unix epoch; 0 on a machine whose clock stands before it.
    pub fn unix_micros() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_and_never_underflows() {
        let a = Clock::now();
        let b = Clock::now();
        assert!(b >= a);
        assert_eq!(a.since(a.plus(Duration::from_secs(5))), Duration::ZERO);
        assert_eq!(Millis(u64::MAX).plus(Duration::from_secs(1)), Millis(u64::MAX));
    }
}
