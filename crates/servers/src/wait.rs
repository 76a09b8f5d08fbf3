//! Waiting on a condition, never on time: every wait has the same bound and says what it waited for.

use std::time::{Duration, Instant};

/// A loaded machine with two cores starts `npm` in a few seconds; whatever takes longer than this is broken.
pub const BOUND: Duration = Duration::from_secs(30);
/// Short enough not to slow a test down, long enough not to load the machine.
const STEP: Duration = Duration::from_millis(10);

/// Polls until `look` gives a value, and gives it with the time it took. `None` past the bound.
pub fn poll<T>(bound: Duration, mut look: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = look() {
            return Some((value, start.elapsed()));
        }
        if start.elapsed() > bound {
            return None;
        }
        pause(STEP);
    }
}

/// The pace of a client under load, or of a slow app; never a wait for something to happen.
#[allow(clippy::disallowed_methods)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits for a value.
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match poll(BOUND, look) {
        Some((value, _)) => value,
        None => panic!("waited {} s in vain: {what}", BOUND.as_secs()),
    }
}

/// Waits for a condition; the time it took is returned so that a test can print it.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    match poll(BOUND, || holds().then_some(())) {
        Some(((), took)) => took,
        None => panic!("waited {} s in vain: {what}", BOUND.as_secs()),
    }
}
