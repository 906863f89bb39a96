//! `cargo xtask torture`: faults from outside on the real binary, and an oracle that checks what is left; see tests/src/torture.
//!
//! Knows what the program has to be given; must not know what it does.

use anyhow::Result;

use crate::build;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// How much of it.
#[derive(clap::Args)]
pub struct Args {
    /// SIGKILLs at random moments.
    #[arg(long, default_value_t = 5000)]
    pub kills: u64,
    /// What decides everything that is random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Daemons at a time.
    #[arg(long, default_value_t = 2)]
    pub jobs: u64,
    /// Kills only for so long.
    #[arg(long, default_value_t = 600)]
    pub minutes: u64,
    /// One kind of torture instead of all.
    #[arg(long, value_parser = ["kills", "strace", "disk", "signals", "clock", "lock"])]
    pub only: Option<String>,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds everything and runs it; an error when anything is violated.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let mut cargo = project.cargo();
    cargo.args(["run", "--quiet", "--package", "tally-tests", "--bin", "torture", "--"]);
    for (name, value) in
        [("--kills", args.kills), ("--seed", args.seed), ("--jobs", args.jobs), ("--minutes", args.minutes)]
    {
        cargo.arg(name).arg(value.to_string());
    }
    if let Some(only) = &args.only {
        cargo.args(["--only", only]);
    }
    without_settings(&mut cargo);
    cargo.env("TALLY_BIN", project.tally());
    cargo.env("TALLY_BUILT_PLUGINS_DIR", project.plugins());
    cargo.env("TALLY_FIXTURES_DIR", project.fixtures());
    run_command(&mut cargo)
}
