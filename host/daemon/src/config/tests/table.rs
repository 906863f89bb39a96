//! The key table and the configuration agree.

use std::collections::BTreeSet;

use expect_test::expect;

use super::super::keys::{ALIASES, Default};
use super::super::{KEYS, Key, Kind, limit_keys};
use super::{Sources, sources, variable};

/// Everything is open and on, so that every key counts.
const EVERYTHING: &str = "
    data_dir = 'data'
    plugins_dir = 'plugins'
    unix.path = 't.sock'
    tcp = { listen = '127.0.0.1:1', tls_cert = 'a', tls_key = 'b' }
    udp.listen = '127.0.0.1:2'
    http = { listen = '127.0.0.1:3', tls_cert = 'a', tls_key = 'b' }
    query = { listen = '127.0.0.1:4', tls_cert = 'a', tls_key = 'b' }
    log.durability = 'interval'
";

/// A value that is neither the default nor that of [`EVERYTHING`].
fn another(key: &Key) -> String {
    match key.kind {
        Kind::Path => "another".into(),
        Kind::Address => "127.0.0.1:9".into(),
        Kind::Word if key.name.ends_with(".preset") => "segment".into(),
        Kind::Word => "debug".into(),
        Kind::OneOf(words) => (*words.last().expect("a word")).into(),
        Kind::Mode => "0600".into(),
        Kind::Words => "one,two".into(),
        Kind::Ids => "0,1000".into(),
        // Within the bounds, and enough for a line.
        Kind::Count { min, .. } => (min + 77).to_string(),
        Kind::Size { min, .. } => ((min + (9 << 20)) & !7).to_string(),
        Kind::Time { min, .. } => format!("{}ms", min.as_millis() + 7),
    }
}

fn with(variables: Vec<(String, String)>) -> super::Config {
    let sources = Sources { environment: variables, ..sources() };
    sources.read(Some(EVERYTHING)).unwrap_or_else(|error| panic!("{error}")).config
}

#[test]
fn every_key_changes_the_configuration() {
    let before = with(Vec::new());
    for key in KEYS {
        let mut after = with(vec![variable(&key.variable(), &another(key))]);
        assert_ne!(after.settings, before.settings, "{}", key.name);
        after.settings = before.settings.clone();
        assert_ne!(after, before, "{} = {} changes nothing", key.name, another(key));
    }
}

#[test]
fn names_are_unique_and_sections_stand_together() {
    let names: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    let variables: BTreeSet<String> = KEYS.iter().map(Key::variable).collect();
    assert_eq!(variables.len(), KEYS.len(), "two keys with the same variable");
    let mut sections: Vec<&str> = KEYS.iter().map(Key::section).collect();
    sections.dedup();
    assert_eq!(sections.iter().collect::<BTreeSet<_>>().len(), sections.len(), "{sections:?}");
    for alias in ALIASES {
        assert!(names.contains(alias.key));
    }
}

#[test]
fn helps_are_sentences_and_defaults_are_within_bounds() {
    for key in KEYS {
        assert!(!key.help.is_empty() && !key.help.ends_with('.'), "{}", key.name);
        if let Default::Text(text) = key.default {
            assert_eq!(key.kind.read_text(text).map(|value| value.to_string()).as_deref(), Ok(text), "{}", key.name);
        }
        assert!(!key.secret || matches!(key.kind, Kind::Path), "{}: a secret stands in a file", key.name);
    }
}

#[test]
fn limits_and_what_a_reload_applies() {
    expect![[r#"
        query.max_rows
        queue.max_bytes
        log.tail_bytes
        dedupe.window
        dedupe.ids
        analytics.table_rows
        limits.line_bytes
        limits.depth
        limits.connections
        limits.producers
        limits.rejected_bytes
        limits.dead_letters
        limits.batch_rows
        limits.body_bytes
        limits.header_timeout
        limits.idle_timeout
        limits.event_id_bytes
        plugin.memory
        plugin.backstop
        plugin.fuel_base
        plugin.fuel_per_row
        plugin.strikes
    "#]]
    .assert_eq(&limit_keys().map(|key| format!("{}\n", key.name)).collect::<String>());
    let live = KEYS.iter().filter(|key| key.reloadable);
    expect![[r#"
        query.max_staleness
        query.max_rows
        flush.events
        flush.interval
        limits.line_bytes
        limits.depth
        limits.connections
        limits.producers
        limits.rejected_bytes
        limits.dead_letters
        limits.batch_rows
        limits.body_bytes
        limits.header_timeout
        limits.idle_timeout
        limits.event_id_bytes
        plugin.strikes
        logs.level
    "#]]
    .assert_eq(&live.map(|key| format!("{}\n", key.name)).collect::<String>());
}
