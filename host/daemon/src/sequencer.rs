//! The sequencer: the one thread that decides and writes. It gives sequence numbers and arrival times, takes cuts, logs
//! everything as frames of one group commit each, and only then acknowledges and publishes. One frame is in flight.

mod kept;
mod retention;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tally_aggregate::{Barrier, BodyBuilder, Control, Counts, Flush, FlushPolicy, IdWindow, Note};
use tally_ingest::{Chunk, Counters, Decision, Producers, RejectedLine};
use tally_sink::{Rejected, RejectedCounts, RejectedFiles};
use tally_storage::RealStorage;
use tally_wal::{AppendError, Log};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::context::{Activation, Context, Token};
use crate::duplicates::Duplicates;
use crate::feed::Position;
use crate::parse::{Decoded, DecodedChunk, Job, Work};
use crate::progress::Progress;
use crate::reorder::{Received, Reorder};
use crate::tail::{Item, LiveFrame, Tail};
use kept::KeptLines;
use retention::Retention;

/// A frame takes no further job once its body has this many bytes.
const FRAME_BYTES: usize = 4 << 20;
/// One job takes at most about so many flushes.
const MOST_BARRIERS: u32 = 4096;
/// After so long without a frame an empty one is written: it proves the last one whole.
const IDLE: Duration = Duration::from_secs(1);
/// How often it is looked whether every total of an anchor is saved.
const ANCHOR_POLL: Duration = Duration::from_millis(100);

/// Between two tries to make a segment on a full disk.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(1);

/// What others may know of the log's end.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The last durable sequence.
    pub last_sequence: u64,
    /// The last durable frame.
    pub frame: u64,
    /// The last cut, its time (monotonic milliseconds) and its last sequence.
    pub cut: u64,
    /// When it was taken, monotonic milliseconds.
    pub cut_millis: u64,
    /// Sequence of the last event before the last cut.
    pub cut_sequence: u64,
    /// Number of the last flush.
    pub batch_id: u64,
    /// Cumulative counts.
    pub counts: Counts,
    /// Last arrival time.
    pub arrival: i64,
    /// Bytes of the log's segments.
    pub log_bytes: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Events in the open batch.
    pub open_events: u64,
    /// Flushes decided since the start, by reason.
    pub flushes: BTreeMap<String, u64>,
    /// What became of rejected lines since the start.
    pub rejected_lines: RejectedCounts,
}

/// See the module.
pub struct Sequencer {
    log: Log<RealStorage>,
    control: Control,
    clock: Clock,
    tail: Arc<Tail>,
    progress: Arc<Progress>,
    datagrams: Arc<Counters>,
    /// How many of the lines that it dropped are in the ledger.
    noted_drops: u64,
    producers: Arc<Producers>,
    rejected: RejectedFiles,
    rejected_bytes: u64,
    published: Arc<Mutex<Arc<Published>>>,
    duplicates: Duplicates,
    durability: Durability,
    /// When frames that are not durable yet have to be.
    sync_at: Option<Duration>,
    policy: FlushPolicy,
    retention: Retention,
    frame_bytes: usize,
    table_rows: u32,
    body: BodyBuilder,
    /// The control state before the frame being filled.
    before: Control,
    frame: OpenFrame,
    cut_millis: u64,
    flushes: BTreeMap<String, u64>,
    last_frame_at: Duration,
    closed_behind: bool,
}

/// The frame being filled.
#[derive(Default)]
struct OpenFrame {
    events: u32,
    /// Chunks and the last sequence given when they were decided.
    jobs: Vec<(Vec<DecodedChunk>, u64)>,
    touched: BTreeMap<Arc<str>, u64>,
    items: Vec<Item>,
    replies: Vec<(u64, oneshot::Sender<u64>)>,
    activated: Vec<(u64, mpsc::Sender<(Position, u64)>)>,
    quarantined: Vec<(String, u64, String)>,
    dirty: bool,
}

impl Sequencer {
    /// Takes over an opened log whose control state is `control`.
    pub fn new(
        context: &Context,
        log: Log<RealStorage>,
        control: Control,
        producers: Arc<Producers>,
        rejected: RejectedFiles,
        ids: IdWindow,
    ) -> Self {
        let config = &context.config;
        let mut policy = FlushPolicy::new(config.flush.events, millis(config.flush.interval));
        policy.add(control.last_sequence - control.flushed_sequence, context.clock.millis());
        let quarter = usize::try_from(config.log.segment_bytes / 4).unwrap_or(usize::MAX);
        Self {
            log,
            control,
            clock: context.clock,
            tail: context.tail.clone(),
            progress: context.progress.clone(),
            datagrams: context.datagrams.clone(),
            noted_drops: 0,
            producers,
            rejected,
            rejected_bytes: config.limits.rejected_bytes,
            published: context.published.clone(),
            duplicates: Duplicates::new(ids),
            durability: config.log.durability,
            sync_at: None,
            policy,
            retention: Retention { bytes: config.log.retain_bytes, age: config.log.retain_age },
            frame_bytes: FRAME_BYTES.min(quarter),
            table_rows: config.analytics.table_rows,
            body: BodyBuilder::default(),
            before: Control::default(),
            frame: OpenFrame::default(),
            cut_millis: 0,
            flushes: BTreeMap::new(),
            last_frame_at: context.clock.elapsed(),
            closed_behind: true,
        }
    }

    /// Writes that this daemon took over the log.
    pub fn begin(&mut self, note: &Note) -> anyhow::Result<()> {
        self.open_frame();
        self.body.note(note);
        self.control.note(note);
        self.frame.dirty = true;
        self.commit()
    }

    /// Runs until the parsers are gone, then writes the closing frame.
    pub fn run(mut self, jobs: &mpsc::Receiver<Job>) -> anyhow::Result<()> {
        let mut order = Reorder::default();
        loop {
            let timeout = self.until_next_deadline();
            match order.receive(jobs, timeout) {
                Received::Job(work) => {
                    self.open_frame();
                    self.add(work)?;
                    while self.body.bytes().len() < self.frame_bytes
                        && let Some(work) = order.try_receive(jobs)
                    {
                        self.add(work)?;
                    }
                }
                Received::Timeout => {}
                Received::Ended => break,
            }
            self.flush_when_due()?;
            self.anchor_when_ready()?;
            if self.frame.dirty {
                self.commit()?;
            }
            if self.sync_at.is_some_and(|at| self.clock.elapsed() >= at) {
                self.sync()?;
            }
            if !self.frame.dirty && !self.closed_behind && self.clock.elapsed() >= self.last_frame_at + IDLE {
                self.close_behind()?;
            }
        }
        if !self.closed_behind {
            self.close_behind()?;
        }
        self.tail.close();
        self.progress.ring();
        Ok(())
    }

    fn until_next_deadline(&self) -> Duration {
        let now = self.clock.elapsed();
        let flush = self.policy.deadline().map(Duration::from_millis);
        let idle = (!self.closed_behind).then(|| self.last_frame_at + IDLE);
        let anchor = self.control.asked_anchor.is_some().then(|| now + ANCHOR_POLL);
        let next = flush.into_iter().chain(idle).chain(anchor).chain(self.sync_at).min();
        next.map_or(Duration::from_secs(3600), |at| at.saturating_sub(now) + Duration::from_millis(1))
    }

    // --------------------------------------------------------------------------------------------- filling a frame

    /// Begins a frame, unless one has begun.
    fn open_frame(&mut self) {
        if !self.frame.dirty {
            self.body.clear();
            self.before = self.control.clone();
        }
    }

    /// Opens the next segment when the frame does not fit into this one any more. The opening is the state before the frame.
    fn make_room(&mut self) -> anyhow::Result<()> {
        if !self.log.needs_roll(self.body.bytes().len()) {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.before);
        before.producers = self.producers.snapshot().into_iter().map(|(id, lines)| (id.to_string(), lines)).collect();
        let mut opening = BodyBuilder::default();
        opening.opening(&before);
        for (arrival, ids) in self.duplicates.window().groups() {
            opening.ids(arrival, ids);
        }
        let rolled = loop {
            match self.log.roll(opening.bytes()) {
                // Nothing was written. Sources are not read once the queue is full; work resumes by itself.
                Err(AppendError::DiskFull { .. }) => {
                    tracing::error!(
                        "the disk is full: nothing is accepted until there is room for a segment of the log"
                    );
                    self.progress.update(|facts| facts.disk_full = true);
                    std::thread::sleep(DISK_FULL_PAUSE);
                }
                rolled => break rolled.map_err(stopped)?,
            }
        };
        self.progress.update(|facts| facts.disk_full = false);
        // What this frame decided about its own place has moved behind the opening.
        if let Some(asked) = self.control.asked_anchor.as_mut().filter(|asked| asked.frame == rolled.frame) {
            asked.frame += 1;
        }
        self.tail.publish(LiveFrame { number: rolled.frame, bytes: 64, items: Vec::new() });
        Ok(())
    }

    fn add(&mut self, work: Work) -> anyhow::Result<()> {
        self.frame.dirty = true;
        match work {
            Work::Events(decoded) => self.add_events(*decoded),
            Work::Token(Token::Cut { reason, flush, done }) => {
                // Of many who ask at the same time the first one's cut serves all.
                let is_cut = self.control.cut > 0 && self.control.cut_sequence == self.control.last_sequence;
                let cut = if is_cut && !flush { self.control.cut } else { self.barrier(reason, flush, None) };
                self.frame.replies.push((cut, done));
            }
            Work::Token(Token::Activate(activation)) => self.activate(*activation),
            Work::Token(Token::Configure(config)) => self.configure(&config),
            Work::Token(Token::Quarantine { name, after_cut, reason }) => {
                if self.control.plan.aggregators.contains_key(&name) {
                    let note = Note::Quarantined { name: name.clone(), after_cut, reason: reason.clone() };
                    self.body.note(&note);
                    self.control.note(&note);
                    self.frame.quarantined.push((name, after_cut, reason));
                }
            }
        }
        Ok(())
    }

    /// Takes on what a reload changed.
    fn configure(&mut self, config: &Config) {
        self.policy.set(config.flush.events, millis(config.flush.interval));
        if self.rejected_bytes != config.limits.rejected_bytes {
            match self.rejected.set_max_bytes(&config.data_dir, config.limits.rejected_bytes) {
                Ok(()) => self.rejected_bytes = config.limits.rejected_bytes,
                Err(error) => tracing::error!(%error, "limits.rejected_bytes stays as it was"),
            }
        }
    }

    fn add_events(&mut self, mut decoded: Decoded) {
        let arrival = self.control.arrival.max(self.clock.wall_micros());
        self.duplicates.take_out(&mut decoded, arrival);
        let Decoded { preset, chunks, mut batch, .. } = decoded;
        let preset = u16::try_from(preset).expect("presets are few");
        let first_sequence = self.control.last_sequence + 1;
        batch.stamp(first_sequence, arrival);
        let accepted = batch.accepted();
        self.note_drops();
        for chunk in &chunks {
            self.control.counts.received += u64::from(chunk.received - chunk.accepted);
            self.control.counts.duplicate += u64::from(chunk.duplicates);
            for reject in &chunk.rejects {
                self.control.counts.reject(reject.reason.as_str());
            }
            if let (Some(id), Some(lines)) = (chunk.chunk.stream.producer(), chunk.chunk.producer_lines) {
                self.frame.touched.insert(id.clone(), lines);
            }
        }
        let batch = Arc::new(batch);
        let mut lines = KeptLines::new(&chunks);
        // Barriers of one job are bounded, so that a frame is: with tiny batches under load some have a few more events.
        let least = (accepted / MOST_BARRIERS).max(1);
        let mut done = 0;
        while done < accepted {
            let room = u32::try_from(self.policy.room()).unwrap_or(u32::MAX).max(least);
            let take = room.min(accepted - done);
            self.body.events(arrival, preset, take, lines.take(take, done + take == accepted).into_iter());
            self.frame.items.push(Item::Events { batch: batch.clone(), rows: done..done + take, arrival });
            self.control.events(arrival, take);
            self.control.counts.received += u64::from(take);
            self.control.counts.accepted += u64::from(take);
            self.frame.events += take;
            self.policy.add(take.into(), self.clock.millis());
            done += take;
            if self.policy.room() == 0 {
                self.barrier("events", true, None);
            }
        }
        assert!(self.control.counts.balances(), "the ledger balances: {:?}", self.control.counts);
        let last_sequence = self.control.last_sequence;
        drop(lines);
        self.frame.jobs.push((chunks, last_sequence));
    }

    /// Takes what the source of datagrams has dropped into the ledger.
    fn note_drops(&mut self) {
        let dropped = self.datagrams.dropped_lines();
        self.control.counts.drop_unread("queue_full", dropped - std::mem::replace(&mut self.noted_drops, dropped));
    }

    fn flush_when_due(&mut self) -> anyhow::Result<()> {
        if let Some(reason) = self.policy.due(self.clock.millis()) {
            self.open_frame();
            self.frame.dirty = true;
            self.barrier(reason, true, None);
        }
        Ok(())
    }

    /// Puts a barrier behind everything so far and gives the number of its cut. Flushes have at least one event.
    fn barrier(&mut self, reason: &str, flush: bool, plan: Option<tally_aggregate::Plan>) -> u64 {
        self.note_drops();
        let control = &self.control;
        let at = control.arrival.max(self.clock.wall_micros());
        let flush = (flush && control.last_sequence > control.flushed_sequence).then(|| Flush {
            batch_id: control.batch_id + 1,
            from: control.flushed_at,
            to: at,
            first_sequence: control.flushed_sequence + 1,
            last_sequence: control.last_sequence,
            window: control.counts.since(&control.flushed_counts),
            total: control.counts.clone(),
            expected: control.expected(),
            quarantined: control.quarantined.iter().map(|(name, q)| (name.clone(), q.reason.clone())).collect(),
            table_rows: self.table_rows,
        });
        let anchor = flush.is_some() && self.wants_anchor();
        let barrier = Barrier {
            cut: control.cut + 1,
            reason: reason.to_owned(),
            at,
            last_sequence: control.last_sequence,
            flush,
            plan,
            anchor,
        };
        self.body.barrier(&barrier);
        self.control.barrier(self.log.next_frame(), &barrier);
        if barrier.flush.is_some() {
            *self.flushes.entry(barrier.reason.clone()).or_default() += 1;
            self.policy.flushed();
        }
        self.cut_millis = self.clock.millis();
        let cut = barrier.cut;
        self.frame.items.push(Item::Barrier(Arc::new(barrier)));
        cut
    }

    fn activate(&mut self, activation: Activation) {
        let Activation { mut plan, done, .. } = activation;
        let here = self.control.cut + 1;
        for attached in plan.aggregators.values_mut() {
            for cut in [&mut attached.attached_at, &mut attached.applies_after] {
                if *cut == Activation::HERE {
                    *cut = here;
                }
            }
        }
        let before = self.control.quarantined.clone();
        let cut = self.barrier("activation", false, Some(plan));
        for name in before.keys().filter(|name| !self.control.quarantined.contains_key(*name)) {
            self.frame.quarantined.retain(|(quarantined, ..)| quarantined != name);
            self.progress.update(|facts| facts.quarantined.remove(name));
        }
        self.frame.activated.push((cut, done));
    }

    // ------------------------------------------------------------------------------------------- making it durable

    fn commit(&mut self) -> anyhow::Result<()> {
        let frame = &mut self.frame;
        if !frame.touched.is_empty() {
            self.body.producers(frame.touched.iter().map(|(id, lines)| (&**id, *lines)));
        }
        if self.control.counts != self.before.counts {
            self.body.counts(&self.control.counts);
        }
        if !self.duplicates.fresh().is_empty() {
            self.body.ids(self.control.arrival, self.duplicates.fresh().iter().copied());
        }
        self.make_room()?;
        let appended = self.log.append(self.frame.events, self.body.bytes()).map_err(stopped)?;
        // What is saved behind a barrier must never be ahead of what is durable, nor a record that leaves somebody out.
        let quarantines = !self.frame.quarantined.is_empty();
        if quarantines || self.frame.items.iter().any(|item| matches!(item, Item::Barrier(_))) {
            self.sync()?;
        } else if let (Durability::Interval(interval), None) = (self.durability, self.sync_at) {
            self.sync_at = self.log.unsynced().then(|| self.clock.elapsed() + interval);
        }
        self.control.frame = appended.frame;
        self.duplicates.remember(self.control.arrival);
        self.last_frame_at = self.clock.elapsed();
        self.closed_behind = false;
        let frame = std::mem::take(&mut self.frame);
        // Durable. First those who wait for exactly this, then the followers; but whoever has an answer and asks finds
        // in every count what it was answered.
        for (chunks, _) in &frame.jobs {
            self.keep_rejected(chunks);
        }
        let published = self.publish_facts();
        for (id, lines) in &frame.touched {
            self.producers.durable(id, *lines);
        }
        for (chunks, last_sequence) in &frame.jobs {
            self.acknowledge(chunks, *last_sequence);
        }
        for (name, after_cut, reason) in frame.quarantined {
            self.progress.update(|facts| facts.quarantined.insert(name, (after_cut, reason)));
        }
        let bytes = self.body.bytes().len() * 2 + 256;
        self.tail.publish(LiveFrame { number: appended.frame, bytes, items: frame.items });
        for (cut, done) in frame.replies {
            // Whoever asked may have given up waiting.
            let _ = done.send(cut);
        }
        for (cut, done) in frame.activated {
            let position = Position { frame: appended.frame, cut };
            let _ = done.send((position, published.cut_sequence));
        }
        Ok(())
    }

    fn keep_rejected(&self, chunks: &[DecodedChunk]) {
        for chunk in chunks {
            let DecodedChunk { chunk: Chunk { stream, first_line, .. }, rejects, .. } = chunk;
            for reject in rejects {
                let bytes = &chunk.bytes()[reject.span.clone()];
                self.rejected.append(&Rejected {
                    time_micros: self.control.arrival,
                    source: stream.source(),
                    line: first_line + u64::from(reject.line),
                    reason: reject.reason.as_str(),
                    detail: &reject.detail,
                    bytes,
                    length: bytes.len() as u64,
                });
            }
        }
    }

    fn acknowledge(&self, chunks: &[DecodedChunk], last_sequence: u64) {
        for chunk in chunks {
            let DecodedChunk { chunk: Chunk { stream, lines, .. }, duplicates, rejects, .. } = chunk;
            let rejected = rejects.iter().map(|reject| RejectedLine {
                line: reject.line,
                reason: reject.reason.as_str(),
                field: reject.field.clone(),
                detail: reject.detail.clone(),
            });
            let rejected: Vec<RejectedLine> = rejected.collect();
            stream.decided(&Decision { lines: *lines, duplicates: *duplicates, last_sequence, rejects: &rejected });
        }
    }

    fn publish_facts(&self) -> Arc<Published> {
        let segments = self.log.segments();
        let published = Arc::new(Published {
            last_sequence: self.control.last_sequence,
            frame: self.control.frame,
            cut: self.control.cut,
            cut_millis: self.cut_millis,
            cut_sequence: self.control.cut_sequence,
            batch_id: self.control.batch_id,
            counts: self.control.counts.clone(),
            arrival: self.control.arrival,
            log_bytes: segments.iter().map(|segment| segment.bytes).sum(),
            segments: segments.len() as u64,
            open_events: self.policy.open_events(),
            flushes: self.flushes.clone(),
            rejected_lines: self.rejected.counts(),
        });
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published.clone();
        published
    }

    /// Makes everything durable that was written; of use only where not every frame is synced.
    fn sync(&mut self) -> anyhow::Result<()> {
        self.sync_at = None;
        self.log.sync().map_err(stopped)
    }

    /// An empty frame behind the last one, so that rot in that one would be noticed.
    fn close_behind(&mut self) -> anyhow::Result<()> {
        self.sync()?;
        self.open_frame();
        self.make_room()?;
        let appended = self.log.append(0, &[]).map_err(stopped)?;
        self.control.frame = appended.frame;
        self.closed_behind = true;
        self.publish_facts();
        self.tail.publish(LiveFrame { number: appended.frame, bytes: 64, items: Vec::new() });
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn stopped(error: AppendError) -> anyhow::Error {
    anyhow::Error::from(error).context("writing the log; nothing more is acknowledged")
}
