//! Listening and accepting: a Unix socket or a TCP address, with TLS or without. Must not know: what is spoken over it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::socket::{Peer, Socket};
use crate::tls::Tls;
use crate::unix::{self, BACKLOG, MAX_PATH_BYTES, SocketFile};

/// How long a client that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// How many are told at a time.
const MAX_REFUSALS: usize = 64;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit a socket address.
    #[error("the socket path {} has {} bytes, at most {MAX_PATH_BYTES} are possible; choose a shorter one", .path.display(), .path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The folder of the socket is missing.
    #[error("cannot make the socket {}: its folder {} does not exist; create it or choose another path", .path.display(), .folder.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
        /// The folder.
        folder: PathBuf,
    },
    /// Something other than a socket is there.
    #[error("cannot make the socket {}: there is a file of that name that is not a socket; remove it or choose another path", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("cannot make the socket {}: a process listens on it already; stop that one or choose another path", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot make the socket {}: {action}: {error}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; stop what uses it or choose another address")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// A bound listener: from its making on clients can connect. The file of a Unix socket is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    address: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp { listener: TcpListener, tls: Option<Tls> },
}

/// A connection that was accepted and is not yet ready: with TLS its handshake is still to come.
#[derive(Debug)]
pub struct Accepting {
    peer: Peer,
    socket: Socket,
    tls: Option<Tls>,
}

impl Listener {
    /// A Unix stream socket at `path` with permissions `mode`. A socket file that nobody listens on is replaced.
    pub async fn unix(path: &Path, mode: u32) -> Result<Self, BindError> {
        let (listener, file) = unix::listen(path, mode).await?;
        Ok(Self { address: path.display().to_string(), kind: Kind::Unix { listener, _file: file } })
    }

    /// A TCP address; port 0 takes a free one.
    pub fn tcp(address: SocketAddr, tls: Option<Tls>) -> Result<Self, BindError> {
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restart must not wait for the connections of the last life to time out.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?;
            let address = listener.local_addr()?.to_string();
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(|error| BindError::Address { address, error })?;
        Ok(Self { address, kind: Kind::Tcp { listener, tls } })
    }

    /// Where it listens: the path of the socket, or the address with the port that is really used.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<Accepting> {
        match &self.kind {
            Kind::Unix { listener, .. } => {
                let (socket, _) = listener.accept().await?;
                let peer = socket.peer_cred()?;
                let peer = Peer::Unix { pid: peer.pid(), uid: peer.uid(), gid: peer.gid() };
                Ok(Accepting { peer, socket: Socket::Unix(socket), tls: None })
            }
            Kind::Tcp { listener, tls } => {
                let (socket, address) = listener.accept().await?;
                // Answers are small and wanted at once.
                socket.set_nodelay(true)?;
                Ok(Accepting { peer: Peer::Tcp(address), socket: Socket::Tcp(socket), tls: tls.clone() })
            }
        }
    }
}

impl Accepting {
    /// Who connected.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The connection once it can be used; its TLS handshake may take as long as `patience`.
    pub async fn ready(self, patience: Duration) -> io::Result<Socket> {
        let Some(tls) = self.tls else { return Ok(self.socket) };
        let by = Instant::now() + patience;
        timeout_at(by, self.socket.readable()).await.map_err(|_| took_too_long())??;
        match self.socket {
            // Boxed and begun late: until a client says something its connection is small, and without TLS it stays as small.
            Socket::Tcp(socket) => {
                let socket = timeout_at(by, Box::pin(tls.accept(socket))).await.map_err(|_| took_too_long())??;
                Ok(Socket::Tls(Box::new(socket)))
            }
            socket => Ok(socket),
        }
    }

    /// Says `words`, and closes once the client has read them or a second has passed. With TLS it only closes.
    async fn refuse(self, words: Vec<u8>) {
        if self.tls.is_some() {
            return;
        }
        let mut socket = self.socket;
        let farewell = async {
            socket.write_all(&words).await?;
            socket.shutdown().await?;
            // Closing with bytes unread would reset the connection, and the client would lose what it was told.
            let mut rest = [0; 4096];
            while socket.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

fn took_too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")
}

/// Connections that are being told why they are not served. Beyond a number of them a connection is just closed.
#[derive(Debug, Default)]
pub struct Refusals(JoinSet<()>);

impl Refusals {
    /// Says `words` and closes, without keeping the caller waiting.
    pub fn refuse(&mut self, connection: Accepting, words: Vec<u8>) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() < MAX_REFUSALS {
            self.0.spawn(connection.refuse(words));
        }
    }
}
