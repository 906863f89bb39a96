//! Repairing: what is kept, what is put aside, and that nothing is lost on the way.

use std::ops::Range;

use expect_test::{Expect, expect};
use tally_storage::{RealStorage, Storage};
use tally_testkit::{Fault, Kind, MemStorage, Reached};
use tally_wal::{Keep, Log, OpenError, Options, Reader, Repair, RepairError, inspect, repair};

use crate::inspect::{flip, small_log, without};
use crate::script::{options, read_all};

const FIRST: &str = "wal_0000000001.seg";
const SECOND: &str = "wal_0000000002.seg";
const THIRD: &str = "wal_0000000003.seg";

type Files = Vec<(String, Vec<u8>)>;

fn segments(storage: &MemStorage) -> Files {
    let names = storage.names().into_iter().filter(|name| name.ends_with(".seg"));
    names.map(|name| (name.clone(), storage.contents(&name).expect("a file"))).collect()
}

/// Every byte of these files is somewhere: as it was, or as a copy in a quarantine.
fn assert_nothing_lost(before: &Files, storage: &MemStorage) {
    let now = segments(storage);
    for (name, bytes) in before {
        let kept = now.iter().any(|(now, found)| (now == name || now.ends_with(&format!("/{name}"))) && found == bytes);
        assert!(kept, "{name} is not whole anywhere");
    }
}

fn applied(storage: &MemStorage, keep: Keep) -> Repair {
    let before = segments(storage);
    let said = repair(storage, keep, false).expect("readable").expect("damaged");
    assert_eq!(segments(storage), before, "a dry run changes nothing");
    let done = repair(storage, keep, true).expect("repairs").expect("damaged");
    assert_eq!(done, Repair { applied: true, ..said });
    assert_nothing_lost(&before, storage);
    assert_eq!(inspect(storage).expect("readable").damage(), None);
    assert_eq!(repair(storage, keep, true).expect("readable"), None, "once is enough");
    done
}

fn check(storage: &MemStorage, keep: Keep, expected: Expect) {
    let whole = read_all(&mut Reader::open_read_only(small_log()).expect("whole"));
    let done = applied(storage, keep);
    let Repair { first_frame, last_frame, last_sequence, lost_frames, lost_events, .. } = &done;
    let cut = done.cut.as_ref().map(|cut| format!("{} at {} behind {} frames", cut.file, cut.offset, cut.frames));
    expected.assert_eq(&format!(
        "kept frames {first_frame}-{last_frame} up to sequence {last_sequence}, gave up {lost_frames} frames, {lost_events} events\n\
         cut {}, moved {} to {}\n",
        cut.as_deref().unwrap_or("nothing"),
        done.moved.join(" "),
        done.quarantine,
    ));
    // What is kept is a log like any other.
    let (mut log, recovered) = Log::open(storage.clone(), options(0)).expect("opens");
    assert_eq!((recovered.next_frame, recovered.next_sequence), (last_frame + 1, last_sequence + 1));
    assert_eq!(recovered.torn_bytes, 0);
    let kept = read_all(&mut log.reader());
    assert_eq!(kept[..], whole[first_frame.saturating_sub(1) as usize..*last_frame as usize]);
    log.roll(b"goes on").expect("rolls");
    log.append(1, b"as ever").expect("appends");
}

/// Interrupted between two of them, the log has no gap of this making.
#[test]
fn segments_are_moved_from_the_end_that_is_given_up() {
    for (keep, damaged, expected) in
        [(Keep::Before, FIRST, &[THIRD, SECOND, FIRST][..]), (Keep::After, SECOND, &[FIRST, SECOND])]
    {
        let storage = small_log();
        flip(&storage, damaged, 4096 + 60);
        storage.trace(true);
        repair(&storage, keep, true).expect("repairs").expect("damaged");
        let moves = storage.take_trace().into_iter().filter(|operation| operation.kind == Kind::Rename);
        let moved = moves.map(|operation| operation.name).filter(|name| name.ends_with(".seg")).collect::<Vec<_>>();
        assert_eq!(moved, expected, "{keep:?}");
    }
}

#[test]
fn a_cut_segment_keeps_its_length_and_has_zeros_to_its_end() {
    for segment_bytes in [8192, 300_000] {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), Options { segment_bytes, ..options(0) }).expect("new");
        log.roll(b"opening").expect("rolls");
        let frame = segment_bytes as usize / 16;
        while !log.needs_roll(frame) {
            log.append(1, &vec![0xEE; frame]).expect("appends");
        }
        drop(log);
        flip(&storage, FIRST, 4096 + 40 + 64 + 2 * frame);
        let done = applied(&storage, Keep::Before);
        let cut = done.cut.expect("its beginning is whole").offset as usize;
        let bytes = storage.contents(FIRST).expect("is there");
        assert_eq!(bytes.len() as u64, segment_bytes);
        assert!(bytes[..cut].contains(&0xEE) && bytes[cut..].iter().all(|&byte| byte == 0), "cut at {cut}");
    }
}

#[test]
fn a_file_of_no_bytes_is_put_aside_like_any_other() {
    let storage = small_log();
    storage.overwrite(THIRD, Vec::new());
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 1-8 up to sequence 10, gave up 0 frames, 0 events
        cut nothing, moved wal_0000000003.seg to quarantine-1
    "#]],
    );
    let storage = small_log();
    storage.overwrite(FIRST, Vec::new());
    check(
        &storage,
        Keep::After,
        expect![[r#"
        kept frames 5-12 up to sequence 15, gave up 4 frames, 5 events
        cut nothing, moved wal_0000000001.seg to quarantine-1
    "#]],
    );
}

#[test]
fn a_log_is_cut_at_its_first_damage() {
    // In the middle of a segment in the middle; a later one is damaged too.
    let storage = small_log();
    flip(&storage, SECOND, 4340);
    flip(&storage, THIRD, 4100);
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 1-6 up to sequence 8, gave up 6 frames, 7 events
        cut wal_0000000002.seg at 4336 behind 2 frames, moved wal_0000000003.seg to quarantine-1
    "#]],
    );
    // In the last segment.
    let storage = small_log();
    flip(&storage, THIRD, 4210);
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 1-9 up to sequence 10, gave up 3 frames, 5 events
        cut wal_0000000003.seg at 4200 behind 1 frames, moved  to quarantine-1
    "#]],
    );
    // A header, and an opening: nothing of that segment is kept.
    let storage = small_log();
    flip(&storage, SECOND, 100);
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 1-4 up to sequence 5, gave up 8 frames, 10 events
        cut nothing, moved wal_0000000002.seg wal_0000000003.seg to quarantine-1
    "#]],
    );
    let storage = small_log();
    flip(&storage, SECOND, 4100);
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 1-4 up to sequence 5, gave up 8 frames, 10 events
        cut nothing, moved wal_0000000002.seg wal_0000000003.seg to quarantine-1
    "#]],
    );
    // The first one: nothing at all is kept.
    let storage = small_log();
    flip(&storage, FIRST, 100);
    check(
        &storage,
        Keep::Before,
        expect![[r#"
        kept frames 0-0 up to sequence 0, gave up 12 frames, 15 events
        cut nothing, moved wal_0000000001.seg wal_0000000002.seg wal_0000000003.seg to quarantine-1
    "#]],
    );
    // One that is gone.
    check(
        &without(&small_log(), SECOND),
        Keep::Before,
        expect![[r#"
        kept frames 1-4 up to sequence 5, gave up 8 frames, 10 events
        cut nothing, moved wal_0000000003.seg to quarantine-1
    "#]],
    );
}

#[test]
fn a_second_repair_gets_a_quarantine_of_its_own() {
    let storage = small_log();
    flip(&storage, THIRD, 4210);
    assert_eq!(applied(&storage, Keep::Before).quarantine, "quarantine-1");
    flip(&storage, SECOND, 4210);
    assert_eq!(applied(&storage, Keep::Before).quarantine, "quarantine-2");
    assert_eq!(storage.list().expect("lists"), ["quarantine-1", "quarantine-2", FIRST, SECOND]);
}

#[test]
fn there_is_nothing_to_repair_in_a_log_that_opens() {
    assert_eq!(repair(&MemStorage::new(), Keep::Before, true).expect("readable"), None);
    let storage = small_log();
    assert_eq!(repair(&storage, Keep::Before, true).expect("readable"), None);
    // The end that a crash left is the next start's to cut.
    flip(&storage, THIRD, 4390);
    let before = segments(&storage);
    assert_eq!(repair(&storage, Keep::Before, true).expect("readable"), None);
    assert_eq!(segments(&storage), before);
}

#[test]
fn it_keeps_off_a_log_that_is_open_or_newer() {
    let storage = small_log();
    let (log, _) = Log::open(storage.clone(), options(0)).expect("opens");
    flip(&storage, FIRST, 4210);
    assert!(matches!(repair(&storage, Keep::Before, true), Err(RepairError::Open(OpenError::Locked { .. }))));
    assert!(repair(&storage, Keep::Before, false).expect("asking takes no lock").is_some());
    drop(log);
    flip(&storage, THIRD, 8);
    for apply in [false, true] {
        let refused = repair(&storage, Keep::Before, apply);
        assert!(matches!(refused, Err(RepairError::Open(OpenError::UnknownVersion { version: 3, .. }))));
    }
}

#[test]
fn what_comes_after_the_damage_can_be_kept_instead() {
    let storage = small_log();
    flip(&storage, FIRST, 4340);
    flip(&storage, SECOND, 100);
    check(
        &storage,
        Keep::After,
        expect![[r#"
        kept frames 9-12 up to sequence 15, gave up 8 frames, 10 events
        cut nothing, moved wal_0000000001.seg wal_0000000002.seg to quarantine-1
    "#]],
    );
    check(
        &without(&small_log(), SECOND),
        Keep::After,
        expect![[r#"
        kept frames 9-12 up to sequence 15, gave up 8 frames, 10 events
        cut nothing, moved wal_0000000001.seg to quarantine-1
    "#]],
    );
    // Nothing is behind the damage: nothing is kept.
    let storage = small_log();
    flip(&storage, THIRD, 4210);
    check(
        &storage,
        Keep::After,
        expect![[r#"
        kept frames 0-0 up to sequence 0, gave up 12 frames, 15 events
        cut nothing, moved wal_0000000001.seg wal_0000000002.seg wal_0000000003.seg to quarantine-1
    "#]],
    );
}

#[test]
fn a_failure_or_power_loss_at_any_operation_loses_no_byte() {
    for (keep, frames) in [(Keep::Before, 1..3), (Keep::After, 5..13)] {
        fail_at_any_operation(keep, frames);
    }
}

fn fail_at_any_operation(keep: Keep, frames: Range<u64>) {
    let damaged = || {
        let storage = small_log();
        flip(&storage, FIRST, 4340);
        storage
    };
    let whole = damaged();
    repair(&whole, keep, true).expect("repairs");
    let (mut interrupted, mut reached) = (0, Reached::default());
    for fault in [Fault::Broken, Fault::NoSpace, Fault::ShortWrite, Fault::PowerLoss] {
        for operation in 1..=whole.operations() {
            for seed in 0..6 {
                let mut storage = damaged();
                let before = segments(&storage);
                storage.inject(operation, fault);
                interrupted += u64::from(repair(&storage, keep, true).is_err());
                // The power may fail after any other failure too.
                if fault == Fault::PowerLoss || seed > 0 {
                    storage = storage.crash(seed * 31 + operation);
                }
                storage.restart();
                reached.add(&storage.reached());
                assert_nothing_lost(&before, &storage);
                // The same call goes on from there.
                repair(&storage, keep, true).expect("repairs");
                assert_nothing_lost(&before, &storage);
                let (log, recovered) = Log::open(storage.clone(), options(0)).expect("opens");
                // Where half of the cut was made, what is left may look like the end that a crash leaves.
                assert_eq!(recovered.first_frame..recovered.next_frame, frames, "{fault:?} at {operation}");
                assert_eq!(read_all(&mut log.reader()).len() as u64, frames.end - frames.start);
            }
        }
    }
    assert!(interrupted > 100 && reached.lost_names > 20, "{interrupted} {reached:?}");
}

#[test]
fn on_real_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let memory = small_log();
    for name in [FIRST, SECOND, THIRD] {
        std::fs::write(dir.path().join(name), memory.contents(name).expect("a file")).expect("writes");
    }
    let mut bytes = memory.contents(SECOND).expect("a file");
    bytes[4340] ^= 1;
    std::fs::write(dir.path().join(SECOND), &bytes).expect("writes");

    let said =
        repair(&RealStorage::read_only(dir.path()).expect("a directory"), Keep::Before, false).expect("readable");
    assert!(!dir.path().join("quarantine-1").exists());
    let storage = RealStorage::new(dir.path()).expect("a directory");
    let done = repair(&storage, Keep::Before, true).expect("repairs").expect("damaged");
    assert_eq!(Some(Repair { applied: false, ..done.clone() }), said);
    let aside = dir.path().join(&done.quarantine);
    assert_eq!(std::fs::read(aside.join(SECOND)).expect("a copy"), bytes);
    assert_eq!(std::fs::read(aside.join(THIRD)).expect("moved"), memory.contents(THIRD).expect("a file"));
    let (_, recovered) = Log::open(storage, options(0)).expect("opens");
    assert_eq!((recovered.next_frame, recovered.segments), (done.last_frame + 1, 2));
}
