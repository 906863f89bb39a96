//! Single records and rejected lines, found from outside while files are written.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::real;
use crate::{
    Position, RecordFiles, Rejected, RejectedFiles, Rotation, SinkError, find_record, last_record, newest_rejected,
    read_records,
};

fn key(record: &[u8]) -> Option<u64> {
    let digits = record.strip_prefix(b"{\"id\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Records 3, 4, .. 22 in files of three, each longer than a block.
fn write(dir: &Path) -> Position {
    let rotation = Rotation { max_bytes: u64::MAX, max_batches: 3 };
    let mut files = RecordFiles::open(real(dir), None, rotation).unwrap();
    for id in 3..=22 {
        files.append(format!("{{\"id\":{id},\"pad\":\"{}\"}}", "x".repeat(70_000)).as_bytes()).unwrap();
    }
    files.position().unwrap()
}

#[test]
fn every_record_is_found_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let committed = write(dir.path());
    assert_eq!(committed.file, 7);
    let find = |wanted| find_record(&real(dir.path()), committed, wanted, key).unwrap();
    for record in read_records(&real(dir.path())).unwrap() {
        let text = record.unwrap().text;
        assert_eq!(find(key(text.as_bytes()).unwrap()), Some(text.into_bytes()));
    }
    assert_eq!((find(2), find(23), find(u64::MAX)), (None, None, None));
}

#[test]
fn what_is_not_committed_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let end = write(dir.path());
    let length = end.length / 2;
    let committed = Position { length, batches: 1, ..end };
    assert_eq!(find_record(&real(dir.path()), committed, 22, key).unwrap(), None);
    assert_eq!(key(&last_record(&real(dir.path()), committed).unwrap()), Some(21));
    assert_eq!(key(&last_record(&real(dir.path()), end).unwrap()), Some(22));
}

#[test]
fn a_record_that_is_missing_between_others_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("analytics_00001.log"), "{\"id\":3}\n{\"id\":5}\n").unwrap();
    let committed = Position { file: 1, length: 18, batches: 2 };
    let find = |wanted| find_record(&real(dir.path()), committed, wanted, key).unwrap();
    assert_eq!((find(4), find(5)), (None, Some(b"{\"id\":5}".to_vec())));
}

#[test]
fn a_file_that_was_taken_away_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let committed = write(dir.path());
    std::fs::remove_file(dir.path().join("analytics_00001.log")).unwrap();
    std::fs::remove_file(dir.path().join("analytics_00004.log")).unwrap();
    let found: Vec<bool> =
        (3..=22).map(|wanted| find_record(&real(dir.path()), committed, wanted, key).unwrap().is_some()).collect();
    let gone = |id: usize| (3..=5).contains(&id) || (12..=14).contains(&id);
    assert_eq!(found, (3..=22).map(|id| !gone(id)).collect::<Vec<_>>());
}

#[test]
fn a_line_that_is_no_record_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let committed = write(dir.path());
    std::fs::write(dir.path().join("analytics_00002.log"), "{\"id\":6,}\nsomething else\n").unwrap();
    let error = find_record(&real(dir.path()), committed, 7, key).unwrap_err().to_string();
    assert!(
        error.ends_with("analytics_00002.log, line 2, from byte 10 on: not a record: it does not begin with its key"),
        "{error}"
    );
}

#[test]
fn the_newest_rejected_lines_come_first() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(newest_rejected(dir.path(), 9, |_| true).unwrap(), Vec::<Vec<u8>>::new());
    let files = RejectedFiles::open(dir.path(), 64 << 10).unwrap();
    for line in 1..=1000 {
        let reason = if line % 2 == 0 { "even" } else { "odd" };
        let bytes = b"{}";
        let rejected = Rejected { time_micros: 0, source: "unix", line, reason, detail: "", bytes, length: 2 };
        files.append(&rejected);
    }
    files.drain();
    let newest = |count, wanted: &str| -> Vec<u64> {
        let lines = newest_rejected(dir.path(), count, |line| String::from_utf8_lossy(line).contains(wanted)).unwrap();
        let number =
            |line: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(line).unwrap()["line"].as_u64().unwrap();
        lines.iter().map(number).collect()
    };
    assert_eq!(newest(3, ""), [1000, 999, 998]);
    assert_eq!(newest(3, "\"odd\""), [999, 997, 995]);
    let kept = newest(5000, "");
    assert!(kept.len() > 200, "across files: {}", kept.len());
    assert!(kept.iter().rev().zip(1001 - kept.len() as u64..).all(|(line, expected)| *line == expected), "{kept:?}");
}

#[test]
fn rejected_lines_that_make_room_meanwhile_are_left_out_and_others_that_cannot_be_read_are_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rejected_00003.log"), "newest\n").unwrap();
    // Listed, and not there when it is opened.
    symlink("nowhere", dir.path().join("rejected_00002.log")).unwrap();
    let newest = || newest_rejected(dir.path(), 9, |_| true);
    assert_eq!(newest().unwrap(), [b"newest"]);
    let loops = dir.path().join("rejected_00004.log");
    symlink(&loops, &loops).unwrap();
    assert!(matches!(newest(), Err(SinkError::Io { doing: "open", path, .. }) if path == loops));
}
