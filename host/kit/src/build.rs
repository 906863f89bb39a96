//! From a Rust project to a component: finds what rustup installed, compiles with nothing inherited that changes the result, and
//! looks at what came out. Components of other languages are built by their own tools.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const TARGET: &str = "wasm32-unknown-unknown";

/// The profile's name; also a folder below the target folder.
const PROFILE: &str = "tally-plugin";

/// What the profile says, whatever the project's manifest says.
const SETTINGS: [&str; 7] =
    ["inherits='release'", "opt-level=3", "lto=true", "codegen-units=1", "panic='abort'", "strip=true", "debug=false"];

/// How long rustup may take to add the target, in tenths of a second.
const RUSTUP_PATIENCE: u32 = 1200;

/// Variables that would change what a component is compiled to, by prefix.
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

/// A Rust project that gives a component.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of its manifest.
    pub folder: PathBuf,
    /// Its package's name, and the component's.
    pub name: String,
    /// Where cargo builds.
    pub target: PathBuf,
    /// Folders whose paths must not end up in the component, and what stands there instead.
    sources: Vec<(PathBuf, String)>,
}

impl Project {
    /// Asks cargo about the project in a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
        let manifest = folder.join("Cargo.toml");
        ensure!(
            manifest.is_file(),
            "{} is missing: this is no Rust project; `tally plugin new NAME` makes one",
            manifest.display()
        );
        let mut cargo = cargo(&folder);
        let answer = output(cargo.args(["metadata", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&answer).context("cannot read the answer of cargo metadata")?;
        let packages = || metadata["packages"].as_array().into_iter().flatten();
        let path = |value: &Value| PathBuf::from(value.as_str().unwrap_or_default());
        let own = packages().find(|package| path(&package["manifest_path"]) == manifest);
        let own = own.with_context(|| format!("{} is no package", manifest.display()))?;
        ensure!(
            is_cdylib(own),
            "{} makes no component: it needs\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]",
            manifest.display()
        );
        let local = packages().filter(|package| package["source"].is_null());
        let sources = local.filter_map(|package| {
            let folder = path(&package["manifest_path"]).parent()?.to_owned();
            Some((folder, package["name"].as_str()?.to_owned()))
        });
        let mut sources: Vec<_> = sources.collect();
        // The last that fits counts, so the innermost folder comes last.
        sources.sort();
        Ok(Self {
            name: own["name"].as_str().unwrap_or_default().to_owned(),
            target: path(&metadata["target_directory"]),
            folder,
            sources,
        })
    }

    /// Runs the project's own tests, with the terminal's output on stderr.
    pub fn test(&self) -> Result<()> {
        let mut cargo = cargo(&self.folder);
        cargo.args(["test", "--quiet"]).stdin(Stdio::null()).stdout(std::io::stderr());
        run(&mut cargo).context("the project's own tests fail")
    }

    /// Compiles the project, and gives the component's bytes.
    pub fn build(&self) -> Result<Vec<u8>> {
        let toolchain = Toolchain::find(&self.folder)?;
        let target = self.target.join("component");
        let mut cargo = cargo(&self.folder);
        for (name, _) in env::vars_os() {
            if CLEANED.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                cargo.env_remove(name);
            }
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", self.flags(&toolchain).join("\x1f"));
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &toolchain.linker).env("CARGO_TARGET_DIR", &target);
        cargo.args(["build", "--quiet", "--lib", "--target", TARGET, "--profile", PROFILE]);
        for setting in SETTINGS {
            cargo.arg("--config").arg(format!("profile.{PROFILE}.{setting}"));
        }
        run(cargo.stdin(Stdio::null()).stdout(std::io::stderr())).context("it does not compile for WebAssembly")?;
        let file = target.join(TARGET).join(PROFILE).join(format!("{}.wasm", self.name.replace('-', "_")));
        let bytes = fs::read(&file).with_context(|| format!("cargo made no {}", file.display()))?;
        self.check(&bytes)?;
        Ok(bytes)
    }

    /// Flags that keep this machine's paths out of the component, so that the same source gives the same bytes in any folder.
    fn flags(&self, toolchain: &Toolchain) -> Vec<String> {
        let home = cargo_home().map(|home| (home, "cargo".to_owned()));
        let fixed = [(toolchain.sysroot.clone(), "rust".to_owned())].into_iter().chain(home);
        let flag = |(folder, name): (PathBuf, String)| format!("--remap-path-prefix={}={name}", folder.display());
        fixed.chain(self.sources.iter().cloned()).map(flag).collect()
    }

    /// Whether it is a component that knows nothing of this machine.
    fn check(&self, bytes: &[u8]) -> Result<()> {
        ensure!(
            bytes.starts_with(b"\0asm\x0d\0\x01\0"),
            "what was linked is a core module, no component: is `tally_sdk::export!` called in src/lib.rs?"
        );
        let folders = self.sources.iter().map(|(folder, _)| folder.clone()).chain(cargo_home());
        for folder in folders {
            let path = folder.to_string_lossy().into_owned();
            let found = bytes.windows(path.len()).any(|window| window == path.as_bytes());
            ensure!(!found, "the component contains the path {path}, so its bytes depend on this machine");
        }
        Ok(())
    }
}

/// What rustup installed for the project.
struct Toolchain {
    sysroot: PathBuf,
    linker: PathBuf,
}

impl Toolchain {
    fn find(folder: &Path) -> Result<Self> {
        let rustc = |argument: &[&str]| output(Command::new("rustc").args(argument).current_dir(folder));
        let sysroot = rustc(&["--print", "sysroot"]).context("no Rust found; https://rustup.rs installs it")?;
        let sysroot = PathBuf::from(sysroot.trim());
        let version = rustc(&["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
        let linker = sysroot.join("lib/rustlib").join(host).join("bin/wasm-component-ld");
        ensure!(
            linker.is_file(),
            "{} is missing, which links components: use a Rust toolchain installed by https://rustup.rs",
            linker.display()
        );
        if !has_std(&sysroot) {
            add_target(folder)?;
            ensure!(has_std(&sysroot), "rustup added {TARGET}, but not to {}", sysroot.display());
        }
        Ok(Self { sysroot, linker })
    }
}

fn has_std(sysroot: &Path) -> bool {
    let entries = sysroot.join("lib/rustlib").join(TARGET).join("lib").read_dir();
    let is_std = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libstd-");
    entries.is_ok_and(|entries| entries.flatten().any(is_std))
}

fn add_target(folder: &Path) -> Result<()> {
    eprintln!("adding the target {TARGET} by rustup");
    let advice = format!("Rust's target {TARGET} is not installed; `rustup target add {TARGET}` does it");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).current_dir(folder).stdin(Stdio::null()).stdout(std::io::stderr());
    let mut child = rustup.spawn().context(advice.clone())?;
    for _ in 0..RUSTUP_PATIENCE {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => bail!(advice),
            None => thread::sleep(Duration::from_millis(100)),
        }
    }
    child.kill()?;
    child.wait()?;
    bail!("{advice}, but it did not answer")
}

fn is_cdylib(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    targets.flat_map(|target| target["crate_types"].as_array().into_iter().flatten()).any(|kind| kind == "cdylib")
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder);
    // What a cargo that runs this program says of another project.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Where cargo keeps the sources of others.
fn cargo_home() -> Option<PathBuf> {
    let home = || Some(Path::new(&env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line_of(command)))?;
    ensure!(status.success(), "`{}` failed", line_of(command));
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("cannot start {}", line_of(command)))?;
    ensure!(
        output.status.success(),
        "`{}` failed: {}",
        line_of(command),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{} did not print UTF-8", line_of(command)))
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    // The profile's settings would hide what was called.
    words.take_while(|word| word != "--config").collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project() -> Project {
        let sources = vec![("/some/where".into(), "it".into())];
        Project { folder: "/some/where".into(), name: "it".into(), target: "/t".into(), sources }
    }

    #[test]
    fn modules_and_machine_paths_are_refused() {
        project().check(b"\0asm\x0d\0\x01\0 rest").unwrap();
        for (bytes, says) in [
            (&b"\0asm\x01\0\0\0"[..], "core module"),
            (b"\0asm\x0d\0\x01\0 at /some/where/src/lib.rs", "depend on this machine"),
        ] {
            let error = project().check(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_folder_without_a_manifest_says_how_to_make_one() {
        let folder = tempfile::tempdir().unwrap();
        let error = Project::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("tally plugin new NAME"), "{error}");
    }

    #[test]
    fn an_empty_sysroot_has_no_std() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_std(folder.path()));
        let lib = folder.path().join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libstd-1.rlib"), "").unwrap();
        assert!(has_std(folder.path()));
    }
}
