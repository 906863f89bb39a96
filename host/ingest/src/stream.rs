//! One connection as the rest of the pipeline sees it: where its lines come from, and where their verdicts go.
//!
//! Verdicts come from the sequencer's thread, the socket belongs to a task. Between them is one slot with the newest state: a client that
//! does not read its answers costs a bounded list of rejects, never a queue of answers, and never holds up the sequencer. A request that is
//! answered once, as a whole, collects a [`Verdict`] instead.
//! Must not know: sockets, HTTP.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::counters::{Counters, add};
use crate::framer::Framed;
use crate::producers::{AdmitError, Lease};
use crate::protocol::{MAX_REJECTS, Progress, write_resume};
use crate::queue::{Chunk, Permit, Queue, charge};

/// See the module.
#[derive(Debug)]
pub struct Stream {
    source: Arc<str>,
    peer: String,
    producer: Option<Arc<str>>,
    /// Lines admitted to the queue.
    admitted: AtomicU64,
    answers: Answering,
}

/// Where verdicts go.
#[derive(Debug)]
enum Answering {
    /// The client wants no answers.
    Nothing,
    /// Line by line, as things go.
    Lines(Answers),
    /// At once, when everything is decided.
    Whole(Collected),
}

/// What was decided about one chunk, once its frame is durable.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Lines of the chunk, blank ones included.
    pub lines: u32,
    /// How many of them were seen before.
    pub duplicates: u32,
    /// The last sequence number given out in that frame or before.
    pub last_sequence: u64,
    /// Those that are no events, in order.
    pub rejects: &'a [RejectedLine],
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    /// 0-based; within the chunk in a [`Decision`], within the stream in a [`Verdict`].
    pub line: u32,
    /// The name of the reason.
    pub reason: &'static str,
    /// JSON pointer to the field at fault.
    pub field: Option<String>,
    /// Why exactly, for people.
    pub detail: String,
}

/// What was decided about everything a stream admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines decided and durable.
    pub lines: u64,
    /// Lines that are neither rejected nor duplicates; blank ones would count too, so don't admit any.
    pub accepted: u64,
    /// Lines that are no events.
    pub rejected: u64,
    /// Lines that were seen before.
    pub duplicates: u64,
    /// The last sequence number given out by then.
    pub last_sequence: u64,
    /// The first [`MAX_REJECTS`] rejected lines.
    pub rejects: Vec<RejectedLine>,
    /// How many more there were.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Collected {
    verdict: Mutex<Verdict>,
    news: Notify,
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
        Self::new(source, peer, None, Answering::Nothing)
    }

    /// A request whose client wants one answer, with everything that was [decided](Self::verdict).
    pub fn collected(source: Arc<str>, peer: String) -> Arc<Self> {
        Self::new(source, peer, None, Answering::Whole(Collected::default()))
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
        Self::new(source, peer, producer, Answering::Lines(answers))
    }

    fn new(source: Arc<str>, peer: String, producer: Option<Arc<str>>, answers: Answering) -> Arc<Self> {
        Arc::new(Self { source, peer, producer, admitted: AtomicU64::new(0), answers })
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
        !matches!(self.answers, Answering::Nothing)
    }

    /// Records what was decided about the stream's next chunk, once its frame is durable. Chunks of a stream are decided in queue order.
    pub fn decided(&self, decision: &Decision<'_>) {
        match &self.answers {
            Answering::Nothing => {}
            Answering::Lines(answers) => {
                answers.lock().decided(decision);
                answers.news.notify_one();
            }
            Answering::Whole(collected) => {
                collected.lock().add(decision);
                collected.news.notify_one();
            }
        }
    }

    /// Waits until `lines` lines of a [`collected`](Self::collected) stream are decided, and takes the verdict. One task may wait.
    ///
    /// # Panics
    /// When the stream collects nothing.
    pub async fn verdict(&self, lines: u64) -> Verdict {
        let Answering::Whole(collected) = &self.answers else { panic!("this stream collects no verdict") };
        loop {
            {
                let mut verdict = collected.lock();
                if verdict.lines >= lines {
                    return std::mem::take(&mut verdict);
                }
            }
            collected.news.notified().await;
        }
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
        let charge = charge(&framed.body);
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

    /// Queues framed lines for which there is room already; of a stream without a producer.
    pub(crate) fn admit_reserved<C: Send>(
        self: &Arc<Self>,
        framed: Framed,
        preset: usize,
        permit: Permit,
        queue: &Queue<C>,
        counters: &Counters,
    ) -> Result<(), AdmitError> {
        let lines = framed.lines;
        self.enqueue(framed, preset, permit, None, queue)?;
        add(&counters.lines, u64::from(lines));
        add(&counters.chunks, 1);
        Ok(())
    }

    /// Counts the lines and enqueues them with room that was reserved for them.
    pub(crate) fn enqueue<C: Send>(
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
        let Answering::Lines(answers) = &self.answers else { return };
        answers.lock().ending = Some(ending);
        answers.news.notify_one();
        answers.ended.notify_one();
    }

    /// Waits until [`end`](Self::end) was called.
    pub(crate) async fn ended(&self) {
        match &self.answers {
            Answering::Lines(answers) if answers.lock().ending.is_none() => answers.ended.notified().await,
            _ => {}
        }
    }

    /// Waits for something to answer and appends it to `text`. True when it is the last.
    pub async fn next_answer(&self, text: &mut String) -> bool {
        let Answering::Lines(answers) = &self.answers else {
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

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Verdict {
    fn add(&mut self, decision: &Decision<'_>) {
        let room = MAX_REJECTS - self.rejects.len();
        let named = decision.rejects.len().min(room);
        let rejected = decision.rejects.len() as u64;
        let lines = u64::from(decision.lines);
        let duplicates = u64::from(decision.duplicates);
        let before = u32::try_from(self.lines).unwrap_or(u32::MAX);
        let over_all =
            |reject: &RejectedLine| RejectedLine { line: before.saturating_add(reject.line), ..reject.clone() };
        self.rejects.extend(decision.rejects[..named].iter().map(over_all));
        self.left_out += rejected - named as u64;
        self.lines += lines;
        self.rejected += rejected;
        self.duplicates += duplicates;
        self.accepted += lines - rejected - duplicates;
        self.last_sequence = self.last_sequence.max(decision.last_sequence);
    }
}

impl Slot {
    fn decided(&mut self, decision: &Decision<'_>) {
        let progress = &mut self.progress;
        let room = MAX_REJECTS - progress.rejects.len().min(MAX_REJECTS);
        let named = decision.rejects.len().min(room);
        let before = progress.durable;
        progress.rejects.extend(decision.rejects[..named].iter().map(|r| (before + u64::from(r.line) + 1, r.reason)));
        progress.left_out += (decision.rejects.len() - named) as u64;
        progress.rejected += decision.rejects.len() as u64;
        progress.duplicates += u64::from(decision.duplicates);
        progress.durable += u64::from(decision.lines);
        progress.sequence = progress.sequence.max(decision.last_sequence);
        self.changed = true;
    }

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
