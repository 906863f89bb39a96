//! The configuration: defaults, then `tally.toml`, then the environment, then flags; checked once and then used as it is.
//!
//! [`keys`] is the one table of every setting. [`Settings`] are values with where they came from, [`Config`] is what was
//! validated and is used (every key present, indices resolved). Nothing here opens a socket, a log or a plugin; the only I/O
//! is reading the file that was named, and [`inspect`](inspect()). Paths in the file are relative to the file's folder, other paths to
//! the working folder.

mod changes;
mod check;
mod error;
mod file;
mod inspect;
pub mod keys;
mod lists;
mod settings;
mod show;
mod spelling;
mod units;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use changes::{Change, Changes};
pub use error::{ConfigError, Origin, Problem};
pub use inspect::inspect;
pub use keys::{KEYS, Key, key, limit_keys};
pub use settings::{Flag, Settings};
pub use show::{Row, Section};
use tally_event::schema::Preset;
pub use units::{parse_duration, parse_size};
pub use value::{Kind, Value};

/// Where a configuration is read from. Kept, so that it can be read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment variables; [`Sources::environment`] gives those of the process.
    pub environment: Vec<(String, String)>,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// A configuration, and what is odd about it but no reason to refuse it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Everything the daemon is told, validated: every default is filled in and every limit has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where log, state, analytics files and the plugin store live. One daemon at a time owns it.
    pub data_dir: PathBuf,
    /// The folder that is watched for `*.wasm` plugins.
    pub plugins_dir: PathBuf,
    /// The Unix socket that takes events. Of the four sources at least one is there.
    pub unix: Option<Unix>,
    /// The TCP socket that takes events.
    pub tcp: Option<Tcp>,
    /// The UDP socket that takes events.
    pub udp: Option<Udp>,
    /// The HTTP server that takes events.
    pub http: Option<Http>,
    /// Who answers questions.
    pub query: Query,
    /// Who answers questions and takes orders.
    pub admin: Admin,
    /// The queue between sources and parsers.
    pub queue: Queue,
    /// The durable log and how much of it is kept.
    pub log: Log,
    /// When an analytics record is written.
    pub flush: Flush,
    /// Which repeated events are recognised.
    pub dedupe: Dedupe,
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
    /// The daemon's own log lines.
    pub logs: Logs,
    /// The configured aggregators, in the file's order; names are unique. A plugin that none of them names runs once under
    /// its own name with the settings `{}`.
    pub aggregators: Vec<Aggregator>,
    /// The source presets: those that come with Tally, `default` first, then those of the file by name.
    pub presets: Vec<Preset>,
    /// Every setting as it was set, and by whom.
    pub settings: Settings,
    /// Where each preset of the file and each aggregator was defined: `preset.NAME` and `aggregator.NAME`.
    pub(crate) defined: BTreeMap<String, Origin>,
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
    /// Users that may connect, to the admin socket too. Without users and groups whoever may open the socket file.
    pub allow_uids: Vec<u32>,
    /// Groups that may connect.
    pub allow_gids: Vec<u32>,
}

/// A certificate and its key, to encrypt connections with.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsFiles {
    /// PEM file of the certificate chain.
    pub cert: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// `[tcp]`: the TCP socket that takes events.
#[derive(Clone, Debug, PartialEq)]
pub struct Tcp {
    /// A loopback address, or one with TLS and a token.
    pub listen: SocketAddr,
    /// Index into [`Config::presets`] of the preset its lines are read with.
    pub preset: usize,
    /// Encryption, if any.
    pub tls: Option<TlsFiles>,
    /// File of the token that clients must show, if any.
    pub token_file: Option<PathBuf>,
}

/// `[udp]`: the UDP socket that takes events.
#[derive(Clone, Debug, PartialEq)]
pub struct Udp {
    /// A loopback address.
    pub listen: SocketAddr,
    /// Index into [`Config::presets`] of the preset its lines are read with.
    pub preset: usize,
    /// Bytes of datagrams that the kernel may hold.
    pub receive_buffer: usize,
}

/// `[http]`: the HTTP server that takes events.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// A loopback address, or one with TLS and a token.
    pub listen: SocketAddr,
    /// Index into [`Config::presets`] of the preset that the events of `/v1/events` are read with.
    pub preset: usize,
    /// Encryption, if any.
    pub tls: Option<TlsFiles>,
    /// File of the token that clients must show, if any.
    pub token_file: Option<PathBuf>,
    /// Host names that requests may name, besides localhost and addresses.
    pub hosts: Vec<String>,
}

/// `[query]`: who answers questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Path of the Unix socket; by default that of `[unix]` with `.query` appended.
    pub socket: PathBuf,
    /// An address that answers too, if any: loopback, or with TLS and a token.
    pub listen: Option<SocketAddr>,
    /// Host names that requests to the address may name, besides localhost and addresses.
    pub hosts: Vec<String>,
    /// Encryption of the address, if any.
    pub tls: Option<TlsFiles>,
    /// File of the token that clients of the address must show, if any.
    pub token_file: Option<PathBuf>,
    /// A question may cause at most one cut in this time.
    pub max_staleness: Duration,
    /// Most rows of a table in one answer.
    pub max_rows: usize,
}

/// `[admin]`: who answers questions and takes orders.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Path of the Unix socket; by default that of `[unix]` with `.admin` appended.
    pub socket: PathBuf,
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
    /// When an event counts as durable.
    pub durability: Durability,
}

/// When an event counts as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it was synced to disk.
    Fsync,
    /// When it was given to the operating system, which is told to sync every so often.
    Interval(Duration),
    /// When it was given to the operating system.
    Os,
}

/// `[flush]`: when an analytics record is written, whichever comes first.
#[derive(Clone, Debug, PartialEq)]
pub struct Flush {
    /// After this many accepted events.
    pub events: u64,
    /// After this time, if there was an event.
    pub interval: Duration,
}

/// `[dedupe]`: which repeated events are recognised by their event id.
#[derive(Clone, Debug, PartialEq)]
pub struct Dedupe {
    /// How long an id is remembered, of the time that a daemon runs.
    pub window: Duration,
    /// Ids remembered at most; 0 switches it off.
    pub ids: usize,
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
    /// Connections open at once, for each source.
    pub connections: usize,
    /// Producers whose progress is remembered; the least recently used is forgotten.
    pub producers: usize,
    /// Bytes of rejected lines that are kept on disk.
    pub rejected_bytes: u64,
    /// Skipped events that are kept to look at.
    pub dead_letters: u64,
    /// Most rows that are given to a plugin in one call.
    pub batch_rows: usize,
    /// Longest body of an HTTP request, bytes after decompression.
    pub body_bytes: usize,
    /// Time for a client to send the head of a request or a handshake.
    pub header_timeout: Duration,
    /// A connection on which nothing happens for so long is closed.
    pub idle_timeout: Duration,
    /// Longest event id, bytes.
    pub event_id_bytes: usize,
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
    /// Events that an aggregator may fail on, each skipped, before it is quarantined.
    pub strikes: u32,
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

/// `[logs]`: the daemon's own log lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    /// A level, or a filter such as `info,tally_wal=debug`.
    pub level: String,
    /// What a line looks like.
    pub format: LogFormat,
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[[aggregator]]`: a plugin, a name, settings, shards and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregator {
    /// The aggregator's name in questions, records and the log.
    pub name: String,
    /// The plugin's file name without `.wasm`.
    pub plugin: String,
    /// The settings as canonical JSON: keys sorted, no spaces; `{}` when none were given.
    pub settings: String,
    /// Accumulators, each on a thread of its own, that its events are dealt to.
    pub shards: usize,
    /// Where it begins when nothing is saved of it.
    pub start: Begins,
}

/// Where in the log an aggregator begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begins {
    /// With the next event.
    #[default]
    Now,
    /// With the first event.
    Beginning,
    /// Behind the last cut up to this time, microseconds since the Unix epoch.
    Time(i64),
}

impl Begins {
    /// As it is written; an error says what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "now" => Ok(Self::Now),
            "beginning" => Ok(Self::Beginning),
            _ => match chrono::DateTime::parse_from_rfc3339(text) {
                Ok(time) => Ok(Self::Time(time.timestamp_micros())),
                Err(_) => Err(format!(
                    "\"{text}\" is neither \"now\", \"beginning\" nor a time with its zone, like \"2026-01-27T10:00:00Z\""
                )),
            },
        }
    }

    /// The time up to which it leaves events out, microseconds since the Unix epoch; none for now.
    pub fn micros(self) -> Option<i64> {
        match self {
            Self::Now => None,
            Self::Beginning => Some(i64::MIN),
            Self::Time(micros) => Some(micros),
        }
    }
}

impl std::fmt::Display for Begins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Beginning => f.write_str("beginning"),
            Self::Time(micros) => f.write_str(&crate::records::rfc3339(*micros)),
        }
    }
}

impl Sources {
    /// The environment variables of this process; those that are not UTF-8 set nothing.
    pub fn environment() -> Vec<(String, String)> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// Reads all layers and checks the result. The error lists everything that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let Some(path) = &self.file else {
            return self.read(None);
        };
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        self.read(Some(&text))
    }

    /// As [`Sources::load`], with the text of the file.
    fn read(&self, text: Option<&str>) -> Result<Loaded, ConfigError> {
        let mut findings = settings::Findings::default();
        let mut settings = Settings::defaults();
        let path = self.file.as_deref().unwrap_or(Path::new("tally.toml"));
        let lists = match text {
            Some(text) => match (file::File { path, text }).take(&mut settings, &mut findings) {
                Some(lists) => lists,
                // What follows from the rest of the file being absent is not worth saying.
                None => return Err(ConfigError::Invalid { problems: findings.problems, warnings: Vec::new() }),
            },
            None => file::Lists::default(),
        };
        settings.take_environment(&self.environment, &mut findings);
        settings.take_flags(&self.flags, &mut findings);
        let file = text.map(|text| file::File { path, text });
        check::check(settings, lists, file.as_ref(), findings)
    }
}

impl Config {
    /// In how many shards the aggregator of this name runs.
    pub fn shards(&self, name: &str) -> usize {
        self.aggregators.iter().find(|aggregator| aggregator.name == name).map_or(1, |aggregator| aggregator.shards)
    }

    /// The index in [`Config::presets`] of the preset of this name.
    pub fn preset(&self, name: &str) -> Option<usize> {
        self.presets.iter().position(|preset| preset.name == name)
    }
}
