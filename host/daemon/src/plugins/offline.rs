//! Compares two versions of an aggregator over a log at rest: what runs, by the log's plan, and another component under its settings, both
//! from nothing and over the same stretch. Reads only.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow, ensure};
use tally_aggregate::{Attached, Entries, Entry, Note};
use tally_event::table::Table;
use tally_plugin::Configured;
use tally_query::Since;
use tally_state::Store;
use tally_storage::{RealStorage, Storage};
use tally_wal::{Reader, View};

use super::diff::{Comparison, compare};
use super::planner::VersionFacts;
use super::replica::{Beginning, Moved, Place, Replica};
use super::{Compiled, Registry};
use crate::aggregator::Meta;
use crate::verify::replay_engine;
use crate::{LOG_FOLDER, recovery};

/// Rows given to a plugin in one call; any number gives the same.
const BATCH_ROWS: usize = 16384;

/// What is compared.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// The data directory of a daemon that is not running.
    pub data_dir: PathBuf,
    /// The aggregator.
    pub name: String,
    /// The other component.
    pub file: PathBuf,
    /// Where both begin, with nothing.
    pub since: Since,
    /// Rows of each kind of difference that are shown of a table.
    pub rows: usize,
}

/// Compares them as of the last cut of the log. Events that the running version was spared are left out for it.
pub fn diff(options: &DiffOptions) -> anyhow::Result<Comparison> {
    let name = &options.name;
    let component = std::fs::read(&options.file).with_context(|| format!("cannot read {}", options.file.display()))?;
    let data = RealStorage::read_only(&options.data_dir).context("opening the data directory")?;
    // Its lock tells whether a daemon runs; what is saved is not looked at.
    let _saved = Store::open_read_only(&data)?;
    let mut reader = Reader::open_read_only(data.folder(LOG_FOLDER)?).context("opening the log")?;
    let last_frame = reader.next_frame() - 1;
    let control = recovery::control_at(&mut reader, None, last_frame)?;
    let plan = &control.plan.aggregators;
    let names: Vec<&str> = plan.keys().map(String::as_str).collect();
    let running = plan.get(name);
    let running = running
        .with_context(|| format!("there is no aggregator {name:?} that runs; there are {}", names.join(", ")))?;
    let registry = Registry::new(replay_engine()?, data, Compiled::default());
    let old = registry.configured(&running.digest, &running.settings)?;
    let new = registry.look_at(&component, &running.settings);
    let new = new.with_context(|| format!("{} would not be taken", options.file.display()))?;

    let place = Place::of(options.since, &mut reader, last_frame)?;
    ensure!(
        place.position.cut < control.cut,
        "there is no cut behind {} in the log to compare as of",
        place.position.cut
    );
    let skips = spared(&mut reader, name, running.attached_at)?;
    let here = Attached { attached_at: place.position.cut, applies_after: place.position.cut, ..running.clone() };
    let other = Attached {
        version: new.component.description.version.clone(),
        digest: new.component.digest.to_string(),
        state_version: new.manifest.state_version.clone(),
        ..here.clone()
    };
    let begin = |attached, skips| Beginning { skips, ..Beginning::empty(name, attached, place.clone()) };
    let (first, second) = (begin(&here, skips), begin(&other, BTreeSet::new()));
    let readers = (reader.clone(), reader);
    let (of_running, of_new) = std::thread::scope(|scope| {
        let running = scope.spawn(|| replay(name, old, &here, first, readers.0));
        let of_new = replay(name, new, &other, second, readers.1);
        (running.join().unwrap_or_else(|_| Err(anyhow!("its replay panicked; this is a bug"))), of_new)
    });
    let (_, of_running) = of_running.context("the running version")?;
    let (meta, of_new) = of_new.with_context(|| options.file.display().to_string())?;
    let tables = compare(&of_running, &of_new, options.rows);
    Ok(Comparison {
        name: name.clone(),
        running: VersionFacts::of(running),
        new: VersionFacts::of(&other),
        cut: meta.cut,
        sequence: meta.last_sequence,
        equal: tables.iter().all(|table| table.is_equal()),
        tables,
    })
}

/// Runs a version to the end of the log, and gives its report.
fn replay(
    name: &str,
    configured: Configured,
    attached: &Attached,
    beginning: Beginning,
    reader: Reader<RealStorage>,
) -> anyhow::Result<(Meta, Vec<Table>)> {
    let mut replica = Replica::new(name, configured, attached, beginning, None, reader, BATCH_ROWS)?;
    while replica.step()? != Moved::Ended {}
    let tables = replica.report()?;
    Ok((replica.meta().clone(), tables))
}

/// Events that an aggregator was spared since it was attached, by the log.
fn spared(reader: &mut Reader<RealStorage>, name: &str, attached_at: u64) -> anyhow::Result<BTreeSet<u64>> {
    let mut spared = BTreeSet::new();
    reader.seek(reader.first_frame())?;
    while reader.advance().context("reading the log")?
        && let Some(View { number, body, .. }) = reader.current()
    {
        for entry in Entries::new(body) {
            if let Entry::Note(Note::Skipped(skip)) = entry.with_context(|| format!("frame {number} of the log"))?
                && skip.name == name
                && skip.attached_at == attached_at
            {
                spared.insert(skip.sequence);
            }
        }
    }
    Ok(spared)
}
