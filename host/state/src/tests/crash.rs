//! Commits are all or nothing and durable, whatever happens in the middle.

use proptest::prelude::*;
use tally_storage::{Storage, StorageFile};
use tally_testkit::{Fault, Kind, MemStorage, Reached};

use crate::{StateError, Store};

use super::model::{Model, Step, steps};
use super::open;

/// Outcomes of each power loss.
const SEEDS: u64 = 16;

/// Takes steps until the disk fails; what the store may hold afterwards: what was acknowledged, and what was tried.
fn work(store: &Store, steps: &[Step]) -> (Model, Model) {
    let mut model = Model::default();
    for (step, frame) in steps.iter().zip(1..) {
        let before = model.clone();
        if step.take(frame, &mut model, store).is_err() {
            return (before, model);
        }
    }
    (model.clone(), model)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// The store says what the model says, also after closing and opening again at any moment.
    #[test]
    fn the_store_is_its_model(steps in steps(30), reopen in 0..30_usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path()).unwrap();
        let mut model = Model::default();
        for (at, step) in steps.iter().enumerate() {
            if at == reopen {
                drop(store);
                store = open(dir.path()).unwrap();
            }
            step.take(at as u64 + 1, &mut model, &store).unwrap();
            prop_assert_eq!(&Model::of(&store).unwrap(), &model);
        }
        store.check().unwrap();
        drop(store);
        prop_assert_eq!(Model::of(&open(dir.path()).unwrap()).unwrap(), model);
    }

    /// The power goes off at any operation, any of what was not synced survives: what was acknowledged is there, and of the
    /// commit in flight all or nothing. It may go off again while the store recovers.
    #[test]
    fn a_crash_loses_nothing_and_halves_nothing(steps in steps(16), at in 0..10_000_u64, again in 0..40_u64, seed: u64) {
        let disk = MemStorage::new();
        let store = Store::open(&disk).unwrap();
        let start = disk.operations();
        work(&store, &steps);
        let operations = disk.operations() - start;
        drop(store);

        let disk = MemStorage::new();
        let store = Store::open(&disk).unwrap();
        disk.inject(start + 1 + at % operations.max(1), Fault::PowerLoss);
        let (acknowledged, tried) = work(&store, &steps);
        prop_assert!(operations == 0 || disk.is_dead(), "the power loss was not reached");
        for more in 0..4 {
            let seed = seed.wrapping_add(more);
            let mut after = disk.crash(seed);
            if more > 0 {
                after.inject(again, Fault::PowerLoss);
                drop(Store::open(&after));
                after = after.crash(seed);
            }
            let mut store = Store::open(&after).unwrap();
            let found = Model::of(&store).unwrap();
            prop_assert!(found == acknowledged || found == tried, "neither before nor after");
            store.check().unwrap();
        }
    }

    /// After a failed write or sync nothing is acknowledged any more, even if the disk works again. After a write that found the
    /// disk full nothing has changed, and everything goes on.
    #[test]
    fn a_failed_write_is_final(steps in steps(10), at in 0..10_000_u64, full: bool, seed: u64) {
        let disk = MemStorage::new();
        let store = Store::open(&disk).unwrap();
        work(&store, &steps);
        let before = disk.operations();
        let mut counted = Model::of(&store).unwrap();
        Step::Cut { name: 0, bytes: 5000 }.take(1000, &mut counted, &store).unwrap();
        let operations = disk.operations() - before;
        prop_assert!(operations >= 4, "a commit has at least two writes and two syncs");

        let fault = if full { Fault::NoSpace } else { Fault::Broken };
        disk.inject(disk.operations() + 1 + at % operations, fault);
        let mut model = counted.clone();
        let failed = Step::Cut { name: 0, bytes: 5000 }.take(1001, &mut model, &store);
        prop_assume!(failed.is_err());
        prop_assert!(full || !matches!(failed, Err(StateError::Full { .. })), "the disk was broken, not full");
        let mut later = counted.clone();
        let next = Step::Cut { name: 2, bytes: 10 }.take(1002, &mut later, &store);
        if matches!(failed, Err(StateError::Full { .. })) {
            next.unwrap();
            prop_assert_eq!(&Model::of(&store).unwrap(), &later);
            drop(store);
            prop_assert_eq!(Model::of(&Store::open(&disk.crash(seed)).unwrap()).unwrap(), later);
            return Ok(());
        }
        prop_assert!(next.is_err(), "a commit after a failed one was acknowledged");
        // The process ends, and what it wrote may or may not be there; then the same for the machine.
        disk.crash(seed);
        drop(store);
        for more in 0..4 {
            let found = Model::of(&Store::open(&disk.crash(seed.wrapping_add(more))).unwrap()).unwrap();
            prop_assert!(found == counted || found == model);
        }
    }
}

/// A file that cannot be made shorter once a commit is durable: the commit is not told to be undone because the disk is full.
#[test]
fn a_full_disk_after_the_commit_is_final() {
    let steps = [
        Step::Cut { name: 1, bytes: 60_000 },
        Step::Cut { name: 0, bytes: 0 },
        Step::Merge { name: 1, count: 2 },
        Step::Cut { name: 0, bytes: 5000 },
    ];
    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    let (model, _) = work(&store, &steps);
    let before = disk.operations();
    disk.trace(true);
    let mut done = model.clone();
    Step::Cut { name: 0, bytes: 5000 }.take(1001, &mut done, &store).unwrap();
    let last = disk.take_trace().pop().unwrap();
    assert_eq!(last.kind, Kind::SetLen, "the last operation of this commit was to make the file shorter");
    let operations = last.number - before;
    drop(store);

    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    let (mut model, _) = work(&store, &steps);
    disk.inject(disk.operations() + operations, Fault::NoSpace);
    let failed = Step::Cut { name: 0, bytes: 5000 }.take(1001, &mut model, &store);
    assert!(matches!(failed, Err(StateError::Store { .. })), "{failed:?}");
    assert!(Step::Cut { name: 2, bytes: 10 }.take(1002, &mut Model::default(), &store).is_err());
    drop(store);
    assert_eq!(Model::of(&Store::open(&disk.crash(0)).unwrap()).unwrap(), model);
}

/// What redb counts in its header without a checksum may be anything after a power loss.
#[test]
fn no_count_without_a_checksum_is_trusted() {
    let disk = MemStorage::new();
    let store = Store::open(&disk).unwrap();
    let (model, _) = work(&store, &[Step::Cut { name: 0, bytes: 60_000 }, Step::Cut { name: 1, bytes: 5000 }]);
    drop(store);
    let bytes = disk.contents(crate::FILE_NAME).unwrap();
    let counts = |full: u32, trailing: u32| [full.to_le_bytes(), trailing.to_le_bytes()].concat();
    let here = &bytes[24..32];
    assert_eq!(here[..4], [0; 4], "a small store is part of a region: {here:?}");
    for wrong in [counts(0, 0), counts(u32::MAX, u32::MAX), counts(0, u32::MAX), counts(u32::MAX, 0), counts(1, 1)] {
        let mut torn = bytes.clone();
        torn[24..32].copy_from_slice(&wrong);
        // As where it was closed, or has just recovered.
        torn[9] &= !2;
        let disk = MemStorage::new();
        disk.create(crate::FILE_NAME).unwrap().write_at(&torn, 0).unwrap();
        let mut store = Store::open(&disk).unwrap_or_else(|error| panic!("{wrong:?}: {error}"));
        assert_eq!(Model::of(&store).unwrap(), model);
        store.check().unwrap();
    }
}

/// The power goes off at each operation of a short life that does everything once, with many outcomes each.
#[test]
fn a_crash_at_any_operation_halves_nothing() {
    let steps = [
        Step::Cut { name: 0, bytes: 5000 },
        Step::Both { bytes: 100 },
        Step::Cut { name: 0, bytes: 130_000 },
        Step::Merge { name: 0, count: 3 },
        Step::Records { behind: 1 },
        Step::Remove { name: 2 },
    ];
    let begin = |disk: &MemStorage| {
        let store = Store::open(disk).unwrap();
        (disk.operations(), store)
    };
    let whole = MemStorage::new();
    let (start, store) = begin(&whole);
    work(&store, &steps);
    drop(store);
    let mut reached = Reached::default();
    for operation in start + 1..=whole.operations() {
        let disk = MemStorage::new();
        let (_, store) = begin(&disk);
        disk.inject(operation, Fault::PowerLoss);
        let (acknowledged, tried) = work(&store, &steps);
        drop(store);
        for seed in 0..SEEDS {
            let after = disk.crash(seed);
            let mut store = Store::open(&after).unwrap_or_else(|error| panic!("{operation}, {seed}: {error}"));
            let found = Model::of(&store).unwrap_or_else(|error| panic!("{operation}, {seed}: {error}"));
            assert!(found == acknowledged || found == tried, "{operation}, {seed}: neither before nor after");
            if seed % 8 == 0 {
                store.check().unwrap();
            }
            reached.add(&after.reached());
        }
    }
    assert!(reached.garbage_sectors > 100 && reached.zeroed_sectors > 100 && reached.torn_sectors > 100, "{reached:?}");
}

/// The power goes off at each operation of the first opening: the next one finds a store or none, and makes one.
#[test]
fn a_creation_that_is_cut_short_is_begun_again() {
    let whole = MemStorage::new();
    drop(Store::open(&whole).unwrap());
    for operation in 1..=whole.operations() {
        for fault in [Fault::PowerLoss, Fault::Broken, Fault::NoSpace, Fault::ShortWrite] {
            let disk = MemStorage::new();
            disk.inject(operation, fault);
            drop(Store::open(&disk));
            for seed in 0..16 {
                let after = disk.crash(seed);
                let mut store = Store::open(&after).unwrap_or_else(|error| panic!("{operation}, {fault:?}: {error}"));
                store.check().unwrap();
                assert_eq!(after.names(), ["state.redb"]);
            }
        }
    }
}

/// The process is killed at each operation of the first opening; the next one opens what it finds and saves something; then the power
/// goes off. What was saved is there: the file's name is durable, whoever gave it.
#[test]
fn a_store_whose_creator_was_killed_is_durable_once_it_is_used() {
    let whole = MemStorage::new();
    drop(Store::open(&whole).unwrap());
    let mut killed = 0;
    for (operation, seed) in (1..=whole.operations()).flat_map(|operation| [(operation, 1), (operation, 2)]) {
        let disk = MemStorage::new();
        disk.seed(seed);
        disk.inject(operation, Fault::Kill);
        drop(Store::open(&disk));
        killed += disk.reached().kills;
        disk.restart();
        let store = Store::open(&disk).unwrap();
        let mut model = Model::default();
        Step::Cut { name: 0, bytes: 100 }.take(1, &mut model, &store).unwrap();
        for seed in 0..12 {
            let found = Model::of(&Store::open(&disk.crash(seed)).unwrap()).unwrap();
            assert!(found == model, "operation {operation}, seed {seed}");
        }
    }
    assert_eq!(killed, 2 * whole.operations());
}

/// The same commits are the same operations on the disk, in the same order: without that no simulation could be repeated.
#[test]
fn the_order_of_operations_is_that_of_the_commits() {
    let trace = || {
        let disk = MemStorage::new();
        disk.trace(true);
        let store = Store::open(&disk).unwrap();
        for frame in 1..=40 {
            let mut model = Model::of(&store).unwrap();
            Step::Cut { name: (frame % 3) as u8, bytes: frame as usize * 997 % 70_000 }
                .take(frame, &mut model, &store)
                .unwrap();
            if frame % 8 == 0 {
                Step::Merge { name: (frame % 3) as u8, count: 4 }.take(frame, &mut model, &store).unwrap();
            }
        }
        drop(store);
        (disk.take_trace(), disk.contents("state.redb"))
    };
    let first = trace();
    assert!(first.0.len() > 200);
    assert!(first == trace(), "two runs differ");
}
