//! One piece of state per text, with a guard against too many texts: `K` of them are kept apart, chosen by hash, and all others in one.
//!
//! Kept are the `K` texts with the smallest hashes (XXH3-64, ties by the text): a bottom-k sample, as in Cohen and Kaplan,
//! "Summarizing data using bottom-k sketches" (2007). Why that leaves no trace of order, splits and merges: a text that is among the `K`
//! smallest of all is among the `K` smallest of every part that it occurs in, so no part ever gave it up, and what is kept of it is
//! complete. What is kept of all others together is then complete as well. Frequent texts (Space-Saving, Misra-Gries) cannot be kept that
//! way: which are given up depends on the order.
//!
//! In memory up to twice as many are kept apart, and given up together; what is saved and shown never depends on when that was.

use crate::groups::Groups;
use crate::state::{LoadError, Reader, State, is_empty, put_count};
use crate::text::Text;
use xxhash_rust::xxh3::xxh3_64;

/// A map from text to a piece of state with at most `K` entries, and one for [`BottomK::other`] texts.
///
/// Up to `K` texts it is [`Groups`], exactly. Beyond, the entries are a random sample of the texts, each complete and exact, and
/// `other` is exact for the rest together; that a text is frequent does not help it in. For counts by a field that should have few values, and might have a million.
///
/// The merge of `V` must commute. Takes the memory of `2 K` entries of [`Groups`], and saves to `K` entries: text, 4 bytes and `V`. XXH3 is
/// no secret: somebody who makes up texts with small hashes can push others out, but never past `K`.
///
/// ```
/// use tally_sdk::{BottomK, Count, testing::with_texts};
///
/// let mut countries = BottomK::<Count, 2>::default();
/// with_texts(&["at", "de", "at"], |texts| texts.iter().for_each(|&country| countries.entry(country).add(1)));
/// let mut rows: Vec<_> = countries.iter().map(|(country, count)| (country, count.0)).collect();
/// rows.sort();
/// assert_eq!((rows, countries.other().0), (vec![("at", 2), ("de", 1)], 0));
///
/// with_texts(&["fr", "ch", "fr"], |texts| texts.iter().for_each(|&country| countries.entry(country).add(1)));
/// let kept: u64 = countries.iter().map(|(_, count)| count.0).sum();
/// assert_eq!((countries.iter().len(), kept + countries.other().0, countries.is_exact()), (2, 6, false));
/// ```
#[derive(Clone, Debug)]
pub struct BottomK<V, const K: usize> {
    /// The smallest, and others that were not given up yet.
    groups: Groups<V>,
    /// Of those that were given up, or never taken.
    other: V,
    /// The largest of `K` texts that were there at some time: what is larger is not among the smallest.
    limit: Option<(u64, Box<[u8]>)>,
}

impl<V: Default, const K: usize> Default for BottomK<V, K> {
    fn default() -> Self {
        const { assert!(K > 0, "at least one text is kept") }
        Self { groups: Groups::default(), other: V::default(), limit: None }
    }
}

impl<V: State + Default, const K: usize> BottomK<V, K> {
    /// The state that this text counts for.
    #[inline]
    pub fn entry(&mut self, text: Text<'_>) -> &mut V {
        if self.is_beyond(text.hash(), text.as_bytes()) {
            return &mut self.other;
        }
        let number = self.groups.number(text);
        if self.groups.len() > 2 * K {
            self.give_up();
            return self.entry(text);
        }
        &mut self.groups.values_mut()[number]
    }

    /// The texts that are kept apart and their state, by hash: put them in an order of their own to show them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &V)> {
        let smallest = self.smallest().into_iter().take(K);
        smallest.map(|(_, number)| (self.groups.key(number), &self.groups.values()[number]))
    }

    /// The state of all other texts together.
    pub fn other(&self) -> V {
        let mut other = V::default();
        other.merge(&self.other);
        self.smallest().iter().skip(K).for_each(|&(_, number)| other.merge(&self.groups.values()[number]));
        other
    }

    /// Whether nothing was left to `other`.
    pub fn is_exact(&self) -> bool {
        is_empty(&self.other())
    }

    /// By hash and text, each with its number.
    fn smallest(&self) -> Vec<(u64, usize)> {
        let mut order: Vec<_> = (0..self.groups.len()).map(|at| (xxh3_64(self.groups.key_bytes(at)), at)).collect();
        order.sort_unstable_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| self.groups.key_bytes(a.1).cmp(self.groups.key_bytes(b.1)))
        });
        order
    }

    #[inline]
    fn is_beyond(&self, hash: u64, key: &[u8]) -> bool {
        self.limit.as_ref().is_some_and(|(limit, text)| hash > *limit || hash == *limit && *key > **text)
    }

    /// Leaves all but the smallest to `other`.
    #[cold]
    fn give_up(&mut self) {
        let order = self.smallest();
        let mut groups = std::mem::take(&mut self.groups);
        for (nth, &(hash, number)) in order.iter().enumerate() {
            let value = std::mem::take(&mut groups.values_mut()[number]);
            if nth < K {
                *self.groups.entry_of(groups.key_bytes(number)) = value;
            } else {
                self.other.merge(&value);
            }
            if nth + 1 == K {
                self.limit = Some((hash, groups.key_bytes(number).into()));
            }
        }
    }
}

impl<V: State + Default, const K: usize> State for BottomK<V, K> {
    fn save(&self, out: &mut Vec<u8>) {
        self.other().save(out);
        let entries = self.iter();
        put_count(out, entries.len());
        for (key, value) in entries {
            put_count(out, key.len());
            out.extend_from_slice(key.as_bytes());
            value.save(out);
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.other.load(saved)?;
        let count = saved.count(4)?;
        if count > K || count < K && !is_empty(&self.other) {
            return Err(LoadError::new(format!("{count} texts are kept apart, not {K}")));
        }
        for _ in 0..count {
            let key = saved.text()?;
            let hash = xxh3_64(key.as_bytes());
            let in_order = self.limit.as_ref().is_none_or(|last| (last.0, &*last.1) < (hash, key.as_bytes()));
            if !in_order {
                return Err(LoadError::new(format!("the text {key:?} is not in the order of hashes")));
            }
            self.limit = Some((hash, key.as_bytes().into()));
            self.groups.entry_of(key.as_bytes()).load(saved)?;
        }
        if count < K {
            self.limit = None;
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.other.merge(&later.other);
        for (number, value) in later.groups.values().iter().enumerate() {
            let key = later.groups.key_bytes(number);
            if self.is_beyond(xxh3_64(key), key) {
                self.other.merge(value);
                continue;
            }
            self.groups.entry_of(key).merge(value);
            if self.groups.len() > 2 * K {
                self.give_up();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Count;
    use crate::block_laws::check;
    use crate::testing::with_texts;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn with_counted<const K: usize>(texts: &[String], look: impl FnOnce(&BottomK<Count, K>)) {
        let mut counts = BottomK::<Count, K>::default();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        // Batches of seven.
        for texts in texts.chunks(7) {
            with_texts(texts, |texts| texts.iter().for_each(|&text| counts.entry(text).add(1)));
        }
        look(&counts);
    }

    proptest! {
        #[test]
        fn the_laws_hold(texts in prop::collection::vec("[a-d]{0,2}", 0..50), dealt in prop::collection::vec(0..4usize, 1..9)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            with_texts(&texts, |texts| {
                check(BottomK::<Count, 4>::default, |counts: &mut BottomK<_, 4>, &text| counts.entry(text).add(1), texts, &dealt);
                check(BottomK::<Count, 1>::default, |counts: &mut BottomK<_, 1>, &text| counts.entry(text).add(1), texts, &dealt);
            });
        }

        #[test]
        fn the_texts_with_the_smallest_hashes_are_counted_exactly_and_the_rest_together(texts in prop::collection::vec("[a-e]{0,3}", 0..200)) {
            let mut model = BTreeMap::<(u64, &str), u64>::new();
            for text in &texts {
                *model.entry((xxh3_64(text.as_bytes()), text)).or_default() += 1;
            }
            let expected: Vec<(&str, u64)> = model.iter().take(5).map(|((_, text), count)| (*text, *count)).collect();
            let other: u64 = model.values().skip(5).sum();
            with_counted::<5>(&texts, |counts| {
                let found: Vec<(&str, u64)> = counts.iter().map(|(text, count)| (text, count.0)).collect();
                assert_eq!(found, expected);
                assert_eq!(counts.other().0, other);
                assert_eq!(counts.is_exact(), model.len() <= 5);
                assert!(counts.groups.len() <= 10);
            });
        }
    }

    #[test]
    fn others_without_k_texts_and_more_than_k_are_refused() {
        let load = |other: u64, count: u32| {
            let texts = (0..count).flat_map(|_| [0u8; 12]);
            let bytes: Vec<u8> = other.to_le_bytes().into_iter().chain(count.to_le_bytes()).chain(texts).collect();
            BottomK::<Count, 1>::default().load(&mut Reader::new(&bytes)).map_err(|error| error.to_string())
        };
        assert_eq!((load(0, 0), load(3, 1)), (Ok(()), Ok(())));
        assert_eq!(load(3, 0).unwrap_err(), "0 texts are kept apart, not 1");
        assert_eq!(load(3, 2).unwrap_err(), "2 texts are kept apart, not 1");
    }

    /// No two short texts share a hash, so those that would are made up.
    #[test]
    fn texts_with_one_hash_are_told_apart() {
        let hash = xxh3_64(b"b");
        let counts = BottomK::<Count, 1> { limit: Some((hash, (*b"b").into())), ..BottomK::default() };
        assert!(counts.is_beyond(hash, b"c") && !counts.is_beyond(hash, b"b") && !counts.is_beyond(hash, b"a"));
        assert!(counts.is_beyond(hash + 1, b"a") && !counts.is_beyond(hash - 1, b"c"));
    }
}
