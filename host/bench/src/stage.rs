//! Where a scenario takes place: folders that are gone afterwards, and how a daemon and the plain baseline are started there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{Daemon, Setup};
use crate::process::{self, Process};
use crate::results::Outcome;
use crate::{Options, machine, raw, say};

/// The plugins whose numbers are compared.
const PLUGINS: [&str; 2] = ["video-actions", "homepage-fetch"];

/// What Linux calls a file system in memory.
const TMPFS: i64 = 0x0102_1994;

/// See the module.
pub struct Stage {
    tally: PathBuf,
    bench: PathBuf,
    given: PathBuf,
    /// On the disk that is measured.
    disk: TempDir,
    /// A socket's path must be short, so sockets are in the system's own folder for temporary files.
    sockets: TempDir,
}

impl Stage {
    /// In folders of its own.
    pub fn new(options: &Options) -> Result<Self> {
        let make = tempfile::Builder::new().prefix("tally-bench-").tempdir_in(&options.folder);
        let disk = make.with_context(|| format!("cannot make a folder in {}", options.folder.display()))?;
        if rustix::fs::statfs(disk.path())?.f_type == TMPFS {
            say(format!(
                "{} is kept in memory, so nothing waits for a disk; --dir names another",
                options.folder.display()
            ));
        }
        let sockets = tempfile::Builder::new().prefix("tally-bench-").tempdir()?;
        let given = options.plugins.clone();
        for name in PLUGINS {
            let file = given.join(format!("{name}.wasm"));
            ensure!(file.exists(), "{} is needed; `cargo xtask build` makes it in target/plugins", file.display());
        }
        Ok(Self { given, tally: options.tally.clone(), bench: options.bench.clone(), disk, sockets })
    }

    /// Measures as often as asked, the disk first each time: everything depends on it.
    pub fn runs(&self, options: &Options, mut run: impl FnMut(&mut Outcome) -> Result<()>) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        for number in 1..=options.runs {
            let mut outcome = Outcome::default();
            let syncs = raw::fdatasync(self.folder())?;
            outcome.add("fdatasync_p50_us", syncs.value_at_quantile(0.5) as f64 / 1e3);
            outcome.add("fdatasync_p99_us", syncs.value_at_quantile(0.99) as f64 / 1e3);
            run(&mut outcome)?;
            say(format!("run {number} of {}: {}", options.runs, outcome.line()));
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// The folder on the disk that is measured.
    pub fn folder(&self) -> &Path {
        self.disk.path()
    }

    /// The bytes of a plugin as it was given.
    pub fn plugin(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.given.join(format!("{name}.wasm"));
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Puts a plugin into the daemon's folder by renaming, so that nobody reads half of it.
    pub fn put_plugin(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.plugins().join(format!("{name}.wasm"));
        let scratch = self.folder().join("plugin.new");
        fs::write(&scratch, bytes).with_context(|| format!("cannot write {}", scratch.display()))?;
        fs::rename(&scratch, &path).with_context(|| format!("cannot replace {}", path.display()))
    }

    fn plugins(&self) -> PathBuf {
        self.disk.path().join("plugins")
    }

    /// A path for a socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }

    /// A daemon to be started with an empty data directory, and with the plugins as they were given.
    pub fn daemon(&self, cores: &[usize], arguments: &[&str]) -> Result<Setup> {
        let data = self.disk.path().join("data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        fs::create_dir_all(self.plugins())?;
        PLUGINS.iter().try_for_each(|name| self.put_plugin(name, &self.plugin(name)?))?;
        Ok(Setup {
            tally: self.tally.clone(),
            plugins: self.plugins(),
            data,
            socket: self.socket("events"),
            cores: cores.to_vec(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        })
    }

    /// The plain baseline, ready for one connection.
    pub fn plain(&self, cores: &[usize]) -> Result<Plain> {
        let socket = self.socket("plain");
        let mut command = process::tally(&self.bench);
        command.args(["bench", "--plain-baseline"]).arg(&socket).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = machine::on(cores, || process::start(&mut command))?;
        let mut output = BufReader::new(process.stdout().context("the plain baseline has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line == "ready\n", "the plain baseline did not start");
        Ok(Plain { process, output, socket })
    }
}

/// What a daemon had cost when the clock was started.
pub struct Ground {
    cpu: f64,
}

impl Ground {
    /// What it has cost so far.
    pub fn of(daemon: &Daemon) -> Result<Self> {
        Ok(Self { cpu: daemon.process.cpu_seconds()? })
    }

    /// What these events cost, and the most memory that it ever took.
    pub fn costs(&self, daemon: &Daemon, events: u64, outcome: &mut Outcome) -> Result<()> {
        let cpu = daemon.process.cpu_seconds()? - self.cpu;
        outcome.add("cpu_s_per_million", cpu / events as f64 * 1e6);
        outcome.add("rss_bytes", daemon.process.peak_resident_bytes()? as f64);
        Ok(())
    }
}

/// A running plain baseline.
pub struct Plain {
    /// Its process.
    pub process: Process,
    output: BufReader<ChildStdout>,
    /// Where it takes events.
    pub socket: PathBuf,
}

impl Plain {
    /// Its numbers, once its connection is closed.
    pub fn numbers(mut self) -> Result<Value> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        ensure!(self.process.wait()?.success(), "the plain baseline failed");
        fs::remove_file(&self.socket)?;
        serde_json::from_str(&text).context("the plain baseline did not print its numbers")
    }
}
