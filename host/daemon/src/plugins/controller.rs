//! Compares the aggregators that are wanted (plugins directory and configuration) with those that run (the log's plan),
//! and activates the difference: read once, hash, validate, compile, configure, check that the saved state loads, then one
//! token in the queue. What becomes of the plan is the planner's; here are the folder, the threads and what is shown.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tally_aggregate::Plan;
use tally_storage::RealStorage;
use tokio::sync::oneshot;

use super::folder::{self, PluginFile, Stamp};
use super::planner::{Failed, Planner, Preview, Version, Wanted};
use crate::aggregator::thread::{self, Threads};
use crate::context::{Context, Token};
use crate::progress::Facts;

/// What the controller is asked.
pub enum Request {
    /// Look at the plugins directory again; the answer comes when what runs is what is wanted, as far as possible.
    Reconcile(Option<oneshot::Sender<Vec<Status>>>),
    /// Let an aggregator go on that is in quarantine; the answer comes when it does, or says why it does not.
    Resume(String, oneshot::Sender<Result<Vec<Status>, String>>),
    /// What would change if the plugin of this name had these bytes.
    Plan(String, Vec<u8>, oneshot::Sender<Result<Vec<Preview>, String>>),
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
    /// In how many shards it is to run; none while it is paused.
    pub shards: Option<usize>,
    /// Digest of the file in the plugins directory.
    pub wanted_digest: Option<String>,
    /// Digest of what runs.
    pub running_digest: Option<String>,
    /// Why what runs is not what is wanted.
    pub reason: Option<String>,
    /// The last cut that was saved before the quarantine.
    pub quarantined_after_cut: Option<u64>,
    /// Events that it failed on and was spared since it was attached or resumed.
    pub strikes: u32,
}

impl Status {
    /// With what has become known since: calls fail whenever they like.
    pub fn updated(mut self, facts: &Facts) -> Self {
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
    read: BTreeMap<String, (Stamp, Vec<u8>)>,
}

impl Controller {
    /// A controller of what already runs.
    pub fn new(context: Arc<Context>, plan: Plan, threads: BTreeMap<String, Threads>) -> Self {
        let planner = Planner::new(context.clone(), plan);
        Self { context, planner, threads, statuses: Arc::default(), read: BTreeMap::new() }
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
                        // Whoever asked may have hung up; what was done stays done.
                        let _ = reply.send(self.list());
                    }
                }
                Request::Resume(name, reply) => {
                    let resumed = self.resume(&name).map(|()| self.list()).map_err(|error| format!("{error:#}"));
                    self.planner.forget_resumed();
                    let _ = reply.send(resumed);
                }
                Request::Plan(plugin, bytes, reply) => {
                    let _ = reply.send(self.plan(&plugin, &bytes).map_err(|error| format!("{error:#}")));
                }
            }
        }
        for (name, threads) in std::mem::take(&mut self.threads) {
            self.join(&name, threads);
        }
    }

    fn list(&self) -> Vec<Status> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets an aggregator go on that is in quarantine.
    fn resume(&mut self, name: &str) -> anyhow::Result<()> {
        ensure!(self.planner.plan().aggregators.contains_key(name), "there is no aggregator {name:?} that runs");
        let in_quarantine = self.context.progress.facts().quarantined.contains_key(name);
        ensure!(in_quarantine, "aggregator {name} is not in quarantine: there is nothing to resume");
        self.planner.resume(name);
        let failures = self.reconcile()?;
        if let Some(reason) = failures.get(name) {
            bail!("aggregator {name} stays in quarantine: {reason}");
        }
        let in_the_plan = self.planner.plan().aggregators.contains_key(name);
        ensure!(in_the_plan, "aggregator {name} is paused: its file is not in the plugins directory");
        Ok(())
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
    /// Gives the reasons where it does not, by aggregator.
    pub fn reconcile(&mut self) -> anyhow::Result<BTreeMap<String, String>> {
        let wanted = self.wanted()?;
        for name in self.planner.awaited(&wanted) {
            self.join_ended(&name);
        }
        let proposal = self.planner.propose(&wanted)?;
        let failures = proposal.failures.clone();
        if let Some((activation, durable)) = self.planner.activation(&proposal)? {
            self.context.queue.push_control(Token::Activate(Box::new(activation)));
            let (position, sequence) = durable.recv().context("the daemon is stopping")?;
            for start in self.planner.activated(proposal, position, sequence)? {
                self.threads.insert(start.name.clone(), thread::spawn(&self.context, start)?);
            }
        }
        self.update_statuses(&wanted, &failures);
        Ok(failures)
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
            let shards = aggregator.shards;
            wanted.insert(aggregator.name.clone(), Wanted { plugin, settings, shards, version });
        }
        for (stem, file) in &files {
            if configured.iter().all(|aggregator| aggregator.plugin != *stem) {
                let version = self.load(stem, file, "{}");
                let (plugin, settings) = (stem.clone(), "{}".into());
                wanted.insert(stem.clone(), Wanted { plugin, settings, shards: 1, version });
            }
        }
        Ok(wanted)
    }

    /// What would become of the aggregators of a plugin, under their settings.
    fn plan(&self, plugin: &str, bytes: &[u8]) -> anyhow::Result<Vec<Preview>> {
        let configured = self.context.config().aggregators.clone();
        let mut wanted: Vec<_> = configured
            .iter()
            .filter(|aggregator| aggregator.plugin == plugin)
            .map(|aggregator| (aggregator.name.as_str(), aggregator.settings.as_str(), aggregator.shards))
            .collect();
        if wanted.is_empty() {
            wanted.push((plugin, "{}", 1));
        }
        let digest = tally_plugin::Digest::of(bytes).to_string();
        let registry = &self.context.registry;
        let preview = |(name, settings, shards): (&str, &str, usize)| {
            let version = match registry.look_at(bytes, settings) {
                Ok(configured) => Ok(Version { digest: digest.clone(), configured }),
                Err(error) => Err(Failed { digest: Some(digest.clone()), reason: format!("{error:#}") }),
            };
            let (plugin, settings) = (plugin.to_owned(), settings.to_owned());
            self.planner.preview(name, &Wanted { plugin, settings, shards, version })
        };
        wanted.into_iter().map(preview).collect()
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

    fn update_statuses(&self, wanted: &BTreeMap<String, Wanted>, failures: &BTreeMap<String, String>) {
        let facts = self.context.progress.facts();
        let mut statuses = Vec::new();
        for (name, wanted) in wanted {
            let running = self.planner.plan().aggregators.get(name);
            let status = Status {
                name: name.clone(),
                plugin: wanted.plugin.clone(),
                state: if running.is_some() { "running" } else { "failed" },
                version: running.map(|running| running.version.clone()),
                shards: Some(wanted.shards),
                wanted_digest: match &wanted.version {
                    Ok(version) => Some(version.digest.clone()),
                    Err(failed) => failed.digest.clone(),
                },
                running_digest: running.map(|running| running.digest.clone()),
                reason: failures.get(name).cloned(),
                quarantined_after_cut: None,
                strikes: 0,
            };
            statuses.push(status.updated(&facts));
        }
        for (name, meta) in &facts.saved {
            if !wanted.contains_key(name) {
                statuses.push(Status {
                    name: name.clone(),
                    plugin: meta.attached.plugin.clone(),
                    state: "paused",
                    version: Some(meta.attached.version.clone()),
                    shards: None,
                    wanted_digest: None,
                    running_digest: None,
                    reason: Some("its file is not in the plugins directory".into()),
                    quarantined_after_cut: None,
                    strikes: 0,
                });
            }
        }
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }
}
