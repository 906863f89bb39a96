//! What differs between two configurations, and what of it a running daemon can take on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tally_event::schema::Preset;

use super::check::{flush, least_for_a_line, length, limits, logs};
use super::{Aggregator, Config, KEYS, Key};

/// What differs, by what it takes to apply it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A reload applies these.
    pub live: Vec<Change>,
    /// These need a restart.
    pub restart: Vec<Change>,
}

/// A setting, preset or aggregator that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A key, `preset.NAME` or `aggregator.NAME`.
    pub key: String,
    /// What it was.
    pub old: String,
    /// What it is to be.
    pub new: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} -> {}", self.key, self.old, self.new)
    }
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }

    /// Whether a reload applies a new value of something called so.
    pub fn has_live(&self, key: &str) -> bool {
        self.live.iter().any(|change| change.key == key)
    }
}

impl Config {
    /// What is different in `new`, in the order of the key table, then presets, then aggregators.
    pub fn changes(old: &Config, new: &Config) -> Changes {
        let mut changes = Changes::default();
        for key in KEYS {
            let text = |config: &Config| match config.settings.value(key.name) {
                Some(value) => value.to_string(),
                None => key.default.to_string(),
            };
            let (was, is) = (text(old), text(new));
            if was != is {
                let list = if is_live(key, old, new) { &mut changes.live } else { &mut changes.restart };
                list.push(Change { key: key.name.to_string(), old: was, new: is });
            }
        }
        changes.live.extend(named(&old.own_presets(), &new.own_presets()));
        changes.live.extend(named(&old.named_aggregators(), &new.named_aggregators()));
        changes
    }

    /// Takes on what a reload can apply of `new`; everything else stays. A preset keeps its index, also one that is gone:
    /// sources and lines under way go on naming it.
    pub fn take_live(&mut self, new: Config) -> Changes {
        let changes = Config::changes(self, &new);
        for change in &changes.live {
            self.settings.copy(&change.key, &new.settings);
        }
        self.flush = flush(&self.settings);
        self.limits = limits(&self.settings);
        self.logs = logs(&self.settings);
        self.query.max_staleness = self.settings.time("query.max_staleness");
        self.query.max_rows = length(self.settings.number("query.max_rows"));
        for preset in new.presets {
            match self.preset(&preset.name) {
                Some(index) => self.presets[index] = preset,
                None => self.presets.push(preset),
            }
        }
        self.aggregators = new.aggregators;
        self.defined = new.defined;
        changes
    }

    /// The presets of the file; those that come with Tally never change.
    fn own_presets(&self) -> BTreeMap<String, &Preset> {
        let keyed = self.presets.iter().map(|preset| (format!("preset.{}", preset.name), preset));
        keyed.filter(|(key, _)| self.defined.contains_key(key)).collect()
    }

    fn named_aggregators(&self) -> BTreeMap<String, &Aggregator> {
        self.aggregators.iter().map(|aggregator| (format!("aggregator.{}", aggregator.name), aggregator)).collect()
    }
}

/// A longer line needs a queue and segments that hold it, which are as they were at the start.
fn is_live(key: &Key, old: &Config, new: &Config) -> bool {
    let fits = || {
        let line = new.settings.number("limits.line_bytes");
        least_for_a_line(line).into_iter().all(|(key, least)| old.settings.number(key) >= least)
    };
    key.reloadable && (key.name != "limits.line_bytes" || fits())
}

/// What came, went or is different by its name.
fn named<T: PartialEq>(old: &BTreeMap<String, &T>, new: &BTreeMap<String, &T>) -> Vec<Change> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let difference = |key: &String| match (old.get(key), new.get(key)) {
        (Some(was), Some(is)) if was == is => None,
        (Some(_), Some(_)) => Some(("defined", "defined otherwise")),
        (Some(_), None) => Some(("defined", "gone")),
        (None, _) => Some(("not there", "defined")),
    };
    let change = |key: &String| {
        let (old, new) = difference(key)?;
        Some(Change { key: key.clone(), old: old.to_string(), new: new.to_string() })
    };
    keys.into_iter().filter_map(change).collect()
}
