//! Mistakes in the file are all found, and named with their line.

use expect_test::expect;

use super::fails;

#[test]
fn every_mistake_is_listed() {
    fails(
        "[flush]\nevnts = 1\ninterval = 30\n[flsh]\nx = 1\n[limits]\ndepth = 0\n[[aggregator]]\nname = 'a'\n[preset.p]\ntime = '/time'",
        expect![[r#"
            6 mistakes in the configuration:
              tally.toml:5: flush.evnts: unknown key; did you mean flush.events?
              tally.toml:6: flush.interval: found the number 30; write a time with a unit, e.g. "30s"
              tally.toml:7: flsh: unknown section; did you mean [flush]?
              tally.toml:10: limits.depth: 0 is not between 1 and 128
              tally.toml:11: aggregator[0].plugin: missing; write the plugin's file name without .wasm
              tally.toml:14: preset.p.time: unknown key; known here are type, type_path, timestamp, timestamp_format, event_id, rename, required
              warning: tally.toml:13: preset.p is not used; name it in unix.preset, tcp.preset, udp.preset or http.preset"#]],
    );
}

#[test]
fn unknown_keys_suggest_the_right_one() {
    fails(
        "[flush]\nevents = 1\ninterwal = '30s'",
        expect!["tally.toml:6: flush.interwal: unknown key; did you mean flush.interval?"],
    );
    fails(
        "[log]\nsegment_size = 1",
        expect!["tally.toml:5: log.segment_size: unknown key; did you mean log.segment_bytes?"],
    );
    fails(
        "[limits]\nzzz = 1",
        expect![
            "tally.toml:5: limits.zzz: unknown key; known here are limits.line_bytes, limits.depth, limits.connections, limits.producers, limits.rejected_bytes, limits.dead_letters, limits.batch_rows, limits.body_bytes, limits.header_timeout, limits.idle_timeout, limits.event_id_bytes"
        ],
    );
    fails("[limits]\n  Depth = 1", expect!["tally.toml:5: limits.Depth: unknown key; did you mean limits.depth?"]);
    fails("event = 1", expect!["tally.toml:4: event: unknown key"]);
    fails("[flush]\ndepth = 1", expect!["tally.toml:5: flush.depth: unknown key; did you mean limits.depth?"]);
    fails("[wal]\nx = 1", expect!["tally.toml:4: wal: unknown section"]);
    fails("[presets.x]", expect!["tally.toml:4: presets: unknown section; did you mean [preset]?"]);
    fails(
        "flush = 5",
        expect!["tally.toml:4: flush: found the number 5; write [flush] on a line of its own, and its keys below"],
    );
    fails(
        "tcp.listen.port = 5",
        expect![[r#"tally.toml:4: tcp.listen: found a section; write an address in quotes, e.g. "127.0.0.1:7070""#]],
    );
}

#[test]
fn wrong_kinds_say_what_to_write() {
    fails("flush.events = 'many'", expect![[r#"tally.toml:4: flush.events: "many" is no whole number"#]]);
    fails(
        "flush.events = '5'",
        expect![[r#"tally.toml:4: flush.events: "5" is text; write the number without quotes"#]],
    );
    fails("flush.events = -5", expect!["tally.toml:4: flush.events: -5 is not between 0 and 2^64"]);
    fails("flush.events = 1.5", expect!["tally.toml:4: flush.events: found the number 1.5; write a whole number"]);
    fails(
        "flush.interval = 30",
        expect![[r#"tally.toml:4: flush.interval: found the number 30; write a time with a unit, e.g. "30s""#]],
    );
    fails(
        "flush.interval = '30 parsecs'",
        expect![[
            r#"tally.toml:4: flush.interval: "30 parsecs" is no time; write a number with a unit (us, ms, s, m, h, d), e.g. "30s" or "1h30m""#
        ]],
    );
    fails(
        "queue.max_bytes = '64 mib'",
        expect![[
            r#"tally.toml:4: queue.max_bytes: "64 mib" is no size; write a number of bytes or one with a unit (kB, MB, GB, TB, KiB, MiB, GiB, TiB), e.g. "64MiB""#
        ]],
    );
    fails(
        "unix.mode = 660",
        expect![[
            r#"tally.toml:4: unix.mode: found the number 660; write permission bits in octal in quotes, e.g. "0660""#
        ]],
    );
    fails(
        "unix.mode = '0999'",
        expect![[r#"tally.toml:4: unix.mode: "0999" is no mode; write permission bits in octal, e.g. "0660""#]],
    );
    fails(
        "unix.allow_uids = 0",
        expect!["tally.toml:4: unix.allow_uids: found the number 0; write a list of numbers, e.g. [0, 1000]"],
    );
    fails(
        "unix.allow_gids = [0, 'root']",
        expect![[
            r#"tally.toml:4: unix.allow_gids: found the text "root" in the list; write a list of numbers, e.g. [0, 1000]"#
        ]],
    );
    fails(
        "http.hosts = 'a'",
        expect![[r#"tally.toml:4: http.hosts: found the text "a"; write a list, e.g. ["one", "two"]"#]],
    );
    fails(
        "tcp.listen = 'localhost'",
        expect![[
            r#"tally.toml:4: tcp.listen: "localhost" is no address; write an IP address and a port, e.g. 127.0.0.1:7070 or [::1]:7070"#
        ]],
    );
    fails(
        "tcp.listen = 7070",
        expect![[
            r#"tally.toml:4: tcp.listen: found the number 7070; write an address in quotes, e.g. "127.0.0.1:7070""#
        ]],
    );
    fails(
        "log.durability = 'fsink'",
        expect![[r#"tally.toml:4: log.durability: "fsink" is none of fsync, interval, os"#]],
    );
    fails(
        "log.durability = true",
        expect![[r#"tally.toml:4: log.durability: found true; write one of "fsync", "interval", "os""#]],
    );
    fails(
        "tcp.tls_cert = ''",
        expect![[r#"
        2 mistakes in the configuration:
          tcp.tls_cert: TLS takes both files; set tcp.tls_key too
          tally.toml:4: tcp.tls_cert: the path is empty"#]],
    );
    fails("logs.level = ''", expect!["tally.toml:4: logs.level: the value is empty; leave the key out instead"]);
}

#[test]
fn wrong_toml_is_placed() {
    fails("[flush\nevents = 1", expect!["tally.toml:4: unclosed table, expected `]`"]);
    fails(
        "[flush]\nevents = 1\nevents = 2\nx = ",
        expect![[r#"
            2 mistakes in the configuration:
              tally.toml:6: duplicate key
              tally.toml:7: string values must be quoted, expected literal string"#]],
    );
}

#[test]
fn values_out_of_bounds_say_the_bounds() {
    fails("limits.depth = 129", expect!["tally.toml:4: limits.depth: 129 is not between 1 and 128"]);
    fails("flush.events = 0", expect!["tally.toml:4: flush.events: 0 is too little; it must be at least 1"]);
    fails("flush.interval = '0s'", expect!["tally.toml:4: flush.interval: 0s is not between 1ms and 3650d"]);
    fails(
        "queue.max_bytes = '1MiB'\nlog.segment_bytes = '1MiB'",
        expect![[r#"
        2 mistakes in the configuration:
          tally.toml:4: queue.max_bytes: 1MiB is too little; with limits.line_bytes = 1MiB it must be at least 1280KiB
          tally.toml:5: log.segment_bytes: 1MiB is too little; with limits.line_bytes = 1MiB it must be at least 2560KiB"#]],
    );
    fails(
        "limits.line_bytes = '64MiB'",
        expect![[r#"
        2 mistakes in the configuration:
          log.segment_bytes: 64MiB is too little; with limits.line_bytes = 64MiB it must be at least 131584KiB
          queue.max_bytes: 32MiB is too little; with limits.line_bytes = 64MiB it must be at least 65792KiB"#]],
    );
    fails("log.segment_bytes = 10000001", expect!["tally.toml:4: log.segment_bytes: 10000001 is no multiple of 8"]);
}
