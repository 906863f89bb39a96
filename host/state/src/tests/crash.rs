//! Commits are all or nothing and durable, whatever happens in the middle.

use proptest::prelude::*;

use crate::Store;

use super::disk::Disk;
use super::model::{Model, Step, steps};

/// Pseudo-random booleans, the same for a seed.
fn chances(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 1
    }
}

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
        let mut store = Store::open(dir.path()).unwrap();
        let mut model = Model::default();
        for (at, step) in steps.iter().enumerate() {
            if at == reopen {
                drop(store);
                store = Store::open(dir.path()).unwrap();
            }
            step.take(at as u64 + 1, &mut model, &store).unwrap();
            prop_assert_eq!(&Model::of(&store).unwrap(), &model);
        }
        store.check().unwrap();
        drop(store);
        prop_assert_eq!(Model::of(&Store::open(dir.path()).unwrap()).unwrap(), model);
    }

    /// The power goes off at any operation, any of what was not synced survives: what was acknowledged is there, and of the
    /// commit in flight all or nothing.
    #[test]
    fn a_crash_loses_nothing_and_halves_nothing(steps in steps(16), at in 0..10_000_u64, seed: u64) {
        let disk = Disk::default();
        let store = Store::on(disk.clone()).unwrap();
        let start = disk.operations();
        work(&store, &steps);
        let operations = disk.operations() - start;
        drop(store);

        let disk = Disk::default();
        let store = Store::on(disk.clone()).unwrap();
        disk.fail_at(Some(start + 1 + at % operations.max(1)));
        let (acknowledged, tried) = work(&store, &steps);
        prop_assert!(operations == 0 || disk.faults() > 0, "the fault was not reached");
        for more in 0..4 {
            let store = Store::on(disk.crash(chances(seed.wrapping_add(more)))).unwrap();
            let found = Model::of(&store).unwrap();
            prop_assert!(found == acknowledged || found == tried, "neither before nor after");
            let mut store = store;
            store.check().unwrap();
        }
    }

    /// After a failed write or sync nothing is acknowledged any more, even if the disk works again.
    #[test]
    fn a_failed_write_is_final(steps in steps(10), at in 0..10_000_u64) {
        let disk = Disk::default();
        let store = Store::on(disk.clone()).unwrap();
        work(&store, &steps);
        let before = disk.operations();
        let mut counted = Model::of(&store).unwrap();
        Step::Cut { name: 0, bytes: 5000 }.take(1000, &mut counted, &store).unwrap();
        let operations = disk.operations() - before;
        prop_assert!(operations >= 4, "a commit has at least two writes and two syncs");

        disk.fail_at(Some(disk.operations() + 1 + at % operations));
        let mut model = counted.clone();
        let failed = Step::Cut { name: 0, bytes: 5000 }.take(1001, &mut model, &store);
        prop_assume!(failed.is_err());
        disk.fail_at(None);
        let mut later = counted.clone();
        let next = Step::Cut { name: 2, bytes: 10 }.take(1002, &mut later, &store);
        prop_assert!(next.is_err(), "a commit after a failed one was acknowledged");
        drop(store);
        let found = Model::of(&Store::on(disk.crash(|| true)).unwrap()).unwrap();
        prop_assert!(found == counted || found == model);
    }
}
