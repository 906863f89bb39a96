//! One segment file, built and read by a second implementation of the format as the log's documentation tells it. The log
//! must find the same frames, and judge what is behind them as that documentation says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_fuzz::Input;
use tally_testkit::MemStorage;
use tally_wal::{Frame, Log, OpenError, Options, Reader, inspect};

const BLOCK: usize = 4096;
const HEADER: usize = 40;
const MAGIC: [u8; 4] = [0xF5, 0x54, 0x46, 0xF8];
const NAME: &str = "wal_0000000001.seg";

fuzz_target!(|data: &[u8]| {
    let file = Segment::build(&mut Input::new(data));
    let expected = file.read();
    let storage = MemStorage::new();
    storage.overwrite(NAME, file.bytes.clone());

    let inspected = inspect(&storage).expect("storage in memory answers");
    let [state] = &inspected.segments[..] else { panic!("one segment") };
    assert_eq!(state.damage.is_some(), expected.refused, "{:?}", state.damage);
    if state.version != 0 {
        assert_eq!(state.frames, expected.frames.len() as u64);
    }
    assert_eq!(Reader::open_read_only(storage.clone()).is_err(), expected.refused);

    let options = Options { segment_bytes: 8192, spare_segments: 0, max_frame_bytes: 1 << 20, ..Options::default() };
    match Log::open(storage.clone(), options) {
        Err(error) => {
            assert!(expected.refused, "{error}");
            assert!(matches!(error, OpenError::Corrupt(_) | OpenError::UnknownVersion { .. }), "{error:?}");
            assert_eq!(storage.contents(NAME).as_ref(), Some(&file.bytes), "a refused log is left as it was");
        }
        Ok((log, recovered)) => {
            assert!(!expected.refused, "opened, but {:?}", state.damage);
            assert_eq!(recovered.torn_bytes > 0, expected.tail);
            let mut reader = log.reader();
            let mut frame = Frame::default();
            for expected in &expected.frames {
                assert!(reader.next(&mut frame).expect("just checked"));
                assert_eq!(&frame, expected);
            }
            assert!(!reader.next(&mut frame).expect("the end"));
        }
    }
});

/// A segment file, and what its header says.
struct Segment {
    bytes: Vec<u8>,
    version: u32,
    id: u64,
    salt: u64,
    first_frame: u64,
    first_sequence: u64,
}

/// What the documentation says of it.
struct Expected {
    frames: Vec<Frame>,
    /// Something that is not zero stands behind the frames.
    tail: bool,
    refused: bool,
}

/// A frame's header.
struct Head {
    length: usize,
    number: u64,
    sequence: u64,
    count: u32,
    flags: u32,
    previous: u32,
    crc: u32,
}

impl Segment {
    /// A header, frames that mostly follow each other, and damage.
    fn build(input: &mut Input<'_>) -> Self {
        let odd = input.byte();
        // A log that began at the first number has not come to the last one.
        let first = if odd & 1 == 0 { 1 } else { input.u64() >> 1 };
        let mut segment = Self {
            bytes: b"TALLYWAL".to_vec(),
            version: if odd & 2 == 0 { 2 } else { input.byte().into() },
            id: if odd & 4 == 0 { 1 } else { input.u64() },
            salt: u64::from(input.byte()),
            first_frame: first,
            first_sequence: if odd & 8 == 0 { 1 } else { input.u64() >> 1 },
        };
        segment.bytes.extend_from_slice(&segment.version.to_le_bytes());
        segment.bytes.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        for field in [segment.id, segment.salt, segment.first_frame, segment.first_sequence] {
            segment.bytes.extend_from_slice(&field.to_le_bytes());
        }
        segment.bytes.resize(BLOCK - 4, 0);
        let crc = crc32c::crc32c(&segment.bytes);
        segment.bytes.extend_from_slice(&crc.to_le_bytes());
        segment.add_frames(input);
        segment.damage(input);
        segment
    }

    fn add_frames(&mut self, input: &mut Input<'_>) {
        let (mut number, mut sequence, mut previous) = (self.first_frame, self.first_sequence, 0);
        for at in 0..=input.byte() % 8 {
            let odd = input.byte();
            let (mut own_number, mut own_sequence, mut own_previous) = (number, sequence, previous);
            let mut flags = u32::from(at == 0);
            match odd >> 4 {
                1 => own_number = input.u64(),
                2 => own_sequence = input.u64(),
                3 => own_previous = input.u32(),
                4 => flags = input.u32(),
                // So many frames right before this one were not synced.
                5..=7 => flags |= u32::from(input.byte()) << 1,
                _ => {}
            }
            let count = if odd & 1 == 0 { u32::from(input.byte()) } else { input.u32() };
            let body = input.short();
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&MAGIC);
            self.bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(&own_number.to_le_bytes());
            self.bytes.extend_from_slice(&own_sequence.to_le_bytes());
            for field in [count, flags, own_previous] {
                self.bytes.extend_from_slice(&field.to_le_bytes());
            }
            let crc = crc32c::crc32c_append(self.seed(start), &self.bytes[start..]);
            self.bytes.extend_from_slice(&crc.to_le_bytes());
            self.bytes.extend_from_slice(body);
            previous = crc32c::crc32c_append(crc, body);
            self.bytes.extend_from_slice(&previous.to_le_bytes());
            self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
            number = own_number.saturating_add(1);
            sequence = own_sequence.saturating_add(count.into());
        }
        self.bytes.resize(self.bytes.len() + usize::from(input.byte()) * 16, 0);
    }

    fn damage(&mut self, input: &mut Input<'_>) {
        while !input.is_empty() {
            let at = usize::from(input.u16());
            let with = input.byte();
            match with {
                0 => self.bytes.truncate(at),
                _ => {
                    if let Some(byte) = self.bytes.get_mut(at) {
                        *byte ^= with;
                    }
                }
            }
        }
    }

    fn seed(&self, offset: usize) -> u32 {
        let place = [self.id, self.salt, offset as u64].map(u64::to_le_bytes);
        crc32c::crc32c(place.as_flattened())
    }

    fn read(&self) -> Expected {
        let mut expected = Expected { frames: Vec::new(), tail: false, refused: true };
        let bytes = &self.bytes;
        let whole = bytes.len() >= BLOCK && bytes.starts_with(b"TALLYWAL");
        if !whole || crc32c::crc32c(&bytes[..BLOCK - 4]) != u32_at(bytes, BLOCK - 4) {
            return expected;
        }
        let stored = Self { bytes: bytes.clone(), ..self.as_stored() };
        stored.read_frames(&mut expected);
        expected
    }

    /// The header as it stands in the bytes, which may have been changed with their checksum.
    fn as_stored(&self) -> Self {
        Self {
            bytes: Vec::new(),
            version: u32_at(&self.bytes, 8),
            id: u64_at(&self.bytes, 16),
            salt: u64_at(&self.bytes, 24),
            first_frame: u64_at(&self.bytes, 32),
            first_sequence: u64_at(&self.bytes, 40),
        }
    }

    fn read_frames(&self, expected: &mut Expected) {
        let mut at = BLOCK;
        let (mut number, mut sequence, mut previous) = (self.first_frame, self.first_sequence, None);
        let readable = self.id == 1 && matches!(self.version, 1 | 2);
        while let Some((head, body, crc)) = self.frame(at) {
            let ordered = head.number == number
                && head.sequence == sequence
                && previous.is_none_or(|previous| previous == head.previous)
                && (head.flags & 1 == 1) == expected.frames.is_empty();
            if !ordered || !readable {
                return;
            }
            let first_sequence = head.sequence;
            expected.frames.push(Frame {
                number,
                first_sequence,
                count: head.count,
                opening: head.flags & 1 == 1,
                body: body.to_vec(),
            });
            at += (HEADER + body.len() + 4).next_multiple_of(8);
            number = number.saturating_add(1);
            sequence = sequence.saturating_add(head.count.into());
            previous = Some(crc);
        }
        let rest = self.bytes.get(at..).unwrap_or_default();
        expected.tail = rest.iter().any(|&byte| byte != 0);
        let known = |at| self.head(at).map(|head| head.flags);
        let unknown_flags = |at| self.version == 1 && known(at).is_some_and(|flags| flags > 1);
        // A later frame that counts this one among the durable ones, or says what this version cannot.
        let counted = (at + 8..self.bytes.len()).step_by(8).any(|later| {
            unknown_flags(later)
                || self.head(later).is_some_and(|head| {
                    head.number.saturating_sub(1).saturating_sub(u64::from(head.flags >> 1)) >= number
                })
        });
        expected.refused = !readable || expected.frames.is_empty() || counted || unknown_flags(at);
    }

    fn head(&self, at: usize) -> Option<Head> {
        let bytes = self.bytes.get(at..at + HEADER)?;
        let crc = crc32c::crc32c_append(self.seed(at), &bytes[..HEADER - 4]);
        (bytes.starts_with(&MAGIC) && crc == u32_at(bytes, HEADER - 4)).then(|| Head {
            length: u32_at(bytes, 4) as usize,
            number: u64_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            count: u32_at(bytes, 24),
            flags: u32_at(bytes, 28),
            previous: u32_at(bytes, 32),
            crc,
        })
    }

    fn frame(&self, at: usize) -> Option<(Head, &[u8], u32)> {
        let head = self.head(at).filter(|head| self.version != 1 || head.flags <= 1)?;
        // With its padding.
        self.bytes.get(at..at + (HEADER + head.length + 4).next_multiple_of(8))?;
        let body = &self.bytes[at + HEADER..at + HEADER + head.length];
        let crc = crc32c::crc32c_append(head.crc, body);
        (crc == u32_at(&self.bytes, at + HEADER + head.length)).then_some((head, body, crc))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
