//! Settings in layers: defaults, then the file, then the environment, then flags; each setting remembers who had the last
//! word. Must not know: what settings mean together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::{Origin, Problem};
use super::keys::{ALIASES, Default, KEYS, Key, key};
use super::spelling::{nearest_key, nearest_variable};
use super::value::Value;

/// A flag of the command line that sets a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// As it was written, for messages: `--flush-events`, `--set flush.events`.
    pub flag: String,
    /// The key it sets.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// The value of every setting that has one, and where it came from.
#[derive(Clone, PartialEq)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, Origin)>,
    /// Keys whose value could not be read; what follows from their absence is not worth an error of its own.
    failed: BTreeSet<&'static str>,
}

/// What is wrong, and what is odd.
#[derive(Debug, std::default::Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Findings {
    pub(super) fn problem(&mut self, origin: Origin, key: impl Into<String>, text: impl Into<String>) {
        self.problems.push(Problem { origin, key: key.into(), text: text.into() });
    }
}

impl Settings {
    /// What is set when nobody says anything.
    pub(super) fn defaults() -> Settings {
        let value = |key: &Key| match key.default {
            Default::Text(text) => Some((key.name, (default_value(key, text), Origin::Default))),
            Default::Derived(_) | Default::Unset(_) => None,
        };
        Settings { values: KEYS.iter().filter_map(value).collect(), failed: BTreeSet::new() }
    }

    /// Takes what was read for a key, or notes why it was not.
    pub(super) fn take(
        &mut self,
        key: &'static Key,
        read: Result<Value, String>,
        origin: Origin,
        findings: &mut Findings,
    ) {
        match read {
            Ok(value) => {
                self.failed.remove(key.name);
                self.values.insert(key.name, (value, origin));
            }
            Err(text) => {
                self.failed.insert(key.name);
                findings.problem(origin, key.name, text);
            }
        }
    }

    /// Takes what environment variables say. An empty variable counts as not set.
    pub(super) fn take_environment(&mut self, variables: &[(String, String)], findings: &mut Findings) {
        let get = |name: &str| {
            variables.iter().find(|(variable, value)| variable == name && !value.is_empty()).map(|(_, value)| value)
        };
        for alias in ALIASES {
            let (Some(value), Some(key)) = (get(alias.variable), key(alias.key)) else { continue };
            let variable = key.variable();
            if get(&variable).is_some() {
                findings
                    .warnings
                    .push(format!("{} is passed over: {variable} sets {} too, and wins", alias.variable, key.name));
                continue;
            }
            let number = value.trim();
            let read = match number.parse::<u64>() {
                Ok(_) => key.kind.read_text(&format!("{number}{}", alias.unit)),
                Err(_) => Err(format!("\"{value}\" is no whole number")),
            };
            self.take(key, read, Origin::Environment(alias.variable.to_string()), findings);
        }
        for key in KEYS {
            let variable = key.variable();
            if let Some(value) = get(&variable) {
                self.take(key, key.kind.read_text(value), Origin::Environment(variable), findings);
            }
        }
        for (variable, _) in variables {
            if let Some(near) = nearest_variable(variable) {
                findings.warnings.push(format!("{variable} is set, but no such setting exists; did you mean {near}?"));
            }
        }
    }

    /// Takes what flags say; of several for a key the last one wins.
    pub(super) fn take_flags(&mut self, flags: &[Flag], findings: &mut Findings) {
        for flag in flags {
            let origin = Origin::Flag(flag.flag.clone());
            match key(&flag.key) {
                Some(key) => self.take(key, key.kind.read_text(&flag.value), origin, findings),
                None => findings.problem(origin, &flag.key, format!("unknown key{}", nearest_key(&flag.key))),
            }
        }
    }

    /// Fills in what a key has when nobody set it.
    pub(super) fn derive(&mut self, name: &str, value: Value) {
        if let Some(key) = key(name) {
            self.values.entry(key.name).or_insert((value, Origin::Default));
        }
    }

    /// Takes a key's value and origin from other settings.
    pub(super) fn copy(&mut self, name: &str, other: &Settings) {
        match (key(name), other.values.get(name)) {
            (Some(key), Some(value)) => drop(self.values.insert(key.name, value.clone())),
            _ => drop(self.values.remove(name)),
        }
    }

    /// Whether somebody set it, though it could not be read.
    pub(super) fn failed(&self, name: &str) -> bool {
        self.failed.contains(name)
    }

    /// Whether somebody set it.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.origin(name) != Origin::Default
    }

    /// A setting's value, if it has one.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|(value, _)| value)
    }

    /// Where a setting's value comes from.
    pub fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self.value(name) {
            Some(Value::Path(path)) => Some(path.clone()),
            _ => None,
        }
    }

    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        match self.value(name) {
            Some(Value::Address(address)) => Some(*address),
            _ => None,
        }
    }

    /// A number of things or bytes that may be left unset.
    pub(super) fn number_if_set(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Count(number) | Value::Size(number)) => Some(*number),
            _ => None,
        }
    }

    // These have a default in the key table, which a test checks: asking for another key is a bug.

    pub(super) fn number(&self, name: &str) -> u64 {
        self.number_if_set(name).unwrap_or_else(|| no_default(name))
    }

    pub(super) fn time(&self, name: &str) -> Duration {
        match self.value(name) {
            Some(Value::Time(time)) => *time,
            _ => no_default(name),
        }
    }

    pub(super) fn word(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Word(word)) => word,
            _ => no_default(name),
        }
    }

    pub(super) fn words(&self, name: &str) -> Vec<String> {
        match self.value(name) {
            Some(Value::Words(words)) => words.clone(),
            _ => no_default(name),
        }
    }

    pub(super) fn ids(&self, name: &str) -> Vec<u32> {
        match self.value(name) {
            Some(Value::Ids(ids)) => ids.clone(),
            _ => no_default(name),
        }
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        match self.value(name) {
            Some(Value::Mode(mode)) => *mode,
            _ => no_default(name),
        }
    }
}

/// Every setting on a line, as in `config show`.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_map()
            .entries(self.values.iter().map(|(name, (value, origin))| (name, format!("{value} ({origin})"))))
            .finish()
    }
}

fn default_value(key: &Key, text: &str) -> Value {
    match key.kind.read_text(text) {
        Ok(value) => value,
        Err(problem) => unreachable!("the default of {}: {problem}", key.name),
    }
}

fn no_default(name: &str) -> ! {
    unreachable!("{name} has no default of the kind asked for")
}
