//! `tally-sim`, which `cargo xtask sim` builds and runs: simulates, prints its counts, and fails when something was violated or never reached.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use tally_sim::counts::Counts;
use tally_sim::runs::{self, Outcome};
use tally_sim::world::Kit;

/// Whole lives of the daemon in memory, with every fault. Any violation is printed with the command that shows it again.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Cli {
    /// Worlds as chance has them, one per seed.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    seeds: Option<Range<u64>>,
    /// Workloads in which the power goes at every single operation, and again while recovering.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    points: Option<Range<u64>>,
    /// Workloads in which every single operation fails as on a broken disk, on a full one, and half way.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    faults: Option<Range<u64>>,
    /// Only this operation of the workloads.
    #[arg(long, value_name = "N")]
    operation: Option<u64>,
    /// Steps of a workload, at most.
    #[arg(long, value_name = "N", default_value_t = 150)]
    steps: u64,
    /// How many worlds are simulated at the same time.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The folders with the components.
    #[arg(long, value_name = "DIR", env = "TALLY_COMPONENTS", value_delimiter = ':', required = true)]
    components: Vec<PathBuf>,
    /// Show what the daemon logs.
    #[arg(long)]
    verbose: bool,
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("a range is written FROM..TO, such as 0..1000")?;
    let number = |text: &str| text.replace('_', "").parse::<u64>().map_err(|error| format!("{text:?}: {error}"));
    Ok(number(from)?..number(to)?)
}

/// What must have been reached when so many worlds or points were simulated.
const BY_SEEDS: &[&str] = &[
    "broken operations",
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
    "names lost",
    "operations without space",
    "plans activated",
    "power losses",
    "questions answered",
    "replays that gave the same bytes",
    "sectors lost",
    "sectors of garbage",
    "sectors torn",
    "sectors zeroed",
    "short writes",
    "stops",
    "unsynced changes kept",
    "unsynced names kept",
    "waits for a full disk",
];

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<bool> {
    if cli.verbose {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    let kit = kit(&cli.components)?;
    let threads = cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut good = true;
    if let Some(seeds) = &cli.seeds {
        let needed = if seeds.end - seeds.start >= 500 { BY_SEEDS } else { &[] };
        good &= say("seeds", &runs::seeds(&kit, seeds.clone(), threads), needed);
    }
    if let Some(workloads) = &cli.points {
        let outcome = runs::points(&kit, workloads.clone(), cli.steps, cli.operation, threads);
        good &= say("points", &outcome, &["crash points", "crash points within a recovery"]);
    }
    if let Some(workloads) = &cli.faults {
        let outcome = runs::faults(&kit, workloads.clone(), cli.steps, cli.operation, threads);
        good &= say("faults", &outcome, &["faults injected", "errors that ended a life"]);
    }
    Ok(good)
}

/// Prints what came of it. True when nothing was violated and everything needed was reached.
fn say(what: &str, Outcome { counts, violations }: &Outcome, needed: &[&str]) -> bool {
    println!("{what}");
    for (name, count) in Counts::iter(counts) {
        println!("  {count:>12}  {name}");
    }
    let missed: Vec<_> = needed.iter().filter(|name| counts.of(name) == 0).collect();
    for name in &missed {
        println!("  never reached: {name}");
    }
    println!("violations: {}", violations.len());
    violations.is_empty() && missed.is_empty()
}

fn kit(folders: &[PathBuf]) -> anyhow::Result<Kit> {
    let mut plugins = BTreeMap::new();
    for name in ["video-actions", "video-actions-alt", "homepage-fetch", "probe"] {
        let found = folders.iter().map(|folder| folder.join(format!("{name}.wasm"))).find(|path| path.exists());
        let path = found
            .with_context(|| format!("{name}.wasm is in none of {folders:?}: run `cargo xtask build --fixtures`"))?;
        plugins.insert(name, std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Kit::new(plugins)
}
