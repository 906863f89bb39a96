//! What a cut costs in the state store, beside what the disk's fdatasync costs alone, and what an opening after a crash
//! costs: `cargo run --release -p tally-state --example commit_cost [DIRECTORY]`. Prints figures; asserts nothing.

#![allow(clippy::disallowed_methods, reason = "it measures time, and decides nothing by it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tally_state::{Commit, FILE_NAME, RunInfo, StateError, Store};
use tally_storage::RealStorage;

const CUTS: u64 = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = parent.join(format!("commit-cost-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let done = measure(&dir);
    fs::remove_dir_all(&dir)?;
    done
}

fn measure(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    println!("fdatasync alone, 4 KiB:      {}", spread(syncs(dir, 4096)?));
    println!("fdatasync alone, 8 MiB:      {}", spread(syncs(dir, 8 << 20)?));
    for bytes in [4096, 256 << 10, 8 << 20] {
        let data = dir.join(format!("store-{bytes}"));
        let (times, live) = cuts(&open(&data)?, bytes)?;
        let file = data.join(FILE_NAME);
        println!("a cut with {:>5} KiB:        {}", bytes >> 10, spread(times));
        let length = fs::metadata(&file)?.len();
        println!("  live {} KiB, file {} KiB", live >> 10, length >> 10);
    }
    after_a_crash(dir)
}

/// Cuts with a delta of this many bytes each; eight runs of a level are merged into one of the next.
fn cuts(store: &Store, bytes: usize) -> Result<(Vec<Duration>, u64), StateError> {
    let mut times = Vec::new();
    for frame in 1..=CUTS {
        let delta = (0..bytes).map(|at| (at as u64 * frame) as u8).collect::<Vec<_>>();
        let began = Instant::now();
        let run = RunInfo::new(frame, frame, 0, &delta);
        let commit = Commit {
            name: "posts",
            meta: &[0; 200],
            add: &[(run, &delta)],
            remove: &[],
            pending: Some((frame, &[0; 2000])),
            letters: None,
        };
        store.commit(&commit)?;
        times.push(began.elapsed());
        store.commit_records(&[0; 25], frame)?;
        merge(store, &delta)?;
    }
    let live = store.load("posts")?.map_or(0, |saved| saved.runs.iter().map(|run| run.bytes).sum());
    Ok((times, live))
}

/// Merges the newest eight runs if they have one level; the merged run is as long as twice one of them.
fn merge(store: &Store, delta: &[u8]) -> Result<(), StateError> {
    let runs = store.load("posts")?.map(|saved| saved.runs).unwrap_or_default();
    let Some(newest) = runs.len().checked_sub(8).map(|from| &runs[from..]) else {
        return Ok(());
    };
    let level = newest[0].level;
    if newest.iter().any(|run| run.level != level) {
        return Ok(());
    }
    let merged = delta.repeat(2);
    let run = RunInfo::new(newest[0].first, newest[7].last, level + 1, &merged);
    let remove = newest.iter().map(|run| (run.first, run.last)).collect::<Vec<_>>();
    store.commit(&Commit {
        name: "posts",
        meta: &[0; 200],
        add: &[(run, &merged)],
        remove: &remove,
        pending: None,
        letters: None,
    })
}

/// Opens a copy of a store that was not closed.
fn after_a_crash(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let store = open(&dir.join("open"))?;
    let delta = vec![1; 1 << 20];
    for frame in 1..=256 {
        let run = RunInfo::new(frame, frame, 0, &delta);
        store.commit(&Commit {
            name: "posts",
            meta: b"",
            add: &[(run, &delta)],
            remove: &[],
            pending: None,
            letters: None,
        })?;
    }
    let crashed = dir.join("crashed");
    fs::create_dir_all(&crashed)?;
    fs::copy(dir.join("open").join(FILE_NAME), crashed.join(FILE_NAME))?;
    // What the copy left in the page cache is not the store's to write.
    File::open(crashed.join(FILE_NAME))?.sync_all()?;
    let began = Instant::now();
    let store = open(&crashed)?;
    println!("opening 256 MiB after a crash: {:.1?}", began.elapsed());
    let began = Instant::now();
    for run in store.load("posts")?.map(|saved| saved.runs).unwrap_or_default() {
        store.run("posts", &run)?;
    }
    println!("reading and checking 256 MiB:  {:.1?}", began.elapsed());
    Ok(())
}

fn syncs(dir: &Path, bytes: usize) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create(dir.join("raw"))?;
    let block = vec![7; bytes];
    let one = |_| {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        Ok(began.elapsed())
    };
    (0..32).map(one).collect()
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    format!("p50 {:.2?}, p99 {:.2?}", at(50), at(99))
}

fn open(dir: &Path) -> Result<Store, Box<dyn std::error::Error>> {
    Ok(Store::open(&RealStorage::new(dir)?)?)
}
