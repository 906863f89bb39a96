//! What plugins cost, as the daemon's list of them says it: left out of a short list, and a table of its own in a wide one.

use serde_json::{Map, Value, json};

use crate::render::{Paint, table};

/// Columns of the table, with what in the list they show and what that is multiplied by.
const COLUMNS: [(&str, &str, f64); 7] = [
    ("events", "/events", 1.0),
    ("ns/event", "/nanoseconds_per_event", 1.0),
    ("instructions/event", "/instructions_per_event", 1.0),
    ("budget %", "/budget_share", 100.0),
    ("memory KiB", "/memory_bytes", 1.0 / 1024.0),
    ("saved KiB", "/saved_bytes", 1.0 / 1024.0),
    ("questions", "/question/count", 1.0),
];

/// What is done now and then; its columns show how long it took on average.
const WORKS: [&str; 5] = ["cut", "commit", "merge", "report", "question"];

/// The list without what plugins cost.
pub fn left_out(mut list: Value) -> Value {
    for plugin in list.get_mut("plugins").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(plugin) = plugin.as_object_mut() {
            plugin.remove("cost");
        }
    }
    list
}

/// What each plugin costs, a row each.
pub fn costs(list: &Value, paint: Paint) -> String {
    let plugins = list["plugins"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Value> = plugins.iter().map(row).collect();
    let names: Vec<String> = WORKS.iter().map(|work| format!("{work} ms")).collect();
    let columns = COLUMNS.iter().map(|(name, ..)| *name).chain(names.iter().map(String::as_str));
    let columns: Vec<&str> = std::iter::once("name").chain(columns).collect();
    table(&rows, Some(&columns), paint)
}

fn row(plugin: &Value) -> Value {
    let cost = &plugin["cost"];
    let mut row = Map::from_iter([("name".to_string(), plugin["name"].clone())]);
    for (name, place, factor) in COLUMNS {
        let value = cost.pointer(place).and_then(Value::as_f64).map(|value| rounded(value * factor));
        row.insert(name.to_string(), json!(value));
    }
    for work in WORKS {
        let seconds = cost[work]["seconds"].as_f64().zip(cost[work]["count"].as_f64().filter(|count| *count > 0.0));
        row.insert(format!("{work} ms"), json!(seconds.map(|(seconds, count)| rounded(seconds / count * 1e3))));
    }
    row.into()
}

/// Three digits behind the point are all that they are good for, and none of a large number.
fn rounded(value: f64) -> Value {
    match value {
        value if value.fract() == 0.0 || value >= 100.0 => json!(value.round() as u64),
        value => json!((value * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn list() -> Value {
        let work = |count: u64| json!({"count": count, "seconds": 0.0123, "last_seconds": 0.001});
        json!({"plugins": [
            {"name": "video-actions", "state": "running", "cost": {
                "events": 1_234_567, "nanoseconds_per_event": 97.123_456, "instructions_per_event": 412.6,
                "budget_share": 0.000_312, "memory_bytes": 2_228_224, "saved_bytes": 512,
                "cut": work(10), "commit": work(10), "merge": work(10), "report": work(1), "question": work(0),
            }},
            {"name": "never-ran", "state": "failed", "cost": null},
        ]})
    }

    #[test]
    fn each_plugin_has_a_row() {
        expect![[r#"
            name            events  ns/event  instructions/event  budget %  memory KiB  saved KiB  questions  cut ms  commit ms  merge ms  report ms  question ms
            video-actions  1234567    97.123                 413     0.031        2176        0.5          0    1.23       1.23      1.23       12.3            -
            never-ran            -         -                   -         -           -          -          -       -          -         -          -            -
        "#]].assert_eq(&costs(&list(), Paint::PLAIN));
        assert_eq!(costs(&json!({}), Paint::PLAIN), "(no rows)\n");
    }

    #[test]
    fn a_short_list_says_nothing_of_it() {
        let short = json!({"plugins": [
            {"name": "video-actions", "state": "running"},
            {"name": "never-ran", "state": "failed"},
        ]});
        assert_eq!(left_out(list()), short);
        assert_eq!(left_out(json!({})), json!({}));
    }
}
