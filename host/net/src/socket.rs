//! A connection of whatever kind, and who is on its other side. Must not know: what is spoken over it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_rustls::server::TlsStream;

/// A connection that bytes go over.
#[derive(Debug)]
pub enum Socket {
    /// A Unix stream socket.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
    /// A TCP connection with TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a [`Socket`] is read from.
#[derive(Debug)]
pub enum ReadHalf {
    /// See [`Socket::Unix`].
    Unix(unix::OwnedReadHalf),
    /// See [`Socket::Tcp`].
    Tcp(tcp::OwnedReadHalf),
    /// See [`Socket::Tls`].
    Tls(tokio::io::ReadHalf<Box<TlsStream<TcpStream>>>),
}

/// What a [`Socket`] is written to.
#[derive(Debug)]
pub enum WriteHalf {
    /// See [`Socket::Unix`].
    Unix(unix::OwnedWriteHalf),
    /// See [`Socket::Tcp`].
    Tcp(tcp::OwnedWriteHalf),
    /// See [`Socket::Tls`].
    Tls(tokio::io::WriteHalf<Box<TlsStream<TcpStream>>>),
}

/// Who is on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, as it was when it connected.
    Unix {
        /// Its number, where the system tells.
        pid: Option<i32>,
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// An address.
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { pid, uid, .. } => write!(f, "pid {} uid {uid}", pid.unwrap_or(0)),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

impl Socket {
    /// Waits until there is something to read, or an end. With TLS at once: its handshake may have read more than its own.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.readable().await,
            Self::Tcp(socket) => socket.readable().await,
            Self::Tls(_) => Ok(()),
        }
    }

    /// The two directions, to be used side by side.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Unix(socket) => {
                let (from, to) = socket.into_split();
                (ReadHalf::Unix(from), WriteHalf::Unix(to))
            }
            Self::Tcp(socket) => {
                let (from, to) = socket.into_split();
                (ReadHalf::Tcp(from), WriteHalf::Tcp(to))
            }
            Self::Tls(socket) => {
                let (from, to) = tokio::io::split(socket);
                (ReadHalf::Tls(from), WriteHalf::Tls(to))
            }
        }
    }
}

macro_rules! reads {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
                    Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
                    Self::Tls(socket) => Pin::new(socket).poll_read(cx, buffer),
                }
            }
        }
    };
}

macro_rules! writes {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
                    Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
                    Self::Tls(socket) => Pin::new(socket).poll_write(cx, bytes),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
                    Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
                    Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
                    Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
                    Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
                }
            }
        }
    };
}

reads!(Socket);
reads!(ReadHalf);
writes!(Socket);
writes!(WriteHalf);
