//! Which upstream serves the next request. Pure: a function of what is known, never of time or chance.

/// How an app's requests are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    LeastConn,
    IpHash,
    /// A cookie names the upstream; round robin for who has none.
    Sticky,
}

/// What a choice needs to know about one upstream.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    pub weight: u32,
    pub in_flight: u32,
    pub available: bool,
    /// Stable over reloads and restarts, so that a client's hash finds the same instance again.
    pub key: u64,
}

/// Picks one of `count` candidates; `None` if none is available. `turn` counts requests, `client` is a hash of
/// the client's address, `schedule` the weighted order of turns from `schedule()`.
pub fn choose(
    balance: Balance,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    schedule: &[u16],
    turn: usize,
    client: u64,
) -> Option<usize> {
    match balance {
        Balance::RoundRobin | Balance::Sticky => {
            let mut turns = (0..schedule.len()).map(|step| usize::from(schedule[(turn + step) % schedule.len()]));
            turns.find(|&i| i < count && candidate(i).available)
        }
        Balance::LeastConn => {
            let start = if count == 0 { 0 } else { turn % count };
            let order = (0..count).map(|step| (start + step) % count);
            order.filter(|&i| candidate(i).available).min_by(|&a, &b| {
                let (a, b) = (candidate(a), candidate(b));
                // (in_flight + 1) / weight, compared without a division.
                let left = u64::from(a.in_flight + 1) * u64::from(b.weight.max(1));
                let right = u64::from(b.in_flight + 1) * u64::from(a.weight.max(1));
                left.cmp(&right)
            })
        }
        Balance::IpHash => (0..count).filter(|&i| candidate(i).available).max_by(|&a, &b| {
            let (a, b) = (candidate(a), candidate(b));
            score(a, client).total_cmp(&score(b, client))
        }),
    }
}

/// Weighted rendezvous hashing: when one upstream goes, only its own clients move.
fn score(candidate: Candidate, client: u64) -> f64 {
    let h = mix(candidate.key ^ mix(client));
    // Uniform in (0, 1): never 0, whose logarithm is infinite, nor 1, whose logarithm is 0.
    let unit = ((h >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    f64::from(candidate.weight.max(1)) / -unit.ln()
}

/// The finaliser of SplitMix64.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub fn hash_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| mix(h ^ u64::from(b)))
}

/// Longest schedule; weights are scaled down to fit.
const SCHEDULE_TURNS_MAX: u32 = 1024;

/// The order of turns for these weights, spread evenly (smooth weighted round robin): `[5, 1, 1]` gives
/// `a a b a c a a`, not `a a a a a b c`.
pub fn schedule(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    let mut weights: Vec<i64> = weights.iter().map(|&w| i64::from((w / divisor).max(1))).collect();
    let total: i64 = weights.iter().sum();
    if total > i64::from(SCHEDULE_TURNS_MAX) {
        for w in &mut weights {
            *w = (*w * i64::from(SCHEDULE_TURNS_MAX) / total).max(1);
        }
    }
    let total: i64 = weights.iter().sum();
    let mut current = vec![0i64; weights.len()];
    let mut turns = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    for _ in 0..total {
        for (c, w) in current.iter_mut().zip(&weights) {
            *c += w;
        }
        // The first of the largest, as nginx does it.
        let mut best = 0;
        for i in 1..current.len() {
            if current[i] > current[best] {
                best = i;
            }
        }
        current[best] -= total;
        turns.push(u16::try_from(best).unwrap_or(0));
    }
    turns
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(weights: &[u32], in_flight: &[u32]) -> Vec<Candidate> {
        let one = |(i, (&weight, &in_flight)): (usize, (&u32, &u32))| Candidate {
            weight,
            in_flight,
            available: true,
            key: mix(i as u64 + 1),
        };
        weights.iter().zip(in_flight).enumerate().map(one).collect()
    }

    fn pick(balance: Balance, c: &[Candidate], turn: usize, client: u64) -> Option<usize> {
        let weights: Vec<u32> = c.iter().map(|c| c.weight).collect();
        choose(balance, c.len(), |i| c[i], &schedule(&weights), turn, client)
    }

    #[test]
    fn round_robin_is_smooth_and_weighted() {
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(schedule(&[10, 10]), [0, 1]);
        let c = all(&[1, 1], &[0, 0]);
        let picks: Vec<_> = (0..4).map(|t| pick(Balance::RoundRobin, &c, t, 0)).collect();
        assert_eq!(picks, [Some(0), Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn round_robin_passes_over_the_unavailable() {
        let mut c = all(&[1, 1, 1], &[0, 0, 0]);
        c[1].available = false;
        assert_eq!(pick(Balance::RoundRobin, &c, 1, 0), Some(2));
        c.iter_mut().for_each(|c| c.available = false);
        assert_eq!(pick(Balance::RoundRobin, &c, 0, 0), None);
        assert_eq!(pick(Balance::RoundRobin, &[], 0, 0), None);
    }

    #[test]
    fn least_connections_counts_weights_and_rotates_ties() {
        assert_eq!(pick(Balance::LeastConn, &all(&[1, 1], &[3, 2]), 0, 0), Some(1));
        assert_eq!(pick(Balance::LeastConn, &all(&[4, 1], &[3, 1]), 0, 0), Some(0));
        let idle = all(&[1, 1, 1], &[0, 0, 0]);
        let picks: Vec<_> = (0..3).map(|t| pick(Balance::LeastConn, &idle, t, 0)).collect();
        assert_eq!(picks, [Some(0), Some(1), Some(2)]);
    }

    proptest! {
        #[test]
        fn when_one_goes_only_its_clients_move(client in any::<u64>(), gone in 0usize..5) {
            let mut c = all(&[1, 2, 1, 1, 3], &[0; 5]);
            let before = pick(Balance::IpHash, &c, 0, client);
            c[gone].available = false;
            let after = pick(Balance::IpHash, &c, 0, client);
            if before == Some(gone) {
                prop_assert_ne!(after, before);
            } else {
                prop_assert_eq!(after, before);
            }
        }

        #[test]
        fn a_schedule_gives_each_its_share(weights in proptest::collection::vec(1u32..50, 1..8)) {
            let turns = schedule(&weights);
            let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
            for (i, w) in weights.iter().enumerate() {
                let share = turns.iter().filter(|&&t| usize::from(t) == i).count();
                prop_assert_eq!(share as u32, w / divisor);
            }
        }
    }

    #[test]
    fn clients_spread_by_weight() {
        let c = all(&[3, 1], &[0, 0]);
        let first = (0..4000u64).filter(|&client| pick(Balance::IpHash, &c, 0, mix(client)) == Some(0)).count();
        assert!((2800..3200).contains(&first), "{first} of 4000");
    }
}
