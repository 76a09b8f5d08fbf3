//! Installs the packages of the fixtures and says where: `cargo xtask test` runs it before the tests, which would
//! otherwise install them themselves.

use mainstay_e2e::fixtures;

fn main() {
    println!("install  packages of the fixtures, where they are missing");
    println!("         {}", fixtures::node_modules().display());
    println!("         {}", fixtures::bullmq_modules().display());
    println!("         {}", fixtures::python().display());
}
