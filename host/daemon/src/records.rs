//! The record writer: follows the barriers of the log on a cursor of its own and appends one analytics record per flush,
//! in order, once every expected aggregator has saved its part. After a crash it goes on at the committed length.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::Value;
use tally_aggregate::{Barrier, Counts, Flush};
use tally_sink::{RecordFiles, Rotation, SinkError};
use tally_state::StateError;
use tally_storage::Storage;

use crate::DISK_FULL_PAUSE;
use crate::context::Context;
use crate::feed::{Feed, Position, Step};
use crate::progress::Facts;
use crate::recovery;

/// One analytics record. The order of the members is the order in the file.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    batch_id: u64,
    from: String,
    to: String,
    first_sequence: u64,
    last_sequence: u64,
    ledger: Ledger<'a>,
    aggregates: BTreeMap<&'a str, &'a Value>,
    totals: BTreeMap<&'a str, &'a Value>,
    ledger_total: Ledger<'a>,
    plugins: BTreeMap<&'a str, &'a Value>,
    /// Aggregators that are attached but in quarantine, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quarantined: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Ledger<'a> {
    #[serde(flatten)]
    counts: &'a Counts,
    aggregators: BTreeMap<&'a str, &'a Value>,
}

/// Renders a record from the flush's decision and the parts that the aggregators saved.
pub fn render(flush: &Flush, parts: &BTreeMap<String, Value>, quarantined: &BTreeMap<String, String>) -> Vec<u8> {
    let member = |key: &str| parts.iter().map(|(name, part)| (name.as_str(), &part[key])).collect::<BTreeMap<_, _>>();
    let record = Record {
        batch_id: flush.batch_id,
        from: rfc3339(flush.from),
        to: rfc3339(flush.to),
        first_sequence: flush.first_sequence,
        last_sequence: flush.last_sequence,
        ledger: Ledger { counts: &flush.window, aggregators: member("ledger") },
        aggregates: member("aggregates"),
        totals: member("totals"),
        ledger_total: Ledger { counts: &flush.total, aggregators: member("ledger_total") },
        plugins: member("plugin"),
        quarantined,
    };
    serde_json::to_vec(&record).expect("plain data serializes")
}

/// Microseconds since the Unix epoch as RFC 3339 text, UTC.
pub fn rfc3339(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

/// Where the writer stands: the last written flush in the log, and the committed end of the files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// In the log.
    pub log: Position,
    /// In the files; none before the first record.
    pub files: Option<tally_sink::Position>,
}

impl Cursor {
    /// Reads the cursor from the state store.
    pub fn load(store: &tally_state::Store) -> anyhow::Result<Self> {
        let Some(bytes) = store.records_position()? else { return Ok(Self::default()) };
        let number = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("eight bytes")));
        let (Some(frame), Some(cut)) = (number(0), number(8)) else {
            anyhow::bail!("the state store's position of the analytics files is {} bytes short", 16 - bytes.len());
        };
        let files = tally_sink::Position::from_bytes(&bytes[16..])?;
        Ok(Self { log: Position { frame, cut }, files: Some(files) })
    }

    fn to_bytes(position: Position, files: tally_sink::Position) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&position.frame.to_le_bytes());
        bytes.extend_from_slice(&position.cut.to_le_bytes());
        bytes.extend_from_slice(&files.to_bytes());
        bytes
    }
}

/// Who waits when there is no room for a record.
const RECORDS: &str = "the analytics files";

/// What a step of the record writer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Wrote {
    /// Nothing: the log has no further barrier yet.
    WaitsForLog,
    /// Nothing: somebody has not saved its part yet.
    WaitsForParts,
    /// Nothing: the disk is full.
    WaitsForRoom,
    /// It went on.
    On,
    /// The log has ended.
    Ended,
}

/// The record writer: a state machine that never waits; [`run`] gives it a thread.
pub struct RecordWriter<S: Storage> {
    context: Arc<Context<S>>,
    files: RecordFiles<S>,
    feed: Feed<S>,
    /// The flush that is to be written, and the frame that holds it.
    next: Option<(u64, Arc<Barrier>)>,
    /// Where its record ends, once that is appended; the state store does not know of it yet.
    appended: Option<tally_sink::Position>,
}

impl<S: Storage> RecordWriter<S> {
    /// Goes on where the state store says that the files end.
    pub fn new(context: Arc<Context<S>>) -> anyhow::Result<Self> {
        let cursor = Cursor::load(&context.store)?;
        let analytics = &context.config.analytics;
        let rotation = Rotation { max_bytes: analytics.max_bytes, max_batches: analytics.max_batches };
        let files =
            RecordFiles::open(context.data.clone(), cursor.files, rotation).context("opening the analytics files")?;
        let (mut position, mut cut, found) = (cursor.log, cursor.log.cut, &context.recovered);
        if recovery::has_no_flush_behind(&mut context.reader(), position, found)? {
            (position, cut) = (Position { frame: found.frame + 1, cut: 0 }, found.cut);
        }
        context.progress.update(|facts| {
            facts.records_cut = cut;
            facts.records_from = cursor.log.frame;
            facts.records_end = cursor.files;
        });
        let feed = Feed::new(Some(context.tail.clone()), context.reader(), position, None, Vec::new());
        Ok(Self { context, files, feed, next: None, appended: None })
    }

    /// Takes one step.
    pub fn step(&mut self) -> anyhow::Result<Wrote> {
        let Some((frame, barrier)) = self.next.take() else {
            match self.feed.step().context("following the log for the analytics files")? {
                Step::Nothing => return Ok(Wrote::WaitsForLog),
                Step::End => return Ok(Wrote::Ended),
                Step::Events { .. } => {}
                Step::Barrier { frame, barrier } if barrier.flush.is_some() => self.next = Some((frame, barrier)),
                Step::Barrier { barrier, .. } => self.pass(&barrier),
            }
            return Ok(Wrote::On);
        };
        let Some(flush) = &barrier.flush else { return Ok(Wrote::On) };
        if !settled(&self.context.progress.facts(), barrier.cut, flush) {
            self.next = Some((frame, barrier));
            return Ok(Wrote::WaitsForParts);
        }
        let Some(written) = self.write(frame, &barrier, flush)? else {
            self.next = Some((frame, barrier));
            return Ok(Wrote::WaitsForRoom);
        };
        let lag = u64::try_from(self.context.clock.wall_micros() - barrier.at).unwrap_or(0);
        self.context.progress.update(|facts| {
            facts.records_end = Some(written);
            facts.records_from = frame;
            facts.flush_lag = Some(Duration::from_micros(lag));
        });
        tracing::info!(
            batch = flush.batch_id,
            first_sequence = flush.first_sequence,
            last_sequence = flush.last_sequence,
            reason = barrier.reason,
            "flushed"
        );
        self.pass(&barrier);
        Ok(Wrote::On)
    }

    /// Appends and commits a record; none where there is no room for it yet.
    fn write(&mut self, frame: u64, barrier: &Barrier, flush: &Flush) -> anyhow::Result<Option<tally_sink::Position>> {
        let (context, mut lacking) = (&self.context, None);
        if self.appended.is_none() {
            let appended = record(context, barrier, flush).and_then(|record| Ok(self.files.append(&record)?));
            match appended {
                Ok(written) => self.appended = Some(written),
                Err(error) if is_full(&error) => lacking = Some(format!("{error:#}")),
                Err(error) => return Err(error.context("appending an analytics record")),
            }
        }
        if let Some(written) = self.appended {
            let position = Cursor::to_bytes(Position { frame, cut: barrier.cut }, written);
            match context.store.commit_records(&position, barrier.cut) {
                Ok(()) => {}
                Err(error @ StateError::Full { .. }) => lacking = Some(error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        context.progress.room(RECORDS, lacking.as_ref().map(|lacking| lacking as &dyn std::fmt::Display));
        Ok(if lacking.is_none() { self.appended.take() } else { None })
    }

    /// Everything up to this barrier is written.
    fn pass(&self, barrier: &Barrier) {
        self.context.progress.update(|facts| {
            facts.records_cut = barrier.cut;
            facts.records_written += u64::from(barrier.flush.is_some());
        });
    }

    /// Waits for what the last step lacked. False when it will not come any more: all who could bring it have ended, and the
    /// next start finds the log where it is.
    fn wait(&self, lacked: Wrote) -> bool {
        if lacked == Wrote::WaitsForRoom {
            std::thread::sleep(DISK_FULL_PAUSE);
            return true;
        }
        let (Wrote::WaitsForParts, Some((_, barrier))) = (lacked, &self.next) else {
            self.feed.wait();
            return true;
        };
        let Some(flush) = &barrier.flush else { return true };
        let ready = |facts: &Facts| settled(facts, barrier.cut, flush);
        let gone = |facts: &Facts| flush.expected.iter().all(|name| facts.ended.contains(name));
        let found = self
            .context
            .progress
            .wait(Duration::from_millis(500), |facts| (ready(facts) || gone(facts)).then(|| ready(facts)));
        found.unwrap_or(true)
    }
}

/// Runs until the log ends and everything is written.
pub fn run<S: Storage>(context: &Arc<Context<S>>) -> anyhow::Result<()> {
    let mut writer = RecordWriter::new(context.clone())?;
    loop {
        match writer.step()? {
            Wrote::On => {}
            Wrote::Ended => return Ok(()),
            lacked => {
                if !writer.wait(lacked) {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether it is for want of room on the disk.
pub fn is_full(error: &anyhow::Error) -> bool {
    error.downcast_ref::<SinkError>().is_some_and(SinkError::is_full)
        || matches!(error.downcast_ref::<StateError>(), Some(StateError::Full { .. }))
}

/// Whether every expected part of the flush at `cut` is saved, or its aggregator in quarantine.
fn settled(facts: &Facts, cut: u64, flush: &Flush) -> bool {
    let in_quarantine = |name: &String| facts.quarantined.get(name).is_some_and(|(after_cut, _)| *after_cut < cut);
    let saved = |name: &String| facts.saved.get(name).is_some_and(|meta| meta.cut >= cut);
    flush.expected.iter().all(|name| in_quarantine(name) || saved(name))
}

/// The record, from the parts that were saved.
fn record<S: Storage>(context: &Context<S>, barrier: &Barrier, flush: &Flush) -> anyhow::Result<Vec<u8>> {
    let mut parts = BTreeMap::new();
    let mut quarantined = flush.quarantined.clone();
    for name in &flush.expected {
        match context.store.pending(barrier.cut, name)? {
            Some(bytes) => {
                let part = serde_json::from_slice(&bytes).with_context(|| format!("the saved part of {name}"))?;
                parts.insert(name.clone(), part);
            }
            None => {
                let facts = context.progress.facts();
                let reason = facts.quarantined.get(name).map(|(_, reason)| reason.clone()).with_context(|| {
                    format!("aggregator {name} has saved cut {} without its part of the record", barrier.cut)
                })?;
                quarantined.insert(name.clone(), reason);
            }
        }
    }
    Ok(render(flush, &parts, &quarantined))
}
