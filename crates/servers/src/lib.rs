//! Private servers for tests: Redis in all its shapes, Postgres with and without PgBouncer, certificates; each on free
//! ports, in a folder of its own, ended by its process id.
//!
//! Invariant: no part of the product, and used by tests alone: tests of the crates and of the binary share it.

pub mod certificates;
pub mod cluster;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod sentinel;
pub mod wait;

pub use certificates::Authority;
pub use cluster::Cluster;
pub use pgbouncer::PgBouncer;
pub use ports::Port;
pub use postgres::Postgres;
pub use redis::{Manner, Redis};
pub use sentinel::Sentinels;
