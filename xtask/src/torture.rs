//! `cargo xtask torture`: faults from outside on the real binary, and an oracle that checks what is left; see tests/src/torture.
//!
//! Knows what the program has to be given; must not know what it does.

use std::ffi::OsStr;

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
    /// Plugin versions exchanged back to back.
    #[arg(long, default_value_t = 1000)]
    pub swaps: u64,
    /// One kind of torture instead of all.
    #[arg(long, value_parser = ["kills", "swaps", "strace", "disk", "signals", "clock", "lock"])]
    pub only: Option<String>,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds everything and runs it; an error when anything is violated.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let numbers = [
        ("--kills", args.kills),
        ("--seed", args.seed),
        ("--jobs", args.jobs),
        ("--minutes", args.minutes),
        ("--swaps", args.swaps),
    ];
    let mut arguments: Vec<String> =
        numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]).collect();
    if let Some(only) = &args.only {
        arguments.extend(["--only".to_owned(), only.clone()]);
    }
    run_built(project, &arguments)
}

/// Runs it with what is built.
pub fn run_built(project: &Project, arguments: &[impl AsRef<OsStr>]) -> Result<()> {
    let mut cargo = project.cargo();
    cargo.args(["run", "--quiet", "--package", "tally-tests", "--bin", "torture", "--"]).args(arguments);
    without_settings(&mut cargo);
    cargo.env("TALLY_BIN", project.tally());
    cargo.env("TALLY_BUILT_PLUGINS_DIR", project.plugins());
    cargo.env("TALLY_FIXTURES_DIR", project.fixtures());
    run_command(&mut cargo)
}
