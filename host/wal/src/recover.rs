//! Opening a log: what is on the disk, whether it is whole, and what has to be done before anything is added.
//!
//! Looking comes first and changes nothing; only a log that is whole but for a torn tail is written to.

use tally_storage::{AlignedBuffer, Storage, StorageFile};

use crate::error::OpenError;
use crate::format::BLOCK;
use crate::log::{Active, Log, Next};
use crate::options::Options;
use crate::scan::{Scan, Tail, scan};
use crate::segments::{self, Segment, Shared, Written, numbered};
use crate::spares;

/// How many files with torn tails are kept; the oldest go first.
pub const TORN_KEPT: usize = 16;

pub(crate) const LOCK: &str = "wal.lock";
/// How often the end of a log is looked at again, when another process may be writing it.
pub(crate) const LIVE_TRIES: usize = 5;

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Bytes of the torn or unsynced tail that was cut; 0 without one.
    pub torn_bytes: u64,
    /// Events in it, as far as headers are left that tell. In a log whose every frame is synced none of them was acknowledged.
    pub torn_events: u64,
    /// The file in the log's directory that they were copied to.
    pub torn_file: Option<String>,
    /// Body of the last opening frame; `None` in a new log.
    pub last_opening: Option<Vec<u8>>,
    /// Number of the last opening frame; 0 in a new log.
    pub last_opening_frame: u64,
    /// Number of the oldest frame kept (of the first one to come, in a new log).
    pub first_frame: u64,
    /// Sequence of the first event kept (of the first one to come, in a new log).
    pub first_sequence: u64,
    /// Number the next frame will get.
    pub next_frame: u64,
    /// Sequence the next event will get.
    pub next_sequence: u64,
    /// How many segments there are.
    pub segments: usize,
}

/// The end of a log that was not written to the end, or not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment's file, with its path where it has one.
    pub file: String,
    /// Where the last valid frame ends.
    pub offset: u64,
    /// Bytes from there to the last one that is not zero.
    pub bytes: u64,
    /// Events in them, as far as headers are left that tell.
    pub events: u64,
}

/// A log as it was found.
struct Found {
    segments: Vec<Segment>,
    last: Option<Last>,
}

/// The last segment: its file's bytes, and what they hold.
struct Last {
    bytes: AlignedBuffer,
    scan: Scan,
}

pub(crate) fn open<S: Storage>(storage: S, options: Options) -> Result<(Log<S>, Recovered), OpenError> {
    options.check()?;
    let lock = storage.lock(LOCK).map_err(OpenError::io(&storage, "lock", LOCK))?;
    let Some(lock) = lock else {
        return Err(OpenError::Locked { file: storage.describe(LOCK) });
    };
    let found = look(&storage, 1, options.past_cache())?;

    let first_spare = remove_spares(&storage)?;
    let torn_file = match &found.last {
        Some(last) if last.scan.tail.bytes > 0 => Some(copy_aside(&storage, &found, last)?),
        _ => None,
    };
    let active = match (&found.last, found.segments.last()) {
        (Some(last), Some(segment)) => Some(make_durable(&storage, segment, last, &options)?),
        _ => None,
    };
    sync_sealed(&storage, &found.segments)?;
    storage.sync_dir().map_err(OpenError::io(&storage, "sync the directory", ""))?;

    let recovered = found.recovered(torn_file);
    let next = Next {
        segment: found.segments.last().map_or(1, |segment| segment.header.id + 1),
        frame: recovered.next_frame,
        sequence: recovered.next_sequence,
        previous: found.last.as_ref().map_or(0, |last| last.scan.crc),
    };
    let shared = Shared::new(found.written(), options.past_cache());
    let log = Log::new(storage.clone(), options, lock, shared, active, next, first_spare).map_err(OpenError::io(
        &storage,
        "start the thread that prepares files for",
        "",
    ))?;
    Ok((log, recovered))
}

/// What a reader without a log needs: nothing is written and no lock taken.
pub(crate) fn open_read_only<S: Storage>(storage: &S) -> Result<(Shared, Option<TornTail>), OpenError> {
    let found = look(storage, LIVE_TRIES, false)?;
    let torn = match (&found.last, found.segments.last()) {
        (Some(Last { scan: Scan { end, tail, .. }, .. }), Some(segment)) if tail.bytes > 0 => {
            let file = storage.describe(&segment.name);
            Some(TornTail { file, offset: *end, bytes: tail.bytes, events: tail.events })
        }
        _ => None,
    };
    Ok((Shared::new(found.written(), false), torn))
}

/// Lists and checks. With more than one try, damage counts only if it is there each time: somebody may be writing meanwhile.
fn look<S: Storage>(storage: &S, tries: usize, past_cache: bool) -> Result<Found, OpenError> {
    let mut left = tries;
    loop {
        left -= 1;
        match look_once(storage, past_cache) {
            Err(OpenError::Corrupt(_) | OpenError::Io { .. }) if left > 0 => {}
            other => return other,
        }
    }
}

fn look_once<S: Storage>(storage: &S, past_cache: bool) -> Result<Found, OpenError> {
    let segments = segments::load(storage)?;
    let last = match segments.last() {
        None => None,
        Some(segment) => {
            let bytes = read_whole(storage, &segment.name, segment.bytes, past_cache)?;
            let scan = scan(&bytes, &segment.header, &storage.describe(&segment.name))?;
            Some(Last { bytes, scan })
        }
    };
    Ok(Found { segments, last })
}

/// Reads the file `name`, as long as it was when it was listed.
pub(crate) fn read_whole<S: Storage>(
    storage: &S,
    name: &str,
    length: u64,
    past_cache: bool,
) -> Result<AlignedBuffer, OpenError> {
    let opened = if past_cache { storage.open_past_cache(name) } else { storage.open(name) };
    let file = opened.map_err(OpenError::io(storage, "open", name))?;
    let mut bytes = AlignedBuffer::zeroed(length as usize);
    let read = file.read_full_at(&mut bytes, 0).map_err(OpenError::io(storage, "read", name))?;
    bytes.truncate(read);
    Ok(bytes)
}

impl Found {
    fn written(&self) -> Written {
        let (end, next_frame, next_sequence) =
            self.last.as_ref().map_or((0, 1, 1), |last| (last.scan.end, last.scan.next_frame, last.scan.next_sequence));
        Written { segments: self.segments.iter().cloned().collect(), end, next_frame, next_sequence }
    }

    fn recovered(&self, torn_file: Option<String>) -> Recovered {
        let written = self.written();
        let tail = self.last.as_ref().map_or_else(Default::default, |last| last.scan.tail);
        Recovered {
            torn_bytes: tail.bytes,
            torn_events: tail.events,
            torn_file,
            last_opening: self.last.as_ref().map(|last| last.bytes[last.scan.opening.clone()].to_vec()),
            last_opening_frame: self.segments.last().map_or(0, |segment| segment.header.first_frame),
            first_frame: written.first_frame(),
            first_sequence: self.segments.first().map_or(1, |segment| segment.header.first_sequence),
            next_frame: written.next_frame,
            next_sequence: written.next_sequence,
            segments: self.segments.len(),
        }
    }
}

/// Removes what a former process had prepared, and returns a number for the first new spare.
fn remove_spares<S: Storage>(storage: &S) -> Result<u64, OpenError> {
    let mut next = 1;
    for name in storage.list().map_err(OpenError::io(storage, "list", ""))? {
        if let Some(number) = numbered(&name, "spare_", 10, ".tmp") {
            storage.remove(&name).map_err(OpenError::io(storage, "remove", &name))?;
            next = next.max(number + 1);
        }
    }
    debug_assert!(numbered(&spares::spare_name(next), "spare_", 10, ".tmp") == Some(next));
    Ok(next)
}

/// Copies the torn tail to a file of its own, durably, and returns its name.
fn copy_aside<S: Storage>(storage: &S, found: &Found, last: &Last) -> Result<String, OpenError> {
    let names = storage.list().map_err(OpenError::io(storage, "list", ""))?;
    let mut kept: Vec<u64> = names.iter().filter_map(|name| numbered(name, "torn_", 5, ".bin")).collect();
    kept.sort_unstable();
    let name = torn_name(kept.last().map_or(1, |last| last + 1));
    let file = storage.create(&name).map_err(OpenError::io(storage, "create", &name))?;
    let start = last.scan.end as usize;
    let torn = &last.bytes[start..start + last.scan.tail.bytes as usize];
    file.write_at(torn, 0).map_err(OpenError::io(storage, "write", &name))?;
    file.sync_all().map_err(OpenError::io(storage, "sync", &name))?;
    storage.sync_dir().map_err(OpenError::io(storage, "sync the directory of", &name))?;
    let segment = found.segments.last().map_or("", |segment| &segment.name);
    let (offset, Tail { bytes, events }) = (last.scan.end, last.scan.tail);
    tracing::warn!(segment, offset, bytes, events, copy = name, "cut the log's torn tail");
    let surplus = (kept.len() + 1).saturating_sub(TORN_KEPT);
    for old in kept.into_iter().take(surplus).map(torn_name) {
        storage.remove(&old).map_err(OpenError::io(storage, "remove", &old))?;
    }
    Ok(name)
}

fn torn_name(number: u64) -> String {
    format!("torn_{number:05}.bin")
}

/// Zeroes the torn tail, writes the frames once more that may not be durable, and syncs.
///
/// The sync of those frames may have failed in a former process, with the kernel showing pages ever since that never reached the disk;
/// a sync alone would then report success. Earlier frames were durable before the last one was written: it says so.
fn make_durable<S: Storage>(
    storage: &S,
    segment: &Segment,
    last: &Last,
    options: &Options,
) -> Result<Active<S::File>, OpenError> {
    let name = &segment.name;
    let opened = if options.past_cache() { storage.open_for_appending(name) } else { storage.open(name) };
    let file = opened.map_err(OpenError::io(storage, "open", name))?;
    let end = last.scan.end;
    let only_opening = last.scan.frames == 1;
    let from = if last.scan.unsynced_at == BLOCK as u64 { 0 } else { last.scan.unsynced_at };
    file.write_at(&last.bytes[from as usize..end as usize], from).map_err(OpenError::io(storage, "write", name))?;
    if last.scan.tail.bytes > 0 {
        let zeros = vec![0; last.scan.tail.bytes as usize];
        file.write_at(&zeros, end).map_err(OpenError::io(storage, "write", name))?;
    }
    file.sync_all().map_err(OpenError::io(storage, "sync", name))?;
    Ok(Active { file, name: name.clone(), header: segment.header, end, bytes: segment.bytes, only_opening })
}

/// Syncs the other segments: they were durable, unless the directory was copied here a moment ago.
fn sync_sealed<S: Storage>(storage: &S, segments: &[Segment]) -> Result<(), OpenError> {
    let sealed = segments.len().saturating_sub(1);
    for segment in &segments[..sealed] {
        let name = &segment.name;
        let file = storage.open(name).map_err(OpenError::io(storage, "open", name))?;
        file.sync_all().map_err(OpenError::io(storage, "sync", name))?;
    }
    Ok(())
}
