//! How many instructions the single-threaded stages of the hot path take per event, by callgrind, held against what is kept
//! in the repository: a slower hot path is seen without a stopwatch, on a busy machine too.
//!
//! Knows how to run the stages and to read callgrind; must not know what they do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::project::{Project, run as run_command, say, without_settings};

/// Where they are kept.
const LIST: &str = "host/bench/instructions.txt";
const STAGES: [&str; 4] = ["decode-w1", "decode-w2", "log-append", "apply-native"];
/// Ten batches.
const LINES: u64 = 40_960;
/// What two runs of these differ in is the stage alone.
const PASSES: [u64; 2] = [2, 6];
/// Allocation and hash tables make this much of a difference from build to build.
const TOLERANCE: f64 = 0.03;

/// Counts, and compares or writes.
pub fn run(project: &Project, bless: bool) -> Result<()> {
    let valgrind = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    if !valgrind.is_ok_and(|status| status.success()) {
        say("valgrind is not installed: no instructions are counted");
        return Ok(());
    }
    // Together with tally-cli, which was just built: alone it would resolve other features and compile everything anew.
    let packages =
        ["--package", "tally-cli", "--bin", "tally", "--package", "tally-bench", "--example", "instructions"];
    run_command(project.cargo().args(["build", "--release"]).args(packages))?;
    let counted = STAGES.into_iter().map(|stage| Ok((stage, per_event(project, stage)?)));
    let counted: BTreeMap<&str, f64> = counted.collect::<Result<_>>()?;
    let path = project.root.join(LIST);
    if bless {
        return fs::write(&path, list(&counted)).with_context(|| format!("cannot write {}", path.display()));
    }
    if !cfg!(target_arch = "x86_64") {
        say(format!("{LIST} is for x86-64; counted here: {counted:?}"));
        return Ok(());
    }
    let kept = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let changes = compared(&counted, &kept)?;
    for change in &changes {
        println!("{}", change.text);
    }
    let slower = changes.iter().filter(|change| change.slower).count();
    ensure!(
        slower == 0,
        "{slower} stages take more instructions than {LIST} says; if that is meant, --bless writes it"
    );
    Ok(())
}

fn per_event(project: &Project, stage: &str) -> Result<f64> {
    let [few, many] = PASSES;
    let instructions = |passes| collected(project, stage, passes);
    let difference = instructions(many)?.saturating_sub(instructions(few)?);
    Ok(difference as f64 / ((many - few) * LINES) as f64)
}

fn collected(project: &Project, stage: &str, passes: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(project.target.join("release/examples/instructions"));
    valgrind.args([stage, &LINES.to_string(), &passes.to_string()]);
    let output = without_settings(&mut valgrind).env("TALLY_BIN", project.tally()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() => Ok(count),
        _ => bail!("callgrind did not count {stage}: {}", said.trim_end()),
    }
}

fn list(counted: &BTreeMap<&str, f64>) -> String {
    let mut text = String::from(
        "# Instructions per event of single-threaded stages, x86-64 under valgrind; `cargo xtask bench --instructions` checks\n\
         # them and with --bless writes this.\n",
    );
    for (stage, instructions) in counted {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{stage} {instructions:.1}");
    }
    text
}

struct Change {
    text: String,
    slower: bool,
}

fn compared(counted: &BTreeMap<&str, f64>, kept: &str) -> Result<Vec<Change>> {
    let mut before = BTreeMap::new();
    for line in kept.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (stage, number) =
            line.split_once(' ').with_context(|| format!("{LIST}: not a stage and a number: {line}"))?;
        before.insert(stage, number.parse::<f64>().with_context(|| format!("{LIST}: not a number: {line}"))?);
    }
    let change = |(stage, now): (&&str, &f64)| {
        let was = before.get(stage).with_context(|| format!("{LIST} does not have {stage}; --bless writes it"))?;
        let slower = *now > was * (1.0 + TOLERANCE);
        let word = match () {
            () if slower => "SLOWER",
            () if *now < was * (1.0 - TOLERANCE) => "faster: --bless keeps it",
            () => "as before",
        };
        Ok(Change { text: format!("{stage:14} {now:8.1} instructions per event, {was:.1} kept: {word}"), slower })
    };
    counted.iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_instructions_are_noticed() {
        let kept = list(&BTreeMap::from([("decode-w1", 1000.0), ("log-append", 20.0)]));
        let slower = |decode: f64| {
            let changes = compared(&BTreeMap::from([("decode-w1", decode)]), &kept).unwrap();
            (changes[0].slower, changes[0].text.contains("faster"))
        };
        assert_eq!([slower(1020.0), slower(1040.0), slower(900.0)], [(false, false), (true, false), (false, true)]);
        assert!(compared(&BTreeMap::from([("apply-native", 1.0)]), &kept).is_err(), "a stage that is not kept");
        assert!(compared(&BTreeMap::new(), "nonsense").is_err());
    }
}
