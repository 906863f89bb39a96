//! JSON lines to a batch, by the host's rules and the plainest means. Slow and exact, for tests.

use crate::wire::tally::aggregator::columns::{Column, Text, Values};
use crate::wire::tally::aggregator::types::{Batch, EventType, Field, Kind, Manifest};
use serde_json::{Number, Value};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// What became of some lines.
pub(super) struct Decoded {
    pub(super) batch: Batch,
    /// Index and reason of each line that the host refuses on the aggregator's behalf.
    pub(super) refused: Vec<(usize, String)>,
}

/// A value read as its field says.
#[derive(Clone)]
enum Cell {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// A row: offset, event type, time, and a value per field of the manifest.
struct Row {
    offset: u32,
    event_type: u32,
    time: i64,
    cells: Vec<Option<Cell>>,
}

pub(super) fn decode<L: AsRef<str>>(manifest: &Manifest, lines: &[L], first_sequence: u64) -> Decoded {
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for (index, line) in lines.iter().enumerate() {
        let line = line.as_ref();
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let name = event["type"].as_str().unwrap_or_else(|| panic!("{line}: no \"type\""));
        let position = |name: &str| manifest.event_types.iter().position(|t| t.name == name);
        let Some(event_type) = position(name).or_else(|| position("*")) else { continue };
        let time = match &event["timestamp"] {
            Value::Null => 0,
            time => micros(time).unwrap_or_else(|| panic!("{line}: the timestamp is no RFC 3339")),
        };
        match cells(manifest, &manifest.event_types[event_type], &event) {
            Ok(cells) => rows.push(Row { offset: index as u32, event_type: event_type as u32, time, cells }),
            Err(reason) => refused.push((index, reason)),
        }
    }
    Decoded { batch: batch(manifest, &rows, first_sequence), refused }
}

fn cells(manifest: &Manifest, event_type: &EventType, event: &Value) -> Result<Vec<Option<Cell>>, String> {
    let mut cells = vec![None; manifest.fields.len()];
    for &index in event_type.required.iter().chain(&event_type.optional) {
        let field = &manifest.fields[index as usize];
        cells[index as usize] = match event.pointer(&field.path).filter(|value| !value.is_null()) {
            Some(value) => Some(read(field, value)?),
            None if event_type.required.contains(&index) => return Err(format!("missing:{}", field.path)),
            None => None,
        };
    }
    Ok(cells)
}

fn read(field: &Field, value: &Value) -> Result<Cell, String> {
    let read = match (field.kind, value) {
        (Kind::Text, Value::String(text)) => Some(Cell::Text(text.clone())),
        (Kind::Json, value) => Some(Cell::Text(value.to_string())),
        (Kind::Integer, Value::Number(number)) => scaled(number, 0).ok().flatten().map(Cell::Integer),
        (Kind::Decimal(scale), Value::Number(number)) => match scaled(number, scale) {
            Ok(scaled) => scaled.map(Cell::Integer),
            Err(SurplusDigits) => return Err(format!("surplus_digits:{}", field.path)),
        },
        (Kind::Float, Value::Number(number)) => number.as_f64().map(Cell::Float),
        (Kind::Boolean, Value::Bool(value)) => Some(Cell::Boolean(*value)),
        (Kind::Timestamp, value) => micros(value).map(Cell::Integer),
        _ => None,
    };
    read.ok_or_else(|| format!("wrong_kind:{}", field.path))
}

struct SurplusDigits;

/// The number times 10^scale, from its digits; none if that is beyond an `i64`.
fn scaled(number: &Number, scale: u8) -> Result<Option<i64>, SurplusDigits> {
    let text = number.to_string();
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let (Ok(mut value), Ok(exponent)) = (format!("{whole}{fraction}").parse::<i128>(), exponent.parse::<i64>()) else {
        return Ok(None);
    };
    if value == 0 {
        return Ok(Some(0));
    }
    let shift = exponent + i64::from(scale) - fraction.len() as i64;
    for _ in shift..0 {
        if value % 10 != 0 {
            return Err(SurplusDigits);
        }
        value /= 10;
    }
    let factor = u32::try_from(shift.max(0)).ok().and_then(|shift| 10i128.checked_pow(shift));
    Ok(factor.and_then(|factor| value.checked_mul(factor)).and_then(|value| i64::try_from(value).ok()))
}

/// Microseconds since the epoch, of `2026-01-27T10:00:00Z`, with or without a fraction, in any offset.
fn micros(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (time, offset) = match text.strip_suffix(['Z', 'z']) {
        Some(time) => (time, 0),
        None => {
            let at = text.len().checked_sub(6)?;
            let minutes = number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?;
            (text.get(..at)?, if text.get(at..)?.starts_with('-') { -minutes } else { minutes })
        }
    };
    let fraction = match time.get(19..)? {
        "" => 0,
        fraction => format!("{:0<6.6}", fraction.strip_prefix('.')?).parse().ok()?,
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days since the epoch, in years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469;
    let minutes = (days * 24 + hour) * 60 + minute - offset;
    Some((minutes * 60 + second) * 1_000_000 + fraction)
}

fn batch(manifest: &Manifest, rows: &[Row], first_sequence: u64) -> Batch {
    let columns = manifest.fields.iter().enumerate().map(|(index, field)| {
        let cells: Vec<Option<&Cell>> = rows.iter().map(|row| row.cells[index].as_ref()).collect();
        column(field.kind, &cells)
    });
    Batch {
        first_sequence,
        sequence_offsets: rows.iter().map(|row| row.offset).collect(),
        times: rows.iter().map(|row| row.time).collect(),
        event_types: rows.iter().map(|row| row.event_type).collect(),
        columns: columns.collect(),
    }
}

fn column(kind: Kind, cells: &[Option<&Cell>]) -> Column {
    let values = match kind {
        Kind::Text | Kind::Json => Values::Text(text(cells)),
        Kind::Float => Values::Floats(each(cells, |cell| match cell {
            Cell::Float(value) => Some(*value),
            _ => None,
        })),
        Kind::Boolean => Values::Booleans(each(cells, |cell| match cell {
            Cell::Boolean(value) => Some(u8::from(*value)),
            _ => None,
        })),
        Kind::Integer | Kind::Decimal(_) | Kind::Timestamp => Values::Integers(each(cells, |cell| match cell {
            Cell::Integer(value) => Some(*value),
            _ => None,
        })),
    };
    let present: Vec<u8> = cells.iter().map(|cell| u8::from(cell.is_some())).collect();
    Column { values, present: if present.contains(&0) { present } else { Vec::new() } }
}

fn each<T: Default>(cells: &[Option<&Cell>], value: impl Fn(&Cell) -> Option<T>) -> Vec<T> {
    cells.iter().map(|cell| cell.and_then(&value).unwrap_or_default()).collect()
}

/// A text column with these in its rows.
pub(super) fn texts(texts: &[&str]) -> Text {
    let cells: Vec<Cell> = texts.iter().map(|&entry| Cell::Text(entry.to_owned())).collect();
    text(&cells.iter().map(Some).collect::<Vec<_>>())
}

fn text(cells: &[Option<&Cell>]) -> Text {
    let mut text = Text { codes: Vec::new(), ends: Vec::new(), bytes: Vec::new(), hashes: Vec::new() };
    let mut codes: HashMap<&str, u32> = HashMap::new();
    for cell in cells {
        let entry = match cell {
            Some(Cell::Text(entry)) => entry.as_str(),
            _ => "",
        };
        let code = *codes.entry(entry).or_insert_with(|| {
            text.bytes.extend_from_slice(entry.as_bytes());
            text.ends.push(text.bytes.len() as u32);
            text.hashes.push(xxh3_64(entry.as_bytes()));
            text.ends.len() as u32 - 1
        });
        text.codes.push(code);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_as(kind: Kind, json: &str) -> Result<Option<i64>, String> {
        let field = Field { path: "/x".into(), kind };
        read(&field, &serde_json::from_str(json).unwrap()).map(|cell| match cell {
            Cell::Integer(value) => Some(value),
            _ => None,
        })
    }

    #[test]
    fn numbers_are_read_from_their_digits() {
        assert_eq!(read_as(Kind::Integer, "-12"), Ok(Some(-12)));
        assert_eq!(read_as(Kind::Integer, "9223372036854775808"), Err("wrong_kind:/x".into()));
        assert_eq!(read_as(Kind::Integer, "1.5"), Err("wrong_kind:/x".into()));
        assert_eq!(read_as(Kind::Integer, "\"1\""), Err("wrong_kind:/x".into()));
        assert_eq!(read_as(Kind::Decimal(2), "-0.5"), Ok(Some(-50)));
        assert_eq!(read_as(Kind::Decimal(2), "19.99"), Ok(Some(1999)));
        assert_eq!(read_as(Kind::Decimal(2), "1e3"), Ok(Some(100_000)));
        assert_eq!(read_as(Kind::Decimal(2), "0.125"), Err("surplus_digits:/x".into()));
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(micros(&json!("1970-01-01T00:00:00Z")), Some(0));
        assert_eq!(micros(&json!("2026-01-27T10:00:00.123Z")), Some(1_769_508_000_123_000));
        assert_eq!(micros(&json!("2026-01-27T12:30:00.1234567+02:30")), Some(1_769_508_000_123_456));
        assert_eq!(micros(&json!("2024-02-29T23:59:59-00:30")), Some(1_709_252_999_000_000));
        assert_eq!(micros(&json!("yesterday")), None);
        assert_eq!(micros(&json!(5)), None);
    }
}
