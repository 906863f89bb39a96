//! How many values fall between given bounds. Exact.

use crate::state::{LoadError, Reader, State, put_count};

/// Counts of integers (or of decimals of one scale) by bounds that are given once, as in a Prometheus histogram: a value counts for the
/// first bound that it does not exceed.
///
/// The bounds are saved with the counts, and states of other bounds are not loaded: if they are settings, let
/// [`crate::Aggregator::state_version`] tell of them. Exact; 16 bytes per bound, in memory and saved.
///
/// ```
/// use tally_sdk::Histogram;
///
/// let mut millis = Histogram::new(&[10, 100, 1000])?;
/// [7, 10, 11, 5000].into_iter().for_each(|value| millis.add(value));
/// let rows: Vec<_> = millis.iter().collect();
/// assert_eq!(rows, [(Some(10), 2), (Some(100), 1), (Some(1000), 0), (None, 1)]);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: Box<[i64]>,
    /// One more than bounds.
    counts: Box<[u64]>,
}

impl Histogram {
    /// An empty histogram with these upper bounds, each larger than the one before; the error is for whoever chose them.
    pub fn new(bounds: &[i64]) -> Result<Self, String> {
        if let Some(pair) = bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("the bounds of a histogram must ascend: {} does not come after {}", pair[1], pair[0]));
        }
        Ok(Self { bounds: bounds.into(), counts: vec![0; bounds.len() + 1].into() })
    }

    /// Takes a value in.
    #[inline]
    pub fn add(&mut self, value: i64) {
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.counts[at] = self.counts[at].wrapping_add(1);
    }

    /// Upper bounds and how many values each has that exceed the bound before; the last one has no bound.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Option<i64>, u64)> {
        self.counts.iter().enumerate().map(|(at, &count)| (self.bounds.get(at).copied(), count))
    }
}

impl State for Histogram {
    fn save(&self, out: &mut Vec<u8>) {
        put_count(out, self.bounds.len());
        self.bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
        self.counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        let bounds = (0..saved.count(8)?).map(|_| saved.i64()).collect::<Result<Vec<i64>, _>>()?;
        if *bounds != *self.bounds {
            return Err(LoadError::new(format!(
                "a histogram was saved with the bounds {bounds:?}, and now has {:?}; the state version should have told",
                self.bounds
            )));
        }
        self.counts.iter_mut().try_for_each(|count| saved.u64().map(|saved| *count = saved))
    }

    fn merge(&mut self, later: &Self) {
        assert_eq!(self.bounds, later.bounds, "histograms of one aggregator have the same bounds");
        for (count, later) in self.counts.iter_mut().zip(&later.counts) {
            *count = count.wrapping_add(*later);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_laws::{check, saved};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn histogram(bounds: &BTreeSet<i64>) -> Histogram {
        Histogram::new(&bounds.iter().copied().collect::<Vec<_>>()).expect("they ascend")
    }

    fn values() -> impl Strategy<Value = Vec<i64>> {
        prop::collection::vec(prop_oneof![-9..9i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)], 0..50)
    }

    proptest! {
        #[test]
        fn the_laws_hold(bounds in prop::collection::btree_set(-9..9i64, 0..6), values in values(), dealt in prop::collection::vec(0..4usize, 1..9)) {
            check(|| histogram(&bounds), |histogram: &mut Histogram, &value| histogram.add(value), &values, &dealt);
        }

        #[test]
        fn a_value_counts_where_a_scan_says(bounds in prop::collection::btree_set(-9..9i64, 0..6), values in values()) {
            let mut histogram = histogram(&bounds);
            values.iter().for_each(|&value| histogram.add(value));
            let mut below = None;
            for (bound, count) in histogram.iter() {
                let is_here = |value: &&i64| below.is_none_or(|below| **value > below) && bound.is_none_or(|bound| **value <= bound);
                prop_assert_eq!(count, values.iter().filter(is_here).count() as u64);
                below = bound;
            }
            prop_assert_eq!(histogram.iter().len(), bounds.len() + 1);
        }
    }

    #[test]
    fn bounds_ascend_and_stay_as_they_are() {
        assert_eq!(
            Histogram::new(&[1, 5, 5]).unwrap_err(),
            "the bounds of a histogram must ascend: 5 does not come after 5"
        );
        let bytes = saved(&Histogram::new(&[1, 5]).unwrap());
        let error = Histogram::new(&[1, 6]).unwrap().load(&mut Reader::new(&bytes)).unwrap_err();
        assert!(error.to_string().contains("the bounds [1, 5], and now has [1, 6]"), "{error}");
    }
}
