//! Where a scenario takes place: folders that are gone afterwards, and how a daemon and the plain baseline are started there.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::Options;
use crate::daemon::Setup;
use crate::machine;
use crate::process::{self, Process};

/// The plugins whose numbers are compared.
const PLUGINS: [&str; 2] = ["video-actions", "homepage-fetch"];

/// See the module.
pub struct Stage {
    tally: PathBuf,
    bench: PathBuf,
    /// On the disk that is measured.
    disk: TempDir,
    /// A socket's path must be short, so sockets are in the system's own folder for temporary files.
    sockets: TempDir,
}

impl Stage {
    /// With the two plugins in a folder of their own.
    pub fn new(options: &Options) -> Result<Self> {
        let make = tempfile::Builder::new().prefix("tally-bench-").tempdir_in(&options.folder);
        let disk = make.with_context(|| format!("cannot make a folder in {}", options.folder.display()))?;
        let sockets = tempfile::Builder::new().prefix("tally-bench-").tempdir()?;
        let plugins = disk.path().join("plugins");
        fs::create_dir(&plugins)?;
        for name in PLUGINS {
            let file = format!("{name}.wasm");
            let from = options.plugins.join(&file);
            fs::copy(&from, plugins.join(file))
                .with_context(|| format!("the plugin {} is needed; `cargo xtask build` makes it", from.display()))?;
        }
        Ok(Self { tally: options.tally.clone(), bench: options.bench.clone(), disk, sockets })
    }

    /// The folder on the disk that is measured.
    pub fn folder(&self) -> &Path {
        self.disk.path()
    }

    /// A path for a socket.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.path().join(name)
    }

    /// A daemon to be started with an empty data directory.
    pub fn daemon(&self, cores: &[usize], arguments: &[&str]) -> Result<Setup> {
        let data = self.disk.path().join("data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        }
        Ok(Setup {
            tally: self.tally.clone(),
            plugins: self.disk.path().join("plugins"),
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
