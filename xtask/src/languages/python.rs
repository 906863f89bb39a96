//! Python: a component by componentize-py, from PyPI in a virtual environment of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::CONTRACT;
use crate::clients;
use crate::project::{Project, output};

pub fn build(project: &Project, tools: &Path, sources: &Path, into: &Path) -> Result<()> {
    let folder = tools.join("python");
    clients::environment(project, &sources.join("requirements.txt"), &folder)?;
    // Python leaves compiled modules beside those that it loads.
    let copied = into.with_extension("sources");
    fs::create_dir_all(&copied)?;
    for entry in fs::read_dir(sources)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "py") {
            fs::copy(&path, copied.join(path.file_name().context("a source without a name")?))?;
        }
    }
    let mut componentize = Command::new(folder.join("bin/componentize-py"));
    componentize.current_dir(&project.root).args([
        "--quiet",
        "--wit-path",
        CONTRACT,
        "--world",
        "plugin",
        "componentize",
    ]);
    componentize.args(["--stub-wasi", "--python-path"]).arg(copied).args(["signups", "--output"]).arg(into);
    output(&mut componentize)?;
    Ok(())
}
