//! What sources count, for `tally status`: connections, bytes, lines, and why connections ended. Plain atomics, read without stopping anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client closed it.
    Finished,
    /// The client vanished: its end was reset.
    Reset,
    /// Reading failed.
    ReadFailed,
    /// The first line was meant as a handshake and is none.
    BadHandshake,
    /// The first line has no token, or a wrong one.
    Unauthorized,
    /// It came from a user and group that are not let in.
    PeerNotAllowed,
    /// Its TLS handshake failed.
    TlsFailed,
    /// A newer connection of the same producer took over.
    Superseded,
    /// Every remembered producer is in use.
    TooManyProducers,
    /// Nothing came for the configured time.
    Idle,
    /// The daemon stops.
    Shutdown,
    /// A bug: its task panicked.
    Panicked,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Finished,
        Self::Reset,
        Self::ReadFailed,
        Self::BadHandshake,
        Self::Unauthorized,
        Self::PeerNotAllowed,
        Self::TlsFailed,
        Self::Superseded,
        Self::TooManyProducers,
        Self::Idle,
        Self::Shutdown,
        Self::Panicked,
    ];

    /// Its name, as in counters and error lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Reset => "reset",
            Self::ReadFailed => "read_failed",
            Self::BadHandshake => "bad_handshake",
            Self::Unauthorized => "unauthorized",
            Self::PeerNotAllowed => "peer_not_allowed",
            Self::TlsFailed => "tls_failed",
            Self::Superseded => "superseded",
            Self::TooManyProducers => "too_many_producers",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::Panicked => "panicked",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Counters {
    pub(crate) connections: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) lines: AtomicU64,
    pub(crate) chunks: AtomicU64,
    pub(crate) queue_waits: AtomicU64,
    pub(crate) unfinished_lines: AtomicU64,
    pub(crate) unqueued_lines: AtomicU64,
    pub(crate) unread_answers: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) dropped_lines: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) turned_away: AtomicU64,
    ended: [AtomicU64; EndReason::ALL.len()],
}

/// The counts at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// Connections open now.
    pub connections: u64,
    /// Connections accepted since the start, refused ones not counted.
    pub accepted: u64,
    /// Connections refused because as many were open as may be.
    pub refused: u64,
    /// Failed attempts to accept a connection (out of file descriptors, say).
    pub accept_errors: u64,
    /// Bytes read, handshakes included.
    pub bytes_read: u64,
    /// Lines admitted to the queue, blank ones included.
    pub lines: u64,
    /// Chunks admitted to the queue.
    pub chunks: u64,
    /// How often a source had to wait for room in the queue.
    pub queue_waits: u64,
    /// Lines without an end when their connection ended, not taken as lines.
    pub unfinished_lines: u64,
    /// Whole lines that were read and then not queued: their producer was superseded (it sends them again), their client was not let in, or the
    /// grace period was over.
    pub unqueued_lines: u64,
    /// Connections closed while answers were left that the client did not read.
    pub unread_answers: u64,
    /// Datagrams received.
    pub datagrams: u64,
    /// Lines dropped because the queue was full: of datagrams, which nobody waits for.
    pub dropped_lines: u64,
    /// HTTP requests with events.
    pub requests: u64,
    /// HTTP requests turned away because the queue or the room for bodies was full.
    pub turned_away: u64,
    /// Connections ended, by reason; reasons that never occurred are left out.
    pub ended: Vec<(&'static str, u64)>,
}

impl Counters {
    /// The counts now.
    pub fn snapshot(&self) -> CountersSnapshot {
        let ended = EndReason::ALL.iter().map(|reason| (reason.as_str(), self.ended[*reason as usize].load(Relaxed)));
        CountersSnapshot {
            connections: self.connections.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            accept_errors: self.accept_errors.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            lines: self.lines.load(Relaxed),
            chunks: self.chunks.load(Relaxed),
            queue_waits: self.queue_waits.load(Relaxed),
            unfinished_lines: self.unfinished_lines.load(Relaxed),
            unqueued_lines: self.unqueued_lines.load(Relaxed),
            unread_answers: self.unread_answers.load(Relaxed),
            datagrams: self.datagrams.load(Relaxed),
            dropped_lines: self.dropped_lines.load(Relaxed),
            requests: self.requests.load(Relaxed),
            turned_away: self.turned_away.load(Relaxed),
            ended: ended.filter(|(_, count)| *count > 0).collect(),
        }
    }

    /// Lines dropped so far because the queue was full.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines.load(Relaxed)
    }

    pub(crate) fn ended(&self, reason: EndReason) {
        self.ended[reason as usize].fetch_add(1, Relaxed);
    }
}

/// Adds to one counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
