//! The time that the log gives to what is decided now: the wall clock's, but never before what the log has. A clock that was ahead
//! once, and was set right, is behind the log's time until it catches up, also across restarts; that is warned of. Part of the
//! sequencer; must not know what is decided.

use std::time::Duration;

use crate::clock::Clock;
use crate::records::rfc3339;

/// By how much the wall clock may be behind the log before that is warned of, microseconds.
const BEHIND: i64 = 60 * 1_000_000;
/// How long after a warning there is none, in one life.
const AGAIN: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Default)]
pub(super) struct LogTime {
    /// When it was warned of last, monotonic.
    warned: Option<Duration>,
}

impl LogTime {
    /// The time of what is decided now, microseconds since the Unix epoch; `newest` is the newest time that the log has.
    pub(super) fn now(&mut self, newest: i64, clock: &Clock) -> i64 {
        let wall = clock.wall_micros();
        if newest.saturating_sub(wall) > BEHIND && self.may_warn(clock.elapsed()) {
            tracing::warn!(
                clock = rfc3339(wall),
                log = rfc3339(newest),
                "the wall clock is {} s behind the log, whose time never goes backwards: until the clock has caught up, also after a restart, events \
                 without a time of their own and flushes are dated with the log's time. Is the clock right? \
                 Then it was ahead when the log was written",
                newest.saturating_sub(wall) / 1_000_000,
            );
        }
        newest.max(wall)
    }

    fn may_warn(&mut self, elapsed: Duration) -> bool {
        let may = self.warned.is_none_or(|warned| elapsed >= warned + AGAIN);
        if may {
            self.warned = Some(elapsed);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::clock::SimulatedTime;

    const NEWEST: i64 = 1_769_508_000_000_000;

    /// The time that is given, and whether that was warned of, with the clock so far before the log and so long after the start.
    fn at(time: &mut LogTime, behind: i64, seconds: u64) -> (i64, bool) {
        let simulated = Arc::new(SimulatedTime::default());
        simulated.wall.store(NEWEST - behind, Relaxed);
        simulated.elapsed.store(seconds * 1_000_000, Relaxed);
        let warned = time.warned;
        let given = time.now(NEWEST, &Clock::simulated(simulated));
        (given, time.warned != warned)
    }

    #[test]
    fn a_clock_behind_the_log_is_warned_of_at_most_every_ten_minutes() {
        let mut time = LogTime::default();
        assert_eq!(at(&mut time, -5, 0), (NEWEST + 5, false));
        assert_eq!(at(&mut time, BEHIND, 1), (NEWEST, false));
        assert_eq!(at(&mut time, BEHIND + 1, 2), (NEWEST, true));
        assert_eq!(at(&mut time, BEHIND + 1, 601), (NEWEST, false));
        assert_eq!(at(&mut time, 2 * BEHIND, 602), (NEWEST, true));
        // Having caught up in between, it is as quiet.
        assert_eq!(at(&mut time, 0, 603), (NEWEST, false));
        assert_eq!(at(&mut time, 2 * BEHIND, 604), (NEWEST, false));
        assert_eq!(at(&mut time, 2 * BEHIND, 1202), (NEWEST, true));
    }
}
