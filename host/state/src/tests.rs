//! What the store promises: all or nothing, durable, and no byte is given out that was not put in.

mod crash;
mod damage;
mod files;
mod model;
mod overlay;

use std::path::Path;

use tally_storage::RealStorage;

use crate::{Commit, RunInfo, StateError, Store};

/// A commit of these parts.
fn commit<'a>(
    name: &'a str,
    meta: &'a [u8],
    add: &'a [(RunInfo, &'a [u8])],
    remove: &'a [(u64, u64)],
    pending: Option<(u64, &'a [u8])>,
) -> Commit<'a> {
    Commit { name, meta, add, remove, pending, letters: None }
}

/// Saves one delta and a report, as a cut does.
fn cut(store: &Store, name: &str, frame: u64, bytes: &[u8]) {
    let run = RunInfo::new(frame, frame, 0, bytes);
    let saved = store.commit(&commit(name, b"meta", &[(run, bytes)], &[], Some((frame, b"report"))));
    saved.expect("saves a cut");
}

/// The message with its causes, without the directory.
fn message(dir: &Path, error: StateError) -> String {
    error.to_string().replace(&dir.display().to_string(), "DIR")
}

/// Opens the store of a real directory, which is made if it is missing.
fn open(dir: &Path) -> Result<Store, StateError> {
    Store::open(&RealStorage::new(dir).expect("a directory"))
}

fn open_read_only(dir: &Path) -> Result<Store, StateError> {
    Store::open_read_only(&RealStorage::read_only(dir).expect("a directory"))
}
