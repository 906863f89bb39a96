//! How far everybody is: what each aggregator has saved, what is quarantined, which records are written. Written by the
//! threads that own those facts, waited on by questions, the record writer, retention and shutdown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::aggregator::Meta;

/// What is known now.
#[derive(Debug, Default)]
pub struct Facts {
    /// Saved state of each aggregator that runs.
    pub saved: BTreeMap<String, Meta>,
    /// Quarantined aggregators (logged): the last cut they saved, and why.
    pub quarantined: BTreeMap<String, (u64, String)>,
    /// Number of the last cut whose flush record is written, or that had none.
    pub records_cut: u64,
    /// Frame of that cut.
    pub records_frame: u64,
    /// Flush records written since the start.
    pub records_written: u64,
    /// The newest pinned total of each aggregator: cut, chain and hash.
    pub pinned: BTreeMap<String, (u64, tally_aggregate::Chain, String)>,
    /// Aggregators whose threads have ended.
    pub ended: BTreeSet<String>,
}

/// Shared facts with a bell.
#[derive(Debug, Default)]
pub struct Progress {
    facts: Mutex<Facts>,
    changed: Condvar,
}

impl Progress {
    /// Looks.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the facts and rings.
    pub fn update<T>(&self, change: impl FnOnce(&mut Facts) -> T) -> T {
        let result = change(&mut self.facts());
        self.changed.notify_all();
        result
    }

    /// Rings without a change, so that waiters look at what else they wait for.
    pub fn ring(&self) {
        self.changed.notify_all();
    }

    /// Waits until `ready` gives a value, for at most `timeout`.
    pub fn wait<T>(&self, timeout: Duration, mut ready: impl FnMut(&Facts) -> Option<T>) -> Option<T> {
        let mut found = None;
        let _guard = self
            .changed
            .wait_timeout_while(self.facts(), timeout, |facts| {
                found = ready(facts);
                found.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        found
    }
}
