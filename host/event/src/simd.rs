//! Blocks of 64 bytes: which bytes of them can end a run of plain characters in a JSON string. Knows nothing else.
//!
//! One loop, compiled three times on x86-64: for any processor, for those with AVX2 and for those with AVX-512; which one
//! runs is decided by asking the processor. Calling a function that is compiled for more than the target promises is what
//! needs `unsafe`, and so do vector loads; neither is avoidable, and this is the only module of the crate that has it.
#![allow(unsafe_code, reason = "vector loads, and calls of functions compiled for processors that were asked for")]

/// Bytes looked at together.
pub(crate) const BLOCK: usize = 64;

/// Sets the bits of every block's quotes, backslashes and control characters, the first byte's lowest, and notes which
/// blocks hold bytes beyond ASCII. Says whether any does.
pub(crate) fn mark(blocks: &[[u8; BLOCK]], bits: &mut [[u8; 8]], beyond_ascii: &mut [u8]) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { x86::mark_avx512(blocks, bits, beyond_ascii) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::mark_avx2(blocks, bits, beyond_ascii) };
        }
    }
    mark_anywhere(blocks, bits, beyond_ascii)
}

fn mark_anywhere(blocks: &[[u8; BLOCK]], bits: &mut [[u8; 8]], beyond_ascii: &mut [u8]) -> bool {
    let mut any = false;
    for ((block, bits), beyond) in blocks.iter().zip(bits).zip(beyond_ascii) {
        let (parts, _) = block.as_chunks::<{ crate::block::BLOCK }>();
        let marks = parts.iter().rev().fold(0, |marks, part| marks << 16 | u64::from(crate::block::marks(part)));
        let high = parts.iter().any(|part| !part.is_ascii());
        *bits = marks.to_le_bytes();
        *beyond = high.into();
        any |= high;
    }
    any
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::BLOCK;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn mark_avx512(blocks: &[[u8; BLOCK]], bits: &mut [[u8; 8]], beyond_ascii: &mut [u8]) -> bool {
        let (space, quote, backslash) =
            (_mm512_set1_epi8(b' ' as i8), _mm512_set1_epi8(b'"' as i8), _mm512_set1_epi8(b'\\' as i8));
        let mut any = false;
        for ((block, bits), beyond) in blocks.iter().zip(bits).zip(beyond_ascii) {
            // SAFETY: 64 bytes are there, and the load asks for no alignment.
            let block = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            let marks = _mm512_cmplt_epu8_mask(block, space)
                | _mm512_cmpeq_epi8_mask(block, quote)
                | _mm512_cmpeq_epi8_mask(block, backslash);
            let high = _mm512_movepi8_mask(block) != 0;
            *bits = marks.to_le_bytes();
            *beyond = high.into();
            any |= high;
        }
        any
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn mark_avx2(blocks: &[[u8; BLOCK]], bits: &mut [[u8; 8]], beyond_ascii: &mut [u8]) -> bool {
        let (control, quote, backslash) =
            (_mm256_set1_epi8(0x1f), _mm256_set1_epi8(b'"' as i8), _mm256_set1_epi8(b'\\' as i8));
        let half = |half: __m256i| {
            let below = _mm256_cmpeq_epi8(_mm256_max_epu8(half, control), control);
            let named = _mm256_or_si256(_mm256_cmpeq_epi8(half, quote), _mm256_cmpeq_epi8(half, backslash));
            u64::from(_mm256_movemask_epi8(_mm256_or_si256(below, named)) as u32)
        };
        let mut any = false;
        for ((block, bits), beyond) in blocks.iter().zip(bits).zip(beyond_ascii) {
            let low = block.as_ptr().cast::<__m256i>();
            // SAFETY: twice 32 bytes are there, and the loads ask for no alignment.
            let (low, high) = unsafe { (_mm256_loadu_si256(low), _mm256_loadu_si256(low.add(1))) };
            *bits = (half(low) | half(high) << 32).to_le_bytes();
            let high = _mm256_movemask_epi8(_mm256_or_si256(low, high)) != 0;
            *beyond = high.into();
            any |= high;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Mark = fn(&[[u8; BLOCK]], &mut [[u8; 8]], &mut [u8]) -> bool;

    /// All that this processor can run.
    fn all() -> Vec<Mark> {
        #[allow(unused_mut, reason = "there are more on x86-64")]
        let mut all: Vec<Mark> = vec![mark, mark_anywhere];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512bw") {
                // SAFETY: the processor was asked.
                all.push(|blocks, bits, beyond| unsafe { x86::mark_avx512(blocks, bits, beyond) });
            }
            if is_x86_feature_detected!("avx2") {
                // SAFETY: the processor was asked.
                all.push(|blocks, bits, beyond| unsafe { x86::mark_avx2(blocks, bits, beyond) });
            }
        }
        all
    }

    #[test]
    fn every_byte_is_marked_rightly_at_every_place() {
        for mark in all() {
            for (byte, place) in (0..=u8::MAX).flat_map(|byte| (0..BLOCK).map(move |place| (byte, place))) {
                let mut blocks = [[b'a'; BLOCK]; 2];
                blocks[1][place] = byte;
                let (mut bits, mut beyond) = ([[9; 8]; 2], [9; 2]);
                let any = mark(&blocks, &mut bits, &mut beyond);
                let special = matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(bits.map(u64::from_le_bytes), [0, u64::from(special) << place], "{byte} at {place}");
                assert_eq!((beyond, any), ([0, u8::from(byte >= 0x80)], byte >= 0x80), "{byte} at {place}");
            }
        }
    }
}
