//! Where strings may end: a bit for every byte of a chunk, set for quotes, backslashes and control characters. And how far
//! the chunk is UTF-8. Knows nothing else of JSON.
//!
//! All bytes are looked at once, in wide blocks; after that the end of a short string is one shift away, whatever the
//! string's length, so that no branch depends on it.

use crate::simd::{self, BLOCK};

/// The marks of a chunk. Kept from chunk to chunk.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Eight bytes of the chunk to a byte, the first one lowest; eight bytes more, so that any can be read as a word.
    bits: Vec<u8>,
    /// By block, whether it holds bytes that are no ASCII.
    beyond_ascii: Vec<u8>,
}

impl Marks {
    /// Marks the chunk; says how far it is UTF-8.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> usize {
        let blocks = bytes.len() / BLOCK + 1;
        self.bits.resize((blocks + 1) * (BLOCK / 8), 0);
        self.beyond_ascii.resize(blocks, 0);
        let (whole, rest) = bytes.as_chunks::<BLOCK>();
        let (bits, _) = self.bits.as_chunks_mut();
        let mut last = [b'\n'; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let beyond_ascii = simd::mark(whole, bits, &mut self.beyond_ascii)
            | simd::mark(&[last], &mut bits[blocks - 1..], &mut self.beyond_ascii[blocks - 1..]);
        if beyond_ascii { self.utf8_until(bytes) } else { bytes.len() }
    }

    /// The first mark from `at` on, which is at most the end of the bytes; the end of the bytes is marked.
    #[cfg(test)]
    pub(crate) fn next(&self, at: usize) -> usize {
        next(&self.bits, at as u32) as usize
    }

    /// For [`next`].
    #[inline(always)]
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Looks at blocks that are not all ASCII only: a character that lies in two blocks makes both of them such.
    #[inline(never)]
    fn utf8_until(&self, bytes: &[u8]) -> usize {
        let mut block = 0;
        while let Some(first) = self.beyond_ascii[block..].iter().position(|&beyond| beyond != 0) {
            let start = block + first;
            let run = self.beyond_ascii[start..].iter().take_while(|&&beyond| beyond != 0).count();
            block = start + run;
            let bytes = &bytes[start * BLOCK..bytes.len().min(block * BLOCK)];
            if let Err(error) = std::str::from_utf8(bytes) {
                return start * BLOCK + error.valid_up_to();
            }
        }
        bytes.len()
    }
}

/// The first mark from `at` on, by the bits of [`Marks::bits`].
#[inline(always)]
pub(crate) fn next(bits: &[u8], at: u32) -> u32 {
    let byte = at as usize / 8;
    match bits.get(byte..byte + 8).and_then(|bits| bits.first_chunk()) {
        Some(window) => match u64::from_le_bytes(*window) >> (at % 8) {
            0 => next_further(bits, byte + 8),
            window => at + window.trailing_zeros(),
        },
        None => at,
    }
}

#[cold]
#[inline(never)]
fn next_further(bits: &[u8], mut byte: usize) -> u32 {
    while let Some(window) = bits.get(byte..).and_then(|bits| bits.first_chunk()) {
        match u64::from_le_bytes(*window) {
            0 => byte += 8,
            window => return byte as u32 * 8 + window.trailing_zeros(),
        }
    }
    byte as u32 * 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_looking_at_each_byte(
            parts in prop::collection::vec(prop_oneof![
                "[a-z]{0,90}".prop_map(String::into_bytes),
                "[é一😀]{0,40}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..4),
                Just(b"\"".to_vec()),
            ], 0..12),
        ) {
            let bytes = parts.concat();
            let mut marks = Marks::default();
            // What was there before leaves no trace.
            marks.scan(&[b'"'; 200]);
            let valid = marks.scan(&bytes);
            prop_assert_eq!(valid, std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len));
            for at in 0..=bytes.len() {
                let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
                let next = bytes[at..].iter().position(special).map_or(bytes.len(), |position| at + position);
                prop_assert_eq!(marks.next(at), next);
            }
        }
    }
}
