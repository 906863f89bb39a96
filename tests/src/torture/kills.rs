//! SIGKILL at random moments: under load with plugins being exchanged, during recovery, and again before anything was
//! checked; one data directory for many kills, then a fresh one.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::random::Random;
use super::report::Report;
use super::site::{Shape, Site};
use crate::now;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// SIGKILLs in all.
    pub kills: u64,
    /// Daemons at a time.
    pub jobs: u64,
    /// What decides everything that is random.
    pub seed: u64,
    /// Begins no more sites after so long.
    pub limit: Duration,
}

/// Kills on one data directory.
const PER_SITE: u64 = 50;
/// So many kills between two proofs from the log.
const PER_PROOF: u64 = 12;

/// Runs it.
pub fn run(plan: Plan, report: &Report) {
    let left = AtomicU64::new(plan.kills);
    let sites = AtomicU64::new(0);
    let until = now() + plan.limit;
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                while now() < until {
                    let take = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(left.min(PER_SITE)));
                    let kills = take.map_or(0, |before| before.min(PER_SITE));
                    if kills == 0 {
                        return;
                    }
                    let number = sites.fetch_add(1, SeqCst);
                    one_site(plan.seed, number, kills, report);
                }
            });
        }
    });
    if plan.kills >= 100 {
        report.must_have_reached(&[
            "kills under load",
            "kills during a start",
            "kills before a check",
            "proofs right after a kill",
            "events there that were not acknowledged",
            "events sent that a kill took",
            "lines answered as duplicates",
            "exchanges of a plugin",
            "log segments let go",
            "sites with durability fsync",
            "sites with durability interval",
            "sites with durability os",
        ]);
    }
}

fn one_site(seed: u64, number: u64, kills: u64, report: &Report) {
    let seed = super::random::mix(seed ^ number << 32);
    let durability = ["fsync", "interval", "os"][number as usize % 3];
    report.count(&format!("sites with durability {durability}"), 1);
    let mut site = Site::new(Shape { durability, ..Shape::default() }, seed);
    let mut random = Random::new(seed);
    let what = format!("site {number} (seed {seed}, durability {durability})");
    let done = report.attempt(&what, || {
        let mut killed = 0;
        let mut life = site.start();
        while killed < kills {
            killed += round(&mut site, &mut life, &mut random, report);
            if killed.is_multiple_of(PER_PROOF) {
                site.check(&life);
                life.stop();
                site.verify();
                report.count("proofs from the log", 1);
                life = site.start();
            }
            if killed.is_multiple_of(10) {
                eprintln!("site {number}: {killed} kills, {} events", site.books.accepted());
            }
        }
        life
    });
    let log = site.work.log();
    let logged = |text: &str| log.matches(text).count() as u64;
    report.count("log segments let go", logged("the log lets segments go"));
    report.count("torn tails cut", logged("cut an unsynced tail"));
    report.count("uncommitted records taken back", logged("removed analytics records"));
    report.count("panics of the daemon", logged("panicked"));
    if logged("panicked") > 0 {
        report.violation(format!("{what}: the daemon panicked: {}", site.tail_of_log()));
    }
    let lanes = site.lanes.clone();
    match done {
        Some(life) => {
            let events = report.attempt(&what, || {
                let records = site.records.count();
                let events = site.end(life);
                report.count("proofs from the log", 1);
                report.count("analytics records", records);
                events
            });
            report.count("events counted", events.unwrap_or(0));
        }
        None => eprintln!("{what}: its files stay in {}; see `log` there", site.work.keep().display()),
    }
    report.count("lines answered as duplicates", lanes.iter().map(|lane| lane.duplicates.load(SeqCst)).sum());
    report.count("lines acknowledged", lanes.iter().map(|lane| lane.acked()).sum());
}

/// Load, one kill or several, and a daemon that was checked. Gives how many kills.
fn round(site: &mut Site, life: &mut super::life::Life, random: &mut Random, report: &Report) -> u64 {
    let mut kills = 1;
    let load = site.load(life);
    std::thread::sleep(random.millis(5, 250));
    if random.once_in(3) {
        site.swap();
        report.count("exchanges of a plugin", 1);
        std::thread::sleep(random.millis(0, 60));
    }
    if random.once_in(15) {
        site.toggle_probe();
        std::thread::sleep(random.millis(0, 60));
    }
    if random.once_in(25) {
        site.break_plugin();
        report.count("half plugins", 1);
        std::thread::sleep(random.millis(0, 60));
    }
    life.kill();
    load.stop();
    report.count("kills under load", 1);
    // Some kills meet a daemon that is just starting.
    while random.once_in(3) {
        let mut starting = site.spawn();
        std::thread::sleep(random.millis(0, 60));
        starting.kill();
        report.count("kills during a start", 1);
        kills += 1;
    }
    // Some find producers back before anything was checked.
    while random.once_in(5) {
        let mut again = site.start();
        let load = site.load_unchecked(&again);
        std::thread::sleep(random.millis(1, 100));
        again.kill();
        load.stop();
        report.count("kills before a check", 1);
        kills += 1;
    }
    if random.once_in(4) {
        site.work.verified(&[]);
        report.count("proofs right after a kill", 1);
    }
    *life = site.start();
    let seen = site.check(life);
    report.count("checks", 1);
    report.count("events there that were not acknowledged", seen.unacknowledged);
    report.count("events sent that a kill took", seen.lost_in_flight);
    kills
}
