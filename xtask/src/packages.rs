//! What cargo knows about packages: names, kinds of targets, dependencies.
//!
//! Reads `cargo metadata`; must not know what is done with the answer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::project::{Project, output};

/// One package.
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its manifest.
    pub manifest: PathBuf,
    /// Whether it has a `cdylib` target, which is what a component is made from.
    pub cdylib: bool,
    /// Its licence expression.
    pub license: Option<String>,
    /// Where it comes from; none for a path.
    pub source: Option<String>,
    /// What it depends on directly.
    pub dependencies: Vec<Dependency>,
}

/// One entry of a manifest's dependency tables.
pub struct Dependency {
    /// Name of the package depended on.
    pub name: String,
    /// `normal`, `dev` or `build`.
    pub kind: String,
}

impl Package {
    /// The manifest's folder.
    pub fn folder(&self) -> &Path {
        self.manifest.parent().unwrap_or(Path::new("."))
    }
}

/// The members of the workspace of `manifest`.
pub fn members(project: &Project, manifest: &Path) -> Result<Vec<Package>> {
    read(project, manifest, &["--no-deps"])
}

/// Everything that the workspace of `manifest` is built from.
pub fn all(project: &Project, manifest: &Path) -> Result<Vec<Package>> {
    read(project, manifest, &[])
}

fn read(project: &Project, manifest: &Path, more: &[&str]) -> Result<Vec<Package>> {
    let mut cargo = project.cargo();
    cargo.args(["metadata", "--format-version", "1", "--manifest-path"]).arg(manifest).args(more);
    let answer: Value =
        serde_json::from_str(&output(&mut cargo)?).context("cannot read the answer of cargo metadata")?;
    list(&answer["packages"]).iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let crate_types = list(&value["targets"]).iter().flat_map(|target| list(&target["crate_types"]));
    Ok(Package {
        name: text(&value["name"]).context("cargo metadata: a package without a name")?,
        manifest: text(&value["manifest_path"]).context("cargo metadata: a package without a manifest")?.into(),
        cdylib: crate_types.into_iter().any(|kind| kind == "cdylib"),
        license: text(&value["license"]),
        source: text(&value["source"]),
        dependencies: list(&value["dependencies"]).iter().filter_map(dependency).collect(),
    })
}

fn dependency(value: &Value) -> Option<Dependency> {
    Some(Dependency { name: text(&value["name"])?, kind: text(&value["kind"]).unwrap_or_else(|| "normal".into()) })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
