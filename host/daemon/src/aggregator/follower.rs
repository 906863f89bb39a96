//! The apply side of an aggregator: follows the log, applies events to the open delta, and hands a saved delta over at each cut. What
//! follows from a failing call is [`super::failures`]' to say; an event is skipped only once that is durable in the log. A state
//! machine that never waits, [`super::thread`] gives it a thread. Must not know: totals, files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tally_aggregate::{AggregatorLedger, Attached, Barrier, Skip};
use tally_event::plan::Subscriber;
use tally_event::schema::Preset;
use tally_plugin::{CallError, Configured};
use tally_storage::Storage;
use tally_wal::ReadError;

use super::apply::{Apply, Delta, Failed};
use super::failures::{Failures, Next};
use super::line;
use super::meta::Meta;
use super::meter::Meter;
use super::total::Failure;
use crate::DISK_FULL_PAUSE;
use crate::context::{Context, Token};
use crate::dead_letters;
use crate::feed::{Feed, Position, Step};
use crate::progress::Facts;
use crate::records::is_full;

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

/// What the apply side hands over at a cut.
pub struct SavedCut {
    /// The frame that holds the cut.
    pub(super) frame: u64,
    /// The cut.
    pub(super) barrier: Arc<Barrier>,
    /// What was saved.
    pub(super) delta: Delta,
    /// The version that goes on from here, when it changes.
    pub(super) swap: Option<(Configured, Attached)>,
}

/// What a step of the apply side did.
#[must_use]
pub enum Moved {
    /// Nothing: there is nothing to apply yet.
    Waiting,
    /// It went on.
    On,
    /// It saved a delta, which the total side has to take in.
    Cut(Box<SavedCut>),
    /// The plugin has failed for good.
    Failed(String),
    /// It was detached, or the log has ended.
    Ended,
}

/// Why a step was not done.
enum Stopped {
    Call(Failed),
    Fatal(anyhow::Error),
}

impl<E: Into<Failed>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Call(error.into())
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

/// See the module.
pub struct Follower<S: Storage> {
    context: Arc<Context<S>>,
    name: Arc<str>,
    meter: Arc<Meter>,
    feed: Feed<S>,
    apply: Apply,
    last: Checkpoint,
    failures: Failures,
    /// A skip that was asked for and is not known to be durable yet.
    asked: Option<Skip>,
    /// Skipped events whose dead letters may not be kept yet; nothing is applied before they are.
    letters: BTreeSet<u64>,
    detached: bool,
}

impl<S: Storage> Follower<S> {
    /// Begins at `start`; an error when the plugin does not start.
    pub fn new(context: Arc<Context<S>>, start: Start) -> anyhow::Result<Self> {
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
        )
        .together(&context.replay);
        let rows = context.config().limits.batch_rows;
        let skips = context.progress.facts().skips.get(&*name).cloned().unwrap_or_default();
        let failures = match skips.attached_at == last.attached.attached_at {
            true => Failures::new(skips.events.into_keys().filter(|at| *at > start.meta.last_sequence), skips.strikes),
            false => Failures::default(),
        };
        let letters = failures.care().skips.clone();
        let shards = context.config().shards(&name);
        let (ledger, care) = (last.ledger.clone(), failures.care().clone());
        let meter = context.progress.meter(&name);
        meter.apply.forget_peak();
        let configured = configured.counting(meter.apply.clone());
        let apply = Apply::start(configured, ledger, last.watermark, shards, rows, care)?;
        meter.applied(start.meta.last_sequence, apply.memory_bytes());
        Ok(Self { context, name, meter, feed, apply, last, failures, asked: None, letters, detached: false })
    }

    /// How many calls several shards shared, since it last began or changed their number.
    pub fn shared_calls(&self) -> u64 {
        self.apply.shared_calls()
    }

    /// Waits until there may be something to do.
    pub fn wait(&self) {
        match &self.asked {
            Some(skip) => {
                let tail = &self.context.tail;
                let logged = |facts: &Facts| (is_logged(facts, skip) || tail.is_closed()).then_some(());
                self.context.progress.wait(Duration::from_millis(500), logged);
            }
            None if !self.letters.is_empty() => {
                let tail = &self.context.tail;
                self.context.progress.wait(DISK_FULL_PAUSE, |_| tail.is_closed().then_some(()));
            }
            None => self.feed.wait(),
        }
    }

    /// Takes one step. An error ends the daemon.
    pub fn step(&mut self) -> anyhow::Result<Moved> {
        if self.detached {
            return Ok(Moved::Ended);
        }
        if let Some(skip) = self.asked.take() {
            return Ok(self.skip(skip));
        }
        if !self.letters.is_empty() && !self.keep_letters()? {
            let ended = self.context.tail.is_closed() || self.is_quarantined();
            return Ok(if ended { Moved::Ended } else { Moved::Waiting });
        }
        match self.follow() {
            Ok(moved) => Ok(moved),
            // For one whose total is in quarantine the log keeps nothing.
            Err(Stopped::Fatal(error)) if is_gone(&error) && self.is_quarantined() => Ok(Moved::Ended),
            Err(Stopped::Fatal(error)) => Err(error.context(format!("aggregator {} follows the log", self.name))),
            Err(Stopped::Call(failed)) => Ok(self.failed(&failed)),
        }
    }

    fn is_quarantined(&self) -> bool {
        self.context.progress.facts().quarantined.contains_key(&*self.name)
    }

    fn failed(&mut self, failed: &Failed) -> Moved {
        let (aggregator, cut, error) = (&*self.name, self.last.position.cut, &failed.error);
        match self.failures.next(failed, self.context.config().plugin.strikes) {
            Next::BeginAgain => {
                tracing::warn!(aggregator, %error, cut, "retrying from the last cut");
                self.again()
            }
            Next::Skip(sequence) => {
                tracing::warn!(aggregator, %error, sequence, "failed on an event alone, which is skipped");
                let skip = Skip {
                    name: aggregator.to_owned(),
                    attached_at: self.last.attached.attached_at,
                    sequence,
                    after_cut: cut,
                    at: 0,
                    digest: self.last.attached.digest.clone(),
                    reason: error.to_string(),
                    backtrace: failed.backtrace().to_owned(),
                };
                self.context.queue.push_control(Token::Skip(Box::new(skip.clone())));
                self.asked = Some(skip);
                Moved::Waiting
            }
            Next::Quarantine(reason) => Moved::Failed(reason),
        }
    }

    /// Goes on without the event once that is durable. Where the log ends first, the next start finds the event again.
    fn skip(&mut self, skip: Skip) -> Moved {
        let ended = self.context.tail.is_closed();
        if !is_logged(&self.context.progress.facts(), &skip) {
            self.asked = Some(skip);
            return if ended { Moved::Ended } else { Moved::Waiting };
        }
        self.letters.insert(skip.sequence);
        self.again()
    }

    /// Keeps the dead letters that are due. False while there is no room for them on the disk, or those of the line before still stand there.
    fn keep_letters(&mut self) -> anyhow::Result<bool> {
        let Self { context, name, last, letters, .. } = self;
        match line::is_taken_over(&context.store, name, &last.attached) {
            Ok(true) => {}
            Ok(false) | Err(Failure::Full(_)) => return Ok(false),
            Err(failure) => return Err(anyhow::Error::from(failure).context(format!("the dead letters of {name}"))),
        }
        let who = format!("the dead letters of {name}");
        match dead_letters::complete(context, name, &last.attached, letters, last.position) {
            Ok(()) => context.progress.room(&who, None),
            Err(error) if is_full(&error) => {
                context.progress.room(&who, Some(&error));
                return Ok(false);
            }
            Err(error) => return Err(error.context(format!("keeping {who}"))),
        }
        letters.clear();
        Ok(true)
    }

    fn again(&mut self) -> Moved {
        self.begin_again().map_or_else(|error| Moved::Failed(format!("{error:#}")), |()| Moved::On)
    }

    fn begin_again(&mut self) -> anyhow::Result<()> {
        let last = self.last.clone();
        let configured = self.context.registry.configured(&last.attached.digest, &last.attached.settings)?;
        let subscriber = Subscriber { name: self.name.clone(), manifest: configured.manifest.clone() };
        self.feed.become_subscriber(Some(subscriber), last.presets);
        self.feed.rewind(last.position);
        let configured = configured.counting(self.meter.apply.clone());
        let (rows, care) = (self.context.config().limits.batch_rows, self.failures.care().clone());
        self.apply = Apply::start(configured, last.ledger, last.watermark, self.shards(), rows, care)?;
        Ok(())
    }

    /// In how many shards it is to run. What it computes does not depend on that, so the log says nothing of it.
    fn shards(&self) -> usize {
        self.context.config().shards(&self.name)
    }

    fn follow(&mut self) -> Result<Moved, Stopped> {
        match self.feed.step().map_err(Stopped::Fatal)? {
            // In the middle of the log, but for others.
            Step::Nothing if self.feed.is_held() => Ok(Moved::Waiting),
            Step::Nothing => {
                self.apply.rest();
                self.meter.rests(self.apply.memory_bytes());
                Ok(Moved::Waiting)
            }
            Step::End => Ok(Moved::Ended),
            Step::Events { batch, subscriber, rows, arrival } => {
                self.apply.set_batch_rows(self.context.config().limits.batch_rows);
                let begun = self.context.clock.elapsed();
                let sequence = batch.first_sequence() + u64::from(rows.end) - 1;
                let done = self.apply.events(&batch, subscriber, rows, arrival);
                self.meter.spent(self.context.clock.elapsed().saturating_sub(begun));
                done?;
                self.meter.applied(sequence, self.apply.memory_bytes());
                self.meter.replays(self.feed.replays());
                Ok(Moved::On)
            }
            Step::Barrier { frame, barrier } => self.barrier(frame, barrier),
        }
    }

    fn barrier(&mut self, frame: u64, barrier: Arc<Barrier>) -> Result<Moved, Stopped> {
        let delta = self.meter.cut.time(&self.context.clock, || self.apply.cut())?;
        let mut next = Checkpoint {
            position: Position { frame, cut: barrier.cut },
            attached: self.last.attached.clone(),
            ledger: delta.ledger.clone(),
            watermark: delta.watermark,
            presets: self.last.presets.clone(),
        };
        let mut swap = None;
        if let Some(plan) = &barrier.plan {
            next.presets = presets(plan).map_err(Stopped::Fatal)?;
            // Plans from before it was attached (it is catching up) name an older version of it, or none.
            if barrier.cut > next.attached.attached_at {
                match plan.aggregators.get(&*self.name) {
                    Some(attached) if attached.attached_at == next.attached.attached_at => {
                        swap = self.swap_to(&mut next, attached)?;
                    }
                    _ => self.detached = true,
                }
            }
            let subscriber = Subscriber { name: self.name.clone(), manifest: self.apply.configured().manifest.clone() };
            self.feed.become_subscriber(Some(subscriber), next.presets.clone());
        }
        let (configured, shards) = (self.apply.configured(), self.shards());
        if self.apply.shards() != configured.shards(shards) {
            self.apply.swap(configured.clone(), shards)?;
        }
        if self.last.attached.digest != next.attached.digest {
            self.failures.forgive();
        }
        self.last = next;
        self.failures.saved(barrier.last_sequence);
        Ok(Moved::Cut(Box::new(SavedCut { frame, barrier, delta, swap })))
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
            .map_err(|error| CallError::Refused(format!("{error:#}")))?
            .counting(self.meter.apply.clone());
        self.meter.apply.forget_peak();
        self.apply.swap(configured.clone(), self.shards())?;
        next.attached = attached.clone();
        Ok(Some((configured, attached.clone())))
    }
}

/// Whether it is that the log has let go of what was to be read.
fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ReadError::Gone { .. })))
}

fn is_logged(facts: &Facts, skip: &Skip) -> bool {
    let known = facts.skips.get(&skip.name).filter(|skips| skips.attached_at == skip.attached_at);
    known.is_some_and(|skips| skips.events.contains_key(&skip.sequence))
}

/// The presets of a logged plan.
pub fn presets(plan: &tally_aggregate::Plan) -> anyhow::Result<Vec<Preset>> {
    let parse = |value: &serde_json::Value| serde_json::from_value(value.clone());
    plan.presets.iter().map(parse).collect::<Result<_, _>>().context("reading the presets of a logged plan")
}
