//! What every block needs to run: shutdown, named tasks, a clock that can be replaced.
//!
//! Invariant: this crate holds no word of the product's domain.

mod clock;
mod shutdown;
mod tasks;

pub use clock::{Clock, Millis};
pub use shutdown::{Shutdown, Trigger};
pub use tasks::{OnEnd, TaskEnded, Tasks, current_thread, local, services};
