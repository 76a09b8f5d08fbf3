//! `cargo xtask bench AREA`: claims against a peer, each a command that starts the peer itself, runs both in turn
//! and prints the ratio. Times are judged here by people and never gate a test.

mod cells;
pub mod edge;
mod h2load;
mod held;
pub mod idle;
pub mod jobs;
pub mod limits;
pub mod lossless;
mod peer;
pub mod profile;
mod replaced;
mod table;
mod wrk;

/// No run of a load generator takes longer: it would hang.
const PATIENCE_SECONDS: &str = "60";

/// The middle value; of an even number the upper one. 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// A small generator for the order of rounds: good enough to shuffle, and printed so that a run can be repeated.
#[derive(Debug)]
struct Shuffle(u64);

impl Shuffle {
    fn order<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // xorshift64
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(last, (self.0 % (last as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found_and_a_shuffle_loses_nothing() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(Vec::new()), 0.0);
        let mut items = [1, 2, 3, 4, 5];
        Shuffle(7).order(&mut items);
        items.sort_unstable();
        assert_eq!(items, [1, 2, 3, 4, 5]);
    }
}
