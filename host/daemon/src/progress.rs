//! How far everybody is: what each aggregator has saved, what is quarantined, which records are written. Written by the
//! threads that own those facts, waited on by questions, the record writer, retention and shutdown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tally_aggregate::Skips;

use crate::aggregator::{Meta, Meter};

/// Where the daemon is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Recovering, or taking over the plugins.
    #[default]
    Starting,
    /// Every door is open.
    Accepting,
    /// Taking no more.
    Stopping,
}

/// What is known now.
#[derive(Debug, Default)]
pub struct Facts {
    /// Saved state of each aggregator that runs.
    pub saved: BTreeMap<String, Meta>,
    /// Quarantined aggregators (logged): the last cut they saved, and why.
    pub quarantined: BTreeMap<String, (u64, String)>,
    /// The frame where each aggregator goes on that is about to be attached again: what is behind it in the log must stay.
    pub returning: BTreeMap<String, u64>,
    /// What aggregators are spared (logged), and their strikes.
    pub skips: BTreeMap<String, Skips>,
    /// Number of the last cut whose flush record is written, or that had none.
    pub records_cut: u64,
    /// Frame of the last record that is written: from there the next start follows the log.
    pub records_from: u64,
    /// Flush records written since the start.
    pub records_written: u64,
    /// The newest pinned total of each aggregator: cut, chain and hash.
    pub pinned: BTreeMap<String, (u64, tally_aggregate::Chain, String)>,
    /// Aggregators whose threads have ended.
    pub ended: BTreeSet<String>,
    /// What the threads of each aggregator that runs, or ran, count.
    pub meters: BTreeMap<String, Arc<Meter>>,
    /// Where the daemon is in its life.
    pub phase: Phase,
    /// Who waits for room on the disk.
    pub waits_for_room: BTreeSet<String>,
    /// The committed end of the analytics files; none before the first record.
    pub records_end: Option<tally_sink::Position>,
    /// How long the last flush took from its cut to its durable record; none before the first one of this life.
    pub flush_lag: Option<Duration>,
}

impl Facts {
    /// Somebody waits for room on the disk.
    pub fn is_disk_full(&self) -> bool {
        !self.waits_for_room.is_empty()
    }

    /// Why no events are accepted now, as a fixed word; none while they are.
    pub fn not_ready(&self) -> Option<&'static str> {
        match self.phase {
            Phase::Starting => Some("starting"),
            Phase::Stopping => Some("stopping"),
            Phase::Accepting => self.is_disk_full().then_some("disk_full"),
        }
    }
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

    /// Notes whether `who` waits for room on the disk, and says so when that changes.
    pub fn room(&self, who: &str, lacking: Option<&dyn std::fmt::Display>) {
        let changes = self.update(|facts| match lacking {
            Some(_) => facts.waits_for_room.insert(who.to_owned()),
            None => facts.waits_for_room.remove(who),
        });
        match lacking {
            Some(error) if changes => {
                tracing::error!(who, %error, "the disk is full: nothing is accepted until there is room");
            }
            None if changes => tracing::info!(who, "there is room on the disk again"),
            _ => {}
        }
    }

    /// What the threads of an aggregator count into.
    pub fn meter(&self, name: &str) -> Arc<Meter> {
        self.facts().meters.entry(name.to_owned()).or_default().clone()
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
