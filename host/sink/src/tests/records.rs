//! The analytics files: what is committed stays, what isn't goes, nothing else is touched.

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use tally_storage::RealStorage;
use tally_testkit::MemStorage;

use super::real;
use crate::{Position, RecordFiles, Recovered, Rotation, SinkError, read_records, read_records_until};

const WIDE: Rotation = Rotation { max_bytes: u64::MAX, max_batches: u64::MAX };

/// Record number `id`, padded to make its line this long.
fn record(id: u64, length: usize) -> String {
    let short = format!("{{\"batch_id\":{id},\"pad\":\"\"}}");
    let pad = "x".repeat((length - 1).saturating_sub(short.len()));
    format!("{{\"batch_id\":{id},\"pad\":\"{pad}\"}}")
}

/// The directory as `name: batch ids`, in byte order of the names; other content as its length.
fn listing(dir: &Path) -> String {
    let mut names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    names.sort();
    let line = |name: &std::ffi::OsString| {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let ids = text.lines().map(|line| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => value["batch_id"].to_string(),
            Err(_) => format!("({} bytes)", line.len()),
        });
        format!("{}: {}\n", name.display(), ids.collect::<Vec<_>>().join(" "))
    };
    names.iter().map(line).collect()
}

fn check(dir: &Path, expected: Expect) {
    expected.assert_eq(&listing(dir));
}

/// Appends records of 100 bytes and returns the last position.
fn append(files: &mut RecordFiles<RealStorage>, ids: std::ops::RangeInclusive<u64>) -> Position {
    let ends = ids.map(|id| files.append(record(id, 100).as_bytes()).unwrap());
    ends.last().expect("at least one record")
}

fn open_fails(dir: &Path, committed: Position) -> String {
    let before = listing(dir);
    let error = RecordFiles::open(real(dir), Some(committed), WIDE).expect_err("refused");
    assert_eq!(listing(dir), before, "a refused opening changed something");
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

#[test]
fn files_rotate_by_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, Rotation { max_batches: 3, ..WIDE }).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "no file before the first record");
    assert_eq!(append(&mut files, 1..=7), Position { file: 3, length: 100, batches: 1 });
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2 3
        analytics_00002.log: 4 5 6
        analytics_00003.log: 7
    "#]],
    );
}

#[test]
fn files_rotate_by_size_and_a_long_record_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, Rotation { max_bytes: 250, ..WIDE }).unwrap();
    for (id, length) in [(1, 100), (2, 150), (3, 100), (4, 151), (5, 900), (6, 50)] {
        files.append(record(id, length).as_bytes()).unwrap();
    }
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2
        analytics_00002.log: 3
        analytics_00003.log: 4
        analytics_00004.log: 5
        analytics_00005.log: 6
    "#]],
    );
}

#[test]
fn a_start_goes_on_where_it_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_batches: 3, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    let committed = append(&mut files, 1..=5);
    drop(files);
    let mut files = RecordFiles::open(real(dir.path()), Some(committed), rotation).unwrap();
    assert_eq!(files.recovered(), &Recovered::default());
    assert_eq!(files.position(), Some(committed));
    append(&mut files, 6..=7);
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2 3
        analytics_00002.log: 4 5 6
        analytics_00003.log: 7
    "#]],
    );
}

#[test]
fn a_record_that_was_not_committed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    let committed = append(&mut files, 1..=2);
    append(&mut files, 3..=3);
    let mut files = RecordFiles::open(real(dir.path()), Some(committed), WIDE).unwrap();
    assert_eq!(files.recovered(), &Recovered { bytes: 100, set_aside: None });
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2
    "#]],
    );
    assert_eq!(append(&mut files, 3..=3), Position { file: 1, length: 300, batches: 3 });
}

#[test]
fn a_torn_record_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    let committed = append(&mut files, 1..=2);
    let path = dir.path().join("analytics_00001.log");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"batch_id\":3,\"pa").unwrap();
    let files = RecordFiles::open(real(dir.path()), Some(committed), WIDE).unwrap();
    assert_eq!(files.recovered(), &Recovered { bytes: 17, set_aside: None });
    assert_eq!(fs::metadata(&path).unwrap().len(), 200);
}

#[test]
fn a_new_file_that_was_not_committed_goes() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_batches: 2, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    let committed = append(&mut files, 1..=2);
    append(&mut files, 3..=3);
    let mut files = RecordFiles::open(real(dir.path()), Some(committed), rotation).unwrap();
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2
    "#]],
    );
    append(&mut files, 3..=3);
    drop(files);
    // Created, but nothing was written into it before the crash.
    fs::write(dir.path().join("analytics_00003.log"), "").unwrap();
    let committed = Position { file: 2, length: 100, batches: 1 };
    let mut files = RecordFiles::open(real(dir.path()), Some(committed), rotation).unwrap();
    append(&mut files, 4..=5);
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1 2
        analytics_00002.log: 3 4
        analytics_00003.log: 5
    "#]],
    );
}

#[test]
fn the_first_record_of_all_may_be_lost_too() {
    let dir = tempfile::tempdir().unwrap();
    append(&mut RecordFiles::open(real(dir.path()), None, WIDE).unwrap(), 1..=1);
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    assert_eq!(files.recovered(), &Recovered { bytes: 100, set_aside: None });
    append(&mut files, 1..=1);
    check(
        dir.path(),
        expect![[r#"
        analytics_00001.log: 1
    "#]],
    );
}

#[test]
fn more_than_a_crash_leaves_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_batches: 2, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    let old = append(&mut files, 1..=1);
    append(&mut files, 2..=5);
    let mut files = RecordFiles::open(real(dir.path()), Some(old), rotation).unwrap();
    let copy = dir.path().join("uncommitted_00001.log");
    assert_eq!(files.recovered(), &Recovered { bytes: 400, set_aside: Some(copy) });
    append(&mut files, 2..=3);
    RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    check(
        dir.path(),
        expect![[r#"
        uncommitted_00001.log: 2 3 4 5
        uncommitted_00002.log: 1 2 3
    "#]],
    );
}

#[test]
fn what_was_committed_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    let end = append(&mut files, 1..=3);
    let path = dir.path().join("analytics_00001.log");
    expect!["DIR/analytics_00001.log was changed: byte 298 ends what was committed, and is not the end of a line; put the file back as it was"]
        .assert_eq(&open_fails(dir.path(), Position { length: 299, ..end }));
    fs::write(&path, record(1, 100) + "\n").unwrap();
    expect!["DIR/analytics_00001.log has 100 bytes, but 300 were committed; put the file back as it was, or move the state store away to start over"]
        .assert_eq(&open_fails(dir.path(), end));
    expect!["DIR/analytics_00002.log is missing, but 300 bytes of it were committed; put the file back, or move the state store away to start over"]
        .assert_eq(&open_fails(dir.path(), Position { file: 2, ..end }));
}

#[test]
fn after_99999_the_names_grow() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("analytics_99999.log"), record(1, 100) + "\n").unwrap();
    let committed = Position { file: 99_999, length: 100, batches: 1 };
    let rotation = Rotation { max_batches: 1, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), Some(committed), rotation).unwrap();
    let end = append(&mut files, 2..=3);
    assert_eq!(end.file, 100_001);
    check(
        dir.path(),
        expect![[r#"
        analytics_100000.log: 2
        analytics_100001.log: 3
        analytics_99999.log: 1
    "#]],
    );
    let ids =
        read_records(&real(dir.path())).unwrap().map(|record| record.unwrap().value["batch_id"].as_u64().unwrap());
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 3]);
    let files = RecordFiles::open(real(dir.path()), Some(Position { file: 100_000, ..committed }), rotation).unwrap();
    assert_eq!(files.recovered().bytes, 100);
    check(
        dir.path(),
        expect![[r#"
        analytics_100000.log: 2
        analytics_99999.log: 1
    "#]],
    );
}

#[test]
fn foreign_files_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let names =
        ["analytics_00002.log.gz", "analytics_2.log", "analytics_000003.log", "analytics_00000.log", "notes.txt"];
    names.iter().for_each(|name| fs::write(dir.path().join(name), "mine\n").unwrap());
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    append(&mut files, 1..=2);
    RecordFiles::open(real(dir.path()), Some(Position { file: 1, length: 100, batches: 1 }), WIDE).unwrap();
    assert_eq!(read_records(&real(dir.path())).unwrap().count(), 1);
    check(
        dir.path(),
        expect![[r#"
        analytics_00000.log: (4 bytes)
        analytics_000003.log: (4 bytes)
        analytics_00001.log: 1
        analytics_00002.log.gz: (4 bytes)
        analytics_2.log: (4 bytes)
        notes.txt: (4 bytes)
    "#]],
    );
}

#[test]
fn a_record_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = RecordFiles::open(real(dir.path()), None, WIDE).unwrap();
    for bad in [&b""[..], b"\n", b"{}\n{}", b"{}\n\n"] {
        assert!(matches!(files.append(bad), Err(SinkError::NotOneLine { .. })), "{bad:?}");
    }
    assert_eq!(files.append(b"{}\n").unwrap(), Position { file: 1, length: 3, batches: 1 });
    assert_eq!(files.append(b"{}").unwrap(), Position { file: 1, length: 6, batches: 2 });
}

#[test]
fn after_a_failed_append_nothing_is_written_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_batches: 1, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    let committed = append(&mut files, 1..=1);
    let in_the_way = dir.path().join("analytics_00002.log");
    fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(files.append(b"{}"), Err(SinkError::Io { doing: "create", .. })));
    fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(files.append(b"{}"), Err(SinkError::Poisoned { .. })));
    assert_eq!(files.position(), Some(committed));
    append(&mut RecordFiles::open(real(dir.path()), Some(committed), rotation).unwrap(), 2..=2);
}

#[test]
fn reading_stops_where_it_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_batches: 2, ..WIDE };
    let mut files = RecordFiles::open(real(dir.path()), None, rotation).unwrap();
    let committed = append(&mut files, 1..=3);
    append(&mut files, 4..=5);
    let read = |until| {
        let records = read_records_until(&real(dir.path()), until)?;
        let records =
            records.map(|record| record.map(|record| (record.file, record.line, record.value["batch_id"].as_u64())));
        records.collect::<Result<Vec<_>, SinkError>>()
    };
    assert_eq!(read(committed).unwrap(), [(1, 1, Some(1)), (1, 2, Some(2)), (2, 1, Some(3))]);
    assert_eq!(read_records(&real(dir.path())).unwrap().count(), 5);
    assert!(matches!(read(Position { length: 99, ..committed }), Err(SinkError::NotARecord { line: 1, .. })));
    assert!(matches!(read(Position { length: 999, ..committed }), Err(SinkError::Shorter { .. })));
    assert!(matches!(read(Position { file: 9, ..committed }), Err(SinkError::Missing { .. })));
}

#[test]
fn a_line_that_is_no_record_is_named_and_ends_the_reading() {
    let table: [(&[u8], &str); 5] = [
        (b"{\"a\":1}\n{\"a\":", "2, from byte 8 on: not a record: the line has no end"),
        (b"{\"a\":1}\n\n{}\n", "2, from byte 8 on: not a record: EOF while parsing a value at line 1 column 0"),
        (b"[]\n{}\n", "1, from byte 0 on: not a record: it is no JSON object"),
        (b"{}\n{\"a\":01}\n{}\n", "2, from byte 3 on: not a record: invalid number at line 1 column 7"),
        (b"{\"\xff\":1}\n", "1, from byte 0 on: not a record: invalid utf-8 sequence of 1 bytes from index 2"),
    ];
    for (content, expected) in table {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("analytics_00001.log"), content).unwrap();
        let mut records = read_records(&real(dir.path())).unwrap();
        let error = records.find_map(Result::err).expect("an error").to_string();
        assert_eq!(error.split_once("line ").unwrap().1, expected);
        assert!(records.next().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crashes between append and commit, anywhere: in the end every record is there once, in order, whatever the rotation.
    #[test]
    fn every_record_stands_there_once(
        lengths in prop::collection::vec(30..400_usize, 1..24),
        crashes in prop::collection::vec((0..24_u64, 0..400_u64), 0..8),
        max_bytes in 1..1500_u64,
        max_batches in 1..6_u64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let rotation = Rotation { max_bytes, max_batches };
        let mut crashes = crashes;
        let mut committed: Option<Position> = None;
        let mut done = 0;
        let mut files = RecordFiles::open(real(dir.path()), committed, rotation).unwrap();
        while done < lengths.len() as u64 {
            let end = files.append(record(done, lengths[done as usize]).as_bytes()).unwrap();
            if let Some(at) = crashes.iter().position(|crash| crash.0 == done) {
                // The commit never happened, and of the record any beginning is on the disk.
                let (_, kept) = crashes.remove(at);
                let path = dir.path().join(format!("analytics_{:05}.log", end.file));
                let start = committed.filter(|before| before.file == end.file).map_or(0, |before| before.length);
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len((start + kept).min(end.length)).unwrap();
                files = RecordFiles::open(real(dir.path()), committed, rotation).unwrap();
                prop_assert!(files.recovered().set_aside.is_none());
                continue;
            }
            (committed, done) = (Some(end), done + 1);
        }
        let texts = read_records(&real(dir.path())).unwrap().map(|record| record.unwrap().text).collect::<Vec<_>>();
        let expected = lengths.iter().zip(0..).map(|(&length, id)| record(id, length)).collect::<Vec<_>>();
        prop_assert_eq!(texts, expected);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let content = fs::read_to_string(entry.unwrap().path()).unwrap();
            let lines = content.lines().count() as u64;
            prop_assert!(lines <= max_batches && (content.len() as u64 <= max_bytes || lines == 1));
        }
    }
}

#[test]
fn an_append_that_meets_a_full_disk_can_be_tried_again() {
    let disk = MemStorage::new();
    let rotation = Rotation { max_batches: 2, ..WIDE };
    let mut files = RecordFiles::open(disk.clone(), None, rotation).unwrap();
    for number in 0..5 {
        let record = format!("{{\"number\":{number},\"filler\":\"{}\"}}", "x".repeat(9000));
        disk.set_capacity(Some(0));
        for _ in 0..2 {
            let error = files.append(record.as_bytes()).unwrap_err();
            assert!(error.is_full(), "{error}");
        }
        disk.set_capacity(None);
        files.append(record.as_bytes()).unwrap();
    }
    let numbers = read_records(&disk).unwrap().map(|record| record.unwrap().text[..11].to_owned()).collect::<Vec<_>>();
    assert_eq!(numbers, ["{\"number\":0", "{\"number\":1", "{\"number\":2", "{\"number\":3", "{\"number\":4"]);
}
