//! Where things are, and how other programs are called.
//!
//! Knows paths and processes; must not know what is built with them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The repository and its build folder.
pub struct Project {
    /// The folder that holds the workspace manifest.
    pub root: PathBuf,
    /// Where builds go: `target`, or what `CARGO_TARGET_DIR` says.
    pub target: PathBuf,
}

impl Project {
    /// Finds the repository from the manifest that cargo runs this program for.
    pub fn locate() -> Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask has no parent folder")?.to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => env::current_dir()?.join(folder),
            None => root.join("target"),
        };
        Ok(Project { root, target })
    }

    /// The cargo that runs this program (not rustup's proxy, which would set `LD_LIBRARY_PATH`), in the repository's root.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }

    /// The rustc that belongs to [`Project::cargo`].
    pub fn rustc(&self) -> Command {
        let beside = env::var_os("CARGO").map(|cargo| PathBuf::from(cargo).with_file_name("rustc"));
        Command::new(beside.filter(|path| path.exists()).unwrap_or_else(|| "rustc".into()))
    }

    /// Where cargo keeps the sources of others.
    pub fn cargo_home(&self) -> Option<PathBuf> {
        let home = || Some(Path::new(&env::var_os("HOME")?).join(".cargo"));
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
    }

    /// The host's release binary.
    pub fn tally(&self) -> PathBuf {
        self.target.join("release/tally")
    }

    /// First-party components.
    pub fn plugins(&self) -> PathBuf {
        self.target.join("plugins")
    }

    /// Components written as an outside author would.
    pub fn example_plugins(&self) -> PathBuf {
        self.target.join("example-plugins")
    }

    /// Components for tests.
    pub fn fixtures(&self) -> PathBuf {
        self.target.join("fixtures")
    }

    /// Components in other languages, and the tools they are built by.
    pub fn languages(&self) -> PathBuf {
        self.target.join("languages")
    }

    /// Python and packages for tests by real clients.
    pub fn clients(&self) -> PathBuf {
        self.target.join("clients")
    }

    /// What a path is called in messages: relative to the repository where possible.
    pub fn show<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// Takes away what the caller's shell says to `tally` (its flags can be given as `TALLY_...` variables).
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("TALLY_") {
            command.env_remove(name);
        }
    }
    command
}

/// Says what is being done; goes to stderr, so that stdout stays for results.
pub fn say(message: impl AsRef<str>) {
    eprintln!("xtask: {}", message.as_ref());
}

/// Runs to the end with the terminal's own output; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", line_of(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}", line_of(command));
    }
    Ok(())
}

/// Runs to the end and returns stdout; an exit code other than 0 is an error that carries stderr.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", line_of(command)))?;
    if !status.success() {
        bail!("failed ({status}): {}\n{}", line_of(command), String::from_utf8_lossy(&stderr).trim_end());
    }
    String::from_utf8(stdout).with_context(|| format!("{} did not print UTF-8", line_of(command)))
}

/// Runs for at most `limit`, then ends it; true when it succeeded in time.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<bool> {
    let mut child = command.spawn().with_context(|| format!("cannot start {}", line_of(command)))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= deadline {
            say(format!("no answer within {} s: {}", limit.as_secs(), line_of(command)));
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Writes a file so that a reader sees the old or the new content, and leaves it alone when nothing changed.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().with_context(|| format!("{} has no folder", path.display()))?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let scratch = path.with_extension("new");
    std::fs::write(&scratch, bytes).with_context(|| format!("cannot write {}", scratch.display()))?;
    std::fs::rename(&scratch, path).with_context(|| format!("cannot replace {}", path.display()))
}

fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_hangs_is_ended() {
        let started = Instant::now();
        let done = run_within(Command::new("sleep").arg("30"), Duration::from_millis(200)).unwrap();
        assert!(!done && started.elapsed() < Duration::from_secs(10));
        assert!(run_within(&mut Command::new("true"), Duration::from_secs(20)).unwrap());
        assert!(!run_within(&mut Command::new("false"), Duration::from_secs(20)).unwrap());
    }

    #[test]
    fn errors_carry_what_the_command_said() {
        let error = output(Command::new("sh").args(["-c", "echo gone >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("gone") && error.contains("exit 3"), "{error}");
    }

    #[test]
    fn an_unchanged_file_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.wasm");
        replace(&path, b"one").unwrap();
        let first = path.metadata().unwrap().modified().unwrap();
        thread::sleep(Duration::from_millis(20));
        replace(&path, b"one").unwrap();
        assert_eq!(path.metadata().unwrap().modified().unwrap(), first);
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no scratch file stays");
    }
}
