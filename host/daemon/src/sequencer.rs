//! The sequencer: the one who decides and writes. It gives sequence numbers and arrival times, takes cuts, logs everything as
//! frames of one group commit each, and only then acknowledges and publishes. One frame is in flight. A state machine that
//! never waits; [`run()`] gives it a thread. Must not know: sockets, plugins, who follows the log.

mod commit;
mod kept;
mod retention;
mod run;
mod time;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tally_aggregate::{Barrier, BodyBuilder, Control, Counts, Flush, FlushPolicy, IdWindow, Note, Skip};
use tally_ingest::{Counters, Producers};
use tally_sink::{RejectedCounts, RejectedFiles};
use tally_storage::Storage;
use tally_wal::Log;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::context::{Activation, Context, Token};
use crate::duplicates::Duplicates;
use crate::feed::Position;
use crate::parse::{Decoded, DecodedChunk, Work};
use crate::progress::Progress;
use crate::tail::{Item, Tail};
use kept::KeptLines;
use retention::Retention;
use time::LogTime;

pub use run::run;

/// A frame takes no further job once its body has this many bytes.
const FRAME_BYTES: usize = 4 << 20;
/// About what a frame says beside its events.
const DECISIONS: usize = 16 << 10;
/// One job takes at most about so many flushes.
const MOST_BARRIERS: u32 = 4096;
/// After so long without a frame an empty one is written: it proves the last one whole.
const IDLE: Duration = Duration::from_secs(1);
/// How often an anchor is asked for while the log has no room.
const ANCHOR_FOR_ROOM: Duration = Duration::from_secs(2);
/// How often it is looked whether every total of an anchor is saved.
const ANCHOR_POLL: Duration = Duration::from_millis(100);

/// How far [`Sequencer::settle`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// Everything that is due is done.
    Done,
    /// There is no room for the next segment: nothing was written, and nothing is taken until another try succeeds.
    DiskFull,
}

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
pub struct Sequencer<S: Storage> {
    log: Log<S>,
    control: Control,
    clock: Clock,
    time: LogTime,
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
    /// The log had no room at the last try.
    lacks_room: bool,
    /// When it may ask for an anchor again because of that.
    anchor_for_room_at: Duration,
}

/// The frame being filled.
#[derive(Default)]
struct OpenFrame {
    events: u32,
    /// Chunks and the last sequence given when they were decided.
    jobs: Vec<(Vec<DecodedChunk>, u64)>,
    touched: BTreeMap<Arc<str>, u64>,
    items: Vec<Item>,
    /// Bytes of memory that their batches hold.
    held: usize,
    replies: Vec<(u64, oneshot::Sender<u64>)>,
    activated: Vec<(u64, mpsc::Sender<(Position, u64)>)>,
    quarantined: Vec<(String, u64, String)>,
    /// Somebody waits for a skip to be durable.
    skipped: bool,
    /// Segments before this frame may go once this frame is durable.
    let_go: Option<u64>,
    dirty: bool,
    /// The body is complete: all that is left is to write it.
    complete: bool,
}

impl<S: Storage> Sequencer<S> {
    /// Takes over an opened log whose control state is `control`.
    pub fn new(
        context: &Context<S>,
        log: Log<S>,
        mut control: Control,
        producers: Arc<Producers>,
        rejected: RejectedFiles,
        ids: IdWindow,
    ) -> Self {
        let config = &context.config;
        // Producers are remembered in `producers`: here they would only be copied with every frame.
        control.producers.clear();
        let mut policy = FlushPolicy::new(config.flush.events, millis(config.flush.interval));
        policy.add(control.last_sequence - control.flushed_sequence, context.clock.millis());
        let mut time = LogTime::default();
        time.now(control.arrival, &context.clock);
        let quarter = usize::try_from(config.log.segment_bytes / 4).unwrap_or(usize::MAX);
        Self {
            log,
            control,
            clock: context.clock.clone(),
            time,
            tail: context.tail.clone(),
            progress: context.progress.clone(),
            datagrams: context.datagrams.clone(),
            noted_drops: 0,
            producers,
            rejected,
            rejected_bytes: config.limits.rejected_bytes,
            published: context.published.clone(),
            duplicates: Duplicates::new(ids, context.clock.elapsed()),
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
            lacks_room: false,
            anchor_for_room_at: Duration::ZERO,
        }
    }

    /// Decides a note, which the next [`Sequencer::settle`] writes.
    pub fn note(&mut self, note: &Note) {
        self.open_frame();
        self.body.note(note);
        self.control.note(note);
    }

    /// Makes sure that the log has room for this work. What lets segments of the log go is decided in small frames between the large ones,
    /// so none is begun that might have to wait: those behind it would wait too.
    pub fn reserve(&mut self, work: &Work) -> anyhow::Result<Settled> {
        let Work::Events(decoded) = work else { return Ok(Settled::Done) };
        let bytes: usize = decoded.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
        self.reserve_bytes(self.body.bytes().len() + bytes + bytes / 2 + DECISIONS)
    }

    /// Takes work into the frame being filled.
    pub fn add(&mut self, work: Work) {
        assert!(!self.frame.complete, "work is added only when everything is settled");
        self.open_frame();
        match work {
            Work::Events(decoded) => self.add_events(*decoded),
            Work::Token(token) => self.add_token(token),
        }
    }

    /// Whether the frame being filled should take no more.
    pub fn is_full(&self) -> bool {
        self.frame.dirty && self.body.bytes().len() >= self.frame_bytes
    }

    /// Does what is due: a flush whose time has come, the frame that was filled, an anchor, a sync, a closing frame.
    pub fn settle(&mut self) -> anyhow::Result<Settled> {
        if !self.frame.complete {
            self.flush_when_due();
            if self.frame.dirty && self.commit()? == Settled::DiskFull {
                return Ok(Settled::DiskFull);
            }
            self.anchor_when_ready();
            self.anchor_for_room();
        }
        if self.frame.dirty && self.commit()? == Settled::DiskFull {
            return Ok(Settled::DiskFull);
        }
        if self.sync_at.is_some_and(|at| self.clock.elapsed() >= at) {
            self.sync()?;
        }
        if !self.closed_behind && self.clock.elapsed() >= self.last_frame_at + IDLE {
            return self.close_behind();
        }
        Ok(Settled::Done)
    }

    /// Writes the closing frame, once no more work comes and everything is settled.
    pub fn finish(&mut self) -> anyhow::Result<Settled> {
        if !self.closed_behind && self.close_behind()? == Settled::DiskFull {
            return Ok(Settled::DiskFull);
        }
        self.tail.close();
        self.progress.ring();
        Ok(Settled::Done)
    }

    /// For how long nothing is due, if nothing comes.
    pub fn quiet_for(&self) -> Duration {
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
            self.body.begin(|bytes| self.log.begin(bytes));
            self.note_before();
            self.frame.dirty = true;
        }
    }

    /// Keeps the state before a frame: should the frame begin a segment, that is its opening.
    fn note_before(&mut self) {
        self.before = self.control.copy_over(std::mem::take(&mut self.before));
    }

    fn add_token(&mut self, token: Token) {
        match token {
            Token::Cut { reason, flush, done } => {
                // Of many who ask at the same time the first one's cut serves all.
                let is_cut = self.control.cut > 0 && self.control.cut_sequence == self.control.last_sequence;
                let cut = if is_cut && !flush { self.control.cut } else { self.barrier(reason, flush, None) };
                self.frame.replies.push((cut, done));
            }
            Token::Activate(activation) => self.activate(*activation),
            Token::Configure(config) => self.configure(&config),
            Token::Skip(skip) => {
                let at = self.time.now(self.control.arrival, &self.clock);
                let note = Note::Skipped(Skip { at, ..*skip });
                self.body.note(&note);
                self.control.note(&note);
                self.frame.skipped = true;
            }
            Token::Quarantine { name, after_cut, reason } => {
                let Control { plan, detached, .. } = &self.control;
                if plan.aggregators.contains_key(&name) || detached.contains_key(&name) {
                    let note = Note::Quarantined { name: name.clone(), after_cut, reason: reason.clone() };
                    self.body.note(&note);
                    self.control.note(&note);
                    self.frame.quarantined.push((name, after_cut, reason));
                }
            }
        }
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
        let arrival = self.time.now(self.control.arrival, &self.clock);
        self.duplicates.take_out(&mut decoded, self.clock.elapsed());
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
        self.frame.held += batch.memory_bytes();
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

    fn flush_when_due(&mut self) {
        if let Some(reason) = self.policy.due(self.clock.millis()) {
            self.open_frame();
            self.barrier(reason, true, None);
        }
    }

    /// Puts a barrier behind everything so far and gives the number of its cut. Flushes have at least one event.
    fn barrier(&mut self, reason: &str, flush: bool, plan: Option<tally_aggregate::Plan>) -> u64 {
        self.note_drops();
        let at = self.time.now(self.control.arrival, &self.clock);
        let control = &self.control;
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
        // Anchors stand where no window is open, and what is saved at one is of the plugins that also go on from there.
        let is_flushed =
            flush.is_some() || (self.lacks_room && plan.is_none() && control.last_sequence == control.flushed_sequence);
        let anchor = is_flushed && self.wants_anchor();
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
            attached.settle(here);
        }
        let cut = self.barrier("activation", false, Some(plan));
        // Of those who are attached anew a quarantine is over; of those who are gone a record may still have to say it.
        let Control { plan, quarantined, .. } = &self.control;
        let is_over = |name: &String| plan.aggregators.contains_key(name) && !quarantined.contains_key(name);
        self.frame.quarantined.retain(|(name, ..)| !is_over(name));
        self.progress.update(|facts| facts.quarantined.retain(|name, _| !is_over(name)));
        self.frame.activated.push((cut, done));
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
