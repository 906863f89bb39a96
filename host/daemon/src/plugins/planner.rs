//! Works out what the log's plan has to become for the wanted aggregators to run, and where those that are attached start. The
//! old version serves until the swap is durable; on any failure it goes on. Decides nothing by itself: what it proposes takes
//! effect when it is logged. Must not know: folders, threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};

use anyhow::{Context as _, bail, ensure};
use tally_aggregate::{Attached, Line, Plan};
use tally_event::plan::{Limits, Subscriber};
use tally_event::schema::Manifest;
use tally_plugin::Configured;
use tally_storage::Storage;

use crate::aggregator::line::{self, Saved, State};
use crate::aggregator::{Meta, Start, presets};
use crate::config::Begins;
use crate::context::{Activation, Context};
use crate::feed::Position;
use crate::recovery;

mod preview;

pub use preview::{Preview, StateMode, VersionFacts};

/// One wanted aggregator.
pub struct Wanted {
    /// The plugin file, without its ending.
    pub plugin: String,
    /// Its settings, JSON.
    pub settings: String,
    /// In how many shards.
    pub shards: usize,
    /// Where it begins when nothing is saved of it.
    pub start: Begins,
    /// The version that would run.
    pub version: Result<Version, Failed>,
}

impl Wanted {
    /// Its version, if it can run as it is wanted.
    fn ready(&self) -> anyhow::Result<&Version> {
        let version = match &self.version {
            Ok(version) => version,
            Err(failed) => bail!("{}", failed.reason),
        };
        if self.shards > 1 && version.configured.shard_key.is_none() {
            bail!(
                "it is to run in {} shards, but the plugin {} names no shard key to deal events by: set `shards` to 1, or \
                 have the plugin name one",
                self.shards,
                self.plugin
            );
        }
        Ok(version)
    }
}

/// A version that is ready to run.
pub struct Version {
    /// Its digest.
    pub digest: String,
    /// With its settings.
    pub configured: Configured,
}

/// A version that cannot run.
pub struct Failed {
    /// Its digest, if it could be read.
    pub digest: Option<String>,
    /// Why.
    pub reason: String,
}

/// A plan that would run what is wanted, as far as that works.
pub struct Proposal {
    plan: Plan,
    decoding: Vec<Subscriber>,
    limits: Limits,
    /// Attached anew.
    attach: Vec<String>,
    /// Why what runs is not what is wanted, by aggregator.
    pub failures: BTreeMap<String, String>,
}

/// How an aggregator is to begin a new line of its state.
pub struct NewLine {
    /// It applies what comes behind this place; none: behind where it stopped, or, if it does not run, from now on.
    pub behind: Option<Position>,
    /// The state that it begins with, and the line that this was on; none: with nothing.
    pub with: Option<(State, Option<u64>)>,
}

/// A new line that is to begin.
struct Beginning {
    /// What was wanted when that was asked for: what is wanted since then comes after it.
    wanted: Wanted,
    new: NewLine,
    /// Where it stopped, when it has been detached for this.
    stopped: Option<Position>,
    /// Records up to this cut hold what it had, and have to be written first.
    recorded: u64,
}

impl Beginning {
    fn behind(&self) -> Option<Position> {
        self.new.behind.or(self.stopped)
    }

    /// Where it goes on in the log, if that is known.
    fn goes_on(&self) -> Option<Position> {
        self.new.with.as_ref().map(|(state, _)| state.meta.position()).or(self.behind())
    }
}

/// See the module.
pub struct Planner<S: Storage> {
    context: Arc<Context<S>>,
    /// What runs.
    plan: Plan,
    /// What lines are decoded within.
    limits: Limits,
    /// Whoever of these is in quarantine is attached anew although it is the same.
    resumed: BTreeSet<String>,
    /// Whoever of these runs is detached first; when it has stopped it begins a new line.
    lines: BTreeMap<String, Beginning>,
}

impl<S: Storage> Planner<S> {
    /// A planner of what already runs.
    pub fn new(context: Arc<Context<S>>, plan: Plan) -> Self {
        Self { limits: context.limits(), context, plan, resumed: BTreeSet::new(), lines: BTreeMap::new() }
    }

    /// What runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// In what is proposed next, this aggregator leaves its quarantine and goes on from its last saved cut.
    pub fn resume(&mut self, name: &str) {
        self.resumed.insert(name.to_owned());
    }

    /// In what is proposed next, this aggregator is detached, if it runs; in what is proposed after that, it begins a new line.
    ///
    /// # Errors
    /// When the version that is wanted is another than the one that the state was computed by.
    pub fn begin_line(&mut self, name: &str, wanted: Wanted, new: NewLine) -> anyhow::Result<()> {
        let version = wanted.ready()?;
        if let Some((state, _)) = &new.with {
            let of = &state.meta.attached;
            // What it has of the events behind its beginning it has by the settings of then.
            let has_begun = new.behind.is_some_and(|behind| behind.cut < state.meta.cut);
            let fits = version.digest == of.digest && (!has_begun || wanted.settings == of.settings);
            ensure!(
                fits,
                "its file or its settings are no longer those that the state of aggregator {name} was computed by"
            );
        }
        let recorded = self.context.published().cut;
        self.lines.insert(name.to_owned(), Beginning { wanted, new, stopped: None, recorded });
        let held = self.held();
        self.context.progress.facts().returning.extend(held);
        Ok(())
    }

    /// Nobody leaves a quarantine or begins a new line any more. What is held for whoever was detached to do so is held until the next
    /// proposal, by which it goes on.
    pub fn forget_wishes(&mut self) {
        self.resumed.clear();
        self.lines.clear();
    }

    /// Those who are to begin a new line.
    pub fn beginning(&self) -> impl Iterator<Item = &String> {
        self.lines.keys()
    }

    /// Digests of the versions that they are to begin with.
    pub fn versions_beginning(&self) -> impl Iterator<Item = String> {
        let version = |line: &Beginning| Some(line.wanted.version.as_ref().ok()?.digest.clone());
        self.lines.values().filter_map(version)
    }

    /// The line that an aggregator is on in the plan.
    pub fn line_of(&self, name: &str) -> Option<Line> {
        self.plan.aggregators.get(name).map(|attached| attached.line)
    }

    /// Whether somebody begins a new line once more records are written: they hold what it had.
    pub fn awaits_records(&self) -> bool {
        let written = self.context.progress.facts().records_cut;
        let waits =
            |(name, line): (&String, &Beginning)| !self.plan.aggregators.contains_key(name) && line.recorded > written;
        self.lines.iter().any(waits)
    }

    /// What those need of the log who begin a new line, also to go on with what they had should that fail.
    fn held(&self) -> BTreeMap<String, u64> {
        let facts = self.context.progress.facts();
        let first = |(name, line): (&String, &Beginning)| {
            let (begins, stopped) = (line.goes_on(), facts.saved.get(name).map(Meta::position));
            let first = begins.into_iter().chain(stopped).map(|position| position.frame).min()?;
            Some((name.clone(), first))
        };
        self.lines.iter().filter_map(first).collect()
    }

    /// Those who would be attached anew and may still be running out (they were detached, or have failed): where they stopped is
    /// known when they have, so that has to be waited for before anything is proposed.
    pub fn awaited(&self, wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
        let facts = self.context.progress.facts();
        let anew = |(name, wanted): &(&String, &Wanted)| {
            let running = self.plan.aggregators.get(*name);
            let stopped = running.is_none() || facts.quarantined.contains_key(*name);
            let differs = |version: &Version| running != Some(&attached(wanted, version, running));
            let is_detached_first = running.is_some() && self.lines.contains_key(*name);
            let anew = |version: &Version| self.resumed.contains(*name) || differs(version);
            stopped && !is_detached_first && wanted.version.as_ref().is_ok_and(anew)
        };
        wanted.iter().filter(anew).map(|(name, _)| name.clone()).collect()
    }

    /// Brings what runs to what is wanted, as far as that works.
    pub fn propose(&self, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<Proposal> {
        let quarantined: Vec<String> = self.context.progress.facts().quarantined.keys().cloned().collect();
        let mut proposal = Proposal {
            plan: Plan { presets: self.presets()?, aggregators: BTreeMap::new() },
            decoding: Vec::new(),
            limits: self.context.limits(),
            attach: Vec::new(),
            failures: BTreeMap::new(),
        };
        for (name, wanted) in wanted {
            let running = self.plan.aggregators.get(name).cloned();
            let next = match self.lines.get(name) {
                Some(_) if running.is_some() => continue,
                Some(line) => self.next_line(name, line),
                None => self.next_version(name, wanted, running.as_ref(), quarantined.contains(name)),
            };
            let (attached, configured) = match next {
                Ok(next) => next,
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::error!(aggregator = name, reason, "the wanted version does not run");
                    proposal.failures.insert(name.clone(), reason);
                    match running {
                        // In quarantine since not even this one starts any more: it stays in the plan, and takes no events.
                        Some(running) if quarantined.contains(name) => {
                            proposal.plan.aggregators.insert(name.clone(), running);
                            continue;
                        }
                        Some(running) => {
                            let configured = self.context.registry.configured(&running.digest, &running.settings)?;
                            (running, configured)
                        }
                        None => continue,
                    }
                }
            };
            if attached.attached_at == Attached::HERE {
                proposal.attach.push(name.clone());
            }
            let stays_out = quarantined.contains(name) && attached.attached_at != Attached::HERE;
            if !stays_out {
                let manifest = configured.manifest.clone();
                proposal.decoding.push(Subscriber { name: name.as_str().into(), manifest });
            }
            proposal.plan.aggregators.insert(name.clone(), attached);
        }
        let returns = |name: &String| self.lines.contains_key(name) || proposal.attach.contains(name);
        self.context.progress.facts().returning.retain(|name, _| returns(name));
        Ok(proposal)
    }

    fn presets(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let presets = &self.context.config().presets;
        presets.iter().map(|preset| serde_json::to_value(preset).context("a preset")).collect()
    }

    /// What the plan says of `name` from now on: unchanged, swapped in place, or attached anew.
    fn next_version(
        &self,
        name: &str,
        wanted: &Wanted,
        running: Option<&Attached>,
        quarantined: bool,
    ) -> anyhow::Result<(Attached, Configured)> {
        let version = wanted.ready()?;
        let attached = attached(wanted, version, running);
        let same = running.is_some_and(|running| *running == attached);
        if same && !(quarantined && self.resumed.contains(name)) {
            return Ok((attached, version.configured.clone()));
        }
        let snapshot = self.context.store.snapshot()?;
        let Some(saved) = Saved::load(&snapshot, name, running.map(|running| running.line))? else {
            // Nothing was ever saved of it: in quarantine since then, it begins where it was attached first.
            let attached_at = if quarantined { Attached::HERE } else { attached.attached_at };
            let applies_after = match running {
                Some(running) => running.applies_after,
                None => self.begins(name, wanted.start)?,
            };
            return Ok((Attached { attached_at, applies_after, ..attached }, version.configured.clone()));
        };
        let meta = &saved.meta;
        if meta.is_forgotten && running.is_none() {
            let line = Line { since: Attached::HERE, from: None };
            let applies_after = self.begins(name, wanted.start)?;
            return Ok((Attached { applies_after, line, ..attached }, version.configured.clone()));
        }
        let anew = running.is_none() || quarantined;
        // Its total goes over as a whole; of whoever is attached anew there are only the saved runs.
        let before = running.filter(|_| !anew);
        let manifest = &version.configured.manifest;
        let total = before.map(|before| before.state_version.as_str());
        let present = saved.runs.iter().map(|run| meta.state_version_of(run)).chain(total);
        for present in present.collect::<BTreeSet<_>>() {
            ensure_loads(manifest, present)?;
        }
        // Loaded on the side, so that a swap to it cannot fail for it.
        let carried = line::merged(&version.configured, meta, saved.runs_with(&snapshot)).context("the new version")?;
        if let Some(before) = before.filter(|before| before.state_version != attached.state_version)
            && let Ok(old) = self.context.registry.configured(&before.digest, &before.settings)
        {
            // A version that cannot make a whole of what it saved, which may be why there is a new one, carries none over.
            if let Ok(whole) = line::merged(&old, meta, saved.runs_with(&snapshot)) {
                check_migration(&old, &version.configured, &whole, &carried)?;
            }
        }
        if anew && !self.is_held(name, meta.position()) {
            bail!(
                "it stopped at event {} and the log no longer holds what came next: have it rebuilt or reset, \
                 and raise log.retain_bytes or log.retain_age for longer pauses",
                meta.last_sequence
            );
        }
        let attached = if anew {
            // It catches up from where it stopped.
            let line = running.map_or(meta.attached.line, |running| running.line);
            Attached { attached_at: Attached::HERE, applies_after: meta.cut, line, ..attached }
        } else {
            attached
        };
        Ok((attached, version.configured.clone()))
    }

    /// The cut behind which an aggregator begins of which nothing is saved.
    fn begins(&self, name: &str, start: Begins) -> anyhow::Result<u64> {
        let Some(micros) = start.micros() else { return Ok(Attached::HERE) };
        let position = recovery::last_cut_until(&mut self.context.reader(), micros, self.context.tail.last())?.position;
        ensure!(self.is_held(name, position), "the log has just let go of what it begins with; it is tried again");
        Ok(position.cut)
    }

    /// Has the log keep what comes behind `position` until `name` is attached. False where it has let go of it already.
    fn is_held(&self, name: &str, position: Position) -> bool {
        // First said, then looked at, under the lock that segments go under.
        let mut facts = self.context.progress.facts();
        facts.returning.insert(name.to_owned(), position.frame);
        position.frame.max(1) >= self.context.reader().first_frame()
    }

    /// What the plan says of `name` when it begins a new line, for which everything is put down.
    fn next_line(&self, name: &str, line: &Beginning) -> anyhow::Result<(Attached, Configured)> {
        let version = line.wanted.ready()?;
        let attached = attached(&line.wanted, version, None);
        let (behind, with) = (line.behind(), line.new.with.as_ref());
        if let Some(goes_on) = line.goes_on() {
            let gone = "the log has let go of what it begins with: raise log.retain_bytes or log.retain_age";
            ensure!(self.is_held(name, goes_on), gone);
        }
        if let Some((state, _)) = with {
            let runs = state.runs.iter().map(|(run, bytes)| Ok((*run, bytes.clone())));
            line::merged(&version.configured, &state.meta, runs).context("the new version")?;
        }
        line::prepare(&self.context.store, name, with.map(|(state, _)| state))?;
        let applies_after = behind.map_or(Attached::HERE, |behind| behind.cut);
        let line = Line { since: Attached::HERE, from: with.and_then(|(_, from)| *from) };
        Ok((Attached { applies_after, line, ..attached }, version.configured.clone()))
    }

    /// What has to be logged for the proposal to take effect, and where its place in the log will come; none when nothing changes.
    #[expect(clippy::type_complexity, reason = "a question and where its answer comes")]
    pub fn activation(
        &self,
        proposal: &Proposal,
    ) -> anyhow::Result<Option<(Activation, mpsc::Receiver<(Position, u64)>)>> {
        let Proposal { plan, decoding, limits, .. } = proposal;
        if *plan == self.plan && *limits == self.limits {
            return Ok(None);
        }
        // Those that are logged: the configuration may have changed since the plan was made.
        let decoding = tally_event::plan::Plan::new(decoding.clone(), presets(plan)?, *limits)?;
        for warning in decoding.warnings() {
            tracing::warn!(warning, "the new plan");
        }
        let (done, durable) = mpsc::channel();
        Ok(Some((Activation { plan: plan.clone(), decoding: Arc::new(decoding), done }, durable)))
    }

    /// The proposal has been logged at `position`, behind event `sequence`: gives those who start.
    pub fn activated(&mut self, proposal: Proposal, position: Position, sequence: u64) -> anyhow::Result<Vec<Start>> {
        let Proposal { mut plan, limits, attach, .. } = proposal;
        plan.aggregators.values_mut().for_each(|attached| attached.settle(position.cut));
        tracing::info!(cut = position.cut, aggregators = plan.aggregators.len(), "activated");
        let mut starts = Vec::new();
        for name in &attach {
            let attached = &plan.aggregators[name];
            let (mut reader, last) = (self.context.reader(), self.context.tail.last());
            let saved = line::meta(&self.context.store, name, attached.line)?;
            let behind = self.lines.get(name).and_then(Beginning::behind);
            let begins = match &saved {
                Some(meta) => meta.position(),
                None if attached.applies_after == position.cut => position,
                None if behind.is_some_and(|behind| behind.cut == attached.applies_after) => behind.unwrap_or_default(),
                None => recovery::find_cut(&mut reader, attached.applies_after, last)?,
            };
            let mut start = if begins == position {
                recovery::fresh(name, attached, position, sequence, presets(&plan)?)
            } else {
                let then = recovery::control_at(&mut reader, Some(begins), last)?;
                recovery::fresh(name, attached, begins, then.cut_sequence, presets(&then.plan)?)
            };
            start.meta = saved.unwrap_or(start.meta);
            if attached.line.since == position.cut {
                // What is known of it is of another line.
                let mut facts = self.context.progress.facts();
                facts.saved.insert(name.clone(), start.meta.clone());
                facts.pinned.remove(name);
            }
            starts.push(start);
        }
        // From here on they keep the log because they are attached. Whoever was detached to begin a new line can do so now.
        self.lines.retain(|name, line| {
            let begins = attach.contains(name);
            if !begins && self.plan.aggregators.contains_key(name) && !plan.aggregators.contains_key(name) {
                (line.stopped, line.recorded) = (Some(position), position.cut);
            }
            !begins
        });
        (self.plan, self.limits) = (plan, limits);
        let held = self.held();
        self.context.progress.facts().returning = held;
        Ok(starts)
    }
}

/// How a wanted aggregator would be attached in place of what runs.
fn attached(wanted: &Wanted, version: &Version, running: Option<&Attached>) -> Attached {
    Attached {
        plugin: wanted.plugin.clone(),
        version: version.configured.component.description.version.clone(),
        digest: version.digest.clone(),
        settings: wanted.settings.clone(),
        state_version: version.configured.manifest.state_version.clone(),
        attached_at: running.map_or(Attached::HERE, |running| running.attached_at),
        applies_after: running.map_or(Attached::HERE, |running| running.applies_after),
        line: running.map_or_else(Line::default, |running| running.line),
    }
}

/// Whether a version takes what was saved under state version `present`.
pub fn ensure_loads(manifest: &Manifest, present: &str) -> anyhow::Result<()> {
    if present != manifest.state_version && !manifest.loads.iter().any(|loads| loads == present) {
        bail!(
            "its state version is {:?} and the saved state's {present:?}, which it does not load: have the new version load \
             that one, keep the state version, or have it rebuilt (`tally plugin rebuild`)",
            manifest.state_version
        );
    }
    Ok(())
}

/// The running total is carried over as a whole, and after a restart run by run: both must give the same.
fn check_migration(old: &Configured, new: &Configured, whole: &[u8], carried: &[u8]) -> anyhow::Result<()> {
    let mut instance = new.instantiate().context("starting the new version")?;
    let loaded = instance.load(&old.manifest.state_version, whole).context("loading the saved total")?;
    if instance.save(&loaded).context("the new version does not save the state")? != carried {
        bail!(
            "it does not carry the state of version {:?} over: loading two parts and merging them must give what loading the merged \
             parts gives, and does not",
            old.manifest.state_version
        );
    }
    Ok(())
}
