//! The engine for millions of steps: producers, workers that die, lie and come late, operators, crashes with what was
//! committed, commits that were torn, a clock that stands still or was set back. Everything follows from a seed, which
//! is printed when the model does not agree.
//!
//! Judged are, as far as they are the engine's: no acknowledged job lost (I1) or doubled (I2), one end each (I3), one
//! token at a time, growing, and stale ones without effect (I4), a cause for each start (I5), none after the end (I6),
//! concurrency and rate through crashes (I7), order (I8), parents after their children (I10), retention (I11) and that
//! it takes no child's result from a parent, counts (I12), rescue in time (I13); and that all comes to an end.

mod draw;
mod model;
mod play;

pub use play::{Batch, Play};
use proptest::prelude::*;

/// Seeds of the test run, and steps of each. `MAINSTAY_SEED` begins elsewhere, `MAINSTAY_SEEDS` goes on for longer.
const SEEDS: u64 = 100;
const STEPS: u32 = 6_000;

#[test]
fn the_engine_does_as_the_model_says_whatever_happens() {
    let first: u64 = std::env::var("MAINSTAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let seeds: u64 = std::env::var("MAINSTAY_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let began = std::time::Instant::now();
    let mut seen = play::Seen::default();
    for seed in first..first + seeds {
        let mut play = Play::new(seed);
        seen.add(&play.run(STEPS));
        play.work_off();
    }
    // A judge who has seen nothing says nothing.
    seen.must_have_seen_all();
    let rate = (seeds * u64::from(STEPS)) as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} steps a second; {seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_seed_and_any_number_of_steps(seed in any::<u64>(), steps in 1u32..600) {
        let mut play = Play::new(seed);
        play.run(steps);
        play.work_off();
    }
}

#[test]
fn one_seed_gives_one_play() {
    let image = |seed| {
        let mut play = Play::new(seed);
        play.run(2000);
        play.image().clone()
    };
    assert_eq!(image(7), image(7));
    assert_ne!(image(7), image(8));
}
