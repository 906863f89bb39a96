//! Finds the end of the last segment: a pure function from its bytes to where the next frame goes, and what is behind that.

use crate::error::Corruption;
use crate::format::{self, BLOCK, BadFrame, Expected, FrameHeader, SegmentHeader};

/// What the bytes of a segment hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Where the next frame goes.
    pub end: u64,
    pub next_frame: u64,
    pub next_sequence: u64,
    /// Checksum of the last frame.
    pub crc: u32,
    /// Where the last frame starts.
    pub last_frame_at: u64,
    /// Where the body of the opening frame is.
    pub opening: std::ops::Range<usize>,
    /// Bytes after `end` that are not zero, up to the last such byte: a torn tail. 0 without one.
    pub torn: u64,
}

/// Reads the frames in `bytes`, the whole file of `segment`, which must be the last of its log. `file` names it in errors.
pub(crate) fn scan(bytes: &[u8], segment: &SegmentHeader, file: &str) -> Result<Scan, Corruption> {
    let mut expected =
        Expected { number: segment.first_frame, sequence: segment.first_sequence, previous: None, opening: true };
    let written = &bytes[..without_zeros(bytes)];
    let mut at = BLOCK;
    let mut found: Option<Scan> = None;
    loop {
        let problem = match frame_at(bytes, at, segment) {
            Ok((header, crc)) => match expected.check(&header) {
                Ok(()) => {
                    expected = Expected::after(&header, crc);
                    let scan = found.get_or_insert_with(|| Scan::of_opening(&header));
                    scan.last_frame_at = at as u64;
                    at += format::frame_len(header.body_len);
                    continue;
                }
                // Its checksums are right, so no crash made it.
                Err(problem) => Problem { what: problem, last_sequence: None, certain: true },
            },
            Err(bad) => Problem::of(bad, written, at, segment),
        };
        return match found {
            Some(scan) if !problem.certain => Ok(Scan {
                end: at as u64,
                next_frame: expected.number,
                next_sequence: expected.sequence,
                crc: expected.previous.unwrap_or(0),
                torn: written.len().saturating_sub(at) as u64,
                ..scan
            }),
            // A segment appears with its opening frame in it, so an invalid one is never a crash's doing.
            _ => Err(Corruption {
                file: file.to_owned(),
                offset: at as u64,
                frame: expected.number,
                first_sequence: expected.sequence,
                last_sequence: problem.last_sequence,
                what: problem.what,
            }),
        };
    }
}

impl Scan {
    fn of_opening(header: &FrameHeader) -> Scan {
        let body = BLOCK + format::HEADER;
        Scan {
            end: 0,
            next_frame: 0,
            next_sequence: 0,
            crc: 0,
            last_frame_at: 0,
            opening: body..body + header.body_len,
            torn: 0,
        }
    }
}

struct Problem {
    what: String,
    last_sequence: Option<u64>,
    /// Proven to be corruption, rather than what a crash may leave.
    certain: bool,
}

impl Problem {
    fn of(bad: BadFrame, bytes: &[u8], at: usize, segment: &SegmentHeader) -> Problem {
        if bad == BadFrame::Flags {
            return Problem { what: bad.what().to_owned(), last_sequence: None, certain: true };
        }
        match later_frame(bytes, at, segment) {
            Some((offset, header)) => Problem {
                what: format!("{}, and a later frame stands at byte {offset}", bad.what()),
                last_sequence: header.map(|header| header.first_sequence.saturating_sub(1)),
                certain: true,
            },
            None => Problem { what: bad.what().to_owned(), last_sequence: None, certain: false },
        }
    }
}

fn frame_at(bytes: &[u8], at: usize, segment: &SegmentHeader) -> Result<(FrameHeader, u32), BadFrame> {
    let rest = bytes.get(at..).unwrap_or(&[]);
    let header = format::decode_header(rest, segment, at as u64)?;
    let (_, crc) = format::decode_body(rest, &header)?;
    Ok((header, crc))
}

/// The first frame after `at`, found by its header alone: writing it began, so what stands at `at` was durable before.
pub(crate) fn later_frame(bytes: &[u8], at: usize, segment: &SegmentHeader) -> Option<(usize, Option<FrameHeader>)> {
    let mut offset = at + 8;
    while offset < bytes.len() {
        if format::looks_like_frame(&bytes[offset..]) {
            match format::decode_header(&bytes[offset..], segment, offset as u64) {
                Ok(header) => return Some((offset, Some(header))),
                Err(BadFrame::Flags) => return Some((offset, None)),
                Err(_) => {}
            }
        }
        offset += 8;
    }
    None
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

    const SEGMENT: SegmentHeader = SegmentHeader { id: 3, salt: 99, first_frame: 7, first_sequence: 100 };

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
                previous: expected.previous.unwrap_or(0),
                crc: 0,
            };
            let offset = bytes.len() as u64;
            let crc = format::encode_frame(&mut bytes, &SEGMENT, offset, &header, &[body]);
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
        assert_eq!((scan.end, scan.next_frame, scan.next_sequence, scan.torn), (end as u64, 10, 106, 0));
        assert_eq!(scan.last_frame_at, starts[2] as u64);
        assert_eq!(&bytes[scan.opening], b"opening");
    }

    #[test]
    fn a_damaged_last_frame_is_a_torn_tail_and_an_earlier_one_corruption() {
        let (bytes, starts) = segment(&[b"opening", b"second", b"third"]);
        let mut torn = bytes.clone();
        torn[starts[2] + format::HEADER] ^= 1;
        let scan_torn = scan(&torn, &SEGMENT, "file").expect("torn");
        assert_eq!((scan_torn.end, scan_torn.next_frame), (starts[2] as u64, 9));
        assert!(scan_torn.torn > 0);

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
