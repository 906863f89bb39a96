//! Scenarios about waiting: how long acknowledgements take under a fixed load, on its own or while everything else goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::count::Count;
use crate::daemon::Daemon;
use crate::lines::{Shape, Stock};
use crate::machine::{Places, joined};
use crate::open_loop::Load;
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, ask, check, machine, raw};

/// Seconds of load, unless the caller says otherwise.
const SECONDS: f64 = 10.0;
/// Of which the first are not counted.
const WARM_UP: f64 = 1.0;
/// Lines are sent again after so many.
const LINES: u64 = 1_000_000;
/// The rate while everything else goes on.
const BUSY_RATE: u64 = 100_000;
/// Between two questions.
const QUESTION_EVERY: Duration = Duration::from_millis(10);
/// Between two reloads.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Names of what is added to an outcome.
struct Names {
    p50: &'static str,
    p99: &'static str,
    p999: &'static str,
    max: &'static str,
}

const QUIET: Names = Names { p50: "ack_p50_us", p99: "ack_p99_us", p999: "ack_p999_us", max: "ack_max_us" };
const BUSY: Names =
    Names { p50: "busy_ack_p50_us", p99: "busy_ack_p99_us", p999: "busy_ack_p999_us", max: "busy_ack_max_us" };

impl Names {
    fn add(&self, latencies: &Histogram<u64>, outcome: &mut Outcome) {
        for (name, quantile) in [(self.p50, 0.5), (self.p99, 0.99), (self.p999, 0.999), (self.max, 1.0)] {
            outcome.add(name, latencies.value_at_quantile(quantile) as f64 / 1e3);
        }
    }
}

/// Nothing but the load.
pub fn quiet(rate: u64, options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_but_one()?;
    let stock = stock(rate, options)?;
    let load = load(rate, &stock, options);
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&places.server, &[])?.start()?;
        under(&load, &daemon, &places, &QUIET, outcome)?;
        outcome.add("ack_p99_over_fdatasync_p99", outcome.of("ack_p99_us") / outcome.of("fdatasync_p99_us"));
        let sent = stock.lines.all();
        outcome.add("generator_events_per_second", raw::socket(&stage.socket("raw"), &places, &[sent])?);
        daemon.stop()
    })
}

/// The same load twice in each run: on its own, and while flushes, questions and reloads go on.
pub fn busy(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_but_one()?;
    let stock = stock(BUSY_RATE, options)?;
    let load = load(BUSY_RATE, &stock, options);
    stage.runs(options, |outcome| {
        let daemon = stage.daemon(&places.server, &[])?.start()?;
        under(&load, &daemon, &places, &QUIET, outcome)?;
        daemon.stop()?;
        let daemon = stage.daemon(&places.server, &["--flush-interval", "1s"])?.start()?;
        let stop = AtomicBool::new(false);
        let questions = AtomicU64::new(0);
        let reloads = AtomicU64::new(0);
        thread::scope(|scope| {
            let asking = scope.spawn(|| every(QUESTION_EVERY, &stop, &questions, |_| question(&daemon)));
            let reloading =
                scope.spawn(|| every(RELOAD_EVERY, &stop, &reloads, |number| reload(&stage, &daemon, number)));
            let loaded = under(&load, &daemon, &places, &BUSY, outcome);
            stop.store(true, Ordering::Relaxed);
            joined(asking.join())?;
            joined(reloading.join())?;
            loaded
        })?;
        outcome.add("questions", questions.into_inner() as f64);
        outcome.add("reloads", reloads.into_inner() as f64);
        outcome.add("busy_over_quiet_p99", outcome.of("busy_ack_p99_us") / outcome.of("ack_p99_us"));
        daemon.stop()
    })
}

fn stock(rate: u64, options: &Options) -> Result<Stock> {
    Stock::generate(&options.bench, Shape::Usual, events(rate, options).min(LINES))
}

fn events(rate: u64, options: &Options) -> u64 {
    options.events.unwrap_or(((rate as f64) * options.seconds.unwrap_or(SECONDS)) as u64).max(1)
}

fn load<'a>(rate: u64, stock: &'a Stock, options: &Options) -> Load<'a> {
    let events = events(rate, options);
    let warm_up = ((rate as f64 * WARM_UP) as u64).min(events / 5);
    Load { lines: &stock.lines, rate, events, warm_up, stop_after: None }
}

/// One load, its latencies, its costs, and whether everything was counted.
fn under(load: &Load<'_>, daemon: &Daemon, places: &Places, names: &Names, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::of(daemon)?;
    let heard = machine::on(&places.client, || load.run(&daemon.events))?;
    names.add(&heard.latencies, outcome);
    if outcome.of("events_per_second").is_nan() {
        outcome.add("events_per_second", load.events as f64 / heard.took.as_secs_f64());
        outcome.add("sent_late_p99_us", heard.lateness.value_at_quantile(0.99) as f64 / 1e3);
        daemon.applied(load.events)?;
        ground.costs(daemon, load.events, outcome)?;
    }
    let mut count = Count::default();
    load.count(&mut count)?;
    check::daemon(daemon, &count)
}

/// Does something again and again at a fixed distance, until told to stop.
fn every(
    distance: Duration,
    stop: &AtomicBool,
    done: &AtomicU64,
    mut work: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let started = Instant::now();
    for number in 1.. {
        let next = started + distance * number;
        while !stop.load(Ordering::Relaxed) && Instant::now() < next {
            thread::sleep(next.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        // Also when each piece of work takes longer than the distance, so that nothing is ever waited for.
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        work(u64::from(number))?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn question(daemon: &Daemon) -> Result<()> {
    ask::text(&daemon.query, "/v1/aggregators/video-actions?rows=10").map(drop)
}

/// Puts another build of video-actions in place, which differs in a section that nothing reads.
pub fn reload(stage: &Stage, daemon: &Daemon, number: u64) -> Result<()> {
    let original = stage.plugin("video-actions")?;
    stage.put_plugin("video-actions", &with_section(&original, number))?;
    let told: Value = serde_json::from_str(&ask::order(&daemon.admin, "/v1/plugins/reload")?)?;
    let plugins = told["plugins"].as_array().context("the answer to a reload names no plugins")?;
    let running = plugins.iter().all(|plugin| plugin["wanted_digest"] == plugin["running_digest"]);
    ensure!(running, "a reload did not put the new build into effect: {told}");
    Ok(())
}

/// The component with a custom section at its end: other bytes, so another digest, and the same program.
pub fn with_section(component: &[u8], number: u64) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let mut bytes = component.to_vec();
    bytes.extend([0, (1 + NAME.len() + 8) as u8, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes.extend(number.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_where_it_says() {
        let bytes = with_section(b"component", 7);
        let section = &bytes[b"component".len()..];
        assert_eq!([usize::from(section[0]), usize::from(section[1])], [0, section.len() - 2]);
        assert_ne!(bytes, with_section(b"component", 8));
    }

    #[test]
    fn what_is_done_regularly_stops_when_told() {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        every(Duration::from_millis(1), &stop, &done, |number| {
            stop.store(number == 3, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 3);
    }

    #[test]
    fn what_takes_longer_than_its_distance_stops_as_well() {
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        every(Duration::from_nanos(1), &stop, &done, |number| {
            thread::sleep(Duration::from_millis(1));
            stop.store(number == 3, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 3);
    }
}
