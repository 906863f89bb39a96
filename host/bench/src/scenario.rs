//! The scenarios by name, and what all of them have in common.

use anyhow::{Result, ensure};

use crate::lines::Shape;
use crate::results::{Outcome, Report};
use crate::throughput::{self, Plan};
use crate::{Options, growth, http, latency, overload, say, state, swaps};

/// A named, repeatable measurement.
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    /// What it measures, in a line.
    pub summary: &'static str,
    measure: fn(&Options) -> Result<Vec<Outcome>>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "w1-one-core",
        summary: "daemon on one core, client on another: Unix socket, acknowledgements, usual lines; beside the plain baseline",
        measure: |options| throughput::one_core(&Plan { shape: Shape::Usual, events: 10_000_000 }, options),
    },
    Scenario {
        name: "w2-one-core",
        summary: "the same with lines of about 500 bytes, most of which no plugin asks for",
        measure: |options| throughput::one_core(&Plan { shape: Shape::Wide, events: 4_000_000 }, options),
    },
    Scenario {
        name: "w1-all-cores",
        summary: "usual lines over four connections, daemon and clients on every core, three aggregators",
        measure: |options| throughput::all_cores(&Plan { shape: Shape::Usual, events: 20_000_000 }, options),
    },
    Scenario {
        name: "http",
        summary: "POST /v1/events with batches of 1,000 lines over eight connections, daemon and clients on every core",
        measure: http::measure,
    },
    Scenario {
        name: "latency-10k",
        summary: "how long acknowledgements take at 10,000 events/s, counted from when each event was to be sent",
        measure: |options| latency::quiet(10_000, options),
    },
    Scenario {
        name: "latency-100k",
        summary: "the same at 100,000 events/s",
        measure: |options| latency::quiet(100_000, options),
    },
    Scenario {
        name: "latency-1m",
        summary: "the same at 1,000,000 events/s",
        measure: |options| latency::quiet(1_000_000, options),
    },
    Scenario {
        name: "latency-busy",
        summary: "at 100,000 events/s without and with a flush and a reload every second and 100 questions/s",
        measure: latency::busy,
    },
    Scenario {
        name: "recovery",
        summary: "a start on one core after SIGKILL, with saved state of --users and --events in the log behind it",
        measure: state::recovery,
    },
    Scenario {
        name: "idle",
        summary: "from start to ready with compiled plugins, and the cost of doing nothing",
        measure: state::idle,
    },
    Scenario { name: "memory", summary: "memory with a million users in every aggregator", measure: state::memory },
    Scenario {
        name: "growth",
        summary: "the cost of an event with 10^3 to 10^7 users, with 1 to 8 aggregators, and after a long history",
        measure: growth::measure,
    },
    Scenario {
        name: "overload",
        summary: "twice the possible rate for --seconds: memory, latency of what is admitted, speed right after",
        measure: overload::measure,
    },
    Scenario {
        name: "swaps",
        summary: "how long acknowledgements take under full load before, during and after plugin swaps back to back",
        measure: swaps::measure,
    },
];

/// Runs it.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Report> {
    ensure!(options.runs > 0, "a measurement takes at least one run");
    say(format!("{}: {}", scenario.name, scenario.summary));
    Ok(Report::new(scenario.name, (scenario.measure)(options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different() {
        let names: std::collections::BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = crate::scenario("w3").err().unwrap().to_string();
        assert!(error.contains("\"w3\"") && SCENARIOS.iter().all(|scenario| error.contains(scenario.name)), "{error}");
    }
}
