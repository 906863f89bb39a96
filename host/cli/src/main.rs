//! The `tally` binary: parses the command line and passes each subcommand to its file. Knows no subcommand's business.
//!
//! Exit codes: 0 done, 1 failed, 2 asked wrongly (flags or configuration).

mod client;
mod generate;
mod log;
mod logs;
mod outcome;
mod plugin;
mod query;
mod render;
mod run;
mod send;
mod status;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Counts what happens: events in over a socket, durable, aggregated by Wasm plugins, answered at once.
#[derive(Debug, Parser)]
#[command(name = "tally", version, max_term_width = 100, after_help = EXAMPLE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Start a daemon, send it a file, ask it:
  tally run --data-dir data --plugins-dir target/plugins --unix /tmp/tally.sock
  tally send events.ndjson --to unix:/tmp/tally.sock --ack
  tally query video-actions --to /tmp/tally.sock.query";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Send(send::Args),
    Generate(generate::Args),
    Query(query::Args),
    Status(status::Args),
    #[command(subcommand)]
    Plugin(plugin::Command),
    Verify(verify::Args),
    #[command(subcommand)]
    Log(log::Command),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Send(args) => send::run(args),
        Command::Generate(args) => generate::run(args).map(|()| ExitCode::SUCCESS),
        Command::Query(args) => query::run(args),
        Command::Status(args) => status::run(args),
        Command::Plugin(command) => plugin::run(command),
        Command::Verify(args) => verify::run(args),
        Command::Log(command) => log::run(command),
    };
    outcome::exit_code(outcome)
}
