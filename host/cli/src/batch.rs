//! `tally batch`: the records that flushes wrote, as the daemon has them.

use std::process::ExitCode;

use crate::client::Target;
use crate::outcome::print;
use crate::render::{Output, Paint, answer};

/// Shows what a flush wrote: the window's numbers, the totals, the ledger.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Shows the newest batch
    #[command(after_help = "Example:\n  tally batch last --to /tmp/tally.sock.query")]
    Last(Args),
    /// Shows a batch by its number
    #[command(after_help = "Example:\n  tally batch show 42 --output json --to /tmp/tally.sock.query")]
    Show {
        /// Its number (`batch_id`); the first is 1
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        #[command(flatten)]
        args: Args,
    },
}

/// Where to ask, and how to print.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// What the answer looks like; json is the line of the analytics file
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Asks and prints.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let (args, path) = match command {
        Command::Last(args) => (args, "/v1/batches/last".to_string()),
        Command::Show { id, args } => (args, format!("/v1/batches/{id}")),
    };
    print(&match args.output {
        // The line as it was written, its keys in their order.
        Output::Json => args.target.get_text(&path)?,
        Output::Table => answer(&args.target.get(&path)?, Output::Table, Paint::stdout()),
    })?;
    Ok(ExitCode::SUCCESS)
}
