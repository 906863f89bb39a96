//! What operators ask for of one aggregator: that it pauses or goes on, that its state is computed anew, goes back to what it was, or is
//! forgotten. What would lose state says so, and is done only when that is asked for as well.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tally_query::{Change, Since};

use super::{Controller, Undecided};
use crate::aggregator::Meta;
use crate::aggregator::line::{self, Saved};
use crate::feed::Position;
use crate::plugins::overrides::{Held, Override, Unless};
use crate::plugins::planner::{NewLine, Wanted};
use crate::plugins::shadow::Stopped;
use crate::records::rfc3339;
use crate::recovery;

/// How long the records up to where an aggregator stopped may take to be written.
const PATIENCE: Duration = Duration::from_secs(30);

impl Controller {
    /// Does what is asked of `name`. An error says why not; the aggregator goes on as before then, if it can.
    pub(super) fn change(&mut self, name: &str, change: &Change) -> anyhow::Result<()> {
        match change {
            Change::Pause => self.pause(name),
            Change::Resume => self.resume(name),
            Change::Rollback => self.roll_back(name),
            Change::Promote => self.promote(name),
            Change::Rebuild { from, discard_state } => self.rebuild(name, *from, *discard_state),
            Change::Reset { discard_state } => self.reset(name, *discard_state),
            Change::Remove { discard_state } => self.remove(name, *discard_state),
        }
    }

    fn pause(&mut self, name: &str) -> anyhow::Result<()> {
        let before = self.overrides.of(name);
        ensure!(!before.paused, "aggregator {name} is paused already");
        let is_known = self.planner.plan().aggregators.contains_key(name) || self.wanted()?.contains_key(name);
        ensure!(is_known, "there is no aggregator {name:?}; see `tally plugin list`");
        self.overrides.set(&self.context.data, name, Override { paused: true, ..before })?;
        self.reconcile()?;
        Ok(())
    }

    /// Lets an aggregator go on that is paused or in quarantine.
    fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        let before = self.overrides.of(name);
        if before.paused {
            self.overrides.set(&self.context.data, name, Override { paused: false, ..before })?;
            return self.expect_running(name, "is no longer paused, but does not run");
        }
        ensure!(self.planner.plan().aggregators.contains_key(name), "there is no aggregator {name:?} that runs");
        let in_quarantine = self.context.progress.facts().quarantined.contains_key(name);
        ensure!(in_quarantine, "aggregator {name} is not in quarantine, and not paused: there is nothing to resume");
        self.planner.resume(name);
        self.expect_running(name, "stays in quarantine")
    }

    /// Looks at everything, and finds out whether `name` runs as it is wanted.
    fn expect_running(&mut self, name: &str, otherwise: &str) -> anyhow::Result<()> {
        let failures = self.reconcile();
        self.planner.forget_wishes();
        if let Some(reason) = failures?.get(name) {
            bail!("aggregator {name} {otherwise}: {reason}");
        }
        let in_the_plan = self.planner.plan().aggregators.contains_key(name);
        ensure!(in_the_plan, "aggregator {name} is paused: its file is not in the plugins directory");
        Ok(())
    }

    fn reset(&mut self, name: &str, discard_state: bool) -> anyhow::Result<()> {
        ensure!(
            discard_state,
            "a reset of aggregator {name} gives up what it has computed, and it begins with the next event: say --discard-state \
             if that is wanted, or have it rebuilt from the log"
        );
        self.begin_line(name, NewLine { behind: None, with: None }, None)
    }

    fn rebuild(&mut self, name: &str, from: Option<Since>, discard_state: bool) -> anyhow::Result<()> {
        let (mut reader, last) = (self.context.reader(), self.context.tail.last());
        let saved = self.context.progress.facts().saved.get(name).map(Meta::began);
        let attached = self.planner.plan().aggregators.get(name).map(|attached| attached.applies_after);
        let began = saved.or(attached);
        let begins = match from {
            Some(Since::Beginning) => recovery::last_cut_until(&mut reader, i64::MIN, last)?,
            Some(Since::Time(micros)) => recovery::last_cut_until(&mut reader, micros, last)?,
            None => recovery::cut_from(&mut reader, began.unwrap_or(0), last)?,
        };
        ensure!(
            began.is_none_or(|began| begins.position.cut <= began) || discard_state,
            "a rebuild of aggregator {name} would begin behind event {} ({}) and give up what it has of the events before that{}: say \
             --discard-state if that is wanted",
            begins.last_sequence,
            rfc3339(begins.at),
            if matches!(from, Some(Since::Time(_))) { "" } else { ", since the log no longer holds them" }
        );
        // Events on which it fails again become dead letters again; those that there are go with the state.
        self.begin_line(name, NewLine { behind: Some(begins.position), with: None }, None)
    }

    fn roll_back(&mut self, name: &str) -> anyhow::Result<()> {
        self.wait_for_changes(name)?;
        let store = &self.context.store;
        let snapshot = store.snapshot()?;
        let previous = Saved::previous(&snapshot, name)?
            .with_context(|| format!("aggregator {name} has had no other version or state that it could go back to"))?;
        let (attached, position) = (previous.meta.attached.clone(), previous.meta.position());
        ensure!(
            position.frame.max(1) >= self.context.reader().first_frame(),
            "aggregator {name} had that state at event {}, and the log no longer holds all that came since: put the file of version \
             {} back to go on with the state of now, or have it rebuilt",
            previous.meta.last_sequence,
            attached.version
        );
        let state = previous.copy(&snapshot)?;
        let with = Some((state, Some(attached.line.since)));
        let over = self.held(name, &attached.digest, "rolled back")?;
        self.begin_line(name, NewLine { behind: Some(position), with }, Some(over))
    }

    /// Puts the shadow of an aggregator in its place. What the shadow has was computed as the log has it, from where it began; so the new
    /// line begins there.
    fn promote(&mut self, name: &str) -> anyhow::Result<()> {
        let none = || format!("aggregator {name} has no shadow; `tally plugin shadow {name} FILE` starts one");
        let status = self.shadows.status(name).with_context(none)?;
        if let Some(reason) = status.reason {
            bail!("the shadow has failed: {reason}");
        }
        let wanted = self.wanted()?;
        self.ensure_wanted(name, &wanted)?;
        let stopped = self.shadows.stop(name).with_context(none)?;
        self.promote_stopped(name, stopped).context("the shadow is gone; start another one")
    }

    fn promote_stopped(&mut self, name: &str, stopped: Stopped) -> anyhow::Result<()> {
        let attached = &stopped.attached;
        if let Some(reason) = stopped.failed {
            bail!("the shadow has just failed: {reason}");
        }
        let snapshot = stopped.store.snapshot()?;
        let saved = Saved::load(&snapshot, name, None)?.context("the shadow has saved nothing yet")?;
        let from = (!stopped.from_empty).then_some(attached.line.since);
        let with = Some((saved.copy(&snapshot)?, from));
        let behind = Some(Position { cut: stopped.began_cut, ..Position::default() });
        self.context.registry.keep(&stopped.component)?;
        let over = self.held(name, &attached.digest, "promoted")?;
        self.begin_line(name, NewLine { behind, with }, Some(over))
    }

    /// What holds for an aggregator when this version runs in place of its file.
    fn held(&mut self, name: &str, digest: &str, because: &str) -> anyhow::Result<Override> {
        let instead_of = self.files_digest(name)?;
        let held =
            (instead_of != digest).then(|| Held { digest: digest.to_owned(), instead_of, because: because.to_owned() });
        Ok(Override { held, ..self.overrides.of(name) })
    }

    fn remove(&mut self, name: &str, discard_state: bool) -> anyhow::Result<()> {
        let before = self.overrides.of(name);
        let runs = self.planner.plan().aggregators.contains_key(name);
        ensure!(
            !runs && (before.paused || !self.wanted()?.contains_key(name)),
            "aggregator {name} is wanted: take its file out of {} or pause it, then remove it",
            self.context.config.plugins_dir.display()
        );
        let is_known = self.context.progress.facts().saved.get(name).is_some_and(|meta| !meta.is_forgotten);
        ensure!(is_known, "nothing is saved of an aggregator {name:?}; see `tally plugin list`");
        ensure!(
            discard_state,
            "removing aggregator {name} gives up what it has computed: say --discard-state if that is wanted"
        );
        self.join_ended(name);
        let cut = self.context.published().cut;
        self.wait_for_records(|this| this.context.progress.facts().records_cut < cut)?;
        line::forget(&self.context.store, name)?;
        self.context.progress.update(|facts| {
            if let Some(meta) = facts.saved.get_mut(name) {
                meta.is_forgotten = true;
            }
        });
        self.overrides.set(&self.context.data, name, Override { held: None, ..before })?;
        self.reconcile()?;
        Ok(())
    }

    /// Has an aggregator stop, if it runs, and begin a new line, while `over` holds for it if that is given.
    fn begin_line(&mut self, name: &str, new: NewLine, over: Option<Override>) -> anyhow::Result<()> {
        let before = self.overrides.of(name);
        if let Some(over) = &over {
            self.overrides.try_out(name, over.clone());
        }
        let begun = self.try_line(name, new, over, &before);
        self.planner.forget_wishes();
        // What may be in the log the next start finds out.
        if begun.as_ref().is_err_and(|error| !error.is::<Undecided>()) {
            self.overrides.set_late(name, before);
            if let Err(error) = self.reconcile() {
                let error = format!("{error:#}");
                tracing::error!(error, aggregator = name, "it could not go on as before");
                self.not_taken_over(&error);
            }
        }
        begun
    }

    fn try_line(&mut self, name: &str, new: NewLine, over: Option<Override>, old: &Override) -> anyhow::Result<()> {
        let mut wanted = self.wanted()?;
        self.ensure_wanted(name, &wanted)?;
        let wanted = wanted.remove(name).context("just found")?;
        let runs = match &wanted.version {
            Ok(version) => version.digest.clone(),
            Err(failed) => bail!("the wanted version of aggregator {name} does not run: {}", failed.reason),
        };
        let before = self.planner.line_of(name);
        self.planner.begin_line(name, wanted, new)?;
        if before.is_some() {
            self.reconcile()?;
        }
        self.join_ended(name);
        self.wait_for_records(|this| this.planner.awaits_records())?;
        if let Some(over) = &over {
            // Kept no sooner, and until the log has it only on that condition: a start in between goes on as before.
            let unless = Some(Unless { runs, before: Box::new(old.clone()) });
            self.overrides.set(&self.context.data, name, Override { unless, ..over.clone() })?;
        }
        let failures = self.reconcile()?;
        if let Some(reason) = failures.get(name) {
            bail!("aggregator {name} begins no new line: {reason}");
        }
        let begun = self.planner.line_of(name);
        ensure!(begun.is_some() && begun != before, "aggregator {name} is no longer wanted");
        if let Some(over) = over {
            // Until it is written, a start finds that the condition holds.
            self.overrides.set_late(name, over);
            self.make_up_overrides();
        }
        Ok(())
    }

    fn ensure_wanted(&self, name: &str, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<()> {
        ensure!(
            wanted.contains_key(name),
            match self.overrides.of(name).paused {
                true => format!("aggregator {name} is paused; resume it first"),
                false => format!("there is no aggregator {name:?} that is wanted; see `tally plugin list`"),
            }
        );
        Ok(())
    }

    /// Waits until what the plan says of `name` is what it runs with: only then has it put aside what it had before.
    fn wait_for_changes(&self, name: &str) -> anyhow::Result<()> {
        let Some(attached) = self.planner.plan().aggregators.get(name) else { return Ok(()) };
        let (store, digest) = (&self.context.store, &attached.digest);
        let is_there = || -> anyhow::Result<bool> {
            let saved = line::meta(store, name, attached.line)?;
            Ok(line::is_taken_over(store, name, attached)?
                && saved.is_some_and(|saved| saved.attached.digest == *digest))
        };
        let begun = self.context.clock.elapsed();
        while !self.context.progress.facts().quarantined.contains_key(name) && !is_there()? {
            let waited = self.context.clock.elapsed().saturating_sub(begun);
            ensure!(waited < PATIENCE, "aggregator {name} has not come to its last change yet; ask again later");
            self.context.progress.wait(Duration::from_millis(20), |_| None::<()>);
        }
        Ok(())
    }

    fn wait_for_records(&self, more: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let begun = self.context.clock.elapsed();
        while more(self) {
            let waited = self.context.clock.elapsed().saturating_sub(begun);
            ensure!(waited < PATIENCE, "the records of what it had are not written yet; ask again later");
            self.context.progress.wait(Duration::from_millis(20), |_| None::<()>);
        }
        Ok(())
    }
}
