//! What is on the screen: the newest sample, the rates between it and the one before, what was chosen, by what the aggregators
//! are sorted, and whether it is paused. A plain state machine; knows no terminal and reads no clock.

use std::collections::{BTreeMap, VecDeque};

use super::columns::{Column, Row};
use super::sample::Sample;

/// Rates that are remembered for the curve.
const HISTORY: usize = 240;
/// The daemon tells whole seconds and answers when it likes: how far its age may be off, in seconds.
const SLACK: f64 = 3.0;

/// See the module.
#[derive(Debug, Default)]
pub struct Screen {
    /// Whom it is about.
    pub address: String,
    /// Somebody can press them.
    pub keys: bool,
    /// What is shown.
    pub shown: Option<Shown>,
    /// Why there is no newer sample, and for how many rounds.
    pub lost: Option<(String, u64)>,
    /// Nothing moves.
    pub paused: bool,
    /// Accepted events per second, the newest last.
    pub history: VecDeque<u64>,
    /// Name of the aggregator chosen; without one of that name, the first is.
    chosen: String,
    /// Place of the column that the aggregators are sorted by.
    sorted_by: usize,
    /// The newest sample, shown or not.
    newest: Option<Sample>,
}

/// A sample and what moved since the one before.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The sample.
    pub sample: Sample,
    /// None for the first sample of a daemon.
    pub rates: Option<Rates>,
}

/// Per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    /// Over all doors.
    pub received: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub dropped: u64,
    pub bytes: Option<u64>,
    /// Lines and bytes of each door.
    pub sources: BTreeMap<String, (u64, u64)>,
    /// Of each aggregator.
    pub aggregators: BTreeMap<String, Speed>,
}

/// How fast an aggregator was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Events given to it per second.
    pub events: u64,
    /// Nanoseconds and instructions per event; none without an event.
    pub nanos: Option<f64>,
    pub instructions: Option<f64>,
}

impl Screen {
    /// Nothing known yet.
    pub fn new(address: &str) -> Screen {
        Screen { address: address.to_string(), ..Screen::default() }
    }

    /// A new sample.
    pub fn take(&mut self, sample: Sample) {
        self.lost = None;
        let rates = self.newest.as_ref().and_then(|before| rates(before, &sample));
        self.newest = Some(sample.clone());
        if self.paused {
            return;
        }
        if let Some(rates) = &rates {
            self.history.push_back(rates.accepted);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        self.shown = Some(Shown { sample, rates });
    }

    /// No sample, and why.
    pub fn lose(&mut self, reason: String) {
        let rounds = self.lost.as_ref().map_or(0, |(_, rounds)| *rounds);
        self.lost = Some((reason, rounds + 1));
    }

    /// Stops, or goes on.
    pub fn pause(&mut self) {
        self.paused = !self.paused;
    }

    /// The aggregators in their order.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let Some(Shown { sample, rates }) = &self.shown else { return Vec::new() };
        let speed = |name: &str| rates.as_ref().and_then(|rates| rates.aggregators.get(name));
        let known = sample.aggregators.iter();
        let mut rows: Vec<Row> = known.map(|(name, aggregator)| Row { name, aggregator, speed: speed(name) }).collect();
        // What is equal stays in the order of names.
        rows.sort_by(|one, other| self.sorted_by().order(one, other));
        rows
    }

    /// The column that they are sorted by.
    pub fn sorted_by(&self) -> Column {
        Column::ALL[self.sorted_by]
    }

    /// Sorts by another column, so many further to the right.
    pub fn sort(&mut self, right: isize) {
        self.sorted_by = self.sorted_by.saturating_add_signed(right).min(Column::ALL.len() - 1);
    }

    /// Place of the aggregator chosen.
    pub fn chosen(&self) -> usize {
        self.rows().iter().position(|row| row.name == self.chosen).unwrap_or(0)
    }

    /// Chooses another aggregator, so many further down.
    pub fn choose(&mut self, down: isize) {
        let rows = self.rows();
        let place = self.chosen().saturating_add_signed(down).min(rows.len().saturating_sub(1));
        self.chosen = rows.get(place).map_or_else(String::new, |row| row.name.to_string());
    }
}

/// None where the daemon was started anew in between, or no time has passed.
fn rates(before: &Sample, now: &Sample) -> Option<Rates> {
    let seconds = now.at.checked_sub(before.at)?.as_secs_f64();
    let aged = now.uptime as f64 - before.uptime as f64;
    if seconds <= 0.0 || aged < 0.0 || aged + SLACK < seconds || now.sequence < before.sequence {
        return None;
    }
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    let mut sources = BTreeMap::new();
    for (name, source) in &now.sources {
        let then = before.sources.get(name).cloned().unwrap_or_default();
        sources.insert(name.clone(), (rate(then.lines, source.lines), rate(then.bytes, source.bytes)));
    }
    let mut aggregators = BTreeMap::new();
    for (name, aggregator) in &now.aggregators {
        let then = before.aggregators.get(name).map(|aggregator| aggregator.cost).unwrap_or_default();
        let Some(added) = aggregator.cost.since(&then) else { continue };
        let (nanos, instructions) = (added.nanos_per_event(), added.instructions_per_event());
        aggregators.insert(name.clone(), Speed { events: rate(0, added.events), nanos, instructions });
    }
    Some(Rates {
        received: rate(before.received, now.received),
        accepted: rate(before.accepted, now.accepted),
        rejected: rate(before.rejected, now.rejected),
        duplicates: rate(before.duplicates, now.duplicates),
        dropped: rate(before.dropped, now.dropped),
        bytes: before.bytes().zip(now.bytes()).map(|(before, now)| rate(before, now)),
        sources,
        aggregators,
    })
}
