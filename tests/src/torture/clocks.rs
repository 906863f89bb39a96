//! The wall clock jumps (libfaketime): an hour and ten years back and forth while events flow, and a second that comes twice.
//! Time that is logged never goes backwards, flushes go on by the monotonic clock, and nothing is lost.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::life::Life;
use super::report::Report;
use super::site::{Shape, Site};
use crate::{now, wait_until};

/// Offsets of the clock from the real one, in seconds, one after the other.
const HOUR: i64 = 3600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;
const OFFSETS: [i64; 14] = [0, HOUR, 0, -HOUR, HOUR, 0, -1, 0, -1, YEARS, -YEARS, YEARS, 0, -YEARS];

/// The library, where Debian puts it.
pub fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())
}

/// Sets the clock through all offsets, `rounds` times; a daemon is killed and started on each clock, too.
pub fn run(rounds: u64, seed: u64, report: &Report) {
    let Some(library) = library() else {
        return report.missing("clocks", "libfaketime is not installed (`.ci/run packages` does that)");
    };
    report.attempt(&format!("clocks (seed {seed})"), || {
        let mut site = Site::new(Shape::default(), seed);
        let clock = site.work.path("clock");
        let set = |offset: i64| {
            let hidden = clock.with_extension("new");
            std::fs::write(&hidden, format!("{offset:+}\n")).expect("the clock's file");
            std::fs::rename(&hidden, &clock).expect("the clock's file");
        };
        set(0);
        let command = |site: &Site| {
            let mut command: Command = site.command();
            command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock);
            command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            command
        };
        let mut life = site.start_as(command(&site));
        for (turn, offset) in (0..rounds).flat_map(|_| OFFSETS).enumerate() {
            let load = site.load(&life);
            std::thread::sleep(Duration::from_millis(60));
            set(offset);
            wait_until("the daemon sees another clock", || (clock_of(&site) - real() - offset).abs() < 100);
            report.count("jumps of the clock", 1);
            goes_on(&site, &mut life);
            if turn % 3 == 2 {
                life.kill();
                load.stop();
                life = site.start_as(command(&site));
                report.count("starts on another clock", 1);
            } else {
                load.finish();
            }
            site.check(&life);
            let watermark = site.ask("/v1/status")["aggregators"]["video-actions"]["watermark"].clone();
            let watermark = watermark.as_str().unwrap_or_default();
            // Every minute of the events has a leap second; it counts as the end of its minute.
            assert!(
                watermark <= "2026-06-30T23:59:59.999999Z",
                "the watermark follows events, not clocks: {watermark}"
            );
        }
        report.count("events counted", site.end(life));
    });
    report.must_have_reached(&["jumps of the clock", "starts on another clock"]);
}

/// Acknowledgements and records come, whatever the clock says.
fn goes_on(site: &Site, life: &mut Life) {
    let acked = || site.lanes.iter().map(|lane| lane.acked()).sum::<u64>();
    let records = || site.ask("/v1/status")["records_written"].as_u64().expect("a count");
    let (acked_before, records_before) = (acked(), records());
    let until = now() + super::life::PATIENCE;
    while acked() < acked_before + 1000 || records() < records_before + 2 {
        assert!(now() < until && life.ended().is_none(), "nothing goes on: {}", site.tail_of_log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The real time, seconds since 1970.
fn real() -> i64 {
    let output = crate::succeed(Command::new("date").arg("+%s"));
    output.trim().parse().expect("a number")
}

/// The daemon's time, as it was when it last logged something, which under load it does all the time.
fn clock_of(site: &Site) -> i64 {
    let log = site.work.log();
    let time = log.lines().rev().find_map(|line| line.split(' ').next().filter(|word| word.ends_with('Z')));
    let output = crate::succeed(Command::new("date").args(["+%s", "-d", time.expect("something was logged")]));
    output.trim().parse().expect("a number")
}
