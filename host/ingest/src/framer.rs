//! Cuts a byte stream into whole lines. Pure: no I/O, no clock; knows neither sockets nor what a line says.
//!
//! The framer owns the buffer that the source reads into, and hands that very buffer on as the body of a chunk: only the unfinished last
//! line is copied, into the next buffer. A buffer that is mostly empty is copied out instead, so that queued chunks do not hold memory they do
//! not use. The buffer's size follows the traffic, from [`SMALLEST_READ`] up to [`FramerLimits::read_bytes`].
//!
//! Bounds: a line within the limit is held once, a line over it keeps its first [`PREFIX_BYTES`] and a count. Every byte is searched for its
//! newline once, however small the pieces it arrives in.

use memchr::{memchr, memchr_iter, memrchr};

/// What is kept of a line over the limit, in bytes.
pub const PREFIX_BYTES: usize = 4096;
/// The smallest read buffer, in bytes; quiet connections have this one.
pub const SMALLEST_READ: usize = 16 * 1024;
/// Upper bound of both limits, so that positions and line counts of one buffer fit `u32`.
const LARGEST: usize = 1 << 30;

/// The two limits of a [`Framer`], in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramerLimits {
    /// How much is read at once at most.
    pub read_bytes: usize,
    /// The longest line that is passed on, without its newline.
    pub line_bytes: usize,
}

impl Default for FramerLimits {
    fn default() -> Self {
        Self { read_bytes: 256 * 1024, line_bytes: 1024 * 1024 }
    }
}

/// The bytes of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Whole lines, each ended by a newline.
    Lines(Vec<u8>),
    /// One event that is refused before it is looked at.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Its first [`PREFIX_BYTES`] bytes.
        prefix: Vec<u8>,
    },
}

/// Why a door refuses an event without looking at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is over the limit.
    TooLong {
        /// Its length in bytes, without a newline.
        length: u64,
    },
    /// It is not what its encoding allows.
    Encoding {
        /// What is wrong, and where.
        detail: String,
    },
    /// It came in a text of several events that is no JSON, so that it has no end.
    Malformed {
        /// What is wrong, and where.
        detail: String,
    },
}

impl Body {
    /// Bytes held, whatever they mean.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// True when no bytes are held.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// The memory behind it, in bytes.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Lines(bytes) | Self::Refused { prefix: bytes, .. } => bytes.capacity(),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Lines(bytes) | Self::Refused { prefix: bytes, .. } => bytes,
        }
    }
}

/// What a [`Framer`] gives: a body and the number of lines in it (blank ones count).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    /// The bytes.
    pub body: Body,
    /// How many lines they are; 1 for one that is refused.
    pub lines: u32,
}

impl Framed {
    /// One event that is refused; of `bytes` the beginning is kept.
    pub fn refused(refusal: Refusal, mut bytes: Vec<u8>) -> Self {
        bytes.truncate(PREFIX_BYTES);
        Self { body: Body::Refused { refusal, prefix: bytes }, lines: 1 }
    }
}

/// The first line of a stream, looked at before anything is taken.
#[derive(Debug, PartialEq, Eq)]
pub enum FirstLine<'a> {
    /// Its newline has not come yet.
    Unfinished(&'a [u8]),
    /// Without its newline.
    Whole(&'a [u8]),
    /// It is over the limit.
    TooLong,
}

/// A line over the limit, on its way.
#[derive(Debug)]
struct LongLine {
    prefix: Vec<u8>,
    length: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Framer {
    limits: FramerLimits,
    buffer: Vec<u8>,
    /// `buffer[..scanned]` has no newline.
    scanned: usize,
    /// Bytes of this line are counted and dropped.
    long: Option<LongLine>,
    /// Size of the next buffer.
    target: usize,
}

impl Framer {
    /// A framer at the beginning of a stream.
    pub fn new(limits: FramerLimits) -> Self {
        let limits = FramerLimits {
            read_bytes: limits.read_bytes.clamp(1, LARGEST),
            line_bytes: limits.line_bytes.clamp(1, LARGEST),
        };
        let target = SMALLEST_READ.min(limits.read_bytes);
        Self { limits, buffer: Vec::new(), scanned: 0, long: None, target }
    }

    /// The buffer to append to, with spare capacity. Nothing may be removed from it.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.buffer.is_empty() && self.buffer.capacity() != self.target {
            self.buffer = Vec::with_capacity(self.target);
        } else if self.is_full() {
            let more = self.buffer.len().max(self.target);
            self.buffer.reserve_exact(more);
        }
        &mut self.buffer
    }

    /// Gives up the buffer if nothing is in it.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// True when the buffer has no room left: time to [`take`](Self::take).
    pub fn is_full(&self) -> bool {
        self.buffer.len() == self.buffer.capacity()
    }

    /// Fits the size of the next buffer to what one read brought.
    pub fn adapt(&mut self, read: usize) {
        if self.is_full() {
            self.target = (self.target * 4).min(self.limits.read_bytes);
        } else if read < self.target / 8 {
            self.target = (self.target / 2).max(SMALLEST_READ).min(self.limits.read_bytes);
        }
    }

    /// Appends a copy of `bytes`: for callers that do not read into [`space`](Self::space).
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole lines, or the next line over the limit; `None` when more bytes are needed. Call it until it says `None`.
    pub fn take(&mut self) -> Option<Framed> {
        if self.long.is_some() {
            return self.take_long_line();
        }
        let (end, next_is_long) = self.whole_lines();
        if end > 0 {
            let framed = self.take_lines(end);
            self.scanned = if next_is_long { 0 } else { self.buffer.len() };
            return Some(framed);
        }
        if next_is_long {
            self.long = Some(LongLine { prefix: Vec::new(), length: 0 });
            return self.take_long_line();
        }
        self.scanned = self.buffer.len();
        None
    }

    /// At the end of the stream: an unfinished last line, taken as a line (its newline is added). Call it after `take` said `None`.
    pub fn finish(&mut self) -> Option<Framed> {
        self.scanned = 0;
        if let Some(long) = self.long.take() {
            return Some(long.framed());
        }
        if self.buffer.is_empty() {
            return None;
        }
        let mut line = std::mem::take(&mut self.buffer);
        line.push(b'\n');
        Some(Framed { body: Body::Lines(line), lines: 1 })
    }

    /// True when the beginning of a line is held whose end has not come.
    pub fn has_unfinished_line(&self) -> bool {
        self.long.is_some() || !self.buffer.is_empty()
    }

    /// Looks at the first line without taking it. Only before the first [`take`](Self::take).
    pub fn first_line(&mut self) -> FirstLine<'_> {
        let window = self.buffer.len().min(self.limits.line_bytes + 1);
        let from = self.scanned.min(window);
        if let Some(at) = memchr(b'\n', &self.buffer[from..window]) {
            self.scanned = from + at;
            return FirstLine::Whole(&self.buffer[..from + at]);
        }
        self.scanned = window;
        if self.buffer.len() > self.limits.line_bytes {
            FirstLine::TooLong
        } else {
            FirstLine::Unfinished(&self.buffer)
        }
    }

    /// Drops the line that [`first_line`](Self::first_line) showed, with its newline if it has come.
    pub fn skip_first_line(&mut self) {
        let end = memchr(b'\n', &self.buffer).map_or(self.buffer.len(), |at| at + 1);
        self.buffer.drain(..end);
        self.scanned = 0;
    }

    /// What was read and not taken: for a stream that goes on in another way.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }

    /// Where the leading whole lines end, and whether the line after them is over the limit. Strides over the buffer a line limit at a
    /// time: a line within the limit has its newline within the window.
    fn whole_lines(&self) -> (usize, bool) {
        let limit = self.limits.line_bytes;
        let (mut end, mut from) = (0, self.scanned);
        loop {
            let window = self.buffer.len().min(end + limit + 1);
            match memrchr(b'\n', &self.buffer[from.min(window)..window]) {
                Some(at) => end = from + at + 1,
                None => return (end, self.buffer.len() - end > limit),
            }
            from = end;
        }
    }

    fn take_lines(&mut self, end: usize) -> Framed {
        let lines = memchr_iter(b'\n', &self.buffer[..end]).count();
        let body = if end * 2 >= self.buffer.capacity() { self.hand_over(end) } else { self.copy_out(end) };
        let lines = u32::try_from(lines).expect("a buffer is shorter than 4 GiB");
        Framed { body: Body::Lines(body), lines }
    }

    /// The buffer itself becomes the body; the unfinished line moves to a new one.
    fn hand_over(&mut self, end: usize) -> Vec<u8> {
        let tail = &self.buffer[end..];
        let mut next = Vec::new();
        if !tail.is_empty() {
            next.reserve_exact(self.target + tail.len());
            next.extend_from_slice(tail);
        }
        let mut body = std::mem::replace(&mut self.buffer, next);
        body.truncate(end);
        body
    }

    fn copy_out(&mut self, end: usize) -> Vec<u8> {
        let body = self.buffer[..end].to_vec();
        self.buffer.drain(..end);
        body
    }

    fn take_long_line(&mut self) -> Option<Framed> {
        let long = self.long.as_mut()?;
        let newline = memchr(b'\n', &self.buffer);
        let here = &self.buffer[..newline.unwrap_or(self.buffer.len())];
        long.add(here);
        self.scanned = 0;
        match newline {
            Some(at) => {
                self.buffer.drain(..=at);
                self.long.take().map(LongLine::framed)
            }
            None => {
                self.buffer.clear();
                None
            }
        }
    }
}

impl LongLine {
    fn add(&mut self, bytes: &[u8]) {
        let room = (PREFIX_BYTES - self.prefix.len()).min(bytes.len());
        self.prefix.extend_from_slice(&bytes[..room]);
        self.length += bytes.len() as u64;
    }

    fn framed(self) -> Framed {
        Framed::refused(Refusal::TooLong { length: self.length }, self.prefix)
    }
}
