//! Shadows: new versions that run beside the old ones on live traffic. Each is a [`Replica`] on a thread of its own, which `follow` has;
//! here is the table of them. They live in memory alone: a restart forgets them. Nothing waits for one, the log keeps nothing for it, and
//! whatever becomes of it is nobody else's concern. Must not know: the log's plan, and what becomes of a version that is taken on.

mod follow;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use tally_aggregate::Attached;
use tally_plugin::Configured;
use tally_query::Since;
use tally_state::Store;
use tokio::sync::oneshot;

use self::follow::Runner;
use super::diff::Comparison;
use super::planner::ensure_loads;
use super::replica::{Beginning, Place, Replica};
use crate::aggregator::line;
use crate::context::Context;

/// A shadow as `tally plugin list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ShadowStatus {
    /// `running`, or `failed` for good.
    pub state: &'static str,
    /// The new version, by its own name for it.
    pub version: String,
    /// BLAKE3 of the component.
    pub digest: String,
    /// Whether it began with nothing, rather than with what the aggregator had saved.
    pub from_empty: bool,
    /// The cut behind which it began.
    pub began_cut: u64,
    /// The last cut that it has taken in.
    pub cut: u64,
    /// Sequence of the last event that it has applied.
    pub sequence: u64,
    /// Accepted events that it has not applied yet.
    pub behind: u64,
    /// Why it has failed.
    pub reason: Option<String>,
}

/// Why there is no comparison.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Uncompared {
    /// There is no such shadow.
    #[error("aggregator {0} has no shadow; `tally plugin shadow {0} FILE` starts one")]
    NoShadow(String),
    /// The two did not reach the same cut in time.
    #[error("{0}")]
    CatchingUp(String),
    /// What runs does not answer.
    #[error("{0}")]
    NotRunning(String),
    /// The shadow has failed.
    #[error("the shadow has failed: {0}")]
    Failed(String),
}

/// What a shadow leaves to whoever stops it.
pub struct Stopped {
    /// How it would be attached.
    pub attached: Attached,
    /// The component.
    pub component: Vec<u8>,
    /// What it has saved, in memory, under the aggregator's name.
    pub store: Arc<Store>,
    /// Whether it began with nothing, rather than with what the aggregator had saved.
    pub from_empty: bool,
    /// The cut behind which it began.
    pub began_cut: u64,
    /// The last cut that the aggregator had saved then.
    pub branched_cut: u64,
    /// Why it is of no use, if it has failed.
    pub failed: Option<String>,
}

/// How far a shadow is; written by its thread.
#[derive(Debug, Default)]
struct Stand {
    cut: u64,
    applied: u64,
    failed: Option<String>,
}

/// What a shadow's thread shares with the table.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Held for moments, once for a job and for each look at the list.
    stand: Mutex<Stand>,
}

impl Shared {
    fn stand(&self) -> MutexGuard<'_, Stand> {
        self.stand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Ask {
    rows: usize,
    reply: oneshot::Sender<Result<Comparison, Uncompared>>,
}

struct Shadow {
    /// All that is known without its thread.
    leaves: Stopped,
    shared: Arc<Shared>,
    questions: mpsc::Sender<Ask>,
    thread: JoinHandle<()>,
}

/// The shadows by the aggregator beside which each runs: one at most.
pub struct Shadows {
    context: Arc<Context>,
    /// Held for moments, never while a shadow starts or ends.
    table: Mutex<BTreeMap<String, Shadow>>,
}

impl Shadows {
    /// There is none yet.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Shadow>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a shadow of this component: from what the aggregator has saved, or from nothing and `since` then. Waits for compilation and
    /// for the saved state to be loaded.
    ///
    /// # Errors
    /// Why the component cannot be its shadow; nothing has begun then.
    pub fn start(&self, name: &str, component: Vec<u8>, since: Option<Since>) -> anyhow::Result<ShadowStatus> {
        ensure_none(&self.table(), name)?;
        self.ensure_running(name)?;
        let context = &self.context;
        let config = context.config();
        let settings = config.aggregators.iter().find(|one| one.name == name).map_or("{}", |one| one.settings.as_str());
        let configured = context.registry.look_at(&component, settings)?;
        let (beginning, attached, branched_cut) = self.beginning(name, &configured, since)?;
        let began_cut = beginning.meta.cut;
        let (tail, rows) = (Some(context.tail.clone()), config.limits.batch_rows);
        let replica = Replica::new(name, configured, &attached, beginning, tail, context.reader(), rows)?;
        let store = replica.store().clone();
        let from_empty = since.is_some();
        let leaves = Stopped { attached, component, store, from_empty, began_cut, branched_cut, failed: None };

        let shared = Arc::new(Shared::default());
        let (questions, asked) = mpsc::channel();
        let runner = Runner { context: context.clone(), name: name.to_owned(), replica, asked, shared: shared.clone() };
        runner.publish();
        let mut table = self.table();
        ensure_none(&table, name)?;
        let thread = std::thread::Builder::new().name(format!("shadow-{name}"));
        let thread = thread.spawn(move || runner.run()).context("starting the thread of the shadow")?;
        let shadow = Shadow { leaves, shared, questions, thread };
        let status = self.status_of(&shadow);
        tracing::info!(aggregator = name, digest = status.digest, cut = began_cut, from_empty, "a shadow runs");
        table.insert(name.to_owned(), shadow);
        Ok(status)
    }

    fn ensure_running(&self, name: &str) -> anyhow::Result<()> {
        let context = &self.context;
        let runs = context.totals.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name);
        ensure!(
            runs,
            "aggregator {name} is not running, and a shadow runs beside one that is; see `tally plugin list`"
        );
        let quarantined = context.progress.facts().quarantined.contains_key(name);
        ensure!(!quarantined, "aggregator {name} is in quarantine, and a shadow runs beside one that goes on");
        Ok(())
    }

    /// What a shadow begins with, how it would be attached, and the last cut that the aggregator has saved.
    fn beginning(
        &self,
        name: &str,
        configured: &Configured,
        since: Option<Since>,
    ) -> anyhow::Result<(Beginning, Attached, u64)> {
        let context = &self.context;
        let (mut reader, last) = (context.reader(), context.tail.last());
        let snapshot = context.store.snapshot()?;
        let saved = line::Saved::load(&snapshot, name, None)?;
        let saved = saved.context("it is only just being attached and has saved nothing: try again")?;
        let line::State { meta, runs, letters } = saved.copy(&snapshot)?;
        let branched_cut = meta.cut;
        let running = meta.attached.clone();
        let mut attached = Attached {
            version: configured.component.description.version.clone(),
            digest: configured.component.digest.to_string(),
            settings: configured.settings.to_string(),
            state_version: configured.manifest.state_version.clone(),
            ..running
        };
        if let Some(since) = since {
            let place = Place::of(since, &mut reader, last)?;
            (attached.attached_at, attached.applies_after) = (place.position.cut, place.position.cut);
            return Ok((Beginning::empty(name, &attached, place), attached, branched_cut));
        }
        for (run, _) in &runs {
            ensure_loads(&configured.manifest, meta.state_version_of(run))
                .context("it cannot go on from what is saved, but it could count anew, with --from")?;
        }
        let presets = Place::behind(&mut reader, meta.position(), last)?.presets;
        Ok((Beginning { meta, runs, letters, presets, skips: Default::default() }, attached, branched_cut))
    }

    /// The shadow of an aggregator, if it has one.
    pub fn status(&self, name: &str) -> Option<ShadowStatus> {
        self.table().get(name).map(|shadow| self.status_of(shadow))
    }

    fn status_of(&self, shadow: &Shadow) -> ShadowStatus {
        let Stopped { attached, from_empty, began_cut, .. } = &shadow.leaves;
        let last = self.context.published().last_sequence;
        let stand = shadow.shared.stand();
        ShadowStatus {
            state: if stand.failed.is_some() { "failed" } else { "running" },
            version: attached.version.clone(),
            digest: attached.digest.clone(),
            from_empty: *from_empty,
            began_cut: *began_cut,
            cut: stand.cut,
            sequence: stand.applied,
            behind: last.saturating_sub(stand.applied),
            reason: stand.failed.clone(),
        }
    }

    /// Compares the shadow with what runs, as of the same cut, and shows at most `rows` rows of each kind of difference in a table.
    pub async fn compare(&self, name: &str, rows: usize) -> Result<Comparison, Uncompared> {
        let (reply, answer) = oneshot::channel();
        let asked = match self.table().get(name) {
            None => return Err(Uncompared::NoShadow(name.to_owned())),
            Some(shadow) => shadow.questions.send(Ask { rows, reply }).is_ok(),
        };
        match answer.await {
            Ok(compared) if asked => compared,
            // Its thread has ended, perhaps just now.
            _ => Err(match self.status(name) {
                None => Uncompared::NoShadow(name.to_owned()),
                Some(status) => {
                    Uncompared::Failed(status.reason.unwrap_or_else(|| "the daemon is stopping".to_owned()))
                }
            }),
        }
    }

    /// Ends the shadow of an aggregator and gives what it leaves; none where there is no shadow. Waits for the call that it is in.
    pub fn stop(&self, name: &str) -> Option<Stopped> {
        let Shadow { leaves, shared, thread, .. } = self.table().remove(name)?;
        shared.stop.store(true, Ordering::Relaxed);
        // Its panics are caught within.
        let _ = thread.join();
        let failed = shared.stand().failed.take();
        Some(Stopped { failed, ..leaves })
    }
}

fn ensure_none(table: &BTreeMap<String, Shadow>, name: &str) -> anyhow::Result<()> {
    let Some(shadow) = table.get(name) else { return Ok(()) };
    let digest = &shadow.leaves.attached.digest;
    bail!("aggregator {name} has a shadow already, {digest}: `tally plugin drop {name}` first")
}
