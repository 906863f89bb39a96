//! When something last went over a connection, and what it waits for: tells a slow head from an idle connection. Lets no bytes through whose
//! framing is wrong. Must not know: requests beyond their beginning and end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Limits;
use super::framing::{Fault, Framing};
use crate::counters::{Counters, add};
use crate::socket::Socket;

/// See the module.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Instant,
    /// Since when a head is awaited or coming in; `None` between requests and while one is answered.
    head_since: Option<Instant>,
    answering: bool,
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Late {
    /// The head's; else the idle time.
    pub head: bool,
}

impl Activity {
    /// A connection just made, whose first head is awaited.
    pub fn begun() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { last: now, head_since: Some(now), answering: false }))
    }

    /// A head is complete.
    pub fn request_begins(&self) {
        let mut state = self.state();
        state.answering = true;
        state.head_since = None;
    }

    /// The answer is ready to be written.
    pub fn request_ends(&self) {
        let mut state = self.state();
        state.answering = false;
        state.last = Instant::now();
    }

    fn went(&self, read: bool) {
        let now = Instant::now();
        let mut state = self.state();
        state.last = now;
        if read && !state.answering {
            state.head_since.get_or_insert(now);
        }
    }

    /// Waits until a time has run out.
    pub async fn too_late(&self, limits: watch::Receiver<Limits>) -> Late {
        loop {
            let (deadline, late) = self.deadline(&limits.borrow());
            if Instant::now() >= deadline {
                return late;
            }
            sleep_until(deadline).await;
        }
    }

    fn deadline(&self, limits: &Limits) -> (Instant, Late) {
        let state = self.state();
        // Whoever answers bounds that itself: a client that waits for its answer is not idle.
        let last = if state.answering { Instant::now() } else { state.last };
        let idle = last + limits.idle_timeout;
        match state.head_since.map(|since| since + limits.header_timeout) {
            Some(head) if head < idle => (head, Late { head: true }),
            _ => (idle, Late { head: false }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that tells an [`Activity`] what goes over it, and that ends for its reader where the framing of requests goes wrong.
#[derive(Debug)]
pub(super) struct Watched {
    socket: Socket,
    framing: Framing,
    activity: Arc<Activity>,
    counters: Arc<Counters>,
}

impl Watched {
    pub fn new(socket: Socket, activity: Arc<Activity>, counters: Arc<Counters>) -> Self {
        Self { socket, framing: Framing::new(), activity, counters }
    }

    /// What was wrong, and the socket.
    pub fn into_parts(self) -> (Option<Fault>, Socket) {
        (self.framing.fault(), self.socket)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.framing.fault().is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.activity.went(true);
            add(&self.counters.bytes_read, read as u64);
            let passed = self.framing.read(&buffer.filled()[before..]);
            buffer.set_filled(before + passed);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.activity.went(false);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: Limits =
        Limits { connections: 1, header_timeout: Duration::from_secs(10), idle_timeout: Duration::from_secs(600) };

    fn wait(activity: &Activity) -> (Duration, bool) {
        let (deadline, late) = activity.deadline(&LIMITS);
        (deadline.saturating_duration_since(Instant::now()), late.head)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_and_silence_between_requests_another() {
        let activity = Activity::begun();
        assert_eq!(wait(&activity), (Duration::from_secs(10), true));
        tokio::time::advance(Duration::from_secs(9)).await;
        // Dribbling does not help.
        activity.went(true);
        assert_eq!(wait(&activity), (Duration::from_secs(1), true));
        activity.request_begins();
        assert_eq!(wait(&activity), (Duration::from_secs(600), false));
        activity.request_ends();
        tokio::time::advance(Duration::from_secs(500)).await;
        activity.went(true);
        assert_eq!(wait(&activity), (Duration::from_secs(10), true));
    }
}
