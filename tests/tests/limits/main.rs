//! Every limit of the configuration is gone past by a test: a named error, counted, neighbours unharmed. Where a limit
//! bounds the daemon's own work rather than its input, going past it loses nothing and can be seen.

mod bystander;
mod connections;
mod input;
mod memory;
mod plugins;
mod queue;

/// The tests by the limits that they go past: this is at once what runs and what is held against the configuration.
macro_rules! limits {
    ($($key:literal => $module:ident::$test:ident,)*) => {
        const TESTED: &[&str] = &[$($key),*];

        $(#[test]
        fn $test() {
            $module::$test();
        })*
    };
}

limits! {
    "query.max_rows" => memory::query_max_rows,
    "queue.max_bytes" => queue::queue_max_bytes,
    "log.tail_bytes" => memory::log_tail_bytes,
    "dedupe.window" => memory::dedupe_window,
    "dedupe.ids" => memory::dedupe_ids,
    "analytics.table_rows" => memory::analytics_table_rows,
    "limits.line_bytes" => input::line_bytes,
    "limits.depth" => input::depth,
    "limits.connections" => connections::connections,
    "limits.producers" => connections::producers,
    "limits.rejected_bytes" => input::rejected_bytes,
    "limits.dead_letters" => plugins::dead_letters,
    "limits.batch_rows" => plugins::batch_rows,
    "limits.body_bytes" => input::body_bytes,
    "limits.header_timeout" => connections::header_timeout,
    "limits.idle_timeout" => connections::idle_timeout,
    "limits.event_id_bytes" => input::event_id_bytes,
    "plugin.memory" => plugins::plugin_memory,
    "plugin.backstop" => plugins::plugin_backstop,
    "plugin.fuel_base" => plugins::plugin_fuel_base,
    "plugin.fuel_per_row" => plugins::plugin_fuel_per_row,
    "plugin.strikes" => plugins::plugin_strikes,
}

#[test]
fn every_limit_of_the_configuration_has_a_test() {
    let mut show = tally_tests::tally();
    show.args("config show --data-dir d --plugins-dir p --unix u --output json".split(' '));
    let shown: serde_json::Value = serde_json::from_str(&tally_tests::succeed(&mut show)).expect("JSON");
    let settings = shown["settings"].as_array().expect("settings");
    let limits: Vec<&str> =
        settings.iter().filter(|one| one["limit"] == true).map(|one| one["key"].as_str().expect("a key")).collect();
    assert!(!limits.is_empty());
    let untested: Vec<_> = limits.iter().filter(|key| !TESTED.contains(key)).collect();
    assert!(untested.is_empty(), "limits without a test that goes past them: {untested:?}");
    let gone: Vec<_> = TESTED.iter().filter(|key| !limits.contains(key)).collect();
    assert!(gone.is_empty(), "tested, but no limits: {gone:?}");
}
