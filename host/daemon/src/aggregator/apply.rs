//! The apply side: one open delta, events in log order. Knows nothing of totals, files or threads.

use std::ops::Range;

use tally_aggregate::AggregatorLedger;
use tally_event::batch::Batch;
use tally_plugin::{Accumulator, CallError, Configured, Instance};

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

/// An aggregator's open delta.
pub struct Apply {
    configured: Configured,
    instance: Instance,
    open: Accumulator,
    rows_open: u64,
    ledger: AggregatorLedger,
    watermark: Option<i64>,
    batch_rows: usize,
}

impl Apply {
    /// An empty delta that goes on counting from `ledger` and `watermark`; at most `batch_rows` rows a call.
    pub fn start(
        configured: Configured,
        ledger: AggregatorLedger,
        watermark: Option<i64>,
        batch_rows: usize,
    ) -> Result<Self, CallError> {
        let mut instance = configured.instantiate()?;
        let open = instance.create()?;
        Ok(Self { configured, instance, open, rows_open: 0, ledger, watermark, batch_rows: batch_rows.max(1) })
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
    pub fn events(&mut self, batch: &Batch, index: usize, range: Range<u32>, arrival: i64) -> Result<(), CallError> {
        let selected = batch.for_subscriber(index);
        let all = range.start == 0 && range.end == batch.accepted();
        let offsets = &selected.rows.sequence_offsets;
        let rows = if all { 0..offsets.len() } else { within(offsets, &range, |offset| *offset) };
        let refused = if all {
            0..selected.refused.len()
        } else {
            within(selected.refused, &range, |refused| refused.sequence_offset)
        };
        let manifest = &self.configured.manifest;
        for refused in &selected.refused[refused.clone()] {
            self.ledger.refuse(&refused.reason.text(manifest), 1);
        }
        let accepted = u64::from(range.end - range.start);
        self.ledger.accepted += accepted;
        self.ledger.not_subscribed += accepted - rows.len() as u64 - refused.len() as u64;
        if let Some(latest) = selected.rows.times[rows.clone()].iter().max() {
            let latest = (*latest).min(arrival);
            self.watermark = Some(self.watermark.map_or(latest, |before| before.max(latest)));
        }
        let mut start = rows.start;
        while start < rows.end {
            let end = rows.end.min(start + self.batch_rows);
            let refusals = if start == 0 && end == selected.rows.len() {
                self.instance.apply(&self.open, &selected.rows)?
            } else {
                self.instance.apply(&self.open, &selected.rows.slice(start..end))?
            };
            self.ledger.applied += (end - start - refusals.len()) as u64;
            for refusal in &refusals {
                self.ledger.refuse(&manifest.refusals[refusal.reason as usize], 1);
            }
            start = end;
        }
        self.rows_open += rows.len() as u64;
        assert!(self.ledger.balances(), "the ledger balances after every batch: {:?}", self.ledger);
        Ok(())
    }

    /// Saves the open delta and starts an empty one.
    pub fn cut(&mut self) -> Result<Delta, CallError> {
        let mut bytes = Vec::new();
        if self.rows_open > 0 {
            bytes = self.instance.save(&self.open)?;
            let fresh = self.instance.create()?;
            self.instance.discard(std::mem::replace(&mut self.open, fresh))?;
            self.rows_open = 0;
        }
        Ok(Delta { bytes, ledger: self.ledger.clone(), watermark: self.watermark })
    }

    /// Goes on with another version of the plugin; only right after a cut.
    pub fn swap(&mut self, configured: Configured) -> Result<(), CallError> {
        assert_eq!(self.rows_open, 0, "a swap follows a cut");
        let (ledger, watermark) = (self.ledger.clone(), self.watermark);
        *self = Self::start(configured, ledger, watermark, self.batch_rows)?;
        Ok(())
    }

    /// Linear memory in use, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.instance.memory_bytes()
    }
}

/// The indices of those ascending `items` whose offset lies in `range`.
fn within<T>(items: &[T], range: &Range<u32>, offset: impl Fn(&T) -> u32) -> Range<usize> {
    let start = items.partition_point(|item| offset(item) < range.start);
    let end = items.partition_point(|item| offset(item) < range.end);
    start..end
}
