//! Sixteen bytes of a string at a time: where the first one is that is not plain. Knows nothing else of JSON.
//!
//! By SSE2 or NEON where there is such a thing (through `wide`, which needs no `unsafe` here), and without a branch on
//! where the mark is, since the ends of short strings cannot be predicted.

use wide::u8x16;

/// Bytes looked at together.
pub(crate) const BLOCK: usize = 16;

/// A bit for each byte that is a quote, a backslash or below a space; the first byte lowest.
#[inline(always)]
pub(crate) fn marks(block: &[u8; BLOCK]) -> u32 {
    let bytes = u8x16::new(*block);
    let last_control = u8x16::splat(0x1f);
    let control = bytes.max(last_control).simd_eq(last_control);
    let quote = bytes.simd_eq(u8x16::splat(b'"'));
    let backslash = bytes.simd_eq(u8x16::splat(b'\\'));
    (control | quote | backslash).to_bitmask()
}

/// Which byte is the first marked one.
#[inline(always)]
pub(crate) fn first_mark(marks: u32) -> usize {
    marks.trailing_zeros() as usize
}

/// Whether a byte ends a run of plain characters in a string.
pub(crate) fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < b' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_marked_rightly_at_every_place() {
        for byte in 0..=u8::MAX {
            let special = matches!(byte, b'"' | b'\\' | 0..0x20);
            for (place, after) in (0..BLOCK).flat_map(|place| [(place, b'a'), (place, b'"')]) {
                let mut block = [0xc3; BLOCK];
                block[place] = byte;
                block[place + 1..].fill(after);
                let first = (place..BLOCK).find(|&at| if at == place { special } else { after == b'"' });
                let marks = marks(&block);
                assert_eq!((marks != 0).then(|| first_mark(marks)), first, "{block:?}");
            }
        }
    }
}
