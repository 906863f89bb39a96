//! Columns under construction. A column that a row does not touch is filled up later, so that a row costs only what it has.

use crate::columns::{Column, Text, Values};
use crate::dictionary::Dictionary;
use crate::schema::Kind;

/// A column under construction.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    column: Column,
    dictionary: Dictionary,
}

impl ColumnBuilder {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { column: empty(kind), dictionary: Dictionary::new() }
    }

    /// Gives row `row` the text of `length` bytes at `at` of `bytes`.
    #[inline(always)]
    pub(crate) fn put_text(&mut self, row: usize, bytes: &[u8], at: usize, length: usize) {
        self.fill(row);
        if let Values::Text(text) = &mut self.column.values {
            let code = self.dictionary.intern(bytes, at, length);
            text.codes.push(code);
        }
        self.mark();
    }

    /// Gives rows from `row` on the texts at these places of `bytes`.
    pub(crate) fn put_texts(&mut self, row: usize, bytes: &[u8], texts: impl Iterator<Item = (u32, u32)>) {
        self.fill(row);
        let Self { column: Column { values, present }, dictionary } = self;
        if let Values::Text(text) = values {
            dictionary.intern_all(bytes, texts, &mut text.codes);
        }
        if !present.is_empty() {
            present.resize(values.len(), 1);
        }
    }

    /// Gives row `row` an integer.
    #[inline(always)]
    pub(crate) fn put_integer(&mut self, row: usize, value: i64) {
        self.fill(row);
        if let Values::Integers(values) = &mut self.column.values {
            values.push(value);
        }
        self.mark();
    }

    /// Gives row `row` a float.
    pub(crate) fn put_float(&mut self, row: usize, value: f64) {
        self.fill(row);
        if let Values::Floats(values) = &mut self.column.values {
            values.push(value);
        }
        self.mark();
    }

    /// Gives row `row` a boolean.
    pub(crate) fn put_boolean(&mut self, row: usize, value: bool) {
        self.fill(row);
        if let Values::Booleans(values) = &mut self.column.values {
            values.push(value.into());
        }
        self.mark();
    }

    /// Takes back what row `row` and later ones were given. A text stays in the dictionary.
    pub(crate) fn take_back(&mut self, row: usize) {
        match &mut self.column.values {
            Values::Text(text) => text.codes.truncate(row),
            Values::Integers(values) => values.truncate(row),
            Values::Floats(values) => values.truncate(row),
            Values::Booleans(values) => values.truncate(row),
        }
        self.column.present.truncate(row);
    }

    /// The column, with `rows` rows; an empty one takes its place.
    pub(crate) fn finish(&mut self, rows: usize) -> Column {
        self.fill(rows);
        let next = like(&self.column);
        let mut finished = std::mem::replace(&mut self.column, next);
        if let Values::Text(text) = &mut finished.values {
            let codes = std::mem::take(&mut text.codes);
            *text = Text { codes, ..self.dictionary.finish() };
        }
        assert_eq!(finished.values.len(), rows, "a column has a value for every row");
        finished
    }

    /// Rows before `row` that were given nothing are absent.
    #[inline(always)]
    fn fill(&mut self, row: usize) {
        let filled = self.column.values.len();
        if filled < row {
            self.fill_absent(filled, row);
        }
    }

    #[inline(never)]
    fn fill_absent(&mut self, filled: usize, row: usize) {
        if self.column.present.is_empty() {
            self.column.present.resize(filled, 1);
        }
        self.column.present.resize(row, 0);
        match &mut self.column.values {
            Values::Text(text) => text.codes.resize(row, 0),
            Values::Integers(values) => values.resize(row, 0),
            Values::Floats(values) => values.resize(row, 0.0),
            Values::Booleans(values) => values.resize(row, 0),
        }
    }

    /// The row just given is present.
    #[inline(always)]
    fn mark(&mut self) {
        if !self.column.present.is_empty() {
            self.column.present.push(1);
        }
    }
}

fn empty(kind: Kind) -> Column {
    let values = match kind {
        Kind::Text | Kind::Json => Values::Text(Text::default()),
        Kind::Integer | Kind::Decimal(_) | Kind::Timestamp => Values::Integers(Vec::new()),
        Kind::Float => Values::Floats(Vec::new()),
        Kind::Boolean => Values::Booleans(Vec::new()),
    };
    Column { values, present: Vec::new() }
}

/// An empty column with room for another batch like the last.
fn like(last: &Column) -> Column {
    let values = match &last.values {
        Values::Text(text) => Values::Text(Text { codes: Vec::with_capacity(text.codes.len()), ..Text::default() }),
        Values::Integers(values) => Values::Integers(Vec::with_capacity(values.len())),
        Values::Floats(values) => Values::Floats(Vec::with_capacity(values.len())),
        Values::Booleans(values) => Values::Booleans(Vec::with_capacity(values.len())),
    };
    Column { values, present: Vec::new() }
}
