//! Sources, framing, the bounded queue, producers and acknowledgements: everything between a client's bytes and the parsers.
//!
//! The order of the data: [`UnixSource`] accepts and reads, [`Framer`] cuts bytes into whole lines, [`Producers`] refuses streams that were
//! superseded, [`Queue`] holds [`Chunk`]s within a budget of bytes, and [`Stream::decided`] carries the verdict back to the client.
//!
//! Must not know: JSON events, the log, plugins, the daemon. A line here is bytes up to a newline, and "durable" is what the caller says it is.

pub mod counters;
pub mod framer;
pub mod producers;
pub mod protocol;
pub mod queue;
pub mod stream;
pub mod unix;

pub use counters::{Counters, CountersSnapshot, EndReason};
pub use framer::{Body, Framed, Framer, FramerLimits};
pub use producers::{AdmitError, Lease, Producers, Superseded};
pub use queue::{Chunk, Closed, Depth, Permit, Popped, Queue, ReserveError};
pub use stream::{Decision, RejectedLine, Stream, Verdict};
pub use unix::{SourceError, UnixConfig, UnixSource, serve_unix};
