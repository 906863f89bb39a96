//! The only place that reads clocks. Everything that decides is handed times.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks, or a simulation's. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Machine(Instant),
    Simulated(Arc<SimulatedTime>),
}

/// Time that moves only when it is told to, for simulations.
#[derive(Debug, Default)]
pub struct SimulatedTime {
    /// Monotonic microseconds since the start.
    pub elapsed: AtomicU64,
    /// Wall-clock time, microseconds since the Unix epoch.
    pub wall: AtomicI64,
}

impl Clock {
    /// The machine's clock; its monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    pub fn start() -> Self {
        Self(Source::Machine(Instant::now()))
    }

    /// A clock that shows what the simulation sets.
    pub fn simulated(time: Arc<SimulatedTime>) -> Self {
        Self(Source::Simulated(time))
    }

    /// Monotonic time since the start.
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::Machine(started) => started.elapsed(),
            Source::Simulated(time) => Duration::from_micros(time.elapsed.load(Relaxed)),
        }
    }

    /// Monotonic milliseconds since the start.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wall-clock time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            Source::Machine(_) => SystemTime::now(),
            Source::Simulated(time) => {
                UNIX_EPOCH + Duration::from_micros(u64::try_from(time.wall.load(Relaxed)).unwrap_or(0))
            }
        }
    }

    /// Wall-clock time, microseconds since the Unix epoch, UTC.
    pub fn wall_micros(&self) -> i64 {
        self.wall().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}
