//! What a configuration gives, and what its mistakes are answered with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::{Expect, expect};

use super::{Config, Flags, parse_duration, parse_size};

/// The keys without a default.
const LEAST: &str = "data_dir = 'data'\nplugins_dir = 'plugins'\n";

fn parse(text: &str) -> Result<Config, String> {
    let text = format!("{LEAST}{text}\n");
    let flags = Flags { unix: Some("/run/tally.sock".into()), ..Flags::default() };
    Config::parse(&text, Path::new("/etc/tally/tally.toml"), flags).map_err(|error| error.to_string())
}

fn fails(text: &str, expected: Expect) {
    match parse(text) {
        Ok(config) => panic!("taken: {config:?}"),
        Err(message) => expected.assert_eq(&message),
    }
}

#[test]
fn defaults() {
    let mut config = parse("").unwrap();
    assert!(config.workers.parsers >= 1);
    config.workers.parsers = 1;
    expect![[r#"
        Config {
            data_dir: "/etc/tally/data",
            plugins_dir: "/etc/tally/plugins",
            unix: Unix {
                path: "/run/tally.sock",
                preset: 0,
                mode: 432,
            },
            query: Query {
                socket: "/run/tally.sock.query",
                max_staleness: 1s,
            },
            queue: Queue {
                max_bytes: 67108864,
            },
            log: Log {
                segment_bytes: 67108864,
                retain_bytes: 1073741824,
                retain_age: 3600s,
                tail_bytes: 67108864,
            },
            flush: Flush {
                events: 1000000,
                interval: 30s,
            },
            analytics: Analytics {
                max_bytes: 67108864,
                max_batches: 100000,
                table_rows: 100,
            },
            limits: Limits {
                line_bytes: 1048576,
                depth: 64,
                connections: 1024,
                producers: 10000,
                rejected_bytes: 67108864,
                batch_rows: 4096,
            },
            plugin: Plugin {
                memory_bytes: 268435456,
                backstop: 10s,
                fuel_base: None,
                fuel_per_row: None,
            },
            shutdown: Shutdown {
                grace: 5s,
            },
            workers: Workers {
                parsers: 1,
            },
            aggregators: [],
            presets: [
                Preset {
                    name: "default",
                    constant_type: None,
                    type_path: "/type",
                    timestamp_path: "/timestamp",
                    timestamp_format: Rfc3339,
                    event_id: [
                        "/event_id",
                    ],
                    rename: [],
                    required: [],
                },
            ],
        }
    "#]]
    .assert_debug_eq(&config);
}

#[test]
fn every_key_is_read() {
    let text = r#"
        [unix]
        path = "ignored-since-the-flag-wins.sock"
        preset = "wikipedia"
        mode = "0600"
        [query]
        socket = "/run/q"
        max_staleness = "250ms"
        [queue]
        max_bytes = "8MiB"
        [log]
        segment_bytes = "4MiB"
        retain_bytes = 0
        retain_age = "2d"
        tail_bytes = 65536
        [flush]
        events = 1000
        interval = "1m30s"
        [analytics]
        max_bytes = "1MB"
        max_batches = 7
        table_rows = 3
        [limits]
        line_bytes = "64KiB"
        depth = 16
        connections = 5
        producers = 6
        rejected_bytes = "1MiB"
        batch_rows = 1
        [plugin]
        memory = "32MiB"
        backstop = "1s"
        fuel_base = 10
        fuel_per_row = 20
        [shutdown]
        grace = "0s"
        [workers]
        parsers = 3
        [[aggregator]]
        plugin = "video-actions"
        [[aggregator]]
        name = "likes"
        plugin = "video-actions"
        settings = { weights = { view = -1, "b\"" = 0.5 }, "a" = [true, 1979-05-27, "x"] }
        [preset.wikipedia]
        type = "edit"
        timestamp = "/time"
        [preset.default]
        type_path = "/event/~1kind"
    "#;
    expect![[r#"
        Config {
            data_dir: "/etc/tally/data",
            plugins_dir: "/etc/tally/plugins",
            unix: Unix {
                path: "/run/tally.sock",
                preset: 1,
                mode: 384,
            },
            query: Query {
                socket: "/run/q",
                max_staleness: 250ms,
            },
            queue: Queue {
                max_bytes: 8388608,
            },
            log: Log {
                segment_bytes: 4194304,
                retain_bytes: 0,
                retain_age: 172800s,
                tail_bytes: 65536,
            },
            flush: Flush {
                events: 1000,
                interval: 90s,
            },
            analytics: Analytics {
                max_bytes: 1000000,
                max_batches: 7,
                table_rows: 3,
            },
            limits: Limits {
                line_bytes: 65536,
                depth: 16,
                connections: 5,
                producers: 6,
                rejected_bytes: 1048576,
                batch_rows: 1,
            },
            plugin: Plugin {
                memory_bytes: 33554432,
                backstop: 1s,
                fuel_base: Some(
                    10,
                ),
                fuel_per_row: Some(
                    20,
                ),
            },
            shutdown: Shutdown {
                grace: 0ns,
            },
            workers: Workers {
                parsers: 3,
            },
            aggregators: [
                Aggregator {
                    name: "video-actions",
                    plugin: "video-actions",
                    settings: "{}",
                },
                Aggregator {
                    name: "likes",
                    plugin: "video-actions",
                    settings: "{\"a\":[true,\"1979-05-27\",\"x\"],\"weights\":{\"b\\\"\":0.5,\"view\":-1}}",
                },
            ],
            presets: [
                Preset {
                    name: "default",
                    constant_type: None,
                    type_path: "/event/~1kind",
                    timestamp_path: "/timestamp",
                    timestamp_format: Rfc3339,
                    event_id: [
                        "/event_id",
                    ],
                    rename: [],
                    required: [],
                },
                Preset {
                    name: "wikipedia",
                    constant_type: Some(
                        "edit",
                    ),
                    type_path: "/type",
                    timestamp_path: "/time",
                    timestamp_format: Rfc3339,
                    event_id: [
                        "/event_id",
                    ],
                    rename: [],
                    required: [],
                },
            ],
        }
    "#]]
    .assert_debug_eq(&parse(text).unwrap());
}

#[test]
fn flags_win_and_paths_in_the_file_are_relative_to_it() {
    let text = "data_dir = 'data'\nplugins_dir = '/opt/plugins'\n[unix]\npath = 't.sock'\n[flush]\nevents = 5\ninterval = '1s'\n";
    let file = Path::new("/etc/tally/tally.toml");
    let config = Config::parse(text, file, Flags::default()).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/etc/tally/data"));
    assert_eq!(config.plugins_dir, PathBuf::from("/opt/plugins"));
    assert_eq!(config.unix.path, PathBuf::from("/etc/tally/t.sock"));
    assert_eq!(config.query.socket, PathBuf::from("/etc/tally/t.sock.query"));
    let flags = Flags {
        data_dir: Some("here".into()),
        plugins_dir: Some("there".into()),
        unix: Some("u".into()),
        query_socket: Some("q".into()),
        flush_events: Some(9),
        flush_interval: Some(Duration::from_millis(200)),
    };
    let config = Config::parse(text, file, flags).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("here"));
    assert_eq!(config.plugins_dir, PathBuf::from("there"));
    assert_eq!(config.unix.path, PathBuf::from("u"));
    assert_eq!(config.query.socket, PathBuf::from("q"));
    assert_eq!(config.flush.events, 9);
    assert_eq!(config.flush.interval, Duration::from_millis(200));
}

#[test]
fn without_a_file_the_flags_must_say_what_has_no_default() {
    let mut flags = Flags::default();
    let missing = |flags: &Flags| Config::load(None, flags.clone()).unwrap_err().to_string();
    expect!["no socket for events: give --unix PATH, or `unix.path` in the configuration file"]
        .assert_eq(&missing(&flags));
    flags.unix = Some("u".into());
    expect!["no data directory: give --data-dir DIR, or `data_dir` in the configuration file"]
        .assert_eq(&missing(&flags));
    flags.data_dir = Some("d".into());
    expect!["no plugins directory: give --plugins-dir DIR, or `plugins_dir` in the configuration file"]
        .assert_eq(&missing(&flags));
    flags.plugins_dir = Some("p".into());
    assert_eq!(Config::load(None, flags).unwrap().query.socket, PathBuf::from("u.query"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/none/tally.toml")), Flags::default()).unwrap_err();
    expect!["cannot read the configuration /none/tally.toml (check the path given with --config)"]
        .assert_eq(&error.to_string());
}

#[test]
fn unknown_keys_are_errors_that_suggest_the_right_one() {
    fails(
        "[flush]\nevents = 1\ninterwal = '30s'",
        expect!["/etc/tally/tally.toml:5:1: unknown key `interwal`; did you mean `interval`?"],
    );
    fails(
        "[log]\nsegment_size = 1",
        expect!["/etc/tally/tally.toml:4:1: unknown key `segment_size`; did you mean `segment_bytes`?"],
    );
    fails("[flsh]\nevents = 1", expect!["/etc/tally/tally.toml:3:2: unknown key `flsh`; did you mean `flush`?"]);
    fails(
        "[limits]\nzzz = 1",
        expect![
            "/etc/tally/tally.toml:4:1: unknown key `zzz`; known here are line_bytes, depth, connections, producers, rejected_bytes, batch_rows"
        ],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nsetings = {}",
        expect!["/etc/tally/tally.toml:5:1: unknown key `setings`; did you mean `settings`?"],
    );
    fails(
        "[preset.p]\ntime = '/time'",
        expect!["/etc/tally/tally.toml:4:1: unknown key `time`; known here are type, type_path, timestamp"],
    );
    fails("[unix]\n  Path = 'x'", expect!["/etc/tally/tally.toml:4:3: unknown key `Path`; did you mean `path`?"]);
}

#[test]
fn wrong_types_and_wrong_toml_are_placed() {
    fails(
        "[flush]\nevents = 'many'",
        expect![[r#"/etc/tally/tally.toml:4:10: invalid type: string "many", expected u64"#]],
    );
    fails(
        "[flush]\ninterval = 30",
        expect![[
            r#"/etc/tally/tally.toml:4:12: invalid type: integer `30`, expected a duration with a unit, e.g. "30s""#
        ]],
    );
    fails(
        "[flush]\ninterval = '30 parsecs'",
        expect![[
            r#"/etc/tally/tally.toml:4:12: `30 parsecs` is not a duration; write a number with a unit (us, ms, s, m, h, d), e.g. "30s" or "1h30m""#
        ]],
    );
    fails(
        "[queue]\nmax_bytes = '64 mib'",
        expect![[
            r#"/etc/tally/tally.toml:4:13: `64 mib` is not a size; write a number of bytes or one with a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), e.g. "64MiB""#
        ]],
    );
    fails("[queue]\nmax_bytes = -1", expect!["/etc/tally/tally.toml:4:13: -1 is not a size; sizes are not negative"]);
    fails("[flush\nevents = 1", expect!["/etc/tally/tally.toml:3:7: unclosed table, expected `]`"]);
    fails("[[aggregator]]\nname = 'a'", expect!["/etc/tally/tally.toml:3:1: missing key `plugin`"]);
}

#[test]
fn values_out_of_bounds_say_the_bounds() {
    fails("[limits]\ndepth = 0", expect!["/etc/tally/tally.toml: `limits.depth` is 0; it must be between 1 and 512"]);
    fails(
        "[limits]\nbatch_rows = 0",
        expect!["/etc/tally/tally.toml: `limits.batch_rows` is 0; it must be between 1 and 1048576"],
    );
    fails(
        "[queue]\nmax_bytes = '1MiB'",
        expect!["/etc/tally/tally.toml: `queue.max_bytes` is 1048576; it must be between 1310720 and 1099511627776"],
    );
    fails(
        "[log]\nsegment_bytes = '1MiB'",
        expect!["/etc/tally/tally.toml: `log.segment_bytes` is 1048576; it must be between 2621440 and 4294967296"],
    );
    fails("[flush]\nevents = 0", expect!["/etc/tally/tally.toml: `flush.events` is 0; it must be at least 1"]);
    fails(
        "[flush]\ninterval = '0s'",
        expect!["/etc/tally/tally.toml: `flush.interval` is 0ns; it must be between 1ms and 315360000s"],
    );
    fails(
        "[plugin]\nfuel_per_row = 0",
        expect!["/etc/tally/tally.toml: `plugin.fuel_per_row` is 0; it must be at least 1"],
    );
    fails(
        "[unix]\nmode = '0999'",
        expect![[r#"/etc/tally/tally.toml: `unix.mode` is "0999"; write permission bits in octal, e.g. "0660""#]],
    );
    fails(
        "[unix]\npreset = 'wiki'",
        expect![
            "/etc/tally/tally.toml: `unix.preset` names `wiki`, which is not defined; add [preset.wiki] or use one of: default"
        ],
    );
    fails(
        "[query]\nsocket = '/run/tally.sock'",
        expect!["/etc/tally/tally.toml: `query.socket` is the socket for events; questions need a socket of their own"],
    );
}

#[test]
fn aggregators_and_presets_are_checked() {
    fails(
        "[[aggregator]]\nplugin = 'a'\n[[aggregator]]\nplugin = 'b'\nname = 'a'",
        expect![
            "/etc/tally/tally.toml: `aggregator[1].name` is `a`, which an earlier [[aggregator]] has; give it a `name` of its own"
        ],
    );
    fails(
        "[[aggregator]]\nplugin = 'a.wasm'",
        expect![[r#"/etc/tally/tally.toml: `aggregator[0].plugin` is a file name; write it without .wasm: "a""#]],
    );
    fails(
        "[[aggregator]]\nplugin = '../a'",
        expect![[
            r#"/etc/tally/tally.toml: `aggregator[0].plugin` has the name "../a"; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"#
        ]],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nname = ''",
        expect![[
            r#"/etc/tally/tally.toml: `aggregator[0].name` has the name ""; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"#
        ]],
    );
    fails(
        "[[aggregator]]\nplugin = 'a'\nsettings = { a = [1, nan] }",
        expect!["/etc/tally/tally.toml: `aggregator[0].settings.a[1]` is not a finite number; JSON has no such value"],
    );
    fails(
        "[preset.p]\ntype = 'edit'\ntype_path = '/type'",
        expect![
            "/etc/tally/tally.toml: `preset.p.type` gives every event one type, so `type_path` means nothing; remove one of them"
        ],
    );
    fails("[preset.p]\ntype = ''", expect!["/etc/tally/tally.toml: `preset.p.type` must have 1 to 256 bytes"]);
    fails(
        "[preset.p]\ntimestamp = 'time'",
        expect![[
            r#"/etc/tally/tally.toml: `preset.p.timestamp` is "time"; write a JSON pointer, e.g. "/time" (`~0` stands for `~`, `~1` for `/`)"#
        ]],
    );
    fails(
        "[preset.p]\ntimestamp = '/ti~me'",
        expect![[
            r#"/etc/tally/tally.toml: `preset.p.timestamp` is "/ti~me"; write a JSON pointer, e.g. "/ti~0me" (`~0` stands for `~`, `~1` for `/`)"#
        ]],
    );
    fails(
        "[preset.'p p']\ntimestamp = '/time'",
        expect![[
            r#"/etc/tally/tally.toml: `preset.p p` has the name "p p"; names have 1 to 64 of the characters a-z A-Z 0-9 - _ . and do not begin with a dot"#
        ]],
    );
}

#[test]
fn durations() {
    let nanos = |text| parse_duration(text).map(|duration| duration.as_nanos());
    assert_eq!(nanos("0s"), Ok(0));
    assert_eq!(nanos("7us"), Ok(7_000));
    assert_eq!(nanos("500ms"), Ok(500_000_000));
    assert_eq!(nanos(" 1h30m "), Ok(5_400_000_000_000));
    assert_eq!(nanos("1d"), Ok(86_400_000_000_000));
    for wrong in ["", "s", "30", "1.5s", "-1s", "1 s", "1S", "1ms2", "18446744073709551616us", "213504d"] {
        assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
    }
}

#[test]
fn sizes() {
    assert_eq!(parse_size("0"), Ok(0));
    assert_eq!(parse_size("64MiB"), Ok(64 << 20));
    assert_eq!(parse_size("64 MB"), Ok(64_000_000));
    assert_eq!(parse_size("3B"), Ok(3));
    assert_eq!(parse_size("16777215TiB"), Ok(16_777_215 << 40));
    for wrong in ["", "MiB", "1.5MiB", "-1", "64M", "64mib", "16777216TiB", "1MiB1"] {
        assert!(parse_size(wrong).is_err(), "{wrong:?} was taken");
    }
}
