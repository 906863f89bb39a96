//! JavaScript: a component by componentize-qjs, from npm's registry in the version that the example's `package.json` says. There is no lock
//! file: the package has one dependency, its binary for this machine, and says itself in which version.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::CONTRACT;
use crate::project::{Project, output, say};

pub fn build(project: &Project, tools: &Path, sources: &Path, into: &Path) -> Result<()> {
    let folder = tools.join("javascript");
    install(project, &folder, sources)?;
    let mut componentize = Command::new(folder.join("node_modules/.bin/componentize-qjs"));
    componentize.current_dir(&project.root).args(["--wit", CONTRACT, "--world", "plugin", "--stub-wasi", "--sync"]);
    output(componentize.arg("--js").arg(sources.join("signups.js")).arg("--output").arg(into))?;
    Ok(())
}

/// Installs what the example's manifest names, when that has changed.
fn install(project: &Project, folder: &Path, sources: &Path) -> Result<()> {
    let manifest = sources.join("package.json");
    let made_from = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    // Written last, so that half an installation is not taken for a whole one.
    let stamp = folder.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|was| was == made_from) {
        return Ok(());
    }
    say(format!("installing npm's packages into {}", project.show(folder)));
    fs::create_dir_all(folder)?;
    fs::write(folder.join("package.json"), &made_from)?;
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]);
    output(&mut npm).context("cannot install (Node.js 18 and npm are needed)")?;
    fs::write(&stamp, made_from).with_context(|| format!("cannot write {}", stamp.display()))
}
