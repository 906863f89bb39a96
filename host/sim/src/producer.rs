//! The clients: they outlive every crash and remember what they were told. One that names itself resumes where it is told to; one whose
//! events have ids sends everything again that was not acknowledged; requests and datagrams are sent once.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Turn, Poll, Waker};

use anyhow::ensure;
use tally_daemon::context::Token;
use tally_ingest::{Counters, Lease, Producers, Queue, Stream};

use crate::events::{Key, framed};

/// How a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A stream that names itself.
    Named,
    /// An anonymous stream, whose events have ids.
    Ids,
    /// Requests, each answered as a whole and sent once.
    Requests,
    /// Wants no answers.
    Plain,
}

/// A client.
pub struct Producer {
    /// Its number.
    pub number: u32,
    /// How it speaks.
    pub manner: Manner,
    /// Lines sent, by the longest of its connections.
    pub sent: u64,
    /// Lines of which it was told that they are decided and durable, from the first on.
    pub acknowledged: u64,
    /// Those of requests.
    pub answered: BTreeSet<u64>,
    /// The last sequence number that it was told.
    pub told_sequence: u64,
    /// Acknowledged lines that its next connections send again, if its events have ids.
    again: u64,
    connection: Option<Connection>,
}

struct Connection {
    stream: Arc<Stream>,
    lease: Option<Lease>,
    /// Lines before the connection's first.
    base: u64,
    next: u64,
    requests: Vec<(Arc<Stream>, std::ops::Range<u64>)>,
}

/// Looks whether something is there, without waiting for it.
pub fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Turn::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

impl Producer {
    /// A client that has sent nothing.
    pub fn new(number: u32, manner: Manner) -> Self {
        let answered = BTreeSet::new();
        Self { number, manner, sent: 0, acknowledged: 0, answered, told_sequence: 0, again: 0, connection: None }
    }

    /// Forgets what it was told: without a sync of each frame a power loss may take that.
    pub fn forget(&mut self) {
        self.acknowledged = 0;
        self.told_sequence = 0;
        self.answered.clear();
    }

    /// From now on it sends some lines again that were acknowledged, wherever it can: it did not write down the newest answers.
    pub fn repeat(&mut self) {
        self.again = 10;
    }

    /// The daemon is gone.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    fn connect(&mut self, producers: &Arc<Producers>) -> anyhow::Result<Option<&mut Connection>> {
        if self.connection.is_none() {
            let (source, peer) = (Arc::from("sim"), format!("#{}", self.number));
            let (stream, lease, base) = match self.manner {
                Manner::Named => {
                    let id = format!("p{}", self.number);
                    let lease = producers.open(&id);
                    let Some(Ok(lines)) = now(lease.granted()) else { return Ok(None) };
                    ensure!(
                        lines >= self.acknowledged,
                        "producer {id} is to resume after line {lines}, but {} lines were acknowledged",
                        self.acknowledged
                    );
                    ensure!(
                        lines <= self.sent,
                        "producer {id} is to resume after line {lines}, but sent {}",
                        self.sent
                    );
                    (Stream::resumed(source, peer, id.into(), lines), Some(lease), lines)
                }
                Manner::Ids => (Stream::acknowledged(source, peer), None, self.acknowledged.saturating_sub(self.again)),
                Manner::Requests | Manner::Plain => (Stream::plain(source, peer), None, self.sent),
            };
            self.connection = Some(Connection { stream, lease, base, next: base, requests: Vec::new() });
        }
        Ok(self.connection.as_mut())
    }

    /// Sends the next lines, if the queue has room for them. True when they were sent.
    pub fn send(
        &mut self,
        lines: u64,
        producers: &Arc<Producers>,
        queue: &Queue<Token>,
        counters: &Counters,
    ) -> anyhow::Result<bool> {
        let (number, manner) = (self.number, self.manner);
        let Some(connection) = self.connect(producers)? else { return Ok(false) };
        let range = connection.next..connection.next + lines;
        let stream = match manner {
            Manner::Requests => Stream::collected(Arc::from("sim"), format!("#{number}")),
            _ => connection.stream.clone(),
        };
        let framed = framed(number, range.clone(), manner == Manner::Ids);
        let Some(Ok(())) = now(stream.admit(framed, 0, connection.lease.as_ref(), queue, counters)) else {
            return Ok(false);
        };
        connection.next = range.end;
        if manner == Manner::Requests {
            connection.requests.push((stream, range.clone()));
        }
        self.sent = self.sent.max(range.end);
        Ok(true)
    }

    /// Reads its answers.
    pub fn listen(&mut self) -> anyhow::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let mut text = String::new();
        if matches!(self.manner, Manner::Named | Manner::Ids) && now(connection.stream.next_answer(&mut text)).is_some()
        {
            for line in text.lines() {
                let answer: serde_json::Value = serde_json::from_str(line)?;
                if let Some(durable) = answer["durable"].as_u64() {
                    self.acknowledged = self.acknowledged.max(connection.base + durable);
                    self.told_sequence = self.told_sequence.max(answer["sequence"].as_u64().unwrap_or(0));
                }
            }
        }
        let mut open = Vec::new();
        for (stream, range) in std::mem::take(&mut connection.requests) {
            match now(stream.verdict(range.end - range.start)) {
                Some(verdict) => {
                    self.told_sequence = self.told_sequence.max(verdict.last_sequence);
                    self.answered.extend(range);
                }
                None => open.push((stream, range)),
            }
        }
        connection.requests = open;
        Ok(())
    }

    /// The lines that it was told are durable and that are events.
    pub fn promised(&self) -> impl Iterator<Item = Key> + '_ {
        let line = |line| Key { producer: self.number, line };
        (0..self.acknowledged).chain(self.answered.iter().copied()).map(line).filter(|key| key.is_valid())
    }

    /// Whether everything it sent was answered, so that nothing is under way.
    pub fn is_settled(&self) -> bool {
        match self.manner {
            Manner::Named | Manner::Ids => self.connection.as_ref().is_none_or(|c| self.acknowledged >= c.next),
            Manner::Requests => self.connection.as_ref().is_none_or(|c| c.requests.is_empty()),
            Manner::Plain => true,
        }
    }
}
