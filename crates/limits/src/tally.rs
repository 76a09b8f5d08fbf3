//! What a rule admitted and refused, and whether a few clients or many are the cause. Bounded whoever comes: of the
//! refused the most frequent are known by count (space-saving), how many there are by estimate (HyperLogLog).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Clients counted one by one; the rest share the place of the least.
const COUNTED_MAX: usize = 16;
/// 256 registers estimate to within 7 % (1.04/√256).
const REGISTERS: usize = 256;
/// What is shown is of the last ten to twenty minutes: who causes refusals now, not last month.
const EPOCH_US: u64 = 600_000_000;
/// Routes counted apart; the patterns that are learnt have a cap of their own.
const ROUTES_MAX: usize = 1024;
/// A few: this many, or half of all refusals by the first three.
const FEW_MAX: u64 = 3;

/// Of one rule. Padded: every core counts here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Tally {
    admitted: AtomicU64,
    refused: AtomicU64,
    undecided: AtomicU64,
    who: Mutex<Epochs>,
}

#[derive(Debug, Default)]
struct Epochs {
    begun_us: u64,
    now: Sketch,
    before: Sketch,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub admitted: u64,
    pub refused: u64,
    /// Not admitted because nobody could be asked.
    pub undecided: u64,
}

/// Who, and how many.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    total: u64,
    /// A client, how often at most.
    counted: Vec<([u64; 2], u64)>,
    registers: Vec<u8>,
}

/// Who was refused lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub total: u64,
    /// About how many clients.
    pub clients: u64,
    /// A few of them cause at least half.
    pub few: bool,
    /// The most frequent first; each count is at most this.
    pub top: Vec<([u64; 2], u64)>,
}

impl Tally {
    pub fn admitted(&self) {
        self.admitted.fetch_add(1, Relaxed);
    }

    /// It was admitted by this rule and refused by another.
    pub fn taken_back(&self) {
        self.admitted.fetch_sub(1, Relaxed);
    }

    pub fn refused(&self, subject: [u64; 2], now_us: u64) {
        self.refused.fetch_add(1, Relaxed);
        self.epochs(now_us).now.count(subject);
    }

    pub fn undecided(&self) {
        self.undecided.fetch_add(1, Relaxed);
    }

    pub fn counts(&self) -> Counts {
        let [admitted, refused, undecided] =
            [&self.admitted, &self.refused, &self.undecided].map(|count| count.load(Relaxed));
        Counts { admitted, refused, undecided }
    }

    pub fn lately(&self, now_us: u64) -> Refused {
        let epochs = self.epochs(now_us);
        let mut all = epochs.before.clone();
        all.join(&epochs.now);
        drop(epochs);
        all.judge()
    }

    fn epochs(&self, now_us: u64) -> MutexGuard<'_, Epochs> {
        let mut epochs = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now_us.saturating_sub(epochs.begun_us);
        if age >= EPOCH_US {
            let last = std::mem::take(&mut epochs.now);
            epochs.before = if age < 2 * EPOCH_US { last } else { Sketch::default() };
            epochs.begun_us = now_us;
        }
        epochs
    }
}

impl Sketch {
    pub fn count(&mut self, subject: [u64; 2]) {
        self.total += 1;
        self.add(subject, 1);
        let hash = mixed(subject);
        self.registers.resize(REGISTERS, 0);
        let register = &mut self.registers[(hash >> 56) as usize];
        *register = (*register).max((hash << 8 | 1 << 7).leading_zeros() as u8 + 1);
    }

    /// Space-saving: whoever is new takes the place of the least, and its count with it.
    fn add(&mut self, subject: [u64; 2], times: u64) {
        if let Some((_, count)) = self.counted.iter_mut().find(|(known, _)| *known == subject) {
            *count += times;
        } else if self.counted.len() < COUNTED_MAX {
            self.counted.push((subject, times));
        } else if let Some(least) = self.counted.iter_mut().min_by_key(|(_, count)| *count) {
            *least = (subject, least.1 + times);
        }
    }

    fn join(&mut self, other: &Sketch) {
        self.total += other.total;
        other.counted.iter().for_each(|(subject, count)| self.add(*subject, *count));
        self.registers.resize(REGISTERS, 0);
        for (mine, other) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*other);
        }
    }

    /// HyperLogLog, with linear counting while few registers are taken.
    fn distinct(&self) -> u64 {
        let registers = REGISTERS as f64;
        let empty = REGISTERS - self.registers.iter().filter(|r| **r > 0).count();
        let sum: f64 = self.registers.iter().map(|r| 0.5f64.powi(i32::from(*r))).sum::<f64>();
        let sum = sum + (REGISTERS - self.registers.len()) as f64;
        let raw = 0.7213 / (1.0 + 1.079 / registers) * registers * registers / sum;
        let estimate =
            if raw <= 2.5 * registers && empty > 0 { registers * (registers / empty as f64).ln() } else { raw };
        estimate.round() as u64
    }

    pub fn judge(mut self) -> Refused {
        self.counted.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        // As long as there was a place for everybody, they are counted and not estimated.
        let clients = if self.counted.len() < COUNTED_MAX { self.counted.len() as u64 } else { self.distinct() };
        let first: u64 = self.counted.iter().take(FEW_MAX as usize).map(|(_, count)| count).sum();
        // Newcomers inherit counts; with many of them the first three are no larger than the others.
        let even = self.total.div_ceil(clients.max(1));
        let few = clients > 0 && (clients <= FEW_MAX || first * 2 >= self.total && first > 2 * FEW_MAX * even);
        Refused { total: self.total, clients, few, top: self.counted }
    }
}

/// Spreads the bits: neighbouring addresses must fall into different registers.
fn mixed(subject: [u64; 2]) -> u64 {
    let mut x = subject[0].wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ subject[1];
    for _ in 0..2 {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// Refusals of each route, by its number among the names.
#[derive(Debug, Default)]
pub struct Routes(Mutex<BTreeMap<u32, u64>>);

impl Routes {
    /// `other`: where what has no place is counted.
    pub fn refused(&self, route: u32, other: u32) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let route = if all.len() < ROUTES_MAX || all.contains_key(&route) { route } else { other };
        *all.entry(route).or_default() += 1;
    }

    pub fn all(&self) -> Vec<(u32, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(route, count)| (*route, *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_told_from_many() {
        let few = Tally::default();
        (0..900).for_each(|_| few.refused([1, 7], 1));
        (0..100).for_each(|i| few.refused([1, 1000 + i], 1));
        let told = few.lately(1);
        assert!(told.few && told.top[0].0 == [1, 7] && told.top[0].1 == 900, "{told:?}");
        assert!((90..=112).contains(&told.clients), "{}", told.clients);

        let many = Tally::default();
        (0..10_000u64).for_each(|i| many.refused([1, i % 5000], 1));
        let told = many.lately(1);
        assert!(!told.few, "{told:?}");
        assert!((4400..=5600).contains(&told.clients), "{}", told.clients);

        let one = Tally::default();
        one.refused([1, 1], 1);
        assert!(one.lately(1).few && one.lately(1).clients == 1);
        assert_eq!(Tally::default().lately(1), Refused::default());
    }

    #[test]
    fn what_was_long_ago_is_forgotten_but_the_totals_stay() {
        let tally = Tally::default();
        tally.refused([1, 1], 1);
        assert_eq!(tally.lately(EPOCH_US + 1).total, 1);
        assert_eq!(tally.lately(3 * EPOCH_US).total, 0);
        assert_eq!(tally.counts(), Counts { refused: 1, ..Counts::default() });
    }

    #[test]
    fn routes_are_bounded() {
        let routes = Routes::default();
        (0..2 * ROUTES_MAX as u32).for_each(|route| routes.refused(route + 2, 1));
        assert!(routes.all().len() <= ROUTES_MAX + 1);
        assert_eq!(routes.all().iter().map(|(_, count)| count).sum::<u64>(), 2 * ROUTES_MAX as u64);
    }
}
