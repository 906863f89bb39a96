//! One connection, from its first line to its end: handshake, lease, reading into the queue, answers.
//!
//! Reading and answering run side by side in one task. Reading ends for one [`EndReason`]; then what was admitted is answered, the client is told
//! why (if it wanted answers), and the socket closes. A client that reads no answers is waited for only while it also sends.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tally_net::{Accepting, Socket, Token, WriteHalf};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::input::{Input, read_failed};
use super::{SocketLimits, stopped};
use crate::counters::{Counters, EndReason, add};
use crate::framer::FirstLine;
use crate::producers::{AdmitError, Lease, Producers};
use crate::protocol::{CLOSING_SHUTDOWN, Encoding, Handshake, Hello, error_line, hello};
use crate::queue::Queue;
use crate::stream::{Ending, Stream};

/// How long a client that has finished sending may take to read its last answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// No handshake is longer, in bytes: a door that wants a token keeps no more before it has seen one.
const MAX_HANDSHAKE: usize = 16 * 1024;
/// How long one may take to read why it is being closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What all connections of a source share.
pub(super) struct Shared<C> {
    pub source: Arc<str>,
    pub preset: usize,
    pub token: Option<Token>,
    pub limits: watch::Receiver<SocketLimits>,
    pub read_bytes: usize,
    pub grace: Duration,
    pub queue: Arc<Queue<C>>,
    pub producers: Arc<Producers>,
    pub counters: Arc<Counters>,
    /// When the first connection saw that the daemon stops: the grace period is one for all.
    pub stopped_at: OnceLock<Instant>,
}

pub(super) struct Connection<C> {
    shared: Arc<Shared<C>>,
    peer: String,
    shutdown: watch::Receiver<bool>,
}

/// Why reading ended, and what to tell the client.
pub(super) struct End {
    reason: EndReason,
    message: String,
}

impl End {
    pub fn new(reason: EndReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    pub fn quiet(reason: EndReason) -> Self {
        Self::new(reason, "")
    }

    pub fn idle(time: Duration) -> Self {
        Self::new(EndReason::Idle, format!("nothing was sent for {time:?}"))
    }

    fn without_token() -> Self {
        Self::new(EndReason::Unauthorized, "the first line, with the token, did not come in time")
    }

    /// The last line for a client that wants answers.
    fn line(&self) -> Option<String> {
        match self.reason {
            EndReason::Finished | EndReason::Reset => None,
            EndReason::Shutdown => Some(CLOSING_SHUTDOWN.into()),
            reason => Some(error_line(reason.as_str(), &self.message)),
        }
    }
}

impl From<AdmitError> for End {
    fn from(error: AdmitError) -> Self {
        let reason = match error {
            AdmitError::Superseded => EndReason::Superseded,
            AdmitError::TooManyProducers => EndReason::TooManyProducers,
            AdmitError::Closed => EndReason::Shutdown,
        };
        Self::new(reason, error.to_string())
    }
}

impl<C: Send> Connection<C> {
    pub(super) fn new(shared: Arc<Shared<C>>, peer: String, shutdown: watch::Receiver<bool>) -> Self {
        Self { shared, peer, shutdown }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(self, accepted: Accepting) {
        let limits = *self.shared.limits.borrow();
        let end = match self.unless_stopped(accepted.ready(limits.handshake)).await {
            Err(stopped) => stopped,
            Ok(Ok(socket)) => self.serve(socket, limits).await,
            Ok(Err(error)) => End::new(EndReason::TlsFailed, format!("the TLS handshake failed: {error}")),
        };
        self.shared.counters.ended(end.reason);
        self.log(&end);
    }

    /// Waits until the client says something. A connection that says nothing is kept small: most of what one takes is taken after that.
    async fn serve(&self, socket: Socket, limits: SocketLimits) -> End {
        let handshake_by = Instant::now() + limits.handshake;
        // Who may come in must not have to be waited for.
        let too_late = match (&self.shared.token, limits.idle) {
            (Some(_), idle) if idle.is_none_or(|idle| limits.handshake <= idle) => {
                Some((limits.handshake, End::without_token()))
            }
            (_, Some(idle)) => Some((idle, End::idle(idle))),
            (_, None) => None,
        };
        let spoke = self.unless_stopped(within(too_late.as_ref().map(|(time, _)| *time), socket.readable())).await;
        let input = |from| {
            let counters = Arc::clone(&self.shared.counters);
            Input::new(from, self.shared.read_bytes, limits, counters)
        };
        match (spoke, too_late) {
            (Err(stopped), _) => stopped,
            (Ok(None), Some((_, end))) if end.reason == EndReason::Unauthorized => {
                let (from, to) = socket.into_split();
                Box::pin(dismiss(end, input(from), to)).await
            }
            (Ok(None), Some((_, end))) => end,
            (Ok(Some(Err(error))), _) => read_failed(&error),
            (Ok(_), _) => {
                let (from, to) = socket.into_split();
                Box::pin(self.converse(input(from), to, handshake_by)).await
            }
        }
    }

    async fn converse(&self, mut input: Input, to: WriteHalf, handshake_by: Instant) -> End {
        let first = match self.shared.token {
            Some(_) => timeout_at(handshake_by, self.first_line(&mut input))
                .await
                .unwrap_or_else(|_| Err(End::without_token())),
            None => self.first_line(&mut input).await,
        };
        let handshake = match first {
            Err(end) => {
                self.note_left_over(&mut input, 0);
                return match end.reason {
                    // It spoke as someone who means to be let in.
                    EndReason::Unauthorized => dismiss(end, input, to).await,
                    _ => end,
                };
            }
            Ok(Hello::Bad(why)) => return dismiss(End::new(EndReason::BadHandshake, why), input, to).await,
            Ok(Hello::Data) => Handshake::default(),
            Ok(Hello::Handshake(handshake)) => handshake,
        };
        if let Some(why) = self.unauthorized(&handshake) {
            self.note_left_over(&mut input, 0);
            return dismiss(End::new(EndReason::Unauthorized, why), input, to).await;
        }
        if handshake.encoding == Encoding::MessagePack {
            input.become_frames();
        }
        match handshake.producer {
            Some(id) => self.produced(input, to, &id).await,
            None if handshake.answers => {
                let stream = Stream::acknowledged(Arc::clone(&self.shared.source), self.peer.clone());
                self.answered(input, to, &stream, None).await
            }
            None => self.plain(input).await,
        }
    }

    fn unauthorized(&self, handshake: &Handshake) -> Option<&'static str> {
        let token = self.shared.token.as_ref()?;
        match &handshake.token {
            None => Some("this door wants a token: begin with the line {\"tally\":\"ack\",\"token\":\"...\"}"),
            Some(given) if !token.matches(given.as_bytes()) => Some("the token is not the right one"),
            Some(_) => None,
        }
    }

    fn log(&self, end: &End) {
        let (source, peer) = (&self.shared.source, &self.peer);
        let (reason, message) = (end.reason.as_str(), &end.message);
        if message.is_empty() {
            tracing::debug!(%source, %peer, reason, "connection ended");
        } else {
            tracing::info!(%source, %peer, reason, %message, "ended a connection");
        }
    }

    /// Waits for the first line; takes it when it is a handshake.
    async fn first_line(&self, input: &mut Input) -> Result<Hello, End> {
        loop {
            let at_end = input.at_end;
            let said = match input.first_line() {
                FirstLine::Whole(line) => Some(hello(line)),
                FirstLine::TooLong => Some(Hello::Data),
                FirstLine::Unfinished(line) if self.shared.token.is_some() && line.len() > MAX_HANDSHAKE => {
                    Some(Hello::Data)
                }
                FirstLine::Unfinished(line) => at_end.then(|| hello(line)),
            };
            match said {
                Some(Hello::Data) => return Ok(Hello::Data),
                Some(other) => {
                    input.skip_first_line();
                    return Ok(other);
                }
                None => self.unless_stopped(input.fill()).await??,
            }
        }
    }

    async fn unless_stopped<T>(&self, what: impl Future<Output = T>) -> Result<T, End> {
        tokio::select! {
            biased;
            () = stopped(self.shutdown.clone()) => Err(End::quiet(EndReason::Shutdown)),
            done = what => Ok(done),
        }
    }

    async fn plain(&self, input: Input) -> End {
        let stream = Stream::plain(Arc::clone(&self.shared.source), self.peer.clone());
        self.receive(input, &stream, None).await
    }

    /// A producer's connection: fences older ones, waits for what they had admitted, and goes on from there.
    async fn produced(&self, input: Input, to: WriteHalf, id: &str) -> End {
        let lease = self.shared.producers.open(id);
        let granted = self.unless_stopped(lease.granted()).await;
        let end = match granted {
            Ok(Ok(resume)) => {
                let stream =
                    Stream::resumed(Arc::clone(&self.shared.source), self.peer.clone(), Arc::clone(lease.id()), resume);
                return self.answered(input, to, &stream, Some(&lease)).await;
            }
            Ok(Err(superseded)) => End::new(EndReason::Superseded, superseded.to_string()),
            Err(stopped) => stopped,
        };
        dismiss(end, input, to).await
    }

    /// Receives and answers side by side; then answers what is left and says why it ends.
    async fn answered(&self, input: Input, to: WriteHalf, stream: &Arc<Stream>, lease: Option<&Lease>) -> End {
        let mut answering = pin!(answer(stream, to));
        let mut receiving = pin!(self.receive(input, stream, lease));
        let mut answered = None;
        let end = loop {
            tokio::select! {
                end = &mut receiving => break end,
                done = &mut answering, if answered.is_none() => answered = Some(done),
            }
        };
        let settle = !matches!(end.reason, EndReason::Superseded);
        stream.end(Ending { line: end.line(), settle });
        let answered = match answered {
            Some(done) => done,
            None => self.last_answers(answering, stream, lease).await,
        };
        if let Err(error) = answered {
            // A client that went away reads nothing, and says so by its end being reset.
            if end.reason != EndReason::Reset && error.kind() != ErrorKind::BrokenPipe {
                add(&self.shared.counters.unread_answers, 1);
            }
        }
        end
    }

    /// Waits until what was admitted is decided and answered; not beyond the grace period, nor once a newer connection takes over.
    async fn last_answers(
        &self,
        answering: impl Future<Output = io::Result<()>>,
        stream: &Stream,
        lease: Option<&Lease>,
    ) -> io::Result<()> {
        let mut answering = pin!(answering);
        let why = tokio::select! {
            done = &mut answering => return done,
            () = self.grace_is_over() => CLOSING_SHUTDOWN.into(),
            () = superseded(lease) => End::from(AdmitError::Superseded).line().unwrap_or_default(),
        };
        stream.end(Ending { line: Some(why), settle: false });
        timeout(LAST_WORDS, answering).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    /// Reads, frames and queues until there is a reason to end.
    async fn receive(&self, mut input: Input, stream: &Arc<Stream>, lease: Option<&Lease>) -> End {
        let mut fenced = pin!(superseded(lease));
        let mut stop = pin!(stopped(self.shutdown.clone()));
        let end = loop {
            if let Err((end, unqueued)) = self.queue_lines(&mut input, stream, lease).await {
                self.note_left_over(&mut input, unqueued);
                return end;
            }
            if input.at_end {
                break End::quiet(EndReason::Finished);
            }
            let filled = tokio::select! {
                biased;
                () = &mut fenced => Err(AdmitError::Superseded.into()),
                () = &mut stop => Err(End::quiet(EndReason::Shutdown)),
                filled = input.fill() => filled,
            };
            if let Err(end) = filled {
                break end;
            }
        };
        self.note_left_over(&mut input, 0);
        end
    }

    /// Counts what was read and will not be decided: nothing is dropped in silence.
    fn note_left_over(&self, input: &mut Input, unqueued: u32) {
        let counters = &self.shared.counters;
        add(&counters.unqueued_lines, u64::from(unqueued));
        while let Some(framed) = input.take() {
            add(&counters.unqueued_lines, u64::from(framed.lines));
        }
        add(&counters.unfinished_lines, u64::from(input.has_unfinished()));
    }

    /// Queues all whole lines that were read; fails with the number of lines it had in hand. At the end of the stream an unfinished line is
    /// one too, except from a producer, which sends it again.
    async fn queue_lines(
        &self,
        input: &mut Input,
        stream: &Arc<Stream>,
        lease: Option<&Lease>,
    ) -> Result<(), (End, u32)> {
        let Shared { preset, queue, counters, .. } = &*self.shared;
        loop {
            let framed = match input.take() {
                None if input.at_end && lease.is_none() => input.finish(),
                framed => framed,
            };
            let Some(framed) = framed else { return Ok(()) };
            let lines = framed.lines;
            let queued = tokio::select! {
                biased;
                queued = stream.admit(framed, *preset, lease, queue, counters) => queued.map_err(End::from),
                () = superseded(lease) => Err(AdmitError::Superseded.into()),
                () = self.grace_is_over() => Err(End::quiet(EndReason::Shutdown)),
            };
            queued.map_err(|end| (end, lines))?;
        }
    }

    async fn grace_is_over(&self) {
        stopped(self.shutdown.clone()).await;
        let from = *self.shared.stopped_at.get_or_init(Instant::now);
        sleep_until(from + self.shared.grace).await;
    }
}

/// Ends a connection whose answers have not begun.
///
/// Reads on for as long: closing with bytes unread would reset a TCP connection, and the client would lose what it was told.
async fn dismiss(end: End, input: Input, mut to: WriteHalf) -> End {
    let line = end.line().unwrap_or_default();
    let farewell = async {
        to.write_all(line.as_bytes()).await?;
        to.shutdown().await?;
        input.discard().await
    };
    let _ = timeout(LAST_WORDS, farewell).await;
    end
}

/// What comes of it within a time, if there is one.
async fn within<T>(time: Option<Duration>, what: impl Future<Output = T>) -> Option<T> {
    match time {
        Some(time) => timeout(time, what).await.ok(),
        None => Some(what.await),
    }
}

async fn superseded(lease: Option<&Lease>) {
    match lease {
        Some(lease) => lease.superseded().await,
        None => std::future::pending().await,
    }
}

/// Writes answers as they come, the newest state each time, until the last one.
async fn answer(stream: &Stream, mut to: WriteHalf) -> io::Result<()> {
    let mut text = String::new();
    loop {
        text.clear();
        let last = stream.next_answer(&mut text).await;
        tokio::select! {
            biased;
            written = to.write_all(text.as_bytes()) => written?,
            () = out_of_patience(stream) => return Err(ErrorKind::TimedOut.into()),
        }
        if last {
            return to.shutdown().await;
        }
    }
}

async fn out_of_patience(stream: &Stream) {
    stream.ended().await;
    sleep(PATIENCE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_has_said_nothing_is_small() {
        fn size_of_future<A, F>(_: impl Fn(A) -> F) -> usize {
            size_of::<F>()
        }
        let size = size_of_future(|(connection, accepted): (Connection<()>, Accepting)| connection.run(accepted));
        assert!(size < 3072, "{size} bytes each, and there may be thousands");
    }
}
