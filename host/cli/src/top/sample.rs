//! What one round of questions found: the keys of the daemon's answers that are shown. A key that is missing reads as
//! nothing, so another version of the daemon can be watched as well.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, on the poller's clock.
    pub at: Duration,
    /// The daemon's version.
    pub version: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// Why it is not ready.
    pub not_ready: Option<String>,
    /// Its last sequence number.
    pub sequence: u64,
    /// Events received, accepted, rejected, recognised as duplicates, and dropped since the log began.
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub dropped: u64,
    /// Rejected by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The queue, bytes, and the lines in it.
    pub queue: u64,
    pub queue_max: u64,
    pub queue_lines: u64,
    /// The log on disk and its newest part in memory, bytes.
    pub log: u64,
    pub tail: u64,
    /// Flushes, seconds that the last one took, records not written yet, events since the last cut.
    pub flushes: u64,
    pub flush_lag: Option<f64>,
    pub records_behind: u64,
    pub open_events: u64,
    /// The doors, by name.
    pub sources: BTreeMap<String, Source>,
    /// The aggregators, by name.
    pub aggregators: BTreeMap<String, Aggregator>,
}

/// A door for events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Connections now, and those that were refused since the start.
    pub connections: u64,
    pub refused: u64,
    /// Since the start.
    pub lines: u64,
    pub bytes: u64,
}

/// An aggregator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggregator {
    /// Of the plugin.
    pub version: String,
    /// `running`, `quarantined`, `failed`, ...
    pub state: String,
    /// Why what runs is not what is wanted.
    pub reason: Option<String>,
    /// Events that it has not looked at yet.
    pub behind: u64,
    /// Events that are not in its saved state yet.
    pub unsaved: u64,
    /// It reads the log on disk.
    pub replaying: bool,
    /// Age of its newest answer, seconds.
    pub age: Option<f64>,
    /// Event time reached.
    pub watermark: Option<String>,
    /// Nothing of the log was lost to it.
    pub complete: bool,
    /// Since it was attached.
    pub applied: u64,
    pub skipped: u64,
    pub refused: BTreeMap<String, u64>,
    /// Bytes that its instances use, and bytes saved.
    pub memory: Option<u64>,
    pub saved: Option<u64>,
    /// What it costs.
    pub cost: Cost,
}

/// What an aggregator costs; sums are since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Events given to the plugin, seconds and instructions used for them.
    pub events: u64,
    pub seconds: f64,
    pub instructions: u64,
    /// Largest share of its compute budget that a call has used.
    pub budget: Option<f64>,
}

impl Sample {
    /// Reads the answers to `/v1/status` and `/v1/plugins`.
    pub fn read(at: Duration, status: &Value, plugins: &Value) -> Sample {
        let ledger = &status["ledger"];
        let reasons = counts(&ledger["rejected"]);
        let log = &status["log"];
        Sample {
            at,
            version: text(&status["version"]).unwrap_or_default(),
            uptime: number(&status["uptime_seconds"]),
            not_ready: text(&status["not_ready"]),
            sequence: number(&status["sequence"]),
            received: number(&ledger["received"]),
            accepted: number(&ledger["accepted"]),
            rejected: reasons.values().sum(),
            duplicates: number(&ledger["duplicate"]),
            dropped: counts(&ledger["dropped"]).values().sum(),
            reasons,
            queue: number(&status["queue"]["bytes"]),
            queue_max: number(&status["queue"]["max_bytes"]),
            queue_lines: number(&status["queue"]["lines"]),
            log: number(&log["bytes"]),
            tail: number(&log["tail_bytes"]),
            flushes: number(&status["flush_count"]),
            flush_lag: status["flush_lag_seconds"].as_f64(),
            records_behind: number(&status["records_behind"]),
            open_events: number(&status["open_events"]),
            sources: entries(&status["sources"]).map(|(name, value)| (name.clone(), Source::read(value))).collect(),
            aggregators: aggregators(status, plugins),
        }
    }

    /// Bytes read by all doors since the start; none where the daemon does not say.
    pub fn bytes(&self) -> Option<u64> {
        (!self.sources.is_empty()).then(|| self.sources.values().map(|source| source.bytes).sum())
    }
}

impl Source {
    fn read(value: &Value) -> Source {
        Source {
            connections: number(&value["connections"]),
            refused: number(&value["refused"]),
            lines: number(&value["lines"]),
            bytes: number(&value["bytes"]),
        }
    }
}

/// Those with saved state and those that are wanted.
fn aggregators(status: &Value, plugins: &Value) -> BTreeMap<String, Aggregator> {
    let mut aggregators: BTreeMap<String, Aggregator> =
        entries(&status["aggregators"]).map(|(name, value)| (name.clone(), Aggregator::read(value))).collect();
    for plugin in plugins["plugins"].as_array().into_iter().flatten() {
        let Some(name) = text(&plugin["name"]) else { continue };
        let aggregator = aggregators.entry(name).or_default();
        aggregator.version = text(&plugin["version"]).unwrap_or_default();
        aggregator.reason = text(&plugin["reason"]).or(aggregator.reason.take());
        aggregator.cost = Cost::read(&plugin["cost"]);
        // A quarantine since then is newer.
        if aggregator.state != "quarantined" {
            aggregator.state = text(&plugin["state"]).unwrap_or_default();
        }
    }
    aggregators
}

impl Aggregator {
    fn read(value: &Value) -> Aggregator {
        let quarantined = text(&value["quarantined"]);
        let ledger = &value["ledger"];
        Aggregator {
            version: String::new(),
            state: if quarantined.is_some() { "quarantined" } else { "paused" }.to_string(),
            reason: quarantined,
            behind: number(&value["behind"]),
            unsaved: number(&value["lag"]),
            replaying: value["replaying"] == true,
            age: value["age_seconds"].as_f64(),
            watermark: text(&value["watermark"]),
            complete: value["complete"] != false,
            applied: number(&ledger["applied"]),
            skipped: number(&ledger["skipped"]),
            refused: counts(&ledger["refused"]),
            memory: value["memory_bytes"].as_u64(),
            saved: value["state_bytes"].as_u64(),
            cost: Cost::default(),
        }
    }

    /// Refused for any reason.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl Cost {
    fn read(value: &Value) -> Cost {
        Cost {
            events: number(&value["events"]),
            seconds: value["apply_seconds"].as_f64().unwrap_or(0.0),
            instructions: number(&value["instructions"]),
            budget: value["budget_share"].as_f64(),
        }
    }

    /// Nanoseconds per event; none before the first.
    pub fn nanos_per_event(&self) -> Option<f64> {
        (self.events > 0).then(|| self.seconds * 1e9 / self.events as f64)
    }

    /// Instructions per event; none before the first.
    pub fn instructions_per_event(&self) -> Option<f64> {
        (self.events > 0).then(|| self.instructions as f64 / self.events as f64)
    }

    /// What was added since then; none where the sums began anew in between.
    pub fn since(&self, before: &Cost) -> Option<Cost> {
        let events = self.events.checked_sub(before.events)?;
        let instructions = self.instructions.checked_sub(before.instructions)?;
        let seconds = self.seconds - before.seconds;
        (seconds >= 0.0).then_some(Cost { events, seconds, instructions, budget: self.budget })
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn counts(value: &Value) -> BTreeMap<String, u64> {
    entries(value).map(|(reason, count)| (reason.clone(), number(count))).collect()
}
