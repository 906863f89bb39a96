//! One table as CSV (RFC 4180): the columns' names, then the rows. What is absent is an empty field.

use serde_json::Value;
use tally_event::schema::Kind;
use tally_event::table::{NamedColumn, Table};

/// The table as CSV.
pub(crate) fn text(table: &Table) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(table.columns.iter().map(|column| column.name.as_str()))?;
    for row in 0..table.rows() {
        writer.write_record(table.columns.iter().map(|column| field(column, row)))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn field(column: &NamedColumn, row: usize) -> String {
    match column.json(row) {
        None => String::new(),
        Some(json) if column.kind == Kind::Json => json.to_string(),
        Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    }
}
