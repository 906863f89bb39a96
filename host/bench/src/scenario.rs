//! The scenarios by name, and what all of them have in common.

use anyhow::{Result, ensure};

use crate::lines::Shape;
use crate::results::{Outcome, Report};
use crate::stage::Stage;
use crate::throughput::{self, Plan};
use crate::{Options, raw, say};

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
];

/// Runs it.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Report> {
    ensure!(options.runs > 0, "a measurement takes at least one run");
    say(format!("{}: {}", scenario.name, scenario.summary));
    Ok(Report::new(scenario.name, (scenario.measure)(options)?))
}

/// What the disk does at this moment, which every result depends on.
pub fn surroundings(stage: &Stage, outcome: &mut Outcome) -> Result<()> {
    let latencies = raw::fdatasync(stage.folder())?;
    outcome.add("fdatasync_p50_us", latencies.value_at_quantile(0.5) as f64 / 1e3);
    outcome.add("fdatasync_p99_us", latencies.value_at_quantile(0.99) as f64 / 1e3);
    Ok(())
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
