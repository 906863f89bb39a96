//! What the calls into an aggregator's instances use, counted once per call by whoever makes it. Plain atomics, read without
//! stopping anything. Knows neither instances nor clocks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that several instances may share; see [`Configured::counting`](crate::Configured::counting).
#[derive(Debug, Default)]
pub struct Usage {
    rows: AtomicU64,
    apply_fuel: AtomicU64,
    /// The bits of a number that is not negative: they are ordered as the numbers are.
    peak: AtomicU64,
}

impl Usage {
    /// Rows given to `apply`, those of calls that failed included.
    pub fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    /// Fuel that `apply` used for them: wasmtime's units, about one for each WebAssembly instruction or byte moved in bulk.
    pub fn apply_fuel(&self) -> u64 {
        self.apply_fuel.load(Relaxed)
    }

    /// The largest share of its fuel that one call of any kind has used, from 0 to 1.
    pub fn peak(&self) -> f64 {
        f64::from_bits(self.peak.load(Relaxed))
    }

    /// Forgets the largest share: what runs from now on is something else.
    pub fn forget_peak(&self) {
        self.peak.store(0, Relaxed);
    }

    /// A call was given `budget` units of fuel and used so many.
    pub(crate) fn called(&self, used: u64, budget: u64) {
        let share = used as f64 / budget.max(1) as f64;
        self.peak.fetch_max(share.to_bits(), Relaxed);
    }

    /// A call of `apply` was given so many rows and used so much fuel.
    pub(crate) fn applied(&self, rows: usize, fuel: u64) {
        self.rows.fetch_add(rows as u64, Relaxed);
        self.apply_fuel.fetch_add(fuel, Relaxed);
    }
}
