//! `tally bench`: measures this binary on this machine. Knows nothing of what scenarios do.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tally_bench::{Earlier, Options, SCENARIOS, Scenario};

use crate::outcome::{Usage, print};
use crate::render::Output;

/// Measures how fast Tally is on this machine.
///
/// Starts daemons of its own in temporary folders, loads them, compares what they counted with an independent count, and
/// stops them. Each scenario runs several times; medians are shown with the least and the greatest. Leave the machine
/// alone meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// What to measure; may be given several times [default: everything]
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Show the scenarios and what each measures
    #[arg(long)]
    list: bool,
    /// How often each is run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// What the result looks like; json is one line per scenario
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Results of an earlier `--output json` to show the change against; on stderr with --output json
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The tally binary that is measured, instead of this one
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
    /// Folder with video-actions.wasm and homepage-fetch.wasm
    #[arg(long, value_name = "DIR", env = "TALLY_PLUGINS_DIR", default_value = "target/plugins")]
    plugins_dir: PathBuf,
    /// Where data directories are made: the disk that is measured [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Events per run, instead of each scenario's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// Seconds of load per run, where a scenario is about time
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// Users in the state, where a scenario is about state
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    users: Option<u32>,
    /// Be the plain program that the daemon is compared with, for one connection
    #[arg(long, value_name = "SOCKET", hide = true)]
    plain_baseline: Option<PathBuf>,
}

const EXAMPLE: &str = "\
Example:
  tally bench --list
  tally bench --scenario w1-one-core --runs 3 --plugins-dir target/plugins
  tally bench --scenario w1-one-core --output json > before.json
  tally bench --scenario w1-one-core --compare before.json";

/// Measures and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(socket) = &args.plain_baseline {
        tally_bench::serve_plain_baseline(socket)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        print(&SCENARIOS.iter().map(|one| format!("{:13} {}\n", one.name, one.summary)).collect::<String>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let scenarios = scenarios(&args.scenario).map_err(Usage)?;
    let earlier = args.compare.as_ref().map(earlier).transpose().map_err(Usage)?;
    let options = options(&args)?;
    for scenario in scenarios {
        let report = tally_bench::run(scenario, &options).with_context(|| format!("scenario {}", scenario.name))?;
        match args.output {
            Output::Table => print(&report.table(earlier.as_ref()))?,
            Output::Json => {
                print(&format!("{}\n", report.json()))?;
                if earlier.is_some() {
                    eprint!("{}", report.table(earlier.as_ref()));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn scenarios(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    match names {
        [] => Ok(SCENARIOS.iter().collect()),
        names => names.iter().map(|name| tally_bench::scenario(name)).collect(),
    }
}

fn earlier(file: &PathBuf) -> anyhow::Result<Earlier> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Earlier::read(&text).with_context(|| format!("cannot compare with {}", file.display()))
}

fn options(args: &Args) -> anyhow::Result<Options> {
    if args.seconds.is_some_and(|seconds| !(0.1..=86_400.0).contains(&seconds)) {
        bail!(Usage(anyhow::anyhow!("--seconds goes from 0.1 to 86400")));
    }
    let bench = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(Options {
        tally: args.tally.clone().unwrap_or_else(|| bench.clone()),
        bench,
        plugins: args.plugins_dir.clone(),
        folder: args.dir.clone().unwrap_or_else(std::env::temp_dir),
        runs: args.runs,
        events: args.events,
        seconds: args.seconds,
        users: args.users,
    })
}
