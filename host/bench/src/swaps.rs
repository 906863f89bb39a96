//! The scenario of reloads: what those who send events under full load notice of plugin versions that are exchanged back to back, one in
//! ten of them bad. Three stretches of the same load in one run, the first and the last of them without exchanges: how far those two are
//! apart says what is noise.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::closed_loop::{self, Heard};
use crate::count::Count;
use crate::daemon::Daemon;
use crate::latency::{reload, with_section};
use crate::lines::{Shape, Stock};
use crate::machine::{self, Places, joined};
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, ask, check, raw};

/// Seconds of each stretch, unless the caller says otherwise.
const SECONDS: f64 = 10.0;
/// Seconds of load before it counts.
const WARM_UP: f64 = 1.0;
/// Lines are sent again after so many.
const LINES: u64 = 500_000;
/// Connections.
const PRODUCERS: usize = 4;
/// One version of so many is bad.
const BAD: u64 = 10;

/// Names of what is added to an outcome.
struct Names {
    rate: &'static str,
    p50: &'static str,
    p99: &'static str,
    p999: &'static str,
    max: &'static str,
    rss: &'static str,
}

const BEFORE: Names = Names {
    rate: "before_events_per_second",
    p50: "before_ack_p50_us",
    p99: "before_ack_p99_us",
    p999: "before_ack_p999_us",
    max: "before_ack_max_us",
    rss: "before_rss_bytes",
};
const DURING: Names = Names {
    rate: "swaps_events_per_second",
    p50: "swaps_ack_p50_us",
    p99: "swaps_ack_p99_us",
    p999: "swaps_ack_p999_us",
    max: "swaps_ack_max_us",
    rss: "swaps_rss_bytes",
};
const AFTER: Names = Names {
    rate: "after_events_per_second",
    p50: "after_ack_p50_us",
    p99: "after_ack_p99_us",
    p999: "after_ack_p999_us",
    max: "after_ack_max_us",
    rss: "after_rss_bytes",
};

/// What is exchanged, and how often that was done.
struct Exchanges<'a> {
    stage: &'a Stage,
    daemon: &'a Daemon,
    original: Vec<u8>,
    done: u64,
    refused: u64,
    times: Histogram<u64>,
}

/// See the module.
pub fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_but_one()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(LINES))?;
    let seconds = options.seconds.unwrap_or(SECONDS);
    let parts: Vec<_> = (0..PRODUCERS).map(|index| stock.lines.part(index, PRODUCERS)).collect();
    stage.runs(options, |outcome| {
        outcome.add("generator_events_per_second", raw::socket(&stage.socket("raw"), &places, &parts)?);
        let daemon = stage.daemon(&places.server, &[])?.start()?;
        let mut count = Count::default();
        let original = stage.plugin("video-actions")?;
        let times = Histogram::new(3)?;
        let mut exchanges = Exchanges { stage: &stage, daemon: &daemon, original, done: 0, refused: 0, times };
        let mut stretch = |seconds: f64, exchanges: Option<&mut Exchanges<'_>>| {
            let (all, took) = load(&daemon, &places, &stock, seconds, exchanges)?;
            let mut latencies = Histogram::new(3)?;
            for heard in &all {
                heard.count(&stock.lines, &mut count)?;
                latencies.add(&heard.latencies)?;
            }
            let rate = all.iter().map(|heard| heard.sent).sum::<u64>() as f64 / took.as_secs_f64();
            anyhow::Ok((latencies, rate))
        };
        stretch(WARM_UP, None)?;
        let ground = Ground::of(&daemon)?;
        for (names, exchanges) in [(BEFORE, None), (DURING, Some(&mut exchanges)), (AFTER, None)] {
            let (latencies, rate) = stretch(seconds, exchanges)?;
            outcome.add(names.rate, rate);
            for (name, quantile) in [(names.p50, 0.5), (names.p99, 0.99), (names.p999, 0.999), (names.max, 1.0)] {
                outcome.add(name, latencies.value_at_quantile(quantile) as f64 / 1e3);
            }
            outcome.add(names.rss, daemon.process.resident_bytes()? as f64);
        }
        outcome.add("swaps", exchanges.done as f64);
        outcome.add("swaps_refused", exchanges.refused as f64);
        outcome.add("swap_p50_ms", exchanges.times.value_at_quantile(0.5) as f64 / 1e6);
        outcome.add("swap_max_ms", exchanges.times.max() as f64 / 1e6);
        let quiet = f64::midpoint(outcome.of(BEFORE.p99), outcome.of(AFTER.p99));
        outcome.add("swaps_over_quiet_p99", outcome.of(DURING.p99) / quiet);
        outcome.add("after_over_before_p99", outcome.of(AFTER.p99) / outcome.of(BEFORE.p99));
        let stored = fs::read_dir(stage.folder().join("data/plugins")).context("cannot list the stored versions")?;
        outcome.add("versions_stored", stored.count() as f64);
        daemon.applied(count.events)?;
        ground.costs(&daemon, count.events, outcome)?;
        check::daemon(&daemon, &count)?;
        daemon.stop()
    })
}

/// Load for so long, and exchanges beside it; what each connection heard, and how long that was.
fn load(
    daemon: &Daemon,
    places: &Places,
    stock: &Stock,
    seconds: f64,
    exchanges: Option<&mut Exchanges<'_>>,
) -> Result<(Vec<Heard>, Duration)> {
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let send = || machine::on(&places.client, || closed_loop::run(&daemon.events, &stock.lines, &stop));
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS).map(|_| scope.spawn(send)).collect();
        let exchanged = exchanges.map_or(Ok(()), |exchanges| exchanges.until(until));
        thread::sleep(until.saturating_duration_since(Instant::now()));
        stop.store(true, Ordering::Relaxed);
        let heard: Result<Vec<Heard>> = producers.into_iter().map(|producer| joined(producer.join())).collect();
        exchanged?;
        Ok((heard?, begun.elapsed()))
    })
}

impl Exchanges<'_> {
    fn until(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.done += 1;
            if self.done.is_multiple_of(BAD) {
                self.bad()?;
                self.refused += 1;
                continue;
            }
            let begun = Instant::now();
            reload(self.stage, self.daemon, self.done)?;
            self.times.record(begun.elapsed().as_nanos() as u64)?;
        }
        Ok(())
    }

    /// Half of a version is refused with the reason, and the one before runs on.
    fn bad(&self) -> Result<()> {
        let bytes = with_section(&self.original, self.done);
        self.stage.put_plugin("video-actions", &bytes[..bytes.len() / 2])?;
        let told: Value = serde_json::from_str(&ask::order(&self.daemon.admin, "/v1/plugins/reload")?)?;
        let plugins = told["plugins"].as_array().context("the answer to a reload names no plugins")?;
        let plugin = plugins.iter().find(|plugin| plugin["name"] == "video-actions");
        let refused = plugin.is_some_and(|plugin| {
            plugin["state"] == "running"
                && plugin["reason"].is_string()
                && plugin["wanted_digest"] != plugin["running_digest"]
        });
        ensure!(refused, "half a plugin was not refused with the reason: {told}");
        Ok(())
    }
}
