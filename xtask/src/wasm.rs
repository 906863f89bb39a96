//! The compiler for guests: found, or made.
//!
//! Three ways, tried in this order: the target is there already; rustup adds it; on a closed Debian machine a private
//! toolchain is made from Debian's packages ([`debian`]). The linker is always rustup's `wasm-component-ld`, which
//! makes a component in one step and brings no WASI import.

mod debian;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::project::{Project, output, run_within, say};

/// The target of every guest.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How long rustup may take to add the target.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Variables that would change what a guest is compiled to, by prefix. Everything a guest needs is set explicitly.
const CLEANED: [&str; 10] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "CARGO_INCREMENTAL",
    "LD_LIBRARY_PATH",
];

/// Which compiler to use for guests.
#[derive(clap::Args)]
#[group(skip)]
pub struct Args {
    /// Compiler for guests: the first that works, rustup's, or Debian's in a private folder.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub wasm_toolchain: Choice,
}

/// See [`Args`].
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// The installed target, else rustup, else Debian.
    Auto,
    /// The installed target, else rustup.
    Rustup,
    /// Debian's packages, in a private folder under target/.
    Debian,
}

/// A compiler for guests.
pub struct Toolchain {
    linker: PathBuf,
    sysroot: PathBuf,
    private: Option<debian::Private>,
}

impl Toolchain {
    /// Finds a compiler for guests or makes one.
    pub fn find_or_make(project: &Project, choice: Choice) -> Result<Self> {
        let sysroot = PathBuf::from(output(project.rustc().args(["--print", "sysroot"]))?.trim());
        let tools = sysroot.join("lib/rustlib").join(host(project)?).join("bin");
        let linker = tools.join("wasm-component-ld");
        if !linker.is_file() {
            bail!(
                "{} is missing: plugins are linked by it; use a Rust toolchain installed by rustup",
                linker.display()
            );
        }
        let private = match choice {
            Choice::Debian => Some(debian::find_or_make(project, &tools)?),
            _ if has_std(&sysroot) || add_by_rustup(&sysroot)? => None,
            Choice::Auto => Some(debian::find_or_make(project, &tools)?),
            Choice::Rustup => {
                bail!("`rustup target add {TARGET}` did not work; try --wasm-toolchain debian")
            }
        };
        Ok(Toolchain { linker, sysroot, private })
    }

    /// Cargo for guests: own target folder, own linker, nothing inherited that changes the result.
    pub fn cargo(&self, project: &Project) -> Command {
        let mut cargo = project.cargo();
        for (name, _) in env::vars_os() {
            if CLEANED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                cargo.env_remove(name);
            }
        }
        let mut flags = remapped(project, &self.sysroot);
        if let Some(private) = &self.private {
            private.apply(&mut cargo, &mut flags);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker);
        cargo.env("CARGO_TARGET_DIR", self.target(project));
        cargo
    }

    /// What makes components of objects. The linker that it uses itself stands beside it.
    pub fn linker(&self) -> &Path {
        &self.linker
    }

    /// Where guests are built.
    pub fn target(&self, project: &Project) -> PathBuf {
        project.target.join("guests")
    }

    /// Whether clippy belongs to the compiler.
    pub fn has_clippy(&self) -> bool {
        self.private.is_none()
    }
}

/// The triple of this machine.
fn host(project: &Project) -> Result<String> {
    let version = output(project.rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn has_std(sysroot: &Path) -> bool {
    let folder = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    folder.read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
    })
}

fn add_by_rustup(sysroot: &Path) -> Result<bool> {
    say(format!("adding the target {TARGET} by rustup"));
    let done =
        run_within(Command::new("rustup").args(["target", "add", TARGET]), RUSTUP_LIMIT).unwrap_or_else(|error| {
            say(format!("{error:#}"));
            false
        });
    Ok(done && has_std(sysroot))
}

/// Flags that keep this machine's paths out of components, so that the same source gives the same bytes in any folder.
fn remapped(project: &Project, sysroot: &Path) -> Vec<String> {
    let home = project.cargo_home().map(|home| (home, "cargo"));
    let folders = [(project.root.clone(), "tally"), (sysroot.to_path_buf(), "rust")];
    let flag = |(folder, name): (PathBuf, &str)| format!("--remap-path-prefix={}={name}", folder.display());
    folders.into_iter().chain(home).map(flag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_do_not_inherit_what_changes_them() {
        let project = Project { root: "/r".into(), target: "/t".into() };
        let toolchain = Toolchain { linker: "/l".into(), sysroot: "/s".into(), private: None };
        let cargo = toolchain.cargo(&project);
        let set: Vec<_> =
            cargo.get_envs().filter(|(_, value)| value.is_some()).map(|(name, _)| name.to_owned()).collect();
        assert!(set.iter().any(|name| name == "CARGO_ENCODED_RUSTFLAGS"));
        let target = cargo.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR").and_then(|(_, value)| value);
        assert_eq!(target, Some("/t/guests".as_ref()));
    }

    #[test]
    fn an_empty_sysroot_has_no_std() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_std(folder.path()));
        let lib = folder.path().join("lib/rustlib").join(TARGET).join("lib");
        std::fs::create_dir_all(&lib).unwrap();
        assert!(!has_std(folder.path()));
        std::fs::write(lib.join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(folder.path()));
    }
}
