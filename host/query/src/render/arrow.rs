//! One table as an Arrow IPC stream: one schema, one record batch.
//!
//! | Kind | Arrow type |
//! |---|---|
//! | text | Utf8 |
//! | integer | Int64 |
//! | decimal(S) | Decimal128(38, S) |
//! | float | Float64 |
//! | boolean | Boolean |
//! | timestamp | Timestamp(Microsecond, "UTC") |
//! | json | Utf8 with the extension type `arrow.json` |
//!
//! Every field is nullable, so that a table's schema does not depend on its rows. A column's role is in the field's
//! metadata, as `tally.role`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use tally_event::columns::{Column, Values};
use tally_event::schema::Kind;
use tally_event::table::{NamedColumn, Table};

/// Most digits of an Arrow decimal of 128 bits.
const PRECISION: u8 = 38;

/// The table as an Arrow IPC stream.
pub(crate) fn stream(table: &Table) -> Result<Vec<u8>, ArrowError> {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for column in &table.columns {
        let array = array(&column.column, column.kind)?;
        fields.push(field(column));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(table.rows()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

fn field(column: &NamedColumn) -> Field {
    let mut metadata = HashMap::from([("tally.role".to_owned(), column.role.as_str().to_owned())]);
    if column.kind == Kind::Json {
        metadata.insert("ARROW:extension:name".to_owned(), "arrow.json".to_owned());
        metadata.insert("ARROW:extension:metadata".to_owned(), String::new());
    }
    Field::new(&column.name, data_type(column.kind), true).with_metadata(metadata)
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text | Kind::Json => DataType::Utf8,
        Kind::Integer => DataType::Int64,
        Kind::Decimal(scale) => DataType::Decimal128(PRECISION, scale.cast_signed()),
        Kind::Float => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
        Kind::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// A checked column's values; what is absent, or does not fit, is null.
fn array(column: &Column, kind: Kind) -> Result<ArrayRef, ArrowError> {
    let present = |row: usize| column.is_present(row);
    Ok(match &column.values {
        Values::Text(text) => {
            let entry = |code: u32| std::str::from_utf8(text.entry(code)?).ok();
            let values = text.codes.iter().enumerate();
            Arc::new(StringArray::from_iter(values.map(|(row, &code)| entry(code).filter(|_| present(row)))))
        }
        Values::Integers(values) => {
            let values = values.iter().enumerate().map(|(row, &value)| present(row).then_some(value));
            match kind {
                Kind::Decimal(scale) => {
                    let wide = Decimal128Array::from_iter(values.map(|value| value.map(i128::from)));
                    Arc::new(wide.with_precision_and_scale(PRECISION, scale.cast_signed())?)
                }
                Kind::Timestamp => Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC")),
                _ => Arc::new(Int64Array::from_iter(values)),
            }
        }
        Values::Floats(values) => {
            let values = values.iter().enumerate();
            Arc::new(Float64Array::from_iter(values.map(|(row, &value)| present(row).then_some(value))))
        }
        Values::Booleans(values) => {
            let values = values.iter().enumerate();
            Arc::new(BooleanArray::from_iter(values.map(|(row, &value)| present(row).then_some(value != 0))))
        }
    })
}
