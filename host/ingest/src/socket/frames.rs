//! Cuts a byte stream into MessagePack frames (the length as four bytes, big-endian, then one map) and makes lines of JSON of them.
//! Must not know: sockets, what an event says.
//!
//! Bounds: a frame within the limit is held once, one over it keeps its first [`PREFIX_BYTES`] and a count.

use std::collections::VecDeque;

use crate::encoding::{EncodingLimits, msgpack_to_line};
use crate::framer::{Body, Framed, PREFIX_BYTES, Refusal};

/// Bytes of a frame's length.
const HEAD: usize = 4;
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// How much text goes into one body, give or take an event.
const BODY_BYTES: usize = 256 * 1024;

/// See the module.
pub struct Frames {
    limits: EncodingLimits,
    buffer: Vec<u8>,
    /// `buffer[..taken]` is done with.
    taken: usize,
    long: Option<LongFrame>,
    /// Refused events that come after lines already given.
    refused: VecDeque<Framed>,
}

/// A frame over the limit, on its way.
struct LongFrame {
    prefix: Vec<u8>,
    length: usize,
    missing: usize,
}

impl Frames {
    /// At the beginning of a stream.
    pub fn new(line_bytes: usize, depth: u32) -> Self {
        let limits = EncodingLimits { line_bytes, depth };
        Self { limits, buffer: Vec::new(), taken: 0, long: None, refused: VecDeque::new() }
    }

    /// The buffer to append to, with spare capacity.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        if self.buffer.len() == self.buffer.capacity() {
            self.buffer.reserve(READ_BYTES);
        }
        &mut self.buffer
    }

    /// Gives up the buffer if nothing is in it.
    pub fn release(&mut self) {
        if self.taken == self.buffer.len() {
            (self.buffer, self.taken) = (Vec::new(), 0);
        }
    }

    /// True when the buffer has no room left: time to [`take`](Self::take).
    pub fn is_full(&self) -> bool {
        self.buffer.len() == self.buffer.capacity()
    }

    /// True when the beginning of a frame is held whose end has not come.
    pub fn has_unfinished(&self) -> bool {
        self.long.is_some() || self.taken < self.buffer.len()
    }

    /// The next whole events; `None` when more bytes are needed.
    pub fn take(&mut self) -> Option<Framed> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(refused);
        }
        let mut text = Vec::new();
        let mut lines = 0;
        while text.len() < BODY_BYTES && self.refused.is_empty() {
            let before = text.len();
            let Some(done) = self.next(&mut text) else { break };
            match done {
                Ok(()) => {
                    text.push(b'\n');
                    lines += 1;
                }
                Err(refused) => {
                    text.truncate(before);
                    self.refused.push_back(refused);
                }
            }
        }
        if lines > 0 {
            return Some(Framed { body: Body::Lines(text), lines });
        }
        self.refused.pop_front()
    }

    /// Appends the next frame's line to `text`, or says what is wrong with it; `None` when more bytes are needed.
    fn next(&mut self, text: &mut Vec<u8>) -> Option<Result<(), Framed>> {
        if self.long.is_some() {
            return self.rest_of_long().map(Err);
        }
        let held = &self.buffer[self.taken..];
        let (head, rest) = held.split_first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes(*head) as usize;
        if length > self.limits.line_bytes {
            self.taken += HEAD;
            self.long = Some(LongFrame { prefix: Vec::new(), length, missing: length });
            return self.rest_of_long().map(Err);
        }
        let frame = rest.get(..length)?;
        let encoded = match msgpack_to_line(frame, self.limits, text) {
            Ok(used) if used == length => Ok(()),
            Ok(used) => {
                let detail = format!("{} bytes follow the map in its frame", length - used);
                Err(Framed::refused(Refusal::Encoding { detail }, beginning(frame)))
            }
            Err(error) => Err(Framed::refused(error.refusal, beginning(frame))),
        };
        self.taken += HEAD + length;
        Some(encoded)
    }

    fn rest_of_long(&mut self) -> Option<Framed> {
        let long = self.long.as_mut()?;
        let here = (self.buffer.len() - self.taken).min(long.missing);
        let bytes = &self.buffer[self.taken..self.taken + here];
        long.prefix.extend_from_slice(&bytes[..here.min(PREFIX_BYTES - long.prefix.len())]);
        long.missing -= here;
        self.taken += here;
        if long.missing > 0 {
            return None;
        }
        let LongFrame { prefix, length, .. } = self.long.take()?;
        Some(Framed::refused(Refusal::TooLong { length: length as u64 }, prefix))
    }
}

fn beginning(frame: &[u8]) -> Vec<u8> {
    frame[..frame.len().min(PREFIX_BYTES)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"a":1}`
    const SMALL: &[u8] = b"\x81\xa1a\x01";

    fn framed(payloads: &[&[u8]]) -> Vec<u8> {
        let one = |payload: &&[u8]| [&(payload.len() as u32).to_be_bytes(), *payload].concat();
        payloads.iter().flat_map(one).collect()
    }

    /// What comes out when the bytes come in pieces of `size`: a line's text, or `!` and the reason.
    fn cut(bytes: &[u8], size: usize, limit: usize) -> (Vec<String>, bool) {
        let mut frames = Frames::new(limit, 8);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            frames.space().extend_from_slice(piece);
            while let Some(framed) = frames.take() {
                match framed.body {
                    Body::Lines(text) => {
                        let text = String::from_utf8(text).expect("text");
                        assert_eq!(text.lines().count(), framed.lines as usize);
                        out.extend(text.lines().map(str::to_owned));
                    }
                    Body::Refused { refusal: Refusal::TooLong { length }, prefix } => {
                        assert_eq!(prefix.len(), length.min(PREFIX_BYTES as u64) as usize);
                        out.push(format!("!{length}"));
                    }
                    Body::Refused { .. } => out.push("!encoding".into()),
                }
            }
        }
        (out, frames.has_unfinished())
    }

    #[test]
    fn frames_become_lines_in_whatever_pieces_they_come() {
        let long = vec![0xc0; 9000];
        let bytes = framed(&[SMALL, b"\xc1", SMALL, &long, SMALL, &[SMALL, b"\x01"].concat()]);
        let line = r#"{"a":1}"#.to_owned();
        let wrong = "!encoding".to_owned();
        let expected = vec![line.clone(), wrong.clone(), line.clone(), "!9000".into(), line, wrong];
        for size in [1, 2, 3, 5, 7, 1000, bytes.len()] {
            assert_eq!(cut(&bytes, size, 100), (expected.clone(), false), "pieces of {size}");
        }
        assert!(cut(&bytes[..bytes.len() - 1], 7, 100).1, "the last frame is unfinished");
    }
}
