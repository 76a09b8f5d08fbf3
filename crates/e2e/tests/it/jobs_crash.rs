//! Jobs while everything is killed: twenty rounds of the crash harness, judged from an outside journal.

use mainstay_e2e::crash::{FAULTS, Soak};
use mainstay_e2e::fixtures;

/// Of the first round; `cargo xtask soak jobs --rounds 1 --seed N` runs any of them again.
const SEED: u64 = 1;
const ROUNDS: u64 = 20;
/// Rounds wait for leases most of their time.
const LANES: usize = 10;

/// J8: server, supervisor, worker, app and both are killed, at named points too, the disk fills, the clock jumps: no
/// acknowledged job is lost, and every invariant holds.
#[test]
fn j8_twenty_rounds_of_crashes_lose_no_acknowledged_job() {
    let folder = fixtures::scratch().join(format!("crash-{}", std::process::id()));
    let sum = Soak { seed: SEED, rounds: ROUNDS, lanes: LANES, folder: folder.clone() }.run(|line| println!("{line}"));
    let troubles: Vec<String> = sum.troubles.iter().map(ToString::to_string).collect();
    assert!(troubles.is_empty(), "{sum}\n{}", troubles.join("\n"));
    let _ = std::fs::remove_dir(&folder);
    println!("{sum}");
    assert_eq!((sum.rounds, sum.lost, sum.faults.len()), (ROUNDS, 0, FAULTS.len()));
    assert!(sum.acknowledged > ROUNDS * 40 && sum.rescues > 0, "{sum}");
}
