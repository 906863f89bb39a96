//! Borrowed text of one batch, and what can be remembered per distinct text. Knows the dictionary encoding, nothing else.

use std::cell::Cell;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

thread_local! {
    /// Dictionaries are numbered from 1, so that a number tells one batch's column from every other.
    static DICTIONARIES: Cell<u64> = const { Cell::new(0) };
}

/// A text column's distinct values.
#[derive(Debug)]
pub(crate) struct Dictionary<'a> {
    number: u64,
    /// Of the batch.
    rows: usize,
    ends: &'a [u32],
    bytes: &'a [u8],
    hashes: &'a [u64],
}

impl<'a> Dictionary<'a> {
    pub(crate) fn new(rows: usize, ends: &'a [u32], bytes: &'a [u8], hashes: &'a [u64]) -> Self {
        let number = DICTIONARIES.with(|next| {
            next.set(next.get() + 1);
            next.get()
        });
        assert_eq!(ends.len(), hashes.len(), "the host gives a hash for every dictionary entry");
        Self { number, rows, ends, bytes, hashes }
    }

    #[inline]
    fn entry(&self, code: u32) -> &'a [u8] {
        let code = code as usize;
        let start = if code == 0 { 0 } else { self.ends[code - 1] };
        &self.bytes[start as usize..self.ends[code] as usize]
    }
}

/// Text of an event, borrowed from the batch.
///
/// Equal texts of one column share a dictionary entry, and the host has hashed each entry once.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    dictionary: &'a Dictionary<'a>,
    code: u32,
    /// Bytes of the entry that `prefix = ".."` took off.
    prefix: u32,
}

impl<'a> Text<'a> {
    #[inline]
    pub(crate) fn new(dictionary: &'a Dictionary<'a>, code: u32) -> Self {
        Self { dictionary, code, prefix: 0 }
    }

    /// The text without this prefix; none if it has another or nothing follows.
    #[inline]
    pub(crate) fn strip(self, prefix: &str) -> Option<Self> {
        let bytes = self.as_bytes();
        (bytes.len() > prefix.len() && bytes.starts_with(prefix.as_bytes()))
            .then(|| Self { prefix: self.prefix + prefix.len() as u32, ..self })
    }

    /// Tells the dictionaries of all batches and columns apart.
    #[inline]
    pub(crate) fn dictionary_number(&self) -> u64 {
        self.dictionary.number
    }

    /// How many texts its dictionary has; codes are smaller.
    pub(crate) fn dictionary_len(&self) -> usize {
        self.dictionary.ends.len()
    }

    /// How many rows the batch of its dictionary has.
    pub(crate) fn dictionary_rows(&self) -> usize {
        self.dictionary.rows
    }

    #[inline]
    pub(crate) fn code(&self) -> usize {
        self.code as usize
    }

    #[inline]
    pub(crate) fn prefix(&self) -> u32 {
        self.prefix
    }

    /// The bytes of the text with this code, less as many as this one is without; empty if they are not more.
    #[inline]
    pub(crate) fn sibling(&self, code: usize) -> &'a [u8] {
        self.dictionary.entry(code as u32).get(self.prefix as usize..).unwrap_or_default()
    }

    /// The text's bytes, which are UTF-8.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        &self.dictionary.entry(self.code)[self.prefix as usize..]
    }

    /// The text. Checks that it is UTF-8, so compare and store bytes where speed counts.
    ///
    /// # Panics
    /// When the host broke its promise that text is UTF-8.
    pub fn as_str(&self) -> &'a str {
        std::str::from_utf8(self.as_bytes()).expect("the host promises UTF-8")
    }

    /// XXH3-64 of the text. Free for whole texts, computed where `prefix = ".."` took something off.
    #[inline]
    pub fn hash(&self) -> u64 {
        if self.prefix == 0 { self.dictionary.hashes[self.code as usize] } else { xxh3_64(self.as_bytes()) }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(self.as_bytes()), f)
    }
}

/// The raw JSON of a value, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(pub Text<'a>);

/// Something worked out once per distinct text of a batch instead of once per event. It forgets at every new batch, so it
/// is no part of the state: mark it `#[state(skip)]`.
///
/// Meant for one column: fed with texts of several columns by turns it stays right, and remembers those of one.
///
/// ```
/// use tally_sdk::{PerText, testing::with_texts};
///
/// let (mut lengths, mut worked_out) = (PerText::default(), 0);
/// with_texts(&["/a", "/b", "/a", "/a"], |texts| {
///     for &text in texts {
///         lengths.get_or_insert_with(text, |text| { worked_out += 1; text.as_bytes().len() });
///     }
/// });
/// assert_eq!(worked_out, 2);
/// ```
#[derive(Clone, Debug)]
pub struct PerText<T> {
    dictionary: u64,
    /// Bytes taken off by `prefix = ".."`: texts of one entry with and without it are different texts.
    prefix: u32,
    values: Vec<Option<T>>,
}

impl<T: Copy> Default for PerText<T> {
    fn default() -> Self {
        Self { dictionary: 0, prefix: 0, values: Vec::new() }
    }
}

impl<T: Copy> PerText<T> {
    /// What was worked out for this text, now or earlier in this batch.
    #[inline]
    pub fn get_or_insert_with(&mut self, text: Text<'_>, work: impl FnOnce(Text<'_>) -> T) -> T {
        match self.get(text) {
            Some(value) => value,
            None => {
                let value = work(text);
                self.set(text, value);
                value
            }
        }
    }

    /// What is remembered for this text in this batch.
    #[inline]
    pub fn get(&mut self, text: Text<'_>) -> Option<T> {
        if self.remembers(text) { self.values[text.code as usize] } else { None }
    }

    /// Remembers a value for this text until the batch ends.
    #[inline]
    pub fn set(&mut self, text: Text<'_>, value: T) {
        if self.remembers(text) {
            self.values[text.code as usize] = Some(value);
        }
    }

    /// Whether it is of the column that is remembered, which is the last one that a batch came with.
    #[inline]
    fn remembers(&mut self, text: Text<'_>) -> bool {
        if self.dictionary < text.dictionary.number {
            self.turn_to(text);
        }
        self.dictionary == text.dictionary.number && self.prefix == text.prefix
    }

    /// Forgets everything; needed when what was worked out from does not hold any longer.
    pub fn clear(&mut self) {
        self.dictionary = 0;
    }

    #[cold]
    fn turn_to(&mut self, text: Text<'_>) {
        self.dictionary = text.dictionary.number;
        self.prefix = text.prefix;
        self.values.clear();
        self.values.resize(text.dictionary.ends.len(), None);
    }
}
