//! Real files, the background thread, and readers beside a writer.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tally_storage::{RealStorage, Storage};
use tally_testkit::MemStorage;
use tally_wal::{Durability, Frame, Log, OpenError, Options, ReadError, Reader};

use crate::script::{body, read_all};

fn options() -> Options {
    Options { segment_bytes: 64 << 10, spare_segments: 2, ..Options::default() }
}

#[test]
fn a_log_survives_restarts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a/b/log");
    let mut expected = Vec::new();
    for life in 0..4_u64 {
        let storage = RealStorage::new(&path).expect("creates the directories");
        let (mut log, recovered) = Log::open(storage, options()).expect("opens");
        assert_eq!(recovered.next_frame, expected.len() as u64 + 1);
        for at in 0..40 {
            let body = body(life * 100 + at, 3000);
            if log.needs_roll(body.len()) {
                log.roll(b"opening").expect("rolls");
                expected.push(b"opening".to_vec());
            }
            log.append(1, &body).expect("appends");
            expected.push(body);
        }
        let bodies: Vec<_> = read_all(&mut log.reader()).into_iter().map(|frame| frame.body).collect();
        assert_eq!(bodies, expected);
    }
}

/// What is written past the page cache is what a disk in memory holds, byte for byte: frames that end anywhere, frames longer than a segment,
/// segments that end within a block, a torn tail, and each life begins within the block where the last one ended.
fn files_are_those_of_memory(dir: &Path, segment_bytes: u64, spare_segments: usize) {
    let options = Options { segment_bytes, spare_segments, salt: Some(7), ..Options::default() };
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let (real, memory) = (RealStorage::new(dir.path()).expect("a directory"), MemStorage::new());
    let mut frames = 0;
    for life in 0..5_u64 {
        let (mut log, recovered) = Log::open(real.clone(), options.clone()).expect("opens");
        let (mut twin, twins) = Log::open(memory.clone(), options.clone()).expect("opens");
        assert_eq!((&recovered, recovered.next_frame), (&twins, frames + 1));
        for at in 0..30 {
            let length = [0, 1, 19, 180, 2000, 4096, 5001, 20_000][(at * 3 + life) as usize % 8];
            let body = body(life * 100 + at, length);
            if log.needs_roll(body.len()) {
                log.roll(b"opening").expect("rolls");
                twin.roll(b"opening").expect("rolls");
            }
            assert_eq!(log.append(1, &body).expect("appends"), twin.append(1, &body).expect("appends"));
        }
        frames = log.next_frame() - 1;
        assert_eq!(read_all(&mut log.reader()), read_all(&mut twin.reader()));
        let active = log.segments().last().expect("a segment").clone();
        drop((log, twin));
        for segment in memory.names().into_iter().filter(|name| name.ends_with(".seg")) {
            let (one, other) = (fs::read(dir.path().join(&segment)), memory.contents(&segment));
            assert!(one.expect("reads") == other.expect("is there"), "{segment} differs in life {life}");
        }
        let mut torn = memory.contents(&active.name).expect("is there");
        let end = torn.iter().rposition(|byte| *byte != 0).expect("frames") + 30;
        let until = torn.len().min(end + 5000);
        torn[end.min(until)..until].fill(0xEE);
        fs::write(dir.path().join(&active.name), &torn).expect("writes");
        memory.overwrite(&active.name, torn);
    }
}

#[test]
fn what_goes_past_the_page_cache_is_what_was_written() {
    for (segment_bytes, spares) in [(64 << 10, 1), (30_000, 0), (12 << 10, 0), (12_296, 1)] {
        files_are_those_of_memory(&std::env::temp_dir(), segment_bytes, spares);
        // Another kind of file system, where there is one.
        let memory = Path::new("/dev/shm");
        if memory.is_dir() {
            files_are_those_of_memory(memory, segment_bytes, spares);
        }
    }
}

/// Whether any file below `dir` is open past the page cache.
fn goes_past_the_page_cache(dir: &Path) -> bool {
    let files = fs::read_dir("/proc/self/fd").expect("lists").map(|file| file.expect("lists").file_name());
    files.into_iter().any(|number| {
        let number = Path::new(&number);
        // Other tests close theirs meanwhile.
        let below = fs::read_link(Path::new("/proc/self/fd").join(number)).is_ok_and(|file| file.starts_with(dir));
        let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(number)).unwrap_or_default();
        let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        below && flags.is_some_and(|flags| flags & rustix::fs::OFlags::DIRECT.bits() != 0)
    })
}

#[test]
fn only_a_log_that_syncs_each_frame_goes_past_the_page_cache() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().canonicalize().expect("is there").join(name);
    let probe = RealStorage::new(path("probe")).expect("a directory");
    let file = probe.create_for_appending("file").expect("creates");
    if !goes_past_the_page_cache(&path("probe")) {
        return eprintln!("skipped: this file system has no way past the page cache");
    }
    drop(file);
    for (name, durability) in [
        ("fsync", Durability::Fsync),
        ("interval", Durability::Interval(Duration::from_secs(1))),
        ("os", Durability::Os),
    ] {
        for spare_segments in [0, 1] {
            let options = Options { durability, spare_segments, ..options() };
            let (mut log, _) = Log::open(RealStorage::new(path(name)).expect("a directory"), options).expect("opens");
            log.roll(b"opening").expect("rolls");
            log.append(1, b"frame").expect("appends");
            assert_eq!(goes_past_the_page_cache(&path(name)), durability == Durability::Fsync, "{name}");
        }
    }
}

#[test]
fn a_directory_has_one_writer_and_any_number_of_readers() {
    let dir = tempfile::tempdir().expect("a directory");
    let storage = RealStorage::new(dir.path()).expect("a directory");
    let (mut log, _) = Log::open(storage.clone(), options()).expect("opens");
    log.roll(b"opening").expect("rolls");
    assert!(matches!(Log::open(storage, options()), Err(OpenError::Locked { .. })));
    let mut reader = Reader::open_read_only(RealStorage::read_only(dir.path()).expect("exists")).expect("opens");
    assert_eq!(read_all(&mut reader).len(), 1);
    assert!(Log::open(RealStorage::read_only(dir.path()).expect("exists"), options()).is_err());
    RealStorage::read_only(dir.path().join("missing")).expect_err("nothing is created");
}

#[test]
fn a_reader_without_a_log_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = Log::open(RealStorage::new(dir.path()).expect("a directory"), options()).expect("opens");
    log.roll(b"opening").expect("rolls");
    log.append(1, b"frame").expect("appends");
    drop(log);
    let listing = || {
        let mut names = RealStorage::read_only(dir.path()).expect("exists").list().expect("lists");
        names.sort();
        names
            .into_iter()
            .map(|name| (name.clone(), fs::read(dir.path().join(name)).expect("a file")))
            .collect::<Vec<_>>()
    };
    let before = listing();
    let mut reader = Reader::open_read_only(RealStorage::read_only(dir.path()).expect("exists")).expect("opens");
    assert_eq!(read_all(&mut reader).len(), 2);
    assert!(listing() == before);
}

#[test]
fn readers_beside_a_busy_writer_see_every_frame_once() {
    const FRAMES: u64 = 3000;
    let dir = tempfile::tempdir().expect("a directory");
    let (mut log, _) = Log::open(RealStorage::new(dir.path()).expect("a directory"), options()).expect("opens");
    let readers = [log.reader(), log.reader()];
    let outside = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let following: Vec<_> = readers.into_iter().map(|reader| scope.spawn(|| follow(reader, FRAMES))).collect();
        // Somebody else looks at the directory meanwhile: what it sees is never damaged.
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while outside.load(Ordering::Relaxed) {
                looks += u64::from(look_from_outside(dir.path()));
            }
            looks
        });
        for number in 1..=FRAMES {
            let body = body(number, (number % 90) as usize * 40);
            if log.needs_roll(body.len()) || number == 1 {
                log.roll(&body).expect("rolls");
                log.delete_before(number.saturating_sub(1500)).expect("deletes");
            } else {
                log.append(1, &body).expect("appends");
            }
            if number % 100 == 0 {
                // Readers must not fall behind what is deleted.
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        let last: Vec<_> = following.into_iter().map(|thread| thread.join().expect("reads everything")).collect();
        assert_eq!(last, [FRAMES, FRAMES]);
        outside.store(false, Ordering::Relaxed);
        assert!(looking.join().expect("sees no damage") > 0);
    });
    let files = fs::read_dir(dir.path()).expect("lists").count();
    let kept = log.segments().len();
    drop(log);
    let left = fs::read_dir(dir.path()).expect("lists").count();
    // Segments, lock, and at most twice as many spares as asked for; one may be in the making.
    assert!(left <= kept + 1 + 2 * options().spare_segments + 1, "{left} files, {kept} segments, {files} before");
    assert!(log_is_whole(dir.path()) > 1500);
}

fn follow(mut reader: Reader<RealStorage>, frames: u64) -> u64 {
    let mut frame = Frame::default();
    let mut last = 0;
    while last < frames {
        match reader.next(&mut frame) {
            Ok(true) => {
                assert_eq!(frame.number, last + 1);
                assert_eq!(frame.body, body(frame.number, (frame.number % 90) as usize * 40));
                last = frame.number;
            }
            Ok(false) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    last
}

/// Reads all there is; true when it came to the end before anything it stood on was deleted.
fn look_from_outside(path: &std::path::Path) -> bool {
    let storage = RealStorage::read_only(path).expect("exists");
    let mut reader = match Reader::open_read_only(storage) {
        Ok(reader) => reader,
        // Deletions kept overtaking it.
        Err(OpenError::Io { .. }) => return false,
        Err(error) => panic!("{error}"),
    };
    let mut frame = Frame::default();
    loop {
        match reader.next(&mut frame) {
            Ok(true) => assert_eq!(frame.body, body(frame.number, (frame.number % 90) as usize * 40)),
            Ok(false) => return true,
            Err(ReadError::Gone { .. }) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

fn log_is_whole(path: &std::path::Path) -> usize {
    let (log, recovered) = Log::open(RealStorage::new(path).expect("exists"), options()).expect("opens");
    assert_eq!(recovered.torn_bytes, 0);
    read_all(&mut log.reader()).len()
}
