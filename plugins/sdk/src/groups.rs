//! One piece of state per text: counts by page, by country, by post. Texts are compared whole, not by hash. Where they are found goes by
//! a hash that does not withstand somebody who looks for texts to make look-ups slow; the compute limit does.

use crate::state::{LoadError, Reader, State, put_count};
use crate::text::Text;
use xxhash_rust::xxh3::xxh3_64;

/// A map from text to a piece of state. Entries are numbered as they come; the numbers stay as they are until
/// [`State::load`], and must not show in what is saved or reported. For a bounded number of texts see [`crate::BottomK`].
///
/// ```
/// use tally_sdk::{Groups, Stats, testing::with_texts};
///
/// let mut sizes = Groups::<Stats>::default();
/// with_texts(&["de", "at", "de"], |texts| texts.iter().zip([3, 4, 5]).for_each(|(&country, size)| sizes.entry(country).add(size)));
/// let mut means: Vec<_> = sizes.iter().map(|(country, stats)| (country, stats.mean())).collect();
/// means.sort_by_key(|(country, _)| *country);
/// assert_eq!(means, [("at", Some(4.0)), ("de", Some(4.0))]);
/// ```
#[derive(Clone, Debug)]
pub struct Groups<V> {
    index: Index,
    tags: Vec<u32>,
    /// The keys, one after another, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
    values: Vec<V>,
    /// The numbers of this batch's texts.
    numbers: Numbers,
}

impl<V> Default for Groups<V> {
    fn default() -> Self {
        Self {
            index: Index::default(),
            tags: Vec::new(),
            keys: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            numbers: Numbers::default(),
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

    #[inline]
    fn find(&self, tag: u32, key: &[u8]) -> Option<u32> {
        self.index.find(tag, |number| equal(self.key_bytes(number as usize), key))
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
        if !self.numbers.are_of(text) {
            if !self.numbers.are_older_than(text) {
                return self.number_of(text.as_bytes()) as usize;
            }
            self.turn_to(text);
        }
        match self.numbers.by_code[text.code()] {
            UNKNOWN => self.give(text),
            number => number as usize,
        }
    }

    /// The state of this key, made if it is new.
    pub(crate) fn entry_of(&mut self, key: &[u8]) -> &mut V {
        let number = self.number_of(key);
        &mut self.values[number as usize]
    }

    /// Takes up a new batch: all of its texts that are known are looked up at once. One after the other, each look-up would wait for
    /// memory on its own.
    #[cold]
    fn turn_to(&mut self, text: Text<'_>) {
        let texts = text.dictionary_len();
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.turn_to(text, texts);
        // A slice of a batch has the texts of the whole: most of them are not asked for.
        if texts <= text.dictionary_rows() {
            let mut found = [(0, [].as_slice()); GATHERED];
            for (nth, group) in numbers.by_code.chunks_mut(GATHERED).enumerate() {
                let found = &mut found[..group.len()];
                for (code, found) in (nth * GATHERED..).zip(&mut *found) {
                    let key = text.sibling(code);
                    *found = (tag_of(key), key);
                }
                // Looks that depend on nothing, so that they all wait together.
                std::hint::black_box(found.iter().fold(0, |all, (tag, _)| all ^ self.index.look(*tag)));
                for ((tag, key), number) in found.iter().zip(group) {
                    *number = self.find(*tag, key).unwrap_or(UNKNOWN);
                }
            }
        }
        self.numbers = numbers;
    }

    #[cold]
    fn give(&mut self, text: Text<'_>) -> usize {
        let number = self.number_of(text.as_bytes());
        self.numbers.by_code[text.code()] = number;
        number as usize
    }

    fn number_of(&mut self, key: &[u8]) -> u32 {
        self.number_by(tag_of(key), key)
    }

    fn number_by(&mut self, tag: u32, key: &[u8]) -> u32 {
        self.find(tag, key).unwrap_or_else(|| self.add(tag, key))
    }

    fn add(&mut self, tag: u32, key: &[u8]) -> u32 {
        let number = u32::try_from(self.values.len()).ok().filter(|number| *number < UNKNOWN);
        let number = number.expect("fewer than 2^32 - 1 groups");
        self.index.insert(tag, number);
        self.tags.push(tag);
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        self.values.push(V::default());
        number
    }
}

/// The number of a text that has none yet, or has not been looked up.
const UNKNOWN: u32 = u32::MAX;

/// How many texts are looked up together.
const GATHERED: usize = 64;

/// What the index knows of a key. It decides nothing that is saved or shown.
///
/// Most keys are short, and of a text without its prefix the host knows no hash: those are mixed as two words, by the constants and the
/// last steps of MurmurHash3 (`fmix64`).
#[inline]
fn tag_of(key: &[u8]) -> u32 {
    let Some((first, last)) = words(key) else { return upper(xxh3_64(key)) };
    let mut mixed =
        first.wrapping_mul(0x87c3_7b91_1142_53d5) ^ last.rotate_left(31).wrapping_mul(0x4cf5_ad43_2745_937f);
    mixed = (mixed ^ key.len() as u64 ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    upper((mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53))
}

#[inline]
fn upper(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The first and the last bytes of at most sixteen, which together with their number say what they are.
#[inline]
fn words(key: &[u8]) -> Option<(u64, u64)> {
    let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| key[at + byte]));
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| key[at + byte]));
    match key.len() {
        0 => Some((0, 0)),
        length @ 1..=3 => Some((u64::from(key[0]) | u64::from(key[length / 2]) << 8, u64::from(key[length - 1]))),
        length @ 4..=7 => Some((u64::from(half(0)), u64::from(half(length - 4)))),
        length @ 8..=16 => Some((word(0), word(length - 8))),
        _ => None,
    }
}

/// Whether they are equal. A guest's `memcmp` is a call that goes byte by byte.
#[inline]
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && match (words(one), words(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        }
}

/// Numbers by the codes of one batch's dictionary.
#[derive(Clone, Debug, Default)]
struct Numbers {
    dictionary: u64,
    /// Bytes taken off by `prefix = ".."`.
    prefix: u32,
    by_code: Vec<u32>,
}

impl Numbers {
    #[inline]
    fn are_of(&self, text: Text<'_>) -> bool {
        self.dictionary == text.dictionary_number() && self.prefix == text.prefix()
    }

    /// Texts of several columns may come by turns: then those of the last one are remembered.
    #[inline]
    fn are_older_than(&self, text: Text<'_>) -> bool {
        self.dictionary < text.dictionary_number()
    }

    fn turn_to(&mut self, text: Text<'_>, texts: usize) {
        (self.dictionary, self.prefix) = (text.dictionary_number(), text.prefix());
        self.by_code.clear();
        self.by_code.resize(texts, UNKNOWN);
    }
}

/// Numbers by tag, by open addressing: a look-up that finds nothing in its way touches one cache line, and none of the keys unless
/// the tag is the same.
#[derive(Clone, Debug, Default)]
struct Index {
    /// A power of two of slots (or none): tag and number + 1, or 0.
    slots: Vec<u64>,
    /// Bits of a tag that do not count for its place.
    shift: u32,
}

const SMALLEST: usize = 64;

impl Index {
    #[inline]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    /// What is where the tag would be.
    #[inline]
    fn look(&self, tag: u32) -> u64 {
        self.slots.get(self.home(tag)).copied().unwrap_or_default()
    }

    /// The number with this tag that is right.
    #[inline]
    fn find(&self, tag: u32, is_right: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            let number = (slot as u32).checked_sub(1)?;
            if upper(slot) == tag && is_right(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts in the next number, which says how many there are already. At least a quarter of the slots stays empty.
    fn insert(&mut self, tag: u32, number: u32) {
        if (number as usize + 1) * 4 > self.slots.len() * 3 {
            let slots = (self.slots.len() * 2).max(SMALLEST);
            let old = std::mem::replace(&mut self.slots, vec![0; slots]);
            self.shift = 32 - slots.trailing_zeros();
            old.into_iter().filter(|&slot| slot != 0).for_each(|slot| self.put(slot));
        }
        self.put(u64::from(tag) << 32 | u64::from(number + 1));
    }

    fn put(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(upper(slot));
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }
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
            let number = self.add(tag_of(key.as_bytes()), key.as_bytes());
            self.values[number as usize].load(saved)?;
        }
        Ok(())
    }

    fn merge(&mut self, later: &Self) {
        for (number, value) in later.values.iter().enumerate() {
            let here = self.number_by(later.tags[number], later.key_bytes(number));
            self.values[here as usize].merge(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Count;
    use crate::text::Dictionary;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn groups(counted: &[(String, u64)]) -> Groups<Count> {
        let mut groups = Groups::<Count>::default();
        for (key, count) in counted {
            let number = groups.number_of(key.as_bytes());
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
        fn texts_of_batches_are_counted_as_they_are(
            batches in prop::collection::vec((prop::collection::vec(("p?[a-c]{0,3}", any::<bool>()), 1..80), 0..200usize), 1..5),
            prefix in prop_oneof![Just(""), Just("p")],
            turns in prop::collection::vec(0..2usize, 0..30),
        ) {
            let mut turns = turns.into_iter();
            let mut groups = Groups::<Count>::default();
            let mut expected = BTreeMap::<String, u64>::new();
            for (entries, rows) in &batches {
                let bytes: String = entries.iter().map(|(entry, _)| &**entry).collect();
                let mut end = 0;
                let ends: Vec<u32> = entries.iter().map(|(entry, _)| { end += entry.len() as u32; end }).collect();
                let hashes: Vec<u64> = entries.iter().map(|(entry, _)| xxh3_64(entry.as_bytes())).collect();
                // As two columns that come by turns.
                let dictionaries = [(); 2].map(|()| Dictionary::new(*rows, &ends, bytes.as_bytes(), &hashes));
                for (code, (entry, is_asked)) in entries.iter().enumerate() {
                    let whole = Text::new(&dictionaries[turns.next().unwrap_or_default()], code as u32);
                    let text = if prefix.is_empty() { Some(whole) } else { whole.strip(prefix) };
                    if let Some(text) = text.filter(|_| *is_asked) {
                        let number = groups.number(text);
                        groups.values_mut()[number].add(1);
                        *expected.entry(entry[prefix.len()..].to_owned()).or_default() += 1;
                    }
                }
            }
            let found: BTreeMap<String, u64> = groups.iter().map(|(key, count)| (key.to_owned(), count.0)).collect();
            prop_assert_eq!(groups.len(), expected.len());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn keys_are_equal_when_all_their_bytes_are(
            key in prop::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            change in 1..=255u8,
        ) {
            prop_assert!(equal(&key, &key.clone()));
            prop_assert!(!equal(&key, &[&key[..], &[0]].concat()));
            if !key.is_empty() {
                let mut other = key.clone();
                other[at.index(key.len())] ^= change;
                prop_assert!(!equal(&key, &other));
            }
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
        assert_eq!(groups.number_by(1, b"a"), 0);
        assert_eq!(groups.number_by(1, b"b"), 1);
        assert_eq!(groups.number_by(1, b"a"), 0);
    }
}
