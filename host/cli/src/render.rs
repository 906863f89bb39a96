//! JSON answers for people: values as two columns, arrays of objects as tables. Knows no answer in particular, so a new
//! key in one of them shows up by itself.

use std::io::IsTerminal;

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// Longest text of a cell, in characters; the rest is cut off with an ellipsis.
const MAX_CELL: usize = 200;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For programs: the daemon's answer as it is, on one line.
    Json,
    /// For people.
    Table,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// Letters only.
    #[cfg(test)]
    pub const PLAIN: Paint = Paint(false);

    /// Colours where stdout is a terminal that has them and NO_COLOR (<https://no-color.org>) is not set.
    pub fn stdout() -> Paint {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint(std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb)
    }

    /// A heading.
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    /// What needs attention.
    pub fn alarm(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// What matters less.
    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        match self.0 {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_string(),
        }
    }
}

/// An answer in the form asked for, with a newline at the end.
pub fn answer(value: &Value, output: Output, paint: Paint) -> String {
    match output {
        Output::Json => format!("{value}\n"),
        Output::Table => readable(value, paint),
    }
}

/// An aggregator's answer for people: what it covers, its summary, then its tables and how many rows were left out.
pub fn report(answer: &Value, paint: Paint) -> String {
    let mut text = coverage(answer, paint);
    if answer["summary"].is_object() {
        text += &format!("\n{}", readable(&answer["summary"], paint));
    }
    for (name, rows) in answer["tables"].as_object().into_iter().flatten() {
        let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
        text += &format!("\n{}\n{}", paint.bold(name), table(rows, None, paint));
        text += &more(&answer["rows_left_out"][name]);
    }
    text
}

/// One table of an aggregator for people.
pub fn report_table(answer: &Value, paint: Paint) -> String {
    let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let columns = answer["columns"].as_array().into_iter().flatten();
    let columns: Vec<&str> = columns.filter_map(|column| column["name"].as_str()).collect();
    format!("{}\n{}{}", coverage(answer, paint), table(rows, Some(&columns), paint), more(&answer["rows_left_out"]))
}

/// One value for people and for shells: as it is, and nothing else.
pub fn value(answer: &Value) -> String {
    match &answer["value"] {
        Value::Null => "\n".to_string(),
        Value::String(text) => format!("{text}\n"),
        value => format!("{value}\n"),
    }
}

fn coverage(answer: &Value, paint: Paint) -> String {
    let age = answer["age_seconds"].as_f64().filter(|age| *age > 0.0);
    let age = age.map(|age| format!(", {age:.1} s old")).unwrap_or_default();
    let incomplete = match answer["complete"] == false {
        true => paint.alarm(", INCOMPLETE: part of the log was lost to it"),
        false => String::new(),
    };
    let covers =
        format!("as of sequence {}, watermark {}", cell(&answer["as_of_sequence"]), cell(&answer["watermark"]));
    format!("{}{incomplete}\n", paint.dim(&format!("{covers}{age}")))
}

fn more(rows: &Value) -> String {
    match rows.as_u64() {
        None | Some(0) => String::new(),
        Some(more) => format!("{more} more rows; see them with --rows and --skip\n"),
    }
}

/// Scalars first, as two columns, then every array of objects as a table under its name.
fn readable(value: &Value, paint: Paint) -> String {
    let mut found = Found::default();
    found.collect("", value);
    let mut text = String::new();
    if !found.scalars.is_empty() {
        text += &pairs(&found.scalars, paint);
    }
    for (name, rows) in &found.tables {
        if !text.is_empty() {
            text.push('\n');
        }
        if !name.is_empty() {
            text += &format!("{}\n", paint.bold(name));
        }
        text += &table(rows, None, paint);
    }
    text
}

/// What there is in a value, in its order.
#[derive(Default)]
struct Found {
    scalars: Vec<(String, String)>,
    tables: Vec<(String, Vec<Value>)>,
}

impl Found {
    /// Flattens nested objects into dotted names. Objects of one kind under names of their own are a table.
    fn collect(&mut self, name: &str, value: &Value) {
        match value {
            Value::Object(map) if !name.is_empty() && are_alike(map) => {
                self.tables.push((name.to_string(), side_by_side(map)));
            }
            Value::Object(map) => {
                for (key, value) in map {
                    let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                    self.collect(&name, value);
                }
            }
            Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
                self.tables.push((name.to_string(), rows.clone()));
            }
            value => self.scalars.push((name.to_string(), cell(value))),
        }
    }
}

/// Objects with the same keys and no tables in them.
fn are_alike(map: &Map<String, Value>) -> bool {
    let mut inner = map.values().map(Value::as_object);
    let Some(Some(first)) = inner.next() else { return false };
    let flat = |object: &Map<String, Value>| {
        !object.values().any(|value| value.as_array().is_some_and(|a| a.iter().any(Value::is_object)))
    };
    flat(first) && inner.all(|other| other.is_some_and(|other| flat(other) && other.keys().eq(first.keys())))
}

/// A column for each object, a row for each of their keys; what is nested in them gets dotted names.
fn side_by_side(map: &Map<String, Value>) -> Vec<Value> {
    let columns: Vec<(&String, Map<String, Value>)> = map
        .iter()
        .map(|(name, value)| {
            let mut column = Map::new();
            flatten("", value, &mut column);
            (name, column)
        })
        .collect();
    let mut keys: Vec<&String> = Vec::new();
    for key in columns.iter().flat_map(|(_, column)| column.keys()) {
        if let Err(place) = keys.binary_search(&key) {
            keys.insert(place, key);
        }
    }
    let row = |key: &String| {
        let cells =
            columns.iter().map(|(name, column)| ((*name).clone(), column.get(key).cloned().unwrap_or_default()));
        Value::Object(std::iter::once((String::new(), Value::from(key.as_str()))).chain(cells).collect())
    };
    keys.into_iter().map(row).collect()
}

fn flatten(name: &str, value: &Value, row: &mut Map<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, row);
            }
        }
        value => {
            row.insert(name.to_string(), value.clone());
        }
    }
}

fn pairs(scalars: &[(String, String)], paint: Paint) -> String {
    let width = scalars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| match width {
        0 => format!("{value}\n"),
        _ => format!("{}  {value}", paint.dim(&format!("{name:width$}"))).trim_end().to_string() + "\n",
    };
    scalars.iter().map(line).collect()
}

/// Rows under a header; `wanted` are the columns in their order, otherwise every key is one.
pub fn table(rows: &[Value], wanted: Option<&[&str]>, paint: Paint) -> String {
    if rows.is_empty() {
        return "(no rows)\n".to_string();
    }
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let columns = wanted.map_or_else(|| columns(&rows), <[&str]>::to_vec);
    let mut table = Table::new();
    let header = columns.iter().map(|column| match paint.0 {
        true => Cell::new(column).add_attribute(Attribute::Bold),
        false => Cell::new(column),
    });
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    if paint.0 {
        table.enforce_styling();
    }
    for row in &rows {
        table.add_row(columns.iter().map(|column| painted(row.get(*column), column, paint)));
    }
    for (index, name) in columns.iter().enumerate() {
        let numbers = rows.iter().all(|row| row.get(*name).is_none_or(|value| value.is_number() || value.is_null()));
        if let Some(column) = table.column_mut(index).filter(|_| numbers) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.trim_fmt() + "\n"
}

/// A cell; states that need somebody's attention are red.
fn painted(value: Option<&Value>, column: &str, paint: Paint) -> Cell {
    let text = value.map(cell).unwrap_or_default();
    let alarming = match column {
        "state" => matches!(text.as_str(), "failed" | "quarantined"),
        "quarantined" => !matches!(text.as_str(), "-" | ""),
        "complete" => text == "false",
        _ => false,
    };
    match paint.0 && alarming {
        true => Cell::new(text).fg(Color::Red),
        false => Cell::new(text),
    }
}

/// `name`, then the other columns of text, then the rest: what names the row comes first.
fn columns<'r>(rows: &[&'r Map<String, Value>]) -> Vec<&'r str> {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let is_text = |name: &str| rows.iter().any(|row| row.get(name).is_some_and(Value::is_string));
    columns.sort_by_key(|name| (!matches!(*name, "" | "name"), !is_text(name)));
    columns
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if is_digest(text) => text[..12].to_string(),
        Value::String(text) => printable(text),
        Value::Null => "-".to_string(),
        Value::Array(items) if items.is_empty() => "-".to_string(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Nothing that moves a cursor, and not too long.
fn printable(text: &str) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = characters.by_ref().take(MAX_CELL).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// A digest in hex; its beginning tells it apart well enough for people.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_report_reads_like_a_page() {
        let value = json!({
            "as_of_sequence": 12, "watermark": "2026-01-27T10:00:00Z", "age_seconds": 0.0, "complete": true,
            "summary": {"total_visitors": 160, "hot_post": "post_123"},
            "tables": {
                "posts": [{"plays": 3, "post_id": "123", "share": 0.5}, {"plays": 14, "post_id": "4", "extra": "a\nb"}],
                "none": [],
            },
            "rows_left_out": {"posts": 7},
        });
        expect![[r#"
            as of sequence 12, watermark 2026-01-27T10:00:00Z

            hot_post        post_123
            total_visitors  160

            none
            (no rows)

            posts
            post_id  extra  plays  share
            123                 3    0.5
            4        a b       14
            7 more rows; see them with --rows and --skip
        "#]]
        .assert_eq(&report(&value, Paint::PLAIN));
        expect![[r#"
            as of sequence 0, watermark -, 61.2 s old, INCOMPLETE: part of the log was lost to it
        "#]]
        .assert_eq(&report(
            &json!({"as_of_sequence": 0, "watermark": null, "age_seconds": 61.25, "complete": false}),
            Paint::PLAIN,
        ));
    }

    #[test]
    fn any_answer_is_values_and_tables() {
        let value = json!({
            "sequence": 9, "queue": {"bytes": 0, "chunks": []}, "reason": null,
            "plugins": [{"name": "a", "digest": "0123456789abcdef".repeat(4)}],
        });
        expect![[r#"
            queue.bytes   0
            queue.chunks  -
            reason        -
            sequence      9

            plugins
            name  digest
            a     0123456789ab
        "#]]
        .assert_eq(&answer(&value, Output::Table, Paint::PLAIN));
    }

    #[test]
    fn a_bare_list_is_a_table_without_a_name() {
        expect![[r#"
             name
             a
        "#]]
        .assert_eq(&answer(&json!([{"name": "a"}]), Output::Table, Paint::PLAIN));
        expect![[r#"
            a, b
        "#]]
        .assert_eq(&answer(&json!(["a", "b"]), Output::Table, Paint::PLAIN));
    }

    #[test]
    fn objects_of_one_kind_stand_side_by_side() {
        let value = json!({"sequence": 1, "aggregators": {
            "b": {"lag": 0, "ledger": {"applied": 1, "refused": {"r": 2}}}, "a": {"lag": 10, "ledger": {"applied": 2}}},
            "totals": {"a": {"n": 1}, "b": {"m": 2}}});
        expect![[r#"
            sequence    1
            totals.a.n  1
            totals.b.m  2

            aggregators
                               a  b
            lag               10  0
            ledger.applied     2  1
            ledger.refused.r   -  2
        "#]]
        .assert_eq(&answer(&value, Output::Table, Paint::PLAIN));
    }

    #[test]
    fn one_table_has_its_columns_in_the_report_s_order() {
        let value = json!({
            "as_of_sequence": 12, "watermark": null, "complete": true, "rows_left_out": 7,
            "columns": [{"name": "post_id"}, {"name": "plays"}, {"name": "actions"}],
            "rows": [{"actions": 1, "plays": 3, "post_id": "1"}],
        });
        expect![[r#"
            as of sequence 12, watermark -

            post_id  plays  actions
            1            3        1
            7 more rows; see them with --rows and --skip
        "#]]
        .assert_eq(&report_table(&value, Paint::PLAIN));
        assert_eq!(super::value(&json!({"value": "post_1"})), "post_1\n");
        assert_eq!(super::value(&json!({"value": 1.5})), "1.5\n");
    }

    #[test]
    fn colours_mark_headings_and_what_needs_attention() {
        let value = json!({"plugins": [{"name": "a", "state": "failed"}]});
        let text = answer(&value, Output::Table, Paint(true));
        expect![[r#"
            ESC[1mpluginsESC[0m
            ESC[1mname ESC[0mESC[1m state  ESC[0m
            a    ESC[38;5;9m failed ESC[39m
        "#]]
        .assert_eq(&text.replace('\x1b', "ESC"));
    }

    #[test]
    fn a_long_text_is_cut() {
        assert_eq!(cell(&json!("é".repeat(MAX_CELL + 1))), "é".repeat(MAX_CELL) + "…");
    }

    #[test]
    fn json_is_one_line() {
        expect![[r#"
            {"a":[1,2]}
        "#]]
        .assert_eq(&answer(&json!({"a": [1, 2]}), Output::Json, Paint::PLAIN));
    }
}
