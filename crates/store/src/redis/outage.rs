//! When Redis was away, told once and ended once: every thread has a handle and a breaker of its own, each notices at
//! another moment, and a breaker may close and open again before all is well. Pure: the clock is an argument.

use mainstay_runtime::Millis;
use std::time::Duration;

/// It is over once every handle has been up for so long without a breaker that opened.
pub const SETTLED: Duration = Duration::from_secs(5);

/// Of one process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    stage: Stage,
    /// How often breakers had opened by the last look.
    opened: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Up,
    Away {
        since: Millis,
    },
    /// Up again, as it seems.
    Back {
        since: Millis,
        back: Millis,
    },
}

/// One pair an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Began,
    /// After so long, from the first look that missed it to the one that found it back.
    Ended(Duration),
}

impl Outage {
    /// What is to be told. `is_up`: every handle is linked and its breaker closed. `opened`: how often their breakers
    /// opened so far, so that one that was open between two looks is noticed.
    pub fn look(&mut self, now: Millis, is_up: bool, opened: u64) -> Option<News> {
        // After a reload it is counted from nothing by other handles.
        let was_open = opened > std::mem::replace(&mut self.opened, opened);
        let (stage, news) = match (self.stage, is_up) {
            (Stage::Up, true) if !was_open => (Stage::Up, None),
            (Stage::Up, true) => (Stage::Back { since: now, back: now }, Some(News::Began)),
            (Stage::Up, false) => (Stage::Away { since: now }, Some(News::Began)),
            (Stage::Away { since } | Stage::Back { since, .. }, false) => (Stage::Away { since }, None),
            (Stage::Away { since }, true) => (Stage::Back { since, back: now }, None),
            (Stage::Back { since, .. }, true) if was_open => (Stage::Back { since, back: now }, None),
            (Stage::Back { since, back }, true) if now.since(back) >= SETTLED => {
                (Stage::Up, Some(News::Ended(back.since(since))))
            }
            (back @ Stage::Back { .. }, true) => (back, None),
        };
        self.stage = stage;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(looks: &[(u64, bool, u64)]) -> Vec<(u64, News)> {
        let mut outage = Outage::default();
        let news = |&(ms, is_up, opened)| outage.look(Millis(ms), is_up, opened).map(|news| (ms, news));
        looks.iter().filter_map(news).collect()
    }

    fn ended(ms: u64) -> News {
        News::Ended(Duration::from_millis(ms))
    }

    #[test]
    fn an_outage_is_one_pair_however_often_a_breaker_closes_in_between() {
        let looks = [
            (0, true, 0),
            (2000, false, 1),
            (4000, false, 3),
            (6000, true, 3),
            (8000, false, 4),
            (10_000, true, 4),
            // Open and closed again between two looks.
            (12_000, true, 6),
            (14_000, true, 6),
            (16_000, true, 6),
            (18_000, true, 6),
            (20_000, true, 6),
        ];
        assert_eq!(told(&looks), [(2000, News::Began), (18_000, ended(10_000))]);
    }

    #[test]
    fn one_between_two_looks_is_told_too_and_a_reload_is_none() {
        let looks = [(0, true, 7), (2000, true, 7), (4000, true, 8), (6000, true, 8), (10_000, true, 8)];
        // The first look knows nothing of before: seven openings are news.
        assert_eq!(told(&looks), [(0, News::Began), (10_000, ended(4000))]);
        let reloaded = [(0, true, 0), (2000, true, 0), (4000, true, 0)];
        assert_eq!(told(&reloaded), []);
        let mut outage = Outage::default();
        outage.look(Millis(0), true, 1);
        outage.look(Millis(6000), true, 1);
        assert_eq!(outage.look(Millis(8000), true, 0), None, "fewer than before");
    }

    proptest! {
        /// Whatever happens: began and ended take turns, never an end within `SETTLED` of a look that missed it, and
        /// whatever was missed is told.
        #[test]
        fn news_take_turns(steps in prop::collection::vec((1u64..4000, any::<bool>(), 0u64..2), 1..200)) {
            let (mut outage, mut now, mut opened, mut is_told, mut missed) = (Outage::default(), 0, 0, false, 0);
            for (wait, is_up, opens) in steps {
                now += wait;
                opened += opens;
                let news = outage.look(Millis(now), is_up, opened);
                if !is_up || opens > 0 {
                    missed = now;
                    prop_assert!(is_told || news == Some(News::Began));
                }
                match news {
                    Some(News::Began) => prop_assert!(!std::mem::replace(&mut is_told, true)),
                    Some(News::Ended(lasted)) => {
                        prop_assert!(std::mem::replace(&mut is_told, false));
                        prop_assert!(now - missed >= 5000 && lasted <= Duration::from_millis(now));
                    }
                    None => {}
                }
            }
        }
    }
}
