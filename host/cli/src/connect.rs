//! Streams of bytes to a daemon: Unix, TCP and TLS, for threads that block and for HTTP. Knows nothing of what is said on
//! them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::address::Endpoint;

/// How long a TCP connection and a TLS handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What opens a protected door.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// File with the token that the daemon asks for
    #[arg(long, value_name = "FILE", env = "TALLY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust with TLS, instead of the system's
    #[arg(long, value_name = "FILE", env = "TALLY_CA")]
    pub ca: Option<PathBuf>,
}

impl Access {
    /// The token, without the newline that editors leave.
    pub fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read the token file {}", file.display()))?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("the token file {} must hold one line of printable ASCII without spaces", file.display());
        }
        Ok(Some(token.to_string()))
    }

    fn trusted(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.ca else {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // One that cannot be used is no reason to refuse the others.
                let _ = roots.add(certificate);
            }
            if roots.is_empty() {
                bail!("the system has no certificates to trust; name the daemon's by --ca FILE");
            }
            return Ok(roots);
        };
        let reading = || format!("cannot read certificates (PEM) from {}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).with_context(reading)? {
            roots.add(certificate.with_context(reading)?).with_context(reading)?;
        }
        if roots.is_empty() {
            bail!("there is no certificate (PEM) in {}", file.display());
        }
        Ok(roots)
    }

    fn connector(&self) -> anyhow::Result<TlsConnector> {
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.trusted()?)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// Any stream that HTTP can be spoken on.
pub trait AsyncStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AsyncStream for S {}

/// Connects for HTTP.
pub async fn open(endpoint: &Endpoint, access: &Access) -> anyhow::Result<Box<dyn AsyncStream>> {
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await.map_err(|error| explain(endpoint, error))?;
            Ok(Box::new(stream))
        }
        Endpoint::Tcp { host, port, tls } => {
            let connecting = tokio::net::TcpStream::connect((host.as_str(), *port));
            let stream = tokio::time::timeout(PATIENCE, connecting)
                .await
                .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
                .map_err(|error| explain(endpoint, error))?;
            stream.set_nodelay(true)?;
            match tls {
                true => Ok(Box::new(encrypt(stream, endpoint, host, access).await?)),
                false => Ok(Box::new(stream)),
            }
        }
    }
}

async fn encrypt(
    stream: tokio::net::TcpStream,
    endpoint: &Endpoint,
    host: &str,
    access: &Access,
) -> anyhow::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let name = ServerName::try_from(host.to_string())
        .map_err(|_| anyhow!("{host} cannot be the name of a certificate; give the daemon's host name"))?;
    let shaking = access.connector()?.connect(name, stream);
    let shaken = tokio::time::timeout(PATIENCE, shaking).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
    shaken.with_context(|| {
        format!("no TLS with {endpoint}; is that its TLS port, and does --ca name who signed its certificate?")
    })
}

/// True when connecting may succeed another time: the network failed, and no file or certificate.
pub fn is_passing(error: &anyhow::Error) -> bool {
    let network = |error: &io::Error| !error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    error.downcast_ref::<io::Error>().is_some_and(network)
}

/// A connection for threads.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket, or our end of a TLS connection.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

impl Stream {
    /// Connects.
    pub fn connect(endpoint: &Endpoint, access: &Access) -> anyhow::Result<Stream> {
        match endpoint {
            Endpoint::Unix(path) => {
                UnixStream::connect(path).map(Stream::Unix).map_err(|error| explain(endpoint, error))
            }
            Endpoint::Tcp { host, port, tls: false } => {
                connect_tcp(host, *port).map(Stream::Tcp).map_err(|error| explain(endpoint, error))
            }
            Endpoint::Tcp { tls: true, .. } => through_tls(endpoint, access).map(Stream::Unix),
        }
    }

    /// Another handle of the same connection.
    pub fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
        }
    }

    /// Ends one direction or both.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.shutdown(how),
            Stream::Tcp(stream) => stream.shutdown(how),
        }
    }

    /// How long a read waits; `None` for as long as it takes.
    pub fn set_read_timeout(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Unix(stream) => stream.set_read_timeout(time),
            Stream::Tcp(stream) => stream.set_read_timeout(time),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(buffer),
            Stream::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first address of `host` that takes a connection.
fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Our end of a socket pair whose other end is copied to and from a TLS connection by a thread: so whoever sends needs to
/// know no TLS, and reads and writes from two threads as on any socket.
fn through_tls(endpoint: &Endpoint, access: &Access) -> anyhow::Result<UnixStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let far = runtime.block_on(open(endpoint, access))?;
    let (ours, theirs) = UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    std::thread::Builder::new().name("tls".to_string()).spawn(move || {
        runtime.block_on(async {
            if let Ok(near) = tokio::net::UnixStream::from_std(theirs) {
                copy_both_ways(near, far).await;
            }
        });
    })?;
    Ok(ours)
}

/// Copies until both directions have ended. One that breaks leaves the other alone: what the daemon said before it hung up
/// arrives still. A connection that breaks is seen at our end as one that was closed.
async fn copy_both_ways(near: tokio::net::UnixStream, far: impl AsyncStream) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = tokio::io::split(far);
    let sending = async move {
        if tokio::io::copy(&mut from_near, &mut to_far).await.is_ok() {
            let _ = to_far.shutdown().await;
        }
    };
    let hearing = async move {
        let _ = tokio::io::copy(&mut from_far, &mut to_near).await;
        let _ = to_near.shutdown().await;
    };
    tokio::join!(sending, hearing);
}

/// Why a connection failed and what to do, for the common reasons.
fn explain(endpoint: &Endpoint, error: io::Error) -> anyhow::Error {
    let unix = matches!(endpoint, Endpoint::Unix(_));
    let what_to_do = match error.kind() {
        ErrorKind::NotFound if unix => "there is no such socket; start the daemon with `tally run`, or check the path",
        ErrorKind::ConnectionRefused if unix => "no daemon listens there; start it with `tally run`",
        ErrorKind::ConnectionRefused => "no daemon listens there; start it with `tally run`, or check host and port",
        ErrorKind::PermissionDenied => "you may not use it; join the socket's group or ask as the daemon's user",
        ErrorKind::TimedOut => "there is no answer; check host, port and firewall",
        _ if unix => "check the path",
        _ => "check host and port",
    };
    anyhow::Error::new(error).context(format!("cannot connect to {endpoint} ({what_to_do})"))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncReadExt as _, ReadBuf};

    use super::*;

    /// Takes nothing any more, but has said something.
    struct HungUp(&'static [u8]);

    impl AsyncRead for HungUp {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buffer.put_slice(self.0);
            self.0 = b"";
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for HungUp {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn last_words_arrive_though_nothing_can_be_sent() {
        let (mut ours, theirs) = tokio::net::UnixStream::pair().expect("a pair");
        ours.write_all(b"lines that nobody takes\n").await.expect("room in the buffer");
        copy_both_ways(theirs, HungUp(b"{\"error\":\"unauthorized\"}\n")).await;
        let mut words = String::new();
        ours.read_to_string(&mut words).await.expect("reading to the end");
        assert_eq!(words, "{\"error\":\"unauthorized\"}\n");
    }
}
