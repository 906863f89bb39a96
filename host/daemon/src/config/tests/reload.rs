//! What a running daemon takes on, and what is shown.

use expect_test::expect;

use super::super::{Changes, Config};
use super::config;

fn told(changes: &Changes) -> String {
    let lines =
        |what: &str, list: &[super::super::Change]| list.iter().map(|c| format!("{what}: {c}\n")).collect::<String>();
    lines("live", &changes.live) + &lines("restart", &changes.restart)
}

#[test]
fn changes_are_sorted_by_what_they_take() {
    let old =
        config("flush.events = 5\n[[aggregator]]\nplugin = 'a'\n[[aggregator]]\nplugin = 'b'\n[preset.p]\n[preset.q]");
    let new = config(
        "unix.mode = '0600'\nflush.interval = '5s'\nlimits = { depth = 3 }\nlogs = { level = 'debug', format = 'json' }\n\
         query = { max_staleness = '0s', max_rows = 5 }\ntcp.listen = '127.0.0.1:1'\n\
         [[aggregator]]\nplugin = 'b'\nsettings = { x = 1 }\n[[aggregator]]\nplugin = 'c'\n[preset.p]\ntimestamp = '/t'\n[preset.r]",
    );
    expect![[r#"
        live: query.max_staleness 1s -> 0s
        live: query.max_rows 10000 -> 5
        live: flush.events 5 -> 1000000
        live: flush.interval 30s -> 5s
        live: limits.depth 64 -> 3
        live: logs.level info -> debug
        live: preset.p defined -> defined otherwise
        live: preset.q defined -> gone
        live: preset.r not there -> defined
        live: aggregator.a defined -> gone
        live: aggregator.b defined -> defined otherwise
        live: aggregator.c not there -> defined
        restart: unix.mode 0660 -> 0600
        restart: tcp.listen not open -> 127.0.0.1:1
        restart: logs.format text -> json
    "#]]
    .assert_eq(&told(&Config::changes(&old, &new)));
    assert!(Config::changes(&old, &old.clone()).is_empty());
}

#[test]
fn taking_on_leaves_what_needs_a_restart() {
    let mut running = config("unix.preset = 'm'\n[preset.m]");
    let was = running.preset("m").unwrap();
    let new = "unix.preset = 'm'\nunix.mode = '0600'\nflush.events = 7\nlimits.depth = 3\nquery.max_rows = 5\n[preset.a]\n[preset.m]\ntimestamp = '/t'";
    running.take_live(config(&format!("{new}\nevent_id = []")));
    assert_eq!((running.flush.events, running.limits.depth, running.query.max_rows), (7, 3, 5));
    assert_eq!(running.unix.as_ref().unwrap().mode, 0o660);
    assert_eq!(running.preset("m"), Some(was), "a preset keeps its index");
    assert_eq!(running.presets[was].timestamp_path, "/t");
    assert!(running.preset("a").unwrap() > was);
    // Said again at the next reload, since it still waits for the restart; nothing else is new.
    let again = running.take_live(config(&format!("{new}\nevent_id = []")));
    expect![[r#"
        restart: unix.mode 0660 -> 0600
    "#]]
    .assert_eq(&told(&again));
    // A preset that is gone stays for those who read by it.
    let gone = running.take_live(config("unix.mode = '0660'"));
    expect![[r#"
        live: query.max_rows 5 -> 10000
        live: flush.events 7 -> 1000000
        live: limits.depth 3 -> 64
        live: preset.a defined -> gone
        live: preset.m defined -> gone
        restart: unix.preset m -> default
    "#]]
    .assert_eq(&told(&gone));
    assert_eq!(running.preset("m"), Some(was));
    assert!(running.take_live(config("")).live.is_empty());
}

#[test]
fn a_longer_line_than_queue_and_segments_hold_needs_a_restart() {
    let mut running = config("");
    let changes = running
        .take_live(config("limits.line_bytes = '32MiB'\nlog.segment_bytes = '128MiB'\nqueue.max_bytes = '64MiB'"));
    expect![[r#"
        restart: queue.max_bytes 32MiB -> 64MiB
        restart: log.segment_bytes 64MiB -> 128MiB
        restart: limits.line_bytes 1MiB -> 32MiB
    "#]]
    .assert_eq(&told(&changes));
    assert_eq!(running.limits.line_bytes, 1 << 20);
    assert_eq!(running.take_live(config("limits.line_bytes = '2MiB'")).live.len(), 1);
    assert_eq!(running.limits.line_bytes, 2 << 20);
}

#[test]
fn what_is_shown_of_the_file() {
    let config = config(
        "http = { listen = '127.0.0.1:1', token_file = 'token', hosts = ['a', 'b'] }\nunix.preset = 'p'\n\
         [preset.p]\ntype = 'x'\nrename = { '/a' = '/b' }\n[[aggregator]]\nplugin = 'a'\nsettings = { x = 1 }",
    );
    let rows = config.sections().into_iter().flat_map(|section| section.rows);
    let shown: String = rows
        .filter(|row| row.origin != super::super::Origin::Default)
        .map(|row| format!("{} | {} | {} | {}\n", row.key, row.text, row.value, row.origin))
        .collect();
    expect![[r#"
        data_dir | /etc/tally/data | "/etc/tally/data" | /etc/tally/tally.toml:1
        plugins_dir | /etc/tally/plugins | "/etc/tally/plugins" | /etc/tally/tally.toml:2
        unix.path | /run/t.sock | "/run/t.sock" | /etc/tally/tally.toml:3
        unix.preset | p | "p" | /etc/tally/tally.toml:5
        http.listen | 127.0.0.1:1 | "127.0.0.1:1" | /etc/tally/tally.toml:4
        http.token_file | /etc/tally/token | "/etc/tally/token" | /etc/tally/tally.toml:4
        http.hosts | a,b | ["a","b"] | /etc/tally/tally.toml:4
        preset.p.type | x | "x" | /etc/tally/tally.toml:6
        preset.p.timestamp | /timestamp | "/timestamp" | /etc/tally/tally.toml:6
        preset.p.timestamp_format | rfc3339 | "rfc3339" | /etc/tally/tally.toml:6
        preset.p.event_id | /event_id | "/event_id" | /etc/tally/tally.toml:6
        preset.p.rename | /a = /b | "/a = /b" | /etc/tally/tally.toml:6
        aggregator.a.plugin | a | "a" | /etc/tally/tally.toml:9
        aggregator.a.settings | {"x":1} | "{\"x\":1}" | /etc/tally/tally.toml:9
        aggregator.a.shards | 1 | 1 | /etc/tally/tally.toml:9
        aggregator.a.start | now | "now" | /etc/tally/tally.toml:9
    "#]]
    .assert_eq(&shown);
}
