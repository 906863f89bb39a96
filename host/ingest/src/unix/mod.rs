//! The Unix stream socket: accepting connections, within a limit, until told to stop. Must not know: what lines say.

mod connection;
mod socket;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::counters::{Counters, EndReason, add};
use crate::framer::FramerLimits;
use crate::producers::Producers;
use crate::protocol::error_line;
use crate::queue::Queue;
use connection::{Connection, Shared};
use socket::SocketFile;
pub use socket::{MAX_PATH_BYTES, SourceError};

/// How long accepting pauses after it failed: it fails for want of file descriptors or memory, which trying again at once would not bring.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a Unix socket source needs to know.
#[derive(Clone, Debug)]
pub struct UnixConfig {
    /// Where the socket is made; at most [`MAX_PATH_BYTES`] bytes.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// Index of the preset of its lines.
    pub preset: usize,
    /// The most connections at a time.
    pub max_connections: usize,
    /// How much one read takes at most, in bytes.
    pub read_bytes: usize,
    /// The longest line, in bytes without its newline.
    pub line_bytes: usize,
    /// Ends a connection that sends nothing for so long; `None` never.
    pub idle: Option<Duration>,
    /// When stopping, how long to wait for what was read to be decided and answered.
    pub grace: Duration,
}

impl UnixConfig {
    /// The defaults for a socket at `path`: mode 0660, preset 0, 1024 connections, reads of 256 KiB, lines of 1 MiB, no idle limit, 5 s grace.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let FramerLimits { read_bytes, line_bytes } = FramerLimits::default();
        Self {
            path: path.into(),
            mode: 0o660,
            preset: 0,
            max_connections: 1024,
            read_bytes,
            line_bytes,
            idle: None,
            grace: Duration::from_secs(5),
        }
    }
}

/// A bound socket, ready to serve. Its file is removed when it stops.
#[derive(Debug)]
pub struct UnixSource {
    config: UnixConfig,
    listener: UnixListener,
    file: SocketFile,
}

/// Binds the socket and serves it until `shutdown` says true (or its sender is gone). Returns when every connection is closed.
pub async fn serve_unix<C: Send + 'static>(
    config: UnixConfig,
    queue: Arc<Queue<C>>,
    producers: Arc<Producers>,
    counters: Arc<Counters>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), SourceError> {
    UnixSource::bind(config).await?.serve(queue, producers, counters, shutdown).await;
    Ok(())
}

impl UnixSource {
    /// Makes the socket; from here on clients can connect. A socket file that nobody listens on is replaced.
    pub async fn bind(config: UnixConfig) -> Result<Self, SourceError> {
        let (listener, file) = socket::listen(&config.path, config.mode).await?;
        Ok(Self { config, listener, file })
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
        let Self { config, listener, file } = self;
        let source = format!("unix:{}", config.path.display()).into();
        let shared = Arc::new(Shared { config, source, queue, producers, counters, stopped_at: OnceLock::new() });
        let mut connections = JoinSet::new();
        accept(&shared, &listener, &mut connections, shutdown).await;
        drop(listener);
        drop(file);
        while let Some(ended) = connections.join_next().await {
            note_end(&shared.counters, ended);
        }
    }
}

async fn accept<C: Send + 'static>(
    shared: &Arc<Shared<C>>,
    listener: &UnixListener,
    connections: &mut JoinSet<()>,
    shutdown: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(stopped(shutdown.clone()));
    let mut number = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return,
            Some(ended) = connections.join_next() => note_end(&shared.counters, ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if connections.len() >= shared.config.max_connections => refuse(shared, &socket),
                Ok((socket, _)) => {
                    number += 1;
                    add(&shared.counters.connections, 1);
                    add(&shared.counters.accepted, 1);
                    let connection = Connection::new(Arc::clone(shared), peer(number, &socket), shutdown.clone());
                    connections.spawn(connection.run(socket));
                }
                Err(error) => pause_accepting(shared, &error).await,
            },
        }
    }
}

/// Says why, as far as that goes without waiting, and closes.
fn refuse<C>(shared: &Shared<C>, socket: &UnixStream) {
    add(&shared.counters.refused, 1);
    let max = shared.config.max_connections;
    tracing::warn!(source = %shared.source, max, "refused a connection: as many are open as may be; raise limits.connections or close some");
    let line =
        error_line("too_many_connections", &format!("{max} connections are open, which is the limit; try again later"));
    let _ = socket.try_write(line.as_bytes());
}

async fn pause_accepting<C>(shared: &Shared<C>, error: &io::Error) {
    add(&shared.counters.accept_errors, 1);
    tracing::warn!(source = %shared.source, %error, "could not accept a connection; trying again");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn note_end(counters: &Counters, ended: Result<(), JoinError>) {
    counters.connections.fetch_sub(1, Relaxed);
    if let Err(error) = ended {
        counters.ended(EndReason::Panicked);
        tracing::error!(%error, "the task of a connection failed; this is a bug");
    }
}

fn peer(number: u64, socket: &UnixStream) -> String {
    match socket.peer_cred() {
        Ok(peer) => format!("#{number} pid {} uid {}", peer.pid().unwrap_or(0), peer.uid()),
        Err(_) => format!("#{number}"),
    }
}

/// Waits until the daemon stops.
async fn stopped(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
