//! The only place that reads clocks. Everything that decides is handed times.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Monotonic time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Monotonic milliseconds since the start.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Wall-clock time.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others are handed")]
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Wall-clock time, microseconds since the Unix epoch, UTC.
    pub fn wall_micros(&self) -> i64 {
        self.wall().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}
