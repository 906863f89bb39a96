//! `cargo xtask swaps`: plugin versions exchanged back to back: first that each runs or says why not and that every event counts once
//! (tests/src/torture/swaps.rs), then that whoever sends events hardly notices (`tally bench --scenario swaps`).
//!
//! Knows what the programs have to be given; must not know what they do.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::project::{Project, run as run_command, without_settings};
use crate::{torture, wasm};

/// How much of it.
#[derive(clap::Args)]
pub struct Args {
    /// Versions in all, of which one in ten is bad and one in twenty has another state version.
    #[arg(long, default_value_t = 1000)]
    pub swaps: u64,
    /// How long acknowledgements are measured: before the swaps, during and after them.
    #[arg(long, default_value_t = 30.0)]
    pub seconds: f64,
    /// What decides everything that is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds everything and runs both; an error when anything is violated.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let (swaps, seed) = (args.swaps.to_string(), args.seed.to_string());
    torture::run_built(project, &["--only", "swaps", "--swaps", &swaps, "--seed", &seed])?;
    let mut bench = Command::new(project.tally());
    without_settings(&mut bench).args(["bench", "--scenario", "swaps", "--runs", "1", "--seconds"]);
    run_command(bench.arg(args.seconds.to_string()).arg("--plugins-dir").arg(project.plugins()))
}
