//! The engine under simulation with a naive model as its judge, the stores under one suite, and the handle as the
//! server uses it.

// Tasks of a test end with its runtime.
#![allow(clippy::disallowed_methods)]

mod ground;
mod handle;
mod image;
mod nodes;
mod push;
mod rates;
mod schedules;
mod simulation;
mod store;
