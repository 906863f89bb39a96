//! The rejected lines: readable, bounded, out of the way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use expect_test::expect;
use serde_json::Value;

use crate::{KEPT_BYTES, Rejected, RejectedCounts, RejectedFiles};

const EXAMPLE: Rejected<'static> = Rejected {
    time_micros: 1_769_508_000_123_456,
    source: "unix",
    line: 7,
    reason: "invalid_json",
    detail: "expected a value",
    bytes: b"{\"type\":}",
    length: 9,
};

/// The files in order, with their bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect::<Vec<_>>();
    files.sort();
    files
}

fn lines(dir: &Path) -> Vec<Value> {
    let text = files(dir).into_iter().flat_map(|file| file.1).collect::<Vec<_>>();
    let text = String::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What one rejected line becomes.
fn written(rejected: &Rejected<'_>) -> String {
    let dir = tempfile::tempdir().unwrap();
    RejectedFiles::open(dir.path(), 1 << 20).unwrap().append(rejected);
    let files = files(dir.path());
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].0, "rejected_00001.log");
    String::from_utf8(files[0].1.clone()).unwrap()
}

#[test]
fn a_line_says_what_why_where_and_when() {
    expect![[r#"
        {"time":"2026-01-27T10:00:00.123456Z","source":"unix","line":7,"reason":"invalid_json","detail":"expected a value","length":9,"bytes":"{\"type\":}","truncated":false}
    "#]]
    .assert_eq(&written(&EXAMPLE));
    expect![[r#"
        {"time":"2026-01-27T10:00:00.123456Z","source":"unix","line":7,"reason":"invalid_utf8","detail":"expected a value","length":4,"bytes_base64":"/wB7Cg==","truncated":false}
    "#]]
    .assert_eq(&written(&Rejected { reason: "invalid_utf8", bytes: b"\xff\0{\n", length: 4, ..EXAMPLE }));
}

#[test]
fn base64_is_that_of_rfc_4648() {
    // The RFC's vectors behind a byte that is no text, so that base64 is used: three of them keep the groups as they are.
    let table = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (text, expected) in table {
        let bytes = [b"\xff\xff\xff", text.as_bytes()].concat();
        let line = written(&Rejected { bytes: &bytes, length: bytes.len() as u64, ..EXAMPLE });
        assert!(line.contains(&format!("\"bytes_base64\":\"////{expected}\"")), "{text}: {line}");
    }
}

#[test]
fn long_lines_are_cut_between_characters() {
    let long = "ä".repeat(KEPT_BYTES);
    for (bytes, length, kept) in [
        (long.as_bytes(), 2 * KEPT_BYTES as u64, KEPT_BYTES),
        (&long.as_bytes()[1..], 1 << 30, 0),
        (&[b"x", long.as_bytes()].concat(), 1 << 30, KEPT_BYTES - 1),
    ] {
        let line: Value = serde_json::from_str(&written(&Rejected { bytes, length, ..EXAMPLE })).unwrap();
        assert_eq!(line["bytes"].as_str().map_or(0, str::len), kept);
        assert_eq!(line["bytes_base64"].is_string(), kept == 0);
        assert_eq!((&line["truncated"], &line["length"]), (&true.into(), &length.into()));
    }
    let exact = "x".repeat(KEPT_BYTES);
    let line = written(&Rejected { bytes: exact.as_bytes(), length: KEPT_BYTES as u64, ..EXAMPLE });
    assert!(line.contains("\"truncated\":false"));
}

#[test]
fn long_words_cannot_make_a_line_grow_without_end() {
    let long = "\u{1}ä".repeat(100_000);
    let line = written(&Rejected { source: &long, detail: &long, bytes: long.as_bytes(), length: 1 << 20, ..EXAMPLE });
    assert!(line.len() < 64 << 10, "{} bytes", line.len());
    serde_json::from_str::<Value>(&line).unwrap();
}

#[test]
fn the_newest_lines_are_kept_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 80 << 10;
    let rejected = RejectedFiles::open(dir.path(), max_bytes).unwrap();
    for line in 1..=5000 {
        rejected.append(&Rejected { line, ..EXAMPLE });
        if line % 100 == 0 {
            rejected.drain();
            let total = files(dir.path()).iter().map(|file| file.1.len() as u64).sum::<u64>();
            assert!(total <= max_bytes, "{total} bytes");
        }
    }
    assert_eq!(rejected.counts(), RejectedCounts { written: 5000, left_out: 0 });
    let numbers = lines(dir.path()).iter().map(|line| line["line"].as_u64().unwrap()).collect::<Vec<_>>();
    assert!(numbers.iter().zip(1..).all(|(number, at)| *number == 5000 - numbers.len() as u64 + at));
    assert!(numbers.len() > 300, "only {} lines are kept", numbers.len());
    assert!((4..=10).contains(&files(dir.path()).len()));
}

#[test]
fn a_start_goes_on_behind_the_last_whole_line() {
    let dir = tempfile::tempdir().unwrap();
    RejectedFiles::open(dir.path(), 1 << 20).unwrap().append(&EXAMPLE);
    let path = dir.path().join("rejected_00001.log");
    let torn = fs::read_to_string(&path).unwrap() + "{\"time\":\"2026";
    fs::write(&path, torn).unwrap();
    RejectedFiles::open(dir.path(), 1 << 20).unwrap().append(&Rejected { line: 8, ..EXAMPLE });
    let lines = lines(dir.path());
    assert_eq!(lines.iter().map(|line| &line["line"]).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn a_long_line_that_was_torn_leaves_nothing_behind_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    RejectedFiles::open(dir.path(), 1 << 20).unwrap().append(&EXAMPLE);
    let path = dir.path().join("rejected_00001.log");
    let torn = fs::read_to_string(&path).unwrap() + "{" + &"x".repeat(3000);
    fs::write(&path, torn).unwrap();
    RejectedFiles::open(dir.path(), 1 << 20).unwrap().append(&Rejected { line: 8, ..EXAMPLE });
    assert_eq!(lines(dir.path()).iter().map(|line| &line["line"]).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn files_hold_whole_lines_as_many_as_fit() {
    let length = written(&EXAMPLE).len() as u64;
    let dir = tempfile::tempdir().unwrap();
    let rejected = RejectedFiles::open(dir.path(), 8 * 500 * length).unwrap();
    for count in [1, 499, 1] {
        (0..count).for_each(|_| rejected.append(&EXAMPLE));
        rejected.drain();
    }
    let lengths = files(dir.path()).iter().map(|file| file.1.len() as u64).collect::<Vec<_>>();
    assert_eq!(lengths, [500 * length, length]);
}

#[test]
fn a_line_that_is_longer_than_a_file_should_be_stands_alone() {
    let dir = tempfile::tempdir().unwrap();
    // All that it holds is torn, so it is empty once that is cut.
    fs::write(dir.path().join("rejected_00001.log"), "{\"time\":").unwrap();
    let rejected = RejectedFiles::open(dir.path(), 64 << 10).unwrap();
    let bytes = [1; KEPT_BYTES / 2];
    (0..2).for_each(|_| rejected.append(&Rejected { bytes: &bytes, ..EXAMPLE }));
    drop(rejected);
    let files = files(dir.path());
    assert_eq!(files.iter().map(|file| &*file.0).collect::<Vec<_>>(), ["rejected_00001.log", "rejected_00002.log"]);
    for (name, bytes) in files {
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 1, "{name}");
        assert!(bytes.len() > 8 << 10 && bytes.ends_with(b"\n"), "{name}");
    }
}

#[test]
fn another_limit_holds_from_then_on_and_what_was_counted_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut rejected = RejectedFiles::open(dir.path(), 1 << 20).unwrap();
    (0..5000).for_each(|line| rejected.append(&Rejected { line, ..EXAMPLE }));
    rejected.set_max_bytes(dir.path(), 300 << 10).unwrap();
    let total = || files(dir.path()).iter().map(|file| file.1.len()).sum::<usize>();
    assert!(total() <= 300 << 10, "{} bytes", total());
    (0..5000).for_each(|line| rejected.append(&Rejected { line, ..EXAMPLE }));
    rejected.drain();
    assert!(total() <= 300 << 10, "{} bytes", total());
    assert_eq!(rejected.counts(), RejectedCounts { written: 10_000, left_out: 0 });
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(rejected.set_max_bytes(file.path(), 1 << 20).is_err());
    rejected.append(&EXAMPLE);
    rejected.drain();
    assert_eq!(rejected.counts(), RejectedCounts { written: 10_001, left_out: 0 });
}

#[test]
fn a_smaller_limit_holds_from_the_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let rejected = RejectedFiles::open(dir.path(), 1 << 20).unwrap();
    (0..5000).for_each(|line| rejected.append(&Rejected { line, ..EXAMPLE }));
    drop(rejected);
    drop(RejectedFiles::open(dir.path(), 300 << 10).unwrap());
    let total = files(dir.path()).iter().map(|file| file.1.len()).sum::<usize>();
    assert!((100 << 10..=300 << 10).contains(&total), "{total} bytes");
}

#[test]
fn nothing_is_kept_without_room() {
    let dir = tempfile::tempdir().unwrap();
    let rejected = RejectedFiles::open(dir.path(), 0).unwrap();
    rejected.append(&EXAMPLE);
    rejected.drain();
    assert_eq!(rejected.counts(), RejectedCounts { written: 0, left_out: 1 });
    assert!(files(dir.path()).is_empty());
}

#[test]
fn a_file_that_cannot_be_written_is_only_counted_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let rejected = RejectedFiles::open(dir.path(), 1 << 20).unwrap();
    let in_the_way = dir.path().join("rejected_00001.log");
    fs::create_dir(&in_the_way).unwrap();
    rejected.append(&EXAMPLE);
    rejected.drain();
    assert_eq!(rejected.counts(), RejectedCounts { written: 0, left_out: 1 });
    fs::remove_dir(&in_the_way).unwrap();
    rejected.append(&EXAMPLE);
    rejected.drain();
    assert_eq!(rejected.counts(), RejectedCounts { written: 1, left_out: 1 });
    assert_eq!(lines(dir.path()).len(), 1);
}

#[test]
fn old_files_may_be_taken_away_but_must_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 80 << 10;
    let rejected = RejectedFiles::open(dir.path(), max_bytes).unwrap();
    let some = || {
        (0..200).for_each(|_| rejected.append(&EXAMPLE));
        rejected.drain();
        rejected.counts().left_out
    };
    let oldest = || dir.path().join(&files(dir.path())[0].0);
    assert_eq!((some(), some()), (0, 0));
    fs::remove_file(oldest()).unwrap();
    assert_eq!((some(), some(), some(), some()), (0, 0, 0, 0), "somebody else made room");
    // What stands there now cannot be removed as a file, and without that there would be no limit.
    let in_the_way = oldest();
    fs::remove_file(&in_the_way).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    some();
    let left_out = some();
    assert!(left_out > 200, "{left_out} lines were left out");
    fs::remove_dir(&in_the_way).unwrap();
    assert_eq!(some(), left_out);
}

#[test]
fn a_burst_from_several_threads_is_written_or_counted() {
    let dir = tempfile::tempdir().unwrap();
    let rejected = RejectedFiles::open(dir.path(), 256 << 20).unwrap();
    let bytes = vec![b'x'; KEPT_BYTES];
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..1500).for_each(|_| rejected.append(&Rejected { bytes: &bytes, ..EXAMPLE }));
            });
        }
    });
    rejected.drain();
    let counts = rejected.counts();
    assert_eq!(counts.written + counts.left_out, 6_000);
    assert_eq!(lines(dir.path()).len() as u64, counts.written);
    // The thread must be able to sleep again and wake up later.
    std::thread::sleep(Duration::from_millis(5));
    rejected.append(&EXAMPLE);
    rejected.drain();
    assert_eq!(rejected.counts().written, counts.written + 1);
}
