//! One single-threaded stage, several times over the same generated lines, for counting instructions: `cargo xtask bench
//! --instructions` runs it under callgrind with two numbers of passes, so that what happens once cancels out.
//!
//! `cargo run --release -p tally-bench --example instructions -- STAGE LINES PASSES`

#[path = "../benches/stages/ground.rs"]
#[allow(dead_code, reason = "shared with the benchmarks of single stages")]
mod ground;

use std::hint::black_box;

use tally_event::decode::Mode;
use tally_sdk::wire::exports::tally::aggregator::aggregator::GuestAccumulator;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let stage = arguments.next().unwrap_or_default();
    let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("STAGE LINES PASSES");
    let (count, passes) = (number(), number());
    let lines = ground::lines(count, stage.ends_with("-w2"));
    match &*stage {
        "decode-w1" | "decode-w2" => decode(&lines, passes),
        "log-append" => append(&lines, passes),
        "apply-native" => apply(&lines, passes),
        _ => panic!("no stage {stage:?}"),
    }
}

fn decode(lines: &[u8], passes: usize) {
    let mut decoder = ground::decoder();
    let pieces = ground::pieces(lines, ground::ROWS);
    for piece in (0..passes).flat_map(|_| &pieces) {
        black_box(decoder.push(0, piece, Mode::Admit));
        black_box(decoder.finish());
    }
}

/// The native aggregator, with the copy of the columns that it is handed.
fn apply(lines: &[u8], passes: usize) {
    let native = ground::native();
    let batches = ground::wire_batches(lines);
    for batch in (0..passes).flat_map(|_| &batches) {
        assert!(native.apply(batch.clone()).is_empty(), "a generated action was refused");
    }
}

/// Frames into a file, left to the kernel: header, checksum, gathering.
fn append(lines: &[u8], passes: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = ground::Appender::new(folder.path());
    let pieces = ground::pieces(lines, ground::ROWS);
    for piece in (0..passes).flat_map(|_| &pieces) {
        log.append(piece);
    }
}
