//! The first bytes of a value, as a number: short values are hashed, copied and compared by it, without a loop over bytes.
//! Knows nothing of what they mean.

/// Longest value that is one number.
pub(crate) const SHORT: usize = 16;

/// Sixteen bytes from `at` on, the first one lowest.
#[inline(always)]
pub(crate) fn block(bytes: &[u8], at: usize) -> Option<u128> {
    bytes.get(at..at + SHORT)?.first_chunk().map(|block| u128::from_le_bytes(*block))
}

/// The same; zeros beyond the end of the bytes.
#[inline(always)]
pub(crate) fn padded_block(bytes: &[u8], at: usize) -> u128 {
    match block(bytes, at) {
        Some(block) => block,
        None => last_block(bytes, at),
    }
}

#[cold]
#[inline(never)]
fn last_block(bytes: &[u8], at: usize) -> u128 {
    let mut block = [0; SHORT];
    let rest = bytes.get(at..).unwrap_or_default();
    block[..rest.len()].copy_from_slice(rest);
    u128::from_le_bytes(block)
}

/// The first `length` bytes of a block count; all of them if there are more.
#[inline(always)]
pub(crate) fn mask(length: usize) -> u128 {
    MASKS[length.min(SHORT)]
}

const MASKS: [u128; SHORT + 1] = {
    let mut masks = [0; SHORT + 1];
    let mut length = 1;
    while length <= SHORT {
        masks[length] = masks[length - 1] << 8 | 0xff;
        length += 1;
    }
    masks
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_masks_at_every_place() {
        let bytes: Vec<u8> = (1..=40).collect();
        for at in 0..50 {
            let rest = bytes.get(at..).unwrap_or_default();
            let expected = |length: usize| {
                let mut block = [0; SHORT];
                let length = rest.len().min(length);
                block[..length].copy_from_slice(&rest[..length]);
                u128::from_le_bytes(block)
            };
            assert_eq!(block(&bytes, at), (rest.len() >= SHORT).then(|| expected(SHORT)));
            for length in 0..20 {
                assert_eq!(padded_block(&bytes, at) & mask(length), expected(length.min(SHORT)));
            }
        }
    }
}
