//! Writing: what one durable transaction changes, checked against what is there before anything is written.

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::dead_letters::{self, DeadLetter};
use crate::guard::Failed;
use crate::run::{RunInfo, disorder};
use crate::{MAX_NAME_BYTES, MAX_VALUE_BYTES, codec, snapshot};

pub(crate) const FORMAT_TABLE: TableDefinition<&str, u32> = TableDefinition::new("format");
pub(crate) const AGGREGATORS: TableDefinition<&str, &[u8]> = TableDefinition::new("aggregators");
pub(crate) const RUNS: TableDefinition<RunKey, &[u8]> = TableDefinition::new("runs");
pub(crate) const PENDINGS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("pendings");
pub(crate) const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// Name, first cut, last cut, part.
pub(crate) type RunKey = (&'static str, u64, u64, u32);
/// Bytes of a run per entry: redb rounds a large value and its overhead up to a power of two, so whole runs would waste up
/// to half of the file and of every write.
const PART_BYTES: usize = 120 << 10;
/// The one key of [`RECORDS`].
pub(crate) const POSITION: &str = "position";

/// What one aggregator saves at once: all of it is durable, or none of it.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The aggregator.
    pub name: &'a str,
    /// Its new description; replaces the old one.
    pub meta: &'a [u8],
    /// Runs that come in, each with its bytes; any order.
    pub add: &'a [(RunInfo, &'a [u8])],
    /// Runs that go, by (first, last) cut; each must be there.
    pub remove: &'a [(u64, u64)],
    /// A report that waits for the record of a cut: (the cut's frame, the report).
    pub pending: Option<(u64, &'a [u8])>,
    /// Its dead letters from now on, whatever names they have; none: those it has.
    pub letters: Option<&'a [DeadLetter]>,
}

/// Puts one aggregator's changes into the transaction.
pub(crate) fn apply(transaction: &WriteTransaction, commit: &Commit<'_>) -> Result<(), Failed> {
    let refused = |what| Failed::Refused(commit.name.to_owned(), what);
    check_sizes(commit).map_err(refused)?;
    let mut aggregators = transaction.open_table(AGGREGATORS)?;
    let old = match aggregators.get(commit.name)? {
        Some(sealed) => snapshot::decode_saved(commit.name, sealed.value()).map_err(Failed::Damaged)?.runs,
        None => Vec::new(),
    };
    let runs = next_runs(old, commit).map_err(refused)?;
    let payload = codec::encode_saved(commit.meta, &runs);
    let sealed = codec::seal("aggregators", &[commit.name.as_bytes()], &payload);
    aggregators.insert(commit.name, sealed.as_slice())?;

    let mut stored = transaction.open_table(RUNS)?;
    for &(first, last) in commit.remove {
        remove_run(&mut stored, commit.name, first, last)?;
    }
    for (run, bytes) in commit.add {
        for (part, number) in parts(bytes).zip(0..) {
            stored.insert((commit.name, run.first, run.last, number), part)?;
        }
    }
    if let Some((cut_frame, report)) = commit.pending {
        let key = [&cut_frame.to_le_bytes()[..], commit.name.as_bytes()];
        let sealed = codec::seal("pendings", &key, report);
        transaction.open_table(PENDINGS)?.insert((cut_frame, commit.name), sealed.as_slice())?;
    }
    if let Some(letters) = commit.letters {
        dead_letters::replace(transaction, commit.name, letters)?;
    }
    Ok(())
}

/// A run's bytes as entries; an empty run has one, so that it can be told from a missing one.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = bytes.is_empty().then_some(bytes);
    empty.into_iter().chain(bytes.chunks(PART_BYTES))
}

fn remove_run(stored: &mut Table<'_, RunKey, &'static [u8]>, name: &str, first: u64, last: u64) -> Result<(), Failed> {
    let mut is_there = false;
    stored.retain_in((name, first, last, 0)..=(name, first, last, u32::MAX), |_, _| {
        is_there = true;
        false
    })?;
    match is_there {
        true => Ok(()),
        false => Err(Failed::Damaged(format!("the run of cuts {first}..={last} of aggregator {name:?} is missing"))),
    }
}

/// Forgets an aggregator's description and runs.
pub(crate) fn remove(transaction: &WriteTransaction, name: &str) -> Result<bool, Failed> {
    dead_letters::replace(transaction, name, &[])?;
    transaction.open_table(RUNS)?.retain_in((name, 0, 0, 0)..=(name, u64::MAX, u64::MAX, u32::MAX), |_, _| false)?;
    Ok(transaction.open_table(AGGREGATORS)?.remove(name)?.is_some())
}

/// Moves the position of the analytics files, and drops the reports that are in them.
pub(crate) fn records(transaction: &WriteTransaction, position: &[u8], done_cut_frame: u64) -> Result<(), Failed> {
    check_length("the position", position).map_err(|what| Failed::Refused("(records)".into(), what))?;
    let sealed = codec::seal("records", &[], position);
    transaction.open_table(RECORDS)?.insert(POSITION, sealed.as_slice())?;
    let mut pendings = transaction.open_table(PENDINGS)?;
    match done_cut_frame.checked_add(1) {
        Some(next) => pendings.retain_in(..(next, ""), |_, _| false)?,
        None => pendings.retain(|_, _| false)?,
    }
    Ok(())
}

/// The runs after the commit, ascending.
fn next_runs(mut runs: Vec<RunInfo>, commit: &Commit<'_>) -> Result<Vec<RunInfo>, String> {
    for &(first, last) in commit.remove {
        let at = runs.iter().position(|run| (run.first, run.last) == (first, last));
        let at = at.ok_or_else(|| format!("it has no run of cuts {first}..={last} to remove"))?;
        runs.remove(at);
    }
    for (run, bytes) in commit.add {
        check_length("a run", bytes)?;
        if !run.describes(bytes) {
            return Err(format!("the run of cuts {}..={} has other bytes than its hash says", run.first, run.last));
        }
        runs.push(*run);
    }
    runs.sort_unstable_by_key(|run| (run.first, run.last));
    match disorder(&runs) {
        Some(what) => Err(what),
        None => Ok(runs),
    }
}

fn check_sizes(commit: &Commit<'_>) -> Result<(), String> {
    if commit.name.is_empty() || commit.name.len() > MAX_NAME_BYTES {
        return Err(format!("its name has {} bytes, 1 to {MAX_NAME_BYTES} are allowed", commit.name.len()));
    }
    check_length("its description", commit.meta)?;
    match commit.pending {
        Some((_, report)) => check_length("its report", report),
        None => Ok(()),
    }
}

fn check_length(what: &str, bytes: &[u8]) -> Result<(), String> {
    match bytes.len() {
        length if length > MAX_VALUE_BYTES => {
            Err(format!("{what} has {length} bytes, at most {MAX_VALUE_BYTES} are allowed"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory that nobody touches is not taken from the machine.
    #[test]
    fn a_value_may_have_a_gibibyte_and_no_byte_more() {
        let long = vec![0; MAX_VALUE_BYTES + 1];
        assert_eq!(check_length("a run", &long[..1 << 30]), Ok(()));
        let refused = check_length("a run", &long).unwrap_err();
        assert_eq!(refused, "a run has 1073741825 bytes, at most 1073741824 are allowed");
    }
}
