//! What the twin does to what was not synced, and that it leaves alone what was.

use tally_storage::{Storage, StorageFile};
use tally_testkit::{Fault, Kind, MemStorage, Random, Reached};

/// Old content everywhere, then new over it, neither named nor synced to the end.
fn life() -> MemStorage {
    let storage = MemStorage::new();
    let folder = storage.folder("folder").expect("is made");
    for name in ["synced", "rewritten"] {
        let file = folder.create(name).expect("creates");
        file.write_at(&[b'o'; 3000], 0).and_then(|()| file.sync_data()).expect("syncs");
    }
    folder.sync_dir().expect("syncs");
    folder.open("rewritten").and_then(|file| file.write_at(&[b'n'; 2000], 1500)).expect("writes");
    folder
        .create("grown")
        .and_then(|file| file.set_len(700).and_then(|()| file.write_at(b"tail", 650)))
        .expect("writes");
    folder.rename("rewritten", "renamed").expect("renames");
    storage.create_folder("other").expect("creates");
    storage.create("other/inner").expect("creates");
    storage.sync_folder("other").expect("syncs what is in it, not its name");
    storage
}

#[test]
fn everything_that_can_happen_happens() {
    let storage = life();
    let (mut reached, mut names, mut contents) = (Reached::default(), Vec::new(), Vec::new());
    for seed in 0..600 {
        let after = storage.crash(seed);
        assert_eq!(after.contents("folder/synced").expect("was synced"), [b'o'; 3000]);
        assert!(after.names().contains(&"folder".into()));
        let inner = after.names().contains(&"other/inner".to_owned());
        assert_eq!(
            inner,
            after.names().contains(&"other".to_owned()),
            "a folder takes its files along, and gives them back"
        );
        let survivor =
            after.contents("folder/renamed").or(after.contents("folder/rewritten")).expect("under some name");
        assert!(survivor.len() >= 3000 && survivor[..1500] == [b'o'; 1500], "bytes beside a write stay as they were");
        let first = &survivor[1500..1536];
        contents.push(if first == [b'n'; 36] {
            "new"
        } else if first == [b'o'; 36] {
            "old"
        } else if first == [0; 36] {
            "zeros"
        } else if first.iter().all(|byte| b"on".contains(byte)) {
            "torn"
        } else {
            "garbage"
        });
        names.push(after.names());
        reached.add(&after.reached());
        let again = after.crash(seed);
        assert_eq!(again.names(), after.names(), "what a power loss left is durable");
        assert!(again.names().iter().all(|name| again.contents(name) == after.contents(name)));
    }
    for what in ["new", "old", "zeros", "torn", "garbage"] {
        assert!(contents.iter().filter(|&&found| found == what).count() >= 10, "{what}: {contents:?}");
    }
    names.sort();
    names.dedup();
    assert!(names.len() >= 8, "{names:?}");
    let never =
        ["broken operations", "operations without space", "short writes", "failed syncs", "forgotten writes", "kills"];
    for (what, count) in reached.counts() {
        assert_eq!(count > 0, !never.contains(&what), "{what}: {count}");
    }
}

#[test]
fn a_seed_decides_everything() {
    let outcome = |seed| {
        let after = life().crash(seed);
        after.names().into_iter().map(|name| (after.contents(&name), name)).collect::<Vec<_>>()
    };
    for seed in 0..50 {
        assert_eq!(outcome(seed), outcome(seed));
    }
}

#[test]
fn a_fault_falls_where_it_is_aimed() {
    let storage = MemStorage::new();
    let folder = storage.folder("log").expect("is made");
    let file = folder.create("000001").expect("creates");
    storage.inject_on(Kind::SyncData, "log/", 2, Fault::Broken);
    folder.inject_on(Kind::Write, "000002", 1, Fault::NoSpace);
    storage.trace(true);
    file.write_at(b"x", 0).expect("another file's fault");
    file.sync_data().expect("the first one works");
    file.sync_data().expect_err("the second does not");
    file.sync_data().expect("the third one works");
    let told = storage.take_trace().iter().map(ToString::to_string).collect::<Vec<_>>();
    let from = storage.operations() - 3;
    assert_eq!(
        told,
        [
            format!("operation {from}: Write of \"log/000001\" (1 bytes at 0)"),
            format!("operation {}: SyncData of \"log/000001\"", from + 1),
            format!("operation {}: SyncData of \"log/000001\": Broken", from + 2),
            format!("operation {}: SyncData of \"log/000001\"", from + 3),
        ]
    );
    assert_eq!((storage.reached().failed_syncs, storage.reached().no_space), (1, 0));
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let mut done = 0;
    for seed in 0..40 {
        let storage = MemStorage::new();
        storage.seed(seed);
        let file = storage.create("file").expect("creates");
        let _lock = storage.lock("file").expect("works").expect("is free");
        file.write_at(b"before", 0).expect("writes");
        storage.inject(storage.operations() + 1, Fault::Kill);
        file.write_at(b"during", 6).expect_err("killed");
        storage.open("file").err().expect("the process is gone");
        storage.restart();
        file.write_at(b"after", 0).expect_err("a file of the process that is gone");
        assert!(storage.lock("file").expect("works").is_some(), "its locks are free");
        let found = storage.contents("file").expect("the machine goes on");
        assert!([&b"beforeduring"[..], b"beforedur"].contains(&&*found));
        done += u64::from(found.ends_with(b"during"));
        let lost =
            (0..40).filter(|&more| storage.crash(more).contents("file").is_none_or(|left| left != found)).count();
        assert!(lost > 5, "nothing of it was synced");
    }
    assert!((5..35).contains(&done), "{done}");
}

#[test]
fn a_full_disk_counts_what_is_written_and_what_is_reserved() {
    let storage = MemStorage::new();
    storage.set_capacity(Some(4 * 4096));
    let (one, two) = (storage.create("one").expect("creates"), storage.create("two").expect("creates"));
    one.set_len(1 << 20).expect("a hole takes no space");
    one.write_at(b"x", 9000).expect("one page");
    two.allocate(2 * 4096).expect("two more");
    assert_eq!(two.allocate(4 * 4096).expect_err("two more").kind(), std::io::ErrorKind::StorageFull);
    two.write_at(&[1; 2 * 4096], 0).expect("reserved before");
    assert_eq!(two.write_at(&[2; 9000], 8000).expect_err("one page is left").kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(two.len().expect("has a length"), 3 * 4096, "as much as fits");
    storage.remove("one").expect("removes");
    two.write_at(&[2; 4096], 3 * 4096).expect("there is room again");
    assert_eq!(storage.reached().no_space, 2);
}

/// Prints what a power loss costs; asserts nothing about it.
#[test]
fn a_power_loss_is_cheap() {
    let storage = MemStorage::new();
    let mut random = Random::new(1);
    for number in 0..8 {
        let file = storage.create(&format!("file{number}")).expect("creates");
        file.write_at(&(0..256 << 10).map(|_| random.number() as u8).collect::<Vec<_>>(), 0).expect("writes");
        file.sync_data().expect("syncs");
        for _ in 0..4 {
            file.write_at(&[7; 3000], random.below(256 << 10)).expect("writes");
        }
    }
    storage.sync_dir().expect("syncs");
    #[allow(clippy::disallowed_methods, reason = "it measures time, and decides nothing by it")]
    let began = std::time::Instant::now();
    let rounds = 1000;
    for seed in 0..rounds {
        assert_eq!(storage.crash(seed).names().len(), 8);
    }
    println!("{} µs for a power loss over 2 MiB", began.elapsed().as_micros() / u128::from(rounds));
}
