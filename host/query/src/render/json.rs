//! Reports, tables and single values as JSON.

use serde_json::{Map, Value, json};
use tally_event::table::Table;

use crate::Report;

/// What every answer about an aggregator says of itself.
fn begin(name: &str, report: &Report) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("aggregator".into(), name.into());
    answer.insert("as_of_sequence".into(), report.as_of_sequence.into());
    answer.insert("watermark".into(), report.watermark.clone().into());
    answer.insert("age_seconds".into(), report.age_seconds().into());
    answer.insert("complete".into(), report.complete.into());
    answer
}

/// Everything: the summary's columns, and the rows of the other tables by name.
pub(crate) fn report(name: &str, report: &Report) -> Value {
    let mut answer = begin(name, report);
    let (summary, rest) = match report.tables.split_first() {
        Some((summary, rest)) => (summary.summary_json(), rest),
        None => (Map::new(), &[][..]),
    };
    let rows: Map<_, _> = rest.iter().map(|table| (table.name.clone(), json!(table.to_json_rows()))).collect();
    let more = rest.iter().filter(|table| table.rows_left_out > 0);
    let more: Map<_, _> = more.map(|table| (table.name.clone(), table.rows_left_out.into())).collect();
    answer.insert("summary".into(), summary.into());
    answer.insert("tables".into(), rows.into());
    answer.insert("rows_left_out".into(), more.into());
    answer.into()
}

/// One table, with what its columns are.
pub(crate) fn table(name: &str, report: &Report, table: &Table, skipped: u64) -> Value {
    let mut answer = begin(name, report);
    let columns: Vec<Value> = table
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "kind": column.kind.to_string(), "role": column.role.as_str()}))
        .collect();
    answer.insert("table".into(), table.name.clone().into());
    answer.insert("columns".into(), columns.into());
    answer.insert("rows".into(), json!(table.to_json_rows()));
    answer.insert("skipped".into(), skipped.into());
    answer.insert("rows_left_out".into(), table.rows_left_out.into());
    answer.into()
}

/// The value of a column in the only row of a table; none when there is no such column.
pub(crate) fn value(name: &str, report: &Report, table: &Table, column: &str) -> Option<Value> {
    let found = table.columns.iter().find(|named| named.name == column)?;
    let mut answer = begin(name, report);
    answer.insert("table".into(), table.name.clone().into());
    answer.insert("column".into(), column.into());
    answer.insert("kind".into(), found.kind.to_string().into());
    answer.insert("value".into(), found.json(0).unwrap_or_default());
    Some(answer.into())
}
