//! `cargo xtask`: the project's own commands, one file each. Never part of the product.

mod arguments;
mod bench;
mod count;
mod dist;
mod instance;
mod keepalive;
mod process;
mod soak;
mod test;
mod tools;
mod workspace;

use anyhow::{Result, bail};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [--only unit|it|e2e|tidy] [-- FILTER]
    everything that must hold; as root on Debian it installs what is missing
cargo xtask bench edge [--quick] [--peer nginx,haproxy,caddy] [--only plain,tls,http2,clients,cached,handshake]
                       [--rounds N] [--connections N] [--json]
    CPU a request beside nginx, haproxy and caddy with the same duties; eight minutes
cargo xtask bench idle [--connections 1000,10000] [--json]
    memory at rest and for each idle connection, time to serve
cargo xtask bench lossless [--requests N] [--connections N] [--json]
    requests lost over 100 reloads and 20 upgrades, beside nginx's; fails if one of ours was lost
cargo xtask bench profile [small|tls|http2|handshake|large|large-tls]...
    where the instructions, allocations, system calls and time of a request go, beside nginx
cargo xtask bench limits [--only memory|redis|http] [--json]
    one decision of a rate limit beside the crate governor; a limited request beside nginx's limit_req, and with the
    counts in Redis
cargo xtask bench jobs [--quick] [--only single,fifty,bulk,push,latency,memory,postgres] [--json]
    jobs beside BullMQ (Redis with appendfsync always, and without persistence) and bunqueue; eight minutes
cargo xtask soak jobs [--rounds 1000] [--seed S] [--lanes 12]
    crashes of server, supervisor, worker and app, at named points too; fails if an acknowledged job was lost
cargo xtask count [--json]
    instructions and allocations a request, under valgrind
cargo xtask dist [--only debian|npm] [--out DIR] [--prove]
    the binary, a Debian package and npm packages; --prove installs and serves in a fresh Debian";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test", rest @ ..] => test::run(rest),
        ["bench", "edge", rest @ ..] => bench::edge::run(rest),
        ["bench", "idle", rest @ ..] => bench::idle::run(rest),
        ["bench", "lossless", rest @ ..] => bench::lossless::run(rest),
        ["bench", "profile", rest @ ..] => bench::profile::run(rest),
        ["bench", "limits", rest @ ..] => bench::limits::run(rest),
        ["bench", "jobs", rest @ ..] => bench::jobs::run(rest),
        ["soak", "jobs", rest @ ..] => soak::jobs(rest),
        ["count", rest @ ..] => count::run(rest),
        ["dist", rest @ ..] => dist::run(rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => bail!("no command given\n{USAGE}"),
        _ => bail!("unknown command `{}`\n{USAGE}", words.join(" ")),
    }
}
