//! What doors count: connections, and why they were refused or ended. Plain atomics, read without stopping anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// See the module.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
            /// Answers to requests, by status code.
            pub answers: ByStatus,
        }

        /// The counts at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
            /// Answers to requests, by status code; those never given are left out.
            pub answers: Vec<(u16, u64)>,
        }

        impl Counters {
            /// The counts now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Relaxed),)* answers: self.answers.snapshot() }
            }
        }
    };
}

counters! {
    /// Connections open now.
    connections,
    /// Connections accepted, refused ones not counted.
    accepted,
    /// Connections refused because as many were open as may be.
    too_many,
    /// Connections refused because their user and group are not on the list.
    not_allowed,
    /// Failed attempts to accept a connection (out of file descriptors, say).
    accept_errors,
    /// TLS handshakes that failed or took too long.
    tls_failed,
    /// Connections closed because a request's head took too long.
    header_timeouts,
    /// Connections closed because nothing went over them for too long.
    idle_timeouts,
    /// Requests that are none by RFC 9112, or whose end cannot be told without doubt.
    malformed_requests,
    /// Requests whose head has too many bytes or headers.
    large_heads,
    /// Connections that clients closed within a request.
    unfinished_requests,
    /// Connections that broke: reset, say.
    broken_connections,
    /// Requests answered 401: no token, or a wrong one.
    unauthorized,
    /// Requests refused for the name in their `Host` header.
    wrong_hosts,
    /// Requests taken.
    requests,
    /// Bytes read.
    bytes_read,
    /// Connections whose task failed by a bug.
    panicked,
}

/// The codes that HTTP has room for: 100 to 599.
const STATUSES: std::ops::Range<u16> = 100..600;

/// A count for every status code.
pub struct ByStatus([AtomicU64; STATUSES.end as usize - STATUSES.start as usize]);

impl ByStatus {
    /// Counts an answer; one of a code that HTTP does not have goes uncounted.
    pub fn add(&self, status: u16) {
        let index = usize::from(status.wrapping_sub(STATUSES.start));
        self.0.get(index).into_iter().for_each(|counter| add(counter, 1));
    }

    fn snapshot(&self) -> Vec<(u16, u64)> {
        let counts = self.0.iter().map(|counter| counter.load(Relaxed));
        STATUSES.zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

impl Default for ByStatus {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl std::fmt::Debug for ByStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.snapshot()).finish()
    }
}

/// Adds to one counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
