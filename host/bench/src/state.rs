//! Scenarios about what a daemon holds: starting again with a log to replay, doing nothing, and memory for many users.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Connection;
use crate::count::Count;
use crate::lines::{Lines, Shape, Stock};
use crate::machine::{self, Places};
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, check};

/// Events in the log that are not in saved state, unless the caller says otherwise.
const REPLAYED: u64 = 5_000_000;
/// Events to hold memory against, unless the caller says otherwise.
const REMEMBERED: u64 = 5_000_000;
/// Users whose state is kept, unless the caller says otherwise.
const USERS: u32 = 1_000_000;
/// Seconds of doing nothing, unless the caller says otherwise.
const IDLE: f64 = 10.0;
/// No flush comes in between, and nothing but the log knows the events.
const NO_FLUSH: [&str; 4] = ["--flush-events", "1000000000000", "--flush-interval", "24h"];

/// SIGKILL with events in the log that are in no saved state, and a start on one core.
pub fn recovery(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::one_core()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(REPLAYED))?;
    let known = Lines::of_every_user(options.users.unwrap_or(USERS));
    let mut saved = Count::default();
    saved.add(known.all(), 1)?;
    let mut count = Count::default();
    count.add(known.all(), 1)?;
    count.add(stock.lines.all(), stock.times)?;
    stage.runs(options, |outcome| {
        let setup = stage.daemon(&machine::cores()?, &NO_FLUSH)?;
        let mut daemon = setup.start()?;
        let mut connection = Connection::open(&daemon.events)?;
        connection.flood(known.all(), 1)?;
        // Asking makes a cut, which saves the state.
        check::daemon(&daemon, &saved)?;
        connection.flood(stock.lines.all(), stock.times)?;
        daemon.applied(count.events)?;
        daemon.process.kill()?;
        let mut again = setup.clone();
        again.cores.clone_from(&places.server);
        let started = Instant::now();
        let daemon = again.start()?;
        let caught_up = daemon.applied(count.events)? - started;
        let cpu = daemon.process.cpu_seconds()?;
        outcome.add("ready_ms", daemon.ready_after.as_secs_f64() * 1e3);
        outcome.add("caught_up_ms", caught_up.as_secs_f64() * 1e3);
        outcome.add("events_per_second", stock.events() as f64 / caught_up.as_secs_f64());
        outcome.add("cpu_s_per_million", cpu / stock.events() as f64 * 1e6);
        outcome.add("rss_bytes", daemon.process.peak_resident_bytes()? as f64);
        check::daemon(&daemon, &count)?;
        daemon.stop()
    })
}

/// A start with plugins that were compiled before, and a daemon to which nothing happens.
pub fn idle(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let time = Duration::from_secs_f64(options.seconds.unwrap_or(IDLE));
    stage.runs(options, |outcome| {
        let setup = stage.daemon(&machine::cores()?, &[])?;
        let first = setup.start()?;
        outcome.add("first_ready_ms", first.ready_after.as_secs_f64() * 1e3);
        first.stop()?;
        let daemon = setup.start()?;
        outcome.add("ready_ms", daemon.ready_after.as_secs_f64() * 1e3);
        // What is left to do after a start is done by then.
        thread::sleep(Duration::from_secs(2));
        let before = daemon.process.threads_cpu_seconds()?;
        thread::sleep(time);
        let cpu = daemon.process.threads_cpu_seconds()? - before;
        outcome.add("cpu_us_per_second", cpu / time.as_secs_f64() * 1e6);
        outcome.add("rss_bytes", daemon.process.resident_bytes()? as f64);
        daemon.stop()
    })
}

/// Every user in every aggregator, and then the usual lines.
pub fn memory(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::one_core()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(REMEMBERED))?;
    let known = Lines::of_every_user(options.users.unwrap_or(USERS));
    let mut count = Count::default();
    count.add(known.all(), 1)?;
    count.add(stock.lines.all(), stock.times)?;
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&machine::cores()?, &[])?.start()?;
        outcome.add("rss_empty_bytes", daemon.process.resident_bytes()? as f64);
        let ground = Ground::of(&daemon)?;
        machine::on(&places.client, || {
            let mut connection = Connection::open(&daemon.events)?;
            connection.flood(known.all(), 1)?;
            connection.flood(stock.lines.all(), stock.times)
        })?;
        daemon.applied(count.events)?;
        check::daemon(&daemon, &count)?;
        daemon.settled()?;
        // What it takes when nothing comes any more.
        thread::sleep(Duration::from_secs(4));
        outcome.add("rss_after_bytes", daemon.process.resident_bytes()? as f64);
        ground.costs(&daemon, count.events, outcome)?;
        daemon.stop()
    })
}
