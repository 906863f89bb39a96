//! Compares the aggregators that are wanted (plugins directory and configuration) with those that run (the log's plan),
//! and activates the difference: read once, hash, validate, compile, configure, check that the saved state loads, then one
//! token in the queue. The old version serves until the swap is durable; on any failure it goes on and the reason is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context as _, bail};
use serde::Serialize;
use tally_aggregate::{Attached, Plan};
use tally_event::plan::{Limits, Subscriber};
use tally_plugin::Configured;
use tokio::sync::oneshot;

use super::folder::{self, PluginFile, Stamp};
use crate::aggregator::Meta;
use crate::aggregator::thread::{self, Threads};
use crate::context::{Activation, Context, Token};
use crate::recovery;

/// What the controller is asked.
pub enum Request {
    /// Look at the plugins directory again; the answer comes when what runs is what is wanted, as far as possible.
    Reconcile(Option<oneshot::Sender<Vec<Status>>>),
    /// End.
    Stop,
}

/// An aggregator as `tally plugin list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The aggregator.
    pub name: String,
    /// The plugin file, without its ending.
    pub plugin: String,
    /// `running`, `paused`, `quarantined` or `failed`.
    pub state: &'static str,
    /// The running plugin's version.
    pub version: Option<String>,
    /// Digest of the file in the plugins directory.
    pub wanted_digest: Option<String>,
    /// Digest of what runs.
    pub running_digest: Option<String>,
    /// Why what runs is not what is wanted.
    pub reason: Option<String>,
}

/// One wanted aggregator.
struct Wanted {
    plugin: String,
    settings: String,
    version: Result<Version, Failed>,
}

struct Version {
    digest: String,
    configured: Configured,
}

struct Failed {
    digest: Option<String>,
    reason: String,
}

/// See the module.
pub struct Controller {
    context: Arc<Context>,
    plan: Plan,
    /// What lines are decoded within.
    limits: Limits,
    threads: BTreeMap<String, Threads>,
    statuses: Arc<Mutex<Vec<Status>>>,
    read: BTreeMap<String, (Stamp, Vec<u8>)>,
}

impl Controller {
    /// A controller of what already runs.
    pub fn new(context: Arc<Context>, plan: Plan, threads: BTreeMap<String, Threads>) -> Self {
        Self { limits: context.limits(), context, plan, threads, statuses: Arc::default(), read: BTreeMap::new() }
    }

    /// The newest statuses, for whoever asks.
    pub fn statuses(&self) -> Arc<Mutex<Vec<Status>>> {
        self.statuses.clone()
    }

    /// Serves requests until told to stop, then waits for all aggregators.
    pub fn run(mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            match request {
                Request::Stop => break,
                Request::Reconcile(reply) => {
                    if let Err(error) = self.reconcile() {
                        tracing::error!(error = format!("{error:#}"), "the plugins directory could not be taken over");
                    }
                    if let Some(reply) = reply {
                        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone();
                        // Whoever asked may have hung up; what was done stays done.
                        let _ = reply.send(statuses);
                    }
                }
            }
        }
        for (name, threads) in std::mem::take(&mut self.threads) {
            self.join(&name, threads);
        }
    }

    fn join(&self, name: &str, threads: Threads) {
        if threads.apply.join().is_err() {
            self.context.fatal.stop(anyhow::anyhow!("the apply thread of aggregator {name} panicked"));
        }
        self.context.totals.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if threads.total.join().is_err() {
            self.context.fatal.stop(anyhow::anyhow!("the total thread of aggregator {name} panicked"));
        }
        self.context.progress.update(|facts| facts.ended.insert(name.to_owned()));
    }

    /// Waits for the threads of an aggregator that was detached or has failed.
    fn join_ended(&mut self, name: &str) {
        if let Some(threads) = self.threads.remove(name) {
            self.join(name, threads);
            self.context.progress.update(|facts| facts.ended.remove(name));
        }
    }

    /// Brings what runs to what is wanted, as far as that works.
    pub fn reconcile(&mut self) -> anyhow::Result<()> {
        let wanted = self.wanted()?;
        let quarantined: Vec<String> = self.context.progress.facts().quarantined.keys().cloned().collect();
        let mut plan = Plan { presets: self.presets()?, aggregators: BTreeMap::new() };
        let mut decoding = Vec::new();
        let mut attach = Vec::new();
        let mut failures = BTreeMap::new();
        for (name, wanted) in &wanted {
            let running = self.plan.aggregators.get(name).cloned();
            let next = self.next_version(name, wanted, running.as_ref(), quarantined.contains(name));
            let (attached, configured) = match next {
                Ok(next) => next,
                Err(error) => {
                    let reason = format!("{error:#}");
                    tracing::error!(aggregator = name, reason, "the wanted version does not run");
                    failures.insert(name.clone(), reason);
                    match running {
                        Some(running) => {
                            let configured = self.context.registry.configured(&running.digest, &running.settings)?;
                            (running, configured)
                        }
                        None => continue,
                    }
                }
            };
            if attached.attached_at == Activation::HERE {
                attach.push(name.clone());
            }
            let stays_out = quarantined.contains(name) && attached.attached_at != Activation::HERE;
            if !stays_out {
                let manifest = configured.manifest.clone();
                decoding.push(Subscriber { name: name.as_str().into(), manifest });
            }
            plan.aggregators.insert(name.clone(), attached);
        }
        let limits = self.context.limits();
        if plan != self.plan || limits != self.limits {
            self.activate(plan, decoding, limits, &attach)?;
        }
        self.update_statuses(&wanted, &failures);
        Ok(())
    }

    fn presets(&self) -> anyhow::Result<Vec<serde_json::Value>> {
        let presets = &self.context.config().presets;
        presets.iter().map(|preset| serde_json::to_value(preset).context("a preset")).collect()
    }

    /// The wanted aggregators by name: the configured ones, and every other plugin under its own name.
    fn wanted(&mut self) -> anyhow::Result<BTreeMap<String, Wanted>> {
        let files = folder::list(&self.context.config.plugins_dir)?;
        self.read.retain(|stem, _| files.contains_key(stem));
        let configured = self.context.config().aggregators.clone();
        let mut wanted = BTreeMap::new();
        for aggregator in &configured {
            // A configured aggregator without its file is paused, like any other whose file is gone.
            let Some(file) = files.get(&aggregator.plugin) else { continue };
            let version = self.load(&aggregator.plugin, file, &aggregator.settings);
            let (plugin, settings) = (aggregator.plugin.clone(), aggregator.settings.clone());
            wanted.insert(aggregator.name.clone(), Wanted { plugin, settings, version });
        }
        for (stem, file) in &files {
            if configured.iter().all(|aggregator| aggregator.plugin != *stem) {
                let version = self.load(stem, file, "{}");
                wanted.insert(stem.clone(), Wanted { plugin: stem.clone(), settings: "{}".into(), version });
            }
        }
        Ok(wanted)
    }

    fn load(&mut self, stem: &str, file: &PluginFile, settings: &str) -> Result<Version, Failed> {
        let bytes = match self.read.get(stem) {
            Some((stamp, bytes)) if *stamp == file.stamp => bytes.clone(),
            _ => match file.read() {
                Ok(Some(bytes)) => {
                    self.read.insert(stem.to_owned(), (file.stamp, bytes.clone()));
                    bytes
                }
                Ok(None) => {
                    return Err(Failed {
                        digest: None,
                        reason: "the file changed while it was read; it is read again".into(),
                    });
                }
                Err(error) => return Err(Failed { digest: None, reason: format!("{error:#}") }),
            },
        };
        let digest = tally_plugin::Digest::of(&bytes).to_string();
        let registry = &self.context.registry;
        match registry.keep(&bytes).and_then(|component| registry.configure(&component, settings)) {
            Ok(configured) => Ok(Version { digest, configured }),
            Err(error) => Err(Failed { digest: Some(digest), reason: format!("{error:#}") }),
        }
    }

    /// What the plan says of `name` from now on: unchanged, swapped in place, or attached anew.
    fn next_version(
        &mut self,
        name: &str,
        wanted: &Wanted,
        running: Option<&Attached>,
        quarantined: bool,
    ) -> anyhow::Result<(Attached, Configured)> {
        let version = match &wanted.version {
            Ok(version) => version,
            Err(failed) => bail!("{}", failed.reason),
        };
        let manifest = &version.configured.manifest;
        let attached = Attached {
            plugin: wanted.plugin.clone(),
            version: version.configured.component.description.version.clone(),
            digest: version.digest.clone(),
            settings: wanted.settings.clone(),
            state_version: manifest.state_version.clone(),
            attached_at: running.map_or(Activation::HERE, |running| running.attached_at),
            applies_after: running.map_or(Activation::HERE, |running| running.applies_after),
        };
        let same = running.is_some_and(|running| *running == attached);
        if same {
            return Ok((attached, version.configured.clone()));
        }
        if running.is_none() || quarantined {
            // It may still be running out: where it stopped is known when it has.
            self.join_ended(name);
        }
        let snapshot = self.context.store.snapshot()?;
        let Some(saved) = snapshot.load(name)? else { return Ok((attached, version.configured.clone())) };
        let meta = Meta::from_bytes(name, &saved.meta)?;
        let before = running.unwrap_or(&meta.attached);
        if before.state_version != attached.state_version {
            bail!(
                "its state version is {:?} and the saved state's {:?}: the state cannot be carried over; \
                 keep the state version, or give the new version another aggregator name",
                attached.state_version,
                before.state_version
            );
        }
        prepare(name, &version.configured, &snapshot, &saved.runs)?;
        let anew = running.is_none() || quarantined;
        if anew && meta.frame < self.context.reader().first_frame() {
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

    fn activate(
        &mut self,
        plan: Plan,
        decoding: Vec<Subscriber>,
        limits: Limits,
        attach: &[String],
    ) -> anyhow::Result<()> {
        let context = self.context.clone();
        // The same name may still be running out (it was detached, or has failed): one at a time.
        for name in attach {
            self.join_ended(name);
        }
        // Those that are logged: the configuration may have changed since the plan was made.
        let presets = thread::presets(&plan)?;
        let decoding = tally_event::plan::Plan::new(decoding, presets.clone(), limits)?;
        for warning in decoding.warnings() {
            tracing::warn!(warning, "the new plan");
        }
        let (done, durable) = mpsc::channel();
        let activation = Activation { plan: plan.clone(), decoding: Arc::new(decoding), done };
        context.queue.push_control(Token::Activate(Box::new(activation)));
        let (position, sequence) = durable.recv().context("the daemon is stopping")?;
        let mut plan = plan;
        for attached in plan.aggregators.values_mut() {
            for cut in [&mut attached.attached_at, &mut attached.applies_after] {
                if *cut == Activation::HERE {
                    *cut = position.cut;
                }
            }
        }
        tracing::info!(cut = position.cut, aggregators = plan.aggregators.len(), "activated");
        for name in attach {
            let attached = &plan.aggregators[name];
            let mut start = recovery::fresh(name, attached, position, sequence, presets.clone());
            if let Some(saved) = context.store.load(name)? {
                start.meta = Meta::from_bytes(name, &saved.meta)?;
                let mut reader = context.reader();
                let last = context.tail.last();
                let then = recovery::control_at(&mut reader, Some(start.meta.position()), last)?;
                start.presets = thread::presets(&then.plan)?;
            }
            self.threads.insert(name.clone(), thread::spawn(&context, start)?);
        }
        (self.plan, self.limits) = (plan, limits);
        Ok(())
    }

    fn update_statuses(&self, wanted: &BTreeMap<String, Wanted>, failures: &BTreeMap<String, String>) {
        let facts = self.context.progress.facts();
        let mut statuses = Vec::new();
        for (name, wanted) in wanted {
            let running = self.plan.aggregators.get(name);
            let quarantined = facts.quarantined.get(name).map(|(_, reason)| reason.clone());
            statuses.push(Status {
                name: name.clone(),
                plugin: wanted.plugin.clone(),
                state: match (running, &quarantined) {
                    (Some(_), Some(_)) => "quarantined",
                    (Some(_), None) => "running",
                    (None, _) => "failed",
                },
                version: running.map(|running| running.version.clone()),
                wanted_digest: match &wanted.version {
                    Ok(version) => Some(version.digest.clone()),
                    Err(failed) => failed.digest.clone(),
                },
                running_digest: running.map(|running| running.digest.clone()),
                reason: failures.get(name).cloned().or(quarantined),
            });
        }
        for (name, meta) in &facts.saved {
            if !wanted.contains_key(name) {
                statuses.push(Status {
                    name: name.clone(),
                    plugin: meta.attached.plugin.clone(),
                    state: "paused",
                    version: Some(meta.attached.version.clone()),
                    wanted_digest: None,
                    running_digest: None,
                    reason: Some("its file is not in the plugins directory".into()),
                });
            }
        }
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }
}

/// Loads the saved state into the new version on the side, so that the swap cannot fail for it.
fn prepare(
    name: &str,
    configured: &Configured,
    snapshot: &tally_state::Snapshot,
    runs: &[tally_state::RunInfo],
) -> anyhow::Result<()> {
    let mut instance = configured.instantiate().context("starting the new version")?;
    let total = instance.create().context("starting the new version")?;
    for run in runs {
        let bytes = snapshot.run(name, run)?;
        let loaded = instance
            .load(&configured.manifest.state_version, &bytes)
            .context("the new version does not load the saved state")?;
        instance.merge(&total, &loaded).context("the new version does not merge the saved state")?;
        instance.discard(loaded).context("the new version does not give up a merged state")?;
    }
    Ok(())
}
