//! A text column's dictionary while its batch is built: each distinct value once, found by its hash. Knows nothing of rows.
//!
//! Whether a value is new cannot be predicted, so short ones are added before that is known: written behind the last
//! entry, and counted if their place was free.

use crate::columns::Text;
use crate::short::{self, SHORT};
use std::hint;
use xxhash_rust::xxh3::xxh3_64;

/// Look-ups that meet so many other values give up and add the value again (an entry may stand twice), so values made to
/// collide cost space in one batch and bounded time. Values that are not never meet so many: at the fullest a quarter
/// of the places are taken.
const MAX_PROBES: usize = 256;
const LEAST_PLACES: usize = 1024;
/// Places per entry, at least.
const SPARSE: usize = 4;
const LEAST_BYTES: usize = 4096;

/// The entries, and where they are by hash: open addressing. Kept from batch to batch, emptied in between. The vectors are
/// longer than what they hold.
#[derive(Debug)]
pub(crate) struct Dictionary {
    /// Entry + 1; 0 where free.
    places: Vec<u32>,
    entries: usize,
    /// Where each entry starts in `bytes`; the last one's end is the next one's start.
    starts: Vec<u32>,
    hashes: Vec<u64>,
    bytes: Vec<u8>,
}

impl Dictionary {
    pub(crate) fn new() -> Self {
        let most = LEAST_PLACES / SPARSE;
        Self {
            places: vec![0; LEAST_PLACES],
            entries: 0,
            starts: vec![0; most + 2],
            hashes: vec![0; most + 1],
            bytes: vec![0; LEAST_BYTES],
        }
    }

    /// The entry of the value of `length` bytes at `at` of `bytes`, made if there is none.
    pub(crate) fn intern(&mut self, bytes: &[u8], at: usize, length: usize) -> u32 {
        match self.view().intern(bytes, at, length) {
            Some(entry) => entry,
            None => self.intern_any(&bytes[at..at + length]),
        }
    }

    /// The entries of values, by their starts and ends in `bytes`, in order.
    #[inline(always)]
    pub(crate) fn intern_all(
        &mut self,
        bytes: &[u8],
        mut values: impl Iterator<Item = (u32, u32)>,
        codes: &mut Vec<u32>,
    ) {
        loop {
            let mut view = self.view();
            let missed = loop {
                let Some((start, end)) = values.next() else {
                    return;
                };
                match view.intern(bytes, start as usize, (end - start) as usize) {
                    Some(code) => codes.push(code),
                    None => break start as usize..end as usize,
                }
            };
            codes.push(self.intern_any(&bytes[missed]));
        }
    }

    fn view(&mut self) -> View<'_> {
        let Self { places, entries, starts, hashes, bytes } = self;
        View { places, entries, starts, hashes, bytes }
    }

    #[inline(never)]
    fn intern_any(&mut self, value: &[u8]) -> u32 {
        let hash = xxh3_64(value);
        let mask = self.places.len() - 1;
        for step in 0..MAX_PROBES {
            let place = (hash as usize).wrapping_add(step) & mask;
            match self.places[place] {
                0 => {
                    let entry = self.append(value, hash);
                    self.places[place] = entry + 1;
                    if self.entries * SPARSE >= self.places.len() {
                        self.grow();
                    }
                    return entry;
                }
                found if self.hashes[found as usize - 1] == hash && self.entry(found - 1) == value => return found - 1,
                _ => {}
            }
        }
        self.append(value, hash)
    }

    fn entry(&self, entry: u32) -> &[u8] {
        let entry = entry as usize;
        &self.bytes[self.starts[entry] as usize..self.starts[entry + 1] as usize]
    }

    fn append(&mut self, value: &[u8], hash: u64) -> u32 {
        let new = self.entries;
        let start = self.starts[new] as usize;
        let end = start + value.len();
        // Room for another short value behind it.
        if self.bytes.len() < end + SHORT {
            self.bytes.resize((end + SHORT) * 2, 0);
        }
        if self.hashes.len() < new + 2 {
            self.hashes.resize((new + 2) * 2, 0);
            self.starts.resize((new + 2) * 2 + 1, 0);
        }
        self.bytes[start..end].copy_from_slice(value);
        self.hashes[new] = hash;
        self.starts[new + 1] = end as u32;
        self.entries += 1;
        new as u32
    }

    #[cold]
    fn grow(&mut self) {
        let mask = self.places.len() * 4 - 1;
        let mut places = vec![0; mask + 1];
        for (&hash, entry) in self.hashes[..self.entries].iter().zip(1..) {
            let free = (0..MAX_PROBES).map(|step| (hash as usize).wrapping_add(step) & mask).find(|&p| places[p] == 0);
            if let Some(place) = free {
                places[place] = entry;
            }
        }
        self.places = places;
    }

    /// The entries, without codes; forgets them. Vectors that were far too large for the batch are made smaller.
    pub(crate) fn finish(&mut self) -> Text {
        let entries = self.entries;
        let used = self.starts[entries] as usize;
        let text = Text {
            codes: Vec::new(),
            ends: self.starts[1..=entries].to_vec(),
            bytes: self.bytes[..used].to_vec(),
            hashes: self.hashes[..entries].to_vec(),
        };
        self.entries = 0;
        let places = (entries * SPARSE * 2).next_power_of_two().max(LEAST_PLACES);
        if self.places.len() > places * 4 || self.bytes.len() > (used + LEAST_BYTES) * 8 {
            *self = Self::new();
        } else {
            self.places.fill(0);
        }
        text
    }
}

/// A dictionary while many values are looked up, so that where everything is stays in registers.
struct View<'a> {
    places: &'a mut [u32],
    entries: &'a mut usize,
    starts: &'a mut [u32],
    hashes: &'a mut [u64],
    bytes: &'a mut [u8],
}

impl View<'_> {
    /// None when the value is long, when there is no room, or when another value is at its place.
    #[inline(always)]
    fn intern(&mut self, bytes: &[u8], at: usize, length: usize) -> Option<u32> {
        let block = short::block(bytes, at)?;
        if length > SHORT {
            return None;
        }
        let hash = xxh3_64(&bytes[at..at + length]);
        let new = *self.entries;
        let start = *self.starts.get(new)? as usize;
        let mask = self.places.len().wrapping_sub(1);
        let place = self.places.get_mut(hash as usize & mask)?;
        *self.bytes.get_mut(start..start + SHORT)?.first_chunk_mut()? = block.to_le_bytes();
        *self.starts.get_mut(new + 1)? = start as u32 + length as u32;
        *self.hashes.get_mut(new)? = hash;
        let is_free = *place == 0;
        // No branch: it would be mispredicted for every other rare value.
        let entry = hint::select_unpredictable(is_free, new, (*place as usize).wrapping_sub(1));
        let (from, to) = (*self.starts.get(entry)?, *self.starts.get(entry + 1)?);
        let difference = (short::block(self.bytes, from as usize)? ^ block) & short::mask(length);
        if difference != 0 || to - from != length as u32 {
            return None;
        }
        *place = entry as u32 + 1;
        *self.entries = new + usize::from(is_free);
        Some(entry as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intern(dictionary: &mut Dictionary, value: &[u8]) -> u32 {
        dictionary.intern(value, 0, value.len())
    }

    /// As it stands in a line, with more behind it.
    fn intern_within(dictionary: &mut Dictionary, value: &[u8]) -> u32 {
        let line = [b"{", value, &[b'x'; SHORT]].concat();
        dictionary.intern(&line, 1, value.len())
    }

    proptest! {
        /// Equal values get one entry, different ones different entries, through growth and reuse.
        #[test]
        fn behaves_like_a_map(
            batches in prop::collection::vec(prop::collection::vec((0_u32..3000, any::<bool>(), any::<bool>()), 0..2000), 1..4),
        ) {
            let mut dictionary = Dictionary::new();
            for batch in batches {
                let mut model = std::collections::HashMap::new();
                let mut entries = Vec::new();
                for (value, long, within) in batch {
                    let value = if long { format!("a value that is long {value}") } else { value.to_string() };
                    let intern = if within { intern_within } else { intern };
                    let entry = intern(&mut dictionary, value.as_bytes());
                    if entry as usize == entries.len() {
                        entries.push(value.clone());
                    }
                    prop_assert_eq!(*model.entry(value).or_insert(entry), entry);
                }
                let text = dictionary.finish();
                prop_assert_eq!(text.ends.len(), model.len());
                for (entry, value) in (0..).zip(&entries) {
                    prop_assert_eq!(text.entry(entry), Some(value.as_bytes()));
                    prop_assert_eq!(text.hashes[entry as usize], xxh3_64(value.as_bytes()));
                }
                prop_assert_eq!(text.hashes.len(), model.len());
            }
        }
    }

    #[test]
    fn values_that_share_a_start_or_an_end_differ() {
        let mut dictionary = Dictionary::new();
        let values: Vec<Vec<u8>> = (0..40).map(|length| vec![b'x'; length]).collect();
        for (value, expected) in values.iter().chain(&values).zip((0..40).chain(0..40)) {
            assert_eq!(intern_within(&mut dictionary, value), expected);
        }
    }

    #[test]
    fn a_full_neighbourhood_costs_a_second_entry_and_no_more() {
        for intern in [intern, intern_within] {
            let mut dictionary = Dictionary::new();
            intern(&mut dictionary, b"stranger");
            let first = intern(&mut dictionary, b"value");
            // As if all places were taken by another value.
            dictionary.places.fill(1);
            let second = intern(&mut dictionary, b"value");
            assert_ne!(first, second);
            let text = dictionary.finish();
            assert_eq!(text.entry(first), text.entry(second));
        }
    }
}
