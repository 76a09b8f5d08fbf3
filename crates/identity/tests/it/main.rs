//! Accounts and sessions as their clients meet them, on both stores: what holds on one holds on the other.

// Tasks of a test end with its runtime.
#![allow(clippy::disallowed_methods)]

mod accounts;
mod factors;
mod floods;
mod place;
mod providers;
mod refresh;
mod sessions;
