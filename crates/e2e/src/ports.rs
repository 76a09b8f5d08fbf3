//! Free ports, locked by file: the tests of all crates share the locks.

pub use mainstay_servers::ports::Port;
