//! Looking at a log: what is said of whole ones, damaged ones, and one that is being written.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use expect_test::{Expect, expect};
use tally_storage::RealStorage;
use tally_testkit::MemStorage;
use tally_wal::{Durability, Inspection, Log, Options, inspect};

use crate::script::{body, options};

/// Three segments of four frames each, not synced one by one.
pub fn small_log() -> MemStorage {
    let storage = MemStorage::new();
    let options = Options { salt: Some(5), durability: Durability::Os, ..options(0) };
    let (mut log, _) = Log::open(storage.clone(), options).expect("new");
    for segment in 0..3 {
        log.roll(&body(segment, 60)).expect("rolls");
        log.append(3, &body(100 + segment, 90)).expect("appends");
        log.append(0, b"").expect("appends");
        log.sync().expect("syncs");
        log.append(2, &body(200 + segment, 33)).expect("appends");
    }
    drop(log);
    storage.duplicate()
}

pub fn flip(storage: &MemStorage, name: &str, at: usize) {
    let mut bytes = storage.contents(name).expect("a segment");
    bytes[at] ^= 1;
    storage.overwrite(name, bytes);
}

pub fn without(storage: &MemStorage, missing: &str) -> MemStorage {
    let copy = MemStorage::new();
    for name in storage.names().iter().filter(|name| *name != missing) {
        copy.overwrite(name, storage.contents(name).expect("a file"));
    }
    copy
}

fn readable(inspection: &Inspection) -> String {
    let mut text = String::new();
    for one in &inspection.segments {
        let (last_frame, last_sequence) = (one.last_frame().unwrap_or(0), one.last_sequence().unwrap_or(0));
        let _ = write!(
            text,
            "{} v{} frames {}-{last_frame} events {}-{last_sequence} bytes {}/{}{}",
            &one.file[..14],
            one.version,
            one.first_frame,
            one.first_sequence,
            one.used,
            one.bytes,
            if one.sealed { "" } else { " open" },
        );
        if let Some(tail) = &one.tail {
            let _ = write!(text, " tail of {} at {} with {} events", tail.bytes, tail.offset, tail.events);
        }
        if let Some(damage) = &one.damage {
            let (offset, frame, what) = (damage.offset, damage.frame, &damage.what);
            let _ = write!(text, "\n  {} at {offset}, frame {frame}, ", damage.file);
            let _ = write!(text, "sequences {}-{:?}: {what}", damage.first_sequence, damage.last_sequence);
        }
        text.push('\n');
    }
    text
}

fn check(storage: &MemStorage, expected: Expect) {
    let before: Vec<_> = storage.names().into_iter().map(|name| (storage.contents(&name), name)).collect();
    expected.assert_eq(&readable(&inspect(storage).expect("readable")));
    let after: Vec<_> = storage.names().into_iter().map(|name| (storage.contents(&name), name)).collect();
    assert_eq!(before, after, "looking changes nothing");
}

#[test]
fn a_whole_log_is_listed() {
    check(&MemStorage::new(), expect![[""]]);
    check(
        &small_log(),
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
        wal_0000000002 v2 frames 5-8 events 6-10 bytes 4464/8192
        wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
    "#]],
    );
}

#[test]
fn damage_is_named_and_what_follows_is_listed_all_the_same() {
    // In the middle of a sealed segment: what a start does not see.
    let storage = small_log();
    flip(&storage, "wal_0000000002.seg", 4200 + 50);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
        wal_0000000002 v2 frames 5-5 events 6-0 bytes 4200/8192
          wal_0000000002.seg at 4200, frame 6, sequences 6-Some(8): the checksum of the frame differs, and a later frame stands at byte 4336; that at byte 4384 was written when this one was durable
        wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
    "#]],
    );
    // A header, and the version in it.
    let storage = small_log();
    flip(&storage, "wal_0000000001.seg", 100);
    flip(&storage, "wal_0000000002.seg", 8);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v0 frames 0-0 events 0-0 bytes 0/8192
          wal_0000000001.seg at 0, frame 0, sequences 1-None: the checksum of the segment's header differs
        wal_0000000002 v3 frames 0-0 events 0-0 bytes 0/8192
          wal_0000000002.seg at 0, frame 0, sequences 1-None: it has log format version 3, this program reads versions up to 2
        wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
    "#]],
    );
    // A segment that is gone.
    check(
        &without(&small_log(), "wal_0000000002.seg"),
        expect![[r#"
            wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
            wal_0000000002 v0 frames 0-0 events 0-0 bytes 0/0
              wal_0000000002.seg at 0, frame 0, sequences 1-Some(10): the segment is missing, though wal_0000000003.seg comes after it
            wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
        "#]],
    );
    // The end of a sealed segment.
    let storage = small_log();
    let mut bytes = storage.contents("wal_0000000001.seg").expect("a segment");
    bytes.truncate(4300);
    storage.overwrite("wal_0000000001.seg", bytes);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-1 events 1-0 bytes 4200/4300
          wal_0000000001.seg at 4200, frame 2, sequences 1-Some(5): the frame reaches beyond the end of the file
        wal_0000000002 v2 frames 5-8 events 6-10 bytes 4464/8192
        wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
    "#]],
    );
}

#[test]
fn behind_a_sealed_segment_nothing_is_a_tail_even_if_the_next_header_cannot_be_read() {
    let storage = small_log();
    flip(&storage, "wal_0000000002.seg", 4390);
    flip(&storage, "wal_0000000003.seg", 100);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
        wal_0000000002 v2 frames 5-7 events 6-8 bytes 4384/8192
          wal_0000000002.seg at 4384, frame 8, sequences 9-None: the checksum of the frame's header differs
        wal_0000000003 v0 frames 0-0 events 0-0 bytes 0/8192 open
          wal_0000000003.seg at 0, frame 0, sequences 6-None: the checksum of the segment's header differs
    "#]],
    );
}

#[test]
fn what_a_start_would_cut_is_no_damage() {
    let storage = small_log();
    flip(&storage, "wal_0000000003.seg", 4390);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
        wal_0000000002 v2 frames 5-8 events 6-10 bytes 4464/8192
        wal_0000000003 v2 frames 9-11 events 11-13 bytes 4384/8192 open tail of 77 at 4384 with 0 events
    "#]],
    );
    // Before what a later frame counts among the durable it is.
    let storage = small_log();
    flip(&storage, "wal_0000000003.seg", 4210);
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4464/8192
        wal_0000000002 v2 frames 5-8 events 6-10 bytes 4464/8192
        wal_0000000003 v2 frames 9-9 events 11-0 bytes 4200/8192 open
          wal_0000000003.seg at 4200, frame 10, sequences 11-Some(13): the checksum of the frame's header differs, and a later frame stands at byte 4336; that at byte 4384 was written when this one was durable
    "#]],
    );
}

#[test]
fn segments_must_continue_each_other() {
    // The same numbers, another history.
    let other = MemStorage::new();
    let (mut log, _) = Log::open(other.clone(), Options { salt: Some(6), ..options(0) }).expect("new");
    log.roll(b"another").expect("rolls");
    for count in [3, 0, 2] {
        log.append(count, b"log").expect("appends");
    }
    drop(log);
    let storage = small_log();
    storage.overwrite("wal_0000000001.seg", other.contents("wal_0000000001.seg").expect("a segment"));
    check(
        &storage,
        expect![[r#"
        wal_0000000001 v2 frames 1-4 events 1-5 bytes 4296/8192
        wal_0000000002 v2 frames 5-0 events 6-0 bytes 4096/8192
          wal_0000000002.seg at 4096, frame 5, sequences 6-None: the frame does not continue the one before it
        wal_0000000003 v2 frames 9-12 events 11-15 bytes 4464/8192 open
    "#]],
    );
}

#[test]
fn it_works_beside_a_writer() {
    let dir = tempfile::tempdir().expect("a directory");
    let small = Options { segment_bytes: 16 << 10, spare_segments: 1, ..options(1) };
    let small = Options { durability: Durability::Os, ..small };
    let (mut log, _) = Log::open(RealStorage::new(dir.path()).expect("a directory"), small).expect("new");
    log.roll(b"opening").expect("rolls");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..4000 {
                let body = body(number, 300);
                if log.needs_roll(body.len()) {
                    log.roll(b"opening").expect("rolls");
                    log.delete_before(log.next_frame().saturating_sub(200)).expect("deletes");
                }
                log.append(1, &body).expect("appends");
            }
            done.store(true, Ordering::Relaxed);
        });
        let storage = RealStorage::read_only(dir.path()).expect("a directory");
        while !done.load(Ordering::Relaxed) {
            // It may lose the race against deletions, and says so; it must not call that damage.
            if let Ok(found) = inspect(&storage) {
                assert_eq!(found.damage(), None);
            }
        }
    });
    // Segments are removed on a thread of the log's own.
    drop(log);
    let found = inspect(&RealStorage::read_only(dir.path()).expect("a directory")).expect("nobody writes any more");
    assert_eq!(found.segments.last().and_then(tally_wal::SegmentState::last_sequence), Some(4000));
}

#[test]
fn damage_counts_when_it_is_there_at_a_second_look_and_a_whole_log_is_looked_at_once() {
    let looks = |storage: &MemStorage| {
        let before = storage.operations();
        let inspection = inspect(storage).expect("readable");
        (inspection.damage().is_some(), storage.operations() - before)
    };
    let storage = small_log();
    let (damaged, once) = looks(&storage);
    assert!(!damaged && once > 0);
    flip(&storage, "wal_0000000002.seg", 4200 + 50);
    assert_eq!(looks(&storage), (true, 2 * once));
}
