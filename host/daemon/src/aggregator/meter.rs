//! What an aggregator's two threads count as they go, once per batch, call or cut: what it costs. Plain atomics, read without
//! stopping anything. Knows nothing of what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tally_plugin::Usage;

use crate::clock::Clock;

/// See the module.
#[derive(Debug, Default)]
pub struct Meter {
    /// What the calls of the apply side use.
    pub(super) apply: Arc<Usage>,
    /// What the calls of the total side use.
    pub(super) total: Arc<Usage>,
    /// Saving the open delta at a cut; no event is applied meanwhile.
    pub(super) cut: Timer,
    /// Taking in what was saved at a cut, until it is durable: merge, report, the merging of older runs.
    pub(super) commit: Timer,
    /// Of it, loading the delta and merging it into total and window.
    pub(super) merge: Timer,
    /// Of it, reporting window and total for a record.
    pub(super) report: Timer,
    /// Answering a question.
    pub(super) question: Timer,
    applied_sequence: AtomicU64,
    apply_nanos: AtomicU64,
    apply_memory: AtomicU64,
    total_memory: AtomicU64,
    state_bytes: AtomicU64,
    replays: AtomicBool,
}

/// The counts at one moment; those that only grow, since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeterSnapshot {
    /// Sequence of the last event that went by the open delta, saved or not.
    pub applied_sequence: u64,
    /// It reads events from the log on disk, since they are no longer in memory.
    pub replays: bool,
    /// Events given to the plugin, again where a call was tried again.
    pub events: u64,
    /// Time spent applying them.
    pub apply_time: Duration,
    /// Fuel used for them, about one unit for each WebAssembly instruction.
    pub apply_fuel: u64,
    /// The largest share of its fuel that one call of what runs has used, from 0 to 1.
    pub peak: f64,
    /// Linear memory of the instances that hold the open delta, bytes.
    pub apply_memory: u64,
    /// Linear memory of the instance that holds the total, bytes.
    pub total_memory: u64,
    /// Saved state, bytes.
    pub state_bytes: u64,
    /// Saving the open delta at cuts.
    pub cut: Times,
    /// Taking in what was saved, until it is durable.
    pub commit: Times,
    /// Of it, merging.
    pub merge: Times,
    /// Of it, reporting for records.
    pub report: Times,
    /// Answering questions.
    pub question: Times,
}

/// How often something was done, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// How long in all.
    pub total: Duration,
    /// How long the last time.
    pub last: Duration,
}

/// Times something that one thread does again and again.
#[derive(Debug, Default)]
pub struct Timer {
    count: AtomicU64,
    nanos: AtomicU64,
    last: AtomicU64,
}

impl Timer {
    /// Does it, and counts how long it took.
    pub(super) fn time<T>(&self, clock: &Clock, work: impl FnOnce() -> T) -> T {
        let begun = clock.elapsed();
        let done = work();
        let nanos = nanos(clock.elapsed().saturating_sub(begun));
        self.count.fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
        self.last.store(nanos, Relaxed);
        done
    }

    fn times(&self) -> Times {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        Times { count: self.count.load(Relaxed), total: time(&self.nanos), last: time(&self.last) }
    }
}

impl Meter {
    /// The counts now.
    pub fn snapshot(&self) -> MeterSnapshot {
        MeterSnapshot {
            applied_sequence: self.applied_sequence.load(Relaxed),
            replays: self.replays.load(Relaxed),
            events: self.apply.rows(),
            apply_time: Duration::from_nanos(self.apply_nanos.load(Relaxed)),
            apply_fuel: self.apply.apply_fuel(),
            peak: self.apply.peak().max(self.total.peak()),
            apply_memory: self.apply_memory.load(Relaxed),
            total_memory: self.total_memory.load(Relaxed),
            state_bytes: self.state_bytes.load(Relaxed),
            cut: self.cut.times(),
            commit: self.commit.times(),
            merge: self.merge.times(),
            report: self.report.times(),
            question: self.question.times(),
        }
    }

    /// Sequence of the last event that went by the open delta, saved or not.
    pub fn applied_sequence(&self) -> u64 {
        self.applied_sequence.load(Relaxed)
    }

    /// The apply side has taken in everything up to `sequence`.
    pub(super) fn applied(&self, sequence: u64, memory_bytes: usize) {
        self.applied_sequence.store(sequence, Relaxed);
        self.apply_memory.store(memory_bytes as u64, Relaxed);
    }

    /// The apply side has applied events for so long, whether or not that went well.
    pub(super) fn spent(&self, time: Duration) {
        self.apply_nanos.fetch_add(nanos(time), Relaxed);
    }

    /// Whether the apply side reads events from disk.
    pub(super) fn replays(&self, replays: bool) {
        self.replays.store(replays, Relaxed);
    }

    /// The apply side has nothing to apply.
    pub(super) fn rests(&self, memory_bytes: usize) {
        self.replays(false);
        self.apply_memory.store(memory_bytes as u64, Relaxed);
    }

    /// The total side has saved a cut.
    pub(super) fn saved(&self, state_bytes: u64, memory_bytes: usize) {
        self.state_bytes.store(state_bytes, Relaxed);
        self.total_memory.store(memory_bytes as u64, Relaxed);
    }
}

impl MeterSnapshot {
    /// Linear memory of all instances, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.apply_memory + self.total_memory
    }

    /// What it did beside applying events, by name.
    pub fn works(&self) -> [(&'static str, Times); 5] {
        let Self { cut, commit, merge, report, question, .. } = *self;
        [("cut", cut), ("commit", commit), ("merge", merge), ("report", report), ("question", question)]
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
