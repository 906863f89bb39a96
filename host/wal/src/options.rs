//! How a log is kept, and the limits of that. Does nothing.

use std::time::Duration;

use crate::error::OpenError;
use crate::format::{BLOCK, MAX_BODY};

/// When a frame becomes durable. Whichever it is, a sealed segment is durable before the next one exists, and a log that was
/// opened is durable as a whole; what a crash may leave otherwise stands in the documentation of the crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before [`crate::Log::append`] returns.
    #[default]
    Fsync,
    /// When the caller calls [`crate::Log::sync`], at the latest so long after the first frame that is not. The log reads no clock: the
    /// time is kept here for the caller, who has one.
    Interval(Duration),
    /// When the operating system pleases, or the caller calls [`crate::Log::sync`].
    Os,
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a segment file, at least 8192 (64 MiB).
    pub segment_bytes: u64,
    /// Segments filled with zeros ahead by a background thread (1). With 0 there is no thread, and deletions happen in the caller.
    pub spare_segments: usize,
    /// The longest body taken, in bytes (64 MiB). Longer frames of an older log are still read.
    pub max_frame_bytes: usize,
    /// When a frame becomes durable.
    pub durability: Durability,
    /// Salt of new segments instead of a random one: for files that must come out the same each time, in tests only.
    pub salt: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            spare_segments: 1,
            max_frame_bytes: 64 << 20,
            durability: Durability::Fsync,
            salt: None,
        }
    }
}

impl Options {
    /// Whether segments are written past the page cache: where each write waits for the disk anyway. Otherwise the cache makes one write of many.
    pub(crate) fn past_cache(&self) -> bool {
        self.durability == Durability::Fsync
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let out_of_range = |option, problem: String| Err(OpenError::Option { option, problem });
        if self.segment_bytes < 2 * BLOCK as u64 || !self.segment_bytes.is_multiple_of(8) {
            return out_of_range(
                "segment_bytes",
                format!("{} is not a multiple of 8 from 8192 on", self.segment_bytes),
            );
        }
        if self.max_frame_bytes == 0 || self.max_frame_bytes > MAX_BODY {
            return out_of_range("max_frame_bytes", format!("{} is not within 1 and {MAX_BODY}", self.max_frame_bytes));
        }
        Ok(())
    }
}
