//! What doors count: connections, and why they were refused or ended. Plain atomics, read without stopping anything.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// See the module.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64),* }

        /// The counts at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            /// The counts now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Relaxed)),* }
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

/// Adds to one counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
