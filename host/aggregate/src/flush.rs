//! When to flush: after N events or T milliseconds, whichever comes first, never without events.

/// Decides when the open batch is flushed. Times are milliseconds of a monotonic clock that the caller reads.
#[derive(Clone, Debug)]
pub struct FlushPolicy {
    events: u64,
    interval_ms: u64,
    open_events: u64,
    opened_at: Option<u64>,
}

impl FlushPolicy {
    /// A policy of at most `events` events and `interval_ms` milliseconds a batch.
    pub fn new(events: u64, interval_ms: u64) -> Self {
        Self { events: events.max(1), interval_ms, open_events: 0, opened_at: None }
    }

    /// From now on at most so many events and milliseconds a batch, the open one included.
    pub fn set(&mut self, events: u64, interval_ms: u64) {
        (self.events, self.interval_ms) = (events.max(1), interval_ms);
    }

    /// Counts accepted events into the open batch.
    pub fn add(&mut self, events: u64, now_ms: u64) {
        if events > 0 {
            self.open_events += events;
            self.opened_at.get_or_insert(now_ms);
        }
    }

    /// How many events may still join the open batch before it is full.
    pub fn room(&self) -> u64 {
        self.events.saturating_sub(self.open_events)
    }

    /// Events in the open batch.
    pub fn open_events(&self) -> u64 {
        self.open_events
    }

    /// The reason to flush now, if there is one.
    pub fn due(&self, now_ms: u64) -> Option<&'static str> {
        if self.open_events >= self.events {
            Some("events")
        } else if self.deadline().is_some_and(|at| now_ms >= at) {
            Some("interval")
        } else {
            None
        }
    }

    /// When the interval of the open batch ends; none while it is empty.
    pub fn deadline(&self) -> Option<u64> {
        self.opened_at.map(|at| at.saturating_add(self.interval_ms))
    }

    /// The open batch was flushed.
    pub fn flushed(&mut self) {
        self.open_events = 0;
        self.opened_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_on_count_or_time_and_never_empty() {
        let mut policy = FlushPolicy::new(10, 500);
        assert_eq!((policy.due(1_000_000), policy.deadline()), (None, None));
        policy.add(9, 100);
        assert_eq!((policy.due(599), policy.room()), (None, 1));
        assert_eq!(policy.due(600), Some("interval"));
        policy.add(1, 200);
        assert_eq!(policy.due(200), Some("events"));
        policy.flushed();
        assert_eq!(policy.due(u64::MAX), None);
        policy.add(0, 300);
        assert_eq!(policy.deadline(), None);
    }

    #[test]
    fn new_limits_hold_for_the_open_batch_too() {
        let mut policy = FlushPolicy::new(10, 500);
        policy.add(4, 100);
        assert_eq!((policy.open_events(), policy.room(), policy.deadline()), (4, 6, Some(600)));
        policy.set(7, 300);
        assert_eq!((policy.open_events(), policy.room(), policy.deadline()), (4, 3, Some(400)));
        policy.set(3, 300);
        assert_eq!((policy.room(), policy.due(100)), (0, Some("events")));
        policy.flushed();
        assert_eq!((policy.open_events(), policy.room(), policy.due(400)), (0, 3, None));
        policy.set(0, 300);
        assert_eq!(policy.room(), 1, "a batch takes an event at least");
    }
}
