//! What the daemon's threads share: handles only, each owned by the part that explains it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tally_aggregate::{Control, Skip};
use tally_event::plan::Limits;
use tally_ingest::{Counters, Queue};
use tally_state::Store;
use tally_storage::{RealStorage, Storage};
use tally_wal::Reader;
use tokio::sync::oneshot;

use crate::aggregator::TotalMessage;
use crate::clock::Clock;
use crate::config::Config;
use crate::plugins::Registry;
use crate::progress::Progress;
use crate::replay::Replay;
use crate::sequencer::Published;
use crate::tail::Tail;

/// What those who catch up share holds so many bytes at most, and no more than the tail.
const REPLAYED_BYTES: usize = 4 << 20;

/// A decision that is asked for: it travels in the queue, so that it has its place among the events.
pub enum Token {
    /// Cut here.
    Cut {
        /// Why, for the log.
        reason: &'static str,
        /// Whether the cut has an analytics record.
        flush: bool,
        /// Gets the number of the cut once it is durable.
        done: oneshot::Sender<u64>,
    },
    /// From here on these aggregators run.
    Activate(Box<Activation>),
    /// From here on these settings hold.
    Configure(Arc<Config>),
    /// An aggregator goes on without an event; its time is given when this is decided.
    Skip(Box<Skip>),
    /// An aggregator no longer takes part.
    Quarantine {
        /// The aggregator.
        name: String,
        /// The last cut that it saved.
        after_cut: u64,
        /// Why.
        reason: String,
    },
}

/// A new plan, ready to be logged.
pub struct Activation {
    /// The plan as it will stand in the log; [`Attached::HERE`](tally_aggregate::Attached::HERE) stands for the number of the cut that it gets.
    pub plan: tally_aggregate::Plan,
    /// What lines are decoded by behind it.
    pub decoding: Arc<tally_event::plan::Plan>,
    /// Gets the cut and its frame once it is durable.
    pub done: mpsc::Sender<(crate::feed::Position, u64)>,
}

/// Ends the daemon with an error.
#[derive(Clone)]
pub struct Fatal(pub tokio::sync::mpsc::UnboundedSender<anyhow::Error>);

impl Fatal {
    /// Reports the error; the daemon stops acknowledging and exits.
    pub fn stop(&self, error: anyhow::Error) {
        tracing::error!(error = format!("{error:#}"), "the daemon stops");
        // The receiver is gone only when the daemon ends already.
        let _ = self.0.send(error);
    }
}

/// See the module.
pub struct Context<S: Storage = RealStorage> {
    /// The configuration as of the start; [`Context::config`] has the one in force.
    pub config: Config,
    /// The configuration in force: what a reload can apply may have changed.
    in_force: Mutex<Arc<Config>>,
    /// The clocks.
    pub clock: Clock,
    /// Chunks and tokens on their way to the log.
    pub queue: Arc<Queue<Token>>,
    /// Recent durable frames.
    pub tail: Arc<Tail>,
    /// What those behind them share.
    pub replay: Arc<Replay<S>>,
    /// How far everybody is.
    pub progress: Arc<Progress>,
    /// What the source of datagrams counts; the sequencer takes what it dropped into the ledger.
    pub datagrams: Arc<Counters>,
    /// The data directory.
    pub data: S,
    /// Saved state.
    pub store: Arc<Store>,
    /// Plugin versions.
    pub registry: Registry<S>,
    /// Where a failure that ends the daemon is reported.
    pub fatal: Fatal,
    /// The newest published facts of the sequencer.
    pub published: Arc<Mutex<Arc<Published>>>,
    /// Doors to the total threads, by aggregator.
    pub totals: Mutex<HashMap<String, mpsc::SyncSender<TotalMessage>>>,
    /// Control state as recovered at the start.
    pub recovered: Control,
    reader: Mutex<Reader<S>>,
}

impl<S: Storage> Context<S> {
    /// Puts the handles together.
    #[expect(clippy::too_many_arguments, reason = "called once, by the wiring")]
    pub fn new(
        config: Config,
        clock: Clock,
        queue: Arc<Queue<Token>>,
        tail: Arc<Tail>,
        data: S,
        store: Arc<Store>,
        registry: Registry<S>,
        fatal: Fatal,
        published: Arc<Mutex<Arc<Published>>>,
        recovered: Control,
        reader: Reader<S>,
    ) -> Self {
        Self {
            in_force: Mutex::new(Arc::new(config.clone())),
            replay: Arc::new(Replay::new(reader.clone(), REPLAYED_BYTES.min(config.log.tail_bytes))),
            config,
            clock,
            queue,
            tail,
            progress: Arc::default(),
            datagrams: Arc::default(),
            data,
            store,
            registry,
            fatal,
            published,
            totals: Mutex::default(),
            recovered,
            reader: Mutex::new(reader),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a changed configuration into force, for those who look from now on.
    pub fn set_config(&self, config: Arc<Config>) {
        *self.in_force.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Decoding limits.
    pub fn limits(&self) -> Limits {
        let limits = &self.config().limits;
        Limits {
            line_bytes: limits.line_bytes,
            depth: limits.depth,
            event_id_bytes: limits.event_id_bytes,
            ..Limits::default()
        }
    }

    /// A reader of the log with a position of its own.
    pub fn reader(&self) -> Reader<S> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the sequencer published last.
    pub fn published(&self) -> Arc<Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
