//! One piece of state per time bucket: per hour, per day, by the time of the event. With a guard against too many: the newest
//! buckets are kept apart, and all older ones in one.
//!
//! "Newest" is among the buckets in which something happened. A bucket that is among the newest `KEEP` of all is among the newest
//! `KEEP` of every part that it occurs in, so no part ever gave it up, and order, splits and merges leave no trace. It also means that
//! an event with a time far in the future takes one place, not all of them.

use crate::number::Timestamp;
use crate::state::{LoadError, Reader, State, is_empty, put_count};

/// A [`Series`] by the hour.
pub type PerHour<V, const KEEP: usize> = Series<V, 3_600, KEEP>;
/// A [`Series`] by the day, UTC.
pub type PerDay<V, const KEEP: usize> = Series<V, 86_400, KEEP>;

/// A time series: a piece of state for each bucket of `SECONDS` seconds, counted from 1970-01-01T00:00:00Z.
///
/// Exact for the newest `KEEP` buckets that have events, and for [`Series::older`] ones together. The merge of `V` must
/// commute. Takes 8 bytes and `V` per bucket, saves to the same.
///
/// ```
/// use tally_sdk::{Count, PerHour, Timestamp};
///
/// let at = |hour: i64| Timestamp { micros: hour * 3_600_000_000 + 5 };
/// let mut views = PerHour::<Count, 2>::default();
/// for hour in [7, 7, 9, 4, 8] {
///     views.entry(at(hour)).add(1);
/// }
/// let rows: Vec<_> = views.iter().map(|(start, count)| (start.micros / 3_600_000_000, count.0)).collect();
/// assert_eq!((rows, views.older().0), (vec![(8, 1), (9, 1)], 3));
/// ```
#[derive(Clone, Debug)]
pub struct Series<V, const SECONDS: i64, const KEEP: usize> {
    /// Which bucket, and its state; ascending.
    buckets: Vec<(i64, V)>,
    older: V,
    /// The one that was asked for last.
    last: usize,
}

impl<V: Default, const SECONDS: i64, const KEEP: usize> Default for Series<V, SECONDS, KEEP> {
    fn default() -> Self {
        const { assert!(SECONDS > 0 && SECONDS <= i64::MAX / 1_000_000 && KEEP > 0, "at least one bucket is kept") }
        Self { buckets: Vec::new(), older: V::default(), last: 0 }
    }
}

impl<V: State + Default, const SECONDS: i64, const KEEP: usize> Series<V, SECONDS, KEEP> {
    const MICROS: i64 = SECONDS * 1_000_000;

    /// The state of the bucket that this time is in.
    #[inline]
    pub fn entry(&mut self, time: Timestamp) -> &mut V {
        self.entry_of(time.micros.div_euclid(Self::MICROS))
    }

    /// The buckets that are kept apart, by the time at which they begin, oldest first; those without events are not among them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Timestamp, &V)> {
        let start = |bucket: i64| Timestamp { micros: bucket.saturating_mul(Self::MICROS) };
        self.buckets.iter().map(move |(bucket, value)| (start(*bucket), value))
    }

    /// The state of all older buckets together.
    pub fn older(&self) -> &V {
        &self.older
    }

    #[inline]
    fn entry_of(&mut self, bucket: i64) -> &mut V {
        if self.buckets.get(self.last).is_none_or(|(last, _)| *last != bucket) {
            match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
                Ok(at) => self.last = at,
                Err(0) if self.buckets.len() == KEEP => return &mut self.older,
                Err(at) => self.last = self.take_in(at, bucket),
            }
        }
        &mut self.buckets[self.last].1
    }

    /// Puts an empty bucket in at this place, and says where it then is.
    #[cold]
    fn take_in(&mut self, at: usize, bucket: i64) -> usize {
        if self.buckets.len() < KEEP {
            self.buckets.insert(at, (bucket, V::default()));
            return at;
        }
        self.older.merge(&self.buckets[0].1);
        self.buckets[0] = (bucket, V::default());
        self.buckets[..at].rotate_left(1);
        at - 1
    }
}

impl<V: State + Default, const SECONDS: i64, const KEEP: usize> State for Series<V, SECONDS, KEEP> {
    fn save(&self, out: &mut Vec<u8>) {
        self.older.save(out);
        put_count(out, self.buckets.len());
        for (bucket, value) in &self.buckets {
            out.extend_from_slice(&bucket.to_le_bytes());
            value.save(out);
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.older.load(saved)?;
        let count = saved.count(8)?;
        if count > KEEP || count < KEEP && !is_empty(&self.older) {
            return Err(LoadError::new(format!("a series keeps {count} time buckets apart, not {KEEP}")));
        }
        for _ in 0..count {
            let bucket = saved.i64()?;
            if self.buckets.last().is_some_and(|(last, _)| *last >= bucket) {
                return Err(LoadError::new("the time buckets of a series are not in order"));
            }
            let mut value = V::default();
            value.load(saved)?;
            self.buckets.push((bucket, value));
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.older.merge(&later.older);
        for (bucket, value) in &later.buckets {
            self.entry_of(*bucket).merge(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Count;
    use crate::block_laws::check;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type PerSecond<const KEEP: usize> = Series<Count, 1, KEEP>;

    fn times() -> impl Strategy<Value = Vec<i64>> {
        let time = prop_oneof![-9_000_000..9_000_000i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
        prop::collection::vec(time, 0..50)
    }

    fn put<const KEEP: usize>(series: &mut PerSecond<KEEP>, micros: &i64) {
        series.entry(Timestamp { micros: *micros }).add(1);
    }

    proptest! {
        #[test]
        fn the_laws_hold(times in times(), dealt in prop::collection::vec(0..4usize, 1..9)) {
            check(PerSecond::<4>::default, put, &times, &dealt);
            check(PerSecond::<1>::default, put, &times, &dealt);
        }

        #[test]
        fn the_newest_are_counted_apart_and_the_rest_together(times in times()) {
            let mut series = PerSecond::<5>::default();
            let mut model = BTreeMap::<i64, u64>::new();
            for time in &times {
                put(&mut series, time);
                *model.entry((i128::from(*time)).div_euclid(1_000_000) as i64).or_default() += 1;
            }
            let found: Vec<(i64, u64)> = series.iter().map(|(start, count)| (start.micros, count.0)).collect();
            let newest = model.iter().skip(model.len().saturating_sub(5));
            let expected: Vec<(i64, u64)> = newest.map(|(second, count)| (second.saturating_mul(1_000_000), *count)).collect();
            let older: u64 = model.values().take(model.len().saturating_sub(5)).sum();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(series.older().0, older);
        }
    }

    #[test]
    fn older_ones_without_as_many_as_are_kept_and_more_are_refused() {
        let load = |older: u64, count: u32| {
            let buckets = (0..u64::from(count)).flat_map(|bucket| [bucket, 1]).flat_map(u64::to_le_bytes);
            let bytes: Vec<u8> = older.to_le_bytes().into_iter().chain(count.to_le_bytes()).chain(buckets).collect();
            PerSecond::<2>::default().load(&mut Reader::new(&bytes)).map_err(|error| error.to_string())
        };
        assert_eq!((load(0, 1), load(3, 2)), (Ok(()), Ok(())));
        assert_eq!(load(3, 1).unwrap_err(), "a series keeps 1 time buckets apart, not 2");
        assert_eq!(load(3, 3).unwrap_err(), "a series keeps 3 time buckets apart, not 2");
    }
}
