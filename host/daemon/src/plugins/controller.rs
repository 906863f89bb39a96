//! Compares the aggregators that are wanted (plugins directory and configuration) with those that run (the log's plan),
//! and activates the difference: read once, hash, validate, compile, configure, check that the saved state loads, then one
//! token in the queue. What becomes of the plan is the planner's; here are the folder, the threads and what is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::Context as _;
use serde::Serialize;
use tally_aggregate::Plan;
use tally_query::Change;
use tally_storage::RealStorage;
use tokio::sync::oneshot;

use super::folder;
use super::overrides::{Override, Overrides};
use super::planner::{Failed, Planner, Preview, Proposal, Version, Wanted};
use super::retired::Retired;
use super::shadow::{ShadowStatus, Shadows};
use crate::aggregator::thread::{self, Threads};
use crate::config::Begins;
use crate::context::{Context, Token};
use crate::feed::Position;
use crate::progress::Facts;

mod changes;

/// What the controller is asked.
pub enum Request {
    /// Look at the plugins directory again; the answer comes when what runs is what is wanted, as far as possible.
    Reconcile(Option<oneshot::Sender<Vec<Status>>>),
    /// Change what becomes of an aggregator; the answer comes when that is so, or says why it is not.
    Change(String, Change, oneshot::Sender<Result<Vec<Status>, String>>),
    /// What would change if the plugin of this name had these bytes.
    Plan(String, Vec<u8>, oneshot::Sender<Result<Vec<Preview>, String>>),
    /// End.
    Stop,
}

/// The context of an error that may have come after a plan was logged.
#[derive(Debug, thiserror::Error)]
#[error("the next start goes by what the log has")]
struct Undecided;

/// An aggregator as `tally plugin list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The aggregator.
    pub name: String,
    /// The plugin file, without its ending.
    pub plugin: String,
    /// `running`, `paused`, `quarantined` or `failed`; `starting` while it begins its state anew.
    pub state: &'static str,
    /// The running plugin's version.
    pub version: Option<String>,
    /// In how many shards it is to run; none while it is paused.
    pub shards: Option<usize>,
    /// Digest of the file in the plugins directory.
    pub wanted_digest: Option<String>,
    /// Digest of what runs.
    pub running_digest: Option<String>,
    /// Why what runs is not what is wanted.
    pub reason: Option<String>,
    /// Set where it runs in place of the file on purpose: `rolled back` or `promoted`.
    pub held: Option<String>,
    /// How far it is, while it reads what the log had before it was attached.
    pub catching_up: Option<CatchingUp>,
    /// The cut at which it was attached.
    #[serde(skip)]
    attached_at: u64,
    /// The last cut that was saved before the quarantine.
    pub quarantined_after_cut: Option<u64>,
    /// Events that it failed on and was spared since it was attached or resumed.
    pub strikes: u32,
    /// The version that runs beside it, as whoever has the shadows knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
}

/// How far an aggregator is that reads what the log had before it was attached.
#[derive(Clone, Debug, Serialize)]
pub struct CatchingUp {
    /// The last event that it has applied.
    pub sequence: u64,
    /// The last event that there is.
    pub last_sequence: u64,
}

impl Status {
    /// With what has become known since: calls fail whenever they like, and events come.
    pub fn updated(mut self, facts: &Facts, last_sequence: u64) -> Self {
        let is_behind = facts.saved.get(&self.name).is_none_or(|meta| meta.cut < self.attached_at);
        self.catching_up = (self.running_digest.is_some() && is_behind).then(|| {
            let sequence = facts.meters.get(&self.name).map_or(0, |meter| meter.applied_sequence());
            CatchingUp { sequence, last_sequence }
        });
        let quarantined = facts.quarantined.get(&self.name).filter(|_| matches!(self.state, "running" | "quarantined"));
        if let Some((after_cut, reason)) = quarantined {
            self.state = "quarantined";
            self.quarantined_after_cut = Some(*after_cut);
            self.reason.get_or_insert_with(|| reason.clone());
        }
        self.strikes = facts.skips.get(&self.name).map_or(0, |skips| skips.strikes);
        self
    }
}

/// See the module.
pub struct Controller {
    context: Arc<Context>,
    planner: Planner<RealStorage>,
    threads: BTreeMap<String, Threads>,
    statuses: Arc<Mutex<Vec<Status>>>,
    overrides: Overrides,
    shadows: Arc<Shadows>,
    retired: Retired,
}

impl Controller {
    /// A controller of what already runs.
    pub fn new(
        context: Arc<Context>,
        plan: Plan,
        threads: BTreeMap<String, Threads>,
        shadows: Arc<Shadows>,
    ) -> anyhow::Result<Self> {
        let retired = Retired::new(&context, &plan)?;
        let mut overrides = Overrides::load(&context.data)?;
        overrides.settle(|name| plan.aggregators.get(name).map(|attached| attached.digest.clone()));
        let planner = Planner::new(context.clone(), plan);
        Ok(Self { context, planner, threads, statuses: Arc::default(), overrides, shadows, retired })
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
                    let done = self.reconcile();
                    if let Err(error) = &done {
                        let error = format!("{error:#}");
                        tracing::error!(error, "the plugins directory could not be taken over");
                        self.not_taken_over(&error);
                    }
                    if let Some(reply) = reply {
                        // Whoever asked may have hung up; what was done stays done.
                        let _ = reply.send(self.list());
                    }
                    if done.is_ok() {
                        self.clear_away();
                    }
                }
                Request::Change(name, change, reply) => {
                    let changed = self.change(&name, &change).map(|()| self.list());
                    let _ = reply.send(changed.map_err(|error| format!("{error:#}")));
                }
                Request::Plan(plugin, bytes, reply) => {
                    let _ = reply.send(self.plan(&plugin, &bytes).map_err(|error| format!("{error:#}")));
                }
            }
        }
        for (name, threads) in std::mem::take(&mut self.threads) {
            self.join(&name, threads);
            // Nobody takes its place any more: what waits for it need not.
            self.context.progress.update(|facts| facts.ended.insert(name));
        }
    }

    /// What is wanted is not known, so every aggregator may be another than that.
    fn not_taken_over(&self, error: &str) {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        for status in statuses.iter_mut() {
            status.reason = Some(format!("the plugins directory could not be taken over: {error}"));
        }
    }

    /// Lets go of versions that nothing needs any more. Where that fails they stay until the next time.
    fn clear_away(&mut self) {
        let wanted = self.list().into_iter().filter_map(|status| status.wanted_digest);
        let running = self.planner.plan().aggregators.values().map(|running| running.digest.clone());
        let held = self.overrides.versions().map(str::to_owned);
        let in_use = wanted.chain(running).chain(held).chain(self.planner.versions_beginning()).collect();
        match self.retired.clear_away(&self.context, in_use) {
            Ok(needed) => self.context.registry.forget(|digest| needed.contains(digest)),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "old plugin versions stay where they are"),
        }
    }

    fn list(&self) -> Vec<Status> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(&self, name: &str, threads: Threads) {
        if threads.apply.join().is_err() {
            self.context.fatal.stop(anyhow::anyhow!("the apply thread of aggregator {name} panicked"));
        }
        self.context.totals.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if threads.total.join().is_err() {
            self.context.fatal.stop(anyhow::anyhow!("the total thread of aggregator {name} panicked"));
        }
    }

    /// Waits for the threads of an aggregator that was detached or has failed.
    fn join_ended(&mut self, name: &str) {
        if let Some(threads) = self.threads.remove(name) {
            self.join(name, threads);
        }
    }

    /// Makes durable what was settled, or could not be written before.
    fn make_up_overrides(&mut self) {
        if let Err(error) = self.overrides.make_up(&self.context.data) {
            tracing::warn!(error = format!("{error:#}"), "it is tried again at the next look at the plugins");
        }
    }

    /// Brings what runs to what is wanted, as far as that works.
    /// Gives the reasons where it does not, by aggregator.
    pub fn reconcile(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        self.make_up_overrides();
        let wanted = self.wanted()?;
        for name in self.planner.awaited(&wanted) {
            self.join_ended(&name);
        }
        let proposal = self.planner.propose(&wanted)?;
        let failures = proposal.failures.clone();
        if let Some((activation, durable)) = self.planner.activation(&proposal)? {
            self.context.queue.push_control(Token::Activate(Box::new(activation)));
            let (position, sequence) = durable.recv().context("the daemon is stopping").context(Undecided)?;
            // It is logged: what runs has to follow, or the next start sees to it.
            if let Err(error) = self.activated(proposal, position, sequence) {
                let error = error.context("the log has a new plan, and it could not be put into effect");
                self.context.fatal.stop(anyhow::anyhow!("{error:#}"));
                return Err(error.context(Undecided));
            }
        }
        self.update_statuses(&wanted, &failures);
        Ok(failures)
    }

    fn activated(&mut self, proposal: Proposal, position: Position, sequence: u64) -> anyhow::Result<()> {
        let before = self.planner.plan().clone();
        for start in self.planner.activated(proposal, position, sequence)? {
            self.threads.insert(start.name.clone(), thread::spawn(&self.context, start)?);
        }
        self.retired.replaced(&before, self.planner.plan(), position.frame);
        Ok(())
    }

    /// The wanted aggregators by name: the configured ones, and every other plugin under its own name.
    fn wanted(&mut self) -> anyhow::Result<BTreeMap<String, Wanted>> {
        let files = self.files()?;
        let configured = self.context.config().aggregators.clone();
        let mut wanted = BTreeMap::new();
        for aggregator in &configured {
            // A configured aggregator without its file is paused, like any other whose file is gone.
            let Some(file) = files.get(&aggregator.plugin) else { continue };
            let (name, plugin, settings) = (&aggregator.name, &aggregator.plugin, &aggregator.settings);
            if let Some(version) = self.version(name, file, settings)? {
                let (plugin, settings, shards) = (plugin.clone(), settings.clone(), aggregator.shards);
                let start = aggregator.start;
                wanted.insert(name.clone(), Wanted { plugin, settings, shards, start, version });
            }
        }
        for (stem, file) in &files {
            if configured.iter().all(|aggregator| aggregator.plugin != *stem)
                && let Some(version) = self.version(stem, file, "{}")?
            {
                let (plugin, settings) = (stem.clone(), "{}".into());
                let start = Begins::Now;
                wanted.insert(stem.clone(), Wanted { plugin, settings, shards: 1, start, version });
            }
        }
        Ok(wanted)
    }

    /// The version of `name` that is wanted: that of the file, unless another is held in its place; none while it is paused.
    fn version(
        &mut self,
        name: &str,
        file: &Result<Vec<u8>, String>,
        settings: &str,
    ) -> anyhow::Result<Option<Result<Version, Failed>>> {
        let over = self.overrides.of(name);
        if over.paused {
            return Ok(None);
        }
        let Some(held) = over.held else { return Ok(Some(self.load(file, settings))) };
        match file.as_ref().map(|bytes| tally_plugin::Digest::of(bytes).to_string()) {
            Ok(digest) if digest != held.instead_of => {
                tracing::info!(
                    aggregator = name,
                    digest,
                    "the file is another now, which ends what was held in its place"
                );
                self.overrides.set(&self.context.data, name, Override { held: None, unless: None, ..over })?;
                Ok(Some(self.load(file, settings)))
            }
            // A file that does not read now is no other file.
            _ => {
                let configured = self.context.registry.configured(&held.digest, settings);
                let digest = held.digest;
                Ok(Some(match configured {
                    Ok(configured) => Ok(Version { digest, configured }),
                    Err(error) => Err(Failed { digest: Some(digest), reason: format!("{error:#}") }),
                }))
            }
        }
    }

    /// Digest of the file that an aggregator is made from.
    fn files_digest(&mut self, name: &str) -> anyhow::Result<String> {
        let config = self.context.config();
        let configured = config.aggregators.iter().find(|aggregator| aggregator.name == name);
        let plugin = configured.map_or(name, |aggregator| &aggregator.plugin);
        let files = self.files()?;
        let file =
            files.get(plugin).with_context(|| format!("aggregator {name} has no file in the plugins directory"))?;
        let bytes = file.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
        Ok(tally_plugin::Digest::of(bytes).to_string())
    }

    /// What would become of the aggregators of a plugin, under their settings.
    fn plan(&self, plugin: &str, bytes: &[u8]) -> anyhow::Result<Vec<Preview>> {
        let configured = self.context.config().aggregators.clone();
        let mut wanted: Vec<_> = configured
            .iter()
            .filter(|aggregator| aggregator.plugin == plugin)
            .map(|aggregator| (&*aggregator.name, &*aggregator.settings, aggregator.shards, aggregator.start))
            .collect();
        if wanted.is_empty() {
            wanted.push((plugin, "{}", 1, Begins::Now));
        }
        let digest = tally_plugin::Digest::of(bytes).to_string();
        let registry = &self.context.registry;
        let preview = |(name, settings, shards, start): (&str, &str, usize, Begins)| {
            let version = match registry.look_at(bytes, settings) {
                Ok(configured) => Ok(Version { digest: digest.clone(), configured }),
                Err(error) => Err(Failed { digest: Some(digest.clone()), reason: format!("{error:#}") }),
            };
            let (plugin, settings) = (plugin.to_owned(), settings.to_owned());
            self.planner.preview(name, &Wanted { plugin, settings, shards, start, version })
        };
        wanted.into_iter().map(preview).collect()
    }

    fn files(&self) -> anyhow::Result<BTreeMap<String, Result<Vec<u8>, String>>> {
        let limit = self.context.registry.engine().limits().component_bytes;
        folder::read(&self.context.config.plugins_dir, limit)
    }

    fn load(&self, file: &Result<Vec<u8>, String>, settings: &str) -> Result<Version, Failed> {
        let bytes = file.as_ref().map_err(|reason| Failed { digest: None, reason: reason.clone() })?;
        let digest = tally_plugin::Digest::of(bytes).to_string();
        let registry = &self.context.registry;
        match registry.keep(bytes).and_then(|component| registry.configure(&component, settings)) {
            Ok(configured) => Ok(Version { digest, configured }),
            Err(error) => Err(Failed { digest: Some(digest), reason: format!("{error:#}") }),
        }
    }

    fn update_statuses(&self, wanted: &BTreeMap<String, Wanted>, failures: &BTreeMap<String, String>) {
        let facts = self.context.progress.facts();
        let last_sequence = self.context.published().last_sequence;
        let mut statuses = Vec::new();
        for (name, wanted) in wanted {
            let running = self.planner.plan().aggregators.get(name);
            let held = self.overrides.of(name).held;
            let digest = match &wanted.version {
                Ok(version) => Some(version.digest.clone()),
                Err(failed) => failed.digest.clone(),
            };
            let status = Status {
                name: name.clone(),
                plugin: wanted.plugin.clone(),
                state: match running {
                    Some(_) => "running",
                    None if self.planner.beginning().any(|beginning| beginning == name) => "starting",
                    None => "failed",
                },
                version: running.map(|running| running.version.clone()),
                shards: Some(wanted.shards),
                wanted_digest: held.as_ref().map(|held| held.instead_of.clone()).or(digest),
                running_digest: running.map(|running| running.digest.clone()),
                reason: failures.get(name).cloned().or_else(|| Some(held.as_ref()?.reason())),
                held: held.map(|held| held.because),
                catching_up: None,
                attached_at: running.map_or(0, |running| running.attached_at),
                quarantined_after_cut: None,
                strikes: 0,
                shadow: None,
            };
            statuses.push(status.updated(&facts, last_sequence));
        }
        let configured = &self.context.config().aggregators;
        let saved = facts.saved.iter().filter(|(_, meta)| !meta.is_forgotten);
        let left = saved.map(|(name, meta)| (name, Some(&meta.attached)));
        let paused = self.overrides.paused().filter(|name| facts.saved.get(*name).is_none_or(|meta| meta.is_forgotten));
        for (name, attached) in left.chain(paused.map(|name| (name, None))) {
            if wanted.contains_key(name) {
                continue;
            }
            let reason = match self.overrides.of(name).paused {
                true => "an operator paused it: `tally plugin resume` lets it go on".into(),
                false => {
                    match configured.iter().find(|other| other.plugin == *name && wanted.contains_key(&other.name)) {
                        Some(other) => format!("the configuration has its file run as {}", other.name),
                        None => "its file is not in the plugins directory".into(),
                    }
                }
            };
            statuses.push(Status {
                name: name.clone(),
                plugin: attached.map_or_else(|| name.clone(), |attached| attached.plugin.clone()),
                state: "paused",
                version: attached.map(|attached| attached.version.clone()),
                shards: None,
                wanted_digest: None,
                running_digest: None,
                reason: Some(reason),
                held: None,
                catching_up: None,
                attached_at: 0,
                quarantined_after_cut: None,
                strikes: 0,
                shadow: None,
            });
        }
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }
}
