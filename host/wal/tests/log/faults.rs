//! Failing operations: each one, in each way, followed by a restart with what the kernel shows, or by a power loss.

use proptest::prelude::*;
use tally_storage::Storage;
use tally_testkit::{Fault, MemStorage, Reached};
use tally_wal::{AppendError, Durability, Log, Options};

use crate::script::{DURABILITIES, End, Promises, Step, body, example, options, read_all, steps};

const FAULTS: [Fault; 4] = [Fault::Broken, Fault::NoSpace, Fault::ShortWrite, Fault::Kill];

#[test]
fn after_a_failure_of_any_operation_everything_durable_is_there() {
    for durability in DURABILITIES {
        fail_at_any_operation(&Options { durability, ..options(0) });
    }
}

fn fail_at_any_operation(options: &Options) {
    let whole = MemStorage::new();
    assert!(matches!(Promises::default().run(&whole, &example(), options), End::Done));
    let mut reached = Reached::default();
    let mut stopped = 0;
    for fault in FAULTS {
        for operation in 1..=whole.operations() {
            let storage = MemStorage::new();
            storage.seed(operation);
            storage.inject(operation, fault);
            let mut promises = Promises::default();
            let end = promises.run(&storage, &example(), options);
            stopped += u64::from(!matches!(end, End::Done));
            reached.add(&storage.reached());
            storage.restart();

            // The process starts again over what the kernel shows, works, and then the power fails.
            let mut after_restart = promises.clone();
            after_restart.run(&storage, &[Step::Append { count: 2, len: 900 }], options);
            after_restart.check(&storage.crash(operation), options);
        }
    }
    let each = whole.operations();
    assert_eq!((reached.broken, reached.no_space, reached.kills), (2 * each, each, each), "every fault was met");
    let fsync = options.durability == Durability::Fsync;
    assert!(reached.short_writes > 10 && reached.failed_syncs > if fsync { 30 } else { 20 }, "{reached:?}");
    assert!(stopped > if fsync { 150 } else { 100 }, "{stopped}");
}

#[test]
fn a_failed_sync_is_not_forgotten_by_a_restart() {
    // The frame whose sync failed shows in reads; it must not be built on before it is really on the disk.
    let mut survived = 0;
    for seed in 0..50 {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), options(0)).expect("new");
        log.roll(b"opening").expect("rolls");
        log.append(1, &body(2, 600)).expect("appends");
        let sync = storage.operations() + 2;
        storage.inject(sync, Fault::Broken);
        log.append(1, &body(3, 2000)).expect_err("the sync fails");
        assert_eq!(storage.reached().failed_syncs, 1);
        drop(log);
        storage.restart();

        let (log, recovered) = Log::open(storage.clone(), options(0)).expect("opens");
        let said = read_all(&mut log.reader());
        assert_eq!(said.len() as u64, recovered.next_frame - 1);
        let after = storage.crash(seed);
        let (log, _) = Log::open(after, options(0)).expect("opens");
        assert_eq!(read_all(&mut log.reader()), said, "what a recovery reports is durable");
        survived += u64::from(said.len() == 3);
    }
    assert!(survived > 0);
}

#[test]
fn a_full_disk_stops_nothing_but_the_roll() {
    let storage = MemStorage::new();
    let mut promises = Promises::default();
    let steps = [Step::Append { count: 1, len: 100 }];
    assert!(matches!(promises.run(&storage, &steps, &options(0)), End::Done));
    storage.restart();
    let (mut log, _) = Log::open(storage.clone(), options(0)).expect("opens");
    storage.set_capacity(Some(10_000));
    for _ in 0..3 {
        assert!(matches!(log.roll(b"second"), Err(AppendError::DiskFull { .. })));
    }
    log.append(1, b"the open segment takes more").expect("appends");
    storage.set_capacity(None);
    log.roll(b"second").expect("there is room again");
    log.append(1, b"after").expect("appends");
    let bodies: Vec<_> = read_all(&mut log.reader()).into_iter().map(|frame| frame.body).collect();
    assert_eq!(bodies[2..], [&b"the open segment takes more"[..], b"second", b"after"]);
    assert!(storage.names().iter().all(|name| !name.starts_with("spare")), "{:?}", storage.names());
}

#[test]
fn the_last_of_the_disk_is_for_who_lets_segments_go() {
    let segment = options(0).segment_bytes;
    for (spare_bytes, fits) in [(segment * 2 - 4096, false), (segment * 2, true)] {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), options(0)).expect("opens");
        log.roll(b"first").expect("rolls");
        storage.set_capacity(Some(0));
        let used = {
            let mut used = 0;
            while storage.free_space().expect("known") == 0 {
                used += 4096;
                storage.set_capacity(Some(used));
            }
            used - 4096
        };
        storage.set_capacity(Some(used + spare_bytes));
        log.reserve(100).expect("this segment has room");
        let next = log.reserve(segment as usize - 4096 - 56);
        match next {
            Ok(()) => assert!(fits, "it took what others need"),
            Err(error) => assert!(!fits && matches!(error, AppendError::DiskFull { .. }), "{error}"),
        }
        let others = if fits { segment } else { segment * 2 - 4096 };
        assert_eq!(storage.free_space().expect("known"), others);
        log.roll(b"second").expect("what cannot wait has that room");
    }
}

#[test]
fn a_failed_deletion_never_leaves_a_gap() {
    for fail_at in 1..8 {
        let storage = MemStorage::new();
        let (mut log, _) = Log::open(storage.clone(), options(0)).expect("new");
        for number in 1..=5 {
            log.roll(&body(number, 10)).expect("rolls");
        }
        storage.inject(storage.operations() + fail_at, Fault::Broken);
        let first = log.delete_before(4);
        let listed = log.segments();
        let second = log.delete_before(5);
        assert!(first.is_ok() || log.segments() == listed, "what may still be there stays in the list");
        assert_eq!(first.is_err(), fail_at <= 6, "{fail_at}");
        assert_eq!(second.is_err(), fail_at <= 8, "{fail_at}");
        log.append(1, b"goes on").expect("appends");
        drop(log);
        for seed in 0..20 {
            let (log, recovered) = Log::open(storage.crash(seed), options(0)).expect("no gap");
            assert!(recovered.first_frame <= 5);
            assert_eq!(read_all(&mut log.reader()).len() as u64, 7 - recovered.first_frame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_lives_with_failures(
        lives in prop::collection::vec((steps(), 1..100_u64, 0..4_usize, any::<bool>(), any::<u64>()), 1..4),
        spares in 0..2_usize,
        durability in prop::sample::select(&DURABILITIES[..]),
    ) {
        let options = Options { durability, ..options(spares) };
        let mut storage = MemStorage::new();
        let mut promises = Promises::default();
        for (steps, fail_after, fault, power_loss, seed) in lives {
            storage.seed(seed);
            storage.inject(storage.operations() + fail_after, FAULTS[fault]);
            promises.run(&storage, &steps, &options);
            storage.restart();
            if power_loss {
                storage = storage.crash(seed);
            }
            promises.check(&storage, &options);
        }
        promises.check(&storage.crash(1), &options);
    }
}
