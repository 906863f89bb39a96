//! `tally status`: where the daemon stands.

use std::process::ExitCode;

use crate::client::Target;
use crate::outcome::print;
use crate::render::{Output, Paint, answer};

/// Shows sequences, queue, flushes, ledger and lag.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tally status --to /tmp/tally.sock.query")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// What the answer looks like
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Asks and prints.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let value = args.target.get("/v1/status")?;
    print(&answer(&value, args.output, Paint::stdout()))?;
    Ok(ExitCode::SUCCESS)
}
