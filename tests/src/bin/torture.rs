//! `cargo xtask torture` runs this: torture of the real binary, in full. Prints its counts, and its violations last.

use std::process::ExitCode;
use std::time::Duration;

use tally_tests::torture::kills;
use tally_tests::torture::report::Report;

fn main() -> ExitCode {
    let argument = |name: &str| {
        let mut all = std::env::args().skip_while(|argument| argument != name).skip(1);
        all.next().map(|value| value.parse::<u64>().unwrap_or_else(|_| panic!("{name} takes a number")))
    };
    let report = Report::default();
    let plan = kills::Plan {
        kills: argument("--kills").unwrap_or(5000),
        jobs: argument("--jobs").unwrap_or(2),
        seed: argument("--seed").unwrap_or(1),
        limit: Duration::from_secs(60 * argument("--minutes").unwrap_or(600)),
    };
    kills::run(plan, &report);
    println!("{report}");
    if report.violations() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
