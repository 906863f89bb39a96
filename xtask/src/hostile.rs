//! `cargo xtask hostile`: hostile input of every kind against a real daemon; see tests/hostile/hostile.py, which does it.
//!
//! Knows what the script has to be given; must not know what it sends.

use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// How much.
#[derive(clap::Args)]
pub struct Args {
    /// Smaller sizes, and without what takes long: what runs among the tests.
    #[arg(long)]
    pub quick: bool,
    /// Only cases whose name has this in it.
    #[arg(long, default_value = "")]
    pub only: String,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// Builds everything and runs it; an error when anything is off.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let mut command = Command::new("python3");
    command.args(["-B", "-u"]).arg(project.root.join("tests/hostile/hostile.py"));
    command.arg("--tally").arg(project.tally()).arg("--plugins").arg(project.plugins());
    command.args(args.quick.then_some("--quick")).arg("--only").arg(&args.only);
    run_command(without_settings(&mut command))
}
