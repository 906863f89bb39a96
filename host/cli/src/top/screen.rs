//! What is on the screen: the newest sample, the rates between it and the one before, what was chosen and whether it is
//! paused. A plain state machine; knows no terminal and reads no clock.

use std::collections::{BTreeMap, VecDeque};

use super::sample::Sample;

/// Rates that are remembered for the curve.
const HISTORY: usize = 240;

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
    /// Index of the aggregator chosen.
    pub chosen: usize,
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
    pub accepted: u64,
    pub rejected: u64,
    pub duplicates: u64,
    pub bytes: Option<u64>,
    /// Lines and bytes of each door.
    pub sources: BTreeMap<String, (u64, u64)>,
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
        self.choose(0);
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

    /// Chooses another aggregator, so many further down.
    pub fn choose(&mut self, down: isize) {
        let count = self.shown.as_ref().map_or(0, |shown| shown.sample.aggregators.len());
        self.chosen = self.chosen.saturating_add_signed(down).min(count.saturating_sub(1));
    }
}

/// None where the daemon was started anew in between, or no time has passed.
fn rates(before: &Sample, now: &Sample) -> Option<Rates> {
    let seconds = now.at.checked_sub(before.at)?.as_secs_f64();
    if seconds <= 0.0 || now.uptime < before.uptime || now.sequence < before.sequence {
        return None;
    }
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    let mut sources = BTreeMap::new();
    for (name, source) in &now.sources {
        let then = before.sources.get(name).cloned().unwrap_or_default();
        sources.insert(name.clone(), (rate(then.lines, source.lines), rate(then.bytes, source.bytes)));
    }
    Some(Rates {
        accepted: rate(before.accepted, now.accepted),
        rejected: rate(before.rejected, now.rejected),
        duplicates: rate(before.duplicates, now.duplicates),
        bytes: before.bytes().zip(now.bytes()).map(|(before, now)| rate(before, now)),
        sources,
    })
}
