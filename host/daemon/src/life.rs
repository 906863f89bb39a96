//! The beginning of a daemon's life: opens what is on disk and makes the machines that go on from there, without a thread, a socket
//! or a clock of its own. The daemon gives them threads ([`crate::pipeline`]); a simulation steps them one by one.

use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use tally_aggregate::{Note, Plan};
use tally_ingest::{Producers, Queue};
use tally_plugin::Engine;
use tally_sink::RejectedFiles;
use tally_state::Store;
use tally_storage::Storage;
use tally_wal::{Log, Options};

use crate::aggregator::Start;
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::context::{Context, Fatal, Token};
use crate::plugins::{Compiled, Registry};
use crate::sequencer::{Published, Sequencer};
use crate::tail::Tail;
use crate::{DECODER_VERSION, LOG_FOLDER, recovery};

/// The smallest part of a segment, in bytes, that there must be for each remembered event id.
const ID_ROOM: usize = 64;

/// More than any frame has: some of the longest lines that can be configured together, or the ids that open a segment.
const FRAME_BYTES: usize = 1 << 30;

/// A life that has begun.
pub struct Life<S: Storage> {
    /// What its machines share.
    pub context: Arc<Context<S>>,
    /// Decides and writes. Its first frame says that this life took over; it is written by the first settling.
    pub sequencer: Sequencer<S>,
    /// How far each named stream is.
    pub producers: Arc<Producers>,
    /// By what the first lines are decoded.
    pub decoding: Arc<tally_event::plan::Plan>,
    /// The plan in force.
    pub plan: Plan,
    /// The aggregators that run, and where they go on.
    pub starts: Vec<Start>,
}

/// Where and with what a life begins.
pub struct Beginning<S: Storage> {
    /// What is configured.
    pub config: Config,
    /// What time it is.
    pub clock: Clock,
    /// The data directory.
    pub data: S,
    /// What compiles and runs plugins.
    pub engine: Engine,
    /// What it has compiled already.
    pub compiled: Compiled,
    /// How many segments of the log a thread fills ahead; with 0 there is no thread.
    pub spare_segments: usize,
    /// Salt of new segments instead of a random one, so that files come out the same each time; for simulations only.
    pub salt: Option<u64>,
    /// Where a failure that ends the life is reported.
    pub fatal: Fatal,
}

/// Opens what is in the data directory, or makes it.
pub fn begin<S: Storage>(beginning: Beginning<S>) -> anyhow::Result<Life<S>> {
    let Beginning { config, clock, data, engine, compiled, spare_segments, salt, fatal } = beginning;
    let folder =
        data.folder(LOG_FOLDER).with_context(|| format!("opening the log's folder {}", data.describe(LOG_FOLDER)))?;
    let log = open_log(&config, folder, (spare_segments, salt))?;
    let last_frame = log.next_frame() - 1;
    let window = i64::try_from(config.dedupe.window.as_micros()).unwrap_or(i64::MAX);
    let (control, ids) = recovery::at_end(&mut log.reader(), last_frame, remembered_ids(&config), window)?;
    let store = Arc::new(Store::open(&data)?);
    let registry = Registry::new(engine, data.clone(), compiled);
    let queue = Queue::<Token>::new(config.queue.max_bytes);
    let tail = Arc::new(Tail::new(last_frame, config.log.tail_bytes));
    let published = Arc::new(Mutex::new(Arc::new(Published {
        last_sequence: control.last_sequence,
        cut: control.cut,
        cut_sequence: control.cut_sequence,
        batch_id: control.batch_id,
        counts: control.counts.clone(),
        ..Published::default()
    })));
    let context = Arc::new(Context::new(
        config,
        clock,
        queue,
        tail,
        data,
        store,
        registry,
        fatal,
        published,
        control.clone(),
        log.reader(),
    ));
    let config = &context.config;
    let producers = Producers::new(config.limits.producers);
    producers.restore(control.producers.iter().map(|(id, lines)| (id, *lines)));
    let rejected = RejectedFiles::open(&config.data_dir, config.limits.rejected_bytes)?;
    let broken = recovery::broken(&control, &context.registry, &context.store)?;
    let mut control = control;
    for note in &broken {
        control.note(note);
    }
    let decoding = recovery::decoding_plan(&control, &context.registry, context.limits())?;
    let starts = recovery::starts(&context.store, &log.reader(), &control, &context.progress)?;
    for start in starts.iter().filter(|start| start.meta.frame < last_frame) {
        context.replay.expect(start.meta.position());
    }
    let plan = control.plan.clone();
    let mut sequencer = Sequencer::new(&context, log, control, producers.clone(), rejected, ids);
    sequencer.note(&Note::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        decoder: DECODER_VERSION,
        engine: context.registry.engine().fingerprint(),
    });
    for note in &broken {
        sequencer.note(note);
    }
    Ok(Life { context, sequencer, producers, decoding, plan, starts })
}

fn open_log<S: Storage>(
    config: &Config,
    storage: S,
    (spare_segments, salt): (usize, Option<u64>),
) -> anyhow::Result<Log<S>> {
    let durability = match config.log.durability {
        Durability::Fsync => tally_wal::Durability::Fsync,
        Durability::Interval(time) => tally_wal::Durability::Interval(time),
        Durability::Os => tally_wal::Durability::Os,
    };
    let segment_bytes = config.log.segment_bytes;
    let options = Options { segment_bytes, spare_segments, durability, max_frame_bytes: FRAME_BYTES, salt };
    let (log, recovered) = Log::open(storage, options).context("opening the log")?;
    if let Some(file) = &recovered.torn_file {
        let meaning = match config.log.durability {
            Durability::Fsync => "nothing in it was acknowledged",
            _ => "log.durability let it be acknowledged before it was synced",
        };
        let (bytes, events) = (recovered.torn_bytes, recovered.torn_events);
        tracing::warn!(bytes, events, copy = file, "cut an unsynced tail off the log: {meaning}");
    }
    Ok(log)
}

/// How many event ids are remembered. Every segment opens with all of them in one frame, so they must not fill it.
pub fn remembered_ids(config: &Config) -> usize {
    let opening_bytes = config.log.segment_bytes.min(FRAME_BYTES as u64);
    let most = config.dedupe.ids.min(usize::try_from(opening_bytes).unwrap_or(usize::MAX) / ID_ROOM);
    if most < config.dedupe.ids {
        tracing::info!(
            wanted = config.dedupe.ids,
            most,
            "a segment of the log has no room for dedupe.ids event ids; raise log.segment_bytes"
        );
    }
    if config.dedupe.window.is_zero() { 0 } else { most }
}
