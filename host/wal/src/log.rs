//! The writer: one frame at a time, durable when the call returns. Recovery is in `recover`, files made ahead in `spares`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{AppendError, DeleteError, OpenError};
use crate::format::{self, BLOCK, FrameHeader, MAX_BODY, SegmentHeader, frame_len};
use crate::reader::Reader;
use crate::recover::{self, Recovered};
use crate::segments::{Segment, Shared, segment_name};
use crate::spares::{Spare, Spares};
use crate::storage::{Storage, StorageFile};

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a segment file, at least 8192 (64 MiB).
    pub segment_bytes: u64,
    /// Segments filled with zeros ahead by a background thread (1). With 0 there is no thread, and deletions happen in the caller.
    pub spare_segments: usize,
    /// The longest body taken, in bytes (64 MiB). Longer frames of an older log are still read.
    pub max_frame_bytes: usize,
    /// Salt of new segments instead of a random one: for files that must come out the same each time, in tests only.
    pub salt: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, spare_segments: 1, max_frame_bytes: 64 << 20, salt: None }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let out_of_range = |option, problem: String| Err(OpenError::Option { option, problem });
        if self.segment_bytes < 2 * BLOCK as u64 || !self.segment_bytes.is_multiple_of(8) {
            return out_of_range(
                "segment_bytes",
                format!("{} is not a multiple of 8 from 8192 on", self.segment_bytes),
            );
        }
        if self.max_frame_bytes == 0 || self.max_frame_bytes > MAX_BODY {
            return out_of_range("max_frame_bytes", format!("{} is not within 1 and {MAX_BODY}", self.max_frame_bytes));
        }
        Ok(())
    }
}

/// What [`Log::append`] and [`Log::roll`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The frame's number.
    pub frame: u64,
    /// Sequence of its first event (of the next event, if it holds none).
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
}

/// A segment, as [`Log::segments`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// File name.
    pub name: String,
    /// Number of its first frame, which is its opening.
    pub first_frame: u64,
    /// Sequence of the first event at or after that frame.
    pub first_sequence: u64,
    /// Length of the file: what deleting it frees.
    pub bytes: u64,
    /// False for the segment being written.
    pub sealed: bool,
    /// Time of the last write, if the storage tells.
    pub modified: Option<SystemTime>,
}

/// The log, open for writing. There is one per directory; readers come from [`Log::reader`].
pub struct Log<S: Storage> {
    storage: S,
    options: Options,
    shared: Arc<Shared>,
    active: Option<Active<S::File>>,
    next: Next,
    /// One frame, encoded; kept to be used again.
    buffer: Vec<u8>,
    /// The failure after which nothing is taken.
    poisoned: Option<String>,
    spares: Spares<S>,
    _lock: S::Lock,
}

/// The segment being written.
pub(crate) struct Active<F> {
    pub file: F,
    pub name: String,
    pub header: SegmentHeader,
    /// Where the next frame goes.
    pub end: u64,
    /// Length of the file.
    pub bytes: u64,
    /// No frame but its opening is in it: whatever comes next has to fit.
    pub only_opening: bool,
}

/// What the next frame gets.
pub(crate) struct Next {
    pub segment: u64,
    pub frame: u64,
    pub sequence: u64,
    /// Checksum of the last frame.
    pub previous: u32,
}

impl<S: Storage> Log<S> {
    /// Opens the log in `storage`, or prepares an empty one (whose first call must be [`Log::roll`]).
    ///
    /// Takes the directory as it is: checks every segment's header, scans the last segment, cuts a torn tail (copied aside first), and
    /// syncs what will be replayed. Corruption is refused with every file left as it was.
    pub fn open(storage: S, options: Options) -> Result<(Log<S>, Recovered), OpenError> {
        recover::open(storage, options)
    }

    pub(crate) fn new(
        storage: S,
        options: Options,
        lock: S::Lock,
        shared: Shared,
        active: Option<Active<S::File>>,
        next: Next,
        first_spare: u64,
    ) -> Result<Log<S>, io::Error> {
        let spares = Spares::new(storage.clone(), options.segment_bytes, options.spare_segments, first_spare)?;
        let shared = Arc::new(shared);
        Ok(Log { storage, options, shared, active, next, buffer: Vec::new(), poisoned: None, spares, _lock: lock })
    }

    /// The number the next frame will get.
    pub fn next_frame(&self) -> u64 {
        self.next.frame
    }

    /// The sequence the next event will get.
    pub fn next_sequence(&self) -> u64 {
        self.next.sequence
    }

    /// True when a body of this length must open a new segment first. After [`Log::roll`] it never does.
    pub fn needs_roll(&self, body_len: usize) -> bool {
        match &self.active {
            None => true,
            Some(active) => !active.only_opening && active.end + frame_len(body_len) as u64 > active.bytes,
        }
    }

    /// Seals the segment and opens the next one, whose first frame is `opening`, of no events. Used for the very first frame too.
    ///
    /// The new segment appears on the disk as a whole, with its opening durable, or not at all.
    pub fn roll(&mut self, opening: &[u8]) -> Result<Appended, AppendError> {
        self.check(opening.len())?;
        let header = SegmentHeader {
            id: self.next.segment,
            salt: self.options.salt.unwrap_or_else(random),
            first_frame: self.next.frame,
            first_sequence: self.next.sequence,
        };
        let name = segment_name(header.id);
        self.buffer.clear();
        header.encode(&mut self.buffer);
        let crc = encode(&mut self.buffer, &self.next, &header, BLOCK as u64, 0, true, &[opening]);
        let spare = self.write_opening(&name)?;
        self.put_in_place(&spare.name, &name)?;

        let bytes = spare.bytes.max(self.buffer.len() as u64);
        let end = self.buffer.len() as u64;
        let before = self.active.replace(Active {
            file: spare.file,
            name: name.clone(),
            header,
            end,
            bytes,
            only_opening: true,
        });
        let sealed_at = before.and_then(|before| self.storage.modified(&before.name).ok());
        self.next.segment += 1;
        let appended = self.next.advance(0, crc);
        let (next_frame, next_sequence) = (self.next.frame, self.next.sequence);
        self.shared.publish(|durable| {
            if let Some(sealed) = durable.segments.back_mut() {
                sealed.modified = sealed_at;
            }
            durable.segments.push_back(Segment { name, header, bytes, modified: None });
            durable.end = end;
            durable.next_frame = next_frame;
            durable.next_sequence = next_sequence;
        });
        self.spares.prepare();
        Ok(appended)
    }

    /// Writes the buffer (header and opening) to a spare and syncs it. Nothing of the log is touched yet, so a full disk is no harm.
    fn write_opening(&mut self, name: &str) -> Result<Spare<S::File>, AppendError> {
        let spare = match self.spares.take() {
            Ok(spare) => spare,
            Err(source) => return Err(self.not_opened("create", name, source)),
        };
        let written = spare.file.write_at(&self.buffer, 0).and_then(|()| spare.file.sync_data());
        match written {
            Ok(()) => Ok(spare),
            Err(source) => {
                self.spares.discard(&spare.name);
                self.spares.prepare();
                Err(self.not_opened("write the start of", name, source))
            }
        }
    }

    fn not_opened(&mut self, doing: &'static str, name: &str, source: io::Error) -> AppendError {
        if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return AppendError::DiskFull { file: self.storage.describe(name), source };
        }
        self.fail(doing, name, source)
    }

    fn put_in_place(&mut self, spare: &str, name: &str) -> Result<(), AppendError> {
        self.storage.rename(spare, name).map_err(|source| self.fail("rename a spare to", name, source))?;
        self.storage.sync_dir().map_err(|source| self.fail("sync the directory of", name, source))
    }

    /// Writes one frame that holds `count` events and returns when it is durable.
    ///
    /// After any failure to write or sync the log takes nothing any more: a failed sync is final.
    pub fn append(&mut self, count: u32, body: &[u8]) -> Result<Appended, AppendError> {
        self.append_parts(count, &[body])
    }

    /// [`Log::append`] for a body in several parts, which need not be joined first.
    pub fn append_parts(&mut self, count: u32, body: &[&[u8]]) -> Result<Appended, AppendError> {
        let body_len = body.iter().map(|part| part.len()).sum();
        self.check(body_len)?;
        if self.needs_roll(body_len) {
            return Err(AppendError::NeedsRoll);
        }
        let Some(active) = &mut self.active else {
            return Err(AppendError::NeedsRoll);
        };
        self.buffer.clear();
        let crc = encode(&mut self.buffer, &self.next, &active.header, active.end, count, false, body);
        if let Err((doing, source)) = write_durably(&active.file, &self.buffer, active.end) {
            let name = active.name.clone();
            return Err(self.fail(doing, &name, source));
        }
        active.end += self.buffer.len() as u64;
        active.bytes = active.bytes.max(active.end);
        active.only_opening = false;
        let (end, bytes) = (active.end, active.bytes);
        let appended = self.next.advance(count, crc);
        let (next_frame, next_sequence) = (self.next.frame, self.next.sequence);
        self.shared.publish(|durable| {
            if let Some(segment) = durable.segments.back_mut() {
                segment.bytes = bytes;
            }
            durable.end = end;
            durable.next_frame = next_frame;
            durable.next_sequence = next_sequence;
        });
        Ok(appended)
    }

    /// A reader at the oldest frame. It sees a frame as soon as that is durable, and may be used from another thread.
    pub fn reader(&self) -> Reader<S> {
        Reader::new(self.storage.clone(), self.shared.clone(), None)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let mut infos: Vec<SegmentInfo> =
            self.shared.durable().segments.iter().map(|segment| info(segment, true)).collect();
        if let Some(active) = infos.last_mut() {
            active.sealed = false;
            active.modified = self.storage.modified(&active.name).ok();
        }
        infos
    }

    /// Deletes the sealed segments whose frames are all before `before_frame`, oldest first, and returns them.
    ///
    /// With spare segments the files go in the background, soon after. After a crash some may be there again, never with a gap.
    pub fn delete_before(&mut self, before_frame: u64) -> Result<Vec<SegmentInfo>, DeleteError> {
        let mut deleted = Vec::new();
        while let Some(segment) = self.deletable(before_frame) {
            self.spares.check_deleting(&segment.name)?;
            // First from the list, so that no reader takes what is about to vanish for damage.
            self.shared.publish(|durable| {
                durable.segments.pop_front();
            });
            self.spares.retire(&segment.name)?;
            deleted.push(info(&segment, true));
        }
        Ok(deleted)
    }

    fn deletable(&self, before_frame: u64) -> Option<Segment> {
        let durable = self.shared.durable();
        let following = durable.segments.get(1)?;
        (following.header.first_frame <= before_frame).then(|| durable.segments[0].clone())
    }

    fn check(&self, body_len: usize) -> Result<(), AppendError> {
        if let Some(cause) = &self.poisoned {
            return Err(AppendError::Poisoned { cause: cause.clone() });
        }
        if body_len > self.options.max_frame_bytes {
            return Err(AppendError::TooLarge { bytes: body_len, limit: self.options.max_frame_bytes });
        }
        Ok(())
    }

    fn fail(&mut self, doing: &'static str, name: &str, source: io::Error) -> AppendError {
        let file = self.storage.describe(name);
        self.poisoned = Some(format!("could not {doing} {file}: {source}"));
        AppendError::Io { doing, file, source }
    }
}

impl Next {
    fn advance(&mut self, count: u32, crc: u32) -> Appended {
        let appended = Appended { frame: self.frame, first_sequence: self.sequence, count };
        self.frame += 1;
        self.sequence += u64::from(count);
        self.previous = crc;
        appended
    }
}

fn encode(
    into: &mut Vec<u8>,
    next: &Next,
    segment: &SegmentHeader,
    offset: u64,
    count: u32,
    opening: bool,
    body: &[&[u8]],
) -> u32 {
    let header = FrameHeader {
        body_len: 0,
        number: next.frame,
        first_sequence: next.sequence,
        count,
        opening,
        previous: next.previous,
        crc: 0,
    };
    format::encode_frame(into, segment, offset, &header, body)
}

fn write_durably(file: &impl StorageFile, bytes: &[u8], offset: u64) -> Result<(), (&'static str, io::Error)> {
    file.write_at(bytes, offset).map_err(|error| ("write", error))?;
    file.sync_data().map_err(|error| ("sync", error))
}

fn info(segment: &Segment, sealed: bool) -> SegmentInfo {
    SegmentInfo {
        name: segment.name.clone(),
        first_frame: segment.header.first_frame,
        first_sequence: segment.header.first_sequence,
        bytes: segment.bytes,
        sealed,
        modified: segment.modified,
    }
}

/// A random number without a dependency: each `RandomState` has keys from the operating system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
