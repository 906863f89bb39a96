//! Power losses: at each single operation, during the recovery from one, and at random over random lives.

use proptest::prelude::*;
use tally_testkit::{Fault, MemStorage, Reached};
use tally_wal::{Log, Options};

use crate::script::{DURABILITIES, End, Promises, example, options, steps};

#[test]
fn a_power_loss_at_any_operation_loses_nothing_durable() {
    for durability in DURABILITIES {
        lose_power_at_any_operation(&Options { durability, ..options(0) });
    }
}

fn lose_power_at_any_operation(options: &Options) {
    let whole = MemStorage::new();
    assert!(matches!(Promises::default().run(&whole, &example(), options), End::Done));
    let mut reached = Reached::default();
    for operation in 1..=whole.operations() {
        for seed in 0..16 {
            let storage = MemStorage::new();
            storage.inject(operation, Fault::PowerLoss);
            let mut promises = Promises::default();
            promises.run(&storage, &example(), options);
            let after = storage.crash(seed * 7919 + operation);
            promises.check(&after, options);
            reached.add(&after.reached());
        }
    }
    assert!(reached.torn_sectors > 100 && reached.lost_sectors > 100 && reached.lost_names > 100, "{reached:?}");
    assert!(reached.zeroed_sectors > 30 && reached.garbage_sectors > 30 && reached.kept_names > 100, "{reached:?}");
}

#[test]
fn a_power_loss_during_recovery_loses_nothing_either() {
    for durability in DURABILITIES {
        lose_power_during_recovery(&Options { durability, ..options(0) });
    }
}

fn lose_power_during_recovery(options: &Options) {
    let whole = MemStorage::new();
    Promises::default().run(&whole, &example(), options);
    let mut recoveries_cut = 0;
    for operation in 1..=whole.operations() {
        for seed in 0..2 {
            let storage = MemStorage::new();
            storage.inject(operation, Fault::PowerLoss);
            let mut promises = Promises::default();
            promises.run(&storage, &example(), options);
            for in_recovery in 1.. {
                let second = storage.crash(seed);
                second.inject(in_recovery, Fault::PowerLoss);
                let opened = Log::open(second.clone(), options.clone()).is_ok();
                promises.clone().check(&second.crash(seed + in_recovery), options);
                if opened {
                    break;
                }
                recoveries_cut += 1;
            }
        }
    }
    assert!(recoveries_cut > 1000, "{recoveries_cut}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Several crashes in one life, with and without the thread that prepares files.
    #[test]
    fn random_lives_with_crashes(
        lives in prop::collection::vec((steps(), 1..120_u64, any::<u64>()), 1..4),
        spares in 0..3_usize,
        durability in prop::sample::select(&DURABILITIES[..]),
    ) {
        let options = Options { durability, ..options(spares) };
        let mut storage = MemStorage::new();
        let mut promises = Promises::default();
        for (steps, crash_after, seed) in lives {
            storage.inject(crash_after, Fault::PowerLoss);
            promises.run(&storage, &steps, &options);
            storage = storage.crash(seed);
            promises.check(&storage, &options);
            storage = storage.crash(seed);
        }
    }
}
