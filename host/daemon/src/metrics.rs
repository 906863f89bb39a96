//! Everything that is counted, in Prometheus' text format 0.0.4. A thin encoder over a snapshot: the numbers are counted
//! where they happen, once per batch, frame or connection, so there is no registry that would count them again.
//!
//! [`all`] has every name; `docs/metrics.md` is made from it.

mod aggregators;
mod table;

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tally_aggregate::AggregatorLedger;
use tally_ingest::{CountersSnapshot, Depth};

use crate::aggregator::meter::MeterSnapshot;
use crate::sequencer::Published;

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name. Those that only grow end in `_total`, the others go both ways.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// Reads its values.
    read: fn(&Figures, &mut Samples<'_>),
}

impl Metric {
    /// `counter` or `gauge`.
    pub fn kind(&self) -> &'static str {
        if self.name.ends_with("_total") { "counter" } else { "gauge" }
    }
}

/// What is known of one aggregator.
#[derive(Clone, Debug)]
pub struct AggregatorFigures {
    /// Its name.
    pub name: String,
    /// The plugin that runs.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// Sequence of the last event in its saved state.
    pub last_sequence: u64,
    /// Age of the saved state.
    pub age: Duration,
    /// The ledger of the saved state.
    pub ledger: AggregatorLedger,
    /// Greatest event time in it, microseconds since the Unix epoch.
    pub watermark: Option<i64>,
    /// Whether every event went into it.
    pub is_complete: bool,
    /// Events skipped since it was attached, resumed or got another plugin.
    pub strikes: u32,
    /// Whether it is in quarantine.
    pub is_quarantined: bool,
    /// What its threads count.
    pub meter: MeterSnapshot,
}

/// Everything that is known, at one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Time since the start.
    pub uptime: Duration,
    /// Whether events are accepted.
    pub is_ready: bool,
    /// How full the queue is.
    pub depth: Depth,
    /// Memory of recent frames.
    pub tail_bytes: u64,
    /// What sources count, by name.
    pub sources: Vec<(&'static str, CountersSnapshot)>,
    /// What HTTP doors count, by name.
    pub doors: Vec<(&'static str, tally_net::CountersSnapshot)>,
    /// Datagrams that the kernel dropped; none without the source, or where the kernel does not tell.
    pub kernel_drops: Option<u64>,
    /// What the sequencer published.
    pub published: Arc<Published>,
    /// The aggregators.
    pub aggregators: Vec<AggregatorFigures>,
    /// Records written since the start.
    pub records_written: u64,
    /// Cuts that the record writer has still to look at.
    pub records_behind: u64,
    /// Number of the newest analytics file.
    pub records_files: u64,
    /// How long the last flush took to become a record.
    pub flush_lag: Option<Duration>,
}

/// Every metric, in the order of the answer.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    table::DAEMON.iter().chain(aggregators::AGGREGATORS)
}

/// Everything as text.
pub fn text(figures: &Figures) -> String {
    let mut text = String::with_capacity(16 << 10);
    for metric in all() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind());
        (metric.read)(figures, &mut Samples { text: &mut text, metric });
    }
    text
}

/// Takes the values of one metric.
struct Samples<'a> {
    text: &'a mut String,
    metric: &'static Metric,
}

impl Samples<'_> {
    /// A value with its labels' values.
    fn add(&mut self, labels: &[&str], value: impl Display) {
        assert_eq!(labels.len(), self.metric.labels.len(), "{} has other labels", self.metric.name);
        self.text.push_str(self.metric.name);
        for (at, (name, label)) in self.metric.labels.iter().zip(labels).enumerate() {
            let _ = write!(self.text, "{}{name}=\"", if at == 0 { '{' } else { ',' });
            for char in label.chars() {
                match char {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    char => self.text.push(char),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn sources(&mut self, figures: &Figures, value: fn(&CountersSnapshot) -> u64) {
        figures.sources.iter().for_each(|(source, counts)| self.add(&[source], value(counts)));
    }

    fn doors(&mut self, figures: &Figures, value: fn(&tally_net::CountersSnapshot) -> u64) {
        figures.doors.iter().for_each(|(door, counts)| self.add(&[door], value(counts)));
    }

    fn reasons<'r>(&mut self, reasons: impl IntoIterator<Item = (&'r String, &'r u64)>) {
        reasons.into_iter().for_each(|(reason, count)| self.add(&[reason], count));
    }
}

#[cfg(test)]
mod tests;
