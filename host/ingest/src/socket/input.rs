//! The reading side of a connection: bytes off the socket into the buffer that becomes a chunk. Must not know: queues, answers.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tally_net::ReadHalf;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::SocketLimits;
use super::connection::End;
use super::frames::Frames;
use crate::counters::{Counters, EndReason, add};
use crate::framer::{FirstLine, Framed, Framer, FramerLimits};

/// The reading half and what cuts its bytes.
pub(super) struct Input {
    from: ReadHalf,
    cutter: Cutter,
    /// The client has finished sending.
    pub at_end: bool,
    limits: SocketLimits,
    counters: Arc<Counters>,
}

/// By what the bytes are cut into events.
enum Cutter {
    Lines(Framer),
    Frames(Frames),
}

impl Input {
    pub fn new(from: ReadHalf, read_bytes: usize, limits: SocketLimits, counters: Arc<Counters>) -> Self {
        let framer = Framer::new(FramerLimits { read_bytes, line_bytes: limits.line_bytes });
        Self { from, cutter: Cutter::Lines(framer), at_end: false, limits, counters }
    }

    /// See [`Framer::first_line`].
    pub fn first_line(&mut self) -> FirstLine<'_> {
        match &mut self.cutter {
            Cutter::Lines(framer) => framer.first_line(),
            Cutter::Frames(_) => FirstLine::TooLong,
        }
    }

    /// See [`Framer::skip_first_line`].
    pub fn skip_first_line(&mut self) {
        if let Cutter::Lines(framer) = &mut self.cutter {
            framer.skip_first_line();
        }
    }

    /// From here on the bytes are MessagePack frames.
    pub fn become_frames(&mut self) {
        let frames = Cutter::Frames(Frames::new(self.limits.line_bytes, self.limits.depth));
        if let Cutter::Lines(framer) = std::mem::replace(&mut self.cutter, frames)
            && let Cutter::Frames(frames) = &mut self.cutter
        {
            frames.space().extend_from_slice(&framer.into_rest());
        }
    }

    /// The next whole events; `None` when more bytes are needed.
    pub fn take(&mut self) -> Option<Framed> {
        match &mut self.cutter {
            Cutter::Lines(framer) => framer.take(),
            Cutter::Frames(frames) => frames.take(),
        }
    }

    /// At the end: an unfinished line, which counts as one. An unfinished frame does not.
    pub fn finish(&mut self) -> Option<Framed> {
        match &mut self.cutter {
            Cutter::Lines(framer) => framer.finish(),
            Cutter::Frames(_) => None,
        }
    }

    /// True when the beginning of an event is held whose end has not come.
    pub fn has_unfinished(&self) -> bool {
        self.cutter.has_unfinished()
    }

    /// Waits for bytes and reads what is there, up to one buffer. May be cancelled: nothing read is lost.
    pub async fn fill(&mut self) -> Result<(), End> {
        let idle = self.limits.idle;
        let read = poll_fn(|cx| self.poll_fill(cx));
        let read = match idle {
            None => read.await,
            Some(idle) => match timeout(idle, read).await {
                Ok(read) => read,
                Err(_) => return Err(End::idle(idle)),
            },
        };
        read.map_err(|error| read_failed(&error))
    }

    /// Reads and forgets until the client has finished sending.
    pub async fn discard(mut self) -> io::Result<()> {
        let mut bytes = vec![0; 4096];
        while !self.at_end && self.from.read(&mut bytes).await? > 0 {}
        Ok(())
    }

    /// Ready when there was something: bytes or the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that has nothing under way keeps no buffer while it waits.
        if !self.cutter.has_unfinished() {
            ready!(self.from.poll_read_ready(cx))?;
        }
        let mut read = 0;
        loop {
            // A read that is not ready has taken nothing and can be dropped.
            match pin!(self.from.read_buf(self.cutter.space())).poll(cx) {
                Poll::Ready(Ok(0)) => {
                    self.at_end = true;
                    break;
                }
                Poll::Ready(Ok(count)) => read += count,
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                // The bytes come first; the error is met again.
                Poll::Ready(Err(_)) if read > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if read > 0 => break,
                Poll::Pending => {
                    self.cutter.release();
                    return Poll::Pending;
                }
            }
            if self.cutter.is_full() {
                break;
            }
        }
        self.cutter.adapt(read);
        add(&self.counters.bytes_read, read as u64);
        Poll::Ready(Ok(()))
    }
}

impl Cutter {
    fn space(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Lines(framer) => framer.space(),
            Self::Frames(frames) => frames.space(),
        }
    }

    fn has_unfinished(&self) -> bool {
        match self {
            Self::Lines(framer) => framer.has_unfinished_line(),
            Self::Frames(frames) => frames.has_unfinished(),
        }
    }

    fn release(&mut self) {
        match self {
            Self::Lines(framer) => framer.release(),
            Self::Frames(frames) => frames.release(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Lines(framer) => framer.is_full(),
            Self::Frames(frames) => frames.is_full(),
        }
    }

    fn adapt(&mut self, read: usize) {
        if let Self::Lines(framer) = self {
            framer.adapt(read);
        }
    }
}

/// Why a connection ends that cannot be read from.
pub(super) fn read_failed(error: &io::Error) -> End {
    match error.kind() {
        ErrorKind::ConnectionReset => End::quiet(EndReason::Reset),
        // What TLS calls it when the other side goes without a goodbye.
        ErrorKind::UnexpectedEof => End::quiet(EndReason::Reset),
        _ => End::new(EndReason::ReadFailed, format!("reading from the connection failed: {error}")),
    }
}
