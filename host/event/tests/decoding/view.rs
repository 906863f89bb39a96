//! What a subscriber gets, row by row, in a form that tests can compare and print.

use std::fmt::Write;
use tally_event::batch::Selected;
use tally_event::columns::{Rows, ValuesRef, entry};
use tally_event::schema::Manifest;

/// A value as a subscriber sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Absent,
    Text(String),
    Integer(i64),
    Float(u64),
    Boolean(bool),
}

/// A row as a subscriber sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub sequence: u64,
    pub time: i64,
    pub event_type: u32,
    pub cells: Vec<Cell>,
}

/// All of a subscriber's rows. Checks on the way that the columns keep their promises.
pub fn rows(rows: &Rows<'_>) -> Vec<Row> {
    assert_eq!(rows.sequence_offsets.len(), rows.len());
    assert_eq!(rows.event_types.len(), rows.len());
    for column in &rows.columns {
        assert_eq!(column.values.len(), rows.len());
        assert!(column.present.is_empty() || column.present.len() == rows.len());
        assert!(column.present.is_empty() || column.present.contains(&0), "empty where every row has a value");
        if let ValuesRef::Text { ends, bytes, hashes, .. } = &column.values {
            assert!(hashes.len() == ends.len());
            for (code, hash) in hashes.iter().enumerate() {
                let entry = entry(ends, bytes, code as u32).expect("an entry for each hash");
                assert_eq!(xxhash_rust::xxh3::xxh3_64(entry), *hash);
            }
        }
    }
    (0..rows.len()).map(|index| row(rows, index)).collect()
}

fn row(rows: &Rows<'_>, index: usize) -> Row {
    let cell = |column: &tally_event::columns::ColumnRef<'_>| {
        let present = column.is_present(index);
        match &column.values {
            ValuesRef::Text { codes, ends, bytes, .. } if present => {
                let text = entry(ends, bytes, codes[index]).expect("a code has an entry");
                Cell::Text(std::str::from_utf8(text).expect("text is UTF-8").into())
            }
            ValuesRef::Integers(values) if present => Cell::Integer(values[index]),
            ValuesRef::Floats(values) if present => Cell::Float(values[index].to_bits()),
            ValuesRef::Booleans(values) if present => Cell::Boolean(values[index] == 1),
            ValuesRef::Text { codes, .. } => absent(codes[index] == 0),
            ValuesRef::Integers(values) => absent(values[index] == 0),
            ValuesRef::Floats(values) => absent(values[index].to_bits() == 0),
            ValuesRef::Booleans(values) => absent(values[index] == 0),
        }
    };
    Row {
        sequence: rows.first_sequence + u64::from(rows.sequence_offsets[index]),
        time: rows.times[index],
        event_type: rows.event_types[index],
        cells: rows.columns.iter().map(cell).collect(),
    }
}

fn absent(placeholder: bool) -> Cell {
    assert!(placeholder, "the placeholder of absent values is zero");
    Cell::Absent
}

/// A subscriber's share as text.
pub fn render(selected: &Selected<'_>, manifest: &Manifest) -> String {
    let mut out = String::new();
    for row in rows(&selected.rows) {
        let name = &manifest.event_types[row.event_type as usize].name;
        let time = tally_event::time::format(row.time);
        write!(out, "{} {name} {time}", row.sequence).unwrap();
        for (field, cell) in manifest.fields.iter().zip(&row.cells) {
            match cell {
                Cell::Absent => write!(out, " {}=-", field.path),
                Cell::Text(text) => write!(out, " {}={text:?}", field.path),
                Cell::Integer(value) => write!(out, " {}={value}", field.path),
                Cell::Float(bits) => write!(out, " {}={:?}", field.path, f64::from_bits(*bits)),
                Cell::Boolean(value) => write!(out, " {}={value}", field.path),
            }
            .unwrap();
        }
        out.push('\n');
    }
    for refused in selected.refused {
        let sequence = selected.rows.first_sequence + u64::from(refused.sequence_offset);
        writeln!(out, "{sequence} refused {}", refused.reason.text(manifest)).unwrap();
    }
    if selected.not_subscribed > 0 {
        writeln!(out, "{} not subscribed", selected.not_subscribed).unwrap();
    }
    out
}
