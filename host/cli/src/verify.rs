//! `tally verify`: rebuilds everything from the log and compares. The work is the daemon's; this prints what it found.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tally_daemon::{VerifyOptions, VerifyReport};

use crate::outcome::print;
use crate::progress::while_waiting;
use crate::render::Output;

/// Rebuilds state and records from log and plugins, and compares them with what is stored.
///
/// Changes nothing in the data directory. Ends with exit code 1 at the first difference, naming batch and aggregator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tally verify --data-dir data --batch-rows 7")]
pub struct Args {
    /// The data directory of a daemon that is not running
    #[arg(long, value_name = "DIR", env = "TALLY_DATA_DIR")]
    data_dir: PathBuf,
    /// Rows given to a plugin in one call; any number gives the same results [default: 16384]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch_rows: Option<u32>,
    /// What the report looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Verifies and prints the report.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let failing = format!("{} does not verify", args.data_dir.display());
    let options = VerifyOptions { data_dir: args.data_dir, batch_rows: args.batch_rows.map(|rows| rows as usize) };
    let report = while_waiting("replaying the log", || tally_daemon::verify(&options)).context(failing)?;
    print(&match args.output {
        Output::Table => readable(&report),
        Output::Json => serde_json::to_string(&report)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

fn readable(report: &VerifyReport) -> String {
    let is_all = report.not_compared.is_empty() && report.records_not_compared == 0;
    let mut text = format!(
        "{} is equal: {} events in {} frames replayed, {} cuts and {} records compared\n",
        if is_all { "everything" } else { "what came since the anchor" },
        report.events,
        report.frames,
        report.cuts,
        report.records
    );
    for (name, chain) in &report.aggregators {
        let _ = writeln!(text, "  {name}  chain {chain}");
    }
    for (name, reason) in &report.not_compared {
        let _ = writeln!(text, "  {name}  not compared: {reason}");
    }
    if report.records_not_compared > 0 {
        let _ = writeln!(
            text,
            "  {} older records not compared: they are from before the anchor at which the replay begins",
            report.records_not_compared
        );
    }
    text
}
