//! Rates in the engine of which windows are counted in parts (more than 128 in a window), through crashes and changed
//! settings: never more than the rate in any window (I7).

use crate::image::Image;
use mainstay_jobs::{Answer, Effects, Engine, NewJob, Op, Settings};
use mainstay_limits::window::Limit;
use proptest::prelude::*;

const COUNT: u32 = 200;
const WINDOW_MS: u64 = 10_000;

fn configured(image: &Image, now_ms: u64) -> Engine {
    let mut engine = image.engine(1, now_ms);
    let rate = Some(Limit { count: COUNT, window_ms: WINDOW_MS as u32, smooth: false });
    let settings = Box::new(Settings { rate, ..Settings::default() });
    let op = Op::Configure { queue: "q".into(), settings };
    engine.apply(op, now_ms, &mut Effects::default()).expect("configured");
    engine
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn never_more_than_two_hundred_in_any_ten_seconds(
        steps in prop::collection::vec((0u64..1500, 1u32..80, 0u8..10), 20..120),
    ) {
        let (mut image, mut now_ms) = (Image::default(), 1_000_000);
        let mut effects = Effects::default();
        let mut engine = Engine::new(1);
        let jobs = (0..2500).map(|_| NewJob::new("x")).collect();
        engine.apply(Op::Add { queue: "q".into(), jobs }, now_ms, &mut effects).expect("added");
        image.commit(&effects.changes);
        engine = configured(&image, now_ms);
        let mut starts: Vec<u64> = Vec::new();
        for (passed_ms, max, fate) in steps {
            now_ms += passed_ms;
            let mut effects = Effects::default();
            let op = Op::Claim { queue: "q".into(), worker: "w".into(), max };
            let answer = engine.apply(op, now_ms, &mut effects).expect("claimed");
            let Answer::Claimed(claimed) = answer else { panic!("a claim was answered otherwise") };
            // 0: torn, and nobody was given a job; 1: killed after the commit.
            if fate != 0 {
                image.commit(&effects.changes);
                starts.extend(claimed.iter().map(|_| now_ms));
            }
            if fate < 2 {
                engine = configured(&image, now_ms);
            }
        }
        let most = COUNT as usize;
        for window in starts.windows(most + 1) {
            prop_assert!(window[most] - window[0] >= WINDOW_MS, "{} ms", window[most] - window[0]);
        }
        // The rate is not only kept but used.
        let used = starts.len() as u64;
        prop_assert!(used >= u64::from(COUNT).min(20), "{used} starts");
    }
}
