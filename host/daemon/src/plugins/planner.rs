//! Works out what the log's plan has to become for the wanted aggregators to run, and where those that are attached start. The
//! old version serves until the swap is durable; on any failure it goes on. Decides nothing by itself: what it proposes takes
//! effect when it is logged. Must not know: folders, threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};

use anyhow::{Context as _, bail};
use tally_aggregate::{Attached, Plan};
use tally_event::plan::{Limits, Subscriber};
use tally_plugin::Configured;
use tally_storage::Storage;

use crate::aggregator::{Meta, Start, presets};
use crate::context::{Activation, Context};
use crate::feed::Position;
use crate::recovery;

mod preview;

pub use preview::{Preview, StateMode};

/// One wanted aggregator.
pub struct Wanted {
    /// The plugin file, without its ending.
    pub plugin: String,
    /// Its settings, JSON.
    pub settings: String,
    /// In how many shards.
    pub shards: usize,
    /// The version that would run.
    pub version: Result<Version, Failed>,
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

/// See the module.
pub struct Planner<S: Storage> {
    context: Arc<Context<S>>,
    /// What runs.
    plan: Plan,
    /// What lines are decoded within.
    limits: Limits,
    /// Whoever of these is in quarantine is attached anew although it is the same.
    resumed: BTreeSet<String>,
}

impl<S: Storage> Planner<S> {
    /// A planner of what already runs.
    pub fn new(context: Arc<Context<S>>, plan: Plan) -> Self {
        Self { limits: context.limits(), context, plan, resumed: BTreeSet::new() }
    }

    /// What runs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// In what is proposed next, this aggregator leaves its quarantine and goes on from its last saved cut.
    pub fn resume(&mut self, name: &str) {
        self.resumed.insert(name.to_owned());
    }

    /// It does not, if nothing was proposed.
    pub fn forget_resumed(&mut self) {
        self.resumed.clear();
    }

    /// Those who would be attached anew and may still be running out (they were detached, or have failed): where they stopped is
    /// known when they have, so that has to be waited for before anything is proposed.
    pub fn awaited(&self, wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
        let facts = self.context.progress.facts();
        let anew = |(name, wanted): &(&String, &Wanted)| {
            let running = self.plan.aggregators.get(*name);
            let stopped = running.is_none() || facts.quarantined.contains_key(*name);
            let differs = |version: &Version| running != Some(&attached(wanted, version, running));
            stopped && wanted.version.as_ref().is_ok_and(|version| self.resumed.contains(*name) || differs(version))
        };
        wanted.iter().filter(anew).map(|(name, _)| name.clone()).collect()
    }

    /// Brings what runs to what is wanted, as far as that works.
    pub fn propose(&self, wanted: &BTreeMap<String, Wanted>) -> anyhow::Result<Proposal> {
        let quarantined: Vec<String> = {
            let mut facts = self.context.progress.facts();
            facts.returning.clear();
            facts.quarantined.keys().cloned().collect()
        };
        let mut proposal = Proposal {
            plan: Plan { presets: self.presets()?, aggregators: BTreeMap::new() },
            decoding: Vec::new(),
            limits: self.context.limits(),
            attach: Vec::new(),
            failures: BTreeMap::new(),
        };
        for (name, wanted) in wanted {
            let running = self.plan.aggregators.get(name).cloned();
            let next = self.next_version(name, wanted, running.as_ref(), quarantined.contains(name));
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
            if attached.attached_at == Activation::HERE {
                proposal.attach.push(name.clone());
            }
            let stays_out = quarantined.contains(name) && attached.attached_at != Activation::HERE;
            if !stays_out {
                let manifest = configured.manifest.clone();
                proposal.decoding.push(Subscriber { name: name.as_str().into(), manifest });
            }
            proposal.plan.aggregators.insert(name.clone(), attached);
        }
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
        let version = match &wanted.version {
            Ok(version) => version,
            Err(failed) => bail!("{}", failed.reason),
        };
        if wanted.shards > 1 && version.configured.shard_key.is_none() {
            bail!(
                "it is to run in {} shards, but the plugin {} names no shard key to deal events by: set `shards` to 1, or \
                 have the plugin name one",
                wanted.shards,
                wanted.plugin
            );
        }
        let attached = attached(wanted, version, running);
        let same = running.is_some_and(|running| *running == attached);
        if same && !(quarantined && self.resumed.contains(name)) {
            return Ok((attached, version.configured.clone()));
        }
        let snapshot = self.context.store.snapshot()?;
        let Some(saved) = snapshot.load(name)? else {
            // Nothing was ever saved of it: in quarantine since then, it begins where it was attached first.
            let attached_at = if quarantined { Activation::HERE } else { attached.attached_at };
            return Ok((Attached { attached_at, ..attached }, version.configured.clone()));
        };
        let meta = Meta::from_bytes(name, &saved.meta)?;
        let anew = running.is_none() || quarantined;
        // Its total goes over as a whole; of whoever is attached anew there are only the saved runs.
        let before = running.filter(|_| !anew);
        let manifest = &version.configured.manifest;
        let total = before.map(|before| before.state_version.as_str());
        let present = saved.runs.iter().map(|run| meta.state_version_of(run)).chain(total);
        for present in present.collect::<BTreeSet<_>>() {
            if present != attached.state_version && !manifest.loads.iter().any(|loads| loads == present) {
                bail!(
                    "its state version is {:?} and the saved state's {present:?}, which it does not load: have the new version load \
                     that one, keep the state version, or give it another aggregator name",
                    attached.state_version
                );
            }
        }
        let carried = carry(name, &version.configured, &snapshot, &meta, &saved.runs)?;
        if let Some(before) = before.filter(|before| before.state_version != attached.state_version)
            && let Ok(old) = self.context.registry.configured(&before.digest, &before.settings)
        {
            check_migration(name, &old, &version.configured, &snapshot, &meta, &saved.runs, &carried)?;
        }
        let is_there = || {
            // First said, then looked at, under the lock that segments go under.
            let mut facts = self.context.progress.facts();
            facts.returning.insert(name.to_owned(), meta.frame);
            meta.frame >= self.context.reader().first_frame()
        };
        if anew && !is_there() {
            bail!(
                "it stopped at event {} and the log no longer holds what came next: give it another aggregator name to \
                 start afresh, and raise log.retain_bytes or log.retain_age for longer pauses",
                meta.last_sequence
            );
        }
        let attached = if anew {
            // It catches up from where it stopped.
            Attached { attached_at: Activation::HERE, applies_after: meta.cut, ..attached }
        } else {
            attached
        };
        Ok((attached, version.configured.clone()))
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
        for attached in plan.aggregators.values_mut() {
            for cut in [&mut attached.attached_at, &mut attached.applies_after] {
                if *cut == Activation::HERE {
                    *cut = position.cut;
                }
            }
        }
        tracing::info!(cut = position.cut, aggregators = plan.aggregators.len(), "activated");
        let mut starts = Vec::new();
        for name in &attach {
            let attached = &plan.aggregators[name];
            let (mut reader, last) = (self.context.reader(), self.context.tail.last());
            let saved = self.context.store.load(name)?;
            let saved = saved.map(|saved| Meta::from_bytes(name, &saved.meta)).transpose()?;
            let begins = match &saved {
                Some(meta) => meta.position(),
                None if attached.applies_after == position.cut => position,
                None => recovery::find_cut(&mut reader, attached.applies_after, last)?,
            };
            if begins == position {
                starts.push(recovery::fresh(name, attached, position, sequence, presets(&plan)?));
                continue;
            }
            let then = recovery::control_at(&mut reader, Some(begins), last)?;
            let mut start = recovery::fresh(name, attached, begins, then.cut_sequence, presets(&then.plan)?);
            start.meta = saved.unwrap_or(start.meta);
            starts.push(start);
        }
        // From here on they keep the log because they are attached.
        self.context.progress.facts().returning.clear();
        (self.plan, self.limits) = (plan, limits);
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
        attached_at: running.map_or(Activation::HERE, |running| running.attached_at),
        applies_after: running.map_or(Activation::HERE, |running| running.applies_after),
    }
}

/// Loads the saved state into a version on the side, so that a swap to it cannot fail for it. Gives the total as this version saves it.
fn carry(
    name: &str,
    configured: &Configured,
    snapshot: &tally_state::Snapshot,
    meta: &Meta,
    runs: &[tally_state::RunInfo],
) -> anyhow::Result<Vec<u8>> {
    let mut instance = configured.instantiate().context("starting the new version")?;
    let total = instance.create().context("starting the new version")?;
    for run in runs {
        let bytes = snapshot.run(name, run)?;
        let loaded = instance
            .load(meta.state_version_of(run), &bytes)
            .context("the new version does not load the saved state")?;
        instance.merge(&total, &loaded).context("the new version does not merge the saved state")?;
        instance.discard(loaded).context("the new version does not give up a merged state")?;
    }
    instance.save(&total).context("the new version does not save the state")
}

/// The running total is carried over as a whole, and after a restart run by run: both must give the same.
fn check_migration(
    name: &str,
    old: &Configured,
    new: &Configured,
    snapshot: &tally_state::Snapshot,
    meta: &Meta,
    runs: &[tally_state::RunInfo],
    carried: &[u8],
) -> anyhow::Result<()> {
    // A version that cannot make a whole of what it saved, which may be why there is a new one, carries none over.
    let Ok(whole) = carry(name, old, snapshot, meta, runs) else { return Ok(()) };
    let mut instance = new.instantiate().context("starting the new version")?;
    let loaded = instance.load(&old.manifest.state_version, &whole).context("loading the saved total")?;
    if instance.save(&loaded).context("the new version does not save the state")? != carried {
        bail!(
            "it does not carry the state of version {:?} over: loading two parts and merging them must give what loading the merged \
             parts gives, and does not",
            old.manifest.state_version
        );
    }
    Ok(())
}
