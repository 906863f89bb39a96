//! Files filled with zeros ahead of their use as segments, and what becomes of segments that are no longer needed.
//!
//! A background thread does the slow parts, so that the writer's syncs never wait for a growing file. Without
//! spares there is no thread and everything happens in the caller. Segments go oldest first, each made durable before
//! the next: a crash must never leave a gap. After any failure of that, none are deleted until the log is opened again.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tally_storage::{AlignedBuffer, Storage, StorageFile};

use crate::error::DeleteError;
use crate::options::Options;

/// Bytes of zeros per write, and how many such writes per sync: small steps keep the disk's queue short for the log itself.
const CHUNK: usize = 256 << 10;
const CHUNKS_PER_SYNC: u64 = 16;

/// A spare is filled this many times as fast as the segment in use, or in about `FILL`.
const AHEAD: u64 = 4;
const FILL: Duration = Duration::from_secs(1);

/// A file ready to become a segment.
pub(crate) struct Spare<F> {
    pub name: String,
    pub file: F,
    /// Its length; all zeros.
    pub bytes: u64,
}

/// The spares of one log.
pub(crate) struct Spares<S: Storage> {
    inner: Arc<Inner<S>>,
    thread: Option<(Sender<Task>, JoinHandle<()>)>,
}

struct Inner<S: Storage> {
    storage: S,
    bytes: u64,
    wanted: usize,
    past_cache: bool,
    next_name: AtomicU64,
    // Locked to push or take one entry; never across I/O.
    ready: Mutex<VecDeque<Spare<S::File>>>,
    stop: AtomicBool,
    /// Bytes of the segment in use.
    used: AtomicU64,
    /// A deletion failed: which of them are durable is unknown.
    stuck: AtomicBool,
}

enum Task {
    Prepare,
    Retire(String),
}

pub(crate) fn spare_name(number: u64) -> String {
    format!("spare_{number:010}.tmp")
}

impl<S: Storage> Spares<S> {
    /// As many files as the options want are kept ready; names start at `first_name`.
    pub(crate) fn new(storage: S, options: &Options, first_name: u64) -> io::Result<Spares<S>> {
        let wanted = options.spare_segments;
        let inner = Arc::new(Inner {
            storage,
            bytes: options.segment_bytes,
            wanted,
            past_cache: options.past_cache(),
            next_name: AtomicU64::new(first_name),
            ready: Mutex::new(VecDeque::new()),
            stop: AtomicBool::new(false),
            used: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
        });
        let thread = if wanted == 0 { None } else { Some(start(inner.clone())?) };
        let spares = Spares { inner, thread };
        for _ in 0..wanted {
            spares.prepare();
        }
        Ok(spares)
    }

    /// A file to become a segment: one filled ahead, or else a new one with its space reserved.
    pub(crate) fn take(&self) -> io::Result<Spare<S::File>> {
        if let Some(spare) = self.inner.ready().pop_front() {
            return Ok(spare);
        }
        if self.inner.wanted > 0 {
            tracing::debug!("no log segment was prepared ahead; syncs may take longer for a while");
        }
        self.make()
    }

    /// A new file with its space reserved.
    fn make(&self) -> io::Result<Spare<S::File>> {
        let bytes = self.inner.bytes;
        let name = self.inner.new_name();
        let file = self.inner.create(&name)?;
        match file.allocate(bytes) {
            Ok(()) => Ok(Spare { name, file, bytes }),
            Err(error) => {
                self.discard(&name);
                Err(error)
            }
        }
    }

    /// Makes sure that a spare is ready, and of room for `more` bytes.
    pub(crate) fn reserve(&self, more: u64) -> io::Result<()> {
        let is_ready = !self.inner.ready().is_empty();
        if !is_ready || more > 0 {
            self.inner.leave_room(if is_ready { more } else { more + self.inner.bytes })?;
        }
        if !is_ready {
            let spare = self.make()?;
            self.inner.ready().push_back(spare);
        }
        Ok(())
    }

    /// The segment in use has so many bytes by now.
    pub(crate) fn follow(&self, used: u64) {
        self.inner.used.store(used, Ordering::Relaxed);
    }

    /// Asks for another spare, in the place of one that was taken.
    pub(crate) fn prepare(&self) {
        self.send(Task::Prepare);
    }

    /// Removes a spare that could not be used. A failure leaves a worthless file until the next start.
    pub(crate) fn discard(&self, name: &str) {
        self.inner.remove_worthless(name);
    }

    /// Fails when an earlier deletion did: which of them are durable is then unknown, and one more could leave a gap.
    pub(crate) fn check_deleting(&self, segment: &str) -> Result<(), DeleteError> {
        self.inner.check_deleting(segment)
    }

    /// Deletes the segment: at once without a thread, soon with one. Called with the oldest first.
    pub(crate) fn retire(&self, segment: &str) -> Result<(), DeleteError> {
        if self.thread.is_none() {
            return self.inner.delete(segment);
        }
        self.send(Task::Retire(segment.to_owned()));
        Ok(())
    }

    fn send(&self, task: Task) {
        if let Some((tasks, _)) = &self.thread {
            // The thread ends only when told to or when it panicked; segments are then made without being filled ahead.
            if tasks.send(task).is_err() {
                tracing::warn!("the thread that prepares log segments is gone");
            }
        }
    }
}

impl<S: Storage> Drop for Spares<S> {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        if let Some((tasks, thread)) = self.thread.take() {
            drop(tasks);
            if thread.join().is_err() {
                tracing::warn!("the thread that prepares log segments panicked");
            }
        }
    }
}

fn start<S: Storage>(inner: Arc<Inner<S>>) -> io::Result<(Sender<Task>, JoinHandle<()>)> {
    let (tasks, inbox) = channel();
    let thread = std::thread::Builder::new().name("tally-wal-spares".to_owned()).spawn(move || inner.run(&inbox))?;
    Ok((tasks, thread))
}

impl<S: Storage> Inner<S> {
    /// The thread: one task after the other until the log is dropped. Retired files are kept as they are, at most as many as
    /// there are spares, to be filled when one is needed.
    fn run(&self, tasks: &Receiver<Task>) {
        let mut retired = VecDeque::new();
        for task in tasks {
            // Deletions still happen: after a stop they are few and quick.
            match task {
                // Each segment asks for one, those too that found none ready and were made on the spot.
                Task::Prepare if self.stop.load(Ordering::Relaxed) || self.ready().len() >= self.wanted => {}
                Task::Prepare => self.prepare(retired.pop_front()),
                Task::Retire(name) => {
                    let done = if retired.len() < self.wanted {
                        self.recycle(&name).map(|name| retired.push_back(name))
                    } else {
                        self.delete(&name)
                    };
                    if let Err(error) = done {
                        let source = &error.source;
                        tracing::warn!(%error, %source, "log segments stay on the disk");
                    }
                }
            }
        }
        for name in retired {
            self.remove_worthless(&name);
        }
    }

    fn prepare(&self, retired: Option<String>) {
        let name = retired.unwrap_or_else(|| self.new_name());
        match self.fill(&name) {
            Ok(Some(spare)) => self.ready().push_back(spare),
            Ok(None) => self.remove_worthless(&name),
            Err(error) => {
                tracing::warn!(file = self.storage.describe(&name), %error, "could not prepare a log segment ahead");
                self.remove_worthless(&name);
            }
        }
    }

    /// Refuses to take these bytes if that leaves less room than a segment has. What lets segments go (saved state, analytics
    /// records, the frames that say so) needs some itself: a log that took the last of the disk would wait for ever.
    fn leave_room(&self, bytes: u64) -> io::Result<()> {
        let least = bytes.saturating_add(self.bytes);
        // Where nobody knows what is free, taking it will tell.
        let Some(free) = self.storage.free_space().ok().filter(|free| *free < least) else { return Ok(()) };
        let lacking =
            format!("{free} bytes are free, and {} of them must stay free for saved state and records", self.bytes);
        Err(io::Error::new(io::ErrorKind::StorageFull, lacking))
    }

    /// Fills the file (a retired one or a new one) with zeros and syncs it; `None` when told to stop.
    fn fill(&self, name: &str) -> io::Result<Option<Spare<S::File>>> {
        let file = match self.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open(name)?,
            other => other?,
        };
        match file.len()? {
            // A segment that held one oversized frame is longer.
            length if length > self.bytes => file.set_len(self.bytes)?,
            length if length < self.bytes => self.leave_room(self.bytes - length)?,
            _ => {}
        }
        let zeros = AlignedBuffer::zeroed(CHUNK.min(self.bytes as usize));
        // Of a small segment no chunk is worth a longer one.
        let pause = FILL.mul_f64(zeros.len() as f64 / self.bytes as f64).min(Duration::from_millis(4));
        let mut offset = 0;
        let mut chunks = 0;
        while offset < self.bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let take = zeros.len().min((self.bytes - offset) as usize);
            file.write_at(&zeros[..take], offset)?;
            offset += take as u64;
            chunks += 1;
            if chunks % CHUNKS_PER_SYNC == 0 {
                file.sync_data()?;
            }
            if offset > AHEAD * self.used.load(Ordering::Relaxed) {
                std::thread::sleep(pause);
            }
        }
        file.sync_all()?;
        Ok(Some(Spare { name: name.to_owned(), file, bytes: self.bytes }))
    }

    fn create(&self, name: &str) -> io::Result<S::File> {
        if self.past_cache { self.storage.create_for_appending(name) } else { self.storage.create(name) }
    }

    fn open(&self, name: &str) -> io::Result<S::File> {
        if self.past_cache { self.storage.open_for_appending(name) } else { self.storage.open(name) }
    }

    /// Takes a segment's name away, durably, before anything overwrites the file.
    fn recycle(&self, segment: &str) -> Result<String, DeleteError> {
        let name = self.new_name();
        self.take_away(segment, "rename", |storage| storage.rename(segment, &name))?;
        Ok(name)
    }

    fn delete(&self, segment: &str) -> Result<(), DeleteError> {
        self.take_away(segment, "remove", |storage| storage.remove(segment))
    }

    fn take_away(
        &self,
        segment: &str,
        doing: &'static str,
        act: impl FnOnce(&S) -> io::Result<()>,
    ) -> Result<(), DeleteError> {
        self.check_deleting(segment)?;
        let failed = |doing| {
            let file = self.storage.describe(segment);
            move |source| {
                self.stuck.store(true, Ordering::Relaxed);
                DeleteError { doing, file, source }
            }
        };
        act(&self.storage).map_err(failed(doing))?;
        self.storage.sync_dir().map_err(failed("sync the directory of"))
    }

    fn check_deleting(&self, segment: &str) -> Result<(), DeleteError> {
        if !self.stuck.load(Ordering::Relaxed) {
            return Ok(());
        }
        let source = io::Error::other("an earlier deletion failed");
        Err(DeleteError { doing: "remove", file: self.storage.describe(segment), source })
    }

    fn remove_worthless(&self, name: &str) {
        if let Err(error) = self.storage.remove(name) {
            tracing::warn!(file = self.storage.describe(name), %error, "a spare file stays on the disk until the next start");
        }
    }

    fn new_name(&self) -> String {
        spare_name(self.next_name.fetch_add(1, Ordering::Relaxed))
    }

    fn ready(&self) -> MutexGuard<'_, VecDeque<Spare<S::File>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tally_testkit::{Kind, MemStorage};

    use super::*;

    fn spares(storage: &MemStorage, bytes: u64, wanted: usize) -> Spares<MemStorage> {
        let options = Options { segment_bytes: bytes, spare_segments: wanted, ..Options::default() };
        Spares::new(storage.clone(), &options, 7).expect("starts")
    }

    fn wait_for(what: impl Fn() -> bool) {
        while !what() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Until the thread has done what it was asked before.
    fn catch_up(storage: &MemStorage, spares: &Spares<MemStorage>) {
        storage.overwrite("wal_fence.seg", Vec::new());
        spares.retire("wal_fence.seg").expect("takes it");
        wait_for(|| !storage.names().contains(&"wal_fence.seg".to_owned()));
    }

    fn is_ready(spares: &Spares<MemStorage>, count: usize) -> bool {
        spares.inner.ready().len() == count
    }

    #[test]
    fn as_many_as_wanted_are_filled_ahead_in_small_steps_and_taken_in_order() {
        let storage = MemStorage::new();
        storage.trace(true);
        let bytes = (9 << 20) + 8;
        let spares = spares(&storage, bytes, 2);
        wait_for(|| is_ready(&spares, 2));
        let trace = storage.take_trace();
        let count = |kind| trace.iter().filter(|operation| operation.kind == kind).count();
        assert!(trace.iter().all(|operation| operation.kind != Kind::Write || operation.bytes <= 256 << 10));
        assert_eq!((count(Kind::SyncData), count(Kind::SyncAll)), (4, 2), "each 4 MiB, and in the end");
        (0..3).for_each(|_| spares.prepare());
        storage.overwrite("wal_1.seg", Vec::new());
        catch_up(&storage, &spares);
        assert!(is_ready(&spares, 2), "no more than wanted");
        let before = storage.operations();
        for name in ["spare_0000000007.tmp", "spare_0000000008.tmp"] {
            let spare = spares.take().expect("is there");
            assert_eq!((&*spare.name, spare.bytes), (name, bytes));
            assert!(storage.contents(name).is_some_and(|found| found == vec![0; bytes as usize]));
        }
        assert_eq!(storage.operations(), before, "nobody waits for the disk");
    }

    #[test]
    fn a_segment_that_is_let_go_becomes_a_spare_and_those_beyond_go() {
        for length in [10_000, 64 << 10, 100_000] {
            let storage = MemStorage::new();
            let spares = spares(&storage, 64 << 10, 1);
            wait_for(|| is_ready(&spares, 1));
            for name in ["wal_1.seg", "wal_2.seg"] {
                storage.overwrite(name, vec![0xEE; length]);
                spares.retire(name).expect("takes it");
            }
            wait_for(|| !storage.names().contains(&"wal_2.seg".to_owned()));
            assert_eq!(storage.names(), ["spare_0000000007.tmp", "spare_0000000008.tmp"]);
            assert_eq!(spares.take().expect("is there").name, "spare_0000000007.tmp");
            spares.prepare();
            wait_for(|| is_ready(&spares, 1));
            let name = "spare_0000000008.tmp";
            assert!(storage.contents(name).is_some_and(|found| found == [0; 64 << 10]), "{length}");
            assert_eq!(spares.take().expect("is there").name, name);
            drop(spares);
            assert_eq!(storage.crash(1).names(), ["spare_0000000007.tmp", "spare_0000000008.tmp"], "durably");
        }
    }

    #[test]
    fn none_is_filled_from_the_last_of_the_disk() {
        for (free, is_filled) in [(2 * (64 << 10) - 4096, false), (2 * (64 << 10), true)] {
            let storage = MemStorage::new();
            storage.set_capacity(Some(free));
            let spares = spares(&storage, 64 << 10, 1);
            catch_up(&storage, &spares);
            assert!(is_ready(&spares, usize::from(is_filled)), "{free} bytes are free");
        }
    }

    #[test]
    fn a_segment_that_becomes_a_spare_needs_room_only_for_what_it_lacks() {
        let bytes = 64 << 10;
        for (length, free) in [(bytes, 0), (4 << 12, bytes - (4 << 12) + bytes)] {
            let storage = MemStorage::new();
            let spares = spares(&storage, bytes, 1);
            wait_for(|| is_ready(&spares, 1));
            storage.overwrite("wal_1.seg", vec![0xEE; length as usize]);
            spares.retire("wal_1.seg").expect("takes it");
            storage.set_capacity(Some(bytes + length + free));
            spares.take().expect("is there");
            spares.prepare();
            wait_for(|| is_ready(&spares, 1));
        }
    }

    #[test]
    fn room_is_reserved_for_what_comes_beside_a_spare() {
        let storage = MemStorage::new();
        let bytes = 64 << 10;
        let spares = spares(&storage, bytes, 0);
        spares.reserve(0).expect("makes one");
        assert!(is_ready(&spares, 1));
        storage.set_capacity(Some(bytes));
        spares.reserve(0).expect("it is there already");
        spares.reserve(1).expect_err("there is no room for anything else");
        storage.set_capacity(Some(2 * bytes + 4096));
        spares.reserve(4096).expect("this leaves as much as a segment");
        spares.reserve(4097).expect_err("this does not");
        assert!(is_ready(&spares, 1));
    }

    #[test]
    fn whoever_drops_them_waits_until_nothing_is_written_any_more() {
        let storage = MemStorage::new();
        let spares = spares(&storage, 64 << 20, 1);
        wait_for(|| !storage.names().is_empty());
        drop(spares);
        assert_eq!(storage.names(), [""; 0], "what was not filled yet is worth nothing");
    }
}
