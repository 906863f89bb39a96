//! Zipf's law as an alias table: one look-up per draw, weights exact, the same table on every machine.
//!
//! Weights are integers, and the table is built with integers (Vose's method). The only floating-point operations are
//! +, -, *, / and the square root, which IEEE 754 rounds exactly; `powf` would differ between machines.

/// Draws indices with the probability that their rank gives them.
pub struct Popularity {
    /// Per slot: high half the bound below which the slot itself is drawn, low half whom else.
    slots: Vec<u64>,
}

/// How popularity falls with the rank.
#[derive(Clone, Copy)]
pub enum Exponent {
    /// 1.0: the second is half as popular as the first.
    One,
    /// 1.1: a little steeper.
    OneAndATenth,
}

impl Popularity {
    /// `count` indices; index 0 is the most popular.
    pub fn zipf(count: u32, exponent: Exponent) -> Self {
        Popularity { slots: alias(&(1..=count).map(|rank| weight(rank, exponent)).collect::<Vec<_>>()) }
    }

    /// The index that 64 random bits stand for.
    pub fn draw(&self, bits: u64) -> u32 {
        let slot = ((u128::from(bits >> 32) * self.slots.len() as u128) >> 32) as usize;
        let cell = self.slots[slot];
        if bits & 0xffff_ffff < cell >> 32 { slot as u32 } else { cell as u32 }
    }
}

/// rank^-exponent, scaled so that a million ranks keep 20 significant bits and all weights fit a `u64` sum.
fn weight(rank: u32, exponent: Exponent) -> u64 {
    let rank = f64::from(rank);
    let power = match exponent {
        Exponent::One => rank,
        Exponent::OneAndATenth => rank * tenth_root(rank),
    };
    ((1u64 << 40) as f64 / power) as u64
}

/// The square root of the fifth root, which Newton's iteration finds to the last bits in far fewer than 60 steps.
fn tenth_root(x: f64) -> f64 {
    let mut root = x;
    for _ in 0..60 {
        root = (4.0 * root + x / (root * root * root * root)) / 5.0;
    }
    root.sqrt()
}

/// Vose's alias method in integers: every slot is filled with its own weight and that of one other index.
fn alias(weights: &[u64]) -> Vec<u64> {
    let count = weights.len() as u128;
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    // Scaled by `count`, an average weight is exactly `total`.
    let mut scaled: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * count).collect();
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|index| scaled[*index] < total);
    let mut slots: Vec<u64> = (0..weights.len() as u64).map(|index| (0xffff_ffff << 32) | index).collect();
    while let (Some(less), Some(more)) = (small.pop(), large.last().copied()) {
        let bound = ((scaled[less] << 32) / total) as u64;
        slots[less] = (bound << 32) | more as u64;
        scaled[more] -= total - scaled[less];
        if scaled[more] < total {
            large.pop();
            small.push(more);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of each index, computed from the table.
    fn shares(popularity: &Popularity) -> Vec<f64> {
        let count = popularity.slots.len();
        let mut shares = vec![0.0; count];
        for (slot, cell) in popularity.slots.iter().enumerate() {
            let own = (cell >> 32) as f64 / (1u64 << 32) as f64;
            shares[slot] += own / count as f64;
            shares[(cell & 0xffff_ffff) as usize] += (1.0 - own) / count as f64;
        }
        shares
    }

    #[test]
    fn shares_follow_the_law() {
        for (count, exponent, power) in [(1_000_000, Exponent::One, 1.0), (10_000, Exponent::OneAndATenth, 1.1f64)] {
            let shares = shares(&Popularity::zipf(count, exponent));
            let sum: f64 = (1..=count).map(|rank| f64::from(rank).powf(-power)).sum();
            for rank in [1, 2, 3, 10, 100, 1000, count / 2, count] {
                let expected = f64::from(rank).powf(-power) / sum;
                let share = shares[rank as usize - 1];
                assert!((share / expected - 1.0).abs() < 0.005, "rank {rank} of {count}: {share} for {expected}");
            }
        }
    }

    #[test]
    fn draws_stay_inside_and_reach_both_ends_of_a_slot() {
        let popularity = Popularity::zipf(3, Exponent::One);
        for bits in [0, u64::MAX, 0xffff_ffff, 0xffff_ffff << 32] {
            assert!(popularity.draw(bits) < 3);
        }
        let grid = (0..8u64).flat_map(|slot| (0..8u64).map(move |part| slot << 61 | part << 29));
        let drawn: std::collections::BTreeSet<u32> = grid.map(|bits| popularity.draw(bits)).collect();
        assert_eq!(drawn.len(), 3);
    }

    #[test]
    fn the_tenth_root_is_exact_enough() {
        for x in [1.0f64, 2.0, 1024.0, 59_049.0, 9_999.0] {
            assert!((tenth_root(x) - x.powf(0.1)).abs() < 1e-14, "{x}");
        }
    }
}
