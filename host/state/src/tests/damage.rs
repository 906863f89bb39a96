//! A flipped bit is found and named; it is never taken for an answer.

use std::fs;
use std::path::Path;

use tally_testkit::MemStorage;

use crate::{FILE_NAME, RunInfo, Store};

use super::model::Model;
use super::{commit, cut, message, open, open_read_only};

/// A store with something of everything, and its file's bytes.
fn example(dir: &Path) -> (Model, Vec<u8>) {
    let store = open(dir).unwrap();
    for frame in 1..=6 {
        cut(&store, "posts", frame, &format!("posts delta {frame} ").repeat(400).into_bytes());
        cut(&store, "users", frame, format!("users delta {frame} ").as_bytes());
    }
    store.commit_records(b"the committed position", 3).unwrap();
    let model = Model::of(&store).unwrap();
    drop(store);
    (model, fs::read(dir.join(FILE_NAME)).unwrap())
}

/// Opens the damaged bytes and reads everything.
fn read_all(dir: &Path, bytes: &[u8], check: bool) -> Result<Model, crate::StateError> {
    fs::write(dir.join(FILE_NAME), bytes).unwrap();
    let mut store = open_read_only(dir)?;
    let model = Model::of(&store)?;
    if check {
        store.check()?;
    }
    Ok(model)
}

#[test]
fn damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, good) = example(dir.path());
    let table = [
        (
            "posts delta 4 posts",
            "the run of cuts 4..=4 of aggregator \"posts\" does not have the bytes that were saved",
        ),
        ("users delta 2 ", "the run of cuts 2..=2 of aggregator \"users\" does not have the bytes that were saved"),
        ("meta", "the state of aggregator"),
        ("report", "does not have the bytes that were saved"),
        ("the committed position", "the position of the analytics files does not have the bytes that were saved"),
    ];
    for (needle, expected) in table {
        // Old copies of a value may be left in free pages, so all of them are damaged.
        let mut bytes = good.clone();
        let mut found = 0;
        for at in 0..bytes.len() - needle.len() {
            if good[at..].starts_with(needle.as_bytes()) {
                bytes[at + 2] ^= 1;
                found += 1;
            }
        }
        assert!(found > 0, "{needle} is not in the file");
        let error = read_all(dir.path(), &bytes, false).map(drop).unwrap_err();
        let error = message(dir.path(), error);
        assert!(error.starts_with("the state store DIR/state.redb is damaged: "), "{error}");
        assert!(error.contains(expected), "{needle}: {error}");
    }
}

#[test]
fn a_missing_run_is_named() {
    let store = Store::open_in_memory().unwrap();
    cut(&store, "a", 1, b"delta");
    let error = store.run("a", &RunInfo::new(7, 9, 2, b"gone")).unwrap_err().to_string();
    assert!(error.contains("the run of cuts 7..=9 of aggregator \"a\" is missing"), "{error}");
}

/// Flips a bit at positions spread over the file: reading gives what was saved, or an error, never anything else.
#[test]
fn no_flipped_bit_is_taken_for_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (model, good) = example(dir.path());
    let used = |at: &usize| good[at & !511..].iter().take(512).any(|&byte| byte != 0);
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..good.len()).step_by(61).filter(used) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        match read_all(dir.path(), &bytes, true) {
            Ok(found) => {
                assert_eq!(found, model, "byte {at}");
                harmless += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 50 && harmless > 50, "{refused} refused, {harmless} harmless");
}

/// A damaged table of free pages would make redb panic while it saves, and again while it unwinds: that ends a process.
#[test]
fn a_damaged_file_is_refused_or_can_be_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (_, good) = example(dir.path());
    let disk = MemStorage::new();
    let (mut refused, mut saved) = (0, 0);
    for at in (0..good.len()).filter(|at| good[at & !63..].iter().take(64).any(|&byte| byte != 0)).step_by(8) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        disk.overwrite(FILE_NAME, bytes.clone());
        match Store::open(&disk) {
            Ok(store) => {
                let run = RunInfo::new(7, 7, 0, b"delta");
                store
                    .commit(&commit("posts", b"meta", &[(run, b"delta")], &[], None))
                    .expect("a file that opens is whole");
                saved += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains(FILE_NAME), "{error}");
                assert!(disk.contents(FILE_NAME).as_ref() == Some(&bytes), "a refused file is left as it is");
                refused += 1;
            }
        }
    }
    assert!(refused > 100 && saved > 100, "{refused} {saved}");
}

#[test]
fn a_damaged_store_is_closed_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (_, good) = example(dir.path());
    let mut opened = 0;
    for at in (0..good.len()).step_by(1024).filter(|&at| good[at..].iter().take(512).any(|&byte| byte != 0)) {
        let mut bytes = good.clone();
        let end = (at + 100).min(bytes.len());
        bytes[at..end].fill(b',');
        fs::write(dir.path().join(FILE_NAME), &bytes).unwrap();
        for writable in [false, true] {
            let store = if writable { open(dir.path()) } else { open_read_only(dir.path()) };
            opened += usize::from(store.is_ok());
        }
    }
    assert!(opened > 50, "{opened}");
}
