//! The scenario of too much: twice what the daemon can do for a while, and what is left of its speed right after it.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::client::Connection;
use crate::count::Count;
use crate::lines::{Shape, Stock};
use crate::machine::{self, Places};
use crate::open_loop::Load;
use crate::results::Outcome;
use crate::stage::{Ground, Stage};
use crate::{Options, check, raw};

/// Seconds of overload, unless the caller says otherwise.
const SECONDS: f64 = 10.0;
/// Events from which it is known roughly how fast the daemon is, and which are sent again and again from then on.
const EVENTS: u64 = 4_000_000;
/// For about so long, in seconds, the possible rate is taken before and after.
const ALONE: f64 = 5.0;
/// Over so long a rate is taken there: several acknowledgements, and less than the goal of a second.
const WINDOW: Duration = Duration::from_millis(200);
/// How far the beginnings of those windows are apart.
const STEP: Duration = Duration::from_millis(10);
/// The part of the possible rate that counts as full speed.
const FULL: f64 = 0.9;

/// See the module.
pub fn measure(options: &Options) -> Result<Vec<Outcome>> {
    let stage = Stage::new(options)?;
    let places = Places::all_but_one()?;
    let stock = Stock::generate(&options.bench, Shape::Usual, options.events.unwrap_or(EVENTS))?;
    let seconds = options.seconds.unwrap_or(SECONDS);
    stage.runs(options, |outcome| {
        let block = stock.lines.all();
        outcome.add("generator_events_per_second", raw::socket(&stage.socket("raw"), &places, &[block])?);
        let daemon = stage.daemon(&places.server, &[])?.start()?;
        let ground = Ground::of(&daemon)?;
        let mut count = Count::default();
        let flood = |times: u64| -> Result<(f64, Answered)> {
            machine::on(&places.client, || {
                let mut connection = Connection::open(&daemon.events)?;
                let mut answered = Answered(vec![(Instant::now(), 0)]);
                let ended = connection.flood_and_note(block, times, &mut |at, lines| answered.0.push((at, lines)))?;
                Ok(((block.count * times) as f64 / (ended - answered.0[0].0).as_secs_f64(), answered))
            })
        };
        let (roughly, _) = flood(stock.times)?;
        let times = (roughly * ALONE / block.count as f64).ceil() as u64;
        let (possible, _) = flood(times)?;
        let rate = (2.0 * possible) as u64;
        let events = (rate as f64 * seconds) as u64;
        let stop_after = Some(Duration::from_secs_f64(seconds));
        let load = Load { lines: &stock.lines, rate, events, warm_up: 0, stop_after };
        let heard = machine::on(&places.client, || load.run(&daemon.events))?;
        let (after, answered) = flood(times)?;
        // To count takes a while, so not in between.
        count.add(block, stock.times + 2 * times)?;
        Load { events: heard.sent, ..load }.count(&mut count)?;
        outcome.add("possible_events_per_second", possible);
        outcome.add("offered_events_per_second", rate as f64);
        outcome.add("events_per_second", heard.sent as f64 / heard.took.as_secs_f64());
        outcome.add("after_events_per_second", after);
        outcome.add("after_over_possible", after / possible);
        let recovered = answered.recovered(heard.ended, FULL * possible);
        outcome.add("recovered_after_ms", recovered.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3));
        let mut admitted = Histogram::new(3)?;
        heard.admitted.iter().try_for_each(|third| admitted.add(third))?;
        let micros = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        outcome.add("admitted_ack_p50_us", micros(&admitted, 0.5));
        outcome.add("admitted_ack_p99_us", micros(&admitted, 0.99));
        outcome.add("admitted_first_third_p99_us", micros(&heard.admitted[0], 0.99));
        outcome.add("admitted_last_third_p99_us", micros(&heard.admitted[2], 0.99));
        daemon.applied(count.events)?;
        ground.costs(&daemon, count.events, outcome)?;
        check::daemon(&daemon, &count)?;
        daemon.stop()
    })
}

/// How many lines of a connection were acknowledged when; the first entry is when none was sent.
struct Answered(Vec<(Instant, u64)>);

impl Answered {
    /// How long after `since` the first window began in which `rate` lines a second were acknowledged; none if there was none.
    fn recovered(&self, since: Instant, rate: f64) -> Option<Duration> {
        let (last, _) = *self.0.last()?;
        let lines = |until: Instant| {
            let answers = self.0.partition_point(|(at, _)| *at <= until);
            self.0[..answers].last().map_or(0, |(_, lines)| *lines)
        };
        let mut starts = (0..).map(|step| STEP * step).take_while(|start| since + *start + WINDOW <= last);
        let is_full = |start: &Duration| {
            let start = since + *start;
            (lines(start + WINDOW) - lines(start)) as f64 >= rate * WINDOW.as_secs_f64()
        };
        starts.find(is_full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_the_first_window_at_full_speed() {
        let since = Instant::now();
        let at = |millis: u64| since + Duration::from_millis(millis);
        // Nothing for 100 ms, then 500 lines a second until the 600th millisecond, then 1,000.
        let lines = |millis: u64| if millis < 600 { (millis - 100) / 2 } else { 250 + millis - 600 };
        let answered = Answered((100..=2000).map(|millis| (at(millis), lines(millis))).collect());
        assert_eq!(answered.recovered(since, 450.0), Some(Duration::from_millis(80)));
        assert_eq!(answered.recovered(since, 900.0), Some(Duration::from_millis(560)));
        assert_eq!(answered.recovered(since, 1100.0), None);
    }
}
