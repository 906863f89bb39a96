//! Scenarios about rates: everything at once over Unix sockets, until the last event is acknowledged and applied.

use std::time::Instant;

use anyhow::Result;

use crate::client::Connection;
use crate::count::Count;
use crate::lines::{Lines, Part, Shape, Stock};
use crate::machine::Places;
use crate::results::Outcome;
use crate::stage::Stage;
use crate::{Options, check, machine, raw, say};

/// Sent before the clock starts: segments are there, instances are warm, the first users are known.
const WARM_UP: u64 = 200_000;

/// What one of these scenarios is about.
pub struct Plan {
    /// Which lines.
    pub shape: Shape,
    /// How many, unless the caller says otherwise.
    pub events: u64,
}

/// The daemon on one core, the client on another, beside the plain baseline in the same place.
pub fn one_core(plan: &Plan, options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::one_core()?;
    let stock = Stock::generate(&options.bench, plan.shape, options.events.unwrap_or(plan.events))?;
    let warm_up = stock.lines.first(WARM_UP);
    let mut count = Count::default();
    count.add(warm_up, 1)?;
    count.add(stock.lines.all(), stock.times)?;
    let mut outcomes = Vec::new();
    for run in 1..=options.runs {
        let mut outcome = Outcome::default();
        crate::scenario::surroundings(&stage, &mut outcome)?;
        outcome.add("generator_events_per_second", raw::socket(&stage.socket("raw"), &places, stock.lines.all())?);
        let baseline = plain(&stage, &places, &stock, warm_up, &count)?;
        let setup = stage.daemon(&places.server, &[])?;
        let daemon = setup.start()?;
        let mut connection = machine::on(&places.client, || Connection::open(&daemon.events))?;
        let warm = machine::on(&places.client, || connection.flood(warm_up, 1));
        warm?;
        daemon.applied(warm_up.count)?;
        let cpu = daemon.process.cpu_seconds()?;
        let (started, acknowledged) =
            machine::on(&places.client, || timed(&mut connection, &stock.lines, stock.times))?;
        let applied = daemon.applied(count.events)?.max(acknowledged);
        let settled = daemon.settled()?.max(applied);
        let events = stock.events() as f64;
        let per_second = |until: Instant| events / (until - started).as_secs_f64();
        outcome.add("events_per_second", per_second(applied));
        outcome.add("baseline_events_per_second", baseline);
        outcome.add("ratio_to_baseline", per_second(applied) / baseline);
        outcome.add("acknowledged_per_second", per_second(acknowledged));
        outcome.add("settled_per_second", per_second(settled));
        outcome.add("cpu_s_per_million", (daemon.process.cpu_seconds()? - cpu) / events * 1e6);
        outcome.add("rss_bytes", daemon.process.peak_resident_bytes()? as f64);
        check::daemon(&daemon, &count)?;
        daemon.stop()?;
        say(format!("run {run} of {}: {}", options.runs, outcome.line()));
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

fn timed(connection: &mut Connection, lines: &Lines, times: u64) -> Result<(Instant, Instant)> {
    let started = Instant::now();
    Ok((started, connection.flood(lines.all(), times)?))
}

/// Events per second of the plain baseline, whose numbers must be right, too.
fn plain(stage: &Stage, places: &Places, stock: &Stock, warm_up: Part<'_>, count: &Count) -> Result<f64> {
    let plain = stage.plain(&places.server)?;
    let (started, ended) = machine::on(&places.client, || {
        let mut connection = Connection::open(&plain.socket)?;
        connection.flood(warm_up, 1)?;
        timed(&mut connection, &stock.lines, stock.times)
    })?;
    check::summaries(&[&plain.numbers()?], count)?;
    Ok(stock.events() as f64 / (ended - started).as_secs_f64())
}
