//! A version of an aggregator beside the one that runs: follows the log as that one does, on state of its own that lives in memory, and
//! has no part in what the log decides. A state machine that never waits: [`super::shadow`] gives it a thread, and [`super::offline`] runs
//! it over a log at rest. Must not know: the daemon, records, what it is compared with.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tally_aggregate::{Attached, Barrier, Flush};
use tally_event::plan::Subscriber;
use tally_event::schema::Preset;
use tally_event::table::{Question, Table};
use tally_event::time;
use tally_plugin::Configured;
pub use tally_query::Since;
use tally_state::{Commit, DeadLetter, RunInfo, Store};
use tally_storage::Storage;
use tally_wal::Reader;

use crate::aggregator::{Apply, Care, Failed, Meta, Total, presets};
use crate::feed::{Feed, Position, Step};
use crate::recovery;
use crate::tail::Tail;

/// A place in the log behind a cut, and what holds there.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The cut.
    pub position: Position,
    /// Sequence of the last event before it.
    pub sequence: u64,
    /// How lines are read from there on.
    pub presets: Vec<Preset>,
}

impl Place {
    /// The place behind a cut that is in the log, which is known up to `last_frame`.
    pub fn behind<S: Storage>(reader: &mut Reader<S>, position: Position, last_frame: u64) -> anyhow::Result<Self> {
        let then = recovery::control_at(reader, Some(position), last_frame)?;
        Ok(Self { position, sequence: then.cut_sequence, presets: presets(&then.plan)? })
    }

    /// The place that is meant. Reads the log up to there.
    ///
    /// # Errors
    /// When the log does not go back so far; says how far it does.
    pub fn of<S: Storage>(since: Since, reader: &mut Reader<S>, last_frame: u64) -> anyhow::Result<Self> {
        let (micros, asked) = match since {
            Since::Beginning => (i64::MIN, "its beginning".to_owned()),
            Since::Time(time) => (time, time::format(time)),
        };
        let begins = recovery::last_cut_until(reader, micros, last_frame)?;
        if begins.position == Position::default() {
            return Ok(Self::default());
        }
        ensure!(
            begins.at <= micros,
            "the log does not go back to {asked}; its oldest cut is of {}: give that time or a later one",
            time::format(begins.at)
        );
        Self::behind(reader, begins.position, last_frame)
    }
}

/// What a replica begins with.
pub struct Beginning {
    /// What is saved, or the empty beginning.
    pub meta: Meta,
    /// The saved runs with their bytes.
    pub runs: Vec<(RunInfo, Vec<u8>)>,
    /// What is kept of the events that it was spared so far.
    pub letters: Vec<DeadLetter>,
    /// How lines are read from there on.
    pub presets: Vec<Preset>,
    /// Sequences of events that it is spared.
    pub skips: BTreeSet<u64>,
}

impl Beginning {
    /// With nothing, at a place of the log.
    pub fn empty(name: &str, attached: &Attached, place: Place) -> Self {
        let meta = Meta::start(name, attached, place.position, place.sequence);
        Self { meta, runs: Vec::new(), letters: Vec::new(), presets: place.presets, skips: BTreeSet::new() }
    }
}

/// What a step of a replica did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Moved {
    /// Nothing: there is nothing to apply yet.
    Waiting,
    /// It went on.
    On,
    /// The log has ended.
    Ended,
}

/// See the module. After an error it is of no use any more.
pub struct Replica<S: Storage> {
    subscriber: Subscriber,
    feed: Feed<S>,
    apply: Apply,
    total: Total,
    store: Arc<Store>,
    /// Sequence of the last event that it has applied.
    applied: u64,
    skips: BTreeSet<u64>,
    /// Since the last cut, calls that failed on several events together: each of these gets a call of its own.
    alone: Vec<RangeInclusive<u64>>,
    batch_rows: usize,
}

impl<S: Storage> Replica<S> {
    /// Begins, with at most `batch_rows` rows in a call. Without `tail` it ends at the end of the log.
    pub fn new(
        name: &str,
        configured: Configured,
        attached: &Attached,
        beginning: Beginning,
        tail: Option<Arc<Tail>>,
        reader: Reader<S>,
        batch_rows: usize,
    ) -> anyhow::Result<Self> {
        let Beginning { mut meta, runs, letters, presets, skips } = beginning;
        meta.attach(attached, &runs.iter().map(|(run, _)| *run).collect::<Vec<_>>());
        let store = Arc::new(Store::open_in_memory()?);
        let add: Vec<_> = runs.iter().map(|(run, bytes)| (*run, bytes.as_slice())).collect();
        let (meta_bytes, letters) = (meta.to_bytes(), Some(&*letters));
        store.commit(&Commit { name, meta: &meta_bytes, add: &add, remove: &[], pending: None, letters })?;
        let (position, applied) = (meta.position(), meta.last_sequence);
        let total = Total::restore(name, configured.clone(), store.clone(), meta)?;
        let subscriber = Subscriber { name: name.into(), manifest: configured.manifest.clone() };
        let feed = Feed::new(tail, reader, position, Some(subscriber.clone()), presets);
        let (ledger, watermark) = (total.meta().ledger.clone(), total.meta().watermark);
        let care = Care { skips: skips.clone(), alone: Vec::new() };
        let apply = Apply::start(configured, ledger, watermark, 1, batch_rows, care)?;
        Ok(Self { subscriber, feed, apply, total, store, applied, skips, alone: Vec::new(), batch_rows })
    }

    /// As of the last cut.
    pub fn meta(&self) -> &Meta {
        self.total.meta()
    }

    /// Sequence of the last event that it has applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Where it saves its deltas; in memory.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The whole report as of the last cut.
    pub fn report(&mut self) -> anyhow::Result<Vec<Table>> {
        let question = Question { as_of: self.meta().watermark.unwrap_or_default(), ..Question::default() };
        self.total.ask(&question).with_context(|| format!("reporting as of cut {}", self.meta().cut))
    }

    /// Takes one step: some events, or a cut.
    ///
    /// # Errors
    /// When the version fails, naming the event or the cut, or the log cannot be read.
    pub fn step(&mut self) -> anyhow::Result<Moved> {
        match self.feed.step()? {
            Step::Nothing => {
                self.apply.rest();
                return Ok(Moved::Waiting);
            }
            Step::End => return Ok(Moved::Ended),
            Step::Events { batch, subscriber, rows, arrival } => {
                let last = batch.first_sequence() + u64::from(rows.end) - 1;
                match self.apply.events(&batch, subscriber, rows, arrival) {
                    Ok(()) => self.applied = last,
                    Err(failed) => self.one_by_one(failed)?,
                }
            }
            Step::Barrier { frame, barrier } => self.barrier(frame, &barrier)?,
        }
        Ok(Moved::On)
    }

    /// Begins again at the last cut, with a call for each event of the one that failed, as the daemon would: either the event that is to
    /// blame fails alone, or none does.
    fn one_by_one(&mut self, failed: Failed) -> anyhow::Result<()> {
        let range = match failed.events {
            Some((first, last)) if first < last => first..=last,
            Some((event, _)) => return Err(anyhow::Error::from(failed).context(format!("event {event}"))),
            None => return Err(failed.into()),
        };
        self.alone.push(range);
        let (configured, meta) = (self.apply.configured().clone(), self.total.meta());
        let care = Care { skips: self.skips.clone(), alone: self.alone.clone() };
        self.apply = Apply::start(configured, meta.ledger.clone(), meta.watermark, 1, self.batch_rows, care)?;
        self.applied = meta.last_sequence;
        self.feed.rewind(meta.position());
        Ok(())
    }

    fn barrier(&mut self, frame: u64, barrier: &Barrier) -> anyhow::Result<()> {
        let at = || format!("cut {}", barrier.cut);
        let delta = self.apply.cut().with_context(at)?;
        // It has no part in records.
        let flush = barrier.flush.clone().map(|flush| Flush { expected: Vec::new(), ..flush });
        self.total.cut(frame, &Barrier { flush, ..barrier.clone() }, &delta).with_context(at)?;
        self.alone.clear();
        self.applied = barrier.last_sequence;
        if let Some(plan) = &barrier.plan {
            self.feed.become_subscriber(Some(self.subscriber.clone()), presets(plan)?);
        }
        Ok(())
    }
}
