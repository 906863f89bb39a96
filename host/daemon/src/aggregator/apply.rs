//! The apply side: one open delta, events in log order, without those that are skipped. Knows nothing of totals, files or
//! threads, nor what follows from a failure.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use tally_aggregate::AggregatorLedger;
use tally_event::batch::{Batch, Selected};
use tally_event::columns::Rows;
use tally_plugin::{CallError, Configured, Shards};

/// What a cut takes out of the apply side.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The saved open delta; empty when no row was given to the aggregator.
    pub bytes: Vec<u8>,
    /// Cumulative ledger as of the cut.
    pub ledger: AggregatorLedger,
    /// Greatest event time seen, never beyond arrival.
    pub watermark: Option<i64>,
}

/// Which events are not given to the aggregator, and which are given to it one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Care {
    /// Sequences of the skipped events.
    pub skips: BTreeSet<u64>,
    /// Ranges of sequences of which each event gets a call of its own; they do not overlap.
    pub alone: Vec<RangeInclusive<u64>>,
}

impl Care {
    /// The first of `rows` that go into one call of at most `most` rows; what lies before them is skipped.
    pub(super) fn next_call(&self, all: &Rows<'_>, rows: Range<usize>, most: usize) -> Range<usize> {
        if self.skips.is_empty() && self.alone.is_empty() {
            return rows.start..rows.end.min(rows.start + most);
        }
        let skipped = |row: usize| self.skips.contains(&sequence_of(all, row));
        let alone = |row: usize| self.alone.iter().any(|range| range.contains(&sequence_of(all, row)));
        let start = rows.clone().find(|row| !skipped(*row)).unwrap_or(rows.end);
        if start < rows.end && alone(start) {
            return start..start + 1;
        }
        let most = rows.end.min(start + most);
        let end = (start..most).find(|row| skipped(*row) || alone(*row)).unwrap_or(most);
        start..end
    }
}

fn sequence_of(rows: &Rows<'_>, row: usize) -> u64 {
    rows.first_sequence + u64::from(rows.sequence_offsets[row])
}

/// A call that failed. After it the delta is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// How.
    pub error: CallError,
    /// The first and the last event of the call; none where it was about no events.
    pub events: Option<(u64, u64)>,
}

impl Failed {
    /// The plugin's frames when it trapped; empty if there are none.
    pub fn backtrace(&self) -> &str {
        match &self.error {
            CallError::Trap { backtrace, .. } => backtrace,
            _ => "",
        }
    }
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self { error, events: None }
    }
}

/// An aggregator's open delta.
pub struct Apply {
    configured: Configured,
    open: Shards,
    rows_open: u64,
    ledger: AggregatorLedger,
    watermark: Option<i64>,
    batch_rows: usize,
    care: Care,
}

impl Apply {
    /// An empty delta that goes on counting from `ledger` and `watermark`, in so many shards; at most `batch_rows` rows a call.
    pub fn start(
        configured: Configured,
        ledger: AggregatorLedger,
        watermark: Option<i64>,
        shards: usize,
        batch_rows: usize,
        care: Care,
    ) -> Result<Self, CallError> {
        let open = Shards::start(&configured, shards)?;
        Ok(Self { configured, open, rows_open: 0, ledger, watermark, batch_rows: batch_rows.max(1), care })
    }

    /// From now on at most so many rows a call.
    pub fn set_batch_rows(&mut self, batch_rows: usize) {
        self.batch_rows = batch_rows.max(1);
    }

    /// The plugin and settings that run.
    pub fn configured(&self) -> &Configured {
        &self.configured
    }

    /// Applies accepted events `range` of the batch, as this aggregator (subscriber `index` of its plan) sees them.
    pub fn events(&mut self, batch: &Arc<Batch>, index: usize, range: Range<u32>, arrival: i64) -> Result<(), Failed> {
        let selected = batch.for_subscriber(index);
        let all = range.start == 0 && range.end == batch.accepted();
        let offsets = &selected.rows.sequence_offsets;
        let rows = if all { 0..offsets.len() } else { within(offsets, &range, |offset| *offset) };
        let refused = if all {
            0..selected.refused.len()
        } else {
            within(selected.refused, &range, |refused| refused.sequence_offset)
        };
        for refused in &selected.refused[refused.clone()] {
            self.ledger.refuse(&refused.reason.text(&self.configured.manifest), 1);
        }
        let accepted = u64::from(range.end - range.start);
        self.ledger.accepted += accepted;
        self.ledger.not_subscribed += accepted - rows.len() as u64 - refused.len() as u64;
        if let Some(latest) = selected.rows.times[rows.clone()].iter().max() {
            let latest = (*latest).min(arrival);
            self.watermark = Some(self.watermark.map_or(latest, |before| before.max(latest)));
        }
        let mut next = rows.start;
        while next < rows.end {
            let call = self.care.next_call(&selected.rows, next..rows.end, self.batch_rows);
            self.ledger.skipped += (call.start - next) as u64;
            next = call.end;
            self.call(batch, index, &selected, call)?;
        }
        self.rows_open += rows.len() as u64;
        assert!(self.ledger.balances(), "the ledger balances after every batch: {:?}", self.ledger);
        Ok(())
    }

    fn call(
        &mut self,
        batch: &Arc<Batch>,
        index: usize,
        selected: &Selected<'_>,
        rows: Range<usize>,
    ) -> Result<(), Failed> {
        if rows.is_empty() {
            return Ok(());
        }
        let all = &selected.rows;
        let refusals = self.open.apply(batch, index, selected, rows.clone()).map_err(|error| Failed {
            error,
            events: Some((sequence_of(all, rows.start), sequence_of(all, rows.end - 1))),
        })?;
        self.ledger.applied += (rows.len() - refusals.len()) as u64;
        for refusal in &refusals {
            self.ledger.refuse(&self.configured.manifest.refusals[refusal.reason as usize], 1);
        }
        Ok(())
    }

    /// Saves the open delta and starts an empty one.
    pub fn cut(&mut self) -> Result<Delta, CallError> {
        self.care.alone.clear();
        let mut bytes = Vec::new();
        if self.rows_open > 0 {
            bytes = self.open.take()?;
            self.rows_open = 0;
        }
        Ok(Delta { bytes, ledger: self.ledger.clone(), watermark: self.watermark })
    }

    /// There is nothing to apply: gives up memory that the next delta will take anew.
    pub fn rest(&mut self) {
        self.open.rest();
    }

    /// Goes on with another version of the plugin or in another number of shards; only right after a cut.
    pub fn swap(&mut self, configured: Configured, shards: usize) -> Result<(), CallError> {
        assert_eq!(self.rows_open, 0, "a swap follows a cut");
        let (ledger, watermark, care) = (self.ledger.clone(), self.watermark, std::mem::take(&mut self.care));
        *self = Self::start(configured, ledger, watermark, shards, self.batch_rows, care)?;
        Ok(())
    }

    /// In how many shards the delta is kept.
    pub fn shards(&self) -> usize {
        self.open.count()
    }

    /// How many calls several shards shared since this delta's sandboxes were made.
    pub fn shared_calls(&self) -> u64 {
        self.open.shared_calls()
    }

    /// Linear memory in use, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.open.memory_bytes()
    }
}

/// The indices of those ascending `items` whose offset lies in `range`.
fn within<T>(items: &[T], range: &Range<u32>, offset: impl Fn(&T) -> u32) -> Range<usize> {
    let start = items.partition_point(|item| offset(item) < range.start);
    let end = items.partition_point(|item| offset(item) < range.end);
    start..end
}
