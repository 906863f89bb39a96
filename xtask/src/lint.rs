//! `cargo xtask lint-guests`: clippy on the plugins as they are compiled for Wasm, which the native run does not see.

use anyhow::Result;

use crate::components::{first_party_packages, standalone_packages};
use crate::project::{Project, run, say};
use crate::wasm::{self, TARGET, Toolchain};

/// Lints every package that becomes a component; a warning is an error.
pub fn guests(project: &Project, args: &wasm::Args) -> Result<()> {
    let toolchain = Toolchain::find_or_make(project, args.wasm_toolchain)?;
    if !toolchain.has_clippy() {
        say("skipped: the fallback compiler comes without clippy; the native run covers all but the exports");
        return Ok(());
    }
    let mut packages = first_party_packages(project)?;
    packages.extend(standalone_packages(project, &project.root.join("examples/plugins"))?);
    packages.extend(standalone_packages(project, &project.root.join("tests/fixtures"))?);
    for package in packages {
        let mut cargo = toolchain.cargo(project);
        cargo.args(["clippy", "--quiet", "--lib", "--target", TARGET, "--manifest-path"]).arg(&package.manifest);
        run(cargo.args(["--", "--deny", "warnings"]))?;
        say(format!("clippy finds nothing in {} for Wasm", package.name));
    }
    Ok(())
}
