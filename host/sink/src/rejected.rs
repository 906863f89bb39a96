//! The newest rejected lines, kept for people to look at. Best effort: bounded, never synced, and never in the way.
//!
//! One JSON line per rejected line, in `rejected_00001.log` and its successors:
//!
//! ```json
//! {"time":"2026-01-27T10:00:00.123456Z","source":"unix","line":7,"reason":"invalid_json","detail":"...","length":124,"bytes":"{...","truncated":false}
//! ```
//!
//! `bytes` holds the line when it is UTF-8, otherwise `bytes_base64` does; the first [`KEPT_BYTES`] of it, and `truncated`
//! says whether that is less than its `length`. The caller formats into a bounded buffer and goes on; a thread of its own
//! writes. What does not fit into the buffer, or cannot be written, is counted and left out. When all files together
//! would pass the limit, the oldest goes. Must not know why lines are rejected; the clock is the caller's.

mod format;
mod writer;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::SinkError;

pub use format::KEPT_BYTES;
use writer::Writer;

/// What may wait for the writing thread, in bytes.
const BUFFER_BYTES: usize = 4 << 20;

/// One rejected line.
#[derive(Clone, Copy, Debug)]
pub struct Rejected<'a> {
    /// When it was decided, in microseconds since 1970 UTC.
    pub time_micros: i64,
    /// Where it came from.
    pub source: &'a str,
    /// Which line of its connection it was, from 1.
    pub line: u64,
    /// Why, as a fixed word.
    pub reason: &'a str,
    /// Why, for people.
    pub detail: &'a str,
    /// The line or the beginning of it; more than [`KEPT_BYTES`] are not kept.
    pub bytes: &'a [u8],
    /// How long the whole line was.
    pub length: u64,
}

/// What happened to rejected lines since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectedCounts {
    /// Written to a file.
    pub written: u64,
    /// Left out, because the buffer was full or the file could not be written.
    pub left_out: u64,
}

/// The files of rejected lines of one directory, open for appending.
#[derive(Debug)]
pub struct RejectedFiles {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    // A lock, because callers format into the buffer that the thread takes away; held for one line or one swap.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    buffer: Vec<u8>,
    /// How many lines are in the buffer.
    waiting: u64,
    /// The thread has lines in its hands.
    writing: bool,
    counts: RejectedCounts,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl RejectedFiles {
    /// Opens the files of a directory (made if it is not there), which together may have `max_bytes`. 0 keeps nothing, and
    /// less than 64 KiB counts as that.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<RejectedFiles, SinkError> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        if max_bytes == 0 {
            return Ok(RejectedFiles { shared, thread: None });
        }
        let writer = Writer::open(dir, max_bytes)?;
        let thread = std::thread::Builder::new().name("rejected".into()).spawn({
            let shared = shared.clone();
            move || run(&shared, writer)
        });
        let thread = thread.map_err(SinkError::io("start a thread for the rejected lines in", dir))?;
        Ok(RejectedFiles { shared, thread: Some(thread) })
    }

    /// Hands a rejected line over; never waits for a file.
    pub fn append(&self, rejected: &Rejected<'_>) {
        let mut state = self.shared.state();
        if self.thread.is_none() || state.buffer.len() + format::longest(rejected) > BUFFER_BYTES {
            state.counts.left_out += 1;
            return;
        }
        format::line(rejected, &mut state.buffer);
        state.waiting += 1;
        if state.waiting == 1 {
            self.shared.changed.notify_all();
        }
    }

    /// What happened to rejected lines since the start.
    pub fn counts(&self) -> RejectedCounts {
        self.shared.state().counts
    }

    /// Goes on within another bound; on an error within the old one.
    pub fn set_max_bytes(&mut self, dir: &Path, max_bytes: u64) -> Result<(), SinkError> {
        self.drain();
        let next = Self::open(dir, max_bytes)?;
        next.shared.state().counts = self.counts();
        *self = next;
        Ok(())
    }

    /// Waits until everything handed over so far is written or left out.
    pub fn drain(&self) {
        let mut state = self.shared.state();
        while state.writing || state.waiting > 0 {
            state = self.shared.wait(state);
        }
    }
}

impl Drop for RejectedFiles {
    /// Waits until everything handed over is written or left out.
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot have anything to say: a panic in it was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The writing thread: takes what waits, writes it, until closed and empty.
fn run(shared: &Shared, mut writer: Writer) {
    let mut lines = Vec::new();
    let mut state = shared.state();
    loop {
        while state.waiting == 0 && !state.closed {
            state = shared.wait(state);
        }
        if state.waiting == 0 {
            return;
        }
        lines.clear();
        std::mem::swap(&mut lines, &mut state.buffer);
        let count = std::mem::take(&mut state.waiting);
        state.writing = true;
        drop(state);
        let written = writer.append(&lines);
        state = shared.state();
        state.writing = false;
        state.counts.written += written;
        state.counts.left_out += count - written;
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody waits for a disk that hangs, and what waits for it is bounded.
    #[test]
    fn what_finds_no_room_is_left_out() {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let hangs = shared.clone();
        let thread = std::thread::spawn(move || {
            let mut state = hangs.state();
            while !state.closed {
                state = hangs.wait(state);
            }
        });
        let files = RejectedFiles { shared: shared.clone(), thread: Some(thread) };
        let bytes = [b'x'; KEPT_BYTES];
        let rejected =
            Rejected { time_micros: 0, source: "unix", line: 1, reason: "why", detail: "", bytes: &bytes, length: 0 };
        (0..2000).for_each(|_| files.append(&rejected));
        let state = shared.state();
        assert!(state.buffer.len() <= BUFFER_BYTES, "{} bytes", state.buffer.len());
        assert!(state.buffer.len() > BUFFER_BYTES * 9 / 10, "{} bytes", state.buffer.len());
        assert_eq!((state.waiting + state.counts.left_out, state.counts.written), (2000, 0));
    }
}
