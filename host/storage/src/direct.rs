//! Past the page cache (`O_DIRECT`), in whole blocks: writing what is written from front to back over zeros, and reading it.
//!
//! A log's bytes are written once and hardly ever read by the same machine in the same hour. Through the page cache each costs a fresh page
//! and a copy into it; past it the disk takes them from a buffer that stays warm.
//!
//! *Whole blocks.* A write that ends within a block is filled up with zeros, which is what stands there. The next one begins in
//! that block, so it is written again: the same bytes at its front, new ones behind, zeros to its end. That trusts the disk in one thing:
//! a sector that is rewritten with the same bytes at its front keeps those, whenever the power goes. The page cache asks no less, since it writes
//! whole pages; PostgreSQL's log, InnoDB's redo log and SQLite ("powersafe overwrite") trust in the same. The end of a file that ends
//! within a block is written through the cache, so a file never gets longer than what was written.
//!
//! *Memory.* The disk takes whole blocks from memory that begins on a multiple of 4096. Bytes that stand in memory at the same place within 4096
//! as in the file are written from where they are, but for the blocks at both ends; others are copied first.
//!
//! *One writer.* Reading through the cache beside it is coherent: the kernel drops what it has of a range that is written past it. What is written
//! through the cache at the same time would not be. Here the same file does both, one after the other.
//!
//! *Reading.* A log that was written so is not in the cache, and a restart reads it once: whole blocks go from the disk to where they are
//! wanted. Anything else is read through the cache.
//!
//! *Where it is not possible* everything goes through the cache: file systems that refuse to open a file so, or to write it, or ask for larger
//! blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::aligned::{AlignedBuffer, BLOCK};

/// The most that is copied and written by one call: each waits for the disk, and memory beyond does not stay in the processor's caches.
const MOST: usize = 1 << 20;

/// So many bytes are not copied if they stand in memory as in the file; of fewer, the ends are most.
const WORTH_IT: usize = 8 * BLOCK;

/// The way past the cache to a file.
#[derive(Debug)]
pub(crate) struct Direct {
    file: File,
    // Methods of files take `&self`. Nobody waits: a file that is appended to has one writer.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The file system does not do it after all.
    refused: bool,
    /// What is written next; it begins with what the file holds of the block that was written last, if that is known.
    staging: AlignedBuffer,
    last: Option<Last>,
    /// The file is at least so long.
    length: u64,
}

/// The block that was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Last {
    at: u64,
    /// So many bytes of it are written; the others are zeros.
    held: usize,
}

impl Direct {
    /// The way past the cache to the file at `path`, or `None` where there is none.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Direct>> {
        Ok(open(path, OpenOptions::new().write(true))?.map(Direct::new))
    }

    fn new(file: File) -> Direct {
        Direct { file, state: Mutex::default() }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes`. `cached` is the same file, the other way.
    pub(crate) fn write_at(&self, cached: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.refused {
            match state.write(&self.file, cached, bytes, offset) {
                Err(error) if is_refusal(&error) => {}
                other => return other,
            }
            tracing::debug!("the file system refused to write past its cache");
            *state = State { refused: true, ..State::default() };
        }
        cached.write_all_at(bytes, offset)
    }

    /// Forgets what is known of the file, which somebody changed.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.last, state.length) = (None, 0);
    }
}

impl State {
    fn write(&mut self, direct: &File, cached: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if is_whole(bytes, offset) {
            self.last = None;
            return direct.write_all_at(bytes, offset);
        }
        if bytes.len() >= WORTH_IT && bytes.as_ptr().addr() % BLOCK == offset as usize % BLOCK {
            return self.write_in_place(direct, cached, bytes, offset);
        }
        let (mut offset, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let front = offset as usize % BLOCK;
            let (now, later) = rest.split_at(rest.len().min(MOST - front));
            self.write_some(direct, cached, now, offset)?;
            (offset, rest) = (offset + now.len() as u64, later);
        }
        Ok(())
    }

    /// Writes `bytes`, which fit into the staging buffer with what stands before them in their block.
    fn write_some(&mut self, direct: &File, cached: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let front = offset as usize % BLOCK;
        let at = offset - front as u64;
        self.grow(front, front + bytes.len());
        if self.last.take() != Some(Last { at, held: front }) {
            read_front(cached, &mut self.staging[..front], at)?;
        }
        let filled = front + bytes.len();
        let held = filled % BLOCK;
        let mut whole = filled.next_multiple_of(BLOCK);
        self.staging[front..filled].copy_from_slice(bytes);
        self.staging[filled..whole].fill(0);
        let last = Last { at: at + (filled - held) as u64, held };
        if held > 0 && !self.is_as_long(direct, at + whole as u64)? {
            whole -= BLOCK;
            cached.write_all_at(&self.staging[whole..filled], last.at)?;
        }
        direct.write_all_at(&self.staging[..whole], at)?;
        self.staging.copy_within(filled - held..filled, 0);
        self.last = Some(last);
        Ok(())
    }

    /// Writes bytes that stand in memory at the same place of a block as in the file: whole blocks from where they are, those at the ends
    /// from the staging buffer.
    fn write_in_place(&mut self, direct: &File, cached: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let front = offset as usize % BLOCK;
        let at = offset - front as u64;
        self.grow(front, 2 * BLOCK);
        if self.last.take() != Some(Last { at, held: front }) {
            read_front(cached, &mut self.staging[..front], at)?;
        }
        let end = offset + bytes.len() as u64;
        let held = end as usize % BLOCK;
        let last = Last { at: end - held as u64, held };
        let (bytes, behind) = bytes.split_at(bytes.len() - held);
        let (before, blocks) = bytes.split_at((BLOCK - front) % BLOCK);
        self.staging[BLOCK - before.len()..BLOCK].copy_from_slice(before);
        self.staging[BLOCK..BLOCK + held].copy_from_slice(behind);
        self.staging[BLOCK + held..2 * BLOCK].fill(0);
        let mut with_last = held > 0;
        if with_last && !self.is_as_long(direct, last.at + BLOCK as u64)? {
            cached.write_all_at(behind, last.at)?;
            with_last = false;
        }
        let first = if before.is_empty() { &[][..] } else { &self.staging[..BLOCK] };
        let behind = if with_last { &self.staging[BLOCK..2 * BLOCK] } else { &[][..] };
        write_all_vectored_at(direct, [first, blocks, behind], at)?;
        self.staging.copy_within(BLOCK..BLOCK + held, 0);
        self.last = Some(last);
        Ok(())
    }

    /// Makes room, and keeps what stands at the front.
    fn grow(&mut self, front: usize, filled: usize) {
        if filled > self.staging.len() {
            let mut larger = AlignedBuffer::zeroed(filled.next_power_of_two().clamp(BLOCK, MOST));
            let kept = front.min(self.staging.len());
            larger[..kept].copy_from_slice(&self.staging[..kept]);
            self.staging = larger;
        }
    }

    fn is_as_long(&mut self, file: &File, length: u64) -> io::Result<bool> {
        if self.length < length {
            self.length = file.metadata()?.len();
        }
        Ok(self.length >= length)
    }
}

/// Writes all of these bytes, one behind the other.
fn write_all_vectored_at(file: &File, parts: [&[u8]; 3], mut offset: u64) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match rustix::io::pwritev(file, rest, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A way past the cache that reads; whole blocks only, see [`is_whole`].
pub(crate) fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    open(path, OpenOptions::new().read(true))
}

fn open(path: &Path, options: &mut OpenOptions) -> io::Result<Option<File>> {
    match options.custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path) {
        Ok(file) if takes_blocks(&file) => Ok(Some(file)),
        Err(error) if !is_refusal(&error) => Err(error),
        _ => {
            tracing::debug!(path = %path.display(), "the file system has no way past its cache");
            Ok(None)
        }
    }
}

/// Whether these are whole blocks, in memory as in the file.
pub(crate) fn is_whole(bytes: &[u8], offset: u64) -> bool {
    [bytes.as_ptr().addr(), bytes.len(), offset as usize].iter().all(|number| number.is_multiple_of(BLOCK))
}

/// Reads what stands at the front of a block; zeros behind the end of the file.
fn read_front(file: &File, mut front: &mut [u8], mut at: u64) -> io::Result<()> {
    while !front.is_empty() {
        match file.read_at(front, at) {
            Ok(0) => {
                front.fill(0);
                break;
            }
            Ok(read) => (front, at) = (&mut front[read..], at + read as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether blocks of our size will do; where the kernel does not say, writing will tell.
fn takes_blocks(file: &File) -> bool {
    match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(found) if found.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            let fits = |align: u32| align > 0 && (BLOCK as u32).is_multiple_of(align);
            fits(found.stx_dio_mem_align) && fits(found.stx_dio_offset_align)
        }
        _ => true,
    }
}

/// How a file system says that it has no way past its cache, or not this one.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::{RealStorage, Storage, StorageFile};

    #[derive(Clone, Debug)]
    enum Step {
        /// Write so many bytes behind the last.
        Append(usize),
        /// Write so many bytes behind the last, from memory that is at the same place of a block, or so many bytes beside it.
        InPlace(usize, usize),
        /// Write so many of the last bytes again, as recovery does.
        Again(usize),
        /// Write so many blocks of zeros from aligned memory, from the block on that the last byte is in.
        Zeros(usize),
        /// Make the file so much longer.
        Extend(usize),
        /// Cut the file so many bytes before its end, or before the last byte written.
        Cut(usize, bool),
        /// Pass over so many bytes, which are zeros or not there.
        Skip(usize),
        Reopen,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let length = || prop_oneof![4 => 1..300_usize, 3 => 1..3 * BLOCK, 2 => (1..4_usize).prop_map(|n| n * BLOCK)];
        let large = MOST - 5000..2 * MOST + 5000;
        let step = prop_oneof![
            200 => length().prop_map(Step::Append),
            1 => large.prop_map(Step::Append),
            60 => (WORTH_IT - 5..WORTH_IT + 3 * BLOCK).prop_map(|length| Step::InPlace(length, 0)),
            60 => (2..9_usize, 0..2_usize).prop_map(|(blocks, beside)| Step::InPlace(blocks * BLOCK, beside)),
            20 => length().prop_map(Step::Again),
            10 => (1..4_usize).prop_map(Step::Zeros),
            20 => (1..5 * BLOCK).prop_map(Step::Extend),
            30 => (20 * BLOCK..40 * BLOCK).prop_map(Step::Extend),
            10 => (length(), any::<bool>()).prop_map(|(less, written)| Step::Cut(less, written)),
            10 => length().prop_map(Step::Skip),
            30 => Just(Step::Reopen),
        ];
        prop::collection::vec(step, 1..40)
    }

    /// A file written past the cache, by way of `open`, and what it must hold.
    struct Checked<'a> {
        path: &'a Path,
        cached: File,
        direct: Option<Direct>,
        open: &'a dyn Fn(&Path) -> Option<Direct>,
        end: usize,
        expected: Vec<u8>,
    }

    impl Checked<'_> {
        fn new<'a>(path: &'a Path, open: &'a dyn Fn(&Path) -> Option<Direct>) -> Checked<'a> {
            let mut options = OpenOptions::new();
            let cached = options.read(true).write(true).create(true).truncate(true).open(path).expect("a file");
            Checked { path, cached, direct: open(path), open, end: 0, expected: Vec::new() }
        }

        fn write(&mut self, bytes: &[u8], offset: usize) {
            match &self.direct {
                Some(direct) => direct.write_at(&self.cached, bytes, offset as u64).expect("writes"),
                None => self.cached.write_all_at(bytes, offset as u64).expect("writes"),
            }
            let end = offset + bytes.len();
            self.end = self.end.max(end);
            self.expected.resize(self.expected.len().max(end), 0);
            self.expected[offset..end].copy_from_slice(bytes);
        }

        fn set_len(&mut self, length: usize) {
            self.cached.set_len(length as u64).expect("another length");
            self.direct.as_ref().inspect(|direct| direct.forget());
            self.expected.resize(length, 0);
        }

        fn step(&mut self, step: &Step, salt: u8) {
            match step {
                Step::Append(length) => {
                    let bytes: Vec<u8> = (0..*length).map(|at| (at as u8).wrapping_mul(salt) | 1).collect();
                    self.write(&bytes, self.end);
                }
                Step::InPlace(length, beside) => {
                    let start = (self.end + beside) % BLOCK;
                    let mut memory = AlignedBuffer::zeroed(start + length);
                    let bytes = &mut memory[start..];
                    bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at as u8).wrapping_mul(salt) | 1);
                    self.write(bytes, self.end);
                }
                Step::Again(length) => {
                    let from = self.end.saturating_sub(*length);
                    if let Some(bytes) = self.expected.get(from..self.end).map(<[u8]>::to_vec) {
                        self.write(&bytes, from);
                    }
                }
                Step::Zeros(blocks) => {
                    let zeros = AlignedBuffer::zeroed(blocks * BLOCK);
                    self.write(&zeros, self.end - self.end % BLOCK);
                }
                Step::Extend(more) => self.set_len(self.expected.len() + more),
                Step::Cut(less, written) => {
                    let from = if *written { self.end.min(self.expected.len()) } else { self.expected.len() };
                    self.set_len(from.saturating_sub(*less));
                }
                Step::Skip(bytes) => self.end += bytes,
                Step::Reopen => self.direct = (self.open)(self.path),
            }
            // As a reader beside the writer sees it, which has the pages from before.
            let mut seen = vec![0; self.expected.len() + 1];
            let read = self.cached.read_at(&mut seen, 0).expect("reads");
            assert_eq!(read, self.expected.len(), "its length after {step:?}");
            assert!(seen[..read] == self.expected, "its bytes after {step:?}");
        }
    }

    fn check(dir: &Path, steps: &[Step], open: &dyn Fn(&Path) -> Option<Direct>) {
        let dir = tempfile::tempdir_in(dir).expect("a directory");
        let path = dir.path().join("file");
        let mut file = Checked::new(&path, open);
        for (at, step) in steps.iter().enumerate() {
            file.step(step, at as u8);
        }
        file.cached.sync_all().expect("syncs");
        assert!(fs::read(&path).expect("reads") == file.expected);
    }

    fn past_the_cache(path: &Path) -> Option<Direct> {
        Direct::open(path).expect("opens")
    }

    /// What is written to it is refused as by a file system that does not write past its cache.
    fn refused(_: &Path) -> Option<Direct> {
        let refusing = "/proc/self/oom_score_adj";
        Some(Direct::new(OpenOptions::new().write(true).open(refusing).expect("a file that takes only numbers")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn files_are_the_same_as_through_the_cache(steps in steps()) {
            check(&std::env::temp_dir(), &steps, &past_the_cache);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn files_are_the_same_where_the_file_system_refuses(steps in steps()) {
            check(&std::env::temp_dir(), &steps, &refused);
        }

        #[test]
        fn files_are_the_same_in_memory(steps in steps()) {
            let memory = Path::new("/dev/shm");
            if memory.is_dir() {
                check(memory, &steps, &past_the_cache);
            }
        }
    }

    #[test]
    fn what_is_known_of_a_block_ends_with_a_write_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let cached = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("a file");
        cached.set_len(2 * BLOCK as u64).expect("extends");
        let Some(direct) = past_the_cache(&path) else { return };
        direct.write_at(&cached, b"known", 0).expect("writes");
        direct.write_at(&cached, b"longer than any file", (1 << 62) + 50).expect_err("there is no such place");
        direct.write_at(&cached, b" and known", 5).expect("writes");
        assert_eq!(&fs::read(&path).expect("reads")[..20], b"known and known\0\0\0\0\0");
        direct.write_at(&cached, &AlignedBuffer::zeroed(BLOCK), 0).expect("writes");
        direct.write_at(&cached, b"new", 15).expect("writes");
        assert_eq!(&fs::read(&path).expect("reads")[10..20], b"\0\0\0\0\0new\0\0");
    }

    #[test]
    fn whole_blocks_are_read_past_the_cache_and_anything_else_through_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let storage = RealStorage::new(dir.path()).expect("a storage");
        let bytes: Vec<u8> = (0..3 * BLOCK + 100).map(|at| (at % 251) as u8).collect();
        fs::write(dir.path().join("file"), &bytes).expect("writes");
        let file = storage.open_past_cache("file").expect("opens");
        let mut blocks = AlignedBuffer::zeroed(4 * BLOCK);
        assert_eq!(file.read_full_at(&mut blocks, 0).expect("reads to the end"), bytes.len());
        assert!(blocks[..bytes.len()] == bytes);
        for (length, offset) in [(BLOCK, BLOCK), (BLOCK, 7), (10, BLOCK), (2 * BLOCK, 2 * BLOCK), (BLOCK, 4 * BLOCK)] {
            let read = file.read_full_at(&mut blocks[..length], offset as u64).expect("reads");
            assert!(blocks[..read] == bytes[offset.min(bytes.len())..bytes.len().min(offset + length)]);
        }
        storage.open_past_cache("missing").map(drop).expect_err("no such file");
    }

    #[test]
    fn a_refusal_is_remembered_and_other_errors_are_not_hidden() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let cached = File::create_new(&path).expect("a file");
        let direct = refused(&path).expect("refuses");
        let text = vec![b'x'; BLOCK + 1];
        direct.write_at(&cached, &text, 0).expect("writes");
        assert!(direct.state.lock().expect("no panic").refused);

        let direct = Direct::new(File::open(&path).expect("for reading"));
        let error = direct.write_at(&cached, &AlignedBuffer::zeroed(BLOCK), 0).expect_err("cannot be written");
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
        assert_eq!(
            Direct::open(&dir.path().join("missing")).expect_err("no such file").kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(fs::read(&path).expect("reads"), text);
    }
}
