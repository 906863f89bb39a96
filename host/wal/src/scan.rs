//! Reads a segment's bytes: how far its frames are valid, and what is behind that. Pure functions; no I/O.

use std::ops::Range;

use crate::error::Corruption;
use crate::format::{self, BLOCK, BadFrame, Expected, FrameHeader, SegmentHeader};

/// The frames of a segment, as far as they are valid.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Where each frame starts.
    pub offsets: Vec<u64>,
    /// Where the last one ends.
    pub end: u64,
    /// What belongs there.
    pub expected: Expected,
    /// Header of the last one.
    pub last: Option<FrameHeader>,
    /// Where the body of the opening frame is.
    pub opening: Range<usize>,
    /// Why it ends there; `None` when that was asked for.
    pub stop: Option<Stop>,
}

impl Stop {
    /// In words.
    pub(crate) fn what(&self) -> &str {
        match self {
            Stop::Invalid(bad) => bad.what(),
            Stop::Disorder(problem) => problem,
        }
    }
}

/// Why bytes are not the next frame.
#[derive(Debug)]
pub(crate) enum Stop {
    /// They are no frame of this place.
    Invalid(BadFrame),
    /// They are one, but not the one that belongs there. Its checksums are right, so no crash made it.
    Disorder(String),
}

/// Reads the frames in `bytes`, the whole file of `segment`, from `first` on, up to (and without) frame `until`.
pub(crate) fn walk(bytes: &[u8], segment: &SegmentHeader, first: Expected, until: Option<u64>) -> Walk {
    let mut walk =
        Walk { offsets: Vec::new(), end: BLOCK as u64, expected: first, last: None, opening: 0..0, stop: None };
    while until != Some(walk.expected.number) {
        match frame_at(bytes, walk.end as usize, segment) {
            Ok((header, crc)) => match walk.expected.check(&header) {
                Ok(()) => walk.pass(&header, crc),
                Err(problem) => walk.stop = Some(Stop::Disorder(problem)),
            },
            Err(bad) => walk.stop = Some(Stop::Invalid(bad)),
        }
        if walk.stop.is_some() {
            break;
        }
    }
    walk
}

impl Walk {
    fn pass(&mut self, header: &FrameHeader, crc: u32) {
        if self.offsets.is_empty() {
            let body = BLOCK + format::HEADER;
            self.opening = body..body + header.body_len;
        }
        self.offsets.push(self.end);
        self.expected = Expected::after(header, crc);
        self.last = Some(*header);
        self.end += format::frame_len(header.body_len) as u64;
    }

    /// Where the first frame starts that no later one says is durable: the last one, if each was synced before the next.
    fn unsynced_at(&self) -> u64 {
        let unsynced = self.last.map_or(0, |header| usize::try_from(header.unsynced).unwrap_or(usize::MAX));
        let at = self.offsets.len().saturating_sub(1).saturating_sub(unsynced);
        self.offsets.get(at).copied().unwrap_or(BLOCK as u64)
    }
}

/// What the bytes of the last segment hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the next frame goes.
    pub end: u64,
    pub frames: u64,
    pub next_frame: u64,
    pub next_sequence: u64,
    /// Checksum of the last frame.
    pub crc: u32,
    /// Where the first frame starts that may not be on the disk, though it shows.
    pub unsynced_at: u64,
    /// Where the body of the opening frame is.
    pub opening: Range<usize>,
    pub tail: Tail,
}

/// What stands behind the last valid frame: an unfinished write, or frames that were not synced and came to the disk in part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Bytes up to the last that is not zero; 0 without a tail.
    pub bytes: u64,
    /// Events in it, as far as headers are left that tell.
    pub events: u64,
}

/// Reads the frames in `bytes`, the whole file of `segment`, which must be the last of its log. `file` names it in errors.
pub(crate) fn scan(bytes: &[u8], segment: &SegmentHeader, file: &str) -> Result<Scan, Corruption> {
    let walk = walk(bytes, segment, Expected::opening_of(segment), None);
    let tail = judge(&walk, bytes, segment, file)?;
    Ok(Scan {
        end: walk.end,
        frames: walk.offsets.len() as u64,
        next_frame: walk.expected.number,
        next_sequence: walk.expected.sequence,
        crc: walk.expected.previous.unwrap_or(0),
        unsynced_at: walk.unsynced_at(),
        opening: walk.opening,
        tail,
    })
}

/// Whether what a walk stopped at, in the last segment, is what a crash may leave. The rule stands in the documentation of the crate.
pub(crate) fn judge(walk: &Walk, bytes: &[u8], segment: &SegmentHeader, file: &str) -> Result<Tail, Corruption> {
    let (at, expected) = (walk.end as usize, walk.expected);
    let written = &bytes[..without_zeros(bytes)];
    let corruption = |what: String, last_sequence| Corruption {
        file: file.to_owned(),
        offset: walk.end,
        frame: expected.number,
        first_sequence: expected.sequence,
        last_sequence,
        what,
    };
    let bad = match &walk.stop {
        None => return Ok(Tail::default()),
        Some(stop @ (Stop::Disorder(_) | Stop::Invalid(BadFrame::Flags))) => {
            return Err(corruption(stop.what().to_owned(), None));
        }
        Some(Stop::Invalid(bad)) => *bad,
    };
    let mut first_later = None;
    for (offset, header) in frames_from(written, at + 8, segment) {
        let (first_offset, first_header) = *first_later.get_or_insert((offset, header));
        if header.is_none_or(|header| header.durable_before() >= expected.number) {
            let mut what = format!("{}, and a later frame stands at byte {first_offset}", bad.what());
            if offset != first_offset {
                what = format!("{what}; that at byte {offset} was written when this one was durable");
            }
            return Err(corruption(what, first_header.map(|header| header.first_sequence.saturating_sub(1))));
        }
    }
    // A segment appears with its opening frame in it, so an invalid one is never a crash's doing.
    if walk.offsets.is_empty() {
        return Err(corruption(bad.what().to_owned(), None));
    }
    let (_, next_sequence) = next_named(walk, written, segment);
    Ok(Tail { bytes: written.len().saturating_sub(at) as u64, events: next_sequence - expected.sequence })
}

fn frame_at(bytes: &[u8], at: usize, segment: &SegmentHeader) -> Result<(FrameHeader, u32), BadFrame> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let header = format::decode_header(rest, segment, at as u64)?;
    let (_, crc) = format::decode_body(rest, &header)?;
    Ok((header, crc))
}

/// The frame number and the sequence behind everything that the frames of a walk, and the headers after it, name.
pub(crate) fn next_named(walk: &Walk, bytes: &[u8], segment: &SegmentHeader) -> (u64, u64) {
    let headers = frames_from(bytes, walk.end as usize, segment).filter_map(|(_, header)| header);
    let named = headers.map(|header| Expected::after(&header, 0));
    named.fold((walk.expected.number, walk.expected.sequence), |(number, sequence), next| {
        (number.max(next.number), sequence.max(next.sequence))
    })
}

/// The frames from `from` on, found by their headers alone: writing them began. `None` for one of which no more can be told.
pub(crate) fn frames_from<'a>(
    bytes: &'a [u8],
    from: usize,
    segment: &'a SegmentHeader,
) -> impl Iterator<Item = (usize, Option<FrameHeader>)> + 'a {
    (from..bytes.len()).step_by(8).filter_map(move |offset| {
        if !format::looks_like_frame(&bytes[offset..]) {
            return None;
        }
        match format::decode_header(&bytes[offset..], segment, offset as u64) {
            Ok(header) => Some((offset, Some(header))),
            Err(BadFrame::Flags) => Some((offset, None)),
            Err(_) => None,
        }
    })
}

/// Length of `bytes` without the zeros at its end.
fn without_zeros(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut end = bytes.len();
    // Most of a segment may be zeros: compare them by the block.
    while end >= ZEROS.len() && bytes[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    bytes[..end].iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader = SegmentHeader { version: 2, id: 3, salt: 99, first_frame: 7, first_sequence: 100 };

    fn segment(bodies: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        SEGMENT.encode(&mut bytes);
        let mut expected = Expected { number: 7, sequence: 100, previous: Some(0), opening: true };
        let mut starts = Vec::new();
        for body in bodies {
            starts.push(bytes.len());
            let header = FrameHeader {
                body_len: 0,
                number: expected.number,
                first_sequence: expected.sequence,
                count: 2,
                opening: expected.opening,
                unsynced: 0,
                previous: expected.previous.unwrap_or(0),
                crc: 0,
            };
            let offset = bytes.len() as u64;
            let crc = format::encode_frame(&mut bytes, &SEGMENT, offset, &header, body);
            expected = Expected::after(&header, crc);
        }
        (bytes, starts)
    }

    #[test]
    fn finds_the_end() {
        let (mut bytes, starts) = segment(&[b"opening", b"", b"third"]);
        let end = bytes.len();
        bytes.resize(end + 5000, 0);
        let scan = scan(&bytes, &SEGMENT, "file").expect("valid");
        assert_eq!((scan.end, scan.next_frame, scan.next_sequence, scan.tail.bytes), (end as u64, 10, 106, 0));
        assert_eq!(scan.unsynced_at, starts[2] as u64);
        assert_eq!(&bytes[scan.opening], b"opening");
    }

    #[test]
    fn a_damaged_last_frame_is_a_torn_tail_and_an_earlier_one_corruption() {
        let (bytes, starts) = segment(&[b"opening", b"second", b"third"]);
        let mut torn = bytes.clone();
        torn[starts[2] + format::HEADER] ^= 1;
        let scan_torn = scan(&torn, &SEGMENT, "file").expect("torn");
        assert_eq!((scan_torn.end, scan_torn.next_frame), (starts[2] as u64, 9));
        assert!(scan_torn.tail.bytes > 0);

        let mut corrupt = bytes.clone();
        corrupt[starts[1] + format::HEADER] ^= 1;
        let error = scan(&corrupt, &SEGMENT, "file").expect_err("corrupt");
        assert_eq!((error.frame, error.first_sequence, error.last_sequence), (8, 102, Some(103)));

        // Also when the frame after it is torn: its header alone proves that writing it began.
        corrupt[starts[2] + format::HEADER] ^= 1;
        scan(&corrupt, &SEGMENT, "file").expect_err("corrupt");
    }

    #[test]
    fn a_frame_is_valid_in_its_place_only() {
        let (bytes, starts) = segment(&[b"opening", b"second", b"third"]);
        // The third frame moved over the second; the same bytes under another salt or segment number.
        let moved = [&bytes[..starts[1]], &bytes[starts[2]..]].concat();
        let scan_moved = scan(&moved, &SEGMENT, "file").expect("torn");
        assert_eq!(scan_moved.next_frame, 8);
        for other in [SegmentHeader { salt: 98, ..SEGMENT }, SegmentHeader { id: 4, ..SEGMENT }] {
            scan(&bytes, &other, "file").expect_err("no opening frame");
        }
    }
}
