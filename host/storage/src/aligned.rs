//! Memory that begins where a block of a disk may be written from: on a multiple of 4096 bytes.

use std::ops::{Deref, DerefMut};

/// The largest block that disks and file systems ask writes past the cache to be made of; size and place in the file are multiples of it.
pub(crate) const BLOCK: usize = 4096;

/// Bytes that begin on a multiple of 4096. What is written from such memory, in whole blocks to whole blocks, needs no copy on its way.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    /// Never grows, so that it stays where it is.
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// So many zeros.
    pub fn zeroed(length: usize) -> AlignedBuffer {
        let mut bytes = vec![0; length + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        bytes.truncate(start + length);
        AlignedBuffer { bytes, start }
    }

    /// Keeps so many bytes, or all if there are fewer.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(self.start + length);
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}
