//! Numbers about integers: the least, the greatest, mean and variance. All that is kept is exact integers; what is no integer is worked
//! out when it is asked for, so states merge in any grouping and give the same answers everywhere.

use crate::block::Sum;
use crate::state::{LoadError, Reader, State};

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $better:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name(Option<i64>);

        impl $name {
            /// Takes a value in.
            #[inline]
            pub fn add(&mut self, value: i64) {
                self.0 = Some(self.0.map_or(value, |known| $better(known, value)));
            }

            /// The value, if there was any.
            pub fn get(self) -> Option<i64> {
                self.0
            }
        }

        impl State for $name {
            fn save(&self, out: &mut Vec<u8>) {
                out.push(u8::from(self.0.is_some()));
                out.extend_from_slice(&self.0.unwrap_or_default().to_le_bytes());
            }

            fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
                self.0 = match (saved.u8()?, saved.i64()?) {
                    (0, 0) => None,
                    (1, value) => Some(value),
                    (tag, value) => {
                        let message = format!("{tag} and {value} are not an extreme value");
                        return Err(LoadError::new(message));
                    }
                };
                Ok(())
            }

            fn merge(&mut self, later: &Self) {
                later.0.into_iter().for_each(|value| self.add(value));
            }
        }
    };
}

extreme! {
    /// The least of some integers (or of decimals of one scale, or times). Exact; 16 bytes, 9 saved.
    ///
    /// ```
    /// # use tally_sdk::Min;
    /// let mut least = Min::default();
    /// assert_eq!(least.get(), None);
    /// [3, -5, 8].into_iter().for_each(|value| least.add(value));
    /// assert_eq!(least.get(), Some(-5));
    /// ```
    Min, std::cmp::min
}

extreme! {
    /// The greatest of some integers (or of decimals of one scale, or times). Exact; 16 bytes, 9 saved.
    ///
    /// ```
    /// # use tally_sdk::Max;
    /// let mut greatest = Max::default();
    /// [3, -5, 8].into_iter().for_each(|value| greatest.add(value));
    /// assert_eq!(greatest.get(), Some(8));
    /// ```
    Max, std::cmp::max
}

/// Mean and variance of integers (or of decimals of one scale, times 10^scale).
///
/// Count, sum and sum of squares are kept exactly, in 64, 128 and 192 bits, which no log can overflow. Mean and variance follow from
/// them by a few roundings of an `f64`: relative errors are below 2^-50, however close together the values are.
/// 64 bytes, 48 saved.
///
/// ```
/// # use tally_sdk::Stats;
/// let mut sizes = Stats::default();
/// [2, 4, 4, 4, 5, 5, 7, 9].into_iter().for_each(|size| sizes.add(size));
/// assert_eq!((sizes.count(), sizes.sum().0), (8, 40));
/// assert_eq!((sizes.mean(), sizes.variance(), sizes.standard_deviation()), (Some(5.0), Some(4.0), Some(2.0)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    count: u64,
    sum: Sum,
    /// The sum of squares, modulo 2^192: these bits and those above them.
    squares: u128,
    squares_above: u64,
}

impl Stats {
    /// Takes a value in.
    #[inline]
    pub fn add(&mut self, value: i64) {
        let magnitude = u128::from(value.unsigned_abs());
        self.count = self.count.wrapping_add(1);
        self.sum.add(value);
        self.add_squares(magnitude * magnitude, 0);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> Sum {
        self.sum
    }

    /// Their mean, if there were any.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum.0 as f64 / self.count as f64)
    }

    /// Their variance around their mean, if there were any: the values are all there are (division by n).
    pub fn variance(&self) -> Option<f64> {
        let count = self.count as f64;
        (self.count > 0).then(|| self.spread() / count / count)
    }

    /// The variance of what the values are a sample of, if there were at least two (division by n - 1).
    pub fn sample_variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.spread() / self.count as f64 / (self.count - 1) as f64)
    }

    /// The square root of [`Stats::variance`].
    pub fn standard_deviation(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }

    #[inline]
    fn add_squares(&mut self, squares: u128, above: u64) {
        let carry;
        (self.squares, carry) = self.squares.overflowing_add(squares);
        self.squares_above = self.squares_above.wrapping_add(above).wrapping_add(u64::from(carry));
    }

    /// count * squares - sum^2, exactly, and then as a float: what is nearly equal is subtracted before anything is rounded.
    fn spread(&self) -> f64 {
        let (above, low) = product(u128::from(self.count), self.squares);
        let above = above + u128::from(self.count) * u128::from(self.squares_above);
        let (sum_above, sum_low) = product(self.sum.0.unsigned_abs(), self.sum.0.unsigned_abs());
        let (low, borrow) = low.overflowing_sub(sum_low);
        // Never negative (Cauchy and Schwarz), but for bytes that no values gave.
        let above = above.saturating_sub(sum_above).saturating_sub(u128::from(borrow));
        above as f64 * TWO_TO_128 + low as f64
    }
}

const TWO_TO_128: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

/// The upper and the lower half of the product.
fn product(a: u128, b: u128) -> (u128, u128) {
    const LOW: u128 = u64::MAX as u128;
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let low = a_low * b_low;
    let middle = a_high * b_low + (low >> 64);
    let other = a_low * b_high + (middle & LOW);
    (a_high * b_high + (middle >> 64) + (other >> 64), other << 64 | low & LOW)
}

impl State for Stats {
    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        self.sum.save(out);
        out.extend_from_slice(&self.squares.to_le_bytes());
        out.extend_from_slice(&self.squares_above.to_le_bytes());
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.count = saved.u64()?;
        self.sum.load(saved)?;
        self.squares = saved.i128()? as u128;
        self.squares_above = saved.u64()?;
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.count = self.count.wrapping_add(later.count);
        self.sum.merge(&later.sum);
        self.add_squares(later.squares, later.squares_above);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_laws::check;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<i64>> {
        let value = prop_oneof![any::<i64>(), -9..9i64, Just(i64::MIN), Just(i64::MAX), i64::MAX - 9..i64::MAX];
        prop::collection::vec(value, 0..40)
    }

    fn stats(values: &[i64]) -> Stats {
        let mut stats = Stats::default();
        values.iter().for_each(|&value| stats.add(value));
        stats
    }

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected.abs() * 2f64.powi(-50)
    }

    proptest! {
        #[test]
        fn the_laws_hold(values in values(), dealt in prop::collection::vec(0..4usize, 1..9)) {
            check(Min::default, |least: &mut Min, &value| least.add(value), &values, &dealt);
            check(Max::default, |greatest: &mut Max, &value| greatest.add(value), &values, &dealt);
            check(Stats::default, |stats: &mut Stats, &value| stats.add(value), &values, &dealt);
        }

        #[test]
        fn extremes_are_those_of_a_scan(values in values()) {
            let (mut least, mut greatest) = (Min::default(), Max::default());
            values.iter().for_each(|&value| { least.add(value); greatest.add(value) });
            prop_assert_eq!(least.get(), values.iter().copied().min());
            prop_assert_eq!(greatest.get(), values.iter().copied().max());
        }

        /// Differences from the first value are small where values are close together, so that a plain sum of their squares is exact.
        #[test]
        fn mean_and_variance_are_right_where_floats_would_cancel(
            base in prop_oneof![Just(0), any::<i32>().prop_map(i64::from), Just(i64::MAX - 2_000_000), Just(i64::MIN)],
            offsets in prop::collection::vec(0..2_000_000i64, 1..60),
        ) {
            let values: Vec<i64> = offsets.iter().map(|offset| base + offset).collect();
            let n = offsets.len() as i128;
            let sum: i128 = offsets.iter().map(|&offset| i128::from(offset)).sum();
            let squares: i128 = offsets.iter().map(|&offset| i128::from(offset).pow(2)).sum();
            let spread = (n * squares - sum * sum) as f64;
            let stats = stats(&values);
            let mean = (i128::from(base) * n + sum) as f64 / n as f64;
            prop_assert!(close(stats.mean().unwrap(), mean));
            prop_assert!(close(stats.variance().unwrap(), spread / (n * n) as f64));
            prop_assert_eq!(stats.sample_variance().is_some(), n > 1);
            if n > 1 {
                prop_assert!(close(stats.sample_variance().unwrap(), spread / (n * (n - 1)) as f64));
            }
        }

        /// By Lagrange's identity: the spread is the sum of the squares of all differences, none of which cancels.
        #[test]
        fn variance_is_right_for_any_values(values in values()) {
            let difference = |one: i64, other: i64| one.abs_diff(other) as f64;
            let pairs = values.iter().enumerate().flat_map(|(at, &one)| values[..at].iter().map(move |&other| difference(one, other)));
            let spread: f64 = pairs.map(|difference| difference * difference).sum();
            let n = values.len() as f64;
            let found = stats(&values).variance().unwrap_or_default();
            prop_assert!((found * n * n - spread).abs() <= spread * 2f64.powi(-40), "{} for {}", found * n * n, spread);
        }

        #[test]
        fn a_product_is_one(a in any::<u64>(), b in any::<u128>()) {
            let (above, low) = product(u128::from(a), b);
            let (b_above, b_low) = (b >> 64, b & u128::from(u64::MAX));
            let low_product = u128::from(a) * b_low;
            let high_product = u128::from(a) * b_above + (low_product >> 64);
            prop_assert_eq!((above, low), (high_product >> 64, high_product << 64 | low_product & u128::from(u64::MAX)));
            prop_assert_eq!(product(b, u128::from(a)), (above, low));
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let mut all = stats(&[i64::MIN; 4]);
        for _ in 0..40 {
            let same = all;
            all.merge(&same);
        }
        assert_eq!(all.count(), 4 << 40);
        assert_eq!(all.mean(), Some(i64::MIN as f64));
        assert_eq!(all.variance(), Some(0.0));
        let ends = stats(&[i64::MIN, i64::MAX]);
        assert!(close(ends.standard_deviation().unwrap(), 2f64.powi(63)));
        assert_eq!(product(u128::MAX, u128::MAX), (u128::MAX - 1, 1));
        assert_eq!((Stats::default().mean(), Stats::default().variance()), (None, None));
    }
}
