//! The wall clock jumps (libfaketime): an hour and ten years back and forth while events flow, and a second that comes twice.
//! Time that is logged never goes backwards, flushes go on by the monotonic clock, nothing is lost, and an event that is sent again counts once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::life::Life;
use super::report::Report;
use super::site::{Shape, Site};
use crate::http::Http;
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
    report.attempt(&format!("event ids (seed {seed})"), || one_id_counts_once(&library, seed, report));
    report.attempt(&format!("clocks (seed {seed})"), || {
        let mut site = Site::new(Shape::default(), seed);
        set(&site, 0);
        let mut life = site.start_as(command(&site, &library));
        for (turn, offset) in (0..rounds).flat_map(|_| OFFSETS).enumerate() {
            let load = site.load(&life);
            std::thread::sleep(Duration::from_millis(60));
            set(&site, offset);
            wait_until("the daemon sees another clock", || (clock_of(&site) - real() - offset).abs() < 100);
            report.count("jumps of the clock", 1);
            goes_on(&site, &mut life);
            if turn % 3 == 2 {
                life.kill();
                load.stop();
                life = site.start_as(command(&site, &library));
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
    report.must_have_reached(&["jumps of the clock", "starts on another clock", "events sent again behind a jump"]);
}

/// The file that says how far the clock of a site is from the real one, seconds.
fn clock_file(site: &Site) -> PathBuf {
    site.work.path("clock")
}

fn set(site: &Site, offset: i64) {
    let clock = clock_file(site);
    let hidden = clock.with_extension("new");
    std::fs::write(&hidden, format!("{offset:+}\n")).expect("the clock's file");
    std::fs::rename(&hidden, &clock).expect("the clock's file");
}

fn command(site: &Site, library: &Path) -> Command {
    let mut command: Command = site.command();
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock_file(site));
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

/// An event is sent again after each jump, and by the next daemon, which begins on that clock: much later by the clock, and within the
/// window of ten minutes really.
fn one_id_counts_once(library: &Path, seed: u64, report: &Report) {
    let site = Site::new(Shape::default(), seed);
    set(&site, 0);
    let accepted = |life: &Life| {
        let event = br#"{"type":"action","event_id":"once"}"#;
        let json = [("Content-Type", "application/json")];
        let (status, answer) = Http::connect(life.door("http")).ask("POST", "/v1/events", &json, event);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<serde_json::Value>(&answer).expect("an answer in JSON")["accepted"].clone()
    };
    let mut life = site.start_as(command(&site, library));
    assert_eq!(accepted(&life), 1);
    for offset in [HOUR, 0, YEARS, 0] {
        set(&site, offset);
        assert_eq!(accepted(&life), 0, "the clock went to {offset:+} s");
        life.kill();
        life = site.start_as(command(&site, library));
        assert_eq!(accepted(&life), 0, "the daemon began with the clock at {offset:+} s");
        report.count("events sent again behind a jump", 2);
    }
    life.stop();
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
