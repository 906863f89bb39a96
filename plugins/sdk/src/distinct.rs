//! How many different texts there were, counted on their 64-bit hashes.
//!
//! Two texts with the same hash count as one. With `n` different texts the odds that this happened at all are about
//! `n^2 / 2^65`: 1 in 37 million for a million, 1 in 3,700 for a hundred million. That holds for texts that came about by
//! themselves; XXH3 does not withstand somebody who looks for texts with equal hashes.
//!
//! A million texts take 8 to 32 MiB of memory and save to 8 MB.

use crate::state::{LoadError, Reader, State, put_count};
use crate::text::{PerText, Text};
use std::borrow::Cow;
use std::cell::RefCell;

/// A set of texts, known by their hashes.
#[derive(Clone, Debug, Default)]
pub struct Distinct {
    set: RefCell<Gathered>,
    /// What this batch has put in already.
    seen: PerText<()>,
}

impl Distinct {
    /// Puts a text in.
    #[inline]
    pub fn insert(&mut self, text: Text<'_>) {
        if self.seen.get(text).is_none() {
            self.seen.set(text, ());
            self.set.get_mut().insert(text.hash());
        }
    }

    /// How many different texts are in.
    pub fn len(&self) -> u64 {
        self.set.borrow_mut().len() as u64
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State for Distinct {
    fn save(&self, out: &mut Vec<u8>) {
        let mut set = self.set.borrow_mut();
        let hashes = set.sorted();
        put_count(out, hashes.len());
        out.reserve(hashes.len() * 8);
        for hash in &*hashes {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        let count = saved.count(8)?;
        let mut set = HashSet64::default();
        let mut hashes = Vec::new();
        if count > MOST_LOADED {
            set.reserve(count);
        } else {
            hashes.reserve_exact(count);
        }
        let mut last = None;
        for _ in 0..count {
            let hash = saved.u64()?;
            if last.is_some_and(|last| last >= hash) {
                return Err(LoadError::new("a set of hashes is not in order"));
            }
            last = Some(hash);
            if count > MOST_LOADED { set.insert(hash) } else { hashes.push(hash) }
        }
        *self.set.get_mut() = Gathered { set, waiting: Vec::new(), loaded: hashes };
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        let mut later = later.set.borrow_mut();
        let set = self.set.get_mut().settled();
        match later.only_loaded() {
            Some(hashes) => set.merge(|| hashes.iter().copied()),
            None => {
                let later = later.settled();
                set.merge(|| later.iter());
            }
        }
    }
}

/// Up to so many hashes (4 MiB) stay as they were loaded until somebody puts another one in; more would not fit twice.
const MOST_LOADED: usize = 1 << 19;

/// How many hashes are gathered before they are looked up.
const GATHERED: usize = 64;

/// A set whose look-ups are done many at a time: where it is larger than the caches each of them waits for memory, and waiting for
/// many at once takes hardly longer than for one.
#[derive(Clone, Debug, Default)]
struct Gathered {
    set: HashSet64,
    /// Not in the set yet.
    waiting: Vec<u64>,
    /// Not in the set yet either; ascending. What was loaded is often only saved again or merged into another set.
    loaded: Vec<u64>,
}

impl Gathered {
    #[inline]
    fn insert(&mut self, hash: u64) {
        self.waiting.push(hash);
        if self.waiting.len() == GATHERED {
            self.settled();
        }
    }

    /// What was loaded, if that is all.
    fn only_loaded(&self) -> Option<&[u64]> {
        (self.set.len == 0 && self.waiting.is_empty()).then_some(&self.loaded)
    }

    fn len(&mut self) -> usize {
        self.only_loaded().map(<[u64]>::len).unwrap_or_else(|| self.settled().len)
    }

    /// All hashes, ascending.
    fn sorted(&mut self) -> Cow<'_, [u64]> {
        if self.only_loaded().is_none() {
            return Cow::Owned(self.settled().sorted());
        }
        Cow::Borrowed(&self.loaded)
    }

    /// The set with everything in it.
    fn settled(&mut self) -> &mut HashSet64 {
        let loaded = std::mem::take(&mut self.loaded);
        self.set.merge(|| loaded.iter().copied());
        self.set.reserve(self.set.len + self.waiting.len());
        // Looks that depend on nothing, so that they all wait together.
        std::hint::black_box(self.waiting.iter().fold(0, |all, &hash| all ^ self.set.look(hash)));
        for hash in self.waiting.drain(..) {
            self.set.insert(hash);
        }
        &mut self.set
    }
}

/// A set of hashes by open addressing: their own highest bits say where to look, so that a look-up touches one cache line, and the
/// hashes lie in it nearly in their order.
#[derive(Clone, Debug, Default)]
struct HashSet64 {
    /// A power of two of slots (or none); 0 is an empty one.
    slots: Vec<u64>,
    /// Bits of a hash that do not count for its place.
    shift: u32,
    /// Whether 0 itself is in.
    zero: bool,
    len: usize,
}

const SMALLEST: usize = 64;

impl HashSet64 {
    /// Puts a hash in.
    #[inline(always)]
    fn insert(&mut self, hash: u64) {
        if hash == 0 {
            self.len += usize::from(!self.zero);
            self.zero = true;
            return;
        }
        if self.slots.is_empty() {
            self.grow_to(SMALLEST);
        }
        let slot = self.slot_of(hash);
        if self.slots[slot] == 0 {
            if (self.len + 1) * 2 > self.slots.len() {
                self.grow_to(self.slots.len() * 2);
                return self.insert(hash);
            }
            self.slots[slot] = hash;
            self.len += 1;
        }
    }

    /// Where to begin to look for the hash.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> self.shift) as usize
    }

    /// What is where the hash would be.
    #[inline]
    fn look(&self, hash: u64) -> u64 {
        self.slots.get(self.home(hash)).copied().unwrap_or_default()
    }

    /// Where the hash is or would be. There is always an empty slot.
    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 && self.slots[slot] != hash {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn reserve(&mut self, len: usize) {
        if len * 2 > self.slots.len() {
            self.grow_to((len * 2).next_power_of_two());
        }
    }

    /// They come in their order: if the set grew on the way, all of them would crowd in the beginning of one that is still too small.
    fn merge<I: Iterator<Item = u64>>(&mut self, later: impl Fn() -> I) {
        let new = later().filter(|&hash| !self.contains(hash)).count();
        self.reserve(self.len + new);
        later().for_each(|hash| self.insert(hash));
    }

    fn contains(&self, hash: u64) -> bool {
        if hash == 0 { self.zero } else { !self.slots.is_empty() && self.slots[self.slot_of(hash)] == hash }
    }

    #[cold]
    fn grow_to(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![0; slots.max(SMALLEST)]);
        self.shift = 64 - self.slots.len().trailing_zeros();
        for hash in old.into_iter().filter(|&hash| hash != 0) {
            let slot = self.slot_of(hash);
            self.slots[slot] = hash;
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        let zero = self.zero.then_some(0);
        zero.into_iter().chain(self.slots.iter().copied().filter(|&hash| hash != 0))
    }

    /// All hashes, ascending.
    fn sorted(&self) -> Vec<u64> {
        let mut hashes = Vec::with_capacity(self.len);
        hashes.extend(self.zero.then_some(0));
        // Those that found the end taken lie at the beginning.
        let first_run = self.slots.iter().position(|&hash| hash == 0).unwrap_or_default();
        let is_wrapped = |slot: usize, hash: u64| slot < first_run && self.home(hash) > slot;
        let taken = || self.slots.iter().copied().enumerate().filter(|(_, hash)| *hash != 0);
        hashes.extend(taken().filter(|&(slot, hash)| !is_wrapped(slot, hash)).map(|(_, hash)| hash));
        hashes.extend(taken().take(first_run).filter(|&(slot, hash)| is_wrapped(slot, hash)).map(|(_, hash)| hash));
        // Each is at most a run of slots away from its place.
        for end in 1..hashes.len() {
            let hash = hashes[end];
            let mut at = end;
            while at > 0 && hashes[at - 1] > hash {
                hashes[at] = hashes[at - 1];
                at -= 1;
            }
            hashes[at] = hash;
        }
        hashes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_that_is_too_large_to_stay_as_it_was_loaded_is_the_same() {
        let mut saved = Vec::new();
        put_count(&mut saved, MOST_LOADED + 1);
        (0..=MOST_LOADED as u64).for_each(|number| saved.extend_from_slice(&(number << 43).to_le_bytes()));
        let mut distinct = Distinct::default();
        distinct.load(&mut Reader::new(&saved)).expect("they are in order");
        assert!(distinct.set.get_mut().only_loaded().is_none());
        assert_eq!(distinct.len(), MOST_LOADED as u64 + 1);
        let mut again = Vec::new();
        distinct.save(&mut again);
        assert!(again == saved);
    }

    proptest! {
        #[test]
        fn the_set_is_a_set(hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, (0..9u64).prop_map(|n| n << 61), (0..90u64).prop_map(|n| u64::MAX - n)], 0..400)) {
            let mut set = HashSet64::default();
            let mut expected = BTreeSet::new();
            for hash in hashes {
                set.insert(hash);
                expected.insert(hash);
                prop_assert_eq!(set.len, expected.len());
            }
            let found: BTreeSet<u64> = set.iter().collect();
            prop_assert_eq!(set.iter().count(), expected.len());
            prop_assert_eq!(set.sorted(), found.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_gathered_is_in_whenever_somebody_looks(
            hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, (0..9u64).prop_map(|n| u64::MAX - n)], 0..400),
            looks in prop::collection::vec(0..400usize, 0..5)
        ) {
            let mut gathered = Gathered::default();
            let mut expected = BTreeSet::new();
            for (number, hash) in hashes.into_iter().enumerate() {
                gathered.insert(hash);
                expected.insert(hash);
                if looks.contains(&number) {
                    prop_assert_eq!(gathered.settled().len, expected.len());
                }
            }
            prop_assert_eq!(gathered.settled().sorted(), expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_merge_is_the_union(
            one in prop::collection::vec(prop_oneof![any::<u64>(), 0..99u64], 0..400),
            other in prop::collection::vec(prop_oneof![any::<u64>(), 0..99u64], 0..400)
        ) {
            let set = |hashes: &[u64]| {
                let mut set = HashSet64::default();
                hashes.iter().for_each(|&hash| set.insert(hash));
                set
            };
            let mut merged = set(&one);
            let other_set = set(&other);
            merged.merge(|| other_set.iter());
            let expected: BTreeSet<u64> = one.iter().chain(&other).copied().collect();
            prop_assert_eq!(merged.len, expected.len());
            prop_assert_eq!(merged.sorted(), expected.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn what_was_loaded_counts_like_what_was_put_in(
            sets in prop::collection::vec(prop::collection::btree_set(prop_oneof![any::<u64>(), 0..99u64], 0..99), 1..5),
            more in prop::collection::vec(0..99u64, 0..9),
        ) {
            let loaded = |set: &BTreeSet<u64>| {
                let mut distinct = Distinct::default();
                distinct.set.get_mut().loaded = set.iter().copied().collect();
                distinct
            };
            let mut all = loaded(&sets[0]);
            let mut expected = sets[0].clone();
            prop_assert_eq!(all.len(), expected.len() as u64);
            for set in &sets[1..] {
                all.merge(&loaded(set));
                expected.extend(set);
            }
            for hash in more {
                all.set.get_mut().insert(hash);
                expected.insert(hash);
            }
            prop_assert_eq!(all.set.get_mut().sorted().to_vec(), expected.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(all.len(), expected.len() as u64);
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
