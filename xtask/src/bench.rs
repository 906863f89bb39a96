//! `cargo xtask bench`: builds the release binary and the plugins, and measures them; see host/bench, which does it.
//!
//! Knows what `tally bench` has to be given; must not know what is measured.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::build;
use crate::instructions;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// What is measured.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Count the instructions of single-threaded stages with callgrind and hold them against host/bench/instructions.txt.
    #[arg(long)]
    pub instructions: bool,
    /// With --instructions: write what was counted instead.
    #[arg(long, requires = "instructions")]
    pub bless: bool,
    /// Run other programs (DuckDB, chDB, Flink, Redis, PostgreSQL) on the same events; `cargo xtask bench --peers --help` says more.
    #[arg(long, conflicts_with = "instructions")]
    pub peers: bool,
    /// See `cargo xtask bench --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Builds and measures; an error when a count was wrong.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let wasm = wasm::Args { wasm_toolchain: wasm::Choice::Auto };
    build::run(project, &build::Args::all(false, &wasm))?;
    if args.instructions {
        return instructions::run(project, args.bless);
    }
    if args.peers {
        return peers(project, &args.arguments);
    }
    let mut command = Command::new(project.tally());
    without_settings(&mut command).arg("bench").args(&args.arguments);
    if !args.arguments.iter().any(|argument| argument.to_string_lossy().starts_with("--plugins-dir")) {
        command.arg("--plugins-dir").arg(project.plugins());
    }
    run_command(&mut command)
}

/// See host/bench/peers/peers.py, which does it.
fn peers(project: &Project, arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-B", "-u"]).arg(project.root.join("host/bench/peers/peers.py"));
    command.arg("--tally").arg(project.tally()).arg("--plugins").arg(project.plugins());
    command.arg("--folder").arg(project.target.join("peers")).args(arguments);
    run_command(without_settings(&mut command))
}
