//! What a log does when nothing goes wrong.

use tally_storage::{Storage, StorageFile};
use tally_testkit::{Fault, Kind, MemStorage};
use tally_wal::{AppendError, Frame, Log, OpenError, Options, ReadError, Reader};

use crate::script::{body, options, read_all};

/// A log of `segments` segments with two frames after each opening.
fn log_of(segments: u64) -> (MemStorage, Log<MemStorage>) {
    let storage = MemStorage::new();
    let (mut log, recovered) = Log::open(storage.clone(), options(0)).expect("new");
    assert_eq!((recovered.first_frame, recovered.next_frame, recovered.next_sequence), (1, 1, 1));
    assert_eq!((recovered.last_opening, recovered.segments), (None, 0));
    for segment in 0..segments {
        log.roll(&body(segment, 20)).expect("rolls");
        log.append(10, &body(segment, 100)).expect("appends");
        log.append(5, &body(segment, 50)).expect("appends");
    }
    (storage, log)
}

#[test]
fn numbers_are_dense() {
    let (_, log) = log_of(3);
    let frames = read_all(&mut log.reader());
    let numbers: Vec<_> =
        frames.iter().map(|frame| (frame.number, frame.first_sequence, frame.count, frame.opening)).collect();
    assert_eq!(
        numbers,
        [
            (1, 1, 0, true),
            (2, 1, 10, false),
            (3, 11, 5, false),
            (4, 16, 0, true),
            (5, 16, 10, false),
            (6, 26, 5, false),
            (7, 31, 0, true),
            (8, 31, 10, false),
            (9, 41, 5, false),
        ]
    );
    assert_eq!((log.next_frame(), log.next_sequence()), (10, 46));
}

#[test]
fn readers_follow_the_writer() {
    let (_, mut log) = log_of(1);
    let mut reader = log.reader();
    assert_eq!(read_all(&mut reader).len(), 3);
    log.append(1, b"in the same segment").expect("appends");
    assert_eq!(read_all(&mut reader)[0].body, b"in the same segment");
    log.roll(b"next").expect("rolls");
    log.roll(b"and next").expect("rolls");
    log.append(1, b"there").expect("appends");
    let bodies: Vec<_> = read_all(&mut reader).into_iter().map(|frame| frame.body).collect();
    assert_eq!(bodies, [&b"next"[..], b"and next", b"there"]);
}

#[test]
fn seeking_reaches_every_frame() {
    let (_, log) = log_of(3);
    let all = read_all(&mut log.reader());
    let mut reader = log.reader();
    let mut frame = Frame::default();
    // Every pair of positions, in both directions.
    for first in 1..=10 {
        for second in 1..=10 {
            for target in [first, second] {
                reader.seek(target).expect("in the log");
                assert_eq!(reader.position(), target);
                let found = reader.next(&mut frame).expect("readable");
                assert_eq!(found, target < 10);
                if found {
                    assert_eq!(frame, all[target as usize - 1]);
                }
            }
        }
    }
    assert!(matches!(reader.seek(11), Err(ReadError::Beyond { frame: 11, next: 10 })));
}

#[test]
fn a_reader_knows_where_the_log_begins_and_ends() {
    let (_, mut log) = log_of(0);
    let reader = log.reader();
    assert_eq!((reader.first_frame(), reader.next_frame()), (1, 1));
    for _ in 0..3 {
        log.roll(b"opening").expect("rolls");
        log.append(1, b"event").expect("appends");
    }
    assert_eq!((reader.first_frame(), reader.next_frame()), (1, 7));
    log.delete_before(5).expect("deletes");
    assert_eq!((reader.first_frame(), reader.next_frame()), (5, 7));
}

#[test]
fn reading_asks_the_storage_no_more_than_it_must() {
    let (storage, mut log) = log_of(3);
    for _ in 0..20 {
        log.append(1, b"small").expect("appends");
    }
    let mut reader = log.reader();
    let mut frame = Frame::default();
    let mut asked = |reader: &mut Reader<MemStorage>, target: u64| {
        let before = storage.operations();
        reader.seek(target).expect("in the log");
        assert!(reader.next(&mut frame).expect("readable"));
        storage.operations() - before
    };
    let entered = asked(&mut reader, 1);
    assert_eq!(asked(&mut reader, 2), 0, "small frames are read many at a time, by who stands there already");
    assert_eq!(asked(&mut reader, 9), entered, "the segment between is not read");
    assert_eq!(asked(&mut reader, 20), 0, "within a segment a reader walks");
    assert_eq!(asked(&mut reader, 10), entered, "going back starts the segment over");
}

#[test]
fn every_segment_has_a_salt_of_its_own() {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("new");
    for _ in 0..3 {
        log.roll(b"the same").expect("rolls");
    }
    let mut salts: Vec<_> = storage
        .names()
        .iter()
        .filter(|name| name.ends_with(".seg"))
        .map(|name| storage.contents(name).expect("a segment")[24..32].to_vec())
        .collect();
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), 3);
}

#[test]
fn a_cloned_reader_goes_on_from_the_same_frame_by_itself() {
    let (_, log) = log_of(3);
    let mut reader = log.reader();
    let mut frame = Frame::default();
    for _ in 0..4 {
        assert!(reader.next(&mut frame).expect("readable"));
    }
    let mut other = reader.clone();
    assert_eq!(other.position(), 5);
    let rest = read_all(&mut other);
    assert_eq!((rest.len(), rest[0].number), (5, 5));
    assert_eq!(read_all(&mut reader), rest, "the first one did not move");
}

#[test]
fn a_reader_that_rests_lets_go_of_its_frame_and_goes_on_with_the_next() {
    let (_, log) = log_of(3);
    let frames = read_all(&mut log.reader());
    let mut reader = log.reader();
    for frame in &frames {
        assert!(reader.advance().expect("reads"));
        let seen = reader.current().expect("what it read");
        assert_eq!((seen.number, seen.first_sequence, seen.count), (frame.number, frame.first_sequence, frame.count));
        assert_eq!((seen.opening, seen.body), (frame.opening, &frame.body[..]));
        reader.rest();
        assert!(reader.current().is_none(), "the memory that it was in is given up");
    }
    assert!(!reader.advance().expect("the end"));
    assert!(reader.current().is_none());
}

#[test]
fn the_segment_of_a_frame_starts_with_its_opening() {
    let (_, log) = log_of(3);
    let mut reader = log.reader();
    let mut frame = Frame::default();
    for (target, opening) in [(1, 1), (3, 1), (4, 4), (6, 4), (9, 7), (10, 7)] {
        reader.seek_segment_of(target).expect("in the log");
        assert!(reader.next(&mut frame).expect("readable"));
        assert_eq!((frame.number, frame.opening), (opening, true));
    }
}

#[test]
fn an_empty_log_has_nothing_to_read_and_asks_for_a_roll() {
    let (_, mut log) = log_of(0);
    assert!(log.needs_roll(0));
    assert!(matches!(log.append(1, b"x"), Err(AppendError::NeedsRoll)));
    let mut reader = log.reader();
    reader.seek(1).expect("the first to come");
    assert!(read_all(&mut reader).is_empty());
    log.roll(b"opening").expect("rolls");
    assert_eq!(read_all(&mut reader).len(), 1);
}

#[test]
fn deleting_takes_whole_sealed_segments_from_the_front() {
    let (storage, mut log) = log_of(3);
    let mut reader = log.reader();
    let mut late = log.reader();
    let mut frame = Frame::default();
    late.next(&mut frame).expect("readable");

    assert!(log.delete_before(3).expect("deletes").is_empty());
    let deleted = log.delete_before(6).expect("deletes");
    assert_eq!((deleted.len(), &deleted[0].name[..]), (1, "wal_0000000001.seg"));
    assert!(deleted[0].sealed);
    assert!(!storage.names().contains(&"wal_0000000001.seg".to_owned()));
    assert_eq!(log.segments().iter().map(|segment| segment.first_frame).collect::<Vec<_>>(), [4, 7]);

    assert!(matches!(reader.seek(3), Err(ReadError::Gone { frame: 3, oldest: 4 })));
    reader.seek(4).expect("the oldest kept");
    assert_eq!(read_all(&mut reader).len(), 6);
    // This one stands in the middle of what was deleted: it may read on from what it holds, or say that it is gone.
    match late.next(&mut frame) {
        Ok(true) => assert_eq!(frame.number, 2),
        Ok(false) => panic!("there is more"),
        Err(error) => assert!(matches!(error, ReadError::Gone { frame: 2, oldest: 4 }), "{error}"),
    }

    log.delete_before(u64::MAX).expect("deletes");
    let left = log.segments();
    assert_eq!(log.size(), (left.len() as u64, left.iter().map(|segment| segment.bytes).sum()));
    assert_eq!((left.len(), left[0].first_frame, left[0].sealed), (1, 7, false));
}

#[test]
fn a_reader_at_the_end_survives_the_deletion_of_its_segment() {
    let (_, mut log) = log_of(1);
    let mut reader = log.reader();
    assert_eq!(read_all(&mut reader).len(), 3);
    log.roll(b"two").expect("rolls");
    log.roll(b"three").expect("rolls");
    log.delete_before(4).expect("deletes");
    assert_eq!(read_all(&mut reader).len(), 2);
}

#[test]
fn a_reader_goes_on_behind_two_segments_that_went_at_once() {
    let (_, mut log) = log_of(3);
    let mut reader = log.reader();
    let mut frame = Frame::default();
    for _ in 0..3 {
        assert!(reader.next(&mut frame).expect("readable"));
    }
    log.delete_before(7).expect("deletes");
    // It stands between the first segment and the second, both gone, and what it looks for is in the third.
    reader.seek(7).expect("there");
    assert_eq!(read_all(&mut reader)[0].number, 7);
}

#[test]
fn a_segment_that_somebody_else_took_away_is_gone_and_one_that_cannot_be_opened_is_not() {
    let (storage, log) = log_of(3);
    let mut reader = log.reader();
    let mut frame = Frame::default();
    storage.inject_on(Kind::Open, "wal_", 1, Fault::Broken);
    assert!(matches!(reader.next(&mut frame), Err(ReadError::Io { doing: "open", .. })));
    storage.remove("wal_0000000001.seg").expect("is there");
    assert!(matches!(reader.next(&mut frame), Err(ReadError::Gone { frame: 1, oldest: 2 })));
    reader.seek(5).expect("in the log");
    storage.remove("wal_0000000002.seg").expect("is there");
    assert!(matches!(reader.next(&mut frame), Err(ReadError::Gone { frame: 5, oldest: 6 })));
    reader.seek(7).expect("in the log");
    assert!(reader.next(&mut frame).expect("is there"));
}

/// A segment that was let go is filled with zeros for its next use, while a reader holds its file and has more of it to read.
#[test]
fn a_segment_that_is_used_anew_under_a_reader_is_gone_and_not_damaged() {
    let storage = MemStorage::new();
    // Far more than a reader reads at once.
    const LENGTH: usize = 8 << 20;
    let large = Options { segment_bytes: LENGTH as u64, ..options(0) };
    let (mut log, _) = Log::open(storage.clone(), large).expect("new");
    log.roll(b"opening").expect("rolls");
    for number in 0..8 {
        log.append(1, &body(number, 900_000)).expect("appends");
    }
    log.roll(b"opening").expect("rolls");
    let read = |reader: &mut Reader<MemStorage>| {
        let mut frame = Frame::default();
        loop {
            match reader.next(&mut frame) {
                Ok(more) => assert!(more && frame.number < 9, "frame {} is not there", frame.number),
                Err(error) => return (frame.number, error),
            }
        }
    };
    let (mut reader, mut outside) = (log.reader(), Reader::open_read_only(storage.clone()).expect("opens"));
    for reader in [&mut reader, &mut outside] {
        reader.next(&mut Frame::default()).expect("the opening");
    }
    let file = storage.open("wal_0000000001.seg").expect("is there");
    storage.rename("wal_0000000001.seg", "spare_0000000001.tmp").expect("is there");
    file.write_at(&vec![0; LENGTH - 4096], 4096).expect("fills");
    let (last, error) = read(&mut outside);
    assert!(matches!(error, ReadError::Gone { frame, oldest } if frame == last + 1 && oldest == last + 2), "{error}");
    storage.rename("spare_0000000001.tmp", "wal_0000000001.seg").expect("is there");
    let damaged = read(&mut log.reader()).1;
    assert!(matches!(damaged, ReadError::Corrupt(_)), "{damaged}");
    log.delete_before(10).expect("deletes");
    storage.overwrite("wal_0000000001.seg", Vec::new());
    let (last, error) = read(&mut reader);
    assert!(matches!(error, ReadError::Gone { frame, oldest: 10 } if frame == last + 1), "{error}");
}

#[test]
fn a_frame_larger_than_a_segment_waits_for_room() {
    let (storage, mut log) = log_of(1);
    let large = body(7, 50_000);
    log.roll(b"opening").expect("rolls");
    let used = storage.names().iter().filter_map(|name| storage.contents(name)).map(|bytes| bytes.len() as u64).sum();
    storage.set_capacity(Some(used));
    for _ in 0..2 {
        let error = log.append(9, &large).expect_err("there is no room");
        assert!(matches!(error, tally_wal::AppendError::DiskFull { .. }), "{error}");
    }
    storage.set_capacity(None);
    log.append(9, &large).expect("appends once there is");
    assert_eq!(read_all(&mut log.reader())[4].body, large);
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own() {
    let (storage, mut log) = log_of(1);
    let large = body(7, 50_000);
    assert!(log.needs_roll(large.len()));
    log.roll(b"opening").expect("rolls");
    assert!(!log.needs_roll(large.len()));
    log.append(9, &large).expect("appends");
    assert!(log.needs_roll(0));
    drop(log);
    let (log, _) = Log::open(storage, options(0)).expect("opens");
    assert_eq!(read_all(&mut log.reader())[4].body, large);
}

#[test]
fn a_segment_is_filled_to_its_last_byte() {
    let (_, mut log) = log_of(0);
    log.roll(b"").expect("rolls");
    log.append(1, b"").expect("appends");
    // A header block of 4096 bytes, two frames of 48, and 44 around the body.
    let rest = 8192 - 4096 - 2 * 48 - 44;
    assert!(log.needs_roll(rest + 1));
    assert!(matches!(log.append(1, &body(1, rest + 1)), Err(AppendError::NeedsRoll)));
    assert!(!log.needs_roll(rest));
    log.append(1, &body(1, rest)).expect("fits");
    assert_eq!(log.segments()[0].bytes, 8192);
    assert!(log.needs_roll(0));
}

#[test]
fn whatever_comes_next_fits_behind_an_opening_also_after_a_restart() {
    let (storage, mut log) = log_of(1);
    assert!(log.needs_roll(20_000));
    log.roll(b"").expect("rolls");
    assert!(!log.needs_roll(20_000));
    drop(log);
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("opens");
    assert!(!log.needs_roll(20_000));
    log.append(1, b"small").expect("appends");
    drop(log);
    let (log, _) = Log::open(storage, options(0)).expect("opens");
    assert!(log.needs_roll(20_000));
}

#[test]
fn a_body_over_the_limit_is_refused_and_harms_nothing() {
    let (_, mut log) = log_of(1);
    let limit = options(0).max_frame_bytes;
    let over = vec![1; limit + 1];
    assert!(matches!(log.append(1, &over), Err(AppendError::TooLarge { .. })));
    assert!(matches!(log.roll(&over), Err(AppendError::TooLarge { .. })));
    log.roll(b"").expect("rolls");
    log.append(1, &over[1..]).expect("exactly the limit");
}

#[test]
fn a_log_without_a_torn_tail_leaves_none() {
    for segments in [0, 1, 3] {
        let (storage, log) = log_of(segments);
        drop(log);
        let reader = Reader::open_read_only(storage.clone()).expect("whole");
        assert_eq!(reader.torn_tail(), None);
        let (_log, recovered) = Log::open(storage.clone(), options(0)).expect("whole");
        assert_eq!((recovered.torn_bytes, recovered.torn_file), (0, None));
        assert!(storage.names().iter().all(|name| !name.starts_with("torn_")));
    }
}

#[test]
fn a_log_has_one_writer() {
    let (storage, log) = log_of(1);
    assert!(matches!(Log::open(storage.clone(), options(0)), Err(OpenError::Locked { .. })));
    drop(log);
    Log::open(storage, options(0)).expect("free again");
}

#[test]
fn other_files_are_left_alone() {
    let (storage, log) = log_of(1);
    drop(log);
    let foreign = ["notes.txt", "wal_1.seg", "wal_00000000001.seg", "wal_0000000009.seg.bak", "spare_1.tmp"];
    for name in foreign {
        storage.overwrite(name, b"mine".to_vec());
    }
    storage.overwrite("spare_0000000004.tmp", b"worthless".to_vec());
    let (_log, recovered) = Log::open(storage.clone(), options(0)).expect("opens");
    assert_eq!(recovered.segments, 1);
    for name in foreign {
        assert_eq!(storage.contents(name).as_deref(), Some(&b"mine"[..]), "{name}");
    }
    assert_eq!(storage.contents("spare_0000000004.tmp"), None);
}
