//! What an aggregator's two threads count as they go, once per batch or cut. Plain atomics, read without stopping anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub struct Meter {
    applied_sequence: AtomicU64,
    apply_nanos: AtomicU64,
    apply_memory: AtomicU64,
    total_memory: AtomicU64,
    state_bytes: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeterSnapshot {
    /// Sequence of the last event that went by the open delta, saved or not.
    pub applied_sequence: u64,
    /// Time spent applying events since the start.
    pub apply_time: Duration,
    /// Linear memory of both instances, bytes.
    pub memory_bytes: u64,
    /// Saved state, bytes.
    pub state_bytes: u64,
}

impl Meter {
    /// The counts now.
    pub fn snapshot(&self) -> MeterSnapshot {
        MeterSnapshot {
            applied_sequence: self.applied_sequence.load(Relaxed),
            apply_time: Duration::from_nanos(self.apply_nanos.load(Relaxed)),
            memory_bytes: self.apply_memory.load(Relaxed) + self.total_memory.load(Relaxed),
            state_bytes: self.state_bytes.load(Relaxed),
        }
    }

    /// Sequence of the last event that went by the open delta, saved or not.
    pub fn applied_sequence(&self) -> u64 {
        self.applied_sequence.load(Relaxed)
    }

    /// The apply side has taken in everything up to `sequence`.
    pub(super) fn applied(&self, sequence: u64, time: Duration, memory_bytes: usize) {
        self.applied_sequence.store(sequence, Relaxed);
        self.apply_nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.apply_memory.store(memory_bytes as u64, Relaxed);
    }

    /// The apply side has nothing to apply.
    pub(super) fn rests(&self, memory_bytes: usize) {
        self.apply_memory.store(memory_bytes as u64, Relaxed);
    }

    /// The total side has saved a cut.
    pub(super) fn saved(&self, state_bytes: u64, memory_bytes: usize) {
        self.state_bytes.store(state_bytes, Relaxed);
        self.total_memory.store(memory_bytes as u64, Relaxed);
    }
}
