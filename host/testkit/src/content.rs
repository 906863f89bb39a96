//! The bytes of a file in pages that copies share until one of them is written to: a crash copies every file of a disk, and hardly any
//! byte. Pages that were never written are holes, read as zeros and take no space.

use std::sync::{Arc, LazyLock};

pub(crate) const PAGE: usize = 4096;

type Page = [u8; PAGE];

static ZEROS: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE]));

/// See the module. What a page holds behind the end of the file is zeros.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    length: u64,
    pages: Vec<Option<Arc<Page>>>,
    /// Pages that are no holes.
    used: u64,
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.write(0, bytes);
        content
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// The space it takes.
    pub(crate) fn space(&self) -> u64 {
        self.used * PAGE as u64
    }

    /// The space that `start..end` would take in addition.
    pub(crate) fn missing_space(&self, start: u64, end: u64) -> u64 {
        let pages = start / PAGE as u64..end.div_ceil(PAGE as u64);
        let holes = pages.filter(|&page| !matches!(self.pages.get(page as usize), Some(Some(_))));
        holes.count() as u64 * PAGE as u64
    }

    /// Reads up to the end; returns how much.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (page, within, range) in pieces(offset, count) {
            let length = range.len();
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(page) => buffer[range].copy_from_slice(&page[within..within + length]),
                None => buffer[range].fill(0),
            }
        }
        count
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// Extends the file if need be.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
        self.pages.resize(self.pages.len().max(self.length.div_ceil(PAGE as u64) as usize), None);
        for (page, within, range) in pieces(offset, bytes.len()) {
            let slot = &mut self.pages[page];
            self.used += u64::from(slot.is_none());
            let page = slot.get_or_insert_with(|| ZEROS.clone());
            let piece = &bytes[range];
            // Files are filled with zeros ahead of their use; those pages stay shared.
            if page[within..within + piece.len()] != *piece {
                Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            }
        }
    }

    /// Cuts or extends with a hole.
    pub(crate) fn set_len(&mut self, length: u64) {
        let pages = length.div_ceil(PAGE as u64) as usize;
        if length < self.length {
            let gone = self.pages.drain(pages.min(self.pages.len())..);
            self.used -= gone.flatten().count() as u64;
            let within = (length % PAGE as u64) as usize;
            if within > 0
                && let Some(Some(last)) = self.pages.last_mut()
            {
                Arc::make_mut(last)[within..].fill(0);
            }
        }
        self.pages.resize(pages, None);
        self.length = length;
    }

    /// Extends to `length` at least, and leaves no hole before it.
    pub(crate) fn allocate(&mut self, length: u64) {
        self.set_len(length.max(self.length));
        for page in self.pages.iter_mut().take(length.div_ceil(PAGE as u64) as usize).filter(|page| page.is_none()) {
            *page = Some(ZEROS.clone());
            self.used += 1;
        }
    }
}

/// The pieces of `offset..offset + length` that lie in one page each: (page, offset in it, range of the whole).
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let count = (PAGE - within).min(length - done);
        let piece = ((at / PAGE as u64) as usize, within, done..done + count);
        done += count;
        (count > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn a_content_is_a_vector_of_bytes() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let (mut content, mut bytes) = (Content::default(), Vec::<u8>::new());
            for _ in 0..30 {
                let copy = content.clone();
                let before = bytes.clone();
                let (at, length) = (random.below(20_000), random.below(9000) as usize);
                match random.below(4) {
                    0 | 1 => {
                        let fill = (random.number() % 3) as u8;
                        content.write(at, &vec![fill; length]);
                        if length > 0 {
                            bytes.resize(bytes.len().max(at as usize + length), 0);
                            bytes[at as usize..at as usize + length].fill(fill);
                        }
                    }
                    2 => {
                        content.set_len(at);
                        bytes.resize(at as usize, 0);
                    }
                    _ => {
                        content.allocate(at);
                        bytes.resize(bytes.len().max(at as usize), 0);
                        assert_eq!(content.missing_space(0, at), 0);
                    }
                }
                assert!(content.to_vec() == bytes && content.len() == bytes.len() as u64);
                let mut some = vec![9; length];
                let read = content.read(at, &mut some);
                let expected = bytes.get(at as usize..).unwrap_or(&[]);
                assert!(some[..read] == expected[..expected.len().min(length)]);
                assert_eq!(content.space(), content.pages.iter().flatten().count() as u64 * PAGE as u64);
                assert!(copy.to_vec() == before, "a copy changes with its original");
            }
        }
    }
}
