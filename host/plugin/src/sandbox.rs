//! What a store holds beside the guest: its bounds on memory, and its budget of log lines. Knows nothing of what the
//! guest computes.

use crate::bindings::tally::aggregator::{columns, log, types};
use crate::limits::Limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wasmtime::ResourceLimiter;

/// Core instances, memories and tables of one store. A component of one language has one to five.
const MAX_INSTANCES: usize = 64;

/// Milliseconds between two times that a store gets its log lines anew.
const LOG_MILLIS: u64 = 1000;

/// The data of one store.
pub(crate) struct Sandbox {
    plugin: Arc<str>,
    limits: Arc<Limits>,
    memory_bytes: usize,
    table_elements: usize,
    /// The engine's count of milliseconds; it goes on by ticks.
    millis: Arc<AtomicU64>,
    /// When the store got its log lines, in milliseconds.
    lines_since: u64,
    lines_left: u32,
    lines_dropped: u64,
    /// It was said since then that lines were dropped.
    told: bool,
}

/// A limit of the sandbox was reached. Carried through wasmtime as the error of the call.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LimitReached(String);

impl Sandbox {
    pub(crate) fn new(plugin: Arc<str>, limits: Arc<Limits>, millis: Arc<AtomicU64>) -> Self {
        Self {
            plugin,
            lines_left: limits.log_lines,
            limits,
            memory_bytes: 0,
            table_elements: 0,
            lines_since: millis.load(Relaxed),
            millis,
            lines_dropped: 0,
            told: false,
        }
    }

    /// Linear memory in use, all memories together.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// A call begins: it gets log lines, if the last ones are long enough ago. However many calls there are, what they log is
    /// bounded.
    pub(crate) fn begin(&mut self) {
        let now = self.millis.load(Relaxed);
        if now.saturating_sub(self.lines_since) >= LOG_MILLIS {
            self.lines_since = now;
            self.lines_left = self.limits.log_lines;
            self.told = false;
        }
    }

    /// A call ended: says how many log lines were dropped, as often as it gets some.
    pub(crate) fn end(&mut self, call: &str) {
        if self.lines_dropped > 0 && !self.told {
            self.told = true;
            let dropped = std::mem::take(&mut self.lines_dropped);
            tracing::warn!(
                plugin = &*self.plugin,
                call,
                dropped,
                "the plugin logged more lines than it may in a second"
            );
        }
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own bound, the same everywhere: an ordinary failed growth.
            return Ok(false);
        }
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        if total > self.limits.memory_bytes {
            let limit = self.limits.memory_bytes;
            return Err(wasmtime::Error::new(LimitReached(format!("{total} bytes wanted, {limit} allowed"))));
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The guest must not see that this machine had less memory than another: it ends here.
        Err(wasmtime::Error::new(LimitReached(format!("the machine did not give it: {error}"))))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.table_elements.saturating_sub(current).saturating_add(desired);
        if total > self.limits.table_elements {
            let limit = self.limits.table_elements;
            return Err(wasmtime::Error::new(LimitReached(format!("{total} table elements wanted, {limit} allowed"))));
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_INSTANCES
    }
}

impl log::Host for Sandbox {
    fn write(&mut self, level: log::Level, message: String) {
        if self.lines_left == 0 {
            self.lines_dropped += 1;
            return;
        }
        self.lines_left -= 1;
        let mut end = message.len().min(self.limits.log_line_bytes);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let (plugin, message) = (&*self.plugin, &message[..end]);
        match level {
            log::Level::Debug => tracing::debug!(plugin, "{message}"),
            log::Level::Info => tracing::info!(plugin, "{message}"),
            log::Level::Warn => tracing::warn!(plugin, "{message}"),
            log::Level::Error => tracing::error!(plugin, "{message}"),
        }
    }
}

// These two interfaces hold types only.
impl columns::Host for Sandbox {}
impl types::Host for Sandbox {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(memory_bytes: usize) -> Sandbox {
        let limits = Limits { memory_bytes, table_elements: 10, ..Limits::default() };
        Sandbox::new("test".into(), Arc::new(limits), Arc::default())
    }

    #[test]
    fn log_lines_are_bounded_over_many_calls() {
        let mut sandbox = sandbox(1000);
        let millis = sandbox.millis.clone();
        let mut call = |lines: u64| {
            sandbox.begin();
            (0..lines).for_each(|_| log::Host::write(&mut sandbox, log::Level::Debug, String::new()));
            sandbox.end("apply");
            (sandbox.lines_left, sandbox.lines_dropped)
        };
        assert_eq!(call(60), (40, 0));
        assert_eq!(call(60), (0, 0), "the 20 that were dropped are told");
        assert_eq!(call(60), (0, 60), "more are told later");
        millis.store(LOG_MILLIS - 1, Relaxed);
        assert_eq!(call(1), (0, 61));
        millis.store(LOG_MILLIS, Relaxed);
        assert_eq!(call(1), (99, 0), "all of them by now");
    }

    #[test]
    fn memories_count_together() {
        let mut sandbox = sandbox(1000);
        assert!(sandbox.memory_growing(0, 600, None).unwrap());
        assert!(sandbox.memory_growing(0, 300, None).unwrap());
        assert!(sandbox.memory_growing(600, 700, None).unwrap());
        assert_eq!(sandbox.memory_bytes(), 1000);
        let error = sandbox.memory_growing(300, 301, None).unwrap_err();
        assert_eq!(error.to_string(), "1001 bytes wanted, 1000 allowed");
        assert_eq!(sandbox.memory_bytes(), 1000, "a denied growth counts nothing");
    }

    #[test]
    fn a_guests_own_maximum_is_an_ordinary_failure() {
        let mut sandbox = sandbox(1000);
        assert!(!sandbox.memory_growing(0, 20, Some(10)).unwrap());
        assert!(!sandbox.table_growing(0, 20, Some(10)).unwrap());
        assert_eq!(sandbox.memory_bytes(), 0);
    }

    #[test]
    fn table_elements_are_bounded() {
        let mut sandbox = sandbox(1000);
        assert!(sandbox.table_growing(0, 10, None).unwrap());
        assert!(sandbox.table_growing(10, 11, None).is_err());
    }
}
