//! A log-linear histogram: sixteen steps an octave, so that a quantile is at most 1/32 off.

use super::add;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const STEPS: u64 = 16;
/// Octaves above the first sixteen microseconds: up to 2^36 µs, 19 hours. Longer ones count there.
const OCTAVES: usize = 32;
const CELLS: usize = STEPS as usize * (OCTAVES + 1);

/// Response times of one core. One writer, any number of readers.
#[derive(Debug)]
pub struct Latency {
    cells: Box<[AtomicU64]>,
    sum_us: AtomicU64,
    max_us: AtomicU64,
}

/// Several `Latency` added up.
#[derive(Debug)]
pub struct Quantiles {
    cells: Vec<u64>,
    sum_us: u64,
    max_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency {
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            sum_us: AtomicU64::new(0),
            max_us: AtomicU64::new(0),
        }
    }
}

impl Latency {
    #[inline]
    pub fn observe(&self, micros: u64) {
        add(&self.cells[cell_of(micros)], 1);
        add(&self.sum_us, micros);
        if micros > self.max_us.load(Relaxed) {
            self.max_us.store(micros, Relaxed);
        }
    }
}

#[inline]
fn cell_of(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let octave = 63 - micros.leading_zeros() as usize - 4;
    let step = (micros >> octave) as usize - STEPS as usize;
    (STEPS as usize * (octave + 1) + step).min(CELLS - 1)
}

/// The middle of a cell.
fn micros_of(cell: usize) -> u64 {
    let (octave, step) = (cell as u64 / STEPS, cell as u64 % STEPS);
    match octave {
        0 => step,
        _ => ((STEPS + step) << (octave - 1)) + (1 << (octave - 1)) / 2,
    }
}

impl Quantiles {
    pub fn of<'a>(cores: impl IntoIterator<Item = &'a Latency>) -> Quantiles {
        let mut sum = Quantiles { cells: vec![0; CELLS], sum_us: 0, max_us: 0 };
        for core in cores {
            for (to, from) in sum.cells.iter_mut().zip(&core.cells) {
                *to += from.load(Relaxed);
            }
            sum.sum_us += core.sum_us.load(Relaxed);
            sum.max_us = sum.max_us.max(core.max_us.load(Relaxed));
        }
        sum
    }

    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    pub fn mean_us(&self) -> f64 {
        match self.cells.iter().sum::<u64>() {
            0 => 0.0,
            n => self.sum_us as f64 / n as f64,
        }
    }

    /// The value below which this share of the requests stayed; 0 before the first.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let total: u64 = self.cells.iter().sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (cell, n) in self.cells.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return micros_of(cell).min(self.max_us);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_measured_is_zero() {
        let none = Quantiles::of([&Latency::default()]);
        assert_eq!((none.quantile_us(0.95), none.max_us()), (0, 0));
        assert_eq!(none.mean_us(), 0.0);
    }

    #[test]
    fn cores_add_up() {
        let (fast, slow) = (Latency::default(), Latency::default());
        (0..99).for_each(|_| fast.observe(1_000));
        slow.observe(1_000_000);
        let both = Quantiles::of([&fast, &slow]);
        assert_eq!(both.max_us(), 1_000_000);
        assert!((both.mean_us() - 10_990.0).abs() < 0.01);
        assert!(both.quantile_us(0.99) < 1_050 && both.quantile_us(0.999) > 950_000);
    }

    proptest! {
        #[test]
        fn quantiles_are_close(mut values in proptest::collection::vec(0u64..1 << 35, 1..300), share in 0.01..1.0f64) {
            let latency = Latency::default();
            values.iter().for_each(|v| latency.observe(*v));
            values.sort_unstable();
            let rank = ((values.len() as f64 * share).ceil() as usize).max(1);
            let exact = values[rank - 1] as f64;
            let found = Quantiles::of([&latency]).quantile_us(share) as f64;
            prop_assert!((found - exact).abs() <= exact * 0.05, "{found} for {exact}");
        }

        #[test]
        fn no_value_is_out_of_range(micros: u64) {
            prop_assert!(cell_of(micros) < CELLS);
        }
    }
}
