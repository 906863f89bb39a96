//! The bytes on the disk: a committed file of version 1 is written the same today, and read.

use std::path::PathBuf;

use tally_testkit::MemStorage;
use tally_wal::{Log, Options, Reader};

use crate::script::{options, read_all};

const NAME: &str = "wal_0000000001.seg";

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/wal_v1.seg")
}

fn write() -> Vec<u8> {
    let storage = MemStorage::new();
    let (mut log, _) =
        Log::open(storage.clone(), Options { salt: Some(0x1122_3344_5566_7788), ..options(0) }).expect("new");
    log.roll(b"opening").expect("rolls");
    log.append(2, b"{\"type\":\"a\"}\n{\"type\":\"b\"}\n").expect("appends");
    log.append(0, b"").expect("appends");
    log.append(1, b"{\"type\":\"c\"}\n").expect("appends");
    storage.contents(NAME).expect("a segment")
}

#[test]
fn version_1_is_written_as_ever() {
    let bytes = write();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(golden(), &bytes).expect("writes the golden file");
    }
    let expected = std::fs::read(golden()).expect("the golden file");
    let differs = expected.iter().zip(&bytes).position(|(a, b)| a != b);
    assert_eq!((differs, bytes.len()), (None, expected.len()), "format changed: it needs a new version");
}

#[test]
fn version_1_is_read() {
    let storage = MemStorage::new();
    storage.overwrite(NAME, std::fs::read(golden()).expect("the golden file"));
    let mut reader = Reader::open_read_only(storage).expect("opens");
    let frames: Vec<_> = read_all(&mut reader)
        .into_iter()
        .map(|frame| {
            (
                frame.number,
                frame.first_sequence,
                frame.count,
                frame.opening,
                String::from_utf8(frame.body).expect("text"),
            )
        })
        .collect();
    let expected = [
        (1, 1, 0, true, "opening"),
        (2, 1, 2, false, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n"),
        (3, 3, 0, false, ""),
        (4, 3, 1, false, "{\"type\":\"c\"}\n"),
    ];
    assert_eq!(
        frames,
        expected.map(|(number, sequence, count, opening, body)| (number, sequence, count, opening, body.to_owned()))
    );
}
