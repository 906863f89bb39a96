//! Parser threads: where there is much to do, each takes the next job off the queue, decodes it by the plan in force at that place, and hands it to
//! the sequencer, whose [`Intake`] puts the jobs back in order by number. While there is little to do, the sequencer decodes for itself: lines that
//! trickle in wake no parser, and what came while a frame was written goes into the next.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tally_event::batch::Batch;
use tally_event::decode::{Decoder, EventId, Mode, Pushed, Reject, RejectReason};
use tally_event::plan::Plan;
use tally_ingest::{Body, Chunk, Closed, Popped, Queue, Refusal};

use crate::context::Token;
use crate::reorder::Reorder;

/// Bytes that one job takes off the queue at most (a single longer chunk goes alone). About 4,096 events of 125 bytes:
/// large enough that a call per batch costs nothing, small enough that its columns stay in the cache. By default no plugin is given
/// a job of usual lines in pieces (`limits.batch_rows`), since each would come with the dictionaries of the whole.
const JOB_BYTES: usize = 512 * 1024;

/// Decoded chunks, or a token, with their place in the queue.
pub struct Job {
    /// Dense from 1.
    pub number: u64,
    /// What it is.
    pub work: Work,
}

/// See [`Job`].
pub enum Work {
    /// Decoded chunks.
    Events(Box<Decoded>),
    /// A decision that is asked for.
    Token(Token),
}

/// Chunks of one preset and the batch that they became.
pub struct Decoded {
    /// Index of the preset.
    pub preset: usize,
    /// By what they were decoded.
    pub plan: Arc<Plan>,
    /// The chunks, whose bytes go into the log and whose streams get verdicts.
    pub chunks: Vec<DecodedChunk>,
    /// Their accepted events.
    pub batch: Batch,
}

/// A chunk and what became of its lines.
pub struct DecodedChunk {
    /// The chunk.
    pub chunk: Chunk,
    /// Events received.
    pub received: u32,
    /// Events accepted.
    pub accepted: u32,
    /// Events seen before.
    pub duplicates: u32,
    /// What is wrong with the others.
    pub rejects: Vec<Reject>,
    /// Accepted events that have an id.
    pub ids: Vec<EventId>,
    /// Byte ranges of the body that are not logged.
    pub removed: Vec<Range<usize>>,
}

/// What parsers and sequencer share: the queue, and the plan in force at its front.
struct Front {
    queue: Arc<Queue<Token>>,
    plan: Mutex<Arc<Plan>>,
}

impl Front {
    /// Taking a job and learning the plan in force at its place are one step, since an activation changes the plan for every job behind it.
    fn take<E>(
        &self,
        pop: impl FnOnce(&Queue<Token>) -> Result<Option<(u64, Popped<Token>)>, E>,
    ) -> Result<Option<Taken>, E> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((number, popped)) = pop(&self.queue)? else { return Ok(None) };
        if let Popped::Control(Token::Activate(activation)) = &popped {
            *plan = activation.decoding.clone();
        }
        Ok(Some(Taken { number, popped, plan: plan.clone() }))
    }
}

/// A job as it came off the queue, with the plan in force at its place.
struct Taken {
    number: u64,
    popped: Popped<Token>,
    plan: Arc<Plan>,
}

/// The sequencer's end, and `count` parsers.
pub fn begin(queue: &Arc<Queue<Token>>, plan: Arc<Plan>, count: usize) -> (Intake, Vec<Parser>) {
    let (to_sequencer, parsed) = mpsc::sync_channel(2 * count);
    let front = Arc::new(Front { queue: queue.clone(), plan: Mutex::new(plan) });
    let intake = Intake { front: front.clone(), parsed, decoding: Decoding::default(), order: Reorder::default() };
    let parser = |(front, to_sequencer)| Parser { front, to_sequencer, decoding: Decoding::default(), taken: None };
    let parsers = std::iter::repeat_n((front, to_sequencer), count).map(parser);
    (intake, parsers.collect())
}

/// Decodes where there is much to do, one job after the other.
pub struct Parser {
    front: Arc<Front>,
    to_sequencer: mpsc::SyncSender<Job>,
    decoding: Decoding,
    taken: Option<Taken>,
}

impl Parser {
    /// What its thread does, until the queue is closed and there is not much in it.
    pub fn run(mut self) {
        while let Ok(has_job) = self.take() {
            if !has_job {
                self.front.queue.wait_for_much();
            } else if !self.hand_over() {
                break;
            }
        }
        let Self { front, to_sequencer, .. } = self;
        // Whoever is rung finds that it is gone.
        drop(to_sequencer);
        front.queue.ring();
    }

    /// Takes the next job off the queue, if there is much and it has none. Whether it has one now.
    ///
    /// # Errors
    /// It has none, and there will not be any.
    pub fn take(&mut self) -> Result<bool, Closed> {
        if self.taken.is_none() {
            self.taken = self.front.take(|queue| queue.pop_of_much(JOB_BYTES))?;
        }
        Ok(self.taken.is_some())
    }

    /// Whether it has a job.
    pub fn has_job(&self) -> bool {
        self.taken.is_some()
    }

    /// Decodes the job that it has, and waits until the sequencer takes it. False when nobody takes anything any more.
    pub fn hand_over(&mut self) -> bool {
        let Some(job) = self.taken.take().and_then(|taken| self.decoding.decode(taken)) else { return false };
        let is_taken = self.to_sequencer.send(job).is_ok();
        self.front.queue.ring();
        is_taken
    }
}

/// The sequencer's end: the parsers' jobs in order, and between them those that it decodes itself.
pub struct Intake {
    front: Arc<Front>,
    parsed: mpsc::Receiver<Job>,
    decoding: Decoding,
    order: Reorder,
}

impl Intake {
    /// The next work, if it is there.
    pub fn peek(&mut self) -> Option<&Work> {
        while let Ok(job) = self.parsed.try_recv() {
            self.order.take(job);
        }
        if self.order.peek().is_none() {
            let number = self.order.next();
            let pop = |queue: &Queue<Token>| queue.pop_of_little(number, JOB_BYTES).map(|popped| (number, popped));
            let Ok(taken) = self.front.take(|queue| Ok::<_, Infallible>(pop(queue)));
            if let Some(job) = taken.and_then(|taken| self.decoding.decode(taken)) {
                self.order.take(job);
            }
        }
        self.order.peek()
    }

    /// Takes out what [`Intake::peek`] showed.
    pub fn pop(&mut self) -> Option<Work> {
        self.order.pop()
    }

    /// Whether there will not be any work any more.
    pub fn is_over(&mut self) -> bool {
        match self.parsed.try_recv() {
            Ok(job) => {
                self.order.take(job);
                false
            }
            Err(TryRecvError::Disconnected) => self.order.peek().is_none() && self.front.queue.is_drained(),
            Err(TryRecvError::Empty) => false,
        }
    }

    /// Waits until there may be work, at most so long. False when there will not be any more.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        if self.is_over() {
            return false;
        }
        if self.order.peek().is_none() {
            self.front.queue.wait_for_little(self.order.next(), timeout);
        }
        true
    }
}

impl Drop for Intake {
    /// Nothing is decided any more: whoever waits for a decision, or means to, learns it.
    fn drop(&mut self) {
        self.front.queue.close();
        while !matches!(self.front.queue.pop(JOB_BYTES), Popped::Closed) {}
    }
}

/// Decodes jobs, one after the other.
#[derive(Default)]
struct Decoding {
    decoder: Option<(Arc<Plan>, Decoder)>,
}

impl Decoding {
    /// Decodes what was taken; none when the queue is closed and empty.
    fn decode(&mut self, Taken { number, popped, plan }: Taken) -> Option<Job> {
        let work = match popped {
            Popped::Closed => return None,
            Popped::Control(token) => Work::Token(token),
            Popped::Chunks(chunks) => {
                if !self.decoder.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, &plan)) {
                    self.decoder = Some((plan.clone(), Decoder::new(plan.clone())));
                }
                let Some((_, decoder)) = &mut self.decoder else { unreachable!("made above") };
                Work::Events(Box::new(decode(decoder, plan, chunks)))
            }
        };
        Some(Job { number, work })
    }
}

fn decode(decoder: &mut Decoder, plan: Arc<Plan>, chunks: Vec<Chunk>) -> Decoded {
    let preset = chunks.first().map_or(0, |chunk| chunk.preset);
    let chunks = chunks.into_iter().map(|chunk| decode_chunk(decoder, chunk)).collect();
    Decoded { preset, plan, chunks, batch: decoder.finish() }
}

fn decode_chunk(decoder: &mut Decoder, chunk: Chunk) -> DecodedChunk {
    match &chunk.body {
        Body::Lines(bytes) => {
            let Pushed { lines, received, accepted, rejects, removed, ids } =
                decoder.push(chunk.preset, bytes, Mode::Admit);
            assert_eq!(lines, chunk.lines, "framing and decoding agree on what a line is");
            DecodedChunk { chunk, received, accepted, duplicates: 0, rejects, ids, removed }
        }
        Body::Refused { refusal, prefix } => {
            let (reason, detail) = match refusal {
                Refusal::TooLong { length } => (RejectReason::LineTooLong, format!("the line has {length} bytes")),
                Refusal::Encoding { detail } => (RejectReason::InvalidEncoding, detail.clone()),
                Refusal::Malformed { detail } => (RejectReason::InvalidJson, detail.clone()),
            };
            let rejects = vec![Reject { line: 0, reason, field: None, detail, span: 0..prefix.len() }];
            DecodedChunk {
                chunk,
                received: 1,
                accepted: 0,
                duplicates: 0,
                rejects,
                ids: Vec::new(),
                removed: Vec::new(),
            }
        }
    }
}

impl DecodedChunk {
    /// The bytes that the rejects' ranges refer to.
    pub fn bytes(&self) -> &[u8] {
        match &self.chunk.body {
            Body::Lines(bytes) => bytes,
            Body::Refused { prefix, .. } => prefix,
        }
    }

    /// What goes into the log: the accepted lines, in order, as few slices.
    pub fn kept(&self) -> impl Iterator<Item = &[u8]> {
        let bytes: &[u8] = match &self.chunk.body {
            Body::Lines(bytes) => bytes,
            Body::Refused { .. } => &[],
        };
        let ends = self.removed.iter().map(|r| r.start).chain([bytes.len()]);
        let starts = [0].into_iter().chain(self.removed.iter().map(|r| r.end));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| &bytes[start..end])
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tally_event::plan::Limits;
    use tally_event::schema::Preset;
    use tally_ingest::Stream;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_decision_learns_that_there_will_be_none() {
        let queue = Queue::new(1 << 20);
        let plan = Plan::new(vec![], vec![Preset::default()], Limits::default()).expect("a plan");
        let (intake, parsers) = begin(&queue, Arc::new(plan), 1);
        let ask = || {
            let (done, decided) = oneshot::channel();
            queue.push_control(Token::Cut { reason: "test", flush: false, done });
            decided
        };
        let before = ask();
        drop(intake);
        before.await.expect_err("nobody decides");
        ask().await.expect_err("nobody will decide");
        parsers.into_iter().for_each(Parser::run);
    }

    /// Little and much by turns, tokens between, through two parsers: everything comes out once, in order, and then it ends.
    #[test]
    fn work_comes_in_the_order_of_the_queue() {
        const CHUNKS: u64 = 2000;
        let queue = Queue::new(1 << 20);
        let plan = Plan::new(vec![], vec![Preset::default()], Limits::default()).expect("a plan");
        let (mut intake, parsers) = begin(&queue, Arc::new(plan), 2);
        let parsers: Vec<_> = parsers.into_iter().map(|parser| thread::spawn(|| parser.run())).collect();
        let feeder = thread::spawn({
            let queue = queue.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
                let stream = Stream::plain("test".into(), "#1".into());
                for number in 0..CHUNKS {
                    if number % 97 == 0 {
                        let (done, _) = oneshot::channel();
                        queue.push_control(Token::Cut { reason: "test", flush: false, done });
                    }
                    let lines = if number / 100 % 2 == 0 { 1 } else { number as u32 * 7 % 1000 };
                    let body = b"{\"type\":\"a\"}\n".repeat(lines as usize);
                    let permit = runtime.block_on(queue.reserve(body.len())).expect("open");
                    let mut chunk = Chunk::new(Body::Lines(body), lines, 0, stream.clone(), permit);
                    chunk.first_line = number;
                    queue.push(chunk);
                    if number % 50 == 0 {
                        thread::yield_now();
                    }
                }
                queue.close();
            }
        });
        let (mut chunks, mut tokens) = (0, 0);
        loop {
            while intake.peek().is_some() {
                match intake.pop().expect("it was shown") {
                    Work::Token(_) => {
                        tokens += 1;
                        assert_eq!(chunks, (tokens - 1) * 97, "a token is at its place");
                    }
                    Work::Events(decoded) => {
                        for decoded in &decoded.chunks {
                            assert_eq!(decoded.chunk.first_line, chunks);
                            assert_eq!(decoded.received, decoded.chunk.lines);
                            chunks += 1;
                        }
                    }
                }
            }
            if !intake.wait(Duration::from_secs(3600)) {
                break;
            }
        }
        assert_eq!((chunks, tokens), (CHUNKS, CHUNKS.div_ceil(97)));
        parsers.into_iter().chain([feeder]).for_each(|thread| thread.join().expect("no panic"));
    }
}
