//! The writer: one frame at a time, durable when the call returns or when the caller syncs. Recovery is in `recover`, files made
//! ahead in `spares`.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tally_storage::{Storage, StorageFile};

use crate::error::{AppendError, DeleteError, OpenError};
use crate::format::{self, BLOCK, FrameHeader, HEADER, MAX_UNSYNCED, SegmentHeader, VERSION, frame_len};
use crate::options::{Durability, Options};
use crate::reader::Reader;
use crate::recover::{self, Recovered};
use crate::segments::{Segment, Shared, segment_name};
use crate::spares::{Spare, Spares};

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
    /// All frames up to this one are durable.
    durable_frame: u64,
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
        let spares = Spares::new(storage.clone(), &options, first_spare)?;
        let shared = Arc::new(shared);
        // Opening makes everything durable.
        let durable_frame = next.frame - 1;
        let (buffer, poisoned) = (Vec::new(), None);
        Ok(Log { storage, options, shared, active, next, durable_frame, buffer, poisoned, spares, _lock: lock })
    }

    /// The number the next frame will get.
    pub fn next_frame(&self) -> u64 {
        self.next.frame
    }

    /// The sequence the next event will get.
    pub fn next_sequence(&self) -> u64 {
        self.next.sequence
    }

    /// Number of the last frame that is durable, and with it all before; 0 in a new log. With [`Durability::Fsync`] it is the last one.
    pub fn durable_frame(&self) -> u64 {
        self.durable_frame
    }

    /// Whether frames were appended that are not durable yet.
    pub fn unsynced(&self) -> bool {
        self.next.frame - 1 > self.durable_frame
    }

    /// Makes everything appended durable. Does nothing when it is.
    ///
    /// A failed sync is final, as in [`Log::append`].
    pub fn sync(&mut self) -> Result<(), AppendError> {
        self.check(0)?;
        if let Some(active) = self.active.as_ref().filter(|_| self.unsynced()) {
            if let Err(source) = active.file.sync_data() {
                let name = active.name.clone();
                return Err(self.fail("sync", &name, source));
            }
            self.durable_frame = self.next.frame - 1;
        }
        Ok(())
    }

    /// True when a body of this length must open a new segment first: always in a segment of an older format. After [`Log::roll`] it never
    /// does.
    pub fn needs_roll(&self, body_len: usize) -> bool {
        match &self.active {
            None => true,
            Some(active) => {
                let full = !active.only_opening && active.end + frame_len(body_len) as u64 > active.bytes;
                full || active.header.version != VERSION
            }
        }
    }

    /// Makes sure of the room for a body of this length, with the segment that it may have to open, before there is such a body. Leaves
    /// as much of the disk to others as a segment takes, which [`Log::roll`] and [`Log::append`] do not: where this is called before what
    /// can wait, there is room for what cannot. [`AppendError::DiskFull`] if there is none; then nothing has changed.
    pub fn reserve(&mut self, body_len: usize) -> Result<(), AppendError> {
        self.check(0)?;
        let frame = frame_len(body_len) as u64;
        if self.active.as_ref().is_some_and(|active| active.end + frame <= active.bytes && !self.needs_roll(body_len)) {
            return Ok(());
        }
        let beyond_a_segment = frame.saturating_sub(self.options.segment_bytes - BLOCK as u64);
        self.spares.reserve(beyond_a_segment).map_err(|source| {
            let name = segment_name(self.next.segment);
            self.not_opened("create", &name, source)
        })
    }

    /// Seals the segment and opens the next one, whose first frame is `opening`, of no events. Used for the very first frame too.
    ///
    /// The sealed segment is durable before anything of the next one exists, and so is the opening when this returns. The new
    /// segment appears on the disk as a whole, with its opening durable, or not at all.
    pub fn roll(&mut self, opening: &[u8]) -> Result<Appended, AppendError> {
        self.check(opening.len())?;
        self.sync()?;
        let header = SegmentHeader {
            version: VERSION,
            id: self.next.segment,
            salt: self.options.salt.unwrap_or_else(random),
            first_frame: self.next.frame,
            first_sequence: self.next.sequence,
        };
        let name = segment_name(header.id);
        self.buffer.clear();
        header.encode(&mut self.buffer);
        let frame = self.next.header(0, true, 0);
        let crc = format::encode_frame(&mut self.buffer, &header, BLOCK as u64, &frame, opening);
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
        self.durable_frame = appended.frame;
        let (next_frame, next_sequence) = (self.next.frame, self.next.sequence);
        self.shared.publish(|written| {
            if let Some(sealed) = written.segments.back_mut() {
                sealed.modified = sealed_at;
            }
            written.segments.push_back(Segment { name, header, bytes, modified: None });
            written.end = end;
            written.next_frame = next_frame;
            written.next_sequence = next_sequence;
        });
        self.spares.follow(end);
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

    /// Writes one frame that holds `count` events, and returns when it is durable if that is asked of each frame ([`Durability::Fsync`]).
    ///
    /// After any failure to write or sync the log takes nothing any more: a failed sync is final.
    pub fn append(&mut self, count: u32, body: &[u8]) -> Result<Appended, AppendError> {
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.clear();
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(body);
        let appended = self.append_enclosed(count, &mut bytes, HEADER);
        self.buffer = bytes;
        appended
    }

    /// Empties `bytes`, and gives them room for all that stands before the body of the next frame: at such a place in memory that the frame
    /// need not be copied on its way to the disk, unless the memory moves or a segment is opened meanwhile.
    pub fn begin(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.reserve(BLOCK + HEADER);
        let end = self.active.as_ref().map_or(0, |active| active.end as usize);
        let start = end.wrapping_sub(bytes.as_ptr().addr()) % BLOCK;
        bytes.resize(start + HEADER, 0);
    }

    /// [`Log::append`] for the body from `body_at` on, behind at least [`HEADER`] bytes of room, as [`Log::begin`] makes it. It is written from
    /// where it is, and stands there afterwards as before.
    pub fn append_enclosed(
        &mut self,
        count: u32,
        bytes: &mut Vec<u8>,
        body_at: usize,
    ) -> Result<Appended, AppendError> {
        let whole = bytes.len();
        let appended = self.enclose_and_write(count, bytes, body_at - HEADER);
        bytes.truncate(whole);
        appended
    }

    fn enclose_and_write(&mut self, count: u32, bytes: &mut Vec<u8>, start: usize) -> Result<Appended, AppendError> {
        let body_len = bytes.len() - start - HEADER;
        self.check(body_len)?;
        if self.needs_roll(body_len) {
            return Err(AppendError::NeedsRoll);
        }
        let mut unsynced = self.next.frame - 1 - self.durable_frame;
        if unsynced > MAX_UNSYNCED {
            self.sync()?;
            unsynced = 0;
        }
        let Some(active) = &mut self.active else {
            return Err(AppendError::NeedsRoll);
        };
        let frame = self.next.header(count, false, unsynced);
        let crc = format::enclose_frame(bytes, start, &active.header, active.end, &frame);
        let bytes = &bytes[start..];
        // A frame that is longer than a segment: where there is no room for it nothing is written, and it can be tried again.
        let end = active.end + bytes.len() as u64;
        if end > active.bytes {
            if let Err(source) = active.file.allocate(end) {
                let name = active.name.clone();
                return Err(self.not_opened("make room in", &name, source));
            }
            active.bytes = end;
        }
        let durably = self.options.durability == Durability::Fsync;
        if let Err((doing, source)) = write(&active.file, bytes, active.end, durably) {
            let name = active.name.clone();
            return Err(self.fail(doing, &name, source));
        }
        active.end = end;
        self.spares.follow(end);
        active.only_opening = false;
        let (end, bytes) = (active.end, active.bytes);
        let appended = self.next.advance(count, crc);
        if durably {
            self.durable_frame = appended.frame;
        }
        let (next_frame, next_sequence) = (self.next.frame, self.next.sequence);
        self.shared.publish(|written| {
            if let Some(segment) = written.segments.back_mut() {
                segment.bytes = bytes;
            }
            written.end = end;
            written.next_frame = next_frame;
            written.next_sequence = next_sequence;
        });
        Ok(appended)
    }

    /// A reader at the oldest frame. It sees a frame as soon as that was appended, and may be used from another thread.
    pub fn reader(&self) -> Reader<S> {
        Reader::new(self.storage.clone(), self.shared.clone(), None)
    }

    /// How many segments there are, and how many bytes their files have.
    pub fn size(&self) -> (u64, u64) {
        let written = self.shared.written();
        (written.segments.len() as u64, written.segments.iter().map(|segment| segment.bytes).sum())
    }

    /// The segments, oldest first. Asks the storage for a time.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let mut infos: Vec<SegmentInfo> =
            self.shared.written().segments.iter().map(|segment| info(segment, true)).collect();
        if let Some(active) = infos.last_mut() {
            active.sealed = false;
            active.modified = self.storage.modified(&active.name).ok();
        }
        infos
    }

    /// Deletes the sealed segments whose frames are all before `before_frame`, oldest first, and returns them.
    ///
    /// Syncs first: a log that went on from what allows a deletion must never end before it. With spare segments the
    /// files go in the background, soon after. After a crash some may be there again, never with a gap.
    pub fn delete_before(&mut self, before_frame: u64) -> Result<Vec<SegmentInfo>, DeleteError> {
        let mut deleted = Vec::new();
        while let Some(segment) = self.deletable(before_frame) {
            self.spares.check_deleting(&segment.name)?;
            self.sync_before_deleting(&segment.name)?;
            // First from the list, so that no reader takes what is about to vanish for damage.
            self.shared.publish(|written| {
                written.segments.pop_front();
            });
            self.spares.retire(&segment.name)?;
            deleted.push(info(&segment, true));
        }
        Ok(deleted)
    }

    fn sync_before_deleting(&mut self, segment: &str) -> Result<(), DeleteError> {
        if !self.unsynced() {
            return Ok(());
        }
        let file = self.storage.describe(segment);
        self.sync().map_err(|error| DeleteError {
            doing: "sync the log before removing",
            file,
            source: io::Error::other(error),
        })
    }

    fn deletable(&self, before_frame: u64) -> Option<Segment> {
        let written = self.shared.written();
        let following = written.segments.get(1)?;
        (following.header.first_frame <= before_frame).then(|| written.segments[0].clone())
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
    /// The header of the next frame, with `unsynced` frames right before it that are not durable.
    fn header(&self, count: u32, opening: bool, unsynced: u64) -> FrameHeader {
        FrameHeader {
            body_len: 0,
            number: self.frame,
            first_sequence: self.sequence,
            count,
            opening,
            unsynced,
            previous: self.previous,
            crc: 0,
        }
    }

    fn advance(&mut self, count: u32, crc: u32) -> Appended {
        let appended = Appended { frame: self.frame, first_sequence: self.sequence, count };
        self.frame += 1;
        self.sequence += u64::from(count);
        self.previous = crc;
        appended
    }
}

fn write(file: &impl StorageFile, bytes: &[u8], offset: u64, durably: bool) -> Result<(), (&'static str, io::Error)> {
    file.write_at(bytes, offset).map_err(|error| ("write", error))?;
    if durably { file.sync_data().map_err(|error| ("sync", error)) } else { Ok(()) }
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
