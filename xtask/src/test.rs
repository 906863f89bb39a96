//! `cargo xtask test`: builds everything, runs every test, adds up the results.
//!
//! Native tests first, then those of the example plugins, then end to end with the release binary and real processes.
//! Tests find what was built by the variables set here; they must not build anything themselves. Tests by real clients
//! are skipped, and say so, where a client is missing; with TALLY_TESTS_NEED_CLIENTS=1 they fail.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::build;
use crate::clients;
use crate::components::standalone_packages;
use crate::project::{Project, say, without_settings};
use crate::wasm;

/// Set by `.ci/run`: a client that is missing is a failure.
const NEED_CLIENTS: &str = "TALLY_TESTS_NEED_CLIENTS";

/// What to test.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub wasm: wasm::Args,
    /// Leave out the end-to-end tests, which start real daemons and take minutes.
    #[arg(long)]
    pub skip_end_to_end: bool,
}

/// Runs all tests; an error when one failed. The last line printed is the total.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args::all(true, &args.wasm))?;
    let mut totals = Totals::default();
    let mut screen = std::io::stdout();
    let mut test = |cargo: &mut Command| -> Result<()> {
        totals.add(cargo_test(project, cargo.arg("--no-fail-fast"), &mut screen)?);
        Ok(())
    };
    say("native tests");
    test(project.cargo().args(["test", "--workspace", "--exclude", "tally-tests"]))?;
    for package in standalone_packages(project, &project.root.join("examples/plugins"))? {
        say(format!("tests of the example plugin {}", package.name));
        let mut cargo = project.cargo();
        cargo.env("CARGO_TARGET_DIR", project.target.join("examples"));
        test(cargo.args(["test", "--manifest-path"]).arg(&package.manifest))?;
    }
    if !args.skip_end_to_end {
        say("end-to-end tests");
        if let Err(error) = clients::install(project) {
            say(format!("without Python's packages, tests by real clients will be missing: {error:#}"));
        }
        test(project.cargo().args(["test", "--package", "tally-tests"]))?;
    }
    println!("{} ignored in {} test programs", totals.ignored, totals.programs);
    println!("{} passed, {} failed", totals.passed, totals.failed);
    if totals.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

/// Results of some test programs.
#[derive(Default, Debug, PartialEq)]
struct Totals {
    programs: u64,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.programs += other.programs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }

    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; ...`; other lines say nothing.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        self.programs += 1;
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// Runs one `cargo test`, passing its output on. A run that fails without naming a failed test counts as one failure.
fn cargo_test(project: &Project, cargo: &mut Command, echo: &mut impl Write) -> Result<Totals> {
    without_settings(cargo);
    cargo.env("TALLY_BIN", project.tally());
    cargo.env("TALLY_BUILT_PLUGINS_DIR", project.plugins());
    cargo.env("TALLY_EXAMPLE_PLUGINS_DIR", project.example_plugins());
    cargo.env("TALLY_LANGUAGES_DIR", project.languages());
    cargo.env("TALLY_FIXTURES_DIR", project.fixtures());
    cargo.env("TALLY_CLIENTS_DIR", project.clients());
    if let Some(needed) = env::var_os(NEED_CLIENTS) {
        cargo.env(NEED_CLIENTS, needed);
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let output = child.stdout.take().context("cargo test has no output")?;
    let mut totals = Totals::default();
    let mut line = Vec::new();
    let mut output = BufReader::new(output);
    while output.read_until(b'\n', &mut line)? > 0 {
        echo.write_all(&line)?;
        totals.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    if !child.wait()?.success() && totals.failed == 0 {
        totals.failed = 1;
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let mut totals = Totals::default();
        totals.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s\n");
        totals.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n");
        totals.read("running 5 tests");
        totals.read("test a_thing ... ok");
        assert_eq!(totals, Totals { programs: 2, passed: 15, failed: 2, ignored: 1 });
    }

    #[test]
    fn a_run_that_dies_without_a_result_is_a_failure() {
        let project = Project { root: ".".into(), target: "target".into() };
        let mut echo = Vec::new();
        let mut failed = |line: &str| {
            let mut shell = Command::new("sh");
            cargo_test(&project, shell.args(["-c", line]), &mut echo).unwrap().failed
        };
        assert_eq!(failed("exit 101"), 1);
        assert_eq!(failed("echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 101"), 2);
        assert!(echo.starts_with(b"test result"), "output is passed on");
    }
}
