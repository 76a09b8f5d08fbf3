//! The engine under simulation with a naive model as its judge, the stores under one suite, and the handle as the
//! server uses it.

// Tasks of a test end with its runtime.
#![allow(clippy::disallowed_methods)]

#[macro_use]
mod ground;

mod answered;
mod flows;
mod handle;
mod image;
mod nodes;
mod push;
mod rates;
mod resp;
mod schedules;
mod simulation;
mod standby;
mod store;
