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
    /// Events accepted, rejected, recognised as duplicates, and dropped since the log began.
    pub accepted: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub dropped: u64,
    /// Rejected by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The queue, bytes.
    pub queue: u64,
    pub queue_max: u64,
    /// The log on disk and its newest part in memory, bytes.
    pub log: u64,
    pub tail: u64,
    /// Flushes, records not written yet, events since the last cut.
    pub flushes: u64,
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
    /// Events between the newest one and the saved state.
    pub lag: u64,
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
    /// Bytes its instances use.
    pub memory: Option<u64>,
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
            accepted: number(&ledger["accepted"]),
            rejected: reasons.values().sum(),
            duplicates: number(&ledger["duplicate"]),
            dropped: counts(&ledger["dropped"]).values().sum(),
            reasons,
            queue: number(&status["queue"]["bytes"]),
            queue_max: number(&status["queue"]["max_bytes"]),
            log: number(&log["bytes"]),
            tail: number(&log["tail_bytes"]),
            flushes: number(&status["flush_count"]),
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
            lag: number(&value["lag"]),
            age: value["age_seconds"].as_f64(),
            watermark: text(&value["watermark"]),
            complete: value["complete"] != false,
            applied: number(&ledger["applied"]),
            skipped: number(&ledger["skipped"]),
            refused: counts(&ledger["refused"]),
            memory: value["memory_bytes"].as_u64(),
        }
    }

    /// Refused for any reason.
    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
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
