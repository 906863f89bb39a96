//! Python: a component by componentize-py, from PyPI in a virtual environment of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::CONTRACT;
use crate::clients;
use crate::project::{Project, output};

pub fn build(project: &Project, tools: &Path, sources: &Path, into: &Path) -> Result<()> {
    let folder = tools.join("python");
    clients::environment(project, &sources.join("requirements.txt"), &folder)?;
    let mut componentize = Command::new(folder.join("bin/componentize-py"));
    componentize.current_dir(&project.root).args([
        "--quiet",
        "--wit-path",
        CONTRACT,
        "--world",
        "plugin",
        "componentize",
    ]);
    componentize.args(["--stub-wasi", "--python-path"]).arg(sources).args(["signups", "--output"]).arg(into);
    output(&mut componentize)?;
    Ok(())
}
