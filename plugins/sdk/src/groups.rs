//! One piece of state per text: counts by page, by country, by post. Texts are compared whole, not by hash.

use crate::state::{LoadError, Reader, State, put_count};
use crate::text::{PerText, Text};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// A map from text to a piece of state. Entries are numbered as they come; the numbers stay as they are until
/// [`State::load`], and must not show in what is saved or reported.
#[derive(Clone, Debug)]
pub struct Groups<V> {
    /// Numbers by hash, each beside the upper half of its hash: few look-ups touch another text's key.
    table: HashTable<(u32, u32)>,
    hashes: Vec<u64>,
    /// The keys, one after another, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    values: Vec<V>,
    /// The numbers of this batch's texts.
    numbers: PerText<u32>,
}

impl<V> Default for Groups<V> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            hashes: Vec::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            numbers: PerText::default(),
        }
    }
}

impl<V> Groups<V> {
    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The text with this number.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn key(&self, number: usize) -> &str {
        // Keys come in as text, so the second look can't fail.
        std::str::from_utf8(self.key_bytes(number)).unwrap_or_default()
    }

    /// The bytes of the text with this number.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn key_bytes(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.keys[start..self.ends[number]]
    }

    /// The pieces of state, by number.
    #[inline]
    pub fn values(&self) -> &[V] {
        &self.values
    }

    /// The pieces of state, by number.
    #[inline]
    pub fn values_mut(&mut self) -> &mut [V] {
        &mut self.values
    }

    /// Texts and their state, in no order that may show.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        (0..self.len()).map(|number| (self.key(number), &self.values[number]))
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.table
            .find(hash, |&(upper, number)| upper == upper_half(hash) && self.key_bytes(number as usize) == key)
            .map(|&(_, number)| number)
    }

    fn in_key_order(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.len()).collect();
        numbers.sort_unstable_by(|&a, &b| self.key_bytes(a).cmp(self.key_bytes(b)));
        numbers
    }
}

impl<V: Default> Groups<V> {
    /// The state of this text, made if it is new.
    #[inline]
    pub fn entry(&mut self, text: Text<'_>) -> &mut V {
        let number = self.number(text);
        &mut self.values[number]
    }

    /// The number of this text, given if it is new. Looked up once per batch and text.
    #[inline]
    pub fn number(&mut self, text: Text<'_>) -> usize {
        if let Some(number) = self.numbers.get(text) {
            return number as usize;
        }
        let number = self.number_of(text.hash(), text.as_bytes());
        self.numbers.set(text, number);
        number as usize
    }

    fn number_of(&mut self, hash: u64, key: &[u8]) -> u32 {
        self.find(hash, key).unwrap_or_else(|| self.add(hash, key))
    }

    #[cold]
    fn add(&mut self, hash: u64, key: &[u8]) -> u32 {
        let number = u32::try_from(self.values.len()).expect("fewer than 2^32 groups");
        let hashes = &self.hashes;
        self.table.insert_unique(hash, (upper_half(hash), number), |&(_, number)| hashes[number as usize]);
        self.hashes.push(hash);
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.values.push(V::default());
        number
    }
}

fn upper_half(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl<V: State + Default> State for Groups<V> {
    fn save(&self, out: &mut Vec<u8>) {
        put_count(out, self.len());
        for number in self.in_key_order() {
            let key = self.key_bytes(number);
            put_count(out, key.len());
            out.extend_from_slice(key);
            self.values[number].save(out);
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        let count = saved.count(4)?;
        let mut last: Option<&str> = None;
        for _ in 0..count {
            let key = saved.text()?;
            if last.is_some_and(|last| last >= key) {
                return Err(LoadError::new(format!("the key {key:?} is not in order in its map")));
            }
            last = Some(key);
            let number = self.add(xxh3_64(key.as_bytes()), key.as_bytes());
            self.values[number as usize].load(saved)?;
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        for (number, value) in later.values.iter().enumerate() {
            let here = self.number_of(later.hashes[number], later.key_bytes(number));
            self.values[here as usize].merge(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Count;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn groups(counted: &[(String, u64)]) -> Groups<Count> {
        let mut groups = Groups::<Count>::default();
        for (key, count) in counted {
            let number = groups.number_of(xxh3_64(key.as_bytes()), key.as_bytes());
            groups.values_mut()[number as usize].add(*count);
        }
        groups
    }

    fn saved(groups: &Groups<Count>) -> Vec<u8> {
        let mut out = Vec::new();
        groups.save(&mut out);
        out
    }

    proptest! {
        #[test]
        fn groups_are_a_map(counted in prop::collection::vec(("[a-c]{0,3}", 0..9u64), 0..80)) {
            let groups = groups(&counted);
            let mut expected = BTreeMap::<&str, u64>::new();
            for (key, count) in &counted {
                *expected.entry(key).or_default() += count;
            }
            let found: BTreeMap<&str, u64> = groups.iter().map(|(key, count)| (key, count.0)).collect();
            prop_assert_eq!(groups.len(), expected.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn one_map_saves_to_one_sequence_of_bytes(counted in prop::collection::vec(("[a-c]{0,3}", 0..9u64), 0..80)) {
            let there = groups(&counted);
            let back = groups(&counted.into_iter().rev().collect::<Vec<_>>());
            prop_assert_eq!(saved(&there), saved(&back));
        }

        #[test]
        fn any_bytes_load_or_are_refused(bytes in prop::collection::vec(0..6u8, 0..80)) {
            let mut groups = Groups::<Count>::default();
            if groups.load(&mut Reader::new(&bytes)).is_ok() {
                prop_assert!(bytes.starts_with(&saved(&groups)));
            }
        }
    }

    #[test]
    fn equal_hashes_do_not_make_equal_keys() {
        let mut groups = Groups::<Count>::default();
        assert_eq!(groups.number_of(1, b"a"), 0);
        assert_eq!(groups.number_of(1, b"b"), 1);
        assert_eq!(groups.number_of(1, b"a"), 0);
    }
}
