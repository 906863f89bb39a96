//! The configuration: what stands in `tally.toml`, overridden by flags, checked once and then used as it is.
//!
//! Two types, on purpose: `raw` is what was read (optional keys, text as written), [`Config`] is what was validated and is
//! used (every key present, indices resolved). Nothing here opens a socket, a log or a plugin; the only I/O is reading the
//! file that was named. Paths in the file are relative to the file's folder, paths in flags to the working folder.

mod check;
mod error;
mod raw;
mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::ConfigError;
use tally_event::schema::Preset;
pub use units::{parse_duration, parse_size};

/// Everything the daemon is told, validated: every default is filled in and every limit has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where log, state, analytics files and the plugin store live. One daemon at a time owns it.
    pub data_dir: PathBuf,
    /// The folder that is watched for `*.wasm` plugins.
    pub plugins_dir: PathBuf,
    /// The Unix socket that takes events.
    pub unix: Unix,
    /// The Unix socket that answers questions.
    pub query: Query,
    /// The queue between sources and parsers.
    pub queue: Queue,
    /// The durable log and how much of it is kept.
    pub log: Log,
    /// When an analytics record is written.
    pub flush: Flush,
    /// The analytics files.
    pub analytics: Analytics,
    /// What a single line, connection or batch may cost.
    pub limits: Limits,
    /// What a plugin may cost.
    pub plugin: Plugin,
    /// How the daemon ends.
    pub shutdown: Shutdown,
    /// How many threads do what.
    pub workers: Workers,
    /// The configured aggregators, in the file's order; names are unique. A plugin that none of them names runs once under
    /// its own name with the settings `{}`.
    pub aggregators: Vec<Aggregator>,
    /// The source presets. The first is always `default`, the others follow by name.
    pub presets: Vec<Preset>,
}

/// `[unix]`: the socket that takes events.
#[derive(Clone, Debug, PartialEq)]
pub struct Unix {
    /// Path of the socket.
    pub path: PathBuf,
    /// Index into [`Config::presets`] of the preset its lines are read with.
    pub preset: usize,
    /// Permission bits of the socket file.
    pub mode: u32,
}

/// `[query]`: the socket that answers questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Path of the socket; by default that of `[unix]` with `.query` appended.
    pub socket: PathBuf,
    /// A question may cause at most one cut in this time.
    pub max_staleness: Duration,
}

/// `[queue]`: what may wait between sources and parsers.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Bytes that may be queued; a full queue stops reading.
    pub max_bytes: usize,
}

/// `[log]`: the durable log.
///
/// A sealed segment may go once the saved state of every attached aggregator covers it *and* either newer segments alone
/// hold `retain_bytes`, or it was sealed `retain_age` ago. So the log keeps at most about `retain_bytes` and nothing much
/// older than `retain_age`, as long as no aggregator is behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Size of a segment file, bytes.
    pub segment_bytes: u64,
    /// A covered segment may go when the segments after it hold this many bytes.
    pub retain_bytes: u64,
    /// A covered segment may go when it was sealed this long ago.
    pub retain_age: Duration,
    /// Bytes of recent frames that stay in memory for the apply threads.
    pub tail_bytes: usize,
}

/// `[flush]`: when an analytics record is written, whichever comes first.
#[derive(Clone, Debug, PartialEq)]
pub struct Flush {
    /// After this many accepted events.
    pub events: u64,
    /// After this time, if there was an event.
    pub interval: Duration,
}

/// `[analytics]`: the analytics files.
#[derive(Clone, Debug, PartialEq)]
pub struct Analytics {
    /// A file is followed by the next one after this many bytes.
    pub max_bytes: u64,
    /// A file is followed by the next one after this many records.
    pub max_batches: u64,
    /// Rows of each table that go into a record; the rest is counted.
    pub table_rows: u32,
}

/// `[limits]`: what a single line, connection or batch may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Longest line, bytes without its newline.
    pub line_bytes: usize,
    /// Deepest JSON nesting; the event itself is depth 1.
    pub depth: u32,
    /// Connections open at once on the event socket.
    pub connections: usize,
    /// Producers whose progress is remembered; the least recently used is forgotten.
    pub producers: usize,
    /// Bytes of rejected lines that are kept on disk.
    pub rejected_bytes: u64,
    /// Most rows that are given to a plugin in one call.
    pub batch_rows: usize,
}

/// `[plugin]`: what a plugin may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Linear memory of one instance, bytes.
    pub memory_bytes: usize,
    /// Wall-clock limit of a single call, for what fuel does not bound.
    pub backstop: Duration,
    /// Fuel that every call gets; `None` for the plugin host's own figure.
    pub fuel_base: Option<u64>,
    /// Fuel that a call gets for each row on top; `None` for the plugin host's own figure.
    pub fuel_per_row: Option<u64>,
}

/// `[shutdown]`: how the daemon ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    /// Time for the final flush after SIGTERM or SIGINT.
    pub grace: Duration,
}

/// `[workers]`: how many threads do what.
#[derive(Clone, Debug, PartialEq)]
pub struct Workers {
    /// Parser threads, at least 1; `0` in the file has been replaced by a number chosen from the cores.
    pub parsers: usize,
}

/// `[[aggregator]]`: a plugin, a name and settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregator {
    /// The aggregator's name in questions, records and the log.
    pub name: String,
    /// The plugin's file name without `.wasm`.
    pub plugin: String,
    /// The settings as canonical JSON: keys sorted, no spaces; `{}` when none were given.
    pub settings: String,
}

/// What the command line overrides. `None` leaves what the file or the default says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--plugins-dir`
    pub plugins_dir: Option<PathBuf>,
    /// `--unix`
    pub unix: Option<PathBuf>,
    /// `--query-socket`
    pub query_socket: Option<PathBuf>,
    /// `--flush-events`
    pub flush_events: Option<u64>,
    /// `--flush-interval`
    pub flush_interval: Option<Duration>,
}

impl Config {
    /// Reads `file` (if any), lets `overrides` win, fills in the defaults and checks the result.
    pub fn load(file: Option<&Path>, overrides: Flags) -> Result<Config, ConfigError> {
        let Some(path) = file else {
            return check::check(raw::Raw::default(), None, overrides);
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Config::parse(&text, path, overrides)
    }

    /// As [`Config::load`], from text that was read already; `path` is where it came from.
    pub fn parse(text: &str, path: &Path, overrides: Flags) -> Result<Config, ConfigError> {
        let raw = raw::read(text, path)?;
        check::check(raw, Some(path), overrides)
    }
}
