//! The scenario of too much: twice what the daemon can do for a while, and what is left of its speed right after it.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Connection;
use crate::count::Count;
use crate::lines::{Shape, Stock};
use crate::machine::{self, Places};
use crate::open_loop::Load;
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, check};

/// Seconds of overload, unless the caller says otherwise.
const SECONDS: f64 = 10.0;
/// Events by which the possible rate is found.
const EVENTS: u64 = 4_000_000;

/// See the module.
pub fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_but_one()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(EVENTS))?;
    let seconds = options.seconds.unwrap_or(SECONDS);
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&places.server, &[])?.start()?;
        let ground = Ground::of(&daemon)?;
        let mut count = Count::default();
        let flood = |count: &mut Count| -> Result<f64> {
            count.add(stock.lines.all(), stock.times)?;
            machine::on(&places.client, || {
                let mut connection = Connection::open(&daemon.events)?;
                let started = Instant::now();
                let ended = connection.flood(stock.lines.all(), stock.times)?;
                Ok(stock.events() as f64 / (ended - started).as_secs_f64())
            })
        };
        flood(&mut count)?;
        let possible = flood(&mut count)?;
        let rate = (2.0 * possible) as u64;
        let events = (rate as f64 * seconds) as u64;
        let stop_after = Some(Duration::from_secs_f64(seconds));
        let load = Load { lines: &stock.lines, rate, events, warm_up: 0, stop_after };
        let heard = machine::on(&places.client, || load.run(&daemon.events))?;
        let after = flood(&mut count)?;
        Load { events: heard.sent, ..load }.count(&mut count)?;
        outcome.add("possible_events_per_second", possible);
        outcome.add("offered_events_per_second", rate as f64);
        outcome.add("events_per_second", heard.sent as f64 / heard.took.as_secs_f64());
        outcome.add("after_events_per_second", after);
        outcome.add("after_over_possible", after / possible);
        outcome.add("admitted_ack_p50_us", heard.admitted.value_at_quantile(0.5) as f64 / 1e3);
        outcome.add("admitted_ack_p99_us", heard.admitted.value_at_quantile(0.99) as f64 / 1e3);
        daemon.applied(count.events)?;
        ground.costs(&daemon, count.events, outcome)?;
        check::daemon(&daemon, &count)?;
        daemon.stop()
    })
}
