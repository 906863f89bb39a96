//! What differs between two configurations, and what of it a running daemon can take on.

use std::collections::BTreeSet;
use std::fmt;

use super::{Config, KEYS};

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
                let list = if key.reloadable { &mut changes.live } else { &mut changes.restart };
                list.push(Change { key: key.name.to_string(), old: was, new: is });
            }
        }
        changes.live.extend(named(
            "preset",
            &old.presets.iter().map(|p| (p.name.as_str(), p)).collect::<Vec<_>>(),
            &new.presets.iter().map(|p| (p.name.as_str(), p)).collect::<Vec<_>>(),
        ));
        changes.live.extend(named(
            "aggregator",
            &old.aggregators.iter().map(|a| (a.name.as_str(), a)).collect::<Vec<_>>(),
            &new.aggregators.iter().map(|a| (a.name.as_str(), a)).collect::<Vec<_>>(),
        ));
        changes
    }
}

/// What came, went or is different by its name.
fn named<T: PartialEq>(what: &str, old: &[(&str, &T)], new: &[(&str, &T)]) -> Vec<Change> {
    let find = |list: &[(&str, &T)], name: &str| list.iter().position(|(n, _)| *n == name);
    let names: BTreeSet<&str> = old.iter().chain(new).map(|(name, _)| *name).collect();
    let word = |change: &str| change.to_string();
    (names.into_iter())
        .filter_map(|name| {
            let (was, is) = match (find(old, name), find(new, name)) {
                (Some(was), Some(is)) if old[was].1 == new[is].1 => return None,
                (Some(_), Some(_)) => ("defined", "defined otherwise"),
                (Some(_), None) => ("defined", "gone"),
                (None, _) => ("unknown", "defined"),
            };
            Some(Change { key: format!("{what}.{name}"), old: word(was), new: word(is) })
        })
        .collect()
}
