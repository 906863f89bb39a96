//! `cargo xtask torture` runs this: torture of the real binary, in full. Prints its counts, and its violations last.

use std::process::ExitCode;
use std::time::Duration;

use tally_tests::torture::report::Report;
use tally_tests::torture::{clocks, disk, inject, kills, lock, signals, swaps};

fn main() -> ExitCode {
    let text = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let number = |name: &str, default: u64| {
        text(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
    };
    let seed = number("--seed", 1);
    let only = text("--only");
    let report = Report::default();
    let wanted = |name: &str| {
        let is_wanted = only.as_ref().is_none_or(|only| only == name);
        if is_wanted {
            eprintln!("torture: {name}");
        }
        is_wanted
    };
    if wanted("lock") {
        lock::run(seed, &report);
    }
    if wanted("signals") {
        signals::run(number("--rounds", 40), seed, &report);
    }
    if wanted("clock") {
        clocks::run(2, seed, &report);
    }
    if wanted("strace") {
        inject::run(number("--rounds", 12), number("--jobs", 2), seed, &text("--match").unwrap_or_default(), &report);
    }
    if wanted("disk") {
        disk::run(number("--rounds", 20), seed, &report);
    }
    if wanted("swaps") {
        swaps::run(swaps::Plan { swaps: number("--swaps", 1000), seed }, &report);
    }
    if wanted("kills") {
        let limit = Duration::from_secs(60 * number("--minutes", 600));
        kills::run(kills::Plan { kills: number("--kills", 5000), jobs: number("--jobs", 2), seed, limit }, &report);
    }
    println!("{report}");
    if report.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
