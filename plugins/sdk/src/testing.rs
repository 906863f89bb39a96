//! Testing an aggregator natively: events come as JSON lines, no Wasm and no daemon are involved. The lines are read the
//! plain way, by serde_json; an event that lacks a required field, or is of another type, is left out as the host would.

use crate::aggregator::{Aggregator, Ordering};
use crate::guest::Configured;
use crate::question::Question;
use crate::wire::tally::aggregator::columns::{Column, Text, Values};
use crate::wire::tally::aggregator::types::{Batch, Field, Kind, Manifest, Table};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// An aggregator with its state.
pub struct Harness<A: Aggregator> {
    configured: Configured<A>,
    state: A,
    sequence: u64,
}

impl<A: Aggregator> Harness<A> {
    /// An empty state.
    ///
    /// # Panics
    /// When the settings are refused.
    pub fn new(settings: &str) -> Self {
        let configured = Configured::<A>::new(settings).unwrap_or_else(|error| panic!("{error}"));
        let state = configured.empty();
        Self { configured, state, sequence: 1 }
    }

    /// The state.
    pub fn state(&self) -> &A {
        &self.state
    }

    /// Applies the lines as one batch and gives the refused rows with their reasons.
    ///
    /// # Panics
    /// When a line is no JSON object.
    pub fn apply<L: AsRef<str>>(&mut self, lines: &[L]) -> Vec<(u32, String)> {
        let manifest = self.configured.manifest();
        let batch = batch(&manifest, lines, self.sequence);
        self.sequence += lines.len() as u64;
        let refused = self.configured.apply(&mut self.state, &batch);
        let reason = |index: u32| manifest.refusals[index as usize].clone();
        refused.into_iter().map(|refusal| (refusal.row, reason(refusal.reason))).collect()
    }

    /// Merges the state of `later` in.
    pub fn merge(&mut self, later: &Self) {
        self.configured.merge(&mut self.state, &later.state);
    }

    /// The saved state.
    pub fn save(&self) -> Vec<u8> {
        self.configured.save(&self.state)
    }

    /// The same aggregator with a saved state loaded; the error is what the host would show.
    pub fn load(&self, saved: &[u8], settings: &str) -> Result<Self, String> {
        let state = self.configured.load(&self.configured.state_version, saved)?;
        Ok(Self { state, ..Self::new(settings) })
    }

    fn report(&self, question: &Question) -> Vec<Table> {
        self.configured.report(&self.state, question).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A column of the summary, as text; `-` where it is absent.
    ///
    /// # Panics
    /// When there is no such column.
    pub fn summary(&self, column: &str) -> String {
        let summary = &self.report(&Question::default())[0];
        let named = summary.columns.iter().find(|named| named.name == column);
        cell(&named.unwrap_or_else(|| panic!("the summary has no column {column:?}")).column, 0)
    }

    /// The rows of a table as asked for, each a list of its cells as text; and how many were left out.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn table(&self, name: &str, skip_rows: u64, row_limit: u32) -> (Vec<Vec<String>>, u64) {
        let question = Question { tables: vec![name.to_owned()], skip_rows, row_limit, ..Question::default() };
        let tables = self.report(&question);
        let table = tables.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name:?}"));
        let rows = table.columns.first().map_or(0, |named| length(&named.column.values));
        let row = |row| table.columns.iter().map(|named| cell(&named.column, row)).collect();
        ((0..rows).map(row).collect(), table.rows_left_out)
    }
}

/// Checks the laws that the host's promises rest on, with `lines` split in every way in two and three.
///
/// # Panics
/// Naming the law and the split that break it.
pub fn check_laws<A: Aggregator>(settings: &str, lines: &[String]) {
    let apply = |parts: &[&[String]]| {
        let mut harness = Harness::<A>::new(settings);
        parts.iter().for_each(|part| drop(harness.apply(part)));
        harness
    };
    let whole = apply(&[lines]).save();
    assert_eq!(whole, apply(&[lines]).save(), "the same events twice give the same bytes");
    let loaded = apply(&[lines]).load(&whole, settings).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.save(), whole, "what is saved, loaded and saved again is the same");
    for split in 0..=lines.len() {
        let (first, last) = lines.split_at(split);
        assert_eq!(apply(&[first, last]).save(), whole, "batches split at {split} give the same state");
        let mut merged = apply(&[first]);
        merged.merge(&apply(&[last]));
        assert_eq!(merged.save(), whole, "states split at {split} merge to the whole (the empty one is the identity)");
        let saved = merged.load(&apply(&[last]).save(), settings).unwrap_or_else(|error| panic!("{error}"));
        let mut merged = apply(&[first]);
        merged.merge(&saved);
        assert_eq!(merged.save(), whole, "a loaded state merges like the one that was saved, split at {split}");
        if A::ORDERING == Ordering::Commutative {
            let mut merged = apply(&[last]);
            merged.merge(&apply(&[first]));
            assert_eq!(merged.save(), whole, "merging commutes, split at {split}");
        }
        let (middle, end) = last.split_at(last.len() / 2);
        let mut right = apply(&[middle]);
        right.merge(&apply(&[end]));
        let mut merged = apply(&[first]);
        merged.merge(&right);
        assert_eq!(merged.save(), whole, "merging is associative, split at {split} and {}", split + middle.len());
    }
}

fn batch<L: AsRef<str>>(manifest: &Manifest, lines: &[L], first_sequence: u64) -> Batch {
    let mut rows: Vec<(u32, u32, Value)> = Vec::new();
    for (offset, line) in lines.iter().enumerate() {
        let event: Value = serde_json::from_str(line.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", line.as_ref()));
        let named = |name: &str| manifest.event_types.iter().position(|t| t.name == name);
        let Some(index) = event["type"].as_str().and_then(named).or_else(|| named("*")) else { continue };
        let has = |field: &u32| !value(&event, &manifest.fields[*field as usize]).is_null();
        if manifest.event_types[index].required.iter().all(has) {
            rows.push((offset as u32, index as u32, event));
        }
    }
    let columns =
        manifest.fields.iter().map(|field| column(field, rows.iter().map(|row| value(&row.2, field)))).collect();
    Batch {
        first_sequence,
        sequence_offsets: rows.iter().map(|row| row.0).collect(),
        times: rows.iter().map(|_| 0).collect(),
        event_types: rows.iter().map(|row| row.1).collect(),
        columns,
    }
}

fn value(event: &Value, field: &Field) -> Value {
    event.pointer(&field.path).cloned().unwrap_or(Value::Null)
}

fn column(field: &Field, cells: impl Iterator<Item = Value>) -> Column {
    let cells: Vec<Value> = cells.collect();
    let mut present: Vec<u8> = cells.iter().map(|cell| u8::from(!cell.is_null())).collect();
    if !present.contains(&0) {
        present.clear();
    }
    let values = match field.kind {
        Kind::Text => Values::Text(text(cells.iter().map(|cell| cell.as_str().unwrap_or_default().to_owned()))),
        Kind::Json => Values::Text(text(cells.iter().map(Value::to_string))),
        Kind::Integer => Values::Integers(cells.iter().map(|cell| cell.as_i64().unwrap_or_default()).collect()),
        Kind::Decimal(scale) => Values::Integers(cells.iter().map(|cell| scaled(cell, scale)).collect()),
        Kind::Float => Values::Floats(cells.iter().map(|cell| cell.as_f64().unwrap_or_default()).collect()),
        Kind::Boolean => Values::Booleans(cells.iter().map(|c| u8::from(c.as_bool().unwrap_or_default())).collect()),
        // Whole seconds or microseconds are enough here: tests give times as integers of microseconds.
        Kind::Timestamp => Values::Integers(cells.iter().map(|cell| cell.as_i64().unwrap_or_default()).collect()),
    };
    Column { values, present }
}

/// A decimal by its digits.
fn scaled(cell: &Value, scale: u8) -> i64 {
    let digits = cell.to_string();
    let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
    let fraction = format!("{fraction:0<width$}", width = usize::from(scale));
    format!("{whole}{}", &fraction[..usize::from(scale)]).parse().unwrap_or_default()
}

fn text(cells: impl Iterator<Item = String>) -> Text {
    let mut text = Text { codes: Vec::new(), ends: Vec::new(), bytes: Vec::new(), hashes: Vec::new() };
    let mut known: Vec<String> = Vec::new();
    for cell in cells {
        let code = known.iter().position(|entry| *entry == cell).unwrap_or_else(|| {
            text.bytes.extend_from_slice(cell.as_bytes());
            text.ends.push(text.bytes.len() as u32);
            text.hashes.push(xxh3_64(cell.as_bytes()));
            known.push(cell);
            known.len() - 1
        });
        text.codes.push(code as u32);
    }
    text
}

fn length(values: &Values) -> usize {
    match values {
        Values::Text(text) => text.codes.len(),
        Values::Integers(values) => values.len(),
        Values::Floats(values) => values.len(),
        Values::Booleans(values) => values.len(),
    }
}

fn cell(column: &Column, row: usize) -> String {
    if column.present.get(row) == Some(&0) {
        return "-".to_owned();
    }
    match &column.values {
        Values::Text(text) => {
            let code = text.codes[row] as usize;
            let start = if code == 0 { 0 } else { text.ends[code - 1] as usize };
            String::from_utf8_lossy(&text.bytes[start..text.ends[code] as usize]).into_owned()
        }
        Values::Integers(values) => values[row].to_string(),
        Values::Floats(values) => values[row].to_string(),
        Values::Booleans(values) => (values[row] != 0).to_string(),
    }
}
