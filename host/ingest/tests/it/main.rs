//! The ingest crate's tests: pure parts by properties and tables, the source over real sockets.

mod doors;
mod encoding;
mod framer;
mod harness;
mod http;
mod producers;
mod protocol;
mod queue;
mod stream;
mod unix_flow;
mod unix_limits;
mod unix_producers;
