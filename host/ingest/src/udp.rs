//! UDP datagrams: one or more lines each, never acknowledged. What cannot be taken at once is dropped and counted: by the kernel while the
//! daemon does not read, by this source while the queue is full. Must not know: what lines say.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::counters::{Counters, add};
use crate::framer::{Body, Framed};
use crate::queue::{CHUNK_OVERHEAD, Queue, ReserveError};
use crate::stream::Stream;

/// The largest payload of a datagram: 65,535 bytes less the headers fit with room to spare.
const MAX_DATAGRAM: usize = 65_535;
/// Datagrams of one sender that came together are queued together, up to about this many bytes.
const RUN_BYTES: usize = 256 * 1024;
/// How many datagrams are taken in a row: where they come faster than they are read there is no end to them, and the stop must be seen.
const AT_ONCE: usize = 16 * 1024;

/// A bound UDP socket, ready to serve.
#[derive(Debug)]
pub struct UdpSource {
    socket: UdpSocket,
    name: Arc<str>,
    address: SocketAddr,
    preset: usize,
    /// Tells the kernel's drop count of this socket from others'.
    inode: u64,
}

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot take datagrams on {address}: {error}; stop what uses it or choose another address")]
pub struct UdpError {
    address: SocketAddr,
    error: io::Error,
}

/// What the kernel dropped on one socket, as `/proc/net/udp` has it.
#[derive(Clone, Copy, Debug)]
pub struct KernelDrops {
    inode: u64,
    v6: bool,
}

impl UdpSource {
    /// Binds the socket; port 0 takes a free one. The kernel gives at most `net.core.rmem_max` of `receive_buffer` bytes; that is warned of.
    pub fn bind(address: SocketAddr, preset: usize, receive_buffer: usize) -> Result<Self, UdpError> {
        let bind = || {
            let socket = StdSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            let options = SockRef::from(&socket);
            options.set_recv_buffer_size(receive_buffer)?;
            // The kernel says twice what it gives, for its own bookkeeping (socket(7), SO_RCVBUF).
            let given = options.recv_buffer_size()? / 2;
            if given < receive_buffer {
                tracing::warn!(
                    wanted = receive_buffer,
                    given,
                    "the kernel gives UDP a smaller receive buffer than udp.receive_buffer; raise net.core.rmem_max"
                );
            }
            // The descriptor's own entry in /proc names the socket's inode.
            let inode = std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))?.ino();
            let address = socket.local_addr()?;
            Ok((UdpSocket::from_std(socket)?, address, inode))
        };
        let (socket, address, inode) = bind().map_err(|error| UdpError { address, error })?;
        Ok(Self { socket, name: format!("udp:{address}").into(), address, preset, inode })
    }

    /// Where it listens, with the port that is really used.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the kernel drops on this socket.
    pub fn kernel_drops(&self) -> KernelDrops {
        KernelDrops { inode: self.inode, v6: self.address.is_ipv6() }
    }

    /// Takes datagrams until `shutdown` says true (or its sender is gone).
    pub async fn serve<C: Send + 'static>(
        self,
        queue: Arc<Queue<C>>,
        counters: Arc<Counters>,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let mut taking = Taking {
            stream: Stream::plain(Arc::clone(&self.name), String::new()),
            sender: None,
            text: Vec::new(),
            lines: 0,
            preset: self.preset,
            queue,
            counters,
        };
        let mut datagram = vec![0; MAX_DATAGRAM];
        loop {
            let stop = shutdown.wait_for(|stop| *stop);
            tokio::select! {
                biased;
                _ = stop => break,
                ready = self.socket.readable() => if ready.is_err() { break },
            }
            taking.take_what_is_there(&self.socket, &mut datagram, &self.name);
        }
        // What came before the stop is taken still.
        taking.take_what_is_there(&self.socket, &mut datagram, &self.name);
    }
}

/// The datagrams of one sender that are being put together.
struct Taking<C> {
    stream: Arc<Stream>,
    sender: Option<SocketAddr>,
    text: Vec<u8>,
    lines: u32,
    preset: usize,
    queue: Arc<Queue<C>>,
    counters: Arc<Counters>,
}

impl<C: Send> Taking<C> {
    fn take_what_is_there(&mut self, socket: &UdpSocket, datagram: &mut [u8], name: &Arc<str>) {
        for _ in 0..AT_ONCE {
            match socket.try_recv_from(datagram) {
                Ok((length, sender)) => self.add(&datagram[..length], sender, name),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    add(&self.counters.accept_errors, 1);
                    tracing::warn!(source = %name, %error, "could not read a datagram");
                    break;
                }
            }
        }
        self.enqueue();
    }

    fn add(&mut self, datagram: &[u8], sender: SocketAddr, name: &Arc<str>) {
        add(&self.counters.datagrams, 1);
        add(&self.counters.bytes_read, datagram.len() as u64);
        if self.sender != Some(sender) || self.text.len() + datagram.len() > RUN_BYTES {
            self.enqueue();
        }
        if self.sender != Some(sender) {
            self.sender = Some(sender);
            self.stream = Stream::plain(Arc::clone(name), sender.to_string());
        }
        if datagram.is_empty() {
            return;
        }
        self.text.extend_from_slice(datagram);
        self.lines += memchr::memchr_iter(b'\n', datagram).count() as u32;
        // A datagram is whole: its last line needs no newline.
        if datagram.last() != Some(&b'\n') {
            self.text.push(b'\n');
            self.lines += 1;
        }
    }

    /// Queues what was put together, or drops it when there is no room.
    fn enqueue(&mut self) {
        if self.lines == 0 {
            return;
        }
        let framed = Framed { body: Body::Lines(std::mem::take(&mut self.text)), lines: self.lines };
        let lines = u64::from(std::mem::take(&mut self.lines));
        let queued = match self.queue.try_reserve(framed.body.capacity() + CHUNK_OVERHEAD) {
            Ok(permit) => self.stream.enqueue(framed, self.preset, permit, None, &self.queue).is_ok(),
            Err(ReserveError::Full | ReserveError::Closed) => false,
        };
        let counter = if queued { &self.counters.lines } else { &self.counters.dropped_lines };
        add(counter, lines);
        add(&self.counters.chunks, u64::from(queued));
    }
}

impl KernelDrops {
    /// Datagrams dropped so far; `None` when the kernel does not tell.
    pub fn read(&self) -> Option<u64> {
        let table = std::fs::read_to_string(if self.v6 { "/proc/net/udp6" } else { "/proc/net/udp" }).ok()?;
        drops(&table, self.inode)
    }
}

/// The last column of the row whose tenth is the inode.
fn drops(table: &str, inode: u64) -> Option<u64> {
    let mut rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(9).is_some_and(|field| field.parse() == Ok(inode)))?;
    row.last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  511: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
  512: 0100007F:1B9F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 38
";
        assert_eq!(drops(table, 4712), Some(38));
        assert_eq!(drops(table, 7), None);
    }
}
