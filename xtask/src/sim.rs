//! `cargo xtask sim`: whole lives of the daemon in memory, with every fault; see host/sim, which does it.
//!
//! Knows what it has to be given; must not know what is simulated.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::build;
use crate::project::{Project, run as run_command, without_settings};
use crate::wasm;

/// What is simulated.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// See `cargo xtask sim --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

/// Simulates; an error when anything was violated or never reached.
///
/// In the development profile: what is simulated is optimised there too, and overflows are found.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let folders = components(project)?;
    let mut cargo = project.cargo();
    cargo.args(["run", "--quiet", "--package", "tally-sim", "--"]).args(&args.arguments);
    for folder in &folders {
        cargo.arg("--components").arg(folder);
    }
    run_command(without_settings(&mut cargo))
}

/// The folders of the components that are simulated, first-party ones and those for tests. Builds them if some are missing.
pub fn components(project: &Project) -> Result<[PathBuf; 2]> {
    let folders = [project.plugins(), project.fixtures()];
    let needed = [folders[0].join("video-actions.wasm"), folders[1].join("video-actions-alt.wasm")];
    if !needed.iter().all(|file| file.exists()) {
        let wasm = wasm::Args { wasm_toolchain: wasm::Choice::Auto };
        build::run(project, &build::Args { components_only: true, ..build::Args::all(true, &wasm) })?;
    }
    Ok(folders)
}
