//! Many worlds: seeds by the thousand, and one world again and again with its fault at every operation. Side by side on all cores.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tally_testkit::Fault;

use crate::counts::Counts;
use crate::world::{Kit, Planned, Report, Shape, World};

/// What many worlds came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How often things were reached.
    pub counts: Counts,
    /// What should not have been, with what shows it again.
    pub violations: Vec<String>,
}

/// No operation has this number.
const NEVER: Planned = Planned { operation: u64::MAX >> 1, fault: Fault::PowerLoss };

/// A world as chance has it.
pub const BY_CHANCE: Shape = Shape { lives: 5, steps: 500, first: None, second: None };

/// Worlds as chance has them, one per seed.
pub fn seeds(kit: &Kit, seeds: Range<u64>, threads: usize) -> Outcome {
    let shape = BY_CHANCE;
    side_by_side(seeds, threads, |seed| {
        let mut outcome = Outcome::default();
        take(&mut outcome, run(kit, seed, shape), || format!("cargo xtask sim --seeds {seed}..{}", seed + 1));
        outcome
    })
}

/// The power goes at every operation of a workload, and again at some operation of the recovery.
pub fn points(kit: &Kit, workloads: Range<u64>, steps: u64, only: Option<u64>, threads: usize) -> Outcome {
    every_operation(kit, workloads, steps, only, threads, &[Fault::PowerLoss])
}

/// Every operation of a workload fails once in every way.
pub fn faults(kit: &Kit, workloads: Range<u64>, steps: u64, only: Option<u64>, threads: usize) -> Outcome {
    every_operation(kit, workloads, steps, only, threads, &[Fault::Broken, Fault::NoSpace, Fault::ShortWrite])
}

fn every_operation(
    kit: &Kit,
    workloads: Range<u64>,
    steps: u64,
    only: Option<u64>,
    threads: usize,
    faults: &[Fault],
) -> Outcome {
    side_by_side(workloads, threads, |seed| {
        let mut outcome = Outcome::default();
        let shape = Shape { lives: 1, steps, first: Some(NEVER), second: Some(NEVER) };
        let operations = match run(kit, seed, shape) {
            Ok(report) => report.first_operations,
            Err(error) => {
                outcome.violations.push(format!("workload {seed}, without any fault: {error}"));
                return outcome;
            }
        };
        outcome.counts.one("workloads");
        for operation in 1..=operations {
            if only.is_some_and(|only| only != operation) {
                continue;
            }
            for &fault in faults {
                let again = || {
                    let what = if fault == Fault::PowerLoss { "points" } else { "faults" };
                    format!("cargo xtask sim --{what} {seed}..{} --operation {operation}", seed + 1)
                };
                let shape = Shape { first: Some(Planned { operation, fault }), ..shape };
                let once = run(kit, seed, shape);
                let recovery = once.as_ref().map_or(0, |report| report.second_operations);
                take(&mut outcome, once, again);
                outcome.counts.one(if fault == Fault::PowerLoss { "crash points" } else { "faults injected" });
                if recovery > 0 {
                    let second = 1 + crate::random::mixed(seed << 32 | operation) % recovery;
                    let second = Some(Planned { operation: second, fault: Fault::PowerLoss });
                    take(&mut outcome, run(kit, seed, Shape { second, ..shape }), again);
                    outcome.counts.one("crash points within a recovery");
                }
            }
        }
        outcome
    })
}

/// Runs one world; a panic is an error like any other.
fn run(kit: &Kit, seed: u64, shape: Shape) -> Result<Report, String> {
    let world = || World::new(kit, seed, shape)?.run();
    match catch_unwind(AssertUnwindSafe(world)) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => Err(format!("panic: {}", text_of(&*panic))),
    }
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")
}

fn take(outcome: &mut Outcome, run: Result<Report, String>, again: impl Fn() -> String) {
    match run {
        Ok(report) => outcome.counts.merge(&report.counts),
        Err(error) => outcome.violations.push(format!("{}   # {error}", again())),
    }
}

/// Calls `work` for every number, on several threads, and adds up.
pub(crate) fn side_by_side(numbers: Range<u64>, threads: usize, work: impl Fn(u64) -> Outcome + Sync) -> Outcome {
    let next = AtomicU64::new(numbers.start);
    let total = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= numbers.end {
                        return;
                    }
                    let outcome = work(number);
                    let mut total = total.lock().expect("no thread panics with it");
                    total.counts.merge(&outcome.counts);
                    for violation in outcome.violations {
                        eprintln!("violation: {violation}");
                        total.violations.push(violation);
                    }
                }
            });
        }
    });
    total.into_inner().expect("all threads have ended")
}
