//! How many different texts there were, counted on their 64-bit hashes.
//!
//! Two texts with the same hash count as one. With `n` different texts the odds that this happened at all are about
//! `n^2 / 2^65`: 1 in 37 million for a million, 1 in 3,700 for a hundred million. That holds for texts that came about by
//! themselves; XXH3 does not withstand somebody who looks for texts with equal hashes.
//!
//! A million texts take 10 to 16 MB of memory and save to 8 MB.

use crate::state::{LoadError, Reader, State, put_count};
use crate::text::{PerText, Text};
use std::cell::RefCell;

/// A set of texts, known by their hashes. For bounded memory see [`crate::ApproxDistinct`].
///
/// ```
/// use tally_sdk::{Distinct, testing::with_texts};
///
/// let mut users = Distinct::default();
/// with_texts(&["ada", "bob", "ada"], |texts| texts.iter().for_each(|&user| users.insert(user)));
/// assert_eq!(users.len(), 2);
/// ```
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
        self.set.borrow_mut().settled().len as u64
    }

    /// Whether nothing was put in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State for Distinct {
    fn save(&self, out: &mut Vec<u8>) {
        let mut set = self.set.borrow_mut();
        let set = set.settled();
        put_count(out, set.len);
        // With room for what else is saved behind them, or it would double.
        out.reserve(set.len * 9);
        for hash in set.iter() {
            out.extend_from_slice(&hash.to_le_bytes());
        }
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        let count = saved.count(8)?;
        let mut set = HashSet64::default();
        set.reserve(count);
        let mut last = None;
        for _ in 0..count {
            let hash = saved.u64()?;
            if last.is_some_and(|last| last >= hash) {
                return Err(LoadError::new("a set of hashes is not in order"));
            }
            last = Some(hash);
            set.insert_with_room(hash);
        }
        *self.set.get_mut() = Gathered { set, waiting: Vec::new() };
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        self.set.get_mut().settled().merge(later.set.borrow_mut().settled());
    }
}

/// How many hashes are gathered before they are looked up.
const GATHERED: usize = 64;

/// A set whose look-ups are done many at a time: where it is larger than the caches each of them waits for memory, and waiting for
/// many at once takes hardly longer than for one.
#[derive(Clone, Debug, Default)]
struct Gathered {
    set: HashSet64,
    /// Not in the set yet.
    waiting: Vec<u64>,
}

impl Gathered {
    #[inline]
    fn insert(&mut self, hash: u64) {
        self.waiting.push(hash);
        if self.waiting.len() == GATHERED {
            self.settled();
        }
    }

    /// The set with everything in it.
    fn settled(&mut self) -> &mut HashSet64 {
        // Looks that depend on nothing, so that they all wait together.
        std::hint::black_box(self.waiting.iter().fold(0, |all, &hash| all ^ self.set.look(hash)));
        for hash in self.waiting.drain(..) {
            self.set.insert(hash);
        }
        &mut self.set
    }
}

/// A set of hashes by open addressing. Their own highest bits say where to look, and of those that meet the smaller one stands first: so the
/// hashes lie in their order, and one that is not in is known not to be where a larger one is met, which lets the table be full for the most
/// part.
#[derive(Clone, Debug, Default)]
pub(crate) struct HashSet64 {
    /// 0 is an empty slot. Behind the homes there are as many more as those of the last ones take, and one that is empty.
    slots: Vec<u64>,
    /// So many slots are the home of a hash.
    homes: usize,
    /// Whether 0 itself is in.
    zero: bool,
    len: usize,
}

/// The fewest homes, but for none.
const SMALLEST: usize = 64;
/// Slots that are added behind the homes at a time.
const MORE: usize = 64;

impl HashSet64 {
    /// Puts a hash in.
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u64) {
        if self.is_full() {
            self.grow_to(self.homes + self.homes / 2);
        }
        self.insert_with_room(hash);
    }

    /// Puts a hash in, where there is room.
    #[inline(always)]
    fn insert_with_room(&mut self, hash: u64) {
        if hash == 0 {
            self.len += usize::from(!self.zero);
            self.zero = true;
            return;
        }
        let at = self.slot_of(hash);
        if self.slots[at] != hash {
            self.put(at, hash);
        }
    }

    /// Whether one more hash would be too many: while they come one by one, at most two thirds of the homes may be taken, so that few have
    /// to move on.
    #[inline]
    fn is_full(&self) -> bool {
        (self.len + 1) * 3 > self.homes * 2
    }

    /// Where to begin to look for the hash.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.homes as u64) >> 32) as usize
    }

    /// What is where the hash would be.
    #[inline]
    fn look(&self, hash: u64) -> u64 {
        self.slots.get(self.home(hash)).copied().unwrap_or_default()
    }

    /// Where the hash is or would be put. There are slots.
    #[inline]
    fn slot_of(&self, hash: u64) -> usize {
        let mut slot = self.home(hash);
        while self.slots[slot] != 0 && self.slots[slot] < hash {
            slot += 1;
        }
        slot
    }

    /// Puts a hash where it would be; those that stand there move on.
    #[inline]
    fn put(&mut self, mut at: usize, mut hash: u64) {
        while hash != 0 {
            hash = std::mem::replace(&mut self.slots[at], hash);
            at += 1;
        }
        self.len += 1;
        if at == self.slots.len() {
            self.slots.reserve_exact(MORE);
            self.slots.resize(at + MORE, 0);
        }
    }

    /// Makes room for so many hashes in all, which take at most four fifths of the homes.
    fn reserve(&mut self, len: usize) {
        if len * 5 > self.homes * 4 {
            self.grow_to((len * 5).div_ceil(4).max(self.homes + self.homes / 4));
        }
    }

    fn merge(&mut self, later: &Self) {
        let new = later.iter().filter(|&hash| !self.contains(hash)).count();
        self.reserve(self.len + new);
        later.iter().for_each(|hash| self.insert_with_room(hash));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn contains(&self, hash: u64) -> bool {
        if hash == 0 { self.zero } else { self.homes > 0 && self.slots[self.slot_of(hash)] == hash }
    }

    /// Spreads the hashes over more homes, within the same memory where that can grow: they go to the end, and from there to their places.
    #[cold]
    fn grow_to(&mut self, homes: usize) {
        self.homes = homes.max(SMALLEST);
        let next = |free: usize, hash| self.home(hash).max(free) + 1;
        let behind_last = self.slots.iter().filter(|hash| **hash != 0).fold(0, |free, &hash| next(free, hash));
        let old = self.slots.len();
        let new = self.homes.max(behind_last) + 1;
        self.slots.reserve_exact(new.saturating_sub(old));
        self.slots.resize(new.max(old), 0);
        let mut from = self.slots.len();
        for at in (0..old).rev() {
            let hash = std::mem::take(&mut self.slots[at]);
            if hash != 0 {
                from -= 1;
                self.slots[from] = hash;
            }
        }
        let mut free = 0;
        for from in from..self.slots.len() {
            let hash = std::mem::take(&mut self.slots[from]);
            let at = self.home(hash).max(free);
            self.slots[at] = hash;
            free = at + 1;
        }
    }

    /// All hashes, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let zero = self.zero.then_some(0);
        zero.into_iter().chain(self.slots.iter().copied().filter(|&hash| hash != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

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
            prop_assert!(expected.iter().all(|&hash| set.contains(hash)));
            prop_assert!(set.iter().eq(expected));
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
            prop_assert!(gathered.settled().iter().eq(expected));
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
            merged.merge(&set(&other));
            let expected: BTreeSet<u64> = one.iter().chain(&other).copied().collect();
            prop_assert_eq!(merged.len, expected.len());
            prop_assert!(merged.iter().eq(expected));
        }

        #[test]
        fn what_was_loaded_counts_like_what_was_put_in(
            sets in prop::collection::vec(prop::collection::btree_set(prop_oneof![any::<u64>(), 0..99u64], 0..99), 1..5),
            more in prop::collection::vec(0..99u64, 0..9),
        ) {
            let loaded = |set: &BTreeSet<u64>| {
                let mut saved = Vec::new();
                put_count(&mut saved, set.len());
                set.iter().for_each(|hash| saved.extend_from_slice(&hash.to_le_bytes()));
                let mut distinct = Distinct::default();
                distinct.load(&mut Reader::new(&saved)).expect("they are in order");
                let mut again = Vec::new();
                distinct.save(&mut again);
                assert_eq!(again, saved);
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
            prop_assert!(all.set.get_mut().settled().iter().eq(expected.iter().copied()));
            prop_assert_eq!(all.len(), expected.len() as u64);
        }

        #[test]
        fn the_table_is_mostly_full(count in 1..40_000u64) {
            let mut one_by_one = HashSet64::default();
            (1..=count).for_each(|number| one_by_one.insert(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let mut reserved = HashSet64::default();
            reserved.merge(&one_by_one);
            let most = |factor: usize| SMALLEST + MORE + 1 + count as usize * factor / 100;
            prop_assert!(one_by_one.slots.capacity() <= most(226));
            prop_assert!(reserved.slots.capacity() <= most(126));
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
