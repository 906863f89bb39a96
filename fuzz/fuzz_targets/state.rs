//! The store's file with bytes changed, or cut short: opened, checked and read, or refused with a reason; a value that is
//! given out is one that was saved. And the descriptions that the daemon keeps in it.
#![no_main]

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tally_daemon::aggregator::Meta;
use tally_fuzz::Input;
use tally_state::{Commit, FILE_NAME, RunInfo, Store};
use tally_testkit::MemStorage;

/// A store with two aggregators, three runs, a report and a position, as its file.
static STORED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = MemStorage::new();
    let store = Store::open(&folder).expect("a new store");
    for name in ["one", "two"] {
        let bytes = run_bytes(name);
        let run = RunInfo::new(3, 5, 1, &bytes);
        let commit = Commit {
            name,
            meta: name.as_bytes(),
            add: &[(run, &bytes)],
            remove: &[],
            pending: Some((5, b"report")),
            letters: None,
        };
        store.commit(&commit).expect("it commits");
    }
    store.commit_records(b"position", 4).expect("it commits");
    drop(store);
    folder.contents(FILE_NAME).expect("a file")
});

thread_local! {
    /// What the last panic said, and where it was.
    static PANICKED: RefCell<String> = RefCell::default();
}

fuzz_target!(
    init: {
        // What redb panics with is caught and becomes an error; only what gets through to here is a finding.
        panic::set_hook(Box::new(|info| PANICKED.set(format!("{info}\n{}", Backtrace::capture()))));
        LazyLock::force(&STORED);
    },
    |data: &[u8]| {
        if panic::catch_unwind(|| check(data)).is_err() {
            eprintln!("{}", PANICKED.take());
            std::process::abort();
        }
    }
);

fn run_bytes(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(5000).collect()
}

fn check(data: &[u8]) {
    if let Ok(meta) = serde_json::from_slice::<Meta>(data) {
        let text = serde_json::to_vec(&meta).expect("it serializes");
        assert_eq!(serde_json::from_slice::<Meta>(&text).expect("what was written reads"), meta);
    }
    let mut input = Input::new(data);
    let mut bytes = STORED.clone();
    while !input.is_empty() {
        let at = input.u32() as usize % bytes.len().max(1);
        let with = input.short();
        match with.is_empty() {
            true => bytes.truncate(at),
            false => {
                let room = with.len().min(bytes.len() - at);
                bytes[at..at + room].copy_from_slice(&with[..room]);
            }
        }
    }
    let folder = MemStorage::new();
    folder.overwrite(FILE_NAME, bytes.clone());
    let Ok(mut store) = Store::open_read_only(&folder) else { return };
    for name in store.aggregators().unwrap_or_default() {
        if let Ok(Some(saved)) = store.load(&name) {
            assert_eq!(saved.meta, name.as_bytes(), "damage is never taken for what was saved");
            for run in &saved.runs {
                if let Ok(bytes) = store.run(&name, run) {
                    assert_eq!(bytes, run_bytes(&name), "damage is never taken for what was saved");
                }
            }
        }
    }
    if let Ok(Some(position)) = store.records_position() {
        assert_eq!(position, b"position");
    }
    for cut in store.pending_cuts().unwrap_or_default() {
        for (_, report) in store.pendings(cut).unwrap_or_default() {
            assert_eq!(report, b"report");
        }
    }
    let _ = store.check();
    drop(store);
    assert!(folder.contents(FILE_NAME) == Some(bytes), "looking changes nothing");
}
