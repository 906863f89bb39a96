//! Defaults, file, environment, flags: who wins, and what is said of each.

use std::time::Duration;

use expect_test::{Expect, expect};

use super::super::Origin;
use super::{LEAST, Sources, flag, sources, variable};

/// The interval and number of events of a flush, their origins, and the warnings.
fn flush(file: &str, environment: &[(&str, &str)], flags: &[&str], expected: Expect) {
    let sources = Sources {
        environment: environment.iter().map(|(name, value)| variable(name, value)).collect(),
        flags: flags.iter().map(|value| flag("--flush-events", "flush.events", value)).collect(),
        ..sources()
    };
    let text = match sources.read(Some(&format!("{LEAST}{file}"))) {
        Ok(loaded) => {
            let row = |key| {
                format!(
                    "{key} = {} ({})\n",
                    loaded.config.settings.value(key).unwrap(),
                    loaded.config.settings.origin(key)
                )
            };
            let warnings: String = loaded.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            format!("{}{}{warnings}", row("flush.events"), row("flush.interval"))
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text.replace("/etc/tally/", ""));
}

#[test]
fn each_layer_wins_over_those_before() {
    let file = "[flush]\nevents = 2\ninterval = '2s'";
    flush(
        "",
        &[],
        &[],
        expect![[r#"
        flush.events = 1000000 (default)
        flush.interval = 30s (default)
    "#]],
    );
    flush(
        file,
        &[],
        &[],
        expect![[r#"
        flush.events = 2 (tally.toml:5)
        flush.interval = 2s (tally.toml:6)
    "#]],
    );
    flush(
        file,
        &[("TALLY_FLUSH_EVENTS", "3")],
        &[],
        expect![[r#"
        flush.events = 3 (TALLY_FLUSH_EVENTS)
        flush.interval = 2s (tally.toml:6)
    "#]],
    );
    flush(
        file,
        &[("TALLY_FLUSH_EVENTS", "3"), ("TALLY_FLUSH_INTERVAL", "3s")],
        &["4"],
        expect![[r#"
        flush.events = 4 (--flush-events)
        flush.interval = 3s (TALLY_FLUSH_INTERVAL)
    "#]],
    );
}

#[test]
fn aliases_set_the_same_keys_and_yield() {
    let file = "[flush]\nevents = 2\ninterval = '2s'";
    flush(
        file,
        &[("BATCH_SIZE", "100"), ("FLUSH_INTERVAL_SEC", "30")],
        &[],
        expect![[r#"
        flush.events = 100 (BATCH_SIZE)
        flush.interval = 30s (FLUSH_INTERVAL_SEC)
    "#]],
    );
    flush(
        file,
        &[("BATCH_SIZE", "100"), ("TALLY_FLUSH_EVENTS", "5")],
        &[],
        expect![[r#"
        flush.events = 5 (TALLY_FLUSH_EVENTS)
        flush.interval = 2s (tally.toml:6)
        warning: BATCH_SIZE is passed over: TALLY_FLUSH_EVENTS sets flush.events too, and wins
    "#]],
    );
    flush(
        "",
        &[("FLUSH_INTERVAL_SEC", "1.5"), ("BATCH_SIZE", "many")],
        &[],
        expect![[r#"
        2 mistakes in the configuration:
          BATCH_SIZE: "many" is no whole number
          FLUSH_INTERVAL_SEC: "1.5" is no whole number"#]],
    );
    flush(
        "",
        &[("FLUSH_INTERVAL_SEC", "0"), ("BATCH_SIZE", "")],
        &[],
        expect!["FLUSH_INTERVAL_SEC: 0s is not between 1ms and 3650d"],
    );
}

#[test]
fn a_variable_that_is_no_setting_is_named_with_the_nearest() {
    flush(
        "",
        &[("TALLY_FLUSH_EVNTS", "5"), ("TALLY_LOG_LEVEL", "debug"), ("TALLY_UNIX", "s")],
        &[],
        expect![[r#"
            flush.events = 1000000 (default)
            flush.interval = 30s (default)
            warning: TALLY_FLUSH_EVNTS is set, but no such setting exists; did you mean TALLY_FLUSH_EVENTS?
            warning: TALLY_LOG_LEVEL is set, but no such setting exists; did you mean TALLY_LOGS_LEVEL?
            warning: TALLY_UNIX is set, but no such setting exists; did you mean TALLY_UNIX_PATH?
        "#]],
    );
    // Other programs' variables, and those of the command line.
    flush(
        "",
        &[("TALLY_CONFIG", "x"), ("TALLY_BIN", "x"), ("TALLYHO", "x"), ("FLUSH", "x")],
        &[],
        expect![[r#"
        flush.events = 1000000 (default)
        flush.interval = 30s (default)
    "#]],
    );
}

#[test]
fn mistakes_name_the_variable_or_flag() {
    flush(
        "[flush]\nevnts = 1\ninterval = 3",
        &[("TALLY_FLUSH_EVENTS", "abc"), ("TALLY_FLUSH_EVNTS", "1")],
        &["0"],
        expect![[r#"
            4 mistakes in the configuration:
              tally.toml:5: flush.evnts: unknown key; did you mean flush.events?
              tally.toml:6: flush.interval: found the number 3; write a time with a unit, e.g. "30s"
              TALLY_FLUSH_EVENTS: "abc" is no whole number
              --flush-events: 0 is too little; it must be at least 1
              warning: TALLY_FLUSH_EVNTS is set, but no such setting exists; did you mean TALLY_FLUSH_EVENTS?"#]],
    );
}

#[test]
fn any_key_can_be_set_by_a_flag() {
    let set = |key: &str, value: &str| {
        let flags = vec![flag(&format!("--set {key}"), key, value)];
        Sources { flags, ..sources() }.read(Some(LEAST)).map(|loaded| loaded.config).map_err(|error| error.to_string())
    };
    let config = set("limits.idle_timeout", "2m").unwrap();
    assert_eq!(config.limits.idle_timeout, Duration::from_secs(120));
    assert_eq!(config.settings.origin("limits.idle_timeout"), Origin::Flag("--set limits.idle_timeout".into()));
    assert_eq!(set("http.hosts", "a, b").unwrap().settings.value("http.hosts").unwrap().to_string(), "a,b");
    expect!["--set idle_timeout: unknown key; did you mean limits.idle_timeout?"]
        .assert_eq(&set("idle_timeout", "2m").unwrap_err());
}

#[test]
fn paths_in_the_file_are_relative_to_it_and_others_are_not() {
    let sources = Sources { environment: vec![variable("TALLY_DATA_DIR", "here")], ..sources() };
    let config = sources.read(Some("data_dir = 'x'\nplugins_dir = 'plugins'\nunix.path = 't.sock'")).unwrap().config;
    assert_eq!(config.data_dir.to_str(), Some("here"));
    assert_eq!(config.plugins_dir.to_str(), Some("/etc/tally/plugins"));
    assert_eq!(config.unix.unwrap().path.to_str(), Some("/etc/tally/t.sock"));
    assert_eq!(config.query.socket.to_str(), Some("/etc/tally/t.sock.query"));
    assert_eq!(config.admin.socket.to_str(), Some("/etc/tally/t.sock.admin"));
}

#[test]
fn what_has_no_default_must_be_given() {
    expect![[r#"
        3 mistakes in the configuration:
          no source of events: give --unix PATH, or unix.path, tcp.listen, udp.listen or http.listen in the configuration file
          data_dir: missing; give --data-dir DIR, TALLY_DATA_DIR, or data_dir in the configuration file
          plugins_dir: missing; give --plugins-dir DIR, TALLY_PLUGINS_DIR, or plugins_dir in the configuration file"#]].assert_eq(&Sources::default().load().unwrap_err().to_string());
    let error = Sources { file: Some("/none/tally.toml".into()), ..Sources::default() }.load().unwrap_err();
    expect!["cannot read the configuration /none/tally.toml (check the path given with --config)"]
        .assert_eq(&error.to_string());
}
