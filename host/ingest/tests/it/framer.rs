//! Framing: any split of any bytes gives the same lines as cutting the whole at its newlines.

use proptest::prelude::*;
use tally_ingest::framer::{FirstLine, PREFIX_BYTES, SMALLEST_READ};
use tally_ingest::{Body, Framed, Framer, FramerLimits, Refusal};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong(Vec<u8>, u64),
}

fn by_hand(bytes: &[u8], limit: usize, tail_counts: bool) -> Vec<Line> {
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let tail = pieces.pop().unwrap_or_default();
    if tail_counts && !tail.is_empty() {
        pieces.push(tail);
    }
    let line = |piece: &&[u8]| match piece.len() {
        length if length > limit => Line::TooLong(piece[..length.min(PREFIX_BYTES)].to_vec(), length as u64),
        _ => Line::Whole(piece.to_vec()),
    };
    pieces.iter().map(line).collect()
}

fn lines_of(framed: Framed) -> Vec<Line> {
    let lines = match framed.body {
        Body::Refused { refusal: Refusal::TooLong { length }, prefix } => vec![Line::TooLong(prefix, length)],
        Body::Refused { refusal, .. } => panic!("lines are refused for their length alone, not for {refusal:?}"),
        Body::Lines(bytes) => {
            assert_eq!(bytes.last(), Some(&b'\n'), "a body ends with a newline");
            by_hand(&bytes, usize::MAX, false)
        }
    };
    assert_eq!(lines.len(), framed.lines as usize, "the count is that of the lines");
    lines
}

fn framed(pieces: &[&[u8]], limits: FramerLimits, tail_counts: bool) -> Vec<Line> {
    let mut framer = Framer::new(limits);
    let mut lines = Vec::new();
    for piece in pieces {
        framer.push(piece);
        lines.extend(std::iter::from_fn(|| framer.take()).flat_map(lines_of));
    }
    let tail = framer.has_unfinished_line();
    if tail_counts {
        let last = framer.finish();
        assert_eq!(last.is_some(), tail);
        lines.extend(last.into_iter().flat_map(lines_of));
        assert!(!framer.has_unfinished_line());
    }
    lines
}

fn cut<'a>(bytes: &'a [u8], at: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = at.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => prop::collection::vec(b'a'..=b'e', 0..12),
        1 => (0usize..70).prop_map(|length| vec![b'x'; length]),
        1 => Just(vec![b'y'; 10_000]),
    ];
    (prop::collection::vec(line, 0..12), any::<bool>()).prop_map(|(lines, ended)| {
        let mut bytes = lines.join(&b'\n');
        if ended {
            bytes.push(b'\n');
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_split_gives_the_lines(bytes in text(), cuts in prop::collection::vec(any::<usize>(), 0..20), limit in 1usize..64, tail: bool) {
        let limits = FramerLimits { read_bytes: 32, line_bytes: limit };
        prop_assert_eq!(framed(&cut(&bytes, &cuts), limits, tail), by_hand(&bytes, limit, tail));
    }

    #[test]
    fn reading_into_its_buffer_is_the_same_as_pushing(bytes in text(), sizes in prop::collection::vec(1usize..5000, 1..20), read_bytes in 1usize..3000) {
        let mut framer = Framer::new(FramerLimits { read_bytes, line_bytes: 300 });
        let (mut lines, mut rest) = (Vec::new(), &bytes[..]);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let space = framer.space();
            let count = (*size).min(rest.len()).min(space.capacity() - space.len());
            prop_assert!(count > 0, "there is room to read into");
            space.extend_from_slice(&rest[..count]);
            rest = &rest[count..];
            framer.adapt(count);
            lines.extend(std::iter::from_fn(|| framer.take()).flat_map(lines_of));
        }
        lines.extend(framer.finish().into_iter().flat_map(lines_of));
        prop_assert_eq!(lines, by_hand(&bytes, 300, true));
    }

    #[test]
    fn the_first_line_is_the_first(bytes in text(), cuts in prop::collection::vec(any::<usize>(), 0..6), limit in 1usize..64) {
        let mut framer = Framer::new(FramerLimits { read_bytes: 32, line_bytes: limit });
        let expected = by_hand(&bytes, limit, false).into_iter().next();
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let mut seen = 0;
        for piece in cut(&bytes, &cuts) {
            framer.push(piece);
            seen += piece.len();
            let complete = newline.is_some_and(|at| at < seen);
            match framer.first_line() {
                FirstLine::Whole(line) => prop_assert_eq!(Some(Line::Whole(line.to_vec())), expected.clone()),
                FirstLine::TooLong => prop_assert!(newline.unwrap_or(seen) > limit),
                FirstLine::Unfinished(line) => {
                    prop_assert!(!complete);
                    prop_assert_eq!(line, &bytes[..seen]);
                }
            }
        }
        if newline.is_some_and(|at| at <= limit) {
            framer.skip_first_line();
            let lines: Vec<Line> = std::iter::from_fn(|| framer.take()).flat_map(lines_of).collect();
            prop_assert_eq!(lines, by_hand(&bytes, limit, false)[1..].to_vec());
        }
    }
}

#[test]
fn a_line_of_exactly_the_limit_is_within() {
    let limits = FramerLimits { read_bytes: 32, line_bytes: 3 };
    let lines = framed(&[b"abc\nabcd\nabc"], limits, true);
    let expected = [Line::Whole(b"abc".to_vec()), Line::TooLong(b"abcd".to_vec(), 4), Line::Whole(b"abc".to_vec())];
    assert_eq!(lines, expected);
}

#[test]
fn a_full_buffer_is_handed_over_and_a_mostly_empty_one_copied_out() {
    let mut framer = Framer::new(FramerLimits::default());
    let space = framer.space();
    space.resize(space.capacity() - 4, b'x');
    space.extend_from_slice(b"\nab");
    let (held, address) = (space.capacity(), space.as_ptr());
    let Some(Framed { body: Body::Lines(body), .. }) = framer.take() else { panic!("a line") };
    assert_eq!((body.as_ptr(), body.capacity()), (address, held), "not copied");
    assert_eq!(framer.space().as_slice(), b"ab");

    framer.push(b"c\n");
    let framed = framer.take().expect("a line");
    assert_eq!(framed.body, Body::Lines(b"abc\n".to_vec()));
    assert_eq!(framed.body.capacity(), 4, "a small chunk holds no large buffer");
}

#[test]
fn the_buffer_follows_the_traffic() {
    let mut framer = Framer::new(FramerLimits::default());
    let fill = |framer: &mut Framer, share: usize| {
        let space = framer.space();
        let size = space.capacity();
        space.resize(size / share, b'\n');
        framer.adapt(size / share);
        while framer.take().is_some() {}
        size
    };
    let busy: Vec<usize> = (0..5).map(|_| fill(&mut framer, 1)).collect();
    let quiet: Vec<usize> = (0..6).map(|_| fill(&mut framer, 100)).collect();
    assert_eq!(busy, [16, 64, 256, 256, 256].map(|kib| kib * 1024));
    assert_eq!(quiet, [256, 128, 64, 32, 16, 16].map(|kib| kib * 1024));
    assert_eq!(quiet[5], SMALLEST_READ);
}

#[test]
fn a_line_over_the_limit_is_not_kept() {
    let mut framer = Framer::new(FramerLimits::default());
    for _ in 0..1000 {
        let space = framer.space();
        let capacity = space.capacity();
        space.resize(capacity, b'x');
        framer.adapt(capacity);
        assert!(capacity <= 4 * 1024 * 1024, "{capacity} bytes held");
        assert_eq!(framer.take(), None);
    }
    framer.push(b"\n");
    let Some(Framed { body: Body::Refused { refusal: Refusal::TooLong { length }, prefix }, lines: 1 }) = framer.take()
    else {
        panic!("a line over the limit")
    };
    assert_eq!(prefix.len(), PREFIX_BYTES);
    assert!(length > 100 * 1024 * 1024, "{length}");
}

#[test]
fn a_buffer_is_given_up_only_when_nothing_is_in_it() {
    let mut framer = Framer::new(FramerLimits::default());
    framer.space();
    framer.release();
    assert!(framer.is_full(), "an empty buffer is still held");
    framer.space().extend_from_slice(b"{\"a\"");
    framer.release();
    framer.space().extend_from_slice(b":1}\n");
    assert_eq!(framer.take().map(|framed| framed.body), Some(Body::Lines(b"{\"a\":1}\n".to_vec())));
}
