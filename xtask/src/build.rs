//! `cargo xtask build`: the host's release binary and the components.

use anyhow::Result;

use crate::components;
use crate::project::{Project, run as run_command, say};
use crate::wasm;

/// What to build.
#[derive(clap::Args)]
pub struct Args {
    /// Also build what the tests need (target/fixtures).
    #[arg(long)]
    pub fixtures: bool,
    /// Build only components, not the tally binary.
    #[arg(long)]
    pub components_only: bool,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

impl Args {
    /// The binary and the components, and what the tests need if `fixtures`.
    pub fn all(fixtures: bool, wasm: &wasm::Args) -> Self {
        Self { fixtures, components_only: false, wasm: wasm::Args { wasm_toolchain: wasm.wasm_toolchain } }
    }
}

/// Builds all of it.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    if !args.components_only {
        host(project)?;
    }
    let toolchain = wasm::Toolchain::find_or_make(project, args.wasm.wasm_toolchain)?;
    components::first_party(project, &toolchain)?;
    components::examples(project, &toolchain)?;
    if args.fixtures {
        components::fixtures(project, &toolchain)?;
    }
    Ok(())
}

fn host(project: &Project) -> Result<()> {
    say("building the tally binary (the first time takes some minutes)");
    run_command(project.cargo().args(["build", "--release", "--package", "tally-cli", "--bin", "tally"]))?;
    say(format!("built {}", project.show(&project.tally())));
    Ok(())
}
