//! Measures a `tally` daemon from outside: it starts the given binary in a folder of its own, loads it by its doors, asks it
//! for its numbers, and compares them with an independent count of what was sent.
//!
//! Knows processes, sockets and files; must not know any of Tally's crates, nor how the command line is read.

#![allow(clippy::disallowed_methods, reason = "a measurement is about the clock; nothing here decides about events")]

mod ask;
mod check;
mod client;
mod closed_loop;
mod count;
mod daemon;
mod growth;
mod http;
mod latency;
mod lines;
mod machine;
mod open_loop;
mod overload;
mod plain;
mod process;
mod raw;
mod results;
mod scenario;
mod stage;
mod state;
mod swaps;
mod throughput;

use std::path::PathBuf;

use anyhow::{Result, bail};

pub use plain::serve as serve_plain_baseline;
pub use results::{Earlier, Outcome, Report};
pub use scenario::{SCENARIOS, Scenario};

/// What is measured, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `tally` binary that is measured.
    pub tally: PathBuf,
    /// A `tally` binary for what is not measured: `generate`, and `bench --plain-baseline SOCKET`, the plain baseline.
    pub bench: PathBuf,
    /// Where `video-actions.wasm` and `homepage-fetch.wasm` are.
    pub plugins: PathBuf,
    /// Where data directories are made; what is measured of the disk is this one.
    pub folder: PathBuf,
    /// How often each scenario is run.
    pub runs: u32,
    /// Events per run, instead of the scenario's own number.
    pub events: Option<u64>,
    /// Seconds of load per run where the scenario is about time, instead of its own number.
    pub seconds: Option<f64>,
    /// Users in the state, where the scenario is about state, instead of its own number.
    pub users: Option<u32>,
}

/// The scenario of this name.
pub fn scenario(name: &str) -> Result<&'static Scenario> {
    match SCENARIOS.iter().find(|scenario| scenario.name == name) {
        Some(scenario) => Ok(scenario),
        None => {
            let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("there is no scenario {name:?}; there are {}", names.join(", "))
        }
    }
}

/// Runs a scenario as often as asked and says on stderr how it goes.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Report> {
    scenario::run(scenario, options)
}

/// Says how things go; stdout stays for results.
fn say(message: impl AsRef<str>) {
    eprintln!("bench: {}", message.as_ref());
}
