//! The Python that tests talk to the daemon with: a virtual environment in the build folder with the pinned packages of
//! `tests/clients/requirements.txt`; and other such environments. Nothing else on the machine is touched. Knows neither the tests nor
//! the packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::{Project, output, say};

/// Makes it when it is missing or when what it was made from has changed.
pub fn install(project: &Project) -> Result<()> {
    environment(project, &project.root.join("tests/clients/requirements.txt"), &project.clients())
}

/// Makes an environment with these packages when it is missing or when what it was made from has changed.
pub fn environment(project: &Project, requirements: &Path, folder: &Path) -> Result<()> {
    let pinned = fs::read_to_string(requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let version = output(Command::new("python3").arg("--version"))?;
    let made_from = format!("{version}{pinned}");
    // Written last, so that half an environment is not taken for a whole one.
    let stamp = folder.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|was| was == made_from) {
        return Ok(());
    }
    say(format!("making {} from {}", project.show(folder), project.show(requirements)));
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    output(Command::new("python3").args(["-m", "venv"]).arg(folder))
        .context("cannot make a virtual environment (Debian has it in the package python3-venv)")?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement"];
    output(Command::new(folder.join("bin/python")).args(pip).arg(requirements))
        .context("cannot install the packages")?;
    fs::write(&stamp, made_from).with_context(|| format!("cannot write {}", stamp.display()))
}
