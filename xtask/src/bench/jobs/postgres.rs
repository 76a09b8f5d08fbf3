//! `bench jobs --only postgres`: adds and lives of Mainstay's jobs in a Postgres of this run alone, beside the same in
//! a file, and asked of a second node that stands by, all by threads of ours. Postgres has each commit on the disk
//! before it is answered.

use super::server::{Mainstay, Postgres};
use super::threads::Threads;
use super::{Adds, Client, Load, Peer, Plan, Samples, Shuffle, Side, fitting, lives};
use anyhow::Result;
use std::path::Path;

/// What is added and taken. A batch is what one call ends and takes.
const LOADS: [Load; 4] = [
    load(50, Adds::Single, (1, 50), ["add50", "process50", "life50"]),
    load(1, Adds::Arrays, (1, 20), ["bulk", "process20", "life20"]),
    load(1, Adds::Arrays, (4, 20), ["bulk", "process4x20", "life4x20"]),
    load(1, Adds::Arrays, (4, 50), ["bulk", "process4x50", "life4x50"]),
];

const fn load(flight: u64, adds: Adds, (workers, concurrency): (u64, u64), cells: [&'static str; 3]) -> Load {
    Load { flight, adds, concurrency, workers, cells, first: 2_000 }
}

/// What Postgres says of itself.
pub fn measure(binary: &Path, dir: &Path, (plan, seed): (Plan, u64), samples: &mut Samples) -> Result<String> {
    let postgres = Postgres::start(&dir.join("postgres"))?;
    let kept = Mainstay::start(binary, &dir.join("in-postgres"), Some(&postgres.url()))?;
    let beside = Mainstay::start(binary, &dir.join("beside"), Some(&postgres.url()))?;
    let file = Mainstay::start(binary, &dir.join("in-a-file"), None)?;
    let side = |peer, mainstay: &Mainstay| -> Result<Side> {
        let client = Client::Threads(Threads::new(mainstay.api.clone()));
        Ok(Side { peer, client, pids: mainstay.server.pids()? })
    };
    let mut sides = [side(Peer::Threads, &file)?, side(Peer::Postgres, &kept)?, side(Peer::Standby, &beside)?];
    let (decides, keeps) = (sides[1].pids.clone(), postgres.server.pids()?);
    sides[1].pids.extend(keeps.clone());
    sides[2].pids.extend(decides.into_iter().chain(keeps));
    let mut counts = Vec::new();
    for load in LOADS {
        for side in &mut sides {
            let warming = fitting(side, load, load.first, plan.run_seconds / 3.0)?;
            counts.push(fitting(side, load, warming, plan.run_seconds)?);
        }
    }
    let mut shuffle = Shuffle(seed);
    for round in 1..=plan.rounds {
        let mut order: Vec<usize> = (0..counts.len()).collect();
        shuffle.order(&mut order);
        for at in order {
            let (load, side) = (LOADS[at / sides.len()], &mut sides[at % 3]);
            let said = lives(side, load, counts[at], samples)?;
            eprintln!("round {round}  postgres {:<15} {said}", side.peer.name());
        }
    }
    postgres.version()
}
