//! Parser threads: each takes the next job off the queue, decodes it by the plan in force at that place, and hands it to
//! the sequencer, which puts the jobs back in order by number.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use anyhow::Context as _;
use tally_event::batch::Batch;
use tally_event::decode::{Decoder, EventId, Mode, Pushed, Reject, RejectReason};
use tally_event::plan::Plan;
use tally_ingest::{Body, Chunk, Popped, Queue, Refusal};

use crate::context::Token;

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

/// Starts `count` parser threads. They end, and with them the returned channel, when the queue is closed and empty.
pub fn spawn(
    queue: &Arc<Queue<Token>>,
    plan: Arc<Plan>,
    count: usize,
) -> anyhow::Result<(mpsc::Receiver<Job>, Vec<JoinHandle<()>>)> {
    let (to_sequencer, jobs) = mpsc::sync_channel(2 * count);
    let plan = Arc::new(Mutex::new(plan));
    let threads = (0..count)
        .map(|i| {
            let (queue, plan, to_sequencer) = (queue.clone(), plan.clone(), to_sequencer.clone());
            std::thread::Builder::new()
                .name(format!("parser-{i}"))
                .spawn(move || run(&queue, &plan, &to_sequencer))
                .context("starting a parser thread")
        })
        .collect::<Result<_, _>>()?;
    Ok((jobs, threads))
}

fn run(queue: &Queue<Token>, plan: &Mutex<Arc<Plan>>, to_sequencer: &mpsc::SyncSender<Job>) {
    let mut parser = Parser::default();
    loop {
        // The lock is held while waiting, on purpose: taking a job and learning the plan in force at its place are one
        // step, and an activation changes the plan for every job behind it. Other parsers have nothing to do meanwhile.
        let popped = take(queue, &mut plan.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(job) = parser.parse(popped) else { return };
        if to_sequencer.send(job).is_err() {
            return;
        }
    }
}

/// A job as it came off the queue, with the plan in force at its place.
pub struct Taken {
    number: u64,
    popped: Popped<Token>,
    plan: Arc<Plan>,
}

/// Waits for the next job of the queue. `current` is the plan in force there, and what follows an activation gets its plan.
pub fn take(queue: &Queue<Token>, current: &mut Arc<Plan>) -> Taken {
    let (number, popped) = queue.pop_numbered(JOB_BYTES);
    if let Popped::Control(Token::Activate(activation)) = &popped {
        *current = activation.decoding.clone();
    }
    Taken { number, popped, plan: current.clone() }
}

/// Decodes jobs, one after the other.
#[derive(Default)]
pub struct Parser {
    decoder: Option<(Arc<Plan>, Decoder)>,
}

impl Parser {
    /// Decodes what was taken; none when the queue is closed and empty.
    pub fn parse(&mut self, Taken { number, popped, plan }: Taken) -> Option<Job> {
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
