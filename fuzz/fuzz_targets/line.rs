//! A socket's bytes cut into lines, or into MessagePack frames: in whatever pieces they come, the same events come out, and
//! none is lost. And the first line, which may be a handshake.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tally_fuzz::Input;
use tally_ingest::framer::FirstLine;
use tally_ingest::protocol::{Hello, hello, is_producer};
use tally_ingest::socket::frames::Frames;
use tally_ingest::{Body, Framed, Framer, FramerLimits};

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let limits = FramerLimits { read_bytes: usize::from(input.u16()), line_bytes: usize::from(input.byte()) };
    let piece = usize::from(input.byte()) + 1;
    let bytes = input.rest();

    let whole = lines(bytes, bytes.len().max(1), limits);
    assert_eq!(whole, lines(bytes, piece, limits));
    assert_eq!(whole, cut(bytes, limits.line_bytes.max(1)));

    let whole = frames(bytes, bytes.len().max(1), limits.line_bytes);
    assert_eq!(whole, frames(bytes, piece, limits.line_bytes));

    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if let Hello::Handshake(handshake) = hello(line) {
        assert!(handshake.producer.is_none_or(|id| is_producer(&id) && handshake.answers));
        serde_json::from_slice::<serde_json::Value>(line.trim_ascii()).expect("a handshake is JSON");
    }
});

/// An event, or how long the one was that is refused.
type Event = Result<Vec<u8>, u64>;

/// What the framer makes of it, first line looked at beforehand, as a connection does.
fn lines(bytes: &[u8], piece: usize, limits: FramerLimits) -> Vec<Event> {
    let mut framer = Framer::new(limits);
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        framer.space().extend_from_slice(piece);
        framer.adapt(piece.len());
        if events.is_empty() && matches!(framer.first_line(), FirstLine::Unfinished(_)) {
            continue;
        }
        while let Some(framed) = framer.take() {
            add(framed, &mut events);
        }
    }
    while let Some(framed) = framer.take() {
        add(framed, &mut events);
    }
    if let Some(framed) = framer.finish() {
        add(framed, &mut events);
    }
    assert!(!framer.has_unfinished_line());
    events
}

fn add(framed: Framed, events: &mut Vec<Event>) {
    let before = events.len();
    match framed.body {
        Body::Lines(text) => {
            assert_eq!(text.last(), Some(&b'\n'), "whole lines");
            events.extend(text[..text.len() - 1].split(|&byte| byte == b'\n').map(|line| Ok(line.to_vec())));
        }
        Body::Refused { refusal, prefix } => {
            let length = match refusal {
                tally_ingest::Refusal::TooLong { length } => length,
                _ => prefix.len() as u64,
            };
            assert!(prefix.len() as u64 <= length);
            events.push(Err(length));
        }
    }
    assert_eq!(events.len() - before, framed.lines as usize);
}

/// The same by the book.
fn cut(bytes: &[u8], limit: usize) -> Vec<Event> {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    // A last line without a newline is one if it has bytes.
    lines.pop_if(|last| last.is_empty());
    let event = |line: &[u8]| if line.len() > limit { Err(line.len() as u64) } else { Ok(line.to_vec()) };
    lines.into_iter().map(event).collect()
}

fn frames(bytes: &[u8], piece: usize, limit: usize) -> (Vec<Event>, bool) {
    let mut frames = Frames::new(limit, 8);
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.space().extend_from_slice(piece);
        while let Some(framed) = frames.take() {
            add(framed, &mut events);
        }
    }
    for line in events.iter().flatten() {
        serde_json::from_slice::<serde_json::Value>(line).expect("what is not refused is JSON");
    }
    (events, frames.has_unfinished())
}
