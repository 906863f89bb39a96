//! A text column's dictionary while its batch is built: each distinct value once, found by its hash. Knows nothing of rows.

use crate::columns::Text;
use xxhash_rust::xxh3::xxh3_64;

/// Look-ups that meet so many other values give up and add the value again (an entry may stand twice), so values made to
/// collide cost space in one batch and bounded time. Values that are not never meet so many: at the fullest two thirds
/// of the places are taken, and even 64 in a row are rare.
const MAX_PROBES: usize = 256;
const LEAST_PLACES: usize = 256;

/// Where values are in the dictionary: open addressing by hash. Kept from batch to batch, emptied in between.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// High half: part of the hash; low half: entry + 1; 0 where free.
    places: Vec<u64>,
    used: usize,
    /// Where each entry starts, and where the next one would.
    starts: Vec<u32>,
}

impl Lookup {
    pub(crate) fn new() -> Self {
        Self { places: vec![0; LEAST_PLACES], used: 0, starts: vec![0] }
    }

    /// The entry of `value`, made if there is none.
    #[inline(always)]
    pub(crate) fn intern(&mut self, text: &mut Text, value: &[u8]) -> u32 {
        let hash = xxh3_64(value);
        let mask = self.places.len() - 1;
        let mut place = hash as usize & mask;
        for _ in 0..MAX_PROBES {
            let Some(&found) = self.places.get(place) else {
                break;
            };
            if found == 0 {
                return self.add(text, value, hash, place);
            }
            let entry = found as u32 - 1;
            if (found ^ hash) >> 32 == 0 && self.entry(text, entry) == Some(value) {
                return entry;
            }
            place = (place + 1) & mask;
        }
        self.append(text, value, hash)
    }

    #[inline(never)]
    fn add(&mut self, text: &mut Text, value: &[u8], hash: u64, place: usize) -> u32 {
        let entry = self.append(text, value, hash);
        self.places[place] = tagged(hash, entry);
        self.used += 1;
        if self.used * 3 > self.places.len() * 2 {
            self.grow(text);
        }
        entry
    }

    #[cold]
    fn grow(&mut self, text: &Text) {
        let mask = self.places.len() * 2 - 1;
        let mut places = vec![0; mask + 1];
        self.used = 0;
        for (entry, &hash) in text.hashes.iter().enumerate() {
            let free = (0..MAX_PROBES).map(|step| (hash as usize).wrapping_add(step) & mask).find(|&p| places[p] == 0);
            if let Some(place) = free {
                places[place] = tagged(hash, entry as u32);
                self.used += 1;
            }
        }
        self.places = places;
    }

    /// As [`Text::entry`], without a branch for the first entry: in columns of few values that one is frequent, but
    /// when it comes cannot be predicted.
    #[inline(always)]
    fn entry<'a>(&self, text: &'a Text, entry: u32) -> Option<&'a [u8]> {
        let &[start, end] = self.starts.get(entry as usize..)?.first_chunk::<2>()?;
        text.bytes.get(start as usize..end as usize)
    }

    #[inline(always)]
    fn append(&mut self, text: &mut Text, value: &[u8], hash: u64) -> u32 {
        let entry = text.ends.len() as u32;
        text.bytes.extend_from_slice(value);
        let end = text.bytes.len() as u32;
        self.starts.push(end);
        text.ends.push(end);
        text.hashes.push(hash);
        entry
    }

    /// Forgets everything. A table that was far too large for the batch is made smaller.
    pub(crate) fn clear(&mut self) {
        let wanted = (self.used * 2).next_power_of_two().max(LEAST_PLACES);
        if self.places.len() > wanted * 4 {
            self.places = vec![0; wanted];
        } else {
            self.places.fill(0);
        }
        self.used = 0;
        self.starts.truncate(1);
    }
}

#[inline(always)]
fn tagged(hash: u64, entry: u32) -> u64 {
    (hash >> 32 << 32) | u64::from(entry + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Equal values get one entry, different ones different entries, through growth and reuse.
        #[test]
        fn behaves_like_a_map(batches in prop::collection::vec(prop::collection::vec(0_u32..3000, 0..2000), 1..4)) {
            let mut lookup = Lookup::new();
            for batch in batches {
                let mut text = Text::default();
                let mut model = std::collections::HashMap::new();
                for value in batch {
                    let value = format!("value {value}");
                    let entry = lookup.intern(&mut text, value.as_bytes());
                    prop_assert_eq!(text.entry(entry), Some(value.as_bytes()));
                    prop_assert_eq!(*model.entry(value).or_insert(entry), entry);
                }
                prop_assert_eq!(text.ends.len(), model.len());
                prop_assert_eq!(text.hashes.len(), model.len());
                lookup.clear();
            }
        }
    }

    #[test]
    fn a_full_neighbourhood_costs_a_second_entry_and_no_more() {
        let mut lookup = Lookup::new();
        let mut text = Text::default();
        let first = lookup.intern(&mut text, b"value");
        // As if all places were taken by values of other hashes.
        let stranger = tagged(!xxh3_64(b"value"), 0);
        lookup.places.fill(stranger);
        let second = lookup.intern(&mut text, b"value");
        assert_ne!(first, second);
        assert_eq!(text.entry(first), text.entry(second));
    }
}
