//! What is simulated: the command line, the sizes for every day and for the record, and what came of it in words.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use crate::counts::Counts;
use crate::flips;
use crate::runs::{self, Outcome};
use crate::world::Kit;

/// Whole lives of the daemon in memory, with every fault. Any violation is printed with the command that shows it again.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask sim")]
pub struct Cli {
    /// Worlds as chance has them, one per seed.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub seeds: Option<Range<u64>>,
    /// Workloads in which the power goes at every single operation, and again while recovering.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub points: Option<Range<u64>>,
    /// Workloads in which every single operation fails as on a broken disk, on a full one, and half way.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub faults: Option<Range<u64>>,
    /// A data directory in which every N-th byte is another, in ten ways.
    #[arg(long, value_name = "N")]
    pub flips: Option<u64>,
    /// Only this operation of the workloads, or this byte of the directory.
    #[arg(long, value_name = "N")]
    pub operation: Option<u64>,
    /// Steps of a workload, at most.
    #[arg(long, value_name = "N", default_value_t = 150)]
    pub steps: u64,
    /// How many worlds are simulated at the same time.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// The folders with the components.
    #[arg(long, value_name = "DIR", env = "TALLY_COMPONENTS", value_delimiter = ':')]
    pub components: Vec<PathBuf>,
    /// As much as for the record: hours.
    #[arg(long, conflicts_with_all = ["seeds", "points", "faults", "flips"])]
    pub record: bool,
    /// Show what the daemon logs.
    #[arg(long)]
    pub verbose: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("a range is written FROM..TO, such as 0..1000")?;
    let number = |text: &str| text.replace('_', "").parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

/// What must have been reached when so many worlds or points were simulated.
const BY_SEEDS: &[&str] = &[
    "broken operations",
    "jobs parsed ahead",
    "calls shared by shards",
    "chunks sent",
    "chunks that found no room",
    "cuts asked for",
    "disks filled",
    "errors that ended a life",
    "failed syncs",
    "faults while recovering",
    "flush records",
    "forgotten writes",
    "jumps of the wall clock",
    "kills",
    "lengths lost",
    "logs that let segments go",
    "names lost",
    "operations without space",
    "plans activated",
    "power losses",
    "questions answered",
    "replays right after an end",
    "replays that gave the same bytes",
    "lines of a state begun",
    "states carried over to another version",
    "steps of the wall clock between lives",
    "sectors lost",
    "sectors of garbage",
    "sectors torn",
    "sectors zeroed",
    "short writes",
    "stops",
    "stored versions removed",
    "unsynced changes kept",
    "unsynced names kept",
    "waits for a full disk",
];

impl Cli {
    /// The same, with the sizes it stands for where it names none.
    pub fn with_sizes(mut self) -> Self {
        let names_none = self.seeds.is_none() && self.points.is_none() && self.faults.is_none() && self.flips.is_none();
        if self.record {
            // About 50 operations per workload: more than 100,000 crash points.
            (self.seeds, self.points) = (Some(0..100_000), Some(0..2500));
            (self.faults, self.flips) = (Some(0..500), Some(1));
        } else if names_none {
            (self.seeds, self.points, self.faults, self.flips) = (Some(0..1000), Some(0..2), Some(0..1), Some(193));
        }
        self
    }

    /// Simulates and prints. True when nothing was violated and everything needed was reached.
    pub fn run(&self, kit: &Kit) -> bool {
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let (mut violations, mut missed) = (0, 0);
        let mut say = |what: &str, outcome: &Outcome, needed: &[&str]| {
            println!("{what}");
            for (name, count) in Counts::iter(&outcome.counts) {
                println!("  {count:>12}  {name}");
            }
            for name in needed.iter().filter(|name| outcome.counts.of(name) == 0) {
                println!("  never reached: {name}");
                missed += 1;
            }
            violations += outcome.violations.len();
        };
        let all = self.operation.is_none();
        if let Some(seeds) = &self.seeds {
            let needed = if seeds.end - seeds.start >= 500 { BY_SEEDS } else { &[] };
            say("seeds", &runs::seeds(kit, seeds.clone(), threads), needed);
        }
        if let Some(workloads) = &self.points {
            let outcome = runs::points(kit, workloads.clone(), self.steps, self.operation, threads);
            say("points", &outcome, if all { BY_POINTS } else { &[] });
        }
        if let Some(workloads) = &self.faults {
            let outcome = runs::faults(kit, workloads.clone(), self.steps, self.operation, threads);
            say("faults", &outcome, if all { BY_FAULTS } else { &[] });
        }
        if let Some(stride) = self.flips {
            let outcome = flips::flips(kit, stride, self.operation, threads);
            say("flips", &outcome, if all && stride <= 200 { flips::NEEDED } else { &[] });
        }
        if missed > 0 {
            println!("never reached: {missed}");
        }
        println!("violations: {violations}");
        violations == 0 && missed == 0
    }
}

const BY_POINTS: &[&str] = &["crash points", "crash points within a recovery"];
const BY_FAULTS: &[&str] = &["faults injected", "errors that ended a life"];

/// The components, from the folders that have them.
pub fn kit(folders: &[PathBuf]) -> anyhow::Result<Kit> {
    let mut plugins = BTreeMap::new();
    for name in ["video-actions", "video-actions-alt", "homepage-fetch", "probe"] {
        let found = folders.iter().map(|folder| folder.join(format!("{name}.wasm"))).find(|path| path.exists());
        let path = found
            .with_context(|| format!("{name}.wasm is in none of {folders:?}: run `cargo xtask build --fixtures`"))?;
        plugins.insert(name, std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Kit::new(plugins)
}
