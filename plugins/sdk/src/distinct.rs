//! How many different texts there were, counted on their 64-bit hashes.
//!
//! Two texts with the same hash count as one. With `n` different texts the odds that this happened at all are about
//! `n^2 / 2^65`: 1 in 37 million for a million, 1 in 3,700 for a hundred million. That holds for texts that came about by
//! themselves; XXH3 does not withstand somebody who looks for texts with equal hashes.
//!
//! A million texts take 8 to 32 MiB of memory and save to 8 MB.

use crate::state::{LoadError, Reader, State, put_count};
use crate::text::{PerText, Text};

/// A set of texts, known by their hashes.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    set: HashSet64,
    /// What this batch has put in already.
    seen: PerText<()>,
}

impl Distinct {
    /// Puts a text in.
    #[inline]
    pub fn insert(&mut self, text: Text<'_>) {
        if self.seen.get(text).is_none() {
            self.seen.set(text, ());
            self.set.insert(text.hash());
        }
    }

    /// How many different texts are in.
    pub fn len(&self) -> u64 {
        self.set.len as u64
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn sorted(&self) -> Vec<u64> {
        let mut hashes: Vec<u64> = self.set.iter().collect();
        hashes.sort_unstable();
        hashes
    }
}

impl State for Distinct {
    fn save(&self, out: &mut Vec<u8>) {
        let hashes = self.sorted();
        put_count(out, hashes.len());
        out.reserve(hashes.len() * 8);
        for hash in hashes {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        let count = saved.count(8)?;
        self.set.reserve(count);
        let mut last = None;
        for _ in 0..count {
            let hash = saved.u64()?;
            if last.is_some_and(|last| last >= hash) {
                return Err(LoadError::new("a set of hashes is not in order"));
            }
            last = Some(hash);
            self.set.insert(hash);
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        for hash in later.set.iter() {
            self.set.insert(hash);
        }
    }
}

/// A set of hashes by open addressing: their own lowest bits say where to look, so that a look-up touches one cache line.
#[derive(Clone, Debug, Default)]
struct HashSet64 {
    /// A power of two of slots (or none); 0 is an empty one.
    slots: Vec<u64>,
    /// Whether 0 itself is in.
    zero: bool,
    len: usize,
}

const SMALLEST: usize = 64;

impl HashSet64 {
    #[inline]
    fn insert(&mut self, hash: u64) {
        if hash == 0 {
            self.len += usize::from(!self.zero);
            self.zero = true;
            return;
        }
        if self.len * 2 >= self.slots.len() {
            self.grow_to(self.slots.len() * 2);
        }
        let slot = self.slot_of(hash);
        if self.slots[slot] == 0 {
            self.slots[slot] = hash;
            self.len += 1;
        }
    }

    /// Where the hash is or would be. There is always an empty slot.
    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        while self.slots[slot] != 0 && self.slots[slot] != hash {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn reserve(&mut self, len: usize) {
        if len * 2 >= self.slots.len() {
            self.grow_to((len * 2 + 1).next_power_of_two());
        }
    }

    #[cold]
    fn grow_to(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; slots.max(SMALLEST)]);
        for hash in old.into_iter().filter(|&hash| hash != 0) {
            let slot = self.slot_of(hash);
            self.slots[slot] = hash;
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let zero = self.zero.then_some(0);
        self.slots.iter().copied().filter(|&hash| hash != 0).chain(zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_set_is_a_set(hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, (0..9u64).prop_map(|n| n << 61)], 0..400)) {
            let mut set = HashSet64::default();
            let mut expected = BTreeSet::new();
            for hash in hashes {
                set.insert(hash);
                expected.insert(hash);
                prop_assert_eq!(set.len, expected.len());
            }
            let found: BTreeSet<u64> = set.iter().collect();
            prop_assert_eq!(set.iter().count(), expected.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_load_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut distinct = Distinct::default();
            let mut reader = Reader::new(&bytes);
            if distinct.load(&mut reader).is_ok() {
                let mut saved = Vec::new();
                distinct.save(&mut saved);
                prop_assert!(bytes.starts_with(&saved));
            }
        }
    }
}
