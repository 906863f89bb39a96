//! Building plugins into components and putting them where the daemon and the tests look for them.
//!
//! Guests have their own target folder, shared among them so that macro crates compile once; nested cargo on the same
//! folder would deadlock. Knows packages and a toolchain; must not know how the toolchain came about.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Package};
use crate::project::{Project, replace, run, say};
use crate::wasm::{TARGET, Toolchain};

/// The components of `plugins/*`, in `target/plugins`.
pub fn first_party(project: &Project, toolchain: &Toolchain) -> Result<()> {
    let folder = project.plugins();
    let mut names = BTreeSet::new();
    for package in first_party_packages(project)? {
        let built = build(project, toolchain, &package, &["--profile", "plugin"], "plugin")?;
        install(project, &built, &folder, &package.name)?;
        names.insert(format!("{}.wasm", package.name));
    }
    remove_others(&folder, &names)
}

/// The packages that [`first_party`] builds.
pub fn first_party_packages(project: &Project) -> Result<Vec<Package>> {
    let plugins = project.root.join("plugins");
    let members = packages::members(project, &project.root.join("Cargo.toml"))?;
    Ok(members.into_iter().filter(|package| package.cdylib && package.manifest.starts_with(&plugins)).collect())
}

/// The components of `examples/plugins/*`, in `target/example-plugins`.
pub fn examples(project: &Project, toolchain: &Toolchain) -> Result<()> {
    standalone(project, toolchain, &project.root.join("examples/plugins"), &project.example_plugins())
}

/// One of them.
pub fn example(project: &Project, toolchain: &Toolchain, name: &str) -> Result<()> {
    let packages = standalone_packages(project, &project.root.join("examples/plugins"))?;
    let package = packages.iter().find(|package| package.name == name);
    let package = package.with_context(|| format!("there is no example plugin {name}"))?;
    let built = build(project, toolchain, package, &["--release"], "release")?;
    install(project, &built, &project.example_plugins(), name)
}

/// Puts a component of another language where the tests look for it. A language's runtime, built elsewhere, may name WASI where it has
/// stubs for it, and folders of who built it; that it imports no WASI is seen when it is loaded.
pub fn install_foreign(project: &Project, built: &Path, folder: &Path, name: &str) -> Result<()> {
    put(project, built, folder, name, |project, bytes| {
        check_form(bytes)?;
        check_path(bytes, &project.root)
    })
}

/// The components of `tests/fixtures/*`, in `target/fixtures`, and a second build of `video-actions` whose digest differs.
pub fn fixtures(project: &Project, toolchain: &Toolchain) -> Result<()> {
    standalone(project, toolchain, &project.root.join("tests/fixtures"), &project.fixtures())?;
    let packages = first_party_packages(project)?;
    let package = packages.iter().find(|package| package.name == "video-actions");
    let package = package.context("plugins/video-actions is not a plugin")?;
    let profile = [
        "--config",
        "profile.plugin-alt.inherits='plugin'",
        "--config",
        "profile.plugin-alt.opt-level=2",
        "--profile",
        "plugin-alt",
    ];
    let built = build(project, toolchain, package, &profile, "plugin-alt")?;
    let usual = project.plugins().join("video-actions.wasm");
    ensure!(
        fs::read(&built)? != fs::read(&usual)?,
        "video-actions-alt came out like video-actions; change its profile here"
    );
    install(project, &built, &project.fixtures(), "video-actions-alt")
}

/// Packages under `folder` that are workspaces of their own.
pub fn standalone_packages(project: &Project, folder: &Path) -> Result<Vec<Package>> {
    let mut manifests = Vec::new();
    if folder.is_dir() {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            manifests.push(entry?.path().join("Cargo.toml"));
        }
    }
    manifests.retain(|manifest| manifest.is_file());
    manifests.sort();
    let mut found = Vec::new();
    for manifest in manifests {
        let members = packages::members(project, &manifest)?;
        found.extend(members.into_iter().filter(|package| package.cdylib));
    }
    Ok(found)
}

fn standalone(project: &Project, toolchain: &Toolchain, from: &Path, to: &Path) -> Result<()> {
    for package in standalone_packages(project, from)? {
        let built = build(project, toolchain, &package, &["--release"], "release")?;
        install(project, &built, to, &package.name)?;
    }
    Ok(())
}

fn build(
    project: &Project,
    toolchain: &Toolchain,
    package: &Package,
    profile: &[&str],
    folder: &str,
) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo(project);
    cargo.args(["build", "--quiet", "--lib", "--target", TARGET]);
    cargo.arg("--manifest-path").arg(&package.manifest).args(profile);
    run(&mut cargo).with_context(|| format!("cannot build the component {}", package.name))?;
    let file = format!("{}.wasm", package.name.replace('-', "_"));
    Ok(toolchain.target(project).join(TARGET).join(folder).join(file))
}

fn install(project: &Project, built: &Path, folder: &Path, name: &str) -> Result<()> {
    put(project, built, folder, name, check)
}

fn put(
    project: &Project,
    built: &Path,
    folder: &Path,
    name: &str,
    check: fn(&Project, &[u8]) -> Result<()>,
) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    check(project, &bytes).with_context(|| format!("{} is not usable as a component", built.display()))?;
    let path = folder.join(format!("{name}.wasm"));
    replace(&path, &bytes)?;
    say(format!("built {} ({:.1} KB)", project.show(&path), bytes.len() as f64 / 1024.0));
    Ok(())
}

/// What every component of ours must be: a component, without WASI, without the paths of this machine.
fn check(project: &Project, bytes: &[u8]) -> Result<()> {
    check_form(bytes)?;
    ensure!(!contains(bytes, b"wasi:"), "it refers to WASI, which the host does not offer");
    let folders = [Some(project.root.clone()), project.cargo_home()];
    folders.into_iter().flatten().try_for_each(|folder| check_path(bytes, &folder))
}

fn check_form(bytes: &[u8]) -> Result<()> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    if !bytes.starts_with(COMPONENT) {
        bail!(
            "it is a core module; the linker was not wasm-component-ld, or the crate does not export the plugin world"
        );
    }
    Ok(())
}

fn check_path(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = folder.to_string_lossy();
    ensure!(!contains(bytes, path.as_bytes()), "it contains the path {path}");
    Ok(())
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn remove_others(folder: &Path, names: &BTreeSet<String>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.ends_with(".wasm") && !names.contains(&name) {
            say(format!("removing {}, which no package makes any more", path.display()));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        Project { root: "/somewhere/tally".into(), target: "/somewhere/tally/target".into() }
    }

    #[test]
    fn a_core_module_wasi_and_machine_paths_are_refused() {
        let component = b"\0asm\x0d\0\x01\0 rest";
        check(&project(), component).unwrap();
        for (bytes, says) in [
            (&b"\0asm\x01\0\0\0"[..], "core module"),
            (b"\0asm\x0d\0\x01\0 wasi:cli/environment", "WASI"),
            (b"\0asm\x0d\0\x01\0 /somewhere/tally/plugins/x.rs", "path"),
        ] {
            let error = check(&project(), bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn components_that_no_package_makes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.wasm", "b.wasm", "notes.txt"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_others(folder.path(), &BTreeSet::from(["a.wasm".to_owned()])).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.wasm", "notes.txt"]);
    }
}
