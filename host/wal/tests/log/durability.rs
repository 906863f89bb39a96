//! Logs that do not sync every frame: what a crash may take, and how it is told from corruption.

use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use tally_testkit::{Fault, Kind, MemStorage, Reached};
use tally_wal::{AppendError, Durability, Frame, Log, Options, Reader};

use crate::script::{DURABILITIES, body, options, read_all};

const NAME: &str = "wal_0000000001.seg";

fn relaxed() -> Options {
    Options { durability: Durability::Interval(Duration::from_millis(100)), salt: Some(3), ..options(0) }
}

/// A log of one segment: an opening at 4096, then frames of 96 bytes with two events each. Synced after those that are named.
fn log_of(frames: u64, synced_after: &[u64]) -> MemStorage {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), relaxed()).expect("new");
    log.roll(&body(1, 50)).expect("rolls");
    for number in 2..=frames {
        assert_eq!(log.append(2, &body(number, 50)).expect("appends").frame, number);
        if synced_after.contains(&number) {
            log.sync().expect("syncs");
        }
    }
    storage.duplicate()
}

fn damage(storage: &MemStorage, frame: u64) {
    let mut bytes = storage.contents(NAME).expect("a segment");
    bytes[4096 + 96 * (frame as usize - 1) + 60] ^= 1;
    storage.overwrite(NAME, bytes);
}

#[test]
fn it_is_said_what_is_durable() {
    for durability in DURABILITIES {
        let every = durability == Durability::Fsync;
        let (mut log, _) = Log::open(MemStorage::new(), Options { durability, ..options(0) }).expect("new");
        assert_eq!((log.unsynced(), log.durable_frame()), (false, 0));
        log.sync().expect("there is nothing to sync");
        log.roll(b"opening").expect("rolls");
        assert_eq!((log.unsynced(), log.durable_frame()), (false, 1), "a segment appears with its opening durable");
        log.append(1, b"two").expect("appends");
        log.append(1, b"three").expect("appends");
        assert_eq!((log.unsynced(), log.durable_frame()), (!every, if every { 3 } else { 1 }));
        assert_eq!(read_all(&mut log.reader()).len(), 3, "readers do not wait for the sync");
        log.sync().expect("syncs");
        assert_eq!((log.unsynced(), log.durable_frame()), (false, 3));
        log.append(1, b"four").expect("appends");
        log.roll(b"second").expect("rolls, and syncs what it seals");
        assert_eq!((log.unsynced(), log.durable_frame()), (false, 5));
        log.append(1, b"six").expect("appends");
        log.delete_before(5).expect("deletes, and syncs what allowed it");
        assert_eq!((log.unsynced(), log.durable_frame()), (false, 6));
    }
}

#[test]
fn only_syncing_costs_syncs() {
    let operations = |durability| {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), Options { durability, ..options(0) }).expect("new");
        log.roll(b"opening").expect("rolls");
        let before = storage.operations();
        for _ in 0..10 {
            log.append(1, b"x").expect("appends");
        }
        let appended = storage.operations() - before;
        log.sync().expect("syncs");
        log.sync().expect("nothing is left to sync");
        (appended, storage.operations() - before - appended)
    };
    assert_eq!(DURABILITIES.map(operations), [(20, 0), (10, 1), (10, 1)]);
}

fn check_cut(storage: &MemStorage, kept: u64, events: u64) {
    let mut reader = Reader::open_read_only(storage.clone()).expect("an unsynced tail is no corruption");
    let seen = read_all(&mut reader);
    let tail = reader.torn_tail().expect("a tail").clone();
    let (log, recovered) = Log::open(storage.clone(), relaxed()).expect("an unsynced tail is no corruption");
    assert_eq!((recovered.next_frame, recovered.torn_events), (kept + 1, events));
    assert_eq!((tail.bytes, tail.events), (recovered.torn_bytes, events));
    assert_eq!(recovered.torn_bytes, storage.contents("torn_00001.bin").expect("a copy").len() as u64);
    assert_eq!((read_all(&mut log.reader()), log.unsynced()), (seen, false));
}

fn check_refused(storage: &MemStorage, expected: Expect) {
    let before = storage.contents(NAME);
    let Err(error) = Log::open(storage.clone(), relaxed()) else { panic!("damage was not seen") };
    expected.assert_eq(&error.to_string());
    assert_eq!(storage.contents(NAME), before, "a refused log is left as it was");
    Reader::open_read_only(storage.clone()).err().expect("reading refuses it too");
}

#[test]
fn a_hole_in_what_was_not_synced_is_cut_with_what_follows() {
    let storage = log_of(6, &[3]);
    damage(&storage, 5);
    check_cut(&storage, 4, 4);
    // The hole may be right behind what is known to be durable, and hold nothing.
    let storage = log_of(6, &[3]);
    let mut bytes = storage.contents(NAME).expect("a segment");
    bytes[4096 + 3 * 96..][..96].fill(0);
    storage.overwrite(NAME, bytes);
    check_cut(&storage, 3, 6);
}

#[test]
fn damage_before_what_a_later_frame_calls_durable_is_corruption() {
    let storage = log_of(6, &[3]);
    damage(&storage, 3);
    check_refused(
        &storage,
        expect![
            "the log is corrupt: wal_0000000001.seg at byte 4288, frame 3, sequences 3 to 4: the checksum of the frame differs, and a later frame stands at byte 4384. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
    // The frames of one interval say nothing of each other; the first one of the next does.
    let storage = log_of(8, &[6]);
    damage(&storage, 3);
    check_refused(
        &storage,
        expect![
            "the log is corrupt: wal_0000000001.seg at byte 4288, frame 3, sequences 3 to 4: the checksum of the frame differs, and a later frame stands at byte 4384; that at byte 4672 was written when this one was durable. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
}

#[test]
fn what_was_synced_last_is_known_to_be_durable_once_a_frame_follows() {
    // The documented limit: nothing in the file says yet that frames 2 to 6 were synced.
    let storage = log_of(6, &[6]);
    damage(&storage, 4);
    check_cut(&storage, 3, 6);
    // The empty frame that a daemon writes when it goes idle says it.
    let storage = log_of(7, &[6]);
    damage(&storage, 4);
    Log::open(storage, relaxed()).err().expect("corruption");
}

#[test]
fn a_sealed_segment_is_durable() {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), relaxed()).expect("new");
    log.roll(b"opening").expect("rolls");
    for number in 0..5 {
        log.append(1, &body(number, 700)).expect("appends");
    }
    log.roll(b"second").expect("rolls");
    let written = read_all(&mut log.reader());
    for seed in 0..50 {
        let (log, _) = Log::open(storage.crash(seed), relaxed()).expect("opens");
        assert_eq!(read_all(&mut log.reader()), written);
    }
}

#[test]
fn a_failed_sync_is_final_and_what_it_left_is_made_durable_by_the_next_start() {
    let mut cut = 0;
    for seed in 0..50 {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), relaxed()).expect("new");
        log.roll(b"opening").expect("rolls");
        for number in 0..4 {
            log.append(1, &body(number, 700)).expect("appends");
        }
        storage.inject(storage.operations() + 1, Fault::Broken);
        assert!(matches!(log.sync(), Err(AppendError::Io { doing: "sync", .. })));
        assert!(matches!(log.sync(), Err(AppendError::Poisoned { .. })));
        assert!(matches!(log.append(1, b"x"), Err(AppendError::Poisoned { .. })));
        assert_eq!((log.unsynced(), log.durable_frame()), (true, 1));
        drop(log);
        storage.restart();
        // The kernel still shows all of it, though pages were lost: all of it is written again.
        let (log, recovered) = Log::open(storage.clone(), relaxed()).expect("opens");
        assert_eq!((recovered.next_frame, log.durable_frame()), (6, 5));
        let after = storage.crash(seed);
        let (log, recovered) = Log::open(after, relaxed()).expect("opens");
        assert_eq!((recovered.next_frame, recovered.torn_bytes), (6, 0), "what a recovery reports is durable");
        cut += read_all(&mut log.reader()).len();
    }
    assert_eq!(cut, 50 * 5);
}

#[test]
fn every_flipped_byte_is_refused_harmless_or_after_what_is_known_to_be_durable() {
    // Frames 1 to 5 are called durable by frame 6.
    let storage = log_of(8, &[3, 5]);
    let frames = read_all(&mut Reader::open_read_only(storage.clone()).expect("opens"));
    let whole = storage.contents(NAME).expect("a segment");
    let (mut refused, mut harmless, mut cut) = (0, 0, 0);
    for at in 0..whole.len() {
        for with in [1 << (at % 8), 0xff] {
            let damaged = storage.duplicate();
            let mut bytes = whole.clone();
            bytes[at] ^= with;
            damaged.overwrite(NAME, bytes.clone());
            match Log::open(damaged.clone(), relaxed()) {
                Err(_) => {
                    assert_eq!(damaged.contents(NAME), Some(bytes));
                    refused += 1;
                }
                Ok((log, recovered)) => {
                    let read = read_all(&mut log.reader());
                    assert_eq!(read[..], frames[..read.len()], "byte {at}");
                    if read.len() == frames.len() {
                        harmless += 1;
                    } else {
                        assert!(read.len() >= 5 && recovered.torn_bytes > 0, "byte {at}: {recovered:?}");
                        cut += 1;
                    }
                }
            }
        }
    }
    // The header block and five frames; three frames, of which a few bytes are padding.
    assert!(refused >= 2 * (4096 + 5 * 90) && cut >= 2 * 3 * 90 && harmless > 1000, "{refused} {cut} {harmless}");
}

/// One call in the life of a log that the power may leave at any time.
#[derive(Clone, Debug)]
enum Call {
    Append(usize),
    Sync,
    Roll,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let len = prop_oneof![4 => 0..120_usize, 2 => 300..900_usize, 1 => 1500..3000_usize];
    let call = prop_oneof![12 => len.prop_map(Call::Append), 2 => Just(Call::Sync), 1 => Just(Call::Roll)];
    prop::collection::vec(call, 1..40)
}

/// Appends, and returns how many frames are durable after the last call.
fn live(storage: &MemStorage, options: &Options, calls: &[Call], frames: &mut Vec<Frame>) -> u64 {
    let (mut log, _) = Log::open(storage.clone(), options.clone()).expect("opens");
    let mut durable = log.next_frame() - 1;
    for call in calls {
        let mut wrote = |log: &Log<MemStorage>, count, opening, body: &[u8]| {
            let (number, first_sequence) = (log.next_frame(), log.next_sequence());
            frames.push(Frame { number, first_sequence, count, opening, body: body.to_vec() });
        };
        let (Call::Append(len), next) = (call, log.next_frame()) else {
            if matches!(call, Call::Sync) {
                log.sync().expect("syncs");
            } else {
                wrote(&log, 0, true, b"opening");
                log.roll(b"opening").expect("rolls");
            }
            durable = log.next_frame() - 1;
            continue;
        };
        let body = body(next, *len);
        if log.needs_roll(body.len()) {
            wrote(&log, 0, true, b"opening");
            durable = log.roll(b"opening").expect("rolls").frame;
        }
        wrote(&log, 2, false, &body);
        let frame = log.append(2, &body).expect("appends").frame;
        if options.durability == Durability::Fsync {
            durable = frame;
        }
    }
    durable
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What comes back after a crash is a prefix of what was appended, with everything up to the last sync; so it is after a crash
    /// in the middle of that recovery, and life after life.
    #[test]
    fn a_crash_leaves_a_prefix_with_all_that_was_synced(
        lives in prop::collection::vec((calls(), any::<u64>(), 1..30_u64), 1..4),
        durability in prop::sample::select(&DURABILITIES[..]),
    ) {
        let options = Options { durability, ..options(0) };
        let mut storage = MemStorage::new();
        let mut frames = Vec::new();
        for (calls, seed, second_crash) in lives {
            let durable = live(&storage, &options, &calls, &mut frames);
            let after = storage.crash(seed);
            // The recovery meets a crash of its own, if it lasts that long.
            after.inject(second_crash, Fault::PowerLoss);
            let first = Log::open(after.clone(), options.clone()).map(|(_, recovered)| recovered);
            let again = after.crash(seed ^ 1);
            let (log, recovered) = Log::open(again.clone(), options.clone()).expect("a crash is no corruption");
            if let Ok(first) = first {
                prop_assert_eq!((first.next_frame, first.next_sequence), (recovered.next_frame, recovered.next_sequence));
                prop_assert_eq!(recovered.torn_bytes, 0);
            }
            let read = read_all(&mut log.reader());
            prop_assert!(read.len() as u64 >= durable, "{} frames of {durable} that were durable", read.len());
            prop_assert!(read.len() <= frames.len());
            prop_assert_eq!(&read[..], &frames[..read.len()]);
            frames.truncate(read.len());
            drop(log);
            storage = again;
            storage.restart();
        }
    }
}

#[test]
fn crashes_make_holes_and_the_holes_are_cut() {
    let mut reached = Reached::default();
    let (mut holes, mut kept) = (0, 0);
    for seed in 0..400 {
        let storage = MemStorage::new();
        let options = Options { durability: Durability::Os, ..options(0) };
        let mut frames = Vec::new();
        let mut calls = vec![Call::Append(100); 12];
        calls.insert(4, Call::Sync);
        let durable = live(&storage, &options, &calls, &mut frames);
        assert_eq!(durable, 5);
        let after = storage.crash(seed);
        reached.add(&after.reached());
        let (_, recovered) = Log::open(after, options).expect("a crash is no corruption");
        // More than the frame it stopped at: a later one was there without it.
        holes += u64::from(recovered.torn_events > 2);
        kept += recovered.next_frame - 1 - durable;
    }
    assert!(holes > 20 && kept > 100, "{holes} holes, {kept} frames kept");
    assert!(reached.lost_sectors > 100 && reached.torn_sectors > 100, "{reached:?}");
    assert!(reached.zeroed_sectors > 60 && reached.garbage_sectors > 60, "{reached:?}");
}

/// What opening the log writes and syncs, in order: `write` with where and how much, or `sync`, and the file.
fn opening_does(storage: &MemStorage) -> Vec<String> {
    storage.trace(true);
    Log::open(storage.clone(), options(0)).expect("opens");
    let shown = storage.take_trace().into_iter().filter_map(|operation| match operation.kind {
        Kind::Write => Some(format!("write {}+{} {}", operation.offset, operation.bytes, operation.name)),
        Kind::SyncAll | Kind::SyncData => Some(format!("sync {}", operation.name)),
        _ => None,
    });
    shown.collect()
}

#[test]
fn opening_writes_again_what_may_not_be_durable_and_syncs_everything() {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("new");
    log.roll(b"").expect("rolls");
    log.append(1, b"first").expect("appends");
    log.append(1, b"second").expect("appends");
    drop(log);
    // With every frame synced that is the last one: behind the block, an opening of 48 bytes and a frame of 56.
    assert_eq!(opening_does(&storage), ["write 4200+56 wal_0000000001.seg", "sync wal_0000000001.seg"]);

    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("opens");
    log.roll(b"").expect("rolls");
    drop(log);
    // An opening goes with its block.
    let expected = ["write 0+4144 wal_0000000002.seg", "sync wal_0000000002.seg", "sync wal_0000000001.seg"];
    assert_eq!(opening_does(&storage), expected);
}
