//! Quantiles of integers: exact while there are few different values, from a DDSketch beyond.
//!
//! What is kept is a function of the multiset of values alone: each value and how often it came while there are at most `EXACT`
//! different ones, and how many fell into each bucket of the sketch once there are more. Different values never get fewer, so if a
//! part was over the bound, the whole is: order, splits and merges leave no trace.
//!
//! DDSketch is that of Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019).
//! A bucket's width is in proportion to its values, so the middle of the bucket in which a quantile lies is as close to it,
//! relatively. Which bucket a value falls into goes by its highest 1 and the `BITS` bits below (the paper's
//! linearly interpolated logarithm, also that of an HDR histogram): integers alone, where a logarithm would differ
//! from machine to machine. That takes 1 / ln 2 = 1.44 times the buckets that a logarithm would. The paper bounds the number of buckets by
//! joining the lowest ones, which leaves traces of order; here it is bounded by the range of 64-bit integers.

use crate::state::{LoadError, Reader, State, put_count};
use std::collections::BTreeMap;

/// Quantiles of integers (or of decimals of one scale).
///
/// Exact up to `EXACT` different values; beyond, [`Quantiles::quantile`] is off by at most [`Quantiles::relative_error`],
/// 2^-(`BITS` + 1) of the value: 0.8 % with the default of 6. Takes some 20 bytes per different value up to the bound, and beyond
/// `8 · 2^BITS` bytes per power of two between the smallest and the largest value: some 5 KiB between 1 ms and 1 s in microseconds by default, at
/// most 59 KiB whatever the values. Saves to 16 bytes per value, 12 per bucket that is not empty.
///
/// Both parameters are part of what saved bytes mean: another state version goes with other ones.
///
/// ```
/// use tally_sdk::Quantiles;
///
/// let mut micros = Quantiles::<100>::default();
/// (1..=100).for_each(|value| micros.add(value * 1000));
/// assert_eq!((micros.quantile(99, 100), micros.is_exact()), (Some(99_000), true));
/// (101..=1000).for_each(|value| micros.add(value * 1000));
/// assert_eq!((micros.count(), micros.is_exact(), micros.relative_error()), (1000, false, 1.0 / 128.0));
/// let p99 = micros.quantile(99, 100).unwrap();
/// assert!((p99 - 990_000).abs() <= 990_000 / 128, "{p99}");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Quantiles<const EXACT: usize = 1024, const BITS: u32 = 6> {
    /// How often each value came, while there is no sketch.
    values: BTreeMap<i64, u64>,
    sketch: Option<Buckets>,
}

impl<const EXACT: usize, const BITS: u32> Quantiles<EXACT, BITS> {
    /// Takes a value in.
    #[inline]
    pub fn add(&mut self, value: i64) {
        self.put(value, 1);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        u64::try_from(self.all().map(|(_, count)| u128::from(count)).sum::<u128>()).unwrap_or(u64::MAX)
    }

    /// The quantile `part / whole` by nearest rank: the smallest value that at least so many of the values do not exceed. `quantile(1, 2)` is the
    /// median, `quantile(999, 1000)` p99.9, `quantile(0, 1)` the least value. None where there are no values.
    ///
    /// # Panics
    /// When `whole` is 0 or less than `part`.
    pub fn quantile(&self, part: u32, whole: u32) -> Option<i64> {
        assert!(part <= whole && whole > 0, "the quantile {part} / {whole} is not between 0 and 1");
        let count: u128 = self.all().map(|(_, count)| u128::from(count)).sum();
        let rank = (count * u128::from(part)).div_ceil(u128::from(whole)).max(1);
        let mut passed = 0;
        self.all().find_map(|(value, count)| {
            passed += u128::from(count);
            (passed >= rank).then_some(value)
        })
    }

    /// Whether [`Quantiles::quantile`] is exact.
    pub fn is_exact(&self) -> bool {
        self.sketch.is_none()
    }

    /// How far [`Quantiles::quantile`] may be off, as a part of the value. 0 while it is exact.
    pub fn relative_error(&self) -> f64 {
        if self.is_exact() { 0.0 } else { 1.0 / f64::from(2u32 << BITS) }
    }

    /// Values and how often they came, ascending; of the sketch the middles of buckets.
    fn all(&self) -> impl Iterator<Item = (i64, u64)> {
        let buckets = self.sketch.iter().flat_map(|sketch| sketch.iter());
        let values = self.values.iter().map(|(&value, &count)| (value, count));
        values.chain(buckets.map(|(bucket, count)| (middle::<BITS>(bucket), count)))
    }

    #[inline]
    fn put(&mut self, value: i64, count: u64) {
        if let Some(sketch) = &mut self.sketch {
            return sketch.add(bucket::<BITS>(value), count);
        }
        let known = self.values.entry(value).or_default();
        *known = known.wrapping_add(count);
        if self.values.len() > EXACT {
            self.give_up_exactness();
        }
    }

    #[cold]
    fn give_up_exactness(&mut self) -> &mut Buckets {
        let sketch = self.sketch.get_or_insert_default();
        for (value, count) in std::mem::take(&mut self.values) {
            sketch.add(bucket::<BITS>(value), count);
        }
        sketch
    }
}

/// The number of the bucket that a value falls into. Small values have one of their own; from 2^(`BITS` + 1) on each
/// power of two has 2^`BITS` of them. Numbers go on from one to the next, and below zero they are negative.
#[inline]
fn bucket<const BITS: u32>(value: i64) -> i32 {
    const { assert!(BITS >= 1 && BITS <= 12, "between 1 and 12 bits are useful") }
    let magnitude = value.unsigned_abs();
    let shift = (magnitude | 1).ilog2().saturating_sub(BITS);
    let number = (shift << BITS) as i32 + (magnitude >> shift) as i32;
    if value < 0 { -number } else { number }
}

/// The value in the middle of a bucket.
fn middle<const BITS: u32>(bucket: i32) -> i64 {
    let number = bucket.unsigned_abs();
    let shift = (number >> BITS).saturating_sub(1);
    let first = u64::from(number - (shift << BITS)) << shift;
    let middle = i128::from(first) + i128::from(((1u64 << shift) - 1) / 2);
    let signed = if bucket < 0 { -middle } else { middle };
    // The last bucket below zero holds the least value alone, which is its first.
    signed.max(i64::MIN.into()) as i64
}

/// Buckets that are added at a time.
const MORE: usize = 32;

/// How many values fell into each bucket, of those between the first and the last that is not empty, and a few around them.
#[derive(Clone, Debug, Default)]
struct Buckets {
    first: i32,
    counts: Vec<u64>,
}

impl Buckets {
    #[inline]
    fn add(&mut self, bucket: i32, count: u64) {
        let at = bucket.wrapping_sub(self.first) as u32 as usize;
        let at = if at < self.counts.len() { at } else { self.make_room(bucket) };
        self.counts[at] = self.counts[at].wrapping_add(count);
    }

    /// Takes a bucket in, and says where it is.
    #[cold]
    fn make_room(&mut self, bucket: i32) -> usize {
        if self.counts.is_empty() {
            self.first = bucket;
        }
        if bucket < self.first {
            let more = self.first.abs_diff(bucket) as usize + MORE;
            self.counts.reserve_exact(more);
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first -= more as i32;
        }
        let at = self.first.abs_diff(bucket) as usize;
        if at >= self.counts.len() {
            self.counts.reserve_exact(at + MORE - self.counts.len());
            self.counts.resize(at + MORE, 0);
        }
        at
    }

    /// Those that are not empty, ascending.
    fn iter(&self) -> impl Iterator<Item = (i32, u64)> {
        (self.first..).zip(self.counts.iter().copied()).filter(|(_, count)| *count > 0)
    }
}

const VALUES: u8 = 0;
const BUCKETS: u8 = 1;

impl<const EXACT: usize, const BITS: u32> State for Quantiles<EXACT, BITS> {
    fn save(&self, out: &mut Vec<u8>) {
        match &self.sketch {
            None => {
                out.push(VALUES);
                put_count(out, self.values.len());
                for (value, count) in &self.values {
                    out.extend_from_slice(&value.to_le_bytes());
                    out.extend_from_slice(&count.to_le_bytes());
                }
            }
            Some(sketch) => {
                out.push(BUCKETS);
                put_count(out, sketch.iter().count());
                for (bucket, count) in sketch.iter() {
                    out.extend_from_slice(&bucket.to_le_bytes());
                    out.extend_from_slice(&count.to_le_bytes());
                }
            }
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        match saved.u8()? {
            VALUES => {
                for _ in 0..saved.count(16)? {
                    let (value, count) = (saved.i64()?, saved.u64()?);
                    if self.values.last_key_value().is_some_and(|(last, _)| *last >= value) || count == 0 {
                        return Err(LoadError::new("values that quantiles are of are not in order"));
                    }
                    self.values.insert(value, count);
                }
                if self.values.len() > EXACT {
                    let message = format!("{} values are more than the {EXACT} that are kept", self.values.len());
                    return Err(LoadError::new(message));
                }
            }
            BUCKETS => {
                let sketch = self.sketch.insert(Buckets::default());
                let range = bucket::<BITS>(i64::MIN)..=bucket::<BITS>(i64::MAX);
                let mut last = None;
                for _ in 0..saved.count(12)? {
                    let (bucket, count) = (saved.u32()? as i32, saved.u64()?);
                    if last.is_some_and(|last| last >= bucket) || !range.contains(&bucket) || count == 0 {
                        return Err(LoadError::new("the buckets of a sketch of quantiles are not in order"));
                    }
                    last = Some(bucket);
                    sketch.add(bucket, count);
                }
            }
            tag => return Err(LoadError::new(format!("what quantiles are of cannot begin with {tag}"))),
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        if let Some(later) = &later.sketch {
            let sketch = self.give_up_exactness();
            later.iter().for_each(|(bucket, count)| sketch.add(bucket, count));
        } else {
            later.values.iter().for_each(|(&value, &count)| self.put(value, count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_laws::check;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn value() -> impl Strategy<Value = i64> {
        let of_any_size = (any::<i64>(), 0..64u32).prop_map(|(value, shift)| value >> shift);
        prop_oneof![of_any_size, -200..200i64, Just(i64::MIN), Just(i64::MAX)]
    }

    /// By the definition of nearest rank, on sorted values.
    fn nearest_rank(sorted: &[i64], part: u32, whole: u32) -> i64 {
        let enough = |rank: &usize| *rank as u64 * u64::from(whole) >= sorted.len() as u64 * u64::from(part);
        sorted[(1..=sorted.len()).find(enough).expect("all of them are enough") - 1]
    }

    fn is_close<const BITS: u32>(found: i64, exact: i64) -> bool {
        i128::from(found).abs_diff(exact.into()) << (BITS + 1) <= i128::from(exact).unsigned_abs()
    }

    proptest! {
        #[test]
        fn the_laws_hold_around_the_bound(values in prop::collection::vec(prop_oneof![value(), 0..9i64], 0..40), dealt in prop::collection::vec(0..4usize, 1..9)) {
            check(Quantiles::<12, 3>::default, |q: &mut Quantiles<12, 3>, &value| q.add(value), &values, &dealt);
            check(Quantiles::<0, 2>::default, |q: &mut Quantiles<0, 2>, &value| q.add(value), &values, &dealt);
        }

        #[test]
        fn quantiles_are_exact_or_as_close_as_promised(
            values in prop::collection::vec(value(), 1..80),
            (part, whole) in (0..=1000u32).prop_flat_map(|part| (Just(part), part.max(1)..=1000)),
        ) {
            let mut quantiles = Quantiles::<40, 6>::default();
            let mut rough = Quantiles::<0, 2>::default();
            values.iter().for_each(|&value| { quantiles.add(value); rough.add(value) });
            let different: BTreeSet<i64> = values.iter().copied().collect();
            let mut sorted = values;
            sorted.sort_unstable();
            let exact = nearest_rank(&sorted, part, whole);
            let found = quantiles.quantile(part, whole).expect("there are values");
            prop_assert_eq!(quantiles.is_exact(), different.len() <= 40);
            prop_assert_eq!(quantiles.count(), sorted.len() as u64);
            prop_assert!(!quantiles.is_exact() || found == exact);
            prop_assert!(is_close::<6>(found, exact), "{} for {}", found, exact);
            let found = rough.quantile(part, whole).expect("there are values");
            prop_assert!(is_close::<2>(found, exact), "{} for {}", found, exact);
        }

        #[test]
        fn buckets_ascend_without_gaps(value in value()) {
            let next = bucket::<6>(value.saturating_add(1)) - bucket::<6>(value);
            prop_assert!(next == 0 || next == 1);
            prop_assert_eq!(bucket::<6>(middle::<6>(bucket::<6>(value))), bucket::<6>(value));
            prop_assert!(is_close::<6>(middle::<6>(bucket::<6>(value)), value));
        }
    }

    /// How close the promise is to what happens: a bound that were twice as large would go unnoticed otherwise.
    #[test]
    fn the_promised_error_is_reached() {
        let worst =
            (1..1_000_000i64).map(|value| (middle::<6>(bucket::<6>(value)) - value).abs() as f64 / value as f64);
        let worst = worst.fold(0.0, f64::max);
        assert!(worst > 0.95 / 128.0 && worst <= 1.0 / 128.0, "{worst}");
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        assert_eq!((bucket::<6>(i64::MIN), bucket::<6>(0), bucket::<6>(i64::MAX)), (-3712, 0, 3711));
        let mut quantiles = Quantiles::<0>::default();
        [i64::MAX, 0, i64::MIN].into_iter().for_each(|value| quantiles.add(value));
        assert_eq!(quantiles.quantile(0, 1), Some(i64::MIN));
        let buckets = quantiles.sketch.unwrap().counts;
        assert!((7424..7424 + 2 * MORE).contains(&buckets.len()) && buckets.capacity() < 7424 + 2 * MORE);
        assert_eq!(Quantiles::<0>::default().quantile(1, 2), None);
    }

    #[test]
    fn what_no_values_give_is_refused() {
        let load = |parts: [&[u8]; 4]| Quantiles::<1>::default().load(&mut Reader::new(&parts.concat())).is_ok();
        let one = |bucket: i32| load([&[BUCKETS], &1u32.to_le_bytes(), &bucket.to_le_bytes(), &1u64.to_le_bytes()]);
        assert_eq!([-3713, -3712, 3711, 3712].map(one), [false, true, true, false]);
        let value = |value: i64| [value.to_le_bytes(), [1, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert!(load([&[VALUES], &1u32.to_le_bytes(), &value(5), &[]]));
        assert!(!load([&[VALUES], &2u32.to_le_bytes(), &value(5), &value(6)]), "more than are kept");
    }
}
