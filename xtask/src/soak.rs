//! `cargo xtask soak`: a real daemon under everything at once, for a long time; see tests/soak/soak.py, which does it.
//!
//! Knows what the script has to be given; must not know what it checks.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// How long, and how much.
#[derive(clap::Args)]
pub struct Args {
    /// How long clients send. Growth of memory is judged from 5 minutes on.
    #[arg(long, default_value_t = 30.0)]
    pub minutes: f64,
    /// Events per second, over all doors.
    #[arg(long, default_value_t = 30_000)]
    pub rate: u64,
    /// Keep the folder (data directory, plugins, the daemon's log) and say where it is; it is kept anyway when something is off.
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds everything and runs it; an error when anything is off.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let mut command = Command::new("python3");
    command.args(["-B", "-u"]).arg(project.root.join("tests/soak/soak.py"));
    command.arg("--tally").arg(project.tally()).arg("--plugins").arg(project.plugins());
    command.arg("--other").arg(project.fixtures().join("video-actions-alt.wasm"));
    command.arg("--minutes").arg(args.minutes.to_string()).arg("--rate").arg(args.rate.to_string());
    command.args(args.keep.then_some("--keep"));
    run_command(without_settings(&mut command))
}
