//! Between the contract's generated types and the project's own. Rows going in are only borrowed; what comes out of a
//! guest is moved, and checked by whoever asked for it.

use crate::bindings::tally::aggregator::{columns, types};
use tally_event::columns::{Column, ColumnRef, Rows, Text, Values, ValuesRef};
use tally_event::schema::{EventType, Field, Kind, Manifest, Ordering};
use tally_event::table::{NamedColumn, Question, Role, Table};

/// The columns of `rows`, borrowed.
pub(crate) fn column_params<'a>(rows: &'a Rows<'_>) -> Vec<columns::ColumnParam<'a>> {
    rows.columns.iter().map(column_param).collect()
}

/// The batch for `apply`.
pub(crate) fn batch<'a>(rows: &'a Rows<'_>, columns: &'a [columns::ColumnParam<'a>]) -> types::Batch<'a> {
    types::Batch {
        first_sequence: rows.first_sequence,
        sequence_offsets: &rows.sequence_offsets,
        times: &rows.times,
        event_types: &rows.event_types,
        columns,
    }
}

fn column_param<'a>(column: &'a ColumnRef<'_>) -> columns::ColumnParam<'a> {
    use columns::ValuesParam;
    let values = match &column.values {
        ValuesRef::Text { codes, ends, bytes, hashes } => {
            ValuesParam::Text(columns::TextParam { codes, ends, bytes, hashes })
        }
        ValuesRef::Integers(values) => ValuesParam::Integers(values),
        ValuesRef::Floats(values) => ValuesParam::Floats(values),
        ValuesRef::Booleans(values) => ValuesParam::Booleans(values),
    };
    columns::ColumnParam { values, present: &column.present }
}

/// A question, borrowed. The two slices hold what the contract's type can only point to.
pub(crate) fn question<'a>(
    question: &Question,
    tables: &'a [&'a str],
    parameters: &'a [(&'a str, &'a str)],
) -> types::Question<'a> {
    types::Question {
        tables,
        parameters,
        as_of: question.as_of,
        skip_rows: question.skip_rows,
        row_limit: question.row_limit,
    }
}

/// A manifest as the guest gave it, unchecked.
pub(crate) fn manifest(manifest: types::Manifest) -> Manifest {
    let field = |field: types::Field| Field { path: field.path, kind: kind(field.kind) };
    let event_type = |event_type: types::EventType| EventType {
        name: event_type.name,
        required: event_type.required,
        optional: event_type.optional,
    };
    Manifest {
        fields: manifest.fields.into_iter().map(field).collect(),
        event_types: manifest.event_types.into_iter().map(event_type).collect(),
        ordering: match manifest.ordering {
            types::Ordering::Commutative => Ordering::Commutative,
            types::Ordering::LogOrder => Ordering::LogOrder,
        },
        state_version: manifest.state_version,
        loads: manifest.loads,
        refusals: manifest.refusals,
    }
}

/// A table as the guest gave it, unchecked.
pub(crate) fn table(table: types::Table) -> Table {
    Table {
        name: table.name,
        columns: table.columns.into_iter().map(named_column).collect(),
        rows_left_out: table.rows_left_out,
    }
}

fn named_column(named: types::NamedColumn) -> NamedColumn {
    NamedColumn {
        name: named.name,
        kind: kind(named.kind),
        role: match named.role {
            types::Role::Key => Role::Key,
            types::Role::Counter => Role::Counter,
            types::Role::Gauge => Role::Gauge,
        },
        column: column(named.column),
    }
}

fn column(column: columns::ColumnResult) -> Column {
    use columns::ValuesResult;
    let values = match column.values {
        ValuesResult::Text(text) => {
            Values::Text(Text { codes: text.codes, ends: text.ends, bytes: text.bytes, hashes: text.hashes })
        }
        ValuesResult::Integers(values) => Values::Integers(values),
        ValuesResult::Floats(values) => Values::Floats(values),
        ValuesResult::Booleans(values) => Values::Booleans(values),
    };
    Column { values, present: column.present }
}

fn kind(kind: types::Kind) -> Kind {
    match kind {
        types::Kind::Text => Kind::Text,
        types::Kind::Integer => Kind::Integer,
        types::Kind::Decimal(scale) => Kind::Decimal(scale),
        types::Kind::Float => Kind::Float,
        types::Kind::Boolean => Kind::Boolean,
        types::Kind::Timestamp => Kind::Timestamp,
        types::Kind::Json => Kind::Json,
    }
}
