//! A file seen read-only through memory: what redb writes while it opens or checks a file stays in memory, so a file that
//! was not closed cleanly can be examined without changing a byte of it. Knows nothing of what is in the file.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Bytes per remembered block.
const BLOCK: u64 = 4096;

/// A file, and what was written over it.
#[derive(Debug)]
pub(crate) struct Overlay<B> {
    file: B,
    // A lock because redb calls from several threads through a shared reference; held for one copy at a time.
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// The length the file seems to have.
    length: u64,
    /// From here on the file itself is not looked at: it ended here, or seemed to after a truncation.
    file_end: u64,
    /// Whole blocks that replace the file's, by number.
    blocks: BTreeMap<u64, Box<[u8; BLOCK as usize]>>,
}

impl<B: StorageBackend> Overlay<B> {
    /// Looks at an existing file, which needs to be open for reading only.
    pub(crate) fn new(file: B) -> io::Result<Overlay<B>> {
        let length = file.len()?;
        let changes = Changes { length, file_end: length, blocks: BTreeMap::new() };
        Ok(Overlay { file, changes: Mutex::new(changes) })
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block as it seems, for changing.
    fn block(&self, changes: &Changes, number: u64) -> io::Result<Box<[u8; BLOCK as usize]>> {
        if let Some(block) = changes.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK as usize]);
        let start = number * BLOCK;
        let there = changes.file_end.saturating_sub(start).min(BLOCK) as usize;
        if there > 0 {
            self.file.read(start, &mut block[..there])?;
        }
        Ok(block)
    }
}

/// The pieces of `start..start + length` that lie in one block each: (block, offset in it, range of the whole).
fn pieces(start: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = start + done as u64;
        let offset = (at % BLOCK) as usize;
        let count = (BLOCK as usize - offset).min(length - done);
        let piece = (at / BLOCK, offset, done..done + count);
        done += count;
        (count > 0).then_some(piece)
    })
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let changes = self.changes();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > changes.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = changes.file_end.saturating_sub(offset).min(out.len() as u64) as usize;
        let (from_file, beyond) = out.split_at_mut(there);
        if !from_file.is_empty() {
            self.file.read(offset, from_file)?;
        }
        beyond.fill(0);
        for (block, within, range) in pieces(offset, out.len()) {
            if let Some(block) = changes.blocks.get(&block) {
                let count = range.len();
                out[range].copy_from_slice(&block[within..within + count]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut changes = self.changes();
        if length < changes.length {
            // What is cut off must read as zeros if the file grows again.
            if !length.is_multiple_of(BLOCK) {
                let mut block = self.block(&changes, length / BLOCK)?;
                block[(length % BLOCK) as usize..].fill(0);
                changes.blocks.insert(length / BLOCK, block);
            }
            changes.blocks.split_off(&length.div_ceil(BLOCK));
            changes.file_end = changes.file_end.min(length);
        }
        changes.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut changes = self.changes();
        for (number, within, range) in pieces(offset, data.len()) {
            let mut block = self.block(&changes, number)?;
            block[within..within + range.len()].copy_from_slice(&data[range]);
            changes.blocks.insert(number, block);
        }
        changes.length = changes.length.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
