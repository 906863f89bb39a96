//! The total side: merges saved deltas into the running total and the open window, keeps runs in the state store,
//! reports at flushes and answers questions. Knows nothing of events, the log or threads.

use std::sync::Arc;

use serde_json::{Value, json};
use tally_aggregate::{Attached, Barrier, runs};
use tally_event::table::{Question, Table};
use tally_plugin::{Accumulator, CallError, Configured, Instance};
use tally_state::{Commit, RunInfo, Store};

use super::apply::Delta;
use super::line;
use super::meta::{Meta, Pinned};
use super::meter::{Meter, Timer};
use crate::clock::Clock;

/// Why the total side cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The plugin failed: worth one retry in a new store, then quarantine.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no room for what was to be saved. This total is to be thrown away and restored; trying again may help.
    #[error(transparent)]
    Full(tally_state::StateError),
    /// The state store failed: nothing can be saved any more.
    #[error("the state store failed; nothing more can be saved: {0:#}")]
    Fatal(#[from] anyhow::Error),
}

impl From<tally_state::StateError> for Failure {
    fn from(error: tally_state::StateError) -> Self {
        match error {
            error @ tally_state::StateError::Full { .. } => Self::Full(error),
            error => Self::Fatal(error.into()),
        }
    }
}

/// Level of a run that an anchor pins: it is merged with nothing until the next anchor replaces it.
const PINNED: u8 = u8::MAX;

/// Linear memory, in bytes, that is never too much for a total.
const SMALL: usize = 16 << 20;

/// An aggregator's saved past.
pub struct Total {
    name: String,
    configured: Configured,
    instance: Instance,
    total: Accumulator,
    window: Option<Accumulator>,
    meta: Meta,
    runs: Vec<RunInfo>,
    store: Arc<Store>,
    /// Who wants to know how long things take.
    watch: Option<(Clock, Arc<Meter>)>,
}

impl Total {
    /// Loads what the store has, or begins with `start`, which is saved at once.
    pub fn restore(name: &str, configured: Configured, store: Arc<Store>, start: Meta) -> Result<Self, Failure> {
        let (meta, runs) = match store.load(name)? {
            Some(saved) => (Meta::from_bytes(name, &saved.meta)?, saved.runs),
            None => {
                let meta = start.to_bytes();
                store.commit(&Commit { name, meta: &meta, add: &[], remove: &[], pending: None, letters: None })?;
                (start, Vec::new())
            }
        };
        let mut instance = configured.instantiate()?;
        let total = instance.create()?;
        let (name, window, watch) = (name.to_owned(), None, None);
        let mut this = Self { name, configured, instance, total, window, meta, runs, store, watch };
        for run in this.runs.clone() {
            let bytes = this.store.run(&this.name, &run)?;
            let state_version = this.meta.state_version_of(&run).to_owned();
            this.merge_in(&state_version, &bytes, run.first > this.meta.flushed_cut)?;
        }
        Ok(this)
    }

    /// The same, whose work is timed from now on.
    #[must_use]
    pub fn watched(self, clock: &Clock, meter: Arc<Meter>) -> Self {
        Self { watch: Some((clock.clone(), meter)), ..self }
    }

    /// Does some work, timed if anybody wants to know.
    pub(super) fn timed<T>(&mut self, timer: fn(&Meter) -> &Timer, work: impl FnOnce(&mut Self) -> T) -> T {
        match self.watch.clone() {
            Some((clock, meter)) => timer(&meter).time(&clock, || work(self)),
            None => work(self),
        }
    }

    /// What is saved.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The plugin and settings that run.
    pub fn configured(&self) -> &Configured {
        &self.configured
    }

    fn merge_in(&mut self, state_version: &str, bytes: &[u8], into_window: bool) -> Result<(), CallError> {
        let delta = self.instance.load(state_version, bytes)?;
        self.instance.merge(&self.total, &delta)?;
        match &self.window {
            _ if !into_window => self.instance.discard(delta)?,
            // Most windows have one delta: it becomes the window without a merge.
            None => self.window = Some(delta),
            Some(window) => {
                self.instance.merge(window, &delta)?;
                self.instance.discard(delta)?;
            }
        }
        Ok(())
    }

    /// Takes in what the apply side saved at `barrier` (in frame `frame`), durably. After a [`Failure::Call`] this total
    /// is to be thrown away and restored; the store is as before.
    pub fn cut(&mut self, frame: u64, barrier: &Barrier, delta: &Delta) -> Result<(), Failure> {
        assert_eq!(barrier.cut, self.meta.cut + 1, "cuts come in order");
        assert!(delta.ledger.balances(), "the ledger balances at every cut: {:?}", delta.ledger);
        let mut meta = self.meta.clone();
        meta.cut = barrier.cut;
        meta.frame = frame;
        meta.last_sequence = barrier.last_sequence;
        meta.cut_at = barrier.at;
        meta.chain = meta.chain.next(barrier.cut, barrier.last_sequence, &delta.bytes);
        meta.ledger = delta.ledger.clone();
        meta.watermark = delta.watermark;
        let mut run = None;
        if !delta.bytes.is_empty() {
            let version = &meta.attached.state_version;
            self.timed(|meter| &meter.merge, |this| this.merge_in(version, &delta.bytes, true))?;
            run = Some(RunInfo::new(barrier.cut, barrier.cut, 0, &delta.bytes));
        }
        let mut pending = None;
        if let Some(flush) = &barrier.flush {
            // What lies before its line is of another's records.
            if flush.expected.contains(&self.name) && barrier.cut > meta.attached.line.since {
                let part = self.timed(|meter| &meter.report, |this| this.pending(&meta, flush.table_rows))?;
                pending = Some(part);
            }
            if let Some(window) = self.window.take() {
                self.instance.discard(window)?;
            }
            meta.flushed_cut = barrier.cut;
            meta.flushed_ledger = meta.ledger.clone();
        } else if barrier.anchor && self.window.is_none() {
            // No event came since the flush: what is pinned here is what it was there.
            meta.flushed_cut = barrier.cut;
        }
        if barrier.plan.is_some() && barrier.cut == meta.attached.attached_at && meta.flushed_cut < barrier.cut {
            // Caught up: from here on it takes part in records, and its window begins here.
            if let Some(window) = self.window.take() {
                self.instance.discard(window)?;
            }
            meta.flushed_cut = barrier.cut;
            meta.flushed_ledger = meta.ledger.clone();
        }
        let add: Vec<(RunInfo, &[u8])> = run.iter().map(|run| (*run, delta.bytes.as_slice())).collect();
        let pending = pending.as_ref().map(|bytes| (barrier.cut, bytes.as_slice()));
        let bytes = meta.to_bytes();
        self.store.commit(&Commit {
            name: &self.name,
            meta: &bytes,
            add: &add,
            remove: &[],
            pending,
            letters: None,
        })?;
        self.meta = meta;
        self.runs.extend(run);
        if barrier.flush.is_some() {
            self.compact()?;
        }
        Ok(())
    }

    /// This aggregator's part of the flush record.
    fn pending(&mut self, meta: &Meta, row_limit: u32) -> Result<Vec<u8>, CallError> {
        let question = Question { as_of: meta.watermark.unwrap_or_default(), row_limit, ..Question::default() };
        let empty = match self.window {
            Some(_) => None,
            None => Some(self.instance.create()?),
        };
        let window = self.window.as_ref().or(empty.as_ref()).expect("one of the two is there");
        let aggregates = render(&self.instance.report(window, &question)?);
        let totals = render(&self.instance.report(&self.total, &question)?);
        if let Some(empty) = empty {
            self.instance.discard(empty)?;
        }
        let part = json!({
            "aggregates": aggregates,
            "totals": totals,
            "ledger": meta.ledger.since(&meta.flushed_ledger),
            "ledger_total": meta.ledger,
            "complete": meta.complete,
            "plugin": {
                "plugin": meta.attached.plugin,
                "version": meta.attached.version,
                "digest": meta.attached.digest,
                "chain": meta.chain,
            },
        });
        Ok(serde_json::to_vec(&part).expect("plain data serializes"))
    }

    /// Merges runs as their levels say. The runs of an open window stay as they are.
    fn compact(&mut self) -> Result<(), Failure> {
        loop {
            let settled = self.runs.partition_point(|run| run.last <= self.meta.flushed_cut);
            let levels: Vec<u8> = self.runs[..settled].iter().map(|run| run.level).collect();
            let Some((range, level)) = runs::to_merge(&levels) else { return Ok(()) };
            // All of them together are the total.
            let is_all = range == (0..self.runs.len());
            let bytes = if is_all { self.instance.save(&self.total)? } else { self.merged(&self.runs[range.clone()])? };
            self.replace_runs(range, level, &bytes)?;
            if is_all {
                self.renew(&bytes)?;
            }
        }
    }

    /// Goes on in a new instance where this one has far more memory than its total takes: linear memory never shrinks. Only while no
    /// window is open.
    fn renew(&mut self, total: &[u8]) -> Result<(), CallError> {
        if self.window.is_none() && self.instance.memory_bytes() > SMALL.max(total.len().saturating_mul(4)) {
            self.instance = self.configured.instantiate()?;
            self.total = self.instance.load(&self.configured.manifest.state_version, total)?;
        }
        Ok(())
    }

    /// Runs as one. They are merged in an instance that is gone afterwards, since linear memory never shrinks.
    fn merged(&self, runs: &[RunInfo]) -> Result<Vec<u8>, Failure> {
        let mut instance = self.configured.instantiate()?;
        let mut merged: Option<Accumulator> = None;
        for run in runs {
            let bytes = self.store.run(&self.name, run)?;
            let loaded = instance.load(self.meta.state_version_of(run), &bytes)?;
            match &merged {
                None => merged = Some(loaded),
                Some(into) => {
                    instance.merge(into, &loaded)?;
                    instance.discard(loaded)?;
                }
            }
        }
        Ok(instance.save(&merged.expect("a merge has runs"))?)
    }

    fn replace_runs(&mut self, range: std::ops::Range<usize>, level: u8, bytes: &[u8]) -> Result<(), Failure> {
        let old = &self.runs[range.clone()];
        let (Some(first), Some(last)) = (old.first(), old.last()) else { return Ok(()) };
        let run = RunInfo::new(first.first, last.last, level, bytes);
        let remove: Vec<(u64, u64)> = old.iter().map(|run| (run.first, run.last)).collect();
        let mut meta = self.meta.clone();
        meta.older_runs.retain(|older| !remove.contains(&(older.first, older.last)));
        let add = [(run, bytes)];
        let saved = meta.to_bytes();
        self.store.commit(&Commit {
            name: &self.name,
            meta: &saved,
            add: &add,
            remove: &remove,
            pending: None,
            letters: None,
        })?;
        self.meta = meta;
        self.runs.splice(range, [run]);
        Ok(())
    }

    /// Replaces all runs by the saved total, so that the log before this cut is no longer needed for it. Only right after
    /// a flush, or with no event since.
    pub fn pin(&mut self) -> Result<(), Failure> {
        assert_eq!(self.meta.flushed_cut, self.meta.cut, "an anchor stands at a flush");
        let bytes = self.instance.save(&self.total)?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let meta = Meta { pinned: None, older_runs: Vec::new(), ..self.meta.clone() };
        self.meta.pinned = Some(Box::new(Pinned { meta, hash }));
        if self.runs.is_empty() {
            return self.save_meta(self.meta.clone());
        }
        self.replace_runs(0..self.runs.len(), PINNED, &bytes)?;
        Ok(self.renew(&bytes)?)
    }

    /// Whether the total is pinned as of the last cut.
    pub fn is_pinned_here(&self) -> bool {
        self.meta.pinned.as_ref().is_some_and(|pinned| pinned.meta.cut == self.meta.cut)
    }

    /// Goes on with another version of the plugin that loads the state; only right after a cut. Runs stay as they were saved: one may be
    /// pinned, and the log has its hash.
    pub fn swap(&mut self, configured: Configured, attached: &Attached) -> Result<(), Failure> {
        let total = self.instance.save(&self.total)?;
        let window = self.window.as_ref().map(|window| self.instance.save(window)).transpose()?;
        let mut instance = configured.instantiate()?;
        let state_version = self.configured.manifest.state_version.as_str();
        let total = instance.load(state_version, &total)?;
        let window = window.map(|bytes| instance.load(state_version, &bytes)).transpose()?;
        (self.instance, self.total, self.window) = (instance, total, window);
        self.configured = configured;
        self.set_attached(attached)
    }

    /// What is attached has changed; the runs stay as they are, and what was there before another plugin is kept.
    pub fn set_attached(&mut self, attached: &Attached) -> Result<(), Failure> {
        if self.meta.attached.digest != attached.digest {
            line::keep_previous(&self.store, &self.name)?;
        }
        let mut meta = self.meta.clone();
        meta.attach(attached, &self.runs);
        self.save_meta(meta)
    }

    fn save_meta(&mut self, meta: Meta) -> Result<(), Failure> {
        let bytes = meta.to_bytes();
        self.store.commit(&Commit {
            name: &self.name,
            meta: &bytes,
            add: &[],
            remove: &[],
            pending: None,
            letters: None,
        })?;
        self.meta = meta;
        Ok(())
    }

    /// Reports the total.
    pub fn ask(&mut self, question: &Question) -> Result<Vec<Table>, CallError> {
        self.instance.report(&self.total, question)
    }

    /// The saved total.
    pub fn save(&mut self) -> Result<Vec<u8>, CallError> {
        self.instance.save(&self.total)
    }

    /// Bytes of saved state.
    pub fn state_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }

    /// Linear memory in use, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }
}

/// A report as it stands in a record: the summary's columns, then `tables` by name, then what their row limit left out.
pub fn render(tables: &[Table]) -> Value {
    let (summary, rest) = split(tables);
    let mut object = summary;
    if !rest.is_empty() {
        let rows: serde_json::Map<_, _> = rest.iter().map(|t| (t.name.clone(), json!(t.to_json_rows()))).collect();
        object.insert("tables".into(), rows.into());
    }
    let left_out = left_out(rest);
    if !left_out.is_empty() {
        object.insert("rows_left_out".into(), left_out.into());
    }
    object.into()
}

/// The summary's columns, and the other tables.
pub fn split(tables: &[Table]) -> (serde_json::Map<String, Value>, &[Table]) {
    match tables.split_first() {
        Some((summary, rest)) => (summary.summary_json(), rest),
        None => (serde_json::Map::new(), &[]),
    }
}

/// How many rows each table's row limit left out, where it did.
pub fn left_out(tables: &[Table]) -> serde_json::Map<String, Value> {
    tables.iter().filter(|t| t.rows_left_out > 0).map(|t| (t.name.clone(), t.rows_left_out.into())).collect()
}
