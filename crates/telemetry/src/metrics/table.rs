//! Open addressing over plain atomics: one writer, any number of readers, a fixed size.

use super::{BUCKETS_US, add};
use crate::{MethodCode, Names};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// Series of route, method and status a core counts apart; past them they are counted as `other`.
pub const SERIES_MAX: usize = 4096;
/// Pairs of route and method with a histogram of their own a core.
pub const HISTOGRAMS_MAX: usize = 1024;
/// Twice as many slots as series, so that probes stay short: 128 KiB and 256 KiB a core.
const SERIES_SLOTS: usize = SERIES_MAX * 2;
const HISTOGRAM_SLOTS: usize = HISTOGRAMS_MAX * 2;

/// `http_requests_total` of one core.
#[derive(Debug)]
pub(super) struct Series {
    slots: Box<[Slot]>,
    used: AtomicU64,
    /// What found no slot even under `other`.
    rest: AtomicU64,
}

#[derive(Debug, Default)]
struct Slot {
    /// 0 = free. Written once, after the count is there.
    key: AtomicU64,
    count: AtomicU64,
}

/// `http_request_duration_seconds` of one core.
#[derive(Debug)]
pub(super) struct Histograms {
    slots: Box<[Histogram]>,
    used: AtomicU64,
    rest: Histogram,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Histogram {
    key: AtomicU64,
    micros: AtomicU64,
    /// One a bucket, not cumulative; the last is everything above.
    counts: [AtomicU64; BUCKETS_US.len() + 1],
}

/// A histogram's numbers at one moment.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct HistogramSum {
    pub buckets: [u64; BUCKETS_US.len() + 1],
    pub micros: u64,
}

impl Default for Series {
    fn default() -> Self {
        Series {
            slots: (0..SERIES_SLOTS).map(|_| Slot::default()).collect(),
            used: AtomicU64::new(0),
            rest: AtomicU64::new(0),
        }
    }
}

impl Default for Histograms {
    fn default() -> Self {
        let slots = (0..HISTOGRAM_SLOTS).map(|_| Histogram::default()).collect();
        Histograms { slots, used: AtomicU64::new(0), rest: Histogram::default() }
    }
}

/// Where `key` is, or the free slot where it goes. None when neither was found: the table is full.
#[inline]
fn probe<T>(slots: &[T], key_of: impl Fn(&T) -> &AtomicU64, key: u64) -> Option<(&T, bool)> {
    let mask = slots.len() - 1;
    let start = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize;
    for step in 0..slots.len() {
        let slot = &slots[(start + step) & mask];
        let found = key_of(slot).load(Relaxed);
        if found == key {
            return Some((slot, true));
        }
        if found == 0 {
            return Some((slot, false));
        }
    }
    None
}

/// May one more series begin? `other` may use half of the slots that are kept free.
fn has_room(used: &AtomicU64, slots: usize, route: u32) -> bool {
    let allowed = if route == Names::OTHER { slots / 4 * 3 } else { slots / 2 };
    (used.load(Relaxed) as usize) < allowed
}

impl Series {
    #[inline]
    pub fn count(&self, route: u32, method: MethodCode, status: u16) {
        // What is no status at all shares one number, so that `other` fits into its share of the table.
        let status = if (100..=599).contains(&status) { status } else { 0 };
        if !self.try_count(route, method, status) && !self.try_count(Names::OTHER, method, status) {
            add(&self.rest, 1);
        }
    }

    #[inline]
    fn try_count(&self, route: u32, method: MethodCode, status: u16) -> bool {
        let key = u64::from(route) << 32 | (method as u64 + 1) << 16 | u64::from(status);
        match probe(&self.slots, |slot| &slot.key, key) {
            Some((slot, true)) => add(&slot.count, 1),
            Some((slot, false)) if has_room(&self.used, self.slots.len(), route) => {
                slot.count.store(1, Relaxed);
                slot.key.store(key, Release);
                add(&self.used, 1);
            }
            _ => return false,
        }
        true
    }

    pub fn each(&self, mut each: impl FnMut(u32, MethodCode, u16, u64)) {
        for slot in &self.slots {
            let key = slot.key.load(Acquire);
            if key != 0 {
                each((key >> 32) as u32, method_of(key >> 16), key as u16, slot.count.load(Relaxed));
            }
        }
        match self.rest.load(Relaxed) {
            0 => {}
            rest => each(Names::OTHER, MethodCode::Other, 0, rest),
        }
    }
}

impl Histograms {
    #[inline]
    pub fn observe(&self, route: u32, method: MethodCode, micros: u64) {
        if !self.try_observe(route, method, micros) && !self.try_observe(Names::OTHER, method, micros) {
            self.rest.observe(micros);
        }
    }

    #[inline]
    fn try_observe(&self, route: u32, method: MethodCode, micros: u64) -> bool {
        let key = u64::from(route) << 32 | (method as u64 + 1) << 16;
        let slot = match probe(&self.slots, |slot| &slot.key, key) {
            Some((slot, true)) => slot,
            Some((slot, false)) if has_room(&self.used, self.slots.len(), route) => {
                slot.key.store(key, Release);
                add(&self.used, 1);
                slot
            }
            _ => return false,
        };
        slot.observe(micros);
        true
    }

    pub fn each(&self, mut each: impl FnMut(u32, MethodCode, HistogramSum)) {
        for slot in &self.slots {
            let key = slot.key.load(Acquire);
            if key == 0 {
                continue;
            }
            each((key >> 32) as u32, method_of(key >> 16), slot.sum());
        }
        let rest = self.rest.sum();
        if rest != HistogramSum::default() {
            each(Names::OTHER, MethodCode::Other, rest);
        }
    }
}

impl Histogram {
    #[inline]
    fn observe(&self, micros: u64) {
        let bucket = BUCKETS_US.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS_US.len());
        add(&self.counts[bucket], 1);
        add(&self.micros, micros);
    }

    fn sum(&self) -> HistogramSum {
        let mut sum = HistogramSum { micros: self.micros.load(Relaxed), ..HistogramSum::default() };
        for (to, from) in sum.buckets.iter_mut().zip(&self.counts) {
            *to = from.load(Relaxed);
        }
        sum
    }
}

impl HistogramSum {
    pub fn add(&mut self, other: &HistogramSum) {
        self.micros += other.micros;
        for (to, from) in self.buckets.iter_mut().zip(other.buckets) {
            *to += from;
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

fn method_of(code: u64) -> MethodCode {
    let index = (code as u16 as usize).wrapping_sub(1);
    MethodCode::ALL.get(index).copied().unwrap_or(MethodCode::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_and_status_is_counted_apart() {
        let series = Series::default();
        for method in MethodCode::ALL {
            for status in [0, 99, 200, 404, 599, 600, u16::MAX] {
                series.count(9, method, status);
            }
        }
        let mut seen = Vec::new();
        series.each(|route, method, status, n| seen.push((route, method, status, n)));
        assert_eq!(seen.len(), MethodCode::ALL.len() * 4);
        assert!(seen.contains(&(9, MethodCode::Other, 0, 4)) && seen.contains(&(9, MethodCode::Get, 599, 1)));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histograms = Histograms::default();
        for micros in [0, 1_000, 1_001, 10_000_000, 10_000_001, u64::MAX / 2] {
            histograms.observe(3, MethodCode::Get, micros);
        }
        let mut sums = Vec::new();
        histograms.each(|_, _, sum| sums.push(sum));
        assert_eq!((sums[0].buckets[0], sums[0].buckets[1], sums[0].buckets[12], sums[0].buckets[13]), (2, 1, 1, 2));
    }
}
