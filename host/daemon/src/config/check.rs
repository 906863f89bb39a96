//! From settings to the configuration that is used: what settings must be together. Pure but for the number of cores.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use tally_event::schema::Preset;

use super::error::{ConfigError, Origin};
use super::file::{File, Lists};
use super::settings::{Findings, Settings};
use super::value::Value;
use super::{
    Admin, Analytics, Config, Dedupe, Durability, Flush, Http, Limits, Loaded, Log, LogFormat, Logs, Plugin, Query,
    Queue, Shutdown, Tcp, TlsFiles, Udp, Unix, Workers, lists,
};

/// What a source reads at once; a queue or a segment must hold at least that and one line.
const READ_BYTES: u64 = 256 << 10;

/// The sections of the sources, and the key that opens each.
const SOURCES: [(&str, &str); 4] =
    [("unix", "unix.path"), ("tcp", "tcp.listen"), ("udp", "udp.listen"), ("http", "http.listen")];

struct Check<'c> {
    settings: &'c mut Settings,
    presets: &'c [Preset],
    findings: &'c mut Findings,
}

/// Validates everything that was set.
pub(super) fn check(
    mut settings: Settings,
    lists: Lists,
    file: Option<&File>,
    mut findings: Findings,
) -> Result<Loaded, ConfigError> {
    let mut defined = BTreeMap::new();
    let nowhere = File { path: "tally.toml".as_ref(), text: "" };
    let file = file.unwrap_or(&nowhere);
    let presets = lists::presets(file, lists.presets, &mut findings, &mut defined);
    let aggregators = lists::aggregators(file, lists.aggregators, &mut findings, &mut defined);
    let mut check = Check { settings: &mut settings, presets: &presets, findings: &mut findings };
    let data_dir = check.required("data_dir");
    let plugins_dir = check.required("plugins_dir");
    check.a_source();
    check.derive_sockets(&data_dir);
    check.sizes();
    let (unix, tcp, udp, http) = (check.unix(), check.tcp(), check.udp(), check.http());
    let (query, admin) = (check.query(), check.admin());
    check.doors_are_different();
    check.unused(&defined);
    if !findings.problems.is_empty() {
        let Findings { mut problems, warnings } = findings;
        problems.sort();
        return Err(ConfigError::Invalid { problems, warnings });
    }
    let config = Config {
        data_dir,
        plugins_dir,
        unix,
        tcp,
        udp,
        http,
        query,
        admin,
        queue: Queue { max_bytes: length(settings.number("queue.max_bytes")) },
        log: log(&settings),
        flush: flush(&settings),
        dedupe: Dedupe { window: settings.time("dedupe.window"), ids: length(settings.number("dedupe.ids")) },
        analytics: Analytics {
            max_bytes: settings.number("analytics.max_bytes"),
            max_batches: settings.number("analytics.max_batches"),
            table_rows: settings.number("analytics.table_rows") as u32,
        },
        limits: limits(&settings),
        plugin: Plugin {
            memory_bytes: length(settings.number("plugin.memory")),
            backstop: settings.time("plugin.backstop"),
            fuel_base: settings.number_if_set("plugin.fuel_base"),
            fuel_per_row: settings.number_if_set("plugin.fuel_per_row"),
            strikes: settings.number("plugin.strikes") as u32,
        },
        shutdown: Shutdown { grace: settings.time("shutdown.grace") },
        workers: workers(&settings),
        logs: logs(&settings),
        aggregators,
        presets,
        settings,
        defined,
    };
    Ok(Loaded { config, warnings: findings.warnings })
}

/// What must be so large at least that lines of this length get through.
pub(super) fn least_for_a_line(line_bytes: u64) -> [(&'static str, u64); 2] {
    // A frame is at least one chunk: what is read at once, or one longest line.
    [("queue.max_bytes", READ_BYTES + line_bytes), ("log.segment_bytes", 2 * (READ_BYTES + line_bytes))]
}

/// What is used as a length in memory; the key table's bounds are below what a machine of 64 bits can address.
pub(super) fn length(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn log(settings: &Settings) -> Log {
    Log {
        segment_bytes: settings.number("log.segment_bytes"),
        retain_bytes: settings.number("log.retain_bytes"),
        retain_age: settings.time("log.retain_age"),
        tail_bytes: length(settings.number("log.tail_bytes")),
        durability: match settings.word("log.durability") {
            "interval" => Durability::Interval(settings.time("log.sync_interval")),
            "os" => Durability::Os,
            _ => Durability::Fsync,
        },
    }
}

pub(super) fn flush(settings: &Settings) -> Flush {
    Flush { events: settings.number("flush.events"), interval: settings.time("flush.interval") }
}

pub(super) fn limits(settings: &Settings) -> Limits {
    Limits {
        line_bytes: length(settings.number("limits.line_bytes")),
        depth: settings.number("limits.depth") as u32,
        connections: length(settings.number("limits.connections")),
        producers: length(settings.number("limits.producers")),
        rejected_bytes: settings.number("limits.rejected_bytes"),
        dead_letters: settings.number("limits.dead_letters"),
        batch_rows: length(settings.number("limits.batch_rows")),
        body_bytes: length(settings.number("limits.body_bytes")),
        header_timeout: settings.time("limits.header_timeout"),
        idle_timeout: settings.time("limits.idle_timeout"),
        event_id_bytes: length(settings.number("limits.event_id_bytes")),
    }
}

pub(super) fn logs(settings: &Settings) -> Logs {
    let format = match settings.word("logs.format") {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Logs { level: settings.word("logs.level").to_string(), format }
}

fn workers(settings: &Settings) -> Workers {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Workers {
        parsers: match settings.number("workers.parsers") {
            // Parsing is the larger half of the work; the other half (log writer, apply threads) needs cores too.
            0 => (cores() / 2).clamp(1, 8),
            parsers => length(parsers),
        },
    }
}

impl Check<'_> {
    fn problem(&mut self, key: &str, text: impl Into<String>) {
        self.findings.problem(self.settings.origin(key), key, text);
    }

    /// A path without which there is no daemon. An empty one stands in for one that is missing, which is a problem.
    fn required(&mut self, name: &str) -> PathBuf {
        let path = self.settings.path(name);
        if path.is_none() && !self.settings.failed(name) {
            let key = super::key(name);
            let (flag, variable) = (key.and_then(|key| key.flag).unwrap_or(name), key.map(super::Key::variable));
            let variable = variable.unwrap_or_default();
            self.problem(name, format!("missing; give {flag} DIR, {variable}, or {name} in the configuration file"));
        }
        path.unwrap_or_default()
    }

    fn a_source(&mut self) {
        if !SOURCES.iter().any(|(_, key)| self.settings.value(key).is_some() || self.settings.failed(key)) {
            let keys = "unix.path, tcp.listen, udp.listen or http.listen in the configuration file";
            self.problem("", format!("no source of events: give --unix PATH, or {keys}"));
        }
    }

    fn derive_sockets(&mut self, data_dir: &std::path::Path) {
        let base = self.settings.path("unix.path").unwrap_or_else(|| data_dir.join("tally.sock"));
        for (key, ending) in [("query.socket", ".query"), ("admin.socket", ".admin")] {
            let mut path = base.clone().into_os_string();
            path.push(ending);
            self.settings.derive(key, Value::Path(path.into()));
        }
    }

    /// What must hold at least a longest line, or one read.
    fn sizes(&mut self) {
        let line = self.settings.number("limits.line_bytes");
        for (key, least) in least_for_a_line(line) {
            let bytes = self.settings.number(key);
            if bytes >= least {
                continue;
            }
            let (bytes, line, least) = (Value::Size(bytes), Value::Size(line), Value::Size(least));
            self.problem(
                key,
                format!("{bytes} is too little; with limits.line_bytes = {line} it must be at least {least}"),
            );
        }
        let segment = self.settings.number("log.segment_bytes");
        if !segment.is_multiple_of(8) {
            self.problem("log.segment_bytes", format!("{segment} is no multiple of 8"));
        }
    }

    fn unix(&mut self) -> Option<Unix> {
        let preset = self.preset("unix.preset");
        let settings = &self.settings;
        Some(Unix {
            path: settings.path("unix.path")?,
            preset,
            mode: settings.mode("unix.mode"),
            allow_uids: settings.ids("unix.allow_uids"),
            allow_gids: settings.ids("unix.allow_gids"),
        })
    }

    fn tcp(&mut self) -> Option<Tcp> {
        let (preset, (tls, token_file)) = (self.preset("tcp.preset"), self.access("tcp"));
        Some(Tcp { listen: self.settings.address("tcp.listen")?, preset, tls, token_file })
    }

    fn udp(&mut self) -> Option<Udp> {
        let preset = self.preset("udp.preset");
        let listen = self.settings.address("udp.listen")?;
        if !listen.ip().is_loopback() {
            let loopback = loopback(listen);
            let text = format!(
                "{listen} can be reached from other machines, and UDP has neither TLS nor tokens; listen on {loopback}, or use tcp.listen with tcp.tls_cert, tcp.tls_key and tcp.token_file"
            );
            self.problem("udp.listen", text);
        }
        Some(Udp { listen, preset, receive_buffer: length(self.settings.number("udp.receive_buffer")) })
    }

    fn http(&mut self) -> Option<Http> {
        let (preset, (tls, token_file)) = (self.preset("http.preset"), self.access("http"));
        let hosts = self.settings.words("http.hosts");
        Some(Http { listen: self.settings.address("http.listen")?, preset, tls, token_file, hosts })
    }

    fn query(&mut self) -> Query {
        let (tls, token_file) = self.access("query");
        let settings = &self.settings;
        Query {
            socket: settings.path("query.socket").unwrap_or_default(),
            listen: settings.address("query.listen"),
            hosts: settings.words("query.hosts"),
            tls,
            token_file,
            max_staleness: settings.time("query.max_staleness"),
            max_rows: length(settings.number("query.max_rows")),
        }
    }

    fn admin(&mut self) -> Admin {
        Admin { socket: self.settings.path("admin.socket").unwrap_or_default() }
    }

    fn preset(&mut self, key: &str) -> usize {
        let wanted = self.settings.word(key).to_string();
        if let Some(index) = self.presets.iter().position(|preset| preset.name == wanted) {
            return index;
        }
        let known: Vec<&str> = self.presets.iter().map(|preset| preset.name.as_str()).collect();
        let known = known.join(", ");
        self.problem(key, format!("there is no preset `{wanted}`; add [preset.{wanted}] or use one of: {known}"));
        0
    }

    /// TLS and token of a door. Who can be reached from other machines needs both.
    fn access(&mut self, section: &str) -> (Option<TlsFiles>, Option<PathBuf>) {
        let name = |key: &str| format!("{section}.{key}");
        let path = |key: &str| self.settings.path(&name(key));
        let (cert, key, token_file) = (path("tls_cert"), path("tls_key"), path("token_file"));
        let given = |key: &&str| self.settings.value(&name(key)).is_some() || self.settings.failed(&name(key));
        let missing: Vec<String> =
            ["tls_cert", "tls_key", "token_file"].into_iter().filter(|key| !given(key)).map(name).collect();
        let half_of_tls = [("tls_cert", "tls_key"), ("tls_key", "tls_cert")];
        let half_of_tls = half_of_tls.into_iter().find(|(one, other)| given(one) && !given(other));
        let listen = self.settings.address(&name("listen"));
        match listen.filter(|listen| !listen.ip().is_loopback()) {
            Some(listen) if !missing.is_empty() => {
                let (loopback, missing) = (loopback(listen), enumerated(&missing));
                let text = format!(
                    "{listen} can be reached from other machines, which takes TLS and a token: set {missing}, or listen on {loopback}"
                );
                self.problem(&name("listen"), text);
            }
            _ => {
                if let Some((one, other)) = half_of_tls {
                    self.problem(&name(one), format!("TLS takes both files; set {section}.{other} too"));
                }
            }
        }
        (cert.zip(key).map(|(cert, key)| TlsFiles { cert, key }), token_file)
    }

    fn doors_are_different(&mut self) {
        let mut sockets: BTreeMap<PathBuf, &str> = BTreeMap::new();
        for key in ["unix.path", "query.socket", "admin.socket"] {
            let Some(path) = self.settings.path(key) else { continue };
            match sockets.get(&path) {
                Some(other) => {
                    self.problem(
                        key,
                        format!("{} is the socket of {other} already; each needs its own", path.display()),
                    );
                }
                None => drop(sockets.insert(path, key)),
            }
        }
        let mut addresses: BTreeMap<SocketAddr, &str> = BTreeMap::new();
        for key in ["tcp.listen", "http.listen", "query.listen"] {
            // With port 0 the system chooses one that is free.
            let Some(address) = self.settings.address(key).filter(|address| address.port() != 0) else { continue };
            match addresses.get(&address) {
                Some(other) => {
                    self.problem(key, format!("{address} is the address of {other} already; each needs its own"));
                }
                None => drop(addresses.insert(address, key)),
            }
        }
    }

    /// What was set or defined, and changes nothing.
    fn unused(&mut self, defined: &BTreeMap<String, Origin>) {
        let query = ("query", "query.listen");
        for key in super::KEYS {
            let Some((_, opens)) = SOURCES.into_iter().chain([query]).find(|(section, _)| key.section() == *section)
            else {
                continue;
            };
            let is_of_the_socket = ["query.socket", "query.max_staleness", "query.max_rows"].contains(&key.name);
            if self.settings.is_set(key.name) && self.settings.value(opens).is_none() && !is_of_the_socket {
                let origin = self.settings.origin(key.name);
                self.findings.warnings.push(format!("{origin}: {} has no effect without {opens}", key.name));
            }
        }
        if self.settings.is_set("log.sync_interval") && self.settings.word("log.durability") != "interval" {
            let origin = self.settings.origin("log.sync_interval");
            let text = "log.sync_interval has no effect without log.durability = interval";
            self.findings.warnings.push(format!("{origin}: {text}"));
        }
        let used: BTreeSet<String> =
            SOURCES.iter().map(|(section, _)| self.settings.word(&format!("{section}.preset")).to_string()).collect();
        for (key, origin) in defined {
            if let Some(name) = key.strip_prefix("preset.").filter(|name| !used.contains(*name)) {
                let keys = "unix.preset, tcp.preset, udp.preset or http.preset";
                self.findings.warnings.push(format!("{origin}: preset.{name} is not used; name it in {keys}"));
            }
        }
    }
}

/// `a, b and c`.
fn enumerated(names: &[String]) -> String {
    match names {
        [before @ .., last] if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

/// The same port, reachable from this machine only.
fn loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
