//! `cargo xtask planted`: plants known bugs, one at a time, in a copy of the sources, and shows that the simulation catches each.
//!
//! A bug is a piece of text that stands once in a file, and what it becomes. Knows how bugs look; must not know how they are found.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::project::{Project, output, run as run_command, say};
use crate::wasm;

/// Which bugs.
#[derive(clap::Args)]
pub struct Args {
    /// Only those whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

struct Bug {
    name: &'static str,
    file: &'static str,
    find: &'static str,
    becomes: &'static str,
}

const fn bug(name: &'static str, file: &'static str, find: &'static str, becomes: &'static str) -> Bug {
    Bug { name, file, find, becomes }
}

const COMMIT: &str = "host/daemon/src/sequencer/commit.rs";
const LOG: &str = "host/wal/src/log.rs";
const RECOVER: &str = "host/wal/src/recover.rs";
const RECOVERY: &str = "host/daemon/src/recovery.rs";
const RETENTION: &str = "host/daemon/src/sequencer/retention.rs";

const BUGS: &[Bug] = &[
    bug(
        "acknowledge before the frame is written and synced",
        COMMIT,
        "        let Some(appended) = self.append()? else { return Ok(Settled::DiskFull) };\n        // What is saved",
        "        for (chunks, last) in &self.frame.jobs { self.acknowledge(chunks, *last); }\n        let Some(appended) = self.append()? else { return Ok(Settled::DiskFull) };\n        // What is saved",
    ),
    bug(
        "write frames without syncing them",
        "host/daemon/src/life.rs",
        "Durability::Fsync => tally_wal::Durability::Fsync",
        "Durability::Fsync => tally_wal::Durability::Os",
    ),
    bug(
        "skip the directory's sync behind a new segment",
        LOG,
        "self.storage.sync_dir().map_err(|source| self.fail(\"sync the directory of\", name, source))",
        "Ok(())",
    ),
    bug(
        "give a segment its name before it is synced",
        LOG,
        "let written = spare.file.write_at(&self.buffer, 0).and_then(|()| spare.file.sync_data());",
        "let written = spare.file.write_at(&self.buffer, 0);",
    ),
    bug(
        "retry a failed sync",
        LOG,
        "if let Err((doing, source)) = write(&active.file, bytes, active.end, durably) {",
        "if let Err((doing, source)) = write(&active.file, bytes, active.end, durably)\
         .or_else(|_| active.file.sync_data().map_err(|error| (\"sync\", error))) {",
    ),
    bug(
        "trust a former process's sync while recovering",
        RECOVER,
        "    file.write_at(&last.bytes[from as usize..end as usize], from).map_err(OpenError::io(storage, \"write\", name))?;\n",
        "    let _ = from;\n",
    ),
    bug(
        "take a frame whose checksum is wrong",
        "host/wal/src/format.rs",
        "if crc != u32_at(bytes, HEADER + header.body_len) {",
        "if false {",
    ),
    bug(
        "delete segments before the anchor that allows it is durable",
        RETENTION,
        "        self.note(&note);\n        self.frame.let_go = Some(needed_from.min(expendable));",
        "        let _ = self.let_go(needed_from.min(expendable));\n        self.note(&note);",
    ),
    bug(
        "delete segments that somebody has still to apply",
        RETENTION,
        "needed_from = needed_from.min(facts.saved.get(name).map_or(0, |meta| meta.frame));",
        "let _ = (&mut needed_from, name);",
    ),
    bug(
        "delete segments that somebody returns to",
        RETENTION,
        "facts.returning.values().copied().fold(before, u64::min)",
        "{ drop(facts); before }",
    ),
    bug(
        "let go of the record from where the next start goes on",
        RETENTION,
        "            needed_from = needed_from.min(facts.records_from);\n",
        "",
    ),
    bug(
        "begin the open delta anew only in name, so that events are applied twice",
        "host/plugin/src/shards.rs",
        "self.instance.discard(std::mem::replace(&mut self.open, fresh))?;",
        "self.instance.discard(fresh)?;",
    ),
    bug(
        "forget after a restart who was detached while catching up",
        RECOVERY,
        ".get(&name).or(detached);",
        ".get(&name);",
    ),
    bug(
        "forget after a restart what paused aggregators have saved",
        RECOVERY,
        "progress.update(|facts| facts.saved.insert(name.clone(), meta.clone()));",
        "",
    ),
    bug(
        "forget after a restart what totals are pinned of those who do not run",
        RECOVERY,
        "progress.update(|facts| facts.pinned.insert(name.clone(), pinned.known()));",
        "let _ = pinned;",
    ),
    bug(
        "forget after a restart that a total has to be pinned",
        "host/daemon/src/aggregator/keeper.rs",
        "filter(|total| asked == Some(total.meta().cut) && !total.is_pinned_here())",
        "filter(|total| false && asked == Some(total.meta().cut))",
    ),
    bug(
        "forget event ids after a restart",
        RECOVERY,
        "window.restore(*at, tally_aggregate::entry::ids(ids));",
        "let _ = (at, ids);",
    ),
    bug(
        "open a segment with what producers had decided long ago",
        COMMIT,
        "        self.before.producers =\n            self.producers.snapshot().into_iter().map(|(id, lines)| (id.to_string(), lines)).collect();\n",
        "",
    ),
    bug(
        "save a cut before its barrier is durable",
        COMMIT,
        "if must_last || self.frame.items.iter().any(|item| matches!(item, Item::Barrier(_))) {",
        "if must_last {",
    ),
    bug(
        "leave analytics records where they are that were never committed",
        "host/sink/src/files.rs",
        "    if bytes == 0 && later.is_empty() {",
        "    if bytes < u64::MAX && later.len() < usize::MAX {",
    ),
    bug(
        "end a reader where two segments went at once",
        "host/wal/src/reader.rs",
        "Err(ReadError::Gone { .. }) if self.target >= self.first_frame() => {}",
        "Err(ReadError::Gone { .. }) if self.target == 0 => {}",
    ),
    bug(
        "leave a shard out of the merge",
        "host/plugin/src/shards.rs",
        ".filter(|shard| !shard.is_empty) {",
        ".filter(|shard| !shard.is_empty).skip(1) {",
    ),
    bug(
        "deal a row to two shards",
        "host/plugin/src/deal.rs",
        "            self.shares[shard].push(number(row));\n",
        "            self.shares[shard].push(number(row));\n            if row == 5 { self.shares[(shard + 1) % shards].push(number(row)); }\n",
    ),
    bug(
        "remove plugin versions that the log still names",
        "host/daemon/src/plugins/retired.rs",
        "self.left.get(digest).is_none_or(|left| *left < first_frame)",
        "self.left.get(digest).is_none_or(|left| *left <= context.tail.last())",
    ),
];

/// What the simulation is asked, one after the other, until it finds something.
const LOOKS: [&[&str]; 3] = [&["--seeds", "0..600"], &["--points", "0..2", "--steps", "400"], &["--faults", "0..1"]];

/// Plants each bug; an error when one is not caught.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    build::run(project, &build::Args { components_only: true, ..build::Args::all(true, &args.wasm) })?;
    let copy = project.target.join("planted");
    let mut missed = 0;
    let mut planted = 0;
    for bug in BUGS.iter().filter(|bug| args.only.as_ref().is_none_or(|only| bug.name.contains(only.as_str()))) {
        planted += 1;
        copy_sources(project, &copy)?;
        plant(&copy, bug)?;
        match caught(project, &copy)? {
            Some(violation) => say(format!("caught: {}\n    {violation}", bug.name)),
            None => {
                missed += 1;
                say(format!("MISSED: {}", bug.name));
            }
        }
    }
    println!("{planted} bugs planted, {} caught", planted - missed);
    println!("violations: {missed}");
    ensure!(missed == 0, "{missed} planted bugs were not caught");
    Ok(())
}

/// Every file under version control as it is now. Only what differs is written, so that only that is built again.
fn copy_sources(project: &Project, copy: &Path) -> Result<()> {
    let mut git = Command::new("git");
    let listed =
        output(git.current_dir(&project.root).args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    for name in listed.lines() {
        let (from, to) = (project.root.join(name), copy.join(name));
        let Ok(bytes) = fs::read(&from) else { continue };
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        fs::write(&to, bytes).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

fn plant(root: &Path, bug: &Bug) -> Result<()> {
    let path = root.join(bug.file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let times = text.matches(bug.find).count();
    if times != 1 {
        bail!("{}: the text in which to plant {:?} stands there {times} times, not once", bug.file, bug.name);
    }
    fs::write(&path, text.replacen(bug.find, bug.becomes, 1)).with_context(|| format!("writing {}", path.display()))
}

/// The first violation that the simulation of the copy shows.
fn caught(project: &Project, copy: &Path) -> Result<Option<String>> {
    let target = copy.join("target");
    let mut cargo = project.cargo();
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", &target);
    run_command(cargo.args(["build", "--quiet", "--package", "tally-sim"]))?;
    for look in LOOKS {
        let mut simulation = Command::new(target.join("debug/tally-sim"));
        simulation.args(look).arg("--components").arg(project.plugins()).arg("--components").arg(project.fixtures());
        simulation.env("RUST_BACKTRACE", "0").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = simulation.spawn().context("starting the simulation")?;
        let errors = BufReader::new(child.stderr.take().context("it has no standard error")?);
        let mut lines = errors.lines().map_while(Result::ok);
        let found = lines.find(|line| line.starts_with("violation: "));
        if found.is_some() {
            // One is enough. It may have ended by itself.
            let _ = child.kill();
        }
        let ended = child.wait()?;
        if found.is_some() || !ended.success() {
            return Ok(Some(found.unwrap_or_else(|| format!("the simulation ended with {ended}"))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_can_still_be_planted() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        for bug in BUGS {
            let text = fs::read_to_string(root.join(bug.file)).expect(bug.file);
            assert_eq!(text.matches(bug.find).count(), 1, "{}: {:?}", bug.name, bug.find);
            assert_ne!(bug.find, bug.becomes);
        }
    }
}
