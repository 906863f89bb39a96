//! Where two reports differ: table by table, row by row, cell by cell, and by how much. Pure: it sees tables, and knows neither who
//! made them nor from what. One side is called *running*, the other *new*.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};
use tally_event::columns::Values;
use tally_event::schema::Kind;
use tally_event::table::{NamedColumn, Role, Table, decimal};

use super::planner::VersionFacts;

/// Two versions of an aggregator, compared as of one cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The aggregator.
    pub name: String,
    /// What runs.
    pub running: VersionFacts,
    /// What is compared with it.
    pub new: VersionFacts,
    /// Number of the cut.
    pub cut: u64,
    /// Sequence of the last event before it.
    pub sequence: u64,
    /// Whether there is no difference at all.
    pub equal: bool,
    /// Every table of either report, those without a difference too.
    pub tables: Vec<TableDiff>,
}

/// How a table of one report differs from the table of this name in the other; one that is missing has no columns and no rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TableDiff {
    /// The table's name.
    pub table: String,
    /// The columns by which rows are matched, those that name the row on both sides; none where rows are matched by their place.
    pub key: Vec<String>,
    /// Columns that only one side has, or that are of another kind on each.
    pub changed_columns: Vec<ColumnChange>,
    /// Rows that are the same in all columns that both sides have.
    pub equal_rows: u64,
    /// Rows that both sides have and that differ.
    pub differing_rows: u64,
    /// Rows that only what runs has.
    pub only_running_rows: u64,
    /// Rows that only the new one has.
    pub only_new_rows: u64,
    /// The first of the rows that differ, in the order of what runs.
    pub differing: Vec<RowDiff>,
    /// The first of those that only what runs has, in its order.
    pub only_running: Vec<Map<String, Value>>,
    /// The first of those that only the new one has, in its order.
    pub only_new: Vec<Map<String, Value>>,
}

/// A column that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnChange {
    /// Its name.
    pub column: String,
    /// Its kind in what runs; none where it is not there.
    pub running: Option<String>,
    /// Its kind in the new one; none where it is not there.
    pub new: Option<String>,
}

/// A row that both sides have and that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RowDiff {
    /// The values that name it; its place as `row`, from 0, in a table of several rows without such columns.
    pub key: Map<String, Value>,
    /// The cells that differ.
    pub cells: Vec<CellDiff>,
}

/// A cell that differs. Values read as in every answer: decimals are text with all their digits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellDiff {
    /// Its column.
    pub column: String,
    /// The value in what runs.
    pub running: Value,
    /// The value in the new one.
    pub new: Value,
    /// By how much the new one is more, exactly, where both are integers or decimals; nearest, where one is a float; none otherwise.
    pub difference: Option<Value>,
    /// The difference as a part of what the running one has; none where that is 0, and where there is no difference.
    pub relative: Option<f64>,
}

impl TableDiff {
    /// Whether there is no difference.
    pub fn is_equal(&self) -> bool {
        self.changed_columns.is_empty() && self.differing_rows + self.only_running_rows + self.only_new_rows == 0
    }
}

/// Compares two reports. Of each kind of difference, at most `rows` rows of a table are shown; all are counted.
pub fn compare(running: &[Table], new: &[Table], rows: usize) -> Vec<TableDiff> {
    let find = |name: &str| new.iter().find(|table| table.name == name);
    let nothing = |name: &str| Table { name: name.to_owned(), columns: Vec::new(), rows_left_out: 0 };
    let of_running = running.iter().map(|table| match find(&table.name) {
        Some(other) => compare_tables(table, other, rows),
        None => compare_tables(table, &nothing(&table.name), rows),
    });
    let only_new = new.iter().filter(|table| running.iter().all(|other| other.name != table.name));
    of_running.chain(only_new.map(|table| compare_tables(&nothing(&table.name), table, rows))).collect()
}

fn compare_tables(running: &Table, new: &Table, most: usize) -> TableDiff {
    let key = key_of(running, new);
    let mut diff = TableDiff {
        table: running.name.clone(),
        changed_columns: changed_columns(running, new),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        ..TableDiff::default()
    };
    let by_name = |table| key.iter().filter_map(|name| column(table, name)).collect::<Vec<_>>();
    let (key_of_running, key_of_new) = (by_name(running), by_name(new));
    let others = running.columns.iter().filter(|named| !key.contains(&named.name.as_str()));
    let pairs: Vec<_> = others.filter_map(|named| Some((named, column(new, &named.name)?))).collect();

    let mut names = Names::default();
    let mut unmatched: HashMap<_, usize> = (0..new.rows()).map(|row| (names.of(&key_of_new, row), row)).collect();
    names = Names::default();
    for row in 0..running.rows() {
        let Some(other) = unmatched.remove(&names.of(&key_of_running, row)) else {
            diff.only_running_rows += 1;
            if diff.only_running.len() < most {
                diff.only_running.push(running.json_row(row));
            }
            continue;
        };
        let differs = |(a, b): &&(&NamedColumn, &NamedColumn)| !Cell::of(a, row).is_the_same(&Cell::of(b, other));
        let mut cells = pairs.iter().filter(differs).peekable();
        if cells.peek().is_none() {
            diff.equal_rows += 1;
            continue;
        }
        diff.differing_rows += 1;
        if diff.differing.len() < most {
            let place = (key.is_empty() && running.rows() > 1).then(|| ("row".to_owned(), row.into()));
            let named = key_of_running.iter().map(|named| (named.name.clone(), json(named, row)));
            let cells = cells.map(|(a, b)| cell_diff(a, row, b, other)).collect();
            diff.differing.push(RowDiff { key: named.chain(place).collect(), cells });
        }
    }
    let mut only_new: Vec<usize> = unmatched.into_values().collect();
    only_new.sort_unstable();
    diff.only_new_rows = only_new.len() as u64;
    diff.only_new = only_new.into_iter().take(most).map(|row| new.json_row(row)).collect();
    diff
}

fn column<'t>(table: &'t Table, name: &str) -> Option<&'t NamedColumn> {
    table.columns.iter().find(|named| named.name == name)
}

/// The columns that name a row on both sides, or on the one that has any.
fn key_of<'t>(running: &'t Table, new: &'t Table) -> Vec<&'t str> {
    let names_the_row = |table: &Table, name: &str| {
        table.columns.is_empty() || column(table, name).is_some_and(|named| named.role == Role::Key)
    };
    let first = if running.columns.is_empty() { new } else { running };
    let names = first.columns.iter().map(|named| named.name.as_str());
    names.filter(|name| names_the_row(running, name) && names_the_row(new, name)).collect()
}

fn changed_columns(running: &Table, new: &Table) -> Vec<ColumnChange> {
    let kind = |table, name: &str| column(table, name).map(|named| named.kind.to_string());
    let added = new.columns.iter().filter(|named| column(running, &named.name).is_none());
    let all = running.columns.iter().chain(added).map(|named| ColumnChange {
        column: named.name.clone(),
        running: kind(running, &named.name),
        new: kind(new, &named.name),
    });
    all.filter(|change| change.running != change.new).collect()
}

fn json(named: &NamedColumn, row: usize) -> Value {
    named.json(row).unwrap_or_default()
}

fn cell_diff(running: &NamedColumn, row: usize, new: &NamedColumn, other: usize) -> CellDiff {
    let (difference, relative) = match (Cell::of(running, row), Cell::of(new, other)) {
        (Cell::Exact(a), Cell::Exact(b)) => exact_difference(a, b),
        (a, b) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => float_difference(a, b),
            _ => (None, None),
        },
    };
    CellDiff { column: running.name.clone(), running: json(running, row), new: json(new, other), difference, relative }
}

fn exact_difference(a: Exact, b: Exact) -> (Option<Value>, Option<f64>) {
    let scale = a.scale.max(b.scale);
    let (a, b) = (a.at(scale), b.at(scale));
    let difference = b - a;
    let shown = match i64::try_from(difference) {
        Ok(difference) if scale == 0 => difference.into(),
        _ => decimal(difference, scale).into(),
    };
    (Some(shown), (a != 0).then(|| difference as f64 / (a as f64).abs()))
}

/// A difference that is no number has no place in JSON.
fn float_difference(a: f64, b: f64) -> (Option<Value>, Option<f64>) {
    let difference = b - a;
    let relative = difference / a.abs();
    (difference.is_finite().then(|| difference.into()), relative.is_finite().then_some(relative))
}

/// An integer or a decimal: `value` divided by 10^`scale`.
#[derive(Clone, Copy, Debug)]
struct Exact {
    value: i64,
    scale: u8,
}

impl Exact {
    /// The value times 10^`scale`, which is not less than its own and at most 18, so that it has room.
    fn at(self, scale: u8) -> i128 {
        i128::from(self.value) * 10i128.pow(u32::from(scale - self.scale))
    }
}

/// A value of a row.
#[derive(Debug)]
enum Cell<'t> {
    Absent,
    Exact(Exact),
    Float(f64),
    Boolean(bool),
    /// Microseconds since the Unix epoch.
    Time(i64),
    Text(&'t [u8]),
    Json(Value),
}

impl<'t> Cell<'t> {
    /// Of a table that was checked.
    fn of(named: &'t NamedColumn, row: usize) -> Self {
        if !named.column.is_present(row) {
            return Self::Absent;
        }
        match (&named.column.values, named.kind) {
            (Values::Integers(values), Kind::Timestamp) => Self::Time(values[row]),
            (Values::Integers(values), Kind::Decimal(scale)) => Self::Exact(Exact { value: values[row], scale }),
            (Values::Integers(values), _) => Self::Exact(Exact { value: values[row], scale: 0 }),
            (Values::Floats(values), _) => Self::Float(values[row]),
            (Values::Booleans(values), _) => Self::Boolean(values[row] != 0),
            (Values::Text(_), Kind::Json) => Self::Json(json(named, row)),
            (Values::Text(text), _) => Self::Text(text.entry(text.codes[row]).unwrap_or_default()),
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Exact(exact) => Some(exact.value as f64 / 10f64.powi(exact.scale.into())),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// Numbers are the same by value, whatever their kinds; no number is the same as no number.
    fn is_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::Exact(a), Self::Exact(b)) => {
                let scale = a.scale.max(b.scale);
                a.at(scale) == b.at(scale)
            }
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Json(a), Self::Json(b)) => a == b,
            (a, b) => match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => a == b || (a.is_nan() && b.is_nan()),
                _ => false,
            },
        }
    }

    /// Writes what tells it from other values of its column.
    fn name(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, bytes: &[u8]| {
            out.push(kind);
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        };
        match self {
            Self::Absent => put(0, &[]),
            // Every value has room at the greatest scale.
            Self::Exact(exact) => put(1, &exact.at(18).to_le_bytes()),
            Self::Float(value) if value.is_nan() => put(2, &f64::NAN.to_le_bytes()),
            Self::Float(value) => put(2, &(value + 0.0).to_le_bytes()),
            Self::Boolean(value) => put(3, &[u8::from(*value)]),
            Self::Time(micros) => put(4, &micros.to_le_bytes()),
            Self::Text(text) => put(5, text),
            Self::Json(value) => put(6, value.to_string().as_bytes()),
        }
    }
}

/// Names rows by their key; rows of one key, and those of a table without, are told apart by their order.
#[derive(Default)]
struct Names {
    seen: HashMap<Vec<u8>, u64>,
}

impl Names {
    fn of(&mut self, key: &[&NamedColumn], row: usize) -> (Vec<u8>, u64) {
        let mut name = Vec::new();
        for named in key {
            Cell::of(named, row).name(&mut name);
        }
        let seen = self.seen.entry(name.clone()).or_default();
        *seen += 1;
        (name, *seen)
    }
}

#[cfg(test)]
mod tests;
