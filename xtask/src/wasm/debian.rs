//! A private compiler for guests from Debian's packages, for machines where rustup's servers do not answer.
//!
//! Debian's `rustc-web` is newer than Debian's `rustc` and comes with its sources (`rust-web-src`). The packages are
//! unpacked into `target/wasm-toolchain`; nothing is installed and nothing of rustup's is touched. `std` is built
//! once for the Wasm target (about 30 s and 500 MB in all) and put where that rustc looks for it, so that building a
//! plugin needs no unstable flag. What made each step necessary stands beside it.

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::TARGET;
use crate::project::{Project, output, run, run_within, say};

/// Always unpacked, even where the system has them installed: they must share one sysroot.
const COMPILER: [&str; 3] = ["rustc-web", "rust-web-src", "libstd-rust-web-dev"];

/// The oldest release that compiles this repository (`rust-version` of the workspace).
const OLDEST: (u32, u32) = (1, 95);

/// How long fetching Debian's package lists may take.
const UPDATE_LIMIT: Duration = Duration::from_secs(180);

/// The finished toolchain.
pub struct Private {
    usr: PathBuf,
    libraries: PathBuf,
    identity: String,
}

impl Private {
    /// Makes `cargo` compile with this toolchain.
    pub fn apply(&self, cargo: &mut Command, flags: &mut Vec<String>) {
        cargo.env("RUSTC", self.usr.join("bin/rustc")).env("LD_LIBRARY_PATH", &self.libraries);
        flags.push(format!("--remap-path-prefix={}=rust", self.usr.display()));
        // Cargo does not notice a rebuilt sysroot: without its identity in the flags, old target folders fail with
        // "can't find crate".
        flags.push(format!("--cfg=wasm_std=\"{}\"", self.identity));
    }
}

/// Takes the toolchain made earlier, or makes it. `tools` is the folder of rustup's linkers.
pub fn find_or_make(project: &Project, tools: &Path) -> Result<Private> {
    let prefix = project.target.join("wasm-toolchain");
    let ready = prefix.join("ready");
    if !ready.is_file() {
        make(project, &prefix, tools).context(
            "cannot make a Wasm toolchain from Debian's packages; where rustup works, `rustup target add \
             wasm32-unknown-unknown` is all that is needed",
        )?;
        fs::write(&ready, "")?;
    }
    let usr = prefix.join("usr");
    let std = rlibs(&std_folder(&usr))?.into_iter().find(|path| name_of(path).starts_with("libstd-"));
    let std = std.with_context(|| format!("no std in {}; remove that folder and try again", prefix.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(&std)?);
    Ok(Private { libraries: libraries(&usr)?, identity: format!("{:016x}", hasher.finish()), usr })
}

fn make(project: &Project, prefix: &Path, tools: &Path) -> Result<()> {
    say(format!("making a private Wasm toolchain in {} (about a minute, once)", project.show(prefix)));
    if prefix.exists() {
        fs::remove_dir_all(prefix).with_context(|| format!("cannot remove the unfinished {}", prefix.display()))?;
    }
    let debs = prefix.join("debs");
    fs::create_dir_all(&debs)?;
    let apt = Apt::prepare(prefix)?;
    let packages = apt.packages()?;
    say(format!("downloading {}", packages.join(" ")));
    run(apt.command("apt-get").args(["--quiet", "--quiet", "download"]).args(&packages).current_dir(&debs))?;
    unpack(&debs, prefix)?;
    let usr = prefix.join("usr");
    link_lld(&usr, tools)?;
    build_std(project, prefix, &usr)?;
    fs::remove_dir_all(&debs)?;
    Ok(())
}

/// Debian's package tools, with this machine's package lists or, where they know no compiler, private ones.
struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    fn prepare(prefix: &Path) -> Result<Self> {
        // apt drops root's rights for downloads and then cannot write here; it warns about that, and goes on.
        let mut apt = Apt { options: vec!["-o".into(), "APT::Sandbox::User=root".into()] };
        if apt.compiler_version().is_ok() {
            return Ok(apt);
        }
        say("this machine's package lists name no usable compiler; fetching private ones");
        for (option, folder) in
            [("Dir::State::Lists", "apt/lists/partial"), ("Dir::Cache", "apt/cache/archives/partial")]
        {
            let folder = prefix.join(folder);
            fs::create_dir_all(&folder)?;
            let base = folder.ancestors().nth(if option == "Dir::Cache" { 2 } else { 1 }).unwrap_or(prefix);
            apt.options.push("-o".into());
            apt.options.push(format!("{option}={}", base.display()).into());
        }
        ensure!(run_within(apt.command("apt-get").args(["--quiet", "update"]), UPDATE_LIMIT)?, "apt-get update failed");
        apt.compiler_version()?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    fn compiler_version(&self) -> Result<()> {
        let policy = output(self.command("apt-cache").args(["policy", "rustc-web"]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: ")).unwrap_or("(none)");
        let version = release(candidate).with_context(|| format!("Debian offers no rustc-web ({candidate})"))?;
        ensure!(version >= OLDEST, "Debian offers rustc-web {candidate}, which is too old");
        Ok(())
    }

    /// The compiler, and the libraries it needs that this machine does not have.
    fn packages(&self) -> Result<Vec<String>> {
        let only_depends = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
        let mut command = self.command("apt-cache");
        command.args(["depends", "--recurse"]).args(only_depends.map(|kind| format!("--no-{kind}")));
        let closure = output(command.arg("libstd-rust-web-dev"))?;
        let mut packages: Vec<String> = COMPILER.map(str::to_owned).to_vec();
        for name in closure.lines().filter(|line| !line.starts_with([' ', '<', '|'])) {
            let ours = name.starts_with("libstd-rust-web");
            if !packages.iter().any(|known| known == name) && (ours || !installed(name)) {
                packages.push(name.to_owned());
            }
        }
        Ok(packages)
    }
}

fn installed(package: &str) -> bool {
    let status = output(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}", package]));
    status.is_ok_and(|status| status.trim() == "installed")
}

/// `1.96.0+dfsg1-1~deb12u2` is release 1.96.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn unpack(debs: &Path, prefix: &Path) -> Result<()> {
    for entry in fs::read_dir(debs)? {
        run(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(prefix))?;
    }
    // Most of the sources are the compiler's own; only library/ is compiled here.
    for entry in fs::read_dir(prefix.join("usr/src"))? {
        let sources = entry?.path();
        for unused in ["src", "compiler"].map(|name| sources.join(name)) {
            if unused.is_dir() {
                fs::remove_dir_all(&unused)?;
            }
        }
    }
    Ok(())
}

/// Debian's rustc looks for `rust-lld` in its own sysroot.
fn link_lld(usr: &Path, tools: &Path) -> Result<()> {
    let host = tools.parent().and_then(Path::file_name).context("the linkers' folder names no host")?;
    let folder = usr.join("lib/rustlib").join(host).join("bin");
    fs::create_dir_all(&folder)?;
    symlink(tools.join("rust-lld"), folder.join("rust-lld")).context("cannot link rust-lld")
}

/// Builds std for the Wasm target and puts it into the sysroot.
fn build_std(project: &Project, prefix: &Path, usr: &Path) -> Result<()> {
    say("building std for Wasm");
    let seed = prefix.join("seed");
    fs::create_dir_all(seed.join("src"))?;
    fs::write(seed.join("Cargo.toml"), SEED)?;
    fs::write(seed.join("src/lib.rs"), "#![no_std]\n")?;
    // Paths of this machine must not end up in components.
    let mut flags = super::remapped(project, usr);
    // Without bitcode, a guest with `lto = true` does not link.
    flags.push("-Cembed-bitcode=yes".to_owned());
    let mut cargo = project.cargo();
    cargo.env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", usr.join("bin/rustc")).env("LD_LIBRARY_PATH", libraries(usr)?);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("CARGO_TARGET_DIR", seed.join("target"));
    // Empty std features: no backtrace code.
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "-Zbuild-std=std,panic_abort",
        "-Zbuild-std-features=",
        "--target",
        TARGET,
    ]);
    run(cargo.arg("--manifest-path").arg(seed.join("Cargo.toml")))?;
    let into = std_folder(usr);
    fs::create_dir_all(&into)?;
    for rlib in rlibs(&seed.join("target").join(TARGET).join("release/deps"))? {
        if !name_of(&rlib).starts_with("libseed-") {
            fs::copy(&rlib, into.join(name_of(&rlib)))?;
        }
    }
    fs::remove_dir_all(&seed).context("cannot remove what std was built in")
}

const SEED: &str = r#"[package]
name = "seed"
version = "0.0.0"
edition = "2024"

[workspace]

[profile.release]
panic = "abort"
"#;

fn std_folder(usr: &Path) -> PathBuf {
    usr.join("lib/rustlib").join(TARGET).join("lib")
}

fn rlibs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rlib") {
            found.push(path);
        }
    }
    Ok(found)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The folder of the compiler's shared library, whose name depends on the processor.
fn libraries(usr: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(usr.join("lib"))? {
        let folder = entry?.path();
        let names = fs::read_dir(&folder).into_iter().flatten().flatten();
        if names.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("librustc_driver-")) {
            return Ok(folder);
        }
    }
    bail!("{} has no compiler library", usr.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_from_debian_versions() {
        assert_eq!(release("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert_eq!(release("(none)"), None);
        assert!(release("1.85.0+dfsg3-1~deb12u3") < Some(OLDEST));
    }
}
