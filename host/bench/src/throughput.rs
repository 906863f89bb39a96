//! Scenarios about rates: everything at once over Unix sockets, until the last event is acknowledged and applied.

use std::fs;
use std::thread;
use std::time::Instant;

use anyhow::Result;

use crate::client::Connection;
use crate::count::Count;
use crate::daemon::Daemon;
use crate::lines::{Shape, Stock};
use crate::machine::{Places, joined};
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, check, machine, raw};

/// Sent before the clock starts: segments are there, instances are warm, the first users are known.
pub const WARM_UP: u64 = 200_000;

/// Three aggregators: what is compared, and one plugin once more under other settings.
const THREE_AGGREGATORS: &str = r#"
[[aggregator]]
name = "video-actions"
plugin = "video-actions"
[[aggregator]]
name = "homepage-fetch"
plugin = "homepage-fetch"
[[aggregator]]
name = "views-only"
plugin = "video-actions"
settings = { weights = { view = 1, play = 0, pause = 0, unmute = 0 } }
"#;

/// What one of these scenarios is about.
pub struct Plan {
    /// Which lines.
    pub shape: Shape,
    /// How many, unless the caller says otherwise.
    pub events: u64,
}

/// What a run of these scenarios has to work with.
struct Work {
    places: Places,
    stock: Stock,
    connections: usize,
    count: Count,
}

impl Work {
    fn new(plan: &Plan, places: Places, connections: usize, options: &Options) -> Result<Self> {
        let stock = Stock::generate(&options.bench, plan.shape, options.events.unwrap_or(plan.events))?;
        let mut count = Count::default();
        count.add(stock.lines.first(WARM_UP), 1)?;
        count.add(stock.lines.all(), stock.times)?;
        Ok(Self { places, stock, connections, count })
    }

    /// Each connection sends a part of the lines; when the first began and when the last was acknowledged.
    fn flood(&self, connections: &mut [Connection]) -> Result<(Instant, Instant)> {
        let parts = connections.len();
        let send = |index: usize, connection: &mut Connection| {
            connection.flood(self.stock.lines.part(index, parts), self.stock.times)
        };
        let started = Instant::now();
        let ended = machine::on(&self.places.client, || {
            thread::scope(|scope| {
                let send = &send;
                let start = |(index, connection)| scope.spawn(move || send(index, connection));
                let senders: Vec<_> = connections.iter_mut().enumerate().map(start).collect();
                senders.into_iter().try_fold(started, |last, sender| Ok(last.max(joined(sender.join())?)))
            })
        })?;
        Ok((started, ended))
    }

    /// Connections over which the first lines were sent.
    fn connect(&self, socket: &std::path::Path) -> Result<Vec<Connection>> {
        machine::on(&self.places.client, || {
            let mut connections: Vec<Connection> =
                (0..self.connections).map(|_| Connection::open(socket)).collect::<Result<_>>()?;
            connections[0].flood(self.stock.lines.first(WARM_UP), 1)?;
            Ok(connections)
        })
    }

    /// Events per second of the plain baseline, and its processor seconds per million; its numbers must be right, too.
    fn plain(&self, stage: &Stage) -> Result<(f64, f64)> {
        let plain = stage.plain(&self.places.server)?;
        let mut connections = self.connect(&plain.socket)?;
        let cpu = plain.process.cpu_seconds()?;
        let (started, ended) = self.flood(&mut connections)?;
        let cpu = plain.process.cpu_seconds()? - cpu;
        drop(connections);
        check::summaries(&[&plain.numbers()?], &self.count)?;
        let events = self.stock.events() as f64;
        Ok((events / (ended - started).as_secs_f64(), cpu / events * 1e6))
    }

    fn daemon(&self, stage: &Stage, daemon: &Daemon, outcome: &mut Outcome) -> Result<()> {
        let mut connections = self.connect(&daemon.events)?;
        daemon.applied(self.stock.lines.first(WARM_UP).count)?;
        let ground = Ground::of(daemon)?;
        let (started, acknowledged) = self.flood(&mut connections)?;
        let applied = daemon.applied(self.count.events)?.max(acknowledged);
        let settled = daemon.settled()?.max(applied);
        let events = self.stock.events();
        let per_second = |until: Instant| events as f64 / (until - started).as_secs_f64();
        outcome.add("events_per_second", per_second(applied));
        outcome.add("acknowledged_per_second", per_second(acknowledged));
        outcome.add("settled_per_second", per_second(settled));
        outcome.add("generator_events_per_second", self.generator(stage)?);
        ground.costs(daemon, events, outcome)?;
        check::daemon(daemon, &self.count)
    }

    fn generator(&self, stage: &Stage) -> Result<f64> {
        let parts: Vec<_> = (0..self.connections).map(|index| self.stock.lines.part(index, self.connections)).collect();
        raw::socket(&stage.socket("raw"), &self.places, &parts)
    }
}

/// The daemon on one core, the client on another, beside the plain baseline in the same place.
pub fn one_core(plan: &Plan, options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let work = Work::new(plan, Places::one_core()?, 1, options)?;
    stage.runs(options, |outcome| {
        let (baseline, baseline_cpu) = work.plain(&stage)?;
        let daemon = stage.daemon(&work.places.server, &[])?.start()?;
        work.daemon(&stage, &daemon, outcome)?;
        outcome.add("baseline_events_per_second", baseline);
        outcome.add("baseline_cpu_s_per_million", baseline_cpu);
        outcome.add("ratio_to_baseline", outcome.of("events_per_second") / baseline);
        daemon.stop()
    })
}

/// Every core for the daemon and the clients alike, four connections, three aggregators.
pub fn all_cores(plan: &Plan, options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let work = Work::new(plan, Places::all_cores()?, 4, options)?;
    let config = stage.folder().join("tally.toml");
    fs::write(&config, THREE_AGGREGATORS)?;
    let config = config.display().to_string();
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&work.places.server, &["--config", &config])?.start()?;
        work.daemon(&stage, &daemon, outcome)?;
        daemon.stop()
    })
}
