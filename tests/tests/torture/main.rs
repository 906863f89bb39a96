//! A small part of the torture of the real binary (`cargo xtask torture` is all of it): every kind of fault, few of each.

use std::time::Duration;

use tally_tests::torture::report::Report;
use tally_tests::torture::{clocks, disk, inject, kills, lock, signals, swaps};

const SEED: u64 = 7;

fn whole(name: &str, torture: impl FnOnce(&Report)) {
    let report = Report::default();
    torture(&report);
    println!("{name}:\n{report}");
    assert_eq!(report.violations(), 0, "{name}:\n{report}");
}

#[test]
fn two_hundred_kills_lose_nothing_and_count_nothing_twice() {
    let plan = kills::Plan { kills: 200, jobs: 2, seed: SEED, limit: Duration::from_secs(3600) };
    whole("kills", |report| kills::run(plan, report));
}

#[test]
fn faults_of_single_system_calls_leave_everything_whole() {
    whole("strace", |report| inject::run(3, 2, SEED, "", report));
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    whole("full disk", |report| disk::run(20, SEED, report));
}

#[test]
fn sigterm_under_load_leaves_everything_flushed_and_a_second_one_nothing_lost() {
    whole("signals", |report| signals::run(12, SEED, report));
}

#[test]
fn clocks_may_jump() {
    whole("clocks", |report| clocks::run(1, SEED, report));
}

#[test]
fn one_of_two_daemons_has_the_directory() {
    whole("two daemons", |report| lock::run(SEED, report));
}

#[test]
fn sixty_versions_under_load_each_run_or_say_why_not() {
    whole("swaps", |report| swaps::run(swaps::Plan { swaps: 60, seed: SEED }, report));
}
