//! The daemon that is measured: a process of the given binary on the given cores.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ask;
use crate::machine;
use crate::process::{self, Process};

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take to apply what it acknowledged.
const CATCHING_UP: Duration = Duration::from_secs(120);

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The binary.
    pub tally: PathBuf,
    /// Where log and state are.
    pub data: PathBuf,
    /// The plugins directory.
    pub plugins: PathBuf,
    /// The socket for events; questions are asked beside it.
    pub socket: PathBuf,
    /// The cores it may use.
    pub cores: Vec<usize>,
    /// Further arguments.
    pub arguments: Vec<String>,
}

/// A running daemon.
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// Where it takes events.
    pub events: PathBuf,
    /// Where it answers questions.
    pub query: PathBuf,
    /// Where it takes orders.
    pub admin: PathBuf,
    /// From its start until it said it was ready.
    pub ready_after: Duration,
    ready: String,
    log: PathBuf,
}

impl Setup {
    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Result<Daemon> {
        let log = self.data.with_extension("log");
        let errors = fs::File::options().create(true).append(true).open(&log).context("cannot make a log file")?;
        let mut command = process::tally(&self.tally);
        command.arg("run").arg("--data-dir").arg(&self.data).arg("--plugins-dir").arg(&self.plugins);
        command.arg("--unix").arg(&self.socket).args(["--log-level", "warn"]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let started = Instant::now();
        let mut process = machine::on(&self.cores, || process::start(&mut command))?;
        let output = process.stdout().context("the daemon has no output")?;
        let mut ready = String::new();
        BufReader::new(output).read_line(&mut ready)?;
        let ready_after = started.elapsed();
        if !ready.starts_with("tally is ready") {
            bail!("the daemon did not start: {}", end_of(&log));
        }
        let beside = |ending: &str| PathBuf::from(format!("{}.{ending}", self.socket.display()));
        let (query, admin) = (beside("query"), beside("admin"));
        Ok(Daemon {
            process,
            events: self.socket.clone(),
            query,
            admin,
            ready_after,
            ready: ready.trim().to_owned(),
            log,
        })
    }
}

impl Daemon {
    /// Where a door is, by its name in the line that says it is ready: `http`.
    pub fn door(&self, name: &str) -> Result<&str> {
        let place = self.ready.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        place.with_context(|| format!("the daemon has no door {name}: {}", self.ready))
    }

    /// Waits until every aggregator has looked at every event up to `sequence`; when that was.
    pub fn applied(&self, sequence: u64) -> Result<Instant> {
        self.until("apply what it acknowledged", || {
            let page = ask::text(&self.query, "/metrics")?;
            let behind = series(&page, "tally_aggregator_lag_events").any(|lag| lag > 0.0);
            Ok(!behind && series(&page, "tally_log_last_sequence").any(|last| last >= sequence as f64))
        })
    }

    /// Waits until every record of a flush so far is written; when that was.
    pub fn settled(&self) -> Result<Instant> {
        self.until("write its records", || Ok(ask::json(&self.query, "/v1/status")?["records_behind"] == 0))
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<Instant> {
        let deadline = Instant::now() + CATCHING_UP;
        while !done().with_context(|| end_of(&self.log))? {
            if Instant::now() > deadline {
                bail!("the daemon did not {what} within {} s: {}", CATCHING_UP.as_secs(), end_of(&self.log));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(Instant::now())
    }

    /// SIGTERM, and a clean end.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate(PATIENCE).with_context(|| format!("the daemon did not stop well: {}", end_of(&self.log)))
    }
}

/// The values of a metric, whatever its labels.
fn series<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = f64> + 'a {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once(' ')?.1 } else { rest.strip_prefix(' ')? };
        value.parse().ok()
    })
}

fn end_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("its log ends with\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_with_and_without_labels() {
        let page = "# TYPE a gauge\na{x=\"1\"} 3\na{x=\"2 \"} 4.5\nab 7\nb 5\n";
        assert_eq!(series(page, "a").collect::<Vec<_>>(), [3.0, 4.5]);
        assert_eq!(series(page, "b").collect::<Vec<_>>(), [5.0]);
    }
}
