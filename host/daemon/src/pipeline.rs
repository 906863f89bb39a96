//! The daemon's life: recover, wire the data path, serve, drain, end. Everything runs in threads of its own; tokio only
//! carries sockets and signals.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tally_plugin::{Engine, Limits};
use tally_storage::RealStorage;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::aggregator::thread;
use crate::answers::Answers;
use crate::clock::Clock;
use crate::config::Config;
use crate::context::{Context, Fatal, Token};
use crate::doors::{DoorLimits, Doors, Serving};
use crate::guarded::guarded;
use crate::life::{self, Beginning, Life};
use crate::plugins::{Compiled, Controller, Request, Shadows, folder};
use crate::progress::Phase;
use crate::reload::Reload;
use crate::{allocator, parse, records, sequencer};

/// Runs the daemon until SIGTERM or SIGINT, or until it cannot go on. On SIGHUP it reads its configuration again.
pub fn run(config: Config, reload: Reload) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .context("starting the I/O runtime")?;
    let result = runtime.block_on(live(config, reload));
    // Questions under way may still block in threads of the runtime; they are not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn live(config: Config, reload: Reload) -> anyhow::Result<()> {
    let clock = Clock::start();
    let on = |kind| signal(kind).context("listening for signals");
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let fatal = Fatal(failed);

    // What is on disk.
    let _lock = lock(&config.data_dir)?;
    let data = RealStorage::new(&config.data_dir)
        .with_context(|| format!("opening the data directory {}", config.data_dir.display()))?;
    let engine = Engine::new(plugin_limits(&config), Some(config.data_dir.join("cache")))?;
    let beginning =
        Beginning { config, clock, data, engine, compiled: Compiled::default(), spare_segments: 1, salt: None, fatal };
    let Life { context, sequencer, producers, decoding, plan, starts } = life::begin(beginning)?;
    let (config, queue) = (&context.config, &context.queue);

    // sources -> queue -> parsers -> sequencer (log) -> tail -> apply threads -> total threads -> records
    let (intake, parsers) = parse::begin(queue, decoding, config.workers.parsers);
    let parsers = parsers.into_iter().enumerate().map(|(number, parser)| {
        guarded(&context, &format!("parser-{number}"), move |_| {
            parser.run();
            Ok(())
        })
    });
    let parsers: Vec<JoinHandle<()>> = parsers.collect::<anyhow::Result<_>>()?;
    let sequencer = guarded(&context, "sequencer", move |_| sequencer::run(sequencer, intake))?;
    let mut aggregators = BTreeMap::new();
    for start in starts {
        aggregators.insert(start.name.clone(), thread::spawn(&context, start)?);
    }
    let writer = guarded(&context, "records", records::run)?;

    // What is wanted.
    let shadows = Arc::new(Shadows::new(context.clone()));
    let mut controller = Controller::new(context.clone(), plan, aggregators, shadows.clone())?;
    let statuses = controller.statuses();
    let (to_controller, requests) = mpsc::channel();
    let ring = to_controller.clone();
    folder::watch(&config.plugins_dir, move || ring.send(Request::Reconcile(None)).is_ok())?;
    let controller = tokio::task::spawn_blocking(move || controller.reconcile().map(|_| controller));
    let controller = controller.await.context("taking over the plugins directory")??;
    let controller = guarded(&context, "controller", move |_| {
        controller.run(&requests);
        Ok(())
    })?;

    // The doors.
    let (stop, stopped) = watch::channel(false);
    let limits = DoorLimits::of(config);
    let mut doors = Doors::bind(&context, &limits).await?;
    let answers = Arc::new(Answers {
        context: context.clone(),
        controller: to_controller.clone(),
        statuses: statuses.clone(),
        shadows,
        counters: doors.counters.clone(),
    });
    let addresses = std::mem::take(&mut doors.addresses).join(" ");
    let Serving { sources, questions } = doors.serve(&context, &producers, &answers, &limits, &stopped)?;
    let running = statuses.lock().map(|list| list.iter().filter(|s| s.state == "running").count()).unwrap_or(0);
    context.progress.update(|facts| facts.phase = Phase::Accepting);
    println!("tally is ready: {addresses} aggregators={running} sequence={}", context.published().last_sequence);

    // Until told to stop.
    let mut in_force = config.clone();
    let mut quiet = Quiet::default();
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            biased;
            failure = failures.recv() => return Err(failure.unwrap_or_else(|| anyhow::anyhow!("the daemon stopped"))),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = looks.tick() => {
                if quiet.begins(&context) {
                    tokio::task::spawn_blocking(allocator::give_back);
                }
            }
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reading the configuration again and looking at the plugins directory");
                if let Some(changes) = reload.read(&mut in_force) {
                    if changes.has_live("logs.level") {
                        reload.set_log_level(&in_force.logs.level);
                    }
                    let config = Arc::new(in_force.clone());
                    context.set_config(config.clone());
                    limits.set(&config);
                    producers.set_max(config.limits.producers);
                    queue.push_control(Token::Configure(config));
                }
                to_controller.send(Request::Reconcile(None)).context("the controller is gone")?;
            }
        }
    }

    // Drain: sources first, then one last cut, then everybody behind it.
    context.progress.update(|facts| facts.phase = Phase::Stopping);
    tracing::info!(grace = ?config.shutdown.grace, "stopping; a second signal ends at once");
    let drained = async {
        stop.send(true).context("the sources are gone")?;
        for source in sources {
            source.await.context("a source")?;
        }
        let (done, cut) = oneshot::channel();
        queue.push_control(Token::Cut { reason: "shutdown", flush: true, done });
        cut.await.context("the last cut")?;
        queue.close();
        to_controller.send(Request::Stop).context("the controller is gone")?;
        let threads = parsers.into_iter().chain([sequencer, controller, writer]);
        tokio::task::spawn_blocking(move || threads.for_each(|t| drop(t.join()))).await.context("the threads")?;
        for door in questions {
            door.await.context("a door for questions")?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        failure = failures.recv() => Err(failure.unwrap_or_else(|| anyhow::anyhow!("the daemon stopped"))),
        drained = tokio::time::timeout(config.shutdown.grace, drained) => match drained {
            Ok(result) => {
                result?;
                tracing::info!(sequence = context.published().last_sequence, "stopped; everything is flushed");
                Ok(())
            }
            Err(_) => {
                tracing::warn!("the grace period is over; nothing acknowledged is lost, the next start catches up");
                std::process::exit(0);
            }
        },
        _ = terminate.recv() => end_at_once(),
        _ = interrupt.recv() => end_at_once(),
    }
}

/// Notices when a stretch of work is over.
#[derive(Default)]
struct Quiet {
    /// The last frame, and what all aggregators have applied.
    seen: (u64, u64),
    was_quiet: bool,
}

impl Quiet {
    /// Whether since the last look nothing has happened any more, for the first time.
    fn begins(&mut self, context: &Context) -> bool {
        let applied = context.progress.facts().meters.values().map(|meter| meter.snapshot().applied_sequence).sum();
        let now = (context.published().frame, applied);
        let is_quiet = std::mem::replace(&mut self.seen, now) == now;
        let was_quiet = std::mem::replace(&mut self.was_quiet, is_quiet);
        is_quiet && !was_quiet
    }
}

fn end_at_once() -> ! {
    tracing::warn!("second signal: ending at once; nothing acknowledged is lost");
    std::process::exit(1)
}

fn plugin_limits(config: &Config) -> Limits {
    let mut limits =
        Limits { memory_bytes: config.plugin.memory_bytes, backstop: config.plugin.backstop, ..Limits::default() };
    limits.fuel_base = config.plugin.fuel_base.unwrap_or(limits.fuel_base);
    limits.fuel_per_row = config.plugin.fuel_per_row.unwrap_or(limits.fuel_per_row);
    limits
}

/// One daemon per data directory.
pub(crate) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(data_dir).with_context(|| format!("making the data directory {}", data_dir.display()))?;
    let path = data_dir.join("tally.lock");
    let file = File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        let holder =
            if holder.trim().is_empty() { "another process".to_owned() } else { format!("process {}", holder.trim()) };
        bail!("{} is in use by {holder}: one daemon per data directory", data_dir.display());
    }
    file.set_len(0)
        .and_then(|()| std::io::Write::write_all(&mut &file, std::process::id().to_string().as_bytes()))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(file)
}
