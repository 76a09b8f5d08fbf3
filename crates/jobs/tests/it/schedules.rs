//! Schedules in the engine: one job a tick, through crashes and torn commits (I9).

use crate::image::Image;
use mainstay_jobs::change::{Change, KeyKind};
use mainstay_jobs::schedule::{CatchUp, Rule, Schedule};
use mainstay_jobs::{Effects, Engine, NewJob, Op, State};
use proptest::prelude::*;
use std::collections::BTreeMap;

const START_MS: u64 = 1_767_225_600_000;

fn schedule(engine: &mut Engine, image: &mut Image, wall_ms: u64) {
    let rule = Rule::Cron { pattern: "*/5 * * * *".into(), zone: "Europe/Vienna".into() };
    let job = NewJob::new("tick");
    let mut schedule = Schedule::new("s".into(), "q".into(), rule, job, wall_ms).expect("a schedule");
    schedule.catch_up = CatchUp::All;
    let mut effects = Effects::default();
    engine.apply(Op::Schedule(Box::new(schedule)), wall_ms, &mut effects).expect("scheduled");
    image.commit(&effects.changes);
}

/// Ticks whose jobs were committed.
fn ticks(changes: &[Change]) -> Vec<u64> {
    let tick = |change: &Change| match change {
        Change::Key { key, .. } if key.kind == KeyKind::Tick => {
            key.key.rsplit('@').next().and_then(|tick| tick.parse().ok())
        }
        _ => None,
    };
    changes.iter().filter_map(tick).collect()
}

proptest! {
    #[test]
    fn every_tick_adds_one_job_whatever_is_torn(
        looks in prop::collection::vec((0u64..900_000, 0u8..10), 1..60),
    ) {
        let (mut image, mut wall_ms) = (Image::default(), START_MS);
        let mut engine = Engine::new(1);
        schedule(&mut engine, &mut image, wall_ms);
        let mut ran: BTreeMap<u64, u32> = BTreeMap::new();
        for (passed_ms, fate) in looks {
            wall_ms += passed_ms;
            let mut effects = Effects::default();
            engine.apply(Op::Fire { wall_ms }, wall_ms, &mut effects).expect("fired");
            // 0: torn before the commit; 1: killed after it, and told the same schedule again; else all is well.
            if fate != 0 {
                ticks(&effects.changes).into_iter().for_each(|tick| *ran.entry(tick).or_default() += 1);
                image.commit(&effects.changes);
                let stands_ms = image.schedules.values().map(|schedule| schedule.next_ms).min();
                prop_assert!(stands_ms > Some(wall_ms), "it moves on in the commit of its jobs: {:?}", stands_ms);
            }
            if fate < 2 {
                engine = image.engine(1, wall_ms);
                schedule(&mut engine, &mut image, wall_ms);
            }
        }
        let mut effects = Effects::default();
        engine.apply(Op::Fire { wall_ms }, wall_ms, &mut effects).expect("fired");
        ticks(&effects.changes).into_iter().for_each(|tick| *ran.entry(tick).or_default() += 1);
        let expected: BTreeMap<u64, u32> =
            (1..).map(|n| START_MS + n * 300_000).take_while(|tick| *tick <= wall_ms).map(|tick| (tick, 1)).collect();
        prop_assert_eq!(&ran, &expected);
        prop_assert_eq!(engine.list("q", State::Waiting, 0, 10_000).len(), expected.len());
    }
}
