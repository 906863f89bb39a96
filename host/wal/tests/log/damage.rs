//! Damage to bytes at rest: refused with a message that says where, or harmless.

use expect_test::{Expect, expect};
use tally_testkit::{Kind, MemStorage, Random};
use tally_wal::{Frame, Log, OpenError, Options, ReadError, Reader};

use crate::script::{body, options, read_all};

/// Three segments with a few frames each.
fn small_log() -> (MemStorage, Vec<Frame>) {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), Options { salt: Some(5), ..options(0) }).expect("new");
    for segment in 0..3 {
        log.roll(&body(segment, 60)).expect("rolls");
        log.append(3, &body(100 + segment, 90)).expect("appends");
        log.append(0, b"").expect("appends");
        log.append(2, &body(200 + segment, 33)).expect("appends");
    }
    let frames = read_all(&mut log.reader());
    drop(log);
    (storage, frames)
}

fn read_until_error(storage: &MemStorage) -> Result<Vec<Frame>, String> {
    let mut reader = Reader::open_read_only(storage.clone()).map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    let mut frame = Frame::default();
    while reader.next(&mut frame).map_err(|error| error.to_string())? {
        frames.push(frame.clone());
    }
    Ok(frames)
}

fn flipped(storage: &MemStorage, name: &str, at: usize, with: u8) -> MemStorage {
    let copy = storage.duplicate();
    let mut bytes = copy.contents(name).expect("a segment");
    bytes[at] ^= with;
    copy.overwrite(name, bytes);
    copy
}

#[test]
fn every_flipped_byte_is_refused_or_harmless() {
    let (storage, frames) = small_log();
    let last = "wal_0000000003.seg";
    let (mut refused, mut harmless, mut torn) = (0, 0, 0);
    for name in ["wal_0000000001.seg", "wal_0000000002.seg", last] {
        for at in 0..storage.contents(name).expect("a segment").len() {
            for with in [1 << (at % 8), 0xff] {
                let damaged = flipped(&storage, name, at, with);
                let read = read_until_error(&damaged);
                let before = segments_of(&damaged);
                let opened = Log::open(damaged.clone(), options(0));
                match (read, opened) {
                    (Ok(read), Ok((log, recovered))) => {
                        assert_eq!(read_all(&mut log.reader()), read);
                        if read == frames {
                            harmless += 1;
                            continue;
                        }
                        // Only the very last frame can be taken for a torn one, and that is said.
                        assert_eq!((name, &read[..]), (last, &frames[..frames.len() - 1]), "byte {at}");
                        assert!(recovered.torn_bytes > 0);
                        torn += 1;
                    }
                    (Err(message), opened) => {
                        assert!(message.contains(name) || message.contains("version"), "{message}");
                        if opened.is_err() {
                            assert_eq!(segments_of(&damaged), before, "a refused log is left as it was");
                        }
                        refused += 1;
                    }
                    (Ok(_), Err(error)) => panic!("{name} byte {at}: {error}"),
                }
            }
        }
    }
    // Header blocks alone are 3 * 4096 bytes, all of them checked; the last frame is 80 bytes.
    assert!(refused >= 2 * 3 * 4096 && harmless > 1000, "{refused} {harmless}");
    assert!((100..=160).contains(&torn), "{torn}");
}

fn segments_of(storage: &MemStorage) -> Vec<(String, Option<Vec<u8>>)> {
    let files = storage.names().into_iter().map(|name| (name.clone(), storage.contents(&name)));
    files.collect()
}

fn check_refused(damaged: &MemStorage, expected: Expect) {
    let message = match Log::open(damaged.clone(), options(0)) {
        Err(error) => error.to_string(),
        Ok((log, _)) => {
            let mut reader = log.reader();
            let mut frame = Frame::default();
            loop {
                match reader.next(&mut frame) {
                    Ok(true) => {}
                    Ok(false) => panic!("nothing was refused"),
                    Err(error) => break error.to_string(),
                }
            }
        }
    };
    expected.assert_eq(&message);
}

#[test]
fn messages_say_where_and_what_to_do() {
    let (storage, _) = small_log();
    let name = "wal_0000000003.seg";
    check_refused(
        &flipped(&storage, name, 4096 + 50, 1),
        expect![
            "the log is corrupt: wal_0000000003.seg at byte 4096, frame 9, no events, before sequence 11: the checksum of the frame differs, and a later frame stands at byte 4200. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
    check_refused(
        &flipped(&storage, name, 4200 + 50, 1),
        expect![
            "the log is corrupt: wal_0000000003.seg at byte 4200, frame 10, sequences 11 to 13: the checksum of the frame differs, and a later frame stands at byte 4336. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
    // In a sealed segment opening finds only the header; reading finds the rest.
    check_refused(
        &flipped(&storage, "wal_0000000001.seg", 4200 + 10, 1),
        expect![
            "the log is corrupt: wal_0000000001.seg at byte 4200, frame 2, sequences 1 to 3: the checksum of the frame's header differs. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
    check_refused(
        &flipped(&storage, "wal_0000000002.seg", 100, 1),
        expect![
            "the log is corrupt: wal_0000000002.seg at byte 0, its header, somewhere in sequences 1 to 10: the checksum of the segment's header differs. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
    check_refused(
        &flipped(&storage, "wal_0000000002.seg", 8, 1),
        expect![
            "wal_0000000002.seg has log format version 3, this program reads versions up to 2; use the program that wrote it"
        ],
    );
}

#[test]
fn a_segment_that_is_cut_short_or_overwritten_is_refused() {
    let (storage, _) = small_log();
    let name = "wal_0000000002.seg";
    let bytes = storage.contents(name).expect("a segment");
    for length in [0, 7, 8, 48, 4095] {
        let cut = storage.duplicate();
        cut.overwrite(name, bytes[..length].to_vec());
        check_refused(
            &cut,
            expect![
                "the log is corrupt: wal_0000000002.seg at byte 0, its header, somewhere in sequences 1 to 10: the file is too short for a segment. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
            ],
        );
    }
    let mut zeroed = bytes;
    zeroed[4200..4240].fill(0);
    storage.overwrite(name, zeroed);
    check_refused(
        &storage,
        expect![
            "the log is corrupt: wal_0000000002.seg at byte 4200, frame 6, sequences 6 to 8: there is no frame where one was. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let (storage, _) = small_log();
    let one = storage.contents("wal_0000000001.seg").expect("a segment");
    let two = storage.contents("wal_0000000002.seg").expect("a segment");

    let missing = MemStorage::new();
    missing.overwrite("wal_0000000001.seg", one.clone());
    missing.overwrite("wal_0000000003.seg", storage.contents("wal_0000000003.seg").expect("a segment"));
    check_refused(
        &missing,
        expect![
            "the log is corrupt: wal_0000000002.seg at byte 0, its header, somewhere in sequences 1 to 10: the segment is missing, though wal_0000000003.seg comes after it. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );

    let renamed = storage.duplicate();
    renamed.overwrite("wal_0000000002.seg", one);
    check_refused(
        &renamed,
        expect![
            "the log is corrupt: wal_0000000002.seg at byte 0, its header, somewhere in sequences 1 to 10: the file says that it is segment 1. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );

    // The same segment of another log: same numbers, other contents before it.
    let other = MemStorage::new();
    let (mut log, _) = Log::open(other.clone(), Options { salt: Some(6), ..options(0) }).expect("new");
    log.roll(b"another log").expect("rolls");
    log.append(5, b"5").expect("appends");
    log.append(0, b"").expect("appends");
    log.append(0, b"").expect("appends");
    log.roll(b"second").expect("rolls");
    drop(log);
    other.overwrite("wal_0000000002.seg", two);
    check_refused(
        &other,
        expect![
            "the log is corrupt: wal_0000000002.seg at byte 4096, frame 5, no events, before sequence 6: the frame does not continue the one before it. Nothing was changed; put the file back from a copy, or move the log's directory away to give up what is in it"
        ],
    );
}

/// The last segment of another log, in which it comes later and counts less, or comes earlier and counts more.
#[test]
fn a_last_segment_that_does_not_follow_is_refused() {
    for (frames, count) in [(5, 0), (1, 50)] {
        let other = MemStorage::new();
        let (mut log, _) = Log::open(other.clone(), options(0)).expect("new");
        for _ in 0..3 {
            log.roll(b"another log").expect("rolls");
            for _ in 0..frames {
                log.append(count, b"frame").expect("appends");
            }
        }
        drop(log);
        let (storage, _) = small_log();
        storage.overwrite("wal_0000000003.seg", other.contents("wal_0000000003.seg").expect("a segment"));
        for error in [
            Log::open(storage.clone(), options(0)).err().expect("refused"),
            Reader::open_read_only(storage.clone()).err().expect("refused"),
        ] {
            assert!(error.to_string().contains("the segment does not continue wal_0000000002.seg"), "{error}");
        }
    }
}

#[test]
fn a_torn_tail_is_copied_aside_and_cut() {
    let (storage, frames) = small_log();
    let name = "wal_0000000003.seg";
    let mut bytes = storage.contents(name).expect("a segment");
    let end = bytes.iter().rposition(|&byte| byte != 0).expect("frames") + 1;
    let end = end.next_multiple_of(8);
    bytes[end + 3..end + 40].fill(7);
    bytes[end + 3000] = 8;
    storage.overwrite(name, bytes.clone());

    let reader = Reader::open_read_only(storage.clone()).expect("opens");
    let torn = reader.torn_tail().expect("torn");
    assert_eq!((torn.offset, torn.bytes), (end as u64, 3001));
    assert_eq!(storage.contents(name).expect("a segment"), bytes, "reading cuts nothing");

    let (log, recovered) = Log::open(storage.clone(), options(0)).expect("opens");
    assert_eq!((recovered.torn_bytes, recovered.torn_file.as_deref()), (3001, Some("torn_00001.bin")));
    assert_eq!(storage.contents("torn_00001.bin").expect("a copy"), bytes[end..end + 3001]);
    assert_eq!(read_all(&mut log.reader()), frames);
    assert!(storage.contents(name).expect("a segment")[end..].iter().all(|&byte| byte == 0));
}

#[test]
fn only_the_newest_torn_tails_are_kept() {
    let (storage, _) = small_log();
    let name = "wal_0000000003.seg";
    for _ in 0..tally_wal::TORN_KEPT + 5 {
        let mut bytes = storage.contents(name).expect("a segment");
        bytes[8000] = 1;
        storage.overwrite(name, bytes);
        Log::open(storage.clone(), options(0)).expect("opens");
    }
    let torn: Vec<_> = storage.names().into_iter().filter(|name| name.starts_with("torn")).collect();
    assert_eq!(torn.len(), tally_wal::TORN_KEPT);
    assert_eq!((&torn[0][..], &torn[15][..]), ("torn_00006.bin", "torn_00021.bin"));
}

#[test]
fn a_reader_names_damage_that_appears_under_it() {
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("new");
    log.roll(b"opening").expect("rolls");
    log.append(4, &body(2, 500)).expect("appends");
    log.append(4, &body(3, 500)).expect("appends");
    let name = "wal_0000000001.seg";
    let mut bytes = storage.contents(name).expect("a segment");
    bytes[4096 + 56 + 100] ^= 1;
    storage.overwrite(name, bytes);

    let mut reader = log.reader();
    let mut frame = Frame::default();
    assert!(reader.next(&mut frame).expect("the opening is whole"));
    for _ in 0..2 {
        let Err(ReadError::Corrupt(corruption)) = reader.next(&mut frame) else { panic!("damaged") };
        assert_eq!((corruption.frame, corruption.first_sequence, corruption.last_sequence), (2, 1, Some(4)));
        assert_eq!(reader.position(), 2, "an error moves nothing");
    }
}

#[test]
fn unknown_versions_and_options_out_of_range_are_refused() {
    for bad in [
        Options { segment_bytes: 8000, ..options(0) },
        Options { segment_bytes: 10_001, ..options(0) },
        Options { max_frame_bytes: 0, ..options(0) },
        Options { max_frame_bytes: (1 << 31) + 1, ..options(0) },
    ] {
        assert!(matches!(Log::open(MemStorage::new(), bad), Err(OpenError::Option { .. })));
    }
    for good in [8192, 10_000] {
        let widest = Options { segment_bytes: good, max_frame_bytes: 1 << 31, ..options(0) };
        Log::open(MemStorage::new(), widest).expect("at the limits");
    }
    let (storage, _) = small_log();
    let newer = flipped(&storage, "wal_0000000003.seg", 9, 1);
    assert!(matches!(Log::open(newer, options(0)), Err(OpenError::UnknownVersion { version: 258, known: 2, .. })));
}

/// A write that a power loss interrupts: every byte prefix of the last frame, then any of its sectors without the others, the rest zeros,
/// garbage or torn. What was before it is there, and it is there only as a whole.
#[test]
fn the_last_frame_is_there_as_a_whole_or_not_at_all() {
    const SECTOR: usize = 512;
    let storage = MemStorage::new();
    let (mut log, _) = Log::open(storage.clone(), Options { salt: Some(5), ..options(0) }).expect("new");
    log.roll(&body(1, 60)).expect("rolls");
    log.append(3, &body(2, 90)).expect("appends");
    let name = "wal_0000000001.seg";
    let before = storage.contents(name).expect("a segment");
    log.append(2, &body(3, 1500)).expect("appends");
    let frames = read_all(&mut log.reader());
    drop(log);
    let whole = storage.contents(name).expect("a segment");
    let start = (0..whole.len()).find(|&at| before.get(at) != Some(&whole[at])).expect("a frame was written");
    let end = whole.iter().rposition(|&byte| byte != 0).expect("not empty") + 1;
    let check = |bytes: Vec<u8>, what: &str| {
        let is_whole = bytes[start..end] == whole[start..end];
        let copy = storage.duplicate();
        copy.overwrite(name, bytes);
        let (mut log, _) = Log::open(copy, options(0)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = if is_whole { &frames[..] } else { &frames[..frames.len() - 1] };
        assert_eq!(read_all(&mut log.reader()), expected, "{what}");
        log.append(1, b"goes on").unwrap_or_else(|error| panic!("{what}: {error}"));
        is_whole
    };
    for length in 0..=end - start {
        let mut bytes = whole.clone();
        bytes[start + length..end].fill(0);
        assert_eq!(check(bytes, &format!("the first {length} bytes")), length == end - start);
    }
    let (first, last) = (start / SECTOR, (end - 1) / SECTOR);
    let mut wholes = 0;
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let mut bytes = whole.clone();
        for sector in first..=last {
            let range = (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(end);
            let kept = random.below(range.len() as u64 + 1) as usize;
            match random.below(6) {
                0 => bytes[range].fill(0),
                1 => bytes[range].iter_mut().for_each(|byte| *byte = random.number() as u8),
                2 => bytes[range][kept..].fill(0),
                _ => {}
            }
        }
        wholes += u64::from(check(bytes, &format!("seed {seed}")));
    }
    assert!((10..3000).contains(&wholes), "{wholes}");
}

#[test]
fn who_only_reads_looks_five_times_before_it_calls_a_log_damaged() {
    let (storage, _) = small_log();
    let damaged = flipped(&storage, "wal_0000000003.seg", 4096 + 50, 1);
    Log::open(damaged.clone(), options(0)).err().expect("damaged");
    // Its lock, and one look.
    let once = damaged.operations() - 1;
    Reader::open_read_only(damaged.clone()).err().expect("damaged");
    assert_eq!(damaged.operations() - 1 - once, 5 * once);
}

#[test]
fn a_new_spare_has_a_name_that_none_had_before() {
    let (storage, _) = small_log();
    storage.overwrite("spare_0000000007.tmp", b"worthless".to_vec());
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("opens");
    storage.trace(true);
    log.roll(b"opening").expect("rolls");
    let trace = storage.take_trace();
    let created: Vec<_> = trace.iter().filter(|operation| operation.kind == Kind::Create).collect();
    assert_eq!((created.len(), &created[0].name[..]), (1, "spare_0000000008.tmp"));
}

#[test]
fn what_is_torn_is_found_before_many_zeros_too() {
    let storage = MemStorage::new();
    // Of a random salt's checksums some end in a zero, which is not counted as torn.
    let long = Options { segment_bytes: 64 << 10, salt: Some(7), ..options(0) };
    let (mut log, _) = Log::open(storage.clone(), long.clone()).expect("new");
    log.roll(b"").expect("rolls");
    log.append(1, b"whole").expect("appends");
    log.append(1, b"torn").expect("appends");
    drop(log);
    let name = "wal_0000000001.seg";
    // Behind the block, an opening of 48 bytes and a frame of 56: the last one's body.
    let torn = flipped(&storage, name, 4200 + 40, 1);
    let (_log, recovered) = Log::open(torn, long.clone()).expect("a torn tail is cut");
    assert_eq!((recovered.torn_bytes, recovered.torn_events), (48, 1));
    let corrupt = flipped(&storage, name, 4144 + 40, 1);
    assert!(matches!(Log::open(corrupt, long), Err(OpenError::Corrupt(_))));
}
