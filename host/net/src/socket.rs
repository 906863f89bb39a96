//! A connection of whatever kind, and who is on its other side. Must not know: what is spoken over it.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
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
    ///
    /// An error is told only here: who reads after it finds an end.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => poll_unix(socket, cx),
            Self::Tcp(socket) => poll_tcp(socket, cx),
            Self::Tls(_) => Poll::Ready(Ok(())),
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

impl ReadHalf {
    /// Ready once there may be something to read, or an end; with TLS at once. Unlike a read that is not ready it needs no buffer.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(socket) => socket.as_ref().poll_read_ready(cx),
            Self::Tcp(socket) => socket.as_ref().poll_read_ready(cx),
            Self::Tls(_) => Poll::Ready(Ok(())),
        }
    }
}

/// The runtime takes a socket that was just accepted for readable until a read finds nothing: only looking tells.
macro_rules! polls_by_looking {
    ($name:ident, $socket:ty) => {
        fn $name(socket: &$socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            loop {
                ready!(socket.poll_read_ready(cx))?;
                let look = || SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
                match socket.try_io(Interest::READABLE, look) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    looked => return Poll::Ready(looked.map(|_| ())),
                }
            }
        }
    };
}

polls_by_looking!(poll_unix, UnixStream);
polls_by_looking!(poll_tcp, TcpStream);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::Listener;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Accepts what connects, and finds it silent until it says something, which is then still there to read.
    async fn is_readable_once_spoken<C: AsyncWrite + Unpin>(listener: Listener, client: impl Future<Output = C>) {
        let (accepted, mut client) = tokio::join!(listener.accept(), client);
        let mut socket = accepted.expect("accepted").ready(Duration::from_secs(60)).await.expect("no TLS");
        let silent = tokio::time::timeout(Duration::from_millis(50), socket.readable()).await;
        assert!(silent.is_err(), "nothing was said, and there is something to read: {silent:?}");
        client.write_all(b"x").await.expect("written");
        socket.readable().await.expect("readable");
        assert_eq!(socket.read_u8().await.expect("read"), b'x');
        drop(client);
        socket.readable().await.expect("an end is something to read");
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let unix = Listener::unix(&path, 0o600).await.expect("bound");
        is_readable_once_spoken(unix, async { UnixStream::connect(&path).await.expect("connected") }).await;
        let tcp = Listener::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), None).expect("bound");
        let address = tcp.address().to_owned();
        is_readable_once_spoken(tcp, async { TcpStream::connect(address).await.expect("connected") }).await;
    }
}
