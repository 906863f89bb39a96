//! Segment headers and frames as bytes: pure encoding and decoding, no I/O. The layout stands in the crate's documentation.

/// What this program writes; it reads every version up to this one.
pub(crate) const VERSION: u32 = 2;
/// Size of a segment's header block: the first frame starts here.
pub(crate) const BLOCK: usize = 4096;
/// Size of a frame's header.
/// Bytes of a frame before its body: the room that [`crate::Log::append_enclosed`] needs there.
pub const HEADER: usize = 40;
/// The hard limit of a body, whatever the options say.
pub(crate) const MAX_BODY: usize = 1 << 31;

const SEGMENT_MAGIC: &[u8; 8] = b"TALLYWAL";
const FRAME_MAGIC: [u8; 4] = [0xF5, b'T', b'F', 0xF8];
const CRC: usize = 4;
const ALIGN: usize = 8;
const FLAG_OPENING: u32 = 1;
/// How many unsynced frames a frame can say to have right before it. Whoever writes has to sync before there are more.
pub(crate) const MAX_UNSYNCED: u64 = (u32::MAX >> 1) as u64;

/// Where frames live: what makes their checksums valid in one file only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub version: u32,
    pub id: u64,
    pub salt: u64,
    pub first_frame: u64,
    pub first_sequence: u64,
}

/// Why a header block is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadSegment {
    Version(u32),
    Damaged(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(SEGMENT_MAGIC);
        into.extend_from_slice(&self.version.to_le_bytes());
        into.extend_from_slice(&(BLOCK as u32).to_le_bytes());
        for field in [self.id, self.salt, self.first_frame, self.first_sequence] {
            into.extend_from_slice(&field.to_le_bytes());
        }
        into.resize(start + BLOCK - CRC, 0);
        let crc = crc32c::crc32c(&into[start..]);
        into.extend_from_slice(&crc.to_le_bytes());
    }

    pub(crate) fn decode(block: &[u8]) -> Result<SegmentHeader, BadSegment> {
        if block.len() < BLOCK {
            return Err(BadSegment::Damaged("the file is too short for a segment"));
        }
        if &block[..8] != SEGMENT_MAGIC {
            return Err(BadSegment::Damaged("the file does not start like a segment"));
        }
        // Before the checksum: another version may lay out everything after its number differently.
        let version = u32_at(block, 8);
        if !(1..=VERSION).contains(&version) {
            return Err(BadSegment::Version(version));
        }
        if crc32c::crc32c(&block[..BLOCK - CRC]) != u32_at(block, BLOCK - CRC) {
            return Err(BadSegment::Damaged("the checksum of the segment's header differs"));
        }
        Ok(SegmentHeader {
            version,
            id: u64_at(block, 16),
            salt: u64_at(block, 24),
            first_frame: u64_at(block, 32),
            first_sequence: u64_at(block, 40),
        })
    }

    /// What every checksum at `offset` of this segment starts from.
    fn seed(&self, offset: u64) -> u32 {
        let mut place = [0; 24];
        place[..8].copy_from_slice(&self.id.to_le_bytes());
        place[8..16].copy_from_slice(&self.salt.to_le_bytes());
        place[16..].copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c(&place)
    }
}

/// A frame's header. `crc` is the header's checksum, where the frame's own goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub body_len: usize,
    pub number: u64,
    pub first_sequence: u64,
    pub count: u32,
    pub opening: bool,
    /// So many frames right before this one were not known to be durable when it was written.
    pub unsynced: u64,
    pub previous: u32,
    pub crc: u32,
}

impl FrameHeader {
    /// All frames up to this number were durable before this one was written.
    pub(crate) fn durable_before(&self) -> u64 {
        self.number.saturating_sub(1).saturating_sub(self.unsynced)
    }
}

/// Why bytes are not the frame that belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    NoHeader,
    HeaderChecksum,
    Flags,
    Truncated,
    BodyChecksum,
}

impl BadFrame {
    pub(crate) fn what(self) -> &'static str {
        match self {
            BadFrame::NoHeader => "there is no frame where one was",
            BadFrame::HeaderChecksum => "the checksum of the frame's header differs",
            BadFrame::Flags => "the frame has flags this program does not know",
            BadFrame::Truncated => "the frame reaches beyond the end of the file",
            BadFrame::BodyChecksum => "the checksum of the frame differs",
        }
    }
}

/// Bytes a frame with this body takes in the file.
pub(crate) fn frame_len(body_len: usize) -> usize {
    (HEADER + body_len + CRC).next_multiple_of(ALIGN)
}

/// Appends the frame to `into`, to be written at `offset` of `segment`, and returns the frame's checksum.
/// `header.body_len` and `header.crc` are ignored: the body and the place decide them.
pub(crate) fn encode_frame(
    into: &mut Vec<u8>,
    segment: &SegmentHeader,
    offset: u64,
    header: &FrameHeader,
    body: &[u8],
) -> u32 {
    let start = into.len();
    into.reserve(frame_len(body.len()));
    into.resize(start + HEADER, 0);
    into.extend_from_slice(body);
    enclose_frame(into, start, segment, offset, header)
}

/// Makes a frame of the body that stands in `bytes` behind `start` and the room for a header, as [`encode_frame`] does.
pub(crate) fn enclose_frame(
    bytes: &mut Vec<u8>,
    start: usize,
    segment: &SegmentHeader,
    offset: u64,
    header: &FrameHeader,
) -> u32 {
    let body_len = bytes.len() - start - HEADER;
    assert!(body_len <= MAX_BODY && header.unsynced <= MAX_UNSYNCED, "the caller checks the limits");
    assert_eq!(segment.version, VERSION, "segments of older versions are only read");
    let flags = (header.unsynced as u32) << 1 | u32::from(header.opening);
    let mut head = Vec::with_capacity(HEADER);
    head.extend_from_slice(&FRAME_MAGIC);
    head.extend_from_slice(&(body_len as u32).to_le_bytes());
    head.extend_from_slice(&header.number.to_le_bytes());
    head.extend_from_slice(&header.first_sequence.to_le_bytes());
    head.extend_from_slice(&header.count.to_le_bytes());
    head.extend_from_slice(&flags.to_le_bytes());
    head.extend_from_slice(&header.previous.to_le_bytes());
    let crc = crc32c::crc32c_append(segment.seed(offset), &head);
    head.extend_from_slice(&crc.to_le_bytes());
    bytes[start..start + HEADER].copy_from_slice(&head);
    let crc = crc32c::crc32c_append(crc, &bytes[start + HEADER..]);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.resize(start + frame_len(body_len), 0);
    crc
}

/// Whether a frame header may start here: a cheap look before [`decode_header`].
pub(crate) fn looks_like_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&FRAME_MAGIC)
}

/// Reads the header at `offset` of `segment`.
pub(crate) fn decode_header(bytes: &[u8], segment: &SegmentHeader, offset: u64) -> Result<FrameHeader, BadFrame> {
    if !looks_like_frame(bytes) {
        return Err(BadFrame::NoHeader);
    }
    if bytes.len() < HEADER {
        return Err(BadFrame::Truncated);
    }
    let crc = crc32c::crc32c_append(segment.seed(offset), &bytes[..HEADER - CRC]);
    if crc != u32_at(bytes, HEADER - CRC) {
        return Err(BadFrame::HeaderChecksum);
    }
    let flags = u32_at(bytes, 28);
    if segment.version == 1 && flags & !FLAG_OPENING != 0 {
        return Err(BadFrame::Flags);
    }
    Ok(FrameHeader {
        body_len: u32_at(bytes, 4) as usize,
        number: u64_at(bytes, 8),
        first_sequence: u64_at(bytes, 16),
        count: u32_at(bytes, 24),
        opening: flags & FLAG_OPENING != 0,
        unsynced: u64::from(flags >> 1),
        previous: u32_at(bytes, 32),
        crc,
    })
}

/// Checks the body of the frame that starts `bytes`; returns it and the frame's checksum.
pub(crate) fn decode_body<'a>(bytes: &'a [u8], header: &FrameHeader) -> Result<(&'a [u8], u32), BadFrame> {
    if bytes.len() < frame_len(header.body_len) {
        return Err(BadFrame::Truncated);
    }
    let body = &bytes[HEADER..HEADER + header.body_len];
    let crc = crc32c::crc32c_append(header.crc, body);
    if crc != u32_at(bytes, HEADER + header.body_len) {
        return Err(BadFrame::BodyChecksum);
    }
    Ok((body, crc))
}

/// What the next frame must be, given those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub number: u64,
    pub sequence: u64,
    /// Checksum of the frame before; `None` where that frame is not at hand.
    pub previous: Option<u32>,
    pub opening: bool,
}

impl Expected {
    /// The first frame of a segment, when what is before it is not at hand.
    pub(crate) fn opening_of(segment: &SegmentHeader) -> Expected {
        Expected { number: segment.first_frame, sequence: segment.first_sequence, previous: None, opening: true }
    }

    /// What is wrong with a frame whose checksums are right, in its place in the order.
    pub(crate) fn check(&self, header: &FrameHeader) -> Result<(), String> {
        if header.number != self.number {
            return Err(format!("frame {} stands where frame {} belongs", header.number, self.number));
        }
        if header.first_sequence != self.sequence {
            return Err(format!(
                "the frame starts with sequence {} instead of {}",
                header.first_sequence, self.sequence
            ));
        }
        if self.previous.is_some_and(|previous| previous != header.previous) {
            return Err("the frame does not continue the one before it".to_owned());
        }
        if header.opening != self.opening {
            return Err("an opening frame stands at the start of a segment and nowhere else".to_owned());
        }
        Ok(())
    }

    /// What comes after that frame in its segment.
    pub(crate) fn after(header: &FrameHeader, crc: u32) -> Expected {
        Expected {
            // Only a forged frame comes near the end of the numbers.
            number: header.number.saturating_add(1),
            sequence: header.first_sequence.saturating_add(u64::from(header.count)),
            previous: Some(crc),
            opening: false,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader =
        SegmentHeader { version: VERSION, id: 3, salt: 9, first_frame: 7, first_sequence: 5 };

    fn header(unsynced: u64, opening: bool) -> FrameHeader {
        FrameHeader {
            body_len: 0,
            number: u64::MAX,
            first_sequence: 9,
            count: 3,
            opening,
            unsynced,
            previous: 4,
            crc: 0,
        }
    }

    #[test]
    fn what_a_header_says_of_unsynced_frames_is_read_as_it_was_written() {
        for unsynced in [0, 1, 5, MAX_UNSYNCED] {
            for opening in [false, true] {
                let written = header(unsynced, opening);
                let mut bytes = Vec::new();
                encode_frame(&mut bytes, &SEGMENT, 4096, &written, b"body");
                let read = decode_header(&bytes, &SEGMENT, 4096).expect("as written");
                assert_eq!((read.unsynced, read.opening, read.body_len), (unsynced, opening, 4));
                assert_eq!(read.durable_before(), u64::MAX - 1 - unsynced);
            }
        }
    }

    #[test]
    fn a_header_is_read_without_a_body_and_not_without_its_last_byte() {
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, &SEGMENT, 4096, &header(0, false), b"");
        assert!(decode_header(&bytes[..HEADER], &SEGMENT, 4096).is_ok());
        assert_eq!(decode_header(&bytes[..HEADER - 1], &SEGMENT, 4096), Err(BadFrame::Truncated));
        assert_eq!(decode_header(&bytes[1..], &SEGMENT, 4096), Err(BadFrame::NoHeader));
    }
}
