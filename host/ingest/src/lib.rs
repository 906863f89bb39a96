//! Sources, framing, the bounded queue, producers and acknowledgements: everything between a client's bytes and the parsers.
//!
//! The order of the data: [`SocketSource`] accepts and reads, [`Framer`] cuts bytes into whole lines, [`Producers`] refuses streams that were
//! superseded, [`Queue`] holds [`Chunk`]s within a budget of bytes, and [`Stream::decided`] carries the verdict back to the client.
//!
//! Must not know: JSON events, the log, plugins, the daemon. A line here is bytes up to a newline, and "durable" is what the caller says it is.

pub mod counters;
pub mod encoding;
pub mod framer;
pub mod http;
pub mod producers;
pub mod protocol;
pub mod queue;
pub mod socket;
pub mod stream;
pub mod udp;

pub use counters::{Counters, CountersSnapshot, EndReason};
pub use framer::{Body, Framed, Framer, FramerLimits, Refusal};
pub use producers::{AdmitError, Lease, Producers, Superseded};
pub use queue::{Chunk, Closed, Depth, Permit, Popped, Queue, ReserveError};
pub use socket::{SocketLimits, SocketSource};
pub use stream::{Decision, RejectedLine, Stream, Verdict};
pub use udp::{KernelDrops, UdpError, UdpSource};
