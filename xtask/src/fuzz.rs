//! `cargo xtask fuzz`: libFuzzer on everything that reads bytes of others, a minute each unless told otherwise.
//!
//! The coverage counters are LLVM's and asked for by stable flags, so this needs neither a nightly toolchain nor `cargo fuzz`.
//! What is found beyond the committed corpus goes to the build folder; a finding's bytes too, named in the last lines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::project::{Project, output, run, say};

/// What `cargo fuzz` asks of rustc too, but for the sanitizers.
const COUNTERS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table";
/// The longest input that is made up.
const LONGEST: usize = 4096;
/// An input that takes this many seconds is a finding.
const PATIENCE: u32 = 20;
/// An input that takes this much memory is a finding.
const MEGABYTES: u32 = 4096;
/// How much of a target's corpus is committed, in files and in bytes.
const KEPT: (usize, u64) = (64, 24 << 10);

/// How to fuzz.
#[derive(clap::Args)]
pub struct Args {
    /// Seconds for each target; 0 runs the corpus once.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put the smallest inputs that reach new code into fuzz/corpus, within its bounds.
    #[arg(long)]
    keep: bool,
    /// These targets only; all of fuzz/fuzz_targets without any.
    targets: Vec<String>,
}

/// Builds and runs the targets, one after another; an error when one of them found something.
pub fn run_targets(project: &Project, args: &Args) -> Result<()> {
    let all = targets(project)?;
    let unknown = args.targets.iter().find(|target| !all.contains(target));
    if let Some(unknown) = unknown {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let chosen = if args.targets.is_empty() { &all } else { &args.targets };
    let programs = build(project)?;
    let mut findings = Vec::new();
    for target in chosen {
        let run = Run::new(project, &programs, target)?;
        let shown = run.fuzz(args.seconds)?;
        say(format!("{target:<10} {shown}"));
        findings.extend(run.findings()?);
        if args.keep {
            run.keep()?;
        }
    }
    for finding in &findings {
        say(format!("found: {} (run {} with it again)", finding.display(), programs.display()));
    }
    println!("{} targets, violations: {}", chosen.len(), findings.len());
    ensure!(findings.is_empty(), "fuzzing found {} inputs", findings.len());
    Ok(())
}

/// Names of the files in `fuzz/fuzz_targets`.
fn targets(project: &Project) -> Result<Vec<String>> {
    let folder = project.root.join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds every target and returns the folder of the programs.
fn build(project: &Project) -> Result<PathBuf> {
    // Given a target, cargo leaves build scripts and macros without counters, which could not be linked.
    let host = output(project.rustc().arg("-vV"))?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?.to_owned();
    let folder = project.target.join("fuzz");
    let mut cargo = project.cargo();
    cargo.args(["build", "--quiet", "--release", "--locked", "--bins", "--target", &host, "--manifest-path"]);
    cargo.arg("fuzz/Cargo.toml").arg("--target-dir").arg(&folder).env("RUSTFLAGS", COUNTERS);
    run(&mut cargo)
        .context("cannot build the fuzz targets; libFuzzer is C++: without a compiler, apt-get install g++")?;
    Ok(folder.join(host).join("release"))
}

/// One target.
struct Run {
    program: PathBuf,
    /// What is committed.
    corpus: PathBuf,
    /// What was found beyond it, on this machine.
    found: PathBuf,
    artifacts: PathBuf,
    target: String,
}

impl Run {
    fn new(project: &Project, programs: &Path, target: &str) -> Result<Self> {
        let own = project.target.join("fuzz/runs").join(target);
        let run = Run {
            program: programs.join(target),
            corpus: project.root.join("fuzz/corpus").join(target),
            found: own.join("corpus"),
            artifacts: own.join("findings"),
            target: target.to_owned(),
        };
        for folder in [&run.corpus, &run.found, &run.artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // An older run's findings are in the way of telling whether there are any.
        for old in run.findings()? {
            fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
        Ok(run)
    }

    /// libFuzzer with the bounds of all targets.
    fn libfuzzer(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("-artifact_prefix={}/", self.artifacts.display()));
        command.args([
            format!("-max_len={LONGEST}"),
            format!("-timeout={PATIENCE}"),
            format!("-rss_limit_mb={MEGABYTES}"),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs it and says in one line what libFuzzer said at the end.
    fn fuzz(&self, seconds: u32) -> Result<String> {
        let mut command = self.libfuzzer();
        command.arg("-print_final_stats=1");
        match seconds {
            0 => command.arg("-runs=0"),
            seconds => command.arg(format!("-max_total_time={seconds}")),
        };
        command.arg(&self.found).arg(&self.corpus);
        let done = command.output().with_context(|| format!("cannot start {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&done.stderr);
        let log = self.artifacts.with_file_name("log.txt");
        fs::write(&log, said.as_bytes()).with_context(|| format!("cannot write {}", log.display()))?;
        if !done.status.success() && self.findings()?.is_empty() {
            bail!("{} ended with {}, see {}", self.target, done.status, log.display());
        }
        Ok(summary(&said))
    }

    /// Inputs that made it fail.
    fn findings(&self) -> Result<Vec<PathBuf>> {
        files(&self.artifacts)
    }

    /// Chooses from all inputs the smallest that reach everything the others do, and commits of those what fits.
    fn keep(&self) -> Result<()> {
        let chosen = self.artifacts.with_file_name("chosen");
        let _ = fs::remove_dir_all(&chosen);
        fs::create_dir_all(&chosen).with_context(|| format!("cannot make {}", chosen.display()))?;
        let mut merge = self.libfuzzer();
        merge.arg("-merge=1").arg(&chosen).arg(&self.corpus).arg(&self.found).stderr(Stdio::null());
        run(&mut merge)?;
        let mut sized = Vec::new();
        for path in files(&chosen)? {
            sized.push((path.metadata()?.len(), path));
        }
        sized.sort();
        let mut left = KEPT.1;
        for (length, path) in sized.iter().take(KEPT.0) {
            let Some(rest) = left.checked_sub(*length) else { break };
            left = rest;
            let name = path.file_name().context("a file has a name")?;
            fs::copy(path, self.corpus.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
        Ok(())
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Coverage and speed out of libFuzzer's own words.
fn summary(said: &str) -> String {
    let last = said.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: ")).unwrap_or_default();
    let words: Vec<&str> = last.split_whitespace().collect();
    let after =
        |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).unwrap_or(&"?");
    let stat = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)).unwrap_or(": ?");
        line.trim_start_matches([':', ' ']).to_owned()
    };
    format!(
        "{:>10} runs, {:>6}/s, coverage {:>5}, features {:>6}, corpus {}",
        stat("number_of_executed_units"),
        stat("average_exec_per_sec"),
        after("cov:"),
        after("ft:"),
        after("corp:")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_made_of_what_libfuzzer_says() {
        let said = "INFO: seed\n#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 30Mb\n\
                    #901\tDONE   cov: 120 ft: 340 corp: 20/2Kb lim: 4096 exec/s: 450 rss: 31Mb\nDone 901 runs\n\
                    stat::number_of_executed_units: 901\nstat::average_exec_per_sec:     450\n";
        assert_eq!(summary(said), "       901 runs,    450/s, coverage   120, features    340, corpus 20/2Kb");
    }
}
