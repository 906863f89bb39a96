//! Doors: how clients get in. Listeners on Unix sockets and TCP (with or without TLS), who is on the other side, tokens, `Host` names, and the
//! HTTP server that both the events door and the question doors stand behind.
//!
//! Must not know: events, queues, questions. What is said over a connection is the caller's business.

pub mod counters;
pub mod guard;
pub mod http;
pub mod listener;
pub mod socket;
pub mod tls;
mod unix;

pub use axum::Router;
pub use counters::{ByStatus, Counters, CountersSnapshot};
pub use guard::{AllowList, Hosts, Token, TokenError};
pub use http::problem;
pub use listener::{Accepting, BindError, Listener, Refusals};
pub use socket::{Peer, ReadHalf, Socket, WriteHalf};
pub use tls::{Tls, TlsError};
pub use unix::MAX_PATH_BYTES;
