//! The key table: every setting with its kind, default, help and properties. Reading a file, the environment and flags,
//! `config show`, `--help` and the check of what a reload can apply all go by it. Must not know: what a setting is used for.

use std::time::Duration;

use super::value::Kind;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name as in `tally.toml`, with the section: `flush.events`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Default,
    /// One sentence, without a full stop.
    pub help: &'static str,
    /// The flag of `tally run` that sets it, if it has one of its own.
    pub flag: Option<&'static str>,
    /// SIGHUP applies a new value; otherwise it takes a restart.
    pub reloadable: bool,
    /// A bound that input can go past.
    pub is_limit: bool,
    /// Names a file whose content is never shown or logged.
    pub secret: bool,
}

/// What a setting is when nobody sets it.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// As if this text had been given.
    Text(&'static str),
    /// Taken from something else; says from what.
    Derived(&'static str),
    /// Nothing; says what that means.
    Unset(&'static str),
}

impl std::fmt::Display for Default {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Default::Text("") => "none",
            Default::Text(text) | Default::Derived(text) | Default::Unset(text) => text,
        })
    }
}

impl Key {
    /// `flush` of `flush.events`; empty at the top level.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The environment variable that sets it: `TALLY_FLUSH_EVENTS`.
    pub fn variable(&self) -> String {
        format!("TALLY_{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    /// What its values are measured in or look like.
    pub fn unit(&self) -> &'static str {
        self.kind.unit()
    }

    const fn new(name: &'static str, kind: Kind, default: Default, help: &'static str) -> Key {
        Key { name, kind, default, help, flag: None, reloadable: false, is_limit: false, secret: false }
    }

    const fn flag(self, flag: &'static str) -> Key {
        Key { flag: Some(flag), ..self }
    }

    const fn live(self) -> Key {
        Key { reloadable: true, ..self }
    }

    const fn limit(self) -> Key {
        Key { is_limit: true, ..self }
    }

    const fn secret(self) -> Key {
        Key { secret: true, ..self }
    }
}

/// The setting of this name.
pub fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The settings that are limits: bounds that input can go past.
pub fn limit_keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.is_limit)
}

/// Another name of an environment variable, for those who know it from elsewhere.
pub struct Alias {
    /// The variable.
    pub variable: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// What its value, a whole number, is followed by.
    pub unit: &'static str,
}

/// Environment variables that set a key under another name than [`Key::variable`].
pub const ALIASES: &[Alias] = &[
    Alias { variable: "FLUSH_INTERVAL_SEC", key: "flush.interval", unit: "s" },
    Alias { variable: "BATCH_SIZE", key: "flush.events", unit: "" },
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const ANY: u64 = u64::MAX;

const NOTHING: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Ten years: what is added to a clock must not overflow it.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn time(min: Duration, max: Duration) -> Kind {
    Kind::Time { min, max }
}

const fn text(default: &'static str) -> Default {
    Default::Text(default)
}

const CLOSED: Default = Default::Unset("not open");
const NO_TLS: Default = Default::Unset("no TLS");
const NO_TOKEN: Default = Default::Unset("no token");
const PRESET: Default = text("default");

const CERT: &str = "PEM file of the certificate chain that clients are shown";
const CERT_KEY: &str = "PEM file of the certificate's private key";
const TOKEN: &str = "File that holds the token clients must show; its content is never shown or logged";
const HOSTS: &str = "Host names that requests may name, besides localhost and the address itself";
const LINES_PRESET: &str = "Preset that the lines of this source are read with";

/// Every setting, by section, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key::new(
        "data_dir",
        Kind::Path,
        Default::Unset("must be given"),
        "Folder for log, state and analytics files; made if missing; one daemon at a time owns it",
    )
    .flag("--data-dir"),
    Key::new("plugins_dir", Kind::Path, Default::Unset("must be given"), "Folder that is watched for *.wasm plugins")
        .flag("--plugins-dir"),
    // Sources.
    Key::new("unix.path", Kind::Path, CLOSED, "Unix socket that takes events").flag("--unix"),
    Key::new("unix.preset", Kind::Word, PRESET, LINES_PRESET),
    Key::new("unix.mode", Kind::Mode, text("0660"), "Permission bits of the socket file, in octal"),
    Key::new(
        "unix.allow_uids",
        Kind::Ids,
        text(""),
        "Users (uid) that may connect, to the admin socket too; with neither users nor groups whoever may open it",
    ),
    Key::new("unix.allow_gids", Kind::Ids, text(""), "Groups (gid) that may connect"),
    Key::new(
        "tcp.listen",
        Kind::Address,
        CLOSED,
        "Address that takes events over TCP; beyond loopback only with TLS and a token",
    )
    .flag("--tcp"),
    Key::new("tcp.preset", Kind::Word, PRESET, LINES_PRESET),
    Key::new("tcp.tls_cert", Kind::Path, NO_TLS, CERT),
    Key::new("tcp.tls_key", Kind::Path, NO_TLS, CERT_KEY).secret(),
    Key::new("tcp.token_file", Kind::Path, NO_TOKEN, TOKEN).secret(),
    Key::new("udp.listen", Kind::Address, CLOSED, "Address that takes events as UDP datagrams; loopback only")
        .flag("--udp"),
    Key::new("udp.preset", Kind::Word, PRESET, LINES_PRESET),
    Key::new(
        "udp.receive_buffer",
        size(4 * KIB, GIB),
        text("4MiB"),
        "What the kernel may hold of datagrams that wait to be read",
    ),
    Key::new(
        "http.listen",
        Kind::Address,
        CLOSED,
        "Address that takes events over HTTP; beyond loopback only with TLS and a token",
    )
    .flag("--http"),
    Key::new("http.preset", Kind::Word, PRESET, "Preset that the events of /v1/events are read with"),
    Key::new("http.tls_cert", Kind::Path, NO_TLS, CERT),
    Key::new("http.tls_key", Kind::Path, NO_TLS, CERT_KEY).secret(),
    Key::new("http.token_file", Kind::Path, NO_TOKEN, TOKEN).secret(),
    Key::new("http.hosts", Kind::Words, text(""), HOSTS),
    // Questions.
    Key::new(
        "query.socket",
        Kind::Path,
        Default::Derived("unix.path (without it data_dir/tally.sock) with .query appended"),
        "Unix socket that answers questions",
    )
    .flag("--query-socket"),
    Key::new(
        "query.listen",
        Kind::Address,
        CLOSED,
        "Address that answers questions over TCP; beyond loopback only with TLS and a token",
    )
    .flag("--query-listen"),
    Key::new("query.hosts", Kind::Words, text(""), HOSTS),
    Key::new("query.tls_cert", Kind::Path, NO_TLS, CERT),
    Key::new("query.tls_key", Kind::Path, NO_TLS, CERT_KEY).secret(),
    Key::new("query.token_file", Kind::Path, NO_TOKEN, TOKEN).secret(),
    Key::new(
        "query.max_staleness",
        time(NOTHING, DAY),
        text("1s"),
        "A question may cause at most one cut in this time",
    )
    .live(),
    Key::new("query.max_rows", count(1, 1_000_000), text("10000"), "Most rows of a table in one answer").live().limit(),
    Key::new(
        "admin.socket",
        Kind::Path,
        Default::Derived("unix.path (without it data_dir/tally.sock) with .admin appended"),
        "Unix socket that answers questions and takes orders",
    )
    .flag("--admin-socket"),
    // From queue to files.
    Key::new(
        "queue.max_bytes",
        size(1, TIB),
        text("32MiB"),
        "What may wait between sources and parsers; a full queue stops reading",
    )
    .limit(),
    Key::new("log.segment_bytes", size(1, 4 * GIB), text("64MiB"), "Size of a log segment file"),
    Key::new(
        "log.retain_bytes",
        size(0, ANY),
        text("1GiB"),
        "A covered segment may go when the segments after it hold this much",
    ),
    Key::new(
        "log.retain_age",
        time(NOTHING, LONGEST),
        text("1h"),
        "A covered segment may go when it was sealed this long ago",
    ),
    Key::new(
        "log.tail_bytes",
        size(0, TIB),
        text("64MiB"),
        "Recent frames kept in memory while an aggregator wants them; one further behind reads the log",
    )
    .limit(),
    Key::new(
        "log.durability",
        Kind::OneOf(&["fsync", "interval", "os"]),
        text("fsync"),
        "When an event counts as durable: synced to disk at once, synced every sync_interval, or given to the operating system",
    ),
    Key::new(
        "log.sync_interval",
        time(MILLISECOND, HOUR),
        text("100ms"),
        "Time between syncs with durability = interval; a power cut loses at most this much",
    ),
    Key::new("flush.events", count(1, ANY), text("1000000"), "Write an analytics record after so many accepted events")
        .flag("--flush-events")
        .live(),
    Key::new(
        "flush.interval",
        time(MILLISECOND, LONGEST),
        text("30s"),
        "Write an analytics record after this time, if there was an event",
    )
    .flag("--flush-interval")
    .live(),
    Key::new(
        "dedupe.window",
        time(NOTHING, LONGEST),
        text("10m"),
        "How long an event id is remembered to drop repetitions",
    )
    .limit(),
    Key::new(
        "dedupe.ids",
        count(0, 1 << 32),
        text("1000000"),
        "Event ids remembered at most, the oldest is forgotten; 0 keeps repeated events",
    )
    .limit(),
    Key::new(
        "analytics.max_bytes",
        size(1, ANY),
        text("64MiB"),
        "An analytics file is followed by the next one after this many bytes",
    ),
    Key::new(
        "analytics.max_batches",
        count(1, ANY),
        text("100000"),
        "An analytics file is followed by the next one after this many records",
    ),
    Key::new(
        "analytics.table_rows",
        count(1, 1_000_000),
        text("100"),
        "Rows of each table that go into a record; the rest is counted",
    )
    .limit(),
    // What input and plugins may cost.
    Key::new("limits.line_bytes", size(KIB, 64 * MIB), text("1MiB"), "Longest event, without its newline")
        .live()
        .limit(),
    Key::new("limits.depth", count(1, 128), text("64"), "Deepest nesting of an event's JSON; the event itself is 1")
        .live()
        .limit(),
    Key::new("limits.connections", count(1, 1 << 20), text("1024"), "Connections open at once, for each source")
        .live()
        .limit(),
    Key::new(
        "limits.producers",
        count(1, 1 << 20),
        text("10000"),
        "Producers whose progress is remembered; the least recently used is forgotten",
    )
    .live()
    .limit(),
    Key::new("limits.rejected_bytes", size(64 * KIB, ANY), text("64MiB"), "Rejected lines kept on disk; the oldest go")
        .live()
        .limit(),
    Key::new(
        "limits.dead_letters",
        count(1, 100_000),
        text("1000"),
        "Skipped events that are kept to look at; the oldest go",
    )
    .live()
    .limit(),
    Key::new("limits.batch_rows", count(1, 1 << 20), text("16384"), "Most rows given to a plugin in one call")
        .live()
        .limit(),
    Key::new(
        "limits.body_bytes",
        size(KIB, GIB),
        text("16MiB"),
        "Longest body of an HTTP request, after decompression",
    )
    .live()
    .limit(),
    Key::new(
        "limits.header_timeout",
        time(MILLISECOND, HOUR),
        text("10s"),
        "Time for a client to send the head of a request or a handshake",
    )
    .live()
    .limit(),
    Key::new(
        "limits.idle_timeout",
        time(SECOND, LONGEST),
        text("10m"),
        "A connection on which nothing happens for so long is closed",
    )
    .live()
    .limit(),
    Key::new("limits.event_id_bytes", count(1, 64 * KIB), text("256"), "Longest event id").live().limit(),
    Key::new("plugin.memory", size(MIB, 4 * GIB), text("256MiB"), "Memory of one instance of a plugin").limit(),
    Key::new(
        "plugin.backstop",
        time(MILLISECOND, HOUR),
        text("10s"),
        "Wall-clock limit of one call, for what fuel does not bound",
    )
    .limit(),
    Key::new(
        "plugin.fuel_base",
        count(1, ANY),
        Default::Unset("the plugin host's figure"),
        "Fuel that every call gets",
    )
    .limit(),
    Key::new(
        "plugin.fuel_per_row",
        count(1, ANY),
        Default::Unset("the plugin host's figure"),
        "Fuel that a call gets for each row on top",
    )
    .limit(),
    Key::new(
        "plugin.strikes",
        count(1, 10_000),
        text("16"),
        "Events that an aggregator may fail on, each skipped, before it is quarantined",
    )
    .live()
    .limit(),
    // The process.
    Key::new("workers.parsers", count(0, 256), text("0"), "Parser threads; 0 chooses by the number of cores"),
    Key::new("shutdown.grace", time(NOTHING, DAY), text("5s"), "Time for the last flush after SIGTERM or SIGINT"),
    Key::new(
        "logs.level",
        Kind::Word,
        text("info"),
        "error, warn, info, debug or trace, or a filter such as info,tally_wal=debug; RUST_LOG wins over it",
    )
    .flag("--log-level")
    .live(),
    Key::new("logs.format", Kind::OneOf(&["text", "json"]), text("text"), "What log lines on stderr look like")
        .flag("--log-format"),
];
