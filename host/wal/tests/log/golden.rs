//! The bytes on the disk: a committed file of the newest version is written the same today, and those of all versions are read.

use std::path::PathBuf;

use tally_testkit::MemStorage;
use tally_wal::{AppendError, Durability, Log, Options, Reader};

use crate::script::{options, read_all};

const NAME: &str = "wal_0000000001.seg";

fn golden(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/wal_v{version}.seg"))
}

fn stored(version: u32) -> MemStorage {
    let storage = MemStorage::new();
    storage.overwrite(NAME, std::fs::read(golden(version)).expect("the golden file"));
    storage
}

fn write() -> Vec<u8> {
    let storage = MemStorage::new();
    let options = Options { salt: Some(0x1122_3344_5566_7788), durability: Durability::Os, ..options(0) };
    let (mut log, _) = Log::open(storage.clone(), options).expect("new");
    log.roll(b"opening").expect("rolls");
    log.append(2, b"{\"type\":\"a\"}\n{\"type\":\"b\"}\n").expect("appends");
    log.append(0, b"").expect("appends");
    log.append(1, b"{\"type\":\"c\"}\n").expect("appends");
    log.sync().expect("syncs");
    log.append(0, b"").expect("appends");
    storage.contents(NAME).expect("a segment")
}

#[test]
fn version_2_is_written_as_ever() {
    let bytes = write();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(golden(2), &bytes).expect("writes the golden file");
    }
    let expected = std::fs::read(golden(2)).expect("the golden file");
    let differs = expected.iter().zip(&bytes).position(|(a, b)| a != b);
    assert_eq!((differs, bytes.len()), (None, expected.len()), "format changed: it needs a new version");
}

#[test]
fn all_versions_are_read() {
    for version in [1, 2] {
        let mut reader = Reader::open_read_only(stored(version)).expect("opens");
        let frames: Vec<_> = read_all(&mut reader)
            .into_iter()
            .map(|frame| {
                let body = String::from_utf8(frame.body).expect("text");
                (frame.number, frame.first_sequence, frame.count, frame.opening, body)
            })
            .collect();
        let expected = [
            (1, 1, 0, true, "opening"),
            (2, 1, 2, false, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n"),
            (3, 3, 0, false, ""),
            (4, 3, 1, false, "{\"type\":\"c\"}\n"),
        ];
        let expected =
            expected.map(|(number, first, count, opening, body)| (number, first, count, opening, body.to_owned()));
        assert_eq!(frames[..4], expected, "version {version}");
        assert_eq!(frames.len(), if version == 1 { 4 } else { 5 });
    }
}

#[test]
fn a_segment_of_version_1_is_followed_by_one_of_version_2() {
    let storage = stored(1);
    for durability in [Durability::Fsync, Durability::Os] {
        let options = Options { durability, ..options(0) };
        let (mut log, recovered) = Log::open(storage.duplicate(), options).expect("opens");
        assert_eq!((recovered.next_frame, recovered.torn_bytes), (5, 0));
        assert!(log.needs_roll(0), "an old segment takes no frames of the new version");
        assert!(matches!(log.append(1, b"x"), Err(AppendError::NeedsRoll)));
        log.roll(b"second").expect("rolls");
        assert!(!log.needs_roll(0));
        log.append(1, b"new").expect("appends");
        let bodies: Vec<_> = read_all(&mut log.reader()).into_iter().map(|frame| frame.body).collect();
        assert_eq!(bodies[3..], [&b"{\"type\":\"c\"}\n"[..], b"second", b"new"]);
    }
}
