//! Units, one parser each. Pure.

mod duration;
mod number;
mod range;
mod rate;
mod size;

pub use duration::{MAX_DURATION, duration, show_duration};
pub use range::range;
pub use rate::{MAX_COUNT, MAX_WINDOW, Per, Rate, rate, show_rate};
pub use size::{show_size, size};
