//! How fast this disk takes frames: raw `fdatasync` beside the log, for several body sizes, and how fast they are read back.
//!
//! `cargo run --release -p tally-wal --example throughput -- DIR [SECONDS]`

#![allow(clippy::disallowed_methods, reason = "a measurement is about the clock")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tally_storage::{RealStorage, Storage};
use tally_wal::{Frame, Log, Options};

/// Bytes per event of the usual workload.
const EVENT: usize = 125;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let Some(dir) = args.next() else {
        return Err("say in which directory to measure, for example /var/tmp/wal".into());
    };
    let seconds = args.next().map_or(Ok(2.0), |text| text.parse())?;
    let time = Duration::from_secs_f64(seconds);
    println!(
        "{:<28} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "", "frames/s", "MB/s", "p50 us", "p99 us", "max us", "M ev/s"
    );
    for size in [128, 4 << 10, 64 << 10, 256 << 10, 1 << 20] {
        raw(Path::new(&dir), size, time)?;
        log(Path::new(&dir), size, time)?;
    }
    Ok(())
}

/// The same writes and syncs without a log, on a file of zeros.
fn raw(dir: &Path, size: usize, time: Duration) -> Result<()> {
    const FILE: usize = 64 << 20;
    std::fs::create_dir_all(dir)?;
    let path = dir.join("raw.bin");
    let file = File::create(&path)?;
    let zeros = vec![0; 1 << 20];
    for at in 0..FILE >> 20 {
        file.write_all_at(&zeros, (at << 20) as u64)?;
    }
    file.sync_all()?;
    let body = vec![7; size];
    let mut at = 0;
    let mut latencies = Latencies::new(time);
    while latencies.run() {
        let offset = at % (FILE - size);
        latencies.measure(|| -> io::Result<()> {
            file.write_all_at(&body, offset as u64)?;
            file.sync_data()
        })?;
        at += size;
    }
    latencies.print(&format!("raw    {size:>8} bytes"), size);
    std::fs::remove_file(path)?;
    Ok(())
}

fn log(dir: &Path, size: usize, time: Duration) -> Result<()> {
    let dir = dir.join("log");
    let storage = RealStorage::new(&dir)?;
    let (mut log, _) = Log::open(storage.clone(), Options::default())?;
    let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let count = (size / EVENT).max(1) as u32;
    let mut rolls = Latencies::new(time);
    let mut latencies = Latencies::new(time);
    while latencies.run() {
        if log.needs_roll(size) {
            rolls.measure(|| log.roll(b"opening"))?;
            log.delete_before(log.next_frame().saturating_sub((256 << 20) / size as u64))?;
        }
        latencies.measure(|| log.append(count, &body))?;
    }
    latencies.print(&format!("log    {size:>8} bytes"), size);
    rolls.print("  of which rolls", 0);

    let mut reader = log.reader();
    let mut frame = Frame::default();
    let mut bytes = 0;
    let start = Instant::now();
    while reader.next(&mut frame)? {
        bytes += frame.body.len();
    }
    let read = start.elapsed();
    let start = Instant::now();
    drop(log);
    let closed = start.elapsed();
    let start = Instant::now();
    drop(Log::open(storage.clone(), Options::default())?);
    println!(
        "  read back {:.0} MB/s, close {closed:.1?}, open {:.1?}",
        bytes as f64 / read.as_secs_f64() / 1e6,
        start.elapsed()
    );
    for name in storage.list()? {
        storage.remove(&name)?;
    }
    Ok(())
}

struct Latencies {
    each: Vec<Duration>,
    start: Instant,
    time: Duration,
}

impl Latencies {
    fn new(time: Duration) -> Latencies {
        Latencies { each: Vec::new(), start: Instant::now(), time }
    }

    fn run(&self) -> bool {
        self.start.elapsed() < self.time
    }

    fn measure<T, E>(&mut self, act: impl FnOnce() -> std::result::Result<T, E>) -> std::result::Result<T, E> {
        let start = Instant::now();
        let result = act()?;
        self.each.push(start.elapsed());
        Ok(result)
    }

    fn print(&mut self, what: &str, size: usize) {
        let elapsed = self.start.elapsed().as_secs_f64();
        self.each.sort_unstable();
        let rate = self.each.len() as f64 / elapsed;
        let at = |share: f64| {
            let index = (self.each.len() as f64 * share) as usize;
            self.each.get(index.min(self.each.len().saturating_sub(1))).map_or(0, Duration::as_micros)
        };
        let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
        let megabytes = rate * size as f64 / 1e6;
        let events = rate * (size / EVENT).max(usize::from(size > 0)) as f64 / 1e6;
        println!("{what:<28} {rate:>9.0} {megabytes:>9.1} {p50:>8} {p99:>8} {max:>8} {events:>8.2}");
    }
}
