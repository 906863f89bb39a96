//! Which segments there are and how far they are written: the one thing the writer and its readers share. Must not read frames.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tally_storage::{Storage, StorageFile};

use crate::error::{Corruption, OpenError};
use crate::format::{BLOCK, BadSegment, SegmentHeader, VERSION};

/// One segment file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub name: String,
    pub header: SegmentHeader,
    /// Length of the file.
    pub bytes: u64,
    /// Time of the last change, where it is known and final.
    pub modified: Option<SystemTime>,
}

/// What the writer publishes and readers look at.
pub(crate) struct Shared {
    /// Number of the first frame that is not written: what readers ask first, without the lock.
    next_frame: AtomicU64,
    /// Whether readers go past the page cache.
    pub past_cache: bool,
    // A lock because the list and the end of its last segment must be seen together; held for a few loads and stores only.
    written: Mutex<Written>,
}

/// The written part of the log, all of it durable where every frame is synced.
#[derive(Debug)]
pub(crate) struct Written {
    /// Oldest first; the last is the one being written.
    pub segments: VecDeque<Segment>,
    /// Where the next frame goes in the last segment.
    pub end: u64,
    pub next_frame: u64,
    pub next_sequence: u64,
}

impl Shared {
    pub(crate) fn new(written: Written, past_cache: bool) -> Shared {
        Shared { next_frame: AtomicU64::new(written.next_frame), past_cache, written: Mutex::new(written) }
    }

    pub(crate) fn next_frame(&self) -> u64 {
        self.next_frame.load(Ordering::Acquire)
    }

    pub(crate) fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is written; readers see the change whole.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Written)) {
        let mut written = self.written();
        change(&mut written);
        self.next_frame.store(written.next_frame, Ordering::Release);
    }
}

impl Written {
    /// The oldest frame there is; of an empty log, the next one.
    pub(crate) fn first_frame(&self) -> u64 {
        self.segments.front().map_or(self.next_frame, |segment| segment.header.first_frame)
    }

    /// The segment that holds `frame`, and the header of the one after it.
    pub(crate) fn holding(&self, frame: u64) -> Option<(&Segment, Option<&Segment>)> {
        let after = self.segments.partition_point(|segment| segment.header.first_frame <= frame);
        let at = after.checked_sub(1)?;
        Some((&self.segments[at], self.segments.get(after)))
    }

    /// How far segment `id` may be read, and what comes after it; `None` when it was deleted.
    pub(crate) fn bounds(&self, id: u64) -> Option<(u64, Option<SegmentHeader>)> {
        let at = self.segments.iter().position(|segment| segment.header.id == id)?;
        match self.segments.get(at + 1) {
            Some(next) => Some((self.segments[at].bytes, Some(next.header))),
            None => Some((self.end, None)),
        }
    }
}

pub(crate) fn segment_name(id: u64) -> String {
    format!("wal_{id:010}.seg")
}

/// The number in a file name of the form `prefix` + at least `width` digits + `suffix`, exactly as this crate writes it.
pub(crate) fn numbered(name: &str, prefix: &str, width: usize, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let id = digits.parse().ok()?;
    (format!("{id:0width$}") == digits).then_some(id)
}

/// A segment file whose header was read, but not checked against the others.
pub(crate) struct Listed {
    pub id: u64,
    pub name: String,
    pub header: Result<SegmentHeader, BadSegment>,
    /// Length of the file.
    pub bytes: u64,
}

/// The names and headers of all segment files, oldest first.
pub(crate) fn list<S: Storage>(storage: &S) -> Result<Vec<Listed>, OpenError> {
    let names = storage.list().map_err(OpenError::io(storage, "list", ""))?;
    let mut ids: Vec<u64> = names.iter().filter_map(|name| numbered(name, "wal_", 10, ".seg")).collect();
    ids.sort_unstable();
    ids.into_iter().map(|id| read_header(storage, id)).collect()
}

fn read_header<S: Storage>(storage: &S, id: u64) -> Result<Listed, OpenError> {
    let name = segment_name(id);
    let file = storage.open(&name).map_err(OpenError::io(storage, "open", &name))?;
    let mut block = vec![0; BLOCK];
    let read = file.read_full_at(&mut block, 0).map_err(OpenError::io(storage, "read", &name))?;
    let bytes = file.len().map_err(OpenError::io(storage, "read the length of", &name))?;
    Ok(Listed { id, name, header: SegmentHeader::decode(&block[..read]), bytes })
}

/// Lists the segments and checks that their headers are whole and follow each other. Changes nothing.
pub(crate) fn load<S: Storage>(storage: &S) -> Result<Vec<Segment>, OpenError> {
    let listed = list(storage)?;
    let mut segments: Vec<Segment> = Vec::with_capacity(listed.len());
    for (at, one) in listed.iter().enumerate() {
        if let Some(gap) = gap_before(storage, segments.last(), &listed, at) {
            return Err(gap.into());
        }
        let header = check_header(storage, segments.last(), &listed, at)?;
        let modified = storage.modified(&one.name).ok();
        segments.push(Segment { name: one.name.clone(), header, bytes: one.bytes, modified });
    }
    Ok(segments)
}

/// The segment that is missing before `listed[at]`, if one is. `before` is the last segment before it whose header is whole.
pub(crate) fn gap_before<S: Storage>(
    storage: &S,
    before: Option<&Segment>,
    listed: &[Listed],
    at: usize,
) -> Option<Corruption> {
    let Listed { id, name, header, .. } = &listed[at];
    let missing = listed[at.checked_sub(1)?].id + 1;
    (missing != *id).then(|| Corruption {
        file: storage.describe(&segment_name(missing)),
        offset: 0,
        frame: 0,
        first_sequence: before.map_or(1, |before| before.header.first_sequence),
        last_sequence: header.as_ref().ok().map(|header| header.first_sequence.saturating_sub(1)),
        what: format!("the segment is missing, though {name} comes after it"),
    })
}

/// Checks the header of `listed[at]`, which follows `before`, the last segment before it whose header is whole.
pub(crate) fn check_header<S: Storage>(
    storage: &S,
    before: Option<&Segment>,
    listed: &[Listed],
    at: usize,
) -> Result<SegmentHeader, OpenError> {
    let Listed { id, name, header, .. } = &listed[at];
    let following = listed.get(at + 1).and_then(|following| following.header.as_ref().ok());
    let damaged = |what: String| Corruption {
        file: storage.describe(name),
        offset: 0,
        frame: 0,
        first_sequence: before.map_or(1, |before| before.header.first_sequence),
        last_sequence: following.map(|header| header.first_sequence.saturating_sub(1)),
        what,
    };
    let header = match header {
        Ok(header) => *header,
        Err(BadSegment::Version(version)) => {
            let file = storage.describe(name);
            return Err(OpenError::UnknownVersion { file, version: *version, known: VERSION });
        }
        Err(BadSegment::Damaged(what)) => return Err(damaged((*what).to_owned()).into()),
    };
    if header.id != *id {
        return Err(damaged(format!("the file says that it is segment {}", header.id)).into());
    }
    if let Some(before) = before
        && (header.first_frame <= before.header.first_frame || header.first_sequence < before.header.first_sequence)
    {
        return Err(damaged(format!("the segment does not continue {}", before.name)).into());
    }
    Ok(header)
}
