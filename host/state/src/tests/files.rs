//! The store as a file: opening, locking, reading, refusing.

use std::fs;
use std::path::Path;

use crate::commit::{FORMAT_TABLE, RUNS};
use crate::{FILE_NAME, MAX_NAME_BYTES, MAX_VALUE_BYTES, RunInfo, Saved, StateError, Store};

use tally_testkit::{Fault, Kind, MemStorage};

use super::{commit, cut, message, open, open_read_only};

/// What a directory's file would be after the power went off now: a copy of what was written, never closed.
fn unclean_copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    fs::copy(from.join(FILE_NAME), to.path().join(FILE_NAME)).unwrap();
    to
}

#[test]
fn what_was_committed_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/on/the/way");
    let big = vec![7; 3 << 20];
    let runs = [RunInfo::new(1, 4, 1, &big), RunInfo::new(9, 9, 0, b"")];
    {
        let store = open(&data).unwrap();
        assert_eq!(store.aggregators().unwrap(), [""; 0]);
        assert_eq!(store.load("posts").unwrap(), None);
        assert_eq!(store.records_position().unwrap(), None);
        let add = [(runs[1], &b""[..]), (runs[0], &big[..])];
        store.commit(&commit("posts", b"cursor 9", &add, &[], Some((9, b"{}")))).unwrap();
        cut(&store, "ä", 9, b"delta");
    }
    let store = open(&data).unwrap();
    assert_eq!(store.aggregators().unwrap(), ["posts", "ä"]);
    let saved = Saved { meta: b"cursor 9".to_vec(), runs: runs.to_vec() };
    assert_eq!(store.load("posts").unwrap(), Some(saved));
    assert_eq!(store.run("posts", &runs[0]).unwrap(), big);
    assert_eq!(store.run("posts", &runs[1]).unwrap(), b"");
    assert_eq!(store.pending(9, "posts").unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(store.pending(8, "posts").unwrap(), None);
    let pendings = [("posts".to_string(), b"{}".to_vec()), ("ä".to_string(), b"report".to_vec())];
    assert_eq!(store.pendings(9).unwrap(), pendings);
}

#[test]
fn records_are_committed_and_their_reports_go() {
    let store = Store::open_in_memory().unwrap();
    for frame in [3, 5, 8] {
        cut(&store, "a", frame, b"a");
        cut(&store, "b", frame, b"b");
    }
    assert_eq!(store.pending_cuts().unwrap(), [3, 5, 8]);
    store.commit_records(b"after 5", 5).unwrap();
    assert_eq!(store.pending_cuts().unwrap(), [8]);
    assert_eq!(store.pendings(8).unwrap().len(), 2);
    assert_eq!(store.records_position().unwrap().as_deref(), Some(&b"after 5"[..]));
    store.commit_records(b"after all", u64::MAX).unwrap();
    assert_eq!(store.pending_cuts().unwrap(), [0; 0]);
    assert_eq!(store.records_position().unwrap().as_deref(), Some(&b"after all"[..]));
    assert_eq!(store.load("a").unwrap().unwrap().runs.len(), 3);
}

#[test]
fn merging_runs_swaps_them_at_once() {
    let store = Store::open_in_memory().unwrap();
    (1..=4).for_each(|frame| cut(&store, "a", frame, &[frame as u8]));
    let merged = RunInfo::new(1, 3, 1, b"merged");
    let snapshot = store.snapshot().unwrap();
    store.commit(&commit("a", b"later", &[(merged, b"merged")], &[(1, 1), (2, 2), (3, 3)], None)).unwrap();
    let now = store.load("a").unwrap().unwrap();
    assert_eq!(now.runs, [merged, RunInfo::new(4, 4, 0, &[4])]);
    assert!(store.run("a", &RunInfo::new(2, 2, 0, &[2])).is_err());
    // A reader that began before still sees all of what it began with.
    let then = snapshot.load("a").unwrap().unwrap();
    assert_eq!(then.meta, b"meta");
    for run in then.runs {
        assert_eq!(snapshot.run("a", &run).unwrap(), [run.first as u8]);
    }
}

#[test]
fn removing_an_aggregator_leaves_the_others_and_its_reports() {
    let store = Store::open_in_memory().unwrap();
    for name in ["a", "ab", "b"] {
        cut(&store, name, 1, name.as_bytes());
    }
    assert!(store.remove("ab").unwrap());
    assert!(!store.remove("ab").unwrap());
    assert_eq!(store.aggregators().unwrap(), ["a", "b"]);
    assert_eq!(store.load("ab").unwrap(), None);
    assert!(store.run("ab", &RunInfo::new(1, 1, 0, b"ab")).is_err());
    assert_eq!(store.run("a", &RunInfo::new(1, 1, 0, b"a")).unwrap(), b"a");
    assert_eq!(store.pendings(1).unwrap().len(), 3);
    let mut store = store;
    store.check().unwrap();
}

#[test]
fn a_commit_that_makes_no_sense_changes_nothing() {
    let store = Store::open_in_memory().unwrap();
    cut(&store, "a", 5, b"five");
    let before = (store.load("a").unwrap(), store.pending_cuts().unwrap());
    let other = RunInfo { hash: [0; 32], ..RunInfo::new(6, 6, 0, b"six") };
    let range = |first, last| RunInfo::new(first, last, 0, b"six");
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    type Case<'a> = (&'a str, &'a [(RunInfo, &'a [u8])], &'a [(u64, u64)], &'a str);
    let cases: [Case<'_>; 8] = [
        ("a", &[(range(5, 5), b"six")], &[], "the runs of cuts 5..=5 and 5..=5 overlap"),
        ("a", &[(range(4, 6), b"six")], &[], "the runs of cuts 4..=6 and 5..=5 overlap"),
        ("a", &[(range(7, 6), b"six")], &[], "the run of cuts 7..=6 is no range"),
        ("a", &[(other, b"six")], &[], "the run of cuts 6..=6 has other bytes than its hash says"),
        ("a", &[(range(6, 6), b"seven")], &[], "the run of cuts 6..=6 has other bytes than its hash says"),
        ("a", &[], &[(4, 5)], "it has no run of cuts 4..=5 to remove"),
        ("", &[], &[], "its name has 0 bytes, 1 to 1024 are allowed"),
        (&long, &[], &[], "its name has 1025 bytes, 1 to 1024 are allowed"),
    ];
    for (name, add, remove, expected) in cases {
        let good = commit("b", b"good", &[], &[], None);
        let bad = commit(name, b"new", add, remove, Some((6, b"report")));
        match store.commit_all(&[good, bad]) {
            Err(StateError::Refused { what, aggregator }) => {
                assert_eq!((what.as_str(), &*aggregator), (expected, name))
            }
            other => panic!("{expected}: {other:?}"),
        }
        assert_eq!((store.load("a").unwrap(), store.pending_cuts().unwrap()), before);
        assert_eq!(store.aggregators().unwrap(), ["a"]);
    }
}

#[test]
fn what_is_longer_than_its_limit_is_refused() {
    let store = Store::open_in_memory().unwrap();
    // Nobody reads it, so it takes no memory.
    let long = vec![0; MAX_VALUE_BYTES + 1];
    let run = RunInfo::new(1, 1, 0, b"another");
    let refused = |result: Result<(), StateError>| match result {
        Err(StateError::Refused { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let too_long = |what| format!("{what} has 1073741825 bytes, at most 1073741824 are allowed");
    assert_eq!(refused(store.commit(&commit("a", &long, &[], &[], None))), too_long("its description"));
    assert_eq!(refused(store.commit(&commit("a", b"", &[(run, &long)], &[], None))), too_long("a run"));
    assert_eq!(refused(store.commit(&commit("a", b"", &[], &[], Some((1, &long))))), too_long("its report"));
    assert_eq!(refused(store.commit_records(&long, 1)), too_long("the position"));
    let name = "n".repeat(MAX_NAME_BYTES);
    store.commit(&commit(&name, b"", &[], &[], None)).expect("just as long as it may be");
    assert_eq!(store.aggregators().unwrap(), [name]);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for error in [open(dir.path()).err(), open_read_only(dir.path()).err()] {
        assert_eq!(
            message(dir.path(), error.unwrap()),
            "the state store DIR/state.redb is in use by another process; stop the tally that uses this data directory, then try again"
        );
    }
    drop(store);
    let readers = [open_read_only(dir.path()).unwrap(), open_read_only(dir.path()).unwrap()];
    assert!(matches!(open(dir.path()), Err(StateError::InUse { .. })));
    drop(readers);
    open(dir.path()).unwrap();
}

#[test]
fn a_closed_store_lets_others_in_though_somebody_still_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let snapshot = store.snapshot().unwrap();
    drop(store);
    drop(open(dir.path()).unwrap());
    drop(snapshot);
    let store = open_read_only(dir.path()).unwrap();
    let snapshot = store.snapshot().unwrap();
    drop(store);
    drop(open(dir.path()).unwrap());
    drop(snapshot);
}

/// A new one in its place would be the end of all that was saved.
#[test]
fn a_store_that_cannot_be_opened_stays_where_it_is() {
    let disk = MemStorage::new();
    cut(&Store::open(&disk).unwrap(), "a", 1, b"delta");
    disk.inject_on(Kind::Open, FILE_NAME, 1, Fault::Broken);
    assert!(matches!(Store::open(&disk), Err(StateError::Io { doing: "open", .. })));
    assert_eq!(Store::open(&disk).unwrap().aggregators().unwrap(), ["a"]);
}

#[test]
fn reading_only_changes_no_byte_even_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (1..=20).for_each(|frame| cut(&store, "a", frame, &vec![frame as u8; 5000]));
    let crashed = unclean_copy(dir.path());
    let file = crashed.path().join(FILE_NAME);
    let before = fs::read(&file).unwrap();
    let mut copy = open_read_only(crashed.path()).unwrap();
    assert_eq!(copy.load("a").unwrap(), store.load("a").unwrap());
    copy.check().unwrap();
    assert!(matches!(copy.remove("a"), Err(StateError::ReadOnly { .. })));
    assert!(matches!(copy.commit_records(b"", 1), Err(StateError::ReadOnly { .. })));
    drop(copy);
    assert!(fs::read(&file).unwrap() == before, "the file was changed");
    let copy = open(crashed.path()).unwrap();
    assert_eq!(copy.load("a").unwrap(), store.load("a").unwrap());
}

#[test]
fn nothing_to_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let error = open_read_only(dir.path()).err().unwrap();
    assert_eq!(
        message(dir.path(), error),
        "there is no state store at DIR/state.redb; check that this is the data directory of a tally daemon that has run"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_creation_that_was_interrupted_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("state.redb.new"), [0; 5000]).unwrap();
    cut(&open(dir.path()).unwrap(), "a", 1, b"delta");
    assert_eq!(open(dir.path()).unwrap().aggregators().unwrap(), ["a"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_refused_and_left_alone() {
    for content in [&b""[..], b"not a store", &[0; 1 << 16]] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE_NAME);
        fs::write(&file, content).unwrap();
        for error in [open(dir.path()).err(), open_read_only(dir.path()).err()] {
            let error = message(dir.path(), error.expect("refused"));
            assert!(error.contains("DIR/state.redb"), "{error}");
        }
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let transaction = store.begin_write();
    transaction.open_table(FORMAT_TABLE).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let error = open(dir.path()).err().unwrap();
    assert_eq!(
        message(dir.path(), error),
        "the state store DIR/state.redb has format 2, this tally knows format 1; run the version of tally that wrote it"
    );
}

#[test]
fn a_run_that_belongs_to_nobody_is_found() {
    let mut store = Store::open_in_memory().unwrap();
    cut(&store, "a", 1, b"delta");
    let transaction = store.begin_write();
    transaction.open_table(RUNS).unwrap().insert(("a", 2, 2, 0), &b"stray"[..]).unwrap();
    transaction.commit().unwrap();
    let error = store.check().unwrap_err().to_string();
    assert!(error.contains("the run of cuts 2..=2 of \"a\" belongs to no aggregator"), "{error}");
}

#[test]
fn a_run_that_is_to_go_and_is_missing_is_found() {
    let store = Store::open_in_memory().unwrap();
    cut(&store, "a", 1, b"delta");
    let transaction = store.begin_write();
    transaction.open_table(RUNS).unwrap().remove(("a", 1, 1, 0)).unwrap();
    transaction.commit().unwrap();
    let before = store.load("a").unwrap();
    let error = store.commit(&commit("a", b"new", &[], &[(1, 1)], None)).unwrap_err().to_string();
    assert!(error.contains("the run of cuts 1..=1 of aggregator \"a\" is missing"), "{error}");
    assert_eq!(store.load("a").unwrap(), before);
}

#[test]
fn a_commit_that_meets_a_full_disk_can_be_tried_again() {
    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    cut(&store, "a", 1, b"before");
    let big = vec![7; 2 << 20];
    let runs = [RunInfo::new(1, 1, 0, &big)];
    let save = || store.commit(&commit("b", b"meta", &[(runs[0], &big[..])], &[], None));
    disk.set_capacity(Some(100_000));
    for _ in 0..3 {
        let error = save().unwrap_err();
        assert!(matches!(error, StateError::Full { .. }), "{error}");
        let what = "cannot save the state of aggregator \"b\" in the state store state.redb: the disk is full";
        assert_eq!(error.to_string(), what);
        assert_eq!(store.load("b").unwrap(), None);
        assert_eq!(store.aggregators().unwrap(), ["a"], "what was there is answered");
    }
    disk.set_capacity(None);
    save().unwrap();
    drop(store);
    let mut store = Store::open(&disk).unwrap();
    assert_eq!(store.run("b", &runs[0]).unwrap(), big);
    store.check().unwrap();
}

/// The file is made longer before anything of the commit is written.
#[test]
fn a_file_that_has_no_room_to_grow_is_a_full_disk() {
    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    let big = vec![7; 1 << 20];
    let run = RunInfo::new(1, 1, 0, &big);
    let save = || store.commit(&commit("a", b"meta", &[(run, &big[..])], &[], None));
    disk.inject_on(Kind::SetLen, FILE_NAME, 1, Fault::NoSpace);
    let failed = save();
    assert!(matches!(failed, Err(StateError::Full { .. })), "{failed:?}");
    save().unwrap();
    assert_eq!(store.run("a", &run).unwrap(), big);
}

#[test]
fn who_reads_while_a_commit_meets_a_full_disk_reads_on() {
    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    cut(&store, "a", 1, b"before");
    let big = vec![7; 1 << 20];
    disk.set_capacity(Some(100_000));
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            for _ in 0..2000 {
                let saved = store.load("a").unwrap().unwrap();
                assert_eq!(store.run("a", &saved.runs[0]).unwrap(), b"before");
            }
        });
        while !reading.is_finished() {
            let run = RunInfo::new(1, 1, 0, &big);
            let error = store.commit(&commit("b", b"meta", &[(run, &big[..])], &[], None)).unwrap_err();
            assert!(matches!(error, StateError::Full { .. }), "{error}");
        }
    });
}
