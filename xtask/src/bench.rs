//! `cargo xtask bench`: builds the release binary and the plugins, and measures them; see host/bench, which does it.
//!
//! Knows what `tally bench` has to be given; must not know what is measured.

use std::ffi::OsString;
use std::io::Write;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::{CommandFactory, Parser};

use crate::build;
use crate::instructions;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// What is measured.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// See `cargo xtask bench --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Builds everything and measures it; these options are not handed on.
#[derive(Clone, Copy, Debug, PartialEq, clap::Parser)]
#[command(name = "cargo xtask bench", override_usage = "cargo xtask bench [OPTIONS] [OPTIONS OF `tally bench`]")]
struct Own {
    /// Count the instructions of single-threaded stages with callgrind and hold them against host/bench/instructions.txt.
    #[arg(long)]
    instructions: bool,
    /// With --instructions: write what was counted instead.
    #[arg(long, requires = "instructions")]
    bless: bool,
    /// Run other programs (DuckDB, chDB, Flink, Redis, PostgreSQL) on the same events; `cargo xtask bench --peers --help` says more.
    #[arg(long, conflicts_with = "instructions")]
    peers: bool,
}

/// Builds and measures; an error when a count was wrong.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let (own, arguments) = split(&args.arguments);
    if let Some(help) = arguments.iter().find(|argument| is_help(argument)) {
        return if own.peers { peers(project, &["--help".into()]) } else { show_help(project, help) };
    }
    ensure!(
        !own.instructions || arguments.is_empty(),
        "--instructions goes with --bless alone, not with {arguments:?}"
    );
    let wasm = wasm::Args { wasm_toolchain: wasm::Choice::Auto };
    build::run(project, &build::Args::all(false, &wasm))?;
    if own.instructions {
        return instructions::run(project, own.bless);
    }
    if own.peers {
        return peers(project, &arguments);
    }
    let mut command = Command::new(project.tally());
    without_settings(&mut command).arg("bench").args(&arguments);
    if !arguments.iter().any(|argument| argument.to_string_lossy().starts_with("--plugins-dir")) {
        command.arg("--plugins-dir").arg(project.plugins());
    }
    run_command(&mut command)
}

/// Its own options, wherever they stand, and what is handed on. Ends the program where its own do not go together.
fn split(arguments: &[OsString]) -> (Own, Vec<OsString>) {
    let is_own = |argument: &OsString| ["--instructions", "--bless", "--peers"].iter().any(|own| argument == own);
    let (own, others): (Vec<_>, Vec<_>) = arguments.iter().cloned().partition(is_own);
    (Own::parse_from(std::iter::once("cargo xtask bench".into()).chain(own)), others)
}

fn is_help(argument: &OsString) -> bool {
    argument == "--help" || argument == "-h"
}

/// Its own options and, without building anything, those of `tally bench`.
fn show_help(project: &Project, help: &OsString) -> Result<()> {
    let own = Own::command().disable_help_flag(true).render_long_help();
    print!("{own}\n`tally bench`, to which everything else is handed on:\n\n");
    if !project.tally().is_file() {
        println!("`cargo xtask build` makes it; then its options are shown here.");
        return Ok(());
    }
    std::io::stdout().flush()?;
    run_command(without_settings(&mut Command::new(project.tally())).arg("bench").arg(help))
}

/// See host/bench/peers/peers.py, which does it.
fn peers(project: &Project, arguments: &[OsString]) -> Result<()> {
    let mut command = Command::new("python3");
    command.args(["-B", "-u"]).arg(project.root.join("host/bench/peers/peers.py"));
    command.arg("--tally").arg(project.tally()).arg("--plugins").arg(project.plugins());
    command.arg("--folder").arg(project.target.join("peers")).args(arguments);
    run_command(without_settings(&mut command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_options_stand_anywhere() {
        let split = |line: &str| super::split(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let others = ["--scenario", "x"].map(OsString::from).to_vec();
        let counting = Own { instructions: true, bless: true, peers: false };
        for line in [
            "--instructions --bless --scenario x",
            "--scenario x --bless --instructions",
            "--bless --scenario x --instructions",
        ] {
            assert_eq!(split(line), (counting, others.clone()), "{line}");
        }
        assert_eq!(split("--runs 3 --peers").0, Own { instructions: false, bless: false, peers: true });
        assert_eq!(split("--scenario x"), (Own { instructions: false, bless: false, peers: false }, others));
    }
}
