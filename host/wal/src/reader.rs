//! Reads frames in order, up to the end of what was written (and, where every frame is synced, is durable). Shares only
//! that end with the writer, never its buffers.
//!
//! A frame is given where it was read to, checked but not copied. A window of whole blocks moves along the file, so that reads can go past
//! the page cache where the log was written past it: what is not in the cache does not have to pass through it.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use tally_storage::{AlignedBuffer, Storage, StorageFile};

use crate::error::{Corruption, OpenError, ReadError};
use crate::format::{self, BLOCK, Expected, HEADER, SegmentHeader, frame_len};
use crate::recover::{self, TornTail};
use crate::scan;
use crate::segments::Shared;

/// Bytes read at once, or as many as a frame has.
const WINDOW: u64 = 1 << 20;

/// A frame where it was read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// Its number.
    pub number: u64,
    /// Sequence of its first event (of the next event, if it holds none).
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// Whether it is a segment's opening, written by [`crate::Log::roll`].
    pub opening: bool,
    /// What was written.
    pub body: &'a [u8],
}

/// A frame read back. Reuse one for all reads: its body keeps its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub number: u64,
    /// Sequence of its first event (of the next event, if it holds none).
    pub first_sequence: u64,
    /// How many events it holds.
    pub count: u32,
    /// Whether it is a segment's opening, written by [`crate::Log::roll`].
    pub opening: bool,
    /// What was written.
    pub body: Vec<u8>,
}

/// Reads a log from the oldest frame or wherever [`Reader::seek`] puts it.
pub struct Reader<S: Storage> {
    storage: S,
    shared: Arc<Shared>,
    torn: Option<TornTail>,
    /// The frame that comes next.
    target: u64,
    place: Option<Place<S::File>>,
    /// Whether the frame that was read last is still where it was read to.
    current: bool,
}

/// A position in a segment, at or before the target.
struct Place<F> {
    file: F,
    name: String,
    segment: SegmentHeader,
    /// The segment after this one, once it is known.
    following: Option<SegmentHeader>,
    /// How far this segment may be read: everything before is written.
    limit: u64,
    offset: u64,
    expected: Expected,
    /// What was read of the file, from a whole block on.
    window: AlignedBuffer,
    window_at: u64,
    filled: usize,
    /// The last frame, and where its body is in the window.
    passed: Option<(format::FrameHeader, Range<usize>)>,
}

/// A frame's way from the file to the caller.
enum Step {
    /// It is in the window, with this header, and is this long.
    Here(format::FrameHeader, u32),
    /// It starts the segment after this one.
    InNextSegment,
}

/// Why a step failed, before it is known which words to put it in.
enum Trouble {
    Deleted,
    Io(io::Error),
    Damaged(String),
}

/// A reader of the same log, at the same frame, with a way of its own from there.
impl<S: Storage> Clone for Reader<S> {
    fn clone(&self) -> Self {
        Reader {
            storage: self.storage.clone(),
            shared: self.shared.clone(),
            torn: self.torn.clone(),
            target: self.target,
            place: None,
            current: false,
        }
    }
}

impl<S: Storage> Reader<S> {
    pub(crate) fn new(storage: S, shared: Arc<Shared>, torn: Option<TornTail>) -> Reader<S> {
        let target = shared.written().first_frame();
        Reader { storage, shared, torn, target, place: None, current: false }
    }

    /// Reads a log that nobody may be writing, or somebody else is: takes no lock and writes nothing. It sees the log as of now, up to the
    /// last valid frame; see [`Reader::torn_tail`] for what may follow.
    pub fn open_read_only(storage: S) -> Result<Reader<S>, OpenError> {
        let (shared, torn) = recover::open_read_only(&storage)?;
        Ok(Reader::new(storage, Arc::new(shared), torn))
    }

    /// The torn tail that [`Reader::open_read_only`] found and left in place.
    pub fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }

    /// Number of the frame that [`Reader::next`] gives next.
    pub fn position(&self) -> u64 {
        self.target
    }

    /// Number of the oldest frame there is, or of the first to come.
    pub fn first_frame(&self) -> u64 {
        self.shared.written().first_frame()
    }

    /// The number the next frame will get.
    pub fn next_frame(&self) -> u64 {
        self.shared.next_frame()
    }

    /// Makes `frame` the next to be read; the one that will be appended next is possible too.
    pub fn seek(&mut self, frame: u64) -> Result<(), ReadError> {
        self.check_target(frame)?;
        self.current = false;
        // Within a segment the reader walks; only going back means starting over.
        if self.place.as_ref().is_some_and(|place| place.expected.number > frame) {
            self.place = None;
        }
        self.target = frame;
        Ok(())
    }

    /// Makes the opening of the segment that holds `frame` the next to be read.
    pub fn seek_segment_of(&mut self, frame: u64) -> Result<(), ReadError> {
        self.check_target(frame)?;
        self.current = false;
        self.place = None;
        self.target = self.shared.written().holding(frame).map_or(frame, |(segment, _)| segment.header.first_frame);
        Ok(())
    }

    /// Gives up the memory that it reads into, until it reads again.
    pub fn rest(&mut self) {
        self.current = false;
        if let Some(place) = &mut self.place {
            (place.window, place.window_at, place.filled, place.passed) = Default::default();
        }
    }

    fn check_target(&self, frame: u64) -> Result<(), ReadError> {
        let written = self.shared.written();
        let (oldest, next) = (written.first_frame(), written.next_frame);
        if frame < oldest {
            return Err(ReadError::Gone { frame, oldest });
        }
        if frame > next {
            return Err(ReadError::Beyond { frame, next });
        }
        Ok(())
    }

    /// Reads the next frame into `into`. False at the end; ask again later. After an error the position is unchanged.
    pub fn next(&mut self, into: &mut Frame) -> Result<bool, ReadError> {
        let read = self.advance()?;
        if let Some(View { number, first_sequence, count, opening, body }) = self.current() {
            (into.number, into.first_sequence, into.count, into.opening) = (number, first_sequence, count, opening);
            into.body.clear();
            into.body.extend_from_slice(body);
        }
        Ok(read)
    }

    /// The frame that [`Reader::advance`] read, until the next call that reads or seeks.
    pub fn current(&self) -> Option<View<'_>> {
        let place = self.place.as_ref().filter(|_| self.current)?;
        let (header, body) = place.passed.as_ref()?;
        Some(View {
            number: header.number,
            first_sequence: header.first_sequence,
            count: header.count,
            opening: header.opening,
            body: &place.window[body.clone()],
        })
    }

    /// Reads the next frame, for [`Reader::current`]. False at the end; ask again later. After an error the position is unchanged.
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        self.current = false;
        if self.target >= self.shared.next_frame() {
            return Ok(false);
        }
        loop {
            let mut place = match self.place.take() {
                Some(place) if !place.before_segment_of(self.target) => place,
                passed => self.enter(self.target, passed)?,
            };
            match place.step(&self.shared) {
                Ok(Step::InNextSegment) => {
                    match self.enter(place.expected.number, Some(place)) {
                        Ok(next) => self.place = Some(next),
                        // That one was deleted since, too: the target is in a later one.
                        Err(ReadError::Gone { .. }) if self.target >= self.first_frame() => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(Step::Here(header, crc)) => {
                    place.pass(header, crc);
                    self.place = Some(place);
                    if header.number == self.target {
                        self.target += 1;
                        self.current = true;
                        return Ok(true);
                    }
                }
                // Its segment was read to the end and deleted since: the target is in a later one.
                Err(_) if self.was_deleted(&place) && self.target >= self.first_frame() => {}
                Err(trouble) => return Err(self.explain(trouble, &place)),
            }
        }
    }

    /// Goes to the start of the segment that holds `frame`, coming from `before` if that is the one before it.
    fn enter(&self, frame: u64, before: Option<Place<S::File>>) -> Result<Place<S::File>, ReadError> {
        let (segment, following, limit) = {
            let written = self.shared.written();
            let Some((segment, following)) = written.holding(frame) else {
                return Err(ReadError::Gone { frame, oldest: written.first_frame() });
            };
            let limit = if following.is_some() { segment.bytes } else { written.end };
            (segment.clone(), following.map(|segment| segment.header), limit)
        };
        let opened = match self.shared.past_cache {
            true => self.storage.open_past_cache(&segment.name),
            false => self.storage.open(&segment.name),
        };
        let file = opened.map_err(|source| self.unreadable(frame, "open", &segment.name, source))?;
        let header = segment.header;
        let mut expected = Expected::opening_of(&header);
        let mut window = AlignedBuffer::default();
        if let Some(before) = before {
            if before.expected.number == header.first_frame {
                expected = Expected { opening: true, ..before.expected };
            }
            window = before.window;
        }
        let offset = BLOCK as u64;
        Ok(Place {
            file,
            name: segment.name,
            segment: header,
            following,
            limit,
            offset,
            expected,
            window,
            window_at: 0,
            filled: 0,
            passed: None,
        })
    }

    fn unreadable(&self, frame: u64, doing: &'static str, name: &str, source: io::Error) -> ReadError {
        // The file of a segment goes after its place in the list, or by another process.
        if source.kind() == io::ErrorKind::NotFound {
            let oldest = self.shared.written().first_frame();
            return ReadError::Gone { frame, oldest: oldest.max(frame + 1) };
        }
        ReadError::Io { doing, file: self.storage.describe(name), source }
    }

    fn was_deleted(&self, place: &Place<S::File>) -> bool {
        self.shared.written().bounds(place.segment.id).is_none()
    }

    fn explain(&self, trouble: Trouble, place: &Place<S::File>) -> ReadError {
        let frame = place.expected.number;
        let file = self.storage.describe(&place.name);
        // A deleted segment's file may be filled with zeros for its next use while we hold it: that is not damage.
        let removed = || self.storage.list().is_ok_and(|names| !names.contains(&place.name));
        match trouble {
            Trouble::Io(source) => ReadError::Io { doing: "read", file, source },
            Trouble::Damaged(what) if !self.was_deleted(place) && !removed() => ReadError::Corrupt(Corruption {
                file,
                offset: place.offset,
                frame,
                first_sequence: place.expected.sequence,
                last_sequence: Some(place.next_readable(&self.shared).saturating_sub(1)),
                what,
            }),
            Trouble::Deleted | Trouble::Damaged(_) => {
                let oldest = self.first_frame();
                ReadError::Gone { frame, oldest: oldest.max(frame + 1) }
            }
        }
    }
}

impl<F: StorageFile> Place<F> {
    /// Whether `frame` is known to be in a later segment than this.
    fn before_segment_of(&self, frame: u64) -> bool {
        self.following
            .is_some_and(|following| following.first_frame <= frame && self.expected.number != following.first_frame)
    }

    /// Finds and checks the next frame, which is written.
    fn step(&mut self, shared: &Shared) -> Result<Step, Trouble> {
        if self.at_end() {
            return Ok(Step::InNextSegment);
        }
        if !self.have(HEADER, shared)? {
            return self.short();
        }
        let header = format::decode_header(self.ahead(), &self.segment, self.offset).map_err(damaged)?;
        self.expected.check(&header).map_err(Trouble::Damaged)?;
        if !self.have(frame_len(header.body_len), shared)? {
            return self.short();
        }
        let (_, crc) = format::decode_body(self.ahead(), &header).map_err(damaged)?;
        Ok(Step::Here(header, crc))
    }

    fn at_end(&self) -> bool {
        self.following.is_some_and(|following| following.first_frame == self.expected.number)
    }

    fn short(&self) -> Result<Step, Trouble> {
        if self.at_end() { Ok(Step::InNextSegment) } else { Err(damaged(format::BadFrame::Truncated)) }
    }

    /// Brings `len` bytes from the offset on into the window; false if the segment has fewer, or ends here.
    fn have(&mut self, len: usize, shared: &Shared) -> Result<bool, Trouble> {
        if self.ahead().len() >= len {
            return Ok(true);
        }
        let needed = self.offset + len as u64;
        if needed > self.limit {
            let (limit, following) = shared.written().bounds(self.segment.id).ok_or(Trouble::Deleted)?;
            self.limit = limit;
            self.following = following;
            if self.at_end() || needed > limit {
                return Ok(false);
            }
        }
        self.read_up_to(needed.max(self.offset + WINDOW).min(self.limit)).map_err(Trouble::Io)?;
        Ok(self.ahead().len() >= len)
    }

    /// Moves the window to the offset's block and fills it up to `end`. Whole blocks that it has already are kept.
    fn read_up_to(&mut self, end: u64) -> io::Result<()> {
        let block = BLOCK as u64;
        let at = self.offset - self.offset % block;
        let length = (end - at).next_multiple_of(block) as usize;
        let has = self.window_at..self.window_at + self.filled as u64;
        let kept = if has.contains(&at) { (at - has.start) as usize..self.filled - self.filled % BLOCK } else { 0..0 };
        let have = kept.len();
        if self.window.len() < length {
            let mut larger = AlignedBuffer::zeroed(length);
            larger[..have].copy_from_slice(&self.window[kept]);
            self.window = larger;
        } else {
            self.window.copy_within(kept, 0);
        }
        (self.window_at, self.filled) = (at, have);
        let read = self.file.read_full_at(&mut self.window[have..length], at + have as u64)?;
        // What is not written yet may change.
        self.filled = (have + read).min((self.limit - at) as usize);
        Ok(())
    }

    /// The window from the offset on.
    fn ahead(&self) -> &[u8] {
        let skip = self.offset.checked_sub(self.window_at);
        skip.and_then(|skip| self.window[..self.filled].get(skip as usize..)).unwrap_or(&[])
    }

    fn pass(&mut self, header: format::FrameHeader, crc: u32) {
        let start = (self.offset - self.window_at) as usize + HEADER;
        self.offset += frame_len(header.body_len) as u64;
        self.expected = Expected::after(&header, crc);
        self.passed = Some((header, start..start + header.body_len));
    }

    /// The first sequence after damage at the offset that can be read again.
    fn next_readable(&self, shared: &Shared) -> u64 {
        let end = match self.following {
            Some(following) => following.first_sequence,
            None => shared.written().next_sequence,
        };
        let mut bytes = vec![0; self.limit as usize];
        let read = self.file.read_full_at(&mut bytes, 0).unwrap_or(0);
        let later = scan::frames_from(&bytes[..read], self.offset as usize + 8, &self.segment).next();
        later.and_then(|(_, header)| header).map_or(end, |header| header.first_sequence)
    }
}

fn damaged(bad: format::BadFrame) -> Trouble {
    Trouble::Damaged(bad.what().to_owned())
}

#[cfg(test)]
mod tests {
    use tally_testkit::MemStorage;

    use super::*;
    use crate::{Log, Options};

    #[test]
    fn a_long_segment_is_read_through_a_window() {
        let options = Options { segment_bytes: 8 << 20, spare_segments: 0, ..Options::default() };
        let (mut log, _) = Log::open(MemStorage::new(), options).expect("new");
        log.roll(b"opening").expect("rolls");
        for _ in 0..50 {
            log.append(1, &[7; 100_000]).expect("appends");
        }
        let mut reader = log.reader();
        while reader.advance().expect("reads") {
            let held = reader.place.as_ref().map_or(0, |place| place.window.len());
            assert!(held <= WINDOW as usize + 2 * BLOCK, "{held} bytes in memory");
        }
        assert_eq!(reader.position(), 52);
    }
}
