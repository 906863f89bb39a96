//! Stream sockets, Unix or TCP: accepting connections, within limits, until told to stop. Must not know: what lines say.

mod connection;
#[doc(hidden)]
pub mod frames;
mod input;

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tally_net::{Accepting, AllowList, Listener, Refusals, Token};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::counters::{Counters, EndReason, add};
use crate::framer::FramerLimits;
use crate::producers::Producers;
use crate::protocol::error_line;
use crate::queue::Queue;
use connection::{Connection, Shared};

/// How long accepting pauses after it failed: it fails for want of file descriptors or memory, which trying again at once would not bring.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds on what clients may hold and send; a change holds for connections made after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// The most connections at a time.
    pub connections: usize,
    /// The longest line, in bytes without its newline; a MessagePack frame and the line made of it are bounded alike.
    pub line_bytes: usize,
    /// The deepest nesting of a MessagePack event.
    pub depth: u32,
    /// How long a TLS handshake may take, and the first line where it must carry a token.
    pub handshake: Duration,
    /// Ends a connection that sends nothing for so long; `None` never.
    pub idle: Option<Duration>,
}

impl Default for SocketLimits {
    /// 1024 connections, lines of 1 MiB, depth 64, 10 s for handshakes, no idle limit.
    fn default() -> Self {
        Self {
            connections: 1024,
            line_bytes: FramerLimits::default().line_bytes,
            depth: 64,
            handshake: Duration::from_secs(10),
            idle: None,
        }
    }
}

/// A stream socket source.
#[derive(Debug)]
pub struct SocketSource {
    /// Where connections come from.
    pub listener: Listener,
    /// What the source is called, such as `unix:/run/tally.sock`.
    pub name: Arc<str>,
    /// Index of the preset of its lines.
    pub preset: usize,
    /// Whom a Unix socket lets in.
    pub allow: AllowList,
    /// What the first line must carry.
    pub token: Option<Token>,
    /// Bounds.
    pub limits: watch::Receiver<SocketLimits>,
    /// How much one read takes at most, in bytes.
    pub read_bytes: usize,
    /// When stopping, how long to wait for what was read to be decided and answered.
    pub grace: Duration,
}

impl SocketSource {
    /// A source with preset 0, without guards: limits as given, reads of 256 KiB, 5 s grace.
    pub fn new(kind: &str, listener: Listener, limits: watch::Receiver<SocketLimits>) -> Self {
        Self {
            name: format!("{kind}:{}", listener.address()).into(),
            listener,
            preset: 0,
            allow: AllowList::default(),
            token: None,
            limits,
            read_bytes: FramerLimits::default().read_bytes,
            grace: Duration::from_secs(5),
        }
    }

    /// Serves until `shutdown` says true (or its sender is gone): then accepts and reads no more, waits up to the grace period for what was read
    /// to be decided, answers it, and closes.
    pub async fn serve<C: Send + 'static>(
        self,
        queue: Arc<Queue<C>>,
        producers: Arc<Producers>,
        counters: Arc<Counters>,
        shutdown: watch::Receiver<bool>,
    ) {
        let Self { listener, name, preset, allow, token, limits, read_bytes, grace } = self;
        let shared = Shared {
            source: name,
            preset,
            token,
            limits,
            read_bytes,
            grace,
            queue,
            producers,
            counters,
            stopped_at: OnceLock::new(),
        };
        let mut door = Door {
            shared: Arc::new(shared),
            allow,
            number: 0,
            connections: JoinSet::new(),
            refusals: Refusals::default(),
            shutdown,
        };
        door.accept(&listener).await;
        // The socket's file goes with it.
        drop(listener);
        while let Some(ended) = door.connections.join_next().await {
            note_end(&door.shared.counters, ended);
        }
    }
}

/// The accept loop's own.
struct Door<C> {
    shared: Arc<Shared<C>>,
    allow: AllowList,
    /// Connections so far.
    number: u64,
    connections: JoinSet<()>,
    refusals: Refusals,
    shutdown: watch::Receiver<bool>,
}

impl<C: Send + 'static> Door<C> {
    async fn accept(&mut self, listener: &Listener) {
        let mut stop = std::pin::pin!(stopped(self.shutdown.clone()));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(ended) = self.connections.join_next() => note_end(&self.shared.counters, ended),
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => self.take(accepted),
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    fn take(&mut self, accepted: Accepting) {
        let counters = &self.shared.counters;
        let source = &self.shared.source;
        let max = self.shared.limits.borrow().connections;
        if self.connections.len() >= max {
            add(&counters.refused, 1);
            tracing::warn!(%source, max, "refused a connection: as many are open as may be; raise limits.connections or close some");
            let why = format!("{max} connections are open, which is the limit; try again later");
            self.refusals.refuse(accepted, error_line("too_many_connections", &why).into());
        } else if !self.allow.allows(accepted.peer()) {
            add(&counters.refused, 1);
            counters.ended(EndReason::PeerNotAllowed);
            tracing::warn!(%source, peer = %accepted.peer(), "refused a connection: neither its user nor its group is on the list");
            let why =
                format!("{} may not use this socket: neither its user nor its group is on the list", accepted.peer());
            self.refusals.refuse(accepted, error_line(EndReason::PeerNotAllowed.as_str(), &why).into());
        } else {
            self.number += 1;
            add(&counters.connections, 1);
            add(&counters.accepted, 1);
            let peer = format!("#{} {}", self.number, accepted.peer());
            let connection = Connection::new(Arc::clone(&self.shared), peer, self.shutdown.clone());
            self.connections.spawn(connection.run(accepted));
        }
    }

    async fn pause(&self, error: &io::Error) {
        add(&self.shared.counters.accept_errors, 1);
        tracing::warn!(source = %self.shared.source, %error, "could not accept a connection; trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn note_end(counters: &Counters, ended: Result<(), JoinError>) {
    counters.connections.fetch_sub(1, Relaxed);
    // A daemon that stops for another reason takes its connections along.
    if let Err(error) = ended.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) }) {
        counters.ended(EndReason::Panicked);
        tracing::error!(%error, "the task of a connection failed; this is a bug");
    }
}

/// Waits until the daemon stops.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
