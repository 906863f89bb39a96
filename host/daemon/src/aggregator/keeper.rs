//! The total side of an aggregator in the daemon: takes in what the apply side saved, makes it known, and answers questions. A
//! failing call is retried once in a new store; a second failure is quarantine. What meets a full disk stays to be tried again, while
//! questions are answered as of what is saved. A state machine that never waits, [`super::thread`] gives it a thread. Must not know:
//! events, the log.

use std::collections::VecDeque;
use std::sync::Arc;

use tally_aggregate::{AskedAnchor, Attached, Barrier};
use tally_event::table::{Question, Table};
use tally_plugin::{CallError, PluginError};
use tally_storage::Storage;
use tokio::sync::oneshot;

use super::follower::{SavedCut, Start};
use super::line;
use super::meta::Meta;
use super::meter::Meter;
use super::total::{Failure, Total};
use crate::context::{Context, Token};

/// What a total side is told.
pub enum TotalMessage {
    /// The apply side has saved a delta.
    Cut(Box<SavedCut>),
    /// The apply side has failed for good.
    Quarantine(String),
    /// Somebody asks.
    Ask(Question, oneshot::Sender<Result<Answer, String>>),
}

/// An answer, as of the last saved cut.
pub struct Answer {
    /// What is saved.
    pub meta: Meta,
    /// The report.
    pub tables: Vec<Table>,
}

/// See the module.
pub struct Keeper<S: Storage> {
    context: Arc<Context<S>>,
    name: String,
    /// None once it has failed for good, and as long as a full disk keeps it from being restored.
    total: Option<Total>,
    /// With what it is restored.
    start: Start,
    has_failed: bool,
    /// What the last life may have left to do is done.
    is_made_up: bool,
    /// What it was told and has not done, for want of room on the disk.
    undone: VecDeque<TotalMessage>,
    meter: Arc<Meter>,
}

impl<S: Storage> Keeper<S> {
    /// Loads what is saved, or begins with `start`. An error ends the daemon.
    pub fn new(context: Arc<Context<S>>, start: Start) -> anyhow::Result<Self> {
        let meter = context.progress.meter(&start.name);
        meter.total.forget_peak();
        let name = start.name.clone();
        let (has_failed, is_made_up) = (false, false);
        let mut this =
            Self { context, name, total: None, start, has_failed, is_made_up, undone: VecDeque::new(), meter };
        this.go_on()?;
        Ok(this)
    }

    fn open_with_retry(&mut self) -> Result<(), Failure> {
        match self.open_and_make_up() {
            Err(Failure::Call(error)) => {
                tracing::warn!(aggregator = self.name, %error, "retrying in a new store");
                self.total = None;
                self.open_and_make_up()
            }
            done => done,
        }
    }

    fn open_and_make_up(&mut self) -> Result<(), Failure> {
        if self.total.is_none() {
            self.open()?;
        }
        if self.is_made_up { Ok(()) } else { self.make_up() }
    }

    fn open(&mut self) -> Result<(), Failure> {
        let Start { name, attached, meta, .. } = self.start.clone();
        line::take_over(&self.context.store, &name, &attached, &meta)?;
        let total = restore(&self.context, &name, &attached, meta)?;
        self.report_pinned(&total);
        self.publish(&total);
        self.total = Some(total);
        Ok(())
    }

    /// The last life may have ended between saving the cut of an anchor and pinning the total.
    fn make_up(&mut self) -> Result<(), Failure> {
        let asked = self.context.recovered.asked_anchor.as_ref();
        let was_there =
            |asked: &&AskedAnchor| asked.expected.contains(&self.name) && self.start.attached.attached_at < asked.cut;
        let asked = asked.filter(was_there).map(|asked| asked.cut);
        let total = self.total.as_mut().filter(|total| asked == Some(total.meta().cut) && !total.is_pinned_here());
        if let Some(total) = total {
            total.pin()?;
        }
        if let Some(total) = &self.total {
            self.report_pinned(total);
        }
        self.is_made_up = true;
        Ok(())
    }

    /// Takes a message. False when it has failed for good and takes no more. An error ends the daemon.
    pub fn take(&mut self, message: TotalMessage) -> anyhow::Result<bool> {
        match message {
            TotalMessage::Ask(question, reply) => {
                // Whoever asked may have hung up.
                let _ = reply.send(self.ask(&question));
            }
            message => {
                self.undone.push_back(message);
                self.go_on()?;
            }
        }
        Ok(self.works())
    }

    /// Does what it was told and has not done; tried again from time to time while it waits. An error ends the daemon.
    pub fn go_on(&mut self) -> anyhow::Result<()> {
        while self.has_to_do() {
            match self.try_first() {
                Ok(()) => {}
                Err(Failure::Full(error)) => {
                    self.throw_away();
                    self.context.progress.room(&self.name, Some(&error));
                    return Ok(());
                }
                Err(Failure::Fatal(error)) => return Err(error),
                Err(Failure::Call(error)) => {
                    // A cut may be saved whose anchor failed, or an anchor with which another plugin did not go on: a record
                    // may wait for the part, and the anchor for the total.
                    if let Some(total) = &self.total {
                        self.report_pinned(total);
                        self.publish(total);
                    }
                    self.quarantine(self.saved_cut(), &error.to_string());
                    self.total = None;
                    self.has_failed = true;
                }
            }
        }
        self.context.progress.room(&self.name, None);
        Ok(())
    }

    /// Restores itself if need be, then does the first of what is to be done.
    fn try_first(&mut self) -> Result<(), Failure> {
        self.open_with_retry()?;
        match self.undone.pop_front() {
            Some(TotalMessage::Cut(saved)) => {
                let done = self.cut_with_retry(&saved);
                if let Err(Failure::Full(_)) = &done {
                    self.undone.push_front(TotalMessage::Cut(saved));
                }
                done
            }
            Some(TotalMessage::Quarantine(reason)) => {
                self.quarantine(self.saved_cut(), &reason);
                Ok(())
            }
            Some(TotalMessage::Ask(..)) | None => Ok(()),
        }
    }

    /// What was merged and could not be saved must not be seen; questions are answered as of what is saved.
    fn throw_away(&mut self) {
        if let Some(total) = self.total.take() {
            let meta = total.meta().clone();
            (self.start.attached, self.start.meta) = (meta.attached.clone(), meta);
            // If there is no room even for that, it is done when there is.
            let _ = self.open();
        }
    }

    /// Whether it takes messages.
    pub fn works(&self) -> bool {
        !self.has_failed
    }

    /// How much it was told that waits for room on the disk; none when it does not wait.
    pub fn waiting(&self) -> Option<usize> {
        self.has_to_do().then_some(self.undone.len())
    }

    fn has_to_do(&self) -> bool {
        self.works() && (self.total.is_none() || !self.is_made_up || !self.undone.is_empty())
    }

    fn saved_cut(&self) -> u64 {
        self.total.as_ref().map_or(self.start.meta.cut, |total| total.meta().cut)
    }

    /// Asks for the quarantine to be logged; it takes effect once it is.
    fn quarantine(&self, after_cut: u64, reason: &str) {
        tracing::error!(aggregator = self.name, reason, "quarantined");
        let (name, reason) = (self.name.clone(), reason.to_owned());
        self.context.queue.push_control(Token::Quarantine { name, after_cut, reason });
    }

    fn cut_with_retry(&mut self, saved: &SavedCut) -> Result<(), Failure> {
        let Some(total) = &mut self.total else { return Ok(()) };
        let done = match total.timed(|meter| &meter.commit, |total| cut(total, saved)) {
            Err(Failure::Call(error)) => {
                tracing::warn!(aggregator = self.name, %error, cut = saved.barrier.cut, "retrying in a new store");
                let meta = total.meta().clone();
                *total = restore(&self.context, &self.name, &meta.attached.clone(), meta)?;
                total.timed(|meter| &meter.commit, |total| cut(total, saved))
            }
            done => done,
        };
        done?;
        let total = self.total.as_ref().expect("it was there");
        if saved.barrier.anchor {
            self.report_pinned(total);
        }
        self.publish(total);
        Ok(())
    }

    fn report_pinned(&self, total: &Total) {
        if let Some(pinned) = &total.meta().pinned {
            self.context.progress.update(|facts| facts.pinned.insert(self.name.clone(), pinned.known()));
        }
    }

    fn publish(&self, total: &Total) {
        let meta = total.meta().clone();
        tracing::debug!(aggregator = self.name, cut = meta.cut, sequence = meta.last_sequence, "saved");
        self.meter.saved(total.state_bytes(), total.memory_bytes());
        self.context.progress.update(|facts| facts.saved.insert(self.name.clone(), meta));
    }

    fn ask(&mut self, question: &Question) -> Result<Answer, String> {
        let Some(total) = &mut self.total else { return Err("it has failed, or waits for room on the disk".into()) };
        let question = Question { as_of: total.meta().watermark.unwrap_or_default(), ..question.clone() };
        match total.timed(|meter| &meter.question, |total| total.ask(&question)) {
            Ok(tables) => Ok(Answer { meta: total.meta().clone(), tables }),
            Err(error) => {
                // The store may be poisoned now; the saved state is not.
                let meta = total.meta().clone();
                if let Ok(restored) = restore(&self.context, &self.name, &meta.attached.clone(), meta) {
                    *total = restored;
                }
                Err(error.to_string())
            }
        }
    }
}

fn cut(total: &mut Total, saved: &SavedCut) -> Result<(), Failure> {
    let SavedCut { frame, barrier, delta, swap } = saved;
    let Barrier { cut, anchor, .. } = **barrier;
    // A retry after the cut was saved has only the rest to do.
    if total.meta().cut < cut {
        total.cut(*frame, barrier, delta)?;
    }
    // While it catches up, anchors are those of others: the log has no word of its total there.
    if anchor && total.meta().attached.attached_at < cut && !total.is_pinned_here() {
        total.pin()?;
    }
    if let Some((configured, attached)) = swap {
        let usage = total.configured().usage().clone();
        usage.forget_peak();
        total.swap(configured.clone().counting(usage), attached)?;
    }
    Ok(())
}

fn restore<S: Storage>(context: &Context<S>, name: &str, attached: &Attached, start: Meta) -> Result<Total, Failure> {
    let configured = context.registry.configured(&attached.digest, &attached.settings);
    // A plugin that does not start any more is its own fault; a file that is gone is not.
    let configured = configured.map_err(|error| match error.downcast::<PluginError>() {
        Ok(PluginError::Call(error)) => Failure::Call(error),
        Ok(error) => Failure::Call(CallError::Refused(error.to_string())),
        Err(error) => Failure::Fatal(error),
    })?;
    let meter = context.progress.meter(name);
    let configured = configured.counting(meter.total.clone());
    let mut total = Total::restore(name, configured, context.store.clone(), start)?.watched(&context.clock, meter);
    if total.meta().attached != *attached {
        total.set_attached(attached)?;
    }
    Ok(total)
}
