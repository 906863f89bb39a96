//! `cargo xtask mutants`: changes the log, recovery and flush code in a thousand small ways, one at a time, and lists the
//! changes that no test notices. What is changed and by which tests it is judged stands here; how, in `.cargo/mutants.toml`.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::project::{Project, say};
use crate::sim;

/// What is changed, and the package whose tests must notice.
struct Suite {
    name: &'static str,
    package: &'static str,
    /// Paths within the package; all of it without any.
    files: &'static [&'static str],
    judge: &'static str,
}

/// What judges the daemon.
const SIMULATION: &str = "tally-sim";

const SUITES: [Suite; 5] = [
    Suite { name: "wal", package: "tally-wal", files: &[], judge: "tally-wal" },
    Suite { name: "aggregate", package: "tally-aggregate", files: &[], judge: "tally-aggregate" },
    Suite { name: "state", package: "tally-state", files: &[], judge: "tally-state" },
    Suite { name: "sink", package: "tally-sink", files: &[], judge: "tally-sink" },
    // What the daemon decides is judged by the simulation, which runs all of it against faults.
    Suite {
        name: "daemon",
        package: "tally-daemon",
        files: &["src/recovery.rs", "src/records.rs", "src/sequencer.rs", "src/sequencer/*.rs"],
        judge: SIMULATION,
    },
];

/// Of the changes that compile, so many in a hundred must be noticed.
const ENOUGH: usize = 95;

/// What to change.
#[derive(clap::Args)]
pub struct Args {
    /// Only these: wal, aggregate, state, sink, daemon.
    suites: Vec<String>,
    /// How many changes are tried at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Try the changes again that nothing noticed last time, and no others.
    #[arg(long)]
    survivors: bool,
}

/// Runs the suites; an error when one of them notices too little.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let installed = Command::new("cargo-mutants").args(["mutants", "--version"]).output();
    ensure!(installed.is_ok(), "cargo-mutants is missing: cargo install --locked cargo-mutants");
    let unknown = args.suites.iter().find(|name| SUITES.iter().all(|suite| suite.name != **name));
    ensure!(unknown.is_none(), "there is no suite {}", unknown.map_or("", String::as_str));
    let members = packages::members(project, &project.root.join("Cargo.toml"))?;
    let mut short = 0;
    for suite in SUITES.iter().filter(|suite| args.suites.is_empty() || args.suites.iter().any(|n| n == suite.name)) {
        ensure!(members.iter().any(|member| member.name == suite.judge), "there is no package {}", suite.judge);
        let (text, enough) = suite.run(project, args)?;
        println!("{text}");
        short += usize::from(!enough);
    }
    println!("violations: {short}");
    ensure!(short == 0, "{short} suites notice less than {ENOUGH} % of the changes");
    Ok(())
}

impl Suite {
    /// What was noticed in words, and whether it was enough.
    fn run(&self, project: &Project, args: &Args) -> Result<(String, bool)> {
        let folder = project.target.join("mutants").join(self.name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = Command::new("cargo-mutants");
        command.current_dir(&project.root).arg("mutants").args(["--no-shuffle", "--package", self.package]);
        command.args(["--test-package", self.judge, "--jobs", &args.jobs.to_string()]).arg("--output").arg(&folder);
        // Within `host/daemon` and the like; packages here lie in folders of their names.
        let within = self.package.trim_start_matches("tally-");
        for file in self.files {
            command.arg("--file").arg(format!("host/{within}/{file}"));
        }
        if args.survivors {
            command.arg("--iterate");
        }
        // Each copy of the tree builds in its own folder; what this program was told by cargo is none of theirs.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_")) {
            if name != "CARGO_HOME" {
                command.env_remove(name);
            }
        }
        if self.judge == SIMULATION {
            // Without components its tests are skipped, and nothing would be noticed.
            let [plugins, fixtures] = sim::components(project)?;
            command.env("TALLY_BUILT_PLUGINS_DIR", plugins).env("TALLY_FIXTURES_DIR", fixtures);
        }
        let status = command.status().context("cannot start cargo-mutants")?;
        // 2: something was missed; 3: something hung. Both are in the lists.
        ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo-mutants failed ({status}); see {}", folder.display());
        let lists = folder.join("mutants.out");
        let list = |name: &str| -> Result<Vec<String>> {
            let path = lists.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        let (caught, missed) = (list("caught.txt")?.len(), list("missed.txt")?);
        let (hung, unviable) = (list("timeout.txt")?.len(), list("unviable.txt")?.len());
        missed.iter().for_each(|missed| say(format!("not noticed: {missed}")));
        Ok(verdict(self.name, caught, missed.len(), hung, unviable))
    }
}

/// A change that makes a test hang is noticed too.
fn verdict(name: &str, caught: usize, missed: usize, hung: usize, unviable: usize) -> (String, bool) {
    let noticed = caught + hung;
    let viable = (noticed + missed).max(1);
    let percent = noticed as f64 * 100.0 / viable as f64;
    let text = format!(
        "{name}: {percent:.1} % noticed: {caught} caught, {hung} timeouts, {missed} missed, {unviable} do not compile"
    );
    (text, noticed * 100 >= ENOUGH * viable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_noticed_and_what_does_not_compile_counts_for_nothing() {
        let (text, enough) = verdict("wal", 94, 5, 1, 50);
        assert_eq!(text, "wal: 95.0 % noticed: 94 caught, 1 timeouts, 5 missed, 50 do not compile");
        assert!(enough);
        assert!(!verdict("wal", 93, 5, 1, 0).1);
    }
}
