//! JSON answers for people: values as two columns, arrays of objects as tables. Knows no answer in particular, so a new
//! key in one of them shows up by itself.

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For programs: the daemon's answer as it is, on one line.
    Json,
    /// For people.
    Table,
}

/// An answer in the form asked for, with a newline at the end.
pub fn answer(value: &Value, output: Output) -> String {
    match output {
        Output::Json => format!("{value}\n"),
        Output::Table => readable(value),
    }
}

/// An aggregator's answer for people: what it covers, its summary, then its tables and how many rows were left out.
pub fn report(answer: &Value) -> String {
    let incomplete = if answer["incomplete"] == true { ", INCOMPLETE: part of the log was lost to it" } else { "" };
    let mut text = format!(
        "as of sequence {}, watermark {}{incomplete}\n",
        cell(&answer["as_of_sequence"]),
        cell(&answer["watermark"])
    );
    if answer["summary"].is_object() {
        text += &format!("\n{}", readable(&answer["summary"]));
    }
    for (name, rows) in answer["tables"].as_object().into_iter().flatten() {
        text += &format!("\n{name}\n{}", table(rows.as_array().map_or(&[], Vec::as_slice)));
        match answer["rows_left_out"][name].as_u64() {
            None | Some(0) => {}
            Some(more) => text += &format!("{more} more rows; see them with --rows and --skip\n"),
        }
    }
    text
}

/// Scalars first, as two columns, then every array of objects as a table under its name.
fn readable(value: &Value) -> String {
    let mut scalars = Vec::new();
    let mut tables = Vec::new();
    collect("", value, &mut scalars, &mut tables);
    let mut text = String::new();
    if !scalars.is_empty() {
        text += &pairs(&scalars);
    }
    for (name, rows) in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        if !name.is_empty() {
            text += &format!("{name}\n");
        }
        text += &table(rows);
    }
    text
}

/// Flattens nested objects into dotted names.
fn collect<'v>(
    name: &str,
    value: &'v Value,
    scalars: &mut Vec<(String, String)>,
    tables: &mut Vec<(String, &'v [Value])>,
) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                collect(&name, value, scalars, tables);
            }
        }
        Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_object) => {
            tables.push((name.to_string(), rows));
        }
        value => scalars.push((name.to_string(), cell(value))),
    }
}

fn pairs(scalars: &[(String, String)]) -> String {
    let width = scalars.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(String, String)| match width {
        0 => format!("{value}\n"),
        _ => format!("{name:width$}  {value}").trim_end().to_string() + "\n",
    };
    scalars.iter().map(line).collect()
}

fn table(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "(no rows)\n".to_string();
    }
    let rows: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    let columns = columns(&rows);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(&columns);
    for row in &rows {
        table.add_row(columns.iter().map(|column| row.get(*column).map(cell).unwrap_or_default()));
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

/// `name`, then the other columns of text, then the rest: what names the row comes first.
fn columns<'r>(rows: &[&'r Map<String, Value>]) -> Vec<&'r str> {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().flat_map(|row| row.keys()) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    let is_text = |name: &str| rows.iter().any(|row| row.get(name).is_some_and(Value::is_string));
    columns.sort_by_key(|name| (*name != "name", !is_text(name)));
    columns
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) if is_digest(text) => text[..12].to_string(),
        Value::String(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        Value::Null => "-".to_string(),
        Value::Array(items) if items.is_empty() => "-".to_string(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
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
            "as_of_sequence": 12, "watermark": "2026-01-27T10:00:00Z", "incomplete": false,
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
        .assert_eq(&report(&value));
        expect![[r#"
            as of sequence 0, watermark -, INCOMPLETE: part of the log was lost to it
        "#]]
        .assert_eq(&report(&json!({"as_of_sequence": 0, "watermark": null, "incomplete": true})));
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
        .assert_eq(&answer(&value, Output::Table));
    }

    #[test]
    fn a_bare_list_is_a_table_without_a_name() {
        expect![[r#"
             name
             a
        "#]]
        .assert_eq(&answer(&json!([{"name": "a"}]), Output::Table));
        expect![[r#"
            a, b
        "#]]
        .assert_eq(&answer(&json!(["a", "b"]), Output::Table));
    }

    #[test]
    fn json_is_one_line() {
        expect![[r#"
            {"a":[1,2]}
        "#]]
        .assert_eq(&answer(&json!({"a": [1, 2]}), Output::Json));
    }
}
