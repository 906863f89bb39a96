//! The configuration as it stands in `tally.toml`: every key optional, unknown keys refused. Knows no defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ConfigError;
use super::units::{Size, Time};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) plugins_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) unix: Unix,
    #[serde(default)]
    pub(super) query: Query,
    #[serde(default)]
    pub(super) queue: Queue,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) flush: Flush,
    #[serde(default)]
    pub(super) analytics: Analytics,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) plugin: Plugin,
    #[serde(default)]
    pub(super) shutdown: Shutdown,
    #[serde(default)]
    pub(super) workers: Workers,
    #[serde(default)]
    pub(super) aggregator: Vec<Aggregator>,
    #[serde(default)]
    pub(super) preset: BTreeMap<String, Preset>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unix {
    pub(super) path: Option<PathBuf>,
    pub(super) preset: Option<String>,
    pub(super) mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    pub(super) socket: Option<PathBuf>,
    pub(super) max_staleness: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Queue {
    pub(super) max_bytes: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) segment_bytes: Option<Size>,
    pub(super) retain_bytes: Option<Size>,
    pub(super) retain_age: Option<Time>,
    pub(super) tail_bytes: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flush {
    pub(super) events: Option<u64>,
    pub(super) interval: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Analytics {
    pub(super) max_bytes: Option<Size>,
    pub(super) max_batches: Option<u64>,
    pub(super) table_rows: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) line_bytes: Option<Size>,
    pub(super) depth: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) producers: Option<u64>,
    pub(super) rejected_bytes: Option<Size>,
    pub(super) batch_rows: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plugin {
    pub(super) memory: Option<Size>,
    pub(super) backstop: Option<Time>,
    pub(super) fuel_base: Option<u64>,
    pub(super) fuel_per_row: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shutdown {
    pub(super) grace: Option<Time>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workers {
    pub(super) parsers: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aggregator {
    pub(super) name: Option<String>,
    pub(super) plugin: String,
    #[serde(default)]
    pub(super) settings: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preset {
    /// Gives every event this type.
    #[serde(rename = "type")]
    pub(super) constant_type: Option<String>,
    /// Pointer to the event type.
    pub(super) type_path: Option<String>,
    /// Pointer to the event time.
    pub(super) timestamp: Option<String>,
}

/// Reads the text of a file.
pub(super) fn read(text: &str, path: &Path) -> Result<Raw, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        ConfigError::Parse { path: path.to_path_buf(), line, column, message: in_our_words(error.message()) }
    })
}

/// 1-based line and column of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// "unknown field `a`, expected one of `b`, `c`" with the nearest of the known keys named; what serde calls a field is a
/// key to whoever wrote the file.
fn in_our_words(message: &str) -> String {
    if !message.starts_with("unknown field") {
        return message.replacen("missing field", "missing key", 1);
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else {
        return message.to_string();
    };
    let known: Vec<&str> = names.collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), *name))
        .filter(|(distance, name)| *distance <= (unknown.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, name)) => format!("unknown key `{unknown}`; did you mean `{name}`?"),
        None => format!("unknown key `{unknown}`; known here are {}", known.join(", ")),
    }
}
