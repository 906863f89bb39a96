//! From the configuration as read to the one that is used: flags, defaults and checks. Pure but for the number of cores.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tally_event::schema::Preset;

use super::error::ConfigError;
use super::raw::{self, Raw};
use super::units::{Size, Time};
use super::{Aggregator, Analytics, Config, Flags, Flush, Limits, Log, Plugin, Query, Queue, Shutdown, Unix, Workers};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a source reads at once; a queue or a segment must hold at least that and one line.
const READ_BYTES: u64 = 256 * KIB;

/// Checks numbers against their bounds, and knows which file to name when one is out of them.
struct Checks<'a> {
    file: Option<&'a Path>,
}

/// Validates what was read and what the flags say.
pub(super) fn check(raw: Raw, file: Option<&Path>, flags: Flags) -> Result<Config, ConfigError> {
    let checks = Checks { file };
    let presets = checks.presets(raw.preset)?;
    let limits = checks.limits(&raw.limits)?;
    let unix = checks.unix(&raw.unix, flags.unix, &presets)?;
    let config = Config {
        data_dir: checks.directory(flags.data_dir, raw.data_dir, DATA_DIR)?,
        plugins_dir: checks.directory(flags.plugins_dir, raw.plugins_dir, PLUGINS_DIR)?,
        query: checks.query(&raw.query, flags.query_socket, &unix.path)?,
        queue: checks.queue(&raw.queue, &limits)?,
        log: checks.log(&raw.log, &limits)?,
        flush: checks.flush(&raw.flush, flags.flush_events, flags.flush_interval)?,
        analytics: checks.analytics(&raw.analytics)?,
        plugin: checks.plugin(&raw.plugin)?,
        shutdown: Shutdown { grace: checks.time("shutdown.grace", raw.shutdown.grace, secs(5), Duration::ZERO, DAY)? },
        workers: checks.workers(&raw.workers)?,
        aggregators: checks.aggregators(raw.aggregator)?,
        unix,
        limits,
        presets,
    };
    Ok(config)
}

/// What is missing, the flag and the key that give it.
type Required = (&'static str, &'static str, &'static str);

const DATA_DIR: Required = ("data directory", "--data-dir DIR", "data_dir");
const PLUGINS_DIR: Required = ("plugins directory", "--plugins-dir DIR", "plugins_dir");
const UNIX_PATH: Required = ("socket for events", "--unix PATH", "unix.path");

const DAY: Duration = secs(86_400);
/// Ten years: what is added to a clock must not overflow it.
const LONGEST: Duration = secs(3_650 * 86_400);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Checks<'_> {
    fn invalid(&self, key: impl Into<String>, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { file: self.file.map(Path::to_path_buf), key: key.into(), problem: problem.into() }
    }

    fn number(&self, key: &str, value: Option<u64>, default: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
        let value = value.unwrap_or(default);
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        let bounds = match max {
            u64::MAX => format!("at least {min}"),
            _ => format!("between {min} and {max}"),
        };
        Err(self.invalid(key, format!("is {value}; it must be {bounds}")))
    }

    /// As `number`, for what is used as a length in memory.
    fn length(&self, key: &str, value: Option<u64>, default: u64, min: u64, max: u64) -> Result<usize, ConfigError> {
        let value = self.number(key, value, default, min, max)?;
        usize::try_from(value).map_err(|_| self.invalid(key, format!("is {value}, more than this machine can address")))
    }

    fn time(
        &self,
        key: &str,
        value: Option<Time>,
        default: Duration,
        min: Duration,
        max: Duration,
    ) -> Result<Duration, ConfigError> {
        let value = value.map_or(default, |time| time.0);
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        Err(self.invalid(key, format!("is {value:?}; it must be between {min:?} and {max:?}")))
    }

    /// A path in the file is relative to the file's folder.
    fn resolve(&self, path: &Path) -> PathBuf {
        match self.file.and_then(Path::parent) {
            Some(folder) => folder.join(path),
            None => path.to_path_buf(),
        }
    }

    fn directory(
        &self,
        flag: Option<PathBuf>,
        read: Option<PathBuf>,
        (what, name, key): Required,
    ) -> Result<PathBuf, ConfigError> {
        let path = flag.or_else(|| read.map(|path| self.resolve(&path)));
        match path {
            Some(path) if path.as_os_str().is_empty() => Err(self.invalid(key, "is empty; it must be a path")),
            Some(path) => Ok(path),
            None => Err(ConfigError::Missing { what, flag: name, key }),
        }
    }

    fn unix(&self, raw: &raw::Unix, flag: Option<PathBuf>, presets: &[Preset]) -> Result<Unix, ConfigError> {
        let path = self.directory(flag, raw.path.clone(), UNIX_PATH)?;
        let wanted = raw.preset.as_deref().unwrap_or("default");
        let preset = presets.iter().position(|preset| preset.name == wanted).ok_or_else(|| {
            let known: Vec<&str> = presets.iter().map(|preset| preset.name.as_str()).collect();
            self.invalid(
                "unix.preset",
                format!(
                    "names `{wanted}`, which is not defined; add [preset.{wanted}] or use one of: {}",
                    known.join(", ")
                ),
            )
        })?;
        let mode = match &raw.mode {
            None => 0o660,
            Some(text) => u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                self.invalid("unix.mode", format!("is \"{text}\"; write permission bits in octal, e.g. \"0660\""))
            })?,
        };
        Ok(Unix { path, preset, mode })
    }

    fn query(&self, raw: &raw::Query, flag: Option<PathBuf>, unix: &Path) -> Result<Query, ConfigError> {
        let socket = flag.or_else(|| raw.socket.as_deref().map(|path| self.resolve(path))).unwrap_or_else(|| {
            let mut path = unix.as_os_str().to_os_string();
            path.push(".query");
            PathBuf::from(path)
        });
        if socket == unix {
            return Err(self.invalid("query.socket", "is the socket for events; questions need a socket of their own"));
        }
        let max_staleness = self.time("query.max_staleness", raw.max_staleness, secs(1), Duration::ZERO, DAY)?;
        Ok(Query { socket, max_staleness })
    }

    fn limits(&self, raw: &raw::Limits) -> Result<Limits, ConfigError> {
        let size = |size: Option<Size>| size.map(|size| size.0);
        Ok(Limits {
            line_bytes: self.length("limits.line_bytes", size(raw.line_bytes), MIB, KIB, 64 * MIB)?,
            depth: self.number("limits.depth", raw.depth, 64, 1, 512)? as u32,
            connections: self.length("limits.connections", raw.connections, 1024, 1, 1 << 20)?,
            producers: self.length("limits.producers", raw.producers, 10_000, 1, 1 << 20)?,
            rejected_bytes: self.number(
                "limits.rejected_bytes",
                size(raw.rejected_bytes),
                64 * MIB,
                64 * KIB,
                u64::MAX,
            )?,
            batch_rows: self.length("limits.batch_rows", raw.batch_rows, 4096, 1, 1 << 20)?,
        })
    }

    fn queue(&self, raw: &raw::Queue, limits: &Limits) -> Result<Queue, ConfigError> {
        let min = READ_BYTES + limits.line_bytes as u64;
        let max_bytes = raw.max_bytes.map(|size| size.0);
        Ok(Queue { max_bytes: self.length("queue.max_bytes", max_bytes, (64 * MIB).max(min), min, 1 << 40)? })
    }

    fn log(&self, raw: &raw::Log, limits: &Limits) -> Result<Log, ConfigError> {
        let size = |size: Option<Size>| size.map(|size| size.0);
        // A frame is at least one chunk: what is read at once, or one longest line.
        let least = 2 * (READ_BYTES + limits.line_bytes as u64);
        Ok(Log {
            segment_bytes: self.number(
                "log.segment_bytes",
                size(raw.segment_bytes),
                (64 * MIB).max(least),
                least,
                4 * GIB,
            )?,
            retain_bytes: self.number("log.retain_bytes", size(raw.retain_bytes), GIB, 0, u64::MAX)?,
            retain_age: self.time("log.retain_age", raw.retain_age, secs(3_600), Duration::ZERO, LONGEST)?,
            tail_bytes: self.length("log.tail_bytes", size(raw.tail_bytes), 64 * MIB, 0, 1 << 40)?,
        })
    }

    fn flush(&self, raw: &raw::Flush, events: Option<u64>, interval: Option<Duration>) -> Result<Flush, ConfigError> {
        let events = events.or(raw.events);
        let interval = interval.map(Time).or(raw.interval);
        let least = Duration::from_millis(1);
        Ok(Flush {
            events: self.number("flush.events", events, 1_000_000, 1, u64::MAX)?,
            interval: self.time("flush.interval", interval, secs(30), least, LONGEST)?,
        })
    }

    fn analytics(&self, raw: &raw::Analytics) -> Result<Analytics, ConfigError> {
        let max_bytes = raw.max_bytes.map(|size| size.0);
        Ok(Analytics {
            max_bytes: self.number("analytics.max_bytes", max_bytes, 64 * MIB, 1, u64::MAX)?,
            max_batches: self.number("analytics.max_batches", raw.max_batches, 100_000, 1, u64::MAX)?,
            table_rows: self.number("analytics.table_rows", raw.table_rows, 100, 1, 1_000_000)? as u32,
        })
    }

    fn plugin(&self, raw: &raw::Plugin) -> Result<Plugin, ConfigError> {
        let memory = raw.memory.map(|size| size.0);
        let millisecond = Duration::from_millis(1);
        for (key, fuel) in [("plugin.fuel_base", raw.fuel_base), ("plugin.fuel_per_row", raw.fuel_per_row)] {
            self.number(key, fuel, 1, 1, u64::MAX)?;
        }
        Ok(Plugin {
            memory_bytes: self.length("plugin.memory", memory, 256 * MIB, MIB, 4 * GIB)?,
            backstop: self.time("plugin.backstop", raw.backstop, secs(10), millisecond, secs(3_600))?,
            fuel_base: raw.fuel_base,
            fuel_per_row: raw.fuel_per_row,
        })
    }

    fn workers(&self, raw: &raw::Workers) -> Result<Workers, ConfigError> {
        let parsers = self.length("workers.parsers", raw.parsers, 0, 0, 256)?;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Workers {
            // Parsing is the larger half of the work; the other half (log writer, apply threads) needs cores too.
            parsers: if parsers == 0 { (cores() / 2).clamp(1, 8) } else { parsers },
        })
    }

    /// `default` first (as defined in the file, if it is), then the others by name.
    fn presets(&self, raw: BTreeMap<String, raw::Preset>) -> Result<Vec<Preset>, ConfigError> {
        let mut presets = vec![Preset::default()];
        for (name, read) in raw {
            let preset = self.preset(&name, read)?;
            if name == "default" {
                presets[0] = preset;
            } else {
                presets.push(preset);
            }
        }
        Ok(presets)
    }

    fn preset(&self, name: &str, raw: raw::Preset) -> Result<Preset, ConfigError> {
        let key = |field: &str| format!("preset.{name}.{field}");
        self.name(&format!("preset.{name}"), name)?;
        if raw.constant_type.is_some() && raw.type_path.is_some() {
            return Err(self
                .invalid(key("type"), "gives every event one type, so `type_path` means nothing; remove one of them"));
        }
        let length = raw.constant_type.as_ref().map_or(1, String::len);
        if !(1..=256).contains(&length) {
            return Err(self.invalid(key("type"), "must have 1 to 256 bytes"));
        }
        let default = Preset::default();
        Ok(Preset {
            name: name.to_string(),
            constant_type: raw.constant_type,
            type_path: self.pointer(&key("type_path"), raw.type_path, default.type_path)?,
            timestamp_path: self.pointer(&key("timestamp"), raw.timestamp, default.timestamp_path)?,
            ..default
        })
    }

    /// An RFC 6901 pointer to a member, so not the empty one.
    fn pointer(&self, key: &str, value: Option<String>, default: String) -> Result<String, ConfigError> {
        let value = value.unwrap_or(default);
        let escapes_are_right = value.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'));
        if value.starts_with('/') && escapes_are_right {
            return Ok(value);
        }
        let meant = value.trim_start_matches('/').replace('~', "~0");
        Err(self.invalid(
            key,
            format!("is \"{value}\"; write a JSON pointer, e.g. \"/{meant}\" (`~0` stands for `~`, `~1` for `/`)"),
        ))
    }

    fn aggregators(&self, raw: Vec<raw::Aggregator>) -> Result<Vec<Aggregator>, ConfigError> {
        let mut seen = BTreeSet::new();
        let mut aggregators = Vec::with_capacity(raw.len());
        for (index, read) in raw.into_iter().enumerate() {
            let aggregator = self.aggregator(index, read)?;
            if !seen.insert(aggregator.name.clone()) {
                return Err(self.invalid(
                    format!("aggregator[{index}].name"),
                    format!(
                        "is `{}`, which an earlier [[aggregator]] has; give it a `name` of its own",
                        aggregator.name
                    ),
                ));
            }
            aggregators.push(aggregator);
        }
        Ok(aggregators)
    }

    fn aggregator(&self, index: usize, raw: raw::Aggregator) -> Result<Aggregator, ConfigError> {
        let key = |field: &str| format!("aggregator[{index}].{field}");
        if let Some(stem) = raw.plugin.strip_suffix(".wasm") {
            return Err(self.invalid(key("plugin"), format!("is a file name; write it without .wasm: \"{stem}\"")));
        }
        self.name(&key("plugin"), &raw.plugin)?;
        let name = raw.name.unwrap_or_else(|| raw.plugin.clone());
        self.name(&key("name"), &name)?;
        let settings = to_json(toml::Value::Table(raw.settings))
            .map_err(|path| self.invalid(key("settings") + &path, "is not a finite number; JSON has no such value"))?;
        Ok(Aggregator { name, plugin: raw.plugin, settings })
    }

    /// Names stand in paths, URLs and records, so they are plain.
    fn name(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=64).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.') {
            return Ok(());
        }
        Err(self.invalid(
            key,
            format!("has the name \"{name}\"; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"),
        ))
    }
}

/// Canonical JSON: keys sorted by bytes, no spaces, whatever order the file or a map type has. The error is the path of
/// what JSON cannot say.
fn to_json(value: toml::Value) -> Result<String, String> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    Ok(match value {
        toml::Value::String(text) => quoted(&text),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(time) => quoted(&time.to_string()),
        toml::Value::Float(number) => match serde_json::Number::from_f64(number) {
            Some(number) => number.to_string(),
            None => return Err(String::new()),
        },
        toml::Value::Array(items) => {
            let items: Result<Vec<String>, String> = (items.into_iter().enumerate())
                .map(|(index, item)| to_json(item).map_err(|path| format!("[{index}]{path}")))
                .collect();
            format!("[{}]", items?.join(","))
        }
        toml::Value::Table(table) => {
            let mut entries: Vec<(String, toml::Value)> = table.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            let entries: Result<Vec<String>, String> = (entries.into_iter())
                .map(|(name, item)| {
                    let value = to_json(item).map_err(|path| format!(".{name}{path}"))?;
                    Ok(format!("{}:{value}", quoted(&name)))
                })
                .collect();
            format!("{{{}}}", entries?.join(","))
        }
    })
}
