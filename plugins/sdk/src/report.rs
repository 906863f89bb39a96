//! Building the tables of a report, column by column. Formats nothing: the host does.

use crate::block::{Count, Sum};
use crate::number::{Decimal, Timestamp};
use crate::question::Question;
use crate::wire::tally::aggregator::columns::{Column, Text, Values};
use crate::wire::tally::aggregator::types::{Kind, NamedColumn, Role, Table};

/// The tables of a report. The summary is always there and stands first.
#[derive(Debug)]
pub struct Report {
    summary: TableBuilder,
    tables: Vec<TableBuilder>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { summary: TableBuilder::new("summary", 0), tables: Vec::new() }
    }

    /// The summary: a table of one row, so each column gets one value: `.counter("edits", [self.edits])`.
    pub fn summary(&mut self) -> &mut TableBuilder {
        &mut self.summary
    }

    /// Another table; ask [`Question::wants`] before going to any length for it. An empty state must give every column
    /// too, as those of a table never change.
    pub fn table(&mut self, name: &str, left_out: u64) -> &mut TableBuilder {
        self.tables.push(TableBuilder::new(name, left_out));
        self.tables.last_mut().expect("a table has just been pushed")
    }

    pub(crate) fn finish(self, question: &Question) -> Result<Vec<Table>, String> {
        let summary = self.summary.finish(Some(1))?;
        let wanted = self.tables.into_iter().filter(|table| question.wants(&table.table.name));
        std::iter::once(Ok(summary)).chain(wanted.map(|table| table.finish(None))).collect()
    }
}

/// A table being built.
#[derive(Debug)]
pub struct TableBuilder {
    table: Table,
}

impl TableBuilder {
    fn new(name: &str, left_out: u64) -> Self {
        let table = Table { name: name.to_owned(), columns: Vec::new(), rows_left_out: left_out };
        Self { table }
    }

    /// A column that names the row.
    pub fn key<C: Cell>(&mut self, name: &str, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.column(Role::Key, name, cells)
    }

    /// A column whose values only grow.
    pub fn counter<C: Cell>(&mut self, name: &str, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.column(Role::Counter, name, cells)
    }

    /// A column whose values move both ways.
    pub fn gauge<C: Cell>(&mut self, name: &str, cells: impl IntoIterator<Item = C>) -> &mut Self {
        self.column(Role::Gauge, name, cells)
    }

    fn column<C: Cell>(&mut self, role: Role, name: &str, cells: impl IntoIterator<Item = C>) -> &mut Self {
        let mut column = Column { values: C::values(), present: Vec::new() };
        for cell in cells {
            cell.push(&mut column.values);
            if C::OPTIONAL {
                column.present.push(u8::from(cell.is_present()));
            }
        }
        if !column.present.contains(&0) {
            column.present.clear();
        }
        self.table.columns.push(NamedColumn { name: name.to_owned(), kind: C::KIND, role, column });
        self
    }

    fn finish(self, rows: Option<usize>) -> Result<Table, String> {
        let lengths = || self.table.columns.iter().map(|column| column.column.values.len());
        let rows = rows.or_else(|| lengths().next()).unwrap_or(0);
        match lengths().position(|length| length != rows) {
            None => Ok(self.table),
            Some(odd) => Err(format!(
                "table {:?}: column {:?} has not {rows} rows as the table has",
                self.table.name, self.table.columns[odd].name
            )),
        }
    }
}

impl Values {
    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.codes.len(),
            Self::Integers(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Booleans(values) => values.len(),
        }
    }
}

/// What a table's cell may be: text, counts, sums, integers, floats, decimals, booleans, times, and `Option` of those.
pub trait Cell {
    /// How the column reads.
    #[doc(hidden)]
    const KIND: Kind;
    /// Whether it may be absent.
    #[doc(hidden)]
    const OPTIONAL: bool = false;
    /// An empty column.
    #[doc(hidden)]
    fn values() -> Values;
    /// Appends it to a column, or a placeholder if it is absent.
    #[doc(hidden)]
    fn push(&self, values: &mut Values);
    /// Whether it is there.
    #[doc(hidden)]
    fn is_present(&self) -> bool {
        true
    }
}

fn push_text(values: &mut Values, entry: &str) {
    if let Values::Text(text) = values {
        text.codes.push(text.ends.len() as u32);
        text.bytes.extend_from_slice(entry.as_bytes());
        text.ends.push(text.bytes.len() as u32);
    }
}

macro_rules! text_cells {
    ($($type:ty)*) => {$(
        impl Cell for $type {
            const KIND: Kind = Kind::Text;

            fn values() -> Values {
                Values::Text(Text { codes: Vec::new(), ends: Vec::new(), bytes: Vec::new(), hashes: Vec::new() })
            }

            fn push(&self, values: &mut Values) {
                push_text(values, self.as_ref());
            }
        }
    )*};
}

text_cells! { &str String }

macro_rules! number_cells {
    ($(($generics:tt $type:ty, $kind:expr, $values:ident, $to:expr))*) => {$(
        number_cells!(@ $generics $type, $kind, $values, $to);
    )*};
    (@ [$($generics:tt)*] $type:ty, $kind:expr, $values:ident, $to:expr) => {
        impl<$($generics)*> Cell for $type {
            const KIND: Kind = $kind;

            fn values() -> Values {
                Values::$values(Vec::new())
            }

            fn push(&self, values: &mut Values) {
                let to: fn(&Self) -> _ = $to;
                if let Values::$values(values) = values {
                    values.push(to(self));
                }
            }
        }
    };
}

number_cells! {
    ([] u64, Kind::Integer, Integers, |value| i64::try_from(*value).unwrap_or(i64::MAX))
    ([] i64, Kind::Integer, Integers, |value| *value)
    ([] Count, Kind::Integer, Integers, |count| i64::try_from(count.0).unwrap_or(i64::MAX))
    ([] Sum, Kind::Integer, Integers, |sum| sum.0.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    ([const S: u8] Decimal<S>, Kind::Decimal(S), Integers, |value| value.scaled)
    ([] Timestamp, Kind::Timestamp, Integers, |time| time.micros)
    ([] f64, Kind::Float, Floats, |value| *value)
    ([] bool, Kind::Boolean, Booleans, |value| u8::from(*value))
}

impl<C: Cell> Cell for Option<C> {
    const KIND: Kind = C::KIND;
    const OPTIONAL: bool = true;

    fn values() -> Values {
        C::values()
    }

    fn push(&self, values: &mut Values) {
        match self {
            Some(cell) => cell.push(values),
            None => match values {
                Values::Text(_) => push_text(values, ""),
                Values::Integers(values) => values.push(0),
                Values::Floats(values) => values.push(0.0),
                Values::Booleans(values) => values.push(0),
            },
        }
    }

    fn is_present(&self) -> bool {
        self.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_different_lengths_are_an_error() {
        let mut report = Report::new();
        report.table("posts", 0).key("post", ["a", "b"]).counter("views", [1u64]);
        assert_eq!(
            report.finish(&Question::default()).unwrap_err(),
            "table \"posts\": column \"views\" has not 2 rows as the table has"
        );
    }

    #[test]
    fn the_summary_has_one_row() {
        let mut report = Report::new();
        report.summary().counter("views", [1u64, 2]);
        assert!(report.finish(&Question::default()).is_err());
    }

    #[test]
    fn only_tables_asked_for_are_given_and_the_summary() {
        let mut report = Report::new();
        report.summary().counter("views", [1u64]);
        report.table("posts", 0);
        report.table("actions", 3);
        let question = Question { tables: vec!["actions".into()], ..Question::default() };
        let tables = report.finish(&question).unwrap();
        let names: Vec<_> = tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["summary", "actions"]);
        assert_eq!(tables[1].rows_left_out, 3);
    }

    #[test]
    fn numbers_too_large_for_a_report_give_the_nearest() {
        let mut report = Report::new();
        report
            .summary()
            .gauge("sum", [Sum(i128::from(i64::MIN) * 3)])
            .counter("count", [Count(u64::MAX)])
            .gauge("none", [None::<f64>]);
        let tables = report.finish(&Question::default()).unwrap();
        let columns: Vec<_> = tables[0].columns.iter().map(|c| &c.column).collect();
        assert_eq!(columns[0].values, Values::Integers(vec![i64::MIN]));
        assert_eq!(columns[1].values, Values::Integers(vec![i64::MAX]));
        assert_eq!(columns[2].values, Values::Floats(vec![0.0]));
        assert_eq!(columns[2].present, [0]);
    }
}
