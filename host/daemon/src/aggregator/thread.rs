//! Runs an aggregator in the daemon: the apply thread follows the log, the total thread takes what it saves. A failing
//! call is retried once from the last cut in a new store; a second failure before the next cut is quarantine.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tally_aggregate::{AggregatorLedger, Attached, Barrier};
use tally_event::plan::Subscriber;
use tally_event::schema::Preset;
use tally_event::table::{Question, Table};
use tally_plugin::{CallError, Configured};
use tokio::sync::oneshot;

use super::apply::{Apply, Delta};
use super::meta::Meta;
use super::meter::Meter;
use super::total::{Failure, Total};
use crate::context::{Context, Token};
use crate::feed::{Feed, Position, Step};

/// Deltas that may wait for the total thread before the apply thread does.
const WAITING_DELTAS: usize = 4;

/// What a total thread is told.
pub enum TotalMessage {
    /// The apply side has saved a delta.
    Cut(Box<SavedCut>),
    /// The apply side has failed twice.
    Quarantine(String),
    /// Somebody asks.
    Ask(Question, oneshot::Sender<Result<Answer, String>>),
}

/// What the apply side hands over at a cut.
pub struct SavedCut {
    /// The frame that holds the cut.
    frame: u64,
    /// The cut.
    barrier: Arc<Barrier>,
    /// What was saved.
    delta: Delta,
    /// The version that goes on from here, when it changes.
    swap: Option<(Configured, Attached)>,
}

/// An answer, as of the last saved cut.
pub struct Answer {
    /// What is saved.
    pub meta: Meta,
    /// The report.
    pub tables: Vec<Table>,
}

/// Where an aggregator starts in the log.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub name: String,
    /// What runs at its position.
    pub attached: Attached,
    /// What it has saved, or its empty beginning.
    pub meta: Meta,
    /// How lines are read at its position.
    pub presets: Vec<Preset>,
}

/// The two threads of an aggregator.
pub struct Threads {
    /// Ends when the aggregator is detached, quarantined or the log ends.
    pub apply: JoinHandle<()>,
    /// Ends after it, once nobody can ask any more.
    pub total: JoinHandle<()>,
}

/// Starts both threads.
pub fn spawn(context: &Arc<Context>, start: Start) -> anyhow::Result<Threads> {
    let (to_total, inbox) = mpsc::sync_channel(WAITING_DELTAS);
    context
        .totals
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(start.name.clone(), to_total.clone());
    let named = |what: &str| std::thread::Builder::new().name(format!("{what}-{}", start.name));
    let (shared, begin) = (context.clone(), start.clone());
    let total = named("total").spawn(move || run_total(&shared, begin, &inbox)).context("starting a thread")?;
    let (shared, begin) = (context.clone(), start.clone());
    let apply = named("apply").spawn(move || run_apply(&shared, begin, &to_total)).context("starting a thread")?;
    Ok(Threads { apply, total })
}

// ---------------------------------------------------------------------------------------------------------- apply side

enum Stopped {
    /// Detached, or the log has ended.
    Ended,
    Call(CallError),
    Fatal(anyhow::Error),
}

impl From<super::apply::Failed> for Stopped {
    fn from(failed: super::apply::Failed) -> Self {
        Self::Call(failed.error)
    }
}

impl From<CallError> for Stopped {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

/// Everything needed to begin again at the last cut.
#[derive(Clone)]
struct Checkpoint {
    position: Position,
    attached: Attached,
    ledger: AggregatorLedger,
    watermark: Option<i64>,
    presets: Vec<Preset>,
}

struct Follower<'a> {
    context: &'a Context,
    name: Arc<str>,
    to_total: &'a mpsc::SyncSender<TotalMessage>,
    meter: Arc<Meter>,
    feed: Feed,
    apply: Apply,
    last: Checkpoint,
    failed_since_cut: bool,
}

fn run_apply(context: &Arc<Context>, start: Start, to_total: &mpsc::SyncSender<TotalMessage>) {
    let name = start.name.clone();
    let quarantine = |reason: String| {
        tracing::error!(aggregator = name, reason, "quarantined");
        // When the total thread is gone it has failed itself and said so.
        let _ = to_total.send(TotalMessage::Quarantine(reason));
    };
    let mut follower = match Follower::new(context, start, to_total) {
        Ok(follower) => follower,
        Err(error) => return quarantine(format!("{error:#}")),
    };
    loop {
        match follower.step() {
            Ok(()) => {}
            Err(Stopped::Ended) => return,
            Err(Stopped::Fatal(error)) => {
                return context.fatal.stop(error.context(format!("aggregator {name} follows the log")));
            }
            Err(Stopped::Call(error)) if follower.failed_since_cut => return quarantine(error.to_string()),
            Err(Stopped::Call(error)) => {
                tracing::warn!(aggregator = name, %error, cut = follower.last.position.cut, "retrying from the last cut");
                if let Err(error) = follower.begin_again() {
                    return quarantine(format!("{error:#}"));
                }
            }
        }
    }
}

impl<'a> Follower<'a> {
    fn new(context: &'a Context, start: Start, to_total: &'a mpsc::SyncSender<TotalMessage>) -> anyhow::Result<Self> {
        let last = Checkpoint {
            position: start.meta.position(),
            attached: start.attached,
            ledger: start.meta.ledger,
            watermark: start.meta.watermark,
            presets: start.presets,
        };
        let configured = context.registry.configured(&last.attached.digest, &last.attached.settings)?;
        let name: Arc<str> = start.name.into();
        let subscriber = Subscriber { name: name.clone(), manifest: configured.manifest.clone() };
        let feed = Feed::new(
            Some(context.tail.clone()),
            context.reader(),
            last.position,
            Some(subscriber),
            last.presets.clone(),
        );
        let rows = context.config().limits.batch_rows;
        let apply = Apply::start(configured, last.ledger.clone(), last.watermark, rows, Default::default())?;
        let meter = context.progress.meter(&name);
        meter.applied(start.meta.last_sequence, Duration::ZERO, apply.memory_bytes());
        Ok(Self { context, name, to_total, meter, feed, apply, last, failed_since_cut: false })
    }

    fn begin_again(&mut self) -> anyhow::Result<()> {
        self.failed_since_cut = true;
        let last = self.last.clone();
        let configured = self.context.registry.configured(&last.attached.digest, &last.attached.settings)?;
        let subscriber = Subscriber { name: self.name.clone(), manifest: configured.manifest.clone() };
        self.feed.become_subscriber(Some(subscriber), last.presets);
        self.feed.rewind(last.position);
        let rows = self.context.config().limits.batch_rows;
        self.apply = Apply::start(configured, last.ledger, last.watermark, rows, Default::default())?;
        Ok(())
    }

    fn step(&mut self) -> Result<(), Stopped> {
        match self.feed.step().map_err(Stopped::Fatal)? {
            Step::End => Err(Stopped::Ended),
            Step::Events { batch, subscriber, rows, arrival } => {
                self.apply.set_batch_rows(self.context.config().limits.batch_rows);
                let begun = self.context.clock.elapsed();
                let sequence = batch.first_sequence() + u64::from(rows.end) - 1;
                self.apply.events(&batch, subscriber, rows, arrival)?;
                let time = self.context.clock.elapsed().saturating_sub(begun);
                self.meter.applied(sequence, time, self.apply.memory_bytes());
                Ok(())
            }
            Step::Barrier { frame, barrier } => self.barrier(frame, barrier),
        }
    }

    fn barrier(&mut self, frame: u64, barrier: Arc<Barrier>) -> Result<(), Stopped> {
        let delta = self.apply.cut()?;
        let mut next = Checkpoint {
            position: Position { frame, cut: barrier.cut },
            attached: self.last.attached.clone(),
            ledger: delta.ledger.clone(),
            watermark: delta.watermark,
            presets: self.last.presets.clone(),
        };
        let (mut swap, mut detached) = (None, false);
        if let Some(plan) = &barrier.plan {
            next.presets = presets(plan).map_err(Stopped::Fatal)?;
            // Plans from before it was attached (it is catching up) name an older version of it, or none.
            if barrier.cut > next.attached.attached_at {
                match plan.aggregators.get(&*self.name) {
                    Some(attached) if attached.attached_at == next.attached.attached_at => {
                        swap = self.swap_to(&mut next, attached)?;
                    }
                    _ => detached = true,
                }
            }
            let subscriber = Subscriber { name: self.name.clone(), manifest: self.apply.configured().manifest.clone() };
            self.feed.become_subscriber(Some(subscriber), next.presets.clone());
        }
        self.last = next;
        self.failed_since_cut = false;
        let sent = self.to_total.send(TotalMessage::Cut(Box::new(SavedCut { frame, barrier, delta, swap })));
        if detached || sent.is_err() {
            return Err(Stopped::Ended);
        }
        Ok(())
    }

    fn swap_to(
        &mut self,
        next: &mut Checkpoint,
        attached: &Attached,
    ) -> Result<Option<(Configured, Attached)>, Stopped> {
        if *attached == next.attached {
            return Ok(None);
        }
        let configured = self
            .context
            .registry
            .configured(&attached.digest, &attached.settings)
            .map_err(|error| Stopped::Call(CallError::Refused(format!("{error:#}"))))?;
        self.apply.swap(configured.clone())?;
        next.attached = attached.clone();
        Ok(Some((configured, attached.clone())))
    }
}

/// The presets of a logged plan.
pub fn presets(plan: &tally_aggregate::Plan) -> anyhow::Result<Vec<Preset>> {
    let parse = |value: &serde_json::Value| serde_json::from_value(value.clone());
    plan.presets.iter().map(parse).collect::<Result<_, _>>().context("reading the presets of a logged plan")
}

// ---------------------------------------------------------------------------------------------------------- total side

fn run_total(context: &Arc<Context>, start: Start, inbox: &mpsc::Receiver<TotalMessage>) {
    let name = start.name.clone();
    let mut side = match TotalSide::new(context, start) {
        Ok(side) => side,
        Err(Failure::Fatal(error)) => return context.fatal.stop(error),
        Err(Failure::Call(error)) => return quarantine(context, &name, None, &error.to_string()),
    };
    while let Ok(message) = inbox.recv() {
        match message {
            TotalMessage::Cut(saved) => match side.cut_with_retry(&saved) {
                Ok(()) => side.publish(&saved.barrier),
                Err(Failure::Fatal(error)) => return context.fatal.stop(error),
                Err(Failure::Call(error)) => {
                    return quarantine(context, &name, Some(side.total.meta()), &error.to_string());
                }
            },
            TotalMessage::Quarantine(reason) => quarantine(context, &name, Some(side.total.meta()), &reason),
            TotalMessage::Ask(question, reply) => {
                // Whoever asked may have hung up.
                let _ = reply.send(side.ask(&question));
            }
        }
    }
}

/// Asks for the quarantine to be logged; it takes effect once it is.
fn quarantine(context: &Context, name: &str, meta: Option<&Meta>, reason: &str) {
    tracing::error!(aggregator = name, reason, "quarantined");
    let after_cut = meta.map_or(0, |meta| meta.cut);
    context.queue.push_control(Token::Quarantine { name: name.to_owned(), after_cut, reason: reason.to_owned() });
}

struct TotalSide<'a> {
    context: &'a Context,
    name: String,
    total: Total,
    meter: Arc<Meter>,
}

impl<'a> TotalSide<'a> {
    fn new(context: &'a Context, start: Start) -> Result<Self, Failure> {
        let mut total = restore(context, &start.name, &start.attached, start.meta)?;
        // The last life may have ended between saving the cut of an anchor and pinning the total.
        let asked = context.recovered.asked_anchor.as_ref().map(|asked| asked.cut);
        let pinned = total.meta().pinned.as_ref().map(|pinned| pinned.meta.cut);
        if asked == Some(total.meta().cut) && pinned != asked {
            total.pin()?;
        }
        let meter = context.progress.meter(&start.name);
        let side = Self { context, name: start.name, total, meter };
        side.meter.saved(side.total.state_bytes(), side.total.memory_bytes());
        let meta = side.total.meta().clone();
        context.progress.update(|facts| facts.saved.insert(side.name.clone(), meta));
        side.report_pinned();
        Ok(side)
    }

    fn cut_with_retry(&mut self, saved: &SavedCut) -> Result<(), Failure> {
        match self.cut(saved) {
            Err(Failure::Call(error)) => {
                tracing::warn!(aggregator = self.name, %error, cut = saved.barrier.cut, "retrying in a new store");
                let meta = self.total.meta().clone();
                self.total = restore(self.context, &self.name, &meta.attached.clone(), meta)?;
                self.cut(saved)
            }
            done => done,
        }
    }

    fn cut(&mut self, saved: &SavedCut) -> Result<(), Failure> {
        let SavedCut { frame, barrier, delta, swap } = saved;
        // A retry after the cut was saved has only the rest to do.
        if self.total.meta().cut < barrier.cut {
            self.total.cut(*frame, barrier, delta)?;
        }
        if barrier.anchor {
            self.total.pin()?;
            self.report_pinned();
        }
        if let Some((configured, attached)) = swap {
            self.total.swap(configured.clone(), attached)?;
        }
        Ok(())
    }

    fn report_pinned(&self) {
        if let Some(pinned) = &self.total.meta().pinned {
            let pinned = (pinned.meta.cut, pinned.meta.chain, pinned.hash.clone());
            self.context.progress.update(|facts| facts.pinned.insert(self.name.clone(), pinned));
        }
    }

    fn publish(&self, barrier: &Barrier) {
        let meta = self.total.meta().clone();
        tracing::debug!(aggregator = self.name, cut = barrier.cut, sequence = meta.last_sequence, "saved");
        self.meter.saved(self.total.state_bytes(), self.total.memory_bytes());
        self.context.progress.update(|facts| facts.saved.insert(self.name.clone(), meta));
    }

    fn ask(&mut self, question: &Question) -> Result<Answer, String> {
        let question = Question { as_of: self.total.meta().watermark.unwrap_or_default(), ..question.clone() };
        match self.total.ask(&question) {
            Ok(tables) => Ok(Answer { meta: self.total.meta().clone(), tables }),
            Err(error) => {
                // The store may be poisoned now; the saved state is not.
                let meta = self.total.meta().clone();
                if let Ok(total) = restore(self.context, &self.name, &meta.attached.clone(), meta) {
                    self.total = total;
                }
                Err(error.to_string())
            }
        }
    }
}

fn restore(context: &Context, name: &str, attached: &Attached, start: Meta) -> Result<Total, Failure> {
    let configured = context.registry.configured(&attached.digest, &attached.settings)?;
    let mut total = Total::restore(name, configured.clone(), context.store.clone(), start)?;
    if total.meta().attached != *attached {
        total.set_attached(attached)?;
    }
    Ok(total)
}
