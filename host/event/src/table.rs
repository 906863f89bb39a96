//! Report tables: named columns with kinds and roles, and how they render as JSON. A plugin formats nothing; this does.
//! Knows nothing of plugins or of where tables go.
//!
//! In JSON, absent values are `null`, so that every row has every column. Timestamps are RFC 3339 text, and decimals are
//! text with all digits of their scale (`"12.30"`), since JSON numbers mostly end up as floats. Column values of kind
//! `json` are nested as they are.

use crate::columns::{Column, Text, Values};
use crate::schema::Kind;
use crate::{manifest, time};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What a report's column means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Names the row.
    Key,
    /// Only grows.
    Counter,
    /// Moves both ways.
    Gauge,
}

/// A column of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedColumn {
    /// The column's name in every rendering.
    pub name: String,
    /// How its values read.
    pub kind: Kind,
    /// What it means.
    pub role: Role,
    /// The values.
    pub column: Column,
}

/// One table of a report. The first of a report is its one-row summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The table's name.
    pub name: String,
    /// Its columns, all of one length.
    pub columns: Vec<NamedColumn>,
    /// Rows that the question's row limit left out.
    pub rows_left_out: u64,
}

/// What is asked of an accumulator's report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Names of the tables wanted; empty for all.
    pub tables: Vec<String>,
    /// Parameters, e.g. `("percentiles", "50,90,99")`.
    pub parameters: Vec<(String, String)>,
    /// The time the answer is for (the watermark), microseconds since the Unix epoch, UTC.
    pub as_of: i64,
    /// Most important rows first: skip so many.
    pub skip_rows: u64,
    /// Give at most so many rows per table (0 for all).
    pub row_limit: u32,
}

/// Why a table cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table:?}, column {column:?}: {problem}")]
pub struct TableError {
    /// The table.
    pub table: String,
    /// The column; empty when the table itself is at fault.
    pub column: String,
    /// What is wrong.
    pub problem: String,
}

impl Table {
    /// Whether it holds together; reports come from plugins, so nothing about them is taken on trust. Names, equal
    /// lengths, kinds that fit the values, codes in range, ascending ends, UTF-8, JSON that is JSON, times within the
    /// years 1 to 9999.
    pub fn check(&self) -> Result<(), TableError> {
        let wrong = |column: &str, problem: String| {
            Err(TableError { table: self.name.clone(), column: column.into(), problem })
        };
        check_name(&self.name).or_else(|problem| wrong("", problem))?;
        let mut names = HashSet::new();
        for NamedColumn { name, kind, column, .. } in &self.columns {
            check_name(name).or_else(|problem| wrong(name, problem))?;
            if !names.insert(name) {
                return wrong(name, "the name stands twice".into());
            }
            if column.values.len() != self.rows() {
                let first = &self.columns[0].name;
                let (has, rows) = (column.values.len(), self.rows());
                return wrong(name, format!("it has {has} rows, but column {first:?} has {rows}"));
            }
            column.check(*kind).or_else(|problem| wrong(name, problem))?;
        }
        Ok(())
    }

    /// About how many bytes the table has once it is written out, or takes in memory on the way there: a dictionary's entry
    /// counts for each row that has it, names count for each row, and nested JSON takes far more apart than as text.
    pub fn rendered_bytes(&self) -> u64 {
        const CELL: u64 = 32;
        const PARSED: u64 = 16;
        let rows = self.rows() as u64;
        let cells = |named: &NamedColumn| {
            let text = match &named.column.values {
                Values::Text(text) => {
                    let entry = |code: &u32| text.entry(*code).map_or(0, <[u8]>::len) as u64;
                    text.codes.iter().map(entry).fold(0, u64::saturating_add)
                }
                _ => 0,
            };
            let text = if named.kind == Kind::Json { text.saturating_mul(PARSED) } else { text };
            text.saturating_add(rows.saturating_mul(CELL + named.name.len() as u64))
        };
        self.columns.iter().map(cells).fold(0, u64::saturating_add)
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |first| first.column.values.len())
    }

    /// Every row as a JSON object. The table must have passed [`Table::check`]; of one that did not, what cannot be
    /// rendered is `null`.
    pub fn to_json_rows(&self) -> Vec<Map<String, Value>> {
        (0..self.rows()).map(|row| self.json_row(row)).collect()
    }

    /// The first row as a JSON object; empty without rows.
    pub fn summary_json(&self) -> Map<String, Value> {
        if self.rows() == 0 { Map::new() } else { self.json_row(0) }
    }

    /// A row as a JSON object, like those of [`Table::to_json_rows`].
    pub fn json_row(&self, row: usize) -> Map<String, Value> {
        let cell = |named: &NamedColumn| (named.name.clone(), named.json(row).unwrap_or_default());
        self.columns.iter().map(cell).collect()
    }
}

impl Role {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

impl NamedColumn {
    /// The value of a row as it reads in JSON; none where it is absent.
    pub fn json(&self, row: usize) -> Option<Value> {
        self.column.json(self.kind, row)
    }
}

impl Column {
    fn check(&self, kind: Kind) -> Result<(), String> {
        let rows = self.values.len();
        if !self.present.is_empty() && self.present.len() != rows {
            return Err(format!("it has {rows} rows, but says of {} whether they are present", self.present.len()));
        }
        zeros_and_ones("present", &self.present)?;
        match (kind, &self.values) {
            (Kind::Text, Values::Text(text)) => text.check(self),
            (Kind::Json, Values::Text(text)) => text.check(self).and_then(|()| text.check_json()),
            (Kind::Decimal(scale), Values::Integers(_)) if scale > manifest::MAX_SCALE => {
                Err(format!("decimal scale {scale} is over {}", manifest::MAX_SCALE))
            }
            (Kind::Timestamp, Values::Integers(times)) => {
                let valid = time::MIN_MICROS..=time::MAX_MICROS;
                let beyond = |(row, micros): (usize, &i64)| !valid.contains(micros) && self.is_present(row);
                match times.iter().enumerate().position(beyond) {
                    Some(row) => Err(format!("row {row}: {} us is no time within the years 1 to 9999", times[row])),
                    None => Ok(()),
                }
            }
            (Kind::Integer | Kind::Decimal(_), Values::Integers(_)) | (Kind::Float, Values::Floats(_)) => Ok(()),
            (Kind::Boolean, Values::Booleans(values)) => zeros_and_ones("values", values),
            (kind, _) => Err(format!("its values do not fit its kind, {kind}")),
        }
    }

    /// Whether the row has a value.
    pub fn is_present(&self, row: usize) -> bool {
        self.present.get(row).is_none_or(|&present| present != 0)
    }

    fn json(&self, kind: Kind, row: usize) -> Option<Value> {
        if !self.is_present(row) {
            return None;
        }
        Some(match &self.values {
            Values::Text(text) => {
                let entry = std::str::from_utf8(text.entry(*text.codes.get(row)?)?).ok()?;
                if kind == Kind::Json { serde_json::from_str(entry).ok()? } else { entry.into() }
            }
            Values::Integers(values) => match (kind, *values.get(row)?) {
                (Kind::Decimal(scale), value) => decimal(value, scale).into(),
                (Kind::Timestamp, micros) => time::format(micros).into(),
                (_, value) => value.into(),
            },
            Values::Floats(values) => (*values.get(row)?).into(),
            Values::Booleans(values) => (*values.get(row)? != 0).into(),
        })
    }
}

impl Text {
    fn check(&self, column: &Column) -> Result<(), String> {
        if !self.hashes.is_empty() && self.hashes.len() != self.ends.len() {
            return Err(format!("there are {} hashes for {} entries", self.hashes.len(), self.ends.len()));
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| format!("its text is not UTF-8: {error}"))?;
        let mut start = 0;
        for (entry, &end) in self.ends.iter().enumerate() {
            if end < start || !text.is_char_boundary(end as usize) {
                return Err(format!(
                    "entry {entry} ends at {end}, before its start, past the text or within a character"
                ));
            }
            start = end;
        }
        let beyond = |(row, code): (usize, &u32)| *code as usize >= self.ends.len() && column.is_present(row);
        match self.codes.iter().enumerate().position(beyond) {
            Some(row) => {
                Err(format!("row {row} is entry {}, but there are {} entries", self.codes[row], self.ends.len()))
            }
            None => Ok(()),
        }
    }

    fn check_json(&self) -> Result<(), String> {
        for entry in 0..self.ends.len() as u32 {
            let json = self.entry(entry).unwrap_or_default();
            serde_json::from_slice::<serde::de::IgnoredAny>(json)
                .map_err(|error| format!("entry {entry} is not JSON: {error}"))?;
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the name is empty".into()),
        length if length > manifest::MAX_NAME_BYTES => {
            Err(format!("the name has {length} bytes; at most {} are taken", manifest::MAX_NAME_BYTES))
        }
        _ => Ok(()),
    }
}

fn zeros_and_ones(what: &str, bytes: &[u8]) -> Result<(), String> {
    match bytes.iter().position(|&byte| byte > 1) {
        Some(row) => Err(format!("{what}: row {row} is {}, neither 0 nor 1", bytes[row])),
        None => Ok(()),
    }
}

/// All digits of a scaled decimal, e.g. `12.30` for 1230 at scale 2.
pub fn decimal(value: impl Into<i128>, scale: u8) -> String {
    let (value, scale) = (value.into(), usize::from(scale));
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn text(entries: &[&str], codes: &[u32]) -> Values {
        let mut text = Text { codes: codes.into(), ..Text::default() };
        for entry in entries {
            text.bytes.extend_from_slice(entry.as_bytes());
            text.ends.push(text.bytes.len() as u32);
        }
        Values::Text(text)
    }

    fn column(name: &str, kind: Kind, values: Values, present: &[u8]) -> NamedColumn {
        NamedColumn { name: name.into(), kind, role: Role::Gauge, column: Column { values, present: present.into() } }
    }

    fn table() -> Table {
        let columns = vec![
            column("post", Kind::Text, text(&["a\"b", "ü"], &[1, 0]), &[]),
            column("views", Kind::Integer, Values::Integers(vec![i64::MAX, -1]), &[1, 1]),
            column("revenue", Kind::Decimal(2), Values::Integers(vec![-5, 123_456]), &[]),
            column("share", Kind::Float, Values::Floats(vec![0.25, f64::NAN]), &[]),
            column("robot", Kind::Boolean, Values::Booleans(vec![0, 1]), &[]),
            column("last", Kind::Timestamp, Values::Integers(vec![1_769_508_000_123_000, 0]), &[1, 0]),
            column("extra", Kind::Json, text(&["{\"k\":[1]}"], &[0, 7]), &[1, 0]),
        ];
        Table { name: "posts".into(), columns, rows_left_out: 0 }
    }

    fn values(table: &mut Table, column: usize) -> &mut Column {
        &mut table.columns[column].column
    }

    fn codes(table: &mut Table) -> &mut Text {
        match &mut values(table, 0).values {
            Values::Text(text) => text,
            _ => unreachable!("the first column is text"),
        }
    }

    fn refused(change: impl FnOnce(&mut Table), message: Expect) {
        let mut changed = table();
        change(&mut changed);
        message.assert_eq(&changed.check().expect_err("must be refused").to_string());
    }

    #[test]
    fn rows_render_as_json() {
        assert_eq!(table().check(), Ok(()));
        let rows: Vec<String> = table().to_json_rows().into_iter().map(|row| Value::from(row).to_string()).collect();
        expect![[r#"
            {"extra":{"k":[1]},"last":"2026-01-27T10:00:00.123Z","post":"ü","revenue":"-0.05","robot":false,"share":0.25,"views":9223372036854775807}
            {"extra":null,"last":null,"post":"a\"b","revenue":"1234.56","robot":true,"share":null,"views":-1}"#]]
        .assert_eq(&rows.join("\n"));
        assert_eq!(Value::from(table().summary_json()).to_string(), rows[0]);
    }

    #[test]
    fn a_table_without_rows_has_an_empty_summary() {
        let empty = Table {
            name: "posts".into(),
            columns: vec![column("post", Kind::Text, text(&[], &[]), &[])],
            rows_left_out: 0,
        };
        assert_eq!(empty.check(), Ok(()));
        assert_eq!((empty.rows(), empty.to_json_rows().len(), empty.summary_json().len()), (0, 0, 0));
    }

    #[test]
    fn lying_tables_are_refused_and_still_render_without_panic() {
        refused(|t| t.name.clear(), expect![[r#"table "", column "": the name is empty"#]]);
        refused(
            |t| t.columns[1].name = "post".into(),
            expect![[r#"table "posts", column "post": the name stands twice"#]],
        );
        refused(
            |t| t.columns[1].kind = Kind::Float,
            expect![[r#"table "posts", column "views": its values do not fit its kind, float"#]],
        );
        refused(
            |t| t.columns[2].kind = Kind::Decimal(40),
            expect![[r#"table "posts", column "revenue": decimal scale 40 is over 18"#]],
        );
        refused(
            |t| values(t, 1).values = Values::Integers(vec![1]),
            expect![[r#"table "posts", column "views": it has 1 rows, but column "post" has 2"#]],
        );
        refused(
            |t| values(t, 1).present = vec![1],
            expect![[r#"table "posts", column "views": it has 2 rows, but says of 1 whether they are present"#]],
        );
        refused(
            |t| values(t, 1).present = vec![1, 2],
            expect![[r#"table "posts", column "views": present: row 1 is 2, neither 0 nor 1"#]],
        );
        refused(
            |t| values(t, 4).values = Values::Booleans(vec![0, 9]),
            expect![[r#"table "posts", column "robot": values: row 1 is 9, neither 0 nor 1"#]],
        );
        refused(
            |t| values(t, 5).values = Values::Integers(vec![i64::MAX; 2]),
            expect![[
                r#"table "posts", column "last": row 0: 9223372036854775807 us is no time within the years 1 to 9999"#
            ]],
        );
        refused(
            |t| codes(t).codes[1] = 2,
            expect![[r#"table "posts", column "post": row 1 is entry 2, but there are 2 entries"#]],
        );
        refused(
            |t| codes(t).ends[1] = 4,
            expect![[
                r#"table "posts", column "post": entry 1 ends at 4, before its start, past the text or within a character"#
            ]],
        );
        refused(
            |t| codes(t).ends.reverse(),
            expect![[
                r#"table "posts", column "post": entry 1 ends at 3, before its start, past the text or within a character"#
            ]],
        );
        refused(
            |t| codes(t).bytes[4] = b'!',
            expect![[
                r#"table "posts", column "post": its text is not UTF-8: invalid utf-8 sequence of 1 bytes from index 3"#
            ]],
        );
        refused(
            |t| codes(t).hashes = vec![1],
            expect![[r#"table "posts", column "post": there are 1 hashes for 2 entries"#]],
        );
        refused(
            |t| values(t, 6).values = text(&["{"], &[0, 0]),
            expect![[
                r#"table "posts", column "extra": entry 0 is not JSON: EOF while parsing an object at line 1 column 1"#
            ]],
        );
        let mut lying = table();
        codes(&mut lying).ends = vec![9, 1];
        assert_eq!(lying.summary_json()["post"], Value::Null);
    }

    #[test]
    fn decimals_keep_their_digits() {
        for (value, scale, expected) in
            [(0, 0, "0"), (0, 2, "0.00"), (-7, 0, "-7"), (-7, 3, "-0.007"), (i64::MIN, 18, "-9.223372036854775808")]
        {
            assert_eq!(decimal(value, scale), expected);
        }
    }
}
