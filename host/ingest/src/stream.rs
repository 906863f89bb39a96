//! One connection as the rest of the pipeline sees it: where its lines come from, and where their verdicts go.
//!
//! Verdicts come from the sequencer's thread, the socket belongs to a task. Between them is one slot with the newest state: a client that
//! does not read its answers costs a bounded list of rejects, never a queue of answers, and never holds up the sequencer.
//! Must not know: sockets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::counters::{Counters, add};
use crate::framer::Framed;
use crate::producers::{AdmitError, Lease};
use crate::protocol::{MAX_REJECTS, Progress, write_resume};
use crate::queue::{CHUNK_OVERHEAD, Chunk, Permit, Queue};

/// See the module.
#[derive(Debug)]
pub struct Stream {
    source: Arc<str>,
    peer: String,
    producer: Option<Arc<str>>,
    /// Lines admitted to the queue.
    admitted: AtomicU64,
    /// None for a client that wants no answers.
    answers: Option<Answers>,
}

#[derive(Debug)]
struct Answers {
    slot: Mutex<Slot>,
    news: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    resume: Option<u64>,
    progress: Progress,
    /// `progress` has changed since it was written.
    changed: bool,
    ending: Option<Ending>,
}

/// How the answers end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// The last line.
    pub line: Option<String>,
    /// Whether what was admitted is to be decided and answered first.
    pub settle: bool,
}

impl Stream {
    /// A connection whose client wants no answers.
    pub fn plain(source: Arc<str>, peer: String) -> Arc<Self> {
        Arc::new(Self { source, peer, producer: None, admitted: AtomicU64::new(0), answers: None })
    }

    /// A connection whose client wants answers.
    pub fn acknowledged(source: Arc<str>, peer: String) -> Arc<Self> {
        Self::answered(source, peer, None, None)
    }

    /// A connection of a producer, which resumes after `resume` lines.
    pub fn resumed(source: Arc<str>, peer: String, producer: Arc<str>, resume: u64) -> Arc<Self> {
        Self::answered(source, peer, Some(producer), Some(resume))
    }

    fn answered(source: Arc<str>, peer: String, producer: Option<Arc<str>>, resume: Option<u64>) -> Arc<Self> {
        let slot = Slot { resume, ..Slot::default() };
        let answers = Answers { slot: Mutex::new(slot), news: Notify::new(), ended: Notify::new() };
        Arc::new(Self { source, peer, producer, admitted: AtomicU64::new(0), answers: Some(answers) })
    }

    /// The source it came in by, such as `unix:/run/tally.sock`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Which of the source's connections it is, such as `#17 pid 4242 uid 1000`.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The producer it speaks for.
    pub fn producer(&self) -> Option<&Arc<str>> {
        self.producer.as_ref()
    }

    /// True when the client wants answers.
    pub fn wants_answers(&self) -> bool {
        self.answers.is_some()
    }

    /// Records the verdict on the stream's next chunk, once its frame is durable: `lines` as in the chunk, the last sequence number given out in
    /// that frame or before, and the rejected ones as (0-based line within the chunk, reason). Chunks of a stream are decided in queue order.
    pub fn decided(&self, lines: u32, last_sequence: u64, rejects: &[(u32, &'static str)]) {
        let Some(answers) = &self.answers else { return };
        let mut slot = answers.lock();
        let progress = &mut slot.progress;
        let room = MAX_REJECTS - progress.rejects.len().min(MAX_REJECTS);
        let named = rejects.len().min(room);
        let before = progress.durable;
        progress.rejects.extend(rejects[..named].iter().map(|(line, reason)| (before + u64::from(*line) + 1, *reason)));
        progress.left_out += (rejects.len() - named) as u64;
        progress.rejected += rejects.len() as u64;
        progress.durable += u64::from(lines);
        progress.sequence = progress.sequence.max(last_sequence);
        slot.changed = true;
        drop(slot);
        answers.news.notify_one();
    }

    /// Queues framed lines: waits for room, then counts and enqueues them. The lease is that of the stream's producer.
    pub async fn admit<C: Send>(
        self: &Arc<Self>,
        framed: Framed,
        preset: usize,
        lease: Option<&Lease>,
        queue: &Queue<C>,
        counters: &Counters,
    ) -> Result<(), AdmitError> {
        let charge = framed.body.capacity() + CHUNK_OVERHEAD;
        if queue.would_wait(charge) {
            add(&counters.queue_waits, 1);
        }
        let permit = queue.reserve(charge).await.map_err(|_| AdmitError::Closed)?;
        let lines = framed.lines;
        self.enqueue(framed, preset, permit, lease, queue)?;
        add(&counters.lines, u64::from(lines));
        add(&counters.chunks, 1);
        Ok(())
    }

    fn enqueue<C: Send>(
        self: &Arc<Self>,
        framed: Framed,
        preset: usize,
        permit: Permit,
        lease: Option<&Lease>,
        queue: &Queue<C>,
    ) -> Result<(), AdmitError> {
        let lines = u64::from(framed.lines);
        let mut chunk = Chunk::new(framed.body, framed.lines, preset, Arc::clone(self), permit);
        let push = |producer_lines| {
            // Counted first: the verdict may come before this returns.
            chunk.first_line = self.admitted.fetch_add(lines, Relaxed) + 1;
            chunk.producer_lines = producer_lines;
            let pushed = queue.push(chunk);
            if !pushed {
                self.admitted.fetch_sub(lines, Relaxed);
            }
            pushed
        };
        match lease {
            Some(lease) => lease.admit(framed.lines, |total| push(Some(total))),
            None if push(None) => Ok(()),
            None => Err(AdmitError::Closed),
        }
    }

    /// Says how the answers end; a later call replaces an earlier one.
    pub(crate) fn end(&self, ending: Ending) {
        let Some(answers) = &self.answers else { return };
        answers.lock().ending = Some(ending);
        answers.news.notify_one();
        answers.ended.notify_one();
    }

    /// Waits until [`end`](Self::end) was called.
    pub(crate) async fn ended(&self) {
        match &self.answers {
            Some(answers) if answers.lock().ending.is_none() => answers.ended.notified().await,
            _ => {}
        }
    }

    /// Waits for something to answer and appends it to `text`. True when it is the last.
    pub(crate) async fn next_answer(&self, text: &mut String) -> bool {
        let Some(answers) = &self.answers else {
            return true;
        };
        loop {
            let last = answers.lock().write(self.admitted.load(Relaxed), text);
            if last || !text.is_empty() {
                return last;
            }
            answers.news.notified().await;
        }
    }
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn write(&mut self, admitted: u64, text: &mut String) -> bool {
        if let Some(lines) = self.resume.take() {
            write_resume(lines, text);
        }
        if std::mem::take(&mut self.changed) {
            self.progress.write(text);
            self.progress.rejects.clear();
            self.progress.left_out = 0;
        }
        let Some(ending) = &self.ending else {
            return false;
        };
        if ending.settle && self.progress.durable < admitted {
            return false;
        }
        text.push_str(ending.line.as_deref().unwrap_or_default());
        true
    }
}
