//! Units, one parser each. Pure.

mod duration;
mod number;
mod range;
mod size;

pub use duration::{MAX_DURATION, duration, show_duration};
pub use range::range;
pub use size::{show_size, size};
