//! `tally-sim`, which `cargo xtask sim` builds and runs: simulates, prints its counts, and fails when something was violated or never reached.

use std::process::ExitCode;

use clap::Parser as _;
use tally_sim::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse().with_sizes();
    if cli.verbose {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    match cli::kit(&cli.components) {
        Ok(kit) if cli.run(&kit) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
