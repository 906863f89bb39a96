//! The compilation cache: used where it holds, passed over where it doesn't, never believed blindly.

use crate::fixture::{bytes, logged, rows};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tally_plugin::{Component, Engine, Limits};

const TAKEN: &str = "took a compiled plugin from the cache";

fn engine(dir: &Path) -> Engine {
    Engine::new(Limits::default(), Some(dir.to_owned())).unwrap()
}

/// Loads the probe, sees that it works, and gives what was logged.
fn load(dir: &Path) -> String {
    logged(|| works(&engine(dir).load(&bytes("probe")).unwrap()))
}

fn works(component: &Component) {
    let mut probe = component.configure("{}").unwrap().instantiate().unwrap();
    let accumulator = probe.create().unwrap();
    assert_eq!(probe.apply(&accumulator, &rows(1, 10)), Ok(vec![]));
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_second_load_compiles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache/compiled");
    assert!(!load(&cache).contains(TAKEN));
    assert_eq!(files(&cache).len(), 1);
    assert!(load(&cache).contains(TAKEN));
    let mode = fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the directory is the daemon's alone");
}

#[test]
fn a_file_that_is_not_what_was_written_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    load(dir.path());
    let [path] = &files(dir.path())[..] else { panic!("one file") };
    let good = fs::read(path).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bad in [&flipped, &good[..good.len() - 1], &good[..20], &[]] {
        fs::write(path, bad).unwrap();
        let log = load(dir.path());
        assert!(log.contains("its checksum is wrong") && !log.contains(TAKEN), "{log}");
        assert_eq!(fs::read(path).unwrap().len(), good.len(), "it was written anew");
        assert!(load(dir.path()).contains(TAKEN));
    }
}

#[test]
fn another_components_code_under_this_ones_name_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    load(dir.path());
    let [probe] = &files(dir.path())[..] else { panic!("one file") };
    engine(dir.path()).load(&bytes("selfcheck")).unwrap();
    let others = files(dir.path());
    let other = others.iter().find(|path| *path != probe).unwrap();
    fs::copy(other, probe).unwrap();
    assert!(!load(dir.path()).contains(TAKEN));
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let log = load(&file.join("cache"));
    assert!(log.contains("could not write a compiled plugin"), "{log}");
}
