//! Saving, loading and merging, canonically: equal states save to equal bytes, on any machine.
//!
//! Saved bytes have no tags and no names; `#[derive(State)]` writes a struct's fields one after another, in their order.
//! Integers are little-endian, text and lists are preceded by their length (`u32`), maps and sets are sorted by key.
//! Whether bytes fit is said by the state version, so change that whenever fields change. Loading takes nothing on trust:
//! whatever the bytes, it gives a state or an error.

use std::fmt;

/// A part of an aggregator's state. Derive it on a struct whose fields are parts themselves; a field marked
/// `#[state(skip)]` is neither saved nor merged (see [`crate::Aggregator::rebuild`]).
pub trait State {
    /// Appends its canonical bytes.
    fn save(&self, out: &mut Vec<u8>);

    /// Takes up what was saved. `self` is empty, as new.
    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError>;

    /// Takes in the state of a later stretch of the log.
    fn merge(&mut self, later: &Self);
}

impl<T: State, const N: usize> State for [T; N] {
    fn save(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|part| part.save(out));
    }

    fn load(&mut self, saved: &mut Reader<'_>) -> Result<(), LoadError> {
        self.iter_mut().try_for_each(|part| part.load(saved))
    }

    fn merge(&mut self, later: &Self) {
        self.iter_mut().zip(later).for_each(|(part, later)| part.merge(later));
    }
}

/// Why saved bytes were not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(String);

impl LoadError {
    /// An error that says so.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// Saved bytes, read from front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, total: bytes.len() }
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], LoadError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| {
            LoadError::new(format!(
                "the saved state ends too early: {count} bytes wanted at byte {}, {} left",
                self.position(),
                self.bytes.len()
            ))
        })?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next `u8`.
    pub fn u8(&mut self) -> Result<u8, LoadError> {
        self.array().map(u8::from_le_bytes)
    }

    /// The next `u32`.
    pub fn u32(&mut self) -> Result<u32, LoadError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next `u64`.
    pub fn u64(&mut self) -> Result<u64, LoadError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `i64`.
    pub fn i64(&mut self) -> Result<i64, LoadError> {
        self.array().map(i64::from_le_bytes)
    }

    /// The next `i128`.
    pub fn i128(&mut self) -> Result<i128, LoadError> {
        self.array().map(i128::from_le_bytes)
    }

    /// The next text.
    pub fn text(&mut self) -> Result<&'a str, LoadError> {
        let length = self.u32()? as usize;
        let at = self.position();
        std::str::from_utf8(self.bytes(length)?)
            .map_err(|_| LoadError::new(format!("the text at byte {at} is not UTF-8")))
    }

    /// The next number of things that take at least `each` bytes; an error if so many can't follow, so that nothing is
    /// reserved for what isn't there.
    pub fn count(&mut self, each: usize) -> Result<usize, LoadError> {
        let count = self.u32()? as usize;
        if count > self.bytes.len() / each.max(1) {
            return Err(LoadError::new(format!(
                "{count} entries are said to follow byte {}, where only {} bytes are left",
                self.position(),
                self.bytes.len()
            )));
        }
        Ok(count)
    }

    /// An error unless everything was read.
    pub fn finish(self) -> Result<(), LoadError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(LoadError::new(format!("{} bytes are left over after byte {}", self.bytes.len(), self.position())))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], LoadError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn position(&self) -> usize {
        self.total - self.bytes.len()
    }
}

/// Whether it saves as a new one does.
pub(crate) fn is_empty<V: State + Default>(state: &V) -> bool {
    let [mut saved, mut empty] = [const { Vec::new() }; 2];
    state.save(&mut saved);
    V::default().save(&mut empty);
    saved == empty
}

/// Appends a length or number of entries.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    // Memory ends long before: a Wasm guest has 32-bit addresses.
    let count = u32::try_from(count).expect("fewer than 2^32 entries");
    out.extend_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_says_where() {
        let mut reader = Reader::new(&[1, 0, 0, 0, 7]);
        assert_eq!(reader.u32(), Ok(1));
        assert_eq!(
            reader.u64().unwrap_err().to_string(),
            "the saved state ends too early: 8 bytes wanted at byte 4, 1 left"
        );
        assert_eq!(reader.finish().unwrap_err().to_string(), "1 bytes are left over after byte 4");
    }

    #[test]
    fn a_count_that_cannot_follow_is_refused() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend([0; 16]);
        assert_eq!(
            Reader::new(&bytes).count(8).unwrap_err().to_string(),
            "4294967295 entries are said to follow byte 4, where only 16 bytes are left"
        );
        bytes[..4].copy_from_slice(&2u32.to_le_bytes());
        assert_eq!(Reader::new(&bytes).count(8), Ok(2));
    }

    #[test]
    fn text_must_be_utf8() {
        let error = Reader::new(&[2, 0, 0, 0, 0xc3, 0x28]).text().unwrap_err();
        assert_eq!(error.to_string(), "the text at byte 4 is not UTF-8");
    }
}
